"""Filters: LlamaIndex's metadata filters as a predicate, nested groups included.

On one flat group that LlamaIndex's own `build_metadata_filter_fn` can evaluate, the answer is the same, with one
exception: a str given to ANY or ALL is one value, not its letters. Where that function raises because a node's value is
of another type than the filter's, the node does not match here: one odd node must not fail a query for all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import ge, gt, le, lt
from typing import Any, TypeAlias

from llama_index.core.vector_stores.types import FilterCondition, FilterOperator, MetadataFilter, MetadataFilters

from memos_agents.errors import InvalidRequest

Predicate: TypeAlias = Callable[[Mapping[str, object]], bool]

_TEXT = frozenset({FilterOperator.TEXT_MATCH, FilterOperator.TEXT_MATCH_INSENSITIVE})
_ORDERS: dict[FilterOperator, Callable[[Any, Any], Any]] = {
    FilterOperator.GT: gt,
    FilterOperator.GTE: ge,
    FilterOperator.LT: lt,
    FilterOperator.LTE: le,
}
_LISTS = frozenset({FilterOperator.IN, FilterOperator.NIN})
_UNEQUAL = frozenset({FilterOperator.NE, FilterOperator.NIN})


def compile_filters(filters: MetadataFilters | None) -> Predicate | None:
    """A predicate over a node's metadata; None where every node matches. `InvalidRequest` for what cannot be meant.

    AND: all of the group match, OR: at least one, NOT: none of them. An empty group matches everything.
    """
    if filters is None or not filters.filters:
        return None
    parts = [_part(entry) for entry in filters.filters]
    condition = filters.condition or FilterCondition.AND
    if condition == FilterCondition.AND:
        return lambda metadata: all(part(metadata) for part in parts)
    if condition == FilterCondition.OR:
        return lambda metadata: any(part(metadata) for part in parts)
    return lambda metadata: not any(part(metadata) for part in parts)


def _part(entry: MetadataFilter | MetadataFilters) -> Predicate:
    if isinstance(entry, MetadataFilters):
        return compile_filters(entry) or (lambda metadata: True)
    key, operator, value = entry.key, entry.operator, entry.value
    _check(entry)
    return lambda metadata: _matches(operator, metadata.get(key), value)


def _check(entry: MetadataFilter) -> None:
    operator, value = entry.operator, entry.value
    if operator in _TEXT and not isinstance(value, str):
        raise InvalidRequest(f"the filter on {entry.key!r} is a {operator.value} and needs a str, not {value!r}")
    if operator in _LISTS and not isinstance(value, list | str):
        raise InvalidRequest(f"the filter on {entry.key!r} is an {operator.value!r} and needs a list, not {value!r}")


def _matches(operator: FilterOperator, found: object, value: object) -> bool:
    if operator == FilterOperator.IS_EMPTY:
        return found is None or found in ("", [])
    if found is None:
        return operator in _UNEQUAL
    match operator:
        case FilterOperator.EQ:
            return found == value
        case FilterOperator.NE:
            return found != value
        case FilterOperator.IN:
            return _holds(value, found)
        case FilterOperator.NIN:
            return not _holds(value, found)
        case FilterOperator.CONTAINS:
            return _holds(found, value)
        case FilterOperator.ANY:
            return any(_holds(found, choice) for choice in _several(value))
        case FilterOperator.ALL:
            return all(_holds(found, choice) for choice in _several(value))
        case FilterOperator.TEXT_MATCH:
            return isinstance(found, str) and str(value) in found
        case FilterOperator.TEXT_MATCH_INSENSITIVE:
            return isinstance(found, str) and str(value).lower() in found.lower()
        case _:
            return _is_ordered(operator, found, value)


def _is_ordered(operator: FilterOperator, found: object, value: object) -> bool:
    try:
        return bool(_ORDERS[operator](found, value))
    except TypeError:  # numbers and strings, say, have no order
        return False


def _holds(container: object, value: object) -> bool:
    """Python's `value in container`, False where that has no answer."""
    if isinstance(container, str):
        return isinstance(value, str) and value in container
    if isinstance(container, Mapping):
        return isinstance(value, str) and value in container
    return isinstance(container, Sequence) and value in container


def _several(value: object) -> Sequence[object]:
    return value if isinstance(value, list) else [value]
