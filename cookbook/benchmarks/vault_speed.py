"""How fast the SQLite store is: durable adds, scoped search, erasure, lineage; beside plain SQLite in the same run.

    python cookbook/benchmarks/vault_speed.py                  all of it (10 to 15 minutes), drawn to docs/vault_speed.png
    python cookbook/benchmarks/vault_speed.py --quick          small numbers, no plot (about 15 seconds)
    python cookbook/benchmarks/vault_speed.py --folder PATH    on another disk than the one of temporary files

Everything goes through `MemOS`, except commits of 100,000 derived versions, which go through `vault.commit`. An add
writes what it always writes: body, text index, vector of 384 dimensions, provenance, audit chain; texts have 14 words.
Vectors are made by `HashEmbedder` before the clock starts and only looked up while it runs; their cost has its own
line. "Full" is one fsync before any add returns (SQLite's synchronous=FULL in WAL mode); adds that wait at the same
time share it, and adds / fsync is counted by the store (`vault.counters`). CPU is user + system time of the process.
The floor is `sqlite3` alone: per item the same body, index words and vector bytes into three tables, FTS5 with the same
options, by `executemany`, synchronous=FULL, no ids, duplicates, provenance or audit. Figures are medians of the
repeats; percentiles of searches are over single calls from one thread.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import sqlite3
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from memos_agents import MemCube, MemOS, Scope
from memos_agents.cube.identity import IdSource
from memos_agents.cube.memcube import VersionRef
from memos_agents.cube.metadata import Descriptive, Governance
from memos_agents.cube.payload import TextPayload
from memos_agents.infrastructure.provenance.values import Activity, Derivation
from memos_agents.infrastructure.vault.commit import Commit, Write
from memos_agents.infrastructure.vault.sqlite import SqliteVault
from memos_agents.infrastructure.vault.sqlite.opening import file_system
from memos_agents.infrastructure.vault.text import index_terms
from memos_agents.testing import HashEmbedder

CHECKOUT = Path(__file__).resolve().parents[2]
WORDS_A_TEXT, PER_USER, FAN_OUT = 14, 100, 10
GOALS = {"8 threads": 1_500, "batch 100": 5_000, "search p95 ms": 10}


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much of everything."""

    adds: int = 4_000
    batched: int = 10_000
    repeats: int = 5
    stores: tuple[int, ...] = (1_000, 10_000, 100_000)
    cold: int = 300
    warm: int = 2_000
    whole: int = 40
    descendants: int = 100_000
    lineages: int = 300


QUICK = Sizes(400, 2_000, 1, (1_000, 3_000), 30, 200, 10, 2_000, 30)


class Prepared:
    """`HashEmbedder` that looks texts up in a table made before, so that embedding costs a microsecond."""

    def __init__(self) -> None:
        self._model = HashEmbedder(384)
        self.fingerprint, self.dimension = self._model.fingerprint, self._model.dimension
        self._rows: dict[str, NDArray[np.float32]] = {}
        self.seconds, self.texts = 0.0, 0

    def prepare(self, texts: Sequence[str]) -> None:
        started = time.process_time()
        rows = self._model.embed(texts)
        self.seconds, self.texts = self.seconds + time.process_time() - started, self.texts + len(texts)
        self._rows.update(zip(texts, rows, strict=True))

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return np.array([self._rows[text] for text in texts])

    def embed_query(self, text: str) -> NDArray[np.float32]:
        return self._rows[text]


