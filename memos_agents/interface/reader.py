"""What callers pass to `add`, turned into validated items: text, chat messages of four spellings, documents.

Everything is checked here, before anything is embedded or written; what comes out is trusted below. Frameworks are
recognised by the shape of what they write, never imported.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from datetime import datetime
from typing import TypeAlias, TypedDict, cast

from memos_agents.cube.canonical import JSON, checked_mapping, checked_text
from memos_agents.cube.metadata import Descriptive
from memos_agents.cube.moment import utc
from memos_agents.cube.scope import check_name
from memos_agents.errors import InvalidRequest
from memos_agents.operation.organization import NewMemory

MAX_TEXT_CHARACTERS = 1_000_000
"""Longest text of one memory. What is longer is a book, and should be remembered in parts that can be found."""
SHAPES = (
    'a str; a message {"role", "content", "name"?, "created_at"? or "timestamp"?, "metadata"?} (content: str or a list '
    'of {"type": "text", "text"} parts); a LangChain message {"type", "data": {"content"}} or {"type", "content"}; '
    'a LlamaIndex message {"role", "blocks"}; a document {"page_content" or "text", "metadata"?}; or a list of these'
)

_ROLES = {"human": "user", "HumanMessage": "user", "ai": "assistant", "AIMessage": "assistant",
          "AIMessageChunk": "assistant", "HumanMessageChunk": "user", "SystemMessage": "system",
          "ToolMessage": "tool", "FunctionMessage": "function"}  # fmt: skip
_TEXT_PARTS = frozenset({"text", "input_text", "output_text"})
_CALL_PARTS = frozenset({"tool_use", "tool_call", "tool-call", "function_call", "server_tool_use"})


class Message(TypedDict, total=False):
    """A chat message as a plain mapping. `role` and `content` are required; times: aware datetimes or ISO strings.

    `timestamp` says the same as `created_at`, which goes before it. Other fields are not kept: use `metadata`.
    """

    role: str
    content: str | Sequence[Mapping[str, object]] | None
    name: str | None
    created_at: str | datetime | None
    timestamp: str | datetime | None
    metadata: Mapping[str, JSON] | None


Item: TypeAlias = "str | Message | Mapping[str, object]"
Content: TypeAlias = "Item | Iterable[Item]"
"""What `add` takes."""


def read_items(
    content: object, *, base: Descriptive, semantic_type: str | None = None, metadata: Mapping[str, JSON]
) -> list[NewMemory]:
    """Return one item for each thing in `content` that has text, in order.

    `base` describes a str; a message's own role, name and time go before it, its own `metadata` is laid over
    `metadata`. `semantic_type` None is 'turn' for a message and 'document' for a document.
    Messages that only call tools have no text and are left out; pictures and other parts beside text are not
    kept. Raises `InvalidRequest` that names the place: another shape, no text, more than `MAX_TEXT_CHARACTERS`.

    >>> base = Descriptive(semantic_type="fact")
    >>> items = read_items(["Hi", {"role": "user", "content": "I moved."}], base=base, metadata={})
    >>> [(item.text, item.descriptive.role, item.descriptive.semantic_type) for item in items]
    [('Hi', None, 'fact'), ('I moved.', 'user', 'turn')]
    """
    if isinstance(content, str):
        return [NewMemory(text=checked_content(content, what="content"), metadata=metadata, descriptive=base)]
    if isinstance(content, Mapping) or not isinstance(content, Iterable) or _looks_like_item(content):
        one = _read_one(content, "content", base, semantic_type, metadata)
        return [] if one is None else [one]
    if isinstance(content, bytes | bytearray | memoryview):
        raise InvalidRequest(f"content is {type(content).__name__}; decode it to str first")
    items: list[NewMemory] = []
    for index, entry in enumerate(content):
        what = f"content[{index}]"
        if isinstance(entry, str):
            text = checked_content(entry, what=what)
            items.append(NewMemory(text=text, metadata=_own(metadata), descriptive=base))
        elif (one := _read_one(entry, what, base, semantic_type, metadata)) is not None:
            items.append(one)
    return items


def checked_content(text: object, *, what: str) -> str:
    """Return `text` if it can be one memory: a str that says something, valid Unicode, not too long."""
    if not isinstance(text, str):
        raise InvalidRequest(f"{what} must be a str, not {type(text).__name__}")
    if len(text) > MAX_TEXT_CHARACTERS:
        raise InvalidRequest(
            f"{what} has {len(text):,} characters, more than the {MAX_TEXT_CHARACTERS:,} that one memory can hold; "
            "split it (by chapter, page or paragraph) and add the parts as a list",
            characters=len(text),
        )
    if not text or text.isspace():
        raise InvalidRequest(f"{what} is empty ({text[:20]!r}); give some text")
    return checked_text(text, what=what)


def _looks_like_item(value: object) -> bool:
    """Whether a framework's object that happens to be iterable (pydantic models are) is one message or document."""
    return hasattr(value, "page_content") or (
        hasattr(value, "content") and (hasattr(value, "role") or hasattr(value, "type"))
    )


