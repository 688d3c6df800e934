"""What `memos provenance --neo4j` prints, pasted into real servers: the answers are those of `vault.lineage`."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("neo4j", reason="needs the Neo4j driver: pip install 'memos-agents[neo4j]'")

import neo4j

from memos_agents.cube.memcube import VersionRef
from memos_agents.infrastructure.provenance.browser import QUESTIONS, cypher_map, parameters, to_browser
from memos_agents.infrastructure.provenance.graph import ProvenanceGraph
from memos_agents.infrastructure.provenance.values import Derivation, Source
from memos_agents.infrastructure.vault.base import Direction
from memos_agents.infrastructure.vault.blobs import MemoryBlobs
from memos_agents.infrastructure.vault.neo4j import Neo4jVault
from memos_agents.testing.vault_scribe import EVERYTHING, Scribe
from memos_agents.testing.vault_transfer_laws import story

pytestmark = pytest.mark.neo4j

AWKWARD = [
    'a"b', "a'b", "\\", '\\"', "\\\\", "`x`", "a\nb\r\t\x0b", "s\x1ft", "\\u0022", "\\\\u0041", "\\n", "😀\u200d", "é",
    "\u2028", "\U000e0041", "//x", "/*", "$tenant ${x} {", "}};", "\x00", "\x7f\x85",
    '"});MATCH (n) DETACH DELETE n;//',
]  # fmt: skip


class Browser:
    """A store with a story, and somebody who pastes into a session on its server."""

    def __init__(self, uri: str, session: neo4j.Session) -> None:
        self.store = secrets.token_hex(6)
        self.vault = Neo4jVault(uri, store=self.store, blobs=MemoryBlobs())
        self.scribe = Scribe(self.vault)
        self.cubes = story(self.scribe)
        self.session = session

    def run(self, statement: str, **values: object) -> list[neo4j.Record]:
        return list(self.session.run(statement, values))

    def paste(self, ref: VersionRef, *, depth: int | None = None, **changed: object) -> dict[str, list[neo4j.Record]]:
        """Every answer, by the question's name. The parameters are read from the text by the server itself."""
        text = to_browser(ref, tenant=self.vault.tenant, store=self.store, depth=depth)
        (line,) = re.findall(r"^:params (.*);$", text, re.MULTILINE)
        values = {**self.run(f"RETURN {line} AS given")[0]["given"], **changed}
        pasted = [part.strip() for part in text.split(";\n")[1:]]
        assert pasted.pop() == ""
        return {name: self.run(part, **values) for name, part in zip(QUESTIONS, pasted, strict=True)}

    def lineage(self, ref: VersionRef, direction: Direction, depth: int | None = None) -> ProvenanceGraph:
        return self.vault.lineage(ref, direction, depth, EVERYTHING)


@pytest.fixture(scope="module")
def browser(neo4j_uris: str) -> Iterator[Browser]:
    off = neo4j.NotificationMinimumSeverity.OFF
    with neo4j.GraphDatabase.driver(neo4j_uris, notifications_min_severity=off) as driver:
        with driver.session(database="neo4j", default_access_mode=neo4j.READ_ACCESS) as session:
            found = Browser(neo4j_uris, session)
            yield found
        found.vault.close()


def ref_of(node: Any) -> VersionRef:
    return VersionRef(node["cube_id"], node["n"])


def versions_in(records: list[neo4j.Record]) -> set[VersionRef]:
    return {ref_of(record["found"]) for record in records if "CubeVersion" in record["found"].labels}


def edges_in(records: list[neo4j.Record]) -> set[tuple[object, ...]]:
    """As (type, from, to, kind): a version by its reference, a source by its id."""
    ends = [
        (edge, edge.start_node, edge.end_node) for edge in (record["edge"] for record in records) if edge is not None
    ]
    return {
        (edge.type, ref_of(start), ref_of(end) if "CubeVersion" in end.labels else end["id"], edge.get("kind"))
        for edge, start, end in ends
    }


def edges_of(graph: ProvenanceGraph) -> set[tuple[object, ...]]:
    made = {("WAS_DERIVED_FROM", each.derived, each.source, each.kind) for each in graph.derivations}
    return made | {("WAS_REVISION_OF", newer, older, None) for newer, older in graph.revisions}


def heads(relations: list[neo4j.Record]) -> set[VersionRef]:
    return {VersionRef(record["memory"], record["version"]) for record in relations}


@pytest.mark.parametrize("language", ["", "CYPHER 5 "])
def test_the_server_reads_the_values_that_were_written(browser: Browser, language: str) -> None:
    values = {f"k{number}": value for number, value in enumerate(AWKWARD)}
    (record,) = browser.run(f"{language}RETURN {cypher_map(values)} AS given")
    assert record["given"] == values


@pytest.mark.parametrize("name", ["first", "derived", "noahs", "ended", "frozen", "erased"])
@pytest.mark.parametrize("depth", [None, 1])
def test_the_answers_are_those_of_lineage(browser: Browser, name: str, depth: int | None) -> None:
    for number in range(1, browser.cubes[name].version + 1):
        ref = VersionRef(browser.cubes[name].id, number)
        shown = browser.paste(ref, depth=depth)
        up, down = (browser.lineage(ref, way, depth) for way in ("up", "down"))  # type: ignore[arg-type]  # literals
        assert versions_in(shown["up"]) | heads(shown["relations"]) == {node.ref for node in up.entities}
        assert versions_in(shown["down"]) | heads(shown["relations"]) == {node.ref for node in down.entities}
        assert {VersionRef(row["memory"], row["version"]) for row in shown["who"]} == versions_in(shown["up"])
        related = {(each.source_id, each.kind.value, each.target_id) for each in up.relations}
        assert {(row["from"], row["relation"], row["to"]) for row in shown["relations"]} == related
        if depth is None:
            assert edges_in(shown["up"]) == edges_of(up)
            assert edges_in(shown["down"]) == edges_of(down)
            found = [record["found"] for record in shown["up"] if "Source" in record["found"].labels]
            told = {Source(**{key: node.get(key) for key in ("id", "kind", "locator", "sha256")}) for node in found}
            assert told == set(up.sources)


