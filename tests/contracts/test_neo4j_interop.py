"""Other people's retrievers work on our graph as it is: real `langchain-neo4j` and `neo4j-graphrag`, both servers.

What they need: the text in `MemCube.text`, floats in `MemCube.emb_<dimension>`, a full-text and a vector index over
them, and no APOC. They see current text only where `upkeep` has been, and a tenant only through a filter.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("neo4j", reason="needs the Neo4j driver: pip install 'memos-agents[neo4j]'")
pytest.importorskip("langchain_neo4j", reason="needs pip install langchain-neo4j")
pytest.importorskip("neo4j_graphrag", reason="needs pip install neo4j-graphrag")

import neo4j
from langchain_core.embeddings import Embeddings
from langchain_neo4j import Neo4jVector
from langchain_neo4j.vectorstores.neo4j_vector import SearchType
from neo4j_graphrag.embeddings.base import Embedder
from neo4j_graphrag.retrievers import HybridRetriever, VectorCypherRetriever, VectorRetriever

from memos_agents.cube.scope import Scope
from memos_agents.infrastructure.vault.commit import Write
from memos_agents.infrastructure.vault.neo4j import Neo4jVault
from memos_agents.infrastructure.vault.neo4j.cypher_nearest import VECTOR_INDEX, VECTOR_PROPERTY
from memos_agents.infrastructure.vault.neo4j.upkeep import index_vectors
from memos_agents.testing import HashEmbedder
from memos_agents.testing.vault_scribe import Scribe

pytestmark = [pytest.mark.neo4j, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

DIMENSION = 128  # one that no other test uses: without a filter these tools search every tenant
INDEX, PROPERTY = VECTOR_INDEX[DIMENSION], VECTOR_PROPERTY[DIMENSION]
HASHED = HashEmbedder(DIMENSION)
TEXTS = (
    "Mara moved to Lisbon in May",
    "The ferry to Cacilhas leaves every twenty minutes",
    "Her dog Pixel likes the river",
    "Noah keeps bees on the roof",
)


class ForLangChain(Embeddings):
    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [row.tolist() for row in HASHED.embed(texts)]

    def embed_query(self, text: str) -> list[float]:
        return HASHED.embed_query(text).tolist()


class ForGraphRag(Embedder):
    def embed_query(self, text: str) -> list[float]:
        return HASHED.embed_query(text).tolist()


class Filled:
    """A vault with some memories of two users, an erased one, a revised one, and its indexes filled."""

    def __init__(self, uri: str) -> None:
        self.uri, self.tenant = uri, f"interop-{secrets.token_hex(6)}"
        self.vault = Neo4jVault(uri, tenant=self.tenant)
        self.vault.open_space(HASHED.fingerprint, DIMENSION, make_default=True)
        self.scribe = Scribe(self.vault)
        self.cubes = [self.add(text, "noah" if text.startswith("Noah") else "mara") for text in TEXTS]
        self.erased = self.add("Mara moved to Porto in April", "mara")
        index_vectors(self.vault.link, HASHED.fingerprint)
        self.scribe.erase(self.erased)
        self.driver = neo4j.GraphDatabase.driver(uri, notifications_min_severity="OFF")

    def add(self, text: str, user: str) -> Any:
        cube = self.scribe.cube(text, scope=Scope(tenant=self.tenant, user_id=user))
        self.scribe.commit(writes=[Write(cube=cube, vectors={HASHED.fingerprint: HASHED.embed([text])[0]})])
        return cube

    def langchain(self, search_type: SearchType, **options: Any) -> Neo4jVector:
        return Neo4jVector.from_existing_index(
            ForLangChain(),
            index_name=INDEX,
            url=self.uri,
            username="neo4j",
            password="none",
            database="neo4j",
            embedding_node_property=PROPERTY,
            text_node_property="text",
            node_label="MemCube",
            search_type=search_type,
            **options,
        )

    def close(self) -> None:
        self.driver.execute_query("MATCH (n {tenant: $tenant}) DETACH DELETE n", tenant=self.tenant, database_="neo4j")
        self.driver.close()
        self.vault.close()


@pytest.fixture(scope="module")
def filled(neo4j_uris: str) -> Iterator[Filled]:
    filled = Filled(neo4j_uris)
    yield filled
    filled.close()


@pytest.fixture
def stores() -> Iterator[list[Neo4jVector]]:
    """LangChain's store has no way to close its driver."""
    made: list[Neo4jVector] = []
    yield made
    for store in made:
        store._driver.close()


def owned(filled: Filled, user: str = "mara") -> dict[str, str]:
    return {"tenant": filled.tenant, "user_id": user}


