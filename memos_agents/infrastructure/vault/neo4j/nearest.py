"""Nearest: for a scope too large to look at all of it, the server picks the rows that our ranker then ranks.

One question brings what the vector index and the full-text index think most like the query, the turns around those, and
whatever was written since the indexes were last filled. Scores are still ours and still speak of the scope alone:
the statistics come from a sample of it. Other people's texts can only move which rows are picked, through Lucene's
document frequencies, never how they are ranked.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, Final, LiteralString, TypeAlias

import numpy as np
from numpy.typing import NDArray

from memos_agents.cube.canonical import JSON
from memos_agents.cube.payload import MemoryType
from memos_agents.cube.scope import Scope
from memos_agents.cube.state import MemoryState
from memos_agents.errors import BackendUnavailable, IncompatibleModel, NotFound
from memos_agents.infrastructure.vault.base import ViewQuery
from memos_agents.infrastructure.vault.capabilities import PartialView, Statistics
from memos_agents.infrastructure.vault.growth import Columns, Growth, row_order
from memos_agents.infrastructure.vault.neo4j import cypher_nearest as cypher
from memos_agents.infrastructure.vault.neo4j.link import Link
from memos_agents.infrastructure.vault.neo4j.sampling import EXACT_ROWS, TRUSTED_SECONDS, Sample, Sampling
from memos_agents.infrastructure.vault.neo4j.searching import (
    CREATED,
    CUBE,
    TERMS,
    VERSION,
    Row,
    Searching,
    by_of,
    parameters_of,
    read_metadata,
    rows_of,
)
from memos_agents.infrastructure.vault.neo4j.spaces import known
from memos_agents.infrastructure.vault.neo4j.terms import lucene_query, packed_postings
from memos_agents.infrastructure.vault.neo4j.upkeep import Progress, Upkeep, are_online, index_vectors, tag_of
from memos_agents.infrastructure.vault.view import Postings, View

AROUND: Final = 120
"""Candidates whose neighbours are looked at, too."""
FEWEST_TERMS: Final = 5
REACH: Final = 50
"""Rows to look at for each that is wanted: the common terms of a question are left out where rarer ones reach that."""
MAX_TAIL: Final = 5_000
"""Cubes that the indexes may be behind; further behind, a search is exact."""
FILL_AT: Final = 1_000
"""Cubes behind at which upkeep starts."""
MAX_FETCH: Final = 4_000
"""Rows that a vector index without a filter inside is asked for at most, to find those of one scope among them."""


@dataclass(slots=True)
class _Tail:
    """Rows that commits after `since` touched, by the number of their cube; `seq` is the last commit looked at."""

    since: int
    seq: int
    rows: dict[int, Row] = field(default_factory=dict)

    def follow(self, seq: int, touched: Iterable[Row]) -> None:
        """Take in what commits up to `seq` touched; a row of nothing but a cube's number is no longer shown."""
        self.rows = dict(self.rows)
        for row in touched:
            if len(row) == 1:
                self.rows.pop(row[0], None)
            else:
                self.rows[row[CUBE]] = row
        self.seq = seq


_Key: TypeAlias = tuple[Scope, str | None, str | None]


class CandidateView:
    """See `capabilities.PartialView`."""

    def __init__(self, columns: Columns, rows: Sequence[Row], sample: Sample, link: Link) -> None:
        self._columns, self._sample, self._link = columns, sample, link
        terms = {row[VERSION]: row[TERMS] for row in rows}
        self._terms = [terms[version] for version in columns.version.tolist()]

    @property
    def view(self) -> View:
        return self._columns.view

    def postings(self, terms: Iterable[str]) -> Postings:
        return packed_postings(self._terms, terms)

    def metadata(self) -> Sequence[Mapping[str, JSON]]:
        return read_metadata(self._link, self._columns.view.refs)

    def statistics(self, terms: Iterable[str]) -> Statistics:
        wanted = list(dict.fromkeys(terms))
        held = {term: len(rows) for term, (rows, _) in self.postings(wanted).items()}
        return self._sample.statistics(wanted, held, len(self._terms))


