"""Search views: a scope's current rows as columns, loaded once, then kept up to date from the log.

Whoever wrote it, another process too, what the log's tail touched is read again and nothing else: new memories are
appended (views already handed out end before them), so a read after a write costs the write and not the scope.
"""

from __future__ import annotations

import sqlite3
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from memos_agents.cube.canonical import JSON
from memos_agents.cube.moment import to_microseconds
from memos_agents.infrastructure.vault.base import ViewQuery
from memos_agents.infrastructure.vault.growth import Columns, Growth, Row, row_order
from memos_agents.infrastructure.vault.sqlite.engine import Engine, chunks
from memos_agents.infrastructure.vault.sqlite.names import Names
from memos_agents.infrastructure.vault.sqlite.reading import Reader
from memos_agents.infrastructure.vault.sqlite.schema import STATE_NUMBER, TYPE_NUMBER
from memos_agents.infrastructure.vault.sqlite.terms import look_up
from memos_agents.infrastructure.vault.view import Postings, View

MAX_CACHE_BYTES = 512 * 2**20
ENTRY_BYTES = 5_000  # of an empty scope: locks, arrays, dictionaries
MAX_PATCH = 2_000
SELECTED = (
    "c.id, v.n, c.user, c.agent, c.session, v.speaker, v.flags, v.event_us, v.length, x.data, "
    "c.rid, v.rid, c.created_us, v.expires_us, v.valid_from_us, v.valid_to_us"
)
"""The columns of a `Row`, from cube `c`, version `v` and vector `x`."""

_Key: TypeAlias = tuple[object, ...]


@dataclass(slots=True)
class _Entry:
    """A cached scope as of a log position; `activity` is the rowid of its last entry, and `epoch`
    counts changes of vectors, which are not in the log.
    """

    growth: Growth | None = None
    columns: Columns | None = None
    seq: int = -1
    epoch: int = -1
    activity: int = 0
    size_bytes: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


class SqliteSearchView:
    """See `base.SearchView`. Terms and metadata are read when asked for, each in a moment of its own."""

    def __init__(self, searching: Searching, query: ViewQuery, columns: Columns) -> None:
        self._searching, self._query, self._columns = searching, query, columns

    @property
    def view(self) -> View:
        return self._columns.view

    def postings(self, terms: Iterable[str]) -> Postings:
        versions = self._columns.version
        order = np.argsort(versions, kind="stable")
        ordered = versions[order]
        rows_of = {}
        for term, (rids, counts) in self._searching.look_up(terms, self._query).items():
            place = np.minimum(np.searchsorted(ordered, rids), max(len(ordered) - 1, 0))
            known = ordered[place] == rids if len(ordered) else np.zeros(len(rids), bool)
            rows = order[place[known]].astype(np.int64) if len(ordered) else np.zeros(0, np.int64)
            if len(rows):
                ascending = np.argsort(rows, kind="stable")
                rows_of[term] = rows[ascending], counts[known][ascending]
        return rows_of

    def metadata(self) -> Sequence[Mapping[str, JSON]]:
        return self._searching.metadata(self._columns.version)


