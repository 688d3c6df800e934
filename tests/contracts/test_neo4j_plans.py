"""No question walks over what it is not about: the server's plans of every statement that reads."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

pytest.importorskip("neo4j", reason="needs the Neo4j driver: pip install 'memos-agents[neo4j]'")

import neo4j

from memos_agents.infrastructure.vault.blobs import MemoryBlobs
from memos_agents.infrastructure.vault.neo4j import Neo4jVault, cypher_reading, cypher_transfer
from memos_agents.testing.vault_scribe import Scribe
from memos_agents.testing.vault_transfer_laws import story

pytestmark = pytest.mark.neo4j

FRAGMENTS = {"ADMITTED", "BOTH_ADMITTED", "CUBE_COLUMNS", "OWNED", "RELATED"}
PARAMETERS: dict[str, object] = {
    "user": "u", "agent": "a", "session": "s", "id": "x", "ids": ["x", "y"], "n": 1, "refs": [["x", 1, True]],
    "rows": [["x", 1, "y", 1, "k", "a"]], "place": "p", "places": ["p"], "types": ["plaintext", "activation"], "states": ["activated", "merged"],
    "collection": None, "hidden": False, "now_us": None, "after": "", "after_us": 0, "after_id": "", "limit": 10,
    "removed": False, "whole": False, "cube": "x", "activity": "a", "since_us": None, "until_us": None, "most": 10,
    "depth": 3, "text_start": "(", "text_end": ")", "label_characters": 9, "names": ["vec_1"],
}  # fmt: skip
ORDERED = [
    "reading.PAGE[('user', 'created')]", "reading.PAGE[('user', 'created down')]",
    "reading.PAGE[('anyone', 'created')]", "reading.PAGE[('anyone', 'created down')]", "reading.LOG[anyone]",
    "transfer.CUBE_IDS", "transfer.ALL_ACTIVITIES", "transfer.ALL_SOURCES", "transfer.LOG_PAGE",
    "transfer.CUBES_TO_VERIFY",
]  # fmt: skip
BY_ID = [
    "reading.HEADS", "reading.VERSIONS", "reading.HISTORY", "reading.METADATA", "reading.RELATIONS",
    "reading.LOG_OF_CUBE", "reading.LOG_OF_ACTIVITY", "reading.EFFECTS", "reading.TOMBSTONES",
    "reading.FIRST_STEPS[up]", "reading.FIRST_STEPS[down]", "reading.FIRST_STEPS[both]", "reading.NEXT_STEPS[up]",
    "reading.NEXT_STEPS[down]", "reading.WIDE_STEP[up]", "reading.WIDE_STEP[down]", "reading.LINEAGE_NODES",
    "reading.ACTIVITIES", "transfer.CUBES", "transfer.VERSIONS", "transfer.DERIVATIONS", "transfer.RELATIONS",
    "transfer.VECTORS",
]  # fmt: skip


def statements() -> dict[str, str]:
    """Every statement of the modules that read, by name."""
    found: dict[str, str] = {}
    for module in (cypher_reading, cypher_transfer):
        prefix = module.__name__.rpartition("_")[2]
        for name, value in vars(module).items():
            if not name.isupper() or name.startswith("_") or name in FRAGMENTS:
                continue
            if isinstance(value, str):
                found[f"{prefix}.{name}"] = value
            elif isinstance(value, dict):
                found.update({f"{prefix}.{name}[{key}]": statement for key, statement in value.items()})
    return found


STATEMENTS = statements()


def operators(plan: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Name and details of each step of a plan."""
    yield plan["operatorType"].split("@")[0], plan["args"].get("Details", "")
    for child in plan.get("children", ()):
        yield from operators(child)


@pytest.fixture(scope="module")
def session(neo4j_uris: str) -> Iterator[Any]:
    """A session on a server with our schema and a story in it."""
    vault = Neo4jVault(neo4j_uris, store=secrets.token_hex(6), blobs=MemoryBlobs())
    story(Scribe(vault))
    vault.close()
    with (
        neo4j.GraphDatabase.driver(neo4j_uris, notifications_min_severity="OFF") as driver,
        driver.session(database="neo4j") as session,
    ):
        yield session


def explained(session: Any, name: str) -> list[tuple[str, str]]:
    """The steps of a statement's plan."""
    summary = session.run("EXPLAIN " + STATEMENTS[name], {**PARAMETERS, "tenant": "nobody"}).consume()
    return list(operators(summary.plan))


@pytest.mark.parametrize("name", STATEMENTS)
def test_nothing_is_scanned(session: Any, name: str) -> None:
    steps = explained(session, name)
    scans = [step for step in steps if step[0].endswith("Scan")]
    assert scans == [], f"{name} looks at the nodes of others"
    seeks = [details for step, details in steps if "IndexSeek" in step]
    assert seeks or name == "transfer.LOAD_CUBES", f"{name} uses no index"
    begins = ("tenant = $tenant", "place = ", "Tenant(id)")
    assert all(any(begin in details for begin in begins) for details in seeks), f"{name} seeks beyond the tenant"


@pytest.mark.parametrize("name", BY_ID)
def test_questions_by_id_cost_nothing_for_the_size_of_a_scope(session: Any, name: str) -> None:
    seeks = [(step, details) for step, details in explained(session, name) if "IndexSeek" in step]
    assert seeks
    assert [seek for seek in seeks if seek[0] != "NodeUniqueIndexSeek"] == []


@pytest.mark.parametrize("name", ORDERED)
def test_pages_come_in_the_order_of_an_index(session: Any, name: str) -> None:
    """Top and Sort would look at everything for each page. What sorts a page that is already cut is fine."""
    steps = [step for step, _ in explained(session, name)]
    assert "Top" not in steps
    first_limit = min(steps.index(step) for step in ("Limit", "PartialTop") if step in steps)
    assert "Sort" not in steps[first_limit:]


def test_the_test_sees_a_scan(session: Any) -> None:
    summary = session.run("EXPLAIN MATCH (c:MemCube) WHERE c.text CONTAINS 'x' RETURN c.id").consume()
    assert any(step.endswith("Scan") for step, _ in operators(summary.plan))
    summary = session.run(
        "EXPLAIN MATCH (c:MemCube {tenant: 't'}) WHERE c.id > 'a' RETURN c.id ORDER BY c.text LIMIT 3"
    ).consume()
    assert "Top" in [step for step, _ in operators(summary.plan)]


def test_no_statement_follows_paths_of_any_length() -> None:
    """`*` enumerates paths, of which a graph with joins has exponentially many."""
    assert [name for name, statement in STATEMENTS.items() if "*" in statement or "->+" in statement] == []
