"""Fitting: which memories a prompt has room for."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from memos_agents.cube.memcube import MemCube
from memos_agents.errors import InvalidRequest
from memos_agents.interface.quoting import framed, quote
from memos_agents.interface.results import Hit

MAX_TOKENS = 1_000
"""Default budget of a rendered block, in tokens as `estimate_tokens` counts them."""


def fitting(
    found: Iterable[Hit | MemCube],
    *,
    max_tokens: int | None = MAX_TOKENS,
    count_tokens: Callable[[str], int] | None = None,
) -> list[MemCube]:
    """The cubes of `found` that fit the budget together with the block's frame, in order, each once."""
    count = count_tokens or estimate_tokens
    if max_tokens is not None and (isinstance(max_tokens, bool) or not isinstance(max_tokens, int) or max_tokens < 0):
        raise InvalidRequest(f"max_tokens is {max_tokens!r}; it must be an int of at least 0, or None for no bound")
    chosen: dict[str, MemCube] = {}
    left = None if max_tokens is None else max_tokens - count(framed([""]))
    for entry in found:
        cube = entry.cube if isinstance(entry, Hit) else entry
        if cube.id in chosen or not cube.text:
            continue
        if left is not None:
            cost = count(quote(cube) + "\n")
            if cost > left:
                continue
            left -= cost
        chosen[cube.id] = cube
    return list(chosen.values())


def estimate_tokens(text: str) -> int:
    """About how many tokens a model makes of `text`, without its tokenizer: 4 ASCII characters or 1 other one each."""
    others = sum(not character.isascii() for character in text)
    return -(-(len(text) - others) // 4) + others
