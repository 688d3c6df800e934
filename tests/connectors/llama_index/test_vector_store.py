"""Vector stores: laws of `BasePydanticVectorStore` on upstream's store and on ours, then what only ours promises."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llama_index.core import Document, MockEmbedding, StorageContext, VectorStoreIndex
from llama_index.core.indices.query.embedding_utils import get_top_k_embeddings, get_top_k_mmr_embeddings
from llama_index.core.ingestion import IngestionPipeline
from llama_index.core.schema import (
    BaseNode,
    ImageNode,
    IndexNode,
    MetadataMode,
    Node,
    NodeRelationship,
    RelatedNodeInfo,
    TextNode,
)
from llama_index.core.storage.docstore import SimpleDocumentStore
from llama_index.core.vector_stores import SimpleVectorStore
from llama_index.core.vector_stores.types import (
    BasePydanticVectorStore,
    FilterCondition,
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryMode,
)

from memos_agents import AsyncMemOS, IncompatibleModel, InvalidRequest, MemOS, Scope
from memos_agents.connectors.llama_index import MemOSEmbedding, MemOSVectorStore
from memos_agents.testing import HashEmbedder

CLOSE = 2e-3  # vectors are kept in half precision: relative error 2**-11 a number


def node(name: str, vector: list[float], document: str | None = None, **metadata: object) -> TextNode:
    relations = {NodeRelationship.SOURCE: RelatedNodeInfo(node_id=document)} if document else {}
    return TextNode(id_=name, text=f"text of {name}", embedding=vector, metadata=metadata, relationships=relations)


def nodes() -> list[BaseNode]:
    return [
        node("north", [0.0, 1.0], "d1", city="Oslo", year=1999),
        node("east", [1.0, 0.0], "d1", city="Kyiv", year=2005),
        node("south", [0.0, -1.0], "d2", city="Lisbon", year=2010),
        node("northeast", [3.0, 4.0], "d3", city="Riga", year=2010),
    ]


def query(vector: list[float], top_k: int = 10, **options: object) -> VectorStoreQuery:
    return VectorStoreQuery(query_embedding=vector, similarity_top_k=top_k, **options)  # type: ignore[arg-type]


def only(key: str, value: object, operator: FilterOperator = FilterOperator.EQ) -> MetadataFilters:
    return MetadataFilters(filters=[MetadataFilter(key=key, value=value, operator=operator)])  # type: ignore[arg-type]


class VectorStoreLaws:
    """What every vector store promises."""

    def ids(self, store: BasePydanticVectorStore) -> set[str]:
        return set(store.query(query([1.0, 0.5], 1000)).ids or [])

    def test_nodes_are_found_by_the_angle_of_their_vectors(self, store: BasePydanticVectorStore) -> None:
        assert store.add(nodes()) == ["north", "east", "south", "northeast"]
        found = store.query(query([0.0, 2.0]))
        assert found.ids == ["north", "northeast", "east", "south"]
        assert found.similarities == pytest.approx([1.0, 0.8, 0.0, -1.0], abs=CLOSE)

    def test_no_more_than_asked_for(self, store: BasePydanticVectorStore) -> None:
        store.add(nodes())
        assert store.query(query([0.0, 1.0], 2)).ids == ["north", "northeast"]
        assert store.query(query([0.0, 1.0], 1)).ids == ["north"]

    def test_an_empty_store_finds_nothing(self, store: BasePydanticVectorStore) -> None:
        found = store.query(query([0.0, 1.0]))
        assert not found.ids and not found.similarities

    def test_filters_come_before_ranking(self, store: BasePydanticVectorStore) -> None:
        store.add(nodes())
        found = store.query(query([0.0, 1.0], 1, filters=only("year", 2010)))
        assert found.ids == ["northeast"]
        both = MetadataFilters(
            filters=[
                MetadataFilter(key="year", value=2005, operator=FilterOperator.GTE),
                MetadataFilter(key="city", value=["Riga", "Kyiv"], operator=FilterOperator.IN),
            ],
            condition=FilterCondition.AND,
        )
        assert store.query(query([1.0, 0.0], filters=both)).ids == ["east", "northeast"]

    def test_node_ids_narrow_a_query(self, store: BasePydanticVectorStore) -> None:
        store.add(nodes())
        assert store.query(query([0.0, 1.0], node_ids=["south", "east", "none"])).ids == ["east", "south"]

    def test_documents_can_be_filtered_by(self, store: BasePydanticVectorStore) -> None:
        store.add(nodes())
        assert store.query(query([0.0, 1.0], filters=only("ref_doc_id", "d1"))).ids == ["north", "east"]

    def test_a_node_added_again_is_replaced(self, store: BasePydanticVectorStore) -> None:
        store.add(nodes())
        store.add([node("north", [0.0, -1.0], "d9", city="Tromso")])
        found = store.query(query([0.0, 1.0]))
        assert found.ids is not None and found.ids[0] == "northeast" and len(found.ids) == 4
        assert store.query(query([0.0, 1.0], filters=only("city", "Oslo"))).ids == []
        assert store.query(query([0.0, 1.0], filters=only("city", "Tromso"))).ids == ["north"]

    def test_deleting_a_document(self, store: BasePydanticVectorStore) -> None:
        store.add(nodes())
        store.delete("d1")
        assert self.ids(store) == {"south", "northeast"}
        store.delete("none")
        assert self.ids(store) == {"south", "northeast"}

    def test_deleting_nodes(self, store: BasePydanticVectorStore) -> None:
        store.add(nodes())
        store.delete_nodes(["north", "none"])
        assert self.ids(store) == {"east", "south", "northeast"}
        store.delete_nodes(filters=only("year", 2010))
        assert self.ids(store) == {"east"}
        store.delete_nodes(["east"], filters=only("year", 1))
        assert self.ids(store) == {"east"}
        store.delete_nodes(["east"], filters=only("year", 2005))
        assert self.ids(store) == set()

    def test_an_empty_list_of_ids_deletes_nothing(self, store: BasePydanticVectorStore) -> None:
        store.add(nodes())
        store.delete_nodes([])
        assert len(self.ids(store)) == 4

    def test_clearing(self, store: BasePydanticVectorStore) -> None:
        store.add(nodes())
        store.clear()
        assert self.ids(store) == set()
        store.add(nodes()[:1])
        assert self.ids(store) == {"north"}

    @pytest.mark.parametrize("threshold", [0.0, 0.3, 0.5, 0.8, 1.0])
    def test_marginal_relevance(self, store: BasePydanticVectorStore, threshold: float) -> None:
        store.add(nodes())
        found = store.query(query([0.3, 1.0], 4, mode=VectorStoreQueryMode.MMR), mmr_threshold=threshold)
        scores, ids = get_top_k_mmr_embeddings(
            [0.3, 1.0],
            [entry.embedding for entry in nodes()],  # type: ignore[misc]
            similarity_top_k=4,
            embedding_ids=[entry.node_id for entry in nodes()],
            mmr_threshold=threshold,
        )
        assert found.ids == ids and found.similarities == pytest.approx(scores, abs=CLOSE)

    def test_learners_need_their_library(self, store: BasePydanticVectorStore) -> None:
        store.add(nodes())
        try:
            import sklearn  # noqa: F401
        except ImportError:
            with pytest.raises(ImportError, match="scikit-learn"):
                store.query(query([0.0, 1.0], mode=VectorStoreQueryMode.SVM))
        else:
            assert store.query(query([0.0, 1.0], 1, mode=VectorStoreQueryMode.SVM)).ids == ["north"]

    def test_a_node_without_a_vector_is_refused(self, store: BasePydanticVectorStore) -> None:
        with pytest.raises(ValueError, match="embedding"):
            store.add([TextNode(id_="bare", text="bare")])

    async def test_the_asynchronous_calls_do_the_same(self, store: BasePydanticVectorStore) -> None:
        assert await store.async_add(nodes()) == ["north", "east", "south", "northeast"]
        assert (await store.aquery(query([0.0, 1.0], 1))).ids == ["north"]
        await store.adelete("d1")
        assert (await store.aquery(query([0.0, 1.0]))).ids == ["northeast", "south"]
        await store.adelete_nodes(["south"])
        assert (await store.aquery(query([0.0, 1.0]))).ids == ["northeast"]
        await store.aclear()
        assert not (await store.aquery(query([0.0, 1.0]))).ids

    def test_an_index_works_on_it(self, store: BasePydanticVectorStore, embedding: MemOSEmbedding) -> None:
        documents = [
            Document(text="Green tea comes from Yunnan.", doc_id="tea", metadata={"kind": "drink"}),
            Document(text="Porto lies at the Douro river.", doc_id="porto", metadata={"kind": "city"}),
        ]
        index = VectorStoreIndex.from_documents(
            documents, storage_context=StorageContext.from_defaults(vector_store=store), embed_model=embedding
        )
        found = index.as_retriever(similarity_top_k=1).retrieve("Which river is at Porto?")
        assert found[0].node.get_content() == documents[1].text
        assert found[0].node.ref_doc_id == "porto" and found[0].node.metadata == {"kind": "city"}
        drinks = index.as_retriever(similarity_top_k=5, filters=only("kind", "drink"))
        assert [hit.node.ref_doc_id for hit in drinks.retrieve("Porto river")] == ["tea"]
        index.insert(Document(text="Lisbon lies at the Tejo river.", doc_id="lisbon"))
        assert index.as_retriever(similarity_top_k=1).retrieve("the Tejo river")[0].node.ref_doc_id == "lisbon"
        index.delete_ref_doc("porto")
        found = index.as_retriever(similarity_top_k=5).retrieve("Porto at the Douro")
        assert {hit.node.ref_doc_id for hit in found} == {"tea", "lisbon"}


class TestUpstream(VectorStoreLaws):
    @pytest.fixture
    def store(self) -> BasePydanticVectorStore:
        return SimpleVectorStore()


class TestOurs(VectorStoreLaws):
    @pytest.fixture
    def store(self, memos: MemOS) -> BasePydanticVectorStore:
        return MemOSVectorStore(memos, user_id="mara")


@pytest.fixture
def embedding(memos: MemOS) -> MemOSEmbedding:
    return MemOSEmbedding(memos)


@pytest.fixture
def store(memos: MemOS) -> MemOSVectorStore:
    return MemOSVectorStore(memos, user_id="mara")


@pytest.fixture
def shared(memos: MemOS, embedding: MemOSEmbedding) -> MemOSVectorStore:
    """A vector store in the store's own space."""
    return MemOSVectorStore(memos, user_id="mara", embedding=embedding)