def test_langchain_finds_by_vector_within_an_owner(filled: Filled, stores: list[Neo4jVector]) -> None:
    store = filled.langchain(SearchType.VECTOR)
    stores.append(store)
    found = store.similarity_search_with_score("Mara moved to Lisbon", k=3, filter=owned(filled))
    assert found[0][0].page_content == TEXTS[0]
    assert found[0][1] > found[1][1]
    assert found[0][0].metadata["id"] == filled.cubes[0].id
    assert PROPERTY not in found[0][0].metadata
    assert {document.metadata["user_id"] for document, _ in found} == {"mara"}
    assert TEXTS[3] not in {document.page_content for document, _ in found}


def test_langchain_finds_with_its_index_alone(filled: Filled, stores: list[Neo4jVector]) -> None:
    """Without a filter it asks the vector index itself."""
    store = filled.langchain(SearchType.VECTOR)
    stores.append(store)
    found = store.similarity_search("bees on the roof", k=20, effective_search_ratio=5)
    assert TEXTS[3] in {document.page_content for document in found}
    assert store.embedding_dimension == DIMENSION


def test_langchain_hybrid_uses_our_full_text_index(filled: Filled, stores: list[Neo4jVector]) -> None:
    store = filled.langchain(SearchType.HYBRID, keyword_index_name="memos_text")
    stores.append(store)
    found = store.similarity_search("Cacilhas ferry", k=5, effective_search_ratio=10)
    assert TEXTS[1] in {document.page_content for document in found}


def test_langchain_may_walk_on_into_provenance(filled: Filled, stores: list[Neo4jVector]) -> None:
    store = filled.langchain(
        SearchType.VECTOR,
        retrieval_query=(
            "MATCH (node)-[:CURRENT]->(v:CubeVersion)-[:WAS_GENERATED_BY]->(a:Activity) "
            "WHERE v.superseded_us IS NULL AND NOT v.is_stale AND node.tenant = $owner "
            "RETURN node.text AS text, score, {activity: a.kind, version: v.n} AS metadata"
        ),
    )
    stores.append(store)
    found = store.similarity_search("Mara moved to Lisbon", k=50, params={"owner": filled.tenant})
    assert {document.page_content for document in found} == set(TEXTS)
    assert found[0].metadata == {"activity": "test", "version": 1}


def test_graphrag_finds_by_vector_within_an_owner(filled: Filled) -> None:
    retriever = VectorRetriever(
        filled.driver, INDEX, ForGraphRag(), return_properties=["id", "text"], neo4j_database="neo4j"
    )
    found = retriever.search(query_text="the dog at the river", top_k=2, filters=owned(filled))
    assert found.items[0].content == str({"id": filled.cubes[2].id, "text": TEXTS[2]})
    assert retriever.search(query_text="bees", top_k=5, filters=owned(filled, "nobody")).items == []


def test_graphrag_hybrid_uses_both_indexes(filled: Filled) -> None:
    retriever = HybridRetriever(
        filled.driver, INDEX, "memos_text", ForGraphRag(), return_properties=["tenant", "text"], neo4j_database="neo4j"
    )
    found = retriever.search(query_text="Cacilhas ferry", top_k=10)
    assert any(filled.tenant in item.content and TEXTS[1] in item.content for item in found.items)


def test_graphrag_walks_on_from_what_it_finds(filled: Filled) -> None:
    """Its `filters` cannot be used here: neo4j-graphrag 1.21 forgets the property's name (VectorCypherRetriever)."""
    retriever = VectorCypherRetriever(
        filled.driver,
        INDEX,
        "MATCH (node)-[:CURRENT]->(v:CubeVersion {tenant: $owner})-[:WAS_GENERATED_BY]->(a:Activity) "
        "RETURN node.text AS text, a.kind AS activity, v.hash = node.hash AS is_current",
        ForGraphRag(),
        neo4j_database="neo4j",
    )
    found = retriever.search(query_text="Noah keeps bees on the roof", top_k=50, query_params={"owner": filled.tenant})
    assert TEXTS[3] in found.items[0].content
    assert "activity='test'" in found.items[0].content
    assert "is_current=True" in found.items[0].content
    assert len(found.items) == len(TEXTS)


def test_what_is_erased_is_gone_for_every_tool(filled: Filled, stores: list[Neo4jVector]) -> None:
    store = filled.langchain(SearchType.VECTOR)
    stores.append(store)
    documents = store.similarity_search("Mara moved to Porto in April", k=20, filter=owned(filled))
    assert all("Porto" not in str(document) for document in documents)
    retriever = HybridRetriever(filled.driver, INDEX, "memos_text", ForGraphRag(), neo4j_database="neo4j")
    items = retriever.search(query_text="Mara moved to Porto in April", top_k=20).items
    assert all(filled.erased.id not in item.content for item in items)
