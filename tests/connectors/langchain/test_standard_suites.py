"""LangChain's published suites on our parts, with no test of theirs overridden."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

pytest.importorskip("langchain_tests", reason="needs langchain-tests (the dev group)")

from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.indexing import InMemoryRecordManager, aindex, index
from langchain_core.retrievers import BaseRetriever
from langchain_core.stores import BaseStore
from langchain_core.tools import BaseTool
from langchain_core.vectorstores import VectorStore
from langchain_tests.integration_tests import (
    BaseStoreAsyncTests,
    BaseStoreSyncTests,
    EmbeddingsIntegrationTests,
    RetrieversIntegrationTests,
    ToolsIntegrationTests,
    VectorStoreIntegrationTests,
)
from langchain_tests.unit_tests import EmbeddingsUnitTests, ToolsUnitTests

from memos_agents import AsyncMemOS, MemOS
from memos_agents.connectors.langchain import (
    MemOSByteStore,
    MemOSEmbeddings,
    MemOSRetriever,
    MemOSVectorStore,
    memory_tools,
)
from memos_agents.testing import HashEmbedder


class TestVectorStore(VectorStoreIntegrationTests):
    @pytest.fixture
    def vectorstore(self, memos: MemOS) -> VectorStore:
        return MemOSVectorStore(memos, self.get_embeddings(), user_id="mara")


class TestVectorStoreOnTheStoresOwnVectors(VectorStoreIntegrationTests):
    @pytest.fixture
    def vectorstore(self, memos: MemOS) -> VectorStore:
        return MemOSVectorStore(memos.scoped(user_id="mara"))


class TestVectorStoreOfAnAsynchronousFront(VectorStoreIntegrationTests):
    @pytest.fixture
    def vectorstore(self, memos: MemOS) -> VectorStore:
        return MemOSVectorStore(AsyncMemOS(memos).scoped(user_id="mara"), self.get_embeddings())


class TestRetriever(RetrieversIntegrationTests):
    @pytest.fixture(autouse=True)
    def _filled(self, memos: MemOS) -> None:
        memos.add([f"Mara likes dish number {number}." for number in range(5)], user_id="mara")
        memos.add("Omar likes dish number 9.", user_id="omar")
        self._memos = memos

    @property
    def retriever_constructor(self) -> type[BaseRetriever]:
        return MemOSRetriever

    @property
    def retriever_constructor_params(self) -> dict[str, Any]:
        return {"memos": self._memos, "user_id": "mara"}

    @property
    def retriever_query_example(self) -> str:
        return "Which dish does Mara like?"


class _Embeddings:
    @property
    def embeddings_class(self) -> type[Embeddings]:
        return MemOSEmbeddings

    @property
    def embedding_model_params(self) -> dict[str, Any]:
        return {"embedder": HashEmbedder(32)}


class TestEmbeddingsUnit(_Embeddings, EmbeddingsUnitTests):
    pass


class TestEmbeddingsIntegration(_Embeddings, EmbeddingsIntegrationTests):
    pass


class TestBuiltInEmbeddings(EmbeddingsIntegrationTests):
    @property
    def embeddings_class(self) -> type[Embeddings]:
        return MemOSEmbeddings


class _ByteStore:
    @pytest.fixture
    def kv_store(self, memos: MemOS) -> BaseStore[str, bytes]:
        return MemOSByteStore(memos, user_id="mara")

    @pytest.fixture
    def three_values(self) -> tuple[bytes, bytes, bytes]:
        return b"", b"\x00\xff", "é".encode() * 1000


class TestByteStoreSync(_ByteStore, BaseStoreSyncTests[bytes]):
    pass


class TestByteStoreAsync(_ByteStore, BaseStoreAsyncTests[bytes]):
    pass


class _Tool:
    name: str
    arguments: dict[str, Any]

    @pytest.fixture(autouse=True)
    def _made(self, memos: MemOS) -> None:
        cube = memos.add("I moved to Lisbon.", user_id="mara")[0]
        self._tools = {tool.name: tool for tool in memory_tools(memos, user_id="mara")}
        self._cube = cube

    @property
    def tool_constructor(self) -> BaseTool:
        return self._tools[self.name]

    @property
    def tool_invoke_params_example(self) -> dict[str, Any]:
        return {key: self._cube.id if value == "ID" else value for key, value in self.arguments.items()}


class _Add(_Tool):
    name, arguments = "add_memory", {"text": "I like lentils.", "occurred_at": "2026-05-01T10:00:00Z"}


class _Search(_Tool):
    name, arguments = "search_memories", {"query": "Lisbon", "limit": 2}


class _Update(_Tool):
    name, arguments = "update_memory", {"memory_id": "ID", "text": "I moved to Porto."}


class _Delete(_Tool):
    name, arguments = "delete_memory", {"memory_id": "ID"}


class TestAddUnit(_Add, ToolsUnitTests):
    pass


class TestAddIntegration(_Add, ToolsIntegrationTests):
    pass


class TestSearchUnit(_Search, ToolsUnitTests):
    pass


class TestSearchIntegration(_Search, ToolsIntegrationTests):
    pass


class TestUpdateUnit(_Update, ToolsUnitTests):
    pass


class TestUpdateIntegration(_Update, ToolsIntegrationTests):
    pass


class TestDeleteUnit(_Delete, ToolsUnitTests):
    pass


class TestDeleteIntegration(_Delete, ToolsIntegrationTests):
    pass


@pytest.fixture
def records() -> InMemoryRecordManager:
    manager = InMemoryRecordManager("docs")
    manager.create_schema()
    return manager


def documents(*texts: str) -> list[Document]:
    return [Document(page_content=text, metadata={"source": text[0]}) for text in texts]


@pytest.mark.parametrize("cleanup", ["incremental", "full", "scoped_full"])
def test_index_keeps_the_store_in_step(memos: MemOS, records: InMemoryRecordManager, cleanup: Any) -> None:
    store = MemOSVectorStore(memos, user_id="mara")
    options: dict[str, Any] = {"cleanup": cleanup, "source_id_key": "source", "key_encoder": "sha256"}
    first = index(documents("a one", "b two"), records, store, **options)
    assert (first["num_added"], first["num_skipped"], first["num_deleted"]) == (2, 0, 0)
    again = index(documents("a one", "b two"), records, store, **options)
    assert (again["num_added"], again["num_skipped"], again["num_deleted"]) == (0, 2, 0)
    changed = index(documents("a three", "b two"), records, store, **options)
    assert (changed["num_added"], changed["num_skipped"], changed["num_deleted"]) == (1, 1, 1)
    assert {cube.text for cube in memos.list(user_id="mara")} == {"a three", "b two"}
    assert [found.page_content for found in store.similarity_search("a three", k=1)] == ["a three"]


async def test_aindex_keeps_the_store_in_step(memos: MemOS, records: InMemoryRecordManager) -> None:
    store = MemOSVectorStore(AsyncMemOS(memos), user_id="mara")
    options: dict[str, Any] = {"cleanup": "full", "source_id_key": "source", "key_encoder": "sha256"}
    await aindex(documents("a one", "b two"), records, store, **options)
    changed = await aindex(documents("b two", "c three"), records, store, **options)
    assert (changed["num_added"], changed["num_skipped"], changed["num_deleted"]) == (1, 1, 1)
    assert {cube.text for cube in memos.list(user_id="mara")} == {"b two", "c three"}


def test_what_the_suites_wrote_is_named_in_the_log(memos: MemOS) -> None:
    """The suites say nothing about provenance: every write of a front names that front."""
    MemOSVectorStore(memos, user_id="mara").add_texts(["a"], ids=[str(uuid.uuid4())])
    MemOSByteStore(memos, user_id="mara").mset([("k", b"v")])
    agents = {entry.agent.id for entry in memos.log(user_id="mara")}
    assert agents == {"langchain.MemOSVectorStore", "langchain.MemOSByteStore"}