class Nearest:
    """Finds candidates in large scopes. Keeps a sample and the unindexed tail of each scope that is searched."""

    def __init__(self, link: Link, searching: Searching, *, exact_rows: int = EXACT_ROWS) -> None:
        self._link = link
        self._sampling = Sampling(link, searching, exact_rows)
        self.upkeep = Upkeep(link)
        self._lock = threading.Lock()
        self._stored = ""
        self._online: set[int | None] = set()
        self._tails: dict[_Key, _Tail] = {}
        self._counts: dict[int, tuple[int, float]] = {}

    def candidates(
        self,
        query: ViewQuery,
        terms: Sequence[str],
        embed: Callable[[Statistics], NDArray[np.float32]] | None,
        limit: int,
    ) -> CandidateView | None:
        """See `capabilities.SupportsCandidates`. One round trip; some more, and about 0.3 s at 100,000 cubes, when a
        scope is new here and once in five minutes.
        """
        if not _is_plain(query) or query.scope.tenant != self._link.tenant or (embed is None and not terms):
            return None
        sample = self._sampling.of(query)
        if sample is None:
            return None
        vector = None if embed is None else embed(sample.statistics(terms, {}, 0))
        if vector is not None and not vector.any():  # has no direction, and the server refuses it
            return None
        dimension = None if vector is None else len(vector)
        if dimension is not None and dimension not in cypher.INDEXED_DIMENSIONS:
            return None
        if dimension not in self._online:
            if not are_online(self._link, dimension):
                self.upkeep.start(query.space)
                return None
            self._online.add(dimension)
        # Neo4j 2026.09 can fail in Lucene when it filters inside a vector index that has had deletions ("Index 33554431
        # out of bounds", seen in FixedBitSet.get): ask without the filter then. If that fails too, an index is gone.
        for is_filtered in (True, False) if self._link.is_2026 and vector is not None else (False,):
            try:
                return self._ask(query, terms, vector, limit, sample, is_filtered=is_filtered)
            except BackendUnavailable:
                continue
        self._online.discard(dimension)
        return None  # the exact search answers, or says what is wrong

    def index(self, progress: Progress | None = None) -> int:
        """Bring the indexes up to date with the default vector space, while the caller waits."""
        space = self._link.read(lambda tx: next((s.space.fingerprint for s in known(tx) if s.space.is_default), None))
        return index_vectors(self._link, space, progress)

    def forget(self) -> None:
        """Drop everything kept of scopes."""
        self._sampling.forget()
        with self._lock:
            self._tails.clear()

    def close(self) -> None:
        """Stop the upkeep."""
        self.upkeep.close()

    def _ask(
        self,
        query: ViewQuery,
        terms: Sequence[str],
        vector: NDArray[np.float32] | None,
        limit: int,
        sample: Sample,
        *,
        is_filtered: bool,
    ) -> CandidateView | None:
        key = (query.scope, query.space, query.collection)
        chosen = self._statement(query, terms, vector, limit, sample, is_filtered=is_filtered)
        if chosen is None:
            return None
        statement, parameters = chosen
        with self._lock:
            tail = self._tails.pop(key, None)
        parameters |= {"after": -1 if tail is None else tail.seq, "tail": MAX_TAIL + 1}
        found = self._link.read(lambda tx: tx.one(statement, **parameters), whole=False)
        assert found is not None  # the statement gives one record
        seq, epoch, erased, near, number, size, talks, columns, reshapes, touched = found
        if query.space is not None and number is None:
            raise NotFound(f"there is no vector space {query.space!r}; open it first", space=query.space)
        if vector is not None and vector.shape != (size,):
            raise IncompatibleModel(
                f"the question's vector has shape {vector.shape}, those of the memories have {(size,)}; search with "
                "the embedder that the memories were added with, or re-embed the store",
                found=vector.shape,
                expected=(size,),
            )
        near_seq, near_us, *made_for = near
        if near_seq is None or made_for != [number or 0, epoch] or len(touched) > MAX_TAIL:
            self.upkeep.start(query.space)
            return None
        if tail is not None and near_seq <= tail.seq and reshapes:
            return self._ask(
                query, terms, vector, limit, sample, is_filtered=is_filtered
            )  # stale marks in the tail: read all of it again
        if tail is None or near_seq > tail.seq:
            tail = _Tail(since=near_seq, seq=near_seq)
        tail.follow(seq, touched)
        if len(tail.rows) > FILL_AT:
            self.upkeep.start(query.space)
        if len(tail.rows) <= FILL_AT or tail.since == near_seq:  # else the indexes have caught up: begin anew
            with self._lock:
                self._tails[key] = tail
        sample = self._sampling.renewed(query, sample, erased)
        return self._view(query, rows_of(columns), talks, tail, near_us or 0, sample, size or 0)

    def _view(
        self,
        query: ViewQuery,
        picked: list[Row],
        talks: Sequence[Sequence[int]],
        tail: _Tail,
        near_us: int,
        sample: Sample,
        dimension: int,
    ) -> CandidateView:
        rows = {row[CUBE]: row for row in picked} | tail.rows
        ordered = sorted(rows.values(), key=row_order)
        columns = Growth(dimension, [row[:TERMS] for row in ordered]).columns().visible(query)
        owners = {cube: tuple(row[2:5]) for cube, row in rows.items()}
        joined = [pair for turns in talks for pair in pairwise(turns)]
        last: dict[tuple[Any, ...], int] = {}
        for cube in columns.cube.tolist():
            if cube in tail.rows and tail.rows[cube][CREATED] > near_us:  # all that is younger is here: no gaps
                if owners[cube] in last:
                    joined.append((last[owners[cube]], cube))
                last[owners[cube]] = cube
        return CandidateView(_linked(columns, joined, owners), ordered, sample, self._link)

    def _statement(
        self,
        query: ViewQuery,
        terms: Sequence[str],
        vector: NDArray[np.float32] | None,
        limit: int,
        sample: Sample,
        *,
        is_filtered: bool,
    ) -> tuple[LiteralString, dict[str, Any]] | None:
        """What to ask the server, in its own language, and with which values; None if it had to look too far."""
        parameters = {**parameters_of(query), "space": query.space, "each": limit, "around": AROUND}
        words = self._words(query, _telling(terms, sample, limit))
        if words:
            parameters |= {"words": words, "matching": limit}
        if vector is None:
            return (cypher.BY_WORDS, parameters) if words else None
        parameters |= {"question": vector.tolist(), "nearest": limit}
        if is_filtered:
            place = len(vector), by_of(query.scope), query.collection is not None
            return (cypher.BY_BOTH_25 if words else cypher.BY_MEANING_25)[place], parameters
        whole = self._indexed(len(vector))
        parameters["nearest"] = int(limit * max(1.0, 1.25 * whole / max(sample.rows, 1)))
        if parameters["nearest"] > MAX_FETCH:
            return None
        parameters["index"] = cypher.VECTOR_INDEX[len(vector)]
        return cypher.BY_BOTH if words else cypher.BY_MEANING, parameters

    def _indexed(self, dimension: int) -> int:
        """How many cubes the vector index holds, everybody's; known for a while."""
        count, at = self._counts.get(dimension, (0, -TRUSTED_SECONDS))
        if time.monotonic() - at >= TRUSTED_SECONDS:
            count, at = self._link.rows_outside(cypher.COUNT_INDEXED, dimension=dimension)[0][0], time.monotonic()
            self._counts[dimension] = count, at
        return count

    def _words(self, query: ViewQuery, terms: Sequence[str]) -> str:
        """A query in Lucene's syntax: some of the terms, within the scope; empty if there is nothing to look for."""
        if not self._stored:
            ((self._stored,),) = self._link.read(lambda tx: tx.rows(cypher.STORED), whole=False)
        scope = query.scope
        owner = (("u", scope.user_id), ("a", scope.agent_id), ("s", scope.session_id), ("c", query.collection))
        tags = [tag_of(self._stored, kind, name) for kind, name in owner if name]
        return lucene_query(tags or [tag_of(self._stored, "t")], terms)  # each of them means the tenant, too


