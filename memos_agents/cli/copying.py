"""`memos copy`: everything from one store into another, of whatever kind, resumable and proven."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from memos_agents.cli.failures import DAMAGED
from memos_agents.cli.session import SCOPE_FIELDS, Session
from memos_agents.cli.showing import ALERT, DIM, GOOD, counted
from memos_agents.errors import InvalidRequest, NotFound

if TYPE_CHECKING:
    from memos_agents import MemOS
    from memos_agents.cube.scope import Scope
    from memos_agents.infrastructure.exchange.copying import CopyReport


def copy(
    session: Session,
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="The store to read: a file or a server's URL.")],
    target: Annotated[str, typer.Argument(metavar="TARGET", help="The store to fill; a file is made if it is new.")],
    to_tenant: Annotated[
        str | None, typer.Option(metavar="NAME", help="The tenant in TARGET. Default: --tenant.")
    ] = None,
    source_database: Annotated[str | None, typer.Option(metavar="NAME", help="Database of a SOURCE server.")] = None,
    target_database: Annotated[str | None, typer.Option(metavar="NAME", help="Database of a TARGET server.")] = None,
    allow_insecure: Annotated[
        bool, typer.Option("--allow-insecure", help="Also reach other machines unencrypted.")
    ] = False,
    batch: Annotated[int, typer.Option(min=1, max=100_000, help="Memories in one transaction.")] = 1000,
    samples: Annotated[int, typer.Option(min=0, help="How many lineages to compare afterwards.")] = 1000,
) -> None:
    """Copy a store into another one, with versions, provenance, vectors and files, then compare them line by line.

    The whole tenant, or with --user, --agent or --session a part. Interrupted, the same command goes on where it was.
    Nothing is overwritten: what TARGET holds already must be equal. Exit code 4 if the comparison finds a fault.

    The login of a server comes from NEO4J_USERNAME and NEO4J_PASSWORD, never from the command line.

    Examples:
      memos copy memos.db copy.db
      memos copy memos.db neo4j://localhost:7687 --target-database neo4j
      memos copy memos.db team.db --user mara --to-tenant team

    """
    scope = _scope(session)
    tenant = session.settings.tenant
    opened = partial(_opened, session, allow_insecure=allow_insecure)
    with (
        opened(source, "SOURCE", tenant=tenant, database=source_database) as origin,
        opened(target, "TARGET", tenant=to_tenant or tenant, database=target_database) as copies,
        session.out.progress("copying") as advance,
    ):
        report = origin.copy_to(copies, scope=scope, batch=batch, samples=samples, progress=advance)
    session.out.document(report)
    _show(session, report)
    if not report.ok:
        raise typer.Exit(DAMAGED)


def _scope(session: Session) -> Scope:
    """The whole tenant, or what the command line itself names: a MEMOS_USER must not make a copy partial unseen."""
    from memos_agents.cube.scope import Scope

    tenant, options = session.settings.tenant, session.options
    if options.store is not None:
        raise InvalidRequest("copy names both stores itself; leave out --store")
    if options.everything or all(getattr(options, name) is None for name in SCOPE_FIELDS):
        for name in SCOPE_FIELDS:
            if getattr(options, name) is not None:
                raise InvalidRequest(f"--everything is the whole tenant; leave out --{name}, or --everything")
        return Scope.everything(tenant)
    return Scope(tenant=tenant, user_id=options.user, agent_id=options.agent, session_id=options.session)


@contextmanager
def _opened(
    session: Session, name: str, role: str, *, tenant: str, database: str | None, allow_insecure: bool
) -> Iterator[MemOS]:
    """One of the two stores, whatever embedder made its vectors: they travel as they are."""
    from memos_agents import MemOS

    is_server = "://" in name
    if database is not None and not is_server:
        raise InvalidRequest(
            f"{role} is the file {name!r}, which has no databases; leave out --{role.lower()}-database"
        )
    if not is_server:
        _check_file(name, role)
    is_new = not is_server and not Path(name).exists()
    with MemOS.open(
        name,
        tenant=tenant,
        database=database,
        allow_insecure=is_server and allow_insecure,
        embedder="none",
        durability="full" if is_server else session.settings.durability,
        readonly=role == "SOURCE",
    ) as memos:
        if is_new:
            session.out.remark(f"made the new store {name}")
        yield memos


def _check_file(name: str, role: str) -> None:
    path = Path(name)
    if name == ":memory:":
        raise InvalidRequest(f"{role} is ':memory:', which is gone when the command ends; name a file")
    if path.is_dir():
        raise InvalidRequest(f"{role} {name!r} is a folder; name a file in it, e.g. {str(path / 'memos.db')!r}")
    if role == "SOURCE" and not (path.exists() and path.stat().st_size):
        raise NotFound(f"there is no store at {name!r}; name the one to copy from")
    if not path.absolute().parent.is_dir():
        raise NotFound(f"the folder {str(path.parent)!r} does not exist; make it first, or correct {role}")


def _show(session: Session, report: CopyReport) -> None:
    out = session.out
    counts = ", ".join(counted(number, kind) for kind, number in report.counts.items() if number)
    written = report.written.get("cube", 0)
    rows: list[tuple[str, str]] = [
        ("in the source", counts or "nothing"),
        ("copied now", f"{counted(written, 'cube')} in {report.seconds:,.1f} seconds, {counted(report.blobs, 'file')}"),
        ("there before", f"{report.skipped:,} of {counted(report.parts, 'part')}"),
        ("digest", report.digest),
        ("lineages", f"{report.samples:,} compared in both directions"),
    ]
    if report.more:
        more = ", ".join(counted(number, kind) for kind, number in report.more.items())
        rows.append(("only there", f"{more}, which the source does not have"))
    for name, value in rows:
        out.line((f"{name:<15}", DIM), value)
    for difference in report.differences:
        out.line(("fault  ", ALERT), difference)
    if report.differing > len(report.differences):
        out.line((f"and {report.differing - len(report.differences):,} more", ALERT))
    if report.source_moved:
        out.remark("the source was written to meanwhile; what came after the copy began is not in it")
    if report.ok:
        out.line(("proven", GOOD), ": everything is there and equal")
    else:
        out.line((f"{counted(report.differing, 'fault')} found; copy again into an empty store or tenant", ALERT))
