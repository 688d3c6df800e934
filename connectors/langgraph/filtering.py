"""Filtering: LangGraph's conditions on a value, checked before anything is read.

Plain values compare as JSON (a mapping matches one that holds it, a list one that equals it), operators as in the core,
which also has `$in`, `$nin` and `$exists`. Unlike upstream no comparison of unlike types raises: it does not match.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias, cast

from memos_agents.cube.canonical import JSON
from memos_agents.errors import InvalidRequest
from memos_agents.operation.filters import compile_filter

Predicate: TypeAlias = Callable[[Mapping[str, Any]], bool]
_Test: TypeAlias = Callable[[Mapping[str, Any], str], bool]


def compile_conditions(filter: Mapping[str, Any] | None) -> Predicate | None:
    """Make a predicate over values; None accepts everything. `InvalidRequest` (a `ValueError`) names what is wrong."""
    if not filter:
        return None
    if not isinstance(filter, Mapping):
        raise InvalidRequest(f"filter must be a mapping, not {type(filter).__name__}")
    tests = [(key, _test(wanted)) for key, wanted in filter.items()]
    return lambda value: all(test(value, key) for key, test in tests)


def _test(wanted: object) -> _Test:
    if isinstance(wanted, Mapping) and not any(str(name).startswith("$") for name in wanted):
        inner = [(key, _test(part)) for key, part in wanted.items()]

        def holds(value: Mapping[str, Any], key: str) -> bool:
            found = value.get(key)
            return isinstance(found, Mapping) and all(test(found, name) for name, test in inner)

        return holds
    if isinstance(wanted, list | tuple):
        parts = [_test(part) for part in wanted]

        def equals(value: Mapping[str, Any], key: str) -> bool:
            found = value.get(key)
            return (
                isinstance(found, list | tuple)
                and len(found) == len(parts)
                and all(test({"": entry}, "") for test, entry in zip(parts, found, strict=True))
            )

        return equals
    if not isinstance(wanted, Mapping):
        return _equals(wanted)
    accepts = compile_filter({"it": cast(JSON, wanted)})
    asks_presence = "$exists" in wanted

    def compares(value: Mapping[str, Any], key: str) -> bool:
        return accepts({} if asks_presence and key not in value else {"it": value.get(key)})

    return compares


def _equals(wanted: object) -> _Test:
    """Equality with a plain value, as JSON has it: true is not 1."""
    if isinstance(wanted, bool):
        return lambda value, key: value.get(key) is wanted
    if isinstance(wanted, int | float):
        return lambda value, key: (found := value.get(key)) == wanted and not isinstance(found, bool)
    if wanted is None or isinstance(wanted, str):
        return lambda value, key: bool(value.get(key) == wanted)
    raise InvalidRequest(f"filter compares with {type(wanted).__name__}, which no value of JSON is")
