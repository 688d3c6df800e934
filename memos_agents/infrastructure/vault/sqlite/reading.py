"""Reading: rows to cubes, lists, the log, and what a commit changed."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple, TypeAlias

from memos_agents.cube.canonical import JSON
from memos_agents.cube.memcube import MemCube, VersionRef, empty_body, unpack_body
from memos_agents.cube.metadata import Behavioural
from memos_agents.cube.moment import from_microseconds, to_microseconds
from memos_agents.cube.scope import Scope
from memos_agents.cube.state import MemoryState
from memos_agents.infrastructure.provenance.values import Agent, AgentKind, Relation, RelationKind
from memos_agents.infrastructure.vault.base import Effects, ListQuery, LogEntry, LogQuery, RelationRecord
from memos_agents.infrastructure.vault.commit import Tombstone
from memos_agents.infrastructure.vault.sqlite.engine import chunks
from memos_agents.infrastructure.vault.sqlite.names import UNKNOWN, Names
from memos_agents.infrastructure.vault.sqlite.schema import STATE_NUMBER, STATES, TYPE_NUMBER, TYPES

Uses: TypeAlias = Mapping[str, tuple[int, int]]
"""Uses not yet written, by cube id: how many, and the last time in microseconds."""

_CUBE = (
    "c.id, c.user, c.agent, c.session, c.state, c.frozen, c.created_us, c.version, u.count, u.last_us, "
    "v.n, v.recorded_us, v.superseded_us, v.stale, v.body, v.memory_type"
)
_FROM_CUBE = "FROM cube c JOIN version v ON {join} LEFT JOIN usage u ON u.cube = c.rid"
_FROM_HEAD = _FROM_CUBE.format(join="v.rid = c.head")
_FROM_VERSIONS = _FROM_CUBE.format(join="v.cube = c.rid")


class Reader:
    """Read operations over one connection's moment; nothing outside the given scope is ever returned."""

    def __init__(self, tenant: str, names: Names, uses: Callable[[], Uses]) -> None:
        self._tenant = tenant
        self._names = names
        self._uses = uses

    @property
    def tenant(self) -> str:
        return self._tenant

    @property
    def names(self) -> Names:
        return self._names

    def owner(self, connection: sqlite3.Connection, scope: Scope, alias: str = "c") -> tuple[str, list[int]]:
        """A condition on cubes that `scope` admits, and its parameters. Names belong to one tenant, so they imply "
        "it.
        """
        if scope.tenant != self._tenant:
            return f"{alias}.tenant = ?", [UNKNOWN]
        user, agent, session = self._names.scope_rids(connection, scope)
        terms: list[str] = []
        values: list[int] = []
        # One index is named by what is most selective; a unary plus keeps SQLite from choosing another.
        for column, rid in (("session", session), ("user", user), ("agent", agent)):
            if rid:
                terms.append(f"{'+' if terms else ''}{alias}.{column} = ?")
                if column != "user" and len(terms) == 1:
                    terms.append(f"{alias}.{column} <> 0")  # implies the partial index's condition
                values.append(rid)
        if not terms:
            return f"{alias}.tenant = ?", [self._names.tenant(connection)]
        return " AND ".join(terms), values

    def heads(self, connection: sqlite3.Connection, cube_ids: Sequence[str], scope: Scope) -> dict[str, MemCube]:
        condition, values = self.owner(connection, scope)
        found: dict[str, MemCube] = {}
        for marks, piece in chunks(list(dict.fromkeys(cube_ids))):
            rows = connection.execute(
                f"SELECT {_CUBE} {_FROM_HEAD} WHERE {condition} AND c.id IN ({marks})", (*values, *piece)
            )
            found.update((row[0], self._cube(connection, row)) for row in rows.fetchall())
        return found

    def versions(
        self, connection: sqlite3.Connection, refs: Sequence[VersionRef], scope: Scope
    ) -> dict[VersionRef, MemCube]:
        condition, values = self.owner(connection, scope)
        found: dict[VersionRef, MemCube] = {}
        wanted = [(ref.cube_id, ref.version) for ref in dict.fromkeys(refs)]
        for _, piece in chunks(wanted):
            pairs = ",".join(["(?,?)"] * len(piece))
            rows = connection.execute(
                f"SELECT {_CUBE} {_FROM_VERSIONS} WHERE {condition} AND (c.id, v.n) IN (VALUES {pairs})",
                (*values, *(value for pair in piece for value in pair)),
            )
            found.update((VersionRef(row[0], row[10]), self._cube(connection, row)) for row in rows.fetchall())
        return found

    def history(self, connection: sqlite3.Connection, cube_id: str, scope: Scope) -> list[MemCube]:
        condition, values = self.owner(connection, scope)
        rows = connection.execute(
            f"SELECT {_CUBE} {_FROM_VERSIONS} WHERE {condition} AND c.id = ? ORDER BY v.n", (*values, cube_id)
        )
        return [self._cube(connection, row) for row in rows.fetchall()]

    def by_key(self, connection: sqlite3.Connection, scope: Scope, collection: str, key: str) -> MemCube | None:
        if scope.tenant != self._tenant or scope.is_everything:
            return None
        row = connection.execute(
            f"SELECT {_CUBE} {_FROM_HEAD} WHERE c.tenant = ? AND c.user = ? AND c.agent = ? AND c.session = ? "
            "AND c.collection = ? AND c.key = ?",
            (self._names.tenant(connection), *self._names.scope_rids(connection, scope), collection, key),
        ).fetchone()
        return None if row is None else self._cube(connection, row)

    def page(self, connection: sqlite3.Connection, query: ListQuery) -> list[MemCube]:
        condition, values = self.owner(connection, query.scope)
        states = ",".join(str(STATE_NUMBER[state]) for state in query.states)
        types = ",".join(str(TYPE_NUMBER[kind]) for kind in query.memory_types)
        parameters: list[object] = [*values]
        condition += f" AND c.state IN ({states}) AND v.memory_type IN ({types})"
        if query.collection is not None:
            condition += " AND c.collection = ?"
            parameters.append(query.collection)
        if not query.include_hidden:
            condition += " AND v.superseded_us IS NULL AND v.stale = 0"
            if query.now is not None:
                condition += " AND (v.expires_us IS NULL OR v.expires_us > ?)"
                parameters.append(to_microseconds(query.now))
        key = "c.created_us" if query.order == "created" else "v.event_us"
        if query.after is not None:
            condition += f" AND ({key}, c.id) {'<' if query.descending else '>'} (?, ?)"
            parameters.extend(query.after)
        way = "DESC" if query.descending else "ASC"
        rows = connection.execute(
            f"SELECT {_CUBE} {_FROM_HEAD} WHERE {condition} ORDER BY {key} {way}, c.id {way} LIMIT ?",
            (*parameters, query.limit),
        )
        return [self._cube(connection, row) for row in rows.fetchall()]

    def relations(
        self, connection: sqlite3.Connection, cube_ids: Sequence[str], scope: Scope, *, removed: bool
    ) -> list[RelationRecord]:
        origin, first = self.owner(connection, scope, "a")
        target, second = self.owner(connection, scope, "b")
        found: dict[int, RelationRecord] = {}
        still_open = "AND r.removed_us IS NULL"
        for marks, piece in chunks(list(dict.fromkeys(cube_ids))):
            for end in ("a", "b"):
                rows = connection.execute(
                    "SELECT r.rid, a.id, r.kind, b.id, r.properties, x.id, r.recorded_us, r.removed_us FROM cube a "
                    "JOIN relation r ON r.source = a.rid JOIN cube b ON b.rid = r.target JOIN activity x ON x.rid = "
                    "r.activity "
                    f"WHERE {origin} AND {target} AND {end}.id IN ({marks}) {'' if removed else still_open}",
                    (*first, *second, *piece),
                )
                for rid, source_id, kind, target_id, properties, activity_id, recorded, ended in rows.fetchall():
                    found[rid] = RelationRecord(
                        relation=_relation(source_id, kind, target_id, properties),
                        activity_id=activity_id,
                        recorded_at=from_microseconds(recorded),
                        removed_at=None if ended is None else from_microseconds(ended),
                    )
        return sorted(found.values(), key=_relation_order)

    def metadata(self, connection: sqlite3.Connection, versions: Sequence[int]) -> list[Mapping[str, JSON]]:
        """The metadata of versions by rowid, in that order; empty for what was erased meanwhile."""
        found: dict[int, Mapping[str, JSON]] = {}
        for marks, piece in chunks(list(versions)):
            rows = connection.execute(
                f"SELECT rid, json_extract(body, '$.metadata') FROM version WHERE rid IN ({marks}) AND body IS NOT "
                "NULL",
                piece,
            )
            found.update((rid, json.loads(text)) for rid, text in rows.fetchall())
        return [found.get(rid, {}) for rid in versions]

    def log(self, connection: sqlite3.Connection, query: LogQuery) -> list[LogEntry]:
        owner, values = self.owner(connection, query.scope)
        tenant = self._names.tenant(connection) if query.scope.tenant == self._tenant else UNKNOWN
        condition, parameters = "x.tenant = ? AND x.seq IS NOT NULL", [tenant]
        for text, moment in (("x.at_us >= ?", query.since), ("x.at_us < ?", query.until)):
            if moment is not None:
                condition += f" AND {text}"
                parameters.append(to_microseconds(moment))
        more: list[object] = []
        if query.activity_id is not None:
            condition += " AND x.id = ?"
            more.append(query.activity_id)
        everything = query.scope.is_everything
        touching = f"SELECT t.activity FROM cube c JOIN touched t ON t.cube = c.rid WHERE {owner}"
        if query.cube_id is not None:
            condition += f" AND x.rid IN ({touching} AND c.id = ?)"
            more.extend((*values, query.cube_id))
        elif not everything:
            condition += f" AND x.rid IN ({touching})"
            more.extend(values)
        rows = connection.execute(
            "SELECT x.rid, x.id, x.kind, x.agent_id, x.agent_kind, x.agent_name, x.at_us, x.parameters, x.seq, x.chain "
            f"FROM activity x WHERE {condition} ORDER BY x.rid DESC LIMIT ?",
            (*parameters, *more, query.limit),
        ).fetchall()
        return [self._entry(connection, row, query.scope) for row in rows]

    def effects(self, connection: sqlite3.Connection, activity_id: str, scope: Scope) -> Effects | None:
        """None unless `scope` admits everything that the commit touched."""
        tenant = self._names.tenant(connection) if scope.tenant == self._tenant else UNKNOWN
        row = connection.execute(
            "SELECT rid, kind, effects FROM activity WHERE tenant = ? AND id = ? AND seq IS NOT NULL",
            (tenant, activity_id),
        ).fetchone()
        if row is None:
            return None
        rid, kind, packed = row
        seen, hidden = self._touched(connection, rid, scope)
        if hidden or (not seen and not scope.is_everything):
            return None
        changed = json.loads(packed)
        relation = (
            "SELECT a.id, r.kind, b.id, r.properties FROM relation r "
            "JOIN cube a ON a.rid = r.source JOIN cube b ON b.rid = r.target "
        )
        opened = connection.execute(relation + "WHERE a.tenant = ? AND r.activity = ?", (tenant, rid))
        closed = connection.execute(relation + "WHERE a.tenant = ? AND r.removed_by = ?", (tenant, rid))
        return Effects(
            activity_id=activity_id,
            kind=kind,
            writes=tuple(
                (VersionRef(cube_id, number), replaced) for cube_id, number, replaced in changed.get("writes", ())
            ),
            transitions=tuple(
                (cube_id, MemoryState(before), was_frozen, MemoryState(after), is_frozen)
                for cube_id, before, was_frozen, after, is_frozen in changed.get("transitions", ())
            ),
            invalidated=tuple(VersionRef(*pair) for pair in changed.get("invalidated", ())),
            lifted=tuple(VersionRef(*pair) for pair in changed.get("lifted", ())),
            related=_relations(opened),
            unrelated=_relations(closed),
            erased=tuple(sorted(changed.get("erased", ()))),
        )

    def tombstones(self, connection: sqlite3.Connection, activity_id: str) -> list[Tombstone]:
        row = connection.execute(
            "SELECT rid, effects FROM activity WHERE tenant = ? AND id = ? AND seq IS NOT NULL",
            (self._names.tenant(connection), activity_id),
        ).fetchone()
        if row is None:
            return []
        derived = {VersionRef(*pair) for pair in json.loads(row[1]).get("derived", ())}
        rows = connection.execute(
            "SELECT c.id, v.n, v.hash FROM touched t JOIN cube c ON c.rid = t.cube JOIN version v ON v.cube = c.rid "
            "WHERE t.activity = ? AND v.ended_by = ? AND v.body IS NULL",
            (row[0], row[0]),
        )
        stones = (
            Tombstone(ref=ref, content_hash=digest.hex(), is_derived=ref in derived)
            for ref, digest in ((VersionRef(cube_id, number), digest) for cube_id, number, digest in rows.fetchall())
        )
        return sorted(stones, key=lambda stone: stone.ref)

    def _entry(self, connection: sqlite3.Connection, values: tuple[object, ...], scope: Scope) -> LogEntry:
        row = _LogRow(*values)  # type: ignore[arg-type]  # typed by the STRICT schema
        seen, hidden = self._touched(connection, row.rid, scope)
        everything = scope.is_everything
        return LogEntry(
            activity_id=row.id,
            kind=row.kind,
            agent=Agent(id=row.agent_id, kind=row.agent_kind, name=row.agent_name),
            at=from_microseconds(row.at_us),
            parameters=json.loads(row.parameters) if everything or not hidden else {},
            cubes=tuple(seen),
            seq=row.seq if everything else None,
            chain=row.chain.hex() if everything else None,
        )

    def _touched(self, connection: sqlite3.Connection, activity: int, scope: Scope) -> tuple[list[str], bool]:
        """Ids of the touched cubes that `scope` admits, sorted, and whether there are others."""
        owner, values = self.owner(connection, scope)
        rows = connection.execute(
            f"SELECT c.id, {owner} FROM touched t JOIN cube c ON c.rid = t.cube WHERE t.activity = ? ORDER BY c.id",
            (*values, activity),
        ).fetchall()
        return [row[0] for row in rows if row[1]], any(not row[1] for row in rows)

    def _cube(self, connection: sqlite3.Connection, values: tuple[object, ...]) -> MemCube:
        row = _CubeRow(*values)  # type: ignore[arg-type]  # typed by the STRICT schema
        count, last = row.uses or 0, row.last_us
        pending = None if row.body is None else self._uses().get(row.id)
        if pending is not None:
            count, last = count + pending[0], max(pending[1], last or pending[1])
        return MemCube(
            id=row.id,
            version=row.number,
            scope=self._names.scope(connection, row.user, row.agent, row.session),
            state=STATES[row.state],
            frozen=bool(row.frozen),
            behavioural=Behavioural(
                use_count=count,
                last_used_at=None if last is None else from_microseconds(last),
                version_chain=tuple(range(1, row.newest + 1)),
            ),
            created_at=from_microseconds(row.created_us),
            recorded_at=from_microseconds(row.recorded_us),
            superseded_at=None if row.superseded_us is None else from_microseconds(row.superseded_us),
            is_stale=bool(row.stale),
            **(unpack_body(json.loads(row.body)) if row.body is not None else empty_body(TYPES[row.memory_type])),
        )


