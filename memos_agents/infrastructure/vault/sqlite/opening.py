"""Opening the file: refuses what cannot be a safe store, before anything is written to it."""

from __future__ import annotations

import os
import re
import sqlite3
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal, TypeAlias

from memos_agents.errors import BackendUnavailable, InvalidRequest
from memos_agents.infrastructure.vault.sqlite.schema import APPLICATION_ID, MIGRATIONS, migrate
from memos_agents.infrastructure.vault.sqlite.terms import bring_index_up_to_date, is_indexed_now

Durability: TypeAlias = Literal["full", "relaxed"]

BUSY_SECONDS = 10.0
NETWORK_FILE_SYSTEMS = frozenset(
    "9p afs afpfs beegfs ceph cifs coda davfs fuse.blobfuse fuse.blobfuse2 fuse.ceph fuse.davfs fuse.gcsfuse "
    "fuse.glusterfs fuse.juicefs fuse.rclone fuse.s3fs fuse.sshfs gfs gfs2 glusterfs gpfs lustre ncpfs nfs nfs4 ocfs2 "
    "panfs smb3 smbfs vboxsf webdav".split()
)
MOUNTS = Path("/proc/self/mounts")
_NO_ROOM = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE, sqlite3.SQLITE_IOERR_WRITE)
_octal = re.compile(r"\\([0-7]{3})")


def open_connection(path: Path, *, durability: Durability, readonly: bool) -> sqlite3.Connection:
    """Connect to a store that exists (see `prepare`)."""
    mode = "ro" if readonly else "rw"
    if readonly and _is_on_readonly_medium(path):
        mode = "ro&immutable=1"  # SQLite cannot make its shared index there, and nobody can write meanwhile
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        isolation_level=None,
        timeout=BUSY_SECONDS,
        check_same_thread=False,
        cached_statements=512,
    )
    try:
        for pragma in (
            f"synchronous={'FULL' if durability == 'full' else 'NORMAL'}",
            "foreign_keys=ON",
            "secure_delete=ON",
            "cache_size=-32768",
            "mmap_size=268435456",
            "temp_store=MEMORY",
            "trusted_schema=OFF",
            "wal_autocheckpoint=8000",  # 32 MB of log: pages written again and again are copied back once
            "journal_size_limit=67108864",
        ):
            connection.execute(f"PRAGMA {pragma}")
        if readonly:
            connection.execute("PRAGMA query_only=ON")
    except BaseException:
        connection.close()
        raise
    return connection


def prepare(path: Path, *, durability: Durability, readonly: bool, mounts: Path = MOUNTS) -> None:
    """Check the file, make it if it is new, and bring its schema up to date.

    Raises `InvalidRequest` for a file that is not ours or was written by a newer release, and `BackendUnavailable`
    for a network file system (as `mounts` tells), a missing folder, or a file or folder that cannot be written (unless
    `readonly`).
    """
    if path.is_dir():
        raise InvalidRequest(f"{str(path)!r} is a folder; name the store's file, e.g. {str(path / 'memos.db')!r}")
    if not path.parent.is_dir():
        raise BackendUnavailable(f"there is no folder {str(path.parent)!r} for the store; make it first")
    is_new = not path.exists() or path.stat().st_size == 0
    if readonly and is_new:
        raise BackendUnavailable(f"there is no store at {str(path)!r} to open read-only")
    kind = file_system(path.parent, mounts)
    if kind in NETWORK_FILE_SYSTEMS:
        raise BackendUnavailable(
            f"{str(path)!r} is on a network file system ({kind}), where SQLite's shared log corrupts data; use a local "
            "disk, or a Neo4j server for several machines"
        )
    if not is_new:
        _check_header(path, readonly=readonly)
    if readonly:
        _check_log(path)
    if not readonly and not is_new and not os.access(path, os.W_OK):
        raise BackendUnavailable(
            f"{str(path)!r} cannot be written; change its permissions or open it with readonly=True"
        )
    if not readonly and not os.access(path.parent, os.W_OK):
        raise BackendUnavailable(
            f"the folder {str(path.parent)!r} cannot be written, and SQLite keeps its log beside the store; change its "
            "permissions or open the store with readonly=True"
        )
    if is_new:
        path.touch(mode=0o600)
    try:
        _patiently(lambda: _check_schema(path, durability=durability, readonly=readonly))
    except sqlite3.Error as error:
        hint = "; is there room on its disk?" if error.sqlite_errorcode in _NO_ROOM else ""
        raise BackendUnavailable(f"the store {str(path)!r} cannot be opened: {error}{hint}") from error


