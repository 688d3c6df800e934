"""Mirrors as people meet them: followers killed, doubled and cut off, content erased, and the day of the cut-over."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

pytest.importorskip("neo4j", reason="needs the Neo4j driver: pip install 'memos-agents[neo4j]'")

import neo4j
from servers import FaultServer

from memos_agents.cli.application import app
from memos_agents.cube.payload import ArtefactPayload, MemoryType
from memos_agents.errors import BackendUnavailable, InvalidRequest, NotFound, VersionConflict
from memos_agents.infrastructure.exchange.mirroring import Mirror, MirrorReport
from memos_agents.infrastructure.provenance.values import RelationKind, Source
from memos_agents.infrastructure.vault.base import LogQuery
from memos_agents.infrastructure.vault.changes import Position
from memos_agents.infrastructure.vault.commit import Commit
from memos_agents.infrastructure.vault.neo4j import Neo4jVault
from memos_agents.infrastructure.vault.neo4j.purging import purge_for_good
from memos_agents.infrastructure.vault.sqlite import SqliteVault
from memos_agents.testing.vault_machine import lines
from memos_agents.testing.vault_records_of_laws import tangle
from memos_agents.testing.vault_scribe import EVERYTHING, LATER, Scribe

pytestmark = pytest.mark.neo4j

WORD = "Xylophonquittung"


@pytest.fixture
def source(tmp_path: Path) -> Iterator[SqliteVault]:
    vault = SqliteVault(tmp_path / "memos.db", durability="relaxed")
    vault.open_space("m", 2)
    yield vault
    vault.close()


@pytest.fixture
def place(neo4j_uri: str) -> str:
    """A store of this test's own on the shared server."""
    return f"{neo4j_uri}?store=m1-{secrets.token_hex(6)}"


@pytest.fixture
def target(place: str) -> Iterator[Neo4jVault]:
    vault = Neo4jVault(place)
    yield vault
    vault.close()


def same(source: SqliteVault, target: Neo4jVault) -> None:
    assert lines(target, EVERYTHING) == lines(source, EVERYTHING)
    everything = LogQuery(scope=EVERYTHING, limit=10_000)
    assert target.log(everything) == source.log(everything)
    assert target.verify() == []


def properties_of(place: str) -> str:
    """Every property of every node and relationship of the store, as the server holds them."""
    uri, _, store = place.partition("?store=")
    with neo4j.GraphDatabase.driver(uri) as driver:
        nodes = driver.execute_query(
            "MATCH (n) WHERE coalesce(n.tenant, n.id) STARTS WITH $store "
            "OPTIONAL MATCH (n)-[r]->() RETURN labels(n), properties(n), collect(properties(r))",
            store=store,
        ).records
    assert len(nodes) > 3
    return repr([record.values() for record in nodes])


# -- what is mirrored


def test_a_mirror_answers_like_its_source(source: SqliteVault, target: Neo4jVault) -> None:
    scribe = Scribe(source)
    ids = tangle(scribe)
    source.set_snapshot("before", scribe.now)
    report = Mirror(source, target, batch=2).catch_up()
    assert (report.applied, report.position, report.lag) == (
        len(source.log(LogQuery(scope=EVERYTHING))),
        report.applied,
        0,
    )
    same(source, target)
    assert target.snapshots() == source.snapshots()
    assert target.spaces() == source.spaces()
    assert [cube.behavioural.use_count for cube in target.get(ids, EVERYTHING).values()] == [
        cube.behavioural.use_count for cube in source.get(ids, EVERYTHING).values()
    ]


def test_nothing_new_costs_no_transaction_and_changes_nothing(source: SqliteVault, target: Neo4jVault) -> None:
    scribe = Scribe(source)
    scribe.add("one")
    batch = source.changes(Position(), 10)
    assert batch is not None
    target.mirror(batch, batch.source_id)
    standing = target.mirror_position()
    before = lines(target, EVERYTHING)
    target.mirror(batch, batch.source_id)  # sent twice
    assert (target.mirror_position(), lines(target, EVERYTHING)) == (standing, before)
    assert Mirror(source, target).catch_up().applied == 0
    same(source, target)


