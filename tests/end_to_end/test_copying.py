"""`memos copy` and `copy_to` as people meet them: killed, on full disks, across tenants and users."""

from __future__ import annotations

import inspect
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from memos_agents import AsyncMemOS, BackendUnavailable, IncompatibleModel, InvalidRequest, MemOS, Scope
from memos_agents.cli.application import app
from memos_agents.infrastructure.exchange.comparing import digest_of
from memos_agents.infrastructure.vault.sqlite import SqliteVault
from memos_agents.testing import HashEmbedder

EVERYTHING = Scope.everything()
Memos = Callable[..., Result]


@pytest.fixture(autouse=True)
def _clean_surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("MEMOS_", "NEO4J_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def memos() -> Memos:
    runner = CliRunner()

    def run(*arguments: str, code: int = 0, environ: dict[str, str] | None = None) -> Result:
        result = runner.invoke(app, list(arguments), prog_name="memos", env=environ)
        assert result.exit_code == code, f"{arguments}: {result.exit_code}\n{result.output}"
        assert "Traceback" not in result.output
        return result

    return run


def opened(path: str | Path, tenant: str = "default") -> MemOS:
    return MemOS.open(path, tenant=tenant, embedder=HashEmbedder(dimension=16))


def fill(path: str | Path, count: int = 6) -> None:
    """Two people, versions, lineage, relations over every distance, something erased."""
    with opened(path) as memos:
        chance = random.Random(count)
        ids = [cube.id for cube in memos.add([f"Mara's note {n}" for n in range(count)], user_id="mara")]
        for number in range(0, count, 3):
            memos.add(f"what came of it {number}", user_id="mara", derived_from=[chance.choice(ids)])
            memos.relate(chance.choice(ids[: count // 2]), "NEXT", chance.choice(ids[count // 2 :]))
        memos.update(ids[0], "Mara's note 0, corrected")
        memos.add("Noah's secret", user_id="noah")
        memos.erase(ids[1], scrub=False)


def digest(path: str | Path, tenant: str = "default") -> str:
    with closing(SqliteVault(path, tenant=tenant, readonly=True)) as vault:
        assert vault.verify() == []
        return digest_of(vault.records(Scope.everything(tenant)))


def said(result: Result) -> dict[str, object]:
    found = json.loads(result.stdout)
    assert isinstance(found, dict)
    return found


def test_copy_says_what_it_did_and_proves_it(memos: Memos) -> None:
    fill("memos.db")
    shown = memos("copy", "memos.db", "copy.db")
    assert "made the new store copy.db" in shown.stderr
    assert "proven: everything is there and equal" in shown.stdout and digest("memos.db") in shown.stdout
    report = said(memos("copy", "memos.db", "copy.db", "--json", "--batch", "2", "--samples", "3"))
    assert report["ok"] is True and report["digest"] == report["found_digest"] == digest("copy.db")
    assert report["samples"] == 3 and report["differences"] == [] and report["source_moved"] is False
    assert report["counts"] == report["found"] and not any(report["written"].values())  # type: ignore[attr-defined]
    with opened("copy.db") as copy, opened("memos.db") as original:
        hits = [[hit.cube.id for hit in each.search("note 3 of Mara", user_id="mara")] for each in (copy, original)]
        assert hits[0] == hits[1] != []


def test_a_copy_that_is_not_right_ends_with_4(memos: Memos) -> None:
    fill("memos.db")
    memos("copy", "memos.db", "copy.db")
    with closing(sqlite3.connect("copy.db")) as connection:
        connection.execute("DELETE FROM derivation")
        connection.commit()
    result = memos("copy", "memos.db", "copy.db", code=4)
    assert "the derivation of" in result.stdout and "fault" in result.stdout and "proven" not in result.stdout
    assert "note" not in result.output
    assert said(memos("copy", "memos.db", "copy.db", "--json", code=4))["ok"] is False


def test_a_copy_can_change_the_tenant(memos: Memos) -> None:
    fill("memos.db")
    memos("copy", "memos.db", "memos.db", "--to-tenant", "team")
    memos("copy", "memos.db", "other.db", "--tenant", "team")
    memos("copy", "other.db", "back.db", "--tenant", "team", "--to-tenant", "default")
    assert digest("memos.db") == digest("memos.db", "team") == digest("other.db", "team") == digest("back.db")
    memos("copy", "memos.db", "memos.db", code=2)


def test_one_persons_copy_holds_nothing_of_others(memos: Memos) -> None:
    fill("memos.db")
    report = said(memos("copy", "memos.db", "mara.db", "--user", "mara", "--json"))
    assert report["ok"] is True
    assert b"secret" not in Path("mara.db").read_bytes() and b"noah" not in Path("mara.db").read_bytes()
    with opened("mara.db") as hers, opened("memos.db") as all_of_it:
        assert hers.stats(scope=EVERYTHING).cubes == all_of_it.stats(user_id="mara").cubes
        assert hers.verify().ok
    empty = said(memos("copy", "memos.db", "nobody.db", "--user", "nobody", "--json"))
    assert empty["ok"] is True and empty["counts"] == {}


def test_a_users_name_in_the_environment_does_not_make_a_copy_partial(memos: Memos) -> None:
    fill("memos.db")
    memos("copy", "memos.db", "copy.db", environ={"MEMOS_USER": "noah"})
    assert digest("copy.db") == digest("memos.db")
    memos("copy", "memos.db", "copy.db", "--everything")
    for arguments in (("--everything", "--user", "mara"), ("--store", "x.db")):
        memos("copy", "memos.db", "copy.db", *arguments, code=2)


def test_what_cannot_be_copied_is_said_in_one_line(memos: Memos, tmp_path: Path) -> None:
    fill("memos.db")
    (tmp_path / "folder").mkdir()
    (tmp_path / "empty.db").touch()
    wrong: tuple[tuple[int, tuple[str, ...]], ...] = (
        (3, ("none.db", "copy.db")),
        (3, ("empty.db", "copy.db")),
        (3, ("memos.db", "nowhere/copy.db")),
        (2, ("folder", "copy.db")),
        (2, ("memos.db", "folder")),
        (2, (":memory:", "copy.db")),
        (2, ("memos.db", ":memory:")),
        (2, ("memos.db", "copy.db", "--batch", "0")),
        (2, ("memos.db", "copy.db", "--target-database", "x")),
        (2, ("ftp://memos", "copy.db")),
        (2, ("memos.db",)),
    )
    for code, arguments in wrong:
        result = memos("copy", *arguments, code=code)
        assert len(result.stderr.strip().splitlines()) == 1 and result.stdout == "", result.output
        assert not Path("copy.db").exists() and not Path("none.db").exists()
    with opened("other.db") as other:
        other.add("of another embedder", user_id="mara")
    with MemOS.open("third.db", embedder=HashEmbedder(dimension=8)) as third:
        third.add("of a third", user_id="mara")
    memos("copy", "third.db", "other.db", code=6)


# -- killed, full


def start(*arguments: str, **options: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "memos_agents", "copy", *arguments]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options  # type: ignore[call-overload]
    )  # fmt: skip


def parts_in(path: str) -> int:
    """How many parts are durable."""
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
            return int(connection.execute("SELECT coalesce(max(seq), 0) FROM tenant").fetchone()[0])
    except sqlite3.OperationalError:  # not there yet
        return 0


def test_a_killed_copy_goes_on_where_it_was(memos: Memos) -> None:
    fill("memos.db", 120)
    chance, kills, durable = random.Random(8), [], 0
    for _ in range(3):
        process = start("memos.db", "copy.db", "--batch", "3", "--samples", "0")
        goal = durable + chance.randrange(3, 15)
        while process.poll() is None and parts_in("copy.db") < goal:
            time.sleep(0.002)
        time.sleep(chance.random() / 50)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        kills.append(process.returncode)
        durable = parts_in("copy.db")
        with closing(SqliteVault("copy.db")) as vault:
            assert vault.verify() == []
    assert kills == [-signal.SIGKILL] * 3, "it ended before it was killed"
    report = said(memos("copy", "memos.db", "copy.db", "--batch", "3", "--json"))
    assert report["ok"] is True and report["more"] == {} and report["skipped"] == durable
    assert report["digest"] == digest("memos.db") == digest("copy.db")
    assert parts_in("copy.db") == report["parts"]


def test_a_full_disk_stops_a_copy_that_goes_on_later(memos: Memos) -> None:
    resource = pytest.importorskip("resource", reason="limits the size of files as Unix does")
    fill("memos.db", 150)
    limit = 400_000  # bytes of one file; the log of the store alone becomes larger

    def small() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    process = start("memos.db", "copy.db", "--batch", "10", preexec_fn=small)
    out, err = process.communicate()
    assert process.returncode == 5 and out == "", err
    assert err.strip().splitlines()[-1].startswith("memos: ") and "Traceback" not in err
    durable = parts_in("copy.db")
    assert durable > 0
    report = said(memos("copy", "memos.db", "copy.db", "--batch", "10", "--json"))
    assert report["ok"] is True and report["skipped"] == durable < report["parts"]  # type: ignore[operator]
    assert digest("copy.db") == digest("memos.db")


def test_two_copies_at_once_make_one(memos: Memos) -> None:
    fill("memos.db", 40)
    running = [start("memos.db", "copy.db", "--batch", "4", "--json") for _ in range(2)]
    ends = [process.communicate() for process in running]
    assert [process.returncode for process in running] == [0, 0], ends
    reports = [json.loads(out) for out, _ in ends]
    assert all(report["ok"] and report["more"] == {} for report in reports)
    assert digest("copy.db") == digest("memos.db")
    assert parts_in("copy.db") == reports[0]["parts"]


# -- from Python


async def test_copy_to_is_there_for_programs_and_event_loops(tmp_path: Path) -> None:
    fill("memos.db")
    with opened("memos.db") as source, opened("copy.db") as target:
        told: list[tuple[int, int]] = []
        report = source.copy_to(target, progress=lambda done, total: told.append((done, total)))
        assert report.ok and told[-1][0] == told[-1][1]
        assert target.search("Mara's note 4", user_id="mara")[0].cube.text == "Mara's note 4"
        duplicate = target.add("Mara's note 4", user_id="mara")[0]
        assert duplicate.id in {cube.id for cube in source.list(user_id="mara", limit=100)}
        with opened(":memory:", tenant="hers") as hers:
            assert source.copy_to(hers, user_id="mara").ok
            assert hers.stats(scope=Scope.everything("hers")).cubes == source.stats(user_id="mara").cubes
            async with AsyncMemOS.open(":memory:", embedder="none") as loop:
                assert (await AsyncMemOS(hers).copy_to(loop.sync)).ok
                assert len(await loop.list(user_id="mara", limit=100)) == len(hers.list(user_id="mara", limit=100))
    assert inspect.signature(AsyncMemOS.copy_to) == inspect.signature(MemOS.copy_to)


def test_copy_to_refuses_what_cannot_be(tmp_path: Path) -> None:
    fill("memos.db")
    with opened("memos.db") as source:
        with pytest.raises(InvalidRequest, match="open MemOS"):
            source.copy_to("copy.db")  # type: ignore[arg-type]  # the point
        with pytest.raises(InvalidRequest, match="same store"):
            source.copy_to(source)
        with opened(":memory:") as target:
            for options in ({"batch": 0}, {"samples": -1}, {"scope": Scope.everything("elsewhere")}):
                with pytest.raises(InvalidRequest):
                    source.copy_to(target, **options)  # type: ignore[arg-type]  # the point
            assert target.stats(scope=EVERYTHING).cubes == 0
        with pytest.raises(BackendUnavailable):
            source.copy_to(target)
        with MemOS.open(":memory:", embedder=HashEmbedder(dimension=8)) as other, pytest.raises(IncompatibleModel):
            source.copy_to(other)
        opened("readonly.db").close()
        with (
            MemOS.open("readonly.db", embedder="none", readonly=True) as readonly,
            pytest.raises(InvalidRequest, match="readonly"),
        ):
            source.copy_to(readonly)


# -- a server


@pytest.mark.neo4j
def test_a_file_is_copied_to_a_server_and_back(memos: Memos, neo4j_uri: str) -> None:
    fill("memos.db", 10)
    tenant = f"copy-{os.urandom(6).hex()}"
    there = ("copy", "memos.db", neo4j_uri, "--to-tenant", tenant, "--batch", "5", "--samples", "10", "--json")
    report = said(memos(*there))
    assert report["ok"] is True and report["digest"] == report["found_digest"] == digest("memos.db")
    again = said(memos(*there))
    assert again["ok"] is True and again["skipped"] == again["parts"] == report["parts"]
    back = said(memos("copy", neo4j_uri, "back.db", "--tenant", tenant, "--to-tenant", "default", "--json"))
    assert back["ok"] is True and back["digest"] == report["digest"] == digest("back.db")
    with MemOS.open(neo4j_uri, tenant=tenant, embedder="none", readonly=True) as server:
        assert server.verify().ok
    hers = said(memos("copy", neo4j_uri, "hers.db", "--tenant", tenant, "--user", "mara", "--json"))
    assert hers["ok"] is True and b"secret" not in Path("hers.db").read_bytes()
