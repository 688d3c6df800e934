"""warm: let a server compute the beginning of a conversation before somebody waits for it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from memos_agents.connectors.openai.client import COMPLETIONS, memory_of
from memos_agents.connectors.openai.conversation import read_request, value_of
from memos_agents.interface import recall

if TYPE_CHECKING:
    from openai import AsyncOpenAI, OpenAI

_QUESTION = {"role": "user", "content": "-"}
"""Stands where the next question will: many chat templates refuse a conversation without one."""


class Warmth(NamedTuple):
    """How many tokens the prompt had, and how many of them the server knew already; None where it does not say."""

    prompt_tokens: int | None
    cached_tokens: int | None


def warm(client: OpenAI, *, model: str, messages: Iterable[object] = (), **options: Any) -> Warmth:
    """Send the beginning of a conversation and ask for one token, so that the server's prefix cache holds it.

    `messages` is what the next request begins with: the system message alone, or a conversation so far, say after the
    server was started again. With a client that remembers, what was told in that conversation stands in it as in the
    next request; nothing is recalled and nothing recorded. `options` go with the request and should be those of the
    next one (`tools` above all, which stand before everything else). Costs what the server takes for a prompt.
    """
    plain, arguments = _prepared(client, model, messages, options)
    return _warmth(plain.chat.completions.create(**arguments))


async def awarm(client: AsyncOpenAI, *, model: str, messages: Iterable[object] = (), **options: Any) -> Warmth:
    """As `warm`, for an asynchronous client."""
    memory = memory_of(client)
    if memory is None:
        plain, arguments = _prepared(client, model, messages, options)
    else:
        plain, arguments = await recall.on_thread(memory.views.aio, _prepared, client, model, messages, options)
    return _warmth(await plain.chat.completions.create(**arguments))


def _prepared(
    client: object, model: str, messages: Iterable[object], options: dict[str, Any]
) -> tuple[Any, dict[str, Any]]:
    """The client without memory, and what it is to send."""
    memory = memory_of(client)
    request = read_request({**options, "model": model, "messages": messages}, field=COMPLETIONS.field)
    arguments = request.arguments
    if memory is not None:
        arguments = COMPLETIONS.laid_out(request, memory.teller.tell(request, recalls=False))
    if not request.asks:
        arguments = {**arguments, "messages": [*arguments["messages"], _QUESTION]}
    if not {"max_tokens", "max_completion_tokens"} & options.keys():
        arguments = {**arguments, "max_tokens": 1}
    return client if memory is None else memory.plain, arguments


def _warmth(completion: object) -> Warmth:
    usage = value_of(completion, "usage")
    return Warmth(value_of(usage, "prompt_tokens"), value_of(value_of(usage, "prompt_tokens_details"), "cached_tokens"))
