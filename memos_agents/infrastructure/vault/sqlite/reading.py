"""Reading: rows to cubes, lists, the log, and what a commit changed."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple, TypeAlias

from memos_agents.cube.canonical import JSON
from memos_agents.cube.memcube import MemCube, VersionRef, empty_body, unpack_body
from memos_agents.cube.metadata import Behavioural
from memos_agents.cube.moment import from_microseconds, to_microseconds
from memos_agents.cube.scope import Scope
from memos_agents.infrastructure.provenance.values import Relation, RelationKind
from memos_agents.infrastructure.vault.base import ListQuery, RelationRecord
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

    def owner_by_id(self, connection: sqlite3.Connection, scope: Scope, alias: str = "c") -> tuple[str, list[int]]:
        """As `owner`, for questions by id: those have an index of their own, so that the size of a scope costs nothing.

        A unary plus keeps SQLite from walking through everything of a user instead.
        """
        if scope.tenant != self._tenant:
            return f"{alias}.tenant = ?", [UNKNOWN]
        owners = zip(("user", "agent", "session"), self._names.scope_rids(connection, scope), strict=True)
        bound = [(column, rid) for column, rid in owners if rid]
        condition = "".join(f" AND +{alias}.{column} = ?" for column, _ in bound)
        return f"{alias}.tenant = ?{condition}", [self._names.tenant(connection), *(rid for _, rid in bound)]

    def heads(self, connection: sqlite3.Connection, cube_ids: Sequence[str], scope: Scope) -> dict[str, MemCube]:
        condition, values = self.owner_by_id(connection, scope)
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
        condition, values = self.owner_by_id(connection, scope)
        found: dict[VersionRef, MemCube] = {}
        wanted = [(ref.cube_id, ref.version) for ref in dict.fromkeys(refs)]
        for _, piece in chunks(wanted):
            pairs, marks = ",".join(["(?,?)"] * len(piece)), ",".join("?" * len(piece))
            rows = connection.execute(
                f"SELECT {_CUBE} {_FROM_VERSIONS} WHERE {condition} AND c.id IN ({marks}) "
                f"AND (c.id, v.n) IN (VALUES {pairs})",
                (*values, *(pair[0] for pair in piece), *(value for pair in piece for value in pair)),
            )
            found.update((VersionRef(row[0], row[10]), self._cube(connection, row)) for row in rows.fetchall())
        return found

    def history(self, connection: sqlite3.Connection, cube_id: str, scope: Scope) -> list[MemCube]:
        condition, values = self.owner_by_id(connection, scope)
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
                        relation=relation_of(source_id, kind, target_id, properties),
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


def relation_of(source_id: str, kind: str, target_id: str, properties: str) -> Relation:
    """A relation as its row says it."""
    return Relation(
        source_id=source_id, kind=RelationKind(kind), target_id=target_id, properties=json.loads(properties)
    )


def _relation_order(record: RelationRecord) -> tuple[datetime, str, str, str]:
    relation = record.relation
    return record.recorded_at, relation.source_id, relation.kind, relation.target_id