class Searching:
    """Makes search views and keeps the columns of recently used scopes."""

    def __init__(self, engine: Engine, reader: Reader, names: Names) -> None:
        self._engine, self._reader, self._names = engine, reader, names
        self._entries: OrderedDict[_Key, _Entry] = OrderedDict()
        self._size_bytes = 0
        self._lock = threading.Lock()

    def view(self, query: ViewQuery) -> SqliteSearchView:
        columns = self._current(query) if query.as_of is None else self._past(query)
        return SqliteSearchView(self, query, columns.visible(query))

    def look_up(
        self, terms: Iterable[str], query: ViewQuery
    ) -> dict[str, tuple[NDArray[np.int64], NDArray[np.float32]]]:
        with self._engine.read() as connection:
            owner = self._names.scope_rids(connection, query.scope)
            return look_up(connection, terms, self._names.tenant(connection), owner)

    def metadata(self, versions: NDArray[np.int64]) -> list[Mapping[str, JSON]]:
        return self._reader_metadata(versions.tolist())

    def forget(self) -> None:
        """Drop every cached scope."""
        with self._lock:
            self._entries.clear()
            self._size_bytes = 0

    def _current(self, query: ViewQuery) -> Columns:
        key: _Key = (query.scope, query.space, query.states, query.memory_types, query.collection)
        with self._lock:
            entry = self._entries.setdefault(key, _Entry())
            self._entries.move_to_end(key)
        with entry.lock, self._engine.read() as connection:
            try:
                columns = self._up_to_date(connection, query, entry)
            except BaseException:
                entry.growth = entry.columns = None  # half appended, perhaps: load it again
                raise
        self._trim(key, entry, columns)
        return columns

    def _up_to_date(self, connection: sqlite3.Connection, query: ViewQuery, entry: _Entry) -> Columns:
        tenant = self._names.tenant(connection)
        row = connection.execute(
            "SELECT seq, vector_epoch, (SELECT coalesce(max(rid), 0) FROM activity) FROM tenant WHERE rid = ?",
            (tenant,),
        ).fetchone()
        seq, epoch, activity = row or (0, 0, 0)
        if entry.growth is None or epoch != entry.epoch or seq < entry.seq:
            self._load(connection, query, entry)
        elif seq > entry.seq:
            self._refresh(connection, query, entry, tenant)
        entry.seq, entry.epoch, entry.activity = seq, epoch, activity
        if entry.columns is None:
            assert entry.growth is not None  # _load and _refresh leave it set
            entry.columns = entry.growth.columns()
        return entry.columns

    def _load(self, connection: sqlite3.Connection, query: ViewQuery, entry: _Entry) -> None:
        rows = self._select(connection, query, "v.rid = c.head", "v.superseded_us IS NULL AND v.stale = 0", ())
        entry.growth, entry.columns = Growth(self._dimension(connection, query), rows), None

    def _refresh(self, connection: sqlite3.Connection, query: ViewQuery, entry: _Entry, tenant: int) -> None:
        growth = entry.growth
        assert growth is not None  # checked by the caller
        (reshapes,) = connection.execute(
            "SELECT coalesce(max(reshapes), 0) FROM activity WHERE tenant = ? AND rid > ?", (tenant, entry.activity)
        ).fetchone()
        owner, values = self._reader.owner(connection, query.scope)
        touched = connection.execute(
            "SELECT DISTINCT c.rid FROM activity x JOIN touched t ON t.activity = x.rid JOIN cube c ON c.rid = t.cube "
            f"WHERE x.rid > ? AND x.tenant = ? AND {owner} LIMIT ?",
            (entry.activity, tenant, *values, MAX_PATCH + 1),
        ).fetchall()
        if reshapes or len(touched) > MAX_PATCH:
            self._load(connection, query, entry)
            return
        cubes = [row[0] for row in touched]
        rows: list[Row] = []
        for marks, piece in chunks(cubes):
            condition = f"v.superseded_us IS NULL AND v.stale = 0 AND c.rid IN ({marks})"
            rows.extend(self._select(connection, query, "v.rid = c.head", condition, tuple(piece)))
        rows.sort(key=row_order)
        known = np.isin(growth.cubes(), np.array(cubes, np.int64))
        if not known.any():
            if not rows:
                return
            if growth.fits_behind(rows):
                growth.append(rows)
                entry.columns = None
                return
        elif {row[11] for row in rows} == set(growth.versions()[known].tolist()):
            return  # used or related, but not changed
        entry.growth, entry.columns = growth.patched(cubes, rows), None

    def _past(self, query: ViewQuery) -> Columns:
        assert query.as_of is not None  # asked by the caller
        moment = to_microseconds(query.as_of)
        believed = "v.recorded_us <= ? AND (v.superseded_us IS NULL OR v.superseded_us > ?)"
        with self._engine.read() as connection:
            rows = self._select(connection, query, "v.cube = c.rid", believed, (moment, moment))
            return Growth(self._dimension(connection, query), rows).columns()

    def _select(
        self, connection: sqlite3.Connection, query: ViewQuery, join: str, condition: str, values: tuple[object, ...]
    ) -> list[Row]:
        owner, parameters = self._reader.owner(connection, query.scope)
        states = ",".join(str(STATE_NUMBER[state]) for state in query.states)
        types = ",".join(str(TYPE_NUMBER[kind]) for kind in query.memory_types)
        more: tuple[object, ...] = ()
        if query.collection is not None:
            condition += " AND v.collection = ?"
            more = (query.collection,)
        space = -1 if query.space is None else self._names.space(connection, query.space)[0]
        return connection.execute(
            f"SELECT {SELECTED} FROM cube c JOIN version v ON {join} LEFT JOIN vector x ON x.space = ? AND x.version "
            "= v.rid "
            f"WHERE {owner} AND c.state IN ({states}) AND v.memory_type IN ({types}) AND v.body IS NOT NULL AND "
            f"{condition}",
            (space, *parameters, *values, *more),
        ).fetchall()

    def _dimension(self, connection: sqlite3.Connection, query: ViewQuery) -> int:
        return 0 if query.space is None else self._names.space(connection, query.space)[1]

    def _reader_metadata(self, versions: list[int]) -> list[Mapping[str, JSON]]:
        with self._engine.read() as connection:
            return self._reader.metadata(connection, versions)

    def _trim(self, key: _Key, entry: _Entry, columns: Columns) -> None:
        """Account for what `entry` holds now, and forget the scopes used longest ago beyond the budget."""
        with self._lock:
            if self._entries.get(key) is not entry:
                return
            size_bytes = columns.size_bytes + ENTRY_BYTES
            self._size_bytes += size_bytes - entry.size_bytes
            entry.size_bytes = size_bytes
            while self._size_bytes > MAX_CACHE_BYTES and len(self._entries) > 1:
                oldest = next(iter(self._entries))
                if oldest == key:
                    break
                self._size_bytes -= self._entries.pop(oldest).size_bytes
