"""The prompts of a conversation over real HTTP: each continues the one before it, and nothing that is gone stays."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openai import OpenAI

from memos_agents import InvalidRequest, MemOS
from memos_agents.connectors.openai import MemOSSession, with_memory
from memos_agents.interface.quoting import PREAMBLE
from memos_agents.testing import FixedClock, HashEmbedder

TOPICS = ("cats", "dogs", "birds", "boats", "tea")
SYSTEM = {"role": "system", "content": "You are kind."}
LAWS = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def client(server: Any) -> Iterator[OpenAI]:
    with OpenAI(base_url=server.base_url, api_key="unused", max_retries=0) as made:
        yield made


def opened(facts: int = 10) -> MemOS:
    memos = MemOS.open(":memory:", embedder=HashEmbedder(32), clock=FixedClock())
    for user in ("mara", "omar"):
        memos.add([f"{user}: fact {number} about {TOPICS[number % 5]}" for number in range(facts)], user_id=user)
    return memos


def prompt(asked: dict[str, Any]) -> str:
    """Everything that a request shows to the model, in the order in which templates lay it out."""
    entries = asked.get("messages") or asked["input"]
    said = [f"system: {asked['instructions']}"] if asked.get("instructions") else []
    return "\n\n".join([*said, *(f"{entry['role']}: {content(entry)}" for entry in entries)])


def content(entry: dict[str, Any]) -> str:
    given = entry["content"]
    return given if isinstance(given, str) else "".join(part.get("text", "") for part in given)


class Talk:
    """A conversation whose history the caller keeps."""

    def __init__(self, client: OpenAI, api: str = "chat", *, parts: bool = False) -> None:
        self.client, self.api, self.parts = client, api, parts
        self.history: list[Any] = []

    def say(self, text: str) -> None:
        kind = "text" if self.api == "chat" else "input_text"
        self.history.append({"role": "user", "content": [{"type": kind, "text": text}] if self.parts else text})
        if self.api == "chat":
            made = self.client.chat.completions.create(model="tiny", messages=[SYSTEM, *self.history])
            answer = made.choices[0].message.content
        else:
            options: dict[str, Any] = {"instructions": "You are kind.", "store": False}
            answer = self.client.responses.create(model="tiny", input=self.history, **options).output_text
        self.history.append({"role": "assistant", "content": answer})


@LAWS
@given(
    topics=st.lists(st.sampled_from(TOPICS), min_size=2, max_size=5),
    api=st.sampled_from(["chat", "responses"]),
    parts=st.booleans(),
    session=st.sampled_from([None, "s1"]),
    data=st.data(),
)
def test_each_prompt_continues_the_one_before_it(
    client: OpenAI, server: Any, topics: list[str], api: str, parts: bool, session: str | None, data: st.DataObject
) -> None:
    with opened() as memos:
        server.asked.clear()
        remembering = with_memory(client, memos, user_id="mara", session_id=session, limit=2, max_tokens=10_000)
        talk = Talk(remembering, api, parts=parts)
        for turn, topic in enumerate(topics):
            talk.say(f"Turn {turn}: tell me about {topic}.")
            assert "omar:" not in server.told()
        for earlier, later in pairwise(server.asked):
            assert prompt(later).startswith(prompt(earlier))
        ids = [cube.id for cube in memos.list(user_id="mara") if cube.text in prompt(server.asked[-1])]
        gone = memos.get(data.draw(st.sampled_from(sorted(ids))))
        (memos.erase if data.draw(st.booleans()) else memos.archive)(gone.id)
        talk.say(f"And about {topics[0]}?")
        assert json.dumps(gone.text) not in prompt(server.asked[-1])
        assert not any("<memories>" in content(entry) for entry in talk.history)  # the caller's own stays as it was


@LAWS
@given(st.lists(st.tuples(st.integers(0, 2), st.sampled_from(TOPICS)), min_size=2, max_size=8))
def test_conversations_beside_each_other_do_not_mix(client: OpenAI, server: Any, turns: list[tuple[int, str]]) -> None:
    """Without any name: by what was said in them."""
    with opened() as memos:
        server.asked.clear()
        remembering = with_memory(client, memos, user_id="mara", limit=2, max_tokens=10_000)
        talks = [Talk(remembering) for _ in range(3)]
        prompts: list[list[str]] = [[], [], []]
        for number, topic in turns:
            talks[number].say(f"Talk {number}: tell me about {topic}.")
            prompts[number].append(prompt(server.asked[-1]))
        for own in prompts:
            for earlier, later in pairwise(own):
                assert later.startswith(earlier)
            assert not own or own[-1].count("<memories>") <= len(own)


def test_an_answer_that_is_asked_for_again_finds_the_conversation_as_it_was(client: OpenAI, server: Any) -> None:
    with opened() as memos:
        talk = Talk(with_memory(client, memos, user_id="mara", limit=2))
        for topic in ("cats", "dogs"):
            talk.say(f"Tell me about {topic}.")
        del talk.history[-2:]
        talk.say("Tell me about dogs.")
        first, again = (asked["messages"] for asked in server.asked[-2:])
        assert again[:-1] == first[:-1] and "about dogs" in content(again[-1])


def test_what_tools_answer_continues_the_prompt(client: OpenAI, server: Any) -> None:
    with opened() as memos:
        remembering = with_memory(client, memos, user_id="mara", limit=2)
        server.script = [("weather", {"city": "Lisbon"})]
        messages: list[Any] = [SYSTEM, {"role": "user", "content": "Is it a day for boats?"}]
        call = remembering.chat.completions.create(model="tiny", messages=messages).choices[0].message
        memos.add("mara: one more fact about boats", user_id="mara")
        messages += [call, {"role": "tool", "tool_call_id": "call_1", "content": "sunny"}]
        remembering.chat.completions.create(model="tiny", messages=messages)
        first, second = (asked["messages"] for asked in server.asked)
        assert second[:2] == first and "about boats" in content(first[0])


def test_where_the_server_keeps_the_conversation_memory_is_told_beside_it(client: OpenAI, server: Any) -> None:
    with opened() as memos:
        remembering = with_memory(client, memos, user_id="mara", limit=2)
        last: dict[str, Any] = {}
        for topic in ("cats", "dogs"):
            asked = [{"role": "user", "content": f"Tell me about {topic}."}]
            response = remembering.responses.create(model="tiny", input=asked, **last)  # type: ignore[arg-type]
            assert server.asked[-1]["input"] == asked
            last = {"previous_response_id": response.id}
        first, second = (asked["instructions"].removesuffix("</memories>") for asked in server.asked)
        assert second.startswith(first) and "about dogs" in second


def test_fresh_memory_is_of_the_last_message_alone(client: OpenAI, server: Any) -> None:
    with opened() as memos:
        talk = Talk(with_memory(client, memos, user_id="mara", limit=2, layout="fresh"))
        for topic in ("cats", "dogs", "birds"):
            talk.say(f"Tell me about {topic}.")
            told = server.asked[-1]["messages"]
            assert [PREAMBLE in content(entry) for entry in told] == [False] * (len(told) - 1) + [True]
        remembering = with_memory(client, memos, user_id="mara", session_id="s1", limit=1, layout="fresh")
        for topic in ("cats", "dogs"):
            remembering.responses.create(model="tiny", input=f"Tell me about {topic}.")
        assert server.asked[-1]["instructions"].count('"time"') == 1
        remembering.responses.create(model="tiny", input="Tell me about tea.", store=False)
        assert server.asked[-1]["input"].startswith("<memories>") and "instructions" not in server.asked[-1]


def test_the_layout_is_checked(client: OpenAI) -> None:
    with opened(1) as memos, pytest.raises(InvalidRequest, match="layout"):
        with_memory(client, memos, user_id="mara", layout="relevance")  # type: ignore[arg-type]


@settings(max_examples=10, deadline=None)
@given(st.lists(st.lists(st.sampled_from(TOPICS), min_size=1, max_size=3), min_size=2, max_size=4))
async def test_a_session_of_the_agents_sdk_only_grows_at_its_end(turns: list[list[str]]) -> None:
    with opened(1) as memos:
        session = MemOSSession("s1", memos, user_id="mara")
        before: list[Any] = []
        for said in turns:
            await session.add_items([{"role": "user", "content": text} for text in said])
            after = await session.get_items()
            assert json.dumps(after[: len(before)]) == json.dumps(before) and len(after) == len(before) + len(said)
            before = after
