"""MemOSLLM: a local model as a LlamaIndex language model, into which memories go as text or as keys and values."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from llama_index.core.base.llms.types import (
    CachePoint,
    ChatMessage,
    ChatResponse,
    ChatResponseAsyncGen,
    ChatResponseGen,
    CompletionResponse,
    CompletionResponseAsyncGen,
    CompletionResponseGen,
    LLMMetadata,
    MessageRole,
    TextBlock,
    ThinkingBlock,
)
from llama_index.core.bridge.pydantic import Field, PrivateAttr
from llama_index.core.constants import DEFAULT_CONTEXT_WINDOW
from llama_index.core.llms.callbacks import llm_chat_callback, llm_completion_callback
from llama_index.core.llms.custom import CustomLLM

from memos_agents.errors import InvalidRequest
from memos_agents.interface.memory_model import MemoryModel, Reply

_ROLES = {
    MessageRole.SYSTEM: "system", MessageRole.DEVELOPER: "system", MessageRole.USER: "user",
    MessageRole.ASSISTANT: "assistant", MessageRole.CHATBOT: "assistant", MessageRole.MODEL: "assistant",
    MessageRole.TOOL: "tool", MessageRole.FUNCTION: "tool",
}  # fmt: skip
_UNSEEN = (ThinkingBlock, CachePoint)
"""Blocks that are no part of what was said."""
_OPTIONS = frozenset({"memories", "max_tokens", "temperature", "top_p", "stop", "seed", "reuse"})
"""What a single call may say otherwise."""


@dataclass(frozen=True, slots=True)
class _Answer:
    """An answer so far, what came last, and at the end what is told of it."""

    text: str
    delta: str
    told: dict[str, Any] | None = None


class MemOSLLM(CustomLLM):
    """`MemOSLLM(memos.model(...), memories=[...])`: every answer is given with these memories (ids or cubes).

    Caches among them are injected, and with `reuse` those that are text are run once and kept in memory, too. `raw` of
    a response (of a stream: of its last one) has `memories`, each with its form and why, `usage` with the tokens reused
    and computed, and `timings` in seconds. Greedy unless `temperature` is above 0. A prompt is one message of the user,
    also where it is said to be formatted: the template is applied once, around memories and prompt. Asynchronous calls
    run on threads. Options may be given in a call, too; others than ours are `InvalidRequest`. Needs the extras
    "llama-index" and "local".
    """

    model: Any = Field(exclude=True)
    """From `memos.model(...)`."""
    memories: Any = Field(default=(), exclude=True)
    """Ids or cubes, in any form."""
    reuse: bool = True
    max_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    stop: Sequence[str] = ()
    seed: int | None = None
    context_window: int | None = None
    """In tokens; None: what the model's configuration says. The memories need their part of it."""
    _window: int = PrivateAttr()

    def __init__(self, model: MemoryModel, **kwargs: Any) -> None:
        """`kwargs` are the fields, and those of LlamaIndex's `LLM`. Raises `InvalidRequest` for any other model."""
        if not isinstance(model, MemoryModel):
            raise InvalidRequest(f"model must come from memos.model(...), not be a {type(model).__name__}")
        super().__init__(model=model, **kwargs)
        told: Any = getattr(model.local.model.config, "max_position_embeddings", None)
        self._window = self.context_window or int(told or DEFAULT_CONTEXT_WINDOW)

    @classmethod
    def class_name(cls) -> str:
        """The name that LlamaIndex writes down."""
        return "MemOSLLM"

    @property
    def metadata(self) -> LLMMetadata:
        """What the frameworks' parts ask before they pack a prompt."""
        return LLMMetadata(
            context_window=self._window,
            num_output=self.max_tokens,
            is_chat_model=True,
            model_name=self.model.name,
        )

    @llm_chat_callback()
    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Answer a conversation."""
        return _chat_response(self._answer(_messages(messages), kwargs))

    @llm_chat_callback()
    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseGen:
        """Answer a conversation piece by piece."""
        return _chat_responses(self._answers(_messages(messages), kwargs))

    @llm_completion_callback()
    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """Answer one message."""
        return _completion(self._answer(prompt, kwargs))

    @llm_completion_callback()
    def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponseGen:
        """Answer one message piece by piece."""
        return _completions(self._answers(prompt, kwargs))

    @llm_chat_callback()
    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """See `chat`."""
        return _chat_response(await asyncio.to_thread(self._answer, _messages(messages), kwargs))

    @llm_chat_callback()
    async def astream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseAsyncGen:
        """See `stream_chat`."""
        answers = await asyncio.to_thread(self._answers, _messages(messages), kwargs)

        async def responses() -> ChatResponseAsyncGen:
            async for answer in _on_threads(answers):
                yield _chat_response(answer)

        return responses()

    @llm_completion_callback()
    async def acomplete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """See `complete`."""
        return _completion(await asyncio.to_thread(self._answer, prompt, kwargs))

    @llm_completion_callback()
    async def astream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponseAsyncGen:
        """See `stream_complete`."""
        answers = await asyncio.to_thread(self._answers, prompt, kwargs)

        async def responses() -> CompletionResponseAsyncGen:
            async for answer in _on_threads(answers):
                yield _completion(answer)

        return responses()

    def _answer(self, prompt: str | Sequence[dict[str, str]], options: dict[str, Any]) -> _Answer:
        *_, last = self._answers(prompt, options)
        return _Answer(last.text, "", last.told)

    def _answers(self, prompt: str | Sequence[dict[str, str]], options: dict[str, Any]) -> Iterator[_Answer]:
        """Checks at once, runs when asked for the first piece. The last answer is the whole, with what is told."""
        unknown = sorted(options.keys() - _OPTIONS)
        if unknown:
            raise InvalidRequest(f"unknown options {unknown} of a call; known are {sorted(_OPTIONS)}")
        chosen = {name: options.get(name, getattr(self, name)) for name in _OPTIONS}
        chosen["max_new_tokens"] = chosen.pop("max_tokens")
        pieces: Iterator[str | Reply] = self.model.generate(prompt, stream=True, **chosen)
        return self._following(pieces)

    def _following(self, pieces: Iterator[str | Reply]) -> Iterator[_Answer]:
        text = ""
        for piece in pieces:
            if isinstance(piece, Reply):
                yield _Answer(piece.text, piece.text[len(text) :], self._told(piece))
            else:
                text += piece
                yield _Answer(text, piece)

    def _told(self, reply: Reply) -> dict[str, Any]:
        timings, written = reply.timings, len(reply.token_ids)
        assert timings is not None  # what a stream ends with has them
        used = [
            {"id": each.id, "version": each.version, "form": each.form, "reason": each.reason}
            for each in reply.memories
        ]
        read = timings.tokens_reused + timings.tokens_computed
        usage = {
            "prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written,
            "tokens_reused": timings.tokens_reused, "tokens_computed": timings.tokens_computed,
        }  # fmt: skip
        seconds = {
            "prefill_seconds": timings.prefill_seconds,
            "first_token_seconds": timings.first_token_seconds,
            "total_seconds": timings.total_seconds,
        }
        return {"model": self.model.name, "memories": used, "usage": usage, "timings": seconds}


def _messages(messages: Sequence[ChatMessage]) -> list[dict[str, str]]:
    """Roles in the words of chat templates, texts as they are. Raises `InvalidRequest` for what is no text."""
    found = []
    for message in messages:
        odd = [block for block in message.blocks if not isinstance(block, (TextBlock, *_UNSEEN))]
        if odd:
            raise InvalidRequest(f"a {type(odd[0]).__name__} has no place in the prompt of a model that reads text")
        found.append({"role": _ROLES[message.role], "content": message.content or ""})
    return found


def _chat_response(answer: _Answer) -> ChatResponse:
    return ChatResponse(
        message=ChatMessage(role=MessageRole.ASSISTANT, content=answer.text),
        delta=answer.delta,
        raw=answer.told,
        additional_kwargs=_counts(answer),
    )


def _completion(answer: _Answer) -> CompletionResponse:
    return CompletionResponse(text=answer.text, delta=answer.delta, raw=answer.told, additional_kwargs=_counts(answer))


def _counts(answer: _Answer) -> dict[str, Any]:
    return {} if answer.told is None else dict(answer.told["usage"])


def _chat_responses(answers: Iterator[_Answer]) -> Generator[ChatResponse, None, None]:
    for answer in answers:
        yield _chat_response(answer)


def _completions(answers: Iterator[_Answer]) -> Generator[CompletionResponse, None, None]:
    for answer in answers:
        yield _completion(answer)


async def _on_threads(answers: Iterator[_Answer]) -> AsyncGenerator[_Answer, None]:
    """Each piece is made on a thread. Whoever stops listening lets the piece that was begun be finished, no more."""
    while (answer := await asyncio.to_thread(next, answers, None)) is not None:
        yield answer