small = st.sampled_from("abcd")
steps = st.one_of(
    st.tuples(
        st.just("add"),
        st.lists(
            st.tuples(small, st.integers(-3, 3), st.sampled_from(["d1", "d2", None]), st.integers(0, 2)), max_size=3
        ),
    ),
    st.tuples(st.just("delete"), st.sampled_from(["d1", "d2"])),
    st.tuples(st.just("delete_nodes"), st.lists(small, max_size=3)),
    st.tuples(st.just("clear"), st.none()),
)


def after(store: BasePydanticVectorStore, steps: list[tuple[str, Any]]) -> list[object]:
    """What a store says after these steps, of nodes whose vectors differ with their names."""
    for name, what in steps:
        if name == "add":
            store.add([node(key, [ord(key) - 100, place, 1.0], document, v=v) for key, place, document, v in what])
        elif name == "clear":
            store.clear()
        else:
            getattr(store, name)(what)
    filtered = [store.query(query([1.0, 0.5, 0.2], filters=only("v", value))) for value in range(3)]
    answers = [store.query(query([1.0, 0.5, 0.2])), *filtered]
    best = store.query(query([1.0, 0.5, 0.2], 2)).similarities or []  # which two may differ where several are as near
    return [*(dict(zip(found.ids or [], found.similarities or [], strict=True)) for found in answers), list(best)]


