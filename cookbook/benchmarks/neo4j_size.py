"""How many bytes a memory takes on a Neo4j server's disk, by part.

    python cookbook/benchmarks/neo4j_size.py --count 100000        on a fresh throw-away server (some minutes)

Writes `count` memories of about 120 characters, 500 in a commit, each with its version, activity entry, text index and
owner; every tenth derives from an earlier one. Then the same again with vectors of `--dimension` numbers, then the
server's own search indexes over those. After each step the server is stopped, which flushes
everything, and the database's files are counted, less what
an empty store with the same schema takes. Transaction logs are left out: they are kept for a time, not for each memory.
Needs the extra "neo4j".
"""

from __future__ import annotations

import argparse
import json
import os
import random
import secrets
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from memos_agents.cube.identity import IdSource
from memos_agents.cube.memcube import MemCube, VersionRef
from memos_agents.cube.payload import TextPayload
from memos_agents.cube.scope import Scope
from memos_agents.infrastructure.provenance.values import APPLICATION, Activity, Derivation
from memos_agents.infrastructure.servers import Resources, down, up
from memos_agents.infrastructure.vault.commit import Commit, Write
from memos_agents.infrastructure.vault.neo4j import Neo4jVault
from memos_agents.infrastructure.vault.neo4j.upkeep import index_vectors

BATCH = 500
WORDS = (
    "Mara moved to Lisbon in May and works for a bakery near the river while her brother Noah still looks for a flat "
    "with a garden and a dog that likes rain trains music and long walks along the coast before sunrise"
).split()


class Maker:
    """Memories, the same for every run."""

    def __init__(self, tenant: str) -> None:
        self.chance = random.Random(7)
        self.ids = IdSource(self.chance.getrandbits)
        self.numbers = np.random.default_rng(7)
        self.now = datetime(2026, 1, 1, tzinfo=UTC)
        self.tenant = tenant
        self.known: dict[str, VersionRef] = {}

    def commit(self, count: int, dimension: int | None) -> Commit:
        self.now += timedelta(seconds=1)
        writes, edges = [], []
        for _ in range(count):
            text = " ".join(self.chance.choices(WORDS, k=22))
            user = f"user-{self.chance.randrange(1000)}"
            scope = Scope(tenant=self.tenant, user_id=user, session_id=f"{user} {self.chance.randrange(5)}")
            cube = MemCube(
                id=self.ids.new_id(self.now), scope=scope, payload=TextPayload(text), created_at=self.now,
                recorded_at=self.now,
            )  # fmt: skip
            vectors = {}
            if dimension is not None:
                vector = self.numbers.standard_normal(dimension).astype(np.float32)
                vectors["bench"] = vector / np.linalg.norm(vector)
            writes.append(Write(cube=cube, vectors=vectors))
            if user in self.known and self.chance.random() < 0.1:
                edges.append(Derivation(derived=cube.ref, source=self.known[user]))
        self.known.update((write.cube.scope.user_id or "", write.cube.ref) for write in writes)
        activity = Activity(id=self.ids.new_id(self.now), kind="add", started_at=self.now, agent=APPLICATION)
        return Commit(activity=activity, writes=tuple(writes), derivations=tuple(edges))


def load(vault: Neo4jVault, maker: Maker, count: int, dimension: int | None) -> float:
    began = time.monotonic()
    for start in range(0, count, BATCH):
        vault.commit(maker.commit(min(BATCH, count - start), dimension))
        sys.stderr.write(f"\r{start + BATCH:,} of {count:,} in {time.monotonic() - began:.0f} s   ")
    sys.stderr.write("\n")
    return count / (time.monotonic() - began)


def sizes(data: Path) -> Counter[str]:
    """Bytes by part, of a server that was stopped."""
    found: Counter[str] = Counter()
    for path in data.rglob("*"):
        if not path.is_file():
            continue
        parts = path.relative_to(data).parts
        if "index" in parts:
            found[f"index: {parts[parts.index('index') + 1].split('-')[0]}"] += path.stat().st_blocks * 512
        elif path.name.startswith("neostore.nodestore"):
            found["nodes"] += path.stat().st_blocks * 512
        elif path.name.startswith("neostore.relationship") and "type" not in path.name:
            found["relationships"] += path.stat().st_blocks * 512
        elif path.name.startswith("neostore.propertystore.db.strings"):
            found["properties: long strings"] += path.stat().st_blocks * 512
        elif path.name.startswith("neostore.propertystore.db.arrays"):
            found["properties: arrays"] += path.stat().st_blocks * 512
        elif path.name.startswith("neostore.propertystore"):
            found["properties: records"] += path.stat().st_blocks * 512
        else:
            found["other"] += path.stat().st_blocks * 512
    return found


def tell(name: str, steps: list[Counter[str]], rate: float, count: int) -> None:
    """Print what the last step added."""
    if len(steps) > 1:
        grown = steps[-1] - steps[-2]
        print(f"\n{name}: {sum(grown.values()) / count:,.0f} bytes a memory, {rate:,.0f} memories a second", flush=True)
        for part, size in grown.most_common():
            print(f"  {part:<26} {size / count:>8,.0f} bytes a memory  {size / 2**20:>8,.1f} MiB", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--dimension", type=int, default=384)
    parser.add_argument("--version", default="2026.09.0")
    arguments = parser.parse_args()
    count, dimension = arguments.count, arguments.dimension
    folder = Path(tempfile.mkdtemp(prefix="memos-neo4j-size-"))
    resources = Resources(heap="1g", page_cache="512m", quick=True)
    environ, store = dict(os.environ), secrets.token_hex(4)
    maker = Maker("default")
    steps: dict[str, Counter[str]] = {}
    rates: dict[str, float] = {}

    def step(name: str, work: Callable[[Neo4jVault], float]) -> None:
        server = up(arguments.version, environ=environ, name="size", folder=folder, resources=resources, seconds=600)
        vault = Neo4jVault(server.uri, store=store)
        try:
            rates[name] = work(vault)
        finally:
            vault.close()
            down(folder, environ=environ, seconds=120)
        steps[name] = sizes(next(path.parent for path in folder.rglob("neostore") if path.parent.name == "neo4j"))
        tell(name, list(steps.values()), rates[name], 2 * count if name.startswith("server's") else count)

    def begin(vault: Neo4jVault) -> float:
        vault.open_space("bench", dimension)
        vault.commit(maker.commit(1, dimension))
        index_vectors(vault.link, "bench")  # makes the indexes, so that empty files of theirs are not counted
        return 0.0

    def index(vault: Neo4jVault) -> float:
        began = time.monotonic()
        index_vectors(vault.link, "bench")
        return 2 * count / (time.monotonic() - began)

    try:
        step("empty", begin)
        step("without vectors", lambda vault: load(vault, maker, count, None))
        step(f"with {dimension}-number vectors", lambda vault: load(vault, maker, count, dimension))
        step("server's indexes over all", index)
    finally:
        down(folder, environ=environ, purge=True)
    print(json.dumps({name: dict(step) for name, step in steps.items()}))


if __name__ == "__main__":
    main()
