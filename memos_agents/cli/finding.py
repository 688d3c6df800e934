"""`memos search`, `get`, `list`, `history`, `provenance`: what looks at memories and changes none."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from memos_agents.cli import arguments
from memos_agents.cli.files import write_new
from memos_agents.cli.session import Session
from memos_agents.cli.showing import DIM, GOOD, cube_json, lineage_lines, show_cube, show_details
from memos_agents.cli.terminal import dump_json, shortened
from memos_agents.errors import InvalidRequest

if TYPE_CHECKING:
    from memos_agents.cube.memcube import VersionRef

Id = Annotated[str, typer.Argument(metavar="ID", help="The memory's id.")]
Filter = Annotated[
    str | None, typer.Option("--filter", metavar="JSON", help="""On metadata: '{"city": {"$in": [...]}}'.""")
]
States = Annotated[list[str] | None, typer.Option("--state", help="activated, archived, merged, ...; may be repeated.")]
Types = Annotated[list[str] | None, typer.Option("--memory-type", help="plaintext, activation or parametric.")]
Collection = Annotated[str | None, typer.Option(help="Only this shelf.")]
Depth = Annotated[int | None, typer.Option(min=0, help="How many steps; without it all.")]
Order = Literal["created", "occurred", "-created", "-occurred"]
Direction = Literal["up", "down", "both"]

_LINES_SHOWN = 400


def search(
    session: Session,
    query: Annotated[str, typer.Argument(metavar="QUERY", help="What you want to know, in your own words.")],
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=1000, help="How many at most.")] = 10,
    as_of: Annotated[str | None, typer.Option(metavar="TIME", help="What was known then.")] = None,
    valid_at: Annotated[str | None, typer.Option(metavar="TIME", help="What was true then.")] = None,
    filter: Filter = None,
    state: States = None,
    memory_type: Types = None,
    collection: Collection = None,
    why: Annotated[bool, typer.Option("--why", help="Show what the score is made of.")] = False,
) -> None:
    """Find memories by what they say, best first.

    With --json one line for each hit: {"score", "why", "cube"}.

    Examples:
      memos search "Where does Mara live?" --user mara
      memos search "Where does Mara live?" --user mara --as-of 2026-05-01
      memos search budget --user mara --filter '{"project": "atlas"}' --json

    """
    store = session.settings.store
    writable = os.access(store, os.W_OK) or not Path(store).exists()
    with session.store(readonly=not writable, embeds=True) as memos:
        hits = memos.search(
            query,
            scope=session.scope(),
            limit=limit,
            as_of=arguments.moment(as_of, option="--as-of"),
            valid_at=arguments.moment(valid_at, option="--valid-at"),
            filter=arguments.json_object(filter, option="--filter") if filter else None,
            states=state or None,
            memory_types=memory_type or None,
            collection=collection or "memories",
        )
    for hit in hits:
        session.out.document({"score": hit.score, "why": hit.why, "cube": cube_json(hit.cube)})
        text = shortened(hit.cube.text, _LINES_SHOWN)
        show_cube(session.out, hit.cube, mark=(f"{hit.score:.3f}  ", GOOD), text=text)
        if why:
            session.out.line((str(hit.why), DIM), indent=2)
    if not hits:
        session.out.remark("nothing found in this scope")


def get(
    session: Session,
    id: Annotated[str | None, typer.Argument(metavar="ID", help="The memory's id; or use --key.")] = None,
    key: Annotated[str | None, typer.Option(help="The key it was added with.")] = None,
    collection: Annotated[str, typer.Option(help="The shelf that the key is on.")] = "memories",
    version: Annotated[int | None, typer.Option(min=1, help="An earlier version.")] = None,
) -> None:
    """Show one memory with all its headers.

    Examples:
      memos get 0197f2c4-... --version 1
      memos get --key drink --user mara --json

    """
    with session.store(readonly=True) as memos:
        scope = session.scope() if key is not None else session.scope_if_named()
        cube = memos.get(id, key=key, version=version, collection=collection, scope=scope)
    session.out.document(cube_json(cube))
    show_details(session.out, cube)


def list_memories(
    session: Session,
    order: Annotated[Order, typer.Option(help="created, occurred, -created or -occurred (newest first).")] = "created",
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=1000, help="How many on a page.")] = 100,
    cursor: Annotated[str | None, typer.Option(help="Go on where the last page ended.")] = None,
    all_pages: Annotated[bool, typer.Option("--all", help="All pages.")] = False,
    filter: Filter = None,
    state: States = None,
    memory_type: Types = None,
    collection: Collection = None,
    hidden: Annotated[bool, typer.Option("--hidden", help="Also what is stale, taken back or outlived.")] = False,
) -> None:
    """List memories page by page.

    With --json one cube on each line; where there is another page, stderr says with which --cursor it begins
    (as {"next_cursor": ...} with --json).

    Examples:
      memos list --user mara --order -occurred --limit 20
      memos list --user mara --all --json > mara.jsonl
      memos list --everything --state archived

    """
    scope = session.scope()
    wanted = arguments.json_object(filter, option="--filter") if filter else None
    shown = 0
    with session.store(readonly=True) as memos:
        while True:
            page = memos.list(
                scope=scope,
                filter=wanted,
                order=order,
                limit=limit,
                cursor=cursor,
                states=state or None,
                memory_types=memory_type or None,
                collection=collection,
                include_hidden=hidden,
            )
            for cube in page:
                session.out.document(cube_json(cube))
                show_cube(session.out, cube, text=shortened(cube.text, _LINES_SHOWN))
            shown += len(page)
            cursor = page.cursor
            if cursor is None or not all_pages:
                break
    if cursor is not None:
        session.out.next_page(cursor)
    if not shown:
        session.out.remark("no memories in this scope")


def history(session: Session, id: Id) -> None:
    """Show every version of a memory, oldest first.

    Examples:
      memos history 0197f2c4-...
      memos history 0197f2c4-... --json

    """
    with session.store(readonly=True) as memos:
        versions = memos.history(id, scope=session.scope_if_named())
    for cube in versions:
        session.out.document(cube_json(cube))
        show_cube(session.out, cube)


def provenance(
    session: Session,
    id: Id,
    direction: Annotated[Direction, typer.Option(help="up (where from), down (what became of it) or both.")] = "up",
    depth: Depth = None,
    version: Annotated[int | None, typer.Option(min=1, help="An earlier version.")] = None,
    html: Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Draw it as one page to look at.")] = None,
    mermaid: Annotated[bool, typer.Option("--mermaid", help="As a Mermaid flowchart.")] = False,
    prov_json: Annotated[bool, typer.Option("--prov-json", help="As W3C PROV-JSON, indented.")] = False,
    neo4j: Annotated[bool, typer.Option("--neo4j", help="As Cypher to paste into Neo4j Browser.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace FILE if it is there.")] = False,
) -> None:
    """Show where a memory came from, or what became of it.

    A tree in the terminal; --json is the PROV-JSON document on one line.

    Examples:
      memos provenance 0197f2c4-...
      memos provenance 0197f2c4-... --direction both --html lineage.html
      memos provenance 0197f2c4-... --mermaid > lineage.mmd
      memos provenance 0197f2c4-... --neo4j

    """
    if sum((html is not None, mermaid, prov_json, neo4j)) > 1:
        raise InvalidRequest("--html, --mermaid, --prov-json and --neo4j are forms of one thing; choose one")
    with session.store(readonly=True) as memos:
        steps = 0 if neo4j else depth  # the statements ask for the rest
        graph = memos.provenance(id, direction=direction, depth=steps, version=version, scope=session.scope_if_named())
    if neo4j:
        _write_cypher(session, graph.root, depth)
    elif html is not None:
        write_new(html, graph.to_html(), replace=force)
        session.out.document({"path": html})
        session.out.line(f"drawn in {html}")
    elif mermaid:
        session.out.text(graph.to_mermaid())
    elif prov_json:
        session.out.text(dump_json(graph.to_prov_json(), indent=2))
    else:
        session.out.document(graph.to_prov_json())
        for line in lineage_lines(graph, direction, session.out.width):
            session.out.line(*line)


def _write_cypher(session: Session, ref: VersionRef, depth: int | None) -> None:
    from memos_agents.infrastructure.provenance.browser import QUESTIONS, parameters, store_of, to_browser

    target, tenant = session.settings.store, session.settings.tenant
    store = store_of(target)
    if session.options.json:
        statements = {name: question.statement for name, question in QUESTIONS.items()}
        values = parameters(ref, tenant=tenant, store=store, depth=depth)
        session.out.document({"parameters": values, "statements": statements})
        return
    text = to_browser(ref, tenant=tenant, store=store, depth=depth, is_copy="://" not in target)
    session.out.text(text.rstrip("\n"))