@settings(max_examples=60)
@given(st.lists(steps, max_size=8))
def test_any_sequence_of_calls_says_what_upstream_says(given_steps: list[tuple[str, Any]]) -> None:
    with MemOS.open(":memory:", embedder=HashEmbedder(dimension=16)) as memos:
        ours = after(MemOSVectorStore(memos, user_id="mara"), given_steps)
    for mine, theirs in zip(ours, after(SimpleVectorStore(), given_steps), strict=True):
        assert mine == pytest.approx(theirs, abs=CLOSE)


# -- what only ours promises


def rich_nodes() -> list[BaseNode]:
    source = RelatedNodeInfo(node_id="doc", node_type="4", metadata={"k": "v"}, hash="h")
    return [
        TextNode(
            id_="full",
            text="A text with {braces} and <markup>.",
            metadata={"s": "x", "n": 1, "f": 0.5, "b": True, "none": None, "list": [1, "a"], "deep": {"x": [{}]}},
            excluded_embed_metadata_keys=["n"],
            excluded_llm_metadata_keys=["s"],
            relationships={
                NodeRelationship.SOURCE: source,
                NodeRelationship.NEXT: RelatedNodeInfo(node_id="after"),
                NodeRelationship.CHILD: [RelatedNodeInfo(node_id="c1"), RelatedNodeInfo(node_id="c2")],
            },
            start_char_idx=3,
            end_char_idx=9,
            metadata_template="{key}={value}",
            text_template="{metadata_str}|{content}",
        ),
        TextNode(id_="empty", text=""),
        TextNode(id_="blank", text=" \n "),
        TextNode(id_="odd \n id \x00 \ud800", text="raw \x00 and \ud800", metadata={"k\x00": "v\udfff", "n": 1}),
        TextNode(id_="x" * 600, text="a long id"),
        TextNode(id_="sha256:abc", text="an id like a digest"),
        TextNode(id_="long", text="word " * 250_000),
        IndexNode(id_="index", text="points on", index_id="there", metadata={"a": 1}),
        ImageNode(id_="image", text="a picture", image="aGVsbG8=", image_mimetype="image/png"),
        Node(id_="node", metadata={"a": 1}, text_resource={"text": "a node's text"}),
    ]


