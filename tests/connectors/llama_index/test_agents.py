"""Agents of LlamaIndex with a scripted model: our memories under them, streaming and not, other fronts beside them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest
from llama_index.core.agent.workflow import AgentStream, AgentWorkflow, FunctionAgent, ReActAgent
from llama_index.core.base.llms.types import ChatMessage, TextBlock, ToolCallBlock
from llama_index.core.llms import CompletionResponse, MockLLM
from llama_index.core.llms.mock import MockFunctionCallingLLM
from llama_index.core.memory import BaseMemory, Memory
from llama_index.core.tools import FunctionTool
from llama_index.core.workflow import Context

from memos_agents import AsyncMemOS, MemOS
from memos_agents.connectors.llama_index import MemOSChatStore, MemOSMemory, MemOSMemoryBlock

# LlamaIndex's workflows look at every attribute of an agent, those that pydantic has deprecated too.
pytestmark = pytest.mark.filterwarnings(
    "ignore::pydantic.warnings.PydanticDeprecatedSince20", "ignore::pydantic.warnings.PydanticDeprecatedSince211"
)


def call(tool: str, **arguments: Any) -> ChatMessage:
    block = ToolCallBlock(tool_call_id=f"call_{tool}", tool_name=tool, tool_kwargs=arguments)
    return ChatMessage(role="assistant", blocks=[block])


def say(text: str) -> ChatMessage:
    return ChatMessage(role="assistant", content=text)


class Script:
    """Gives one step after another, and keeps what the model was shown for each."""

    def __init__(self, *steps: ChatMessage) -> None:
        self.steps, self.shown = list(steps), list[list[ChatMessage]]()

    def model(self, *, streaming: bool) -> MockFunctionCallingLLM:
        def generate(messages: Sequence[ChatMessage], **kwargs: Any) -> ChatMessage | AsyncIterator[ChatMessage]:
            self.shown.append([message.model_copy(deep=True) for message in messages])
            step = self.steps.pop(0)
            return pieces(step) if streaming else step

        async def pieces(step: ChatMessage) -> AsyncIterator[ChatMessage]:
            yield step

        return MockFunctionCallingLLM(response_generator=generate)  # type: ignore[arg-type]


def city_of(person: str) -> str:
    """Where a person lives."""
    return {"Ines": "Braga"}.get(person, "unknown")


def agent_of(script: Script, *, streaming: bool) -> FunctionAgent:
    return FunctionAgent(
        tools=[FunctionTool.from_defaults(city_of)],
        llm=script.model(streaming=streaming),
        system_prompt="You help Mara.",
        streaming=streaming,
    )


def block_memory(memos: MemOS | AsyncMemOS, session: str) -> BaseMemory:
    return Memory.from_defaults(
        session_id=session,
        memory_blocks=[MemOSMemoryBlock(memos, user_id="mara", across_sessions=True)],
        chat_store=MemOSChatStore(memos, user_id="mara"),
    )


def plain_memory(memos: MemOS | AsyncMemOS, session: str) -> BaseMemory:
    return MemOSMemory(memos, user_id="mara", session_id=session, across_sessions=True)


MEMORIES = [block_memory, plain_memory]
Making = Callable[[MemOS | AsyncMemOS, str], BaseMemory]


def quoted(messages: Sequence[ChatMessage]) -> list[str]:
    lines = [line for message in messages for line in str(message.content).split("\n")]
    return [json.loads(line)["text"] for line in lines if line.startswith('{"time"')]


@pytest.mark.parametrize("make", MEMORIES)
@pytest.mark.parametrize("streaming", [True, False])
async def test_an_agent_calls_tools_and_remembers_in_order(memos: MemOS, make: Making, streaming: bool) -> None:
    memory = make(memos, "s1")
    script = Script(call("city_of", person="Ines"), say("She lives in Braga."))
    handler = agent_of(script, streaming=streaming).run("Where does my sister Ines live?", memory=memory)
    deltas = [event.delta async for event in handler.stream_events() if isinstance(event, AgentStream)]
    response = await handler
    assert str(response.response.content) == "She lives in Braga."
    assert "She lives in Braga." in deltas or not streaming
    kept = await memory.aget_all()
    assert [message.role.value for message in kept] == ["user", "assistant", "tool", "assistant"]
    assert kept[1].blocks == call("city_of", person="Ines").blocks
    assert kept[2].content == "Braga" and kept[2].additional_kwargs["tool_call_id"] == "call_city_of"


@pytest.mark.parametrize("make", MEMORIES)
async def test_the_next_session_recalls_what_the_first_was_told(memos: MemOS, make: Making) -> None:
    first = Script(say("Noted."))
    await agent_of(first, streaming=True).run("My sister Ines moved to Braga.", memory=make(memos, "s1"))
    second = Script(say("To Braga."))
    await agent_of(second, streaming=True).run("Where did my sister Ines move?", memory=make(memos, "s2"))
    shown = second.shown[0]
    assert [message.role.value for message in shown] == ["system", "system", "user"]
    assert shown[0].content == "You help Mara." and "My sister Ines moved to Braga." in quoted(shown[1:])
    assert all("Braga" not in str(message.content) for message in shown[2:])


@pytest.mark.parametrize("make", MEMORIES)
async def test_recall_is_shown_to_the_model_and_not_written_into_the_conversation(memos: MemOS, make: Making) -> None:
    memos.add("Mara is allergic to nuts.", user_id="mara")
    memory, script = make(memos, "s1"), Script(say("Nuts."), say("Still nuts."))
    agent = agent_of(script, streaming=False)
    for question in ("What am I allergic to?", "Still?"):
        await agent.run(question, memory=memory)
    assert quoted(script.shown[0]) == ["Mara is allergic to nuts."]
    kept = await memory.aget_all()
    assert [message.content for message in kept] == ["What am I allergic to?", "Nuts.", "Still?", "Still nuts."]


@pytest.mark.parametrize("make", MEMORIES)
async def test_a_given_history_replaces_the_conversation(memos: MemOS, make: Making) -> None:
    memory, script = make(memos, "s1"), Script(say("one"), say("two"))
    agent = agent_of(script, streaming=False)
    await agent.run("first", memory=memory)
    history = [ChatMessage(role="user", content="other"), say("talk")]
    await agent.run("second", chat_history=history, memory=memory)
    assert [message.content for message in await memory.aget_all()] == ["other", "talk", "second", "two"]


@pytest.mark.parametrize("make", MEMORIES)
async def test_fifty_conversations_of_an_agent_run_at_once(memos: MemOS, make: Making) -> None:
    aio = AsyncMemOS(memos)

    async def talk(n: int) -> list[str | None]:
        memory = make(aio, f"s{n}")
        script = Script(call("city_of", person="Ines"), say(f"answer {n}"))
        await agent_of(script, streaming=n % 2 == 0).run(f"question {n}", memory=memory)
        return [message.content for message in await memory.aget_all()]

    talks = await asyncio.gather(*(talk(n) for n in range(50)))
    assert talks == [[f"question {n}", None, "Braga", f"answer {n}"] for n in range(50)]
    assert memos.verify().ok


async def test_a_workflow_of_several_agents_shares_a_memory(memos: MemOS) -> None:
    memory = plain_memory(memos, "s1")
    front = Script(call("handoff", to_agent="back", reason="knows cities"))
    back = Script(call("city_of", person="Ines"), say("Braga."))
    agents = [
        FunctionAgent(name="front", description="asks", llm=front.model(streaming=True), can_handoff_to=["back"]),
        FunctionAgent(name="back", description="knows", llm=back.model(streaming=True),
                      tools=[FunctionTool.from_defaults(city_of)]),
    ]  # fmt: skip
    response = await AgentWorkflow(agents=agents, root_agent="front").run("Where does Ines live?", memory=memory)
    assert str(response.response.content) == "Braga."
    kept = await memory.aget_all()
    assert kept[0].content == "Where does Ines live?" and kept[-1].content == "Braga."


class Thinker(MockLLM):
    """Answers in the form that a ReAct agent reads."""

    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        return CompletionResponse(text="Thought: I can answer without using any more tools.\nAnswer: Tea.")


@pytest.mark.filterwarnings("ignore:is_running called from within a step:DeprecationWarning")  # upstream, by itself
async def test_an_agent_that_reasons_in_text_works_too(memos: MemOS) -> None:
    memory = plain_memory(memos, "s1")
    response = await ReActAgent(llm=Thinker(), streaming=False).run("What do I like?", memory=memory)
    assert str(response.response.content) == "Tea."
    assert str((await memory.aget_all())[-1].content).endswith("Answer: Tea.")


async def test_every_front_sees_what_the_agent_wrote_and_who_it_was(memos: MemOS) -> None:
    await agent_of(Script(say("Noted.")), streaming=False).run("I moved to Porto.", memory=block_memory(memos, "s1"))
    await agent_of(Script(say("Noted.")), streaming=False).run("I sold my car.", memory=plain_memory(memos, "s2"))
    for question, text, front in (
        ("Where did I move?", "I moved to Porto.", "llama_index.MemOSChatStore"),
        ("What about my car?", "I sold my car.", "llama_index.MemOSMemory"),
    ):
        hit = next(hit for hit in memos.search(question, user_id="mara") if hit.cube.text == text)
        assert hit.cube.text == text and hit.cube.descriptive.role == "user"
        (activity,) = memos.provenance(hit.cube.id).activities
        assert activity.agent.id == front


@pytest.mark.parametrize("make", MEMORIES)
async def test_a_workflow_goes_on_after_it_was_written_down(memos: MemOS, make: Making) -> None:
    agent = agent_of(Script(say("one"), say("two")), streaming=False)
    context = Context(agent)
    await agent.run("first", memory=make(memos, "s1"), ctx=context)
    with pytest.warns(Warning, match="memory"):  # it is not written down, upstream's own is not either
        kept = json.dumps(context.to_dict())
    again = Context.from_dict(agent, json.loads(kept))
    memory = make(memos, "s1")
    await agent.run("second", memory=memory, ctx=again)
    assert [message.content for message in await memory.aget_all()] == ["first", "one", "second", "two"]


async def test_messages_with_blocks_of_an_agent_come_back_exactly(memos: MemOS) -> None:
    memory = plain_memory(memos, "s1")
    question = ChatMessage(role="user", blocks=[TextBlock(text="one"), TextBlock(text="two")])
    await agent_of(Script(say("fine")), streaming=False).run(question, memory=memory)
    assert (await memory.aget_all())[0] == question
