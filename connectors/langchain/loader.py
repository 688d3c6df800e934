"""MemOSLoader: what a scope holds, as LangChain documents."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

from langchain_core.document_loaders import BaseLoader
from langchain_core.documents import Document

from memos_agents.connectors.langchain.documents import told_document
from memos_agents.cube.payload import MemoryType
from memos_agents.cube.scope import Scope
from memos_agents.interface.finding import Order
from memos_agents.interface.recall import AnyMemOS, view_of

_READ_AT_ONCE = 200


class MemOSLoader(BaseLoader):
    """Read the plaintext memories of a scope, a page at a time, in a stable order; arguments as in `MemOS.list`."""

    def __init__(
        self,
        memos: AnyMemOS,
        *,
        user_id: str | None = None,
        agent_id: str | None = None,
        session_id: str | None = None,
        scope: Scope | None = None,
        filter: Mapping[str, Any] | None = None,
        order: Order = "created",
        collection: str | None = None,
        quoted: bool = False,
    ) -> None:
        self._views = view_of(memos, user_id=user_id, agent_id=agent_id, session_id=session_id, scope=scope)
        self._filter, self._order, self._collection, self._quoted = filter, order, collection, quoted

    def lazy_load(self) -> Iterator[Document]:
        """The documents one by one; what is added meanwhile moves nothing that was there."""
        cursor: str | None = None
        while True:
            page = self._views.sync.list(cursor=cursor, **self._listing())
            yield from (told_document(cube, quoted=self._quoted) for cube in page if cube.text)
            cursor = page.cursor
            if cursor is None:
                return

    async def alazy_load(self) -> AsyncIterator[Document]:
        """As `lazy_load`, without blocking the loop."""
        cursor: str | None = None
        while True:
            page = await self._views.aio.list(cursor=cursor, **self._listing())
            for cube in page:
                if cube.text:
                    yield told_document(cube, quoted=self._quoted)
            cursor = page.cursor
            if cursor is None:
                return

    def _listing(self) -> dict[str, Any]:
        return {
            "filter": self._filter,
            "order": self._order,
            "collection": self._collection,
            "memory_types": MemoryType.PLAINTEXT,
            "limit": _READ_AT_ONCE,
        }
