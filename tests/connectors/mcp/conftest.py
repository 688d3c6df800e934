"""Stores that every test of the MCP server runs on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from memos_agents import MemOS
from memos_agents.testing import HashEmbedder


@pytest.fixture
def memos(store_target: str) -> Iterator[MemOS]:
    with MemOS.open(store_target, embedder=HashEmbedder(dimension=64)) as opened:
        yield opened
