"""Tool calls: what a local model wrote, taken apart into text and calls.

Models write calls as their templates taught them: in `<tool_call>` tags (Hermes, Qwen, SmolLM3), or as bare JSON that
the answer begins with (Llama 3; Mistral, whose mark is a special token and not part of the text). A call is an object
with a `name` and `arguments` or `parameters`. Nothing here raises: what is no call is text or an invalid call.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any, TypeAlias
from uuid import uuid4

from langchain_core.messages import InvalidToolCall, ToolCall
from langchain_core.messages.tool import invalid_tool_call, tool_call

NewId: TypeAlias = "Callable[[], str]"

_OPEN, _CLOSE = "<tool_call>", "</tool_call>"
_DECODER = json.JSONDecoder(strict=False)  # models write line breaks inside strings
_BETWEEN = re.compile(r"[\s,;]*")
_BEGUN = re.compile(r'\[?\s*\{\s*(?:"type"\s*:\s*"function"\s*,\s*)?"name"\s*:\s*("(?:[^"\\]|\\.)*")\s*,')
_NO_JSON = "this is no JSON object, or more than that"
_ARGUMENTS = ("arguments", "parameters")


@dataclass(slots=True)
class Answer:
    """What was said, and what is called. `text` begins with whatever `certain_length` let out before."""

    text: str
    calls: list[ToolCall] = field(default_factory=list)
    invalid: list[InvalidToolCall] = field(default_factory=list)


def new_call_id() -> str:
    """Nine letters or digits: the form that the strictest templates (Mistral's) accept."""
    return uuid4().hex[:9]


def taken_apart(text: str, names: Collection[str], *, new_id: NewId = new_call_id) -> Answer:
    """Split a whole answer. `names` are the offered tools: bare JSON is a call only of one of them, else it is text.

    A tag is always a call, of whatever name. A malformed call is invalid, with its text behind a tag as `args`: bare
    JSON that broke off would be mended by LangChain where it adds up chunks, and be a call with half its arguments.
    """
    if _OPEN in text:
        return _tagged(text, new_id)
    return _bare(text, names, new_id)


def certain_length(text: str) -> int:
    """How many of the first characters of an unfinished answer are text, whatever comes. White space waits."""
    if text.lstrip()[:1] in ("{", "["):
        return 0
    place = text.find(_OPEN)
    if place < 0:  # the end may be the beginning of a tag
        begun = next((size for size in range(len(_OPEN) - 1, 0, -1) if text.endswith(_OPEN[:size])), 0)
        place = len(text) - begun
    return len(text[:place].rstrip())


def _tagged(text: str, new_id: NewId) -> Answer:
    found, said, place = Answer(""), [], 0
    while (begin := text.find(_OPEN, place)) >= 0:
        said.append(text[place:begin])
        values, end = _values(text, _after(text, begin + len(_OPEN)))
        is_whole = bool(values) and (end == len(text) or text.startswith((_CLOSE, _OPEN), end))
        if not is_whole:
            end = min((at for mark in (_CLOSE, _OPEN) if (at := text.find(mark, end)) >= 0), default=len(text))
        place = end + len(_CLOSE) if text.startswith(_CLOSE, end) else end
        if is_whole:
            _sort(values, found, new_id, raw=text[begin:place])
        else:
            found.invalid.append(_invalid(text[begin:place], _NO_JSON, new_id))
    found.text = "".join([*said, text[place:]]).rstrip()
    return found


def _bare(text: str, names: Collection[str], new_id: NewId) -> Answer:
    begin = len(text) - len(text.lstrip())
    if text[begin : begin + 1] not in ("{", "["):
        return Answer(text)
    values, end = _values(text, begin)
    if not all(_is_of(value, names) for value in values):
        return Answer(text)
    found = Answer("")
    _sort(values, found, new_id, raw=f"{_OPEN}{text[begin:end].rstrip()}{_CLOSE}")
    begun = _BEGUN.match(text, end)
    if begun is not None and _name(begun[1]) in names:  # the last of them, or the only one, broke off
        found.invalid.append(_invalid(_OPEN + text[end:], _NO_JSON, new_id, name=_name(begun[1])))
    elif values:
        found.text = text[end:].rstrip()
    else:
        found.text = text
    return found


def _values(text: str, place: int) -> tuple[list[Any], int]:
    """The JSON objects from `place` on, lists opened, and where they and the space behind them end."""
    found: list[Any] = []
    while text[place : place + 1] in ("{", "["):
        try:
            value, place = _DECODER.raw_decode(text, place)
        except (ValueError, RecursionError):
            break
        found.extend(value if isinstance(value, list) else [value])
        place = _after(text, place)
    return found, place


def _after(text: str, place: int) -> int:
    gap = _BETWEEN.match(text, place)
    return place if gap is None else gap.end()


def _is_of(value: object, names: Collection[str]) -> bool:
    plain = _plain(value)
    return isinstance(plain.get("name"), str) and plain["name"] in names and any(key in plain for key in _ARGUMENTS)


def _sort(values: list[Any], into: Answer, new_id: NewId, *, raw: str) -> None:
    for value in values:
        plain = _plain(value)
        name, arguments = plain.get("name"), _arguments(plain)
        if not isinstance(name, str) or not name:
            into.invalid.append(_invalid(raw, "it names no tool", new_id))
        elif arguments is None:
            into.invalid.append(_invalid(raw, "its arguments are no JSON object", new_id, name=name))
        else:
            into.calls.append(tool_call(name=name, args=arguments, id=new_id()))


def _plain(value: object) -> dict[str, Any]:
    """A call without the wrapping in which OpenAI writes it."""
    inner = value.get("function", value) if isinstance(value, dict) else None
    return inner if isinstance(inner, dict) else {}


def _arguments(plain: dict[str, Any]) -> dict[str, Any] | None:
    """The arguments; none given are none needed. None if they are no object."""
    given: object = next((plain[key] for key in _ARGUMENTS if plain.get(key) is not None), {})
    if isinstance(given, str):
        try:
            given = _DECODER.decode(given)
        except (ValueError, RecursionError):
            return None
    return given if isinstance(given, dict) else None


def _name(quoted: str) -> str:
    try:
        return str(_DECODER.decode(quoted))
    except ValueError:
        return ""


def _invalid(raw: str, error: str, new_id: NewId, *, name: str | None = None) -> InvalidToolCall:
    return invalid_tool_call(name=name, args=raw, id=new_id(), error=error)
