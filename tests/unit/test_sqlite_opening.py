"""Opening a SQLite store: what is refused and how, what is made, and what an older or half-made file becomes."""

from __future__ import annotations

import gzip
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from memos_agents import BackendUnavailable, InvalidRequest, MemOS
from memos_agents.infrastructure.vault.sqlite.opening import file_system, open_connection, prepare
from memos_agents.infrastructure.vault.sqlite.schema import APPLICATION_ID, MIGRATIONS, migrate
from memos_agents.testing import HashEmbedder

DATA = Path(__file__).parents[1] / "data"
OLD_FILES = sorted(DATA.glob("schema_*.db.gz"))
"""A store of each schema, as the release of its time wrote it (see `make_schema.py`)."""


def opened(path: Path, *, readonly: bool = False) -> MemOS:
    return MemOS.open(path, embedder=HashEmbedder(dimension=16), readonly=readonly)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "memos.db"


@pytest.fixture
def store(path: Path) -> Path:
    """A good store with one memory, closed."""
    with opened(path) as memos:
        memos.add("The blue bicycle has a flat tyre.", user_id="mara")
    return path


@pytest.fixture
def forbid(tmp_path: Path) -> Iterator[Callable[[Path], None]]:
    """Takes away the right to write a file or folder, from root as well; given back in the end."""
    forbidden: list[Path] = []

    def take(target: Path) -> None:
        forbidden.append(target)
        if os.geteuid():
            target.chmod(target.stat().st_mode & ~0o222)
        elif not shutil.which("chattr") or subprocess.run(["chattr", "+i", target], capture_output=True).returncode:
            pytest.skip("permissions do not bind root, and this file system has no immutable flag")

    yield take
    for target in reversed(forbidden):
        if os.geteuid():
            target.chmod(target.stat().st_mode | stat.S_IWUSR)
        else:
            subprocess.run(["chattr", "-i", target], check=False, capture_output=True)


@pytest.fixture
def medium(tmp_path: Path) -> Iterator[Path]:
    """A small file system of its own."""
    point = tmp_path / "medium"
    point.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(point)]
    if sys.platform != "linux" or os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a file system needs root on Linux, outside most containers")
    yield point
    subprocess.run(["umount", point], check=True)


def everything_in(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


# -- what is not a store


def test_a_folder_is_refused_with_the_name_to_give(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"is a folder; name the store's file, e\.g\. .*memos\.db"):
        opened(tmp_path)


def test_a_missing_folder_is_refused_and_not_made(tmp_path: Path) -> None:
    with pytest.raises(BackendUnavailable, match=r"there is no folder .*make it first"):
        opened(tmp_path / "none" / "memos.db")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "content",
    [
        b"x",
        b"shopping: bread, milk\n" * 40,
        b"\x00" * 4096,
        b"SQLite format 3\x00",
        b"SQLite format 3\x00" + b"\xff" * 200,
    ],
    ids=["one byte", "text", "zeros", "cut header", "garbled header"],
)
@pytest.mark.parametrize("readonly", [False, True])
def test_a_file_that_is_not_ours_is_refused_and_left_untouched(path: Path, content: bytes, readonly: bool) -> None:
    path.write_bytes(content)
    with pytest.raises(InvalidRequest, match="is not a memos store and was left untouched"):
        opened(path, readonly=readonly)
    assert everything_in(path.parent) == {path.name: content}


@pytest.mark.parametrize("journal", ["DELETE", "WAL"])
@pytest.mark.parametrize("mark", [0, 12345])
def test_another_programs_database_is_refused_and_left_untouched(path: Path, journal: str, mark: int) -> None:
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA journal_mode={journal}")
    connection.execute(f"PRAGMA application_id={mark}")
    connection.execute("CREATE TABLE album(title)")
    connection.commit()
    connection.close()
    before = everything_in(path.parent)
    with pytest.raises(InvalidRequest, match="was left untouched; name another file"):
        opened(path)
    assert everything_in(path.parent)[path.name] == before[path.name]


def test_another_programs_database_in_use_is_refused(path: Path) -> None:
    other = sqlite3.connect(path)
    other.execute("PRAGMA journal_mode=WAL")
    other.execute("CREATE TABLE album(title)")
    other.commit()  # the table is in the log, the file itself holds an empty database
    with pytest.raises(InvalidRequest, match="another program's database"):
        opened(path)
    other.execute("INSERT INTO album VALUES('Blue')")
    other.commit()
    other.close()


def test_an_empty_file_becomes_a_store(path: Path) -> None:
    path.touch()
    with opened(path) as memos:
        memos.add("The blue bicycle has a flat tyre.", user_id="mara")
        assert memos.verify().ok


