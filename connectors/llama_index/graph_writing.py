"""Graph writing: nodes and relations into their shelves, edges between them, and the nodes near to a vector."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from llama_index.core.graph_stores.types import EntityNode, LabelledNode, Relation
from llama_index.core.vector_stores.types import VectorStoreQuery

from memos_agents.connectors.llama_index.filters import compile_filters
from memos_agents.connectors.llama_index.graph_reading import Graph
from memos_agents.connectors.llama_index.graph_values import (
    entity_in,
    is_graph_node,
    node_of,
    node_thing,
    relation_name,
    relation_thing,
    source_of,
)
from memos_agents.connectors.llama_index.ranking import WORD_MODES, rank
from memos_agents.connectors.llama_index.shelf import Vector, unit
from memos_agents.connectors.llama_index.spaces import VectorSpace
from memos_agents.connectors.llama_index.storable import storable_text
from memos_agents.errors import InvalidRequest, NotFound
from memos_agents.infrastructure.provenance.values import Relation as Edge
from memos_agents.infrastructure.provenance.values import RelationKind


def put_nodes(graph: Graph, space: VectorSpace, nodes: Sequence[LabelledNode]) -> None:
    """Write nodes with the vectors that they bring; a node without one is found by words and by its id only."""
    vectors = [None if node.embedding is None else unit(node.embedding) for node in nodes]
    lengths = {len(vector) for vector in vectors if vector is not None}
    if len(lengths) > 1:
        raise InvalidRequest(f"the embeddings of these nodes have {sorted(lengths)} numbers; embed all with one model")
    name = space.opened(lengths.pop()) if lengths else None
    graph.nodes.put([node_thing(node, vector) for node, vector in zip(nodes, vectors, strict=True)], name)


def put_relations(graph: Graph, relations: Sequence[Relation]) -> None:
    """Write statements, the nodes that they need, and the edges that tie them together."""
    ends = dict.fromkeys(end for relation in relations for end in (relation.source_id, relation.target_id))
    missing = [_end(graph, name) for name in ends if graph.nodes.current(name) is None]
    graph.nodes.put([node_thing(node, None) for node in missing], None)
    ids = {name: name if graph.nodes.named(name) is not None else _entity(name).id for name in ends}
    stated = {}
    for given in relations:
        relation = given.model_copy(update={"source_id": ids[given.source_id], "target_id": ids[given.target_id]})
        stated[relation_name(relation)] = relation
    sources = {name: graph.nodes.current(name) for name in map(source_of, stated.values()) if name is not None}
    things = []
    for relation in stated.values():
        name = source_of(relation)
        chunk = None if name is None else sources[name]
        things.append(relation_thing(relation, None if chunk is None else chunk.ref))
    graph.statements.put(things, None, relations=lambda cube_ids: _edges(graph, cube_ids, stated))


def nearest_nodes(
    graph: Graph, space: VectorSpace, query: VectorStoreQuery, mmr_threshold: float | None
) -> tuple[list[LabelledNode], list[float]]:
    """Entities and scores, best first; chunks are left to a vector index, as in upstream's own stores."""
    vector: Vector | None = None if query.mode in WORD_MODES else space.of_query(query)
    name = None if vector is None else space.known(len(vector))
    if vector is not None and name is None:
        return [], []
    source = graph.nodes.rows(name)
    matches, named = compile_filters(query.filters), set(map(storable_text, query.node_ids or ()))

    def is_admitted(metadata: Mapping[str, object]) -> bool:
        name = entity_in(metadata)
        return name is not None and (not named or name in named) and (matches is None or matches(metadata))

    rows = np.array([row for row, found in enumerate(source.metadata()) if is_admitted(found)], dtype=np.int64)
    now = graph.nodes.view._store.now()
    best, scores = rank(source, rows, query, vector, now=now, mmr_threshold=mmr_threshold)
    score_of = {source.view.refs[row]: score for row, score in zip(best.tolist(), scores, strict=True)}
    cubes = graph.nodes.cubes(list(score_of))
    return [node_of(cube) for cube in cubes], [score_of[cube.ref] for cube in cubes]


def _edges(graph: Graph, cube_ids: Mapping[str, str], stated: Mapping[str, Relation]) -> Iterable[Edge]:
    """The edges of these statements that are not there yet."""
    view = graph.nodes.view
    present = {
        (record.relation.source_id, record.relation.target_id)
        for record in view._store.vault.relations(sorted(cube_ids.values()), view.scope)
    }
    for name, statement in cube_ids.items():
        relation = stated[name]
        for pair in ((_id_of(graph, relation.source_id), statement), (statement, _id_of(graph, relation.target_id))):
            if pair not in present:
                yield Edge(
                    source_id=pair[0],
                    kind=RelationKind.RELATES_TO,
                    target_id=pair[1],
                    properties={"label": relation.label},
                )


def _id_of(graph: Graph, name: str) -> str:
    cube = graph.nodes.named(name)
    if cube is None:
        raise NotFound("an end of a relation was erased while it was being written; write it again")
    return cube.id


def _end(graph: Graph, name: str) -> LabelledNode:
    """What to write for an end that is not current: the node itself if it was put away, else a bare entity."""
    cube = graph.nodes.named(name)
    return node_of(cube) if cube is not None and is_graph_node(cube) else _entity(name)


def _entity(name: str) -> EntityNode:
    """A bare entity; its id differs from `name` where that has double quotes, which LlamaIndex keeps out of ids."""
    return EntityNode(name=name)
