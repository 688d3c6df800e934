"""What follows when a version ends: descendants become stale, and erasure takes whatever was derived."""

from __future__ import annotations

import sqlite3

from memos_agents.cube.state import MemoryState
from memos_agents.infrastructure.vault.sqlite.engine import chunks
from memos_agents.infrastructure.vault.sqlite.schema import STATE_NUMBER

_ERASED = STATE_NUMBER[MemoryState.ERASED]


def mark_descendants(connection: sqlite3.Connection, rids: list[int]) -> list[int]:
    """Mark everything derived from these versions, at any distance; return those newly marked.

    One statement whatever the number of descendants (100,000: about a second).
    """
    marked: list[int] = []
    for marks, piece in chunks(rids):
        rows = connection.execute(
            "UPDATE version SET stale = 1 WHERE stale = 0 AND body IS NOT NULL AND rid IN (WITH RECURSIVE below(rid) "
            "AS ("
            f"SELECT derived FROM derivation WHERE source IN ({marks}) "
            "UNION SELECT derived FROM derivation JOIN below ON source = below.rid) SELECT rid FROM below) RETURNING "
            "rid",
            piece,
        )
        marked.extend(row[0] for row in rows.fetchall())
    return marked


def mark_born_stale(connection: sqlite3.Connection, rids: list[int]) -> list[int]:
    """Mark those of these versions, sources first, that come from something that has ended or is stale."""
    marked: list[int] = []
    for rid in sorted(set(rids)):
        rows = connection.execute(
            "UPDATE version SET stale = 1 WHERE rid = ? AND stale = 0 AND EXISTS (SELECT 1 FROM derivation d "
            "JOIN version s ON s.rid = d.source WHERE d.derived = version.rid AND (s.superseded_us IS NOT NULL OR "
            "s.stale)) RETURNING rid",
            (rid,),
        )
        marked.extend(row[0] for row in rows.fetchall())
    return marked


def recompute_descendants(connection: sqlite3.Connection, rids: list[int]) -> set[int]:
    """Judge everything derived from these versions anew, after one of them is believed again; return what is fresh."""
    connection.execute("CREATE TEMP TABLE IF NOT EXISTS below(rid INTEGER PRIMARY KEY)")
    connection.execute("DELETE FROM temp.below")
    for marks, piece in chunks(rids):
        connection.execute(
            "INSERT OR IGNORE INTO temp.below WITH RECURSIVE below(rid) AS ("
            f"SELECT derived FROM derivation WHERE source IN ({marks}) "
            "UNION SELECT derived FROM derivation JOIN below ON source = below.rid) SELECT rid FROM below",
            piece,
        )
    connection.execute("UPDATE version SET stale = 0 WHERE rid IN (SELECT rid FROM temp.below)")
    fresh = "SELECT b.rid FROM temp.below b JOIN version v ON v.rid = b.rid WHERE v.stale = 0"
    while True:  # each round marks what comes from something ended or marked, until nothing changes
        changed = connection.execute(
            "UPDATE version SET stale = 1 WHERE stale = 0 AND body IS NOT NULL AND rid IN (SELECT b.rid FROM "
            "temp.below b "
            "JOIN derivation d ON d.derived = b.rid JOIN version s ON s.rid = d.source "
            "WHERE s.superseded_us IS NOT NULL OR s.stale = 1)"
        ).rowcount
        if not changed:
            break
    found = {row[0] for row in connection.execute(fresh)}
    connection.execute("DELETE FROM temp.below")
    return found


def cubes_derived_from(connection: sqlite3.Connection, rids: list[int]) -> list[int]:
    """These cubes and every cube of which any version derives from any of theirs, without those already erased."""
    found: dict[int, None] = {}
    for marks, piece in chunks(rids):
        rows = connection.execute(
            f"WITH RECURSIVE doomed(cube) AS (SELECT rid FROM cube WHERE rid IN ({marks}) UNION "
            "SELECT result.cube FROM doomed JOIN version origin ON origin.cube = doomed.cube "
            "JOIN derivation d ON d.source = origin.rid JOIN version result ON result.rid = d.derived) "
            "SELECT doomed.cube FROM doomed JOIN cube c ON c.rid = doomed.cube WHERE c.state <> ?",
            (*piece, _ERASED),
        )
        found.update((row[0], None) for row in rows)
    return list(found)


def erase_content(
    connection: sqlite3.Connection, cubes: list[int], versions: list[int], *, at_us: int, activity: int, collection: str
) -> None:
    """Remove everything but ids, hashes and times; bytes stay on the medium until `scrub`."""
    for marks, piece in chunks(cubes):
        connection.execute(
            f"UPDATE cube SET state=?, key=NULL, collection=?, readers='', hash=0 WHERE rid IN ({marks})",
            (_ERASED, collection, *piece),
        )
        connection.execute(f"DELETE FROM usage WHERE cube IN ({marks})", piece)
        for end in ("source", "target"):
            connection.execute(
                "UPDATE relation SET properties='{}', removed_by=iif(removed_us IS NULL, ?, removed_by), "
                f"removed_us=coalesce(removed_us, ?) WHERE {end} IN ({marks})",
                (activity, at_us, *piece),
            )
    for marks, piece in chunks(versions):
        connection.execute(
            "INSERT OR IGNORE INTO doomed_blob SELECT DISTINCT gone.sha256 FROM blob gone "
            f"WHERE gone.version IN ({marks})",
            piece,
        )
        connection.execute(f"DELETE FROM blob WHERE version IN ({marks})", piece)
        connection.execute(f"DELETE FROM terms WHERE rowid IN ({marks})", piece)
        connection.execute(f"DELETE FROM vector WHERE version IN ({marks}) AND space IN (SELECT rid FROM space)", piece)
        connection.execute(
            "UPDATE version SET body=NULL, stale=0, superseded_us=coalesce(superseded_us, ?), ended_by=?, "
            "event_us=recorded_us, "
            "valid_from_us=NULL, valid_to_us=NULL, expires_us=NULL, collection=?, speaker=NULL, flags=0, length=0 "
            f"WHERE rid IN ({marks})",
            (at_us, activity, collection, *piece),
        )
        connection.execute(
            "UPDATE source SET locator='', sha256=NULL WHERE rid IN (SELECT e.source FROM evidence e "
            f"WHERE e.derived IN ({marks})) AND NOT EXISTS (SELECT 1 FROM evidence other JOIN version v "
            "ON v.rid = other.derived WHERE other.source = source.rid AND v.body IS NOT NULL)",
            piece,
        )
