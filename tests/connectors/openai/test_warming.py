"""warm: one token is asked for, of exactly the beginning that the next request has."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from openai import AsyncOpenAI, OpenAI

from memos_agents import AsyncMemOS, MemOS
from memos_agents.connectors.openai import Warmth, awarm, warm, with_memory

SYSTEM: dict[str, Any] = {"role": "system", "content": "You are kind."}


@pytest.fixture
def client(server: Any) -> Iterator[OpenAI]:
    with OpenAI(base_url=server.base_url, api_key="unused", max_retries=0) as made:
        yield made


def asked_of(server: Any) -> dict[str, Any]:
    asked: dict[str, Any] = dict(server.asked[-1])
    return asked


def test_a_plain_client_sends_what_it_is_given_and_a_question(client: OpenAI, server: Any) -> None:
    assert warm(client, model="tiny", messages=[SYSTEM]) == Warmth(prompt_tokens=1, cached_tokens=None)
    asked = asked_of(server)
    assert (asked["model"], asked["max_tokens"]) == ("tiny", 1)
    assert asked["messages"] == [SYSTEM, {"role": "user", "content": "-"}]
    tools = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
    messages = [SYSTEM, {"role": "user", "content": "Is it sunny?"}]
    warm(client, model="tiny", messages=iter(messages), tools=tools, max_completion_tokens=16)
    asked = asked_of(server)
    assert asked["messages"] == messages and asked["tools"] == tools
    assert asked["max_completion_tokens"] == 16 and "max_tokens" not in asked


def test_a_client_that_remembers_sends_the_beginning_of_its_next_request(
    memos: MemOS, client: OpenAI, server: Any
) -> None:
    memos.add(["Mara lives in Lisbon.", "The dog is called Bacci."], user_id="mara")
    remembering = with_memory(client, memos, user_id="mara", limit=1)
    messages: list[Any] = [SYSTEM]
    for question in ("Which city does Mara live in?", "What is the dog called?"):
        messages.append({"role": "user", "content": question})
        answer = remembering.chat.completions.create(model="tiny", messages=messages)
        messages.append({"role": "assistant", "content": answer.choices[0].message.content})
    recorded = len(memos.list(user_id="mara"))
    warm(remembering.with_options(timeout=5), model="tiny", messages=messages)
    warmed = asked_of(server)["messages"]
    assert len(memos.list(user_id="mara")) == recorded
    remembering.chat.completions.create(model="tiny", messages=[*messages, {"role": "user", "content": "Thanks!"}])
    assert asked_of(server)["messages"][:-1] == warmed[:-1]
    assert "Lisbon" in warmed[0]["content"] and "Bacci" in warmed[3]["content"]


def test_what_is_erased_is_not_warmed(memos: MemOS, client: OpenAI, server: Any) -> None:
    [cube] = memos.add("Mara lives in Lisbon.", user_id="mara")
    remembering = with_memory(client, memos, user_id="mara")
    question = {"role": "user", "content": "Which city does Mara live in?"}
    remembering.chat.completions.create(model="tiny", messages=[SYSTEM, question])  # type: ignore[list-item]
    memos.erase(cube.id)
    warm(remembering, model="tiny", messages=[SYSTEM, question, {"role": "assistant", "content": "answer 1"}])
    assert "Lisbon" not in server.told() and "<memories>" not in server.told()


async def test_it_waits_without_blocking(memos: MemOS, server: Any) -> None:
    memos.add("Mara lives in Lisbon.", user_id="mara")
    async with AsyncOpenAI(base_url=server.base_url, api_key="unused", max_retries=0) as client:
        assert await awarm(client, model="tiny", messages=[SYSTEM]) == Warmth(1, None)
        async with AsyncMemOS(memos) as aio:
            remembering = with_memory(client, aio, user_id="mara")
            await remembering.chat.completions.create(model="tiny", messages=[{"role": "user", "content": "Lisbon?"}])
            history = [{"role": "user", "content": "Lisbon?"}, {"role": "assistant", "content": "answer 2"}]
            await awarm(remembering, model="tiny", messages=history)
    assert "Mara lives in Lisbon." in server.told()
