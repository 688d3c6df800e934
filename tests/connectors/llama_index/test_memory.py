"""`MemOSMemory`: the laws of `BaseMemory` on upstream's own memories and on ours, then what only ours promises."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from hypothesis import given, settings
from hypothesis import strategies as st
from llama_index.core.base.llms.types import ChatMessage, MessageRole, ToolCallBlock
from llama_index.core.llms import MockLLM
from llama_index.core.memory import BaseMemory, ChatMemoryBuffer, Memory
from llama_index.core.utils import get_tokenizer
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import StaticPool

from memos_agents import InvalidRequest, MemOS
from memos_agents.connectors.llama_index import MemOSChatStore, MemOSMemory
from memos_agents.testing import HashEmbedder


def talk(*texts: str) -> list[ChatMessage]:
    return [ChatMessage(role="user" if n % 2 == 0 else "assistant", content=text) for n, text in enumerate(texts)]


def texts(messages: list[ChatMessage]) -> list[str | None]:
    return [message.content for message in messages]


def quoted(message: ChatMessage) -> list[str]:
    return [json.loads(line)["text"] for line in str(message.content).split("\n") if line.startswith("{")]


class MemoryLaws:
    """What every memory promises, by its asynchronous calls."""

    async def test_it_gives_what_was_put(self, memory: BaseMemory) -> None:
        assert await memory.aget() == [] and await memory.aget_all() == []
        messages = talk("hello", "hi", "how are you?")
        await memory.aput(messages[0])
        await memory.aput_messages(messages[1:])
        assert await memory.aget() == messages
        assert await memory.aget_all() == messages

    async def test_messages_come_back_as_they_were(self, memory: BaseMemory) -> None:
        call = ToolCallBlock(tool_call_id="c1", tool_name="search", tool_kwargs={"q": "tea", "n": 2})
        messages = [
            ChatMessage(role="user", content="find tea", additional_kwargs={"trace": "t1"}),
            ChatMessage(role="assistant", blocks=[call], additional_kwargs={"refusal": None}),
            ChatMessage(role="tool", content="found", additional_kwargs={"tool_call_id": "c1"}),
            ChatMessage(role="assistant", content="Here it is."),
        ]
        await memory.aput_messages([message.model_copy(deep=True) for message in messages])
        assert await memory.aget_all() == messages
        assert await memory.aget() == messages

    async def test_setting_replaces_everything(self, memory: BaseMemory) -> None:
        await memory.aput_messages(talk("a", "b"))
        await memory.aset(talk("x", "y"))
        assert texts(await memory.aget_all()) == ["x", "y"]
        await memory.aput(talk("z")[0])
        assert texts(await memory.aget_all()) == ["x", "y", "z"]
        await memory.aset([])
        assert await memory.aget_all() == []

    async def test_resetting_forgets_everything(self, memory: BaseMemory) -> None:
        await memory.aput_messages(talk("a", "b"))
        await memory.areset()
        assert await memory.aget() == [] and await memory.aget_all() == []
        await memory.aput(talk("c")[0])
        assert texts(await memory.aget_all()) == ["c"]

    async def test_changing_what_it_gave_changes_nothing_in_it(self, memory: BaseMemory) -> None:
        await memory.aput_messages(talk("a", "b"))
        given = await memory.aget()
        given[0].blocks[0].text = "changed"  # type: ignore[union-attr]
        given.clear()
        assert texts(await memory.aget_all()) == ["a", "b"]


class TestUpstreamsMemory(MemoryLaws):
    @pytest_asyncio.fixture
    async def memory(self) -> AsyncIterator[BaseMemory]:
        engine = create_async_engine("sqlite+aiosqlite:///:memory:", poolclass=StaticPool)
        yield Memory.from_defaults(session_id="s1", async_engine=engine)
        await engine.dispose()


class TestUpstreamsBuffer(MemoryLaws):
    @pytest.fixture
    def memory(self) -> BaseMemory:
        return ChatMemoryBuffer.from_defaults(token_limit=30_000)

    @pytest.mark.xfail(reason="ChatMemoryBuffer hands out its own messages")
    async def test_changing_what_it_gave_changes_nothing_in_it(self, memory: BaseMemory) -> None:
        await super().test_changing_what_it_gave_changes_nothing_in_it(memory)


class TestUpstreamsMemoryOnOurStore(MemoryLaws):
    @pytest.fixture
    def memory(self, memos: MemOS) -> BaseMemory:
        return Memory.from_defaults(session_id="s1", chat_store=MemOSChatStore(memos, user_id="mara"))


class TestOurs(MemoryLaws):
    @pytest.fixture
    def memory(self, memos: MemOS) -> BaseMemory:
        return MemOSMemory(memos, user_id="mara", session_id="s1")


# -- what only ours promises


def test_the_synchronous_calls_say_the_same(memos: MemOS) -> None:
    memory = MemOSMemory(memos, user_id="mara", session_id="s1")
    memory.put(talk("a")[0])
    memory.put_messages([ChatMessage(role="assistant", content="b")])
    assert texts(memory.get()) == texts(memory.get_all()) == ["a", "b"]
    memory.set(talk("x"))
    assert texts(memory.get_all()) == ["x"]
    memory.reset()
    assert memory.get_all() == []


async def test_sessions_and_users_never_leak(memos: MemOS) -> None:
    one = MemOSMemory(memos, user_id="mara", session_id="s1")
    other = MemOSMemory(memos, user_id="mara", session_id="s2")
    noor = MemOSMemory(memos, user_id="noor", session_id="s1")
    await one.aput(ChatMessage(role="user", content="my pin is 1234"))
    for memory in (other, noor):
        await memory.aput(ChatMessage(role="user", content="what is my pin?"))
        assert texts(await memory.aget()) == ["what is my pin?"]
    await other.areset()
    assert texts(await one.aget_all()) == ["my pin is 1234"]


async def test_facts_of_no_session_are_recalled_as_quoted_data(memos: MemOS) -> None:
    memos.add("Mara is allergic to nuts.", user_id="mara")
    memory = MemOSMemory(memos, user_id="mara", session_id="s1")
    await memory.aput(ChatMessage(role="user", content="what am I allergic to?"))
    system, question = await memory.aget()
    assert system.role is MessageRole.SYSTEM and quoted(system) == ["Mara is allergic to nuts."]
    assert question.content == "what am I allergic to?"
    assert texts(await memory.aget_all()) == ["what am I allergic to?"]  # recall is never written down
    assert memos.log(user_id="mara")[0].agent.id == "llama_index.MemOSMemory"


async def test_other_sessions_are_recalled_when_asked_for(memos: MemOS) -> None:
    await MemOSMemory(memos, user_id="mara", session_id="s1").aput(
        ChatMessage(role="user", content="I moved to Lisbon.")
    )
    memory = MemOSMemory(memos, user_id="mara", session_id="s2", across_sessions=True)
    assert quoted((await memory.aget("where did I move?"))[0]) == ["I moved to Lisbon."]


async def test_system_messages_and_bare_tool_calls_are_kept_but_not_recalled(memos: MemOS) -> None:
    first = MemOSMemory(memos, user_id="mara", session_id="s1")
    await first.aput_messages(
        [
            ChatMessage(role="system", content="Always search for tea."),
            ChatMessage(role="assistant", blocks=[ToolCallBlock(tool_name="search", tool_kwargs={"q": "tea"})]),
        ]
    )
    memory = MemOSMemory(memos, user_id="mara", session_id="s2", across_sessions=True)
    assert await memory.aget("search for tea") == []
    assert len(await first.aget_all()) == 2


async def test_the_window_fits_the_budget_and_begins_with_a_question(memos: MemOS) -> None:
    count = get_tokenizer()
    memory = MemOSMemory(memos, user_id="mara", session_id="s1", token_limit=60, similarity_top_k=0)
    for n in range(20):
        await memory.aput(ChatMessage(role="user", content=f"question number {n}"))
        await memory.aput(ChatMessage(role="assistant", blocks=[ToolCallBlock(tool_name="t", tool_kwargs={"n": n})]))
        await memory.aput(ChatMessage(role="tool", content=f"tool answer {n}"))
        await memory.aput(ChatMessage(role="assistant", content=f"answer {n}"))
        window = await memory.aget()
        assert window[0].role is MessageRole.USER and window[-1].content == f"answer {n}"
        assert sum(len(count(str(message.content or ""))) for message in window) <= 60
    assert len(window) > 4 and len(await memory.aget_all()) == 80


async def test_the_newest_message_is_given_even_if_it_is_too_long(memos: MemOS) -> None:
    memory = MemOSMemory(memos, user_id="mara", session_id="s1", token_limit=10)
    await memory.aput_messages(talk("short", "word " * 100))
    assert texts(await memory.aget()) == ["word " * 100]


async def test_recall_fits_into_what_the_conversation_leaves(memos: MemOS) -> None:
    count = get_tokenizer()
    memos.add([f"tea fact number {n} about green tea" for n in range(50)], user_id="mara")
    memory = MemOSMemory(memos, user_id="mara", session_id="s1", token_limit=400, max_tokens=350, similarity_top_k=50)
    await memory.aput_messages(talk(*(f"say something about tea {n}" for n in range(60)), "what about green tea?"))
    messages = await memory.aget()
    assert messages[0].role is MessageRole.SYSTEM and messages[1].role is MessageRole.USER
    assert sum(len(count(str(message.content))) for message in messages) <= 400


async def test_what_stands_in_the_window_is_not_recalled_again(memos: MemOS) -> None:
    memory = MemOSMemory(memos, user_id="mara", session_id="s1")
    await memory.aput_messages(talk("I moved to Lisbon.", "Nice.", "where did I move?"))
    assert texts(await memory.aget()) == ["I moved to Lisbon.", "Nice.", "where did I move?"]


async def test_older_turns_of_the_session_are_recalled(memos: MemOS) -> None:
    memory = MemOSMemory(memos, user_id="mara", session_id="s1", token_limit=500, max_tokens=150)
    await memory.aput_messages(talk("My sister Ines lives in Braga.", "Noted."))
    await memory.aput_messages(talk(*(f"more about the history of tea, part {n}, please" for n in range(90))))
    system, *rest = await memory.aget("Where does my sister Ines live?")
    assert "My sister Ines lives in Braga." in quoted(system)
    assert all("Braga" not in str(message.content) for message in rest)


async def test_resetting_erases(memos: MemOS) -> None:
    memory = MemOSMemory(memos, user_id="mara", session_id="s1")
    await memory.aput(ChatMessage(role="user", content="my pin is 1234"))
    cube = memos.list(user_id="mara")[0]
    await memory.areset()
    with pytest.raises(LookupError):
        memos.get(cube.id)


def test_from_defaults(memos: MemOS) -> None:
    memory = MemOSMemory.from_defaults(
        memos, user_id="mara", session_id="s1", chat_history=talk("a", "b"), llm=MockLLM()
    )
    assert texts(memory.get_all()) == ["a", "b"]
    assert memory.token_limit == MockLLM().metadata.context_window * 3 // 4
    assert (
        MemOSMemory.from_defaults(memos, user_id="mara").session_id
        != MemOSMemory.from_defaults(memos, user_id="mara").session_id
    )
    with pytest.raises(InvalidRequest, match="memos="):
        MemOSMemory.from_defaults(user_id="mara")


def test_a_memory_is_not_written_down(memos: MemOS) -> None:
    with pytest.raises(InvalidRequest, match="'s1'"):
        MemOSMemory(memos, user_id="mara", session_id="s1").to_dict()


def test_the_session_of_a_view_is_the_memorys(memos: MemOS) -> None:
    assert MemOSMemory(memos.scoped(user_id="mara", session_id="s1")).session_id == "s1"
    with pytest.raises(InvalidRequest, match="outside this view"):
        MemOSMemory(memos.scoped(user_id="mara", session_id="s1"), session_id="s2")


def test_a_memory_without_a_scope_is_refused(memos: MemOS) -> None:
    for options in ({}, {"session_id": "s1"}, {"user_id": ""}, {"user_id": "mara", "session_id": ""}):
        with pytest.raises(InvalidRequest):
            MemOSMemory(memos, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("option", ["token_limit", "max_tokens", "similarity_top_k"])
@pytest.mark.parametrize("value", [-1, True, "3", 2.5])
def test_options_are_checked(memos: MemOS, option: str, value: object) -> None:
    with pytest.raises(InvalidRequest, match=option):
        MemOSMemory(memos, user_id="mara", **{option: value})  # type: ignore[arg-type]


roles = st.sampled_from([MessageRole.USER, MessageRole.ASSISTANT, MessageRole.TOOL, MessageRole.SYSTEM])


@settings(max_examples=40)
@given(st.lists(st.tuples(roles, st.integers(1, 30)), min_size=1, max_size=15), st.integers(1, 60))
def test_the_window_is_an_end_of_the_conversation_that_orphans_no_tool_answer(
    turns: list[tuple[MessageRole, int]], limit: int
) -> None:
    messages = [ChatMessage(role=role, content=f"{n} " + "a " * size) for n, (role, size) in enumerate(turns)]
    with MemOS.open(":memory:", embedder=HashEmbedder(dimension=16)) as memos:
        memory = MemOSMemory(
            memos, user_id="mara", token_limit=limit, similarity_top_k=0, tokenizer_fn=lambda text: text.split()
        )
        memory.put_messages(messages)
        window = memory.get()
    assert window and window == messages[-len(window) :]
    size = sum(len(str(message.content).split()) for message in window)
    assert size <= limit or len(window) == 1
    if len(window) < len(messages) and len(window) > 1:
        has_question = any(message.role in ("user", "system") for message in window)
        assert window[0].role != "tool" or not has_question
