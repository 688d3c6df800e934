"""`memos export`, `load`, `backup`, `reembed`: the store as a whole, in and out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from memos_agents.cli.files import check_new
from memos_agents.cli.session import Session
from memos_agents.cli.showing import counted
from memos_agents.errors import InvalidRequest, NotFound

Force = Annotated[bool, typer.Option("--force", help="Replace FILE if it is there.")]


def export(
    session: Session,
    path: Annotated[Path, typer.Argument(metavar="FILE", help="Where to, e.g. mara.memcube.")],
    force: Force = False,
) -> None:
    """Write memories with versions, provenance and files into one bundle, without loss.

    Examples:
      memos export mara.memcube --user mara
      memos export everything.memcube --everything

    """
    check_new(path, replace=force)
    scope = session.scope()
    with session.store(readonly=True) as memos, session.out.progress("exporting") as advance:
        report = memos.export(path, scope=scope, progress=advance)
        erased = memos.stats(scope=scope).by_state.get("erased", 0)
    session.out.document({"path": path, **session.out.fields(report)})
    counts = ", ".join(counted(number, kind) for kind, number in report.counts.items() if number)
    session.out.line(f"exported to {path}: {counts or 'nothing'}")
    if erased:
        session.out.line(f"of the cubes {erased:,} are tombstones of erased memories: ids and hashes, no content")


def load(
    session: Session,
    path: Annotated[Path, typer.Argument(metavar="FILE", help="A bundle that `memos export` wrote.")],
    format: Annotated[str, typer.Option(help="What FILE is.")] = "memcube",
) -> None:
    """Read a bundle into the store, all of it or nothing; what is there already is passed over.

    Examples:
      memos load mara.memcube
      memos load mara.memcube --store other.db

    """
    if not path.is_file():
        raise NotFound(f"there is no file {str(path)!r}; give a bundle that `memos export` wrote")
    with session.store(creates=True, embeds=True) as memos, session.out.progress("loading") as advance:
        report = memos.load(path, format=format, progress=advance)
    session.out.document(report)
    counts = ", ".join(counted(number, kind) for kind, number in report.counts.items() if number)
    session.out.line(f"loaded {counts or 'nothing new'}")


def backup(
    session: Session,
    path: Annotated[Path, typer.Argument(metavar="FILE", help="Where the copy goes.")],
    force: Force = False,
) -> None:
    """Copy the whole store while it is in use; the copy is a store itself.

    Examples:
      memos backup memos-2026-05-01.db

    """
    check_new(path, replace=force)
    if path.exists() and path.samefile(session.settings.store):
        raise InvalidRequest("the backup would replace the store itself; give another file")
    with session.store(readonly=True) as memos, session.out.progress("copying"):
        memos.backup(path)
    size = path.stat().st_size
    session.out.document({"path": path, "size_bytes": size})
    session.out.line(f"copied to {path} ({size:,} bytes)")


def reembed(session: Session) -> None:
    """Give every memory a vector of the embedder that --embedder or the settings name, and search with it from then on.

    May be interrupted and run again: it goes on where it stopped, and until it ends the old vectors serve.

    Examples:
      memos reembed --embedder minilm
      MEMOS_EMBEDDER_MODEL=nomic-embed-text memos reembed --embedder openai

    """
    embedder = session.embedder()
    if embedder is None:
        raise InvalidRequest('there is nothing to make vectors with: the embedder is "none"; add --embedder minilm')
    with session.store() as memos, session.out.progress("embedding") as advance:
        report = memos.reembed(embedder, progress=advance)
    session.out.document(report)
    session.out.line(f"{counted(report.embedded, 'version')} embedded by {report.fingerprint}")
