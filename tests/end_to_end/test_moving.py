"""Tenants over two real servers: routed, moved, and killed on the way."""

from __future__ import annotations

import json
import secrets
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("neo4j", reason="needs the Neo4j driver: pip install 'memos-agents[neo4j]'")

from memos_agents.cube.memcube import MemCube
from memos_agents.cube.payload import ArtefactPayload, MemoryType
from memos_agents.cube.scope import Scope
from memos_agents.errors import BackendUnavailable, IntegrityError, InvalidRequest, NotFound
from memos_agents.infrastructure.exchange.comparing import digest_of
from memos_agents.infrastructure.exchange.moving import STEPS, abandon_move, move_tenant
from memos_agents.infrastructure.provenance.values import Derivation, Relation, RelationKind
from memos_agents.infrastructure.vault.base import LogEntry, LogQuery, Snapshot
from memos_agents.infrastructure.vault.commit import Commit
from memos_agents.infrastructure.vault.neo4j import Neo4jVault, cypher_routing
from memos_agents.infrastructure.vault.neo4j.purging import purge_for_good
from memos_agents.infrastructure.vault.neo4j.routing import Route, Router, Table, open_at
from memos_agents.testing.vault_scribe import LATER, Scribe

pytestmark = pytest.mark.neo4j


def clock() -> datetime:
    return datetime.now(UTC)


@pytest.fixture
def places(neo4j_uri: str, neo4j_5_uri: str) -> tuple[Route, Route]:
    """A store of this test's own on each of two servers, of different versions."""
    store = f"m1-{secrets.token_hex(6)}"
    return Route(neo4j_uri, "neo4j", store), Route(neo4j_5_uri, "neo4j", store)


@pytest.fixture
def router(tmp_path: Path, places: tuple[Route, Route]) -> Router:
    made = Router(tmp_path / "routes.json")
    made.assign("acme", places[0])
    made.assign("umbra", places[1])
    return made


def everything(tenant: str) -> Scope:
    return Scope.everything(tenant)


def owner(vault: Neo4jVault) -> Scope:
    return Scope(tenant=vault.tenant, user_id="mara")


def write(vault: Neo4jVault, text: str) -> None:
    scribe = Scribe(vault, seed=secrets.randbits(30), start=LATER)
    scribe.commit(writes=[scribe.cube(text, scope=owner(vault))])


def fill(router: Router, tenant: str = "acme", texts: int = 6) -> list[str]:
    """Versions, edges, vectors, a payload, an erasure, a key, a lease, a snapshot, use; returns the cubes' ids."""
    vault = router.open(tenant)
    vault.open_space("m", 2)
    scribe = Scribe(vault, seed=len(tenant))
    made: list[MemCube] = []
    for number in range(texts):
        cube = scribe.cube(f"{tenant} {number}", scope=owner(vault))
        scribe.commit(key=f"key {number}", writes=[cube])
        made.append(vault.get([cube.id], everything(tenant))[cube.id])
    vault.add_vectors("m", {made[0].ref: np.ones(2, np.float32)})
    scribe.commit(
        writes=[scribe.next_of(made[1], "the second version")],
        relations=[Relation(source_id=made[0].id, kind=RelationKind.NEXT, target_id=made[1].id)],
    )
    made_of = scribe.cube("made of the first", scope=owner(vault))
    scribe.commit(writes=[made_of], derivations=[Derivation(derived=made_of.ref, source=made[0].ref)])
    ref = vault.blobs.put(b"a payload of " + tenant.encode())
    artefact = scribe.cube(
        payload=ArtefactPayload(blobs={"kv": ref}), memory_type=MemoryType.ACTIVATION, scope=owner(vault)
    )
    scribe.commit(writes=[artefact])
    scribe.commit(activity=scribe.activity("erase"), erasures=[made[-1].id])
    vault.set_snapshot("before", scribe.now)
    vault.acquire_lease("work", "a", 60, scribe.now)
    vault.touch([made_of.id], scribe.now)
    vault.close()
    return [cube.id for cube in made]


def told(vault: Neo4jVault) -> tuple[str, list[LogEntry], list[Snapshot]]:
    scope = everything(vault.tenant)
    return digest_of(vault.records(scope)), vault.log(LogQuery(scope=scope, limit=1000)), vault.snapshots()


def is_closed(route: Route, tenant: str) -> bool:
    """Whether nobody can write there."""
    vault = open_at(route, tenant)
    try:
        write(vault, "written at the wrong place")
    except InvalidRequest:
        return True
    except BackendUnavailable as error:  # it is on its way: whoever asks its router again finds it
        return "router" in str(error)
    finally:
        vault.close()
    return False


def test_each_tenant_is_opened_where_the_table_says(router: Router, places: tuple[Route, Route]) -> None:
    for tenant, route in zip(("acme", "umbra"), places, strict=True):
        fill(router, tenant, texts=2)
        vault = router.open(tenant)
        assert vault.link._address.uri == route.uri  # where it really went
        assert len(vault.cube_ids(everything(tenant), limit=99)) == 4
        vault.close()
    with pytest.raises(NotFound, match="nobody"):
        router.open("nobody")
    with pytest.raises(InvalidRequest, match="move it"):
        router.assign("acme", places[1])


