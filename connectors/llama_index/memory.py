"""MemOSMemory: a conversation and what the store knows beside it, as one LlamaIndex memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from uuid import uuid4

from llama_index.core.base.llms.types import ChatMessage, MessageRole
from llama_index.core.bridge.pydantic import Field, PrivateAttr
from llama_index.core.llms.llm import LLM
from llama_index.core.memory.types import BaseMemory
from llama_index.core.utils import get_tokenizer

from memos_agents.connectors.llama_index.messages import from_cube, question_in, spoken
from memos_agents.connectors.llama_index.recalling import recall
from memos_agents.connectors.llama_index.storable import storable_text
from memos_agents.connectors.llama_index.turn_log import TurnLog
from memos_agents.cube.metadata import DEFAULT_COLLECTION
from memos_agents.cube.scope import Scope, check_name
from memos_agents.cube.state import MemoryState
from memos_agents.errors import InvalidRequest
from memos_agents.interface.arguments import MAX_LIMIT, count_of
from memos_agents.interface.recall import MAX_TOKENS, AnyMemOS, Views, on_thread, render, view_of
from memos_agents.interface.views import ScopedMemOS

DEFAULT_TOKEN_LIMIT = 30_000
"""As LlamaIndex's `Memory`."""

_AGENT = "llama_index.MemOSMemory"
_LARGEST = 100_000_000
_OPENING = frozenset({MessageRole.USER, MessageRole.SYSTEM, MessageRole.DEVELOPER})
_ANSWERING = frozenset({MessageRole.TOOL, MessageRole.FUNCTION})


