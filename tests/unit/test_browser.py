"""Cypher for Neo4j Browser: values never become statements, and nothing of it needs a driver or a server."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from memos_agents import MemOS
from memos_agents.cli.application import app
from memos_agents.cli.terminal import printable
from memos_agents.cube.memcube import VersionRef
from memos_agents.infrastructure.provenance.browser import QUESTIONS, cypher_map, parameters, store_of, to_browser

FOREIGN = st.text(st.characters(codec="utf-8") | st.sampled_from("\\\"'`;{}/*\n\r\x1f\x00\u2028\u202eu$"), max_size=30)


def split(text: str) -> tuple[str, list[str]]:
    """The line of parameters, and everything else."""
    lines = text.split("\n")
    (line,) = [line for line in lines if line.startswith(":")]
    return line, [other for other in lines if other is not line]


@given(cube_id=FOREIGN, tenant=FOREIGN, store=FOREIGN | st.none(), n=st.integers(1, 9), is_copy=st.booleans())
def test_values_stand_in_the_line_of_parameters_and_nowhere_else(cube_id, tenant, store, n, is_copy) -> None:
    text = to_browser(VersionRef(cube_id, n), tenant=tenant, store=store, is_copy=is_copy)
    line, rest = split(text)
    assert rest == split(to_browser(VersionRef("", 1), tenant="", is_copy=is_copy))[1]
    assert re.fullmatch(r':params \{tenant: ".*", id: ".*", n: \d, depth: null\};', line)
    assert printable(text) == text, "a terminal shows it as it is, to be copied"
    assert len(text.splitlines()) == len(rest), "no value breaks the line"


@given(value=FOREIGN)
def test_a_literal_ends_where_it_ends(value: str) -> None:
    """As every version of Cypher reads it: one that turns \\uXXXX into characters first, and one that does not."""
    literal = cypher_map({"x": value}).removeprefix("{x: ").removesuffix("}")
    assert re.fullmatch(r'"(?:[^"\\]|\\["\\]|\\u[0-9a-f]{4})*"', literal)
    assert json.loads(literal) == value
    assert not {f"\\u{ord(character):04x}" for character in "\"\\'`"} & set(re.findall(r"\\u....", literal))


def test_a_store_stands_before_its_tenant() -> None:
    ref = VersionRef("id", 2)
    values = parameters(ref, tenant="team", store=store_of("neo4j://localhost:7687?store=mine"), depth=3)
    assert values == {"tenant": "mine\x1fteam", "id": "id", "n": 2, "depth": 3}
    assert parameters(ref, tenant="team", store=store_of("neo4j://localhost"))["tenant"] == "team"
    assert store_of("folder?store=x/memos.db") is None, "a file's name"


@pytest.mark.parametrize("name", QUESTIONS)
def test_every_node_of_a_statement_is_bound_to_the_tenant(name: str) -> None:
    statement = QUESTIONS[name].statement
    patterns = re.findall(r"\((?:\w+)?(:\w+)? ?(\{[^}]*\})?\)", statement)
    free = [label for label, properties in patterns if label and "tenant: $tenant" not in properties]
    assert free == []
    assert not re.search(r"\b(CREATE|MERGE|SET|DELETE|REMOVE|CALL|LOAD|DROP)\b", statement), "it only reads"
    assert set(re.findall(r"\$(\w+)", statement)) <= set(parameters(VersionRef("x", 1), tenant="t"))
    assert ";" not in statement


def test_it_needs_no_driver() -> None:
    code = (
        "import sys; sys.modules['neo4j'] = None\n"
        "from memos_agents.infrastructure.provenance.browser import to_browser\n"
        "from memos_agents.cube.memcube import VersionRef\n"
        "assert to_browser(VersionRef('x', 1), tenant='t')"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


@pytest.fixture
def memos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in [name for name in os.environ if name.startswith("MEMOS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, code: int = 0):
        result = CliRunner().invoke(app, list(arguments), prog_name="memos")
        assert result.exit_code == code, result.output
        return result

    return run


def test_the_command_prints_it_for_a_file_too_and_says_so(memos) -> None:
    with MemOS.open("memos.db", embedder="none", tenant='te"am') as store:
        cube = store.update(store.add("I moved to Lisbon.", user_id="mara")[0].id, "I moved to Porto.")
    options = ("provenance", cube.id, "--neo4j", "--tenant", 'te"am')
    shown = memos(*options).stdout
    assert shown == to_browser(cube.ref, tenant='te"am', is_copy=True)
    assert "// This store is a file" in shown
    assert "Porto" not in shown
    assert ", n: 1, depth: 2};" in memos(*options, "--version", "1", "--depth", "2").stdout
    document = json.loads(memos(*options, "--json").stdout)
    assert document["parameters"] == {"tenant": 'te"am', "id": cube.id, "n": 2, "depth": None}
    assert document["statements"] == {name: question.statement for name, question in QUESTIONS.items()}


def test_the_command_shows_nobody_s_memory_to_another_and_one_form_at_a_time(memos) -> None:
    with MemOS.open("memos.db", embedder="none") as store:
        cube = store.add("I moved to Lisbon.", user_id="mara")[0]
    memos("provenance", cube.id, "--neo4j", "--user", "noah", code=3)
    memos("provenance", cube.id, "--neo4j", "--mermaid", code=2)
