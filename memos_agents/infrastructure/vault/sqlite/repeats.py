"""Commits with a key: what the first one gave is kept, and given again."""

from __future__ import annotations

import json
import sqlite3

from memos_agents.cube.canonical import canonical_json
from memos_agents.cube.memcube import VersionRef
from memos_agents.cube.moment import from_microseconds
from memos_agents.infrastructure.vault.commit import CommitResult, Tombstone, WriteOutcome


def first_result(connection: sqlite3.Connection, tenant: int, key: str) -> CommitResult | None:
    """What the commit with this key gave, if there was one."""
    row = connection.execute(
        "SELECT id, seq, at_us, result FROM activity WHERE tenant=? AND key=?", (tenant, key)
    ).fetchone()
    if row is None:
        return None
    stored = json.loads(row[3])
    return CommitResult(
        seq=row[1],
        at=from_microseconds(row[2]),
        activity_id=row[0],
        outcomes=tuple(
            WriteOutcome(VersionRef(cube_id, number), is_duplicate)
            for cube_id, number, is_duplicate in stored["outcomes"]
        ),
        erased=tuple(
            Tombstone(ref=VersionRef(cube_id, number), content_hash=digest, is_derived=is_derived)
            for cube_id, number, digest, is_derived in stored["erased"]
        ),
        stale=stored["stale"],
        is_repeated=True,
    )


def packed(result: CommitResult) -> str:
    """The result as the log keeps it."""
    return canonical_json(
        {
            "outcomes": [[*outcome.ref, outcome.is_duplicate] for outcome in result.outcomes],
            "erased": [[*stone.ref, stone.content_hash, stone.is_derived] for stone in result.erased],
            "stale": result.stale,
        }
    )
