"""MemOSEmbeddings: the embedder of a MemOS, or the built-in one, as LangChain embeddings."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from langchain_core.embeddings import Embeddings

from memos_agents.errors import InvalidRequest
from memos_agents.interface.opening import embedder_of
from memos_agents.interface.recall import AnyMemOS, fronts_of

if TYPE_CHECKING:
    from memos_agents.models.base import Embedder


class MemOSEmbeddings(Embeddings):
    """Texts to vectors of length 1, offline. A vector store that is given these uses the MemOS's own vectors.

    `memos`: whose embedder to use; without it `embedder` as `MemOS.open` takes it (None: the built-in one).
    """

    def __init__(self, memos: AnyMemOS | None = None, *, embedder: object | None = None) -> None:
        if memos is not None and embedder is not None:
            raise InvalidRequest("MemOSEmbeddings takes memos or embedder=, not both")
        found = embedder_of(embedder) if memos is None else fronts_of(memos).sync.embedder
        if found is None:
            raise InvalidRequest("there is no embedder: this store was opened with embedder='none'")
        self.embedder: Embedder = found

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """One vector for each text; all zeros for a blank one."""
        rows: list[list[float]] = self.embedder.embed(texts).tolist()
        return rows

    def embed_query(self, text: str) -> list[float]:
        """The vector of a text that searches."""
        row: list[float] = self.embedder.embed_query(text).tolist()
        return row

    async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
        """As `embed_documents`, on a thread."""
        return await asyncio.to_thread(self.embed_documents, texts)

    async def aembed_query(self, text: str) -> list[float]:
        """As `embed_query`, on a thread."""
        return await asyncio.to_thread(self.embed_query, text)
