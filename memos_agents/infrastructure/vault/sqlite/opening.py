"""Opening the file: refuses what cannot be a safe store, before anything is written to it."""

from __future__ import annotations

import os
import sqlite3
import sys
from pathlib import Path
from typing import Literal, TypeAlias

from memos_agents.errors import BackendUnavailable, InvalidRequest
from memos_agents.infrastructure.vault.sqlite.schema import APPLICATION_ID, MIGRATIONS, migrate

Durability: TypeAlias = Literal["full", "relaxed"]

BUSY_SECONDS = 10.0
NETWORK_FILE_SYSTEMS = frozenset(
    "9p afs afpfs ceph cifs coda fuse.glusterfs fuse.sshfs glusterfs gfs gfs2 lustre ncpfs nfs nfs4 ocfs2 smb3 smbfs "
    "webdav davfs fuse.davfs fuse.s3fs fuse.rclone".split()
)


def open_connection(path: Path, *, durability: Durability, readonly: bool) -> sqlite3.Connection:
    """Connect to a store that exists (see `prepare`)."""
    mode = "ro" if readonly else "rw"
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        isolation_level=None,
        timeout=BUSY_SECONDS,
        check_same_thread=False,
        cached_statements=512,
    )
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
    return connection


def prepare(path: Path, *, durability: Durability, readonly: bool) -> None:
    """Check the file, make it if it is new, and bring its schema up to date.

    Raises `InvalidRequest` for a file that is not ours or was written by a newer release, and `BackendUnavailable`
    for a network file system, a missing folder, or a file or folder that cannot be written (unless `readonly`).
    """
    if path.is_dir():
        raise InvalidRequest(f"{str(path)!r} is a folder; name the store's file, e.g. {str(path / 'memos.db')!r}")
    if not path.parent.is_dir():
        raise BackendUnavailable(f"there is no folder {str(path.parent)!r} for the store; make it first")
    is_new = not path.exists() or path.stat().st_size == 0
    if readonly and is_new:
        raise BackendUnavailable(f"there is no store at {str(path)!r} to open read-only")
    kind = file_system(path.parent)
    if kind in NETWORK_FILE_SYSTEMS:
        raise BackendUnavailable(
            f"{str(path)!r} is on a network file system ({kind}), where SQLite's shared log corrupts data; use a local "
            "disk, or a Neo4j server for several machines"
        )
    if not is_new:
        _check_header(path)
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
        _check_schema(path, durability=durability, readonly=readonly)
    except sqlite3.Error as error:
        raise BackendUnavailable(f"the store {str(path)!r} cannot be opened: {error}") from error


def _check_schema(path: Path, *, durability: Durability, readonly: bool) -> None:
    connection = open_connection(path, durability=durability, readonly=readonly)
    try:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version > len(MIGRATIONS):
            raise InvalidRequest(
                f"{str(path)!r} has schema {version}, this release knows up to {len(MIGRATIONS)}; upgrade memos-agents"
            )
        if version == len(MIGRATIONS):
            return
        if readonly:
            raise BackendUnavailable(
                f"{str(path)!r} has the older schema {version}; open it once without readonly=True to bring it up to "
                "date"
            )
        (mode,) = connection.execute("PRAGMA journal_mode=WAL").fetchone()
        if mode != "wal":
            raise BackendUnavailable(f"the file system of {str(path)!r} cannot hold a write-ahead log (mode {mode!r})")
        migrate(connection)
    finally:
        connection.close()


def _check_header(path: Path) -> None:
    try:
        with path.open("rb") as file:
            header = file.read(100)
    except OSError as error:
        raise BackendUnavailable(f"{str(path)!r} cannot be read: {error.strerror}") from error
    is_sqlite = header.startswith(b"SQLite format 3\x00") and len(header) == 100
    if not is_sqlite or int.from_bytes(header[68:72], "big") not in (0, APPLICATION_ID):
        raise InvalidRequest(f"{str(path)!r} is not a memos store and was left untouched; name another file")
    if int.from_bytes(header[68:72], "big") == 0:
        with sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True) as connection:
            (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        connection.close()
        if tables:
            raise InvalidRequest(
                f"{str(path)!r} is another program's database and was left untouched; name another file"
            )


def file_system(folder: Path, mounts: Path = Path("/proc/self/mounts")) -> str:
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
        point = Path(fields[1].replace("\\040", " "))
        if (target == point or point in target.parents) and len(point.parts) >= best:
            best, kind = len(point.parts), fields[2]
    return kind