def test_a_table_is_a_mapping_a_json_file_or_a_toml_file(tmp_path: Path, places: tuple[Route, Route]) -> None:
    given = Router({"acme": places[0]}, default=places[1])
    assert (given.route("acme"), given.route("anyone")) == places
    with pytest.raises(InvalidRequest, match="mapping"):
        given.assign("more", places[0])
    toml = tmp_path / "routes.toml"
    toml.write_text(f'[default]\nuri = "{places[1].uri}"\n[tenants.acme]\nuri = "{places[0].uri}"\nstore = "s"\n')
    assert Router(toml).route("acme") == Route(places[0].uri, store="s")
    assert Router(toml).route("anyone") == Route(places[1].uri)
    with pytest.raises(InvalidRequest, match="TOML"):
        Router(toml).assign("more", places[0])
    path = tmp_path / "routes.json"
    router = Router(path)
    assert router.table() == Table()
    router.assign("acme", places[0])
    router.assign("umbra", places[1])
    assert json.loads(path.read_text())["version"] == 2
    for damage in ("{", "[]", '{"tenants": {"a": {"host": "x"}}}', '{"tenants": {"a": {"uri": 3}}}'):
        path.write_text(damage)
        with pytest.raises(InvalidRequest):
            router.table()


def test_a_tenant_moves_with_everything_and_leaves_nothing(router: Router, places: tuple[Route, Route]) -> None:
    ids = fill(router)
    before_vault = router.open("acme")
    before, lease = told(before_vault), before_vault.acquire_lease("work", "a", 60, LATER)
    steps: list[str] = []
    report = move_tenant(router, "acme", places[1], clock=clock, reached=steps.append, samples=5)
    assert tuple(steps) == STEPS
    assert (report.commits, report.samples) == (len(before[1]), 5)
    assert router.table() == Table(tenants={"acme": places[1], "umbra": places[1]}, version=router.table().version)
    moved = router.open("acme")
    newest = moved.log(LogQuery(scope=everything("acme"), limit=1))[0]
    assert newest.kind == "move"
    _, log, snapshots = told(moved)
    assert (log[1:], snapshots) == before[1:]
    assert moved.verify() == []
    assert moved.spaces()[0].fingerprint == "m"
    repeated = moved.commit(Commit(activity=Scribe(moved, seed=3, start=LATER).activity(), key="key 0"))
    assert repeated.is_repeated
    assert moved.acquire_lease("work", "b", 60, LATER.replace(year=2028)).token > lease.token  # never a token twice
    assert set(ids) <= set(moved.cube_ids(everything("acme"), limit=99))
    # the old place: closed, empty, and the client that still has it open is refused
    assert before_vault.cube_ids(everything("acme"), limit=9) == []
    assert before_vault.link.read(lambda tx: tx.rows(cypher_routing.LEFT)) == [[False]]
    assert is_closed(places[0], "acme")
    assert not is_closed(places[1], "acme")
    before_vault.close()
    # and back again, to the place it left
    back = move_tenant(router, "acme", places[0], clock=clock, samples=3)
    assert back.commits == len(before[1]) + 2  # the move, and what this test wrote; the repeated key is none
    again = router.open("acme")
    assert again.verify() == []
    assert again.log(LogQuery(scope=everything("acme"), limit=1))[0].kind == "move"
    assert is_closed(places[1], "acme")
    again.close()
    moved.close()


def test_a_move_does_not_touch_the_other_tenants_of_either_server(router: Router, places: tuple[Route, Route]) -> None:
    fill(router, "acme", texts=3)
    fill(router, "umbra", texts=3)
    neighbour = open_at(places[0], "neighbour")
    write(neighbour, "stays")
    umbra = router.open("umbra")
    before = told(neighbour), told(umbra)
    move_tenant(router, "acme", places[1], clock=clock, samples=2)
    assert (told(neighbour), told(umbra)) == before
    assert neighbour.verify() == umbra.verify() == []
    neighbour.close()
    umbra.close()


class Stop(Exception):
    """Ends a move where a test wants it to end."""


def stop(at: str) -> Callable[[str], None]:
    def reached(step: str) -> None:
        if step == at:
            raise Stop

    return reached


KILLED = """
import os, signal, sys
from datetime import UTC, datetime
from memos_agents.infrastructure.exchange.moving import move_tenant
from memos_agents.infrastructure.vault.neo4j.routing import Route, Router

path, uri, store, at = sys.argv[1:]
def reached(step):
    if step == at:
        os.kill(os.getpid(), signal.SIGKILL)
def progress(done, total):
    if at == "midway":
        os.kill(os.getpid(), signal.SIGKILL)
move_tenant(Router(path), "acme", Route(uri, "neo4j", store), clock=lambda: datetime.now(UTC), samples=3,
            progress=progress, reached=reached)
"""