def test_an_empty_database_becomes_a_store(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.close()
    assert path.stat().st_size
    with opened(path) as memos:
        assert memos.verify().ok


def test_a_new_store_is_readable_by_its_owner_only(store: Path) -> None:
    assert stat.S_IMODE(store.stat().st_mode) == 0o600


def test_a_closed_store_is_one_file(store: Path) -> None:
    """Whoever copies it then has everything."""
    with opened(store) as memos:
        memos.add("The spare key is under the mat.", user_id="mara")
        assert len(memos.search("key", user_id="mara")) == 2
    assert list(everything_in(store.parent)) == [store.name]


def test_a_newer_schema_is_refused_and_left_untouched(store: Path) -> None:
    connection = sqlite3.connect(store)
    connection.execute(f"PRAGMA user_version={len(MIGRATIONS) + 1}")
    connection.close()
    before = everything_in(store.parent)[store.name]
    for readonly in (False, True):
        with pytest.raises(InvalidRequest, match=f"has schema {len(MIGRATIONS) + 1}.*upgrade memos-agents"):
            opened(store, readonly=readonly)
    assert everything_in(store.parent)[store.name] == before


# -- where it lies


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("server:/export {folder} nfs4 rw,relatime,vers=4.2 0 0", "nfs4"),
        ("//nas/home {folder} cifs rw 0 0", "cifs"),
        ("host:/ {parent} fuse.sshfs rw 0 0", "fuse.sshfs"),
        ("tmpfs {parent} tmpfs rw 0 0\nserver:/export {folder} nfs rw 0 0", "nfs"),
        ("tmpfs {folder} tmpfs rw 0 0\nserver:/export {folder} nfs rw 0 0", "nfs"),  # mounted over
    ],
)
def test_a_network_file_system_is_refused_before_anything_is_made(tmp_path: Path, line: str, kind: str) -> None:
    folder = tmp_path / "their files"
    folder.mkdir()
    mounts = tmp_path / "mounts"
    places = {"folder": folder, "parent": tmp_path}
    escaped = {name: str(place.resolve()).replace(" ", "\\040") for name, place in places.items()}
    mounts.write_text("/dev/sda1 / ext4 rw 0 0\n" + line.format(**escaped) + "\n", encoding="utf-8")
    assert file_system(folder, mounts) == kind
    for readonly in (False, True):
        (folder / "old.db").write_bytes(b"")
        with pytest.raises(BackendUnavailable, match=f"network file system \\({kind}\\)|no store at"):
            prepare(folder / "old.db", durability="full", readonly=readonly, mounts=mounts)
    with pytest.raises(BackendUnavailable, match="use a local disk"):
        prepare(folder / "memos.db", durability="full", readonly=False, mounts=mounts)
    assert not (folder / "memos.db").exists()


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("server:/export {folder}/below nfs4 rw 0 0", "ext4"),  # a mount inside the folder is not the folder's
        ("server:/export {folder}2 nfs4 rw 0 0", "ext4"),
        ("tmpfs {folder} tmpfs rw 0 0", "tmpfs"),
        ("half a line", "ext4"),
    ],
)
def test_a_local_file_system_is_told_from_its_neighbours(tmp_path: Path, line: str, kind: str) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text("/dev/sda1 / ext4 rw 0 0\n" + line.format(folder=tmp_path.resolve()) + "\n", encoding="utf-8")
    assert file_system(tmp_path, mounts) == kind
    prepare(tmp_path / "memos.db", durability="full", readonly=False, mounts=mounts)


def test_a_system_without_a_table_of_mounts_counts_as_local(tmp_path: Path) -> None:
    assert file_system(tmp_path, tmp_path / "none") == ""
    prepare(tmp_path / "memos.db", durability="full", readonly=False, mounts=tmp_path / "none")


def test_a_file_that_cannot_be_written_is_refused_but_can_be_read(store: Path, forbid: Callable[[Path], None]) -> None:
    forbid(store)
    with pytest.raises(BackendUnavailable, match="cannot be written; change its permissions or open it with readonly"):
        opened(store)
    with opened(store, readonly=True) as memos:
        assert memos.search("bicycle", user_id="mara")
        assert memos.verify().ok


def test_a_folder_that_cannot_be_written_is_refused_with_the_reason(
    store: Path, forbid: Callable[[Path], None]
) -> None:
    forbid(store.parent)
    with pytest.raises(BackendUnavailable, match=r"the folder .* cannot be written, and SQLite keeps its log beside"):
        opened(store)
    with pytest.raises(BackendUnavailable, match="even to read, unless the whole medium is read-only"):
        opened(store, readonly=True)
    with pytest.raises(BackendUnavailable, match=r"the folder .* cannot be written"):
        opened(store.parent / "new.db")


