"""Search views: a scope's current rows as columns, loaded once, then kept up to date from the log's tail.

Whoever wrote it, another process too, what later commits touched is read again and nothing else. A search of a scope
that is known costs one question to the server (did anything happen?), a search after a write that and the write.
"""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from memos_agents.cube.canonical import JSON
from memos_agents.cube.memcube import VersionRef
from memos_agents.cube.moment import to_microseconds
from memos_agents.cube.scope import Scope
from memos_agents.cube.state import MemoryState
from memos_agents.errors import NotFound
from memos_agents.infrastructure.vault.base import ViewQuery
from memos_agents.infrastructure.vault.growth import ALWAYS, NEVER, Columns, Growth, row_order
from memos_agents.infrastructure.vault.neo4j import cypher_search
from memos_agents.infrastructure.vault.neo4j.cypher_search import By
from memos_agents.infrastructure.vault.neo4j.link import Link, Tx
from memos_agents.infrastructure.vault.neo4j.terms import TermIndex
from memos_agents.infrastructure.vault.view import Postings, View

MAX_CACHE_BYTES: Final = 512 * 2**20
ENTRY_BYTES: Final = 5_000  # of an empty scope: locks, arrays, dictionaries
MAX_PATCH: Final = 2_000
READ_AT_ONCE: Final = 5_000
LOADED_AT_ONCE: Final = 10_000

Row: TypeAlias = Sequence[Any]
"""A `growth.Row` and the version's terms."""
_Key: TypeAlias = tuple[object, ...]
SPEAKER, VECTOR, CUBE, VERSION, CREATED, TERMS = 5, 9, 10, 11, 12, 16  # places in a row of `cypher_search.LOAD`
ANY_TIME: Final = {"from_us": ALWAYS, "to_us": NEVER}


@dataclass(slots=True)
class _Entry:
    """A cached scope as of a position of the log; `epoch` counts changes of vectors, which are not in the log."""

    growth: Growth | None = None
    columns: Columns | None = None
    index: TermIndex = field(default_factory=TermIndex)
    space: tuple[str, int] = ("", 0)
    """The property that holds the vectors, and their dimension."""
    seq: int = -1
    epoch: int = -1
    size_bytes: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


class Neo4jSearchView:
    """See `base.SearchView`. Metadata are read when asked for, in a moment of their own."""

    def __init__(self, columns: Columns, index: TermIndex, link: Link) -> None:
        self._columns, self._index, self._link = columns, index, link

    @property
    def view(self) -> View:
        return self._columns.view

    def postings(self, terms: Iterable[str]) -> Postings:
        return postings_of(self._columns.version, self._index, terms)

    def metadata(self) -> Sequence[Mapping[str, JSON]]:
        return read_metadata(self._link, self._columns.view.refs)


