"""How fast the Neo4j store is, with SqliteVault beside it and langchain-neo4j where it has the part.

    python cookbook/benchmarks/neo4j_speed.py                 all of it, on a fresh server of the newest line (30 min)
    python cookbook/benchmarks/neo4j_speed.py --quick         small numbers (a minute or two, with the server's start)
    python cookbook/benchmarks/neo4j_speed.py --version 5     on the long-term line
    python cookbook/benchmarks/neo4j_speed.py --uri bolt://…  on a running server; its other content stays as it is

Starts a throw-away server (`memos neo4j up`), heap 2 GB and page cache 1 GB, loopback, no login; client and server
share the machine. Every cube is written with its version, activity, audit entry, text index and one derivation.
Figures are medians over single commits, after 120 commits of 1,000 to warm up: a server's just-in-time compiler makes
the first ones about half as fast (the row "cold"). Percentiles are over single calls from one thread. "First
touch" is the first search of a user in a process, "again" any later one. Lineage is three steps up in a graph that was
loaded through the same commits. Needs the extra "neo4j"; the comparison needs langchain-neo4j.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import secrets
import statistics
import sys
import tempfile
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from loads.neo4j import (
    DIMENSION,
    QUICK,
    SPACE,
    Embedder,
    Maker,
    Sizes,
    cascade,
    lineages,
    percentiles,
    searching,
    spread,
    timed,
    upserts,
    warmed,
)
from rich.console import Console
from rich.table import Table

from memos_agents import MemOS
from memos_agents.cube.memcube import VersionRef
from memos_agents.infrastructure.servers import Resources, down, up
from memos_agents.infrastructure.vault.neo4j import Neo4jVault
from memos_agents.infrastructure.vault.sqlite import SqliteVault

PARTS = ("upserts", "search", "lineage", "cascade", "peer")
GOALS = {
    "upsert, 1,000 in a commit": "3,500 /s", "upsert with vectors, 1,000 in a commit": "1,500 /s",
    "one commit": "p50 17 p95 26 ms", "search of a scope of 10,000": "p95 20 ms",
    "search of a scope of 100,000": "p95 20 ms", "search of one user's 200, first touch": "p95 20 ms",
    "search of one user's 200, again": "p95 20 ms", "lineage, 3 steps up": "p95 8 ms", "cascade": "10 s",
}  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small numbers")
    parser.add_argument("--version", default="2026", help="line of the server: 2026 (default) or 5")
    parser.add_argument("--uri", help="use this server instead of starting one")
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=PARTS, help="only these")
    parser.add_argument("--nodes", type=int, help="nodes in the lineage's graph (default 1,000,000)")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    options = parser.parse_args()
    sizes = QUICK if options.quick else Sizes()
    if options.nodes:
        sizes = Sizes(**{**{name: getattr(sizes, name) for name in sizes.__slots__}, "nodes": options.nodes})
    console = Console(highlight=False, soft_wrap=True, stderr=options.json, width=None if sys.stdout.isatty() else 130)
    result: dict[str, Any] = {"context": context()}
    console.print(f"[dim]{result['context']}[/dim]")
    with tempfile.TemporaryDirectory() as folder:
        if options.uri is None:
            result["boot"], uri = boot(options.version, Path(folder))
        else:
            uri = options.uri
        try:
            for name, vault in vaults(uri, Path(folder)).items():
                console.print(f"[dim]{name}[/dim]")
                result[name] = run(vault, sizes, options.parts, console)
                vault.close()
            if "peer" in options.parts:
                result["langchain-neo4j"] = peer(uri, sizes)
        finally:
            if options.uri is None:
                result["boot"]["memory_after_mb"] = memory_mb(result["boot"].pop("pid"))
                down(Path(folder) / "server", environ=os.environ)
    console.print(table(result))
    if options.json:
        sys.stdout.write(json.dumps(result, indent=2) + "\n")
    return 0


def boot(line: str, folder: Path) -> tuple[dict[str, Any], str]:
    """Start a fresh server; the jars are in the cache after the first time."""
    how = Resources(heap="2g", page_cache="1g")
    started = time.perf_counter()
    server = up(line, environ=os.environ, name="bench", folder=folder / "server", resources=how, how="maven")
    seconds = time.perf_counter() - started
    assert server.pid is not None
    return {
        "version": server.version, "seconds": round(seconds, 1), "memory_mb": memory_mb(server.pid), "pid": server.pid,
    }, server.uri  # fmt: skip


def memory_mb(pid: int) -> int:
    status = Path(f"/proc/{pid}/status")
    if not status.exists():
        return 0
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) // 1024


def vaults(uri: str, folder: Path) -> dict[str, Any]:
    return {
        "Neo4jVault": Neo4jVault(uri, store=f"bench-{secrets.token_hex(4)}"),
        "SqliteVault": SqliteVault(folder / "memos.db"),
    }


def run(vault: Any, sizes: Sizes, parts: tuple[str, ...], console: Console) -> dict[str, Any]:
    found: dict[str, Any] = {}
    vault.open_space(SPACE, DIMENSION)
    maker = Maker(2)
    found["upsert, 1,000 in a commit, cold"] = warmed(vault, Maker(4), sizes)
    if "upserts" in parts:
        plain, vectors = upserts(vault, sizes, with_vectors=False), upserts(vault, sizes, with_vectors=True)
        found["one commit"] = plain["1"]
        for size in plain:
            found[f"upsert, {int(size):,} in a commit"] = plain[size]
            found[f"upsert with vectors, {int(size):,} in a commit"] = vectors[size]
        console.print(f"[dim]  upserts {plain} {vectors}[/dim]")
    memos = MemOS(vault, embedder=Embedder())
    if "search" in parts:
        per_user = 200
        users = [f"user-{number}" for number in range(max(1, sizes.scoped // per_user))]
        spread(vault, maker, sizes.scoped, len(users))
        first = list(searching(memos, users[: sizes.searches], maker, min(sizes.searches, len(users))))
        again = list(searching(memos, users[: min(50, len(users))], maker, sizes.searches))
        found["search of one user's 200, first touch"] = percentiles(first)
        found["search of one user's 200, again"] = percentiles(again)
        for size in sizes.scopes:
            name = f"big-{size}"
            for start in range(0, size, 1_000):
                vault.commit(maker.commit(min(1_000, size - start), user=name, with_vectors=True, derived=False))
            if hasattr(vault, "index_vectors"):
                found[f"indexing {size:,} vectors"] = {"seconds": round(timed(vault.index_vectors), 1)}
            found[f"search of a scope of {size:,}, first touch"] = percentiles(list(searching(memos, [name], maker, 1)))
            found[f"search of a scope of {size:,}"] = percentiles(
                list(searching(memos, [name], maker, sizes.searches // 2 + 5))[5:]
            )
        console.print(f"[dim]  search {found}[/dim]")
    if "lineage" in parts:
        count, maker = sizes.nodes // 2, Maker(7)
        refs: list[VersionRef] = []
        seconds = 0.0
        for start in range(0, count, 1_000):
            commit = maker.commit(min(1_000, count - start), user="deep", with_vectors=False)
            seconds += timed(lambda commit=commit: vault.commit(commit))
            refs.extend(maker.last[:: max(1, 1_000 * sizes.lineages // count)][:1])
        found[f"loading {2 * count:,} nodes"] = {"per_second": round(count / seconds), "seconds": round(seconds, 1)}
        chosen = refs[-sizes.lineages :]
        lineages(vault, chosen[:20])
        found["lineage, 3 steps up"] = percentiles(lineages(vault, chosen))
        console.print(f"[dim]  lineage {found['lineage, 3 steps up']}[/dim]")
    if "cascade" in parts:
        found["cascade"] = cascade(vault, maker, sizes.descendants)
    return found


def peer(uri: str, sizes: Sizes) -> dict[str, Any]:
    """Neo4jVector as its documentation shows it: one label, its own index, `filter=` on metadata. No versions,
    provenance or audit. Its graph part needs APOC, which Community servers do not have, so it has no row.
    """
    from langchain_core.embeddings import Embeddings
    from langchain_neo4j import Neo4jVector

    maker = Maker(3)

    class Vectors(Embeddings):
        def embed_documents(self, texts: list[str]) -> list[list[float]]:
            return [maker.vector().tolist() for _ in texts]

        def embed_query(self, text: str) -> list[float]:
            return list(maker.vector().tolist())

    label = f"Bench{secrets.token_hex(4)}"
    texts = [maker.text() for _ in range(1_000)]
    store = Neo4jVector.from_texts(
        texts, Vectors(), metadatas=[{"user": f"user-{n % 5}"} for n in range(1_000)], url=uri, username="neo4j",
        password="none", database="neo4j", node_label=label, index_name=f"bench_{label.lower()}",
    )  # fmt: skip
    found: dict[str, Any] = {}
    for size, repeats in sizes.batches:
        seconds = []
        for number in range(min(repeats, 20) + 1):
            batch = [maker.text() for _ in range(size)]
            metadata = [{"user": f"user-{number % 5}"}] * size
            seconds.append(timed(lambda batch=batch, metadata=metadata: store.add_texts(batch, metadatas=metadata)))
        found[f"upsert with vectors, {size:,} in a commit"] = {
            "per_second": round(size / statistics.median(seconds[1:])), **percentiles(seconds[1:])
        }  # fmt: skip
    searches = [
        timed(lambda: store.similarity_search(maker.text(), k=10, filter={"user": "user-1"}))
        for _ in range(sizes.searches)
    ]
    found["search of one user's 200, again"] = percentiles(searches)
    store.query(f"DROP INDEX bench_{label.lower()}")
    store.query(f"MATCH (n:{label}) CALL (n) {{ DETACH DELETE n }} IN TRANSACTIONS OF 5000 ROWS")
    return found


def context() -> str:
    """Where and with what: no figure means anything without it."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return (
        f"{names[0] if names else platform.processor() or 'unknown processor'}, {os.cpu_count()} cores, load average "
        f"{os.getloadavg()[0]:.1f} at the start; Python {platform.python_version()}, neo4j driver {version('neo4j')}; "
        f"{datetime.now(UTC):%Y-%m-%d}; python cookbook/benchmarks/neo4j_speed.py {' '.join(sys.argv[1:])}".rstrip()
    )


