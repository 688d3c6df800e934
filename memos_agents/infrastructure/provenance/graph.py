"""ProvenanceGraph: the answer to "where did this come from" and "what came of it"."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Literal, TypeAlias

from memos_agents.cube.canonical import JSON
from memos_agents.cube.memcube import VersionRef
from memos_agents.errors import InvalidRequest
from memos_agents.infrastructure.provenance.parts import LABEL_LENGTH, EntityNode, GraphParts, label_of
from memos_agents.infrastructure.provenance.values import Activity, Derivation, Relation, Source

__all__ = ["LABEL_LENGTH", "NODE_LIMIT", "EntityNode", "Neighbours", "ProvenanceGraph", "label_of", "walk"]

NODE_LIMIT = 10_000

Neighbours: TypeAlias = Callable[[Sequence[VersionRef], Literal["up", "down"]], Iterable[tuple[VersionRef, VersionRef]]]
"""For a frontier and a way: (version of the frontier, its neighbour) pairs, already filtered by scope."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProvenanceGraph(GraphParts):
    """A lineage that can be written as PROV-JSON, as Mermaid and as a page to look at."""

    @classmethod
    def build(
        cls,
        root: VersionRef,
        *,
        entities: Iterable[EntityNode] = (),
        sources: Iterable[Source] = (),
        activities: Iterable[Activity] = (),
        derivations: Iterable[Derivation] = (),
        revisions: Iterable[tuple[VersionRef, VersionRef]] = (),
        relations: Iterable[Relation] = (),
        truncated: bool = False,
    ) -> ProvenanceGraph:
        """Make a graph from parts in any order: sorted, and each part once."""
        relation_by_ends = {_relation_key(relation): relation for relation in relations}
        return cls(
            root=root,
            entities=tuple(sorted({node.ref: node for node in entities}.values(), key=lambda node: node.ref)),
            sources=tuple(sorted({source.id: source for source in sources}.values(), key=lambda source: source.id)),
            activities=tuple(sorted({each.id: each for each in activities}.values(), key=lambda each: each.id)),
            derivations=tuple(sorted(set(derivations), key=_derivation_key)),
            revisions=tuple(sorted(set(revisions))),
            relations=tuple(sorted(relation_by_ends.values(), key=_relation_key)),
            truncated=truncated,
        )

    def to_prov_json(self) -> dict[str, JSON]:
        """The graph as a W3C PROV-JSON document; `from_prov_json` is its inverse."""
        from memos_agents.infrastructure.provenance.prov_json import write_prov_json

        return write_prov_json(self)

    @classmethod
    def from_prov_json(cls, document: Mapping[str, JSON], *, unplaced: list[str] | None = None) -> ProvenanceGraph:
        """Read a PROV-JSON document, ours without loss, another system's as far as it has a place here.

        A foreign entity whose time of generation is known becomes version 1 of a cube with an id made from its URI
        (UUIDv5), another one a `Source`. One sentence about each statement without a place is appended to `unplaced`;
        without such a list they raise `InvalidRequest`, as does a document that is not PROV-JSON or names no version.
        """
        from memos_agents.infrastructure.provenance.prov_reading import read_prov_json

        parts, left_over = read_prov_json(document)
        if unplaced is not None:
            unplaced.extend(left_over)
        elif left_over:
            raise InvalidRequest(
                f"{len(left_over)} statement(s) of this PROV-JSON have no place in a lineage, the first: "
                f"{left_over[0]}; pass unplaced=[] to read the rest and get the list",
                unplaced=left_over,
            )
        return cls.build(**{field.name: getattr(parts, field.name) for field in fields(parts)})

    def to_mermaid(self) -> str:
        """A Mermaid flowchart, sources at the left; at most 150 versions, those nearest to the root."""
        from memos_agents.infrastructure.provenance.mermaid import to_mermaid

        return to_mermaid(self)

    def to_html(self) -> str:
        """One page that needs no network and runs no script: an SVG drawing, and a table of every version.

        Draws at most 150 versions, those nearest to the root, and says so. Every text is escaped.
        """
        from memos_agents.infrastructure.provenance.page import to_html

        return to_html(self)


def walk(
    root: VersionRef,
    direction: Literal["up", "down", "both"],
    depth: int | None,
    neighbours: Neighbours,
    limit: int = NODE_LIMIT,
) -> tuple[list[VersionRef], bool]:
    """Collect the versions within `depth` steps of `root` (None: any number), nearest first, `root` included.

    "both" is everything above and everything below, not the siblings that share an ancestor. One call of `neighbours`
    for each step and way, with the whole frontier, so a store answers a step with one query. The flag is true if
    `limit` versions were collected and there are more.
    """
    ways: tuple[Literal["up", "down"], ...] = ("up", "down") if direction == "both" else (direction,)
    found: dict[VersionRef, None] = {root: None}  # a dict keeps the order of discovery
    for way in ways:
        seen, frontier, step = {root}, [root], 0
        while frontier and (depth is None or step < depth):
            following = sorted({neighbour for _, neighbour in neighbours(frontier, way)} - seen)
            for ref in following:
                if ref not in found and len(found) >= limit:
                    return list(found), True
                found[ref] = None
            seen.update(following)
            frontier, step = following, step + 1
    return list(found), False


def _derivation_key(derivation: Derivation) -> tuple[VersionRef, bool, str, str]:
    return derivation.derived, isinstance(derivation.source, str), str(derivation.source), derivation.kind


def _relation_key(relation: Relation) -> tuple[str, str, str]:
    return relation.source_id, relation.kind.value, relation.target_id
