"""Spaces: which vector space LlamaIndex's embeddings belong to."""

from __future__ import annotations

from collections.abc import Sequence

from llama_index.core.schema import BaseNode, MetadataMode
from llama_index.core.vector_stores.types import VectorStoreQuery

from memos_agents.connectors.llama_index.embedding import MemOSEmbedding
from memos_agents.connectors.llama_index.shelf import Vector, open_space, unit
from memos_agents.connectors.llama_index.storable import storable_text
from memos_agents.errors import InvalidRequest
from memos_agents.interface.views import ScopedMemOS
from memos_agents.models.adapters import as_embedder
from memos_agents.models.base import Embedder


class VectorSpace:
    """The vectors of one collection. With `embedding` they are bound to that model, else to collection and length."""

    def __init__(self, view: ScopedMemOS, collection: str, embedding: object | None) -> None:
        self._view, self._collection = view, collection
        self._embedder: Embedder | None = None
        if isinstance(embedding, MemOSEmbedding):
            self._embedder = embedding.embedder
        elif embedding is not None:
            self._embedder = as_embedder(embedding)

    def opened(self, dimension: int) -> str:
        """The space for vectors of this length, made if it is new."""
        return open_space(self._view, self._name(dimension), self._checked(dimension))

    def known(self, dimension: int) -> str | None:
        """The space for vectors of this length; None if nothing was ever written there."""
        name = self._name(self._checked(dimension))
        return name if any(space.fingerprint == name for space in self._view._store.vault.spaces()) else None

    def of_nodes(self, nodes: Sequence[BaseNode]) -> list[Vector]:
        """The vectors of nodes, each of length 1; `InvalidRequest` for one without, unless there is a model for it."""
        found: list[Vector | None] = [None if node.embedding is None else unit(node.embedding) for node in nodes]
        missing = [position for position, vector in enumerate(found) if vector is None]
        if missing:
            if self._embedder is None:
                raise InvalidRequest(
                    f"node {nodes[missing[0]].node_id!r} has no embedding; embed it, or give the store embedding="
                )
            texts = [storable_text(nodes[place].get_content(metadata_mode=MetadataMode.EMBED)) for place in missing]
            for place, row in zip(missing, self._embedder.embed(texts), strict=True):
                found[place] = row
        vectors = [vector for vector in found if vector is not None]
        odd = next((place for place, vector in enumerate(vectors) if len(vector) != len(vectors[0])), None)
        if odd is not None:
            raise InvalidRequest(
                f"node {nodes[odd].node_id!r} has an embedding of {len(vectors[odd])} numbers, others of "
                f"{len(vectors[0])}; embed all of them with one model"
            )
        return vectors

    def of_query(self, query: VectorStoreQuery) -> Vector | None:
        """The vector of a query, of length 1; None if it has none and there is no model to make one."""
        if query.query_embedding is not None:
            return unit(query.query_embedding)
        if self._embedder is None or not query.query_str:
            return None
        return self._embedder.embed_query(storable_text(query.query_str))

    def _name(self, dimension: int) -> str:
        return f"llama_index:{self._collection}:{dimension}" if self._embedder is None else self._embedder.fingerprint

    def _checked(self, dimension: int) -> int:
        if self._embedder is not None and self._embedder.dimension != dimension:
            raise InvalidRequest(
                f"a vector of {dimension} numbers is not of the embedding that this store was given, which makes "
                f"{self._embedder.dimension}"
            )
        return dimension
