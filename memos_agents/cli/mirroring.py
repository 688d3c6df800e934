"""`memos mirror`: a Neo4j tenant that follows a store, so that its provenance can be looked at as a graph."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from memos_agents.cli.session import SCOPE_FIELDS, Session
from memos_agents.cli.showing import DIM, GOOD, counted
from memos_agents.errors import InvalidRequest, NotFound

if TYPE_CHECKING:
    from memos_agents.infrastructure.exchange.mirroring import Mirror, MirrorReport
    from memos_agents.infrastructure.vault.base import MemVault


def mirror(
    session: Session,
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="The store that stays the truth: a file.")],
    target: Annotated[str, typer.Argument(metavar="TARGET", help="Where it is mirrored: a Neo4j server's URL.")],
    follow: Annotated[
        bool, typer.Option("--follow", help="Go on until Ctrl-C, waiting for a server that is away.")
    ] = False,
    interval: Annotated[float, typer.Option(min=0.05, max=3600, help="Seconds between looks at SOURCE.")] = 1.0,
    batch: Annotated[int, typer.Option(min=1, max=10_000, help="Commits in one transaction.")] = 100,
    to_tenant: Annotated[
        str | None, typer.Option(metavar="NAME", help="The tenant in TARGET. Default: --tenant.")
    ] = None,
    database: Annotated[str | None, typer.Option(metavar="NAME", help="Database of the server.")] = None,
    cut_over: Annotated[
        bool, typer.Option("--cut-over", help="Make TARGET an ordinary store, once it has everything.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="With --cut-over: even if it does not.")] = False,
) -> None:
    """Bring a Neo4j server up to date with a store, so that its memories and provenance can be seen as a graph.

    The store goes on as before and never waits; what is erased from it is erased from the mirror. The mirror takes no
    commits of its own. Interrupted at any point, the same command goes on where it was. Exit code 5 if the server
    cannot be reached.

    The login of a server comes from NEO4J_USERNAME and NEO4J_PASSWORD, never from the command line.

    Examples:
      memos mirror memos.db neo4j://localhost:7687
      memos mirror memos.db "neo4j://localhost:7687?store=laptop" --follow
      memos mirror memos.db neo4j://localhost:7687 --cut-over

    """
    _check(session, source, target, follow=follow, cut_over=cut_over, force=force)
    from memos_agents.infrastructure.exchange.mirroring import Followed, Mirror

    tenant = session.settings.tenant
    with (
        _opened(session, source, tenant=tenant, database=None) as origin,
        _opened(session, target, tenant=to_tenant or tenant, database=database) as copy,
    ):
        if not isinstance(origin, Followed):
            raise InvalidRequest(f"SOURCE {source!r} does not tell its changes")
        mirroring = Mirror(origin, copy, batch=batch)
        if follow:
            report = _follow(session, mirroring, interval)
        elif cut_over and force:
            report = mirroring.report()
        else:
            with session.out.progress("mirroring") as advance:
                report = mirroring.catch_up(advance)
        if not cut_over:
            session.out.document(report)
            _show(session, report)
            return
        result = mirroring.cut_over(datetime.now(UTC), force=force)
    session.out.document({"activity": result.activity_id, "seq": result.seq})
    session.out.line(("done", GOOD), f": the mirror is a store of its own; its log goes on with entry {result.seq:,}")


def _check(session: Session, source: str, target: str, *, follow: bool, cut_over: bool, force: bool) -> None:
    if session.options.store is not None:
        raise InvalidRequest("mirror names both stores itself; leave out --store")
    for name in SCOPE_FIELDS:
        if getattr(session.options, name) is not None:
            raise InvalidRequest(f"a mirror follows a whole tenant; leave out --{name}")
    if follow and cut_over:
        raise InvalidRequest("--follow goes on, --cut-over ends it; choose one")
    if force and not cut_over:
        raise InvalidRequest("--force is for --cut-over")
    if "://" in source or source == ":memory:":
        raise InvalidRequest(f"SOURCE {source!r} must be a file; a store on a server is a graph already")
    if "://" not in target:
        raise InvalidRequest(f"TARGET {target!r} must be a server's URL; `memos copy` copies into a file")
    path = Path(source)
    if not (path.is_file() and path.stat().st_size):
        raise NotFound(f"there is no store at {source!r}; name the one to mirror")


@contextmanager
def _opened(session: Session, name: str, *, tenant: str, database: str | None) -> Iterator[MemVault]:
    from memos_agents.interface.opening import open_vault
    from memos_agents.interface.settings import server_login

    is_server = "://" in name
    vault = open_vault(
        name,
        tenant=tenant,
        durability="full",
        readonly=not is_server,
        auth=server_login(session.environ) if is_server else None,
        database=database,
        allow_insecure=False,
    )
    try:
        yield vault
    finally:
        vault.close()


def _follow(session: Session, mirroring: Mirror, interval: float) -> MirrorReport:
    stop = threading.Event()
    shown: list[tuple[int, int, int]] = []

    def told(report: MirrorReport) -> None:
        state = report.position, report.lag, report.retries
        if shown[-1:] != [state]:
            shown[:] = [state]
            session.out.document(report)
            _show(session, report)

    with _ended_by_signals(stop):
        session.out.remark("following; Ctrl-C ends it")
        return mirroring.follow(stop, interval, told=told)


@contextmanager
def _ended_by_signals(stop: threading.Event) -> Iterator[None]:
    """The first signal ends the work after its batch, another one at once."""

    def end(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    before = {}
    with suppress(ValueError):  # not the main thread: then nobody sends it signals
        before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _show(session: Session, report: MirrorReport) -> None:
    pieces = [f"{counted(report.applied, 'commit')} mirrored, at commit {report.position:,}"]
    if report.payloads:
        pieces.append(counted(report.payloads, "file"))
    if report.retries:
        pieces.append(f"{report.retries:,} retries")
    behind = (
        ("up to date", GOOD)
        if not report.lag
        else (f"{counted(report.lag, 'commit')} and {report.lag_seconds:,.1f} s behind", DIM)
    )
    session.out.line(", ".join(pieces), "; ", behind)