def test_a_gap_and_another_store_are_refused(source: SqliteVault, target: Neo4jVault, tmp_path: Path) -> None:
    scribe = Scribe(source)
    for number in range(4):
        scribe.add(f"memory {number}")
    first = source.changes(Position(), 1)
    assert first is not None
    second = source.changes(first.upto, 1)
    assert second is not None
    with pytest.raises(VersionConflict, match="does not stand where"):
        target.mirror(second, second.source_id)
    assert target.mirror_position() is None
    target.mirror(first, first.source_id)
    other = SqliteVault(tmp_path / "other.db")
    Scribe(other, seed=5).add("somebody else's")
    with pytest.raises(VersionConflict, match="another store"):
        Mirror(other, target).catch_up()
    foreign = other.changes(Position(), 1)
    assert foreign is not None
    with pytest.raises(InvalidRequest, match="another store"):
        target.mirror(foreign, foreign.source_id)
    other.close()
    Mirror(source, target).catch_up()
    same(source, target)


def test_a_store_put_back_from_a_backup_is_noticed(source: SqliteVault, target: Neo4jVault, tmp_path: Path) -> None:
    """Its log has the same beginning and another end; following on would mix two histories."""
    scribe = Scribe(source)
    scribe.add("kept")
    source.backup(tmp_path / "backup.db")
    scribe.add("lost with the disk")
    Mirror(source, target).catch_up()
    restored = SqliteVault(tmp_path / "backup.db")
    with pytest.raises(VersionConflict, match="backup"):
        Mirror(restored, target).catch_up()
    Scribe(restored, seed=8, start=LATER).add("written since")
    with pytest.raises(VersionConflict, match="backup"):
        Mirror(restored, target).catch_up()
    restored.close()


def test_a_tenant_with_memories_of_its_own_is_never_overwritten(source: SqliteVault, target: Neo4jVault) -> None:
    own = Scribe(target).add("the target's own")
    Scribe(source, seed=3).add("the source's")
    with pytest.raises(InvalidRequest, match="memories of its own"):
        Mirror(source, target).catch_up()
    assert list(target.get([own.id], EVERYTHING)) == [own.id]


def test_a_mirror_takes_no_commits_of_its_own(source: SqliteVault, target: Neo4jVault) -> None:
    scribe = Scribe(source)
    scribe.add("one")
    Mirror(source, target).catch_up()
    with pytest.raises(InvalidRequest, match="mirror"):
        Scribe(target, seed=4).add("written at the wrong end")
    with pytest.raises(InvalidRequest, match="mirror"):
        target.restore(source.records(EVERYTHING), Commit(activity=Scribe(target, seed=6).activity("load")))
    same(source, target)


def test_records_loaded_in_parts_arrive_with_every_edge(
    source: SqliteVault, target: Neo4jVault, tmp_path: Path
) -> None:
    """A load can join cubes that were there before, which its log entry does not tell."""
    origin = SqliteVault(tmp_path / "origin.db", durability="relaxed")
    ids = tangle(Scribe(origin))
    loader = Scribe(source, seed=2, start=LATER)
    mirror = Mirror(source, target, batch=3)
    for cube_id in reversed(ids):
        source.restore(origin.records_of([cube_id], EVERYTHING), Commit(activity=loader.activity("load")))
        if cube_id in ids[::4]:
            mirror.catch_up()
            same(source, target)
    mirror.catch_up()
    same(source, target)
    origin.close()


