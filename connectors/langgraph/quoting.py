"""Quoting: items of any LangGraph store as a block that may stand in a prompt."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC

from langgraph.store.base import Item

from memos_agents.connectors.langgraph.everything import is_everything
from memos_agents.cube.canonical import checked_mapping
from memos_agents.interface.quoting import framed, quoted_json
from memos_agents.interface.recall import MAX_TOKENS, estimate_tokens


def quoted(
    items: Iterable[Item], *, max_tokens: int | None = MAX_TOKENS, count_tokens: Callable[[str], int] | None = None
) -> str:
    """The items as quotations with their time and source, one a line, never as instructions; "" for none.

    In order, while the whole stays within `max_tokens` (None: all); one that does not fit is passed over. Works on the
    items of any store; an item of a namespace that ends in "memos" keeps the time and source that it tells itself.
    """
    count = count_tokens or estimate_tokens
    left = None if max_tokens is None else max_tokens - count(framed([""]))
    lines: list[str] = []
    for item in items:
        line = _line(item)
        if left is not None:
            cost = count(line + "\n")
            if cost > left:
                continue
            left -= cost
        lines.append(line)
    return framed(lines)


def _line(item: Item) -> str:
    value = checked_mapping(item.value, what="the value of an item")
    if is_everything(item.namespace):
        return quoted_json(value)
    source = "/".join((*item.namespace, item.key))
    time = item.updated_at.astimezone(UTC).strftime("%Y-%m-%dT%H:%MZ")
    return quoted_json({"time": time, "source": source, "value": value})
