"""No statement of mirrors, moves and purges walks over what it is not about."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

pytest.importorskip("neo4j", reason="needs the Neo4j driver: pip install 'memos-agents[neo4j]'")

import neo4j

from memos_agents.infrastructure.vault.neo4j import Neo4jVault, cypher_mirror, cypher_routing

pytestmark = pytest.mark.neo4j

PARAMETERS: dict[str, object] = {
    "tenant": "nobody", "op": "o", "mark": "m", "was": "w", "ids": ["x", "y"], "names": ["x"],
    "nothing": {"vec_1": None}, "rows": [{"id": "x"}], "after": 0, "limit": 10, "tail": {}, "epochs": 0,
}  # fmt: skip


def statements() -> dict[str, str]:
    found: dict[str, str] = {}
    for module in (cypher_mirror, cypher_routing):
        for name, value in vars(module).items():
            if name.isupper() and not name.startswith("_"):
                several = value if isinstance(value, tuple) else (value,)
                found.update({f"{name}[{place}]": each for place, each in enumerate(several)})
    return found


STATEMENTS = statements()


def steps_of(plan: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield plan["operatorType"].split("@")[0], plan["args"].get("Details", "")
    for child in plan.get("children", ()):
        yield from steps_of(child)


@pytest.fixture(scope="module")
def session(neo4j_uris: str) -> Iterator[neo4j.Session]:
    Neo4jVault(neo4j_uris, store=secrets.token_hex(6)).close()  # makes the schema
    off = neo4j.NotificationMinimumSeverity.OFF
    with neo4j.GraphDatabase.driver(neo4j_uris, notifications_min_severity=off) as driver, driver.session() as session:
        yield session


@pytest.mark.parametrize("name", STATEMENTS)
def test_nothing_is_scanned(session: neo4j.Session, name: str) -> None:
    plan = session.run("EXPLAIN " + STATEMENTS[name], PARAMETERS).consume().plan
    assert plan is not None
    steps = list(steps_of(plan))
    assert [step for step in steps if step[0].endswith("Scan")] == []
    seeks = [details for step, details in steps if "IndexSeek" in step or step.startswith("MergeUnique")]
    assert seeks
    assert all("tenant = $tenant" in details or "Tenant(id)" in details for details in seeks)


def test_a_scan_would_be_noticed(session: neo4j.Session) -> None:
    plan = session.run("EXPLAIN MATCH (n:MemCube) WHERE n.tenant = $tenant RETURN n", PARAMETERS).consume().plan
    assert plan is not None
    assert any(step.endswith("Scan") for step, _ in steps_of(plan))
