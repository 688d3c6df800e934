"""A lineage as a Mermaid flowchart, for README files, issues and notebooks that draw it."""

from __future__ import annotations

import re

from memos_agents.infrastructure.provenance.layout import Edge, Key, picture_of
from memos_agents.infrastructure.provenance.parts import GraphParts
from memos_agents.infrastructure.provenance.wording import (
    clean,
    deed_of,
    moment,
    status_of,
    text_of,
    title_of,
    title_of_source,
)

MERMAID_LIMIT = 150
MERMAID_LINES = 500
"""Mermaid refuses to draw more lines than that, unless its `maxEdges` says otherwise."""

_STYLES = {
    "root": "stroke-width:3px",
    "superseded": "stroke-dasharray:4 3",
    "invalidated": "stroke-dasharray:4 3",
    "stale": "stroke:#b7791f,stroke-width:2px",
    "erased": "stroke:#c53030,stroke-dasharray:2 2",
}


def to_mermaid(graph: GraphParts) -> str:
    """The chart's text; every character of a label that could mean something to Mermaid is an entity code."""
    limit = MERMAID_LIMIT
    while len((picture := picture_of(graph, limit)).edges) > MERMAID_LINES and limit > 1:
        limit //= 2
    activities = {activity.id: activity for activity in graph.activities}
    names: dict[Key, str] = {}
    lines = ["flowchart LR"]
    classes: dict[str, list[str]] = {}
    for name, source in sorted(picture.sources.items()):
        names[name] = f"s{len(names)}"
        lines.append(f'    {names[name]}[("{_lines(title_of_source(source), clean(source.locator))}")]')
    for ref, node in sorted(picture.nodes.items()):
        names[ref] = f"v{len(names)}"
        status = status_of(node)
        title = f"{title_of(node)}, {status}" if status else title_of(node)
        times = f"{moment(node.recorded_at)} UTC"
        deed = deed_of(activities.get(node.generated_by or ""))
        lines.append(f'    {names[ref]}["{_lines(title, text_of(node), deed, times)}"]')
        for style in (status, "root" if ref == graph.root else ""):
            if style in _STYLES:
                classes.setdefault(style, []).append(names[ref])
    lines.extend(f"    {names[edge.start]} {_arrow(edge)} {names[edge.end]}" for edge in picture.edges)
    if picture.left_out or graph.truncated:
        lines.append(f'    more["{picture.left_out or "some"} more are not drawn"]')
    for style, members in classes.items():
        lines.append(f"    classDef {style} {_STYLES[style]}")
        lines.append(f"    class {','.join(members)} {style}")
    return "\n".join(lines) + "\n"


def _arrow(edge: Edge) -> str:
    label = {"revision": "new version"}.get(edge.line, clean(edge.label, limit=30))
    arrow = "-.->" if edge.line == "relation" else "==>" if edge.line == "revision" else "-->"
    return f'{arrow}|"{_coded(label)}"|' if label else arrow


def _lines(*lines: str) -> str:
    return "<br/>".join(_coded(line) for line in lines if line)


def _coded(text: str) -> str:
    """Plain words stay readable; '1.' and '-' at the start of a line would be a Markdown list."""
    return re.sub(r"(?<=\d)\.|(?<![^\W_])-|[^\w .,:/()\u0300-\U0010ffff-]|_", lambda found: f"#{ord(found[0])};", text)
