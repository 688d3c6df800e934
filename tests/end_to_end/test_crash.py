"""Crashes: processes killed at any moment, logs torn, disks full, and several processes on one file."""

from __future__ import annotations

import importlib.util
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import IO

import pytest

from memos_agents import BackendUnavailable, IncompatibleModel, MemOS, NotFound, Scope
from memos_agents.cube.payload import ArtefactPayload
from memos_agents.infrastructure.vault.blobs import FolderBlobs
from memos_agents.infrastructure.vault.sqlite import SqliteVault
from memos_agents.testing import HashEmbedder
from memos_agents.testing.vault_scribe import Scribe

BENCHMARK = Path(__file__).parents[2] / "cookbook" / "benchmarks" / "crash.py"
EVERYTHING = Scope.everything()

PREAMBLE = """
import json, os, sys, threading, time
from pathlib import Path
from memos_agents import BackendUnavailable, MemOS, Scope
from memos_agents.testing import HashEmbedder

def say(*words):
    os.write(1, (json.dumps(words) + "\\n").encode())

path = Path(sys.argv[1])
"""


def opened(path: Path, dimension: int = 16) -> MemOS:
    return MemOS.open(path, embedder=HashEmbedder(dimension=dimension))


def load_benchmark() -> ModuleType:
    spec = importlib.util.spec_from_file_location("crash_benchmark", BENCHMARK)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@contextmanager
