"""The work that `vault_speed.py` times: adds, batches, a floor without us, searches, cascades."""

from __future__ import annotations

import random
import sqlite3
import statistics
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

from memos_agents import MemCube, MemOS, Scope
from memos_agents.cube.identity import IdSource
from memos_agents.cube.memcube import VersionRef
from memos_agents.cube.metadata import Descriptive, Governance
from memos_agents.cube.payload import TextPayload
from memos_agents.infrastructure.provenance.values import Activity, Derivation
from memos_agents.infrastructure.vault.commit import Commit, Write
from memos_agents.infrastructure.vault.sqlite import SqliteVault
from memos_agents.infrastructure.vault.text import index_terms
from memos_agents.testing import HashEmbedder

WORDS_A_TEXT, PER_USER, FAN_OUT = 14, 100, 10


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much of everything."""

    adds: int = 2_000
    batched: int = 6_000
    repeats: int = 3
    stores: tuple[int, ...] = (1_000, 10_000, 100_000)
    cold: int = 200
    warm: int = 1_000
    whole: int = 20
    descendants: int = 100_000
    lineages: int = 200


QUICK = Sizes(160, 1_000, 1, (500, 2_000), 20, 100, 10, 1_000, 30)


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
                "CREATE TABLE body(id INTEGER PRIMARY KEY, body TEXT);"
                "CREATE TABLE vector(id INTEGER PRIMARY KEY, data BLOB);"
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
            first = list(dict(questions).items())[: sizes.cold]  # one question for each user
            memos.search(first[0][1], user_id="nobody")  # loads code, not memories
            cold = [clocked_search(memos, query, Scope(user_id=user)) for user, query in first]
            seen = {user for user, _ in first}
            known = [(user, query) for user, query in questions if user in seen]
            warm = [
                clocked_search(memos, query, Scope(user_id=user)) for user, query in chance.choices(known, k=sizes.warm)
            ]
            wholes = [clocked_search(memos, query, Scope.everything()) for _, query in questions[: sizes.whole + 1]]
            other["verify_seconds"] = timed(memos.verify)
            other["megabytes"] = path.stat().st_size / 1e6
            other["erase_user_seconds"] = timed(lambda: memos.erase(user_id="user 0", scrub=False))
            other["scrub_seconds"] = timed(memos.scrub)
    found = {"memories": memories, "users": users}
    for name, clocks in (("warm", warm), ("cold", cold), ("whole", wholes[1:])):
        for percent in (50, 95):
            found[f"{name}_p{percent}_ms"] = round(
                1_000 * float(np.percentile([clock.wall for clock in clocks], percent)), 2
            )
            found[f"{name}_p{percent}_cpu_ms"] = round(
                1_000 * float(np.percentile([clock.cpu for clock in clocks], percent)), 2
            )
    found["whole_first_ms"] = round(1_000 * wholes[0].wall)
    return found, {name: round(value, 4) for name, value in other.items()}


def clocked_search(memos: MemOS, query: str, scope: Scope) -> Clock:
    with clocked() as clock:
        memos.search(query, scope=scope, limit=10)
    return clock


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
