"""Where the boxes and lines of a lineage go: columns from the origins at the left to the results at the right.

Layers by longest path, crossings reduced by barycentres, long lines led through columns by invisible points (Sugiyama,
Tagawa, Toda 1981, "Methods for visual understanding of hierarchical system structures"; we place boxes by repeated
averaging instead of their quadratic program). Knows sizes, but no colours and no markup. Rejected: graphviz, a program
that would have to be installed.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import Literal, TypeAlias

from memos_agents.cube.memcube import VersionRef
from memos_agents.infrastructure.provenance.parts import EntityNode, GraphParts
from memos_agents.infrastructure.provenance.values import Source

Key: TypeAlias = VersionRef | str
"""A version, or the id of a source."""
Point: TypeAlias = tuple[float, float]
_Cell: TypeAlias = "Key | tuple[int, int]"
"""What stands in a column: a box, or (number of the line, column) for a line that passes."""

COLUMN_GAP = 96.0
ROW_GAP = 20.0
_SWEEPS = 6
_MOST_PASSED = 3_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """A line from what was first to what came of it, or of a relation from its source to its target."""

    start: Key
    end: Key
    line: Literal["derivation", "revision", "relation"]
    label: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """The part of a graph that is drawn; `left_out` counts the boxes that are not."""

    nodes: Mapping[VersionRef, EntityNode]
    sources: Mapping[str, Source]
    edges: tuple[Edge, ...]
    left_out: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Upper left corners of the boxes, the points each line passes (in the order of the edges), and the whole size."""

    corners: Mapping[Key, Point]
    paths: tuple[tuple[Point, ...], ...]
    width: float
    height: float


def picture_of(graph: GraphParts, limit: int) -> Picture:
    """Choose the `limit` boxes that are the fewest steps from the root, whichever way the steps go."""
    nodes = {node.ref: node for node in graph.entities}
    sources = {source.id: source for source in graph.sources}
    heads = {ref.cube_id: ref for ref in sorted(nodes)}  # the newest version stands for its cube
    if graph.root in nodes:
        heads[graph.root.cube_id] = graph.root
    edges = [
        Edge(start=each.source, end=each.derived, line="derivation", label=each.kind) for each in graph.derivations
    ]
    edges += [Edge(start=older, end=newer, line="revision") for newer, older in graph.revisions]
    for relation in graph.relations:
        start, end = heads.get(relation.source_id), heads.get(relation.target_id)
        if start is not None and end is not None:
            label = relation.kind.value.replace("_", " ").lower()
            edges.append(Edge(start=start, end=end, line="relation", label=label))
    keys: list[Key] = [*sorted(nodes), *sorted(sources)]
    known = set(keys)
    edges = [edge for edge in edges if edge.start in known and edge.end in known and edge.start != edge.end]
    chosen = set(_nearest(graph.root, keys, edges)[:limit])
    return Picture(
        nodes={ref: node for ref, node in nodes.items() if ref in chosen},
        sources={name: source for name, source in sources.items() if name in chosen},
        edges=tuple(edge for edge in edges if edge.start in chosen and edge.end in chosen),
        left_out=len(keys) - len(chosen),
    )


def lay_out(picture: Picture, box_width: float, height_of: Callable[[Key], float]) -> Layout:
    """Place every box without overlap. 150 boxes take some milliseconds."""
    layers = _layers(picture)
    passed = sum(abs(layers[edge.end] - layers[edge.start]) for edge in picture.edges)
    chains: list[list[_Cell]] = [[edge.start, edge.end] for edge in picture.edges]
    if passed <= _MOST_PASSED:  # beyond that nobody can follow single lines anyway, and ordering them takes seconds
        chains = [_chain(number, edge, layers) for number, edge in enumerate(picture.edges)]
    columns: dict[int, list[_Cell]] = defaultdict(list)
    by_age = sorted(picture.nodes, key=lambda ref: (picture.nodes[ref].recorded_at, ref))
    keys: list[Key] = [*by_age, *sorted(picture.sources)]
    for key in keys:
        columns[layers[key]].append(key)
    links: dict[_Cell, list[_Cell]] = defaultdict(list)
    for chain in chains:
        for cell in chain[1:-1]:
            columns[_passing(cell)].append(cell)
        for left, right in pairwise(chain):
            links[left].append(right)
            links[right].append(left)
    heights: dict[_Cell, float] = {cell: 0.0 for chain in chains for cell in chain}
    heights.update({key: height_of(key) for key in keys})
    ordered = [columns[number] for number in sorted(columns)]
    _reduce_crossings(ordered, links)
    centres = _centres(ordered, links, heights)
    top = min((centres[cell] - heights[cell] / 2 for cell in heights), default=0.0)
    lefts = {cell: number * (box_width + COLUMN_GAP) for number, column in enumerate(ordered) for cell in column}
    paths = [_path(chain, lefts, centres, box_width) for chain in chains]
    return Layout(
        corners={key: (lefts[key], centres[key] - heights[key] / 2 - top) for key in layers},
        paths=tuple(tuple((x, y - top) for x, y in path) for path in paths),
        width=max((left + box_width for left in lefts.values()), default=0.0),
        height=max((centres[cell] + heights[cell] / 2 - top for cell in heights), default=0.0),
    )


