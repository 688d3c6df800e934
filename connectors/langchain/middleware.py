"""MemOSMiddleware: long-term memory for `create_agent`.

Before a run it recalls what the last message asks for and keeps only ids in the thread's state. Before each call of the
model it renders those that are still to be believed into that one request, each where it was first shown, so that
nothing recalled is ever written into the thread, nothing erased comes back from it, and a server's prefix cache keeps
hitting (see `interface.layout`). After the run it records what was said.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Annotated, Any, NotRequired, cast

from langchain.agents.middleware import AgentMiddleware, AgentState, ModelRequest, ModelResponse
from langchain.agents.middleware.types import PrivateStateAttr
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, SystemMessage
from langgraph.runtime import Runtime

from memos_agents.connectors.langchain.documents import owner_of
from memos_agents.connectors.langchain.identity import Identities, Identity
from memos_agents.connectors.langchain.tools import tools_for
from memos_agents.cube.canonical import JSON
from memos_agents.cube.metadata import DEFAULT_COLLECTION, Descriptive
from memos_agents.cube.scope import Scope
from memos_agents.interface.arguments import MAX_LIMIT
from memos_agents.interface.keyed import Keyed, write_keyed
from memos_agents.interface.layout import (
    START,
    Layout,
    Placed,
    Shown,
    blocks_of,
    check_layout,
    extend,
    in_front_of,
    place_of,
    still_placed,
)
from memos_agents.interface.recall import MAX_TOKENS, AnyMemOS, on_thread
from memos_agents.interface.views import ScopedMemOS

AGENT = "langchain.MemOSMiddleware"
MAX_QUERY_CHARACTERS = 4_000
"""Of a long last message its end is searched for, where the question usually stands."""


class MemoryState(AgentState[Any]):
    """What the middleware keeps in the thread, and never content.

    Ids of memory versions, for each the id of the message in front of which it was shown ("": in the system message),
    and how far it has recorded.
    """

    memos_shown: NotRequired[Annotated[list[str], PrivateStateAttr]]
    memos_places: NotRequired[Annotated[list[str], PrivateStateAttr]]
    memos_recorded: NotRequired[Annotated[str, PrivateStateAttr]]


class MemOSMiddleware(AgentMiddleware[MemoryState, Any, Any]):
    """Recall before the model, record after the agent, and tools to remember, search, correct and erase.

    `memos` is a store: then the run's context (`context_schema=`) must name `user_id` (and may name `agent_id` and
    `session_id`), else the run is refused with `InvalidRequest`. Or it is a scoped view, or comes with `user_id=` and
    the like: then a context may narrow that and never leave it. Recall sees all sessions of the user; what is said is
    recorded under the run's session, by default its thread.

    `k` memories at most are recalled for each user message and shown beside those shown before in the thread, within
    `max_tokens` (counted by `count_tokens`, else about four characters each); beyond it memory begins anew. `layout`
    "append": those for the thread's first message in the system message, later ones in front of the message that they
    were recalled for, where they stay, so that each request continues the one before it. "fresh": those for the last
    message alone, in front of it. `filter` narrows the recall as in `MemOS.search`. `recall`, `record` and `tools` can
    be switched off one by one.
    """

    state_schema = MemoryState

    def __init__(
        self,
        memos: AnyMemOS,
        *,
        user_id: str | None = None,
        agent_id: str | None = None,
        session_id: str | None = None,
        scope: Scope | None = None,
        k: int = 8,
        max_tokens: int | None = MAX_TOKENS,
        count_tokens: Callable[[str], int] | None = None,
        filter: Mapping[str, JSON] | None = None,
        recall: bool = True,
        record: bool = True,
        tools: bool = True,
        layout: Layout = "append",
    ) -> None:
        super().__init__()
        self._identities = Identities(
            memos, user_id=user_id, agent_id=agent_id, session_id=session_id, scope=scope, fixed=False
        )
        self._k, self._filter = k, filter
        self._max_tokens, self._count_tokens = max_tokens, count_tokens
        self._recalls, self._records = recall, record
        self._layout = check_layout(layout)
        self.tools = tools_for(self._identities) if tools else []

    def before_agent(self, state: MemoryState, runtime: Runtime[Any]) -> dict[str, Any] | None:
        """Recall, and note what is to be shown."""
        identity = self._identity(runtime)
        return self._recall(identity, state) if self._recalls else None

    async def abefore_agent(self, state: MemoryState, runtime: Runtime[Any]) -> dict[str, Any] | None:
        """As `before_agent`, without blocking the loop."""
        identity = self._identity(runtime)
        return await on_thread(self._identities.aio, self._recall, identity, state) if self._recalls else None

    def wrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], ModelResponse[Any]]
    ) -> ModelResponse[Any]:
        """Show the memories to the model in this request only."""
        return handler(_with_blocks(request, self._blocks(request)))

    async def awrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]]
    ) -> ModelResponse[Any]:
        """As `wrap_model_call`, without blocking the loop."""
        blocks = await on_thread(self._identities.aio, self._blocks, request) if self._recalls else {}
        return await handler(_with_blocks(request, blocks))

    def after_agent(self, state: MemoryState, runtime: Runtime[Any]) -> dict[str, Any] | None:
        """Record what the user and the agent said in this run."""
        identity = self._identity(runtime)
        return self._record(identity, state) if self._records else None

    async def aafter_agent(self, state: MemoryState, runtime: Runtime[Any]) -> dict[str, Any] | None:
        """As `after_agent`, without blocking the loop."""
        identity = self._identity(runtime)
        return await on_thread(self._identities.aio, self._record, identity, state) if self._records else None

    def _identity(self, runtime: Runtime[Any]) -> Identity:
        info = getattr(runtime, "execution_info", None)  # None by hand
        return self._identities.of(runtime.context, None if info is None else info.thread_id)

    def _recall(self, identity: Identity, state: MemoryState) -> dict[str, Any]:
        view, messages = identity.reads.sync, state["messages"]
        placed = self._shown(identity, state, messages) if self._layout == "append" else []
        query = _question(messages)
        keys = {_key(message) for message in messages if message.id is not None}  # these the model sees anyway
        limit = min(self._k + len(keys), MAX_LIMIT)
        hits = view.search(query, limit=limit, filter=self._filter) if query else []
        placed = extend(
            placed,
            [hit for hit in hits if hit.cube.descriptive.key not in keys][: self._k],
            at=place_of(_places(messages), layout=self._layout),
            max_tokens=self._max_tokens,
            count_tokens=self._count_tokens,
        )
        shown = [entry.shown for entry in placed]
        return {"memos_shown": [each.ref for each in shown], "memos_places": [each.place for each in shown]}

    def _blocks(self, request: ModelRequest[Any]) -> dict[str, str]:
        if not self._recalls:
            return {}
        identity, state = self._identity(request.runtime), cast(MemoryState, request.state)
        if state.get("memos_shown") is None:  # called without the agent's other steps
            state = {**state, "messages": list(request.messages)}
            state.update(cast(MemoryState, self._recall(identity, state)))
        return blocks_of(self._shown(identity, state, request.messages))

    @staticmethod
    def _shown(identity: Identity, state: MemoryState, messages: Sequence[AnyMessage]) -> list[Placed]:
        refs, places = state.get("memos_shown", []), state.get("memos_places", [])
        places = [*places, *([START] * (len(refs) - len(places)))]  # a thread that began before there were places
        shown = [Shown(ref, place) for ref, place in zip(refs, places, strict=False)]
        return still_placed(identity.reads.sync, shown, places=_places(messages))

    def _record(self, identity: Identity, state: MemoryState) -> dict[str, Any] | None:
        messages = state["messages"]
        ids = [message.id for message in messages]
        last = state.get("memos_recorded")
        new = messages[ids.index(last) + 1 :] if last is not None and last in ids else messages
        writes = [write for message in new if (write := _turn(message, identity.writes.sync)) is not None]
        if writes:  # under keys of their own, so a run that is repeated or resumed records nothing twice
            write_keyed(identity.writes.sync, writes, agent=AGENT)
        return {"memos_recorded": messages[-1].id} if new and messages[-1].id is not None else None


def _with_blocks(request: ModelRequest[Any], blocks: Mapping[str, str]) -> ModelRequest[Any]:
    if not blocks:
        return request
    messages = [
        message.model_copy(update={"content": in_front_of(message.content, blocks[message.id])})
        if isinstance(message, HumanMessage) and message.id and message.id in blocks
        else message
        for message in request.messages
    ]
    return _with_system_block(request.override(messages=messages), blocks.get(START, ""))


def _with_system_block(request: ModelRequest[Any], block: str) -> ModelRequest[Any]:
    if not block:
        return request
    before = request.system_message
    if before is None:
        return request.override(system_message=SystemMessage(content=block))
    if isinstance(before.content, str):
        content: Any = f"{before.content}\n\n{block}" if before.content else block
    else:
        content = [*before.content, {"type": "text", "text": f"\n\n{block}"}]
    return request.override(system_message=before.model_copy(update={"content": content}))


def _places(messages: Sequence[AnyMessage]) -> list[str]:
    """The user's messages by their ids, in order; one without an id has no place of its own."""
    return [message.id or START for message in messages if isinstance(message, HumanMessage)]


