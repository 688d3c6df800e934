"""ChatMemOS under LangChain's own suite, and what is said of the memories in its answers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("langchain_core", reason="needs memos-agents[langchain]")
pytest.importorskip("langchain_tests", reason="needs langchain-tests (the dev group)")

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import HumanMessage, SystemMessage
from langchain_tests.integration_tests import ChatModelIntegrationTests
from langchain_tests.unit_tests import ChatModelUnitTests

from memos_agents import InvalidRequest, MemOS
from memos_agents.connectors.langchain import ChatMemOS
from memos_agents.interface.memory_model import MemoryModel

HELD: dict[str, Any] = {}


@pytest.fixture(scope="module", autouse=True)
def loaded(make_small: Any) -> Iterator[MemoryModel]:
    with MemOS.open(":memory:", embedder="none") as memos:
        HELD["model"] = memos.model(make_small("llama", seed=3))
        yield HELD["model"]


class Brief(ChatMemOS):
    max_tokens: int | None = 12


class _Ours:
    has_tool_calling = has_structured_output = False  # by this model's template; with tools: test_tool_calls.py

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return Brief

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"model": HELD["model"]}


class TestUnit(_Ours, ChatModelUnitTests):
    pass


class TestIntegration(_Ours, ChatModelIntegrationTests):
    pass


def test_memories_go_in_as_keys_and_values_and_the_answer_says_so(memos: MemOS, make_small: Any) -> None:
    model = memos.model(make_small("llama", seed=3))
    note, other = memos.add(["Mara moved to Lisbon.", "Ines has a bicycle."], user_id="mara")
    cache = memos.migrate(note, to="activation", model=model)
    messages = [SystemMessage("Be brief."), HumanMessage("Where does Mara live?")]
    plain = ChatMemOS(model=model, memories=[note, other], reuse=False, max_tokens=12).invoke(messages)
    chat = ChatMemOS(model=model, memories=[cache, other], reuse=False, max_tokens=12)
    injected = chat.invoke(messages)
    assert plain.content == injected.content
    assert plain.usage_metadata is not None and injected.usage_metadata is not None
    assert plain.usage_metadata["input_tokens"] == injected.usage_metadata["input_tokens"]
    assert plain.usage_metadata["input_token_details"]["cache_read"] == 0
    assert injected.usage_metadata["input_token_details"]["cache_read"] > 0
    assert [each["form"] for each in injected.response_metadata["memories"]] == ["activation", "plaintext"]
    chunks = list(chat.stream(messages))
    assert "".join(str(chunk.content) for chunk in chunks) == injected.content
    assert sum((chunk for chunk in chunks[1:]), chunks[0]).usage_metadata == injected.usage_metadata


def test_erased_memories_are_left_out_of_an_answer(memos: MemOS, make_small: Any) -> None:
    model = memos.model(make_small("llama", seed=3))
    note = memos.add("Mara moved to Lisbon.", user_id="mara")[0]
    chat = ChatMemOS(model=model, memories=[memos.migrate(note, to="activation", model=model).id], max_tokens=4)
    memos.erase(note.id)
    answer = chat.invoke("Where does Mara live?")
    assert [each["reason"] for each in answer.response_metadata["memories"]] == ["it was erased"]
    model.close()
    with pytest.raises(InvalidRequest, match="closed"):
        chat.invoke("Hello?")
