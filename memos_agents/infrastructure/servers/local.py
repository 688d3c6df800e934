"""A server up, its status, its log, the server down: what the command line and tests call."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from memos_agents.errors import BackendUnavailable, InvalidRequest
from memos_agents.infrastructure.servers import process
from memos_agents.infrastructure.servers.choosing import choose_starter, find_keeper
from memos_agents.infrastructure.servers.given import check_given
from memos_agents.infrastructure.servers.jars import Progress
from memos_agents.infrastructure.servers.keeping import Resources, Starter
from memos_agents.infrastructure.servers.locking import locked
from memos_agents.infrastructure.servers.maven import LOG
from memos_agents.infrastructure.servers.places import (
    LOCK,
    check_name,
    known_folders,
    record_of,
    server_folder,
    servers_folder,
)
from memos_agents.infrastructure.servers.programs import QUOTED_LINES
from memos_agents.infrastructure.servers.readiness import ask_database, greet, wait_until_ready
from memos_agents.infrastructure.servers.record import How, Record
from memos_agents.infrastructure.servers.starting import SECONDS_TO_LOCK, SECONDS_TO_STOP, Order
from memos_agents.infrastructure.servers.versions import NEWEST, full_version

_MIN_PASSWORD = 8
_STARTS_ON_FREE_PORTS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalServer:
    """A server and where to find what belongs to it. `how` "given": somebody else's, of which we know the address only.

    `pid` is None while it does not run; `log_path` is None for a container, whose log Docker keeps.
    """

    uri: str
    version: str
    how: How | Literal["given"]
    name: str = ""
    pid: int | None = None
    folder: Path | None = None
    log_path: Path | None = None
    runner: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerStatus:
    """How a server is.

    "ready": its database answers a query (with a password that we do not have: the server answers). "starting": it runs
    and does not answer yet. "died": it ended, and not because somebody took it down. "stopped": taken down.
    """

    state: Literal["ready", "starting", "died", "stopped"]
    server: LocalServer
    has_auth: bool = False
    resident_bytes: int | None = None
    detail: str = ""


def up(
    version: str = NEWEST,
    *,
    environ: Mapping[str, str],
    name: str = "default",
    port: int | None = None,
    folder: Path | None = None,
    cache_dir: Path | None = None,
    password: str | None = None,
    resources: Resources | None = None,
    fresh: bool = False,
    how: How | None = None,
    java: Path | None = None,
    uri: str | None = None,
    seconds: float = 180.0,
    progress: Progress | None = None,
) -> LocalServer:
    """Return a running server whose database answers; start it if it does not run.

    With `uri` that server is taken, whatever else is asked. Else a server of ours: by `name` and `version`, in `folder`
    (default: the cache), on `port` of the loopback (default: the last one, else a free one), by Docker if its engine
    answers and else by Maven's jars and a Java (`how`, `java` leave no choice). Processes that ask at once get the same
    server. `fresh` stops it and removes its data first. Without `password` nobody is asked for one, right for a
    throw-away server that only this machine reaches; with one, the user is `neo4j`.

    `environ` is the caller's environment, for finding programs. `seconds` is how long to wait for the database (8-20 s
    are usual); fetching its files, the first time, is not counted. On a failure or an interrupt a server that this call
    started is stopped again.

    Raises `InvalidRequest` (a wrong argument, or it runs with other ones), `ToolMissing` (what to install),
    `BackendUnavailable` (the port is taken), `ServerFailed` (it, Maven or Docker gave up; with the last lines).
    """
    if uri is not None:
        plain, its_version = check_given(uri)
        return LocalServer(uri=plain, version=its_version, how="given")
    version = full_version(version)
    check_name(name)
    if password is not None and len(password) < _MIN_PASSWORD:
        raise InvalidRequest(f"Neo4j takes passwords of at least {_MIN_PASSWORD} characters")
    servers = servers_folder(environ, cache_dir)
    folder = folder.absolute() if folder is not None else server_folder(servers, name, version)
    order = Order(
        name=name,
        version=version,
        port=port,
        folder=folder,
        password=password,
        resources=resources or Resources(),
        fresh=fresh,
        environ=environ,
    )

    def prepare(kept: How | None) -> Starter:
        return choose_starter(version, how=how or kept, cache=servers, environ=environ, java=java, progress=progress)

    for starts_left in reversed(range(_STARTS_ON_FREE_PORTS)):
        server = order.running() or order.start(prepare)
        try:
            wait_until_ready(server, password=password, seconds=seconds, progress=progress)
        except BaseException as error:
            server.take_back()
            if not (starts_left and order.has_lost_its_port(server, error)):
                raise
            order = order.on_a_new_port()
        else:
            return _described(server.record, folder, pid=server.look().pid)
    raise AssertionError("the loop returns or raises")


def status(folder: Path, *, environ: Mapping[str, str], password: str | None = None) -> ServerStatus:
    """How the server in `folder` is, without waiting for it. `NotFound` if none was ever started there."""
    record = record_of(folder)
    sighting = find_keeper(record, environ=environ).look(record, folder)
    server = _described(record, folder, pid=sighting.pid)
    if sighting.state != "alive":
        return ServerStatus(state=sighting.state, server=server, has_auth=record.has_auth)
    detail = ""
    if record.has_auth and password is None:
        is_ready = greet(record.port)
        detail = "it asks for a password, so only the server was asked, not its database"
    else:
        try:
            ask_database(record.port, password=password)
            is_ready = True
        except BackendUnavailable as error:
            is_ready, detail = False, str(error)
    return ServerStatus(
        state="ready" if is_ready else "starting",
        server=server,
        has_auth=record.has_auth,
        resident_bytes=process.resident_bytes(sighting.pid) if sighting.pid and record.how == "maven" else None,
        detail=detail,
    )


def servers(
    *,
    environ: Mapping[str, str],
    cache_dir: Path | None = None,
    name: str | None = None,
    version: str | None = None,
) -> list[Path]:
    """The folders of the servers that were started in the cache, running or not, to be asked about."""
    wanted = None if version is None else full_version(version)
    return known_folders(servers_folder(environ, cache_dir), name=name, version=wanted)


def logs(folder: Path, *, environ: Mapping[str, str], lines: int = QUOTED_LINES) -> list[str]:
    """The last lines that the server in `folder` wrote, also after it ended."""
    record = record_of(folder)
    return find_keeper(record, environ=environ).log(record, folder, lines=lines)


def down(
    folder: Path, *, environ: Mapping[str, str], seconds: float = SECONDS_TO_STOP, purge: bool = False
) -> LocalServer | None:
    """Stop the server in `folder`, by force after `seconds`; return it, or None if it did not run.

    Its data stays for the next start unless `purge`. A server that is still starting is stopped too.
    """
    record_of(folder)  # or the lock would make the folder
    with locked(folder / LOCK, seconds=SECONDS_TO_LOCK):
        record = record_of(folder)
        keeper = find_keeper(record, environ=environ)
        pid = keeper.look(record, folder).pid
        has_stopped = keeper.stop(record, folder, seconds=seconds)
        if purge:
            keeper.remove_data(record, folder)
            _remove_all(folder)
    return _described(record, folder, pid=pid) if has_stopped else None


def _remove_all(folder: Path) -> None:
    """Remove a folder whose lock is held; the lock goes last, because with it goes our right to the folder."""
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != LOCK:
            path.unlink()
    (folder / LOCK).unlink()
    with suppress(OSError):  # somebody who waited for the lock is in it already
        folder.rmdir()


def _described(record: Record, folder: Path, *, pid: int | None) -> LocalServer:
    return LocalServer(
        uri=record.uri,
        version=record.version,
        how=record.how,
        name=record.name,
        pid=pid,
        folder=folder,
        log_path=folder / LOG if record.how == "maven" else None,
        runner=record.runner,
    )