def child(script: str, *arguments: object) -> Iterator[tuple[subprocess.Popen[str], IO[str]]]:
    """A process that runs `script`, and what it says. Killed in the end."""
    command = [sys.executable, "-c", PREAMBLE + script, *map(str, arguments)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        with process.stdout:
            yield process, process.stdout
    finally:
        process.kill()
        process.wait()


def kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it ended before it was killed"


def said(lines: Iterable[str]) -> list[list[object]]:
    return [json.loads(line) for line in lines]


def copied(store: Path, folder: Path) -> Path:
    """A copy of a store with its log and blobs, as a crash would leave them."""
    folder.mkdir(exist_ok=True)
    for ending in ("", "-wal"):
        if Path(f"{store}{ending}").exists():
            shutil.copy(f"{store}{ending}", folder / f"{store.name}{ending}")
    if Path(f"{store}.blobs").exists():
        shutil.copytree(f"{store}.blobs", folder / f"{store.name}.blobs")
    return folder / store.name


def bytes_of(store: Path) -> bytes:
    """Every byte of every file of a store."""
    files = [path for path in store.parent.rglob("*") if path.is_file() and path.name.startswith(store.name)]
    files += [path for path in Path(f"{store}.blobs").rglob("*") if path.is_file()]
    return b"".join(path.read_bytes() for path in files)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "memos.db"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MB."""
    point = tmp_path / "disk"
    point.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(point)]
    if sys.platform != "linux" or os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a file system needs root on Linux, outside most containers")
    yield point
    subprocess.run(["umount", point], check=True)


# -- killed while everything happens at once


def assert_nothing_is_lost(folder: Path, rounds: int, seed: int) -> None:
    account, kills = load_benchmark().run(folder, rounds, seed)
    assert (account.lost, account.half_done, account.problems) == ([], [], [])
    assert kills >= rounds
    assert {"add", "update", "erase", "export", "share"} <= account.acknowledged.keys()


def test_kill_loses_no_acknowledged_write(tmp_path: Path) -> None:
    assert_nothing_is_lost(tmp_path, 8, seed=4)


@pytest.mark.slow
def test_kill_loses_no_acknowledged_write_in_many_rounds(tmp_path: Path) -> None:
    assert_nothing_is_lost(tmp_path, 40, seed=5)  # for more: cookbook/benchmarks/crash.py --rounds 1000


def test_the_account_of_a_crash_sees_what_is_wrong(path: Path) -> None:
    """The control: what the rounds above must report if it happened."""
    account = load_benchmark().Account()

    def hear(**line: object) -> None:
        account.hear(json.dumps({"by": "a", **line}))

    with opened(path) as memos:
        account.begin_store(memos)
        first, second = memos.add(["q1 the letter", "q2 the kitchen"], user_id="a")
        memos.add("q3 is half of an addition", user_id="a")
        nobody = memos.add("q5 nobody asked for", user_id="a")[0]
        hear(begin="batch", texts=["q1 the letter", "q2 the kitchen"], origin=[])
        hear(done="batch", ids=[first.id, second.id])
        account.check(memos)
        assert len(account.half_done) == 2 and not account.lost  # q3 and q5, added by nobody
        account.half_done.clear()
        account.versions[nobody.id] = {1: nobody.text}
        hear(begin="batch", texts=["q3 is half of an addition", "q4 the other half"], origin=[])
        account.check(memos)
        assert any("1 of the 2 items" in line for line in account.half_done)
        hear(begin="update", id=first.id, text="q6 never written")
        hear(done="update", version=2)
        hear(begin="scrub", id=second.id)
        hear(done="scrub", is_scrubbed=True)
        account.check(memos)
        assert any("q6" in line for line in account.lost) and any("erasure" in line for line in account.lost)
        account.check_bytes(path)
        assert "is in the files after its scrub" in account.problems[-1]
    connection = sqlite3.connect(path)
    connection.execute("UPDATE version SET body = replace(body, 'kitchen', 'chicken')")
    connection.commit()
    connection.close()
    with opened(path) as memos:
        account.problems.clear()
        account.check(memos)
        assert any(line.startswith("verify: content") for line in account.problems)


MAKING = """
import signal

def make(number):
    memos = MemOS.open(path.with_name(f"memos{number}.db"), embedder=HashEmbedder(dimension=16))
    memos.add("made and killed", user_id="mara")
    return memos

make("before").close()  # imports what it needs
started = time.monotonic()
make("timed").close()
seconds = time.monotonic() - started
for number in range(30):
    pid = os.fork()
    if not pid:
        memos = make(number)
        time.sleep(600)
    time.sleep(seconds * number / 25)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
say("killed them all")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks, so that only the making of a store is timed")
def test_a_kill_while_a_store_is_made_leaves_a_store(path: Path) -> None:
    with child(MAKING, path) as (process, out):
        assert said(out) == [["killed them all"]]
        assert process.wait() == 0
    states = set()
    for number in range(30):
        store = path.with_name(f"memos{number}.db")
        states.add((store.exists(), store.exists() and store.stat().st_size > 0, Path(f"{store}-wal").exists()))
        with opened(store) as memos:
            assert len(memos.list(user_id="mara")) <= 1
            memos.add("made again", user_id="mara")
            assert memos.verify().ok
    assert len(states) > 1, "every kill came at the same stage"


# -- torn logs

LOGGING = """
memos = MemOS.open(path, embedder=HashEmbedder(dimension=16))
for number in range(100):
    memos.add(f"memory {number} of the log", user_id="mara")
    say(number, os.stat(f"{path}-wal").st_size)
time.sleep(600)
"""


def test_a_torn_log_loses_the_torn_transactions_and_nothing_else(path: Path, tmp_path: Path) -> None:
    """Promised: the log counts up to the last transaction of which every byte is whole.

    A crash can tear only what was not synced. With durability "full" nothing acknowledged is among it: torn bytes come
    behind the last acknowledged transaction, and nothing is lost. If bytes of acknowledged transactions are torn all
    the same ("relaxed" after a power cut, or a disk that lies about syncing), the first damaged transaction and all
    after it are gone, every one before it is there, and the store is consistent.
    """
    with child(LOGGING, path) as (process, out):
        ends = [int(str(end)) for _, end in said(out.readline() for _ in range(100))]
        kill(process)
    log = Path(f"{path}-wal").read_bytes()
    assert len(log) == ends[-1] and sorted(set(ends)) == ends
    chance = random.Random(6)
    damages = {
        "unfinished frame": log + log[-1000:],
        "zeros behind": log + bytes(50_000),
        "noise behind": log + chance.randbytes(50_000),
        "older frames behind": log + log[32:40_000],
    }
    expected = dict.fromkeys(damages, len(ends))
    for number in range(18):
        place = chance.randrange(ends[0], ends[-1])
        kind = ("cut", "zeroed", "one bit")[number % 3]
        name = f"{kind} at {place}"
        if kind == "cut":
            damages[name] = log[:place]
        elif kind == "zeroed":
            damages[name] = log[:place] + bytes(len(log) - place)
        else:
            damages[name] = log[:place] + bytes([log[place] ^ 4]) + log[place + 1 :]
        expected[name] = sum(end <= place for end in ends)
    for number, (name, damaged) in enumerate(damages.items()):
        torn = copied(path, tmp_path / f"torn{number}")
        Path(f"{torn}-wal").write_bytes(damaged)
        with opened(torn) as memos:
            found = {cube.text for cube in memos.list(user_id="mara", limit=200)}
            assert found == {f"memory {n} of the log" for n in range(expected[name])}, name
            assert memos.verify().ok, name
            memos.add("and it goes on", user_id="mara")
        with opened(torn) as memos:
            assert len(memos.list(user_id="mara", limit=200)) == expected[name] + 1, name
            assert memos.verify().ok, name


# -- killed in the middle of long work

SCRUBBING = """
memos = MemOS.open(path, embedder=HashEmbedder(dimension=16))
memos.erase(user_id="noah", scrub=False)
say("erased")
memos.scrub()
say("scrubbed")
time.sleep(600)
"""


def test_a_kill_during_a_scrub_brings_nothing_back_and_the_next_scrub_ends_it(path: Path, tmp_path: Path) -> None:
    with opened(path) as memos:
        memos.add([f"memory {number} that stays, zyxkept{number}" for number in range(1000)], user_id="mara")
        memos.add([f"memory {number} that goes, zyxgone{number}" for number in range(1000)], user_id="noah")
    seconds = 0.0
    for number in range(7):
        store = copied(path, tmp_path / f"scrub{number}")
        with child(SCRUBBING, store) as (process, out):
            assert said([out.readline()]) == [["erased"]]
            started = time.monotonic()
            if number == 0:  # how long it takes when nobody kills it
                assert said([out.readline()]) == [["scrubbed"]]
                seconds = time.monotonic() - started
                assert b"zyxgone" not in bytes_of(store)
            else:
                time.sleep(seconds * (number - 0.5) / 6)
            kill(process)
        with opened(store) as memos:
            assert memos.verify().ok
            assert memos.stats(user_id="mara").cubes == 1000
            assert memos.search("zyxkept7", user_id="mara", limit=1)[0].cube.text.endswith("zyxkept7")
            assert memos.list(user_id="noah") == [] == memos.search("zyxgone7", user_id="noah")
            assert memos.scrub()
            assert memos.stats(scope=EVERYTHING).pending_scrubs == 0
            assert b"zyxgone" not in bytes_of(store)
            assert memos.verify().ok


PUTTING = """
vault = MemOS.open(path, embedder=HashEmbedder(dimension=16)).vault
ref = vault.blobs.put(b"a tensor that was never committed" * 1000)
say(ref.sha256)
while True:
    vault.blobs.put(os.urandom(2_000_000))
"""


def test_a_kill_between_payload_and_commit_leaves_an_unreferenced_payload_only(path: Path) -> None:
    for _ in range(3):
        with child(PUTTING, path) as (process, out):
            ((sha256,),) = said([out.readline()])
            time.sleep(0.02)
            kill(process)
        with opened(path) as memos:
            assert memos.verify().ok
            assert memos.stats(scope=EVERYTHING).cubes == 0
            blobs = memos.vault.blobs
            assert sha256 in set(blobs.names())
            for name in blobs.names():
                assert blobs.get(name)  # under its final name a payload is whole: `get` checks its hash


class WatchedBlobs(FolderBlobs):
    """Looks, from outside, whether what dooms a payload is durable when the payload is deleted."""

    def __init__(self, store: Path) -> None:
        super().__init__(Path(f"{store}.blobs"))
        self.store = store
        self.deleted: list[str] = []
        self.too_early: list[str] = []

    def delete(self, names: Iterable[str]) -> None:
        doomed = list(names)
        connection = sqlite3.connect(self.store)
        for name in doomed:
            if connection.execute("SELECT count(*) FROM blob WHERE sha256 = ?", (name,)).fetchone()[0]:
                self.too_early.append(name)
        connection.close()
        self.deleted += doomed
        super().delete(doomed)


def test_a_payload_is_deleted_only_when_its_erasure_is_durable(path: Path) -> None:
    """Else a crash in between would bring back the cube, without its payload."""
    blobs = WatchedBlobs(path)
    vault = SqliteVault(path, blobs=blobs)
    scribe = Scribe(vault)
    cubes = [
        scribe.cube(payload=ArtefactPayload(blobs={"a": blobs.put(f"tensor {number}".encode())}))
        for number in range(120)
    ]
    scribe.commit(writes=cubes)
    memos = MemOS(vault, embedder=None)

    def erase(mine: list[str]) -> None:
        for cube_id in mine:
            memos.erase(cube_id, scrub=False)

    threads = [threading.Thread(target=erase, args=([cube.id for cube in cubes[start::6]],)) for start in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert blobs.too_early == []
    assert len(blobs.deleted) == len(set(blobs.deleted)) == 120
    assert not list(blobs.names()) and memos.verify().ok
    vault.close()


REEMBEDDING = """
class Slow(HashEmbedder):
    def embed(self, texts):
        time.sleep(0.05)
        return super().embed(texts)

memos = MemOS.open(path, embedder=HashEmbedder(dimension=16))
say("open")
memos.reembed(Slow(dimension=24), progress=lambda done, total: say(done, total))
"""


@pytest.mark.parametrize("batches", [0, 1, 3])
def test_a_kill_during_reembedding_leaves_the_old_vectors_and_the_next_call_goes_on(path: Path, batches: int) -> None:
    with opened(path) as memos:
        memos.add([f"memory {number}" for number in range(1100)], user_id="mara")
        memos.add("the blue bicycle", user_id="mara")
    with child(REEMBEDDING, path) as (process, out):
        said(out.readline() for _ in range(1 + batches))
        kill(process)
    with opened(path) as memos:
        assert memos.verify().ok
        assert memos.search("blue bicycle", user_id="mara", limit=1)[0].why["meaning"] > 0
        later = memos.add("written between the kill and the next call", user_id="mara")[0]
    with pytest.raises(IncompatibleModel):
        opened(path, 24)
    with MemOS.open(path, embedder="none") as memos:
        report = memos.reembed(HashEmbedder(dimension=24))
        assert 1102 - 256 * (batches + 1) <= report.embedded <= 1102 - 256 * batches
    with opened(path, 24) as memos:
        assert memos.verify().ok
        assert memos.stats(user_id="mara").versions == 1102
        assert memos.search(later.text, user_id="mara", limit=1)[0].cube.id == later.id
        (space,) = memos.vault.spaces()  # type: ignore[attr-defined]
        assert (space.dimension, space.is_default) == (24, True)
        assert memos.vault.missing_vectors(space.fingerprint, 10) == []  # type: ignore[attr-defined]


LOADING = """
memos = MemOS.open(path, embedder=HashEmbedder(dimension=16))
say("open")
memos.load(sys.argv[2])
say("loaded")
time.sleep(600)
"""


def test_a_kill_during_a_load_leaves_all_or_nothing_and_it_can_be_repeated(path: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "everything.memcube"
    with opened(path) as memos:
        memos.add([f"memory {number}" for number in range(800)], user_id="mara")
        blob = memos.vault.blobs.put(b"tensor" * 1000)
        Scribe(memos.vault).commit(
            writes=[Scribe(memos.vault, seed=1).cube(payload=ArtefactPayload(blobs={"a": blob}))]
        )  # type: ignore[arg-type]
        memos.export(bundle, scope=EVERYTHING)
        expected = memos.stats(scope=EVERYTHING).cubes
    seconds = 0.0
    for number in range(6):
        store = tmp_path / f"load{number}.db"
        with child(LOADING, store, bundle) as (process, out):
            assert said([out.readline()]) == [["open"]]
            started = time.monotonic()
            if number == 0:
                assert said([out.readline()]) == [["loaded"]]
                seconds = time.monotonic() - started
            else:
                time.sleep(seconds * number / 5)
            kill(process)
        with opened(store) as memos:
            assert memos.verify().ok
            assert memos.stats(scope=EVERYTHING).cubes in ((expected,) if number == 0 else (0, expected))
            memos.load(bundle)
            assert memos.stats(scope=EVERYTHING).cubes == expected
            assert memos.vault.blobs.get(blob.sha256) == b"tensor" * 1000
            assert memos.search("memory 7", user_id="mara", limit=1)[0].cube.text == "memory 7"
            assert memos.verify().ok


# -- an erased text never comes back

ERASING = """
memos = MemOS.open(path, embedder=HashEmbedder(dimension=16))
memos.add("zyxkept stays", user_id="mara")
cube = memos.add("zyxgone was here", user_id="mara")[0]
cube = memos.update(cube.id, "zyxgone was changed")
other = memos.add("derived from zyxgone", user_id="mara", derived_from=cube)
receipt = memos.erase(cube, scrub=sys.argv[2] == "scrub")
say(cube.id, receipt.is_complete)
time.sleep(600)
"""


@pytest.mark.parametrize("how", ["scrub", "later"])
def test_an_erased_text_never_comes_back_after_a_crash(path: Path, tmp_path: Path, how: str) -> None:
    with child(ERASING, path, how) as (process, out):
        ((cube_id, is_complete),) = said([out.readline()])
        kill(process)
    assert is_complete == (how == "scrub")
    assert (b"zyxgone" in bytes_of(path)) == (how == "later")
    with opened(path) as memos:
        with pytest.raises(NotFound):
            memos.history(str(cube_id))
        assert [cube.text for cube in memos.list(user_id="mara", include_hidden=True)] == ["zyxkept stays"]
        assert not any("zyxgone" in hit.cube.text for hit in memos.search("zyxgone", user_id="mara"))
        memos.export(tmp_path / "export.memcube", scope=EVERYTHING)
        assert memos.scrub()
        assert b"zyxgone" not in bytes_of(path)
        assert memos.verify().ok
    assert b"zyxgone" not in bytes_of(path)
    assert b"zyxkept" in bytes_of(path)
    with opened(tmp_path / "other.db") as other:
        other.load(tmp_path / "export.memcube")
        assert [cube.text for cube in other.list(user_id="mara", include_hidden=True)] == ["zyxkept stays"]


# -- no room

FILLING = """
import resource
memos = MemOS.open(path, embedder=HashEmbedder(dimension=16))
kept = [memos.add(f"memory {number}", user_id="mara")[0].id for number in range(20)]
_, most = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (os.stat(f"{path}-wal").st_size + 100_000, most))
try:
    while len(kept) < 1000:
        kept.append(memos.add(f"memory {len(kept)}", user_id="mara")[0].id)
except BackendUnavailable as error:
    say("full", str(error))
refused = 0
for call in (
    lambda: memos.add(["x " * 50_000, "y " * 50_000], user_id="noah"),
    lambda: memos.update(kept[0], "z " * 50_000),
    lambda: memos.erase(user_id="mara"),
    lambda: memos.vault.blobs.put(bytes(5_000_000)),
):
    try:
        call()
    except BackendUnavailable:
        refused += 1
say(refused, len(memos.list(user_id="mara", limit=1000)), len(memos.search("memory 7", user_id="mara")))
if sys.argv[2] == "killed":
    say(kept)
    os.kill(os.getpid(), 9)
resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
kept.append(memos.add("there is room again", user_id="mara")[0].id)
say(kept)
memos.close()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="limits of a process are POSIX")
@pytest.mark.parametrize("end", ["room again", "killed"])
def test_a_write_without_room_is_refused_and_takes_nothing_along(path: Path, end: str) -> None:
    with child(FILLING, path, end) as (process, out):
        (full, message), (refused, listed, hits), (kept,) = said(out.read().splitlines())
        assert process.wait() == (-signal.SIGKILL if end == "killed" else 0)
    assert full == "full" and str(path) in str(message)
    assert (refused, hits) == (4, 10)
    assert isinstance(kept, list) and listed == len(kept) - (end == "room again")
    assert {file.name.partition("-")[0] for file in path.parent.iterdir()} <= {"memos.db", "memos.db.blobs"}
    with opened(path) as memos:
        assert {cube.id for cube in memos.list(user_id="mara", limit=1000)} == set(kept)
        assert memos.list(user_id="noah") == []
        assert memos.verify().ok
        memos.erase(user_id="mara")
        assert memos.verify().ok


def fill(filler: Path) -> None:
    """Leave no room for another page."""
    with suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


def add_without_end(memos: MemOS, ids: list[str]) -> None:
    """Add until it fails; `ids` takes what was acknowledged."""
    while True:
        ids.append(memos.add(f"memory {len(ids)}", user_id="mara")[0].id)


def test_a_full_disk_refuses_writes_serves_reads_and_recovers(small_disk: Path) -> None:
    path, filler = small_disk / "memos.db", small_disk / "filler"
    with opened(path) as memos:
        kept = [memos.add(f"memory {number}", user_id="mara")[0].id for number in range(20)]
        fill(filler)
        with pytest.raises(BackendUnavailable, match=r"no room left on the disk.*nothing was written"):
            add_without_end(memos, kept)
        for call in (
            lambda: memos.add(["x " * 50_000, "y " * 50_000], user_id="noah"),
            lambda: memos.update(kept[0], "z " * 50_000),
            lambda: memos.vault.blobs.put(bytes(5_000_000)),
            lambda: memos.export(small_disk / "export.memcube", user_id="mara"),
            lambda: memos.backup(small_disk / "backup.db"),
        ):
            with pytest.raises(BackendUnavailable):
                call()
        assert {cube.id for cube in memos.list(user_id="mara", limit=1000)} == set(kept)
        assert memos.search("memory 7", user_id="mara")
        before = set(small_disk.iterdir())
        assert {file.name.partition("-")[0] for file in before} <= {"memos.db", "memos.db.blobs", "filler"}
        crashed = copied(path, small_disk.parent / "crashed")
        filler.unlink()
        kept.append(memos.add("there is room again", user_id="mara")[0].id)
        assert memos.verify().ok
        memos.erase(kept.pop(0))
        memos.backup(small_disk / "backup.db")
        assert memos.verify().ok
    for store, missing in ((path, 0), (small_disk / "backup.db", 0), (crashed, 1)):
        with opened(store) as memos:
            assert len(memos.list(user_id="mara", limit=1000)) == len(kept) - missing + (store == crashed)
            assert memos.verify().ok


def test_a_store_on_a_full_disk_opens_or_says_that_it_cannot(small_disk: Path) -> None:
    path, filler = small_disk / "memos.db", small_disk / "filler"
    with opened(path) as memos:
        memos.add("before it was full", user_id="mara")
    fill(filler)
    with pytest.raises(BackendUnavailable), opened(path) as memos:
        memos.add("there is no room for its log", user_id="mara")
    with pytest.raises(BackendUnavailable):
        opened(small_disk / "new.db")
    filler.unlink()
    with opened(path) as memos, opened(small_disk / "new.db") as new:
        assert len(memos.list(user_id="mara")) == 1
        assert memos.verify().ok and new.verify().ok


# -- several processes

WRITING = """
memos = MemOS.open(path, embedder=HashEmbedder(dimension=16))
me = sys.argv[2]
say("ready")
while not path.with_name("go").exists():
    time.sleep(0.001)
shared = memos.get(key="shared", user_id="everybody").id
for number in range(120):
    cube = memos.add(f"{me} {number}", user_id=me)[0]
    if number % 4 == 0:
        say("share", memos.update(shared, f"{me} says {number}").version, f"{me} says {number}")
    elif number % 4 == 1:
        memos.update(cube.id, f"{me} {number} again")
    elif number % 4 == 2:
        memos.erase(cube.id, scrub=number % 40 == 2)
    say("add", cube.id, f"{me} {number}" + " again" * (number % 4 == 1), number % 4 == 2)
say("done")
"""

READING = """
memos = MemOS.open(path, embedder=HashEmbedder(dimension=16))
say("ready")
seen = version = rounds = 0
while not path.with_name("stop").exists():
    log = memos.log(scope=Scope.everything(), limit=1)[0].seq
    head = memos.get(key="shared", user_id="everybody")
    history = memos.history(head.id)
    hits = memos.search("again", user_id="a", limit=5)
    assert log >= seen and head.version >= version, "a reader went back in time"
    assert [cube.version for cube in history] == list(range(1, len(history) + 1))
    assert all(cube.superseded_at is not None for cube in history[:-1]) and history[-1].superseded_at is None
    assert all(hit.cube.text.startswith("a ") for hit in hits), "another user's memory"
    seen, version, rounds = log, head.version, rounds + 1
say("read", rounds, memos.verify().ok)
"""


def test_two_processes_write_at_once_and_a_third_reads(path: Path) -> None:
    with opened(path) as memos:
        memos.add("nobody yet", user_id="everybody", key="shared")
    with (
        child(WRITING, path, "a") as (first, a),
        child(WRITING, path, "b") as (second, b),
        child(READING, path) as (reader, c),
    ):
        for out in (a, b, c):
            assert said([out.readline()]) == [["ready"]]
        path.with_name("go").touch()
        lines = [said(a.read().splitlines()), said(b.read().splitlines())]
        assert (first.wait(), second.wait()) == (0, 0)
        path.with_name("stop").touch()
        ((_, rounds, is_ok),) = said(c.read().splitlines())
        assert reader.wait() == 0 and is_ok and int(str(rounds)) > 3
    assert [each[-1] for each in lines] == [["done"], ["done"]]
    with opened(path) as memos:
        assert memos.verify().ok
        versions = {cube.version: cube.text for cube in memos.history(memos.get(key="shared", user_id="everybody").id)}
        shared = {line[1]: line[2] for each in lines for line in each if line[0] == "share"}
        assert versions == {1: "nobody yet", **shared} and len(versions) == 61
        for each in lines:
            for _, cube_id, text, is_erased in (line for line in each if line[0] == "add"):
                if is_erased:
                    with pytest.raises(NotFound):
                        memos.get(str(cube_id))
                else:
                    assert memos.get(str(cube_id)).text == text