def test_the_comparison_would_notice(browser: Browser) -> None:
    """The story has what the comparison is about, and another memory's answers differ."""
    derived, first = (browser.cubes[name].ref for name in ("derived", "first"))
    up = browser.lineage(derived, "up")
    assert up.derivations
    assert up.sources
    assert browser.lineage(first, "up").revisions
    assert up.relations
    assert versions_in(browser.paste(first)["up"]) != versions_in(browser.paste(derived)["up"])


def test_who_and_when_and_what(browser: Browser) -> None:
    shown = browser.paste(browser.cubes["derived"].ref)
    texts = {(row["memory"], row["version"]): (row["text"], row["status"]) for row in shown["who"]}
    first = browser.cubes["first"].id
    assert texts[first, 1] == ("Übergröße 👩‍🔬", "replaced")
    assert texts[browser.cubes["derived"].ref] == ("derived", "stale")
    graph = browser.lineage(browser.cubes["derived"].ref, "up")
    made = {node.ref: node.generated_by for node in graph.entities}
    who = {activity.id: activity.agent.name or activity.agent.id for activity in graph.activities}
    for row in shown["who"]:
        assert row["who"] == who[made[VersionRef(row["memory"], row["version"])] or ""]
    times = [row["recorded"].to_native() for row in shown["who"]]
    assert times == sorted(times, reverse=True)
    assert set(times) <= {node.recorded_at.replace(microsecond=node.recorded_at.microsecond // 1000 * 1000)
                          for node in graph.entities}  # fmt: skip
    (taken_back,) = browser.paste(browser.cubes["ended"].ref)["who"]
    assert taken_back["status"] == "taken back"


def test_the_log_of_a_memory(browser: Browser) -> None:
    from memos_agents.infrastructure.vault.base import LogQuery

    cube = browser.cubes["first"]
    entries = browser.vault.log(LogQuery(scope=EVERYTHING, cube_id=cube.id))
    shown = browser.paste(cube.ref)["log"]
    assert [(row["activity"], row["did"]) for row in shown] == [(entry.activity_id, entry.kind) for entry in entries]


def test_nothing_of_what_was_erased_is_shown(browser: Browser) -> None:
    shown = browser.paste(browser.cubes["erased"].ref)
    assert {row["status"] for row in shown["who"]} == {"erased"}
    assert {row["text"] for row in shown["who"]} == {None}
    for record in shown["up"]:
        assert "body" not in record["found"]


def test_browsers_send_whole_numbers_as_decimal_ones(browser: Browser) -> None:
    """Old releases of Neo4j Browser know only JavaScript's numbers."""
    ref = browser.cubes["derived"].ref
    plain, decimal = browser.paste(ref, depth=1), browser.paste(ref, depth=1, n=float(ref.version), depth_=1.0)
    assert versions_in(plain["up"]) == versions_in(decimal["up"]) != set()


@pytest.mark.parametrize("tenant", ["default", "other\x1fdefault"])
def test_another_store_or_tenant_answers_nothing(browser: Browser, tenant: str) -> None:
    shown = browser.paste(browser.cubes["first"].ref, tenant=tenant)
    assert {name: len(records) for name, records in shown.items()} == dict.fromkeys(QUESTIONS, 0)


def test_joins_do_not_multiply(browser: Browser) -> None:
    """A ladder of 40 rungs has 2**40 paths and 121 versions; whoever walks paths does not come back."""
    scribe = browser.scribe
    rungs = [scribe.cube(f"rung {number}") for number in range(41)]
    sides = [[scribe.cube(f"{side} {number}") for side in ("left", "right")] for number in range(40)]
    steps = [(side, rungs[number]) for number, pair in enumerate(sides) for side in pair]
    steps += [(rungs[number + 1], side) for number, pair in enumerate(sides) for side in pair]
    derivations = [Derivation(derived=new.ref, source=old.ref) for new, old in steps]
    order = [rungs[0], *(cube for number, pair in enumerate(sides) for cube in (*pair, rungs[number + 1]))]
    scribe.commit(writes=order, derivations=derivations)
    assert len(versions_in(browser.paste(rungs[-1].ref)["up"])) == 121
    assert len(versions_in(browser.paste(rungs[0].ref)["down"])) == 121


@pytest.mark.parametrize("name", QUESTIONS)
def test_a_statement_begins_at_one_node_of_an_index(browser: Browser, name: str) -> None:
    values = parameters(VersionRef("x", 1), tenant="nobody")
    steps = list(steps_of(browser.session.run("EXPLAIN " + QUESTIONS[name].statement, values).consume().plan))
    assert [step for step in steps if "Scan" in step] == []
    assert [step for step in steps if "Seek" in step] == ["NodeUniqueIndexSeek"]
    if "*0.." in QUESTIONS[name].statement:
        assert any(step.startswith("VarLengthExpand(Pruning,BFS") for step in steps), "it walks every path"


def steps_of(plan: Any) -> Iterator[str]:
    yield plan["operatorType"].split("@")[0]
    for child in plan.get("children", ()):
        yield from steps_of(child)
