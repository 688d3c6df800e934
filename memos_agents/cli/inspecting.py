"""`memos stats`, `verify`, `log`: the state of the store and who did what to it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from memos_agents.cli import arguments
from memos_agents.cli.failures import DAMAGED
from memos_agents.cli.session import Session
from memos_agents.cli.showing import ALERT, DIM, GOOD, counted, show_entry
from memos_agents.errors import InvalidRequest, NotFound

if TYPE_CHECKING:
    from memos_agents.cube.canonical import JSON
    from memos_agents.infrastructure.vault.base import Problem


def stats(session: Session) -> None:
    """Count memories, versions, relations and use in a scope; with --everything also sizes.

    Examples:
      memos stats --user mara
      memos stats --everything --json

    """
    scope = session.scope()
    with session.store(readonly=True) as memos:
        found = memos.stats(scope=scope)
    session.out.document(found)
    rows: list[tuple[str, object]] = [
        ("memories", f"{found.cubes:,}"),
        ("versions", f"{found.versions:,}"),
        *((f"  {state}", f"{number:,}") for state, number in sorted(found.by_state.items())),
        *((f"  {kind}", f"{number:,}") for kind, number in sorted(found.by_type.items())),
        ("relations", f"{found.relations:,}"),
        ("stale", f"{found.stale:,}"),
        ("uses", f"{found.uses:,}"),
        ("commits", None if found.commits is None else f"{found.commits:,}"),
        ("store", None if found.size_bytes is None else f"{found.size_bytes:,} bytes"),
        ("files", None if found.blob_bytes is None else f"{found.blob_bytes:,} bytes"),
        *(("vectors", f"{space.fingerprint} ({space.dimension})") for space in found.spaces),
    ]
    for name, value in rows:
        if value is not None:
            session.out.line((f"{name:<14}", DIM), str(value))
    if found.pending_scrubs:
        session.out.line((f"{counted(found.pending_scrubs, 'erasure')} not scrubbed yet; run `memos scrub`", ALERT))


def verify(
    session: Session,
    receipt: Annotated[
        Path | None, typer.Option("--receipt", metavar="FILE", help="Check the receipt of an erasure instead.")
    ] = None,
) -> None:
    """Check the whole store: hashes, the log's chain, lineage, indexes, files. Exit code 4 if something is wrong.

    Examples:
      memos verify
      memos verify --receipt receipt.json

    """
    with session.store(readonly=True) as memos:
        if receipt is not None:
            from memos_agents.infrastructure.governance.receipt import Receipt

            check = Receipt.from_json(_read_receipt(receipt)).verify(memos)
            session.out.document(check)
            found, is_fine, counts = check.problems, check.ok, {}
        else:
            with session.out.progress("checking"):
                report = memos.verify()
            session.out.document(report)
            found, is_fine, counts = report.problems, report.ok, dict(report.counts)
    for problem in found:
        session.out.line(("problem  ", ALERT), _told(problem))
    if is_fine:
        told = ", ".join(counted(number, kind.rstrip("s")) for kind, number in counts.items())
        session.out.line(("all well", GOOD), f": {told}" if told else "")
        return
    session.out.line(
        (f"{counted(len(found), 'problem')} found; restore a backup, or keep the file and report it", ALERT)
    )
    raise typer.Exit(DAMAGED)


def log(
    session: Session,
    since: Annotated[str | None, typer.Option(metavar="TIME", help="From then on.")] = None,
    until: Annotated[str | None, typer.Option(metavar="TIME", help="Before then.")] = None,
    cube: Annotated[str | None, typer.Option("--id", metavar="ID", help="Only what touched this memory.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=1000, help="How many at most.")] = 20,
) -> None:
    """Show who did what, newest first. `memos undo` takes the id of an activity.

    Examples:
      memos log --user mara --since 2026-05-01
      memos log --everything --json --limit 1000

    """
    scope = session.scope()
    with session.store(readonly=True) as memos:
        entries = memos.log(
            scope=scope,
            since=arguments.moment(since, option="--since"),
            until=arguments.moment(until, option="--until"),
            cube_id=cube,
            limit=limit,
        )
    for entry in entries:
        session.out.document(entry)
        show_entry(session.out, entry, session.out.width)
    if not entries:
        session.out.remark("nothing happened in this scope")


def _told(problem: Problem) -> str:
    where = f" (cube {problem.cube_id})" if problem.cube_id and problem.cube_id not in problem.what else ""
    return f"{problem.kind}: {problem.what}{where}"


def _read_receipt(path: Path) -> dict[str, JSON]:
    try:
        value: object = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise NotFound(f"there is no file {str(path)!r}; give one that `memos erase --receipt` wrote") from error
    except ValueError as error:
        raise InvalidRequest(f"{str(path)!r} is not JSON; give a file that `memos erase --receipt` wrote") from error
    if not isinstance(value, dict):
        raise InvalidRequest(f"{str(path)!r} is no receipt; give a file that `memos erase --receipt` wrote")
    return value
