"""Stores to run every law on, and upstream's own beside them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

pytest.importorskip("langgraph.store.base", reason="needs memos-agents[langgraph]")

from memos_agents import MemOS
from memos_agents.testing import FixedClock, HashEmbedder


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock()


@pytest.fixture
def memos(store_target: str, clock: FixedClock) -> Iterator[MemOS]:
    with MemOS.open(store_target, embedder=HashEmbedder(64), clock=clock) as opened:
        yield opened
        assert opened.verify().ok
