"""A mirror equals its source: random lives of a SqliteVault, followed by a Neo4j tenant in batches of any size."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import rule

pytest.importorskip("neo4j", reason="needs the Neo4j driver: pip install 'memos-agents[neo4j]'")

from memos_agents.cube.memcube import VersionRef
from memos_agents.errors import NotFound
from memos_agents.infrastructure.exchange.mirroring import Mirror
from memos_agents.infrastructure.vault.base import LogQuery, ViewQuery
from memos_agents.infrastructure.vault.neo4j import Neo4jVault
from memos_agents.infrastructure.vault.sqlite import SqliteVault
from memos_agents.testing.vault_machine import VaultMachine, columns, lines
from memos_agents.testing.vault_scribe import EVERYTHING, MARA, FullVault

pytestmark = pytest.mark.neo4j

EXAMPLES = 4


def told_of(vault: FullVault, ids: list[str], activities: list[str]) -> dict[str, object]:
    """What a vault answers, in every way that a mirror must answer like its source."""
    answers: dict[str, object] = {
        "log": vault.log(LogQuery(scope=EVERYTHING, limit=1000)),
        "spaces": vault.spaces(),
        "snapshots": vault.snapshots(),
        "relations": vault.relations(ids, EVERYTHING, removed=True),
    }
    for scope in (EVERYTHING, MARA):
        answers[f"lines {scope}"] = lines(vault, scope)
        answers[f"log {scope}"] = vault.log(LogQuery(scope=scope, limit=1000))
    for activity in activities[-3:]:
        answers[f"tombstones {activity}"] = vault.tombstones(activity)
        try:
            answers[f"effects {activity}"] = vault.effects(activity, EVERYTHING)
        except NotFound:
            answers[f"effects {activity}"] = None
    for cube_id in ids[:: max(1, len(ids) // 2)]:
        answers[f"history {cube_id}"] = vault.history(cube_id, EVERYTHING)
        lineage = vault.lineage(VersionRef(cube_id, 1), "both", None, EVERYTHING)
        answers[f"lineage {cube_id}"] = lineage.to_prov_json()
    return answers


class MirrorMachine(VaultMachine):
    uri: ClassVar[str]

    def make_vault(self, folder: Path) -> FullVault:
        self.mirror = Neo4jVault(self.uri, store=f"m1-{secrets.token_hex(6)}")
        self.source = SqliteVault(folder / "memos.db", durability="relaxed")
        return self.source

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            self.follow(3)
            assert self.mirror.verify() == []
            self.mirror.close()
        super().teardown()

    @rule(batch=st.integers(1, 5))
    def follow(self, batch: int) -> None:
        report = Mirror(self.source, self.mirror, batch=batch).catch_up()
        assert (report.lag, report.lag_seconds) == (0, 0.0)
        expected = told_of(self.source, self.ids, self.activities)
        found = told_of(self.mirror, self.ids, self.activities)
        for name, answer in expected.items():
            assert found[name] == answer, name
        for space in (None, *(space.fingerprint for space in self.source.spaces())):
            query = ViewQuery(scope=EVERYTHING, now=self.scribe.now, space=space)
            assert columns(self.mirror.search_view(query)) == columns(self.source.search_view(query))


class MachineOn5(MirrorMachine):
    uri: ClassVar[str]


@pytest.fixture
def _server(neo4j_uri: str) -> None:
    MirrorMachine.uri = neo4j_uri


@pytest.fixture
def _server_5(neo4j_5_uri: str) -> None:
    MachineOn5.uri = neo4j_5_uri


@pytest.mark.usefixtures("_server")
class TestMirror(MirrorMachine.TestCase):  # type: ignore[misc,valid-type]  # made by Hypothesis
    """Random lives of a store and its mirror."""


@pytest.mark.usefixtures("_server_5")
class TestMirrorOn5(MachineOn5.TestCase):  # type: ignore[misc,valid-type]  # made by Hypothesis
    """The same on the long-term version."""


TestMirror.settings = settings(max_examples=EXAMPLES, stateful_step_count=20)
TestMirrorOn5.settings = settings(max_examples=EXAMPLES // 2, stateful_step_count=20)
