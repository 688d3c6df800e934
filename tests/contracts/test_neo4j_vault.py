"""Neo4jVault keeps the contract, on both lines of the server."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import settings

pytest.importorskip("neo4j", reason="needs the Neo4j driver: pip install 'memos-agents[neo4j]'")

from memos_agents.infrastructure.vault.neo4j import Neo4jVault
from memos_agents.testing.vault_machine import VaultMachine
from memos_agents.testing.vault_scribe import FullVault
from memos_agents.testing.vault_suite import DurableVaultSuite

pytestmark = pytest.mark.neo4j


def open_in(folder: Path, uri: str, tenant: str = "default") -> FullVault:
    """A vault of the store that belongs to `folder`: every test has one of its own on the shared server."""
    folder.mkdir(exist_ok=True)
    mark = folder / "store"
    if not mark.exists():
        mark.write_text(secrets.token_hex(6))
    return Neo4jVault(uri, tenant=tenant, store=mark.read_text())


class _OnServer(DurableVaultSuite):
    uri: ClassVar[str]

    def make_vault(self, folder: Path, tenant: str = "default") -> FullVault:
        return open_in(folder, self.uri, tenant)


class TestOn2026(_OnServer):
    @pytest.fixture(autouse=True)
    def _server(self, neo4j_uri: str) -> None:
        type(self).uri = neo4j_uri


class TestOn5(_OnServer):
    @pytest.fixture(autouse=True)
    def _server(self, neo4j_5_uri: str) -> None:
        type(self).uri = neo4j_5_uri


class Neo4jMachine(VaultMachine):
    uri: ClassVar[str]

    def make_vault(self, folder: Path) -> FullVault:
        return open_in(folder, self.uri)


@pytest.fixture
def _machine_server(neo4j_uri: str) -> None:
    Neo4jMachine.uri = neo4j_uri


@pytest.mark.usefixtures("_machine_server")
class TestLikeMemory(Neo4jMachine.TestCase):  # type: ignore[misc,name-defined]  # made by Hypothesis
    """Random lives of a Neo4jVault beside a MemoryVault."""


TestLikeMemory.settings = settings(max_examples=15, stateful_step_count=30)
