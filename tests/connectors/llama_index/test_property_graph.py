"""Property graphs: laws of `PropertyGraphStore` on upstream's own store and on ours, then what only ours promises."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llama_index.core import PropertyGraphIndex
from llama_index.core.graph_stores import SimplePropertyGraphStore
from llama_index.core.graph_stores.types import (
    KG_NODES_KEY,
    KG_RELATIONS_KEY,
    TRIPLET_SOURCE_KEY,
    ChunkNode,
    EntityNode,
    LabelledNode,
    PropertyGraphStore,
    Relation,
    Triplet,
)
from llama_index.core.indices.property_graph import ImplicitPathExtractor, VectorContextRetriever
from llama_index.core.schema import BaseNode, NodeRelationship, RelatedNodeInfo, TextNode, TransformComponent
from llama_index.core.vector_stores.types import (
    MetadataFilter,
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryMode,
)

from memos_agents import AsyncMemOS, InvalidRequest, MemOS, Scope
from memos_agents.connectors.llama_index import MemOSEmbedding, MemOSPropertyGraphStore
from memos_agents.testing import HashEmbedder


def entity(name: str, label: str = "person", **properties: Any) -> EntityNode:
    return EntityNode(name=name, label=label, properties=properties)


def relation(source: str, label: str, target: str, **properties: Any) -> Relation:
    return Relation(source_id=source, label=label, target_id=target, properties=properties)


def names(nodes: Sequence[LabelledNode]) -> set[str]:
    return {node.id for node in nodes}


def keys(triplets: Sequence[Triplet]) -> set[tuple[str, str, str]]:
    return {(source.id, relation.label, target.id) for source, relation, target in triplets}


PEOPLE = [entity("mara", age=30), entity("noor", age=25), entity("ines", age=30), entity("tea", "drink")]
FACTS = [
    relation("mara", "KNOWS", "noor", since=2020),
    relation("mara", "LIKES", "noor"),
    relation("noor", "KNOWS", "ines", since=2021),
    relation("ines", "LIKES", "tea"),
    relation("mara", "LIKES", "mara"),
]


class GraphLaws:
    """What every property graph store promises."""

    def fill(self, graph: PropertyGraphStore) -> None:
        graph.upsert_nodes([node.model_copy(deep=True) for node in PEOPLE])
        graph.upsert_relations([fact.model_copy(deep=True) for fact in FACTS])

    def test_nodes_are_found_by_id_and_property(self, graph: PropertyGraphStore) -> None:
        self.fill(graph)
        assert names(graph.get()) == {"mara", "noor", "ines", "tea"}
        assert graph.get(ids=["noor"]) == [entity("noor", age=25)]
        assert names(graph.get(ids=["noor", "tea", "none"])) == {"noor", "tea"}
        assert names(graph.get(properties={"age": 30})) == {"mara", "ines"}
        assert names(graph.get(properties={"age": 30, "no": 1})) == {"mara", "ines"}
        assert names(graph.get(properties={"age": 30}, ids=["mara", "noor"])) == {"mara"}
        assert graph.get(properties={"no": 1}) == [] and graph.get(ids=["none"]) == []

    def test_a_node_upserted_again_is_replaced(self, graph: PropertyGraphStore) -> None:
        self.fill(graph)
        graph.upsert_nodes([entity("noor", "boss", age=26)])
        assert graph.get(ids=["noor"]) == [entity("noor", "boss", age=26)]
        assert len(graph.get()) == 4
        assert keys(graph.get_triplets(ids=["noor"])) == {
            ("mara", "KNOWS", "noor"), ("mara", "LIKES", "noor"), ("noor", "KNOWS", "ines")
        }  # fmt: skip

    def test_triplets_meet_every_condition(self, graph: PropertyGraphStore) -> None:
        self.fill(graph)
        assert graph.get_triplets() == []
        assert keys(graph.get_triplets(entity_names=["ines"])) == {("noor", "KNOWS", "ines"), ("ines", "LIKES", "tea")}
        assert keys(graph.get_triplets(ids=["tea"])) == {("ines", "LIKES", "tea")}
        assert keys(graph.get_triplets(relation_names=["KNOWS"])) == {
            ("mara", "KNOWS", "noor"),
            ("noor", "KNOWS", "ines"),
        }
        assert keys(graph.get_triplets(entity_names=["noor"], relation_names=["LIKES"])) == {("mara", "LIKES", "noor")}
        assert keys(graph.get_triplets(properties={"since": 2021})) == {("noor", "KNOWS", "ines")}
        assert keys(graph.get_triplets(properties={"age": 25})) == {
            ("mara", "KNOWS", "noor"), ("mara", "LIKES", "noor"), ("noor", "KNOWS", "ines")
        }  # fmt: skip
        assert keys(graph.get_triplets(entity_names=["mara"], ids=["noor"])) == {
            ("mara", "KNOWS", "noor"), ("mara", "LIKES", "noor")
        }  # fmt: skip
        assert graph.get_triplets(entity_names=["none"]) == [] and graph.get_triplets(relation_names=["none"]) == []

    def test_a_triplet_has_its_three_parts(self, graph: PropertyGraphStore) -> None:
        self.fill(graph)
        assert graph.get_triplets(entity_names=["tea"]) == [(entity("ines", age=30), FACTS[3], entity("tea", "drink"))]

    def test_two_labels_between_two_nodes_stay_apart(self, graph: PropertyGraphStore) -> None:
        self.fill(graph)
        both = graph.get_triplets(entity_names=["mara"], ids=["noor"])
        assert sorted(triplet[1].label for triplet in both) == ["KNOWS", "LIKES"]

    def test_a_node_may_be_related_to_itself(self, graph: PropertyGraphStore) -> None:
        self.fill(graph)
        assert ("mara", "LIKES", "mara") in keys(graph.get_triplets(ids=["mara"]))

    def test_missing_ends_become_entities(self, graph: PropertyGraphStore) -> None:
        graph.upsert_relations([relation("a", "R", "b")])
        assert {(node.id, node.label) for node in graph.get()} == {("a", "entity"), ("b", "entity")}
        assert keys(graph.get_triplets(ids=["b"])) == {("a", "R", "b")}

    def test_a_relation_stated_again_is_one(self, graph: PropertyGraphStore) -> None:
        self.fill(graph)
        graph.upsert_relations([FACTS[0], FACTS[0]])
        assert len(graph.get_triplets(relation_names=["KNOWS"])) == 2

    @pytest.mark.parametrize("depth", [0, 1, 2, 3])
    def test_the_neighbourhood_grows_with_depth(self, graph: PropertyGraphStore, depth: int) -> None:
        self.fill(graph)
        around = graph.get_rel_map(graph.get(ids=["mara"]), depth=depth, limit=100)
        levels = [
            set(),
            {("mara", "KNOWS", "noor"), ("mara", "LIKES", "noor"), ("mara", "LIKES", "mara")},
            {("noor", "KNOWS", "ines")},
            {("ines", "LIKES", "tea")},
        ]
        assert keys(around) == set().union(*levels[: depth + 1])

    def test_the_neighbourhood_can_be_limited(self, graph: PropertyGraphStore) -> None:
        self.fill(graph)
        mara = graph.get(ids=["mara"])
        assert len(graph.get_rel_map(mara, depth=3, limit=2)) == 2
        assert keys(graph.get_rel_map(mara, depth=2, limit=50, ignore_rels=["LIKES"])) == {
            ("mara", "KNOWS", "noor"), ("noor", "KNOWS", "ines")
        }  # fmt: skip
        assert graph.get_rel_map([], depth=2) == []

    def test_deleting_nodes_takes_their_relations(self, graph: PropertyGraphStore) -> None:
        self.fill(graph)
        graph.upsert_relations([relation("x", "R", "y"), relation("y", "KNOWS", "y")])
        graph.delete(ids=["x", "y"])
        assert names(graph.get()) == {"mara", "noor", "ines", "tea"}
        assert graph.get_triplets(relation_names=["R"]) == [] == graph.get_triplets(ids=["y"])
        assert len(graph.get_triplets(entity_names=["mara", "noor", "ines"])) == 5

    def test_chunks_come_back_as_llama_nodes(self, graph: PropertyGraphStore) -> None:
        source = {NodeRelationship.SOURCE: RelatedNodeInfo(node_id="doc")}
        chunk = TextNode(id_="c1", text="Mara knows Noor.", metadata={"page": 3}, relationships=source)
        graph.upsert_llama_nodes([chunk])
        assert graph.get_llama_nodes(["c1", "none"]) == [chunk]
        (found,) = graph.get(ids=["c1"])
        assert isinstance(found, ChunkNode) and found.text == "Mara knows Noor."
        assert found.properties["page"] == 3 and found.properties["ref_doc_id"] == "doc"

    def test_deleting_a_chunk_takes_what_was_extracted_from_it(self, graph: PropertyGraphStore) -> None:
        graph.upsert_llama_nodes(
            [TextNode(id_="c1", text="Mara knows Noor."), TextNode(id_="c2", text="Tea is green.")]
        )
        graph.upsert_nodes([entity("mara", **{TRIPLET_SOURCE_KEY: "c1"}), entity("tea", **{TRIPLET_SOURCE_KEY: "c2"})])
        graph.upsert_relations([relation("mara", "KNOWS", "noor", **{TRIPLET_SOURCE_KEY: "c1"})])
        graph.delete_llama_nodes(node_ids=["c1"])
        assert {"c2", "tea"} <= names(graph.get()) and not {"c1", "mara"} & names(graph.get())
        assert graph.get_triplets(relation_names=["KNOWS"]) == []

    def test_deleting_a_document_takes_its_chunks(self, graph: PropertyGraphStore) -> None:
        source = {NodeRelationship.SOURCE: RelatedNodeInfo(node_id="doc")}
        graph.upsert_llama_nodes([TextNode(id_="c1", text="one", relationships=source), TextNode(id_="c2", text="two")])
        graph.delete_llama_nodes(ref_doc_ids=["doc"])
        assert names(graph.get()) == {"c2"}

    def test_there_is_no_query_language(self, graph: PropertyGraphStore) -> None:
        assert graph.supports_structured_queries is False
        with pytest.raises((NotImplementedError, InvalidRequest)):
            graph.structured_query("MATCH (n) RETURN n")

    async def test_the_asynchronous_calls_do_the_same(self, graph: PropertyGraphStore) -> None:
        await graph.aupsert_nodes(list(PEOPLE))
        await graph.aupsert_relations(list(FACTS))
        assert names(await graph.aget(ids=["noor"])) == {"noor"}
        assert keys(await graph.aget_triplets(ids=["tea"])) == {("ines", "LIKES", "tea")}
        assert len(await graph.aget_rel_map(await graph.aget(ids=["mara"]), depth=1)) == 3
        await graph.aupsert_nodes([entity("alone")])
        await graph.adelete(ids=["alone"])
        assert "alone" not in names(await graph.aget())
        graph.upsert_llama_nodes([TextNode(id_="c1", text="one")])
        assert [node.node_id for node in await graph.aget_llama_nodes(["c1"])] == ["c1"]
        await graph.adelete_llama_nodes(["c1"])
        assert "c1" not in names(await graph.aget())

    def test_an_index_is_built_on_it(self, graph: PropertyGraphStore, embedding: MemOSEmbedding) -> None:
        index = index_on(graph, embedding, ["Mara likes tea.", "Noor likes wine."])
        assert {"Mara", "tea", "Noor", "wine", "c0", "c1"} <= names(graph.get())
        assert ("Mara", "LIKES", "tea") in keys(graph.get_triplets(entity_names=["Mara"]))
        index.insert_nodes([TextNode(id_="c2", text="Ines likes tea.")])
        assert keys(graph.get_triplets(entity_names=["tea"])) >= {("Mara", "LIKES", "tea"), ("Ines", "LIKES", "tea")}


class TestUpstream(GraphLaws):
    @pytest.fixture
    def graph(self) -> PropertyGraphStore:
        return SimplePropertyGraphStore()


class TestOurs(GraphLaws):
    @pytest.fixture
    def graph(self, memos: MemOS) -> PropertyGraphStore:
        return MemOSPropertyGraphStore(memos, user_id="mara")


class Likes(TransformComponent):
    """Reads "A likes B." without a model."""

    def __call__(self, nodes: Sequence[BaseNode], **kwargs: Any) -> Sequence[BaseNode]:
        for node in nodes:
            who, what = node.get_content().strip(".").split(" likes ")
            node.metadata[KG_NODES_KEY] = [entity(who), entity(what, "drink")]
            node.metadata[KG_RELATIONS_KEY] = [relation(who, "LIKES", what)]
        return nodes


def index_on(graph: PropertyGraphStore, embedding: MemOSEmbedding, texts: list[str]) -> PropertyGraphIndex:
    return PropertyGraphIndex(
        nodes=[TextNode(id_=f"c{n}", text=text) for n, text in enumerate(texts)],
        property_graph_store=graph,
        kg_extractors=[Likes(), ImplicitPathExtractor()],
        embed_model=embedding,
        embed_kg_nodes=graph.supports_vector_queries,
        use_async=False,
    )


@pytest.fixture
def embedding(memos: MemOS) -> MemOSEmbedding:
    return MemOSEmbedding(memos)


@pytest.fixture
def graph(memos: MemOS) -> MemOSPropertyGraphStore:
    return MemOSPropertyGraphStore(memos, user_id="mara")


def fill(graph: PropertyGraphStore) -> None:
    GraphLaws().fill(graph)


# -- what only ours promises


@pytest.mark.parametrize(
    "node",
    [
        entity("mara", "person", s="x", n=1, f=0.5, b=True, none=None, list=[1, "a"], deep={"x": [{}]}),
        entity('say "hi"', "quote"),
        entity("line\nbreak \x00 \ud800", "od\x00d", **{"k\x00": "v\ud800", "_graph_node": 1, "_x": 2}),
        entity("x" * 600),
        entity(""),
        ChunkNode(text="a chunk", id_="c1", label="text_chunk", properties={"page": 1}),
        ChunkNode(text="raw \x00 chunk \ud800", id_="c2"),
        ChunkNode(text="", id_="c3"),
    ],
    ids=range(8),
)
def test_a_node_comes_back_as_it_was(graph: MemOSPropertyGraphStore, node: LabelledNode) -> None:
    graph.upsert_nodes([node, entity("other")])
    assert graph.get(ids=[node.id]) == [node]
    graph.upsert_relations([relation(node.id, "odd \x00 label", "other", **{"p\x00": [1, {"x": None}]})])
    assert graph.get_triplets(ids=[node.id]) == [
        (node, relation(node.id, "odd \x00 label", "other", **{"p\x00": [1, {"x": None}]}), entity("other"))
    ]


def test_a_chunk_without_an_id_keeps_the_one_it_was_written_with(graph: MemOSPropertyGraphStore) -> None:
    chunk = ChunkNode(text="some text")
    graph.upsert_nodes([chunk])
    assert graph.get(ids=[chunk.id]) == [ChunkNode(text="some text", id_=chunk.id)]


def test_nodes_of_another_kind_and_what_is_not_json_are_refused(graph: MemOSPropertyGraphStore) -> None:
    class Odd(LabelledNode):
        def __str__(self) -> str:
            return "odd"

        @property
        def id(self) -> str:
            return "odd"

    with pytest.raises(InvalidRequest, match="Odd"):
        graph.upsert_nodes([entity("fine"), Odd()])
    with pytest.raises(InvalidRequest, match="JSON"):
        graph.upsert_nodes([entity("fine"), entity("bad", thing=object())])
    assert graph.get() == []


def test_an_empty_list_names_nothing(graph: MemOSPropertyGraphStore) -> None:
    fill(graph)
    assert graph.get(ids=[]) == [] and graph.get_triplets(ids=[]) == []
    assert graph.get_triplets(entity_names=[], relation_names=["KNOWS"]) == []
    graph.delete(ids=[])
    graph.delete(entity_names=[], relation_names=[], properties={}, ids=[])
    graph.delete_llama_nodes([], [])
    graph.delete_llama_nodes(["none"], ["none"])
    assert len(graph.get()) == 4 and len(graph.get_triplets(entity_names=["mara", "noor", "ines"])) == 5


def test_upstream_deletes_every_node_where_none_is_named() -> None:
    """The negative control of the test above."""
    graph = SimplePropertyGraphStore()
    fill(graph)
    graph.delete_llama_nodes(["none"])
    assert graph.get() == []


def test_deleting_a_node_spares_its_neighbours(graph: MemOSPropertyGraphStore) -> None:
    fill(graph)
    graph.delete(ids=["tea"])
    assert names(graph.get()) == {"mara", "noor", "ines"} and len(graph.get_triplets(relation_names=["KNOWS"])) == 2


def test_upstream_deletes_the_neighbours_and_is_broken_then() -> None:
    """The negative control of the test above."""
    graph = SimplePropertyGraphStore()
    fill(graph)
    graph.delete(ids=["tea"])
    assert names(graph.get()) == {"mara", "noor"}
    with pytest.raises(KeyError):
        graph.get_triplets(relation_names=["KNOWS"])


def test_deleting_nothing_in_particular_is_refused(graph: MemOSPropertyGraphStore) -> None:
    fill(graph)
    with pytest.raises(InvalidRequest, match="what"):
        graph.delete()
    assert len(graph.get()) == 4


def test_deletion_takes_what_is_named_and_no_more(graph: MemOSPropertyGraphStore) -> None:
    fill(graph)
    graph.delete(relation_names=["LIKES"])
    assert names(graph.get()) == {"mara", "noor", "ines", "tea"}
    assert keys(graph.get_triplets(entity_names=["mara", "noor", "ines"])) == {
        ("mara", "KNOWS", "noor"), ("noor", "KNOWS", "ines")
    }  # fmt: skip
    graph.delete(properties={"since": 2021})
    assert keys(graph.get_triplets(entity_names=["noor"])) == {("mara", "KNOWS", "noor")}
    graph.delete(entity_names=["noor"])
    assert names(graph.get()) == {"mara", "ines", "tea"}
    graph.delete(properties={"age": 30})
    assert names(graph.get()) == {"tea"}


def test_deletion_is_erasure(memos: MemOS, graph: MemOSPropertyGraphStore) -> None:
    fill(graph)
    ids = [cube.id for cube in memos.list(user_id="mara") if "noor" in cube.text]
    assert len(ids) == 4  # noor, and three statements about her
    graph.delete(ids=["noor"])
    for cube_id in ids:
        with pytest.raises(LookupError):
            memos.get(cube_id)
    for cube in memos.list(user_id="mara"):
        assert all("noor" not in str(record) for record in memos.relations(cube.id, removed=True))
    assert memos.search("noor", user_id="mara", collection=None) == []
    assert memos.verify().ok


def test_a_relation_is_a_statement_between_its_ends(memos: MemOS, graph: MemOSPropertyGraphStore) -> None:
    graph.upsert_relations([relation("mara", "KNOWS", "noor", since=2020)])
    (statement,) = memos.list(user_id="mara", collection="llama_index.graph.statements")
    mara = memos.get(key="mara", collection="llama_index.graph", user_id="mara")
    noor = memos.get(key="noor", collection="llama_index.graph", user_id="mara")
    assert statement.text == "mara KNOWS noor" and statement.metadata["since"] == 2020
    edges = [record.relation for record in memos.relations(statement.id)]
    assert [(edge.source_id, edge.kind.value, edge.target_id, edge.properties) for edge in edges] == [
        (mara.id, "RELATES_TO", statement.id, {"label": "KNOWS"}),
        (statement.id, "RELATES_TO", noor.id, {"label": "KNOWS"}),
    ]
    graph.upsert_relations([relation("mara", "KNOWS", "noor", since=2020)])
    assert len(memos.relations(statement.id, removed=True)) == 2  # the same again makes no edge


def test_a_relation_stated_again_has_the_new_properties_and_a_history(
    memos: MemOS, graph: MemOSPropertyGraphStore
) -> None:
    graph.upsert_relations([relation("mara", "KNOWS", "noor", since=2020)])
    graph.upsert_relations([relation("mara", "KNOWS", "noor", since=2019)])
    assert graph.get_triplets(ids=["noor"])[0][1].properties == {"since": 2019}
    (statement,) = memos.list(user_id="mara", collection="llama_index.graph.statements")
    assert [old.metadata["since"] for old in memos.history(statement.id)] == [2020, 2019]


def chunked(graph: MemOSPropertyGraphStore, name: str, text: str, *facts: Relation) -> None:
    graph.upsert_llama_nodes([TextNode(id_=name, text=text)])
    graph.upsert_relations(
        [fact.model_copy(update={"properties": {**fact.properties, TRIPLET_SOURCE_KEY: name}}) for fact in facts]
    )


def test_a_chunk_written_anew_makes_its_statements_stale(memos: MemOS, graph: MemOSPropertyGraphStore) -> None:
    chunked(graph, "c1", "Mara likes tea.", relation("mara", "LIKES", "tea"))
    (statement,) = memos.list(user_id="mara", collection="llama_index.graph.statements")
    chunk = memos.get(key="c1", collection="llama_index.graph", user_id="mara")
    assert [edge.source for edge in memos.provenance(statement.id).derivations] == [chunk.ref]
    graph.upsert_llama_nodes([TextNode(id_="c1", text="Mara likes coffee.")])
    assert graph.get_triplets(ids=["mara"]) == []
    chunked(graph, "c1", "Mara likes coffee.", relation("mara", "LIKES", "coffee"))
    assert keys(graph.get_triplets(ids=["mara"])) == {("mara", "LIKES", "coffee")}
    chunked(graph, "c1", "Mara likes coffee.", relation("mara", "LIKES", "tea"))
    assert len(graph.get_triplets(ids=["mara"])) == 2


def test_an_erased_chunk_takes_its_statements_whoever_erases_it(memos: MemOS, graph: MemOSPropertyGraphStore) -> None:
    chunked(graph, "c1", "Mara likes tea.", relation("mara", "LIKES", "tea"))
    chunked(
        graph, "c2", "Mara likes tea, and Noor.", relation("mara", "LIKES", "tea"), relation("mara", "LIKES", "noor")
    )
    receipt = memos.erase(memos.get(key="c1", collection="llama_index.graph", user_id="mara").id)
    assert sum(stone.is_derived for stone in receipt.tombstones) == 1
    assert keys(graph.get_triplets(ids=["mara"])) == {("mara", "LIKES", "tea"), ("mara", "LIKES", "noor")}  # c2 says so
    memos.erase(memos.get(key="c2", collection="llama_index.graph", user_id="mara").id)
    assert graph.get_triplets(ids=["mara"]) == []


def test_an_entity_that_another_chunk_names_outlives_its_chunk(graph: MemOSPropertyGraphStore) -> None:
    graph.upsert_nodes([entity("mara", **{TRIPLET_SOURCE_KEY: "c1"}), entity("wine", **{TRIPLET_SOURCE_KEY: "c1"})])
    chunked(graph, "c1", "Mara likes wine.", relation("mara", "LIKES", "wine"))
    chunked(graph, "c2", "Mara likes tea.", relation("mara", "LIKES", "tea"))
    graph.delete_llama_nodes(["c1"])
    assert names(graph.get()) == {"mara", "tea", "c2"}
    assert keys(graph.get_triplets(ids=["mara"])) == {("mara", "LIKES", "tea")}


def test_a_relation_to_an_erased_node_is_not_shown_and_can_be_stated_again(
    memos: MemOS, graph: MemOSPropertyGraphStore
) -> None:
    fill(graph)
    memos.erase(memos.get(key="tea", collection="llama_index.graph", user_id="mara").id)
    assert graph.get_triplets(relation_names=["LIKES"], ids=["ines"]) == []
    graph.upsert_relations([FACTS[3]])
    assert keys(graph.get_triplets(ids=["tea"])) == {("ines", "LIKES", "tea")}


def test_a_node_that_was_put_away_comes_back_as_it_was(memos: MemOS, graph: MemOSPropertyGraphStore) -> None:
    fill(graph)
    memos.archive(memos.get(key="noor", collection="llama_index.graph", user_id="mara").id)
    assert "noor" not in names(graph.get()) and graph.get_triplets(ids=["mara"], relation_names=["KNOWS"]) == []
    graph.upsert_relations([relation("noor", "SEES", "tea")])
    assert graph.get(ids=["noor"]) == [entity("noor", age=25)]
    assert len(graph.get_triplets(ids=["noor"])) == 4


def test_ends_with_double_quotes_are_the_entities_that_llamaindex_makes_of_them(graph: MemOSPropertyGraphStore) -> None:
    graph.upsert_relations([relation('the "big" tea', "R", "b"), relation("b", "R", 'the "big" tea')])
    (node,) = graph.get(ids=["the  big  tea"])
    assert node == EntityNode(name='the "big" tea') and len(graph.get()) == 2
    assert keys(graph.get_triplets(ids=[node.id])) == {(node.id, "R", "b"), ("b", "R", node.id)}
    graph.delete(ids=[node.id])
    assert graph.get_triplets(relation_names=["R"]) == []


def test_users_sessions_and_collections_never_meet(memos: MemOS) -> None:
    mara, noor = (MemOSPropertyGraphStore(memos, user_id=who) for who in ("mara", "noor"))
    second = MemOSPropertyGraphStore(memos, user_id="mara", collection="second")
    fill(mara)
    for other in (noor, second):
        assert other.get() == [] and other.get_triplets(relation_names=["KNOWS"]) == []
        assert other.get_rel_map(mara.get(ids=["mara"])) == [] and other.get_schema() == {"nodes": [], "relations": []}
        other.upsert_relations([relation("mara", "KNOWS", "secret")])
        other.delete(entity_names=["mara"], relation_names=["LIKES"], properties={"age": 30})
    assert len(mara.get()) == 4 and len(mara.get_triplets(entity_names=["mara", "noor", "ines"])) == 5


def test_nodes_are_found_by_vector(graph: MemOSPropertyGraphStore) -> None:
    nodes = [entity("north", d=1), entity("east", d=2), entity("bare", d=2)]
    nodes[0].embedding, nodes[1].embedding = [0.0, 1.0], [1.0, 0.0]
    graph.upsert_nodes(nodes)
    found, scores = graph.vector_query(VectorStoreQuery(query_embedding=[0.1, 1.0], similarity_top_k=5))
    assert [node.id for node in found] == ["north", "east"] and scores == sorted(scores, reverse=True)
    assert all(node.embedding is None for node in found)
    filters = MetadataFilters(filters=[MetadataFilter(key="d", value=2)])
    ask = VectorStoreQuery(query_embedding=[0.1, 1.0], similarity_top_k=5, filters=filters)
    assert names(graph.vector_query(ask)[0]) == {"east"}
    ask = VectorStoreQuery(query_embedding=[0.1, 1.0], similarity_top_k=5, node_ids=["east", "bare"])
    assert names(graph.vector_query(ask)[0]) == {"east"}
    ask = VectorStoreQuery(query_str="bare", similarity_top_k=5, mode=VectorStoreQueryMode.TEXT_SEARCH)
    assert names(graph.vector_query(ask)[0]) == {"bare"}
    assert graph.vector_query(VectorStoreQuery(query_embedding=[1.0, 2.0, 3.0], similarity_top_k=5)) == ([], [])
    first, second = entity("a"), entity("b")
    first.embedding, second.embedding = [1.0], [1.0, 2.0]
    with pytest.raises(InvalidRequest, match="one model"):
        graph.upsert_nodes([first, second])


async def test_an_index_finds_by_vector_and_walks_the_graph(
    graph: MemOSPropertyGraphStore, embedding: MemOSEmbedding
) -> None:
    index = index_on(graph, embedding, ["Mara likes tea.", "Noor likes wine."])
    retriever = VectorContextRetriever(graph, embed_model=embedding, include_text=True, similarity_top_k=1)
    for found in (retriever.retrieve("wine"), await retriever.aretrieve("wine")):
        assert [hit.node.ref_doc_id or hit.node.node_id for hit in found] == ["c1"]
        assert "Noor -> LIKES -> wine" in found[0].get_content()
    index.delete_ref_doc("c1")
    await graph.adelete_llama_nodes(["c1"])
    assert names(graph.get()) == {"Mara", "tea", "c0"}


def test_a_neighbourhood_names_each_triplet_once_nearest_first(graph: MemOSPropertyGraphStore) -> None:
    fill(graph)
    around = graph.get_rel_map(graph.get(ids=["mara"]), depth=3, limit=100)
    assert len(keys(around)) == len(around) == 5
    assert [triplet[2].id for triplet in around[3:]] == ["ines", "tea"]


async def test_the_schema_is_what_there_is(graph: MemOSPropertyGraphStore) -> None:
    fill(graph)
    schema = {"nodes": ["drink", "person"], "relations": ["KNOWS", "LIKES"]}
    assert graph.get_schema() == schema == await graph.aget_schema(refresh=True)
    assert graph.get_schema_str() == str(schema) == await graph.aget_schema_str()


async def test_a_query_language_is_refused(graph: MemOSPropertyGraphStore) -> None:
    with pytest.raises(InvalidRequest, match="scope"):
        graph.structured_query("MATCH (n) RETURN n")
    with pytest.raises(InvalidRequest, match="scope"):
        await graph.astructured_query("MATCH (n) RETURN n")


def test_provenance_names_the_front(memos: MemOS, graph: MemOSPropertyGraphStore) -> None:
    fill(graph)
    graph.delete(ids=["tea"])
    assert {entry.agent.id for entry in memos.log(user_id="mara")} == {"llama_index.MemOSPropertyGraphStore"}


def test_a_graph_without_a_scope_is_refused(memos: MemOS) -> None:
    for options in ({}, {"user_id": ""}, {"scope": Scope()}):
        with pytest.raises(InvalidRequest):
            MemOSPropertyGraphStore(memos, **options)  # type: ignore[arg-type]


async def test_writers_of_one_graph_lose_nothing(memos: MemOS) -> None:
    graphs = [MemOSPropertyGraphStore(AsyncMemOS(memos), user_id="mara") for _ in range(6)]
    await asyncio.gather(
        *(
            graph.aupsert_relations([relation("hub", f"R{n}", "rim"), relation("hub", "SHARED", "rim", n=n)])
            for n, graph in enumerate(graphs)
        )
    )
    labels = {triplet[1].label for triplet in graphs[0].get_triplets(ids=["hub"])}
    assert labels == {"SHARED", *(f"R{n}" for n in range(6))} and len(graphs[0].get()) == 2
    assert memos.verify().ok


def test_a_graph_outlives_the_process(tmp_path: Path) -> None:
    path = tmp_path / "memos.db"
    with MemOS.open(path, embedder=HashEmbedder(dimension=64)) as memos:
        fill(MemOSPropertyGraphStore(memos, user_id="mara"))
    with MemOS.open(path, embedder=HashEmbedder(dimension=64), readonly=True) as memos:
        graph = MemOSPropertyGraphStore(memos, user_id="mara")
        assert len(graph.get()) == 4 and len(graph.get_rel_map(graph.get(ids=["mara"]), depth=3)) == 5
        with pytest.raises(InvalidRequest, match="readonly"):
            fill(graph)


small = st.sampled_from(["a", "b", "c", "d"])
labels = st.sampled_from(["R", "S"])
steps = st.one_of(
    st.tuples(st.just("node"), small, st.integers(0, 2)),
    st.tuples(st.just("relation"), st.tuples(small, labels, small), st.integers(0, 2)),
)


@settings(max_examples=40)
@given(st.lists(steps, max_size=12), small, st.integers(0, 3), st.integers(0, 2))
def test_what_is_written_reads_as_in_upstreams_store(
    writes: list[tuple[str, Any, int]], start: str, depth: int, value: int
) -> None:
    with MemOS.open(":memory:", embedder=HashEmbedder(dimension=16)) as memos:
        graphs: list[PropertyGraphStore] = [
            SimplePropertyGraphStore(),
            MemOSPropertyGraphStore(memos, user_id="mara"),
        ]
        stated: set[tuple[str, str, str]] = set()
        for kind, what, number in writes:
            for graph in graphs:
                if kind == "node":
                    graph.upsert_nodes([entity(what, v=number)])
                elif what not in stated:  # stated again, upstream keeps the old properties
                    graph.upsert_relations([relation(*what, v=number)])
            if kind == "relation":
                stated.add(what)

        def reading(graph: PropertyGraphStore) -> list[object]:
            found = graph.get(ids=[start])
            return [
                sorted(map(str, graph.get())),
                sorted(map(str, graph.get(properties={"v": value}))),
                sorted(map(str, graph.get_triplets(ids=[start]))),
                sorted(map(str, graph.get_triplets(relation_names=["R"], properties={"v": value}))),
                sorted({str(triplet) for triplet in graph.get_rel_map(found, depth=depth, limit=1000)})
                if found
                else [],
            ]

        theirs, ours = map(reading, graphs)
        assert ours == theirs
