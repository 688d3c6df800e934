"""with_memory: an OpenAI client that remembers."""

from __future__ import annotations

import copy
import functools
import inspect
import threading
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from memos_agents.connectors.openai.conversation import (
    Answer,
    Request,
    answer_of_completion,
    answer_of_response,
    read_request,
    turns_of,
    value_of,
    with_instructions,
    with_system_message,
)
from memos_agents.connectors.openai.streams import (
    AsyncHeardStream,
    CompletionListener,
    HeardStream,
    Listener,
    ResponseListener,
)
from memos_agents.cube.scope import Scope
from memos_agents.errors import InvalidRequest, MemOSError
from memos_agents.interface import recall
from memos_agents.interface.arguments import count_of

if TYPE_CHECKING:
    from openai import AsyncOpenAI, OpenAI

Client = TypeVar("Client", bound="OpenAI | AsyncOpenAI")

_AGENT = "openai.with_memory"
_CONVERSATIONS = 1_000
"""Conversations for which the memories that were told are kept in mind; the oldest is forgotten first."""


def with_memory(
    client: Client,
    memos: recall.AnyMemOS,
    *,
    user_id: str | None = None,
    agent_id: str | None = None,
    session_id: str | None = None,
    scope: Scope | None = None,
    limit: int = 8,
    max_tokens: int = recall.MAX_TOKENS,
) -> Client:
    """Return a client like `client` whose answers come with memory; `client` itself stays as it is.

    `responses.create`, `.parse` and `.stream` and `chat.completions.create`, `.parse` and `.stream` search for what the
    user said last, tell the model at most `limit` memories in at most `max_tokens` (as quotations, in `instructions` or
    the system message, which no conversation keeps), and record the user's new messages and the answer once it is
    complete. A stream that breaks off, a failed or a background answer records nothing. Everything else passes through.

    Whose: as for every connector; `session_id` is where a conversation is recorded, while recall looks at everything of
    the user or agent. With a session (or `previous_response_id`, or `conversation`) what was told once stays told, in
    the same bytes, so that the server's prefix cache keeps hitting.

    If memory cannot be read the call fails before the server is asked. If the answer came but cannot be recorded, the
    `MemOSError` carries it in `details["response"]`. Closing either client closes the connections of both.
    """
    try:
        from openai import AsyncOpenAI, OpenAI
    except ImportError as error:
        raise ImportError("with_memory needs the OpenAI library: pip install 'memos-agents[openai]'") from error
    if not isinstance(client, OpenAI | AsyncOpenAI):
        raise InvalidRequest(f"client must be an OpenAI or AsyncOpenAI client, not {type(client).__name__}")
    is_named = not (user_id is None and agent_id is None and scope is None)
    views = recall.view_of(
        memos,
        user_id=user_id,
        agent_id=agent_id,
        session_id=None if is_named else session_id,
        scope=scope,
    )
    memory = _Memory(
        views,
        session_id,
        limit=count_of(limit, what="limit"),
        max_tokens=count_of(max_tokens, what="max_tokens", most=10**7),
    )
    return _remembering(client, memory)


class _Dialect(NamedTuple):
    """How one of the two APIs says things."""

    field: str
    told: Callable[[Mapping[str, Any], str], dict[str, Any]]
    answer: Callable[[object], Answer | None]
    listener: Callable[[], Listener]


_RESPONSES = _Dialect("input", with_instructions, answer_of_response, ResponseListener)
_COMPLETIONS = _Dialect("messages", with_system_message, answer_of_completion, CompletionListener)


class _Memory:
    """What one wrapped client recalls and records."""

    def __init__(self, views: recall.Views, session_id: str | None, *, limit: int, max_tokens: int) -> None:
        self.views = views
        self._session_id = views.sync.scoped(session_id=session_id).scope.session_id
        self._limit, self._max_tokens = limit, max_tokens
        self._told: OrderedDict[str, list[str]] = OrderedDict()  # references of versions, never texts
        self._lock = threading.Lock()

    def recall(self, request: Request) -> tuple[str, list[str]]:
        """The block to tell, and the versions that are in it."""
        view = self.views.sync
        shown = recall.still_current(view, self._known(self._conversation(request.arguments)))
        found = view.search(request.question, limit=self._limit) if request.question else []
        new = [hit for hit in found if hit.cube.text not in request.said]
        cubes = recall.extended(shown, new, max_tokens=self._max_tokens)
        return recall.render(cubes, max_tokens=self._max_tokens), [str(cube.ref) for cube in cubes]

    def record(self, request: Request, refs: list[str], answer: Answer) -> None:
        """Keep what was said, and in mind what was told."""
        said = [*(("user", text) for text in request.new), ("assistant", answer.text)]
        messages = [{"role": role, "content": piece} for role, text in said for piece in turns_of(text)]
        if messages:
            self.views.sync.add(messages, session_id=self._session_id, agent=_AGENT, origin=_AGENT, merge=False)
        for conversation in {self._conversation(request.arguments), answer.response_id} - {None}:
            self._keep(str(conversation), refs)

    def _conversation(self, arguments: Mapping[str, Any]) -> str | None:
        """By what the conversation that a request goes on with is known."""
        named = arguments.get("conversation")
        for name in (named, value_of(named, "id"), arguments.get("previous_response_id"), self._session_id):
            if isinstance(name, str) and name:
                return name
        return None

    def _known(self, conversation: str | None) -> list[str]:
        with self._lock:
            return list(self._told.get(conversation, ())) if conversation is not None else []

    def _keep(self, conversation: str, refs: list[str]) -> None:
        with self._lock:
            self._told[conversation] = refs
            self._told.move_to_end(conversation)
            if len(self._told) > _CONVERSATIONS:
                self._told.popitem(last=False)


