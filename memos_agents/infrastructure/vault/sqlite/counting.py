"""Counting what a scope holds."""

from __future__ import annotations

import sqlite3

from memos_agents.cube.scope import Scope
from memos_agents.cube.state import MemoryState
from memos_agents.infrastructure.vault.base import VaultStats
from memos_agents.infrastructure.vault.sqlite import spaces
from memos_agents.infrastructure.vault.sqlite.reading import Reader
from memos_agents.infrastructure.vault.sqlite.schema import STATE_NUMBER, STATES, TYPES

_ERASED = STATE_NUMBER[MemoryState.ERASED]


def count(
    connection: sqlite3.Connection, reader: Reader, scope: Scope, size_bytes: int, blob_bytes: int | None
) -> VaultStats:
    """Counts over the scope; sizes only for the whole tenant. Reads every row of the scope."""
    is_whole = scope.is_everything and scope.tenant == reader.tenant
    owner, values = reader.owner(connection, scope)
    states = connection.execute(f"SELECT c.state, count(*) FROM cube c WHERE {owner} GROUP BY c.state", values)
    by_state = {STATES[state].value: count for state, count in states}
    living = f"{owner} AND c.state <> {_ERASED}"
    types = connection.execute(
        f"SELECT v.memory_type, count(*) FROM cube c JOIN version v ON v.rid = c.head WHERE {living} GROUP BY "
        "v.memory_type",
        values,
    )
    by_type = {TYPES[kind].value: count for kind, count in types}
    cubes, versions, stale, uses = connection.execute(
        "SELECT count(*), coalesce(sum(c.version), 0), coalesce(sum(v.stale), 0), coalesce(sum(u.count), 0) FROM "
        "cube c "
        f"JOIN version v ON v.rid = c.head LEFT JOIN usage u ON u.cube = c.rid WHERE {living}",
        values,
    ).fetchone()
    target, more = reader.owner(connection, scope, "b")
    (relations,) = connection.execute(
        "SELECT count(*) FROM relation r JOIN cube c ON c.rid = r.source JOIN cube b ON b.rid = r.target "
        f"WHERE r.removed_us IS NULL AND {owner} AND {target}",
        (*values, *more),
    ).fetchone()
    tail = connection.execute(
        "SELECT seq, erased_seq > scrubbed_seq FROM tenant WHERE rid=?", (reader.names.tenant(connection),)
    ).fetchone() or (0, 0)
    return VaultStats(
        cubes=cubes,
        versions=versions,
        by_state=by_state,
        by_type=by_type,
        relations=relations,
        stale=stale,
        uses=uses,
        commits=tail[0] if is_whole else None,
        size_bytes=size_bytes if is_whole else None,
        blob_bytes=blob_bytes if is_whole else None,
        spaces=tuple(spaces.known(connection, reader.names)),
        pending_scrubs=tail[1] if is_whole else 0,
    )
