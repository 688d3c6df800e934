"""Draws a picture of a lineage as SVG. Colours come from the page's style sheet, through class names."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from memos_agents.cube.memcube import VersionRef
from memos_agents.infrastructure.provenance.layout import Edge, Key, Picture, Point, lay_out
from memos_agents.infrastructure.provenance.parts import EntityNode
from memos_agents.infrastructure.provenance.values import Activity, Source
from memos_agents.infrastructure.provenance.wording import (
    clean,
    deed_of,
    moment,
    status_of,
    text_of,
    title_of,
    title_of_source,
)

BOX_WIDTH = 256.0
_PADDING = 12.0
_LINE = 18.0
_SMALL_LINE = 16.0
_COLUMNS = 31
"""Latin characters that fit a line of a box; a wide one counts twice."""
_MARGIN = 14.0


def draw(picture: Picture, activities: Mapping[str, Activity], root: VersionRef) -> str:
    """The `<svg>` element. A box links to `#` + `anchor_of` of its version."""
    boxes: dict[Key, _Box] = {ref: _Box.of_version(node, activities, root) for ref, node in picture.nodes.items()}
    boxes.update({name: _Box.of_source(source) for name, source in picture.sources.items()})
    layout = lay_out(picture, BOX_WIDTH, lambda key: boxes[key].height)
    width, height = layout.width + 2 * _MARGIN, layout.height + 2 * _MARGIN
    shape = (
        f'width="{width:.0f}" height="{height:.0f}" viewBox="-{_MARGIN:.0f} -{_MARGIN:.0f} {width:.0f} {height:.0f}"'
    )
    what = f"{len(picture.nodes)} versions and {len(picture.sources)} sources; the tables below hold all of them"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {shape} role="img" aria-labelledby="what">',
        f'<title id="what">{what}</title>',
        _ARROWS,
    ]
    labels = []
    told: set[tuple[Key, str]] = set()
    for edge, path in zip(picture.edges, layout.paths, strict=True):
        parts.append(f'<path class="line {edge.line}" d="{_curve(path)}" marker-end="url(#arrow-{edge.line})"/>')
        is_plain = edge.line == "revision" or edge.label == "derive"
        if not is_plain and (edge.line == "relation" or (edge.end, edge.label) not in told):
            told.add((edge.end, edge.label))
            labels.append(_edge_label(edge, path))
    for key, (x, y) in layout.corners.items():
        parts.append(boxes[key].markup(x, y))
    return "\n".join([*parts, *labels, "</svg>"])


def anchor_of(ref: VersionRef) -> str:
    """The id of a version's row in the page's table."""
    return f"v{ref.version}-{''.join(c for c in ref.cube_id if c.isascii() and c.isalnum())}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Box:
    """A card: a title with a status, some lines of text, small print. `link` is an anchor of the page."""

    kind: str
    title: str
    status: str = ""
    lines: Sequence[str]
    small: Sequence[str]
    tip: str
    link: str = ""
    is_root: bool = False

    @classmethod
    def of_version(cls, node: EntityNode, activities: Mapping[str, Activity], root: VersionRef) -> _Box:
        status = status_of(node)
        deed = deed_of(activities.get(node.generated_by or ""))
        times = f"{moment(node.recorded_at)} UTC"
        if node.superseded_at is not None:
            times = f"{moment(node.recorded_at)[:10]} to {moment(node.superseded_at)[:10]}"
        return cls(
            kind=f"version {status}{' root' if node.ref == root else ''}",
            title=title_of(node),
            status=status,
            lines=wrapped(text_of(node)),
            small=[deed, times] if deed else [times],
            tip=f"{node.ref}, SHA-256 {node.content_hash}",
            link=anchor_of(node.ref),
            is_root=node.ref == root,
        )

    @classmethod
    def of_source(cls, source: Source) -> _Box:
        return cls(
            kind="source",
            title=title_of_source(source),
            lines=wrapped(clean(source.locator, limit=200) or "(no address)"),
            small=[f"SHA-256 {clean(source.sha256)[:16]}…"] if source.sha256 else [],
            tip=source.locator,
        )

    @property
    def height(self) -> float:
        return 2 * _PADDING + _LINE + _LINE * len(self.lines) + _SMALL_LINE * len(self.small) + 4

    def markup(self, x: float, y: float) -> str:
        return "".join(self._parts(x, y))

    def _parts(self, x: float, y: float) -> Iterator[str]:
        yield f'<a href="#{self.link}">' if self.link else "<g>"
        name = ' id="asked"' if self.is_root else ""
        yield f'<g{name} class="box {self.kind}" transform="translate({x:.1f} {y:.1f})">'
        yield f"<title>{_safe(clean(self.tip, limit=300))}</title>"
        yield f'<rect class="card" width="{BOX_WIDTH:.0f}" height="{self.height:.0f}" rx="8"/>'
        baseline = _PADDING + 12
        yield f'<text class="head" x="{_PADDING:.0f}" y="{baseline:.0f}">{_safe(_cut(self.title, 26))}</text>'
        if self.status:
            width = 7 * len(self.status) + 14
            left = BOX_WIDTH - _PADDING - width
            yield f'<rect class="chip" x="{left:.0f}" y="{_PADDING - 2:.0f}" width="{width}" height="19" rx="9.5"/>'
            yield (
                f'<text class="chip-text" x="{left + width / 2:.1f}" y="{_PADDING + 12:.0f}" '
                f'text-anchor="middle">{_safe(self.status)}</text>'
            )
        baseline += 4
        for line in self.lines:
            baseline += _LINE
            yield f'<text class="text" x="{_PADDING:.0f}" y="{baseline:.0f}">{_safe(line)}</text>'
        baseline += 3
        for line in self.small:
            baseline += _SMALL_LINE
            yield f'<text class="small" x="{_PADDING:.0f}" y="{baseline:.0f}">{_safe(_cut(line, 38))}</text>'
        yield "</g>"
        yield "</a>" if self.link else "</g>"


def wrapped(text: str) -> list[str]:
    """Lines of a box's width, broken between words, or inside one that is longer than a line; at most four."""
    lines = [""]
    for word in text.split():
        if lines[-1] and _width(lines[-1]) + 1 + _width(word) <= _COLUMNS:
            lines[-1] += f" {word}"
            continue
        if lines[-1]:
            lines.append("")
        for character in word:
            if _width(lines[-1] + character) > _COLUMNS:
                lines.append("")
            lines[-1] += character
    return lines if len(lines) <= 4 else [*lines[:3], _cut(lines[3], _COLUMNS - 1) + "…"]