@pytest.mark.parametrize("position", range(10))
async def test_a_node_comes_back_as_it_was(store: MemOSVectorStore, position: int) -> None:
    given = rich_nodes()[position]
    given.embedding = [1.0, 0.0]
    await store.async_add([given])
    expected = rich_nodes()[position]
    for found in (
        store.get_nodes([given.node_id])[0],
        (await store.aquery(query([1.0, 0.1]))).nodes[0],  # type: ignore[index]
    ):
        assert found == expected and type(found) is type(expected)
        assert found.embedding is None
        assert found.hash == expected.hash


json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=4,
)  # fmt: skip
any_text = st.text(st.characters(), max_size=12)
keys = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)  # pydantic itself replaces surrogates in keys


@settings(max_examples=50)
@given(st.lists(st.builds(TextNode, id_=any_text, text=any_text, metadata=st.dictionaries(keys, json, max_size=3)),
                max_size=4, unique_by=lambda entry: entry.id_))  # fmt: skip
def test_any_nodes_come_back_exactly(given_nodes: list[TextNode]) -> None:
    with MemOS.open(":memory:", embedder=HashEmbedder(dimension=16)) as memos:
        store = MemOSVectorStore(memos, user_id="mara")
        store.add([entry.model_copy(update={"embedding": [1.0, 2.0]}) for entry in given_nodes])
        assert store.get_nodes([entry.node_id for entry in given_nodes]) == given_nodes
        assert store.query(query([1.0, 2.0])).nodes is not None
        assert len(store.query(query([1.0, 2.0])).ids or []) == len(given_nodes)


@settings(max_examples=40)
@given(st.lists(st.lists(st.floats(-3, 3), min_size=4, max_size=4).filter(lambda v: np.linalg.norm(v) > 0.1),
                min_size=1, max_size=12), st.integers(1, 5))  # fmt: skip
def test_ranking_is_exact(vectors: list[list[float]], top_k: int) -> None:
    with MemOS.open(":memory:", embedder=HashEmbedder(dimension=16)) as memos:
        store = MemOSVectorStore(memos, user_id="mara")
        store.add([node(f"n{n}", vector) for n, vector in enumerate(vectors)])
        found = store.query(query([1.0, 0.5, -0.5, 0.2], top_k))
    names = [f"n{n}" for n in range(len(vectors))]
    scores, _ = get_top_k_embeddings([1.0, 0.5, -0.5, 0.2], vectors, similarity_top_k=top_k, embedding_ids=names)
    assert found.similarities == pytest.approx(scores, abs=CLOSE)


