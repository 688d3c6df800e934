"""Messages: a `ChatMessage` as a turn to remember, and back without loss."""

from __future__ import annotations

import json
from collections.abc import Sequence

from llama_index.core.base.llms.types import ChatMessage, MessageRole, TextBlock
from pydantic_core import PydanticSerializationError

from memos_agents.connectors.llama_index.storable import exact_json, storable_text
from memos_agents.cube.memcube import MemCube
from memos_agents.errors import InvalidRequest
from memos_agents.interface.reader import MAX_TEXT_CHARACTERS, Message

MESSAGE = "_message"
"""Metadata key of the whole message, as JSON text; the cube's own text is what was said, for people and for search."""
UNSAID = "_unsaid"
"""Metadata key of a message that says nothing itself (it calls tools, shows a picture): kept, never recalled."""
INSTRUCTING = frozenset({MessageRole.SYSTEM, MessageRole.DEVELOPER})
"""Roles whose messages are the application's own instructions: kept in a log, never recalled as memories."""


def spoken(message: ChatMessage) -> str:
    """What the message says in words, its text blocks one a line; "" if nothing."""
    text = "\n".join(block.text for block in message.blocks if isinstance(block, TextBlock) and block.text)
    return "" if text.isspace() else text


def to_entry(message: ChatMessage) -> Message:
    """An entry of a log: its words, or what stands for them, with the whole message beside."""
    words = spoken(message)
    metadata: dict[str, str | bool] = {MESSAGE: packed(message)}
    if not words or message.role in INSTRUCTING:
        metadata[UNSAID] = True
    text = storable_text(words or _shown(message))[:MAX_TEXT_CHARACTERS]
    return {"role": message.role.value, "content": text, "metadata": metadata}


def to_turn(message: ChatMessage) -> Message | None:
    """What of a message is remembered for good: who said which words; None if there is nothing to recall."""
    words = spoken(message)
    if not words or message.role in INSTRUCTING:
        return None
    return {"role": message.role.value, "content": storable_text(words)[:MAX_TEXT_CHARACTERS]}


def from_cube(cube: MemCube) -> ChatMessage:
    """The message that `to_entry` packed, block for block."""
    return ChatMessage.model_validate(json.loads(str(cube.metadata[MESSAGE])))


def packed(message: ChatMessage) -> str:
    """A message as ASCII JSON; `InvalidRequest` if something in it is not JSON."""
    try:
        return exact_json(message.model_dump(mode="json"))
    except (PydanticSerializationError, TypeError, ValueError) as error:
        raise InvalidRequest(
            f"a {message.role.value} message holds something that cannot be written as JSON (look at its "
            "additional_kwargs); convert it to str, number, list or dict"
        ) from error


def question_in(messages: Sequence[ChatMessage], window: int) -> str:
    """What the last `window` messages that say something ask, oldest first; instructions are passed over."""
    said = [words for message in messages if message.role not in INSTRUCTING and (words := spoken(message))]
    return storable_text("\n".join(said[-window:]))[-MAX_TEXT_CHARACTERS:]


def _shown(message: ChatMessage) -> str:
    calls = [
        f"{getattr(block, 'tool_name', '')}({given if isinstance(given, str) else exact_json(given)})"
        for block in message.blocks
        if (given := getattr(block, "tool_kwargs", None)) is not None  # early 0.14 has no class for it
    ]
    if calls:
        return f"(calls {', '.join(calls)})"
    kinds = ", ".join(dict.fromkeys(block.block_type for block in message.blocks if not isinstance(block, TextBlock)))
    return f"({kinds or 'nothing said'})"