def test_vectors_beside_the_log_follow(source: SqliteVault, target: Neo4jVault) -> None:
    scribe = Scribe(source)
    cubes = [scribe.add(f"memory {number}", vectors={"m": np.ones(2, np.float32)}) for number in range(3)]
    mirror = Mirror(source, target)
    mirror.catch_up()
    source.open_space("n", 3, make_default=True)
    source.add_vectors("n", {cubes[0].ref: np.ones(3, np.float32)})
    mirror.catch_up()
    same(source, target)
    assert target.spaces() == source.spaces()
    source.drop_space("m")
    source.open_space("m", 4)  # the same name for something else
    mirror.catch_up()
    same(source, target)
    assert target.spaces() == source.spaces()


def test_spaces_and_snapshots_follow_without_a_commit(source: SqliteVault, target: Neo4jVault) -> None:
    scribe = Scribe(source)
    scribe.add("one")
    mirror = Mirror(source, target)
    mirror.catch_up()
    source.set_snapshot("before", scribe.now)
    source.set_snapshot("after", scribe.now)
    mirror.catch_up()
    assert target.snapshots() == source.snapshots()
    source.set_snapshot("after", scribe.tick())
    source.open_space("n", 3)
    mirror.catch_up()
    assert (target.snapshots(), target.spaces()) == (source.snapshots(), source.spaces())
    source.open_space("n", 3, make_default=True)
    mirror.catch_up()
    assert target.spaces() == source.spaces()
    assert source.changes((target.mirror_position() or ("", Position()))[1], 1) is None


def test_payload_files_travel_and_go(source: SqliteVault, target: Neo4jVault) -> None:
    scribe = Scribe(source)
    ref = source.blobs.put(b"keys and values" * 100)
    cube = scribe.cube("", payload=ArtefactPayload(blobs={"kv": ref}), memory_type=MemoryType.ACTIVATION)
    scribe.commit(writes=[cube])
    assert Mirror(source, target).catch_up().payloads == 1
    assert target.blobs.get(ref.sha256) == b"keys and values" * 100
    same(source, target)
    scribe.erase(scribe.head(cube))
    Mirror(source, target).catch_up()
    assert not target.blobs.has(ref.sha256)
    same(source, target)


def test_what_is_erased_leaves_no_word_in_the_mirror(source: SqliteVault, target: Neo4jVault, place: str) -> None:
    scribe = Scribe(source)
    kept = scribe.add("something else")
    letter = Source(id="letter", kind="file", locator=f"{WORD}.txt")
    cube = scribe.add(f"the {WORD} of Mara", sources=[letter], metadata={"note": WORD})
    scribe.revise(cube, f"the second {WORD}")
    made = scribe.add(f"a summary of the {WORD}", sources=[cube.ref])
    scribe.relate(kept, made, RelationKind.MENTIONS, why=WORD)
    Mirror(source, target).catch_up()
    assert properties_of(place).count(WORD) > 5  # so the search would find it
    scribe.erase(scribe.head(cube))
    Mirror(source, target).catch_up()
    assert WORD not in properties_of(place)
    assert WORD.lower() not in properties_of(place).lower()
    same(source, target)


def test_what_was_erased_before_the_mirror_began_never_reaches_it(
    source: SqliteVault, target: Neo4jVault, place: str
) -> None:
    scribe = Scribe(source)
    cube = scribe.add(f"the {WORD} of Mara")
    scribe.add("kept")
    scribe.erase(cube)
    mirror = Mirror(source, target, batch=1)
    mirror.catch_up(is_stopped=lambda: mirror.report().applied > 0)  # one commit: the one that wrote it
    assert mirror.report().lag == 2
    assert WORD not in properties_of(place)
    mirror.catch_up()
    assert WORD not in properties_of(place)
    same(source, target)


# -- what happens to followers

