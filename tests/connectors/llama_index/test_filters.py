"""Filters: every operator against a brute-force oracle, and against upstream's own function where that can answer."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llama_index.core.schema import TextNode
from llama_index.core.vector_stores.types import (
    FilterCondition,
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
    VectorStoreQuery,
)
from llama_index.core.vector_stores.utils import build_metadata_filter_fn

from memos_agents import InvalidRequest, MemOS
from memos_agents.connectors.llama_index import MemOSVectorStore
from memos_agents.connectors.llama_index.filters import compile_filters
from memos_agents.testing import HashEmbedder

KEYS = ["a", "b", "c"]
WORDS = ["", "x", "X", "xy", "YX", "z"]

scalars = st.none() | st.booleans() | st.integers(-2, 2) | st.sampled_from([-1.0, 0.5, 2.0]) | st.sampled_from(WORDS)
values = scalars | st.lists(st.sampled_from(WORDS), max_size=3) | st.lists(st.integers(-2, 2), max_size=3)
metadata = st.dictionaries(st.sampled_from(KEYS), values | st.just({"x": 1}), max_size=3)
operands = (
    st.none()
    | st.integers(-2, 2)
    | st.sampled_from([-1.0, 0.5, 2.0])
    | st.sampled_from(WORDS)
    | st.lists(st.sampled_from(WORDS), max_size=3)
    | st.lists(st.integers(-2, 2), max_size=3)
)


@st.composite
def single(draw: st.DrawFn) -> MetadataFilter:
    operator = draw(st.sampled_from(FilterOperator))
    value = draw(operands)
    if operator.value.startswith("text_match"):
        value = draw(st.sampled_from(WORDS))
    elif operator in (FilterOperator.IN, FilterOperator.NIN) and not isinstance(value, list | str):
        value = draw(st.lists(st.sampled_from(WORDS), max_size=3) | st.lists(st.integers(-2, 2), max_size=3))
    return MetadataFilter(key=draw(st.sampled_from(KEYS)), operator=operator, value=value)


conditions = st.sampled_from([*FilterCondition, None])
flat = st.builds(MetadataFilters, filters=st.lists(single(), max_size=3), condition=conditions)
nested = st.recursive(
    flat,
    lambda inner: st.builds(
        MetadataFilters, filters=st.lists(single() | inner, min_size=1, max_size=3), condition=conditions
    ),
    max_leaves=6,
)


def oracle(entry: MetadataFilter | MetadataFilters, node: Mapping[str, object]) -> bool:
    """What LlamaIndex's documentation of the operators says, written the long way round."""
    if isinstance(entry, MetadataFilters):
        answers = [oracle(part, node) for part in entry.filters]
        if not answers:
            return True
        hits = sum(answers)
        return {"and": hits == len(answers), "or": hits > 0, "not": hits == 0}[(entry.condition or "and")]
    found, value = node.get(entry.key), entry.value
    name = entry.operator.value
    if name == "is_empty":
        return found is None or found == "" or found == []
    if found is None:
        return name in ("!=", "nin")

    def inside(item: object, container: object) -> bool:
        if isinstance(container, str):
            return isinstance(item, str) and container.find(item) >= 0
        if isinstance(container, dict):
            return any(item == key for key in container)
        return isinstance(container, list) and any(item == other for other in container)

    def order() -> int | None:
        if isinstance(found, int | float) and isinstance(value, int | float):
            return -1 if found < value else int(found > value)
        if isinstance(found, str) and isinstance(value, str):
            return -1 if found < value else int(found > value)
        if isinstance(found, list) and isinstance(value, list):
            for mine, other in zip(found, value, strict=False):
                if mine != other:
                    if isinstance(mine, str) != isinstance(other, str):
                        return None
                    return -1 if mine < other else 1
            return (len(found) > len(value)) - (len(found) < len(value))
        return None

    several = value if isinstance(value, list) else [value]
    if name in (">", ">=", "<", "<="):
        place = order()
        return place is not None and {">": place > 0, ">=": place >= 0, "<": place < 0, "<=": place <= 0}[name]
    return {
        "==": lambda: found == value,
        "!=": lambda: found != value,
        "in": lambda: inside(found, value),
        "nin": lambda: not inside(found, value),
        "contains": lambda: inside(value, found),
        "any": lambda: any(inside(one, found) for one in several),
        "all": lambda: not any(not inside(one, found) for one in several),
        "text_match": lambda: isinstance(found, str) and found.find(str(value)) >= 0,
        "text_match_insensitive": lambda: isinstance(found, str) and found.lower().find(str(value).lower()) >= 0,
    }[name]()


