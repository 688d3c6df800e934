"""with_memory: an OpenAI client that remembers."""

from __future__ import annotations

import copy
import functools
import inspect
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
    with_blocks,
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
from memos_agents.connectors.openai.telling import Teller, Telling
from memos_agents.cube.scope import Scope
from memos_agents.errors import InvalidRequest, MemOSError
from memos_agents.interface import recall
from memos_agents.interface.arguments import count_of
from memos_agents.interface.layout import Layout, check_layout

if TYPE_CHECKING:
    from openai import AsyncOpenAI, OpenAI

Client = TypeVar("Client", bound="OpenAI | AsyncOpenAI")

_AGENT = "openai.with_memory"


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
    layout: Layout = "append",
) -> Client:
    """Return a client like `client` whose answers come with memory; `client` itself stays as it is.

    `responses.create`, `.parse` and `.stream` and `chat.completions.create`, `.parse` and `.stream` search for what the
    user said last, tell the model at most `limit` memories for it, as quotations that no conversation keeps, and
    record the user's new messages and the answer once it is complete. A stream that breaks off, a failed or a
    background answer records nothing. Everything else passes through.

    Whose: as for every connector; `session_id` is where a conversation is recorded, while recall looks at everything of
    the user or agent.

    `layout` "append": what was told in a conversation stays told, in the same bytes and at the same place, so that the
    server's prefix cache keeps hitting; once it is more than `max_tokens` it begins anew. The first memories stand at
    the end of `instructions` or the system message, later ones in front of the message that they were recalled for;
    where the server keeps the history, all of them in `instructions`. "fresh": those for the last message alone, in
    front of it (or in `instructions`). See `docs/serving.md`.

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
    session_id = views.sync.scoped(session_id=session_id).scope.session_id
    teller = Teller(
        views,
        session_id,
        limit=count_of(limit, what="limit"),
        max_tokens=count_of(max_tokens, what="max_tokens", most=10**7),
        layout=check_layout(layout),
    )
    memory = Memory(client, teller, views, session_id)
    return _remembering(client, memory)


class Dialect(NamedTuple):
    """How one of the two APIs says things."""

    field: str
    told: Callable[[Mapping[str, Any], str], dict[str, Any]]
    answer: Callable[[object], Answer | None]
    listener: Callable[[], Listener]

    def laid_out(self, request: Request, telling: Telling) -> dict[str, Any]:
        """The arguments of a request that also tells."""
        arguments = request.arguments
        if telling.before:
            arguments = with_blocks(arguments, self.field, telling.before)
        return self.told(arguments, telling.start) if telling.start else arguments


_RESPONSES = Dialect("input", with_instructions, answer_of_response, ResponseListener)
COMPLETIONS = Dialect("messages", with_system_message, answer_of_completion, CompletionListener)


class Memory:
    """What one client recalls and records; `plain` is the client without it."""

    def __init__(
        self, plain: OpenAI | AsyncOpenAI, teller: Teller, views: recall.Views, session_id: str | None
    ) -> None:
        self.plain, self.teller, self.views = plain, teller, views
        self._session_id = session_id

    def speaking_through(self, plain: OpenAI | AsyncOpenAI) -> Memory:
        """The same memory with another client."""
        return Memory(plain, self.teller, self.views, self._session_id)

    def prepare(self, request: Request, dialect: Dialect) -> tuple[dict[str, Any], Telling]:
        """The arguments of the call that also tells what is remembered, and what that is."""
        telling = self.teller.tell(request)
        return dialect.laid_out(request, telling), telling

    def record(self, request: Request, telling: Telling, answer: Answer) -> None:
        """Keep what was said, and in mind what was told."""
        said = [*(("user", text) for text in request.new), ("assistant", answer.text)]
        messages = [{"role": role, "content": piece} for role, text in said for piece in turns_of(text)]
        if messages:
            self.views.sync.add(messages, session_id=self._session_id, agent=_AGENT, origin=_AGENT, merge=False)
        self.teller.keep(telling, answer.response_id)


def memory_of(client: object) -> Memory | None:
    """What a client recalls and records; None for one that was not made by `with_memory`."""
    found = vars(client).get("_memos")
    return found if isinstance(found, Memory) else None


def _remembering(client: Client, memory: Memory) -> Client:
    """A shallow copy that shares the connections, with resources of its own."""
    wrapped = copy.copy(client)
    own = vars(wrapped)
    own["_memos"] = memory
    for name in ("responses", "chat", "with_raw_response", "with_streaming_response"):
        own.pop(name, None)  # resources that the original has made already
    wrap = _wrap_async if _is_async(client) else _wrap
    own["responses"] = _with_calls(copy.copy(client.responses), wrap, _RESPONSES, memory)
    own["chat"] = chat = copy.copy(client.chat)
    for name in ("completions", "with_raw_response", "with_streaming_response"):
        vars(chat).pop(name, None)
    vars(chat)["completions"] = _with_calls(copy.copy(client.chat.completions), wrap, COMPLETIONS, memory)

    make: Callable[..., Any] = client.copy

    @functools.wraps(make)
    def copied(*args: Any, **kwargs: Any) -> Any:
        made = make(*args, **kwargs)
        return _remembering(made, memory.speaking_through(made))

    own["copy"] = own["with_options"] = copied
    return wrapped


def _is_async(client: object) -> bool:
    from openai import AsyncOpenAI

    return isinstance(client, AsyncOpenAI)


def _with_calls(resource: Any, wrap: Callable[..., Any], dialect: Dialect, memory: Memory) -> Any:
    """`resource` with its two calls wrapped; its other helpers (`stream`, raw responses) are made of these."""
    own = vars(resource)
    for name in ("with_raw_response", "with_streaming_response"):
        own.pop(name, None)
    for name in ("create", "parse"):
        own[name] = wrap(getattr(resource, name), dialect, memory)
    return resource


def _wrap(call: Callable[..., Any], dialect: Dialect, memory: Memory) -> Callable[..., Any]:
    @functools.wraps(call)
    def remembering(**arguments: Any) -> Any:
        request = read_request(arguments, field=dialect.field)
        arguments, telling = memory.prepare(request, dialect)
        result = call(**arguments)

        def tell(answer: Answer) -> None:
            memory.record(request, telling, answer)

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


def _wrap_async(call: Callable[..., Any], dialect: Dialect, memory: Memory) -> Callable[..., Any]:
    aio = memory.views.aio

    @functools.wraps(call)
    async def remembering(**arguments: Any) -> Any:
        request = read_request(arguments, field=dialect.field)
        arguments, telling = await recall.on_thread(aio, memory.prepare, request, dialect)
        result = await call(**arguments)

        async def tell(answer: Answer) -> None:
            await recall.on_thread(aio, memory.record, request, telling, answer)

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
