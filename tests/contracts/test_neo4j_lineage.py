"""Lineages that are deeper, wider or stranger than random histories make them: equal to a `MemoryVault`'s."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from itertools import pairwise

import pytest

pytest.importorskip("neo4j", reason="needs the Neo4j driver: pip install 'memos-agents[neo4j]'")

from memos_agents.cube.memcube import MemCube, VersionRef
from memos_agents.cube.payload import ArtefactPayload
from memos_agents.infrastructure.provenance.values import Derivation, Source
from memos_agents.infrastructure.vault.base import Direction
from memos_agents.infrastructure.vault.blobs import MemoryBlobs
from memos_agents.infrastructure.vault.commit import Write
from memos_agents.infrastructure.vault.memory import MemoryVault
from memos_agents.infrastructure.vault.neo4j import Neo4jVault, lineage
from memos_agents.testing.vault_scribe import EVERYTHING, MARA, Scribe

pytestmark = pytest.mark.neo4j

WAYS: tuple[Direction, ...] = ("up", "down", "both")


@pytest.fixture
def scribes(neo4j_uri: str) -> Iterator[tuple[Scribe, Scribe]]:
    """Two that write the same: to a Neo4jVault and to its model."""
    vault = Neo4jVault(neo4j_uri, store=secrets.token_hex(6), blobs=MemoryBlobs())
    yield Scribe(vault), Scribe(MemoryVault())
    vault.close()


def same(
    scribes: tuple[Scribe, Scribe], ref: VersionRef, *depths: int | None, ways: tuple[Direction, ...] = WAYS
) -> None:
    """Ask both vaults and compare."""
    vault, model = (scribe.vault for scribe in scribes)
    for depth in depths:
        for way in ways:
            for scope in (EVERYTHING, MARA):
                assert vault.lineage(ref, way, depth, scope) == model.lineage(ref, way, depth, scope), (way, depth)


def chain(scribe: Scribe, length: int) -> list[MemCube]:
    """Each derived from the one before it, every fifth from an outside source too, some revised."""
    cubes = [scribe.cube(f"link {number}") for number in range(length)]
    letter = Source(id="letter", kind="file", locator="letter.txt")
    edges = [Derivation(derived=new.ref, source=old.ref) for old, new in pairwise(cubes)]
    evidence = [Derivation(derived=cube.ref, source="letter", kind="quote") for cube in cubes[::5]]
    scribe.commit(writes=cubes, sources=[letter], derivations=[*edges, *evidence])
    scribe.commit(writes=[scribe.next_of(cube, "again") for cube in cubes[::7]])
    return cubes


def test_a_long_chain_is_walked_to_its_end(scribes: tuple[Scribe, Scribe]) -> None:
    cubes, _ = (chain(scribe, 40) for scribe in scribes)
    assert len(scribes[0].vault.lineage(cubes[-1].ref, "up", None, MARA).entities) == 40
    same(scribes, cubes[-1].ref, None, 0, 1, 3, 4, 9, 10, ways=("up",))
    same(scribes, cubes[0].ref, None, 2, 3, 5, 9, ways=("down",))
    same(scribes, cubes[20].ref, None, 4, ways=("both",))


@pytest.mark.parametrize("width", [lineage._NARROW + 30, lineage._MOST_PAIRS + 30])
def test_what_spreads_and_comes_together_again(scribes: tuple[Scribe, Scribe], width: int) -> None:
    for scribe in scribes:
        source = scribe.add("source")
        middle = [scribe.cube(f"part {number}") for number in range(width)]
        sink, below = scribe.cube("sink"), scribe.cube("below")
        scribe.commit(
            writes=[*middle, sink, below],
            derivations=[
                *(Derivation(derived=cube.ref, source=source.ref) for cube in middle),
                *(Derivation(derived=sink.ref, source=cube.ref) for cube in middle),
                Derivation(derived=below.ref, source=sink.ref),
            ],
        )
        refs = (source.ref, middle[7].ref, below.ref)
    assert len(scribes[0].vault.lineage(refs[0], "down", None, MARA).entities) == width + 3
    for ref, way in zip(refs, ("down", "both", "up"), strict=True):
        same(scribes, ref, None, 2, ways=(way,))  # type: ignore[arg-type]  # three of WAYS


TEXTS = (
    "",
    "plain",
    'she said "payload":{"text":"no"} and left',
    "\\" * 700,
    '"' * 700,
    '\\"' * 400,
    "\u0001\u0002\n\t" * 600,
    "👩‍🔬" * 900,
    "ü\\n" * 1999,
    "a" * 1_999 + "\\" + "b" * 10,
    '"}}',
    'x"}}' * 600,
    " \n " * 900,
)


def test_labels_are_read_off_the_beginning_of_any_text(scribes: tuple[Scribe, Scribe]) -> None:
    payload = ArtefactPayload(manifest={"payload": {"text": "not this"}, "z": {"payload": {"text": "nor this"}}})
    for scribe in scribes:
        root = scribe.add("root")
        cubes = [scribe.cube(text) for text in TEXTS]
        cubes.append(scribe.cube("real", metadata={"payload": {"text": "in metadata"}}))
        cubes.append(scribe.cube(payload=payload, metadata={"payload": {"text": "in metadata"}}))
        scribe.commit(
            writes=[Write(cube=cube) for cube in cubes],
            derivations=[Derivation(derived=cube.ref, source=root.ref) for cube in cubes],
        )
    same(scribes, root.ref, 1, ways=("down",))
    labels = [node.label for node in scribes[0].vault.lineage(root.ref, "down", 1, MARA).entities]
    assert "real" in labels
    assert not any("metadata" in label or "this" in label for label in labels)
