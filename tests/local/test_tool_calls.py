"""Tools of local models: what the template shows of them, and what is read out of an answer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from memos_agents import InvalidRequest, MemOS
from memos_agents.interface.memory_model import MemoryModel
from memos_agents.models.prompts import takes_tools
from memos_agents.testing import HashEmbedder

TEMPLATE = (
    "<|start|>system\n{% if messages[0].role == 'system' %}{{ messages[0].content }}\n\n{% endif %}"
    "{% if tools %}You may call:\n<tools>{% for tool in tools %}\n{{ tool | tojson }}{% endfor %}\n</tools>{% endif %}"
    "<|end|>\n{% for message in messages if message.role != 'system' %}<|start|>{{ message.role }}"
    "{% if message.name %} {{ message.name }}{% endif %}"
    "{% if message.tool_call_id %} {{ message.tool_call_id }}{% endif %}{{ '\n' + message.content }}"
    "{% for call in message.tool_calls %}\n<tool_call>\n"
    '{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}\n</tool_call>'
    "{% endfor %}<|end|>\n{% endfor %}{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
)
"""As Hermes and Qwen write it."""
CITY_OF: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "city_of",
        "description": "Where a person lives.",
        "parameters": {"type": "object", "properties": {"person": {"type": "string"}}, "required": ["person"]},
    },
}


@pytest.fixture
def memos() -> Iterator[MemOS]:
    with MemOS.open(":memory:", embedder=HashEmbedder(64)) as opened:
        yield opened
        assert opened.verify().ok


@pytest.fixture
def model(memos: MemOS, make_small: Any) -> MemoryModel:
    return memos.model(make_small("llama", seed=3, template=TEMPLATE))


# -- what the template shows


def test_the_template_shows_tools_calls_and_their_answers(memos: MemOS, model: MemoryModel) -> None:
    note = memos.add("Mara moved to Lisbon.", user_id="mara")
    call = {"type": "function", "id": "c1", "function": {"name": "city_of", "arguments": {"person": "Ines"}}}
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": "Where does Ines live?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "Braga", "tool_call_id": "c1", "name": "city_of"},
    ]
    text = model.prompt(messages, memories=note, tools=[CITY_OF])
    assert text.index("<memories>") < text.index('"description": "Where a person lives."') < text.index("<|start|>user")
    assert '<tool_call>\n{"name": "city_of", "arguments": {"person": "Ines"}}\n</tool_call>' in text
    assert "<|start|>tool city_of c1\nBraga<|end|>" in text
    assert messages[1]["content"] is None
    assert "<tools>" not in model.prompt(messages, memories=note)
    without = [{"role": "assistant", "content": None}]
    with pytest.raises(InvalidRequest, match="text as content"):
        model.prompt(without)


def test_a_cache_made_without_tools_is_exact_with_them(memos: MemOS, model: MemoryModel) -> None:
    note = memos.add("Mara moved to Lisbon.", user_id="mara")[0]
    cache = memos.migrate(note, to="activation", model=model)
    plain = model.logits("Where does Mara live?", memories=[note], tools=[CITY_OF])
    injected = model.logits("Where does Mara live?", memories=[cache], tools=[CITY_OF])
    assert np.array_equal(plain, injected)
    assert not np.array_equal(plain, model.logits("Where does Mara live?", memories=[note]))
    reply = model.generate("Where does Mara live?", memories=[cache], tools=[CITY_OF], max_new_tokens=1)
    assert reply.memories[0].form == "activation"


@pytest.mark.parametrize("template", ["default", None])
def test_tools_that_no_template_can_show_are_refused(memos: MemOS, make_small: Any, template: str | None) -> None:
    model = memos.model(make_small("llama", **({} if template else {"template": None})))
    for ask in (model.prompt, model.logits, model.generate):
        with pytest.raises(InvalidRequest, match="has no tools"):
            ask("Where does Mara live?", tools=[CITY_OF])


def test_a_template_for_tools_among_others_is_used_with_tools(memos: MemOS, make_small: Any) -> None:
    local = make_small("llama", seed=3)
    assert not takes_tools(local.tokenizer)
    local.tokenizer.chat_template = {"default": local.tokenizer.chat_template, "tool_use": TEMPLATE}
    assert takes_tools(local.tokenizer)
    model = memos.model(local)
    assert "<tools>" in model.prompt("x", tools=[CITY_OF]) and "<tools>" not in model.prompt("x")