class LargeScopes:
    """What a vault on Neo4j adds to be `capabilities.SupportsCandidates`: it makes `nearest` and closes it."""

    nearest: Nearest

    def candidates(
        self,
        query: ViewQuery,
        terms: Sequence[str],
        embed: Callable[[Statistics], NDArray[np.float32]] | None,
        limit: int,
    ) -> PartialView | None:
        """See `capabilities.SupportsCandidates`."""
        return self.nearest.candidates(query, terms, embed, limit)

    def index_vectors(self, progress: Progress | None = None) -> int:
        """Fill the server's indexes now, from the default vector space; return how many cubes were changed.

        Happens by itself, beside the application, when a scope of more than 20,000 cubes is searched. See
        `upkeep.index_vectors`.
        """
        return self.nearest.index(progress)


def _telling(terms: Sequence[str], sample: Sample, limit: int) -> list[str]:
    """The rarest of `terms` that bring enough rows to choose from.

    What most rows hold costs Lucene most of its time (12 of 15 ms for a sentence, at 100,000 rows) and decides nothing.
    """
    holders = sample.statistics(terms, {}, 0).holders
    chosen: list[str] = []
    reached = 0
    for term in sorted(holders, key=holders.__getitem__):
        if len(chosen) >= FEWEST_TERMS and reached >= REACH * limit:
            break
        chosen.append(term)
        reached += holders[term]
    return chosen


def _is_plain(query: ViewQuery) -> bool:
    """Whether the indexes hold what is asked for: current, activated plaintext."""
    return (
        query.as_of is None
        and query.valid_at is None
        and query.states == {MemoryState.ACTIVATED}
        and query.memory_types == {MemoryType.PLAINTEXT}
    )


def _linked(columns: Columns, pairs: Iterable[Sequence[int]], owners: Mapping[int, Sequence[Any]]) -> Columns:
    """`columns` in which a row's neighbours are those of `pairs` (numbers of cubes), as far as they are of one talk."""
    place = {cube: row for row, cube in enumerate(columns.cube.tolist())}
    previous = np.full(len(place), -1, np.int32)
    following = previous.copy()
    for before, after in pairs:
        if before in place and after in place and owners[before] == owners[after] and owners[after][2]:
            previous[place[after]] = place[before]
            following[place[before]] = place[after]
    return replace(columns, view=replace(columns.view, previous=previous, following=following))
