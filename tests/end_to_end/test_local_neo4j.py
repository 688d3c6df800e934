"""The launcher on real Neo4j servers, which it starts, finds again, loses and stops."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from threading import Thread
from types import SimpleNamespace

import pytest
from servers import ENVIRON, SECONDS_TO_START, FaultServer, Run, end_server, need_tools

from memos_agents.errors import BackendUnavailable, InvalidRequest
from memos_agents.infrastructure.servers import LocalServer, Resources, down, logs, process, status, up
from memos_agents.infrastructure.servers.bolt import Bolt, Refused
from memos_agents.infrastructure.servers.java import Java, candidates, inspect_java
from memos_agents.infrastructure.servers.places import default_cache
from memos_agents.infrastructure.servers.ports import free_port
from memos_agents.infrastructure.servers.programs import ServerFailed
from memos_agents.infrastructure.servers.record import read_record
from memos_agents.infrastructure.servers.versions import LONG_TERM, NEWEST, fitting_java

pytestmark = [pytest.mark.neo4j, pytest.mark.slow]

SMALL = Resources(heap="512m", page_cache="64m", quick=True)
PASSWORD = "correct horse battery"


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """The folder of a server that is ended after the test. Its name is as hard as names of folders get."""
    folder = tmp_path / "Ablage é:x" / "default"
    yield folder
    end_server(folder)


def start(folder: Path, version: str = NEWEST, **how: object) -> LocalServer:
    need_tools(version)
    given = {"resources": SMALL, "seconds": SECONDS_TO_START, "how": "maven", **how}
    return up(version, environ=ENVIRON, folder=folder, **given)  # type: ignore[arg-type]


def query(uri: str, statement: str, *, auth: tuple[str, str] | None = None, **parameters: object) -> list[list[object]]:
    """Rows, by the official driver."""
    import neo4j

    with neo4j.GraphDatabase.driver(uri, auth=auth, notifications_min_severity="OFF") as driver:
        return [record.values() for record in driver.execute_query(statement, parameters, database_="neo4j").records]


def test_a_server_lives_through_its_whole_life(place: Path) -> None:
    server = start(place)
    assert query(server.uri, "CREATE (n:Kept {x: 1}) RETURN n.x") == [[1]]
    assert start(place) == server, "who asks again gets the same one"

    found = status(place, environ=ENVIRON)
    assert (found.state, found.server) == ("ready", server)
    assert (found.resident_bytes or 0) > 100 * 2**20
    assert any("Started." in line for line in logs(place, environ=ENVIRON, lines=20))

    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    while status(place, environ=ENVIRON).state != "died":
        time.sleep(0.05)
    with pytest.raises(BackendUnavailable):
        Bolt("127.0.0.1", int(server.uri.rpartition(":")[2]), seconds=5)

    again = start(place)
    assert again.uri == server.uri, "the port is kept"
    assert again.pid != server.pid
    assert query(again.uri, "MATCH (n:Kept) RETURN n.x") == [[1]], "what was committed outlives the kill"

    assert down(place, environ=ENVIRON) == again
    assert status(place, environ=ENVIRON).state == "stopped"
    assert down(place, environ=ENVIRON) is None

    fresh = start(place, fresh=True)
    assert query(fresh.uri, "MATCH (n:Kept) RETURN n.x") == []
    down(place, environ=ENVIRON, seconds=0, purge=True)
    assert not place.exists()
    assert not process.carries(fresh.pid or 0, "memos.server")


@pytest.mark.parametrize("version", [NEWEST, LONG_TERM])
def test_each_version_starts_with_what_a_vault_needs(neo4j_run: Run, version: str) -> None:
    need_tools(version)
    uri = neo4j_run.uri(version)
    if uri.startswith("bolt://127.0.0.1"):
        ((name, found, edition),) = query(
            uri,
            "CALL dbms.components() YIELD name, versions, edition WHERE name = 'Neo4j Kernel' "
            "RETURN name, versions[0], edition",
        )
        assert (name, edition) == ("Neo4j Kernel", "community")
        assert found == version or os.environ.get("MEMOS_TEST_NEO4J") or os.environ.get("MEMOS_TEST_NEO4J_5")
    label = f"Launcher{time.time_ns():x}"
    try:
        query(uri, f"CREATE FULLTEXT INDEX {label}_text FOR (n:{label}) ON EACH [n.text]")
        query(
            uri,
            f"CREATE VECTOR INDEX {label}_vector FOR (n:{label}) ON (n.embedding) "
            "OPTIONS {indexConfig: {`vector.dimensions`: 2, `vector.similarity_function`: 'cosine'}}",
        )
        query(uri, f"CREATE (:{label} {{text: 'tea', embedding: [1.0, 0.0]}})")
        query(uri, "CALL db.awaitIndexes(300)")
        rows: list[list[object]] = []
        while not rows:  # indexes follow a moment after the commit
            rows = query(uri, "CALL db.index.vector.queryNodes($name, 1, [1.0, 0.1]) YIELD node RETURN node.text",
                         name=f"{label}_vector")  # fmt: skip
        assert rows == [["tea"]]
        assert query(uri, "CALL db.index.fulltext.queryNodes($name, 'tea') YIELD node RETURN count(node)",
                     name=f"{label}_text") == [[1]]  # fmt: skip
    finally:
        for kind in ("text", "vector"):
            query(uri, f"DROP INDEX {label}_{kind} IF EXISTS")
        query(uri, f"MATCH (n:{label}) DETACH DELETE n")


PROGRAM = """
import json, os, sys
from pathlib import Path
from memos_agents.infrastructure.servers import Resources, up
server = up(sys.argv[2], environ=dict(os.environ), folder=Path(sys.argv[1]), how="maven", seconds=600,
            resources=Resources(heap="512m", page_cache="64m", quick=True))
