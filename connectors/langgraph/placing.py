"""Placing: a LangGraph item (namespace, key, value) as a cube, and back.

The value's own keys are the cube's metadata, so that every front can filter by them; under "_langgraph" the metadata
also says where the item stands. The text is what the indexed fields say, so that other fronts find and quote it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from datetime import datetime, timedelta
from typing import Any, NamedTuple, cast

from langgraph.store.base import Item, SearchItem

from memos_agents.cube.canonical import JSON, canonical_json, checked_mapping
from memos_agents.cube.memcube import MemCube
from memos_agents.cube.scope import Scope, check_name
from memos_agents.errors import InvalidRequest

ABOUT = "_langgraph"
"""The metadata key that holds an item's place; a value's own key of that name is kept inside it."""
Namespace = tuple[str, ...]


class Fact(NamedTuple):
    """What one version of a cube says about its item; never changes, so it may be remembered. `value` is not a copy."""

    namespace: Namespace
    key: str
    scope: Scope
    ttl_minutes: float | None
    recorded_at: datetime
    value: Mapping[str, JSON]

    def ends_at(self, last_used_at: datetime | None) -> datetime | None:
        """When its time is over, counted from the write or the last use; None: never."""
        if self.ttl_minutes is None:
            return None
        return max(self.recorded_at, last_used_at or self.recorded_at) + timedelta(minutes=self.ttl_minutes)


def key_name(namespace: Sequence[str], key: str) -> str:
    """The cube's key for an item: readable where a key may be written so, else a digest."""
    told = canonical_json([*namespace, key])
    try:
        return check_name(f"langgraph:{told}", what="key")
    except InvalidRequest:  # too long, or with invisible characters
        return f"langgraph:sha256:{hashlib.sha256(told.encode('utf-8', 'surrogatepass')).hexdigest()}"


def metadata_of(
    namespace: Namespace,
    key: str,
    value: Mapping[str, Any],
    *,
    ttl_minutes: float | None,
    index: JSON,
    space: str | None,
) -> dict[str, JSON]:
    """The cube's metadata; `index` and `space` are kept so that the same value indexed otherwise is another version."""
    told = checked_mapping(value, what=f"the value of {key!r}")
    about: dict[str, JSON] = {"namespace": list(namespace), "key": key}
    if ttl_minutes is not None:
        about["ttl_minutes"] = ttl_minutes
    if index is not None:
        about["index"] = index
    if space is not None:
        about["space"] = space
    if ABOUT in told:
        about["value"] = told[ABOUT]
    return {**told, ABOUT: about}


def fact_of(cube: MemCube) -> Fact | None:
    """Where an item stands; None for a memory that no store of LangGraph put."""
    about = cube.metadata.get(ABOUT)
    if not isinstance(about, Mapping) or not (cube.descriptive.key or "").startswith("langgraph:"):
        return None
    namespace, key = tuple(cast("list[str]", about["namespace"])), cast(str, about["key"])
    ttl = cast("float | None", about.get("ttl_minutes"))
    return Fact(namespace, key, cube.scope, ttl, cube.recorded_at, _value_of(cube.metadata, about))


def item_of(cube: MemCube, fact: Fact) -> Item:
    """What `get` returns."""
    return Item(
        value=deepcopy(dict(fact.value)),
        key=fact.key,
        namespace=fact.namespace,
        created_at=cube.created_at,
        updated_at=cube.recorded_at,
    )


def found_of(cube: MemCube, fact: Fact, score: float | None) -> SearchItem:
    """What `search` returns."""
    return SearchItem(
        namespace=fact.namespace,
        key=fact.key,
        value=deepcopy(dict(fact.value)),
        created_at=cube.created_at,
        updated_at=cube.recorded_at,
        score=score,
    )


def _value_of(metadata: Mapping[str, JSON], about: Mapping[str, JSON]) -> dict[str, JSON]:
    value = {name: item for name, item in metadata.items() if name != ABOUT}
    if "value" in about:
        value[ABOUT] = about["value"]
    return value


def readable(value: object) -> str:
    """What a value says, for people and for search: its only text, else one "key: leaf" a line."""
    leaves = [(name, leaf) for name, leaf in _leaves(value, "") if leaf and not leaf.isspace()]
    if len(leaves) == 1:
        return leaves[0][1]
    return "\n".join(f"{name}: {leaf}" if name else leaf for name, leaf in leaves)


def _leaves(value: object, name: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _leaves(inner, str(key))
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _leaves(inner, name)
    elif value is not None:
        yield name, value if isinstance(value, str) else str(value)
