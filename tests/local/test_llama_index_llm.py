"""MemOSLLM in LlamaIndex's own engines, and what is said of the memories in its answers."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("llama_index.core", reason="needs memos-agents[llama-index]")

from llama_index.core import Document, SummaryIndex
from llama_index.core.agent.workflow import ReActAgent
from llama_index.core.base.llms.types import ChatMessage, ChatResponse, ImageBlock, TextBlock, ThinkingBlock
from llama_index.core.callbacks import CallbackManager, TokenCountingHandler
from llama_index.core.chat_engine import CondensePlusContextChatEngine, SimpleChatEngine
from llama_index.core.llms import LLM

from memos_agents import InvalidRequest, MemOS, NotFound
from memos_agents.connectors.llama_index import MemOSLLM, MemOSMemory, MemOSRetriever
from memos_agents.interface.memory_model import MemoryModel
from memos_agents.interface.quoting import framed, quote
from memos_agents.testing import HashEmbedder

ASKED = [ChatMessage(role="system", content="Be brief."), ChatMessage(role="user", content="Where does Mara live?")]


@pytest.fixture
def memos() -> Iterator[MemOS]:
    with MemOS.open(":memory:", embedder=HashEmbedder(64)) as opened:
        yield opened
        assert opened.verify().ok


@pytest.fixture
def model(memos: MemOS, make_small: Any) -> Iterator[MemoryModel]:
    opened = memos.model(make_small("llama", seed=3))
    yield opened
    opened.close()


class Watched(MemOSLLM):
    """Keeps every response, and the threads on which answers were made."""

    def __init__(self, model: MemoryModel, **kwargs: Any) -> None:
        super().__init__(model, **kwargs)
        self._responses, self._threads = list[dict[str, Any]](), set[int]()

    def _told(self, reply: Any) -> dict[str, Any]:
        self._threads.add(threading.get_ident())
        self._responses.append(super()._told(reply))
        return self._responses[-1]


def test_memories_go_in_as_keys_and_values_and_the_answer_says_so(memos: MemOS, model: MemoryModel) -> None:
    note, other = memos.add(["Mara moved to Lisbon.", "Ines has a bicycle."], user_id="mara")
    cache = memos.migrate(note, to="activation", model=model)
    plain = MemOSLLM(model, memories=[note, other], reuse=False, max_tokens=12).chat(ASKED)
    injected = MemOSLLM(model=model, memories=[cache.id, other], reuse=False, max_tokens=12).chat(ASKED)
    assert plain.message == injected.message and injected.message.content
    assert [each["form"] for each in plain.raw["memories"]] == ["plaintext", "plaintext"]
    assert [(each["id"], each["form"]) for each in injected.raw["memories"]] == [
        (note.id, "activation"),
        (other.id, "plaintext"),
    ]
    before, after = plain.raw["usage"], injected.raw["usage"]
    assert before["tokens_reused"] == 0 < after["tokens_reused"]
    assert before["prompt_tokens"] == after["prompt_tokens"] == after["tokens_reused"] + after["tokens_computed"]
    assert injected.additional_kwargs == after
    assert injected.raw["timings"]["total_seconds"] > 0


def test_a_memory_that_the_conversation_quotes_too_is_injected_all_the_same(memos: MemOS, model: MemoryModel) -> None:
    note = memos.add("Mara moved to Lisbon.", user_id="mara")[0]
    asked = [ChatMessage(content=f"{framed([quote(note)])}\nWhere does Mara live?")]  # as our memory blocks put it
    plain = MemOSLLM(model, memories=[note], reuse=False, max_tokens=12).chat(asked)
    cache = memos.migrate(note, to="activation", model=model)
    injected = MemOSLLM(model, memories=[cache], reuse=False, max_tokens=12).chat(asked)
    assert plain.message == injected.message
    assert injected.raw["memories"][0]["form"] == "activation" and injected.raw["usage"]["tokens_reused"] > 0


def test_all_ways_of_asking_give_one_answer(memos: MemOS, model: MemoryModel) -> None:
    llm = MemOSLLM(model, memories=memos.add("Mara moved to Lisbon.", user_id="mara"), max_tokens=12)
    question = "Where does Mara live?"

    async def asynchronously() -> list[Any]:
        chats = [each async for each in await llm.astream_chat([ChatMessage(content=question)])]
        completions = [each async for each in await llm.astream_complete(question)]
        return [await llm.achat([ChatMessage(content=question)]), await llm.acomplete(question), chats, completions]

    chat, complete = llm.chat([ChatMessage(content=question)]), llm.complete(question)
    streams: list[list[Any]] = [
        list(llm.stream_chat([ChatMessage(content=question)])), list(llm.stream_complete(question)),
    ]  # fmt: skip
    achat, acomplete, *more = asyncio.run(asynchronously())
    assert {chat.message.content, complete.text, achat.message.content, acomplete.text} == {complete.text}
    for stream in [*streams, *more]:
        assert "".join(each.delta for each in stream) == complete.text
        so_far = ["".join(each.delta for each in stream[: count + 1]) for count in range(len(stream))]
        texts = [each.message.content if isinstance(each, ChatResponse) else each.text for each in stream]
        assert texts == so_far
        assert all(each.raw is None for each in stream[:-1])
        assert [each["form"] for each in stream[-1].raw["memories"]] == ["activation"]
        assert stream[-1].raw["usage"]["prompt_tokens"] == chat.raw["usage"]["prompt_tokens"]


def test_the_prompt_is_the_models_own(memos: MemOS, model: MemoryModel) -> None:
    """What LlamaIndex would make of the messages ("user: ...") is not what the model was trained on."""
    note = memos.add("Mara moved to Lisbon.", user_id="mara")
    llm = MemOSLLM(model, memories=note, max_tokens=12)
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Where does Mara live?"}]
    assert llm.chat(ASKED).message.content == model.generate(messages, memories=note, max_new_tokens=12).text
    thought = ChatMessage(role="model", blocks=[ThinkingBlock(content="hm"), TextBlock(text="a"), TextBlock(text="b")])
    said = [ChatMessage(content="x"), thought, ChatMessage(role="developer", content="c")]
    as_told = [
        {"role": "user", "content": "x"}, {"role": "assistant", "content": "a\nb"}, {"role": "system", "content": "c"},
    ]  # fmt: skip
    assert llm.chat(said).message.content == model.generate(as_told, memories=note, max_new_tokens=12).text
    with pytest.raises(InvalidRequest, match="ImageBlock"):
        llm.chat([ChatMessage(blocks=[ImageBlock(image=b"x")])])


async def test_answers_are_never_made_in_the_loop(memos: MemOS, model: MemoryModel) -> None:
    llm = Watched(model, max_tokens=4)
    await llm.achat(ASKED)
    await llm.acomplete("x")
    _ = [each async for each in await llm.astream_chat(ASKED)]
    _ = [each async for each in await llm.astream_complete("x")]
    assert len(llm._responses) == 4 and threading.get_ident() not in llm._threads
    both = await asyncio.gather(*(llm.achat(ASKED) for _ in range(4)))
    assert len({each.message.content for each in both}) == 1


def test_the_engines_of_the_framework_work(memos: MemOS, model: MemoryModel) -> None:
    cache = memos.migrate(memos.add("Mara moved to Lisbon.", user_id="mara")[0], to="activation", model=model)
    memos.add("Ines has a bicycle.", user_id="mara")
    llm = Watched(model, memories=[cache], max_tokens=6)

    async def streamed(engine: Any) -> str:
        return "".join([piece async for piece in (await engine.astream_chat("And Ines?")).async_response_gen()])

    simple, other = (MemOSMemory(memos, user_id="mara", session_id=name) for name in ("simple", "other"))
    chat = SimpleChatEngine.from_defaults(llm=llm, system_prompt="Be brief.", memory=simple)
    retriever = MemOSRetriever(memos, user_id="mara")
    condensing = CondensePlusContextChatEngine.from_defaults(retriever, llm=llm, memory=other)
    index = SummaryIndex.from_documents([Document(text="The ferry leaves every half hour.")])
    for engine in (chat, condensing):
        assert engine.chat("Where does Mara live?").response
        assert "".join(engine.stream_chat("And Ines?").response_gen)
        assert asyncio.run(engine.achat("Where does Mara live?")).response
        assert asyncio.run(streamed(engine))
    assert str(index.as_query_engine(llm=llm).query("When does the ferry go?"))
    assert len(llm._responses) >= 9
    assert {each["form"] for told in llm._responses for each in told["memories"]} == {"activation"}
    assert all(told["usage"]["tokens_reused"] > 0 for told in llm._responses)


@pytest.mark.filterwarnings(  # LlamaIndex's own
    "ignore:is_running called from within a step:DeprecationWarning",
    "ignore::pydantic.warnings.PydanticDeprecatedSince20",
    "ignore::pydantic.warnings.PydanticDeprecatedSince211",
)
async def test_an_agent_that_needs_no_tool_calls_of_the_model_works(memos: MemOS, model: MemoryModel) -> None:
    cache = memos.migrate(memos.add("Mara moved to Lisbon.", user_id="mara")[0], to="activation", model=model)
    llm = Watched(model, memories=[cache], max_tokens=6)
    memory = MemOSMemory(memos, user_id="mara", session_id="s1")
    answer = await ReActAgent(llm=llm).run("Where?", memory=memory, max_iterations=2, early_stopping_method="generate")
    assert str(answer)
    assert {told["memories"][0]["form"] for told in llm._responses} == {"activation"}


def test_the_framework_counts_the_tokens(model: MemoryModel) -> None:
    counter = TokenCountingHandler()
    llm = MemOSLLM(model, max_tokens=6, callback_manager=CallbackManager([counter]))
    usage = llm.chat(ASKED).raw["usage"]
    assert counter.prompt_llm_token_count == usage["prompt_tokens"] > 0
    assert counter.completion_llm_token_count == usage["completion_tokens"] > 0


def test_what_the_model_is_and_what_may_be_said_in_a_call(memos: MemOS, model: MemoryModel) -> None:
    llm: LLM = MemOSLLM(model, max_tokens=7)
    told = llm.metadata
    assert (told.context_window, told.num_output, told.is_chat_model) == (4096, 7, True)
    assert told.model_name == model.name == "small llama"
    assert MemOSLLM(model, context_window=100).metadata.context_window == 100
    assert len(model.local.tokenizer(llm.complete("x", max_tokens=2).text).input_ids) <= 2
    note = memos.add("Mara moved to Lisbon.", user_id="mara")
    assert [each["id"] for each in llm.complete("x", memories=note).raw["memories"]] == [note[0].id]
    warm = MemOSLLM(model, temperature=2.0, seed=1, max_tokens=12)
    assert warm.complete("x").text == warm.complete("x").text != warm.complete("x", seed=2).text
    for wrong in ({"max_length": 3}, {"temperature": -1.0}, {"memories": "id"}):
        with pytest.raises(InvalidRequest):
            llm.complete("x", **wrong)
    with pytest.raises(NotFound):
        MemOSLLM(model, memories=["01890a5d-ac96-774b-bcce-b302099a8057"]).complete("x")
    with pytest.raises(InvalidRequest, match="must come from"):
        MemOSLLM("smollm2")  # type: ignore[arg-type]


def test_what_is_written_down_holds_no_memory(memos: MemOS, model: MemoryModel) -> None:
    llm = MemOSLLM(model, memories=memos.add("Mara moved to Lisbon.", user_id="mara"))
    assert "Lisbon" not in llm.to_json() and "Lisbon" not in str(llm.to_payload())


def test_erased_memories_are_left_out_and_a_closed_model_says_so(memos: MemOS, model: MemoryModel) -> None:
    note = memos.add("Mara moved to Lisbon.", user_id="mara")[0]
    llm = MemOSLLM(model, memories=[memos.migrate(note, to="activation", model=model)], max_tokens=4)
    memos.erase(note.id)
    assert [each["reason"] for each in llm.chat(ASKED).raw["memories"]] == ["it was erased"]
    model.close()
    assert llm.metadata.context_window == 4096
    with pytest.raises(InvalidRequest, match="closed"):
        llm.chat(ASKED)