class _CubeRow(NamedTuple):
    """The columns of `_CUBE`."""

    id: str
    user: int
    agent: int
    session: int
    state: int
    frozen: int
    created_us: int
    newest: int
    uses: int | None
    last_us: int | None
    number: int
    recorded_us: int
    superseded_us: int | None
    stale: int
    body: str | None
    memory_type: int


class _LogRow(NamedTuple):
    """The columns that `Reader.log` asks for."""

    rid: int
    id: str
    kind: str
    agent_id: str
    agent_kind: AgentKind
    agent_name: str | None
    at_us: int
    parameters: str
    seq: int
    chain: bytes


def _relation(source_id: str, kind: str, target_id: str, properties: str) -> Relation:
    return Relation(
        source_id=source_id, kind=RelationKind(kind), target_id=target_id, properties=json.loads(properties)
    )


def _relations(rows: Iterable[tuple[str, str, str, str]]) -> tuple[Relation, ...]:
    found = (_relation(*row) for row in rows)
    return tuple(sorted(found, key=lambda relation: (relation.source_id, relation.kind, relation.target_id)))


def _relation_order(record: RelationRecord) -> tuple[datetime, str, str, str]:
    relation = record.relation
    return record.recorded_at, relation.source_id, relation.kind, relation.target_id
