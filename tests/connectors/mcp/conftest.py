"""Stores that every test of the MCP server runs on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from memos_agents import MemOS
from memos_agents.testing import HashEmbedder

STORES = ("memory", "file")
"""One name for each kind of store; another kind is one more name here and one more line in `store_target`."""


@pytest.fixture(params=STORES)
def store_target(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a fresh, empty store opens."""
    return {"memory": ":memory:", "file": str(tmp_path / "memos.db")}[request.param]


@pytest.fixture
def memos(store_target: str) -> Iterator[MemOS]:
    with MemOS.open(store_target, embedder=HashEmbedder(dimension=64)) as opened:
        yield opened
