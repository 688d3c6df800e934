"""The work that `neo4j_speed.py` times, the same for every vault: upserts with provenance, search, lineage, cascade."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from memos_agents import MemCube, MemOS, Scope
from memos_agents.cube.identity import IdSource
from memos_agents.cube.memcube import VersionRef
from memos_agents.cube.metadata import Descriptive
from memos_agents.cube.payload import TextPayload
from memos_agents.infrastructure.provenance.values import Activity, Derivation
from memos_agents.infrastructure.vault.base import MemVault
from memos_agents.infrastructure.vault.commit import Commit, Write

DIMENSION, FAN_OUT = 384, 10
SPACE = "bench"
START = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much of everything."""

    batches: tuple[tuple[int, int], ...] = ((1, 200), (10, 60), (100, 30), (1_000, 12))
    warm_up: int = 120
    scoped: int = 100_000
    scopes: tuple[int, ...] = (10_000, 100_000)
    searches: int = 200
    nodes: int = 1_000_000
    lineages: int = 200
    descendants: int = 100_000


QUICK = Sizes(((1, 10), (10, 4), (100, 3)), 1, 1_000, (500,), 10, 2_000, 10, 500)


class Maker:
    """Cubes with texts of 14 words, each derived from one that was made before."""

    def __init__(self, seed: int = 0) -> None:
        self._random = random.Random(seed)
        parts = ["ba", "de", "ki", "lo", "mu", "na", "pe", "ri", "so", "tu", "va", "we", "zi", "cho", "sta"]
        words = [a + b + c for a in parts for b in parts for c in parts][:3_000]
        self._words, self._weights = words, [1 / (rank + 3) for rank in range(len(words))]
        self._ids = IdSource(self._random.getrandbits)
        self._pool = np.random.default_rng(seed).normal(size=(4_096, DIMENSION)).astype(np.float32)
        self._pool /= np.linalg.norm(self._pool, axis=1, keepdims=True)
        self.now = START
        self.last: list[VersionRef] = []

    def text(self) -> str:
        return " ".join(self._random.choices(self._words, self._weights, k=14))

    def vector(self) -> NDArray[np.float32]:
        row: NDArray[np.float32] = self._pool[self._random.randrange(len(self._pool))]
        return row

    def activity(self, kind: str = "bench") -> Activity:
        self.now += timedelta(seconds=1)
        return Activity(id=self._ids.new_id(self.now), kind=kind, started_at=self.now)

    def cube(self, user: str) -> MemCube:
        return MemCube(
            id=self._ids.new_id(self.now), scope=Scope(user_id=user), payload=TextPayload(self.text()),
            descriptive=Descriptive(name="Mara", role="user"), created_at=START, recorded_at=START,
        )  # fmt: skip

    def commit(self, count: int, *, user: str = "mara", with_vectors: bool, derived: bool = True) -> Commit:
        """`count` new cubes, each derived from one of the commit before."""
        activity = self.activity()
        cubes = [self.cube(user) for _ in range(count)]
        sources = self.last or [cubes[0].ref]
        edges = [
            Derivation(derived=cube.ref, source=sources[number % len(sources)])
            for number, cube in enumerate(cubes)
            if sources[number % len(sources)] != cube.ref
        ]
        self.last = [cube.ref for cube in cubes]
        vectors = [{SPACE: self.vector()} if with_vectors else {} for _ in cubes]
        writes = tuple(Write(cube=cube, vectors=each) for cube, each in zip(cubes, vectors, strict=True))
        return Commit(activity=activity, writes=writes, derivations=tuple(edges) if derived else ())


