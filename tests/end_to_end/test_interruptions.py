"""What other people's timing can do: signals while a writer leads, rolled-back names, stores converted elsewhere."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from memos_agents import MemOS, NotFound, Scope
from memos_agents.infrastructure.vault.sqlite import SqliteVault
from memos_agents.testing import HashEmbedder

INTERRUPTED = """
import os, random, signal, sys, threading, time
from memos_agents import BackendUnavailable, MemOS

memos = MemOS.open(sys.argv[1], embedder="none")
chance = random.Random(7)
done = []

def write_beside() -> None:
    while True:
        try:
            done.append(memos.add(f"beside {len(done)}", user_id="noah")[0].id)
        except BackendUnavailable:
            pass
        time.sleep(0.005)

threading.Thread(target=write_beside, daemon=True).start()
signal.signal(signal.SIGALRM, signal.default_int_handler)
for number in range(60):
    try:
        signal.setitimer(signal.ITIMER_REAL, chance.uniform(0.0005, 0.01))
        while True:
            memos.add("again", user_id="mara", merge=False)
    except (KeyboardInterrupt, BackendUnavailable):
        signal.setitimer(signal.ITIMER_REAL, 0)
    answered = threading.Event()
    probe = lambda: (memos.add(f"probe {number}", user_id="probe"), answered.set())
    threading.Thread(target=probe, daemon=True).start()
    if not answered.wait(20):
        print("writers hang after", number)
        os._exit(1)
held = {cube.id for cube in memos.list(user_id="noah", limit=1000)}
lost = set(done[:900]) - held
print("lost", len(lost), "problems", len(memos.verify().problems))
os._exit(0)
"""


def test_an_interrupted_leader_stops_nobody_else_and_loses_nothing(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, str(tmp_path / "memos.db")],
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert (run.returncode, run.stdout.strip()) == (0, "lost 0 problems 0"), run.stderr[-2000:]


def test_a_name_whose_writer_failed_is_never_taken_for_the_next_one(tmp_path: Path) -> None:
    """A reader that looked Bob's rowid up before it was rolled back must not see whoever gets that rowid next."""
    with MemOS.open(tmp_path / "memos.db", embedder="none") as memos:
        memos.add("something", user_id="somebody")
        vault = memos.vault
        assert isinstance(vault, SqliteVault)
        named, may_fail, looked_up, may_read = (threading.Event() for _ in range(4))

        def fail(connection: object) -> None:
            vault._names.scope_rids(connection, Scope(user_id="bob"), make=True)  # type: ignore[arg-type]
            named.set()
            may_fail.wait(20)
            raise ValueError("bob's write fails")

        def write() -> None:
            with pytest.raises(ValueError, match="bob"):
                vault._engine.write(fail)

        found: list[object] = []
        owner = vault._reader.owner

        def slow_owner(*args: object, **named_args: object) -> object:
            condition = owner(*args, **named_args)  # type: ignore[arg-type]
            looked_up.set()
            may_read.wait(20)
            return condition

        writer = threading.Thread(target=write)
        writer.start()
        assert named.wait(20)
        vault._reader.owner = slow_owner  # type: ignore[assignment, method-assign]
        reader = threading.Thread(target=lambda: found.extend(memos.list(user_id="bob")))
        reader.start()
        assert looked_up.wait(20)
        vault._reader.owner = owner  # type: ignore[method-assign]
        may_fail.set()
        writer.join()
        memos.add("carol's secret", user_id="carol")
        may_read.set()
        reader.join()
        assert found == []


def test_a_store_that_was_converted_elsewhere_takes_no_vector_of_the_old_embedder(tmp_path: Path) -> None:
    path = tmp_path / "memos.db"
    with MemOS.open(path, embedder=HashEmbedder(32)) as first:
        first.add("one", user_id="mara")
        with MemOS.open(path, embedder=HashEmbedder(64), reembed=True) as second:
            with pytest.raises(NotFound, match="space"):
                first.add("secret two", user_id="mara")
            assert [hit.cube.text for hit in second.search("one", user_id="mara")] == ["one"]
            assert second.verify().ok
            with pytest.raises(NotFound, match="space"):
                first.search("one", user_id="mara")
