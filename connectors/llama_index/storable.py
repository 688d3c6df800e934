"""Storable: what a vault can give back exactly, and what is kept beside it where LlamaIndex allows more."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from contextlib import suppress
from typing import TypeAlias, cast

from memos_agents.cube.canonical import JSON, content_hash
from memos_agents.cube.scope import check_name
from memos_agents.errors import InvalidRequest

Fields: TypeAlias = "dict[str, JSON]"

_DIGEST = "sha256:"
_REPLACEMENT = "\ufffd"
_surrogates = re.compile("[\ud800-\udfff]")


def exact_json(value: object) -> str:
    """`value` as ASCII JSON, so that any character that Python can hold comes back: NUL and lone surrogates too."""
    return json.dumps(value, ensure_ascii=True, separators=(",", ":"))


def storable_text(text: str) -> str:
    """`text` with what no store keeps (NUL, lone surrogates) replaced; the same object if there is nothing of it."""
    if "\x00" not in text and (text.isascii() or not _surrogates.search(text)):
        return text
    return _surrogates.sub(_REPLACEMENT, text.replace("\x00", _REPLACEMENT))


def storable_json(value: object) -> JSON:
    """`value`, which must be JSON as Python reads it, without what no store keeps; NaN and infinity become null."""
    if isinstance(value, str):
        return storable_text(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {storable_text(str(key)): storable_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [storable_json(item) for item in value]
    return cast(JSON, value)


def storable_fields(value: Mapping[str, object]) -> Fields:
    """As `storable_json`, for a mapping."""
    return cast(Fields, storable_json(value))


def key_of(name: str) -> str:
    """The key of a thing that LlamaIndex calls `name`: the name itself, or its digest where it cannot be a key."""
    if not name.startswith(_DIGEST):
        with suppress(InvalidRequest):
            return check_name(name, what="id")
    return f"{_DIGEST}{content_hash(exact_json(name))}"
