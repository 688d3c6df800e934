"""The schema page is the code's: the committed file is current, and the statements speak of nothing else."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest.importorskip("neo4j", reason="needs the Neo4j driver: pip install 'memos-agents[neo4j]'")

from typer.testing import CliRunner

import memos_agents.infrastructure.vault.neo4j as package
from memos_agents.cli.application import app
from memos_agents.infrastructure.provenance.values import RelationKind
from memos_agents.infrastructure.vault.neo4j import cypher_nearest, schema
from memos_agents.infrastructure.vault.neo4j.describing import USEFUL, describe, indexes
from memos_agents.infrastructure.vault.neo4j.vocabulary import LABELS, RELATIONSHIPS

PAGE = Path(__file__).parents[2] / "docs" / "neo4j_schema.md"
STATEMENTS = {path.name: path.read_text() for path in sorted(Path(package.__file__).parent.glob("cypher*.py"))}
OF_VARIABLE = {"t": "Tenant", "a": "Activity", "p": "Space", "s": None, "c": None}


def labels_in(text: str) -> set[str]:
    return set(re.findall(r"\(\w*:([A-Z]\w+)", text))


def types_in(text: str) -> set[str]:
    return {name for found in re.findall(r"\[\w*:([A-Z_|]+)[\]{ ]", text) for name in found.split("|")}


def tenant_properties_in(text: str) -> set[str]:
    """What statements set or read of `t`, which is the tenant wherever `(t:Tenant` stands in the file."""
    return set(re.findall(r"\bt\.(\w+)", text)) if "(t:Tenant" in text else set()


def test_the_committed_page_is_what_the_code_says() -> None:
    assert PAGE.read_text(encoding="utf-8") == describe(), "run: memos neo4j schema > docs/neo4j_schema.md"


def test_the_command_prints_the_page() -> None:
    result = CliRunner().invoke(app, ["neo4j", "schema"], prog_name="memos")
    assert (result.exit_code, result.stdout) == (0, describe())


@pytest.mark.parametrize("name", STATEMENTS)
def test_statements_speak_of_what_the_page_describes(name: str) -> None:
    text = STATEMENTS[name]
    assert labels_in(text) <= set(LABELS)
    assert types_in(text) <= set(RELATIONSHIPS)
    assert tenant_properties_in(text) <= set(LABELS["Tenant"].properties)


def test_the_test_above_would_notice() -> None:
    strange = "MATCH (t:Tenant {id: $tenant})-[:LIKES]->(x:Stranger {tenant: $tenant}) SET t.mood = 1"
    assert labels_in(strange) - set(LABELS) == {"Stranger"}
    assert types_in(strange) - set(RELATIONSHIPS) == {"LIKES"}
    assert tenant_properties_in(strange) - set(LABELS["Tenant"].properties) == {"mood"}


def test_every_relation_between_memories_is_described() -> None:
    assert {kind.value for kind in RelationKind} <= set(RELATIONSHIPS)


def test_every_index_of_the_schema_is_on_the_page() -> None:
    found = indexes()
    assert len(found) == len(schema.CONSTRAINTS) + len(schema.INDEXES) + 3
    assert {one.label for one in found} <= set(LABELS)
    for one in found:
        keys = [key.strip() for key in one.on.split(",")]
        assert set(keys) <= set(LABELS[one.label].properties), one.name
    assert {one.kind for one in found} == {"unique", "range", "full text", "vector"}
    assert set(cypher_nearest.VECTOR_INDEX.values()) == {f"memos_vec_{size}" for size in cypher_nearest.VECTOR_INDEX}


@pytest.mark.parametrize("name", USEFUL)
def test_useful_queries_only_read_and_only_one_tenant(name: str) -> None:
    statement = USEFUL[name].statement
    assert set(re.findall(r"\$(\w+)", statement)) == {"tenant", *USEFUL[name].parameters}
    labelled = re.findall(r"\(\w*:[A-Z]\w+ ?(\{[^}]*\})?", statement)
    assert labelled
    assert [properties for properties in labelled if "tenant: $tenant" not in properties] == []
    assert not re.search(r"\b(CREATE|MERGE|SET|DELETE|REMOVE|CALL|LOAD|DROP)\b|\bemb_|\bvec_", statement)


def test_there_are_six() -> None:
    assert len(USEFUL) == 6
