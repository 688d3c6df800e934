"""The journal: who did what and when, what a commit changed, what an erasure left."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from typing import NamedTuple

from memos_agents.cube.memcube import VersionRef
from memos_agents.cube.moment import from_microseconds, to_microseconds
from memos_agents.cube.scope import Scope
from memos_agents.cube.state import MemoryState
from memos_agents.infrastructure.provenance.values import Agent, AgentKind, Relation
from memos_agents.infrastructure.vault.base import Effects, LogEntry, LogQuery
from memos_agents.infrastructure.vault.commit import Tombstone
from memos_agents.infrastructure.vault.sqlite.names import UNKNOWN
from memos_agents.infrastructure.vault.sqlite.reading import Reader, relation_of


class Journal:
    """Reads the log over one connection's moment; nothing outside the given scope is ever returned."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def log(self, connection: sqlite3.Connection, query: LogQuery) -> list[LogEntry]:
        owner, values = self._reader.owner(connection, query.scope)
        tenant = self._reader.names.tenant(connection) if query.scope.tenant == self._reader.tenant else UNKNOWN
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
        tenant = self._reader.names.tenant(connection) if scope.tenant == self._reader.tenant else UNKNOWN
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
            (self._reader.names.tenant(connection), activity_id),
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
        owner, values = self._reader.owner(connection, scope)
        rows = connection.execute(
            f"SELECT c.id, {owner} FROM touched t JOIN cube c ON c.rid = t.cube WHERE t.activity = ? ORDER BY c.id",
            (*values, activity),
        ).fetchall()
        return [row[0] for row in rows if row[1]], any(not row[1] for row in rows)


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


def _relations(rows: Iterable[tuple[str, str, str, str]]) -> tuple[Relation, ...]:
    found = (relation_of(*row) for row in rows)
    return tuple(sorted(found, key=lambda relation: (relation.source_id, relation.kind, relation.target_id)))
