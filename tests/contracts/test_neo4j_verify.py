"""`verify` finds what somebody with a Cypher shell can break."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("neo4j", reason="needs the Neo4j driver: pip install 'memos-agents[neo4j]'")

from contracts.neo4j_damages import NEO4J_DAMAGES

from memos_agents.infrastructure.vault.base import Problem
from memos_agents.infrastructure.vault.blobs import MemoryBlobs
from memos_agents.infrastructure.vault.neo4j import Neo4jVault
from memos_agents.infrastructure.vault.neo4j.link import Tx
from memos_agents.infrastructure.vault.neo4j.verifying import problems
from memos_agents.testing.vault_scribe import Scribe
from memos_agents.testing.vault_transfer_laws import story

pytestmark = pytest.mark.neo4j


@pytest.fixture(scope="module")
def told(neo4j_uris: str) -> Iterator[tuple[Neo4jVault, str]]:
    """A vault with a story, and the id of the cube that is damaged. Nobody changes it: damages are rolled back."""
    vault = Neo4jVault(neo4j_uris, store=secrets.token_hex(6), blobs=MemoryBlobs())
    yield vault, story(Scribe(vault))["derived"].id
    vault.close()


def test_a_sound_graph_has_no_problems(told: tuple[Neo4jVault, str]) -> None:
    vault, _ = told
    assert vault.verify() == []


@pytest.mark.parametrize("name", NEO4J_DAMAGES)
def test_each_planted_damage_is_found(told: tuple[Neo4jVault, str], name: str) -> None:
    vault, cube_id = told

    def plant_and_look(tx: Tx) -> tuple[int, list[Problem]]:
        ((changed,),) = tx.rows(NEO4J_DAMAGES[name], id=cube_id)
        return changed, [*problems(tx, vault.tenant, vault.blobs)]

    changed, found = vault.link.read(plant_and_look)
    assert changed > 0, "the damage changed nothing"
    assert found, "verify did not find it"
    assert all(problem.kind and "derived" not in problem.what.split() for problem in found)
    assert vault.verify() == [], "the damage was not rolled back"


def test_a_damaged_payload_is_found_once_for_each_version(neo4j_uri: str, tmp_path: Path) -> None:
    from memos_agents.cube.payload import ArtefactPayload
    from memos_agents.infrastructure.vault.blobs import FolderBlobs

    vault = Neo4jVault(neo4j_uri, store=secrets.token_hex(6), blobs=FolderBlobs(tmp_path / "blobs"))
    scribe = Scribe(vault)
    blob = vault.blobs.put(b"tensor")
    cubes = [scribe.cube(payload=ArtefactPayload(blobs={"kv": blob, "again": blob})) for _ in range(2)]
    scribe.commit(writes=cubes)
    assert vault.verify() == []
    next(path for path in (tmp_path / "blobs").rglob("*") if path.is_file()).write_bytes(b"tensro")
    assert [(problem.kind, problem.cube_id) for problem in vault.verify()] == [("blob", cube.id) for cube in cubes]
    vault.close()
