"""How fast a store is copied into another one and proven, and how much memory that takes.

    python cookbook/benchmarks/copy_speed.py                   10,000 and 100,000 cubes, file to file (10 minutes)
    python cookbook/benchmarks/copy_speed.py --cubes 2000      a quick look
    python cookbook/benchmarks/copy_speed.py --target neo4j://localhost:7687 --cubes 10000

A cube has 40 words, a vector of 384 dimensions, 1.2 relations (a fifth of them with one hub) and 0.6 derivations. First
all of it is copied in parts of 1,000, then the same copy is made again, which finds every part there. "Sending" ends
where the comparison of both stores begins. CPU is user + system time of the process, memory its anonymous pages at the
peak (Linux; mapped pages of the files come and go and are not counted). Every figure is of one run.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import secrets
import sqlite3
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from memos_agents import MemOS, Scope
from memos_agents.infrastructure.exchange.copying import CopyReport
from memos_agents.infrastructure.provenance.values import Derivation, Relation, RelationKind
from memos_agents.infrastructure.vault.commit import Write
from memos_agents.infrastructure.vault.sqlite import SqliteVault
from memos_agents.testing.vault_scribe import Scribe

DIMENSION, AT_ONCE = 384, 200


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cubes", type=int, nargs="*", default=[10_000, 100_000], help="sizes of the stores")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="where the stores are made")
    parser.add_argument("--target", help="a server's URL to copy to; login from NEO4J_USERNAME and NEO4J_PASSWORD")
    options = parser.parse_args()
    print(
        f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, {platform.machine()}, "
        f"{os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}",
        file=sys.stderr,
    )
    for count in options.cubes:
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            source = Path(folder) / "source.db"
            make(source, count)
            target, tenant = (options.target or str(Path(folder) / "target.db")), f"copy-{secrets.token_hex(4)}"
            for again in (False, True):
                measured = measure(source, target, tenant, count)
                print(json.dumps({"cubes": count, "again": again, **measured}))
    return 0


def make(path: Path, count: int) -> None:
    """A store of `count` cubes."""
    chance, vectors = random.Random(1), np.random.default_rng(1)
    words = [f"word{number}" for number in range(5_000)]
    vault = SqliteVault(path, durability="relaxed")
    vault.open_space("m", DIMENSION)
    scribe = Scribe(vault)
    hub = scribe.add("hub", scope=Scope(user_id="u"))
    known = [hub.ref]
    for start in range(1, count, AT_ONCE):
        cubes = [
            scribe.cube(" ".join(chance.choices(words, k=40)), scope=Scope(user_id="u", session_id=f"s{start}"))
            for _ in range(min(AT_ONCE, count - start))
        ]
        rows = vectors.standard_normal((len(cubes), DIMENSION)).astype(np.float32)
        edges, relations = [], []
        for place, cube in enumerate(cubes):
            if place % 4 == 3:
                edges += [Derivation(derived=cube.ref, source=cubes[place - back].ref) for back in (1, 2)]
            if place % 10 == 0:
                edges.append(Derivation(derived=cube.ref, source=chance.choice(known)))
            if place:
                relations.append(Relation(source_id=cubes[place - 1].id, kind=RelationKind.NEXT, target_id=cube.id))
            if place % 5 == 0:
                relations.append(Relation(source_id=hub.id, kind=RelationKind.MENTIONS, target_id=cube.id))
        writes = [Write(cube=cube, vectors={"m": row}) for cube, row in zip(cubes, rows, strict=True)]
        scribe.commit(writes=writes, derivations=edges, relations=relations)
        known += [cube.ref for cube in cubes]
    vault.close()


@dataclass(slots=True)
class Memory:
    """Looks at this process's anonymous pages 20 times a second."""

    peak_mb: float = 0.0
    ended: threading.Event = field(default_factory=threading.Event)

    def watch(self) -> None:
        status = Path("/proc/self/status")
        while status.exists() and not self.ended.wait(0.05):
            kilobytes = next(line.split()[1] for line in status.read_text().splitlines() if line.startswith("RssAnon"))
            self.peak_mb = max(self.peak_mb, int(kilobytes) / 1024)


def measure(source: Path, target: str, tenant: str, count: int) -> dict[str, float]:
    """Copy once."""
    memory, sent = Memory(), [0.0, 0.0]
    watcher = threading.Thread(target=memory.watch)
    with (
        MemOS.open(source, embedder="none", readonly=True) as origin,
        MemOS.open(target, tenant=tenant, embedder="none") as copies,
    ):
        watcher.start()
        began = (time.monotonic(), time.process_time())

        def advance(done: int, total: int) -> None:
            if done <= count:
                sent[:] = time.monotonic() - began[0], time.process_time() - began[1]

        report = origin.copy_to(copies, progress=advance)
        whole = (time.monotonic() - began[0], time.process_time() - began[1])
        memory.ended.set()
        watcher.join()
    check(report, count)
    return {
        "sending_seconds": round(sent[0], 1),
        "sending_cpu_seconds": round(sent[1], 1),
        "cubes_per_second": round(count / sent[0]),
        "cubes_per_cpu_second": round(count / sent[1]),
        "whole_seconds": round(whole[0], 1),
        "whole_cpu_seconds": round(whole[1], 1),
        "peak_memory_mb": round(memory.peak_mb),
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def check(report: CopyReport, count: int) -> None:
    if not report.ok or report.counts["cube"] != count:
        raise SystemExit(f"the copy is not right: {report.differences}")


if __name__ == "__main__":
    sys.exit(main())
