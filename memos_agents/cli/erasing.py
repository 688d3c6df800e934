"""`memos erase` and `memos scrub`: what removes memories for good."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from memos_agents.cli.failures import BUSY, REFUSED
from memos_agents.cli.files import check_new, write_new
from memos_agents.cli.session import Session
from memos_agents.cli.showing import ALERT, DIM, counted
from memos_agents.cli.terminal import dump_json, local_time, shortened
from memos_agents.errors import InvalidRequest, NotFound

if TYPE_CHECKING:
    from memos_agents import MemOS
    from memos_agents.cube.memcube import MemCube
    from memos_agents.cube.scope import Scope
    from memos_agents.infrastructure.governance.receipt import Receipt

MAX_FOLLOWED = 500
_SHOWN = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """What an erasure will take: `named` cubes, `derived` cubes that came from them, a few to show."""

    named: int
    derived: int
    is_exact: bool
    sample: Sequence[MemCube] = ()


def erase(
    session: Session,
    ids: Annotated[list[str] | None, typer.Argument(metavar="ID", help="Ids of memories.")] = None,
    key: Annotated[str | None, typer.Option(help="The memory with this key in the scope.")] = None,
    collection: Annotated[str, typer.Option(help="The shelf that the key is on.")] = "memories",
    all_in_scope: Annotated[bool, typer.Option("--all", help="Everything in the scope, e.g. of --user.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    receipt: Annotated[
        Path | None, typer.Option("--receipt", metavar="FILE", help="Also write the receipt there.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace FILE if it is there.")] = False,
) -> None:
    """Erase memories, all their versions, and everything derived from them, for good.

    Shows what will go and asks first. Prints a receipt that `memos verify --receipt FILE` can check later. Exit code 5:
    everything is erased, but another process still holds old bytes; run `memos scrub` when it is done.

    Examples:
      memos erase 0197f2c4-... --receipt receipt.json
      memos erase --key drink --user mara --yes
      memos erase --user mara --all

    """
    if sum((bool(ids), key is not None, all_in_scope)) != 1:
        raise InvalidRequest("name what to erase: ids, or --key with a scope, or --all for everything in the scope")
    if receipt is not None:
        check_new(receipt, replace=force)
    scope = session.scope_if_named() if ids else session.scope()
    with session.store() as memos:
        if key is not None:
            ids = [memos.get(key=key, collection=collection, scope=scope).id]
        if all_in_scope and not memos.stats(scope=scope).cubes:
            raise NotFound("there is nothing to erase in this scope; see `memos list`")
        if not yes:
            _ask(session, _preview(memos, ids, scope))
        with session.out.progress("erasing"):
            given = memos.erase(ids, scope=scope) if ids else memos.erase(scope=scope)
    if receipt is not None:
        write_new(receipt, dump_json(given, indent=2), replace=force)
    session.out.document(given)
    _show_receipt(session, given, receipt)
    if not given.is_complete:
        session.out.warning("erased, but another process still holds old bytes; run `memos scrub` when it is done")
        raise typer.Exit(BUSY)


def scrub(session: Session) -> None:
    """Remove the bytes of what was erased while another process still held them.

    Examples:
      memos scrub

    """
    with session.store() as memos:
        is_done = memos.scrub()
    session.out.document({"is_complete": is_done})
    session.out.line(
        "nothing that was erased is left in the files" if is_done else "old bytes are still held; try again"
    )
    if not is_done:
        raise typer.Exit(BUSY)


def _preview(memos: MemOS, ids: Sequence[str] | None, scope: Scope | None) -> Preview:
    """Count what goes, following derivations downwards; for large scopes the derived count is a lower bound."""
    if ids:
        named = [memos.get(identifier, scope=scope) for identifier in dict.fromkeys(ids)]
        total = len(named)
    else:
        page = memos.list(scope=scope, limit=MAX_FOLLOWED, include_hidden=True)
        named, total = list(page), memos.stats(scope=scope).cubes
    known = {cube.id for cube in named}
    derived: set[str] = set()
    is_exact = total == len(named) <= MAX_FOLLOWED
    for cube in named[:MAX_FOLLOWED]:
        graph = memos.provenance(cube.id, version=1, direction="down")
        living = {node.ref for node in graph.entities if node.state != "erased"}
        derived |= {edge.derived.cube_id for edge in graph.derivations if edge.derived in living}
        is_exact = is_exact and not graph.truncated
    return Preview(named=total, derived=len(derived - known), is_exact=is_exact, sample=named[:_SHOWN])


def _ask(session: Session, preview: Preview) -> None:
    """Show what goes and ask; end the command on anything but yes."""
    out = session.out
    for cube in preview.sample:
        out.line((local_time(cube.happened_at), "cyan"), "  ", shortened(cube.text, max(min(out.width, 100) - 20, 20)))
        out.line((cube.id, DIM), indent=2)
    if preview.named > len(preview.sample):
        out.line((f"... and {preview.named - len(preview.sample):,} more", DIM))
    least = "" if preview.is_exact else "at least "
    question = f"erase {counted(preview.named, 'memory')} and {least}{preview.derived:,} derived from them, for good?"
    if not out.confirm(question):
        out.warning("nothing was erased")
        raise typer.Exit(REFUSED)


def _show_receipt(session: Session, receipt: Receipt, path: Path | None) -> None:
    out = session.out
    cubes = {stone.ref.cube_id for stone in receipt.tombstones}
    derived = {stone.ref.cube_id for stone in receipt.tombstones if stone.is_derived}
    out.line(
        ("erased ", ALERT),
        f"{counted(len(cubes), 'memory')} ({len(derived):,} derived), {counted(len(receipt.tombstones), 'version')}, "
        f"{local_time(receipt.at)} by {receipt.agent.name or receipt.agent.id}",
    )
    for stone in receipt.tombstones[:_SHOWN]:
        out.line(
            (f"{stone.ref}  sha256 {stone.content_hash[:16]}…{'  derived' if stone.is_derived else ''}", DIM), indent=2
        )
    if len(receipt.tombstones) > _SHOWN:
        out.line(
            (f"... and {len(receipt.tombstones) - _SHOWN:,} more; --receipt FILE or --json has all", DIM), indent=2
        )
    position = "" if receipt.seq is None else f", position {receipt.seq}"
    out.line((f"activity {receipt.activity_id}{position}", DIM), indent=2)
    if path is not None:
        out.line(f"receipt in {path}", indent=2)
