"""MemOSChatMessageHistory: for code that still has a `BaseChatMessageHistory`, until it moves on.

The base class is deprecated upstream since langchain-core 1.6.4 and goes with 2.0; making one of these warns so. What
takes its place: a checkpointer for the messages of a thread and `MemOSMiddleware` for memory across threads.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import cast
from uuid import uuid4

from langchain_core.chat_history import BaseChatMessageHistory
from langchain_core.messages import BaseMessage, message_to_dict, messages_from_dict

from memos_agents.connectors.langchain.documents import owner_of
from memos_agents.cube.canonical import JSON, checked_mapping
from memos_agents.cube.memcube import MemCube
from memos_agents.cube.metadata import Descriptive
from memos_agents.cube.scope import Scope
from memos_agents.interface.keyed import Keyed, write_keyed
from memos_agents.interface.recall import AnyMemOS, on_thread, view_of

AGENT = "langchain.MemOSChatMessageHistory"
_PREFIX = "history:"
_READ_AT_ONCE = 500
_ROLES = {"human": "user", "ai": "assistant"}


class MemOSChatMessageHistory(BaseChatMessageHistory):
    """The messages of one session, exactly as they were added; each is also a memory that other fronts find.

    `memos` is a scoped view, or a store with `user_id=`; `session_id` names the conversation. Messages never merge.
    """

    def __init__(
        self,
        memos: AnyMemOS,
        session_id: str,
        *,
        user_id: str | None = None,
        agent_id: str | None = None,
        scope: Scope | None = None,
    ) -> None:
        warnings.warn(
            "MemOSChatMessageHistory stands on BaseChatMessageHistory, which is deprecated and ends with LangChain 2; "
            "use a checkpointer for the messages of a thread and MemOSMiddleware for memory across threads",
            DeprecationWarning,
            stacklevel=2,
        )
        self._views = view_of(memos, user_id=user_id, agent_id=agent_id, session_id=session_id, scope=scope)
        self._owner = owner_of(self._views.sync)

    @property
    def messages(self) -> list[BaseMessage]:  # type: ignore[override]  # upstream declares it as an attribute
        """The messages, oldest first."""
        return messages_from_dict([cast("dict[str, JSON]", cube.metadata["_message"]) for cube in self._cubes()])

    async def aget_messages(self) -> list[BaseMessage]:
        """As `messages`."""
        return await on_thread(self._views.aio, lambda: self.messages)

    def add_messages(self, messages: Sequence[BaseMessage]) -> None:
        """Append messages: all of them, or none."""
        writes = [
            Keyed(
                scope=self._owner,
                descriptive=Descriptive(
                    semantic_type="turn",
                    origin="langchain",
                    role=_ROLES.get(message.type, message.type),
                    name=message.name or None,
                    key=f"{_PREFIX}{uuid4()}",
                ),
                text=str(message.text),
                metadata={"_message": checked_mapping(message_to_dict(message), what="a message")},
            )
            for message in messages
        ]
        if writes:
            write_keyed(self._views.sync, writes, agent=AGENT)

    async def aadd_messages(self, messages: Sequence[BaseMessage]) -> None:
        """As `add_messages`."""
        await on_thread(self._views.aio, self.add_messages, messages)

    def clear(self) -> None:
        """Erase the messages of this session."""
        cubes = self._cubes()
        if cubes:
            self._views.sync.erase(cubes, agent=AGENT)

    async def aclear(self) -> None:
        """As `clear`."""
        await on_thread(self._views.aio, self.clear)

    def _cubes(self) -> list[MemCube]:
        found: list[MemCube] = []
        cursor: str | None = None
        while True:
            page = self._views.sync.list(limit=_READ_AT_ONCE, cursor=cursor)
            found += [cube for cube in page if (cube.descriptive.key or "").startswith(_PREFIX)]
            cursor = page.cursor
            if cursor is None:
                return found
