"""Kills writing processes with SIGKILL, round after round on one store, and counts what was lost: it must be nothing.

    python cookbook/benchmarks/crash.py               200 rounds
    python cookbook/benchmarks/crash.py --quick       12 rounds
    python cookbook/benchmarks/crash.py --rounds N --seed S

In each round one or two processes, each with four writing threads and an exporting one, open the store and add,
update, erase (with and without scrub), relate, search and export, all at once. Each thread says on a pipe what it
begins and what was acknowledged. At a random moment (while opening, too) a process is killed, and the other one goes on
until its own time comes. Then the store, or in every other round a copy of it, so that the next process must recover by
itself, is opened and compared with what was said:

- lost: an acknowledged write is not there, or not with the content that was acknowledged;
- half done: of an unacknowledged call some, but not all, is there; or something is there that nobody asked for;
- problem: `verify` has something to say, a call failed in a process that was not killed, an exported file is not
  whole, or an erased text is in some byte of the store's files although the receipt said that it was removed.

The store of the next round is the one that the crash left; every 25 rounds a new one begins, because verifying reads
all. SIGKILL tests the order of writes, not the disk's honesty: what a power cut does to a log is in
tests/end_to_end/test_crash.py.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from memos_agents import MemOS, Scope
from memos_agents.infrastructure.exchange.bundle import read_bundle
from memos_agents.testing import HashEmbedder

THREADS = 4
FRESH_EVERY = 25
EVERYTHING = Scope.everything()


# -- the process that is killed


def opened(store: Path) -> MemOS:
    """The store, with an embedder that costs nothing."""
    return MemOS.open(store, embedder=HashEmbedder(dimension=32))


class Worker:
    """One thread of the process: says what it begins and what is done, and never closes anything."""

    def __init__(self, memos: MemOS, name: str, seed: int, exports: Path) -> None:
        self.memos, self.name, self.random, self.exports = memos, name, random.Random(seed), exports
        self.living = [cube.id for cube in memos.list(user_id=name, limit=200)]
        self.shared = memos.get(key="shared", user_id="everybody").id

    def write(self) -> None:
        """Write at random until killed."""
        kinds = ["add", "batch", "derive", "update", "share", "relate", "find", "erase", "scrub"]
        while True:
            (kind,) = self.random.choices(kinds, [8, 3, 4, 6, 4, 2, 2, 3, 1])
            getattr(self, kind)()

    def export(self) -> None:
        """Export everything again and again."""
        path = self.exports / f"{self.name}.memcube"
        while True:
            self.act(
                "export", lambda: {"cubes": self.memos.export(path, scope=EVERYTHING).counts["cube"]}, path=str(path)
            )

    def act(self, kind: str, call: Callable[[], dict[str, Any]], **about: object) -> dict[str, Any]:
        self.say({"by": self.name, "begin": kind, **about})
        done = call()
        self.say({"by": self.name, "done": kind, **done})
        return done

    def say(self, line: dict[str, Any]) -> None:
        """One write of less than PIPE_BUF bytes: whole, in order among threads and processes, and never lost."""
        os.write(1, json.dumps(line).encode() + b"\n")

    def text(self) -> str:
        """A text that nobody else writes; its first word is looked for in the bytes of the files."""
        thing = self.random.choice(["bicycle", "train to Porto", "letter", "violin lesson", "kitchen"])
        return f"q{self.random.getrandbits(64):016x}x and the {thing} of {self.name}"

    def add(self, count: int = 1, *origin: str) -> None:
        texts = [self.text() for _ in range(count)]
        kind = "derive" if origin else "batch" if count > 1 else "add"
        done = self.act(
            kind,
            lambda: {"ids": [cube.id for cube in self.memos.add(texts, user_id=self.name, derived_from=origin)]},
            texts=texts,
            origin=origin,
        )
        self.living += done["ids"]

    def batch(self) -> None:
        self.add(self.random.randint(2, 5))

    def derive(self) -> None:
        if self.living:
            self.add(1, self.random.choice(self.living))

    def update(self, cube_id: str | None = None, kind: str = "update") -> None:
        if not cube_id and not self.living:
            return
        cube_id, text = cube_id or self.random.choice(self.living), self.text()
        self.act(kind, lambda: {"version": self.memos.update(cube_id, text).version}, id=cube_id, text=text)

    def share(self) -> None:
        self.update(self.shared, "share")

    def relate(self) -> None:
        if len(self.living) > 1:
            source, target = self.random.sample(self.living, 2)
            self.act(
                "relate", lambda: {"kind": self.memos.relate(source, "CONTRADICTS", target).kind}, ids=[source, target]
            )

    def find(self) -> None:
        self.memos.search("the letter and the kitchen", user_id=self.name, limit=5)

    def erase(self, *, scrub: bool = False) -> None:
        if not self.living:
            return
        cube_id = self.random.choice(self.living)

        def call() -> dict[str, Any]:
            receipt = self.memos.erase(cube_id, scrub=scrub)
            gone = {stone.ref.cube_id for stone in receipt.tombstones}
            self.living = [other for other in self.living if other not in gone]
            return {"is_scrubbed": scrub and receipt.is_complete}

        self.act("scrub" if scrub else "erase", call, id=cube_id)

    def scrub(self) -> None:
        self.erase(scrub=True)


def write_until_killed(store: Path, name: str, seed: int) -> None:
    """What the child process does."""
    memos = opened(store)
    workers = [
        Worker(memos, f"{name}{number}", seed * 10 + number, store.parent / "exports") for number in range(THREADS + 1)
    ]
    calls = [worker.write for worker in workers[:THREADS]] + [workers[-1].export]

    def run(call: Callable[[], None]) -> None:
        try:
            call()
        except BaseException as error:  # noqa: BLE001  # whatever it is, the other side must hear of it
            os.write(1, json.dumps({"error": f"{type(error).__name__}: {error}"[:1000]}).encode() + b"\n")
            os._exit(1)

    threads = [threading.Thread(target=run, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


# -- what was said, and what is there


@dataclass
class Account:
    """Everything that the processes said, over all rounds, and what was found wrong."""

    versions: dict[str, dict[int, str]] = field(default_factory=dict)  # by cube: the text of each version
    derived: dict[str, set[str]] = field(default_factory=dict)
    relations: set[tuple[str, str]] = field(default_factory=set)
    erased: set[str] = field(default_factory=set)
    scrubbed: set[str] = field(default_factory=set)
    exports: dict[str, set[str]] = field(default_factory=dict)  # by file: the cubes that it must hold at least
    open: dict[str, dict[str, Any]] = field(default_factory=dict)  # by thread: what was begun and not acknowledged
    acknowledged: Counter[str] = field(default_factory=Counter)
    unacknowledged: Counter[str] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)
    half_done: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        return not (self.lost or self.half_done or self.problems)

    def begin_store(self, memos: MemOS) -> None:
        """Forget an older store; note the cube that everybody updates."""
        for held in (self.versions, self.derived, self.relations, self.erased, self.scrubbed, self.exports):
            held.clear()
        cube = memos.add("What everybody knows.", user_id="everybody", key="shared")[0]
        self.versions[cube.id] = {1: cube.text}

    def hear(self, line: str) -> None:
        """Note one line from the pipe."""
        said = json.loads(line)
        if "error" in said:
            self.problems.append(f"a process failed: {said['error']}")
        elif "begin" in said:
            self.open[said["by"]] = said
            said["known"] = set(self.versions) - self.erased if said["begin"] == "export" else set()
        else:
            begun = self.open.pop(said["by"])
            self.acknowledged[said["done"]] += 1
            self._take(begun, said)

    def _take(self, begun: dict[str, Any], done: dict[str, Any]) -> None:
        match begun["begin"]:
            case "add" | "batch" | "derive":
                for cube_id, text in zip(done["ids"], begun["texts"], strict=True):
                    self.versions[cube_id] = {1: text}
                    for origin in begun["origin"]:
                        self.derived.setdefault(origin, set()).add(cube_id)
            case "update" | "share":
                self.versions[begun["id"]][done["version"]] = begun["text"]
            case "relate":
                self.relations.add(tuple(begun["ids"]))
            case "erase" | "scrub":
                gone = self.below(begun["id"])
                self.erased |= gone
                if done["is_scrubbed"]:  # one scrub removes whatever was erased before
                    self.scrubbed |= gone
            case "export":
                self.exports[begun["path"]] = begun["known"]

    def below(self, cube_id: str) -> set[str]:
        """The cube and everything derived from it."""
        found, waiting = {cube_id}, [cube_id]
        while waiting:
            fresh = self.derived.get(waiting.pop(), set()) - found
            found |= fresh
            waiting += fresh
        return found

    def check_bytes(self, store: Path) -> None:
        """Look for scrubbed texts in the files as the crash left them."""
        data = b"".join(path.read_bytes() for path in (store, Path(f"{store}-wal")) if path.exists())
        for cube_id in self.scrubbed:
            for text in self.versions[cube_id].values():
                if text[:14].encode() in data:
                    self.problems.append(f"the text of {cube_id} is in the files after its scrub")

    def check(self, memos: MemOS) -> None:
        """Compare with the store; take over what was not acknowledged but was done."""
        self.problems += [f"verify: {problem.kind}: {problem.what}" for problem in memos.verify().problems]
        texts: dict[str, dict[int, str]] = {}
        erased: set[str] = set()
        relations: set[tuple[str, str]] = set()
        for record in memos.vault.records(EVERYTHING):  # type: ignore[attr-defined]  # of a vault with SupportsRecords
            if record["kind"] == "version":
                body = record["body"]
                texts.setdefault(record["cube"], {})[record["version"]] = body["payload"]["text"] if body else ""
            elif record["kind"] == "cube" and record["state"] == "erased":
                erased.add(record["id"])
            elif record["kind"] == "relation" and record["relation"] == "CONTRADICTS":
                relations.add((record["source"], record["target"]))
        self._settle(texts, erased)
        for cube_id, versions in self.versions.items():
            found = texts.pop(cube_id, {})
            if cube_id in self.erased:
                if cube_id not in erased or any(found.values()):
                    self.lost.append(f"the erasure of {cube_id}")
                continue
            if cube_id in erased:
                self.lost.append(f"{cube_id}, which nobody erased")
                continue
            for number, text in versions.items():
                if found.get(number) != text:
                    self.lost.append(f"{cube_id} version {number}: {found.get(number)!r} instead of {text!r}")
            for number in found.keys() - versions.keys():
                self.half_done.append(f"{cube_id} version {number}, which nobody wrote: {found[number]!r}")
        self.half_done += [f"{cube_id}, which nobody added: {found}" for cube_id, found in texts.items()]
        self.lost += [f"the relation {pair}" for pair in self.relations - relations]
        self._check_exports()

    def _settle(self, texts: dict[str, dict[int, str]], erased: set[str]) -> None:
        """Whatever was begun must be done, all of it, or not at all."""
        by_text = {
            text: (cube_id, number) for cube_id, found in texts.items() for number, text in found.items() if text
        }
        for begun in self.open.values():
            kind, is_done = begun["begin"], False
            if kind in ("add", "batch", "derive"):
                found = [by_text[text][0] for text in begun["texts"] if text in by_text]
                is_done = len(found) == len(begun["texts"])
                if is_done:
                    self._take(begun, {"ids": found})
                elif found:
                    self.half_done.append(f"{len(found)} of the {len(begun['texts'])} items of one add")
            elif kind in ("update", "share"):
                is_done = begun["text"] in by_text
                if is_done:
                    self._take(begun, {"version": by_text[begun["text"]][1]})
            elif kind in ("erase", "scrub"):
                gone = self.below(begun["id"])
                is_done = gone <= erased
                if is_done:
                    self._take(begun, {"is_scrubbed": False})
                elif gone & (erased - self.erased):
                    self.half_done.append(f"{len(gone & erased)} of {len(gone)} cubes of one erasure")
            self.unacknowledged["done" if is_done else "not done"] += 1
        self.open.clear()

    def _check_exports(self) -> None:
        for path, known in self.exports.items():
            with read_bundle(Path(path)) as bundle:  # checks every digest
                held = {record["id"] for record in bundle.records() if record["kind"] == "cube"}
            if missing := known - held - self.erased:
                self.lost.append(f"{len(missing)} cubes in the export {Path(path).name}")


# -- the rounds


def play(store: Path, account: Account, chance: random.Random, seed: int) -> int:
    """Start processes on the store, kill them one after the other, and hear what they said; return how many."""
    count = chance.choice([1, 1, 2])
    reading, writing = os.pipe()
    children = [
        subprocess.Popen(
            [sys.executable, __file__, "--child", str(store), f"{'ab'[number]}", str(seed * 2 + number)], stdout=writing
        )
        for number in range(count)
    ]
    os.close(writing)
    with os.fdopen(reading, encoding="utf-8") as pipe:
        try:
            for child in children:
                if chance.random() < 0.1:
                    time.sleep(chance.uniform(0, 0.8))  # while it starts, opens or recovers
                else:
                    for _ in range(chance.randint(4, 150)):
                        if not (line := pipe.readline()):
                            break
                        account.hear(line)
                    time.sleep(chance.uniform(0, 0.01))
                child.send_signal(signal.SIGKILL)
                if child.wait() != -signal.SIGKILL:
                    account.problems.append(f"a process ended with {child.returncode} before it was killed")
        finally:
            for child in children:
                child.kill()
                child.wait()
        for line in pipe:
            account.hear(line)
    return count


def run(
    folder: Path, rounds: int, seed: int, progress: Callable[[int], None] = lambda done: None
) -> tuple[Account, int]:
    """Play `rounds` rounds in a folder; return what was found and how many processes were killed."""
    account, chance, kills, store = Account(), random.Random(seed), 0, folder / "none"
    for number in range(rounds):
        if number % FRESH_EVERY == 0:
            store = folder / f"{number}" / "memos.db"
            (store.parent / "exports").mkdir(parents=True)
            with opened(store) as memos:
                account.begin_store(memos)
        kills += play(store, account, chance, seed * 1_000_003 + number)
        account.check_bytes(store)
        target = store
        if number % 2:
            target = folder / "copy" / "memos.db"
            shutil.rmtree(target.parent, ignore_errors=True)
            shutil.copytree(store.parent, target.parent, ignore=shutil.ignore_patterns("exports", "*-shm"))
        with opened(target) as memos:
            account.check(memos)
            if target == store:  # and it goes on
                cube = memos.add(f"q{chance.getrandbits(64):016x}x is from the one that looks", user_id="looker")[0]
                account.versions[cube.id] = {1: cube.text}
                if memos.search(cube.text, user_id="looker", limit=1)[0].cube.id != cube.id:
                    account.problems.append("what was added after the crash is not found")
        progress(number + 1)
        if not account.is_clean:
            break
    return account, kills


def main() -> int:
    """Print the table; exit status 1 if anything was lost, half done or wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--quick", action="store_true", help="12 rounds")
    parser.add_argument("--seed", type=int, default=1, help="of what is written and when it is killed")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        store, name, seed = options.child
        write_until_killed(Path(store), name, int(seed))
        return 1
    rounds = 12 if options.quick else options.rounds
    console, started = Console(), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="memos-crash-") as folder, console.status("") as status:
        account, kills = run(
            Path(folder), rounds, options.seed, lambda done: status.update(f"round {done} of {rounds}")
        )
    show(console, account, rounds, kills, time.monotonic() - started)
    return 0 if account.is_clean else 1


