"""A lineage as one page: what is asked about, a drawing, and tables that hold every version.

Needs no network and runs no script; its content security policy forbids both. Texts come from anybody, so every one
of them is escaped, and invisible and direction-changing characters are taken out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape

from memos_agents.cube.canonical import canonical_json
from memos_agents.infrastructure.provenance.layout import Picture, picture_of
from memos_agents.infrastructure.provenance.parts import EntityNode, GraphParts
from memos_agents.infrastructure.provenance.svg import anchor_of, draw
from memos_agents.infrastructure.provenance.values import Activity
from memos_agents.infrastructure.provenance.wording import (
    STATUS_WORDS,
    clean,
    deed_of,
    moment,
    status_of,
    text_of,
    title_of,
)

DRAWN_LIMIT = 150


def to_html(graph: GraphParts) -> str:
    """The whole page, as text to write to a `.html` file in UTF-8."""
    picture = picture_of(graph, DRAWN_LIMIT)
    activities = {activity.id: activity for activity in graph.activities}
    root = graph.entity(graph.root)
    return "\n".join(
        [
            _HEAD,
            '<main><p class="kicker">Provenance</p>',
            f"<h1>{_safe(text_of(root)) if root else 'A memory'}</h1>",
            f'<p class="sub">{_summary(graph, root)}</p>',
            *_notices(graph, picture),
            _legend(picture, root),
            '<div class="drawing" tabindex="0" role="region" aria-label="Drawing">',
            draw(picture, activities, graph.root),
            "</div>",
            *_tables(graph, activities),
            "</main></body></html>\n",
        ]
    )


def _summary(graph: GraphParts, root: EntityNode | None) -> str:
    counts = [
        _counted(len(graph.entities), "version"),
        _counted(len(graph.sources), "source"),
        _counted(len(graph.activities), "activity", "activities"),
    ]
    what = f"{title_of(root)} of cube" if root else "Cube"
    return f"{_safe(what)} <code>{_safe(clean(graph.root.cube_id))}</code> · {', '.join(counts)}"


def _notices(graph: GraphParts, picture: Picture) -> Iterator[str]:
    if picture.left_out:
        yield f'<p class="notice">{picture.left_out} more, further away, are in the tables only.</p>'
    if graph.truncated:
        yield '<p class="notice">The lineage goes on; ask about one of the outermost versions to see more.</p>'


def _legend(picture: Picture, root: EntityNode | None) -> str:
    lines = {edge.line for edge in picture.edges}
    words = {"derivation": "was made from", "revision": "new version of the same memory", "relation": "is related"}
    entries = [
        f'<li><svg width="34" height="10" aria-hidden="true"><path class="line {line}" d="M1 5 H33"/></svg>{text}</li>'
        for line, text in words.items()
        if line in lines
    ]
    if root is not None:
        entries.append('<li><a href="#asked"><span class="swatch"></span>asked about</a></li>')
    shown = {status_of(node) for node in picture.nodes.values()}
    entries += [
        f'<li><span class="tag {status}">{status}</span>{text}</li>'
        for status, text in STATUS_WORDS.items()
        if status in shown
    ]
    return f'<ul class="legend">{"".join(entries)}</ul>' if entries else ""


def _tables(graph: GraphParts, activities: Mapping[str, Activity]) -> Iterator[str]:
    rows = []
    for node in sorted(graph.entities, key=lambda node: (node.recorded_at, node.ref)):
        status = status_of(node)
        tag = f'<span class="tag {status}">{status}</span>' if status else "current"
        until = f" to {moment(node.superseded_at)}" if node.superseded_at else ""
        deed = deed_of(activities.get(node.generated_by or ""))
        rows.append(
            f'<tr id="{anchor_of(node.ref)}"><td>{_safe(text_of(node))}</td><td>{tag}</td>'
            f"<td>{moment(node.recorded_at)}{until}</td><td>{_safe(deed)}</td>"
            f"<td><code>{_safe(clean(node.ref.cube_id))}</code> v{node.ref.version}</td>"
            f"<td><code>{_safe(clean(node.content_hash)[:16])}</code></td></tr>"
        )
    yield _table("Versions", ("Text", "State", "Believed (UTC)", "Made by", "Cube", "SHA-256 begins"), rows)
    yield _table(
        "Sources",
        ("Kind", "Where", "SHA-256"),
        [
            _row(
                _safe(clean(each.kind)),
                _safe(clean(each.locator, limit=300)),
                f"<code>{_safe(clean(each.sha256 or ''))}</code>",
            )
            for each in graph.sources
        ],
    )
    yield _table(
        "Relations",
        ("From", "Relation", "To", "Properties"),
        [
            _row(
                f"<code>{_safe(clean(each.source_id))}</code>",
                each.kind.value.replace("_", " ").lower(),
                f"<code>{_safe(clean(each.target_id))}</code>",
                _safe(clean(canonical_json(each.properties), limit=300)) if each.properties else "",
            )
            for each in graph.relations
        ],
    )
    yield _table(
        "Activities",
        ("What", "When (UTC)", "Parameters", "Id"),
        [
            _row(
                _safe(deed_of(each)),
                moment(each.started_at),
                _safe(clean(canonical_json(each.parameters), limit=300)) if each.parameters else "",
                f"<code>{_safe(clean(each.id))}</code>",
            )
            for each in sorted(graph.activities, key=lambda each: (each.started_at, each.id))
        ],
    )


def _table(title: str, columns: Sequence[str], rows: Sequence[str]) -> str:
    if not rows:
        return ""
    head = "".join(f'<th scope="col">{column}</th>' for column in columns)
    return (
        f'<h2>{title}</h2><div class="table"><table><thead><tr>{head}</tr></thead>\n'
        f"<tbody>{chr(10).join(rows)}</tbody></table></div>"
    )


def _row(*cells: str) -> str:
    return f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"


def _counted(number: int, one: str, many: str = "") -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"


def _safe(text: str) -> str:
    return escape(text, quote=True)


_STYLE = """
:root { color-scheme: light dark; --page: #f6f7f9; --card: #ffffff; --ink: #1b2027; --soft: #57606c; --rule: #c6ccd4;
  --accent: #0b5cad; --tie: #7a3ea8; --source: #eaf3ee; --warn: #7a4d00; --warn-back: #fdf0cf; --gone: #9d2219;
  --gone-back: #fce9e7; --past: #515a66; --past-back: #e7eaee; }
@media (prefers-color-scheme: dark) { :root { --page: #14171b; --card: #1e2329; --ink: #e7eaee; --soft: #a3adb9;
  --rule: #454e59; --accent: #7db6ff; --tie: #cf9df5; --source: #1b2b25; --warn: #f2c25c; --warn-back: #3b2f10;
  --gone: #ff9f96; --gone-back: #432120; --past: #b3bcc7; --past-back: #313840; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 15px/1.5 system-ui, Roboto, sans-serif; }
main { max-width: 1400px; margin: 0 auto; padding: 28px 20px 60px; }
.kicker { margin: 0; color: var(--soft); font-size: 13px; }
h1 { margin: 2px 0 4px; font-size: 24px; line-height: 1.25; overflow-wrap: anywhere; }
h2 { margin: 32px 0 8px; font-size: 17px; }
.sub { margin: 0 0 14px; color: var(--soft); overflow-wrap: anywhere; }
code { font: 12.5px ui-monospace, "SF Mono", Menlo, Consolas, monospace; overflow-wrap: anywhere; }
.notice { margin: 0 0 12px; padding: 8px 12px; border-left: 3px solid var(--warn); background: var(--warn-back); }
.legend { display: flex; flex-wrap: wrap; gap: 6px 22px; margin: 0 0 12px; padding: 0; list-style: none;
  font-size: 13px; color: var(--soft); }
.legend a { color: inherit; }
.legend li, .legend a { display: flex; align-items: center; gap: 8px; }
.swatch { width: 22px; height: 14px; border: 2.5px solid var(--accent); border-radius: 4px; }
.drawing { overflow: auto; max-height: 80vh; border: 1px solid var(--rule); border-radius: 10px; }
.drawing svg { display: block; margin: 0 auto; }
.table { overflow-x: auto; }
table { width: 100%; border-collapse: collapse; font-size: 13.5px; }
th, td { padding: 7px 12px 7px 0; border-bottom: 1px solid var(--rule); text-align: left; vertical-align: top; }
th { color: var(--soft); font-weight: 600; white-space: nowrap; }
td:first-child { min-width: 180px; overflow-wrap: anywhere; }
tr:target { background: var(--warn-back); }
.tag { padding: 1px 8px; border-radius: 9px; background: var(--past-back); color: var(--past); font-size: 12px; }
.tag.stale { background: var(--warn-back); color: var(--warn); }
.tag.erased, .tag.invalidated { background: var(--gone-back); color: var(--gone); }
.line { fill: none; stroke: var(--soft); stroke-width: 1.6; }
.line.revision { stroke: var(--accent); stroke-dasharray: 6 4; }
.line.relation { stroke: var(--tie); stroke-dasharray: 2 4; stroke-linecap: round; stroke-width: 2; }
marker path { fill: var(--soft); }
marker.revision path { fill: var(--accent); }
marker.relation path { fill: var(--tie); }
.card { fill: var(--card); stroke: var(--rule); stroke-width: 1.2; }
.source .card { fill: var(--source); }
.superseded .card, .invalidated .card, .stale .card, .erased .card { stroke-dasharray: 5 4; }
.root .card { stroke: var(--accent); stroke-width: 2.6; stroke-dasharray: none; }
a:hover .card, a:focus .card { stroke: var(--accent); stroke-width: 2.6; }
svg text { fill: var(--ink); font-size: 13.5px; }
svg .head { fill: var(--soft); font-size: 12px; font-weight: 600; }
svg .small { fill: var(--soft); font-size: 11.5px; }
.superseded .text, .erased .text, .invalidated .text { fill: var(--soft); }
.erased .text { font-style: italic; }
.chip { fill: var(--past-back); }
svg .chip-text { fill: var(--past); font-size: 12px; }
.stale .chip { fill: var(--warn-back); }
svg .stale .chip-text { fill: var(--warn); }
.erased .chip, .invalidated .chip { fill: var(--gone-back); }
svg .erased .chip-text, svg .invalidated .chip-text { fill: var(--gone); }
svg .edge { fill: var(--soft); font-size: 12px; stroke: var(--page); stroke-width: 4px; paint-order: stroke; }
svg .edge.relation { fill: var(--tie); }
@media print { .drawing { max-height: none; overflow: visible; } .drawing svg { max-width: 100%; height: auto; } }
"""

_HEAD = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>Provenance of a memory</title>
<style>{_STYLE}</style></head><body>"""