class Searching:
    """Makes search views and keeps the columns of recently used scopes, at most `MAX_CACHE_BYTES` of them."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._entries: OrderedDict[_Key, _Entry] = OrderedDict()
        self._size_bytes = 0
        self._lock = threading.Lock()

    def view(self, query: ViewQuery) -> Neo4jSearchView:
        """The versions that `query` may see. Raises `NotFound` for a space that is not there.

        Costs one round trip if nothing happened since the last view of this scope, else two or three and what changed.
        """
        is_cached = query.as_of is None and query.scope.tenant == self._link.tenant
        columns, index = self._current(query) if is_cached else self._read(query)
        return Neo4jSearchView(columns.visible(query), index, self._link)

    def forget(self) -> None:
        """Drop every cached scope."""
        with self._lock:
            self._entries.clear()
            self._size_bytes = 0

    def cached_rows(self, query: ViewQuery) -> int | None:
        """How many rows the cached scope of `query` has, without asking the server; None if it is not cached."""
        with self._lock:
            entry = self._entries.get(_key_of(query))
        growth = None if entry is None else entry.growth
        return None if growth is None else len(growth)

    def _current(self, query: ViewQuery) -> tuple[Columns, TermIndex]:
        key = _key_of(query)
        with self._lock:
            entry = self._entries.setdefault(key, _Entry())
            self._entries.move_to_end(key)
        with entry.lock:
            try:
                columns, index = self._up_to_date(query, entry)
            except BaseException:
                entry.growth = entry.columns = None  # half appended, perhaps: load it again
                raise
        self._trim(key, entry, columns.size_bytes + index.size_bytes + ENTRY_BYTES)
        return columns, index

    def _up_to_date(self, query: ViewQuery, entry: _Entry) -> tuple[Columns, TermIndex]:
        if entry.growth is not None:
            tail = self._link.read(lambda tx: tx.one(cypher_search.TAIL), whole=False) or [0, 0]
            if tail != [entry.seq, entry.epoch]:
                near = tail[1] == entry.epoch and 0 < tail[0] - entry.seq <= MAX_PATCH + len(entry.growth)
                if not near or not self._refresh(query, entry):
                    entry.growth = None
        if entry.growth is None:
            entry.columns = None
            entry.seq, entry.epoch, entry.space, entry.growth, entry.index = self._link.read(
                lambda tx: _load(tx, query)
            )
        if entry.columns is None:
            entry.columns = entry.growth.columns()
        return entry.columns, entry.index

    def _refresh(self, query: ViewQuery, entry: _Entry) -> bool:
        """Bring `entry` up to the log's end; False if it has to be loaded anew."""
        growth = entry.growth
        assert growth is not None  # asked by the caller
        parameters = {**parameters_of(query), "vector": entry.space[0], "seq": entry.seq, "limit": MAX_PATCH + 1}
        found = self._link.read(lambda tx: tx.one(cypher_search.REFRESH, **parameters))
        assert found is not None  # the statement gives one record
        seq, epoch, reshapes, touched = found
        if epoch != entry.epoch or seq < entry.seq or reshapes or len(touched) > MAX_PATCH:
            return False
        entry.seq = seq
        rows = sorted((row for row in touched if len(row) > 1), key=row_order)
        cubes = np.array([row[0] if len(row) == 1 else row[CUBE] for row in touched], np.int64)
        known = np.isin(growth.cubes(), cubes)
        fresh = [row[VERSION] for row in rows], [row[TERMS] for row in rows]
        if not known.any():
            if rows and growth.fits_behind(rows):
                growth.append([row[:TERMS] for row in rows])
                entry.index.append(*fresh)
                entry.columns = None
                return True
            if not rows:
                return True
        before = growth.versions()[known].tolist()
        if set(fresh[0]) == set(before):
            return True  # used or related, but not changed
        entry.growth, entry.columns = growth.patched(cubes.tolist(), [row[:TERMS] for row in rows]), None
        if before:
            entry.index = entry.index.without(before)
        entry.index.append(*fresh)
        return True

    def _read(self, query: ViewQuery) -> tuple[Columns, TermIndex]:
        _, _, _, growth, index = self._link.read(lambda tx: _load(tx, query))
        return growth.columns(), index

    def _trim(self, key: _Key, entry: _Entry, size_bytes: int) -> None:
        """Account for what `entry` holds now, and forget the scopes used longest ago beyond the budget."""
        with self._lock:
            if self._entries.get(key) is not entry:
                return
            self._size_bytes += size_bytes - entry.size_bytes
            entry.size_bytes = size_bytes
            while self._size_bytes > MAX_CACHE_BYTES and len(self._entries) > 1:
                oldest = next(iter(self._entries))
                if oldest == key:
                    break
                self._size_bytes -= self._entries.pop(oldest).size_bytes


def postings_of(versions: NDArray[np.int64], index: TermIndex, terms: Iterable[str]) -> Postings:
    """Postings by row, of the rows that hold these versions."""
    order = np.argsort(versions, kind="stable")
    ordered = versions[order]
    found = {}
    for term, (holders, counts) in index.look_up(terms).items():
        place = np.minimum(np.searchsorted(ordered, holders), max(len(ordered) - 1, 0))
        known = ordered[place] == holders if len(ordered) else np.zeros(len(holders), bool)
        if known.any():
            rows = order[place[known]].astype(np.int64)
            ascending = np.argsort(rows, kind="stable")
            found[term] = rows[ascending], counts[known][ascending]
    return found