class Writer:
    """Texts over 3,000 words, common ones far more often than rare ones, as in a language."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        parts = ["ba", "de", "ki", "lo", "mu", "na", "pe", "ri", "so", "tu", "va", "we", "zi", "cho", "sta"]
        words = [a + b + c for a in parts for b in parts for c in parts][:3_000]
        self._random.shuffle(words)
        self._words, total, self._weights = words, 0.0, []
        for rank in range(len(words)):
            total += 1 / (rank + 10)
            self._weights.append(total)

    def text(self, words: int = WORDS_A_TEXT) -> str:
        return " ".join(self._random.choices(self._words, cum_weights=self._weights, k=words))

    def texts(self, count: int) -> list[str]:
        return [self.text() for _ in range(count)]

    def question(self, text: str) -> str:
        return " ".join(self._random.sample(text.split(), 4))


@dataclass(slots=True)
class Clock:
    """Wall and CPU seconds of a block."""

    wall: float = 0.0
    cpu: float = 0.0


@contextmanager
def clocked() -> Iterator[Clock]:
    clock, wall, cpu = Clock(), time.perf_counter(), time.process_time()
    yield clock
    clock.wall, clock.cpu = time.perf_counter() - wall, time.process_time() - cpu


@dataclass(slots=True)
class Rate:
    """Items a second of some repeats, and how many commits shared an fsync."""

    items: int
    clocks: list[Clock] = field(default_factory=list)
    shared: list[float] = field(default_factory=list)

    def row(self) -> dict[str, float]:
        wall = statistics.median(self.items / clock.wall for clock in self.clocks)
        cpu = statistics.median(self.items / clock.cpu for clock in self.clocks)
        found = {"per_second": round(wall), "per_cpu_second": round(cpu), "cpu_ms": round(1_000 / cpu, 3)}
        return found | ({"commits_per_fsync": round(statistics.median(self.shared), 1)} if self.shared else {})


@contextmanager
def store(folder: Path, model: Prepared, durability: str = "full") -> Iterator[MemOS]:
    with tempfile.TemporaryDirectory(dir=folder) as place:
        memos = MemOS.open(Path(place) / "memos.db", embedder=model, durability=durability)  # type: ignore[arg-type]
        with memos:
            yield memos


def one_by_one(folder: Path, threads: int, count: int, repeats: int, durability: str = "full") -> dict[str, float]:
    """Adds of one text each from some threads, each with a user of its own."""
    rate = Rate(count)
    for repeat in range(repeats):
        model, writer = Prepared(), Writer(repeat)
        shares = [writer.texts(count // threads) for _ in range(threads)]
        first = writer.texts(threads)
        model.prepare([*first, *(text for share in shares for text in share)])
        with store(folder, model, durability) as memos:
            for number, text in enumerate(first):
                memos.add(text, user_id=f"user {number}")
            vault = memos.vault
            assert isinstance(vault, SqliteVault)

            def add_all(number: int, memos: MemOS = memos, shares: list[list[str]] = shares) -> None:
                for text in shares[number]:
                    memos.add(text, user_id=f"user {number}")

            workers = [threading.Thread(target=add_all, args=(number,)) for number in range(threads)]
            before = vault.counters
            with clocked() as clock:
                for worker in workers:
                    worker.start()
                for worker in workers:
                    worker.join()
            after = vault.counters
            rate.clocks.append(clock)
            rate.shared.append((after.commits - before.commits) / (after.groups - before.groups))
            if memos.stats(scope=Scope.everything()).cubes != threads + threads * (count // threads):
                raise SystemExit("adds were lost")
    return rate.row()


def in_batches(folder: Path, size: int, count: int, repeats: int, durability: str = "full") -> dict[str, float]:
    """Adds of `size` texts each from one thread, each for another user."""
    rate = Rate(count)
    for repeat in range(repeats):
        model, writer = Prepared(), Writer(repeat)
        batches = [writer.texts(size) for _ in range(count // size)]
        model.prepare([text for batch in batches for text in batch])
        with store(folder, model, durability) as memos, clocked() as clock:
            for number, batch in enumerate(batches):
                memos.add(batch, user_id=f"user {number}")
        rate.clocks.append(clock)
    return rate.row()


def floor(folder: Path, size: int, count: int, repeats: int) -> dict[str, float]:
    """The same bytes by sqlite3 alone, `size` rows a transaction."""
    rate, now = Rate(count), datetime.now(UTC)
    for repeat in range(repeats):
        rows = []
        for text in Writer(repeat).texts(count):
            about, who = Descriptive(semantic_type="fact"), Governance(owner="user")
            cube = MemCube(
                id="", scope=Scope(user_id="user"), payload=TextPayload(text), descriptive=about, governance=who,
                created_at=now, recorded_at=now,
            )  # fmt: skip
            rows.append((cube.body(), " ".join(["user1", *index_terms(cube)]), bytes(768)))
        with tempfile.TemporaryDirectory(dir=folder) as place:
            database = sqlite3.connect(Path(place) / "floor.db", isolation_level=None)
            database.executescript(
                "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA wal_autocheckpoint=8000;"
                "CREATE TABLE body(id INTEGER PRIMARY KEY, body TEXT); CREATE TABLE vector(id INTEGER PRIMARY KEY, data);"
                "CREATE VIRTUAL TABLE terms USING fts5(words, detail=none, columnsize=0, tokenize=ascii)"
            )
            with clocked() as clock:
                for start in range(0, count, size):
                    numbered = list(enumerate(rows[start : start + size], start))
                    database.execute("BEGIN IMMEDIATE")
                    database.executemany("INSERT INTO body VALUES(?,?)", [(n, row[0]) for n, row in numbered])
                    database.executemany("INSERT INTO vector VALUES(?,?)", [(n, row[2]) for n, row in numbered])
                    database.executemany(
                        "INSERT INTO terms(rowid, words) VALUES(?,?)", [(n, row[1]) for n, row in numbered]
                    )
                    database.execute("COMMIT")
            database.close()
        rate.clocks.append(clock)
    return rate.row()


def searching(folder: Path, memories: int, sizes: Sizes) -> tuple[dict[str, float], dict[str, float]]:
    """Search in a store of `memories`, 100 for each user; then open, verify and erase on the same store."""
    users = max(memories // PER_USER, 1)
    model, writer = Prepared(), Writer(1)
    with tempfile.TemporaryDirectory(dir=folder) as place:
        path, questions = Path(place) / "memos.db", []
        with MemOS.open(path, embedder=model) as memos:
            for user in range(users):
                texts = writer.texts(PER_USER)
                model.prepare(texts)
                memos.add(texts, user_id=f"user {user}")
                questions += [(f"user {user}", writer.question(text)) for text in texts[:: PER_USER // 5]]
        model.prepare([question for _, question in questions])
        chance = random.Random(2)
        chance.shuffle(questions)
        other = {"open_seconds": timed(lambda: MemOS.open(path, embedder=model).close())}
        with MemOS.open(path, embedder=model) as memos:
            first = dict(questions)  # one question for each user
            cold = [
                timed(lambda user=user, query=query: memos.search(query, user_id=user, limit=10))
                for user, query in list(first.items())[: sizes.cold]
            ]
            for user, query in first.items():
                memos.search(query, user_id=user, limit=10)
            asked = chance.choices(questions, k=sizes.warm)
            warm = [timed(lambda u=user, q=query: memos.search(q, user_id=u, limit=10)) for user, query in asked]
            everything = Scope.everything()
            wholes = [
                timed(lambda q=query: memos.search(q, scope=everything, limit=10))
                for _, query in questions[: sizes.whole + 1]
            ]
            other["verify_seconds"] = timed(memos.verify)
            other["megabytes"] = path.stat().st_size / 1e6
            other["erase_user_seconds"] = timed(lambda: memos.erase(user_id="user 0", scrub=False))
            other["scrub_seconds"] = timed(memos.scrub)
    found = {"memories": memories, "users": users}
    for name, seconds in (("cold", cold), ("warm", warm), ("whole", wholes[1:])):
        for percent in (50, 95):
            found[f"{name}_p{percent}_ms"] = round(1_000 * float(np.percentile(seconds, percent)), 2)
    found["whole_first_ms"] = round(1_000 * wholes[0])
    return found, {name: round(value, 4) for name, value in other.items()}


def cascading(folder: Path, sizes: Sizes) -> dict[str, float]:
    """Versions derived from versions, ten from each: marked stale, walked and erased, each in one commit."""
    model, ids, now, scope = Prepared(), IdSource(), datetime.now(UTC), Scope(user_id="user")
    writer, count = Writer(3), sizes.descendants
    with store(folder, model) as memos:
        texts = writer.texts(count + 1)
        cubes = [
            MemCube(id=ids.new_id(now), scope=scope, payload=TextPayload(text), created_at=now, recorded_at=now)
            for text in texts
        ]
        for start in range(0, len(cubes), 5_000):
            model.prepare(texts[start : start + 5_000])
            vectors = model.embed(texts[start : start + 5_000])
            piece = range(start, min(start + 5_000, len(cubes)))
            memos.vault.commit(
                Commit(
                    activity=Activity(id=ids.new_id(now), kind="summarise", started_at=now),
                    writes=tuple(
                        Write(cube=cubes[place], vectors={model.fingerprint: vectors[place - start]}) for place in piece
                    ),
                    derivations=tuple(
                        Derivation(derived=cubes[place].ref, source=cubes[(place - 1) // FAN_OUT].ref)
                        for place in piece
                        if place
                    ),
                )
            )
        some = random.Random(4).choices(cubes[count // 2 :], k=sizes.lineages)
        up = [timed(lambda cube=cube: memos.provenance(cube.id, depth=3)) for cube in some]
        model.prepare(["changed"])
        found = {
            "lineage_3_hops_p50_ms": round(1_000 * float(np.percentile(up, 50)), 2),
            "lineage_3_hops_p95_ms": round(1_000 * float(np.percentile(up, 95)), 2),
            "mark_stale_seconds": round(timed(lambda: memos.update(cubes[0].id, "changed")), 2),
        }
        last = memos.vault.versions([VersionRef(cubes[-1].id, 1)], scope)
        if not all(cube.is_stale for cube in last.values()):
            raise SystemExit("a descendant was not marked")
        found["erase_seconds"] = round(timed(lambda: memos.erase(cubes[0].id, scrub=False)), 2)
        found["scrub_seconds"] = round(timed(memos.scrub), 2)
    return found | {"descendants": count}


def timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--quick", action="store_true", help="small numbers in about 15 seconds, no plot unless asked for"
    )
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="where the stores are made")
    parser.add_argument("--plot", type=Path, help="PNG to draw (default docs/vault_speed.png, none with --quick)")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    options = parser.parse_args()
    sizes, folder = (QUICK if options.quick else Sizes()), options.folder
    console = Console(highlight=False, soft_wrap=True, stderr=options.json)
    result: dict[str, object] = {"context": context(folder)}
    console.print(f"[dim]{result['context']}[/dim]")

    model = Prepared()
    model.prepare(Writer(0).texts(5_000))
    result["embedding_us_per_text"] = round(1e6 * model.seconds / model.texts, 1)
    adds, count, repeats = sizes.adds, sizes.batched, sizes.repeats
    threads = {
        f"{durability} {number}": one_by_one(folder, number, adds, repeats, durability)
        for number in (1, 2, 4, 8)
        for durability in ("full", "relaxed")
    }
    batches = {
        f"{what} {size}": measure(folder, size, min(count, size * 100), repeats)
        for size in (1, 10, 100, 1_000)
        for what, measure in (("store", in_batches), ("floor", floor))
    }
    batches |= {f"relaxed {size}": in_batches(folder, size, count, repeats, "relaxed") for size in (100, 1_000)}
    result |= {"one_by_one": threads, "batches": batches}
    console.print(adds_table(threads, batches))
    console.print(f"Embedding, not part of the above: {result['embedding_us_per_text']} us a text (HashEmbedder)")
    found = [searching(folder, memories, sizes) for memories in sizes.stores]
    searches, others = [search for search, _ in found], {search["memories"]: other for search, other in found}
    result |= {"search": searches, "other": others}
    console.print(search_table(searches))
    result["cascade"] = cascade = cascading(folder, sizes)
    console.print(other_table(others, cascade))
    plot = options.plot or (None if options.quick else CHECKOUT / "docs" / "vault_speed.png")
    if plot is not None:
        draw(plot, str(result["context"]), threads, batches, searches)
        console.print(f"drawn to {plot}")
    if options.json:
        sys.stdout.write(json.dumps(result, indent=2) + "\n")
    return 0


def context(folder: Path) -> str:
    """Where and with what: no figure means anything without it."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    started = time.perf_counter()
    with tempfile.TemporaryFile(dir=folder) as file:
        for _ in range(50):
            file.write(bytes(4_096))
            file.flush()
            os.fsync(file.fileno())
    fsync = (time.perf_counter() - started) * 20
    return (
        f"{names[0] if names else platform.processor() or 'unknown processor'}, {os.cpu_count()} cores, "
        f"{file_system(folder) or 'unknown file system'} with {fsync:.2f} ms an fsync, load average "
        f"{os.getloadavg()[0]:.1f} at the start; Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, "
        f"numpy {np.__version__}, {platform.system()}; {datetime.now(UTC):%Y-%m-%d}; "
        f"python cookbook/benchmarks/vault_speed.py {' '.join(sys.argv[1:])}".rstrip()
    )