def show(console: Console, account: Account, rounds: int, kills: int, seconds: float) -> None:
    """The result, with what made it."""
    table = Table("what", "count", title="kill -9 while adding, updating, erasing and exporting at once")
    table.columns[1].justify = "right"
    rows: list[tuple[str, int]] = [("rounds", rounds), ("processes killed", kills)]
    rows += [(f"acknowledged {kind}", count) for kind, count in sorted(account.acknowledged.items())]
    rows += [("acknowledged in all", account.acknowledged.total())]
    rows += [(f"begun, not acknowledged, {how}", count) for how, count in sorted(account.unacknowledged.items())]
    for what, count in rows:
        table.add_row(what, f"{count:,}")
    table.add_section()
    for what, found in (("lost", account.lost), ("half done", account.half_done), ("problems", account.problems)):
        table.add_row(what, f"{len(found):,}", style="bold green" if not found else "bold red")
    console.print(table)
    for complaint in (account.lost + account.half_done + account.problems)[:20]:
        console.print(complaint, markup=False)
    console.print(
        f"{seconds:,.0f} s on {processor()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}; "
        f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, memos-agents {version('memos-agents')}\n"
        f"python cookbook/benchmarks/{Path(__file__).name} {' '.join(sys.argv[1:])}".rstrip(),
        highlight=False,
        soft_wrap=True,
    )


def processor() -> str:
    """The processor's name, where it can be told."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


if __name__ == "__main__":
    sys.exit(main())