@settings(max_examples=40)
@given(st.integers(0, 1000), st.floats(0, 1), st.integers(1, 8))
def test_marginal_relevance_is_upstreams(seed: int, threshold: float, top_k: int) -> None:
    draw = random.Random(seed)
    vectors = [[draw.uniform(-1, 1) for _ in range(6)] for _ in range(8)]
    wanted = [draw.uniform(-1, 1) for _ in range(6)]
    with MemOS.open(":memory:", embedder=HashEmbedder(dimension=16)) as memos:
        store = MemOSVectorStore(memos, user_id="mara")
        store.add([node(f"n{n}", vector) for n, vector in enumerate(vectors)])
        found = store.query(query(wanted, top_k, mode=VectorStoreQueryMode.MMR, mmr_threshold=threshold))
    scores, _ = get_top_k_mmr_embeddings(wanted, vectors, similarity_top_k=top_k, mmr_threshold=threshold)
    # Two candidates within the rounding of half precision may change places, and all that follows with them.
    assert found.similarities is not None and len(found.similarities) == len(scores)
    assert found.similarities[0] == pytest.approx(scores[0], abs=CLOSE)


def test_equal_scores_keep_the_order_of_writing(store: MemOSVectorStore) -> None:
    store.add([node(name, [1.0, 1.0]) for name in "dacb"])
    assert store.query(query([1.0, 0.0], 3)).ids == ["d", "a", "c"]


def test_words_alone_find_too(store: MemOSVectorStore) -> None:
    store.add([TextNode(id_="tea", text="Green tea from Yunnan.", embedding=[1.0, 0.0]),
               TextNode(id_="wine", text="Green wine from Minho.", embedding=[0.0, 1.0])])  # fmt: skip
    for mode in (VectorStoreQueryMode.TEXT_SEARCH, VectorStoreQueryMode.SPARSE):
        found = store.query(VectorStoreQuery(query_str="Yunnan", similarity_top_k=5, mode=mode))
        assert found.ids == ["tea"]
        with pytest.raises(InvalidRequest, match="query_str"):
            store.query(VectorStoreQuery(similarity_top_k=5, mode=mode))


def test_words_and_meaning_are_mixed_by_alpha(store: MemOSVectorStore) -> None:
    store.add([TextNode(id_="words", text="Green tea from Yunnan.", embedding=[0.0, 1.0]),
               TextNode(id_="meaning", text="Vinho verde.", embedding=[1.0, 0.1])])  # fmt: skip
    for mode in (VectorStoreQueryMode.HYBRID, VectorStoreQueryMode.SEMANTIC_HYBRID):
        ask = {"query_str": "Yunnan tea", "mode": mode}
        assert store.query(query([1.0, 0.0], alpha=1.0, **ask)).ids == ["meaning"]
        assert store.query(query([1.0, 0.0], alpha=0.0, **ask)).ids == ["words"]
        assert set(store.query(query([1.0, 0.0], **ask)).ids or []) == {"words", "meaning"}
        assert store.query(query([1.0, 0.0], hybrid_top_k=1, alpha=0.9, **ask)).ids == ["meaning"]
        with pytest.raises(InvalidRequest, match="alpha"):
            store.query(query([1.0, 0.0], alpha=2.0, **ask))


@pytest.mark.parametrize("mode", [VectorStoreQueryMode.DEFAULT, VectorStoreQueryMode.MMR, VectorStoreQueryMode.HYBRID])
def test_a_query_without_a_vector_is_refused(store: MemOSVectorStore, mode: VectorStoreQueryMode) -> None:
    with pytest.raises(InvalidRequest, match="query_embedding"):
        store.query(VectorStoreQuery(query_str="x", similarity_top_k=1, mode=mode))


@pytest.mark.parametrize("vector", [[], [float("nan"), 1.0], [float("inf"), 1.0], [[1.0]]])
def test_a_vector_that_is_none_is_refused(store: MemOSVectorStore, vector: list[float]) -> None:
    store.add(nodes())
    with pytest.raises(InvalidRequest, match="embedding"):
        store.query(VectorStoreQuery(query_embedding=vector, similarity_top_k=1))
    assert store.query(query([0.0, 0.0])).similarities == pytest.approx([0.0] * 4)


def test_doc_ids_narrow_a_query(store: MemOSVectorStore) -> None:
    store.add(nodes())
    assert store.query(query([0.0, 1.0], doc_ids=["d3", "d2"])).ids == ["northeast", "south"]


