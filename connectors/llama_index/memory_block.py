"""MemOSMemoryBlock: long-term memory behind LlamaIndex's `Memory`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.bridge.pydantic import Field, PrivateAttr
from llama_index.core.memory import BaseMemoryBlock
from llama_index.core.utils import get_tokenizer

from memos_agents.connectors.llama_index.messages import question_in, spoken, to_turn
from memos_agents.connectors.llama_index.recalling import recall
from memos_agents.connectors.llama_index.storable import storable_text
from memos_agents.cube.metadata import DEFAULT_COLLECTION
from memos_agents.cube.scope import Scope, check_name
from memos_agents.errors import InvalidRequest
from memos_agents.interface.arguments import MAX_LIMIT, count_of
from memos_agents.interface.recall import MAX_TOKENS, AnyMemOS, Views, on_thread, render, view_of
from memos_agents.interface.views import ScopedMemOS

_AGENT = "llama_index.MemOSMemoryBlock"
_SESSION = "session_id"  # where LlamaIndex's `aput` hides the session of a message


class MemOSMemoryBlock(BaseMemoryBlock[str]):
    """Recalls what a user's store knows about the latest message, as quoted data, and remembers what leaves the queue.

    `Memory.from_defaults(session_id="s1", memory_blocks=[MemOSMemoryBlock(memos, user_id="mara")])`. In a session it
    recalls that session and what belongs to no session; `across_sessions=True` recalls everything of the scope. Both
    ways by which LlamaIndex names the session are heard: `session_id=` of `aget`/`aput`, and `additional_kwargs` of a
    message. No language model is asked.
    """

    similarity_top_k: int = Field(default=5, description="Number of memories to recall.")
    retrieval_context_window: int = Field(default=1, description="Number of latest messages that make up the question.")
    max_tokens: int = Field(default=MAX_TOKENS, description="Budget of the recalled block, in estimated tokens.")
    across_sessions: bool = Field(default=False, description="Whether to recall other sessions of the scope too.")
    collection: str = Field(default=DEFAULT_COLLECTION, description="The collection to recall from and remember in.")

    _views: Views = PrivateAttr()

    def __init__(
        self,
        memos: AnyMemOS,
        *,
        user_id: str | None = None,
        agent_id: str | None = None,
        session_id: str | None = None,
        scope: Scope | None = None,
        name: str = "memos",
        description: str | None = None,
        priority: int = 0,
        accept_short_term_memory: bool = True,
        similarity_top_k: int = 5,
        retrieval_context_window: int = 1,
        max_tokens: int = MAX_TOKENS,
        across_sessions: bool = False,
        collection: str = DEFAULT_COLLECTION,
    ) -> None:
        """Raises `InvalidRequest` for a store without a scope. `priority` 0: never cut down by `Memory`."""
        fields: dict[str, Any] = {
            "name": name,
            "description": description,
            "priority": priority,
            "accept_short_term_memory": accept_short_term_memory,
            "similarity_top_k": count_of(similarity_top_k, what="similarity_top_k", most=MAX_LIMIT),
            "retrieval_context_window": count_of(retrieval_context_window, what="retrieval_context_window"),
            "max_tokens": count_of(max_tokens, what="max_tokens", most=10_000_000),
            "across_sessions": across_sessions,
            "collection": check_name(collection, what="collection"),
        }
        super().__init__(**fields)
        self._views = view_of(memos, user_id=user_id, agent_id=agent_id, session_id=session_id, scope=scope)

    @property
    def memos(self) -> ScopedMemOS:
        """The view underneath, for history, provenance and the like."""
        return self._views.sync

    async def aput(
        self, messages: list[ChatMessage], from_short_term_memory: bool = False, session_id: str | None = None
    ) -> None:
        """Remember messages, of the session if one is named. The messages themselves are left as they are."""
        if from_short_term_memory and not self.accept_short_term_memory:
            return
        await on_thread(self._views.aio, self._remember, list(messages), session_id)

    async def atruncate(self, content: str, tokens_to_truncate: int) -> str | None:
        """The block without its least fitting memories, at least `tokens_to_truncate` shorter; None if none is left."""
        opening, preamble, *lines, closing = content.split("\n")
        tokenize = get_tokenizer()
        while lines and tokens_to_truncate > 0:
            tokens_to_truncate -= len(tokenize(lines.pop()))
        return "\n".join([opening, preamble, *lines, closing]) if lines else None

    async def _aget(self, messages: list[ChatMessage] | None = None, **block_kwargs: Any) -> str:
        session_id = block_kwargs.get(_SESSION)
        return await on_thread(self._views.aio, self._recall, list(messages or []), session_id)

    async def _aput(self, messages: list[ChatMessage]) -> None:
        await on_thread(self._views.aio, self._remember, list(messages), None)

    def _recall(self, messages: Sequence[ChatMessage], session_id: str | None) -> str:
        found = recall(
            self._views.sync,
            question_in(messages, self.retrieval_context_window),
            limit=self.similarity_top_k,
            session_id=None if session_id is None else check_name(session_id, what="session_id"),
            across_sessions=self.across_sessions,
            collection=self.collection,
            known={storable_text(spoken(message)) for message in messages},
        )
        return render(found, max_tokens=self.max_tokens)

    def _remember(self, messages: Sequence[ChatMessage], session_id: str | None) -> None:
        """Add messages in order, those of one session together."""
        groups: list[tuple[str | None, list[Any]]] = []
        for message in messages:
            named = session_id if session_id is not None else message.additional_kwargs.get(_SESSION)
            if named is not None and not isinstance(named, str):
                raise InvalidRequest(f"the session_id of a message must be a str, not {type(named).__name__}")
            turn = to_turn(message)
            if turn is None:
                continue
            if not groups or groups[-1][0] != named:
                groups.append((named, []))
            groups[-1][1].append(turn)
        for named, turns in groups:
            self._views.sync.add(turns, session_id=named, collection=self.collection, agent=_AGENT)