def _nearest(root: Key, keys: Sequence[Key], edges: Iterable[Edge]) -> list[Key]:
    beside: dict[Key, list[Key]] = defaultdict(list)
    for edge in edges:
        beside[edge.start].append(edge.end)
        beside[edge.end].append(edge.start)
    found: dict[Key, None] = {}
    for first in (root, *keys) if root in set(keys) else keys:
        waiting = deque([first])
        while waiting:
            key = waiting.popleft()
            if key not in found:
                found[key] = None
                waiting.extend(other for other in beside[key] if other not in found)
    return list(found)


def _layers(picture: Picture) -> dict[Key, int]:
    """Every box one column right of everything it came from; what only a relation ties stands beside its partner."""
    keys: list[Key] = [*picture.nodes, *picture.sources]
    tied = {end for edge in picture.edges if edge.line != "relation" for end in (edge.start, edge.end)}
    parents: dict[Key, set[Key]] = {key: set() for key in keys}
    children: dict[Key, set[Key]] = {key: set() for key in keys}
    for edge in picture.edges:
        is_only_tie = edge.line == "relation" and not (edge.start in tied and edge.end in tied)
        if (edge.line != "relation" or is_only_tie) and edge.start not in children[edge.end]:
            parents[edge.end].add(edge.start)
            children[edge.start].add(edge.end)
    layers: dict[Key, int] = {}
    waiting = {key: len(before) for key, before in parents.items()}
    ready = deque(key for key in keys if not parents[key])
    while waiting:
        if not ready:  # a circle, which only a foreign document can hold: cut it anywhere
            ready.append(next(iter(waiting)))
        key = ready.popleft()
        if waiting.pop(key, None) is None:
            continue
        layers[key] = max((layers[parent] + 1 for parent in parents[key] if parent in layers), default=0)
        for child in children[key]:
            if child in waiting:
                waiting[child] -= 1
                if waiting[child] == 0:
                    ready.append(child)
    for key in keys:  # an origin stands directly before its first result, not at the far left
        if not parents[key] and children[key]:
            layers[key] = max(0, min(layers[child] for child in children[key]) - 1)
    return layers


def _chain(number: int, edge: Edge, layers: Mapping[Key, int]) -> list[_Cell]:
    start, end = layers[edge.start], layers[edge.end]
    step = 1 if end >= start else -1
    return [edge.start, *((number, column) for column in range(start + step, end, step)), edge.end]


def _passing(cell: _Cell) -> int:
    return int(cell[1])


def _reduce_crossings(columns: Sequence[list[_Cell]], links: Mapping[_Cell, Sequence[_Cell]]) -> None:
    for sweep in range(_SWEEPS):
        order = list(range(len(columns)))
        for number in order if sweep % 2 == 0 else reversed(order):
            beside = number - 1 if sweep % 2 == 0 else number + 1
            if 0 <= beside < len(columns):
                ranks = {cell: rank for rank, cell in enumerate(columns[beside])}
                own = {cell: rank for rank, cell in enumerate(columns[number])}
                columns[number].sort(
                    key=lambda cell: (_mean([ranks[c] for c in links[cell] if c in ranks], own[cell]), own[cell])
                )


def _centres(
    columns: Sequence[Sequence[_Cell]], links: Mapping[_Cell, Sequence[_Cell]], heights: Mapping[_Cell, float]
) -> dict[_Cell, float]:
    """Vertical centres: each as near to the mean of its neighbours as the order in its column allows."""
    centres: dict[_Cell, float] = {}
    for column in columns:
        centres.update(_stack(column, dict.fromkeys(column, 0.0), heights))
    for sweep in range(_SWEEPS):
        for column in columns if sweep % 2 == 0 else reversed(columns):
            wished = {cell: _mean([centres[other] for other in links[cell]], centres[cell]) for cell in column}
            centres.update(_stack(column, wished, heights))
    return centres


def _stack(
    column: Sequence[_Cell], wished: Mapping[_Cell, float], heights: Mapping[_Cell, float]
) -> dict[_Cell, float]:
    """Push wished centres apart until nothing overlaps: blocks that touch move together to their mean wish."""
    blocks: list[tuple[float, list[float]]] = []  # (size, wished top of each member less its offset in the block)
    tops: list[float] = []
    for cell in column:
        size, wishes = heights[cell] + ROW_GAP, [wished[cell] - heights[cell] / 2]
        while blocks and tops[-1] + blocks[-1][0] > _mean(wishes, 0.0):
            before_size, before = blocks.pop()
            tops.pop()
            wishes = before + [wish - before_size for wish in wishes]
            size += before_size
        blocks.append((size, wishes))
        tops.append(_mean(wishes, 0.0))
    placed: dict[_Cell, float] = {}
    cells = iter(column)
    for (_, wishes), top in zip(blocks, tops, strict=True):
        below = top
        for cell in islice(cells, len(wishes)):
            placed[cell] = below + heights[cell] / 2
            below += heights[cell] + ROW_GAP
    return placed


def _path(
    chain: Sequence[_Cell], lefts: Mapping[_Cell, float], centres: Mapping[_Cell, float], box_width: float
) -> list[Point]:
    """From border to border; a line that passes a column crosses all of it at one height."""
    first, last = chain[0], chain[-1]
    goes_right = lefts[last] >= lefts[first]
    points: list[Point] = [(lefts[first] + (box_width if goes_right else 0.0), centres[first])]
    for cell in chain[1:-1]:
        sides = [lefts[cell], lefts[cell] + box_width]
        points.extend((side, centres[cell]) for side in (sides if goes_right else reversed(sides)))
    enters_left = lefts[last] > lefts[first]
    points.append((lefts[last] + (0.0 if enters_left else box_width), centres[last]))
    return points


def _mean(values: Sequence[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise
