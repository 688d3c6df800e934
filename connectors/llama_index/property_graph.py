"""MemOSPropertyGraphStore: a labelled property graph in a MemOS store, every node and statement with its provenance.

A node is a cube. A relation is a cube too, its *statement*, tied to both ends by RELATES_TO edges that carry the label
as a property: (source)-[RELATES_TO {label}]->(statement)-[RELATES_TO {label}]->(target). Rejected: one edge between the
ends, because a vault keeps one edge of a kind between two cubes (a second label would replace the first), none from a
cube to itself, and what an edge once said cannot be erased without erasing its ends.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from llama_index.core.graph_stores.types import LabelledNode, PropertyGraphStore, Relation, Triplet
from llama_index.core.schema import BaseNode
from llama_index.core.vector_stores.types import VectorStoreQuery

from memos_agents.connectors.llama_index.erasing import erase_all
from memos_agents.connectors.llama_index.graph_erasing import doomed_by_name, doomed_by_source
from memos_agents.connectors.llama_index.graph_reading import Graph
from memos_agents.connectors.llama_index.graph_writing import nearest_nodes, put_nodes, put_relations
from memos_agents.connectors.llama_index.shelf import Shelf
from memos_agents.connectors.llama_index.spaces import VectorSpace
from memos_agents.cube.scope import Scope, check_name
from memos_agents.errors import InvalidRequest
from memos_agents.interface.recall import AnyMemOS, on_thread, view_of
from memos_agents.interface.views import ScopedMemOS

DEFAULT_COLLECTION = "llama_index.graph"

_AGENT = "llama_index.MemOSPropertyGraphStore"


class MemOSPropertyGraphStore(PropertyGraphStore):
    """A graph for `PropertyGraphIndex(property_graph_store=MemOSPropertyGraphStore(memos, user_id="mara"))`.

    Nodes and relations are upserted by id, and by ends and label; each change is a version. What a chunk was the source
    of is derived from it: when the chunk is written anew its statements are stale until they are stated again, when it
    is erased so are they. Deletion is erasure. Embeddings of nodes are kept as vectors of their own space and not
    returned. An empty list names nothing.
    """

    supports_structured_queries: bool = False
    supports_vector_queries: bool = True

    def __init__(
        self,
        memos: AnyMemOS,
        *,
        user_id: str | None = None,
        agent_id: str | None = None,
        session_id: str | None = None,
        scope: Scope | None = None,
        embedding: object | None = None,
        collection: str = DEFAULT_COLLECTION,
    ) -> None:
        """Raises `InvalidRequest` for a store without a scope. `embedding`: as for `MemOSVectorStore`."""
        views = view_of(memos, user_id=user_id, agent_id=agent_id, session_id=session_id, scope=scope)
        self._aio, self._view = views.aio, views.sync
        self._graph = Graph(
            Shelf(views.sync, check_name(collection, what="collection"), _AGENT),
            Shelf(views.sync, check_name(f"{collection}.statements", what="collection"), _AGENT),
        )
        self._space = VectorSpace(views.sync, collection, embedding)

    @property
    def client(self) -> ScopedMemOS:
        """The view underneath, for history, provenance and the like."""
        return self._view

    @property
    def memos(self) -> ScopedMemOS:
        """As `client`."""
        return self._view

    def get(self, properties: Mapping[str, Any] | None = None, ids: Sequence[str] | None = None) -> list[LabelledNode]:
        """Nodes with one of these ids of which any property has the given value; without both, all nodes."""
        return self._graph.get(properties, ids)

    def get_triplets(
        self,
        entity_names: Sequence[str] | None = None,
        relation_names: Sequence[str] | None = None,
        properties: Mapping[str, Any] | None = None,
        ids: Sequence[str] | None = None,
    ) -> list[Triplet]:
        """Triplets that meet every condition given, oldest first; none without a condition.

        `entity_names` and `ids`: one end is among these node ids. `properties`: any of the three parts has any of them.
        """
        if entity_names is None and relation_names is None and not properties and ids is None:
            return []
        return self._graph.triplets(entity_names, relation_names, properties, ids)

    def get_rel_map(
        self,
        graph_nodes: Sequence[LabelledNode],
        depth: int = 2,
        limit: int = 30,
        ignore_rels: Sequence[str] | None = None,
    ) -> list[Triplet]:
        """Triplets around these nodes, nearest first, each once."""
        return self._graph.around(graph_nodes, depth=depth, limit=limit, ignored=ignore_rels or ())

    def upsert_nodes(self, nodes: Iterable[LabelledNode]) -> None:
        """Write nodes under their ids, 500 at a time all or nothing."""
        put_nodes(self._graph, self._space, list(nodes))

    def upsert_relations(self, relations: Iterable[Relation]) -> None:
        """Write relations, and an `EntityNode` for each end that is missing, 500 at a time all or nothing."""
        put_relations(self._graph, list(relations))

    def delete(
        self,
        entity_names: Sequence[str] | None = None,
        relation_names: Sequence[str] | None = None,
        properties: Mapping[str, Any] | None = None,
        ids: Sequence[str] | None = None,
    ) -> None:
        """Erase the nodes named (with every relation of theirs), the relations with these labels, and the nodes and
        relations of which any property has the given value.

        Raises `InvalidRequest` if nothing is named; empty lists erase nothing.
        """
        if entity_names is None and relation_names is None and properties is None and ids is None:
            raise InvalidRequest("delete() must be told what: entity_names=, relation_names=, properties= or ids=")
        names = {*(entity_names or ()), *(ids or ())}
        labels = set(relation_names or ())
        if names or labels or properties:
            erase_all(self._view, lambda: doomed_by_name(self._graph, names, labels, properties or {}), agent=_AGENT)

    def delete_llama_nodes(
        self, node_ids: Sequence[str] | None = None, ref_doc_ids: Sequence[str] | None = None
    ) -> None:
        """Erase chunks, by their ids or their documents', and what was extracted from them.

        An entity that another chunk's relation names too stays.
        """
        chunks, documents = set(node_ids or ()), set(ref_doc_ids or ())
        if chunks or documents:
            erase_all(self._view, lambda: doomed_by_source(self._graph, chunks, documents), agent=_AGENT)

    def structured_query(self, query: str, param_map: Mapping[str, Any] | None = None) -> Any:
        """Not offered (`supports_structured_queries` is False): raises `InvalidRequest`."""
        raise InvalidRequest(
            "this graph takes no query language, because a statement would see beyond its scope; use get(), "
            "get_triplets(), get_rel_map() or vector_query()"
        )

    def vector_query(self, query: VectorStoreQuery, **kwargs: Any) -> tuple[list[LabelledNode], list[float]]:
        """Entities that answer a query in its mode, with scores, best first; filters are about properties."""
        return nearest_nodes(self._graph, self._space, query, kwargs.get("mmr_threshold"))

    def get_schema(self, refresh: bool = False) -> dict[str, list[str]]:
        """The labels that nodes and relations have. Reads the whole graph."""
        return self._graph.labels()

    async def aget(
        self, properties: Mapping[str, Any] | None = None, ids: Sequence[str] | None = None
    ) -> list[LabelledNode]:
        """As `get`, off the event loop."""
        return await on_thread(self._aio, self.get, properties, ids)

    async def aget_triplets(
        self,
        entity_names: Sequence[str] | None = None,
        relation_names: Sequence[str] | None = None,
        properties: Mapping[str, Any] | None = None,
        ids: Sequence[str] | None = None,
    ) -> list[Triplet]:
        """As `get_triplets`, off the event loop."""
        return await on_thread(self._aio, self.get_triplets, entity_names, relation_names, properties, ids)

    async def aget_rel_map(
        self,
        graph_nodes: Sequence[LabelledNode],
        depth: int = 2,
        limit: int = 30,
        ignore_rels: Sequence[str] | None = None,
    ) -> list[Triplet]:
        """As `get_rel_map`, off the event loop."""
        return await on_thread(self._aio, self.get_rel_map, graph_nodes, depth, limit, ignore_rels)

    async def aget_llama_nodes(self, node_ids: Sequence[str]) -> list[BaseNode]:
        """As `get_llama_nodes`, off the event loop."""
        return await on_thread(self._aio, self.get_llama_nodes, list(node_ids))

    async def aupsert_nodes(self, nodes: Iterable[LabelledNode]) -> None:
        """As `upsert_nodes`, off the event loop."""
        await on_thread(self._aio, self.upsert_nodes, list(nodes))

    async def aupsert_relations(self, relations: Iterable[Relation]) -> None:
        """As `upsert_relations`, off the event loop."""
        await on_thread(self._aio, self.upsert_relations, list(relations))

    async def adelete(
        self,
        entity_names: Sequence[str] | None = None,
        relation_names: Sequence[str] | None = None,
        properties: Mapping[str, Any] | None = None,
        ids: Sequence[str] | None = None,
    ) -> None:
        """As `delete`, off the event loop."""
        await on_thread(self._aio, self.delete, entity_names, relation_names, properties, ids)

    async def adelete_llama_nodes(
        self, node_ids: Sequence[str] | None = None, ref_doc_ids: Sequence[str] | None = None
    ) -> None:
        """As `delete_llama_nodes`, off the event loop."""
        await on_thread(self._aio, self.delete_llama_nodes, node_ids, ref_doc_ids)

    async def astructured_query(self, query: str, param_map: Mapping[str, Any] | None = None) -> Any:
        """As `structured_query`."""
        return self.structured_query(query, param_map)

    async def avector_query(self, query: VectorStoreQuery, **kwargs: Any) -> tuple[list[LabelledNode], list[float]]:
        """As `vector_query`, off the event loop."""
        return await on_thread(self._aio, self.vector_query, query, **kwargs)

    async def aget_schema(self, refresh: bool = False) -> Any:
        """As `get_schema`, off the event loop."""
        return await on_thread(self._aio, self.get_schema, refresh)

    async def aget_schema_str(self, refresh: bool = False) -> str:
        """As `get_schema_str`, off the event loop."""
        return await on_thread(self._aio, self.get_schema_str, refresh)