def test_a_medium_that_cannot_be_written_can_be_read(store: Path, medium: Path) -> None:
    kept, crashed = medium / "memos.db", medium / "crashed.db"
    shutil.copy(store, kept)
    with opened(store) as memos:
        memos.add("The spare key is under the mat.", user_id="mara")
        shutil.copy(store, crashed)
        shutil.copy(f"{store}-wal", f"{crashed}-wal")
    subprocess.run(["mount", "-o", "remount,ro", medium], check=True)
    with pytest.raises(BackendUnavailable, match="cannot be written"):
        opened(kept)
    with opened(kept, readonly=True) as memos:
        assert [hit.cube.text for hit in memos.search("bicycle", user_id="mara")] == [
            "The blue bicycle has a flat tyre."
        ]
        assert memos.verify().ok
    with pytest.raises(BackendUnavailable, match=r"a log that was never merged.*copy both"):  # never an older state
        opened(crashed, readonly=True)


# -- readonly=True on a good store


def test_readonly_reads_and_refuses_to_write(store: Path, tmp_path: Path) -> None:
    with opened(store) as memos:
        cube = memos.list(user_id="mara")[0]
    before = everything_in(tmp_path)[store.name]
    with opened(store, readonly=True) as memos:
        assert memos.get(cube.id).text == cube.text
        assert memos.search("bicycle", user_id="mara")[0].cube.id == cube.id
        assert memos.verify().ok
        assert memos.stats(user_id="mara").cubes == 1
        memos.export(tmp_path / "export.memcube", user_id="mara")
        memos.backup(tmp_path / "backup.db")
        writes: list[Callable[[], object]] = [
            lambda: memos.add("x", user_id="mara"),
            lambda: memos.update(cube.id, "x"),
            lambda: memos.erase(cube.id),
            lambda: memos.archive(cube.id),
            memos.scrub,
            lambda: memos.snapshot("now"),
            lambda: memos.load(tmp_path / "export.memcube"),
            lambda: memos.reembed(HashEmbedder(dimension=8)),
        ]
        for write in writes:
            with pytest.raises((InvalidRequest, BackendUnavailable), match="opened with readonly=True"):
                write()
    assert everything_in(tmp_path)[store.name] == before


def test_readonly_sees_what_a_killed_writer_left_in_the_log(store: Path, tmp_path: Path) -> None:
    crashed = tmp_path / "crashed.db"
    with opened(store) as memos:
        memos.add("The spare key is under the mat.", user_id="mara")
        for ending in ("", "-wal"):
            shutil.copy(f"{store}{ending}", f"{crashed}{ending}")
    with opened(crashed, readonly=True) as memos:
        assert len(memos.list(user_id="mara")) == 2


def test_readonly_needs_a_store(path: Path) -> None:
    with pytest.raises(BackendUnavailable, match=r"no store at .* to open read-only"):
        opened(path, readonly=True)
    assert not path.exists()


# -- schemas


def test_there_is_a_file_of_every_schema() -> None:
    found = {int(path.name.removeprefix("schema_").removesuffix(".db.gz")) for path in OLD_FILES}
    assert found == set(range(1, len(MIGRATIONS) + 1)), "run tests/data/make_schema.py for a new schema"


@pytest.mark.parametrize("source", OLD_FILES, ids=lambda path: str(path.name))
def test_a_file_of_every_earlier_schema_opens(source: Path, path: Path) -> None:
    path.write_bytes(gzip.decompress(source.read_bytes()))
    with MemOS.open(path, embedder=HashEmbedder(dimension=16)) as memos:
        report = memos.verify()
        assert report.ok, report.problems
        assert report.counts == {"cubes": 4, "versions": 5, "relations": 1, "commits": 9}
        moved = memos.get(key="home", user_id="mara")
        assert (moved.version, moved.text) == (2, "Mara moved to Porto in September.")
        assert memos.history(moved.id)[0].text == "Mara moved to Lisbon in May."
        hit = memos.search("Where did Mara move to?", user_id="mara")[0]
        assert hit.cube.id == moved.id and hit.why["meaning"] > 0
        assert [cube.text for cube in memos.list(user_id="noah")] == ["Noah plays the cello on Tuesdays."]
        assert memos.stats(user_id="mara").by_state["erased"] == 1
        assert memos.snapshots()[0].name == "before the erasure"
        assert not any("passport" in hit.cube.text for hit in memos.search("passport", user_id="mara"))
        memos.update(moved.id, "Mara moved to Faro in January.")
        memos.erase(user_id="noah")
        assert memos.verify().ok
    assert int.from_bytes(path.read_bytes()[60:64], "big") == len(MIGRATIONS)  # where SQLite keeps user_version


