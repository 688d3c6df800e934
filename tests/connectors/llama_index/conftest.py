"""What the tests of the LlamaIndex connector share: a store in every vault, and upstream's own parts beside ours."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

pytest.importorskip("llama_index.core", reason="the extra llama-index is not installed")

from memos_agents import MemOS
from memos_agents.testing import HashEmbedder


@pytest.fixture
def memos(store_target: str) -> Iterator[MemOS]:
    """An empty store."""
    with MemOS.open(store_target, embedder=HashEmbedder(dimension=256)) as opened:
        yield opened