def test_reading_nodes(store: MemOSVectorStore) -> None:
    store.add(nodes())
    assert [found.node_id for found in store.get_nodes()] == ["north", "east", "south", "northeast"]
    assert [found.node_id for found in store.get_nodes(["south", "none", "north", "south"])] == ["south", "north"]
    assert [found.node_id for found in store.get_nodes(filters=only("year", 2010))] == ["south", "northeast"]
    assert [found.node_id for found in store.get_nodes(["south", "east"], only("year", 2010))] == ["south"]
    assert store.get_nodes([]) == []


def test_deleting_nothing_in_particular_is_refused(store: MemOSVectorStore) -> None:
    store.add(nodes())
    for options in ({}, {"filters": MetadataFilters(filters=[])}):
        with pytest.raises(InvalidRequest, match="clear"):
            store.delete_nodes(**options)
    assert len(store.get_nodes()) == 4


def test_a_new_version_keeps_its_history(memos: MemOS, store: MemOSVectorStore) -> None:
    store.add([node("n", [1.0, 0.0], city="Oslo")])
    store.add([node("n", [1.0, 0.0], city="Riga")])
    store.add([node("n", [1.0, 0.0], city="Riga")])  # the same again makes no version
    cube = memos.get(key="n", collection="llama_index", user_id="mara")
    assert [old.metadata["city"] for old in memos.history(cube.id)] == ["Oslo", "Riga"]
    memos.rollback(cube.id, to_version=1)
    assert store.get_nodes(["n"])[0].metadata == {"city": "Oslo"}


def test_a_node_added_again_with_another_vector_alone_has_that_one(store: MemOSVectorStore) -> None:
    store.add(nodes())
    store.add([node("north", [1.0, 0.0], "d1", city="Oslo", year=1999)])
    assert store.query(query([1.0, 0.0], 2)).similarities == pytest.approx([1.0, 1.0], abs=CLOSE)


def test_of_one_batch_the_last_of_equal_ids_counts(store: MemOSVectorStore) -> None:
    store.add([node("n", [1.0, 0.0], v=1), node("m", [1.0, 0.0]), node("n", [0.0, 1.0], v=2)])
    assert store.get_nodes(["n"])[0].metadata == {"v": 2}
    assert store.query(query([0.0, 1.0], 1)).ids == ["n"]


def test_deletion_is_erasure(memos: MemOS, store: MemOSVectorStore) -> None:
    store.add([TextNode(id_="pin", text="the pin is 1234", embedding=[1.0, 0.0], metadata={"who": "mara"})])
    cube = memos.get(key="pin", collection="llama_index", user_id="mara")
    store.delete_nodes(["pin"])
    with pytest.raises(LookupError):
        memos.get(cube.id)
    assert memos.search("pin 1234", user_id="mara", collection=None) == []
    assert store.get_nodes() == [] and store.query(query([1.0, 0.0])).ids == []
    store.add([node("pin", [1.0, 0.0])])
    assert store.get_nodes(["pin"])[0].get_content() == "text of pin"
    assert memos.verify().ok


def test_deletion_reaches_what_is_archived(memos: MemOS, store: MemOSVectorStore) -> None:
    store.add(nodes())
    cube = memos.get(key="north", collection="llama_index", user_id="mara")
    memos.archive(cube.id)
    assert store.query(query([0.0, 1.0], 1)).ids == ["northeast"] and store.get_nodes(["north"]) == []
    store.delete("d1")
    with pytest.raises(LookupError):
        memos.get(cube.id)


def test_an_archived_node_added_again_is_back(memos: MemOS, store: MemOSVectorStore) -> None:
    store.add(nodes())
    memos.archive(memos.get(key="north", collection="llama_index", user_id="mara").id)
    store.add(nodes()[:1])
    assert store.query(query([0.0, 1.0], 1)).ids == ["north"]


def test_users_and_collections_never_meet(memos: MemOS) -> None:
    mara, noor = MemOSVectorStore(memos, user_id="mara"), MemOSVectorStore(memos, user_id="noor")
    second = MemOSVectorStore(memos, user_id="mara", collection="second")
    mara.add(nodes())
    noor.add([node("north", [1.0, 0.0])])
    for other in (noor, second):
        assert {found.node_id for found in other.get_nodes()} <= {"north"}
        other.delete("d1")
        other.delete_nodes(["south"])
        other.clear()
    assert len(mara.get_nodes()) == 4


