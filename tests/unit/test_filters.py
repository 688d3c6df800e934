"""Filters: a condition means what it says, and a wrong one is refused before anything is read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memos_agents.cube.canonical import JSON
from memos_agents.errors import InvalidRequest
from memos_agents.operation.filters import compile_filter

METADATA: dict[str, JSON] = {
    "city": "Lisbon",
    "age": 30,
    "score": 1.5,
    "ok": True,
    "nothing": None,
    "tags": ["a", "b"],
    "place": {"country": "PT", "geo": {"lat": 38.7}},
    "a.b": "flat",
}

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0$"), max_size=5)
json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)


@pytest.mark.parametrize(
    "condition",
    [
        {},
        {"city": "Lisbon"},
        {"age": 30.0},
        {"age": {"$eq": 30}},
        {"age": {"$gt": 29, "$lt": 31}},
        {"age": {"$gte": 30, "$lte": 30}},
        {"score": {"$gt": 1}},
        {"city": {"$gt": "Berlin"}},
        {"city": {"$ne": "Porto"}},
        {"missing": {"$ne": 1}},
        {"missing": {"$nin": [1, None]}},
        {"city": {"$in": ["Porto", "Lisbon"]}},
        {"city": {"$nin": ["Porto"]}},
        {"ok": {"$exists": True}},
        {"missing": {"$exists": False}},
        {"nothing": None},
        {"nothing": {"$exists": True}},
        {"tags": ["a", "b"]},
        {"place": {"country": "PT", "geo": {"lat": 38.7}}},
        {"place.country": "PT"},
        {"place.geo.lat": {"$lt": 40}},
        {"a.b": "flat"},
        {"$and": [{"city": "Lisbon"}, {"age": 30}]},
        {"$or": [{"city": "Porto"}, {"age": 30}]},
        {"$not": {"city": "Porto"}},
        {"$and": []},
        {"city": "Lisbon", "$or": [{"age": 1}, {"$not": {"age": {"$gt": 31}}}]},
    ],
)
def test_a_true_condition_accepts(condition: dict[str, JSON]) -> None:
    assert compile_filter(condition)(METADATA)
    assert not compile_filter({"$not": condition})(METADATA)


@pytest.mark.parametrize(
    "condition",
    [
        {"city": "lisbon"},
        {"age": "30"},
        {"ok": 1},
        {"age": True},
        {"ok": {"$gt": 0}},
        {"age": {"$gt": "29"}},
        {"city": {"$lt": 5}},
        {"nothing": {"$lt": 5}},
        {"missing": None},
        {"missing": {"$gt": 0}},
        {"missing": {"$in": [None]}},
        {"city": {"$in": []}},
        {"tags": "a"},
        {"tags": ["b", "a"]},
        {"place.country.code": "PT"},
        {"place": {"country": "PT"}},
        {"city.name": "Lisbon"},
        {"$or": []},
    ],
)
def test_a_false_condition_does_not(condition: dict[str, JSON]) -> None:
    assert not compile_filter(condition)(METADATA)


@pytest.mark.parametrize(
    "condition",
    [
        {"age": {"$like": 3}},
        {"age": {"$gt": 3, "plain": 1}},
        {"age": {"$gt": None}},
        {"age": {"$gt": True}},
        {"age": {"$lte": [1]}},
        {"age": {"$in": 3}},
        {"age": {"$in": "abc"}},
        {"age": {"$nin": {"a": 1}}},
        {"age": {"$exists": 1}},
        {"$gt": 3},
        {"$nor": []},
        {"$and": {"age": 1}},
        {"$or": ["age"]},
        {"$not": [{"age": 1}]},
        {"age": float("nan")},
        {"age": object()},
        {3: "x"},
        ["age"],
        "age",
    ],
)
def test_a_malformed_filter_is_refused(condition: object) -> None:
    with pytest.raises(InvalidRequest):
        compile_filter(condition)  # type: ignore[arg-type]  # that is what is tested


def test_the_message_names_the_operator_and_the_place() -> None:
    with pytest.raises(InvalidRequest, match=r"filter\.\$or\.age has the unknown operator '\$like'"):
        compile_filter({"$or": [{"age": {"$like": 3}}]})


def test_no_filter_accepts_everything() -> None:
    assert compile_filter(None)({})


def test_a_filter_changed_afterwards_keeps_its_meaning() -> None:
    allowed: list[JSON] = ["Lisbon"]
    accepts = compile_filter({"city": {"$in": allowed}})
    allowed.clear()
    assert accepts(METADATA)


@given(value=json, other=json, operator=st.sampled_from(["$gt", "$gte", "$lt", "$lte"]))
def test_comparing_any_values_never_fails(value: JSON, other: JSON, operator: str) -> None:
    assert compile_filter({"key": {"$eq": value}})({"key": value})
    assert compile_filter({"key": {"$eq": value}})({"key": other}) != compile_filter({"key": {"$ne": value}})(
        {"key": other}
    )
    bound: JSON = other if isinstance(other, str | int | float) and not isinstance(other, bool) else 0
    assert compile_filter({"key": {operator: bound}})({"key": value}) in (True, False)


def test_operators_without_their_sign_are_refused_and_not_compared() -> None:
    with pytest.raises(InvalidRequest, match=r"\$eq"):
        compile_filter({"city": {"eq": "Lisbon"}})
    assert compile_filter({"city": {"name": "Lisbon"}})({"city": {"name": "Lisbon"}})
