"""MemOSVectorStore: LangChain's vector store on a MemOS; every document is a cube."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.vectorstores import VectorStore
from langchain_core.vectorstores.utils import maximal_marginal_relevance

from memos_agents.connectors.langchain.documents import plain_document
from memos_agents.connectors.langchain.embeddings import MemOSEmbeddings
from memos_agents.connectors.langchain.shelf import Filter, Shelf, checked_documents, documents_of
from memos_agents.cube.metadata import DEFAULT_COLLECTION
from memos_agents.cube.scope import Scope
from memos_agents.errors import InvalidRequest
from memos_agents.interface.recall import AnyMemOS, on_thread, view_of


class MemOSVectorStore(VectorStore):
    """Documents by id and by the angle of their vectors; scores are cosines, higher is nearer.

    `memos` is a scoped view, or a store with `user_id=` and the like. Without `embedding` the MemOS's own vectors are
    used, and the search sees what other fronts remembered in this scope and `collection`; another model gets a vector
    space of its own, in which only what was added through it is found. An id added again becomes a new version;
    `delete` erases. `as_retriever()` ranks like this store; `MemOSRetriever` ranks like `MemOS.search`.
    """

    def __init__(
        self,
        memos: AnyMemOS,
        embedding: Embeddings | None = None,
        *,
        user_id: str | None = None,
        agent_id: str | None = None,
        session_id: str | None = None,
        scope: Scope | None = None,
        collection: str = DEFAULT_COLLECTION,
    ) -> None:
        view, self._aio = view_of(memos, user_id=user_id, agent_id=agent_id, session_id=session_id, scope=scope)
        self._embedding = MemOSEmbeddings(view) if embedding is None else embedding
        self._shelf = Shelf(view, self._embedding, collection)

    @property
    def embeddings(self) -> Embeddings:
        """What turns texts into vectors."""
        return self._embedding

    # -- writing

    def add_documents(self, documents: list[Document], ids: list[str] | None = None, **kwargs: Any) -> list[str]:
        """Add or replace documents; return their ids, made where there are none. 500 at a time, each time all or none.

        Metadata must be JSON. Raises `InvalidRequest` before anything is embedded or written.
        """
        items = checked_documents(documents, ids)
        rows = None
        if items and not self._shelf.space().is_own:
            rows = self._embedding.embed_documents([item.text for item in items])
        self._shelf.write(items, rows)
        return [item.id for item in items]

    async def aadd_documents(self, documents: list[Document], ids: list[str] | None = None, **kwargs: Any) -> list[str]:
        """As `add_documents`."""
        items = checked_documents(documents, ids)
        rows = None
        if items and not (await on_thread(self._aio, self._shelf.space)).is_own:
            rows = await self._embedding.aembed_documents([item.text for item in items])
        await on_thread(self._aio, self._shelf.write, items, rows)
        return [item.id for item in items]

    def add_texts(
        self,
        texts: Iterable[str],
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        **kwargs: Any,
    ) -> list[str]:
        """As `add_documents`."""
        return self.add_documents(documents_of(texts, metadatas), ids)

    async def aadd_texts(
        self,
        texts: Iterable[str],
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        **kwargs: Any,
    ) -> list[str]:
        """As `add_documents`."""
        return await self.aadd_documents(documents_of(texts, metadatas), ids)

    def delete(self, ids: Sequence[str] | None = None, **kwargs: Any) -> bool:
        """Erase documents, with what was derived from them; ids that are not there are passed over.

        Without ids nothing is deleted: `InvalidRequest` says how to erase a whole scope.
        """
        if ids is None:
            raise InvalidRequest("delete() needs ids; a whole scope is erased by memos.erase(user_id=...)")
        if ids:
            self._shelf.erase(ids)
        return True

    async def adelete(self, ids: Sequence[str] | None = None, **kwargs: Any) -> bool:
        """As `delete`."""
        return await on_thread(self._aio, self.delete, ids)

    # -- reading

    def get_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """The documents with these ids, in their order; those that are not there are left out."""
        found = self._shelf.found(ids)
        return [plain_document(found[key], self._shelf.owner) for key in ids if key in found]

    async def aget_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """As `get_by_ids`."""
        return await on_thread(self._aio, self.get_by_ids, ids)

    def similarity_search(self, query: str, k: int = 4, filter: Filter = None, **kwargs: Any) -> list[Document]:
        """The `k` nearest documents, best first."""
        return [document for document, _ in self.similarity_search_with_score(query, k, filter)]

    async def asimilarity_search(self, query: str, k: int = 4, filter: Filter = None, **kwargs: Any) -> list[Document]:
        """As `similarity_search`."""
        return [document for document, _ in await self.asimilarity_search_with_score(query, k, filter)]

    def similarity_search_with_score(
        self, query: str, k: int = 4, filter: Filter = None, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        """The `k` nearest documents, each with the cosine of its vector and the query's."""
        return self.similarity_search_with_score_by_vector(self._embedding.embed_query(query), k, filter)

    async def asimilarity_search_with_score(
        self, query: str, k: int = 4, filter: Filter = None, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        """As `similarity_search_with_score`."""
        vector = await self._embedding.aembed_query(query)
        return await on_thread(self._aio, self.similarity_search_with_score_by_vector, vector, k, filter)

    def similarity_search_with_score_by_vector(
        self, embedding: Sequence[float], k: int = 4, filter: Filter = None, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        """As `similarity_search_with_score`, of a vector of this store's embedding."""
        return [
            (plain_document(near.cube, self._shelf.owner), near.score)
            for near in self._shelf.near(embedding, k, filter)
        ]

    def similarity_search_by_vector(
        self, embedding: list[float], k: int = 4, filter: Filter = None, **kwargs: Any
    ) -> list[Document]:
        """As `similarity_search`, of a vector of this store's embedding."""
        return [plain_document(near.cube, self._shelf.owner) for near in self._shelf.near(embedding, k, filter)]

    async def asimilarity_search_by_vector(
        self, embedding: list[float], k: int = 4, filter: Filter = None, **kwargs: Any
    ) -> list[Document]:
        """As `similarity_search_by_vector`."""
        return await on_thread(self._aio, self.similarity_search_by_vector, embedding, k, filter)

    def max_marginal_relevance_search(
        self,
        query: str,
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        filter: Filter = None,
        **kwargs: Any,
    ) -> list[Document]:
        """`k` of the `fetch_k` nearest documents: near to the query and unlike each other (`lambda_mult` 1: only near).

        Source: Carbonell and Goldstein, 1998, as LangChain computes it.
        """
        vector = self._embedding.embed_query(query)
        return self.max_marginal_relevance_search_by_vector(vector, k, fetch_k, lambda_mult, filter)

    async def amax_marginal_relevance_search(
        self,
        query: str,
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        filter: Filter = None,
        **kwargs: Any,
    ) -> list[Document]:
        """As `max_marginal_relevance_search`."""
        vector = await self._embedding.aembed_query(query)
        return await self.amax_marginal_relevance_search_by_vector(vector, k, fetch_k, lambda_mult, filter)

    def max_marginal_relevance_search_by_vector(
        self,
        embedding: list[float],
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        filter: Filter = None,
        **kwargs: Any,
    ) -> list[Document]:
        """As `max_marginal_relevance_search`, of a vector of this store's embedding."""
        import numpy as np

        found = self._shelf.near(embedding, max(k, fetch_k), filter)
        if not found:
            return []
        query = np.asarray(embedding, dtype=np.float32)
        chosen = maximal_marginal_relevance(query, [near.vector.tolist() for near in found], lambda_mult, k)
        return [plain_document(found[number].cube, self._shelf.owner) for number in chosen]

    async def amax_marginal_relevance_search_by_vector(
        self,
        embedding: list[float],
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        filter: Filter = None,
        **kwargs: Any,
    ) -> list[Document]:
        """As `max_marginal_relevance_search_by_vector`."""
        search = self.max_marginal_relevance_search_by_vector
        return await on_thread(self._aio, search, embedding, k, fetch_k, lambda_mult, filter)

    # -- making one

    @classmethod
    def from_texts(
        cls,
        texts: list[str],
        embedding: Embeddings | None = None,
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        memos: AnyMemOS | None = None,
        **kwargs: Any,
    ) -> MemOSVectorStore:
        """Make a store on `memos`, with the arguments of `MemOSVectorStore`, and add these texts."""
        store = cls(_needed(memos), embedding, **kwargs)
        store.add_texts(texts, metadatas, ids=ids)
        return store

    @classmethod
    async def afrom_texts(
        cls,
        texts: list[str],
        embedding: Embeddings | None = None,
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        memos: AnyMemOS | None = None,
        **kwargs: Any,
    ) -> MemOSVectorStore:
        """As `from_texts`."""
        store = cls(_needed(memos), embedding, **kwargs)
        await store.aadd_texts(texts, metadatas, ids=ids)
        return store

    def _select_relevance_score_fn(self) -> Callable[[float], float]:
        return lambda score: min(max(score, 0.0), 1.0)  # a cosine; what points away is not relevant at all


def _needed(memos: AnyMemOS | None) -> AnyMemOS:
    if memos is None:
        raise InvalidRequest("from_texts needs memos=, the MemOS or scoped view to keep the texts in")
    return memos