FOLLOWER = """
import sys, threading
from memos_agents.infrastructure.exchange.mirroring import Mirror
from memos_agents.infrastructure.vault.neo4j import Neo4jVault
from memos_agents.infrastructure.vault.sqlite import SqliteVault

source, target = SqliteVault(sys.argv[1], readonly=True), Neo4jVault(sys.argv[2])
mirror = Mirror(source, target, batch=1)
print("ready", flush=True)
mirror.follow(threading.Event(), 0.01)
"""


def follower(source: SqliteVault, place: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", FOLLOWER, str(source.path), place]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def wait_until(is_so: Callable[[], bool], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.02)


def position_of(target: Neo4jVault) -> int:
    standing = target.mirror_position()
    return 0 if standing is None else standing[1].seq


def test_a_follower_that_is_killed_again_and_again_skips_and_repeats_nothing(
    source: SqliteVault, target: Neo4jVault, place: str
) -> None:
    scribe = Scribe(source)
    cube = scribe.add("the first")
    for number in range(24):
        cube = scribe.revise(cube, f"the next, {number}")
        scribe.add(f"made of it, {number}", sources=[cube.ref])
    for goal in (3, 10, 20):
        process = follower(source, place)
        wait_until(lambda goal=goal: position_of(target) >= goal)  # type: ignore[misc]  # bound early
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    assert position_of(target) < 49
    scribe.erase(scribe.head(cube))
    Mirror(source, target).catch_up()
    same(source, target)


def test_two_followers_at_once_write_everything_once(source: SqliteVault, place: str) -> None:
    scribe = Scribe(source)
    for number in range(30):
        scribe.add(f"memory {number}")
    targets = [Neo4jVault(place) for _ in range(2)]
    reports: list[MirrorReport] = []

    def run(target: Neo4jVault) -> None:
        reports.append(Mirror(source, target, batch=2).catch_up())

    threads = [threading.Thread(target=run, args=(target,)) for target in targets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(report.applied for report in reports) == 30
    same(source, targets[0])
    for target in targets:
        target.close()


@pytest.mark.slow
def test_a_server_that_is_killed_and_comes_back_is_followed_on(
    source: SqliteVault, fault_servers: Callable[..., FaultServer]
) -> None:
    server = fault_servers()
    target = Neo4jVault(server.uri)
    scribe = Scribe(source)
    stop, told = threading.Event(), list[MirrorReport]()
    mirror = Mirror(source, target, batch=1, patience_seconds=1)
    following = threading.Thread(target=lambda: mirror.follow(stop, 0.02, told=told.append))
    following.start()
    try:
        for number in range(12):
            scribe.add(f"memory {number}")
        wait_until(lambda: bool(told) and told[-1].position >= 3)
        server.kill()
        for number in range(12):
            scribe.add(f"written while it was away {number}")  # the source never waits
        wait_until(lambda: told[-1].retries > 0)
        server.restart()
        wait_until(lambda: told[-1].position == 24 and told[-1].lag == 0, seconds=900)
    finally:
        stop.set()
        following.join()
    same(source, target)
    target.close()


def test_a_server_that_is_not_there_is_a_clear_error_after_some_patience(
    source: SqliteVault, target: Neo4jVault
) -> None:
    Scribe(source).add("one")
    mirror = Mirror(source, target, patience_seconds=0.3)
    target.close()
    with pytest.raises(BackendUnavailable):
        mirror.catch_up()
    assert mirror.report().retries > 1


# -- the end of a mirror


def test_a_mirror_becomes_a_store_whose_log_goes_on(source: SqliteVault, target: Neo4jVault) -> None:
    scribe = Scribe(source)
    cube = scribe.add("one")
    scribe.commit(key="once", writes=[scribe.cube("written once")])
    mirror = Mirror(source, target)
    mirror.catch_up()
    scribe.add("two")
    with pytest.raises(VersionConflict, match="catch up first"):
        mirror.cut_over(datetime.now(UTC))
    mirror.catch_up()
    end = source.log(LogQuery(scope=EVERYTHING, limit=1))[0]
    result = mirror.cut_over(datetime.now(UTC))
    assert (result.seq, target.mirror_position()) == ((end.seq or 0) + 1, None)
    adopted = target.log(LogQuery(scope=EVERYTHING, limit=1))[0]
    assert (adopted.kind, adopted.parameters["chain"]) == ("adopt", end.chain)
    with pytest.raises(InvalidRequest, match="not a mirror"):
        mirror.cut_over(datetime.now(UTC))
    writer = Scribe(target, seed=9, start=LATER)
    assert writer.revise(cube, "changed at its new place").version == 2
    repeated = target.commit(Commit(activity=writer.activity(), key="once"))
    assert repeated.is_repeated  # keys of the source are known
    assert target.verify() == []
    with pytest.raises(InvalidRequest, match="memories of its own"):
        Mirror(source, target).catch_up()


def test_a_mirror_can_be_thrown_away_and_begun_anew(source: SqliteVault, target: Neo4jVault) -> None:
    scribe = Scribe(source)
    scribe.add("one")
    Mirror(source, target).catch_up()
    before = lines(source, EVERYTHING)
    purge_for_good(target.link)
    assert (lines(target, EVERYTHING), target.mirror_position()) == ([], None)
    Mirror(source, target).catch_up()
    same(source, target)
    assert lines(source, EVERYTHING) == before


def test_a_mirror_whose_source_is_lost_can_be_forced(source: SqliteVault, target: Neo4jVault) -> None:
    scribe = Scribe(source)
    scribe.add("one")
    mirror = Mirror(source, target)
    mirror.catch_up()
    scribe.add("never mirrored")
    mirror.cut_over(datetime.now(UTC), force=True)
    assert target.log(LogQuery(scope=EVERYTHING, limit=1))[0].parameters["forced"] is True
    assert target.verify() == []


# -- the command


def test_the_command_mirrors_follows_and_cuts_over(
    source: SqliteVault, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith(("MEMOS_", "NEO4J_"))]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    scribe = Scribe(source)
    scribe.add("one")
    runner = CliRunner()

    def run(*arguments: str, code: int = 0) -> str:
        result = runner.invoke(app, ["mirror", str(source.path), place, *arguments], prog_name="memos")
        assert result.exit_code == code, result.output
        assert "Traceback" not in result.output
        return result.output

    assert "1 commit mirrored, at commit 1; up to date" in run()
    assert json.loads(run("--json"))["applied"] == 0
    assert "choose one" in run("--follow", "--cut-over", code=2)
    assert "whole tenant" in run("--user", "mara", code=2)
    process = subprocess.Popen(
        [sys.executable, "-m", "memos_agents", "mirror", str(source.path), place, "--follow", "--interval", "0.05"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path,
    )  # fmt: skip
    target = Neo4jVault(place)
    assert process.stdout is not None
    assert "up to date" in process.stdout.readline()
    scribe.add("two")
    wait_until(lambda: position_of(target) == 2)
    process.send_signal(signal.SIGINT)
    out, problems = process.communicate(timeout=60)
    assert (process.returncode, "Traceback" in problems) == (0, False), problems
    assert "at commit 2; up to date" in out
    same(source, target)
    assert "its log goes on with entry 3" in run("--cut-over")
    Scribe(target, seed=7, start=LATER).add("its own now")
    assert "memories of its own" in run(code=2)
    target.close()


def test_what_cannot_be_mirrored_is_said_at_once(target: Neo4jVault, source: SqliteVault) -> None:
    with pytest.raises(InvalidRequest, match="Neo4j"):
        Mirror(source, source)
    with pytest.raises(InvalidRequest, match="does not tell"):
        Mirror(target, target)  # type: ignore[arg-type]  # which is the point
    with pytest.raises(NotFound):
        target.effects("nothing was written", EVERYTHING)
    assert replace(Position(), seq=1) != Position.of_text(Position().to_text())