class MemOSMemory(BaseMemory):
    """A conversation in a MemOS store, with recall: `agent.run(question, memory=MemOSMemory(memos, user_id="mara"))`.

    Every message is a cube of its session as soon as it is put, so other sessions, agents and fronts can find it. `get`
    gives the newest messages that fit `token_limit`, beginning with a user's (no tool output without its call), behind
    one system message that quotes what the store knows about the question. In that, other sessions of the scope show
    only with `across_sessions=True`; memories that belong to no session always do. `set` and `reset` erase.
    """

    session_id: str = Field(description="The conversation; a new one unless given.")
    token_limit: int = Field(default=DEFAULT_TOKEN_LIMIT, description="Budget of what `get` returns, in tokens.")
    max_tokens: int = Field(default=MAX_TOKENS, description="Budget of the recalled block within it, in tokens.")
    similarity_top_k: int = Field(default=5, description="Number of memories to recall; 0: none.")
    across_sessions: bool = Field(default=False, description="Whether to recall other sessions of the scope too.")
    collection: str = Field(default=DEFAULT_COLLECTION, description="The collection that the messages belong to.")
    tokenizer_fn: Callable[[str], Sequence[object]] = Field(default_factory=get_tokenizer, exclude=True)

    _views: Views = PrivateAttr()

    def __init__(
        self,
        memos: AnyMemOS,
        *,
        user_id: str | None = None,
        agent_id: str | None = None,
        session_id: str | None = None,
        scope: Scope | None = None,
        token_limit: int = DEFAULT_TOKEN_LIMIT,
        max_tokens: int = MAX_TOKENS,
        similarity_top_k: int = 5,
        across_sessions: bool = False,
        collection: str = DEFAULT_COLLECTION,
        tokenizer_fn: Callable[[str], Sequence[object]] | None = None,
    ) -> None:
        """Raises `InvalidRequest` for a store without a scope. A view that is bound to a session gives the session."""
        views = view_of(memos, user_id=user_id, agent_id=agent_id, scope=scope)
        session = session_id if session_id is not None else views.sync.scope.session_id or str(uuid4())
        fields: dict[str, Any] = {
            "session_id": check_name(session, what="session_id"),
            "token_limit": count_of(token_limit, what="token_limit", most=_LARGEST),
            "max_tokens": count_of(max_tokens, what="max_tokens", most=_LARGEST),
            "similarity_top_k": count_of(similarity_top_k, what="similarity_top_k", least=0, most=MAX_LIMIT),
            "across_sessions": across_sessions,
            "collection": check_name(collection, what="collection"),
            "tokenizer_fn": tokenizer_fn or get_tokenizer(),
        }
        super().__init__(**fields)
        self._views = views
        self._log()  # a session outside the view is refused now

    @classmethod
    def class_name(cls) -> str:
        """The name that LlamaIndex writes down."""
        return "MemOSMemory"

    @classmethod
    def from_defaults(
        cls,
        memos: AnyMemOS | None = None,
        *,
        session_id: str | None = None,
        chat_history: Sequence[ChatMessage] | None = None,
        llm: LLM | None = None,
        token_limit: int | None = None,
        **kwargs: Any,
    ) -> MemOSMemory:
        """A memory as LlamaIndex's `from_defaults` makes one: with a first history, and the budget of a model."""
        if memos is None:
            raise InvalidRequest("MemOSMemory.from_defaults() needs memos=, an open store or a view of one")
        if token_limit is None:
            token_limit = DEFAULT_TOKEN_LIMIT if llm is None else max(1, llm.metadata.context_window * 3 // 4)
        memory = cls(memos, session_id=session_id, token_limit=token_limit, **kwargs)
        if chat_history is not None:
            memory.set(list(chat_history))
        return memory

    def to_dict(self, **kwargs: Any) -> dict[str, Any]:
        """Refused with `InvalidRequest`: an open store cannot be written down.

        A workflow's context leaves its memory out then (LlamaIndex warns so); pass `memory=` again to go on.
        """
        raise InvalidRequest(
            f"MemOSMemory belongs to an open store and cannot be written down; keep its session_id "
            f"({self.session_id!r}) and make it again"
        )

    @property
    def memos(self) -> ScopedMemOS:
        """The view underneath, for history, provenance and the like."""
        return self._views.sync

    def get(self, input: str | ChatMessage | None = None, **kwargs: Any) -> list[ChatMessage]:  # noqa: A002  # its name
        """What to put before a model: recalled memories, then the newest messages that fit.

        `input` is the question; without it the latest user message is. Costs one search and reading the newest
        messages.
        """
        window: list[ChatMessage] = []
        left = self.token_limit - self._reserved()
        for cube in self._log().entries(MemoryState.ACTIVATED, newest_first=True):
            message = from_cube(cube)
            left -= self._tokens(message)
            if left < 0 and window:
                break
            window.append(message)
        window.reverse()
        if left < 0:
            window = _from_a_question(window)
        said = window if input is None else [*window, _as_message(input)]
        asking = [message for message in said if message.role == MessageRole.USER] or said
        found = recall(
            self._views.sync,
            question_in(asking, 1),
            limit=self.similarity_top_k,
            session_id=self.session_id,
            across_sessions=self.across_sessions,
            collection=self.collection,
            known={storable_text(spoken(message)) for message in said},
        )
        room = self.token_limit - sum(map(self._tokens, window))
        block = render(found, max_tokens=max(0, min(self.max_tokens, room)), count_tokens=self._count)
        return [ChatMessage(role=MessageRole.SYSTEM, content=block), *window] if block else window

    async def aget(self, input: str | ChatMessage | None = None, **kwargs: Any) -> list[ChatMessage]:  # noqa: A002
        """As `get`, off the event loop."""
        return await on_thread(self._views.aio, self.get, input)

    def get_all(self) -> list[ChatMessage]:
        """The whole conversation, oldest first, without recall."""
        return [from_cube(cube) for cube in self._log().entries()]

    async def aget_all(self) -> list[ChatMessage]:
        """As `get_all`, off the event loop."""
        return await on_thread(self._views.aio, self.get_all)

    def put(self, message: ChatMessage) -> None:
        """Write one message at the end; durable when it returns."""
        self._log().append([message])

    async def aput(self, message: ChatMessage) -> None:
        """As `put`, off the event loop."""
        await on_thread(self._views.aio, self.put, message)

    def put_messages(self, messages: list[ChatMessage]) -> None:
        """Write messages at the end, in order; up to 500 become durable together or not at all."""
        self._log().append(messages)

    async def aput_messages(self, messages: list[ChatMessage]) -> None:
        """As `put_messages`, off the event loop."""
        await on_thread(self._views.aio, self.put_messages, messages)

    def set(self, messages: list[ChatMessage]) -> None:
        """Make the conversation consist of exactly these messages; what it begins with already keeps its history."""
        self._log().replace(messages)

    async def aset(self, messages: list[ChatMessage]) -> None:
        """As `set`, off the event loop."""
        await on_thread(self._views.aio, self.set, messages)

    def reset(self) -> None:
        """Erase the conversation; other sessions stay."""
        self._log().erase()

    async def areset(self) -> None:
        """As `reset`, off the event loop."""
        await on_thread(self._views.aio, self.reset)

    def _log(self) -> TurnLog:
        return TurnLog.of(self._views.sync, self.session_id, collection=self.collection, agent=_AGENT)

    def _reserved(self) -> int:
        """What of the budget the recalled block may always have: `max_tokens`, or 3/10 where that is less."""
        return min(self.max_tokens, self.token_limit * 3 // 10) if self.similarity_top_k else 0

    def _tokens(self, message: ChatMessage) -> int:
        extra = str(message.additional_kwargs) if message.additional_kwargs else ""
        return self._count(spoken(message)) + self._count(extra)

    def _count(self, text: str) -> int:
        return len(self.tokenizer_fn(text)) if text else 0


def _from_a_question(window: list[ChatMessage]) -> list[ChatMessage]:
    """The window from its first user message on; without one from its first that answers no tool call; never empty."""
    opening = [place for place, message in enumerate(window) if message.role in _OPENING]
    speaking = [place for place, message in enumerate(window) if message.role not in _ANSWERING]
    return window[[*opening, *speaking, len(window) - 1][0] :]


def _as_message(said: str | ChatMessage) -> ChatMessage:
    return said if isinstance(said, ChatMessage) else ChatMessage(role=MessageRole.USER, content=said)