def _width(text: str) -> int:
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def _cut(text: str, columns: int) -> str:
    while _width(text) > columns:
        text = text[: max(len(text) - 2, 0)].rstrip() + "…" if _width(text) - columns < 2 else text[:-2]
    return text


def _curve(path: Sequence[Point]) -> str:
    (x, y), *rest = path
    pieces = [f"M{x:.1f} {y:.1f}"]
    for next_x, next_y in rest:
        if next_x == x:  # both ends in one column: around the outside
            pieces.append(f"C{x + 60:.1f} {y:.1f} {x + 60:.1f} {next_y:.1f} {next_x:.1f} {next_y:.1f}")
        elif next_y == y:
            pieces.append(f"L{next_x:.1f} {next_y:.1f}")
        else:
            middle = (x + next_x) / 2
            pieces.append(f"C{middle:.1f} {y:.1f} {middle:.1f} {next_y:.1f} {next_x:.1f} {next_y:.1f}")
        x, y = next_x, next_y
    return " ".join(pieces)


def _edge_label(edge: Edge, path: Sequence[Point]) -> str:
    (x, y), (next_x, next_y) = path[-2], path[-1]
    middle = x + 45 if next_x == x else (x + next_x) / 2
    return (
        f'<text class="edge {edge.line}" x="{middle:.1f}" y="{(y + next_y) / 2 - 5:.1f}" text-anchor="middle">'
        f"{_safe(clean(edge.label, limit=18))}</text>"
    )


def _safe(text: str) -> str:
    return escape(text, quote=True)


_MARKER = (
    'viewBox="0 0 8 8" refX="7.5" refY="4" markerWidth="8" markerHeight="8" orient="auto" markerUnits="userSpaceOnUse"'
)
_ARROWS = "<defs>{}</defs>".format(
    "".join(
        f'<marker id="arrow-{line}" class="{line}" {_MARKER}><path d="M0 0 L8 4 L0 8 z"/></marker>'
        for line in ("derivation", "revision", "relation")
    )
)
