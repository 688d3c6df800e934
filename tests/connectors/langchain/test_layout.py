"""The prompts of a thread: each continues the one before it, and nothing that is gone stays in one."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

pytest.importorskip("langchain.agents", reason="needs memos-agents[langchain]")

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langchain.agents import create_agent
from langchain.agents.middleware import SummarizationMiddleware
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langgraph.checkpoint.memory import InMemorySaver

from memos_agents import InvalidRequest, MemOS
from memos_agents.connectors.langchain import MemOSMiddleware
from memos_agents.interface.quoting import PREAMBLE
from memos_agents.testing import FixedClock, HashEmbedder

TOPICS = ("cats", "dogs", "birds", "boats", "tea")


def opened(facts: int = 10) -> MemOS:
    memos = MemOS.open(":memory:", embedder=HashEmbedder(32), clock=FixedClock())
    for user in ("mara", "omar"):
        memos.add([f"{user}: fact {number} about {TOPICS[number % 5]}" for number in range(facts)], user_id=user)
    return memos


def prompt(model: Any, number: int = -1) -> str:
    return "\n\n".join(f"{message.type}: {message.text}" for message in model.seen[number])


def agent_of(model: Any, memos: MemOS, *more: Any, user: str = "mara", **options: Any) -> Any:
    middleware = [MemOSMiddleware(memos, user_id=user, **{"k": 2, "max_tokens": None, **options}), *more]
    return create_agent(model, middleware=middleware, system_prompt="You are kind.", checkpointer=InMemorySaver())


def ask(agent: Any, text: str, thread: str = "t1") -> Any:
    return agent.invoke({"messages": [("user", text)]}, {"configurable": {"thread_id": thread}})


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(TOPICS), min_size=2, max_size=5), st.data())
def test_each_prompt_continues_the_one_before_it(scripted: Any, topics: list[str], data: st.DataObject) -> None:
    with opened() as memos:
        model = scripted(script=lambda messages: f"Answer {len(messages)}.")
        agent = agent_of(model, memos)
        for turn, topic in enumerate(topics):
            ask(agent, f"Turn {turn}: tell me about {topic}.")
            assert "omar:" not in prompt(model)
        for earlier, later in pairwise(range(len(topics))):
            assert prompt(model, later).startswith(prompt(model, earlier))
        ids = [cube.id for cube in memos.list(user_id="mara") if cube.text in prompt(model)]
        gone = memos.get(data.draw(st.sampled_from(sorted(ids))))
        (memos.erase if data.draw(st.booleans()) else memos.archive)(gone.id)
        ask(agent, f"And about {topics[0]}?")
        assert f'"text": "{gone.text}"' not in prompt(model)


def test_a_call_of_a_tool_repeats_the_prompt_and_continues_it(scripted: Any) -> None:
    def script(messages: list[BaseMessage]) -> AIMessage | str:
        if isinstance(messages[-1], ToolMessage):
            return "Found."
        call = {"name": "search_memories", "args": {"query": "boats"}, "id": f"c{len(messages)}"}
        return AIMessage(content="", tool_calls=[call])

    with opened() as memos:
        model = scripted(script=script)
        agent = agent_of(model, memos)
        for topic in ("cats", "dogs"):
            ask(agent, f"Tell me about {topic}.")
        for earlier, later in pairwise(range(4)):
            assert prompt(model, later).startswith(prompt(model, earlier))
        assert prompt(model).count("<memories>") == 2


def test_fresh_memory_is_of_the_last_message_alone_and_leaves_the_beginning_as_it_is(scripted: Any) -> None:
    with opened() as memos:
        model = scripted(script=lambda _: "Yes.")
        agent = agent_of(model, memos, layout="fresh", record=False)
        for topic in ("cats", "dogs", "birds"):
            ask(agent, f"Tell me about {topic}.")
            assert prompt(model).count(PREAMBLE) == 1 and model.system() == "You are kind."
            assert isinstance(model.seen[-1][-1], HumanMessage) and model.seen[-1][-1].text.startswith("<memories>")
        bare = "system: You are kind.\n\nhuman: Tell me about cats.\n\nai: Yes.\n\nhuman: Tell me about dogs."
        assert prompt(model).startswith(bare)
        assert "about cats" not in prompt(model).removeprefix(bare)


def test_what_was_shown_before_a_summary_moves_to_the_beginning_and_stays(scripted: Any) -> None:
    with opened() as memos:
        summariser = scripted(script=lambda _: "They spoke of animals.")
        model = scripted(script=lambda _: "Yes.")
        summary = SummarizationMiddleware(model=summariser, trigger=("messages", 5), keep=("messages", 2))
        agent = agent_of(model, memos, summary, record=False, k=1)
        for topic in ("cats", "dogs", "birds", "boats"):
            ask(agent, f"Tell me about {topic}.")
        assert summariser.seen, "the summariser was never asked"
        assert [f"about {topic}" in prompt(model).replace("me about", "") for topic in TOPICS[:4]] == [True] * 4
        assert "about dogs" in model.system() and "about boats" not in model.system()


def test_a_thread_that_began_before_there_were_places_goes_on() -> None:
    class Runtime:
        context = execution_info = None

    with opened() as memos:
        old = memos.list(user_id="mara")[0]
        messages = [HumanMessage("Hi", id="1"), AIMessage("Hi."), HumanMessage("Tell me about tea.", id="2")]
        state: Any = {"messages": messages, "memos_shown": [str(old.ref)]}
        kept = MemOSMiddleware(memos, user_id="mara", k=3).before_agent(state, Runtime())  # type: ignore[arg-type]
        assert kept is not None and kept["memos_shown"][0] == str(old.ref)
        assert kept["memos_places"][0] == "" and set(kept["memos_places"][1:]) == {"2"}


def test_the_layout_is_checked() -> None:
    with opened(1) as memos, pytest.raises(InvalidRequest, match="layout"):
        MemOSMiddleware(memos, user_id="mara", layout="relevance")  # type: ignore[arg-type]
