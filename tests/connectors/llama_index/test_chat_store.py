"""Chat stores: the laws of `AsyncDBChatStore` on upstream's own store and on ours, then what only ours promises."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from hypothesis import given, settings
from hypothesis import strategies as st
from llama_index.core.base.llms.types import (
    AudioBlock,
    CachePoint,
    ChatMessage,
    CitableBlock,
    CitationBlock,
    DocumentBlock,
    ImageBlock,
    MessageRole,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
)
from llama_index.core.memory import Memory
from llama_index.core.storage.chat_store.base_db import AsyncDBChatStore, MessageStatus
from llama_index.core.storage.chat_store.sql import SQLAlchemyChatStore
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import StaticPool

from memos_agents import AsyncMemOS, InvalidRequest, MemOS, Scope
from memos_agents.connectors.llama_index import MemOSChatStore
from memos_agents.testing import HashEmbedder

ACTIVE, ARCHIVED = MessageStatus.ACTIVE, MessageStatus.ARCHIVED


def said(*texts: str) -> list[ChatMessage]:
    return [ChatMessage(role="user" if n % 2 == 0 else "assistant", content=text) for n, text in enumerate(texts)]


def texts(messages: list[ChatMessage]) -> list[str | None]:
    return [message.content for message in messages]


RICH = [
    ChatMessage(role="system", content="Be brief."),
    ChatMessage(role="user", content="Weather?", additional_kwargs={"trace": {"id": [1, 2.5, None, True]}}),
    ChatMessage(
        role="assistant",
        blocks=[
            ThinkingBlock(content="look it up", num_tokens=3, additional_information={"signature": "abc"}),
            TextBlock(text="One moment."),
            ToolCallBlock(tool_call_id="c1", tool_name="weather", tool_kwargs={"city": "Lisbon", "days": 2}),
        ],
        additional_kwargs={"tool_calls": [{"id": "c1", "function": {"name": "weather", "arguments": "{}"}}]},
    ),
    ChatMessage(role="tool", content="18 degrees", additional_kwargs={"tool_call_id": "c1"}),
    ChatMessage(role="assistant", blocks=[ToolCallBlock(tool_call_id="c2", tool_name="noop", tool_kwargs={})]),
    ChatMessage(role="user", blocks=[ImageBlock(image=b"\x89PNG\r\n\x1a\n", image_mimetype="image/png"), CachePoint(
        cache_control={"type": "ephemeral"})]),
    ChatMessage(role="user", blocks=[AudioBlock(audio=b"RIFF", format="wav"), TextBlock(text="hear")]),
    ChatMessage(role="user", blocks=[DocumentBlock(data=b"%PDF-1.4", title="p", document_mimetype="application/pdf")]),
    ChatMessage(role="assistant", blocks=[CitableBlock(title="t", source="s", content=[TextBlock(text="quoted")]),
        CitationBlock(cited_content=TextBlock(text="q"), source="s", title="t", additional_location_info={"page": 3})]),
    ChatMessage(role="user", content=""),
    ChatMessage(role="user", blocks=[]),
    ChatMessage(role="developer", content="  \n "),
    ChatMessage(role="user", content="naïve 日本語 \U0001f600 <b>&amp;</b> \u202e tab\t newline\n end"),
]  # fmt: skip


class ChatStoreLaws:
    """What every chat store promises."""

    async def test_messages_come_back_in_order(self, store: AsyncDBChatStore) -> None:
        await store.add_message("k", said("one")[0])
        await store.add_messages("k", said("two", "three"))
        assert texts(await store.get_messages("k")) == ["one", "two", "three"]
        assert await store.count_messages("k") == 3
        assert await store.get_messages("other") == []
        assert await store.count_messages("other") == 0

    @pytest.mark.parametrize("message", RICH, ids=range(len(RICH)))
    async def test_a_message_comes_back_as_it_was(self, store: AsyncDBChatStore, message: ChatMessage) -> None:
        expected = message.model_copy(deep=True)
        await store.add_message("k", message)
        assert await store.get_messages("k") == [expected]
        assert message == expected  # and nothing was written into the caller's own

    async def test_equal_messages_stay_apart(self, store: AsyncDBChatStore) -> None:
        await store.add_messages("k", said("yes", "ok", "yes", "ok"))
        await store.add_message("k", said("yes")[0])
        assert texts(await store.get_messages("k")) == ["yes", "ok", "yes", "ok", "yes"]

    async def test_pages(self, store: AsyncDBChatStore) -> None:
        await store.add_messages("k", said(*"abcdef"))
        assert texts(await store.get_messages("k", limit=2)) == ["a", "b"]
        assert texts(await store.get_messages("k", limit=2, offset=3)) == ["d", "e"]
        assert texts(await store.get_messages("k", limit=9, offset=5)) == ["f"]
        assert texts(await store.get_messages("k", limit=0)) == []

    async def test_archiving_takes_the_oldest_active(self, store: AsyncDBChatStore) -> None:
        await store.add_messages("k", said(*"abcd"))
        assert texts(await store.archive_oldest_messages("k", 1)) == ["a"]
        assert texts(await store.archive_oldest_messages("k", 2)) == ["b", "c"]
        assert texts(await store.get_messages("k")) == ["d"]
        assert texts(await store.get_messages("k", status=ARCHIVED)) == ["a", "b", "c"]
        assert texts(await store.get_messages("k", status=None)) == ["a", "b", "c", "d"]
        assert [await store.count_messages("k", status=status) for status in (ACTIVE, ARCHIVED, None)] == [1, 3, 4]
        assert texts(await store.archive_oldest_messages("k", 9)) == ["d"]
        assert await store.archive_oldest_messages("k", 9) == []

    async def test_messages_can_be_archived_from_the_start(self, store: AsyncDBChatStore) -> None:
        await store.add_message("k", said("old")[0], status=ARCHIVED)
        await store.add_messages("k", said("older"), status=ARCHIVED)
        assert await store.get_messages("k") == []
        assert texts(await store.get_messages("k", status=ARCHIVED)) == ["old", "older"]

    async def test_deleting_the_oldest_spares_the_archived(self, store: AsyncDBChatStore) -> None:
        await store.add_messages("k", said(*"abcd"))
        await store.archive_oldest_messages("k", 1)
        assert texts(await store.delete_oldest_messages("k", 2)) == ["b", "c"]
        assert texts(await store.get_messages("k", status=None)) == ["a", "d"]
        assert await store.delete_oldest_messages("none", 2) == []

    async def test_deleting_by_status(self, store: AsyncDBChatStore) -> None:
        await store.add_messages("k", said(*"abcd"))
        await store.archive_oldest_messages("k", 2)
        await store.delete_messages("k", status=ARCHIVED)
        assert texts(await store.get_messages("k", status=None)) == ["c", "d"]
        await store.delete_messages("k")
        assert await store.get_messages("k", status=None) == []
        await store.delete_messages("k")

    async def test_deleting_one_key_spares_the_others(self, store: AsyncDBChatStore) -> None:
        await store.add_messages("a", said("mine"))
        await store.add_messages("b", said("yours"))
        await store.delete_messages("a")
        assert texts(await store.get_messages("b")) == ["yours"]

    @pytest.mark.parametrize(
        "new", [[], ["a"], ["a", "b", "x"], ["x", "y", "z", "w"], ["a", "b", "c", "d"], ["b", "a"]]
    )
    async def test_setting_replaces_everything(self, store: AsyncDBChatStore, new: list[str]) -> None:
        await store.add_messages("k", said(*"abc"))
        await store.archive_oldest_messages("k", 1)
        await store.set_messages("k", said(*new))
        assert texts(await store.get_messages("k")) == new
        assert texts(await store.get_messages("k", status=None)) == new
        await store.set_messages("k", said(*new), status=ARCHIVED)
        assert texts(await store.get_messages("k", status=ARCHIVED)) == new

    async def test_keys(self, store: AsyncDBChatStore) -> None:
        assert await store.get_keys() == []
        for key in ("b", "a", "b"):
            await store.add_message(key, said("hello")[0])
        assert sorted(await store.get_keys()) == ["a", "b"]
        await store.delete_messages("b")
        assert await store.get_keys() == ["a"]


class TestUpstream(ChatStoreLaws):
    @pytest_asyncio.fixture
    async def store(self) -> AsyncIterator[AsyncDBChatStore]:
        engine = create_async_engine("sqlite+aiosqlite:///:memory:", poolclass=StaticPool)
        yield SQLAlchemyChatStore("messages", async_engine=engine)
        await engine.dispose()


class TestOurs(ChatStoreLaws):
    @pytest.fixture
    def store(self, memos: MemOS) -> AsyncDBChatStore:
        return MemOSChatStore(memos, user_id="mara")

    async def test_deleting_by_position(self, store: AsyncDBChatStore) -> None:
        await store.add_messages("k", said(*"abc"))
        assert (await store.delete_message("k", 1)) == said("a", "b")[1]
        assert (await store.delete_message("k", -1)) == said("c")[0]
        assert await store.delete_message("k", 5) is None
        assert await store.delete_message("none", 0) is None
        assert texts(await store.get_messages("k")) == ["a"]


keys = st.sampled_from(["k", "l"])
said_steps = st.one_of(
    st.tuples(st.just("add_messages"), keys, st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=3)),
    st.tuples(st.just("set_messages"), keys, st.lists(st.sampled_from(["a", "b", "c"]), max_size=3)),
    st.tuples(st.just("archive_oldest_messages"), keys, st.integers(0, 3)),
    st.tuples(st.just("delete_oldest_messages"), keys, st.integers(0, 3)),
    st.tuples(st.just("delete_messages"), keys, st.sampled_from([ACTIVE, ARCHIVED, None])),
)


async def after(store: AsyncDBChatStore, steps: list[tuple[str, str, Any]]) -> list[object]:
    """What each step returns and what the store says in the end."""
    told: list[object] = []
    for name, key, what in steps:
        argument = [ChatMessage(role="user", content=text) for text in what] if isinstance(what, list) else what
        told.append(await getattr(store, name)(key, argument))
    for key in ("k", "l"):
        told += [await store.get_messages(key, status=status) for status in (ACTIVE, ARCHIVED, None)]
        told.append(await store.get_messages(key, limit=2, offset=1))
        told.append(await store.count_messages(key, status=None))
    return [*told, sorted(await store.get_keys())]


@settings(max_examples=50)
@given(st.lists(said_steps, max_size=10))
def test_any_sequence_of_calls_says_what_upstream_says(steps: list[tuple[str, str, Any]]) -> None:
    async def theirs() -> list[object]:
        engine = create_async_engine("sqlite+aiosqlite:///:memory:", poolclass=StaticPool)
        try:
            return await after(SQLAlchemyChatStore("messages", async_engine=engine), steps)
        finally:
            await engine.dispose()

    with MemOS.open(":memory:", embedder=HashEmbedder(dimension=16)) as memos:
        ours = asyncio.run(after(MemOSChatStore(memos, user_id="mara"), steps))
    assert ours == asyncio.run(theirs())


# -- what only ours promises


async def test_every_front_finds_what_was_said_until_it_is_archived(memos: MemOS) -> None:
    store = MemOSChatStore(memos, user_id="mara")
    await store.add_messages("s1", said("I moved to Lisbon.", "Nice."))
    hit = memos.search("Lisbon", user_id="mara")[0]
    assert (hit.cube.text, hit.cube.descriptive.role, hit.cube.scope.session_id) == ("I moved to Lisbon.", "user", "s1")
    await store.archive_oldest_messages("s1", 2)
    assert memos.search("Lisbon", user_id="mara") == []
    assert memos.search("Lisbon", user_id="mara", states="archived")[0].cube.id == hit.cube.id


async def test_provenance_names_the_front(memos: MemOS) -> None:
    store = MemOSChatStore(memos, user_id="mara")
    await store.add_messages("s1", said("a", "b"))
    await store.archive_oldest_messages("s1", 1)
    await store.delete_messages("s1")
    log = memos.log(user_id="mara")
    assert {entry.kind for entry in log} == {"add", "archive", "erase"}
    assert {entry.agent.id for entry in log} == {"llama_index.MemOSChatStore"}


async def test_users_with_equal_keys_never_meet(memos: MemOS) -> None:
    mara, noor = MemOSChatStore(memos, user_id="mara"), MemOSChatStore(memos, user_id="noor")
    await mara.add_messages("s1", said("mine"))
    assert await noor.get_messages("s1", status=None) == []
    assert await noor.get_keys() == []
    await noor.delete_messages("s1")
    await noor.set_messages("s1", said("other"))
    assert texts(await mara.get_messages("s1")) == ["mine"]


async def test_agents_of_one_user_have_logs_of_their_own(memos: MemOS) -> None:
    plain, helper = MemOSChatStore(memos, user_id="mara"), MemOSChatStore(memos, user_id="mara", agent_id="helper")
    await plain.add_messages("s1", said("to all"))
    await helper.add_messages("s1", said("to the helper"))
    assert texts(await plain.get_messages("s1")) == ["to all"]
    await plain.delete_messages("s1")
    assert texts(await helper.get_messages("s1")) == ["to the helper"]


async def test_a_log_holds_only_what_a_chat_store_wrote(memos: MemOS) -> None:
    fact = memos.add("I like tea.", user_id="mara", session_id="s1")[0]
    store = MemOSChatStore(memos, user_id="mara")
    await store.add_messages("s1", said("hello"))
    assert texts(await store.get_messages("s1")) == ["hello"]
    await store.delete_messages("s1")
    assert memos.get(fact.id).text == "I like tea."


async def test_what_is_deleted_is_erased(memos: MemOS) -> None:
    store = MemOSChatStore(memos, user_id="mara")
    await store.add_messages("s1", said("my pin is 1234", "noted"))
    ids = [cube.id for cube in memos.list(user_id="mara")]
    await store.set_messages("s1", said("hello"))
    for cube_id in ids:
        with pytest.raises(LookupError):
            memos.get(cube_id)
    assert memos.search("pin 1234", user_id="mara") == []
    assert memos.verify().ok


async def test_setting_keeps_what_the_log_begins_with(memos: MemOS) -> None:
    store = MemOSChatStore(memos, user_id="mara")
    await store.add_messages("s1", said(*"abc"))
    before = [cube.id for cube in memos.list(user_id="mara")]
    await store.set_messages("s1", said("a", "b", "x"))
    after = [cube.id for cube in memos.list(user_id="mara")]
    assert after[:2] == before[:2] and after[2] != before[2]


async def test_characters_that_no_store_keeps_come_back(memos: MemOS) -> None:
    store = MemOSChatStore(memos, user_id="mara")
    message = ChatMessage(role="tool", content="raw \x00 bytes \ud800", additional_kwargs={"\x00": "\udfff"})
    await store.add_message("s1", message)
    assert await store.get_messages("s1") == [message]
    assert memos.list(user_id="mara")[0].text == "raw \ufffd bytes \ufffd"


async def test_what_is_not_json_is_refused_before_anything_is_written(memos: MemOS) -> None:
    store = MemOSChatStore(memos, user_id="mara")
    with pytest.raises(InvalidRequest, match="additional_kwargs"):
        await store.add_messages("s1", [*said("fine"), ChatMessage(content="odd", additional_kwargs={"o": object()})])
    assert await store.get_messages("s1") == []


def test_a_store_without_a_scope_is_refused(memos: MemOS) -> None:
    with pytest.raises(InvalidRequest):
        MemOSChatStore(memos)
    with pytest.raises(InvalidRequest):
        MemOSChatStore(memos, user_id="")
    with pytest.raises(InvalidRequest):
        MemOSChatStore("memos.db", user_id="mara")  # type: ignore[arg-type]
    MemOSChatStore(memos, scope=Scope(user_id="mara"))
    MemOSChatStore(memos.scoped(user_id="mara"))
    MemOSChatStore(AsyncMemOS(memos).scoped(user_id="mara"))


async def test_a_view_bound_to_a_session_refuses_other_keys(memos: MemOS) -> None:
    store = MemOSChatStore(memos.scoped(user_id="mara", session_id="s1"))
    await store.add_messages("s1", said("hello"))
    for call in (store.get_messages("s2"), store.add_message("s2", said("x")[0]), store.delete_messages("s2")):
        with pytest.raises(InvalidRequest, match="outside this view"):
            await call


@pytest.mark.parametrize("key", ["", "  ", "a\x00b", "a\u200bb", "x" * 600])
async def test_a_key_that_cannot_name_a_session_is_refused(memos: MemOS, key: str) -> None:
    store = MemOSChatStore(memos, user_id="mara")
    with pytest.raises(InvalidRequest):
        await store.get_messages(key)
    with pytest.raises(InvalidRequest):
        await store.delete_messages(key)


@pytest.mark.parametrize("count", [-1, True, "2"])
async def test_counts_are_checked(memos: MemOS, count: object) -> None:
    store = MemOSChatStore(memos, user_id="mara")
    for call in (
        store.get_messages("k", limit=count),  # type: ignore[arg-type]
        store.get_messages("k", offset=count),  # type: ignore[arg-type]
        store.archive_oldest_messages("k", count),  # type: ignore[arg-type]
        store.delete_oldest_messages("k", count),  # type: ignore[arg-type]
    ):
        with pytest.raises(InvalidRequest):
            await call


async def test_nothing_is_lost_when_many_write_one_log(memos: MemOS) -> None:
    store = MemOSChatStore(memos, user_id="mara")
    await asyncio.gather(*(store.add_message("s1", said(f"message {n}")[0]) for n in range(40)))
    assert sorted(texts(await store.get_messages("s1")), key=str) == sorted(f"message {n}" for n in range(40))


async def test_two_who_archive_at_once_archive_each_message_once(memos: MemOS) -> None:
    store = MemOSChatStore(memos, user_id="mara")
    await store.add_messages("s1", said(*(f"m{n}" for n in range(10))))
    first, second = await asyncio.gather(store.archive_oldest_messages("s1", 4), store.archive_oldest_messages("s1", 4))
    assert sorted(texts([*first, *second]), key=str) == [f"m{n}" for n in range(8)]


json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)
any_text = st.text(st.characters(), max_size=20)
blocks = st.lists(
    st.one_of(
        any_text.map(lambda text: TextBlock(text=text)),
        st.builds(ThinkingBlock, content=any_text, num_tokens=st.integers(0, 9), additional_information=st.just({})),
        st.builds(
            ToolCallBlock, tool_call_id=st.text(max_size=4), tool_name=st.text(max_size=6),
            tool_kwargs=st.dictionaries(st.text(max_size=4), json, max_size=2),
        ),
    ),
    max_size=3,
)  # fmt: skip
message = st.builds(
    ChatMessage,
    role=st.sampled_from(MessageRole),
    blocks=blocks,
    additional_kwargs=st.dictionaries(st.text(max_size=5).filter(lambda key: key != "images"), json, max_size=2),
)


@settings(max_examples=60)
@given(st.lists(message, max_size=4))
def test_any_messages_come_back_exactly(messages: list[ChatMessage]) -> None:
    with MemOS.open(":memory:", embedder=HashEmbedder(dimension=16)) as memos:
        store = MemOSChatStore(memos, user_id="mara")
        asyncio.run(store.add_messages("s1", messages))
        assert asyncio.run(store.get_messages("s1")) == messages


def test_the_synchronous_calls_of_memory_work_on_it(memos: MemOS) -> None:
    memory = Memory.from_defaults(session_id="s1", chat_store=MemOSChatStore(memos, user_id="mara"))
    with asyncio.Runner() as runner:  # LlamaIndex looks for a loop of the thread's own
        asyncio.set_event_loop(runner.get_loop())
        memory.put(said("one")[0])
        memory.put_messages(said("two"))
        assert texts(memory.get()) == texts(memory.get_all()) == ["one", "two"]
        memory.set(said("three"))
        assert texts(memory.get_all()) == ["three"]
        memory.reset()
        assert memory.get_all() == []
        asyncio.set_event_loop(None)


async def test_a_log_outlives_the_process_that_wrote_it(tmp_path: Path) -> None:
    path = tmp_path / "memos.db"
    async with AsyncMemOS.open(path, embedder=HashEmbedder(dimension=64)) as memos:
        store = MemOSChatStore(memos, user_id="mara")
        await store.add_messages("s1", RICH)
        await store.archive_oldest_messages("s1", 2)
    async with AsyncMemOS.open(path, embedder=HashEmbedder(dimension=64)) as memos:
        store = MemOSChatStore(memos, user_id="mara")
        assert await store.get_messages("s1") == RICH[2:]
        assert await store.get_messages("s1", status=ARCHIVED) == RICH[:2]
