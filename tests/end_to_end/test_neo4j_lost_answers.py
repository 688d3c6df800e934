"""A connection that breaks while the server commits: nobody knows whether it did, and everything is done exactly once.

A proxy on the wire breaks it, before the server is asked to commit or after it did, so that both truths occur.
"""

from __future__ import annotations

import secrets
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Literal, TypeAlias

import numpy as np
import pytest

pytest.importorskip("neo4j", reason="needs the Neo4j driver: pip install 'memos-agents[neo4j]'")

from memos_agents.infrastructure.vault.base import LogQuery
from memos_agents.infrastructure.vault.commit import Commit, Write
from memos_agents.infrastructure.vault.memory import MemoryVault
from memos_agents.infrastructure.vault.neo4j import Neo4jVault
from memos_agents.testing.vault_scribe import EVERYTHING, MARA, Scribe
from memos_agents.testing.vault_transfer_laws import story

pytestmark = pytest.mark.neo4j

Lost: TypeAlias = Literal["request", "answer"]
COMMIT = b"\x00\x02\xb0\x12\x00\x00"
"""The whole Bolt message: its length, its signature, the end of its chunks."""


class Proxy:
    """Forwards Bolt; breaks the connection of the next commit when it is told to."""

    def __init__(self, target: str) -> None:
        host, _, port = target.rpartition("//")[2].rpartition(":")
        self._target = host, int(port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.uri = f"bolt://127.0.0.1:{self._listener.getsockname()[1]}"
        self.lose: Lost | None = None
        self.lost = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._target)
                for way in ((client, server, True), (server, client, False)):
                    threading.Thread(target=self._pump, args=way, daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, is_asking: bool) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                if is_asking and COMMIT in data and self.lose is not None:
                    kind, self.lose, self.lost = self.lose, None, self.lost + 1
                    if kind == "answer":
                        source.shutdown(socket.SHUT_RDWR)  # nothing reaches the client any more
                        sink.sendall(data)
                        threading.Event().wait(0.5)  # the server commits
                    break
                sink.sendall(data)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


@pytest.fixture
def proxy(neo4j_uri: str) -> Iterator[Proxy]:
    proxy = Proxy(neo4j_uri)
    yield proxy
    proxy.close()


@pytest.fixture
def vault(proxy: Proxy) -> Iterator[Neo4jVault]:
    vault = Neo4jVault(proxy.uri, store=secrets.token_hex(6))
    yield vault
    vault.close()


def broken(proxy: Proxy, lost: Lost, work: Callable[[], object]) -> object:
    """Do the work while the connection of its first commit breaks."""
    before, proxy.lose = proxy.lost, lost
    found = work()
    assert proxy.lost == before + 1, "nothing was broken"
    return found


@pytest.mark.parametrize("lost", ["request", "answer"])
def test_whatever_is_lost_a_commit_is_one_commit(proxy: Proxy, vault: Neo4jVault, lost: Lost) -> None:
    scribe, model = Scribe(vault), MemoryVault()
    there = scribe.add("there already")
    vault.touch([there.id], scribe.now)
    twin = Write(cube=scribe.cube("there already"), merge_duplicate=True)
    commits = [
        Commit(activity=scribe.activity(), writes=(Write(cube=scribe.cube("new")), twin)),
        Commit(activity=scribe.activity(), writes=(scribe.next_of(there, "changed"),)),
        Commit(activity=scribe.activity(), erasures=(there.id,)),
    ]
    results = [broken(proxy, lost, lambda commit=commit: vault.commit(commit)) for commit in commits]
    other = Scribe(model)
    other.add("there already")
    model.touch([there.id], scribe.now)
    assert results == [model.commit(commit) for commit in commits]
    assert vault.log(LogQuery(scope=EVERYTHING)) == model.log(LogQuery(scope=EVERYTHING))
    assert list(vault.records(EVERYTHING)) == list(model.records(EVERYTHING))
    assert vault.verify() == []


@pytest.mark.parametrize("lost", ["request", "answer"])
def test_whatever_is_lost_a_use_counts_once(proxy: Proxy, vault: Neo4jVault, lost: Lost) -> None:
    scribe = Scribe(vault)
    cube = scribe.add("used")
    for uses in (1, 2):
        vault.touch([cube.id], scribe.now)
        broken(proxy, lost, lambda: vault.stats(MARA))
        assert vault.stats(MARA).uses == uses
        assert vault.get([cube.id], MARA)[cube.id].behavioural.use_count == uses


@pytest.mark.parametrize("lost", ["request", "answer"])
def test_whatever_is_lost_the_rest_is_done_once(proxy: Proxy, vault: Neo4jVault, lost: Lost) -> None:
    scribe, source = Scribe(vault), MemoryVault()
    broken(proxy, lost, lambda: vault.open_space("mine", 4))
    lease = broken(proxy, lost, lambda: vault.acquire_lease("work", "me", 60, scribe.now))
    assert vault.acquire_lease("work", "me", 60, scribe.now) == lease, "the same token"
    story(Scribe(source, seed=7))
    lines = list(source.records(EVERYTHING))
    loading = Commit(activity=scribe.activity())
    counts = broken(proxy, lost, lambda: vault.restore(lines, loading))
    assert isinstance(counts, dict)
    assert counts["cube"] == sum(line["kind"] == "cube" for line in lines)
    cube = scribe.add("with a vector")
    broken(proxy, lost, lambda: vault.add_vectors("mine", {cube.ref: np.ones(4, np.float32)}))
    broken(proxy, lost, lambda: vault.blobs.put(b"payload"))
    assert len(list(vault.blobs.names())) == len(set(vault.blobs.names()))
    assert vault.stats(EVERYTHING).commits == 2
    assert vault.verify() == []
