"""Streams that are listened to: the caller gets every event, and the answer is told once, when it is complete.

Complete means that the server said so (`response.completed` or `response.incomplete`, a `finish_reason`). A stream that
breaks off before, by an error or because the caller stops reading, tells nothing: half an answer was not given.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from types import TracebackType
from typing import Any, Protocol, Self

from memos_agents.connectors.openai.conversation import Answer, answer_of_response, value_of


class Listener(Protocol):
    """Hears the events of one stream."""

    def hear(self, event: object) -> Answer | None:
        """Return the answer with the event that completes it, else None."""
        ...


class ResponseListener:
    """For the events of `responses.create(stream=True)`."""

    def hear(self, event: object) -> Answer | None:
        if value_of(event, "type") not in ("response.completed", "response.incomplete"):
            return None
        return answer_of_response(value_of(event, "response"))


class CompletionListener:
    """For the chunks of `chat.completions.create(stream=True)`; only the first choice is listened to."""

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._is_told = False

    def hear(self, event: object) -> Answer | None:
        for choice in value_of(event, "choices") or ():
            if value_of(choice, "index") not in (0, None):
                continue
            piece = value_of(value_of(choice, "delta"), "content")
            if isinstance(piece, str):
                self._pieces.append(piece)
            if value_of(choice, "finish_reason") is not None and not self._is_told:
                self._is_told = True
                return Answer("".join(self._pieces))
        return None


class HeardStream:
    """An `openai.Stream` with a listener; everything else is the stream's own."""

    def __init__(self, stream: Any, listener: Listener, tell: Callable[[Answer], None]) -> None:
        self._stream = stream
        self._events = self._hear(listener, tell)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def __iter__(self) -> Iterator[Any]:
        return self._events

    def __next__(self) -> Any:
        return next(self._events)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stream.close()

    def _hear(self, listener: Listener, tell: Callable[[Answer], None]) -> Iterator[Any]:
        for event in self._stream:
            if (heard := listener.hear(event)) is not None:
                tell(heard)
            yield event


class AsyncHeardStream:
    """An `openai.AsyncStream` with a listener; everything else is the stream's own."""

    def __init__(self, stream: Any, listener: Listener, tell: Callable[[Answer], Awaitable[None]]) -> None:
        self._stream = stream
        self._events = self._hear(listener, tell)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def __aiter__(self) -> AsyncIterator[Any]:
        return self._events

    async def __anext__(self) -> Any:
        return await anext(self._events)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._stream.close()

    async def _hear(self, listener: Listener, tell: Callable[[Answer], Awaitable[None]]) -> AsyncIterator[Any]:
        async for event in self._stream:
            if (heard := listener.hear(event)) is not None:
                await tell(heard)
            yield event
