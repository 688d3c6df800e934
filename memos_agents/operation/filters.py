"""Filters: a condition on metadata, given as JSON, made into a predicate. LangGraph's operator spelling.

Checked once, before anything is read: a misspelt operator must not quietly match nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeAlias

from memos_agents.cube.canonical import JSON, checked_mapping
from memos_agents.errors import InvalidRequest

Predicate: TypeAlias = Callable[[Mapping[str, JSON]], bool]


class _Missing:
    """The value of a key that is not there; differs from a JSON null."""


_Found: TypeAlias = "JSON | _Missing"
_Test: TypeAlias = Callable[[_Found], bool]


_MISSING: Final = _Missing()
_OPERATORS: Final = ("$eq", "$ne", "$gt", "$gte", "$lt", "$lte", "$in", "$nin", "$exists")
_LOGIC: Final = ("$and", "$or", "$not")


def compile_filter(filter: Mapping[str, JSON] | None) -> Predicate:
    """Make a predicate over a cube's metadata; None and {} accept everything.

    `{"city": "Lisbon", "age": {"$gte": 18, "$lt": 65}}` means all of it. A dotted key reaches into nested mappings
    unless the metadata has that very key. Operators: `$eq $ne $gt $gte $lt $lte $in $nin $exists`; `$and`, `$or` (lists
    of filters) and `$not` (a filter) stand where a key would. A plain value means equality; `$ne` and `$nin` also match
    where the key is absent.

    Numbers compare with numbers and strings with strings, by code point; unlike types are unequal and unordered, and
    a bool is not a number. Raises `InvalidRequest` for an unknown operator or an operand of the wrong shape.

    >>> adults = compile_filter({"age": {"$gte": 18}})
    >>> adults({"age": 30}), adults({"age": "30"}), adults({})
    (True, False, False)
    """
    return _all(_conditions(checked_mapping(filter, what="filter"), "filter"))


def _conditions(filter: Mapping[str, JSON], where: str) -> list[Predicate]:
    return [
        _logic(key, value, where) if key.startswith("$") else _field(key, value, where) for key, value in filter.items()
    ]


def _logic(operator: str, value: JSON, where: str) -> Predicate:
    place = f"{where}.{operator}"
    if operator == "$not":
        inner = _all(_conditions(_mapping(value, place), place))
        return lambda metadata: not inner(metadata)
    if operator not in _LOGIC:
        hint = " inside a key, as in {'age': {'$gt': 3}}" if operator in _OPERATORS else ""
        raise InvalidRequest(f"{where} has {operator!r} where a key is expected; use {', '.join(_LOGIC)}{hint}")
    parts = [_all(_conditions(_mapping(part, place), place)) for part in _list(value, place)]
    if operator == "$and":
        return _all(parts)
    return lambda metadata: any(part(metadata) for part in parts)


def _field(key: str, value: JSON, where: str) -> Predicate:
    place = f"{where}.{key}"
    tests: list[_Test] = []
    if isinstance(value, Mapping) and any(name.startswith("$") for name in value):
        tests = [_test(name, operand, place) for name, operand in value.items()]
    elif isinstance(value, Mapping) and value and all(f"${name}" in _OPERATORS for name in value):
        spelled = ", ".join(f"'${name}'" for name in value)
        raise InvalidRequest(f"{place} has operators without their sign; write {spelled}")
    else:
        tests = [_test("$eq", value, place)]
    path = key.split(".")

    def matches(metadata: Mapping[str, JSON]) -> bool:
        found = _lookup(metadata, key, path)
        return all(test(found) for test in tests)

    return matches


def _test(operator: str, operand: JSON, where: str) -> _Test:
    place = f"{where}.{operator}"
    match operator:
        case "$eq":
            return lambda found: _equal(found, operand)
        case "$ne":
            return lambda found: not _equal(found, operand)
        case "$in":
            choices = _list(operand, place)
            return lambda found: any(_equal(found, choice) for choice in choices)
        case "$nin":
            choices = _list(operand, place)
            return lambda found: not any(_equal(found, choice) for choice in choices)
        case "$exists":
            if not isinstance(operand, bool):
                raise InvalidRequest(f"{place} must be true or false, not {operand!r}")
            return lambda found: (found is not _MISSING) == operand
        case "$gt" | "$gte" | "$lt" | "$lte":
            if not (_is_number(operand) or isinstance(operand, str)):
                raise InvalidRequest(f"{place} must be a number or a string, not {operand!r}")
            return lambda found: _ordered(operator, found, operand)
        case _:
            raise InvalidRequest(f"{where} has the unknown operator {operator!r}; use {' '.join(_OPERATORS)}")


def _ordered(operator: str, found: _Found, operand: JSON) -> bool:
    if _is_number(found) and _is_number(operand):
        order = (found > operand) - (found < operand)  # type: ignore[operator]  # both are numbers
    elif isinstance(found, str) and isinstance(operand, str):
        order = (found > operand) - (found < operand)
    else:
        return False
    return {"$gt": order > 0, "$gte": order >= 0, "$lt": order < 0, "$lte": order <= 0}[operator]


def _equal(found: _Found, expected: JSON) -> bool:
    """JSON equality: Python's, except that true is not 1."""
    if isinstance(found, bool) or isinstance(expected, bool):
        return found is expected
    if isinstance(found, Mapping) and isinstance(expected, Mapping):
        return found.keys() == expected.keys() and all(_equal(found[key], expected[key]) for key in found)
    if isinstance(found, list | tuple) and isinstance(expected, list | tuple):
        return len(found) == len(expected) and all(map(_equal, found, expected))
    return bool(found == expected)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _lookup(metadata: Mapping[str, JSON], key: str, path: Sequence[str]) -> _Found:
    if key in metadata:
        return metadata[key]
    found: JSON = metadata
    for name in path:
        if not isinstance(found, Mapping) or name not in found:
            return _MISSING
        found = found[name]
    return found


def _all(parts: Sequence[Predicate]) -> Predicate:
    return lambda metadata: all(part(metadata) for part in parts)


def _mapping(value: JSON, place: str) -> Mapping[str, JSON]:
    if not isinstance(value, Mapping):
        raise InvalidRequest(f"{place} must hold a filter (a mapping), not {value!r}")
    return value


def _list(value: JSON, place: str) -> Sequence[JSON]:
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise InvalidRequest(f"{place} must be a list, not {value!r}")
    return value
