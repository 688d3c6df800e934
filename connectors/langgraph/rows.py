"""Rows: the items of one scope as a search sees them, with what each version says about its place remembered.

A version never changes, so each is read once and its place and value remembered; after that a search reads what is new
and the page that it returns. Nothing is kept of versions that are gone: what is erased leaves with the next search.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from memos_agents.connectors.langgraph.placing import Fact, Namespace, fact_of
from memos_agents.cube.memcube import VersionRef
from memos_agents.cube.metadata import DEFAULT_COLLECTION
from memos_agents.cube.scope import Scope
from memos_agents.errors import InvalidRequest
from memos_agents.infrastructure.vault.base import SearchView, ViewQuery
from memos_agents.interface.keyed import PARTS
from memos_agents.interface.nearest import scope_of
from memos_agents.interface.recall import AnySync
from memos_agents.operation.organization import Searchable

if TYPE_CHECKING:
    from numpy.typing import NDArray

_ROWS_KEPT = 200_000
"""Items remembered over all scopes, those of scopes used last: about 1 kB each beside their values."""


class Row(NamedTuple):
    """One current item: its row in the view, its version, and what that says."""

    number: int
    ref: VersionRef
    fact: Fact


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of the rows of one scope; replaced as a whole, so that threads may read it without a lock."""

    refs: list[VersionRef]
    items: dict[Namespace, list[Row]]
    wholes: dict[VersionRef, str]

    @classmethod
    def nothing(cls) -> Known:
        """Before anything was read."""
        return cls([], {}, {})


@dataclass(frozen=True, slots=True)
class Rows:
    """The current items of a scope by namespace, and the view that they are rows of."""

    source: SearchView
    items: dict[Namespace, list[Row]]
    over: frozenset[VersionRef]

    def under(self, prefix: Namespace) -> list[Row]:
        """Those whose namespace begins with `prefix`, oldest first."""
        size = len(prefix)
        found = [rows for name, rows in self.items.items() if name[:size] == prefix]
        rows = found[0] if len(found) == 1 else sorted(row for several in found for row in several)
        return [row for row in rows if row.ref not in self.over] if self.over else rows

    def namespaces(self) -> set[Namespace]:
        """The namespaces that hold an item."""
        if not self.over:
            return set(self.items)
        return {name for name, rows in self.items.items() if any(row.ref not in self.over for row in rows)}


