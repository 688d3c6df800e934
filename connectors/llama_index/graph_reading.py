"""Graph reading: nodes and triplets of a property graph, from the cubes that hold them. Synchronous; writes nothing."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from llama_index.core.graph_stores.types import LabelledNode, Relation, Triplet

from memos_agents.connectors.llama_index.graph_values import (
    is_graph_node,
    is_statement,
    node_of,
    relation_of,
    source_of,
)
from memos_agents.connectors.llama_index.shelf import Shelf
from memos_agents.cube.memcube import MemCube

Properties = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Graph:
    """Two shelves: the nodes under their ids, and the statements about them."""

    nodes: Shelf
    statements: Shelf

    def get(self, properties: Properties | None, ids: Collection[str] | None) -> list[LabelledNode]:
        """Nodes with one of these ids (None: any) of which any property has the given value (None or {}: any)."""
        if ids is None:
            cubes: Iterable[MemCube] = self.nodes.all()
        else:
            cubes = [cube for name in dict.fromkeys(ids) if (cube := self.nodes.current(name)) is not None]
        found = [node_of(cube) for cube in cubes if is_graph_node(cube)]
        return [node for node in found if not properties or has_any(node, properties)]

    def triplets(
        self,
        ends: Collection[str] | None,
        labels: Collection[str] | None,
        properties: Properties | None,
        more_ends: Collection[str] | None = None,
    ) -> list[Triplet]:
        """Triplets that touch one of `ends`, and one of `more_ends`, with one of these labels, and of whose three parts
        any has one of these properties; None leaves a condition out.
        """
        wanted = [set(names) for names in (ends, more_ends) if names is not None]
        if any(not names for names in wanted) or (labels is not None and not labels):
            return []
        statements = self._touching(wanted[0]) if wanted else self.statements.all()
        return [
            triplet
            for triplet in self._triplets_of(statements)
            if all(names & {triplet[0].id, triplet[2].id} for names in wanted)
            and (labels is None or triplet[1].label in labels)
            and (not properties or any(has_any(part, properties) for part in triplet))
        ]

    def around(
        self, nodes: Sequence[LabelledNode], *, depth: int, limit: int, ignored: Collection[str]
    ) -> list[Triplet]:
        """Triplets around nodes, nearest first, each once: those that touch them, then those that touch these ones'
        targets, and so on. Ignored labels are passed through, not returned.
        """
        found: dict[tuple[str, str, str], Triplet] = {}
        frontier = {node.id for node in nodes}
        for _ in range(depth):
            level = [triplet for triplet in self.triplets(frontier, None, None) if _key(triplet) not in found]
            found.update((_key(triplet), triplet) for triplet in level)
            frontier = {triplet[2].id for triplet in level}
            if not frontier:
                break
        return [triplet for triplet in found.values() if triplet[1].label not in ignored][:limit]

    def labels(self) -> dict[str, list[str]]:
        """The labels of the nodes and of the relations that there are."""
        return {
            "nodes": sorted({node.label for node in self.get(None, None)}),
            "relations": sorted({relation_of(cube).label for cube in self.statements.all() if is_statement(cube)}),
        }

    def _touching(self, names: Iterable[str]) -> list[MemCube]:
        """Current statements about any of these nodes, oldest first, found by their edges."""
        store = self.nodes.view._store
        scope = self.nodes.view.scope
        ends = {cube.id for name in names if (cube := self.nodes.current(name)) is not None}
        if not ends:
            return []
        edges = [record.relation for record in store.vault.relations(sorted(ends), scope)]
        others = {edge.source_id for edge in edges} | {edge.target_id for edge in edges}
        found = store.vault.get(sorted(others - ends), scope).values()
        current = [cube for cube in found if is_statement(cube) and self.statements.is_current(cube)]
        return sorted(current, key=lambda cube: (cube.created_at, cube.id))

    def _triplets_of(self, statements: Iterable[MemCube]) -> list[Triplet]:
        """One triplet for each ends and label: the one stated last. Statements about erased nodes are left out."""
        newest: dict[tuple[str, str, str], tuple[MemCube, Relation]] = {}
        for cube in statements:
            if is_statement(cube):
                relation = relation_of(cube)
                key = (relation.source_id, relation.label, relation.target_id)
                if key not in newest or newest[key][0].recorded_at <= cube.recorded_at:
                    newest[key] = (cube, relation)
        ends: dict[str, LabelledNode | None] = {}
        triplets: list[Triplet] = []
        for _, relation in newest.values():
            for name in (relation.source_id, relation.target_id):
                if name not in ends:
                    head = self.nodes.current(name)
                    ends[name] = None if head is None or not is_graph_node(head) else node_of(head)
            source, target = ends[relation.source_id], ends[relation.target_id]
            if source is not None and target is not None:
                triplets.append((source, relation, target))
        return triplets


def has_any(part: LabelledNode | Relation, properties: Properties) -> bool:
    """Whether any of the properties has the given value."""
    return any(part.properties.get(key) == value for key, value in properties.items())


def extracted_from(part: LabelledNode | Relation, sources: Collection[str]) -> bool:
    """Whether it was extracted from one of these chunks."""
    source = source_of(part)
    return source is not None and source in sources


def _key(triplet: Triplet) -> tuple[str, str, str]:
    return triplet[0].id, triplet[1].label, triplet[2].id