def matches(filters: MetadataFilters, node: Mapping[str, object]) -> bool:
    compiled = compile_filters(filters)
    return compiled is None or compiled(node)


@settings(max_examples=600)
@given(nested, metadata)
def test_filters_mean_what_they_say(filters: MetadataFilters, node: dict[str, object]) -> None:
    assert matches(filters, node) == oracle(filters, node)


@settings(max_examples=600)
@given(flat, metadata)
def test_on_flat_groups_we_say_what_upstream_says(filters: MetadataFilters, node: dict[str, object]) -> None:
    letters = {FilterOperator.ANY, FilterOperator.ALL}
    if any(entry.operator in letters and not isinstance(entry.value, list) for entry in filters.filters):  # type: ignore[union-attr]
        return  # upstream takes a str for its letters, we for one value
    try:
        theirs = build_metadata_filter_fn(lambda _: node, filters)("id")
    except TypeError:
        return  # upstream fails the whole query, we leave the node out
    assert matches(filters, node) == theirs


@settings(max_examples=40)
@given(nested, st.lists(metadata, min_size=1, max_size=6))
def test_queries_reading_and_deletion_apply_them(filters: MetadataFilters, nodes: list[dict[str, object]]) -> None:
    with MemOS.open(":memory:", embedder=HashEmbedder(dimension=16)) as memos:
        store = MemOSVectorStore(memos, user_id="mara")
        store.add(
            [
                TextNode(id_=f"n{n}", text=f"node {n}", metadata=data, embedding=[1.0, n / 10])
                for n, data in enumerate(nodes)
            ]
        )
        wanted = {f"n{n}" for n, data in enumerate(nodes) if oracle(filters, data)}
        query = VectorStoreQuery(query_embedding=[1.0, 0.0], similarity_top_k=10, filters=filters)
        assert set(store.query(query).ids or []) == wanted
        assert {node.node_id for node in store.get_nodes(filters=filters)} == wanted
        assert {node.node_id for node in asyncio.run(store.aget_nodes(filters=filters))} == wanted
        if filters.filters:
            store.delete_nodes(filters=filters)
            assert {node.node_id for node in store.get_nodes()} == {f"n{n}" for n in range(len(nodes))} - wanted


def test_a_str_is_one_value_not_its_letters() -> None:
    node = {"tags": ["ab", "c"]}
    for operator, expected in ((FilterOperator.ANY, True), (FilterOperator.ALL, True)):
        group = MetadataFilters(filters=[MetadataFilter(key="tags", value="ab", operator=operator)])
        assert matches(group, node) is expected
        assert build_metadata_filter_fn(lambda _: node, group)("id") is False


def test_an_odd_node_does_not_fail_the_query_for_all() -> None:
    group = MetadataFilters(filters=[MetadataFilter(key="year", value=2000, operator=FilterOperator.GT)])
    assert [matches(group, {"year": year}) for year in (2001, "2001", None, [2001])] == [True, False, False, False]
    with pytest.raises(TypeError):
        build_metadata_filter_fn(lambda _: {"year": "2001"}, group)("id")


@pytest.mark.parametrize("operator", [FilterOperator.TEXT_MATCH, FilterOperator.TEXT_MATCH_INSENSITIVE])
def test_a_text_match_needs_a_text(operator: FilterOperator) -> None:
    with pytest.raises(InvalidRequest, match="title"):
        compile_filters(MetadataFilters(filters=[MetadataFilter(key="title", value=3, operator=operator)]))


@pytest.mark.parametrize("operator", [FilterOperator.IN, FilterOperator.NIN])
def test_a_choice_needs_a_list(operator: FilterOperator) -> None:
    with pytest.raises(InvalidRequest, match="year"):
        compile_filters(MetadataFilters(filters=[MetadataFilter(key="year", value=3, operator=operator)]))
