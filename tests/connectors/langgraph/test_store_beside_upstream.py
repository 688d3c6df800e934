"""Random operations on upstream's InMemoryStore and on ours: the same answers, op by op.

Values stay where the two are meant to agree (docs/connectors_langgraph.md lists where they are not): JSON, comparisons
of like types, pages over one namespace. Orders of equal scores are compared as sets.
"""

from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("langgraph.store.memory", reason="needs memos-agents[langgraph]")

from langchain_core.embeddings import Embeddings
from langgraph.store.base import (
    BaseStore,
    GetOp,
    IndexConfig,
    Item,
    ListNamespacesOp,
    MatchCondition,
    Op,
    PutOp,
    SearchItem,
    SearchOp,
)
from langgraph.store.memory import InMemoryStore

from memos_agents import MemOS
from memos_agents.connectors.langgraph import MemOSStore
from memos_agents.testing import HashEmbedder


class Letters(Embeddings):
    """Counts letters: near texts are near, and no two different texts of the alphabet below tie by accident often."""

    dims = 32

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [self.embed_query(text) for text in texts]

    def embed_query(self, text: str) -> list[float]:
        vector = [0.0] * self.dims
        for position, letter in enumerate(text):
            vector[ord(letter) % self.dims] += 1 + position / 7
        return vector


TOLERANCE = 2e-3
"""Files keep vectors in half precision; the cosine of two moves by less than this."""

labels = st.sampled_from(["a", "b", "c", "users", "docs"])
namespaces = st.lists(labels, min_size=1, max_size=3).map(tuple)
keys = st.sampled_from(["k1", "k2", "k/3", "", "é", "x" * 700, "with\nnewline"])
words = st.text(alphabet="abcdefgh ", min_size=1, max_size=12)
leaves = st.one_of(st.none(), st.integers(-5, 5), words)
values = st.fixed_dictionaries(
    {"n": st.integers(-3, 3), "color": st.sampled_from(["red", "blue"])},
    optional={
        "text": words,
        "meta": st.fixed_dictionaries({"x": st.integers(0, 2)}, optional={"y": words}),
        "list": st.lists(leaves, max_size=3),
        "_langgraph": leaves,
        "parts": st.lists(st.fixed_dictionaries({"text": words}), max_size=3),
    },
)
indexes = st.sampled_from([None, False, ["text"], ["text", "color"], ["parts[*].text"], ["missing"]])
conditions = st.one_of(
    st.fixed_dictionaries({"color": st.sampled_from(["red", "blue", {"$eq": "red"}, {"$ne": "red"}])}),
    st.fixed_dictionaries(
        {
            "n": st.dictionaries(
                st.sampled_from(["$gt", "$gte", "$lt", "$lte", "$eq", "$ne"]), st.integers(-3, 3), min_size=1
            )
        }
    ),
    st.fixed_dictionaries({"meta": st.fixed_dictionaries({"x": st.integers(0, 2)})}),
    st.fixed_dictionaries({"missing": st.none()}),
    st.fixed_dictionaries({"list": st.lists(leaves, max_size=2)}),
)
patterns = st.lists(st.one_of(labels, st.just("*")), min_size=1, max_size=3).map(tuple)
puts = st.builds(PutOp, namespaces, keys, st.one_of(values, values, values, st.none()), indexes, ttl=st.none())
reads = st.one_of(
    st.builds(GetOp, namespaces, keys, refresh_ttl=st.booleans()),
    st.builds(
        SearchOp,
        st.one_of(st.just(()), namespaces),
        st.one_of(st.none(), conditions),
        st.just(1000),
        st.just(0),
        st.one_of(st.none(), words),
        refresh_ttl=st.booleans(),
    ),
    st.builds(
        ListNamespacesOp,
        st.one_of(
            st.none(),
            st.lists(st.builds(MatchCondition, st.sampled_from(["prefix", "suffix"]), patterns), max_size=2).map(tuple),
        ),
        st.one_of(st.none(), st.integers(1, 3)),
        st.integers(0, 5),
        st.integers(0, 3),
    ),
)
batches = st.lists(st.lists(st.one_of(puts, reads), min_size=1, max_size=6), max_size=8)


def told(result: object, *, scores: bool, about: bool = False) -> object:
    """What must be equal: everything but times, the last digits of scores, and the order of what ties."""
    if isinstance(result, SearchItem):
        score = result.score if scores else None
        if about and score is not None:
            score = pytest.approx(score, abs=TOLERANCE)
        return result.namespace, result.key, result.value, score
    if isinstance(result, Item):
        return result.namespace, result.key, result.value
    if isinstance(result, list):
        in_order = sorted(result, key=lambda entry: (entry.namespace, entry.key) if isinstance(entry, Item) else entry)
        return [told(entry, scores=scores, about=about) for entry in in_order]
    return result


def falls(result: object) -> bool:
    """Best first, those without a score behind."""
    scores = [entry.score for entry in result if isinstance(entry, SearchItem)] if isinstance(result, list) else []
    shown = [-math.inf if score is None else score for score in scores]
    return shown == sorted(shown, reverse=True)


