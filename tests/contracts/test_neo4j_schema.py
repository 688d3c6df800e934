"""What servers really hold is what the schema page says, and its queries answer what they promise."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("neo4j", reason="needs the Neo4j driver: pip install 'memos-agents[neo4j]'")

import neo4j

from memos_agents.cube.moment import to_microseconds
from memos_agents.infrastructure.provenance.values import RelationKind
from memos_agents.infrastructure.vault.base import ListQuery, ViewQuery
from memos_agents.infrastructure.vault.neo4j import Neo4jVault
from memos_agents.infrastructure.vault.neo4j.describing import USEFUL, indexes
from memos_agents.infrastructure.vault.neo4j.vocabulary import LABELS, RELATIONSHIPS
from memos_agents.testing.vault_scribe import EVERYTHING, MARA, Scribe
from memos_agents.testing.vault_transfer_laws import story

pytestmark = pytest.mark.neo4j

OWNED = "MATCH (n) WHERE n.tenant = $tenant OR (n:Tenant AND n.id = $tenant) "
NODES = OWNED + "UNWIND labels(n) AS label UNWIND keys(n) AS key RETURN DISTINCT label, key"
EDGES = (
    OWNED
    + "MATCH (n)-[r]-() UNWIND CASE keys(r) WHEN [] THEN [null] ELSE keys(r) END AS key RETURN DISTINCT type(r), key"
)


class Graph:
    """A tenant with a bit of everything, and a session beside the vault."""

    def __init__(self, uri: str, session: neo4j.Session) -> None:
        store = secrets.token_hex(6)
        self.vault = Neo4jVault(uri, store=store)
        self.stored = f"{store}\x1f{self.vault.tenant}"
        self.session = session
        self.scribe = Scribe(self.vault)
        self.cubes = story(self.scribe)
        self.scribe.relate(self.cubes["first"], self.cubes["derived"], RelationKind.CONTRADICTS)
        self.vault.set_snapshot("now", self.scribe.now)
        self.vault.acquire_lease("job", "me", 60, self.scribe.now)
        self.vault.blobs.put(b"bytes")

    def run(self, statement: str, **values: object) -> list[neo4j.Record]:
        return list(self.session.run(statement, tenant=self.stored, **values))

    def unknown(self, tenant: str | None = None) -> set[tuple[str, ...]]:
        """Labels, property keys and relationship types that the page does not have."""
        values = {"tenant": tenant or self.stored}
        nodes = {(row["label"], plain(row["key"])) for row in self.session.run(NODES, values)}
        edges = {(row[0], row["key"]) for row in self.session.run(EDGES, values)}
        assert nodes
        assert edges or tenant
        known = {(name, key) for name, label in LABELS.items() for key in label.properties}
        known_edges = {(name, key) for name, kind in RELATIONSHIPS.items() for key in (*kind.properties, None)}
        return (nodes - known) | (edges - known_edges)


def plain(key: str) -> str:
    return re.sub(r"^emb_\d+$", "emb_<dim>", re.sub(r"^vec_\d+$", "vec_<k>", key))


@pytest.fixture(scope="module")
def graph(neo4j_uris: str) -> Iterator[Graph]:
    off = neo4j.NotificationMinimumSeverity.OFF
    with (
        neo4j.GraphDatabase.driver(neo4j_uris, notifications_min_severity=off) as driver,
        driver.session(database="neo4j") as session,
    ):
        found = Graph(neo4j_uris, session)
        yield found
        found.vault.close()


def test_the_page_has_everything_that_the_server_holds_for_a_tenant(graph: Graph) -> None:
    assert graph.unknown() == set()


def test_what_the_page_does_not_have_would_be_noticed(graph: Graph) -> None:
    tenant = f"{graph.stored} strange"
    make = "CREATE (n:Stranger {tenant: $t})-[:LIKES {much: 1}]->(:MemCube {tenant: $t, id: 'x', mood: 1})"
    graph.session.run(make, t=tenant).consume()
    try:
        expected = {("Stranger", "tenant"), ("MemCube", "mood"), ("LIKES", "much")}
        assert graph.unknown(tenant) == expected
    finally:
        graph.session.run("MATCH (n:Stranger {tenant: $t})-[]->(m) DETACH DELETE n, m", t=tenant).consume()


def test_the_page_has_the_server_s_indexes_as_they_are(graph: Graph) -> None:
    show = "SHOW INDEXES YIELD name, type, labelsOrTypes, properties WHERE name STARTS WITH 'memos_' RETURN *"
    found = {row["name"]: row for row in graph.session.run(show)}
    told = {one.name: one for one in indexes()}
    for name, row in found.items():
        one = told[re.sub(r"^memos_vec_\d+$", "memos_vec_<dim>", name)]
        assert row["labelsOrTypes"] == [one.label]
        if row["type"] != "VECTOR":  # on 2026.x the owner's properties lie in it, too
            assert ", ".join(row["properties"]) == one.on
        assert {"RANGE": ("range", "unique"), "FULLTEXT": ("full text",), "VECTOR": ("vector",)}[row["type"]].count(
            one.kind
        )
    later = {"memos_words", "memos_cube_turn", "memos_vec_<dim>"}
    assert set(told) - later <= set(found)


def now_of(graph: Graph) -> int:
    return to_microseconds(graph.scribe.now)


def test_what_a_user_s_memory_holds_now(graph: Graph) -> None:
    shown = graph.run(USEFUL["HOLDS_NOW"].statement, user="mara", now_us=now_of(graph))
    found = graph.vault.list(ListQuery(scope=MARA, now=graph.scribe.now, limit=100))
    assert [(row["memory"], row["version"], row["text"]) for row in shown] == [
        (cube.id, cube.version, cube.text) for cube in found if cube.state == "activated"
    ]
    assert shown


def test_why_something_is_believed(graph: Graph) -> None:
    cube = graph.cubes["derived"]
    shown = graph.run(USEFUL["WHY_BELIEVED"].statement, id=cube.id)
    lineage = graph.vault.lineage(cube.ref, "up", None, EVERYTHING)
    found = {(row["id"], row["version"]) for row in shown if row["what"] == "CubeVersion"}
    assert found == {
        derivation.source for derivation in lineage.derivations if not isinstance(derivation.source, str)
    } | {cube.ref}
    assert {row["id"] for row in shown if row["what"] == "Source"} == {source.id for source in lineage.sources} != set()
    assert shown[0]["steps"] == 0


def test_who_wrote_most(graph: Graph) -> None:
    shown = graph.run(USEFUL["WROTE_MOST"].statement, since_us=0)
    stats = graph.vault.stats(EVERYTHING)
    assert sum(row["versions"] for row in shown) == stats.versions + 2  # those of the erased one count as work
    assert sum(row["activities"] for row in shown) == stats.commits
    assert graph.run(USEFUL["WROTE_MOST"].statement, since_us=now_of(graph) + 10**9) == []


def test_open_contradictions(graph: Graph) -> None:
    (row,) = graph.run(USEFUL["OPEN_CONTRADICTIONS"].statement)
    assert (row["memory"], row["contradicts"]) == (graph.cubes["first"].id, graph.cubes["derived"].id)


def test_what_was_believed_at_a_time(graph: Graph) -> None:
    times = sorted(
        {version.recorded_at for cube in graph.cubes.values() for version in graph.vault.history(cube.id, EVERYTHING)}
    )
    for time in (times[0], times[len(times) // 2], times[-1]):
        shown = graph.run(USEFUL["BELIEVED_AT"].statement, user="mara", at_us=to_microseconds(time))
        view = graph.vault.search_view(ViewQuery(scope=MARA, now=graph.scribe.now, as_of=time)).view
        assert {(row["memory"], row["version"]) for row in shown} >= {tuple(ref) for ref in view.refs} != set()


@pytest.mark.parametrize("name", USEFUL)
def test_a_useful_query_begins_at_an_index(graph: Graph, name: str) -> None:
    values = {"user": "mara", "now_us": 0, "id": "x", "since_us": 0, "at_us": 0}
    plan = graph.session.run("EXPLAIN " + USEFUL[name].statement, tenant="nobody", **values).consume().plan
    steps = list(steps_of(plan))
    assert [step for step, _ in steps if "Scan" in step] == []
    seeks = [details for step, details in steps if "Seek" in step]
    assert seeks
    assert all("tenant = $tenant" in details for details in seeks)


def test_what_would_go_is_what_an_erasure_takes(graph: Graph) -> None:
    """Also through another version of a memory on the way; last, because it erases."""
    scribe = graph.scribe
    source = scribe.add("source")
    middle = scribe.add("middle", sources=[source.ref])
    scribe.revise(middle, "middle, again")
    ends = [
        scribe.add("of the first", sources=[middle.ref]),
        scribe.add("of the second", sources=[scribe.head(middle).ref]),
    ]
    other = scribe.add("other, at first from nothing")
    ends.append(scribe.add("of the other", sources=[other.ref]))
    ends.append(scribe.revise(other, "other, now from the source", sources=[source.ref]))
    scribe.add("beside")
    shown = graph.run(USEFUL["WOULD_GO"].statement, id=source.id)
    assert {row["memory"] for row in shown} == {source.id, middle.id, *(end.id for end in ends)}
    erased = scribe.erase(source).erased
    assert {row["memory"] for row in shown} == {stone.ref.cube_id for stone in erased}
    assert graph.run(USEFUL["WOULD_GO"].statement, id=source.id) == []


def steps_of(plan: Any) -> Iterator[tuple[str, str]]:
    yield plan["operatorType"].split("@")[0], plan["args"].get("Details", "")
    for child in plan.get("children", ()):
        yield from steps_of(child)