def read_metadata(link: Link, refs: Sequence[VersionRef]) -> list[Mapping[str, JSON]]:
    """The metadata of versions, in that order; empty for what was erased meanwhile."""
    found: list[Mapping[str, JSON]] = [{}] * len(refs)
    for start in range(0, len(refs), READ_AT_ONCE):
        piece = [[row, *refs[row]] for row in range(start, min(start + READ_AT_ONCE, len(refs)))]
        bodies = link.read(lambda tx, piece=piece: tx.rows(cypher_search.BODIES, refs=piece), whole=False)  # type: ignore[misc]  # bound early
        for row, body in bodies:
            found[row] = json.loads(body)["metadata"]
    return found


def by_of(scope: Scope) -> By:
    """Which index finds the cubes of `scope`."""
    if scope.session_id is not None:
        return "session"
    if scope.user_id is not None:
        return "user"
    return "tenant" if scope.agent_id is None else "agent"


def _load(tx: Tx, query: ViewQuery) -> tuple[int, int, tuple[str, int], Growth, TermIndex]:
    """The log's position, the epoch, the property and dimension of the vectors, the rows, and their terms."""
    by, parameters = by_of(query.scope), {**parameters_of(query), "space": query.space}
    if query.as_of is None:
        statement = cypher_search.LOAD[by]
    else:
        statement, parameters["moment"] = cypher_search.LOAD_PAST[by], to_microseconds(query.as_of)
    if query.scope.tenant != tx.tenant:
        parameters["states"] = []
    found = tx.one(statement, **parameters, **ANY_TIME, limit=LOADED_AT_ONCE + 1)
    assert found is not None  # the statement gives one record
    seq, epoch, number, dimension, *columns = found
    if query.space is not None and number is None:
        raise NotFound(f"there is no vector space {query.space!r}; open it first", space=query.space)
    rows = rows_of(columns)
    if len(rows) > LOADED_AT_ONCE:
        rows = []
        for start, end in _spans(tx, by, parameters):
            piece = tx.one(statement, **parameters, from_us=start, to_us=end, limit=NEVER)
            assert piece is not None  # as above
            rows += rows_of(piece[4:])
    rows.sort(key=row_order)
    index = TermIndex([row[VERSION] for row in rows], [row[TERMS] for row in rows])
    space = (f"vec_{number}", dimension) if query.space is not None else ("", 0)
    return seq, epoch, space, Growth(space[1], [row[:TERMS] for row in rows]), index


def rows_of(columns: list[list[Any]]) -> list[Row]:
    """Rows from the lists of `cypher_search.COLUMNS`."""
    columns[SPEAKER] = [name or None for name in columns[SPEAKER]]
    columns[VECTOR] = [vector or None for vector in columns[VECTOR]]
    return list(zip(*columns, strict=True))


def _spans(tx: Tx, by: By, parameters: Mapping[str, object]) -> list[tuple[int, int]]:
    """Spans of time that together hold every cube, about `LOADED_AT_ONCE` in each."""
    owner = {name: parameters[name] for name in ("user", "agent", "session")}
    found = tx.one(cypher_search.TIMES[by], **owner, **ANY_TIME)
    assert found is not None  # an aggregate gives one record
    times = sorted(found[0])
    starts = list(dict.fromkeys(times[::LOADED_AT_ONCE]))
    return list(zip(starts, [*starts[1:], NEVER], strict=True))


def parameters_of(query: ViewQuery) -> dict[str, Any]:
    """What the statements ask of a cube and its version."""
    return {
        "user": query.scope.user_id,
        "agent": query.scope.agent_id,
        "session": query.scope.session_id,
        "states": [state.value for state in query.states if state is not MemoryState.ERASED],
        "types": [kind.value for kind in query.memory_types],
        "collection": query.collection,
    }


def _key_of(query: ViewQuery) -> _Key:
    return (query.scope, query.space, query.states, query.memory_types, query.collection)