print(json.dumps([server.uri, server.pid]))
"""


def launcher(place: Path) -> list[str]:
    need_tools(NEWEST)
    return [sys.executable, "-c", PROGRAM, str(place), NEWEST]


def test_processes_that_ask_at_once_get_one_server(place: Path) -> None:
    asking = [subprocess.Popen(launcher(place), env=dict(ENVIRON), stdout=subprocess.PIPE, text=True) for _ in range(3)]
    answers = {process.communicate()[0] for process in asking}
    assert [process.returncode for process in asking] == [0, 0, 0]
    (answer,) = answers
    uri, pid = json.loads(answer)
    assert query(uri, "RETURN 1") == [[1]]
    assert status(place, environ=ENVIRON).server.pid == pid


def test_a_launcher_that_is_killed_leaves_a_server_that_is_known(place: Path) -> None:
    with subprocess.Popen(launcher(place), env=dict(ENVIRON), stdout=subprocess.DEVNULL) as asking:
        while process.written_pid(place) is None:
            assert asking.poll() is None
            time.sleep(0.005)
        asking.kill()
    pid = process.written_pid(place)
    assert status(place, environ=ENVIRON).state in ("starting", "ready")
    assert start(place).pid == pid, "it is waited for, not started a second time"
    assert down(place, environ=ENVIRON, seconds=0) is not None
    assert process.written_pid(place) is None


def test_an_interrupted_start_is_taken_back(place: Path) -> None:
    for _ in range(5):
        with subprocess.Popen(launcher(place), env=dict(ENVIRON), stderr=subprocess.DEVNULL) as asking:
            while process.written_pid(place) is None:
                assert asking.poll() is None
                time.sleep(0.02)
            pid = process.written_pid(place)
            time.sleep(0.3)  # now it waits for the database
            asking.send_signal(signal.SIGINT)
        if asking.returncode != 0:
            break
        down(place, environ=ENVIRON)  # on a loaded machine it can be ready before we look
    assert asking.returncode != 0
    deadline = time.monotonic() + 120
    while status(place, environ=ENVIRON).state != "stopped" or process.carries(pid or 0, "memos.server"):
        assert time.monotonic() < deadline, "the server that nobody waits for runs on"
        time.sleep(0.1)


def test_a_taken_port_is_refused_and_without_one_another_is_found(place: Path) -> None:
    need_tools(NEWEST)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(BackendUnavailable, match=f"port {port} is taken"):
            start(place, port=port)
        assert process.written_pid(place) is None
    server = start(place, port=port)
    assert server.uri.endswith(f":{port}")
    with pytest.raises(InvalidRequest, match=f"runs at port {port} already"):
        start(place, port=free_port())


def test_a_port_that_is_snatched_away_while_the_server_starts_is_given_up(place: Path, neo4j_run: Run) -> None:
    """The thief is the worst one: what answers there is another Neo4j."""
    behind = int(neo4j_run.start(NEWEST, name="shared").uri.rpartition(":")[2])
    with ExitStack() as stack:
        stolen: list[int] = []

        def steal() -> None:
            while process.written_pid(place) is None:
                time.sleep(0.01)
            record = read_record(place)
            assert record is not None
            thief = stack.enter_context(socket.create_server(("127.0.0.1", record.port)))
            stolen.append(record.port)
            while True:
                try:
                    client, _ = thief.accept()
                except OSError:
                    return
                Thread(target=relay, args=(client, behind), daemon=True).start()

        thread = Thread(target=steal, daemon=True)
        thread.start()
        server = start(place)
        assert stolen
        assert not server.uri.endswith(f":{stolen[0]}")
        assert query(server.uri, "SHOW SETTINGS 'server.directories.neo4j_home' YIELD value") == [[str(place)]]


def relay(client: socket.socket, port: int) -> None:
    """Pass bytes on between a client and the server at `port`, until one of them ends."""
    with client, socket.create_connection(("127.0.0.1", port)) as server:
        back = Thread(target=pump, args=(server, client), daemon=True)
        back.start()
        pump(client, server)
        back.join()


def pump(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


def test_a_java_that_does_not_fit_is_refused_by_its_version(place: Path) -> None:
    javas = [java for path in candidates(ENVIRON) if (java := inspect_java(path, ENVIRON)) is not None]
    wrong = [
        (java, version)
        for java in javas
        for version in (NEWEST, LONG_TERM)
        if java.release not in fitting_java(version)
    ]
    old = place.parent / "java"
    old.parent.mkdir()
    old.write_text("#!/bin/sh\necho 'openjdk version \"11.0.2\"' >&2\n")
    old.chmod(0o755)
    for java, version in [*wrong, (Java(path=old, release=11), NEWEST)]:
        with pytest.raises(InvalidRequest, match=f"is Java {java.release}, and this server needs"):
            start(place, version, java=java.path)
    assert read_record(place) is None


def test_a_maven_that_reaches_no_repository_is_quoted(tmp_path: Path) -> None:
    need_tools(NEWEST)
    nowhere = [
        f"-D{kind}.proxy{part}" for kind in ("http", "https") for part in ("Host=127.0.0.1", f"Port={free_port()}")
    ]
    environ = {**ENVIRON, "MAVEN_OPTS": " ".join([f"-Dmaven.repo.local={tmp_path / 'repository'}", *nowhere])}
    with pytest.raises(ServerFailed, match=r"Maven could not fetch.*settings\.xml") as caught:
        up(NEWEST, environ=environ, cache_dir=tmp_path / "cache", how="maven")
    assert any(line.startswith("[ERROR] ") and "maven" in line for line in caught.value.output)
    assert not any("-X switch" in line for line in caught.value.output)


def test_a_server_that_ends_while_it_starts_is_quoted(place: Path) -> None:
    server = start(place)
    down(place, environ=ENVIRON)
    shutil.rmtree(place / "data" / "databases")
    (place / "data" / "databases").write_text("no folder")
    with pytest.raises(ServerFailed, match="ended while it started") as caught:
        start(place)
    assert any("databases" in line for line in caught.value.output)
    assert len(caught.value.output) <= 20
    assert caught.value.summary in str(caught.value)
    assert not process.carries(server.pid or 0, "memos.server")


def test_a_password_is_asked_for_and_shown_nowhere(place: Path) -> None:
    server = start(place, password=PASSWORD)
    auth = ("neo4j", PASSWORD)
    assert query(server.uri, "RETURN 1", auth=auth) == [[1]]
    for wrong in (None, "neo4j", "another password"):
        with Bolt("127.0.0.1", int(server.uri.rpartition(":")[2]), seconds=30) as bolt:
            bolt.hello()
            with pytest.raises(Refused) as caught:
                bolt.logon(wrong)
            assert caught.value.is_about_credentials
    assert status(place, environ=ENVIRON).has_auth
    assert status(place, environ=ENVIRON, password=PASSWORD).state == "ready"
    with pytest.raises(InvalidRequest, match="asks for a password"):
        start(place)
    arguments = Path(f"/proc/{server.pid}/cmdline")
    if arguments.exists():
        assert PASSWORD.encode() not in arguments.read_bytes()
        assert PASSWORD.encode() not in Path(f"/proc/{server.pid}/environ").read_bytes()
    down(place, environ=ENVIRON)
    written = [path for path in place.rglob("*") if path.is_file() and PASSWORD.encode() in path.read_bytes()]
    assert written == []
    again = start(place, password=PASSWORD)
    assert query(again.uri, "RETURN 1", auth=auth) == [[1]]
    down(place, environ=ENVIRON, seconds=0)
    with pytest.raises(InvalidRequest, match="another password"):
        start(place, password="not the first one")


def test_only_this_machine_reaches_it(neo4j_run: Run) -> None:
    server = neo4j_run.start(NEWEST, name="shared")
    sockets = Path(f"/proc/{server.pid}/net/tcp")
    if not sockets.exists():
        pytest.skip("open ports of a process are read from Linux's /proc")
    port = int(server.uri.rpartition(":")[2])
    own = set()
    for path in Path(f"/proc/{server.pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # it opens and closes files meanwhile
            own.add(path.readlink().name)
    listening = []
    for kind in ("tcp", "tcp6"):
        for line in Path(f"/proc/{server.pid}/net/{kind}").read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == "0A" and f"socket:[{words[9]}]" in own:
                address, hex_port = words[1].split(":")
                listening.append((int(hex_port, 16), address))
    assert [number for number, _ in listening] == [port]
    assert listening[0][1] in ("0100007F", "0000000000000000FFFF00000100007F")


def test_a_fault_server_may_be_killed_and_comes_back(fault_servers: Callable[..., FaultServer]) -> None:
    server = fault_servers()
    query(server.uri, "CREATE (:Kept {x: 1})")
    uri = server.uri
    server.kill()
    with pytest.raises(BackendUnavailable):
        Bolt("127.0.0.1", int(uri.rpartition(":")[2]), seconds=5)
    server.restart()
    assert server.uri == uri
    assert query(uri, "MATCH (n:Kept) RETURN n.x") == [[1]]
    server.stop()
    assert status(server.folder, environ=ENVIRON).state == "stopped"


def memos(cache: Path, *arguments: str, code: int = 0, **environ: str) -> SimpleNamespace:
    kept = {name: value for name, value in ENVIRON.items() if not name.startswith("MEMOS_")}
    done = subprocess.run(
        [sys.executable, "-m", "memos_agents", "neo4j", *arguments],
        env={**kept, "MEMOS_CACHE_DIR": str(cache), **environ},
        capture_output=True,
        text=True,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return SimpleNamespace(out=done.stdout, err=done.stderr)


def test_the_command_line_from_up_to_down(tmp_path: Path) -> None:
    need_tools(LONG_TERM)
    cache = tmp_path / "cache"
    jars = default_cache(ENVIRON) / "neo4j" / "jars"
    (cache / "neo4j").mkdir(parents=True)
    (cache / "neo4j" / "jars").symlink_to(jars)  # one copy of the files serves all tests
    name = ("--name", "cli", "--version", "5")
    try:
        said = memos(cache, "up", *name, "--quick", "--heap", "512m", "--with", "maven", "--wait", "600")
        uri = said.out.split("is ready at ")[1].split()[0]
        assert f'MemOS.open("{uri}")' in said.out
        assert f"memos neo4j down --name cli --version {LONG_TERM}" in said.out
        assert "starting Neo4j" in said.err
        assert query(uri, "RETURN 1") == [[1]]

        (line,) = memos(cache, "status", "--json").out.splitlines()
        shown = json.loads(line)
        assert (shown["state"], shown["uri"], shown["version"], shown["name"]) == ("ready", uri, LONG_TERM, "cli")
        assert json.loads(memos(cache, "up", *name, "--json").out)["pid"] == shown["pid"]
        assert "Started." in memos(cache, "logs", "--name", "cli").out
        assert uri in memos(cache, "up", MEMOS_NEO4J_URI=uri).out, "a server that is named is used"

        os.kill(shown["pid"], signal.SIGKILL)
        while process.carries(shown["pid"], "memos.server"):
            time.sleep(0.05)
        assert "died" in memos(cache, "status", code=3).out
        memos(cache, "up", *name, "--quick", "--with", "maven", "--wait", "600")
        assert "stopped Neo4j" in memos(cache, "down", "--name", "cli", "--purge").out
        assert "no server" in memos(cache, "status", code=3).err
    finally:
        end_server(cache / "neo4j" / f"cli-{LONG_TERM}")