def test_a_user_sees_the_nodes_of_ones_sessions_and_deletes_them_too(memos: MemOS) -> None:
    session = MemOSVectorStore(memos, user_id="mara", session_id="s1")
    whole = MemOSVectorStore(memos, user_id="mara")
    session.add([node("n", [1.0, 0.0])])
    assert whole.query(query([1.0, 0.0])).ids == ["n"]
    whole.delete_nodes(["n"])
    assert session.get_nodes() == []


def test_what_other_fronts_keep_in_the_collection_is_left_alone(memos: MemOS, shared: MemOSVectorStore) -> None:
    fact = memos.add("Mara likes tea.", user_id="mara", collection="llama_index")[0]
    shared.add([TextNode(id_="n", text="Mara likes tea very much.")])
    assert shared.query(VectorStoreQuery(query_str="Mara likes tea.", similarity_top_k=5)).ids == ["n"]
    assert [found.node_id for found in shared.get_nodes()] == ["n"]
    shared.clear()
    assert memos.get(fact.id).text == "Mara likes tea."


def test_a_store_with_an_embedding_embeds_what_comes_without_a_vector(memos: MemOS, shared: MemOSVectorStore) -> None:
    shared.add([TextNode(id_="tea", text="Green tea from Yunnan."), TextNode(id_="wine", text="Wine from Minho.")])
    assert shared.query(VectorStoreQuery(query_str="tea from Yunnan", similarity_top_k=1)).ids == ["tea"]
    hit = memos.search("Yunnan green tea", user_id="mara", collection="llama_index")[0]
    assert hit.cube.text == "Green tea from Yunnan." and "meaning" in hit.why


def test_spaces_are_never_mixed(memos: MemOS) -> None:
    mock = MockEmbedding(embed_dim=8)
    bound = MemOSVectorStore(memos, user_id="mara", embedding=mock)
    loose = MemOSVectorStore(memos, user_id="mara")
    loose.add([node("two", [1.0, 0.0])])
    loose.add([node("three", [1.0, 0.0, 0.0])])
    bound.add([TextNode(id_="eight", text="x")])
    assert loose.query(query([1.0, 0.0])).ids == ["two"]
    assert loose.query(query([1.0, 0.0, 0.0])).ids == ["three"]
    assert loose.query(query([1.0] * 8)).ids == [] and loose.query(query([1.0] * 5)).ids == []
    assert bound.query(VectorStoreQuery(query_str="y", similarity_top_k=9)).ids == ["eight"]
    with pytest.raises(InvalidRequest, match="embedding"):
        bound.query(query([1.0, 0.0]))
    with pytest.raises(InvalidRequest, match="embedding"):
        bound.add([node("two", [1.0, 0.0])])
    with pytest.raises(InvalidRequest, match="one model"):
        loose.add([node("a", [1.0, 0.0]), node("b", [1.0])])


def test_what_is_not_json_is_refused_before_anything_is_written(memos: MemOS, store: MemOSVectorStore) -> None:
    with pytest.raises(InvalidRequest, match="JSON"):
        store.add([node("fine", [1.0, 0.0]), node("odd", [1.0, 0.0], thing=object())])
    assert memos.list(user_id="mara") == []


def test_a_store_without_a_scope_is_refused(memos: MemOS) -> None:
    for options in ({}, {"user_id": ""}, {"scope": Scope()}):
        with pytest.raises(InvalidRequest):
            MemOSVectorStore(memos, **options)  # type: ignore[arg-type]
    with pytest.raises(InvalidRequest, match="embed"):
        MemOSVectorStore(memos, user_id="mara", embedding=object())


def test_a_store_that_may_see_everything_cannot_write(memos: MemOS) -> None:
    MemOSVectorStore(memos, user_id="mara").add(nodes())
    audit = MemOSVectorStore(memos, scope=Scope.everything())
    assert len(audit.query(query([0.0, 1.0])).ids or []) == 4
    with pytest.raises(InvalidRequest):
        audit.add(nodes())


def test_provenance_names_the_front(memos: MemOS, store: MemOSVectorStore) -> None:
    store.add(nodes())
    store.delete("d1")
    assert {(entry.kind, entry.agent.id) for entry in memos.log(user_id="mara")} == {
        ("add", "llama_index.MemOSVectorStore"),
        ("erase", "llama_index.MemOSVectorStore"),
    }


