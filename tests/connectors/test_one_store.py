"""All fronts over one store at once: each sees what the others wrote, provenance says which one wrote it."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypedDict

import pytest

pytest.importorskip("langchain.agents", reason="needs memos-agents[langchain,langgraph]")
pytest.importorskip("llama_index.core", reason="needs memos-agents[llama-index]")
pytest.importorskip("agents", reason="needs memos-agents[openai-agents]")
pytest.importorskip("mcp", reason="needs memos-agents[mcp]")

from agents import Agent, Runner
from agents.testing import ScriptedModel, assistant_message, function_call
from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.llms.mock import MockFunctionCallingLLM
from mcp.client.client import Client

from memos_agents import AsyncMemOS, MemOS
from memos_agents.connectors.langchain import MemOSMiddleware
from memos_agents.connectors.langgraph import MemOSStore
from memos_agents.connectors.llama_index import MemOSMemory
from memos_agents.connectors.mcp import server
from memos_agents.connectors.openai import MemOSSession, memory_tools
from memos_agents.interface.store import Store
from memos_agents.testing import HashEmbedder

pytestmark = pytest.mark.filterwarnings(
    "ignore::pydantic.warnings.PydanticDeprecatedSince20", "ignore::pydantic.warnings.PydanticDeprecatedSince211"
)  # LlamaIndex's workflows look at every attribute of an agent, deprecated ones too


@pytest.fixture
def memos(store_target: str) -> Iterator[MemOS]:
    with MemOS.open(store_target, embedder=HashEmbedder(dimension=64)) as opened:
        yield opened
        assert opened.verify().ok


class Noting(BaseChatModel):
    """A LangChain model that answers "Noted." and keeps what it was shown."""

    seen: list[Any]

    @property
    def _llm_type(self) -> str:
        return "noting"

    def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
        return self

    def _generate(self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any) -> Any:
        self.seen.append("\n".join(str(message.text) for message in messages))
        return ChatResult(generations=[ChatGeneration(message=AIMessage(content="Noted."))])


class State(TypedDict, total=False):
    said: str
    known: list[str]


# -- what each front does when a user says something, and what its model or program is shown when the user asks


async def say_to_langchain(memos: AsyncMemOS, user: str, talk: str, said: str) -> str:
    model = Noting(seen=[])
    agent = create_agent(model, middleware=[MemOSMiddleware(memos, user_id=user)])
    await agent.ainvoke({"messages": [("user", said)]}, {"configurable": {"thread_id": f"{talk}-langchain"}})
    return str(model.seen[-1])


async def say_to_langgraph(memos: AsyncMemOS, user: str, talk: str, said: str) -> str:
    async def remember(state: State, runtime: Runtime[None]) -> State:
        assert runtime.store is not None
        found = await runtime.store.asearch(("memos",), query=state["said"])
        if not state["said"].endswith("?"):
            await runtime.store.aput(("facts",), talk, {"text": state["said"]})
        return {"known": [str(item.value["text"]) for item in found]}

    graph = StateGraph(State).add_node(remember).add_edge(START, "remember").add_edge("remember", END)
    compiled = graph.compile(store=MemOSStore(memos.scoped(user_id=user)))
    return "\n".join((await compiled.ainvoke({"said": said}))["known"])


async def say_to_agents_sdk(memos: AsyncMemOS, user: str, talk: str, said: str) -> str:
    asking = [function_call("search_memories", json.dumps({"query": said}), call_id=f"c-{talk}")]
    steps: list[Any] = [asking, [assistant_message("Noted.")]]
    model = ScriptedModel(steps)
    tools = memory_tools(memos.scoped(user_id=user)).agents()
    session = MemOSSession(f"{talk}-agents", memos, user_id=user)
    await Runner.run(Agent(name="guide", model=model, tools=list(tools)), said, session=session)
    assert model.last_call is not None
    return json.dumps(model.last_call.input, ensure_ascii=False, default=str)


async def say_to_llama_index(memos: AsyncMemOS, user: str, talk: str, said: str) -> str:
    shown: list[str] = []

    def answer(messages: Sequence[ChatMessage], **kwargs: Any) -> ChatMessage:
        shown.append("\n".join(str(message.content) for message in messages))
        return ChatMessage(role="assistant", content="Noted.")

    memory = MemOSMemory(memos, user_id=user, session_id=f"{talk}-llama", across_sessions=True)
    model = MockFunctionCallingLLM(response_generator=answer)  # type: ignore[arg-type]
    await FunctionAgent(tools=[], llm=model, streaming=False).run(said, memory=memory)
    return shown[-1]


async def say_to_mcp(memos: AsyncMemOS, user: str, talk: str, said: str) -> str:
    async with Client(server(memos, user_id=user)) as client:
        found = await client.call_tool("search_memories", {"query": said})
        if not said.endswith("?"):
            await client.call_tool("add_memory", {"text": said})
    return str(found.content[0].text)  # type: ignore[union-attr]


Front = Callable[[AsyncMemOS, str, str, str], Awaitable[str]]
FRONTS: dict[str, tuple[Front, str, str, str]] = {
    "langchain.MemOSMiddleware": (say_to_langchain, "My cat Pixel sleeps on the piano.", "cat Pixel?", "piano"),
    "langgraph.MemOSStore": (say_to_langgraph, "My sister Ines moved to Braga.", "sister Ines moved?", "Braga"),
    "openai.MemOSSession": (say_to_agents_sdk, "My bicycle is painted orange.", "bicycle painted?", "orange"),
    "llama_index.MemOSMemory": (say_to_llama_index, "My dentist works on Thursdays.", "dentist works?", "Thursdays"),
    "mcp.server": (say_to_mcp, "My passport expires in October.", "passport expires?", "October"),
}


async def test_each_front_sees_what_every_other_wrote_and_who_wrote_it(memos: MemOS) -> None:
    async with open_front(memos) as front:
        for say, told, _, _ in FRONTS.values():
            await say(front, "mara", "first", told)
        for reader, (say, *_) in FRONTS.items():
            for writer, (_, _, question, answer) in FRONTS.items():
                shown = await say(front, "mara", f"{reader} asks", question)
                assert answer in shown, f"{reader} was not shown what {writer} wrote"
                stranger = await say(front, "joao", f"{reader} asks", question)
                assert answer not in stranger, f"{reader} showed one user what another one said"
    for writer, (_, told, _, _) in FRONTS.items():
        cubes = [cube for cube in memos.list(user_id="mara", limit=200) if told in cube.text]
        agents = {activity.agent.id for cube in cubes for activity in memos.provenance(cube.id).activities}
        assert agents == {writer}, told


async def test_what_is_erased_comes_back_through_no_front(memos: MemOS) -> None:
    async with open_front(memos) as front:
        for say, told, _, _ in FRONTS.values():
            await say(front, "mara", "first", told)
        memos.erase(user_id="mara")
        for reader, (say, *_) in FRONTS.items():
            for _, _, question, answer in FRONTS.values():
                shown = await say(front, "mara", f"{reader} asks", question)
                assert answer not in shown, f"{reader} brought back what was erased"


USERS, CONVERSATIONS = 10, 50


async def test_fifty_conversations_over_all_fronts_mix_nothing_lose_nothing_block_nothing(
    memos: MemOS, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: set[int] = set()
    vault = Store.vault.fget
    assert vault is not None

    def watched(store: Store) -> Any:
        threads.add(threading.get_ident())
        return vault(store)

    monkeypatch.setattr(Store, "vault", property(watched))
    names = list(FRONTS)

    async def converse(front: AsyncMemOS, number: int) -> None:
        user = f"user{number % USERS}"
        say = FRONTS[names[number // USERS]][0]  # every user talks through every front
        told = f"The codeword of talk{number} is owned-by-{user}."
        await say(front, user, f"talk{number}", told)
        shown = await say(front, user, f"talk{number}", f"codeword of talk{number}?")
        assert f"owned-by-{user}" in shown
        strangers = {f"owned-by-user{other}" for other in range(USERS)} - {f"owned-by-{user}"}
        assert not [word for word in strangers if word in shown], f"talk{number} was shown another user's memory"

    async with open_front(memos) as front:
        await asyncio.gather(*(converse(front, number) for number in range(CONVERSATIONS)))
    assert threads and threading.get_ident() not in threads, "the store was used on the loop's thread"
    for number in range(CONVERSATIONS):
        told = f"The codeword of talk{number} is owned-by-user{number % USERS}."
        kept = [cube.text for cube in memos.list(user_id=f"user{number % USERS}", limit=500)]
        assert [text for text in kept if told in text], f"talk{number} lost its turn"


@asynccontextmanager
async def open_front(memos: MemOS) -> Any:
    front = AsyncMemOS(memos)
    try:
        yield front
    finally:
        await front.close()
