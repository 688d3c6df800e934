"""memory_tools: memory that a model manages itself, as function tools.

Each tool is defined once, as a pydantic model of its arguments; the shapes of both APIs and of the Agents SDK follow
from it. What a tool returns is JSON text: quotations with source and time, or an error that says what to do. Rejected:
free `metadata` as an argument, which a strict schema cannot express and small models fill with noise.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, TypeAlias, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from memos_agents.cube.canonical import JSON
from memos_agents.cube.memcube import MemCube
from memos_agents.cube.metadata import DEFAULT_COLLECTION
from memos_agents.cube.scope import Scope
from memos_agents.errors import InvalidRequest, MemOSError
from memos_agents.interface import quoting, recall
from memos_agents.interface.results import Hit
from memos_agents.interface.views import ScopedMemOS

if TYPE_CHECKING:
    from agents import FunctionTool

Tool: TypeAlias = dict[str, Any]
"""One tool as a request carries it."""

_AGENT = "openai.memory_tools"
_Id = Annotated[str, Field(description="The id of a memory, as the other tools return it.")]


class _Arguments(BaseModel):
    """The arguments of one tool. Optional ones may be null, as a strict schema wants, or left out."""

    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)
    about: ClassVar[str]

    def run(self, view: ScopedMemOS) -> dict[str, JSON]:
        """Do it, and return what the model is told."""
        raise AssertionError("every tool has its own")


class _Add(_Arguments):
    about = (
        "Remember something for later conversations: one fact, preference or event, in a sentence that stands alone."
    )
    text: Annotated[str, Field(description="What to remember.")]
    occurred_at: Annotated[
        str | None, Field(description="When it happened, in ISO 8601 with a time zone; null if it does not matter.")
    ] = None
    tags: Annotated[list[str] | None, Field(description="A few words to group it by, or null.")] = None

    def run(self, view: ScopedMemOS) -> dict[str, JSON]:
        [cube] = view.add(self.text, occurred_at=self.occurred_at, tags=self.tags or (), agent=_AGENT, origin=_AGENT)
        return {"remembered": _told(cube)}


class _Search(_Arguments):
    about = "Search memory by meaning and words; the best matches come first. Use it before you say you do not know."
    query: Annotated[str, Field(description="A question or a few words.")]
    limit: Annotated[int | None, Field(description="How many at most, 1 to 50; null for 5.")] = None

    def run(self, view: ScopedMemOS) -> dict[str, JSON]:
        return _quoted(view.search(self.query, limit=5 if self.limit is None else min(self.limit, 50)))


class _Get(_Arguments):
    about = "Read one memory by its id."
    id: _Id

    def run(self, view: ScopedMemOS) -> dict[str, JSON]:
        return _quoted([view.get(self.id)])


class _List(_Arguments):
    about = "List memories, the newest first. Prefer search_memories when you look for something."
    limit: Annotated[int | None, Field(description="How many, 1 to 50; null for 20.")] = None
    cursor: Annotated[str | None, Field(description="The cursor of the page before, or null for the first page.")] = (
        None
    )

    def run(self, view: ScopedMemOS) -> dict[str, JSON]:
        limit = 20 if self.limit is None else min(self.limit, 50)
        page = view.list(order="-created", limit=limit, cursor=self.cursor, collection=DEFAULT_COLLECTION)
        worded = [cube for cube in page if any(map(str.isalnum, cube.text))]  # as search: the rest is bookkeeping
        return {**_quoted(worded), "cursor": page.cursor}


class _Update(_Arguments):
    about = "Correct a memory that is wrong or no longer true. Its older versions are kept."
    id: _Id
    text: Annotated[str, Field(description="What it shall say from now on, as a whole.")]
    expected_version: Annotated[
        int | None, Field(description="The version that you read; the call is refused if there is a newer one.")
    ] = None

    def run(self, view: ScopedMemOS) -> dict[str, JSON]:
        return {"updated": _told(view.update(self.id, self.text, expected_version=self.expected_version, agent=_AGENT))}


class _Delete(_Arguments):
    about = (
        "Erase a memory for good, with all its versions and all that was made from it. Only when the user asks for it."
    )
    id: _Id

    def run(self, view: ScopedMemOS) -> dict[str, JSON]:
        receipt = view.erase(self.id, agent=_AGENT)
        return {"erased": sorted({stone.ref.cube_id for stone in receipt.tombstones})}


class _History(_Arguments):
    about = "Read all versions of a memory, the oldest first: what it said before it was corrected."
    id: _Id

    def run(self, view: ScopedMemOS) -> dict[str, JSON]:
        return _quoted(view.history(self.id))


_TOOLS: dict[str, type[_Arguments]] = {
    "add_memory": _Add,
    "search_memories": _Search,
    "get_memory": _Get,
    "list_memories": _List,
    "update_memory": _Update,
    "delete_memory": _Delete,
    "memory_history": _History,
}


@dataclass(frozen=True, kw_only=True)
class MemoryTools:
    """Tools over one scope: what to offer in a request, and what answers the calls.

    `responses` is the shape of the Responses API, `chat_completions` of Chat Completions; both have strict schemas.
    """

    names: tuple[str, ...]
    views: recall.Views = field(repr=False)

    @property
    def responses(self) -> list[Tool]:
        """For `client.responses.create(tools=...)`."""
        return [{"type": "function", **_function(name)} for name in self.names]

    @property
    def chat_completions(self) -> list[Tool]:
        """For `client.chat.completions.create(tools=...)`."""
        return [{"type": "function", "function": _function(name)} for name in self.names]

    def agents(self) -> list[FunctionTool]:
        """For `agents.Agent(tools=...)`; needs the extra `openai-agents`."""
        try:
            from agents import FunctionTool
        except ImportError as error:
            raise ImportError(
                "MemoryTools.agents() needs the OpenAI Agents SDK: pip install 'memos-agents[openai-agents]'"
            ) from error

        def invoke(name: str) -> Callable[[Any, str], Any]:
            async def on_invoke(_context: Any, arguments: str) -> str:
                return await self.ahandle_tool_call(name, arguments)

            return on_invoke

        return [
            FunctionTool(
                name=name,
                description=_TOOLS[name].about,
                params_json_schema=_function(name)["parameters"],
                on_invoke_tool=invoke(name),
                strict_json_schema=True,
            )
            for name in self.names
        ]

    def handle_tool_call(self, name: str, arguments: str | Mapping[str, object] | None) -> str:
        """Run one call of a model and return the JSON text to answer it with.

        What the model got wrong, and what memory refuses (`MemOSError`), is told to the model: `{"error": ...}`.
        Another scope's memory does not exist here, not even by id.
        """
        try:
            call = self._checked(name, arguments)
            return quoting.quoted_json(call.run(self.views.sync))
        except MemOSError as error:
            told: dict[str, JSON] = {"type": type(error).__name__, "message": str(error), "retryable": error.retryable}
            return quoting.quoted_json({"error": told})

    async def ahandle_tool_call(self, name: str, arguments: str | Mapping[str, object] | None) -> str:
        """As `handle_tool_call`, without blocking the event loop."""
        return await recall.on_thread(self.views.aio, self.handle_tool_call, name, arguments)

    def _checked(self, name: str, arguments: str | Mapping[str, object] | None) -> _Arguments:
        if name not in self.names:
            raise InvalidRequest(f"there is no tool {str(name)[:80]!r}; call one of {', '.join(self.names)}")
        if isinstance(arguments, str | bytes):
            try:
                arguments = cast("Mapping[str, object]", json.loads(arguments or "{}"))
            except (ValueError, RecursionError) as error:
                raise InvalidRequest(f"the arguments of {name} are not valid JSON; send one JSON object") from error
        if not isinstance(arguments, Mapping | None):
            raise InvalidRequest(f"the arguments of {name} must be one JSON object, not {type(arguments).__name__}")
        try:
            return _TOOLS[name].model_validate(dict(arguments or {}))
        except ValidationError as error:
            wrong = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
            raise InvalidRequest(f"{name} was not run: {wrong}. Call it again as its schema says") from None


def memory_tools(
    memos: recall.AnyMemOS,
    *,
    only: Collection[str] | None = None,
    user_id: str | None = None,
    agent_id: str | None = None,
    session_id: str | None = None,
    scope: Scope | None = None,
) -> MemoryTools:
    """Return the tools by which a model manages the memory of one scope; `only` names those to offer (None: all).

    `only=["search_memories"]` gives a model that may read and not write. Raises `InvalidRequest` without a scope.
    """
    names = tuple(_TOOLS) if only is None else tuple(name for name in _TOOLS if name in set(only))
    if only is not None and (isinstance(only, str) or set(only) - set(_TOOLS) or not names):
        raise InvalidRequest(f"only is {only!r}; it must list some of {', '.join(_TOOLS)}")
    views = recall.view_of(memos, user_id=user_id, agent_id=agent_id, session_id=session_id, scope=scope)
    return MemoryTools(names=names, views=views)


def handle_tool_call(
    memos: recall.AnyMemOS,
    name: str,
    arguments: str | Mapping[str, object] | None,
    *,
    user_id: str | None = None,
    agent_id: str | None = None,
    session_id: str | None = None,
    scope: Scope | None = None,
) -> str:
    """Run one call where no `MemoryTools` is at hand; see `MemoryTools.handle_tool_call`."""
    tools = memory_tools(memos, user_id=user_id, agent_id=agent_id, session_id=session_id, scope=scope)
    return tools.handle_tool_call(name, arguments)


def _function(name: str) -> dict[str, Any]:
    """Name, description and strict schema: every property required, optional ones nullable, nothing else allowed."""
    tool = _TOOLS[name]
    schema = tool.model_json_schema()
    properties = {
        key: {part: value for part, value in about.items() if part not in ("title", "default")}
        for key, about in schema["properties"].items()
    }
    parameters = {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
    return {"name": name, "description": tool.about, "parameters": parameters, "strict": True}


def _quoted(found: list[Hit] | list[MemCube]) -> dict[str, JSON]:
    return {"about": quoting.PREAMBLE, "memories": [_told(entry) for entry in found]}


def _told(found: Hit | MemCube) -> dict[str, JSON]:
    fields = recall.told(found)
    metadata = fields.pop("metadata", None)
    if isinstance(metadata, Mapping):
        shown = {name: value for name, value in metadata.items() if not name.startswith("_")}  # "_": a front's own
        return {**fields, "metadata": shown} if shown else fields
    return fields