async def test_writers_of_one_node_lose_nothing(memos: MemOS) -> None:
    stores = [MemOSVectorStore(memos, user_id="mara") for _ in range(8)]
    batches = [[node("shared", [1.0, n / 10], n=n), node(f"own{n}", [0.0, 1.0])] for n in range(8)]
    await asyncio.gather(*(store.async_add(batch) for store, batch in zip(stores, batches, strict=True)))
    cube = memos.get(key="shared", collection="llama_index", user_id="mara")
    assert {old.metadata["n"] for old in memos.history(cube.id)} == set(range(8))
    assert len(stores[0].get_nodes()) == 9


async def test_deletions_that_meet_do_not_fail(memos: MemOS) -> None:
    stores = [MemOSVectorStore(memos, user_id="mara") for _ in range(6)]
    await stores[0].async_add([node(f"n{n}", [1.0, n]) for n in range(20)])
    await asyncio.gather(*(store.aclear() for store in stores))
    assert stores[0].get_nodes() == []


def test_a_thousand_nodes_are_written_in_batches(memos: MemOS, store: MemOSVectorStore) -> None:
    store.add([node(f"n{n}", [1.0, n / 1200]) for n in range(1200)])
    assert [len(entry.cubes) for entry in memos.log(user_id="mara")] == [200, 500, 500]
    assert store.query(query([1.0, 0.0], 1)).ids == ["n0"]


def test_nodes_outlive_the_process(tmp_path: Path) -> None:
    path = tmp_path / "memos.db"
    with MemOS.open(path, embedder=HashEmbedder(dimension=64)) as memos:
        MemOSVectorStore(memos, user_id="mara").add(nodes())
    with MemOS.open(path, embedder=HashEmbedder(dimension=64), readonly=True) as memos:
        store = MemOSVectorStore(memos, user_id="mara")
        assert store.query(query([0.0, 1.0], 1)).ids == ["north"]
        with pytest.raises(InvalidRequest, match="readonly"):
            store.add(nodes())


async def test_an_index_is_rebuilt_from_the_store_alone(memos: MemOS, embedding: MemOSEmbedding) -> None:
    store = MemOSVectorStore(AsyncMemOS(memos), user_id="mara", embedding=embedding)
    index = VectorStoreIndex.from_vector_store(store, embed_model=embedding)
    await index.ainsert_nodes([TextNode(id_="tea", text="Green tea from Yunnan.", metadata={"year": 2020})])
    again = VectorStoreIndex.from_vector_store(MemOSVectorStore(memos, user_id="mara", embedding=embedding),
                                               embed_model=embedding)  # fmt: skip
    found = await again.as_retriever(similarity_top_k=3).aretrieve("tea")
    assert [hit.node.node_id for hit in found] == ["tea"]
    assert found[0].node.get_content(MetadataMode.LLM) == "year: 2020\n\nGreen tea from Yunnan."
    await index.adelete_nodes(["tea"])
    assert await again.as_retriever().aretrieve("tea") == []


async def test_an_ingestion_pipeline_replaces_what_changed(embedding: MemOSEmbedding, shared: MemOSVectorStore) -> None:
    pipeline = IngestionPipeline(transformations=[embedding], vector_store=shared, docstore=SimpleDocumentStore())
    pipeline.run(documents=[Document(text="one", doc_id="d"), Document(text="other", doc_id="e")])
    pipeline.run(documents=[Document(text="two", doc_id="d"), Document(text="other", doc_id="e")])
    assert {found.get_content() for found in shared.get_nodes()} == {"two", "other"}
    await pipeline.arun(documents=[Document(text="three", doc_id="d")])
    assert {found.get_content() for found in shared.get_nodes()} == {"three", "other"}


def test_a_store_opened_with_another_embedder_keeps_its_own_space_apart(tmp_path: Path) -> None:
    path = tmp_path / "memos.db"
    with MemOS.open(path, embedder=HashEmbedder(dimension=64)) as memos:
        store = MemOSVectorStore(memos, user_id="mara", embedding=MemOSEmbedding(memos))
        store.add([TextNode(id_="tea", text="Green tea.")])
    with pytest.raises(IncompatibleModel):
        MemOS.open(path, embedder=HashEmbedder(dimension=32))