def adds_table(threads: dict[str, dict[str, float]], batches: dict[str, dict[str, float]]) -> Table:
    table = Table("durable adds", title="Adds", title_justify="left")
    for name in ("items/s", "items / CPU s", "CPU ms / item", "adds / fsync", "goal items/s"):
        table.add_column(name, justify="right")
    for name, row in (threads | batches).items():
        kind, number = name.split()
        label = f"{number} thread{'s' * (number != '1')}, {kind}" if name in threads else f"batches of {number}, {kind}"
        goal = GOALS["8 threads"] if name == "full 8" else GOALS["batch 100"] if name == "store 100" else None
        table.add_row(
            label, f"{row['per_second']:,}", f"{row['per_cpu_second']:,}", f"{row['cpu_ms']:.3f}",
            f"{row['commits_per_fsync']}" if kind == "full" else "", f"{goal:,}" if goal else "",
        )  # fmt: skip
    return table


def search_table(searches: Sequence[dict[str, float]]) -> Table:
    table = Table("memories", "users", title="Search, k=10, without the embedder, ms", title_justify="left")
    for name in ("warm p50", "p95", "first of a user p50", "p95", "everything p50", "p95", "its first"):
        table.add_column(name, justify="right")
    for row in searches:
        names = [f"{kind}_p{percent}_ms" for kind in ("warm", "cold", "whole") for percent in (50, 95)]
        table.add_row(
            f"{row['memories']:,}", f"{row['users']:,}", *(f"{row[name]}" for name in names), f"{row['whole_first_ms']}"
        )
    return table


