"""What a `MemoryVault` answers: cubes, lists, relations, the log, counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import TypeAlias

from memos_agents.cube.memcube import MemCube
from memos_agents.cube.moment import to_microseconds
from memos_agents.cube.scope import Scope
from memos_agents.errors import NotFound
from memos_agents.infrastructure.vault.base import (
    Effects,
    ListQuery,
    LogEntry,
    LogQuery,
    RelationRecord,
    Space,
    VaultStats,
)
from memos_agents.infrastructure.vault.memory.tables import ActivityRow, CubeRow, Tables

Position: TypeAlias = tuple[int, str]


def list_cubes(tables: Tables, query: ListQuery) -> list[MemCube]:
    """The page after `query.after`."""
    rows = [(_position(cube, query), cube) for cube in tables.cubes.values() if _is_listed(cube, query)]
    rows.sort(key=lambda row: row[0], reverse=query.descending)
    after = query.after
    if after is not None:
        rows = [row for row in rows if (row[0] < after if query.descending else row[0] > after)]
    return [cube.value() for _, cube in rows[: query.limit]]


def _position(cube: CubeRow, query: ListQuery) -> Position:
    return to_microseconds(cube.created_at if query.order == "created" else cube.head.happened_at), cube.id


def _is_listed(cube: CubeRow, query: ListQuery) -> bool:
    head = cube.head
    is_hidden = head.superseded_at is not None or head.is_stale or (query.now is not None and head.has_ended(query.now))
    return (
        query.scope.admits(cube.scope)
        and (query.include_hidden or not is_hidden)
        and cube.state in query.states
        and head.memory_type in query.memory_types
        and query.collection in {None, head.descriptive.collection}
    )


def relations_of(tables: Tables, cube_ids: Sequence[str], scope: Scope, *, removed: bool) -> list[RelationRecord]:
    """Relations with both ends in `scope`, oldest first."""
    rows = {id(row): row for cube_id in cube_ids for row in tables.relations_at.get(cube_id, ())}
    shown = [
        RelationRecord(
            relation=row.value(), activity_id=row.activity_id, recorded_at=row.recorded_at, removed_at=row.removed_at
        )
        for row in rows.values()
        if (removed or row.removed_at is None) and tables.admits_all(row.ends, scope)
    ]
    return sorted(shown, key=_age)


def _age(record: RelationRecord) -> tuple[datetime, str, str, str]:
    relation = record.relation
    return record.recorded_at, relation.source_id, relation.kind.value, relation.target_id


def read_log(tables: Tables, query: LogQuery) -> list[LogEntry]:
    """Entries that touched something in the scope, newest first."""
    found: list[LogEntry] = []
    for row in reversed(tables.log):
        if len(found) >= query.limit:
            break
        if _is_shown(tables, row, query.scope) and _is_asked_for(tables, row, query):
            found.append(_entry(tables, row, query.scope))
    return found


def _is_shown(tables: Tables, row: ActivityRow, scope: Scope) -> bool:
    return tables.is_whole(scope) or any(tables.admitted(cube_id, scope) for cube_id in row.touched)


def _is_asked_for(tables: Tables, row: ActivityRow, query: LogQuery) -> bool:
    return (
        (query.since is None or query.since <= row.at)
        and (query.until is None or row.at < query.until)
        and query.activity_id in {None, row.activity.id}
        and (
            query.cube_id is None
            or (query.cube_id in row.touched and tables.admitted(query.cube_id, query.scope) is not None)
        )
    )


def _entry(tables: Tables, row: ActivityRow, scope: Scope) -> LogEntry:
    is_whole = tables.is_whole(scope)
    activity = row.value(is_whole=is_whole or tables.admits_all(row.touched, scope))
    return LogEntry(
        activity_id=activity.id,
        kind=activity.kind,
        agent=activity.agent,
        at=row.at,
        parameters=activity.parameters,
        cubes=tuple(sorted(cube_id for cube_id in row.touched if tables.admitted(cube_id, scope))),
        seq=row.seq if is_whole else None,
        chain=row.chain.hex() if is_whole else None,
    )


def read_effects(tables: Tables, activity_id: str, scope: Scope) -> Effects:
    """What one commit changed, if the scope may see all of it."""
    row = tables.activities.get(activity_id)
    if row is None or row.seq is None or not (_is_shown(tables, row, scope) and tables.admits_all(row.touched, scope)):
        raise NotFound(f"there is no activity {activity_id!r}", activity_id=activity_id)
    return replace(
        row.effects,
        related=tuple(relation.value() for relation in tables.opened_by(activity_id)),
        unrelated=tuple(relation.value() for relation in tables.closed_by(activity_id)),
    )


def count(tables: Tables, scope: Scope, blob_bytes: int) -> VaultStats:
    """Counts over the scope."""
    shown = [cube for cube in tables.cubes.values() if scope.admits(cube.scope)]
    living = [cube for cube in shown if not cube.is_erased]
    is_whole = tables.is_whole(scope)
    return VaultStats(
        cubes=len(living),
        versions=sum(len(cube.versions) for cube in living),
        by_state=dict(Counter(cube.state.value for cube in shown)),
        by_type=dict(Counter(cube.head.memory_type.value for cube in living)),
        relations=sum(tables.admits_all(row.ends, scope) for row in tables.open_relations.values()),
        stale=sum(cube.head.is_stale for cube in living),
        uses=sum(cube.use_count for cube in living),
        commits=len(tables.log) if is_whole else None,
        size_bytes=sum(len((row.body or "").encode()) for _, row in tables.living_versions()) if is_whole else None,
        blob_bytes=blob_bytes if is_whole else None,
        spaces=tuple(list_spaces(tables)),
        pending_scrubs=int(bool(tables.doomed_blobs)) if is_whole else 0,
    )


def list_spaces(tables: Tables) -> list[Space]:
    """The default one first."""
    return sorted(tables.spaces.values(), key=lambda space: (not space.is_default, space.fingerprint))