def _patiently(work: Callable[[], None]) -> None:
    """Run `work` again while another process makes the file: SQLite does not wait for a change of the journal mode."""
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            work()
        except sqlite3.OperationalError as error:
            is_busy = error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
            if not is_busy or time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return


def _check_schema(path: Path, *, durability: Durability, readonly: bool) -> None:
    connection = open_connection(path, durability=durability, readonly=readonly)
    try:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version > len(MIGRATIONS):
            raise InvalidRequest(
                f"{str(path)!r} has schema {version}, this release knows up to {len(MIGRATIONS)}; upgrade memos-agents"
            )
        if version == len(MIGRATIONS) and is_indexed_now(connection):
            return
        if readonly:
            raise BackendUnavailable(
                f"{str(path)!r} was written by an older release (schema {version}); open it once without readonly=True "
                "to bring it up to date"
            )
        (mode,) = connection.execute("PRAGMA journal_mode=WAL").fetchone()
        if mode != "wal":
            raise BackendUnavailable(f"the file system of {str(path)!r} cannot hold a write-ahead log (mode {mode!r})")
        migrate(connection)
        bring_index_up_to_date(connection)
    finally:
        connection.close()


def _check_header(path: Path, *, readonly: bool) -> None:
    try:
        with path.open("rb") as file:
            header = file.read(100)
    except OSError as error:
        raise BackendUnavailable(f"{str(path)!r} cannot be read: {error.strerror}") from error
    is_sqlite = header.startswith(b"SQLite format 3\x00") and len(header) == 100
    if not is_sqlite or int.from_bytes(header[68:72], "big") not in (0, APPLICATION_ID):
        raise InvalidRequest(f"{str(path)!r} is not a memos store and was left untouched; name another file")
    if (
        int.from_bytes(header[68:72], "big") == 0
    ):  # our mark may be in the log still: its maker is at work or was killed
        try:
            is_other = _is_of_another_program(path, "ro")
        except sqlite3.Error as error:
            if readonly or error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_READONLY:
                raise BackendUnavailable(f"{str(path)!r} cannot be opened: {error}") from error
            is_other = _is_of_another_program(path, "rw")  # undoes what a killed process had begun
        if is_other:
            raise InvalidRequest(
                f"{str(path)!r} is another program's database and was left untouched; name another file"
            )


def _is_of_another_program(path: Path, mode: str) -> bool:
    address = f"{path.absolute().as_uri()}?mode={mode}"
    connection = sqlite3.connect(address, uri=True, timeout=BUSY_SECONDS, isolation_level=None)
    try:
        connection.execute("BEGIN")  # both of one moment: its maker may be at work
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        (mark,) = connection.execute("PRAGMA application_id").fetchone()
    finally:
        connection.close()
    return bool(tables) and mark != APPLICATION_ID


def _check_log(path: Path) -> None:
    """Refuse a read-only opening that SQLite would answer with 'unable to open database file', or answer wrongly."""
    log = Path(f"{path}-wal")
    has_log = log.exists() and log.stat().st_size > 0
    if _is_on_readonly_medium(path):
        if has_log:
            raise BackendUnavailable(
                f"{str(path)!r} has a log that was never merged, on a medium that cannot be written; copy both to a "
                "folder that can be, and open the store there"
            )
    elif not has_log and not os.access(path.parent, os.W_OK) and not log.exists():
        raise BackendUnavailable(
            f"the folder {str(path.parent)!r} cannot be written, and SQLite keeps its log beside the store, even to "
            "read, unless the whole medium is read-only; change the folder's permissions or copy the store elsewhere"
        )


def _is_on_readonly_medium(path: Path) -> bool:
    return hasattr(os, "statvfs") and bool(os.statvfs(path).f_flag & os.ST_RDONLY)


def file_system(folder: Path, mounts: Path = MOUNTS) -> str:
    """The type of the file system that holds `folder`, e.g. 'ext4' or 'nfs4'; '' where it cannot be told."""
    if not sys.platform.startswith("linux"):
        return ""
    try:
        lines = mounts.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return ""
    target, best, kind = folder.resolve(), -1, ""
    for line in lines:
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        point = Path(_octal.sub(lambda code: chr(int(code[1], 8)), fields[1]))
        if (target == point or point in target.parents) and len(point.parts) >= best:
            best, kind = len(point.parts), fields[2]
    return kind
