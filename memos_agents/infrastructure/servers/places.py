"""Where jars and servers lie on this machine."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path

from memos_agents.errors import InvalidRequest, NotFound
from memos_agents.infrastructure.servers.record import Record, read_record

LOCK = "server.lock"
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9_-]{0,38}[a-z0-9])?")


def default_cache(environ: Mapping[str, str], *, platform: str = sys.platform) -> Path:
    """The folder of our caches in the user's own cache folder."""
    home = Path(environ.get("HOME") or environ.get("USERPROFILE") or "~").expanduser()
    if platform == "win32":
        base = Path(environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
    elif platform == "darwin":
        base = home / "Library" / "Caches"
    else:
        base = Path(environ.get("XDG_CACHE_HOME") or home / ".cache")
    return base / "memos-agents"


def servers_folder(environ: Mapping[str, str], cache_dir: Path | None) -> Path:
    """The folder of everything that concerns servers, inside `cache_dir` or the user's cache."""
    return ((cache_dir or default_cache(environ)) / "neo4j").absolute()


def server_folder(servers: Path, name: str, version: str) -> Path:
    """The folder of one server."""
    return servers / f"{check_name(name)}-{version}"


def check_name(name: str) -> str:
    """Return `name` if it can be part of a folder's and of a container's name, else raise `InvalidRequest`."""
    if not _NAME.fullmatch(name):
        raise InvalidRequest(
            f"{name[:60]!r} cannot be a server's name; take up to 40 lower-case letters, digits, - and _, "
            "a letter or digit at both ends"
        )
    return name


def known_folders(servers: Path, *, name: str | None = None, version: str | None = None) -> list[Path]:
    """Folders in which servers were started, by name and version; None: any."""
    return sorted(
        path
        for path in (servers.iterdir() if servers.is_dir() else ())
        if (record := _record_in(path)) is not None
        and name in (None, record.name)
        and version in (None, record.version)
    )


def check_folder(folder: Path, version: str) -> Record | None:
    """The record in `folder`; `InvalidRequest` if the folder holds something else or another version's server."""
    record = read_record(folder)
    if record is None:
        others = [path.name for path in folder.iterdir() if path.name != LOCK] if folder.is_dir() else []
        if others:
            raise InvalidRequest(
                f"{str(folder)!r} holds other things ({others[0][:60]!r}), and a server needs a folder of its own"
            )
    elif record.version != version:
        raise InvalidRequest(
            f"{str(folder)!r} belongs to a server of version {record.version}; give another folder for {version}"
        )
    return record


def record_of(folder: Path) -> Record:
    """The record in `folder`; `NotFound` if no server was ever started there."""
    record = read_record(folder)
    if record is None:
        raise NotFound(f"no server was started in {str(folder)!r}; `memos neo4j up` starts one")
    return record


def _record_in(path: Path) -> Record | None:
    return read_record(path) if path.is_dir() else None
