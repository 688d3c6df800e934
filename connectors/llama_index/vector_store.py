"""MemOSVectorStore: LlamaIndex nodes as cubes, found by the vectors that LlamaIndex made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from llama_index.core.bridge.pydantic import Field, PrivateAttr
from llama_index.core.schema import BaseNode
from llama_index.core.vector_stores.types import (
    BasePydanticVectorStore,
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryResult,
)

from memos_agents.connectors.llama_index.filters import compile_filters
from memos_agents.connectors.llama_index.nodes import NODE_ID, is_node, node_of, text_and_metadata
from memos_agents.connectors.llama_index.ranking import WORD_MODES, Rows, rank
from memos_agents.connectors.llama_index.shelf import Shelf, Thing, Vector
from memos_agents.connectors.llama_index.spaces import VectorSpace
from memos_agents.cube.memcube import MemCube
from memos_agents.cube.scope import Scope, check_name
from memos_agents.errors import InvalidRequest
from memos_agents.infrastructure.vault.base import SearchView
from memos_agents.interface.recall import AnyMemOS, Views, on_thread, view_of
from memos_agents.interface.views import ScopedMemOS

DEFAULT_COLLECTION = "llama_index"

_AGENT = "llama_index.MemOSVectorStore"
_REFERENCE = "ref_doc_id"


class MemOSVectorStore(BasePydanticVectorStore):
    """A vector store for `VectorStoreIndex`: nodes with text, versions, provenance and erasure, searched exactly.

    `StorageContext.from_defaults(vector_store=MemOSVectorStore(memos, user_id="mara"))`. A node id is a key: added
    again, it becomes a new version of the same cube. All filter operators and nested AND, OR and NOT groups work, and
    every query mode (learners need scikit-learn). Vectors are compared by their angle and kept in half precision.
    Deletion is erasure. A query costs time linear in the nodes that the scope admits.
    """

    stores_text: bool = True
    is_embedding_query: bool = True
    collection: str = Field(default=DEFAULT_COLLECTION, description="The collection that the nodes belong to.")

    _views: Views = PrivateAttr()
    _space: VectorSpace = PrivateAttr()

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
        """Raises `InvalidRequest` for a store without a scope.

        `embedding`: what the index embeds with (a LlamaIndex embedding, `MemOSEmbedding`, or any that `MemOS.open`
        takes). With it the vectors are bound to that model, and nodes and queries that come without one are embedded
        here. Without it the space is bound to the collection and the vectors' length, so use one model for it.
        """
        fields: dict[str, Any] = {"collection": check_name(collection, what="collection")}
        super().__init__(**fields)
        self._views = view_of(memos, user_id=user_id, agent_id=agent_id, session_id=session_id, scope=scope)
        self._space = VectorSpace(self._views.sync, collection, embedding)

    @classmethod
    def class_name(cls) -> str:
        """The name that LlamaIndex writes down."""
        return "MemOSVectorStore"

    @property
    def client(self) -> ScopedMemOS:
        """The view underneath, for history, provenance and the like."""
        return self._views.sync

    @property
    def memos(self) -> ScopedMemOS:
        """As `client`."""
        return self._views.sync

    def add(self, nodes: Sequence[BaseNode], **kwargs: Any) -> list[str]:
        """Write nodes with their embeddings, 500 at a time all or nothing; return their ids.

        Raises `InvalidRequest` for a node without an embedding, unless the store was given `embedding=`.
        """
        if not nodes:
            return []
        vectors = self._space.of_nodes(nodes)
        space = self._space.opened(len(vectors[0]))
        self._shelf().put(map(_thing, nodes, vectors), space)
        return [node.node_id for node in nodes]

    async def async_add(self, nodes: Sequence[BaseNode], **kwargs: Any) -> list[str]:
        """As `add`, off the event loop."""
        return await on_thread(self._views.aio, self.add, nodes)

    def delete(self, ref_doc_id: str, **delete_kwargs: Any) -> None:
        """Erase every node of a document."""
        self._shelf().erase(lambda cube: is_node(cube) and cube.metadata.get(_REFERENCE) == ref_doc_id)

    async def adelete(self, ref_doc_id: str, **delete_kwargs: Any) -> None:
        """As `delete`, off the event loop."""
        await on_thread(self._views.aio, self.delete, ref_doc_id)

    def delete_nodes(
        self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None, **delete_kwargs: Any
    ) -> None:
        """Erase the nodes with these ids (None: any) that match the filters; unknown ids are passed over.

        Raises `InvalidRequest` if neither says anything: `clear` erases all.
        """
        matches = compile_filters(filters)
        if node_ids is None and matches is None:
            raise InvalidRequest("delete_nodes() needs node_ids= or filters=; clear() erases every node")
        wanted = None if node_ids is None else set(node_ids)

        def is_doomed(cube: MemCube) -> bool:
            if not is_node(cube) or (wanted is not None and cube.metadata[NODE_ID] not in wanted):
                return False
            return matches is None or matches(cube.metadata)

        if wanted != set():
            self._shelf().erase(is_doomed)

    async def adelete_nodes(
        self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None, **delete_kwargs: Any
    ) -> None:
        """As `delete_nodes`, off the event loop."""
        await on_thread(self._views.aio, self.delete_nodes, node_ids, filters)

    def clear(self) -> None:
        """Erase every node of the collection that the scope admits."""
        self._shelf().erase(is_node)

    async def aclear(self) -> None:
        """As `clear`, off the event loop."""
        await on_thread(self._views.aio, self.clear)

    def get_nodes(self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None) -> list[BaseNode]:
        """The nodes with these ids, in that order (None: all, oldest first), that match the filters; no embeddings.

        Ids name nodes of exactly the store's scope.
        """
        matches, shelf = compile_filters(filters), self._shelf()
        if node_ids is None:
            cubes = [cube for cube in shelf.all() if is_node(cube)]
        else:
            cubes = [cube for name in dict.fromkeys(node_ids) if (cube := shelf.current(name)) and is_node(cube)]
        return [node_of(cube) for cube in cubes if matches is None or matches(cube.metadata)]

    async def aget_nodes(
        self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None
    ) -> list[BaseNode]:
        """As `get_nodes`, off the event loop."""
        return await on_thread(self._views.aio, self.get_nodes, node_ids, filters)

    def query(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        """The nodes that answer a query in its mode, with scores, best first.

        `node_ids`, `doc_ids` and `filters` are applied before ranking; an empty list of ids rules nothing out, because
        that is what an index sends that keeps its text here. `mmr_threshold` is taken from `kwargs`, else the query.
        """
        shelf = self._shelf()
        vector = None if query.mode in WORD_MODES else self._space.of_query(query)
        space = None if vector is None else self._space.known(len(vector))
        if vector is not None and space is None:
            return VectorStoreQueryResult(nodes=[], similarities=[], ids=[])  # no node has such a vector
        source = shelf.rows(space)
        is_open = query.filters is None and not query.node_ids and not query.doc_ids
        rows = np.arange(len(source.view)) if is_open else _admitted(source, query)
        while True:
            best, scores = rank(
                source,
                rows,
                query,
                vector,
                now=self._views.sync._store.now(),
                mmr_threshold=kwargs.get("mmr_threshold"),
            )
            score_of = {source.view.refs[row]: score for row, score in zip(best.tolist(), scores, strict=True)}
            cubes = shelf.cubes(list(score_of))
            if not is_open or all(map(is_node, cubes)):
                break
            is_open, rows = False, _admitted(source, query)  # other fronts keep things in this collection too
        return VectorStoreQueryResult(
            nodes=[node_of(cube) for cube in cubes],
            similarities=[score_of[cube.ref] for cube in cubes],
            ids=[str(cube.metadata[NODE_ID]) for cube in cubes],
        )

    async def aquery(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        """As `query`, off the event loop."""
        return await on_thread(self._views.aio, self.query, query, **kwargs)

    def _shelf(self) -> Shelf:
        return Shelf(self._views.sync, self.collection, _AGENT)


def _thing(node: BaseNode, vector: Vector) -> Thing:
    text, metadata = text_and_metadata(node)
    return Thing(name=node.node_id, text=text, metadata=metadata, semantic_type="document", vector=vector)


def _admitted(source: SearchView, query: VectorStoreQuery) -> Rows:
    """The rows that are nodes and that the query does not rule out."""
    matches = compile_filters(query.filters)
    node_ids, doc_ids = set(query.node_ids or ()), set(query.doc_ids or ())

    def is_admitted(metadata: Mapping[str, object]) -> bool:
        return (
            NODE_ID in metadata
            and (not node_ids or metadata[NODE_ID] in node_ids)
            and (not doc_ids or metadata.get(_REFERENCE) in doc_ids)
            and (matches is None or matches(metadata))
        )

    return np.array([row for row, metadata in enumerate(source.metadata()) if is_admitted(metadata)], dtype=np.int64)