def test_a_failing_migration_leaves_the_file_as_it_was(store: Path) -> None:
    def half_done(connection: sqlite3.Connection) -> None:
        connection.execute("CREATE TABLE added(x)")
        connection.execute("DELETE FROM usage")
        connection.execute("ALTER TABLE cube ADD COLUMN colour TEXT")
        connection.execute("SELECT * FROM no_such_table")

    connection = open_connection(store, durability="full", readonly=False)
    before = list(connection.iterdump())
    with pytest.raises(sqlite3.OperationalError, match="no_such_table"):
        migrate(connection, (*MIGRATIONS, half_done))
    assert not connection.in_transaction
    assert list(connection.iterdump()) == before
    assert connection.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)
    connection.close()
    with opened(store) as memos:
        assert memos.verify().ok


def test_migrations_run_once_and_in_order(store: Path) -> None:
    ran: list[str] = []

    def step(name: str) -> Callable[[sqlite3.Connection], None]:
        return lambda connection: ran.append(name)

    connection = open_connection(store, durability="full", readonly=False)
    steps = (*MIGRATIONS, step("second"), step("third"))
    migrate(connection, steps)
    migrate(connection, steps)
    assert ran == ["second", "third"]
    assert connection.execute("PRAGMA user_version").fetchone() == (len(steps),)
    connection.close()


# -- making a store


def test_a_maker_killed_before_its_log_was_merged_leaves_a_store(path: Path, tmp_path: Path) -> None:
    """The application's mark is in the log then, not in the file's header."""
    path.touch()
    maker = open_connection(path, durability="full", readonly=False)
    maker.execute("PRAGMA journal_mode=WAL")
    migrate(maker)
    crashed = tmp_path / "crashed.db"
    for ending in ("", "-wal"):
        shutil.copy(f"{path}{ending}", f"{crashed}{ending}")
    maker.close()
    assert int.from_bytes(crashed.read_bytes()[68:72], "big") == 0
    with opened(crashed) as memos:
        memos.add("The blue bicycle has a flat tyre.", user_id="mara")
        assert memos.verify().ok
    assert int.from_bytes(crashed.read_bytes()[68:72], "big") == APPLICATION_ID


def test_a_maker_killed_while_the_first_page_was_written_leaves_an_empty_file(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.close()
    page = path.stat().st_size.to_bytes(4, "big")
    magic, sector = bytes.fromhex("d9d505f920a163d7"), (512).to_bytes(4, "big")
    header = magic + bytes(4) + bytes(4) + bytes(4) + sector + page  # no records, no checksum seed, no pages before
    Path(f"{path}-journal").write_bytes(header.ljust(512, b"\x00"))
    with pytest.raises(BackendUnavailable, match="cannot be opened"):
        opened(path, readonly=True)
    with opened(path) as memos:
        assert memos.verify().ok
    assert not Path(f"{path}-journal").exists()


MAKER = """
import sys
from memos_agents import MemOS
from memos_agents.testing import HashEmbedder
print("ready", flush=True)
for path in sys.stdin:
    with MemOS.open(path.strip(), embedder=HashEmbedder(dimension=16)) as memos:
        memos.add(f"Process {sys.argv[1]} was here.", user_id="mara")
    print("made", flush=True)
"""


def test_processes_that_make_the_same_store_at_once_all_succeed(tmp_path: Path) -> None:
    makers = [
        subprocess.Popen(
            [sys.executable, "-c", MAKER, str(number)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for number in range(4)
    ]
    said = [maker.stdout for maker in makers if maker.stdout is not None]
    heard = [maker.stdin for maker in makers if maker.stdin is not None]
    try:
        assert [pipe.readline() for pipe in said] == ["ready\n"] * 4
        for attempt in range(8):
            path = tmp_path / f"memos{attempt}.db"
            for pipe in heard:
                pipe.write(f"{path}\n")
                pipe.flush()
            assert [pipe.readline() for pipe in said] == ["made\n"] * 4
            with opened(path) as memos:
                assert {cube.text for cube in memos.list(user_id="mara")} == {
                    f"Process {number} was here." for number in range(4)
                }
                assert memos.verify().ok
    finally:
        for maker in makers:
            maker.kill()
            maker.communicate()
