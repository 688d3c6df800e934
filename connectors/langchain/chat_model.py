"""ChatMemOS: a local model as a LangChain chat model, into which memories go as text or as keys and values."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.language_models.base import LangSmithParams
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, ToolMessage
from langchain_core.messages.ai import InputTokenDetails, UsageMetadata
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import ConfigDict, Field

from memos_agents.connectors.langchain.tool_calls import Answer, certain_length, taken_apart
from memos_agents.errors import InvalidRequest
from memos_agents.interface.memory_model import MemoryModel, Reply
from memos_agents.models.prompts import takes_tools

_ROLES = {"human": "user", "ai": "assistant", "system": "system", "tool": "tool"}


class ChatMemOS(BaseChatModel):
    """`ChatMemOS(model=memos.model(...), memories=[...])`: every answer is given with these memories (ids or cubes).

    Caches among them are injected, and with `reuse` those that are text are run once and kept in memory, too; what was
    said in the conversation is run with every call. `usage_metadata` counts what was reused as `cache_read`;
    `response_metadata["memories"]` says in which form each memory went in, and why. Greedy unless `temperature` is
    above 0. Tools and structured output are there where the model's chat template has tools. Needs the extras
    "langchain" and "local".
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

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: str | bool | Mapping[str, Any] | None = None,
        strict: bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Show these tools to the model in the words of its template, and find its calls in what it answers.

        `tool_choice` says what is shown: one tool by its name, none ("none"), or all. No model is forced to call one.
        What looks like a call and is none is in `invalid_tool_calls`. Raises `InvalidRequest` if the template has no
        tools.
        """
        if not takes_tools(self.model.local.tokenizer):
            raise InvalidRequest(
                f"the chat template of {self.model.name!r} has no tools, so that it can neither be shown any nor give "
                "structured output; take a model whose template has them"
            )
        shown = _chosen([convert_to_openai_tool(tool, strict=strict) for tool in tools], tool_choice)
        return self.bind(tools=shown, **kwargs)

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
        answer = _answer(reply, kwargs)
        message = AIMessage(
            content=answer.text,
            tool_calls=answer.calls,
            invalid_tool_calls=answer.invalid,
            usage_metadata=_usage(reply),
            response_metadata=self._told(reply),
        )
        return ChatResult(generations=[ChatGeneration(message=message)])

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        text, shown = "", 0
        for piece in self._pieces(messages, stop, kwargs):
            if isinstance(piece, Reply):
                answer = _answer(piece, kwargs)
                message = AIMessageChunk(
                    content=answer.text[shown:],
                    tool_calls=answer.calls,
                    invalid_tool_calls=answer.invalid,
                    usage_metadata=_usage(piece),
                    response_metadata=self._told(piece),
                    chunk_position="last",
                )
            else:
                text += piece
                certain = certain_length(text) if kwargs.get("tools") else len(text)
                if certain <= shown:
                    continue
                message = AIMessageChunk(content=text[shown:certain])
                shown = certain
            chunk = ChatGenerationChunk(message=message)
            if run_manager is not None and message.content:
                run_manager.on_llm_new_token(str(message.content), chunk=chunk)
            yield chunk

    def _pieces(
        self, messages: Sequence[BaseMessage], stop: Sequence[str] | None, more: dict[str, Any]
    ) -> Iterator[str | Reply]:
        found: Iterator[str | Reply] = self.model.generate(
            self._rendered(messages),
            tools=more.get("tools") or (),
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

    def _rendered(self, messages: Sequence[BaseMessage]) -> list[dict[str, Any]]:
        """Messages for the template; the answer of a tool says which tool it is of, as some templates want to know."""
        told, names = [], dict[str, str]()
        for message in messages:
            each = _told_to(message)
            names.update({call["id"]: call["function"]["name"] for call in each.get("tool_calls", ())})
            if isinstance(message, ToolMessage) and (name := message.name or names.get(message.tool_call_id)):
                each["name"] = name
            told.append(each)
        if names and not takes_tools(self.model.local.tokenizer):
            raise InvalidRequest(
                f"the chat template of {self.model.name!r} has no tools and would leave out their calls"
            )
        return told

    def _told(self, reply: Reply) -> dict[str, Any]:
        used = [
            {"id": each.id, "version": each.version, "form": each.form, "reason": each.reason}
            for each in reply.memories
        ]
        return {"model_name": self.model.name, "model_provider": "memos", "memories": used}


def _chosen(tools: list[dict[str, Any]], choice: str | bool | Mapping[str, Any] | None) -> list[dict[str, Any]]:
    if isinstance(choice, Mapping):
        choice = str(choice.get("function", choice).get("name"))
    if choice is False or choice == "none":
        return []
    if choice is None or choice is True or choice in ("auto", "any", "required"):
        return tools
    found = [tool for tool in tools if _name_of(tool) == choice]
    if not found:
        names = [_name_of(tool) for tool in tools]
        raise InvalidRequest(f"tool_choice {choice!r} is none of the tools {names}")
    return found


def _name_of(tool: Mapping[str, Any]) -> str:
    return str(tool.get("function", tool).get("name"))


def _answer(reply: Reply, options: Mapping[str, Any]) -> Answer:
    tools = options.get("tools")
    return taken_apart(reply.text, {_name_of(tool) for tool in tools}) if tools else Answer(reply.text)


def _told_to(message: BaseMessage) -> dict[str, Any]:
    """One message as chat templates read it: calls as OpenAI writes them, but with their arguments as an object."""
    role = _ROLES.get(message.type)
    if role is None:
        raise InvalidRequest(f"a message of type {message.type!r} has no place in a chat template")
    told: dict[str, Any] = {"role": role, "content": str(message.text)}
    if isinstance(message, ToolMessage):
        told["tool_call_id"] = message.tool_call_id
    if isinstance(message, AIMessage):
        told["content"] += "".join(each["args"] or "" for each in message.invalid_tool_calls)  # as the model wrote them
        if message.tool_calls:
            told["tool_calls"] = [
                {"type": "function", "id": call["id"], "function": {"name": call["name"], "arguments": call["args"]}}
                for call in message.tool_calls
            ]
    return told


def _usage(reply: Reply) -> UsageMetadata:
    timings, written = reply.timings, len(reply.token_ids)
    reused, computed = (0, 0) if timings is None else (timings.tokens_reused, timings.tokens_computed)
    return UsageMetadata(
        input_tokens=reused + computed,
        output_tokens=written,
        total_tokens=reused + computed + written,
        input_token_details=InputTokenDetails(cache_read=reused),
    )
