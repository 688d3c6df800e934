"""The parts of the launcher of Neo4j servers that need none: finding tools, fetching files, keeping processes, Bolt.

Programs of other people (java, mvn, docker) are stood in for by scripts that are found and run as the real ones are.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from memos_agents.cli.application import app
from memos_agents.errors import BackendUnavailable, IntegrityError, InvalidRequest, MemOSError, NotFound
from memos_agents.infrastructure.servers import Resources, down, logs, process, servers, status, up
from memos_agents.infrastructure.servers.bolt import Bolt, Value, packed, unpacked
from memos_agents.infrastructure.servers.choosing import choose_starter
from memos_agents.infrastructure.servers.docker import Docker, find_docker, run_arguments
from memos_agents.infrastructure.servers.given import check_given
from memos_agents.infrastructure.servers.jars import cached_jars, fetch_jars
from memos_agents.infrastructure.servers.java import Java, candidates, find_java
from memos_agents.infrastructure.servers.locking import locked
from memos_agents.infrastructure.servers.maven import java_flags, server_settings
from memos_agents.infrastructure.servers.places import default_cache
from memos_agents.infrastructure.servers.ports import check_port, free_port, is_free
from memos_agents.infrastructure.servers.programs import ServerFailed, ToolMissing
from memos_agents.infrastructure.servers.record import Record, read_record, write_record
from memos_agents.infrastructure.servers.versions import LONG_TERM, NEWEST, fitting_java, full_version

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="servers are started on Linux and macOS")

BARE = {"PATH": "/usr/bin:/bin"}
RECORD = Record(name="a", version=NEWEST, port=7001, how="docker", token="t0k3n", has_auth=False, runner="Docker")


def script(path: Path, body: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


def java(home: Path, version: str) -> Path:
    return script(home / "bin" / "java", f"""echo 'openjdk version "{version}" 2026-07-01' >&2""").parent.parent


# ---- versions --------------------------------------------------------------------------------------------------------


def test_short_versions_mean_what_is_tested_and_full_ones_are_taken() -> None:
    assert [full_version(short) for short in ("5", "5.26", "2026")] == [LONG_TERM, LONG_TERM, NEWEST]
    assert full_version("5.26.4") == "5.26.4"
    for wrong in ("4", "4.4.1", "5.25.1", "latest", "2026.13.0", "../x", "", "5.26.31 "):
        with pytest.raises(InvalidRequest, match="no version that is started here"):
            full_version(wrong)


def test_each_version_names_its_javas() -> None:
    assert [fitting_java(version) for version in ("5.26.31", "2025.09.0", "2025.10.1", "2026.09.0")] == [
        (17, 21), (21,), (21, 25), (21, 25),
    ]  # fmt: skip


# ---- Java ------------------------------------------------------------------------------------------------------------


def test_the_java_that_fits_is_found_by_what_it_says_not_by_its_name(tmp_path: Path) -> None:
    java(tmp_path / "usr/lib/jvm/java-21-liar", "11.0.2")
    right = java(tmp_path / "usr/lib/jvm/something-else", "21.0.4")
    script(tmp_path / "usr/lib/jvm/broken/bin/java", "exit 1")
    found = find_java((21, 25), environ={"PATH": str(tmp_path / "none")}, root=tmp_path)
    assert (found.path, found.release) == (right / "bin" / "java", 21)
    assert found.home == right


def test_java_home_goes_first_then_the_path_then_the_usual_folders(tmp_path: Path) -> None:
    home, on_path = java(tmp_path / "home", "21"), java(tmp_path / "path", "21")
    usual, of_user = java(tmp_path / "usr/lib/jvm/a", "21"), java(tmp_path / "me/.sdkman/candidates/java/x", "21")
    (tmp_path / "usr/lib/jvm/b").symlink_to(usual)
    environ = {"JAVA_HOME": str(home), "PATH": str(on_path / "bin"), "HOME": str(tmp_path / "me")}
    listed = list(candidates(environ, platform="linux", root=tmp_path))
    assert listed == [place / "bin" / "java" for place in (home, on_path, usual, of_user)]
    mac = java(tmp_path / "opt/homebrew/opt/openjdk@21", "21")
    assert mac / "bin" / "java" in list(candidates(environ, platform="darwin", root=tmp_path))


def test_a_java_home_that_does_not_fit_is_passed_over(tmp_path: Path) -> None:
    home, on_path = java(tmp_path / "home", "17.0.1"), java(tmp_path / "path", "25")
    environ = {"JAVA_HOME": str(home), "PATH": str(on_path / "bin")}
    assert find_java((21, 25), environ=environ, root=tmp_path).release == 25
    assert find_java((17, 21), environ=environ, root=tmp_path).release == 17


def test_no_java_that_fits_says_which_there_are_and_how_to_get_one(tmp_path: Path) -> None:
    old = java(tmp_path / "old", "1.8.0_402")
    with pytest.raises(ToolMissing) as caught:
        find_java((21, 25), environ={"PATH": str(old / "bin")}, root=tmp_path)
    for part in ("Java 21 or 25", f"8 ({old / 'bin' / 'java'})", "apt install openjdk-21", "brew install openjdk@21"):
        assert part in str(caught.value)
    assert not caught.value.retryable


def test_a_java_that_was_named_must_fit(tmp_path: Path) -> None:
    named = java(tmp_path / "old", "17")
    with pytest.raises(InvalidRequest, match="is Java 17, and this server needs Java 21 or 25"):
        find_java((21, 25), environ=BARE, given=named)
    with pytest.raises(InvalidRequest, match="no Java that runs"):
        find_java((21, 25), environ=BARE, given=tmp_path / "nothing")
    assert find_java((17, 21), environ=BARE, given=named / "bin" / "java").release == 17


def test_options_from_the_environment_do_not_reach_the_question(tmp_path: Path) -> None:
    asks = script(tmp_path / "bin/java", 'test -z "$JAVA_TOOL_OPTIONS" && echo \'openjdk version "21"\' >&2')
    environ = {"PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin", "JAVA_TOOL_OPTIONS": "-Dx=1"}
    assert find_java((21,), environ=environ, root=tmp_path).path == asks


# ---- jars ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def entry_jar(tmp_path: Path) -> Path:
    path = tmp_path / "server.jar"
    with zipfile.ZipFile(path, "w") as jar:
        jar.writestr("org/neo4j/server/CommunityEntryPoint.class", b"x")
    return path


@pytest.fixture
def maven(tmp_path: Path, entry_jar: Path) -> dict[str, str]:
    """An environment whose Maven makes two jars and notes that it ran."""
    body = f"""
        echo run >> {tmp_path}/runs
        grep -q '<artifactId>neo4j-server</artifactId>' pom.xml || exit 1
        mkdir jars && cp {entry_jar} jars/neo4j-5.26.31.jar && echo other > jars/netty.jar
        sleep 0.2"""
    script(tmp_path / "bin/mvn", body)
    return {"PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin"}


JAVA = Java(path=Path("/nowhere/bin/java"), release=21)


def runs(tmp_path: Path) -> int:
    return len((tmp_path / "runs").read_text().splitlines())


def test_jars_are_fetched_once_whoever_asks_at_once(tmp_path: Path, maven: dict[str, str]) -> None:
    found: list[str] = []
    threads = [
        threading.Thread(
            target=lambda: found.append(
                fetch_jars("5.26.31", cache=tmp_path / "cache", java=JAVA, environ=maven).entry_point
            )
        )
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == ["org.neo4j.server.CommunityEntryPoint"] * 4
    assert runs(tmp_path) == 1


@pytest.mark.parametrize("damage", ["truncate", "remove", "manifest"])
def test_a_damaged_cache_is_noticed_and_fetched_again(tmp_path: Path, maven: dict[str, str], damage: str) -> None:
    cache = tmp_path / "cache"
    folder = fetch_jars("5.26.31", cache=cache, java=JAVA, environ=maven).folder
    assert cached_jars("5.26.31", cache) is not None
    if damage == "truncate":
        (folder / "netty.jar").write_bytes(b"")
    elif damage == "remove":
        (folder / "netty.jar").unlink()
    else:
        (folder / "jars.json").write_text("[]")
    assert cached_jars("5.26.31", cache) is None
    fetch_jars("5.26.31", cache=cache, java=JAVA, environ=maven)
    assert (folder / "netty.jar").read_text() == "other\n"
    assert runs(tmp_path) == 2


def test_a_fetch_that_fails_leaves_nothing_and_quotes_maven_without_credentials(tmp_path: Path) -> None:
    script(
        tmp_path / "bin/mvn",
        'mkdir jars; echo half > jars/neo4j-x.jar; echo "[INFO] fine"; echo "[ERROR] "; '
        'echo "[ERROR] Could not transfer from https://mara:swordfish@repo.example/x: no route"; exit 1',
    )
    with pytest.raises(ServerFailed) as caught:
        fetch_jars(
            "5.26.31", cache=tmp_path / "cache", java=JAVA, environ={"PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin"}
        )
    assert caught.value.output == ["[ERROR] Could not transfer from https://repo.example/x: no route"]
    assert "swordfish" not in str(caught.value)
    assert "settings.xml" in caught.value.summary
    assert cached_jars("5.26.31", tmp_path / "cache") is None
    assert [path.name for path in (tmp_path / "cache/jars").iterdir()] == ["5.26.31.lock"]


def test_what_a_killed_fetch_left_is_cleared_away(tmp_path: Path, maven: dict[str, str]) -> None:
    (tmp_path / "cache/jars/.5.26.31.left/jars").mkdir(parents=True)
    (tmp_path / "cache/jars/.2026.09.0.other").mkdir()
    fetch_jars("5.26.31", cache=tmp_path / "cache", java=JAVA, environ=maven)
    assert {path.name for path in (tmp_path / "cache/jars").iterdir()} == {
        "5.26.31", "5.26.31.lock", ".2026.09.0.other",
    }  # fmt: skip


def test_without_maven_it_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(ToolMissing, match=r"apt install maven.*brew install maven"):
        fetch_jars("5.26.31", cache=tmp_path, java=JAVA, environ={"PATH": str(tmp_path)})


# ---- settings --------------------------------------------------------------------------------------------------------


def test_the_settings_keep_the_server_on_this_machine_and_silent() -> None:
    text = server_settings(7001, Resources(page_cache="64m"), has_auth=False)
    settings = dict(line.split("=", 1) for line in text.splitlines())
    assert len(settings) == len(text.splitlines())
    assert settings["server.bolt.listen_address"] == "127.0.0.1:7001"
    assert all("0.0.0.0" not in value for value in settings.values())
    for off in ("dbms.usage_report.enabled", "server.fleet_discovery.enabled", "dbms.fleet_manager.enabled",
                "server.http.enabled", "dbms.security.auth_enabled"):  # fmt: skip
        assert settings[off] == "false"
    assert "dbms.security.auth_enabled=true" in server_settings(7001, Resources(), has_auth=True)


def test_flags_suit_the_java_and_the_memory() -> None:
    assert not any("unsafe" in flag for flag in java_flags(17, "5.26.31", Resources()))
    assert "--sun-misc-unsafe-memory-access=allow" in java_flags(25, "2026.09.0", Resources())
    assert list(java_flags(21, "2026.09.0", Resources(heap="128m")))[:2] == ["-Xms128m", "-Xmx128m"]
    assert "-XX:TieredStopAtLevel=1" in java_flags(21, "2026.09.0", Resources(quick=True))
    for wrong in ("lots", "1", "1 g", "64m"):
        with pytest.raises(InvalidRequest):
            Resources(heap=wrong)


# ---- processes -------------------------------------------------------------------------------------------------------

SLEEP = "import time; time.sleep(120)"
DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(120)"


def start(folder: Path, program: str, token: str = "t0k3n") -> int:
    command = [sys.executable, "-c", program, token]
    return process.spawn(command, folder=folder, log=folder / "log", cwd=folder, environ=BARE, token=token)


def is_running(pid: int) -> bool:
    return process.carries(pid, "time.sleep(120)")


def test_a_process_outlives_its_launcher_and_is_found_by_its_token(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from memos_agents.infrastructure.servers import process as p; "
        f"folder = Path({str(tmp_path)!r}); print(p.spawn([sys.executable, '-c', {SLEEP!r}, 't0k3n'], folder=folder, "
        f"log=folder / 'log', cwd=folder, environ={BARE!r}, token='t0k3n'))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    pid = int(done.stdout)
    assert process.running_pid(tmp_path, "t0k3n") == pid
    assert os.getsid(pid) != os.getsid(0)
    assert process.running_pid(tmp_path, "another") is None
    assert process.stop(tmp_path, "t0k3n", seconds=30)
    assert not is_running(pid)
    assert not process.stop(tmp_path, "t0k3n", seconds=30)


def test_a_reused_process_id_is_neither_believed_nor_killed(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", SLEEP, "somebody else"]) as other:
        (tmp_path / process.PID_FILE).write_text(f"{other.pid}\n")
        assert process.running_pid(tmp_path, "t0k3n") is None
        assert process.written_pid(tmp_path) == other.pid
        assert not process.stop(tmp_path, "t0k3n", seconds=1)
        assert other.poll() is None
        other.kill()


@pytest.mark.parametrize("content", ["", "x", "-1", "0", "1", "99999999999", "\x00"])
def test_a_senseless_pid_file_names_no_process(tmp_path: Path, content: str) -> None:
    (tmp_path / process.PID_FILE).write_text(content)
    assert process.running_pid(tmp_path, "t0k3n") is None
    assert not process.stop(tmp_path, "t0k3n", seconds=1)


def test_what_does_not_listen_is_killed(tmp_path: Path) -> None:
    pid = start(tmp_path, DEAF)
    while "deaf" not in (tmp_path / "log").read_text():
        time.sleep(0.02)
    assert process.stop(tmp_path, "t0k3n", seconds=0.2)
    assert not is_running(pid)


def test_the_log_holds_this_start_and_the_one_before_is_kept(tmp_path: Path) -> None:
    for word in ("one", "two"):
        start(tmp_path, f"import sys; print({word!r}); print('oops', file=sys.stderr)")
        while "oops" not in (tmp_path / "log").read_text():
            time.sleep(0.02)
    assert set((tmp_path / "log").read_text().split()) == {"two", "oops"}
    assert set((tmp_path / "log.1").read_text().split()) == {"one", "oops"}


def test_memory_of_a_process_is_told() -> None:
    assert (process.resident_bytes(os.getpid()) or 0) > 2**20
    assert process.resident_bytes(2**22 + 5) is None


# ---- locks, ports, records -------------------------------------------------------------------------------------------


def test_a_lock_is_held_by_one_and_freed_by_death(tmp_path: Path) -> None:
    program = (
        "import os, time; from pathlib import Path; from memos_agents.infrastructure.servers.locking import locked\n"
        f"with locked(Path({str(tmp_path / 'lock')!r}), seconds=5): print('held', flush=True); time.sleep(120)"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(BackendUnavailable, match="holds"), locked(tmp_path / "lock", seconds=0.2):
            pass
        holder.kill()
    with locked(tmp_path / "lock", seconds=30):
        pass


def test_a_lock_whose_file_was_removed_by_its_holder_still_excludes(tmp_path: Path) -> None:
    path, inside, most = tmp_path / "folder" / "lock", [], []

    def work() -> None:
        for _ in range(20):
            with locked(path, seconds=60):
                inside.append(1)
                most.append(len(inside))
                inside.pop()
                path.unlink()  # the last act

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(most) == 80
    assert max(most) == 1


def test_a_taken_port_is_said_so() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert not is_free(port)
        with pytest.raises(BackendUnavailable, match=f"port {port} is taken"):
            check_port(port)
    assert is_free(free_port())
    for wrong in (0, 80, 70_000):
        with pytest.raises(InvalidRequest, match="no port"):
            check_port(wrong)


def test_a_record_reads_back_and_a_damaged_one_is_an_error(tmp_path: Path) -> None:
    assert read_record(tmp_path) is None
    write_record(tmp_path, RECORD)
    assert read_record(tmp_path) == RECORD
    for damage in ("{", "[]", '{"name": "a"}', ""):
        (tmp_path / "server.json").write_text(damage)
        with pytest.raises(IntegrityError, match=r"server\.json"):
            read_record(tmp_path)


def test_caches_lie_where_each_system_keeps_them() -> None:
    assert default_cache({"HOME": "/h"}, platform="linux") == Path("/h/.cache/memos-agents")
    assert default_cache({"HOME": "/h", "XDG_CACHE_HOME": "/x"}, platform="linux") == Path("/x/memos-agents")
    assert default_cache({"HOME": "/h"}, platform="darwin") == Path("/h/Library/Caches/memos-agents")


# ---- Bolt ------------------------------------------------------------------------------------------------------------

VALUES: st.SearchStrategy[Value] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=20) | st.dictionaries(st.text(), inner, max_size=20),
    max_leaves=30,
)


@given(VALUES)
def test_values_survive_packstream(value: Value) -> None:
    assert unpacked(packed(value)) == value


@given(st.binary(max_size=40))
def test_senseless_bytes_are_an_error_not_a_hang(data: bytes) -> None:
    with suppress(ValueError):
        unpacked(data)


def test_the_driver_reads_what_we_pack() -> None:
    packstream = pytest.importorskip("neo4j._codec.packstream.v1")
    value: Value = {"a": [1, -1, 2**40, None, True, 1.5, "é" * 300], "b": {str(n): n for n in range(40)}}
    data = packed(value)
    buffer = packstream.UnpackableBuffer(data)
    assert packstream.Unpacker(buffer).unpack() == value
    ours = packstream.PackableBuffer()
    packstream.Packer(ours).pack(value)
    assert unpacked(bytes(ours.data)) == value


@pytest.fixture
def answering() -> Iterator[Callable[[bytes], int]]:
    """Ports at which something reads a little, sends what it was given and hangs up."""
    listeners: list[socket.socket] = []
    threads: list[threading.Thread] = []

    def serve(answer: bytes) -> int:
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)

        def work() -> None:
            client, _ = listener.accept()
            with client:
                client.recv(1000)
                client.sendall(answer)

        threads.append(threading.Thread(target=work, daemon=True))
        threads[-1].start()
        return int(listener.getsockname()[1])

    yield serve
    for thread in threads:
        thread.join(timeout=30)
    for listener in listeners:
        listener.close()


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x00\x00\x00\x00", b"\x00\x00\x04\x04", b"", b"\x00"]
)
def test_what_is_no_neo4j_is_noticed(answering: Callable[[bytes], int], answer: bytes) -> None:
    with pytest.raises(BackendUnavailable):
        Bolt("127.0.0.1", answering(answer), seconds=10)


def test_a_server_that_stops_speaking_bolt_is_noticed(answering: Callable[[bytes], int]) -> None:
    for rest in (b"", b"\x00\x02ab\x00\x00", b"\x00\x04\xb1\x70\xa1\x81\x00\x00"):
        with (
            Bolt("127.0.0.1", answering(b"\x00\x00\x01\x05" + rest), seconds=10) as bolt,
            pytest.raises(BackendUnavailable),
        ):
            bolt.hello()


# ---- a server that was named -----------------------------------------------------------------------------------------


def test_a_named_server_that_does_not_answer_is_told_without_its_credentials() -> None:
    with pytest.raises(BackendUnavailable) as caught:
        check_given(f"bolt://neo4j:swordfish@127.0.0.1:{free_port()}")
    assert "swordfish" not in str(caught.value)
    assert "does not answer" in str(caught.value)
    for wrong in (
        "localhost:7687",
        "http://localhost",
        "bolt://",
        "bolt://host:port",
        "bolt://host:99999",
        "file:///x",
    ):
        with pytest.raises(InvalidRequest):
            check_given(wrong)


# ---- Docker ----------------------------------------------------------------------------------------------------------

DOCKER = """
printf '%s\\n' "$*" >> "$PLACE/calls"
printf '%s\\n' "$NEO4J_AUTH" >> "$PLACE/secrets"
case "$1" in
    version) test -e "$PLACE/engine" && echo 28.2.2 ;;
    run) test ! -e "$PLACE/offline" || { echo 'Unable to find image' >&2; exit 125; }; echo 4f2a ;;
    inspect)
        test -e "$PLACE/engine" || { echo 'Cannot connect to the Docker daemon' >&2; exit 1; }
        cat "$PLACE/state" 2>/dev/null || { echo 'Error: No such container' >&2; exit 1; } ;;
    logs) echo out; echo err >&2 ;;
