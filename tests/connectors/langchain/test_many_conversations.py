"""Fifty conversations at once over ten users: no leak, no lost turn, and the loop is never blocked."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from dataclasses import dataclass
from typing import Any

import pytest

pytest.importorskip("langchain.agents", reason="needs memos-agents[langchain]")

from langchain.agents import create_agent
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from langgraph.checkpoint.memory import InMemorySaver

from memos_agents import AsyncMemOS, MemOS, Scope
from memos_agents.connectors.langchain import (
    MemOSByteStore,
    MemOSLoader,
    MemOSMiddleware,
    MemOSRetriever,
    MemOSVectorStore,
)
from memos_agents.connectors.langgraph import MemOSStore
from memos_agents.interface.store import Store

USERS, CONVERSATIONS, TURNS = 10, 50, 3


@dataclass
class Context:
    user_id: str


class ThreadWatch:
    """Where the store was used: a latency watcher that does not depend on how fast the machine is."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.threads: Counter[int] = Counter()
        vault = Store.vault.fget
        assert vault is not None

        def watched(store: Store) -> Any:
            self.threads[threading.get_ident()] += 1
            return vault(store)

        monkeypatch.setattr(Store, "vault", property(watched))


def said_by_user(messages: list[BaseMessage]) -> list[str]:
    """The user's own words, without the memories in front of them."""
    return [message.text.rpartition("</memories>\n\n")[2] for message in messages if isinstance(message, HumanMessage)]


async def test_no_leak_no_lost_turn_no_blocked_loop(
    memos: MemOS, scripted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def script(messages: list[BaseMessage]) -> AIMessage | str:
        if isinstance(messages[-1], ToolMessage):
            return "Done."
        said = said_by_user(messages)[-1]
        if said.startswith("Remember"):
            secret = said.split()[-1]
            call = {"name": "add_memory", "args": {"text": f"The secret word is {secret}"}, "id": f"c-{said}"}
            return AIMessage(content="", tool_calls=[call])
        return f"Heard: {said}"

    model = scripted(script=script)
    front = AsyncMemOS(memos)
    agent = create_agent(
        model,
        middleware=[MemOSMiddleware(front)],
        context_schema=Context,
        checkpointer=InMemorySaver(),
        store=MemOSStore(front, scope_of=lambda namespace: Scope(user_id=namespace[0])),
    )
    watch = ThreadWatch(monkeypatch)
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.001)
            ticks += 1

    async def converse(number: int) -> None:
        user = f"user{number % USERS}"
        config: Any = {"configurable": {"thread_id": f"thread{number}"}}
        for turn in range(TURNS):
            said = f"Remember secret-of-{user}" if turn == 1 else f"What is the secret word? {number}/{turn}"
            await agent.ainvoke({"messages": [("user", said)]}, config, context=Context(user))

    ticking = asyncio.create_task(tick())
    await asyncio.gather(*(converse(number) for number in range(CONVERSATIONS)))
    ticking.cancel()
    await front.close()

    assert watch.threads and threading.get_ident() not in watch.threads, "the store was used on the loop's thread"
    assert ticks > TURNS, "the loop stood still while the agents ran"
    for request in model.seen:
        block = "".join(str(message.text) for message in request if isinstance(message, SystemMessage | HumanMessage))
        said = {word for text in said_by_user(request) for word in text.split()}
        owners = {number for number in range(CONVERSATIONS) if any(word.startswith(f"{number}/") for word in said)}
        (owner,) = {number % USERS for number in owners}
        mentioned = {number for number in range(USERS) if f"secret-of-user{number}" in block}
        assert mentioned <= {owner}
    for number in range(CONVERSATIONS):
        turns = memos.list(user_id=f"user{number % USERS}", session_id=f"thread{number}", limit=100)
        texts = [cube.text for cube in turns if cube.descriptive.semantic_type == "turn"]
        assert texts == [
            f"What is the secret word? {number}/0",
            f"Heard: What is the secret word? {number}/0",
            f"Remember secret-of-user{number % USERS}",
            "Done.",
            f"What is the secret word? {number}/2",
            f"Heard: What is the secret word? {number}/2",
        ]
    shown = [message.text for request in model.seen for message in request]
    assert any('"text": "The secret word is secret-of-user' in text for text in shown), "nothing was recalled"


async def test_every_asynchronous_method_stays_off_the_loop(memos: MemOS, monkeypatch: pytest.MonkeyPatch) -> None:
    front = AsyncMemOS(memos).scoped(user_id="mara")
    vectors, store, kept = MemOSVectorStore(front), MemOSStore(front), MemOSByteStore(front)
    retriever, loader = MemOSRetriever(memos=front), MemOSLoader(front)
    watch = ThreadWatch(monkeypatch)
    (key,) = await vectors.aadd_texts(["I like tea."])
    await vectors.aget_by_ids([key])
    await vectors.asimilarity_search("tea")
    await vectors.asimilarity_search_with_score("tea")
    await vectors.asimilarity_search_with_relevance_scores("tea")
    await vectors.asimilarity_search_by_vector(await vectors.embeddings.aembed_query("tea"))
    await vectors.amax_marginal_relevance_search("tea")
    await vectors.as_retriever().ainvoke("tea")
    await retriever.ainvoke("tea")
    assert [document.page_content async for document in loader.alazy_load()] == ["I like tea."]
    await store.aput(("p",), "k", {"text": "tea"}, ttl=5)
    await store.aget(("p",), "k")
    await store.asearch(("p",), query="tea")
    await store.alist_namespaces()
    await store.asweep_ttl()
    await store.adelete(("p",), "k")
    await kept.amset([("k", b"v")])
    assert await kept.amget(["k"]) == [b"v"] and [name async for name in kept.ayield_keys()] == ["k"]
    await kept.amdelete(["k"])
    await vectors.adelete([key])
    assert watch.threads and threading.get_ident() not in watch.threads
    _ = memos.vault  # negative control: the watch sees what happens here
    assert memos.list(user_id="mara") == [] and threading.get_ident() in watch.threads
