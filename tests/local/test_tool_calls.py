"""Tools of local models: what the template shows of them, and what is read out of an answer.

A model with random weights calls no tool. So what a call becomes is tested with `Scripted`: it runs its prompt as any
`LocalModel` does, but what it then says is a function of the prompt's text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("langchain_core", reason="needs memos-agents[langchain]")
pytest.importorskip("langchain_tests", reason="needs langchain-tests (the dev group)")

from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_tests.integration_tests import ChatModelIntegrationTests
from langchain_tests.unit_tests import ChatModelUnitTests

from memos_agents import InvalidRequest, MemOS
from memos_agents.connectors.langchain import ChatMemOS
from memos_agents.connectors.langchain.tool_calls import Answer, certain_length, taken_apart
from memos_agents.interface.memory_model import MemoryModel
from memos_agents.models.huggingface import LocalModel
from memos_agents.models.prompts import takes_tools
from memos_agents.testing import HashEmbedder

TEMPLATE = (
    "<|start|>system\n{% if messages[0].role == 'system' %}{{ messages[0].content + '\n\n' }}{% endif %}"
    "{% if tools %}You may call:\n<tools>{% for tool in tools %}{{ '\n' ~ (tool | tojson) }}{% endfor %}"
    "{{ '\n</tools>' }}{% endif %}<|end|>\n"
    "{% for message in messages if message.role != 'system' %}<|start|>{{ message.role }}"
    "{% if message.name %} {{ message.name }}{% endif %}"
    "{% if message.tool_call_id %} {{ message.tool_call_id }}{% endif %}{{ '\n' + message.content }}"
    "{% for call in message.tool_calls %}{{ '\n<tool_call>\n' }}"
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


class Scripted(LocalModel):
    """Says what `script` makes of the prompt's text, seven characters at a time; all else is the model's own."""

    script: Callable[[str], str]

    def generate(self, prompt: Any, sampling: Any, into: Any, prefill: Any = None) -> Iterator[str]:
        for _ in super().generate(prompt, replace(sampling, max_new_tokens=1), into, prefill):
            pass
        said = self.script(prompt.text)
        into.text, into.token_ids = "", self.tokenizer(said).input_ids
        for piece in re.findall(".{1,7}", said, re.DOTALL):
            into.text += piece
            yield piece


def scripted(local: LocalModel, script: Callable[[str], str]) -> LocalModel:
    model = Scripted(local.model, local.tokenizer, name="scripted")
    model.script = script
    return model


def oblige(prompt: str) -> str:
    """Call the first tool of the prompt with what its schema asks for, and be content with the answer."""
    shown = prompt.partition("<tools>\n")[2].partition("\n</tools>")[0]
    turns = prompt.split("<|start|>")
    if not shown or turns[-2].startswith("tool"):
        return "That is all."
    function = json.loads(shown.splitlines()[0])["function"]
    asked = next(turn for turn in reversed(turns) if turn.startswith("user"))
    asked = asked.removeprefix("user\n").removesuffix("<|end|>\n")
    numbers = [int(number) for number in re.findall(r"\d+", asked)] or [3]
    wanted = function["parameters"]["properties"]
    arguments = {name: numbers[0] if about.get("type") == "integer" else asked for name, about in wanted.items()}
    call = json.dumps({"name": function["name"], "arguments": arguments}, ensure_ascii=False)
    return f"Let me see.\n<tool_call>\n{call}\n</tool_call>"


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


# -- what is read out of an answer

CALL = {"name": "city_of", "args": {"person": "Ines"}}
AS_JSON = '{"name": "city_of", "arguments": {"person": "Ines"}}'
AS_LLAMA = '{"name": "city_of", "parameters": {"person": "Ines"}}'


def read(text: str) -> Answer:
    return taken_apart(text, {"city_of", "now"}, new_id=lambda: "c1")


@pytest.mark.parametrize(
    ("text", "said", "calls"),
    [
        (f"<tool_call>\n{AS_JSON}\n</tool_call>", "", [CALL]),
        (f"I look.\n<tool_call>{AS_JSON}</tool_call>\n<tool_call>{AS_JSON}</tool_call>", "I look.", [CALL, CALL]),
        (f"<tool_call>{AS_JSON}", "", [CALL]),  # it stopped where its turn ends
        (f"<tool_call>\n{AS_JSON}\n{AS_JSON}</tool_call> Done.", " Done.", [CALL, CALL]),
        ('<tool_call>{"name": "unknown"}</tool_call>', "", [{"name": "unknown", "args": {}}]),
        ('<tool_call>{"name": "now", "arguments": null}</tool_call>', "", [{"name": "now", "args": {}}]),
        ('<tool_call>{"name": "now", "arguments": "{\\"a\\": 1}"}</tool_call>', "",
         [{"name": "now", "args": {"a": 1}}]),
        ('<tool_call>{"name": "now", "arguments": {"a": "</tool_call>\n"}}</tool_call>', "",
         [{"name": "now", "args": {"a": "</tool_call>\n"}}]),
        (AS_LLAMA, "", [CALL]),
        (f"{AS_LLAMA}; {AS_LLAMA}", "", [CALL, CALL]),
        (f'{{"type": "function", "function": {AS_JSON}}}', "", [CALL]),
        (f"\n[{AS_JSON}, {AS_JSON}]", "", [CALL, CALL]),
        (f"{AS_LLAMA}\n2 of them", "2 of them", [CALL]),
        ('{"name": "Ines", "parameters": {}}', '{"name": "Ines", "parameters": {}}', []),  # no tool of this name
        ('{"name": "city_of"}', '{"name": "city_of"}', []),
        ("[1, 2]", "[1, 2]", []),
        (" Ines < Mara\n", " Ines < Mara\n", []),
        ("", "", []),
    ],
)  # fmt: skip
def test_calls_are_read_in_the_common_spellings(text: str, said: str, calls: list[dict[str, Any]]) -> None:
    found = read(text)
    assert (found.text, found.invalid) == (said, [])
    assert found.calls == [{**call, "id": "c1", "type": "tool_call"} for call in calls]


@pytest.mark.parametrize(
    ("text", "name", "said"),
    [
        ('<tool_call>{"name": "city_of", "arguments": {"person": "In', None, ""),
        ("I look. <tool_call>city_of(Ines)</tool_call> Well.", None, "I look.  Well."),
        (f"<tool_call>{AS_JSON} and so on</tool_call>", None, ""),
        ('<tool_call>{"arguments": {}}</tool_call>', None, ""),
        ('<tool_call>{"name": "city_of", "arguments": ["Ines"]}</tool_call>', "city_of", ""),
        ('<tool_call>{"name": "city_of", "arguments": "Ines"}</tool_call>', "city_of", ""),
        ('<tool_call>["Ines"]</tool_call>', None, ""),
        ("<tool_call>", None, ""),
        ("<tool_call>" + '{"a":' * 100_000, None, ""),
        ('{"name": "city_of", "parameters": {"person": "In', "city_of", ""),
        ('{"name": "city_of", "parameters": "Ines"}', "city_of", ""),
    ],
)
def test_a_malformed_call_is_an_invalid_one(text: str, name: str | None, said: str) -> None:
    found = read(text)
    assert (found.calls, found.text) == ([], said)
    (invalid,) = found.invalid
    assert invalid["name"] == name and invalid["error"] and invalid["id"] == "c1"
    begin = text.index("{" if "<tool_call>" not in text else "<tool_call>")
    assert invalid["args"] is not None and text[begin : begin + 20] in invalid["args"]
    added = AIMessageChunk(content="", invalid_tool_calls=[invalid]) + AIMessageChunk(content="")
    assert isinstance(added, AIMessageChunk) and added.tool_calls == []  # LangChain mends JSON that broke off
    assert [each["args"] for each in added.invalid_tool_calls] == [invalid["args"]]


def test_calls_before_one_that_broke_off_are_kept() -> None:
    for text in (f'{AS_LLAMA}; {{"name": "now", "parame', f'<tool_call>{AS_JSON}</tool_call><tool_call>{{"name": "n'):
        found = read(text)
        assert [call["name"] for call in found.calls] == ["city_of"] and len(found.invalid) == 1


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
ANSWERS = st.lists(
    st.sampled_from(["<tool_call>", "</tool_call>", AS_JSON, AS_LLAMA, "{", "[", "<", "<tool", " ", "\n", "; "])
    | st.text(max_size=4)
).map("".join)


@given(
    st.lists(st.tuples(st.text(min_size=1), st.dictionaries(st.text(), VALUES, max_size=3)), max_size=3),
    st.booleans(),
)
def test_what_was_called_is_what_is_read(calls: list[tuple[str, dict[str, Any]]], is_tagged: bool) -> None:
    written = [json.dumps({"name": name, "parameters": arguments}) for name, arguments in calls]
    text = "".join(f"<tool_call>{each}</tool_call>" for each in written) if is_tagged else f"[{', '.join(written)}]"
    found = taken_apart(text, {name for name, _ in calls})
    assert [(call["name"], call["args"]) for call in found.calls] == calls and found.invalid == []
    assert len({call["id"] for call in found.calls}) == len(calls)


@given(ANSWERS)
def test_nothing_that_a_model_says_raises_or_is_taken_back(text: str) -> None:
    found, shown = read(text), 0
    for end in range(len(text) + 1):
        certain = certain_length(text[:end])
        assert certain >= shown or text[:end].lstrip()[:1] in ("{", "[")
        shown = max(shown, certain)
    assert found.text.startswith(text[:shown])
    if not found.calls and not found.invalid:
        assert found.text == text


# -- in LangChain


@tool
def city_of(person: str) -> str:
    """Where a person lives."""
    return "Braga"


@tool
def now() -> str:
    """What time it is."""
    return "noon"


def saying(memos: MemOS, make_small: Any, text: str) -> ChatMemOS:
    local = scripted(make_small("llama", seed=3, template=TEMPLATE), lambda prompt: text)
    return ChatMemOS(model=memos.model(local))


@pytest.mark.parametrize(
    "text",
    [
        f"I look.\n<tool_call>\n{AS_JSON}\n</tool_call>",
        f"<tool_call>{AS_JSON}</tool_call><tool_call>{AS_JSON}</tool_call>",
        'I look <b> <tool_call>{"name": "city_of", "arguments": {"person": "In',
        '{"name": "city_of", "parameters": {"person": "In',
        AS_LLAMA,
        "Nothing < to <tool do.\n",
    ],
)
def test_a_stream_adds_up_to_the_answer(memos: MemOS, make_small: Any, text: str) -> None:
    chat = saying(memos, make_small, text).bind_tools([city_of, now])
    answer = chat.invoke("Where does Ines live?")
    chunks = list(chat.stream("Where does Ines live?"))
    whole = sum(chunks[1:], chunks[0])
    assert isinstance(answer, AIMessage) and isinstance(whole, AIMessageChunk)
    assert whole.content == answer.content
    for ours, theirs in ((answer.tool_calls, whole.tool_calls), (answer.invalid_tool_calls, whole.invalid_tool_calls)):
        assert [(each["name"], each["args"]) for each in ours] == [(each["name"], each["args"]) for each in theirs]
    assert all("<tool_call>" not in str(chunk.content) for chunk in chunks)
    assert answer.usage_metadata == whole.usage_metadata
    assert not text.startswith("I look") or len(chunks) > 1  # what is certainly text is not kept waiting


def test_without_tools_an_answer_is_only_text(memos: MemOS, make_small: Any) -> None:
    chat = saying(memos, make_small, f"<tool_call>{AS_JSON}</tool_call>")
    for asked in (chat, chat.bind_tools([city_of], tool_choice="none")):
        answer = asked.invoke("How do you call tools?")
        assert (answer.content, answer.tool_calls) == (f"<tool_call>{AS_JSON}</tool_call>", [])


def test_the_conversation_of_an_agent_goes_through_the_template(memos: MemOS, make_small: Any) -> None:
    prompts: list[str] = []
    local = scripted(make_small("llama", template=TEMPLATE), lambda prompt: prompts.append(prompt) or oblige(prompt))
    note = memos.add("Ines has a bicycle.", user_id="mara")
    agent = create_agent(ChatMemOS(model=memos.model(local), memories=note), [city_of, now])
    *_, called, told, last = agent.invoke({"messages": [HumanMessage("Where does Ines live?")]})["messages"]
    assert called.tool_calls[0]["args"] == {"person": "Where does Ines live?"} and told.content == "Braga"
    assert last.content == "That is all." and last.response_metadata["memories"][0]["form"] == "activation"
    assert '<tool_call>\n{"name": "city_of", "arguments": {"person": "Where' in prompts[-1]
    call_id = called.tool_calls[0]["id"]
    assert f"<|start|>tool city_of {call_id}\nBraga<|end|>" in prompts[-1]
    assert re.fullmatch("[0-9a-z]{9}", call_id)  # Mistral's templates want this


def test_messages_of_elsewhere_are_rendered_whole(memos: MemOS, make_small: Any) -> None:
    prompts: list[str] = []
    local = scripted(make_small("llama", template=TEMPLATE), lambda prompt: prompts.append(prompt) or "Yes.")
    chat = ChatMemOS(model=memos.model(local))
    call = {"name": "city_of", "args": {"person": "Ines"}, "id": "c1"}
    broken = {"name": None, "args": "<tool_call>city_of(</tool_call>", "id": "c2", "error": "x"}
    blocks: Any = [
        {"type": "text", "text": "I look."},
        {"type": "tool_use", "id": "c1", "name": "city_of", "input": {}},
    ]
    chat.invoke([
        HumanMessage("Where?"), AIMessage(blocks, tool_calls=[call]), ToolMessage("Braga", tool_call_id="c1"),
        AIMessage("And ", invalid_tool_calls=[broken]), HumanMessage("What?"),
    ])  # fmt: skip
    assert "assistant\nI look.\n<tool_call>" in prompts[-1] and "tool city_of c1\nBraga" in prompts[-1]
    assert "assistant\nAnd <tool_call>city_of(</tool_call><|end|>" in prompts[-1]


def test_one_tool_can_be_chosen(memos: MemOS, make_small: Any) -> None:
    chat = ChatMemOS(model=memos.model(scripted(make_small("llama", template=TEMPLATE), oblige)))
    both, one = [city_of, now], {"type": "function", "function": {"name": "now"}}
    for choice, expected in ((None, "city_of"), ("any", "city_of"), ("now", "now"), (one, "now"), (True, "city_of")):
        answer = chat.bind_tools(both, tool_choice=choice).invoke("Hello!")
        assert [call["name"] for call in answer.tool_calls] == [expected]
    with pytest.raises(InvalidRequest, match="'yesterday'"):
        chat.bind_tools(both, tool_choice="yesterday")


def test_a_model_without_tools_says_so(memos: MemOS, make_small: Any) -> None:
    chat = ChatMemOS(model=memos.model(make_small("llama")), max_tokens=2)
    call = {"name": "city_of", "args": {"person": "Ines"}, "id": "c1"}
    for ask in (
        lambda: chat.bind_tools([city_of]),
        lambda: chat.with_structured_output({"title": "Where", "description": "x", "type": "object", "properties": {}}),
        lambda: chat.invoke("Hello!", tools=[CITY_OF]),
        lambda: chat.invoke([HumanMessage("Hello!"), AIMessage("", tool_calls=[call])]),
    ):
        with pytest.raises(InvalidRequest, match="has no tools"):
            ask()


HELD: dict[str, Any] = {}


@pytest.fixture(scope="module", autouse=True)
def obliging(make_small: Any) -> Iterator[MemoryModel]:
    with MemOS.open(":memory:", embedder="none") as opened:
        HELD["model"] = opened.model(scripted(make_small("llama", seed=3, template=TEMPLATE), oblige))
        yield HELD["model"]


class _Ours:
    has_tool_choice = False  # it says what is shown, but forces no model

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatMemOS

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"model": HELD["model"]}


class TestUnit(_Ours, ChatModelUnitTests):
    pass


class TestIntegration(_Ours, ChatModelIntegrationTests):
    pass
