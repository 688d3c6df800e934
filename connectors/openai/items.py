"""Items of an Agents SDK conversation as memories, and back without loss.

A message of a user or an assistant is a memory that search finds by its words. Everything else (tool calls and their
outputs, reasoning, pictures, compaction) belongs to the conversation but answers no question, so its memory has a text
without words, which no search returns. Each memory carries its item as JSON, with the words taken out: they stand in
the memory's text alone, and a text that was corrected there is corrected in the conversation.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias, cast

from memos_agents.cube.canonical import JSON, checked_text
from memos_agents.cube.memcube import MemCube
from memos_agents.cube.scope import check_name
from memos_agents.errors import InvalidRequest
from memos_agents.interface.reader import MAX_TEXT_CHARACTERS

Item: TypeAlias = dict[str, Any]
"""One item of the Responses API, as the Agents SDK keeps it."""

ITEM = "_openai_item"
"""The metadata key of an item's JSON; a leading underscore marks what is ours and no reader's business."""
LENGTHS = "_openai_text"
"""The metadata key of the lengths of the text parts that were taken out."""
WORDLESS = "…"
"""The text of a memory that no search shall find."""

_TEXT_PARTS = frozenset({"text", "input_text", "output_text"})
_SPOKEN_BY = frozenset({"user", "assistant"})


def memory_of(item: object, *, what: str) -> dict[str, object]:
    """The message to `add` for one item; `InvalidRequest` if it is not a JSON object."""
    if not isinstance(item, Mapping):
        raise InvalidRequest(f"{what} must be a JSON object, not {type(item).__name__}")
    try:  # as ASCII text: NUL and lone surrogates, which no store keeps as text, come back too; keys keep their order
        copy = cast(Item, json.loads(json.dumps(item)))
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidRequest(f"{what} cannot be written as JSON: {error}") from error
    texts = [holder[name] for holder, name in _text_places(copy)] if _is_spoken(copy) else []
    text = "\n".join(texts)
    metadata: dict[str, JSON] = {}
    if _can_be_found(text):
        for holder, name in _text_places(copy):
            holder[name] = ""
        metadata[LENGTHS] = [len(part) for part in texts]
    else:
        text = WORDLESS
    metadata[ITEM] = json.dumps(copy, separators=(",", ":"))
    return {"role": _role_of(copy), "content": text, "metadata": metadata}


def item_of(cube: MemCube) -> Item:
    """The item that `cube` was made from, with the text that it has now."""
    item = cast(Item, json.loads(cast(str, cube.metadata[ITEM])))
    lengths = cast("Sequence[int] | None", cube.metadata.get(LENGTHS))
    if lengths is not None:
        places = list(_text_places(item))
        for (holder, name), part in zip(places, _parts(cube.text, lengths), strict=True):
            holder[name] = part
    return item


def without_strays(window: Sequence[Item]) -> list[Item]:
    """The newest items of a longer conversation, without outputs whose call was cut off: servers refuse those."""
    called: set[object] = set()  # ids of calls; types of calls that have none
    kept: list[Item] = []
    for item in window:
        kind = str(item.get("type", "message"))
        if kind.endswith("_output"):
            answered = item.get("call_id") or item.get("id") or f"{kind.removesuffix('_output')}_call"
        elif kind == "mcp_approval_response":
            answered = item.get("approval_request_id")
        else:
            called |= {item.get("call_id"), item.get("id"), kind} - {None}
            answered = None
        if answered is None or answered in called:
            kept.append(item)
    return kept


def is_user_turn(item: Mapping[str, object]) -> bool:
    """Whether an item is a message of the user, with which a turn begins."""
    return item.get("role") == "user" and item.get("type", "message") == "message"


def _is_spoken(item: Item) -> bool:
    return item.get("type", "message") == "message" and item.get("role") in _SPOKEN_BY


def _text_places(item: Item) -> Iterator[tuple[dict[str, Any], str]]:
    """Where the texts of a message stand: the mapping and the key, in order."""
    content = item.get("content")
    if isinstance(content, str):
        yield item, "content"
    elif isinstance(content, list):
        for part in content:
            if isinstance(part, dict) and part.get("type") in _TEXT_PARTS and isinstance(part.get("text"), str):
                yield part, "text"


def _can_be_found(text: str) -> bool:
    if not text or text.isspace() or len(text) > MAX_TEXT_CHARACTERS:
        return False
    try:
        checked_text(text, what="text")
    except InvalidRequest:
        return False
    return True


def _parts(text: str, lengths: Sequence[int]) -> list[str]:
    """The joined text cut where it was joined; all of it in the first part if it was changed since."""
    parts: list[str] = []
    start = 0
    for length in lengths:
        parts.append(text[start : start + length])
        start += length + 1
    if "\n".join(parts) == text:
        return parts
    return [text, *[""] * (len(lengths) - 1)]


def _role_of(item: Item) -> str:
    said = item.get("role") if item.get("type", "message") == "message" else item.get("type")
    try:
        return check_name(said, what="role")
    except InvalidRequest:
        return "item"
