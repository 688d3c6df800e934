"""ChatMemOS: a local model as a LangChain chat model, into which memories go as text or as keys and values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.language_models.base import LangSmithParams
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.messages.ai import InputTokenDetails, UsageMetadata
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from pydantic import ConfigDict, Field

from memos_agents.errors import InvalidRequest
from memos_agents.interface.memory_model import MemoryModel, Reply

_ROLES = {"human": "user", "ai": "assistant", "system": "system", "tool": "tool"}


class ChatMemOS(BaseChatModel):
    """`ChatMemOS(model=memos.model(...), memories=[...])`: every answer is given with these memories (ids or cubes).

    Caches among them are injected, and with `reuse` those that are text are run once and kept in memory, too; what was
    said in the conversation is run with every call. `usage_metadata` counts what was reused as `cache_read`;
    `response_metadata["memories"]` says in which form each memory went in, and why. Greedy unless `temperature` is
    above 0. Tools are not bound: small models have no use for them. Needs the extras "langchain" and "local".
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    model: Any = Field(exclude=True)
    """From `memos.model(...)`."""
    memories: Any = Field(default=(), exclude=True)
    """Ids or cubes, in any form."""
    reuse: bool = True
    max_tokens: int | None = 256
    temperature: float = 0.0
    top_p: float = 1.0
    stop: Sequence[str] | None = None
    seed: int | None = None

    def model_post_init(self, context: Any, /) -> None:
        """Raises `InvalidRequest` for anything but a `MemoryModel`."""
        super().model_post_init(context)
        if not isinstance(self.model, MemoryModel):
            raise InvalidRequest(f"model must come from memos.model(...), not be a {type(self.model).__name__}")

    @property
    def _llm_type(self) -> str:
        return "memos"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"model": self.model.name, "temperature": self.temperature, "max_tokens": self.max_tokens}

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        return LangSmithParams(
            ls_provider="memos",
            ls_model_name=str(kwargs.get("model") or self.model.name),
            ls_model_type="chat",
            ls_temperature=self.temperature,
            ls_max_tokens=self.max_tokens or 256,
            ls_stop=list(stop or self.stop or ()),
        )

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        *_, reply = self._pieces(messages, stop, kwargs)
        assert isinstance(reply, Reply)  # what a stream ends with
        message = AIMessage(content=reply.text, usage_metadata=_usage(reply), response_metadata=self._told(reply))
        return ChatResult(generations=[ChatGeneration(message=message)])

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        for piece in self._pieces(messages, stop, kwargs):
            if isinstance(piece, Reply):
                message = AIMessageChunk(
                    content="", usage_metadata=_usage(piece), response_metadata=self._told(piece), chunk_position="last"
                )
                yield ChatGenerationChunk(message=message)
            else:
                chunk = ChatGenerationChunk(message=AIMessageChunk(content=piece))
                if run_manager is not None:
                    run_manager.on_llm_new_token(piece, chunk=chunk)
                yield chunk

    def _pieces(
        self, messages: Sequence[BaseMessage], stop: Sequence[str] | None, more: dict[str, Any]
    ) -> Iterator[str | Reply]:
        found: Iterator[str | Reply] = self.model.generate(
            [_told_to(message) for message in messages],
            memories=more.get("memories", self.memories),
            max_new_tokens=more.get("max_tokens", self.max_tokens) or 256,
            temperature=more.get("temperature", self.temperature) or 0.0,
            top_p=more.get("top_p", self.top_p),
            stop=tuple(stop or self.stop or ()),
            seed=more.get("seed", self.seed),
            reuse=self.reuse,
            stream=True,
        )
        return found

    def _told(self, reply: Reply) -> dict[str, Any]:
        used = [
            {"id": each.id, "version": each.version, "form": each.form, "reason": each.reason}
            for each in reply.memories
        ]
        return {"model_name": self.model.name, "model_provider": "memos", "memories": used}


def _told_to(message: BaseMessage) -> dict[str, Any]:
    role = _ROLES.get(message.type)
    if role is None:
        raise InvalidRequest(f"a message of type {message.type!r} has no place in a chat template")
    return {"role": role, "content": str(message.text)}


def _usage(reply: Reply) -> UsageMetadata:
    timings, written = reply.timings, len(reply.token_ids)
    reused, computed = (0, 0) if timings is None else (timings.tokens_reused, timings.tokens_computed)
    return UsageMetadata(
        input_tokens=reused + computed,
        output_tokens=written,
        total_tokens=reused + computed + written,
        input_token_details=InputTokenDetails(cache_read=reused),
    )
