"""No question walks over what it is not about: the server's plans of every statement that reads."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

import pytest

pytest.importorskip("neo4j", reason="needs the Neo4j driver: pip install 'memos-agents[neo4j]'")

import neo4j

from memos_agents.cube.scope import Scope
from memos_agents.infrastructure.vault.blobs import MemoryBlobs
from memos_agents.infrastructure.vault.neo4j import Neo4jVault, cypher_reading, cypher_transfer
from memos_agents.testing.vault_scribe import Scribe
from memos_agents.testing.vault_transfer_laws import story

pytestmark = pytest.mark.neo4j

FRAGMENTS = {"ADMITTED", "BOTH_ADMITTED", "CUBE_COLUMNS", "OWNED", "RELATED"}
PARAMETERS: dict[str, object] = {
    "user": "u", "agent": "a", "session": "s", "id": "x", "ids": ["x", "y"], "n": 1, "refs": [["x", 1, True]],
    "rows": [["x"]], "place": "p", "places": ["p"], "types": ["plaintext", "activation"],
    "states": ["activated", "merged"], "collection": None, "hidden": False, "now_us": None, "after": "",
    "after_us": 0, "after_id": "", "limit": 10, "removed": False, "whole": False, "cube": "x", "activity": "a",
    "since_us": None, "until_us": None, "most": 10, "depth": 3, "text_start": "(", "text_end": ")",
    "label_characters": 9, "names": ["vec_1"],
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


Step: TypeAlias = tuple[str, str]
"""What a plan does there, and with what."""


def steps_of(plan: Mapping[str, Any]) -> Iterator[Step]:
    """The steps of a plan, the last one first."""
    yield plan["operatorType"].split("@")[0], plan["args"].get("Details", "")
    for child in plan.get("children", ()):
        yield from steps_of(child)


def hits_of(profile: Mapping[str, Any]) -> Iterator[int]:
    """What each step of a plan asked the storage for."""
    yield profile["args"].get("DbHits", 0)
    for child in profile.get("children", ()):
        yield from hits_of(child)


class Plans:
    """Plans of one server, each asked for once: making one takes longer than to run it."""

    def __init__(self, session: neo4j.Session, tenant: str) -> None:
        self._session, self._tenant = session, tenant
        self._known: dict[str, list[Step]] = {}

    def __getitem__(self, name: str) -> list[Step]:
        if name not in self._known:
            self._known[name] = self.of(STATEMENTS[name])
        return self._known[name]

    def hits(self, name: str, values: Mapping[str, object]) -> int:
        """How often a statement that is really run asks the storage for something."""
        summary = self._session.run(
            "PROFILE " + STATEMENTS[name], {**PARAMETERS, "tenant": self._tenant, **values}
        ).consume()
        assert summary.profile is not None
        return sum(hits_of(summary.profile))

    def of(self, statement: str) -> list[Step]:
        summary = self._session.run("EXPLAIN " + statement, {**PARAMETERS, "tenant": "nobody"}).consume()
        assert summary.plan is not None
        return list(steps_of(summary.plan))


@pytest.fixture(scope="module")
def plans(neo4j_uris: str) -> Iterator[Plans]:
    """Plans of a server with our schema, a story, and a user who has many cubes."""
    store = secrets.token_hex(6)
    vault = Neo4jVault(neo4j_uris, store=store, blobs=MemoryBlobs())
    scribe = Scribe(vault)
    story(scribe)
    scribe.commit(writes=[scribe.cube(str(number), scope=Scope(user_id="many")) for number in range(400)])
    vault.close()
    with (
        neo4j.GraphDatabase.driver(
            neo4j_uris, notifications_min_severity=neo4j.NotificationMinimumSeverity.OFF
        ) as driver,
        driver.session(database="neo4j") as session,
    ):
        tenant = f"{store}\x1f{vault.tenant}"
        spread = "MATCH (c:MemCube {tenant: $tenant, user_id: 'many'}) SET c.created_us = c.created_us + c.rid"
        session.run(spread, tenant=tenant).consume()
        yield Plans(session, tenant)


@pytest.mark.parametrize("name", STATEMENTS)
def test_nothing_is_scanned(plans: Plans, name: str) -> None:
    scans = [step for step in plans[name] if step[0].endswith("Scan")]
    assert scans == [], "it looks at the nodes of others"
    seeks = [details for step, details in plans[name] if "IndexSeek" in step or step.startswith("MergeUnique")]
    assert seeks or name == "transfer.LOAD_CUBES", "it uses no index"
    begins = ("tenant = $tenant", "place = ", "Tenant(id)")
    assert all(any(begin in details for begin in begins) for details in seeks), "it seeks beyond the tenant"


@pytest.mark.parametrize("name", BY_ID)
def test_a_question_by_id_does_not_grow_with_the_scope(plans: Plans, name: str) -> None:
    seeks = [step for step in plans[name] if "IndexSeek" in step[0]]
    assert seeks
    assert [seek for seek in seeks if seek[0] != "NodeUniqueIndexSeek"] == []


@pytest.mark.parametrize("name", ORDERED)
def test_pages_come_in_the_order_of_an_index(plans: Plans, name: str) -> None:
    """Top and Sort would look at everything for each page. What sorts a page that is already cut is fine, and so is a
    PartialSort, which sorts what is equal in the index."""
    steps = [step for step, _ in plans[name]]
    assert not {"Top", "Union"} & set(steps)
    cut = min(steps.index(step) for step in ("Limit", "PartialTop") if step in steps)
    assert "Sort" not in steps[cut:]


@pytest.mark.parametrize("name", ["reading.PAGE[('user', 'created')]", "reading.PAGE[('user', 'created down')]"])
def test_a_page_costs_what_it_shows(plans: Plans, name: str) -> None:
    """However many the scope holds: 400 cubes here, each of its own time, of which a page shows 4."""
    values = {"user": "many", "agent": None, "session": None, "after_us": 2**62 if "down" in name else 0, "limit": 4}
    assert 4 < plans.hits(name, values) < 400


def test_a_scan_and_a_sorted_page_would_be_seen(plans: Plans) -> None:
    scan = plans.of("MATCH (c:MemCube) WHERE c.text CONTAINS 'x' RETURN c.id")
    assert any(step.endswith("Scan") for step, _ in scan)
    page = plans.of("MATCH (c:MemCube {tenant: 't'}) WHERE c.id > 'a' RETURN c.id ORDER BY c.text LIMIT 3")
    assert "Top" in [step for step, _ in page]


def test_no_statement_follows_paths_of_any_length() -> None:
    """`*` enumerates paths, of which a graph with joins has exponentially many."""
    assert [name for name, statement in STATEMENTS.items() if "*" in statement or "->+" in statement] == []
