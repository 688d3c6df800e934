"""MemOSRetriever: the memories that answer a question, as LlamaIndex nodes."""

from __future__ import annotations

from datetime import datetime

from llama_index.core.callbacks import CallbackManager
from llama_index.core.retrievers import BaseRetriever
from llama_index.core.schema import NodeWithScore, QueryBundle
from llama_index.core.vector_stores.types import MetadataFilters

from memos_agents.connectors.llama_index.filters import compile_filters
from memos_agents.connectors.llama_index.messages import UNSAID
from memos_agents.connectors.llama_index.nodes import recalled_node
from memos_agents.connectors.llama_index.recalling import search_until
from memos_agents.connectors.llama_index.storable import storable_text
from memos_agents.cube.metadata import DEFAULT_COLLECTION
from memos_agents.cube.scope import Scope, check_name
from memos_agents.interface.arguments import MAX_LIMIT, count_of, time_of
from memos_agents.interface.recall import AnyMemOS, on_thread, view_of
from memos_agents.interface.results import Hit
from memos_agents.interface.views import ScopedMemOS


class MemOSRetriever(BaseRetriever):
    """Finds memories by meaning, words and time: `MemOSRetriever(memos, user_id="mara", similarity_top_k=5)`.

    Node ids are cube ids, scores those of `memos.search`. A node's `text` is the memory as it is; what a response
    synthesizer puts before a model (`MetadataMode.LLM`) is quoted data with its time and source.
    """

    def __init__(
        self,
        memos: AnyMemOS,
        *,
        user_id: str | None = None,
        agent_id: str | None = None,
        session_id: str | None = None,
        scope: Scope | None = None,
        similarity_top_k: int = 5,
        filters: MetadataFilters | None = None,
        collection: str | None = DEFAULT_COLLECTION,
        as_of: datetime | str | None = None,
        valid_at: datetime | str | None = None,
        callback_manager: CallbackManager | None = None,
        verbose: bool = False,
    ) -> None:
        """`collection` None searches all; `as_of` what was believed then, `valid_at` what was true then.

        Raises `InvalidRequest` for a store without a scope.
        """
        super().__init__(callback_manager=callback_manager, verbose=verbose)
        self._views = view_of(memos, user_id=user_id, agent_id=agent_id, session_id=session_id, scope=scope)
        self._top_k = count_of(similarity_top_k, what="similarity_top_k", most=MAX_LIMIT)
        self._accepts = compile_filters(filters)
        self._collection = None if collection is None else check_name(collection, what="collection")
        self._as_of, self._valid_at = time_of(as_of, what="as_of"), time_of(valid_at, what="valid_at")

    @property
    def memos(self) -> ScopedMemOS:
        """The view underneath, for history, provenance and the like."""
        return self._views.sync

    @property
    def similarity_top_k(self) -> int:
        """Number of memories to retrieve."""
        return self._top_k

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        question = storable_text(query_bundle.query_str)
        if not question.strip():
            return []
        hits = search_until(
            self._views.sync,
            question,
            limit=self._top_k,
            is_wanted=self._is_wanted,
            collection=self._collection,
            as_of=self._as_of,
            valid_at=self._valid_at,
        )
        return [NodeWithScore(node=recalled_node(hit), score=hit.score) for hit in hits]

    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return await on_thread(self._views.aio, self._retrieve, query_bundle)

    def _is_wanted(self, hit: Hit) -> bool:
        metadata = hit.cube.metadata
        return UNSAID not in metadata and (self._accepts is None or self._accepts(metadata))
