"""Canonical JSON: one byte string for one value, so that hashes can be compared across processes and versions.

Keys sorted, no spaces, UTF-8 as it is, no NaN. Close to RFC 8785; we differ in that floats are written as Python
writes them (shortest round trip), which every vault here shares.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from typing import TypeAlias, cast

from memos_agents.errors import InvalidRequest

JSON: TypeAlias = "None | bool | int | float | str | Sequence[JSON] | Mapping[str, JSON]"

_encode = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False).encode
MAX_DEPTH = 64


def canonical_json(value: JSON) -> str:
    """Write `value` canonically.

    >>> canonical_json({"b": 1, "a": [True, None]})
    '{"a":[true,null],"b":1}'
    """
    return _encode(value)


def content_hash(value: JSON) -> str:
    """SHA-256 of the canonical form, as 64 hexadecimal digits."""
    return hashlib.sha256(_encode(value).encode()).hexdigest()


def checked_json(value: object, *, what: str) -> JSON:
    """Deep-copy `value` if it is plain JSON, else raise `InvalidRequest` naming `what` and the place.

    Refused: keys that are not strings, NaN and infinity, lone surrogates, NUL, other types, nesting beyond 64.
    """
    return _checked(value, what, 0)


def checked_mapping(value: object, *, what: str) -> dict[str, JSON]:
    """As `checked_json`, for a mapping at the top; None gives an empty one."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise InvalidRequest(f"{what} must be a JSON mapping, not {type(value).__name__}")
    return cast("dict[str, JSON]", checked_json(value, what=what))


def checked_text(text: object, *, what: str) -> str:
    """Return `text` if it can be stored and given back exactly, else raise `InvalidRequest`."""
    if not isinstance(text, str):
        raise InvalidRequest(f"{what} must be a str, not {type(text).__name__}")
    if "\x00" in text:
        raise InvalidRequest(f"{what} holds a NUL character, which no store gives back reliably; remove it")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InvalidRequest(
                f"{what} holds a lone surrogate at position {error.start}, which is not valid Unicode; "
                "decode the bytes with errors='replace' first"
            ) from error
    return text


def _checked(value: object, what: str, depth: int) -> JSON:
    if value is None or value is True or value is False or type(value) is int:
        return value
    if isinstance(value, str):
        return checked_text(value, what=what)
    if depth >= MAX_DEPTH:
        raise InvalidRequest(f"{what} is nested deeper than {MAX_DEPTH} levels")
    if isinstance(value, float):
        if not math.isfinite(value):
            raise InvalidRequest(f"{what} is {value!r}; JSON has no NaN or infinity")
        return float(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, Mapping):
        copy: dict[str, JSON] = {}
        for key, item in value.items():
            if not isinstance(key, str):
                raise InvalidRequest(f"{what} has the key {key!r}; keys must be strings")
            copy[checked_text(key, what=f"a key of {what}")] = _checked(item, f"{what}.{key}", depth + 1)
        return copy
    if isinstance(value, list | tuple):
        return [_checked(item, f"{what}[{index}]", depth + 1) for index, item in enumerate(value)]
    raise InvalidRequest(
        f"{what} is a {type(value).__name__}, which is not JSON; convert it to str, number, list or dict"
    )
