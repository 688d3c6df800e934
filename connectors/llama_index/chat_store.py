"""MemOSChatStore: LlamaIndex's message queue, each message a cube of the session that its key names."""

from __future__ import annotations

from itertools import islice
from typing import Any

from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.bridge.pydantic import Field, PrivateAttr
from llama_index.core.storage.chat_store.base_db import AsyncDBChatStore, MessageStatus

from memos_agents.connectors.llama_index.messages import from_cube
from memos_agents.connectors.llama_index.turn_log import TurnLog, conversations
from memos_agents.cube.metadata import DEFAULT_COLLECTION
from memos_agents.cube.scope import Scope, check_name
from memos_agents.cube.state import MemoryState
from memos_agents.errors import InvalidRequest
from memos_agents.interface.recall import AnyMemOS, Views, on_thread, view_of
from memos_agents.interface.views import ScopedMemOS

_AGENT = "llama_index.MemOSChatStore"
_STATE_OF = {MessageStatus.ACTIVE: MemoryState.ACTIVATED, MessageStatus.ARCHIVED: MemoryState.ARCHIVED}


class MemOSChatStore(AsyncDBChatStore):
    """Chat messages in a MemOS store: `Memory.from_defaults(chat_store=MemOSChatStore(memos, user_id="mara"))`.

    A key is a session id, so two sessions, and two users with equal keys, never meet. Messages come back exactly as
    they were put in, blocks, tool calls and `additional_kwargs` included (as JSON). Each is a cube that other fronts
    find while it is active; an archived message is an archived cube, which `search` passes over. What is deleted or
    replaced is erased for good. Reading costs time linear in the length of the conversation.
    """

    collection: str = Field(default=DEFAULT_COLLECTION, description="The collection that the messages belong to.")

    _views: Views = PrivateAttr()

    def __init__(
        self,
        memos: AnyMemOS,
        *,
        user_id: str | None = None,
        agent_id: str | None = None,
        scope: Scope | None = None,
        collection: str = DEFAULT_COLLECTION,
    ) -> None:
        """Raises `InvalidRequest` for a store without a scope. `collection` keeps a log apart from other memories."""
        fields: dict[str, Any] = {"collection": check_name(collection, what="collection")}
        super().__init__(**fields)
        self._views = view_of(memos, user_id=user_id, agent_id=agent_id, scope=scope)

    @classmethod
    def class_name(cls) -> str:
        """The name that LlamaIndex writes down."""
        return "MemOSChatStore"

    @property
    def memos(self) -> ScopedMemOS:
        """The view underneath, for history, provenance and the like."""
        return self._views.sync

    async def get_messages(
        self,
        key: str,
        status: MessageStatus | None = MessageStatus.ACTIVE,
        limit: int | None = None,
        offset: int | None = None,
    ) -> list[ChatMessage]:
        """The messages of a session with this status (None: any), oldest first; `offset` are left out at the start."""
        start = _count(offset or 0, what="offset")
        stop = None if limit is None else start + _count(limit, what="limit")

        def read() -> list[ChatMessage]:
            return [from_cube(cube) for cube in islice(self._log(key).entries(_state(status)), start, stop)]

        return await on_thread(self._views.aio, read)

    async def count_messages(self, key: str, status: MessageStatus | None = MessageStatus.ACTIVE) -> int:
        """How many messages a session has with this status (None: any)."""

        def count() -> int:
            return sum(1 for _ in self._log(key).entries(_state(status)))

        return await on_thread(self._views.aio, count)

    async def add_message(self, key: str, message: ChatMessage, status: MessageStatus = MessageStatus.ACTIVE) -> None:
        """Write one message at the end; durable when it returns."""
        await self.add_messages(key, [message], status)

    async def add_messages(
        self, key: str, messages: list[ChatMessage], status: MessageStatus = MessageStatus.ACTIVE
    ) -> None:
        """Write messages at the end, in order; up to 500 become durable together or not at all."""
        await on_thread(self._views.aio, lambda: self._log(key).append(messages, _STATE_OF[status]))

    async def set_messages(
        self, key: str, messages: list[ChatMessage], status: MessageStatus = MessageStatus.ACTIVE
    ) -> None:
        """Make a session consist of exactly these messages; those that it begins with already keep their history."""
        await on_thread(self._views.aio, lambda: self._log(key).replace(messages, _STATE_OF[status]))

    async def delete_message(self, key: str, idx: int) -> ChatMessage | None:
        """Erase the message at position `idx` (0: the oldest, archived ones count) and return it; None without one."""
        return await on_thread(self._views.aio, lambda: self._log(key).erase_at(idx))

    async def delete_messages(self, key: str, status: MessageStatus | None = None) -> None:
        """Erase a session's messages with this status (None: all)."""
        await on_thread(self._views.aio, lambda: self._log(key).erase(_state(status)))

    async def delete_oldest_messages(self, key: str, n: int) -> list[ChatMessage]:
        """Erase the oldest `n` active messages and return them."""
        return await on_thread(self._views.aio, lambda: self._log(key).erase_oldest(n))

    async def archive_oldest_messages(self, key: str, n: int) -> list[ChatMessage]:
        """Archive the oldest `n` active messages, all or nothing, and return them."""
        return await on_thread(self._views.aio, lambda: self._log(key).archive_oldest(n))

    async def get_keys(self) -> list[str]:
        """The sessions that have messages. Reads every cube of the collection that the scope admits."""
        return await on_thread(self._views.aio, lambda: conversations(self._views.sync, collection=self.collection))

    def _log(self, key: str) -> TurnLog:
        return TurnLog.of(self._views.sync, check_name(key, what="key"), collection=self.collection, agent=_AGENT)


def _state(status: MessageStatus | None) -> MemoryState | None:
    return None if status is None else _STATE_OF[status]


def _count(value: int, *, what: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise InvalidRequest(f"{what} must be an int of at least 0, not {value!r}")
    return value