def other_table(others: dict[float, dict[str, float]], cascade: dict[str, float]) -> Table:
    table = Table("also", title="Whole store", title_justify="left")
    table.add_column("", justify="right")
    for memories, row in others.items():
        for name, value in row.items():
            table.add_row(f"{name.replace('_', ' ')}, {memories:,} memories", f"{value:,.3f}")
    for name, value in cascade.items():
        if name != "descendants":
            table.add_row(f"{name.replace('_', ' ')}, {cascade['descendants']:,} descendants", f"{value:,}")
    return table


def draw(
    path: Path,
    caption: str,
    threads: dict[str, dict[str, float]],
    batches: dict[str, dict[str, float]],
    searches: Sequence[dict[str, float]],
) -> None:
    """Three cost curves in one picture."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    blue, orange, grey = "#1f5fa8", "#d9722b", "#8a8a8a"
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(13.5, 4.6), layout="constrained")
    numbers = [1, 2, 4, 8]
    for kind, colour in (("full", blue), ("relaxed", orange)):
        left.plot(numbers, [threads[f"{kind} {n}"]["per_second"] for n in numbers], "o-", color=colour, label=kind)
    for n in numbers:
        shared = threads[f"full {n}"]["commits_per_fsync"]
        place = (n, threads[f"full {n}"]["per_second"])
        left.annotate(f"{shared} / fsync", place, (0, -14), textcoords="offset points", ha="center", color=blue, size=8)
    left.axhline(GOALS["8 threads"], color=grey, ls=":", lw=1)
    left.set(xscale="log", xticks=numbers, xticklabels=map(str, numbers), title="One add at a time", xlabel="threads")
    sizes = [1, 10, 100, 1_000]
    for kind, colour, label in (("store", blue, "MemOS.add"), ("floor", grey, "sqlite3 alone, same bytes")):
        middle.plot(sizes, [batches[f"{kind} {n}"]["per_second"] for n in sizes], "o-", color=colour, label=label)
    middle.axhline(GOALS["batch 100"], color=grey, ls=":", lw=1)
    middle.set(xscale="log", yscale="log", title="Batches, one thread, full", xlabel="memories in one add")
    stored = [row["memories"] for row in searches]
    for kind, colour, label in (
        ("warm", blue, "one user, warm"), ("cold", orange, "one user, first time"), ("whole", grey, "everything"),
    ):  # fmt: skip
        right.plot(stored, [row[f"{kind}_p50_ms"] for row in searches], "o-", color=colour, label=f"{label}, p50")
        right.plot(stored, [row[f"{kind}_p95_ms"] for row in searches], "o--", color=colour, label="p95", mfc="white")
    right.axhline(GOALS["search p95 ms"], color=grey, ls=":", lw=1)
    right.set(xscale="log", yscale="log", title="Search, k=10, 100 memories a user", xlabel="memories in the store")
    for axes, what in ((left, "adds per second"), (middle, "memories per second"), (right, "milliseconds")):
        axes.set_ylabel(what)
        axes.minorticks_off()
        axes.grid(visible=True, color="#e6e6e6", lw=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=8)
    left.set_ylim(bottom=0)
    figure.suptitle("Dotted: goals. " + "; ".join(caption.split("; ")[:2]), size=8, color="#555555")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    raise SystemExit(main())
