"""What callers pass to `add`: every accepted shape, and what is said about every other one."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import Enum
from typing import Any

import pytest

from memos_agents.cube.metadata import Descriptive
from memos_agents.errors import InvalidRequest
from memos_agents.interface.reader import MAX_TEXT_CHARACTERS, read_items
from memos_agents.operation.organization import NewMemory

BASE = Descriptive(semantic_type="fact")


def read(content: object, **about: Any) -> list[NewMemory]:
    return read_items(content, base=about.pop("base", BASE), metadata=about.pop("metadata", {}), **about)


def one(content: object, **about: Any) -> NewMemory:
    (item,) = read(content, **about)
    return item


OPENAI = {"role": "user", "content": "I moved to Lisbon."}
SAME_MESSAGE = [
    OPENAI,
    {"role": "user", "content": [{"type": "text", "text": "I moved to Lisbon."}]},
    {"role": "user", "content": [{"type": "input_text", "text": "I moved to Lisbon."}], "type": "message"},
    {"role": "user", "content": ["I moved to Lisbon."]},
    {"type": "human", "data": {"content": "I moved to Lisbon.", "additional_kwargs": {}, "type": "human", "id": None}},
    {"type": "human", "content": "I moved to Lisbon.", "additional_kwargs": {}, "response_metadata": {}},
    {
        "lc": 1,
        "type": "constructor",
        "id": ["langchain", "schema", "messages", "HumanMessage"],
        "kwargs": {"content": "I moved to Lisbon.", "type": "human"},
    },
    {"role": "user", "blocks": [{"block_type": "text", "text": "I moved to Lisbon."}], "additional_kwargs": {}},
    {"role": "human", "content": "I moved to Lisbon."},
]


@pytest.mark.parametrize("message", SAME_MESSAGE)
def test_one_message_in_every_spelling_is_one_item(message: dict[str, object]) -> None:
    item = one(message)
    assert (item.text, item.descriptive.role, item.descriptive.semantic_type) == ("I moved to Lisbon.", "user", "turn")
    assert read([message]) == [item]


@pytest.mark.parametrize(
    ("kind", "role"),
    [("ai", "assistant"), ("human", "user"), ("system", "system"), ("tool", "tool"), ("AIMessageChunk", "assistant")],
)
def test_langchain_types_are_named_as_roles(kind: str, role: str) -> None:
    assert one({"type": kind, "data": {"content": "Hello"}}).descriptive.role == role


def test_a_langchain_chat_message_keeps_its_own_role() -> None:
    assert one({"type": "chat", "data": {"content": "Hello", "role": "narrator"}}).descriptive.role == "narrator"


def test_a_str_enum_role_becomes_a_plain_str() -> None:
    class Role(str, Enum):  # noqa: UP042  # as LlamaIndex writes it
        USER = "user"

    assert type(one({"role": Role.USER, "content": "Hello"}).descriptive.role) is str


@pytest.mark.parametrize("name", ["page_content", "text"])
def test_a_document_keeps_its_metadata_over_the_calls(name: str) -> None:
    item = one({name: "A page.", "metadata": {"page": 3, "from": "book"}}, metadata={"from": "call", "also": True})
    assert item.text == "A page."
    assert item.metadata == {"page": 3, "from": "book", "also": True}
    assert item.descriptive.semantic_type == "document"


def test_what_a_message_says_of_itself_goes_before_what_the_call_says() -> None:
    base = Descriptive(role="user", name="Mara", occurred_at=datetime(2026, 1, 1, tzinfo=UTC), tags=("a",))
    message = {
        "role": "assistant",
        "content": "Noted.",
        "name": "Bot",
        "created_at": "2026-05-01T12:00:00+02:00",
        "metadata": {"k": 1},
    }
    about = one(message, base=base).descriptive
    assert (about.role, about.name, about.tags) == ("assistant", "Bot", ("a",))
    assert about.occurred_at == datetime(2026, 5, 1, 10, tzinfo=UTC)
    kept = one({"role": "user", "content": "Hm."}, base=base).descriptive
    assert (kept.name, kept.occurred_at) == ("Mara", base.occurred_at)


def test_parts_are_joined_and_pictures_passed_over() -> None:
    parts = [
        {"type": "text", "text": "Look:"},
        {"type": "image_url", "image_url": {"url": "x"}},
        {"type": "text", "text": "nice"},
    ]
    assert one({"role": "user", "content": parts}).text == "Look:\nnice"


@pytest.mark.parametrize(
    "message",
    [
        {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]},
        {"role": "assistant", "content": "", "tool_calls": [{"id": "1"}]},
        {"role": "assistant", "tool_calls": [{"id": "1"}]},
        {"role": "assistant", "content": None, "function_call": {"name": "f"}},
        {"type": "ai", "data": {"content": "", "tool_calls": [{"id": "1"}]}},
        {"type": "ai", "data": {"content": "", "additional_kwargs": {"tool_calls": [{"id": "1"}]}}},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "1", "name": "f", "input": {}}]},
        {"role": "assistant", "blocks": [{"block_type": "tool_call", "tool_name": "f"}]},
    ],
)
def test_a_message_that_only_calls_tools_is_left_out(message: dict[str, object]) -> None:
    assert read([OPENAI, message, OPENAI]) == read([OPENAI, OPENAI])
    assert read(message) == []


def test_text_beside_a_tool_call_is_kept() -> None:
    assert one({"role": "assistant", "content": "Let me look.", "tool_calls": [{"id": "1"}]}).text == "Let me look."


class Page:
    page_content = "A page."
    metadata = {"page": 3}  # noqa: RUF012


class Human:
    type = "human"
    content = "I moved."

    def __iter__(self) -> Any:  # as pydantic models have
        return iter([("content", self.content)])


class Chat:
    role = "user"
    content = "I moved."
    tool_calls = None


@pytest.mark.parametrize(("thing", "text"), [(Page(), "A page."), (Human(), "I moved."), (Chat(), "I moved.")])
def test_framework_objects_are_read_by_their_shape(thing: object, text: str) -> None:
    assert one(thing).text == text
    assert one([thing]).text == text


def test_a_mixed_list_keeps_its_order() -> None:
    items = read(["first", OPENAI, {"page_content": "third"}, Page()])
    assert [item.text for item in items] == ["first", "I moved to Lisbon.", "third", "A page."]
    assert read(iter(["a", "b"]))[1].text == "b"
    assert read([]) == []


def test_items_do_not_share_metadata() -> None:
    first, second = read(["a", "b"], metadata={"k": 1})
    assert first.metadata == second.metadata
    assert first.metadata is not second.metadata


REFUSED: list[tuple[object, str]] = [
    (None, "None"),
    (5, "int"),
    (object(), "object"),
    (b"bytes", "decode"),
    (bytearray(b"bytes"), "decode"),
    ("", "empty"),
    (" \n\t", "empty"),
    ("a\x00b", "NUL"),
    ("a\ud800b", "surrogate"),
    ({}, "Accepted"),
    ({"msg": "hi"}, "Accepted"),
    ({"role": "user"}, "Accepted"),
    ({"role": 5, "content": "x"}, "'role'"),
    ({"role": "", "content": "x"}, "'role'"),
    ({"role": "user", "content": 5}, "'content'"),
    ({"role": "user", "content": None}, "empty"),
    ({"role": "user", "content": ""}, "empty"),
    ({"role": "user", "content": [{"type": "image_url"}]}, "empty"),
    ({"role": "user", "content": [{"type": "text", "text": 5}]}, "'text'"),
    ({"role": "user", "content": [5]}, "int"),
    ({"role": "user", "content": {"text": "x"}}, "list of parts"),
    ({"role": "user", "content": "x", "name": ""}, "'name'"),
    ({"role": "user", "content": "x", "name": 7}, "'name'"),
    ({"role": "user", "content": "x", "created_at": datetime(2026, 1, 1)}, "time zone"),  # noqa: DTZ001
    ({"role": "user", "content": "x", "created_at": float("nan")}, "created_at"),
    ({"role": "user", "content": "x", "created_at": "yesterday"}, "ISO 8601"),
    ({"role": "user", "content": "x", "metadata": 5}, "metadata"),
    ({"role": "user", "content": "x", "metadata": [1]}, "metadata"),
    ({"role": "user", "content": "x", "metadata": {"a": float("inf")}}, "infinity"),
    ({"page_content": ""}, "empty"),
    ({"page_content": None}, "None"),
    ({"text": "x", "metadata": {1: 2}}, "keys must be strings"),
    (["fine", None], r"content\[1\]"),
    (["fine", ""], r"content\[1\]"),
    (["fine", ["nested"]], r"content\[1\]"),
    (["fine", {"role": "user", "content": "\ud800"}], r"content\[1\]"),
]


@pytest.mark.parametrize(("content", "words"), REFUSED)
def test_everything_else_is_refused_in_words_that_help(content: object, words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        read(content)


def test_a_long_text_is_accepted_up_to_the_limit_and_then_refused_with_advice() -> None:
    assert len(one("x" * MAX_TEXT_CHARACTERS).text) == MAX_TEXT_CHARACTERS
    with pytest.raises(InvalidRequest, match="split it"):
        read("x" * 10_000_000)