class RowReader:
    """Reads rows, and remembers those of the scopes used last."""

    def __init__(self) -> None:
        self._known: OrderedDict[Scope, Known] = OrderedDict()
        self._lock = threading.Lock()

    def read(
        self,
        front: AnySync,
        *,
        space: str | None,
        owner_of: Callable[[Namespace], Scope],
        shows_ended: bool,
    ) -> Rows:
        """The items that belong where their namespace says; those whose time is over only if `shows_ended`."""
        now = front._store.now()
        _ = front._store.vault  # closed is closed
        source = _searcher(front).search_view(_query(front, space, DEFAULT_COLLECTION))
        refs = source.view.refs[: len(source.view.session)]
        known = self._of(front)
        if refs != known.refs:
            known = self._keep(front, self._caught_up(front, known, refs, owner_of))
        return Rows(source, known.items, frozenset() if shows_ended else _over(front, known, now))

    def scores(
        self, front: AnySync, rows: Rows, under: Sequence[Row], vector: NDArray[np.float32], space: str
    ) -> NDArray[np.float32]:
        """The best cosine of each row's vectors with `vector`, by row number; NaN for a row without vectors."""
        best = _cosines(rows.source.view.vectors, vector)
        parts = _searcher(front).search_view(_query(front, space, PARTS)).view
        if len(parts):
            known = self._of(front)
            missing = [ref for ref in parts.refs if ref not in known.wholes]
            if missing or len(known.wholes) != len(parts.refs):
                fresh = front._store.vault.versions(missing, scope_of(front)) if missing else {}
                wholes = {ref: known.wholes[ref] for ref in parts.refs if ref in known.wholes}
                wholes.update((ref, str(cube.metadata.get("of"))) for ref, cube in fresh.items())
                known = self._keep(front, replace(known, wholes=wholes))
            number_of = {row.ref.cube_id: row.number for row in under}
            for ref, score in zip(parts.refs, _cosines(parts.vectors, vector).tolist(), strict=True):
                number = number_of.get(known.wholes.get(ref) or "")
                if number is not None and not score <= best[number]:  # NaN is below every score
                    best[number] = score
        return best

    @staticmethod
    def _caught_up(
        front: AnySync, known: Known, refs: list[VersionRef], owner_of: Callable[[Namespace], Scope]
    ) -> Known:
        """As `known`, for the rows as they are now: what was appended is read, else what is new anywhere."""
        start = len(known.refs) if refs[: len(known.refs)] == known.refs else 0
        old = {} if start else {row.ref: row.fact for rows in known.items.values() for row in rows}
        passed = set() if start else {ref for ref in known.refs if ref not in old}  # of other fronts, so no items
        missing = [ref for ref in refs[start:] if ref not in old and ref not in passed]
        cubes = front._store.vault.versions(missing, scope_of(front)) if missing else {}
        added: dict[Namespace, list[Row]] = {}
        for number, ref in enumerate(refs[start:], start):
            fact = old.get(ref)
            if fact is None and ref in cubes:
                fact = fact_of(cubes[ref])
            if fact is not None:
                added.setdefault(fact.namespace, []).append(Row(number, ref, fact))
        items = dict(known.items) if start else {}
        for namespace, rows in added.items():
            owner = owner_of(namespace)
            mine = [row for row in rows if row.fact.scope == owner]
            if mine:
                items[namespace] = items.get(namespace, []) + mine
        return Known(refs, items, known.wholes)

    def _of(self, front: AnySync) -> Known:
        with self._lock:
            return self._known.get(scope_of(front)) or Known.nothing()

    def _keep(self, front: AnySync, known: Known) -> Known:
        scope = scope_of(front)
        with self._lock:
            self._known[scope] = known
            self._known.move_to_end(scope)
            while len(self._known) > 1 and sum(len(each.refs) for each in self._known.values()) > _ROWS_KEPT:
                self._known.popitem(last=False)
        return known


def _over(front: AnySync, known: Known, now: datetime) -> frozenset[VersionRef]:
    """The items whose time is over; heads are read only where the write alone does not decide it."""
    timed = [row for rows in known.items.values() for row in rows if row.fact.ttl_minutes is not None]
    doubtful = [row for row in timed if (ends := row.fact.ends_at(None)) is not None and ends <= now]
    if not doubtful:
        return frozenset()
    heads = front._store.vault.get([row.ref.cube_id for row in doubtful], scope_of(front))
    over = set()
    for row in doubtful:
        head = heads.get(row.ref.cube_id)
        ends = row.fact.ends_at(None if head is None else head.behavioural.last_used_at)
        if head is None or (ends is not None and ends <= now):
            over.add(row.ref)
    return frozenset(over)


def _query(front: AnySync, space: str | None, collection: str) -> ViewQuery:
    return ViewQuery(scope=scope_of(front), now=front._store.now(), space=space, collection=collection)


class Chosen:
    """A search view in which metadata says only which row it is: so a ranker can be told what to pass over, unread."""

    def __init__(self, source: SearchView) -> None:
        self._source = source
        self.view = source.view
        self.postings = source.postings

    def metadata(self) -> Sequence[Mapping[str, int]]:
        """One mapping for each row, holding its number."""
        return [{"row": number} for number in range(len(self.view))]


def _cosines(vectors: NDArray[np.float32], vector: NDArray[np.float32]) -> NDArray[np.float32]:
    from memos_agents.operation.products import product

    scores = product(vectors, vector) if len(vectors) else np.zeros(0, np.float32)
    return np.where(vectors.any(axis=1), scores, np.float32(np.nan)) if len(vectors) else scores


def _searcher(front: AnySync) -> Searchable:
    searcher = front._store.searcher
    if searcher is None:
        raise InvalidRequest(f"{type(front._store.vault).__name__} cannot search; use a store that can, such as a file")
    return searcher