def _remembering(client: Client, memory: _Memory) -> Client:
    """A shallow copy that shares the connections, with resources of its own."""
    wrapped = copy.copy(client)
    own = vars(wrapped)
    for name in ("responses", "chat", "with_raw_response", "with_streaming_response"):
        own.pop(name, None)  # resources that the original has made already
    wrap = _wrap_async if _is_async(client) else _wrap
    own["responses"] = _with_calls(copy.copy(client.responses), wrap, _RESPONSES, memory)
    own["chat"] = chat = copy.copy(client.chat)
    for name in ("completions", "with_raw_response", "with_streaming_response"):
        vars(chat).pop(name, None)
    vars(chat)["completions"] = _with_calls(copy.copy(client.chat.completions), wrap, _COMPLETIONS, memory)

    make: Callable[..., Any] = client.copy

    @functools.wraps(make)
    def copied(*args: Any, **kwargs: Any) -> Any:
        return _remembering(make(*args, **kwargs), memory)

    own["copy"] = own["with_options"] = copied
    return wrapped


def _is_async(client: object) -> bool:
    from openai import AsyncOpenAI

    return isinstance(client, AsyncOpenAI)


def _with_calls(resource: Any, wrap: Callable[..., Any], dialect: _Dialect, memory: _Memory) -> Any:
    """`resource` with its two calls wrapped; its other helpers (`stream`, raw responses) are made of these."""
    own = vars(resource)
    for name in ("with_raw_response", "with_streaming_response"):
        own.pop(name, None)
    for name in ("create", "parse"):
        own[name] = wrap(getattr(resource, name), dialect, memory)
    return resource


def _wrap(call: Callable[..., Any], dialect: _Dialect, memory: _Memory) -> Callable[..., Any]:
    @functools.wraps(call)
    def remembering(**arguments: Any) -> Any:
        request = read_request(arguments, field=dialect.field)
        block, refs = memory.recall(request)
        result = call(**(dialect.told(request.arguments, block) if block else request.arguments))

        def tell(answer: Answer) -> None:
            memory.record(request, refs, answer)

        def heard(result: Any) -> Any:
            if request.is_streamed:
                return HeardStream(result, dialect.listener(), tell)
            if (answer := dialect.answer(result)) is not None:
                with _answer_not_lost(result):
                    tell(answer)
            return result

        if request.wants_raw:
            result.parse = _once(result.parse, heard)
            return result
        return heard(result)

    return remembering


def _wrap_async(call: Callable[..., Any], dialect: _Dialect, memory: _Memory) -> Callable[..., Any]:
    aio = memory.views.aio

    @functools.wraps(call)
    async def remembering(**arguments: Any) -> Any:
        request = read_request(arguments, field=dialect.field)
        block, refs = await recall.on_thread(aio, memory.recall, request)
        result = await call(**(dialect.told(request.arguments, block) if block else request.arguments))

        async def tell(answer: Answer) -> None:
            await recall.on_thread(aio, memory.record, request, refs, answer)

        def listened(stream: Any) -> Any:
            return AsyncHeardStream(stream, dialect.listener(), tell)

        async def heard(result: Any) -> Any:
            if request.is_streamed:
                return listened(result)
            if (answer := dialect.answer(result)) is not None:
                with _answer_not_lost(result):
                    await tell(answer)
            return result

        if not request.wants_raw:
            return await heard(result)
        if inspect.iscoroutinefunction(result.parse):
            result.parse = _once_async(result.parse, heard)
        elif request.is_streamed:  # the raw response of an asynchronous client is parsed without waiting
            result.parse = _once(result.parse, listened)
        else:
            await heard(result.parse())
        return result

    return remembering


def _once(parse: Callable[..., Any], heard: Callable[[Any], Any]) -> Callable[..., Any]:
    """`parse` of an HTTP response, whose first result is heard."""
    results: list[Any] = []

    @functools.wraps(parse)
    def parsed(*args: Any, **kwargs: Any) -> Any:
        if not results:
            results.append(heard(parse(*args, **kwargs)))
        return results[0]

    return parsed


def _once_async(
    parse: Callable[..., Awaitable[Any]], heard: Callable[[Any], Awaitable[Any]]
) -> Callable[..., Awaitable[Any]]:
    results: list[Any] = []

    @functools.wraps(parse)
    async def parsed(*args: Any, **kwargs: Any) -> Any:
        if not results:
            results.append(await heard(await parse(*args, **kwargs)))
        return results[0]

    return parsed


@contextmanager
def _answer_not_lost(response: object) -> Iterator[None]:
    """An answer that was given but could not be recorded goes with the error."""
    try:
        yield
    except MemOSError as error:
        error.details["response"] = response
        raise
