"""What a Neo4j server can do to a vault: die, come back, refuse. What was acknowledged stays, nothing is half there."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("neo4j", reason="needs the Neo4j driver: pip install 'memos-agents[neo4j]'")

from servers import ENVIRON, NEWEST, SECONDS_TO_START, FaultServer, Run, end_server, need_tools

from memos_agents import AccessDenied, BackendUnavailable, InvalidRequest, MemOS, Scope, VersionConflict
from memos_agents.cube.memcube import MemCube
from memos_agents.infrastructure.servers import Resources, up
from memos_agents.infrastructure.vault.base import LogQuery
from memos_agents.infrastructure.vault.commit import Commit, CommitResult, Write
from memos_agents.infrastructure.vault.neo4j import Neo4jVault
from memos_agents.infrastructure.vault.neo4j.opening import DRIVERS
from memos_agents.testing.vault_scribe import EVERYTHING, MARA, Scribe

pytestmark = pytest.mark.neo4j

WRITER = """
import sys
from memos_agents.infrastructure.vault.neo4j import Neo4jVault
from memos_agents.infrastructure.provenance.values import Derivation
from memos_agents.infrastructure.vault.commit import Write
from memos_agents.testing.vault_scribe import Scribe
vault = Neo4jVault(sys.argv[1], store=sys.argv[2])
scribe = Scribe(vault, seed=int(sys.argv[3]))
for number in range(100_000):
    source, made = scribe.cube(f"source {number}"), scribe.cube(f"made {number}")
    writes = [Write(cube=source), Write(cube=made)]
    edge = Derivation(derived=made.ref, source=source.ref)
    scribe.commit(key=f"{sys.argv[3]}-{number}", writes=writes, derivations=[edge])
    print(source.id, made.id, flush=True)