def timed(work: Callable[[], object]) -> float:
    """Seconds."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def percentiles(seconds: Sequence[float]) -> dict[str, float]:
    """Milliseconds: p50 and p95."""
    ordered = sorted(seconds)
    return {
        "p50": round(1e3 * statistics.median(ordered), 1),
        "p95": round(1e3 * ordered[min(len(ordered) - 1, int(len(ordered) * 0.95))], 1),
    }


def upserts(vault: MemVault, sizes: Sizes, *, with_vectors: bool) -> dict[str, dict[str, float]]:
    """Commits of 1, 10, 100, 1,000 cubes with version, activity and a derivation each, to a warm server."""
    found = {}
    maker = Maker(5 if with_vectors else 6)
    for size, repeats in sizes.batches:
        commits = (maker.commit(size, with_vectors=with_vectors) for _ in range(repeats + 2))
        seconds = [timed(lambda commit=commit: vault.commit(commit)) for commit in commits][2:]
        found[str(size)] = {"per_second": round(size / statistics.median(seconds)), **percentiles(seconds)}
    return found


def warmed(vault: MemVault, maker: Maker, sizes: Sizes) -> dict[str, float]:
    """Commits of 1,000 until the server's compiler has settled; the rate of the first ten, that of a cold server."""
    seconds = []
    for number in range(sizes.warm_up):
        commit = maker.commit(1_000, with_vectors=number % 2 == 1)
        seconds.append(timed(lambda commit=commit: vault.commit(commit)))  # type: ignore[misc]
    return {"per_second": round(1_000 / statistics.median(seconds[:10]))}


def spread(vault: MemVault, maker: Maker, count: int, users: int) -> None:
    """Load `count` cubes of `users` users in turn, with vectors."""
    for start in range(0, count, 1_000):
        activity = maker.activity()
        cubes = [maker.cube(f"user-{(start + number) % users}") for number in range(min(1_000, count - start))]
        writes = tuple(Write(cube=cube, vectors={SPACE: maker.vector()}) for cube in cubes)
        vault.commit(Commit(activity=activity, writes=writes))


class Embedder:
    """Questions get vectors of the space that the cubes' vectors are in; making them costs nothing."""

    fingerprint, dimension = SPACE, DIMENSION

    def __init__(self) -> None:
        self._maker = Maker(9)

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return np.array([self._maker.vector() for _ in texts])

    def embed_query(self, text: str) -> NDArray[np.float32]:
        return self._maker.vector()


def searching(memos: MemOS, users: Sequence[str], maker: Maker, count: int) -> Iterator[float]:
    """Seconds of `count` searches, by users in turn."""
    for number in range(count):
        question, user = maker.text(), users[number % len(users)]
        yield timed(lambda question=question, user=user: memos.search(question, user_id=user))


def lineages(vault: MemVault, refs: Sequence[VersionRef]) -> list[float]:
    """Seconds of 3-hop walks up from each."""
    everything = Scope.everything()
    return [timed(lambda ref=ref: vault.lineage(ref, "up", 3, everything)) for ref in refs]


def cascade(vault: MemVault, maker: Maker, count: int) -> dict[str, float]:
    """A tree of `count` versions below one source, then the source is revised: all of them are stale."""
    root = maker.cube("cascade")
    vault.commit(Commit(activity=maker.activity(), writes=(Write(cube=root),)))
    parents, made = [root.ref], 0
    while made < count:
        activity = maker.activity()
        cubes = [maker.cube("cascade") for _ in range(min(1_000, count - made, FAN_OUT * len(parents)))]
        edges = [Derivation(derived=cube.ref, source=parents[number // FAN_OUT]) for number, cube in enumerate(cubes)]
        vault.commit(
            Commit(activity=activity, writes=tuple(Write(cube=cube) for cube in cubes), derivations=tuple(edges))
        )
        made += len(cubes)
        parents = [*parents[-(-len(cubes) // FAN_OUT) :], *(cube.ref for cube in cubes)]
    following = replace(root, version=2, payload=TextPayload("changed"))
    revision = Commit(activity=maker.activity(), writes=(Write(cube=following, replaces=1),))
    stale: list[int] = []
    seconds = timed(lambda: stale.append(vault.commit(revision).stale))
    return {"descendants": stale[0], "stale_seconds": round(seconds, 2)}
