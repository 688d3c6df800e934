"""Copying a store while it is in use."""

from __future__ import annotations

import os
import secrets
import sqlite3
from pathlib import Path

from memos_agents.errors import BackendUnavailable
from memos_agents.infrastructure.vault.sqlite.engine import translate


def copy_to(connection: sqlite3.Connection, path: Path) -> None:
    """Write what the connection's read transaction sees to a new file, which is there whole or not at all.

    Writers go on meanwhile. Readable by the owner only, as the store is. `BackendUnavailable` where there is no room.
    """
    staged = path.with_name(f".{path.name[:40]}.{secrets.token_hex(8)}.partial")
    try:
        staged.touch(mode=0o600, exist_ok=False)
        target = sqlite3.connect(staged)
        try:
            connection.backup(target)
            target.execute("PRAGMA journal_mode=WAL")
        finally:
            target.close()
        staged.replace(path)
        if os.name == "posix":
            folder = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
    except sqlite3.Error as error:
        raise translate(error, path) from error
    except OSError as error:
        raise BackendUnavailable(f"{str(path)!r} could not be written: {error.strerror}") from error
    finally:
        for leftover in (staged, Path(f"{staged}-journal"), Path(f"{staged}-wal"), Path(f"{staged}-shm")):
            leftover.unlink(missing_ok=True)