"""


def pairs(vault: Neo4jVault) -> list[tuple[str, ...]]:
    """The cubes of each commit in the log, with the proof that all of it is there."""
    entries = vault.log(LogQuery(scope=EVERYTHING, limit=100_000))
    for entry in entries:
        cubes = vault.get(entry.cubes, MARA)
        assert len(cubes) == 2, "half a commit"
        made = next(cube for cube in cubes.values() if cube.text.startswith("made"))
        graph = vault.lineage(made.ref, "up", 1, MARA)
        assert len(graph.derivations) == 1, "a commit without its derivation"
    return [entry.cubes for entry in entries]


def test_a_server_killed_in_the_middle_of_commits_loses_nothing_acknowledged(
    fault_servers: Callable[..., FaultServer],
) -> None:
    server, store = fault_servers(), secrets.token_hex(6)
    Neo4jVault(server.uri, store=store).close()
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, server.uri, store, str(seed)], stdout=subprocess.PIPE, text=True
        )
        for seed in (1, 2)
    ]
    acknowledged: list[list[str]] = [[], []]

    def collect(writer: subprocess.Popen[str], lines: list[str]) -> None:
        assert writer.stdout is not None
        with writer.stdout:
            lines.extend(writer.stdout)

    readers = [threading.Thread(target=collect, args=pair) for pair in zip(writers, acknowledged, strict=True)]
    for reader in readers:
        reader.start()
    deadline = time.monotonic() + 120
    while min(map(len, acknowledged)) < 20:
        assert time.monotonic() < deadline, "the writers do not get on"
        time.sleep(0.05)
    server.kill()
    for writer in writers:
        writer.kill()
        writer.wait()
    for reader in readers:
        reader.join()
    told = {tuple(sorted(line.split())) for lines in acknowledged for line in lines if line.count(" ") == 1}
    server.restart()
    vault = Neo4jVault(server.uri, store=store)
    try:
        found = {tuple(sorted(cubes)) for cubes in pairs(vault)}
        assert told <= found, f"{len(told - found)} acknowledged commits are lost"
        assert len(found) <= len(told) + 2, "at most the one commit of each writer that was under way"
        assert vault.verify() == []
    finally:
        vault.close()


def test_all_who_open_an_empty_database_at_once_get_a_store(fault_servers: Callable[..., FaultServer]) -> None:
    server, barrier = fault_servers(), threading.Barrier(6)

    def begin(number: int) -> int:
        barrier.wait()
        vault = Neo4jVault(server.uri, store=f"store-{number % 2}")
        try:
            return Scribe(vault, seed=number).commit().seq
        finally:
            vault.close()

    with ThreadPoolExecutor(6) as pool:
        assert sorted(pool.map(begin, range(6))) == [1, 1, 2, 2, 3, 3]


def test_clients_wait_for_a_server_that_restarts_and_finish(fault_servers: Callable[..., FaultServer]) -> None:
    server, store, before = fault_servers(), secrets.token_hex(6), len(DRIVERS)
    vaults = [Neo4jVault(server.uri, store=store) for _ in range(2)]
    scribe = Scribe(vaults[0])
    commits = [
        [
            Commit(activity=scribe.activity(), key=f"{writer}-{number}", writes=(Write(cube=scribe.cube(f"{number}")),))
            for number in range(30)
        ]
        for writer in range(4)
    ]
    begun = threading.Event()

    def write(writer: int) -> list[CommitResult]:
        results = []
        for number, commit in enumerate(commits[writer]):
            for attempt in range(40):
                try:
                    results.append(vaults[writer % 2].commit(commit))
                    break
                except BackendUnavailable:
                    assert attempt < 39
                    time.sleep(1)
            if number == 5:
                begun.set()
        return results

    with ThreadPoolExecutor(4) as pool:
        writing = [pool.submit(write, writer) for writer in range(4)]
        assert begun.wait(120)
        server.kill()
        server.restart()
        results = [result for each in writing for result in each.result()]
    assert len(results) == 120
    assert sorted(result.seq for result in results) == list(range(1, 121)), "each commit has one place in the log"
    assert vaults[0].stats(MARA).cubes == 120
    assert vaults[0].verify() == []
    for vault in vaults:
        vault.close()
    assert len(DRIVERS) == before


@pytest.fixture(scope="module")
def guarded(neo4j_run: Run) -> object:
    """A server that asks for a login."""
    need_tools(NEWEST)
    folder = neo4j_run.folder / f"guarded-{os.environ.get('PYTEST_XDIST_WORKER', 'main')}-{NEWEST}"
    server = up(
        NEWEST, environ=ENVIRON, name="guarded", folder=folder, password="swordfish-1", how="maven",
        resources=Resources(heap="512m", page_cache="64m", quick=True), seconds=SECONDS_TO_START,
    )  # fmt: skip
    yield server.uri
    end_server(folder)


LOGIN = ("neo4j", "swordfish-1")


def test_a_login_opens_and_a_wrong_one_does_not(guarded: str) -> None:
    before = len(DRIVERS)
    with MemOS.open(guarded, auth=LOGIN, embedder="none") as memos:
        memos.add("I moved to Lisbon.", user_id="mara")
        assert [hit.cube.text for hit in memos.search("Lisbon", user_id="mara")] == ["I moved to Lisbon."]
    for wrong in (None, ("neo4j", "swordfish-2"), ("nobody", "swordfish-1")):
        with pytest.raises(AccessDenied, match="auth=") as caught:
            MemOS.open(guarded, auth=wrong, embedder="none")
        assert "swordfish" not in f"{caught.value!r}{caught.value.__cause__!r}"
    assert len(DRIVERS) == before


def test_the_environments_login_is_used(guarded: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEO4J_PASSWORD", LOGIN[1])
    with MemOS.open(guarded, embedder="none") as memos:
        assert memos.stats(scope=Scope.everything()).cubes >= 0


def test_a_password_that_must_be_changed_first_is_refused(guarded: str) -> None:
    import neo4j

    with neo4j.GraphDatabase.driver(guarded, auth=LOGIN) as driver:
        driver.execute_query("CREATE OR REPLACE USER fresh SET PASSWORD 'swordfish-3'", database_="system")
    with pytest.raises(AccessDenied):
        MemOS.open(guarded, auth=("fresh", "swordfish-3"), embedder="none")


def test_a_database_that_is_not_there_is_named(neo4j_uri: str) -> None:
    with pytest.raises(InvalidRequest, match="'another'"):
        MemOS.open(neo4j_uri, database="another", embedder="none")
    with pytest.raises(InvalidRequest):
        MemOS.open(neo4j_uri, database="a\nb", embedder="none")


def test_a_store_opened_for_reading_writes_nothing(neo4j_uri: str) -> None:
    target = f"{neo4j_uri}?store={secrets.token_hex(6)}"
    with MemOS.open(target, embedder="none") as memos:
        cube = memos.add("I moved to Lisbon.", user_id="mara")[0]
    with MemOS.open(target, embedder="none", readonly=True) as memos:
        assert [hit.cube.id for hit in memos.search("Lisbon", user_id="mara")] == [cube.id]
        assert memos.get(cube.id).text == "I moved to Lisbon."
        assert memos.provenance(cube.id).root == cube.ref
        with pytest.raises(InvalidRequest):
            memos.add("more", user_id="mara")
        vault = memos.vault
        with pytest.raises(BackendUnavailable):
            vault.set_snapshot("s", memos._store.now())


@pytest.mark.parametrize("threads", [50])
def test_of_all_who_race_on_one_cube_exactly_the_acknowledged_versions_exist(neo4j_uris: str, threads: int) -> None:
    store = secrets.token_hex(6)
    vaults = [Neo4jVault(neo4j_uris, store=store) for _ in range(2)]
    scribe = Scribe(vaults[0])
    cube = scribe.add("0")
    activities = [[scribe.activity() for _ in range(4)] for _ in range(2 * threads)]
    barrier = threading.Barrier(2 * threads)

    def run(number: int) -> list[int]:
        vault, won = vaults[number % 2], []
        barrier.wait()
        for activity in activities[number]:
            head: MemCube = vault.get([cube.id], MARA)[cube.id]
            following = replace(head, version=head.version + 1, payload=replace(head.payload, text=str(number)))
            try:
                vault.commit(Commit(activity=activity, writes=(Write(cube=following, replaces=head.version),)))
                won.append(following.version)
            except VersionConflict:
                pass
        return won

    with ThreadPoolExecutor(2 * threads) as pool:
        won = [version for versions in pool.map(run, range(2 * threads)) for version in versions]
    history = vaults[1].history(cube.id, MARA)
    assert Counter(won) == Counter(version.version for version in history[1:])
    assert len(won) >= 4, "somebody always wins"
    assert vaults[0].verify() == []
    for vault in vaults:
        vault.close()


def test_a_vault_shares_its_driver_and_closes_what_it_opened(neo4j_uri: str) -> None:
    import neo4j

    before = len(DRIVERS)
    vaults = [Neo4jVault(neo4j_uri, store=secrets.token_hex(6)) for _ in range(3)]
    assert len(DRIVERS) == before + 1
    for vault in vaults:
        vault.close()
        vault.close()
    assert len(DRIVERS) == before
    with pytest.raises(BackendUnavailable, match="closed"):
        vaults[0].get([], MARA)
    with neo4j.GraphDatabase.driver(neo4j_uri) as own:
        Neo4jVault(neo4j_uri, store=secrets.token_hex(6), driver=own).close()
        own.execute_query("RETURN 1")  # still open: it belongs to us


def test_a_second_client_in_a_forked_child_has_a_driver_of_its_own(neo4j_uri: str, tmp_path: Path) -> None:
    store = secrets.token_hex(6)
    vault = Neo4jVault(neo4j_uri, store=store)
    Scribe(vault, seed=1).add("parent")
    pid = os.fork()
    if pid == 0:
        try:
            child = Neo4jVault(neo4j_uri, store=store)
            Scribe(child, seed=2).add("child")
            child.close()
            os._exit(0)
        except BaseException:  # the parent sees the status
            os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0
    entries = vault.log(LogQuery(scope=EVERYTHING))
    written = vault.get([cube_id for entry in entries for cube_id in entry.cubes], MARA)
    assert sorted(cube.text for cube in written.values()) == ["child", "parent"]
    vault.close()
