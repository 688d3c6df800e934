"""How cubes, hits, versions, log entries and lineage look to people, and their JSON."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from memos_agents.cli.terminal import Output, Piece, local_time, shortened

if TYPE_CHECKING:
    from memos_agents.cube.canonical import JSON
    from memos_agents.cube.memcube import MemCube, VersionRef
    from memos_agents.infrastructure.provenance.graph import ProvenanceGraph
    from memos_agents.infrastructure.vault.base import LogEntry

DIM, STRONG, ALERT, GOOD = "dim", "bold", "bold red", "green"


def cube_json(cube: MemCube) -> dict[str, JSON]:
    """The lossless JSON of a cube (`MemCube.from_json` reads it) and its text beside it."""
    return {**cube.to_json(), "text": cube.text}


def show_cube(out: Output, cube: MemCube, *, mark: Piece = "", text: str | None = None, indent: int = 2) -> None:
    """A header line (when, whose, what), the text, and the id on a line of its own so that it can be copied."""
    out.line(mark, *_header(cube))
    title = cube.descriptive.title
    body = cube.text if text is None else text
    if title:
        out.line((title, STRONG), indent=indent)
    out.line(body or ("(erased)" if cube.state == "erased" else "(no text)"), indent=indent)
    out.line((cube.id, DIM), indent=indent)


def show_details(out: Output, cube: MemCube) -> None:
    """Everything about one version."""
    show_cube(out, cube)
    rows: list[tuple[str, object]] = [
        ("version", cube.version),
        ("state", cube.state.value + (", frozen" if cube.frozen else "")),
        ("recorded", local_time(cube.recorded_at)),
        ("superseded", local_time(cube.superseded_at)),
        ("valid", _span(cube)),
        ("key", cube.descriptive.key),
        ("tags", ", ".join(cube.descriptive.tags)),
        ("origin", cube.descriptive.origin),
        ("owner", cube.governance.owner),
        ("readers", ", ".join(cube.governance.readers)),
        ("expires", local_time(cube.expires_at)),
        ("used", f"{cube.behavioural.use_count} times" if cube.behavioural.use_count else ""),
        ("metadata", _compact(cube.metadata)),
        ("hash", cube.content_hash),
    ]
    for name, value in rows:
        if value not in (None, ""):
            out.line((f"{name:<11}", DIM), str(value), indent=2)


def show_entry(out: Output, entry: LogEntry, width: int) -> None:
    """One line of the log, and the cubes it touched."""
    position = f"{entry.seq:>6}  " if entry.seq is not None else ""
    who = entry.agent.name or entry.agent.id
    out.line(
        (position, DIM),
        local_time(entry.at),
        "  ",
        (f"{entry.kind:<10}", STRONG),
        f" by {who}, {counted(len(entry.cubes), 'cube')}",
    )
    out.line((f"activity {entry.activity_id}", DIM), indent=2)
    if entry.parameters:
        out.line((shortened(_compact(entry.parameters), width - 2), DIM), indent=2)


def lineage_lines(graph: ProvenanceGraph, direction: str, width: int) -> Iterator[tuple[Piece, ...]]:
    """The lineage as a tree of lines; what was shown already is named and not unfolded again."""
    seen: set[VersionRef] = set()
    if direction in ("up", "both"):
        if direction == "both":
            yield (("came from", DIM),)
        yield from _branch(graph, graph.root, _parents(graph), seen, "", width)
    if direction in ("down", "both"):
        seen.clear()
        if direction == "both":
            yield (("gave rise to", DIM),)
        yield from _branch(graph, graph.root, _children(graph), seen, "", width)
    for relation in graph.relations:
        yield (("relation  ", DIM), f"{relation.source_id} {relation.kind.value} {relation.target_id}")
    if graph.truncated:
        yield (("there is more; this is only the beginning (see --depth)", ALERT),)


def counted(number: int, noun: str) -> str:
    """A number with its noun.

    >>> counted(1, "cube"), counted(2_000, "memory")
    ('1 cube', '2,000 memories')
    """
    plural = noun[:-1] + "ies" if noun.endswith("y") else noun + "s"
    return f"{number:,} {noun if number == 1 else plural}"


def _header(cube: MemCube) -> Iterator[Piece]:
    yield (local_time(cube.happened_at), "cyan")
    whose = "/".join(filter(None, (cube.scope.user_id, cube.scope.agent_id, cube.scope.session_id)))
    if whose:
        yield f"  {whose}"
    speaker = cube.descriptive.name or cube.descriptive.role
    yield (f"  {speaker}" if speaker else "", STRONG)
    yield (f"  {cube.descriptive.semantic_type}  v{cube.version}", DIM)
    if cube.state != "activated":
        yield (f"  {cube.state.value}", ALERT)
    if cube.superseded_at is not None:
        yield ("  superseded", ALERT)
    if cube.is_stale:
        yield ("  stale", ALERT)


def _span(cube: MemCube) -> str:
    start, end = cube.descriptive.valid_from, cube.descriptive.valid_to
    if start is None and end is None:
        return ""
    return f"from {local_time(start) or 'ever'} to {local_time(end) or 'now on'}"


def _compact(value: object) -> str:
    from memos_agents.cli.terminal import dump_json

    return dump_json(value) if value else ""


def _parents(graph: ProvenanceGraph) -> dict[VersionRef, list[tuple[str, VersionRef | str]]]:
    edges: dict[VersionRef, list[tuple[str, VersionRef | str]]] = {}
    for newer, older in graph.revisions:
        edges.setdefault(newer, []).append(("revision of", older))
    for derivation in graph.derivations:
        edges.setdefault(derivation.derived, []).append((f"{derivation.kind} from", derivation.source))
    return edges


def _children(graph: ProvenanceGraph) -> dict[VersionRef, list[tuple[str, VersionRef | str]]]:
    edges: dict[VersionRef, list[tuple[str, VersionRef | str]]] = {}
    for newer, older in graph.revisions:
        edges.setdefault(older, []).append(("revised to", newer))
    for derivation in graph.derivations:
        if not isinstance(derivation.source, str):
            edges.setdefault(derivation.source, []).append((f"{derivation.kind} to", derivation.derived))
    return edges


def _branch(
    graph: ProvenanceGraph,
    root: VersionRef,
    edges: dict[VersionRef, list[tuple[str, VersionRef | str]]],
    seen: set[VersionRef],
    indent: str,
    width: int,
) -> Iterator[tuple[Piece, ...]]:
    """Depth first without recursion: a chain of revisions may be longer than Python's stack."""
    nodes = {node.ref: node for node in graph.entities}
    sources = {source.id: source for source in graph.sources}
    activities = {activity.id: activity for activity in graph.activities}
    stack: list[tuple[str, str, str, VersionRef | str]] = [(indent, indent, "", root)]
    while stack:
        lead, below, how, item = stack.pop()
        label = f"{how} " if how else ""
        if isinstance(item, str):
            source = sources.get(item)
            place = f"{source.kind} {source.locator or '(forgotten)'}" if source else item
            yield (lead, (label, DIM), shortened(place, width - len(lead) - len(label)))
            continue
        node = nodes.get(item)
        text = (node.label or f"({node.state.value})") if node else ""
        notes = f"  v{item.version}"
        if node is not None:
            activity = activities.get(node.generated_by or "")
            by = f" by {activity.kind}, {activity.agent.name or activity.agent.id}" if activity else ""
            notes += f"  {local_time(node.recorded_at)}{by}" + ("  stale" if node.is_stale else "")
        if item in seen:
            notes += "  (shown above)"
        room = max(width - len(lead) - len(label) - len(notes), 16)
        yield (lead, (label, DIM), shortened(text, room), (notes, DIM))
        yield (below, (f"  {item.cube_id}", DIM))
        if item in seen:
            continue
        seen.add(item)
        following = edges.get(item, [])
        for position, (kind, other) in reversed(list(enumerate(following))):
            is_last = position == len(following) - 1
            stack.append((below + ("└─ " if is_last else "├─ "), below + ("   " if is_last else "│  "), kind, other))
