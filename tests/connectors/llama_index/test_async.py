"""Every asynchronous method works off the event loop: proved by the thread that touches the vault, not by a clock."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Sequence
from typing import Any

import pytest
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.embeddings import BaseEmbedding
from llama_index.core.graph_stores.types import EntityNode, PropertyGraphStore, Relation
from llama_index.core.memory import BaseMemory
from llama_index.core.retrievers import BaseRetriever
from llama_index.core.schema import QueryBundle, TextNode
from llama_index.core.storage.chat_store.base_db import AsyncDBChatStore
from llama_index.core.vector_stores.types import BasePydanticVectorStore, VectorStoreQuery

from memos_agents import MemOS
from memos_agents.connectors.llama_index import (
    MemOSChatStore,
    MemOSEmbedding,
    MemOSMemory,
    MemOSMemoryBlock,
    MemOSPropertyGraphStore,
    MemOSRetriever,
    MemOSVectorStore,
)
from memos_agents.infrastructure.vault.memory import MemoryVault
from memos_agents.testing import HashEmbedder

FREE = {"tenant", "is_readonly"}  # constants: no work


class WatchedVault(MemoryVault):
    """Remembers which thread asked for what."""

    def __init__(self) -> None:
        self._asked: list[tuple[str, int]] = []
        super().__init__(tenant="default")

    def __getattribute__(self, name: str) -> Any:
        if not name.startswith("_") and name not in FREE:
            self._asked.append((name, threading.get_ident()))
        return super().__getattribute__(name)


class WatchedEmbedder(HashEmbedder):
    def __init__(self) -> None:
        super().__init__(dimension=32)
        self.threads: set[int] = set()

    def embed(self, texts: Sequence[str]) -> Any:
        self.threads.add(threading.get_ident())
        return super().embed(texts)


@pytest.fixture
def watched() -> tuple[MemOS, WatchedVault, WatchedEmbedder]:
    vault, embedder = WatchedVault(), WatchedEmbedder()
    return MemOS(vault, embedder=embedder), vault, embedder


def message(text: str) -> ChatMessage:
    return ChatMessage(role="user", content=text)


async def use_chat_store(memos: MemOS) -> None:
    store = MemOSChatStore(memos, user_id="mara")
    await store.add_message("k", message("a"))
    await store.add_messages("k", [message("b"), message("c")])
    await store.get_messages("k")
    await store.count_messages("k")
    await store.archive_oldest_messages("k", 1)
    await store.delete_oldest_messages("k", 1)
    await store.set_messages("k", [message("d")])
    await store.delete_message("k", 0)
    await store.delete_messages("k")
    await store.get_keys()


async def use_memory(memos: MemOS) -> None:
    memory = MemOSMemory(memos, user_id="mara", session_id="s")
    await memory.aput(message("a"))
    await memory.aput_messages([message("b")])
    await memory.aset([message("c")])
    await memory.aget("c?")
    await memory.aget_all()
    await memory.areset()


async def use_memory_block(memos: MemOS) -> None:
    block = MemOSMemoryBlock(memos, user_id="mara")
    await block.aput([message("I like tea")], session_id="s")
    await block._aput([message("I like wine")])
    assert await block.aget([message("what do I like?")], session_id="s")


async def use_retriever(memos: MemOS) -> None:
    await MemOSMemoryBlock(memos, user_id="mara").aput([message("I like tea")])
    assert await MemOSRetriever(memos, user_id="mara").aretrieve("tea")


async def use_vector_store(memos: MemOS) -> None:
    store = MemOSVectorStore(memos, user_id="mara", embedding=MemOSEmbedding(memos))
    await store.async_add([TextNode(id_="n", text="tea"), TextNode(id_="m", text="wine")])
    assert (await store.aquery(VectorStoreQuery(query_str="tea", similarity_top_k=1))).ids == ["n"]
    await store.aget_nodes()
    await store.adelete_nodes(["n"])
    await store.adelete("doc")
    await store.aclear()


async def use_graph(memos: MemOS) -> None:
    graph = MemOSPropertyGraphStore(memos, user_id="mara")
    node = EntityNode(name="a", embedding=[1.0, 0.0])
    await graph.aupsert_nodes([node])
    await graph.aupsert_relations([Relation(source_id="a", label="R", target_id="b")])
    await graph.aget(ids=["a"])
    await graph.aget_triplets(ids=["a"])
    await graph.aget_rel_map([node])
    await graph.aget_llama_nodes(["a"])
    await graph.avector_query(VectorStoreQuery(query_embedding=[1.0, 0.0], similarity_top_k=1))
    await graph.aget_schema()
    await graph.aget_schema_str()
    await graph.adelete(ids=["a"])
    await graph.adelete_llama_nodes(["b"])


async def use_embedding(memos: MemOS) -> None:
    embedding = MemOSEmbedding(memos)
    await embedding.aget_text_embedding("tea")
    await embedding.aget_text_embedding_batch(["tea", "wine"])
    await embedding.aget_query_embedding("tea")


USES = [use_chat_store, use_memory, use_memory_block, use_retriever, use_vector_store, use_graph, use_embedding]


@pytest.mark.parametrize("use", USES, ids=lambda use: use.__name__)
async def test_the_loops_thread_does_no_work(watched: tuple[MemOS, WatchedVault, WatchedEmbedder], use: Any) -> None:
    memos, vault, embedder = watched
    vault._asked.clear()
    await use(memos)
    here = threading.get_ident()
    assert [name for name, thread in vault._asked if thread == here] == []
    assert here not in embedder.threads
    assert vault._asked or embedder.threads


def test_the_watch_sees_work_in_the_loop(watched: tuple[MemOS, WatchedVault, WatchedEmbedder]) -> None:
    """The negative control of the test above."""
    memos, vault, embedder = watched
    vault._asked.clear()
    MemOSMemory(memos, user_id="mara", session_id="s").put(message("a"))
    here = threading.get_ident()
    assert "commit" in {name for name, thread in vault._asked if thread == here} and here in embedder.threads


BASES = [
    (MemOSChatStore, AsyncDBChatStore),
    (MemOSMemory, BaseMemory),
    (MemOSVectorStore, BasePydanticVectorStore),
    (MemOSPropertyGraphStore, PropertyGraphStore),
]


@pytest.mark.parametrize(("ours", "base"), BASES, ids=lambda kind: kind.__name__)
def test_every_asynchronous_method_of_the_base_is_our_own(ours: type, base: type) -> None:
    """What is inherited would call the synchronous method inside the loop, or on asyncio's threads."""
    names = {name for name, value in inspect.getmembers(base, inspect.iscoroutinefunction) if not name.startswith("_")}
    assert names
    inherited = {name for name in names if name not in vars(ours)}
    assert inherited == set()
    for name in names:  # and it takes what the base takes
        theirs, mine = inspect.signature(getattr(base, name)), inspect.signature(getattr(ours, name))
        assert [each for each in theirs.parameters if each not in mine.parameters] == [], name


def test_the_retriever_and_the_embedding_have_their_own_too() -> None:
    assert "_aretrieve" in vars(MemOSRetriever) and "_retrieve" in vars(BaseRetriever)
    asked_for = {"_aget_query_embedding", "_aget_text_embedding", "_aget_text_embeddings"}
    assert asked_for <= vars(MemOSEmbedding).keys() and asked_for <= vars(BaseEmbedding).keys()


async def test_synchronous_calls_inside_a_running_loop_work(
    watched: tuple[MemOS, WatchedVault, WatchedEmbedder],
) -> None:
    memos = watched[0]
    memory = MemOSMemory(memos, user_id="mara", session_id="s")
    memory.put(message("I like tea"))
    assert MemOSRetriever(memos, user_id="mara").retrieve(QueryBundle("tea"))
    assert memory.get_all() == [message("I like tea")]
