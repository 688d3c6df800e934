"""The stores that every front must work on: one place to add a kind."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import pytest

ALSO_IN_SHORT_RUNS = frozenset({"test_one_store", "test_standard_suites", "test_store_beside_upstream"})
"""Files whose tests run on Neo4j in `make test` too; the others do in `make test-neo4j-fronts` (eight minutes more)."""


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark what runs on a server and can wait for a run of its own."""
    if item.get_closest_marker("neo4j") and item.path.stem not in ALSO_IN_SHORT_RUNS:
        item.add_marker("neo4j_fronts")


KINDS = ("memory", "file", pytest.param("neo4j", marks=pytest.mark.neo4j))


@pytest.fixture(params=KINDS)
def store_target(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where `MemOS.open` opens a fresh, empty store."""
    if request.param == "neo4j":
        return f"{request.getfixturevalue('neo4j_uri')}?store={uuid4().hex}"
    return {"memory": ":memory:", "file": str(tmp_path / "memos.db")}[request.param]