def _read_one(
    value: object, what: str, base: Descriptive, semantic_type: str | None, metadata: Mapping[str, JSON]
) -> NewMemory | None:
    fields = value if isinstance(value, Mapping) else _fields_of(value, what)
    if "role" in fields or "type" in fields or "lc" in fields:
        found = _message(fields, what)
        if found is not None:
            return _read_message(*found, what, base, semantic_type, metadata)
    for name in ("page_content", "text"):
        if name in fields:
            text = checked_content(fields[name], what=f"{what}[{name!r}]")
            descriptive = replace(base, semantic_type=semantic_type or "document")
            return NewMemory(text=text, metadata=_overlaid(metadata, fields, what), descriptive=descriptive)
    raise _unknown(what, f"a mapping with the keys {sorted(map(str, fields))[:12]}")


def _message(fields: Mapping[str, object], what: str) -> tuple[str, Mapping[str, object]] | None:
    """The role and the fields of a message in one of its spellings; None if it is not a message."""
    role, kind = fields.get("role"), fields.get("type")
    if role is not None and not isinstance(role, str):
        raise InvalidRequest(f"{what}['role'] must be a str, not {type(role).__name__}")
    if isinstance(role, str) and ("content" in fields or "blocks" in fields or _calls_tools(fields)):
        return _ROLES.get(role, str.__str__(role)), fields
    if isinstance(kind, str):
        data, arguments = fields.get("data"), fields.get("kwargs")
        if isinstance(data, Mapping) and "content" in data:  # LangChain's message_to_dict
            return _langchain_role(kind, data), data
        if kind == "constructor" and isinstance(arguments, Mapping) and "content" in arguments:  # LangChain's dumpd
            path = fields.get("id")
            name = str(path[-1]) if isinstance(path, list | tuple) and path else str(arguments.get("type"))
            return _langchain_role(name, arguments), arguments
        if "content" in fields:
            return _langchain_role(kind, fields), fields
    return None


def _langchain_role(kind: str, fields: Mapping[str, object]) -> str:
    role = fields.get("role")  # of a ChatMessage
    return _ROLES.get(kind, kind) if not isinstance(role, str) else _ROLES.get(role, str.__str__(role))


def _read_message(
    role: str,
    fields: Mapping[str, object],
    what: str,
    base: Descriptive,
    semantic_type: str | None,
    metadata: Mapping[str, JSON],
) -> NewMemory | None:
    raw = fields["content"] if fields.get("content") is not None else fields.get("blocks")
    text = raw if isinstance(raw, str) else _joined(raw, what)
    if not text and (_calls_tools(fields) or _only_calls(raw)):
        return None
    name, created, when = fields.get("name"), fields.get("created_at"), "created_at"
    if created is None and fields.get("timestamp") is not None:
        created, when = fields["timestamp"], "timestamp"
    descriptive = Descriptive(
        semantic_type=semantic_type or "turn",
        origin=base.origin,
        role=check_name(role, what=f"{what}['role']"),
        name=base.name if name is None else check_name(name, what=f"{what}['name']"),
        title=base.title,
        tags=base.tags,
        language=base.language,
        collection=base.collection,
        key=base.key,
        occurred_at=base.occurred_at if created is None else utc(created, what=f"{what}[{when!r}]"),
        valid_from=base.valid_from,
        valid_to=base.valid_to,
    )
    return NewMemory(
        text=checked_content(text, what=f"{what}['content']"),
        metadata=_overlaid(metadata, fields, what),
        descriptive=descriptive,
    )


