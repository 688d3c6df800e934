"""Sampling: what is common in a scope that is too large to look at, so that scores stay honest.

Document frequencies of rows that were picked for their words would make every word of the question look common. They
come from a sample of the scope instead, drawn once and believed for a while.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, LiteralString

import numpy as np

from memos_agents.cube.scope import Scope
from memos_agents.infrastructure.vault.base import ViewQuery
from memos_agents.infrastructure.vault.capabilities import Statistics
from memos_agents.infrastructure.vault.neo4j import cypher_nearest as cypher
from memos_agents.infrastructure.vault.neo4j.link import Link
from memos_agents.infrastructure.vault.neo4j.searching import ANY_TIME, Searching, by_of, parameters_of
from memos_agents.infrastructure.vault.neo4j.terms import TermIndex

EXACT_ROWS: Final = 20_000
"""Up to this many cubes a scope is loaded and searched exactly."""
SAMPLE: Final = 2_000
TRUSTED_SECONDS: Final = 300.0
"""How long a scope's size and sample are believed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Some rows of a scope of `rows`, as of `at` (monotonic seconds) and the erasure `erased_seq` (-1: not known)."""

    rows: int
    at: float
    erased_seq: int = -1
    size: int = 0
    mean_length: float = 0.0
    typical_length: float = 0.0
    speakers: Mapping[str, float] = field(default_factory=dict)
    index: TermIndex = field(default_factory=TermIndex)

    def statistics(self, terms: Sequence[str], held: Mapping[str, int], rows: int) -> Statistics:
        """Of the scope, given how many of `rows` candidates hold each term.

        Of a common term the sample knows the share; the few holders of a rare one are all among the candidates.
        """
        found = {term: len(versions) for term, (versions, _) in self.index.look_up(terms).items()}
        whole = max(self.rows, rows)
        return Statistics(
            rows=whole,
            mean_length=self.mean_length,
            typical_length=self.typical_length,
            holders={
                term: max(held.get(term, 0), round(found.get(term, 0) * whole / max(self.size, 1))) for term in terms
            },
            speakers=self.speakers,
        )


class Sampling:
    """Says which scopes are large, and keeps a sample of each."""

    def __init__(self, link: Link, searching: Searching, exact_rows: int) -> None:
        self._link, self._searching, self._exact_rows = link, searching, exact_rows
        self._samples: dict[tuple[Scope, str | None], Sample] = {}
        self._lock = threading.Lock()

    def of(self, query: ViewQuery) -> Sample | None:
        """The sample of the query's scope; None if the scope is small."""
        known = self._searching.cached_rows(query)
        if known is not None and known <= self._exact_rows:
            return None
        with self._lock:
            sample = self._samples.get((query.scope, query.collection))
        if sample is None or time.monotonic() - sample.at > TRUSTED_SECONDS:
            sample = self._drawn(query)
        return sample if sample.rows > self._exact_rows else None

    def renewed(self, query: ViewQuery, sample: Sample, erased_seq: int) -> Sample:
        """`sample`, or another one if something was erased since it was drawn: none of its words may stay."""
        if sample.erased_seq == erased_seq:
            return sample
        fresh = replace(sample if sample.erased_seq < 0 else self._drawn(query), erased_seq=erased_seq)
        with self._lock:
            self._samples[query.scope, query.collection] = fresh
        return fresh

    def forget(self) -> None:
        """Drop all samples."""
        with self._lock:
            self._samples.clear()

    def _drawn(self, query: ViewQuery) -> Sample:
        by, parameters = by_of(query.scope), {**parameters_of(query), **ANY_TIME}
        rows = self._count(cypher.SIZE[by], **parameters, limit=self._exact_rows + 1)
        if rows > self._exact_rows:
            rows = self._count(cypher.SIZE_SHOWN[by], **parameters)
        sample = Sample(rows=rows, at=time.monotonic())
        if rows > self._exact_rows:
            found = self._link.read(lambda tx: tx.one(cypher.SAMPLE[by], **parameters, sample=SAMPLE), whole=False)
            assert found is not None  # an aggregate gives one record
            versions, lengths, speakers, terms = found
            length, said = np.array(lengths or [0], np.float64), Counter(name for name in speakers if name)
            sample = replace(
                sample,
                size=len(versions),
                mean_length=float(length.mean()),
                typical_length=float(np.expm1(np.mean(np.log1p(length)))),
                speakers={name: count / len(versions) for name, count in said.items()},
                index=TermIndex(versions, terms),
            )
        with self._lock:
            self._samples[query.scope, query.collection] = sample
        return sample

    def _count(self, statement: LiteralString, **parameters: object) -> int:
        found = self._link.read(lambda tx: tx.one(statement, **parameters), whole=False)
        return 0 if found is None else int(found[0])
