"""`memos neo4j up`, `status`, `logs`, `down`: a throw-away Neo4j server on this machine; `schema`: what is in one."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from memos_agents.cli.failures import NOT_FOUND
from memos_agents.cli.session import Session
from memos_agents.cli.terminal import printable, say
from memos_agents.errors import BackendUnavailable, InvalidRequest, NotFound

if TYPE_CHECKING:
    from memos_agents.infrastructure.servers import LocalServer, ServerStatus

URI_VARIABLE = "MEMOS_NEO4J_URI"

Name = Annotated[str, typer.Option("--name", metavar="NAME", help="Which of your servers; several can run at once.")]
Version = Annotated[
    str | None, typer.Option("--version", metavar="V", help="5 (5.26, long-term), 2026 (newest tested), or all of it.")
]
Password = Annotated[
    str | None,
    typer.Option("--password-env", metavar="VARIABLE", help="The environment variable that holds the password."),
]


def up(
    session: Session,
    version: Version = None,
    name: Name = "default",
    port: Annotated[int | None, typer.Option("--port", help="Default: the last one, else a free one.")] = None,
    password_env: Password = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Remove its data first.")] = False,
    heap: Annotated[str, typer.Option("--heap", metavar="SIZE", help="Memory for the server.")] = "1g",
    page_cache: Annotated[str, typer.Option("--page-cache", metavar="SIZE", help="Memory for the data.")] = "256m",
    quick: Annotated[bool, typer.Option("--quick", help="Start sooner, run slower (with maven).")] = False,
    how: Annotated[
        str | None, typer.Option("--with", metavar="WAY", help="docker or maven. Default: see above.")
    ] = None,
    java: Annotated[Path | None, typer.Option("--java", metavar="PATH", help="The Java to use, with maven.")] = None,
    wait: Annotated[float, typer.Option("--wait", min=1, metavar="SECONDS", help="How long it may start.")] = 180,
) -> None:
    """Start a Neo4j Community server, or find the one that runs, and wait until its database answers.

    It is for development and tests: it listens on this machine only (127.0.0.1), asks for no password unless
    --password-env names one (the user is then neo4j), and reports no usage to anybody. Its data stays when it stops.

    With MEMOS_NEO4J_URI set, that server is used and nothing is started. Else Docker runs it, if its engine answers;
    else your Maven fetches the server's files (160 MB, once) and a Java runs it (17 or 21 for version 5, 21 or 25 for
    2026).

    Examples:
      memos neo4j up
      memos neo4j up --version 5 --port 7687
      DB_PASSWORD=... memos neo4j up --name shared --password-env DB_PASSWORD
    """
    from memos_agents.infrastructure.servers import Resources, up
    from memos_agents.infrastructure.servers.versions import NEWEST

    if how not in (None, "docker", "maven"):
        raise InvalidRequest(f"--with {how[:40]!r} is no way to run a server; it is docker or maven")
    began = time.monotonic()
    with _told(session) as progress, _log_shown(session):
        server = up(
            version or NEWEST,
            environ=session.environ,
            name=name,
            port=port,
            cache_dir=session.settings.cache_dir,
            password=_password(session, password_env),
            resources=Resources(heap=heap, page_cache=page_cache, quick=quick),
            fresh=fresh,
            how="docker" if how == "docker" else "maven" if how == "maven" else None,
            java=java,
            uri=session.environ.get(URI_VARIABLE) or None,
            seconds=wait,
            progress=progress,
        )
    seconds = time.monotonic() - began
    session.out.document({**session.out.fields(server), "seconds": round(seconds, 1)})
    if server.how == "given":
        session.out.line(f"{URI_VARIABLE} names a server, so none was started: {_title(server)} at {server.uri}")
    else:
        session.out.line(f"{_title(server)} is ready at {server.uri} ({server.runner}, {seconds:.1f} s)")
        session.out.line(f"data and logs: {server.folder}")
    auth = f', auth=("neo4j", os.environ["{password_env}"])' if password_env else ""
    session.out.line(f'use it:  MemOS.open("{server.uri}"{auth})')
    if server.how != "given":
        session.out.line(f"stop it: memos neo4j down{_options_for(server)}")


def down(
    session: Session,
    version: Version = None,
    name: Name = "default",
    purge: Annotated[bool, typer.Option("--purge", help="Remove its data and logs too.")] = False,
) -> None:
    """Stop a server that `memos neo4j up` started (of every version, if --version names none).

    It is asked first and killed after a minute. That none runs is no error.

    Examples:
      memos neo4j down
      memos neo4j down --name shared --purge
    """
    from memos_agents.infrastructure.servers import down

    ended = []
    for folder in _folders(session, name, version):
        with _log_shown(session):
            stopped = down(folder, environ=session.environ, purge=purge)
        if stopped is not None:
            ended.append(stopped)
            session.out.document(stopped)
            session.out.line(f"stopped {_title(stopped)} at {stopped.uri}")
        elif purge:
            session.out.line(f"removed {folder}")
    if not ended:
        session.out.remark(f"no server of the name {name!r} ran")


def status(
    session: Session,
    version: Version = None,
    name: Annotated[str | None, typer.Option("--name", metavar="NAME", help="Only the server of this name.")] = None,
    password_env: Password = None,
) -> None:
    """Show how each server is: ready, starting, died or stopped.

    The exit code is 0 if one of them is ready, else 3.

    Examples:
      memos neo4j status
      memos neo4j status --name shared --json
    """
    from memos_agents.infrastructure.servers import status
    from memos_agents.infrastructure.servers.given import check_given

    is_one_ready = False
    if name is None and version is None and (uri := session.environ.get(URI_VARIABLE)):
        plain, its_version = check_given(uri)
        is_one_ready = True
        session.out.document({"state": "ready", "uri": plain, "version": its_version, "how": "given"})
        session.out.line(("ready", "green"), f"  {plain}  Neo4j {its_version} ({URI_VARIABLE})")
    folders = _folders(session, name, version)
    for folder in folders:
        found = status(folder, environ=session.environ, password=_password(session, password_env))
        is_one_ready = is_one_ready or found.state == "ready"
        server = session.out.fields(found.server)
        rest = {key: value for key, value in session.out.fields(found).items() if key != "server"}
        session.out.document({**rest, **server})
        _show(session, found)
    if not folders and not is_one_ready:
        session.out.remark("no server was started here; `memos neo4j up` starts one")
    if not is_one_ready:
        raise typer.Exit(NOT_FOUND)


def logs(
    session: Session,
    version: Version = None,
    name: Name = "default",
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, help="How many lines.")] = 50,
) -> None:
    """Show the last lines that a server wrote, also after it ended.

    Examples:
      memos neo4j logs
      memos neo4j logs --version 5 --lines 200
    """
    from memos_agents.infrastructure.servers import logs

    folder = _one(session, name, version)
    found = logs(folder, environ=session.environ, lines=lines)
    session.out.document({"folder": folder, "lines": found})
    for line in found:
        session.out.line(line)


def schema(session: Session) -> None:
    """Describe the graph that a store makes: labels, properties, relationships, indexes, and six useful queries.

    It is Markdown, and needs no server. With --json the queries by name.

    Examples:
      memos neo4j schema > schema.md
      memos neo4j schema --json
    """
    from memos_agents.infrastructure.vault.neo4j.describing import USEFUL, describe

    session.out.document({"queries": USEFUL})
    if not session.options.json:
        session.out.text(describe().rstrip("\n"))


COMMANDS: tuple[tuple[str, Callable[..., None]], ...] = (
    ("up", up),
    ("status", status),
    ("logs", logs),
    ("down", down),
    ("schema", schema),
)


def _folders(session: Session, name: str | None, version: str | None) -> list[Path]:
    from memos_agents.infrastructure.servers import servers

    return servers(environ=session.environ, cache_dir=session.settings.cache_dir, name=name, version=version)


def _one(session: Session, name: str, version: str | None) -> Path:
    """The one server that is meant: if several versions were started under the name, the one that runs."""
    from memos_agents.infrastructure.servers import status

    folders = _folders(session, name, version)
    if not folders:
        raise NotFound(f"no server of the name {name!r} was started here; `memos neo4j status` lists those that were")
    if len(folders) > 1:
        running = [path for path in folders if status(path, environ=session.environ).state in ("ready", "starting")]
        folders = running or folders
    if len(folders) > 1:
        raise InvalidRequest(f"there are {len(folders)} servers of the name {name!r}; say which one with --version")
    return folders[0]


def _password(session: Session, variable: str | None) -> str | None:
    """The password is read from the environment: an argument would show in lists of processes and histories."""
    if variable is None:
        return None
    password = session.environ.get(variable)
    if not password:
        raise InvalidRequest(f"the variable {variable[:60]!r} is not set; put the password there")
    return password


def _show(session: Session, found: ServerStatus) -> None:
    styles = {"ready": "green", "starting": "yellow", "died": "red", "stopped": "dim"}
    server = found.server
    facts = [server.runner]
    if server.pid:
        facts.append(f"process {server.pid}")
    if found.resident_bytes:
        facts.append(f"{found.resident_bytes / 2**20:,.0f} MB")
    if found.has_auth:
        facts.append("with password")
    session.out.line(
        (f"{found.state:<8}", styles[found.state]), f"  {server.uri}  {_title(server)} ({', '.join(facts)})"
    )
    if found.detail and found.state == "starting":
        session.out.line(found.detail, indent=10)
    if found.state == "died":
        session.out.line(f"its last lines: memos neo4j logs{_options_for(server)}", indent=10)


def _title(server: LocalServer) -> str:
    named = f" {server.name!r}" if server.name not in ("", "default") else ""
    return f"Neo4j {server.version}{named}"


def _options_for(server: LocalServer) -> str:
    from memos_agents.infrastructure.servers.versions import NEWEST

    name = f" --name {server.name}" if server.name != "default" else ""
    return name + (f" --version {server.version}" if server.version != NEWEST else "")


@contextmanager
def _told(session: Session) -> Iterator[Callable[[str, int, int], None]]:
    """Say each new thing that goes on, and show how far it is."""
    current = ""
    advance: Callable[[int, int], None] | None = None
    with ExitStack() as stack:

        def tell(what: str, done: int, total: int) -> None:
            nonlocal current, advance
            if advance is None or what != current:
                stack.close()
                session.out.remark(what)
                current, advance = what, stack.enter_context(session.out.progress(what))
            if total or sys.stderr.isatty():  # "12 of 0" says nothing in a log
                advance(done, total)

        yield tell


@contextmanager
def _log_shown(session: Session) -> Iterator[None]:
    """A server's or Maven's last words as lines of their own; the error itself stays one line."""
    from memos_agents.infrastructure.servers.programs import ServerFailed

    try:
        yield
    except ServerFailed as error:
        if session.options.json:
            raise
        for line in error.output:
            say("    " + printable(line))
        raise BackendUnavailable(error.summary) from error