def _question(messages: Sequence[AnyMessage]) -> str:
    for message in reversed(messages):
        if isinstance(message, HumanMessage):
            return str(message.text).strip()[-MAX_QUERY_CHARACTERS:]
    return ""


def _turn(message: AnyMessage, view: ScopedMemOS) -> Keyed | None:
    """A message as a memory; None for what nobody said: calls and answers of tools, summaries by other middleware."""
    if not isinstance(message, HumanMessage | AIMessage) or "lc_source" in message.additional_kwargs:
        return None
    text = str(message.text).strip()
    if not text:
        return None
    return Keyed(
        scope=owner_of(view),
        descriptive=Descriptive(
            semantic_type="turn",
            origin="langchain",
            role="user" if isinstance(message, HumanMessage) else "assistant",
            name=message.name or None,
            collection=DEFAULT_COLLECTION,
            key=_key(message),
        ),
        text=text,
        metadata={} if message.id is None else {"message_id": message.id},
    )


def _key(message: AnyMessage) -> str:
    """The key of a turn: its id and its text, since ids may be used again for something else."""
    told = f"{message.type}\x1f{message.id}\x1f{str(message.text).strip()}"
    return f"turn:{hashlib.sha256(told.encode('utf-8', 'surrogatepass')).hexdigest()}"
