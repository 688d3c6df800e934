"""What the tests of the LlamaIndex connector share: a store in every vault, and upstream's own parts beside ours."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("llama_index.core", reason="the extra llama-index is not installed")

from memos_agents import MemOS
from memos_agents.testing import HashEmbedder

TARGETS: dict[str, Callable[[Path], str]] = {
    "file": lambda folder: str(folder / "memos.db"),
    "memory": lambda folder: ":memory:",
}
"""What `MemOS.open` is given, by name, from a folder of the test's own: the one place to add a vault."""


@pytest.fixture(params=TARGETS)
def store_target(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where the store of a test is opened."""
    return TARGETS[request.param](tmp_path)


@pytest.fixture
def memos(store_target: str) -> Iterator[MemOS]:
    """An empty store."""
    with MemOS.open(store_target, embedder=HashEmbedder(dimension=256)) as opened:
        yield opened
