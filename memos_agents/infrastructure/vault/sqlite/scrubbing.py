"""Scrubbing: erased bytes leave the file, its log and the blob folder."""

from __future__ import annotations

import sqlite3

from memos_agents.infrastructure.vault.blobs import BlobStore, FolderBlobs

ABANDONED_SECONDS = 24 * 3600.0
CHECKPOINT_MILLISECONDS = 1_000


def delete_doomed_blobs(connection: sqlite3.Connection, blobs: BlobStore) -> None:
    """Delete the payloads that nothing names any more, or never did for a day. Not inside a transaction.

    It is done in a transaction of its own, so that nobody can name them anew meanwhile; and never in the one that
    erases, because a crash before its commit would bring the cubes back without their payloads.
    """
    if isinstance(blobs, FolderBlobs):  # put, and never named: the process died before its commit
        left = [(name,) for name in blobs.untouched_for(ABANDONED_SECONDS)]
        connection.executemany(
            "INSERT OR IGNORE INTO doomed_blob SELECT ?1 WHERE NOT EXISTS (SELECT 1 FROM blob WHERE sha256 = ?1)", left
        )
    if not connection.execute("SELECT count(*) FROM doomed_blob").fetchone()[0]:
        return
    connection.execute("PRAGMA wal_checkpoint(PASSIVE)")  # syncs the log: with relaxed durability no commit has
    try:
        connection.execute("BEGIN IMMEDIATE")
        rows = connection.execute(
            "SELECT sha256 FROM doomed_blob WHERE NOT EXISTS (SELECT 1 FROM blob b WHERE b.sha256 = doomed_blob.sha256)"
        )
        blobs.delete([row[0] for row in rows.fetchall()])
        connection.execute("DELETE FROM doomed_blob")
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def scrub(connection: sqlite3.Connection) -> bool:
    """Rewrite what held erased bytes; False while another process still reads an older state of the file.

    `secure_delete` zeroes a deleted row where it lay, but not the copies that page splits and moves left in free space,
    and FTS5 keeps a deleted row's terms in its segments until they are merged. So: merge the segments, rewrite the file
    (`VACUUM`), empty the log. Costs about 2 s for 100,000 memories, whatever was erased; one run serves every erasure
    so far. A crash in between changes nothing: the next call starts again.
    """
    pending = connection.execute("SELECT rid, erased_seq FROM tenant WHERE erased_seq > scrubbed_seq").fetchall()
    if not pending:
        return True
    if not _empty_log(connection):  # somebody reads: rewriting the file would be for nothing
        return False
    connection.execute("DELETE FROM vector WHERE space NOT IN (SELECT rid FROM space)")
    connection.execute("INSERT INTO terms(terms) VALUES('optimize')")
    connection.execute("VACUUM")
    if not _empty_log(connection):
        return False
    connection.executemany(
        "UPDATE tenant SET scrubbed_seq=max(scrubbed_seq, ?) WHERE rid=?", [(seq, rid) for rid, seq in pending]
    )
    return True


def _empty_log(connection: sqlite3.Connection) -> bool:
    """Copy the log into the file and cut it to nothing; False, after a second, while somebody reads an old state."""
    (patience,) = connection.execute("PRAGMA busy_timeout").fetchone()
    connection.execute(f"PRAGMA busy_timeout={CHECKPOINT_MILLISECONDS}")
    try:
        busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    finally:
        connection.execute(f"PRAGMA busy_timeout={patience}")
    return not busy


def is_scrubbed(connection: sqlite3.Connection, tenant: int, seq: int) -> bool:
    """Whether everything erased up to log position `seq` is physically gone."""
    row = connection.execute("SELECT seq, erased_seq, scrubbed_seq FROM tenant WHERE rid=?", (tenant,)).fetchone()
    if row is None or seq > row[0]:
        return False
    return bool(row[2] >= min(seq, row[1]))
