"""Graph erasing: which cubes a deletion means."""

from __future__ import annotations

from collections.abc import Collection

from llama_index.core.graph_stores.types import LabelledNode, Relation

from memos_agents.connectors.llama_index.erasing import everything_in
from memos_agents.connectors.llama_index.graph_reading import Graph, Properties, extracted_from, has_any
from memos_agents.connectors.llama_index.graph_values import is_graph_node, is_statement, node_of, relation_of

_DOCUMENT = "ref_doc_id"


def doomed_by_name(graph: Graph, names: Collection[str], labels: Collection[str], properties: Properties) -> list[str]:
    """Ids of the cubes of nodes named, of relations labelled so, of what has such a property, and of all relations of
    a node that goes.
    """
    nodes, statements = _nodes(graph), _statements(graph)
    doomed = {key: node for key, node in nodes.items() if node.id in names or has_any(node, properties)}
    gone = {node.id for node in doomed.values()}
    cut = [
        key
        for key, relation in statements.items()
        if relation.label in labels or has_any(relation, properties) or {relation.source_id, relation.target_id} & gone
    ]
    return [*doomed, *cut]


def doomed_by_source(graph: Graph, chunks: Collection[str], documents: Collection[str]) -> list[str]:
    """Ids of the cubes of chunks, of the relations taken from them, and of entities that then nothing else names."""
    nodes, statements = _nodes(graph), _statements(graph)
    gone = {*chunks, *documents}
    gone.update(node.id for node in nodes.values() if node.properties.get(_DOCUMENT) in documents)
    cut = {
        key: relation
        for key, relation in statements.items()
        if extracted_from(relation, gone) or {relation.source_id, relation.target_id} & gone
    }
    named = {
        end
        for key, relation in statements.items()
        if key not in cut
        for end in (relation.source_id, relation.target_id)
    }
    doomed = [
        key for key, node in nodes.items() if node.id in gone or (extracted_from(node, gone) and node.id not in named)
    ]
    return [*doomed, *cut]


def _nodes(graph: Graph) -> dict[str, LabelledNode]:
    cubes = everything_in(graph.nodes.view, graph.nodes.collection)
    return {cube.id: node_of(cube) for cube in cubes if is_graph_node(cube)}


def _statements(graph: Graph) -> dict[str, Relation]:
    cubes = everything_in(graph.statements.view, graph.statements.collection)
    return {cube.id: relation_of(cube) for cube in cubes if is_statement(cube)}