@pytest.mark.slow
@pytest.mark.parametrize("step", ["midway", *STEPS[:-1]])
def test_a_move_that_is_killed_leaves_one_place_and_goes_on(
    router: Router, places: tuple[Route, Route], tmp_path: Path, step: str
) -> None:
    fill(router, texts=2)
    old = router.open("acme")
    before = told(old)
    old.close()
    command = [sys.executable, "-c", KILLED, str(tmp_path / "routes.json"), places[1].uri, places[1].store or "", step]
    killed = subprocess.run(command, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    here = router.open("acme")  # the one place that counts tells everything, whatever happened
    assert told(here)[0] == before[0] or step in ("opened", "purged")
    assert {entry.activity_id for entry in here.log(LogQuery(scope=everything("acme"), limit=99))} >= {
        entry.activity_id for entry in before[1]
    }
    here.close()
    other = places[1] if router.route("acme") == places[0] else places[0]
    if step != "noted":
        assert is_closed(other, "acme") or step == "sealed"  # the new place is not begun yet
    if step in ("noted", "sealed"):
        purge_left_by_this_test(other)
    move_tenant(router, "acme", places[1], clock=clock, samples=3)
    moved = router.open("acme")
    log = moved.log(LogQuery(scope=everything("acme"), limit=99))
    assert [entry for entry in log if entry.kind == "move"] == log[:1]
    assert log[1:] == before[1]
    assert moved.verify() == []
    moved.close()
    assert router.table().moves == {}
    assert is_closed(places[0], "acme")


def purge_left_by_this_test(route: Route) -> None:
    vault = open_at(route, "acme")
    purge_for_good(vault.link)
    vault.close()


def test_a_move_can_be_abandoned_until_the_table_is_turned(router: Router, places: tuple[Route, Route]) -> None:
    fill(router, texts=3)

    with pytest.raises(Stop):
        move_tenant(router, "acme", places[1], clock=clock, samples=2, reached=stop("proven"))
    assert is_closed(places[0], "acme")
    with pytest.raises(InvalidRequest, match="on its way"):
        move_tenant(router, "acme", Route(places[1].uri, "neo4j", "elsewhere"), clock=clock)
    abandon_move(router, "acme")
    abandon_move(router, "acme")  # twice is once
    assert router.route("acme") == places[0]
    assert not is_closed(places[0], "acme")
    assert not is_closed(places[1], "acme")  # empty and free again
    purge_left_by_this_test(places[1])
    with pytest.raises(Stop):
        move_tenant(router, "acme", places[1], clock=clock, samples=2, reached=stop("turned"))
    with pytest.raises(InvalidRequest, match="new place already"):
        abandon_move(router, "acme")
    move_tenant(router, "acme", places[1], clock=clock, samples=2)


def test_a_copy_that_is_not_equal_is_not_turned_to(router: Router, places: tuple[Route, Route]) -> None:
    fill(router, texts=3)

    def spoil(step: str) -> None:
        if step == "copied":
            vault = open_at(places[1], "acme")
            spoiled = "MATCH (v:CubeVersion {tenant: $tenant}) WITH v LIMIT 1 SET v.is_stale = NOT v.is_stale"
            vault.link.write(lambda tx: tx.run(spoiled))
            vault.close()

    with pytest.raises(IntegrityError, match="not equal"):
        move_tenant(router, "acme", places[1], clock=clock, samples=1, reached=spoil)
    assert router.route("acme") == places[0]
    assert not is_closed(places[0], "acme")
    abandon_move(router, "acme")


def test_a_place_with_other_memories_is_refused(router: Router, places: tuple[Route, Route]) -> None:
    fill(router, texts=2)
    taken = open_at(places[1], "acme")
    write(taken, "somebody else's")
    with pytest.raises(InvalidRequest, match="memories of its own"):
        move_tenant(router, "acme", places[1], clock=clock)
    abandon_move(router, "acme")
    assert len(taken.cube_ids(everything("acme"), limit=9)) == 1
    assert not is_closed(places[0], "acme")
    taken.close()


def test_purging_for_good_leaves_nothing_and_asks_for_a_seal(router: Router, places: tuple[Route, Route]) -> None:
    fill(router, texts=2)
    fill(router, "umbra", texts=2)
    vault, other = router.open("acme"), router.open("umbra")
    before = told(other)
    purge_for_good(vault.link)
    purge_for_good(vault.link)
    assert vault.link.read(lambda tx: tx.rows(cypher_routing.LEFT), whole=False) == [[False]]
    assert vault.link.read(lambda tx: tx.rows("MATCH (n) WHERE n.tenant = $tenant OR n.id = $tenant RETURN n")) == []
    assert told(other) == before
    vault.close()
    other.close()


def test_a_moving_tenant_cannot_be_purged(router: Router, places: tuple[Route, Route]) -> None:
    fill(router, texts=2)
    with pytest.raises(Stop):
        move_tenant(router, "acme", places[1], clock=clock, samples=1, reached=stop("copied"))
    for place in places:
        vault = open_at(place, "acme")
        with pytest.raises(InvalidRequest, match="moving"):
            purge_for_good(vault.link)
        assert vault.cube_ids(everything("acme"), limit=1)
        vault.close()
    abandon_move(router, "acme")