def _overlaid(metadata: Mapping[str, JSON], fields: Mapping[str, object], what: str) -> dict[str, JSON]:
    own = fields.get("metadata")
    merged = _own(metadata)
    if own:
        merged.update(checked_mapping(own, what=f"{what}['metadata']"))
    elif own is not None and not isinstance(own, Mapping):
        raise InvalidRequest(f"{what}['metadata'] must be a JSON mapping, not {type(own).__name__}")
    return merged


def _own(metadata: Mapping[str, JSON]) -> dict[str, JSON]:
    """A copy for one memory: what a caller does to the one it got back must not show in another."""
    is_flat = not any(isinstance(value, dict | list) for value in metadata.values())
    return dict(metadata) if is_flat else cast("dict[str, JSON]", deepcopy(metadata))


def _joined(parts: object, what: str) -> str:
    """The text parts of a message, one a line."""
    if parts is None:
        return ""
    if isinstance(parts, Mapping) or not isinstance(parts, Iterable) or isinstance(parts, bytes | bytearray):
        raise InvalidRequest(f"{what}['content'] must be a str or a list of parts, not {type(parts).__name__}")
    texts: list[str] = []
    for index, part in enumerate(parts):
        if isinstance(part, str):
            texts.append(part)
            continue
        if not isinstance(part, Mapping):
            part = _fields_of(part, f"{what}['content'][{index}]")
        if _kind_of(part) in _TEXT_PARTS:
            text = part.get("text")
            if not isinstance(text, str):
                raise InvalidRequest(f"{what}['content'][{index}]['text'] must be a str, not {type(text).__name__}")
            if text:
                texts.append(text)
    return "\n".join(texts)


def _kind_of(part: Mapping[str, object]) -> str:
    return str(part.get("type") or part.get("block_type") or ("text" if "text" in part else ""))


def _calls_tools(fields: Mapping[str, object]) -> bool:
    extra = fields.get("additional_kwargs")
    places = (fields, extra) if isinstance(extra, Mapping) else (fields,)
    return any(place.get(name) for place in places for name in ("tool_calls", "function_call"))


def _only_calls(parts: object) -> bool:
    return (
        isinstance(parts, list | tuple)
        and bool(parts)
        and all(isinstance(part, Mapping) and _kind_of(part) in _CALL_PARTS for part in parts)
    )


_FIELDS = ("role", "type", "content", "blocks", "name", "tool_calls", "page_content", "text", "metadata", "created_at",
           "timestamp", "additional_kwargs", "block_type")  # fmt: skip


def _fields_of(value: object, what: str) -> Mapping[str, object]:
    """The fields of a framework's message or document object; `InvalidRequest` if it is none."""
    if value is not None and not isinstance(
        value, str | bytes | bytearray | list | tuple | set | int | float | datetime
    ):
        fields = {name: getattr(value, name) for name in _FIELDS if hasattr(value, name)}
        if fields.keys() & {"content", "blocks", "page_content", "text"}:
            return cast("Mapping[str, object]", fields)
    if isinstance(value, bytes | bytearray):
        raise InvalidRequest(f"{what} is {type(value).__name__}; decode it to str first")
    raise _unknown(what, "None" if value is None else f"a {type(value).__name__}")


def _unknown(what: str, found: str) -> InvalidRequest:
    return InvalidRequest(f"{what} is {found}, which cannot be remembered. Accepted: {SHAPES}")
