"""MemOSEmbedding: the store's own embedder, for LlamaIndex's indexes."""

from __future__ import annotations

from typing import Any

from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.bridge.pydantic import PrivateAttr

from memos_agents.connectors.llama_index.storable import storable_text
from memos_agents.errors import InvalidRequest
from memos_agents.interface.recall import AnyMemOS, Fronts, fronts_of, on_thread
from memos_agents.models.base import Embedder


class MemOSEmbedding(BaseEmbedding):
    """The embedder of an open store as a LlamaIndex embedding: offline, and in the store's default vector space.

    With `VectorStoreIndex(..., embed_model=embedding)` and `MemOSVectorStore(..., embedding=embedding)` what an index
    holds can also be found by `memos.search(..., collection=...)` by its meaning.
    """

    _fronts: Fronts = PrivateAttr()
    _embedder: Embedder = PrivateAttr()

    def __init__(self, memos: AnyMemOS, **kwargs: Any) -> None:
        """`kwargs` are those of LlamaIndex's `BaseEmbedding`. Raises `InvalidRequest` for a store without embedder."""
        fronts = fronts_of(memos)
        embedder = fronts.sync.embedder
        if embedder is None:
            raise InvalidRequest('this store was opened with embedder="none" and makes no vectors')
        super().__init__(model_name=embedder.fingerprint, **kwargs)
        self._fronts, self._embedder = fronts, embedder

    @classmethod
    def class_name(cls) -> str:
        """The name that LlamaIndex writes down."""
        return "MemOSEmbedding"

    @property
    def embedder(self) -> Embedder:
        """What the numbers come from."""
        return self._embedder

    def _get_query_embedding(self, query: str) -> list[float]:
        vector: list[float] = self._embedder.embed_query(storable_text(query)).tolist()
        return vector

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return await on_thread(self._fronts.aio, self._get_query_embedding, query)

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._get_text_embeddings([text])[0]

    async def _aget_text_embedding(self, text: str) -> list[float]:
        return await on_thread(self._fronts.aio, self._get_text_embedding, text)

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        rows: list[list[float]] = self._embedder.embed([storable_text(text) for text in texts]).tolist()
        return rows

    async def _aget_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return await on_thread(self._fronts.aio, self._get_text_embeddings, texts)