esac
"""


@pytest.fixture
def docker_environ(tmp_path: Path) -> dict[str, str]:
    script(tmp_path / "bin/docker", DOCKER)
    (tmp_path / "engine").touch()
    return {"PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin", "PLACE": str(tmp_path)}


def calls(tmp_path: Path) -> list[str]:
    return (tmp_path / "calls").read_text().splitlines()


def docker(environ: dict[str, str]) -> Docker:
    found = find_docker(environ)
    assert found is not None
    return found


def test_a_docker_client_without_an_engine_is_no_docker(tmp_path: Path, docker_environ: dict[str, str]) -> None:
    assert find_docker(docker_environ) is not None
    (tmp_path / "engine").unlink()
    assert find_docker(docker_environ) is None
    assert find_docker({"PATH": str(tmp_path / "nothing")}) is None


def test_the_container_listens_on_this_machine_only_and_reports_nothing() -> None:
    arguments = list(run_arguments(RECORD, Resources(heap="512m")))
    assert arguments[:2] == ["run", "--detach"]
    assert arguments[arguments.index("--publish") + 1] == "127.0.0.1:7001:7687"
    assert arguments[arguments.index("--name") + 1] == f"memos-neo4j-a-{NEWEST}"
    assert "NEO4J_AUTH=none" in arguments
    assert "NEO4J_dbms_usage__report_enabled=false" in arguments
    assert "NEO4J_server_memory_heap_max__size=512m" in arguments
    assert arguments[-1] == f"neo4j:{NEWEST}-community"


def test_the_password_reaches_the_container_and_no_command_line(tmp_path: Path, docker_environ: dict[str, str]) -> None:
    record = Record(**{**{name: getattr(RECORD, name) for name in RECORD.__slots__}, "has_auth": True})
    docker(docker_environ).start(record, tmp_path, resources=Resources(), password="swordfish1")
    assert "swordfish1" not in (tmp_path / "calls").read_text()
    assert "neo4j/swordfish1" in (tmp_path / "secrets").read_text()
    (run,) = (line for line in calls(tmp_path) if line.startswith("run "))
    assert "--env NEO4J_AUTH --env" in run


def test_a_container_is_seen_logged_stopped_and_forgotten(tmp_path: Path, docker_environ: dict[str, str]) -> None:
    found, name = docker(docker_environ), RECORD.container
    (tmp_path / "state").write_text("true 4711 t0k3n\n")
    assert (found.look(RECORD, tmp_path).state, found.look(RECORD, tmp_path).pid) == ("alive", 4711)
    assert found.log(RECORD, tmp_path, lines=9) == ["out", "err"]
    assert found.stop(RECORD, tmp_path, seconds=20)
    assert calls(tmp_path)[-2:] == [f"stop -t 20 {name}", f"rm --force {name}"]
    (tmp_path / "state").write_text("false 0 t0k3n\n")
    assert found.look(RECORD, tmp_path).state == "died"
    assert not found.stop(RECORD, tmp_path, seconds=20)
    (tmp_path / "state").write_text("true 4711 another\n")
    assert found.look(RECORD, tmp_path).state == "stopped"
    (tmp_path / "state").unlink()
    assert found.look(RECORD, tmp_path).state == "stopped"
    found.remove_data(RECORD, tmp_path)
    assert calls(tmp_path)[-1] == f"volume rm --force {name}"
    (tmp_path / "engine").unlink()
    with pytest.raises(ServerFailed, match="Cannot connect"):  # not: there is no such container
        found.look(RECORD, tmp_path)


def test_an_image_that_cannot_be_had_is_said_in_dockers_words(tmp_path: Path, docker_environ: dict[str, str]) -> None:
    (tmp_path / "offline").touch()
    with pytest.raises(ServerFailed, match="Unable to find image"):
        docker(docker_environ).start(RECORD, tmp_path, resources=Resources(), password=None)


# ---- choosing --------------------------------------------------------------------------------------------------------


def test_docker_is_chosen_if_its_engine_answers_unless_another_way_is_asked_for(
    tmp_path: Path, docker_environ: dict[str, str], entry_jar: Path
) -> None:
    script(tmp_path / "bin/mvn", f"mkdir jars && cp {entry_jar} jars/neo4j-5.26.31.jar")
    java(tmp_path, "21")  # lies beside docker and mvn
    choose = {"cache": tmp_path / "cache", "environ": docker_environ}
    assert choose_starter("5.26.31", how=None, **choose).how == "docker"  # type: ignore[arg-type]
    assert choose_starter("5.26.31", how="maven", **choose).how == "maven"  # type: ignore[arg-type]
    assert choose_starter("5.26.31", how=None, java=tmp_path, **choose).how == "maven"  # type: ignore[arg-type]
    (tmp_path / "engine").unlink()
    assert choose_starter("5.26.31", how=None, **choose).runner == "Java 21"  # type: ignore[arg-type]
    with pytest.raises(ToolMissing, match="no Docker engine answers"):
        choose_starter("5.26.31", how="docker", **choose)  # type: ignore[arg-type]


def test_with_no_tool_at_all_every_way_is_explained(tmp_path: Path) -> None:
    right = java(tmp_path / "java", "21")
    with pytest.raises(ToolMissing, match=r"(?s)apt install maven.*Docker"):
        choose_starter(NEWEST, how=None, cache=tmp_path, environ={"PATH": str(tmp_path), "JAVA_HOME": str(right)})


# ---- up, status, down without a server -------------------------------------------------------------------------------


def test_wrong_arguments_are_refused_before_anything_is_made(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    for wrong in (
        {"version": "4.4"}, {"name": "../x"}, {"name": "A"}, {"name": ""}, {"password": "short"},
    ):  # fmt: skip
        with pytest.raises(InvalidRequest):
            up(**{"environ": BARE, "cache_dir": cache, **wrong})  # type: ignore[arg-type]
    assert not cache.exists()


def test_a_folder_with_other_things_in_it_is_not_taken_over(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(InvalidRequest, match=r"holds other things.*thesis\.txt"):
        up(environ=BARE, folder=tmp_path, fresh=True)
    with pytest.raises(NotFound):
        down(tmp_path, environ=BARE, purge=True)
    assert (tmp_path / "thesis.txt").exists()


def test_a_folder_belongs_to_one_version(tmp_path: Path) -> None:
    write_record(tmp_path, Record(**{**{n: getattr(RECORD, n) for n in RECORD.__slots__}, "how": "maven"}))
    with pytest.raises(InvalidRequest, match=f"belongs to a server of version {NEWEST}"):
        up("5", environ=BARE, folder=tmp_path)


def test_nothing_is_known_where_nothing_was_started(tmp_path: Path) -> None:
    assert servers(environ=BARE, cache_dir=tmp_path) == []
    for ask in (status, down, logs):
        with pytest.raises(NotFound):
            ask(tmp_path / "none", environ=BARE)  # type: ignore[operator]
    assert list(tmp_path.iterdir()) == []


# ---- the command line ------------------------------------------------------------------------------------------------


def memos(tmp_path: Path, *arguments: str, code: int = 0, **environ: str) -> tuple[str, str]:
    environ = {"MEMOS_CACHE_DIR": str(tmp_path / "cache"), "MEMOS_NEO4J_URI": "", **environ}
    result = CliRunner().invoke(app, ["neo4j", *arguments], env=environ, prog_name="memos")
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result.stdout, result.stderr


def test_every_command_has_help_with_examples(tmp_path: Path) -> None:
    overview, _ = memos(tmp_path, "--help")
    for name in ("up", "status", "logs", "down"):
        assert f"  {name} " in overview
        page, _ = memos(tmp_path, name, "--help")
        assert f"    memos neo4j {name}" in page
        assert "--json" in page
        assert "--version" in page
    assert "asks for no password unless" in memos(tmp_path, "up", "--help")[0]


def test_the_command_line_says_what_is_wrong_and_with_which_code(tmp_path: Path) -> None:
    assert "docker or maven" in memos(tmp_path, "up", "--with", "magic", code=2)[1]
    assert "SECRET' is not set" in memos(tmp_path, "up", "--password-env", "SECRET", code=2)[1]
    assert "no version that is started here" in memos(tmp_path, "up", "--version", "3", code=2)[1]
    assert "memos neo4j up" in memos(tmp_path, "status", code=3)[1]
    assert "memos neo4j status" in memos(tmp_path, "logs", code=3)[1]
    assert "no server of the name 'x'" in memos(tmp_path, "down", "--name", "x")[1]
    out, err = memos(tmp_path, "up", "--version", "5", code=1, PATH=str(tmp_path), JAVA_HOME="", HOME=str(tmp_path))
    assert out == ""
    assert len(err.splitlines()) == 1
    assert "apt install" in err


def test_a_server_that_is_named_by_the_environment_is_not_looked_for_elsewhere(tmp_path: Path) -> None:
    place = f"bolt://mara:swordfish@127.0.0.1:{free_port()}"
    for command in ("up", "status"):
        _, err = memos(tmp_path, command, "--json", code=5, MEMOS_NEO4J_URI=place)
        assert json.loads(err)["error"]["type"] == "BackendUnavailable"
        assert "swordfish" not in err
    assert not (tmp_path / "cache").exists()


def test_a_lock_that_the_system_does_not_have_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "fcntl", None)
    with pytest.raises(MemOSError, match="Windows"), locked(tmp_path / "lock", seconds=1):
        pass
