"""MemOSRetriever: recall as a LangChain retriever."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForRetrieverRun, CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from pydantic import ConfigDict, Field, PrivateAttr

from memos_agents.connectors.langchain.documents import told_document
from memos_agents.cube.metadata import DEFAULT_COLLECTION
from memos_agents.cube.scope import Scope
from memos_agents.interface.recall import AnyMemOS, Views, on_thread, view_of
from memos_agents.interface.views import ScopedMemOS


class MemOSRetriever(BaseRetriever):
    """The memories that answer a question, best first, as documents that say where each comes from.

    `memos` is a scoped view, or a store with `user_id=`, `agent_id=`, `session_id=` or `scope=`. `filter`, `as_of`,
    `valid_at` and `collection` as in `MemOS.search`. `metadata["memos"]` of a document holds id, version, time, source
    and score. With `quoted=True` the text is a quotation that may stand in a prompt: data with its source, in which
    nothing can pass for an instruction. `k` may also be given to `invoke`.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    memos: Any = Field(exclude=True, repr=False)
    k: int = 4
    user_id: str | None = None
    agent_id: str | None = None
    session_id: str | None = None
    scope: Scope | None = None
    filter: Mapping[str, Any] | None = None
    as_of: datetime | str | None = None
    valid_at: datetime | str | None = None
    collection: str | None = DEFAULT_COLLECTION
    quoted: bool = False
    _views: Views = PrivateAttr()

    def __init__(self, memos: AnyMemOS | None = None, **fields: Any) -> None:
        """Take the fields of this class; a store without a scope is refused here, not when it is first asked."""
        views = view_of(
            memos,  # type: ignore[arg-type]  # None is refused there, as anything else that is no store
            **{name: fields.get(name) for name in ("user_id", "agent_id", "session_id", "scope")},
        )
        super().__init__(**{**fields, "memos": memos})
        self._views = views

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun, k: int | None = None
    ) -> list[Document]:
        return self._documents(self._views.sync, query, k)

    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun, k: int | None = None
    ) -> list[Document]:
        return await on_thread(self._views.aio, self._documents, self._views.sync, query, k)

    def _documents(self, view: ScopedMemOS, query: str, k: int | None) -> list[Document]:
        hits = view.search(
            query,
            limit=self.k if k is None else k,
            filter=self.filter,
            as_of=self.as_of,
            valid_at=self.valid_at,
            collection=self.collection,
        )
        return [told_document(hit, quoted=self.quoted) for hit in hits]
