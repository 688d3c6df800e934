"""What a request says and what an answer says, in the words of both APIs (Responses and Chat Completions).

Requests hold mappings or the library's own objects, answers are the library's objects: both are read by field name, so
nothing of the library is imported and what a compatible server leaves out is simply not there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

from memos_agents.interface.layout import in_front_of
from memos_agents.interface.reader import MAX_TEXT_CHARACTERS

_TEXT_PARTS = frozenset({"text", "input_text", "output_text"})
_INSTRUCTING = frozenset({"system", "developer"})
_QUESTION_CHARACTERS = 10_000
"""As much of the end of a message as is searched for: who pastes a book asks after it."""
_RAW = "x-stainless-raw-response"
"""The header by which the library's resources ask for the HTTP response itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One call: its arguments with lists instead of iterators, what is asked, what is new, all that is said.

    `entries` is the conversation in it, `has_history` says that it is all of it and no server keeps it, `asks` that it
    ends with a message of the user. `wants_raw`: the HTTP response, from `with_raw_response` or
    `with_streaming_response`.
    """

    arguments: dict[str, Any]
    entries: Sequence[object]
    has_history: bool
    asks: bool
    question: str
    new: tuple[str, ...]
    said: frozenset[str]
    is_streamed: bool
    wants_raw: bool


def read_request(arguments: Mapping[str, Any], *, field: str) -> Request:
    """Read a request whose conversation stands in `field`: "input" or "messages".

    `question` is the user's last message with text ("" if there is none), `new` are the user's messages after the last
    thing that came from a model or a tool.
    """
    given = arguments.get(field)
    own = dict(arguments)
    if isinstance(given, str):
        entries: list[object] = [{"role": "user", "content": given}]
    elif isinstance(given, Iterable) and not isinstance(given, Mapping | bytes):
        entries = list(given)
        own[field] = entries
    else:
        entries = []
    new: list[str] = []
    for entry in reversed(entries):
        role = value_of(entry, "role")
        if role == "user":
            new.insert(0, text_of(entry))
        elif role not in _INSTRUCTING:
            break
    spoken = [(value_of(entry, "role"), text_of(entry)) for entry in entries]
    asked = next((text for role, text in reversed(spoken) if role == "user" and _says(text)), "")
    question = _storable(asked)[-_QUESTION_CHARACTERS:]
    return Request(
        arguments=own,
        entries=entries,
        has_history=field == "messages" or _carries_all(arguments),
        asks=bool(entries) and value_of(entries[-1], "role") == "user",
        question=question if _says(question) else "",
        new=tuple(text for text in new if _says(text)),
        said=frozenset(text for _, text in spoken),
        is_streamed=arguments.get("stream") is True,
        wants_raw=any(str(name).lower() == _RAW for name in arguments.get("extra_headers") or ()),
    )


def with_instructions(arguments: Mapping[str, Any], block: str) -> dict[str, Any]:
    """A Responses request that also tells `block`: in `instructions`, which no conversation on the server keeps."""
    given = arguments.get("instructions")
    told = f"{given}\n\n{block}" if isinstance(given, str) and given else block
    return {**arguments, "instructions": told}


def with_system_message(arguments: Mapping[str, Any], block: str) -> dict[str, Any]:
    """A Chat Completions request that also tells `block`, at the end of the first system message."""
    messages = list(cast("Sequence[object]", arguments["messages"]))
    first = messages[0] if messages else None
    if value_of(first, "role") in _INSTRUCTING:
        content = value_of(first, "content")
        fields = dict(first) if isinstance(first, Mapping) else {"role": value_of(first, "role")}
        if isinstance(content, str) and content:
            fields["content"] = f"{content}\n\n{block}"
        else:
            parts = list(content) if isinstance(content, Iterable) and not isinstance(content, str) else []
            fields["content"] = [*parts, {"type": "text", "text": block}] if parts else block
        messages[0] = fields
    else:
        messages.insert(0, {"role": "system", "content": block})
    return {**arguments, "messages": messages}


def with_blocks(arguments: Mapping[str, Any], field: str, blocks: Mapping[int, str]) -> dict[str, Any]:
    """A request in whose `field` blocks stand in front of what the messages with these indexes say."""
    given = arguments[field]
    if isinstance(given, str):
        return {**arguments, field: in_front_of(given, blocks[0])}
    entries = list(given)
    for index, block in blocks.items():
        entry = entries[index]
        fields = dict(entry) if isinstance(entry, Mapping) else {"role": value_of(entry, "role")}
        kind = "text" if field == "messages" else "input_text"
        entries[index] = {**fields, "content": in_front_of(value_of(entry, "content"), block, kind=kind)}
    return {**arguments, field: entries}


def text_of(entry: object) -> str:
    """The text of a message, its parts one a line; "" for anything else."""
    content = value_of(entry, "content")
    if isinstance(content, str):
        return content
    if not isinstance(content, list | tuple):
        return ""
    parts = [value_of(part, "text") for part in content if value_of(part, "type") in _TEXT_PARTS]
    return "\n".join(part for part in parts if isinstance(part, str) and part)


class Answer(NamedTuple):
    """What the model said ("": it only called tools), and the id by which the server knows the response, if it does."""

    text: str
    response_id: str | None = None


def answer_of_response(response: object) -> Answer | None:
    """The answer in a `Response`; None while, or because, there is none."""
    if value_of(response, "status") not in ("completed", "incomplete", None):  # some compatible servers leave it out
        return None
    output = value_of(response, "output")
    if not isinstance(output, list):
        return None
    messages = [text_of(item) for item in output if value_of(item, "type") == "message"]
    return Answer("\n".join(text for text in messages if text), value_of(response, "id"))


def answer_of_completion(completion: object) -> Answer | None:
    """The answer in the first choice of a `ChatCompletion`; None if there is none."""
    choices = value_of(completion, "choices")
    return Answer(text_of(value_of(choices[0], "message"))) if isinstance(choices, list) and choices else None


def value_of(thing: object, name: str) -> Any:
    """A field of a mapping or of an object; None if it is not there."""
    return thing.get(name) if isinstance(thing, Mapping) else getattr(thing, name, None)


def turns_of(text: str) -> list[str]:
    """A text as memories can hold it: without what no store keeps, in pieces if it is longer than one memory can be."""
    kept = _storable(text)
    pieces = [kept[start : start + MAX_TEXT_CHARACTERS] for start in range(0, len(kept), MAX_TEXT_CHARACTERS)]
    return [piece for piece in pieces if _says(piece)]


def _carries_all(arguments: Mapping[str, Any]) -> bool:
    """Whether a Responses request is the whole conversation, and no later one can go on with what it brings."""
    goes_on = arguments.get("previous_response_id") or arguments.get("conversation")
    return arguments.get("store") is False and not goes_on


def _storable(text: str) -> str:
    return text.replace("\x00", "\ufffd").encode(errors="replace").decode()


def _says(text: str) -> bool:
    return bool(text) and not text.isspace()