def upstream_answers(store: InMemoryStore, ops: list[Op]) -> tuple[list[Op], list[object]]:
    """The operations that upstream could do, and its answers, around three of its faults.

    It lists namespaces that hold nothing any more, keeps the vectors of an earlier value under the same key, and raises
    `ValueError` when one text is to be embedded twice.
    """
    answers: list[object] = []
    for op in ops:
        for name in [name for name, items in store._data.items() if not items]:
            del store._data[name]
        answers.append(None if isinstance(op, PutOp) else store.batch([op])[0])
    refused = []
    for place, op in {(op.namespace, op.key): op for op in ops if isinstance(op, PutOp)}.items():
        store.delete(*place)
        try:
            store.batch([op])
        except ValueError as error:
            assert "Number of embeddings" in str(error)  # noqa: PT017
            refused.append(place)
    if not refused:
        return ops, answers
    kept = [not (isinstance(op, PutOp) and (op.namespace, op.key) in refused) for op in ops]
    pairs = [(op, answer) for op, answer, keep in zip(ops, answers, kept, strict=True) if keep]
    gone: list[Op] = [PutOp(namespace, key, None) for namespace, key in refused]
    return [op for op, _ in pairs] + gone, [answer for _, answer in pairs] + [None] * len(gone)


def run(batches: list[list[Op]], index: IndexConfig | None, target: str, *, asynchronous: bool) -> None:
    upstream = InMemoryStore(index=index)
    with MemOS.open(target, embedder=HashEmbedder(32)) as memos:
        ours = MemOSStore(memos.scoped(user_id="mara"), index=index)
        for batch in batches:
            ops, expected = upstream_answers(upstream, batch)
            found = asyncio.run(ours.abatch(ops)) if asynchronous else ours.batch(ops)
            for op, left, right in zip(ops, expected, found, strict=True):
                ranked = index is not None and isinstance(op, SearchOp) and bool(op.query)
                assert told(left, scores=ranked, about=True) == told(right, scores=ranked), op
                assert not ranked or falls(right), op
        assert memos.verify().ok


@settings(max_examples=40)
@given(batches=batches, asynchronous=st.booleans())
def test_without_an_index(batches: list[list[Op]], asynchronous: bool) -> None:
    run(batches, None, ":memory:", asynchronous=asynchronous)


@settings(max_examples=40)
@given(
    batches=batches,
    fields=st.sampled_from([["$"], ["text"], ["text", "color"], ["parts[*].text", "text"]]),
    asynchronous=st.booleans(),
)
def test_with_an_index_of_another_model(batches: list[list[Op]], fields: list[str], asynchronous: bool) -> None:
    index: IndexConfig = {"dims": Letters.dims, "embed": Letters(), "fields": fields}
    run(batches, index, ":memory:", asynchronous=asynchronous)


@settings(max_examples=10)
@given(batches=batches, indexed=st.booleans())
def test_on_a_file(tmp_path_factory: pytest.TempPathFactory, batches: list[list[Op]], indexed: bool) -> None:
    index: IndexConfig | None = {"dims": Letters.dims, "embed": Letters(), "fields": ["text"]} if indexed else None
    run(batches, index, str(tmp_path_factory.mktemp("store") / "memos.db"), asynchronous=False)


class Angles(Embeddings):
    """A number is an angle, so that no two scores are nearly the same."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [self.embed_query(text) for text in texts]

    def embed_query(self, text: str) -> list[float]:
        angle = 0.1 * len(text)  # the probes, which are no numbers, have one too
        if text.isdecimal():
            angle = 0.06 * int(text)
        return [math.cos(angle), math.sin(angle)]


@pytest.mark.parametrize("query", [None, "0"])
def test_pages_are_the_slices_of_the_whole(query: str | None) -> None:
    index: IndexConfig = {"dims": 2, "embed": Angles(), "fields": ["text"]}
    with MemOS.open(":memory:", embedder=HashEmbedder(32)) as memos:
        stores: list[BaseStore] = [InMemoryStore(index=index), MemOSStore(memos.scoped(user_id="mara"), index=index)]
        pages: list[list[Any]] = []
        for store in stores:
            for number in range(25):
                store.put(("a",), f"k{number}", {"text": str(number * 7 % 25), "n": number})
            whole = [item.key for item in store.search(("a",), query=query, limit=100)]
            parts = [
                [item.key for item in store.search(("a",), query=query, limit=4, offset=offset)]
                for offset in range(0, 28, 4)
            ]
            assert [key for part in parts for key in part] == whole
            filtered = [
                [
                    item.key
                    for item in store.search(("a",), query=query, filter={"n": {"$gte": 7}}, limit=4, offset=offset)
                ]
                for offset in range(0, 20, 4)
            ]
            pages.append([whole, parts, filtered])
        assert pages[0] == pages[1]


def test_the_harness_sees_a_store_that_is_wrong() -> None:
    """Negative control: a store that loses every second put does not pass."""

    class Loses(MemOSStore):
        def batch(self, ops: Any) -> Any:
            return super().batch([op for op in ops if not (isinstance(op, PutOp) and op.key == "k2")])

    with MemOS.open(":memory:", embedder=HashEmbedder(32)) as memos:
        upstream, ours = InMemoryStore(), Loses(memos.scoped(user_id="mara"))
        for store in (upstream, ours):
            store.put(("a",), "k2", {"n": 1})
        assert told(upstream.search(()), scores=False) != told(ours.search(()), scores=False)