def table(result: dict[str, Any]) -> Table:
    columns = [name for name in ("Neo4jVault", "SqliteVault", "langchain-neo4j") if name in result]
    shown = Table("", *columns, "goal (Neo4jVault)", title=title(result.get("boot")), title_justify="left")
    for name in dict.fromkeys(name for column in columns for name in result[column]):
        shown.add_row(name, *(cell(result[column].get(name)) for column in columns), GOALS.get(name, ""))
    return shown


def title(boot: dict[str, Any] | None) -> str:
    if boot is None:
        return "A running server"
    return (
        f"Neo4j Community {boot['version']}, heap 2 GB, page cache 1 GB: ready after {boot['seconds']} s, "
        f"{boot['memory_mb']} MB then and {boot.get('memory_after_mb', 0)} MB at the end"
    )


def cell(value: dict[str, float] | None) -> str:
    if value is None:
        return ""
    parts = []
    if "per_second" in value:
        parts.append(f"{value['per_second']:,.0f} /s")
    if "p50" in value:
        parts.append(f"p50 {value['p50']:g} p95 {value['p95']:g} ms")
    if "stale_seconds" in value:
        parts.append(f"{value['descendants']:,.0f} stale in {value['stale_seconds']:g} s")
    if "seconds" in value:
        parts.append(f"{value['seconds']:g} s")
    return ", ".join(parts)


if __name__ == "__main__":
    raise SystemExit(main())
