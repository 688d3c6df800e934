"""How fast the SQLite store is: durable adds, scoped search, erasure, lineage; beside plain SQLite in the same run.

    python cookbook/benchmarks/vault_speed.py                  all of it, drawn to docs/vault_speed.png (10 minutes)
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
import sqlite3
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from loads.vault import QUICK, Prepared, Sizes, Writer, cascading, floor, in_batches, one_by_one, searching
from rich.console import Console
from rich.table import Table

from memos_agents.infrastructure.vault.sqlite.opening import file_system

CHECKOUT = Path(__file__).resolve().parents[2]
GOALS = {"8 threads": 1_500, "batch 100": 5_000, "search p95 ms": 10}


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
    console = Console(highlight=False, soft_wrap=True, stderr=options.json, width=None if sys.stdout.isatty() else 120)
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
        f"{what} {size}": measure(folder, size, min(count, size * 200), repeats)
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
    title = "Search, k=10, 100 memories a user, without the embedder: milliseconds, and of CPU"
    table = Table("memories", "users", "", title=title, title_justify="left")
    for name in ("p50", "p95", "CPU p50", "CPU p95", "goal p95"):
        table.add_column(name, justify="right")
    for row in searches:
        size = f"{row['memories']:,}", f"{row['users']:,}"
        for kind, label in (("warm", "one user"), ("cold", "one user, first time"), ("whole", "everything")):
            names = [f"{kind}_p{percent}_{unit}" for unit in ("ms", "cpu_ms") for percent in (50, 95)]
            goal = f"{GOALS['search p95 ms']}" if kind == "warm" and row["memories"] == 100_000 else ""
            table.add_row(*size, label, *(f"{row[name]:.2f}" for name in names), goal)
            size = "", ""
        table.add_row("", "", "everything, first time", f"{row['whole_first_ms']:,.0f}", "", "", "", "")
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
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(13.5, 4.8), layout="constrained")
    numbers, sizes, stored = [1, 2, 4, 8], [1, 10, 100, 1_000], [row["memories"] for row in searches]
    for kind, colour in (("full", blue), ("relaxed", orange)):
        rows = [threads[f"{kind} {n}"] for n in numbers]
        left.plot(numbers, [row["per_second"] for row in rows], "o-", color=colour, label=kind)
        left.plot(
            numbers, [row["per_cpu_second"] for row in rows], "s:", color=colour, label=f"{kind}, a CPU second", ms=4
        )
    for n in numbers:
        row = threads[f"full {n}"]
        text, place = f"{row['commits_per_fsync']} an fsync", (n, row["per_second"])
        left.annotate(text, place, (0, -14), textcoords="offset points", ha="center", color=blue, size=8)
    left.set(title="Adds one at a time", xlabel="threads", ylabel="adds a second")
    left.set(xlim=(0.75, 10.5), ylim=(0, 1.1 * max(GOALS["8 threads"], left.get_ylim()[1])))
    for kind, colour, label in (("store", blue, "MemOS.add"), ("floor", grey, "sqlite3 alone, same bytes")):
        rows = [batches[f"{kind} {n}"] for n in sizes]
        middle.plot(sizes, [row["per_second"] for row in rows], "o-", color=colour, label=label)
        middle.plot(
            sizes, [row["per_cpu_second"] for row in rows], "s:", color=colour, label=f"{label}, a CPU second", ms=4
        )
    middle.set(title="Adds in batches, one thread, full", xlabel="memories in one add", ylabel="memories a second")
    for kind, colour, label in (
        ("warm", blue, "one user"), ("cold", orange, "one user, first time"), ("whole", grey, "everything"),
    ):  # fmt: skip
        for name, style in (("p50_ms", "o-"), ("p95_ms", "o--"), ("p95_cpu_ms", "s:")):
            values = [row[f"{kind}_{name}"] for row in searches]
            shown = label if name == "p50_ms" else None
            right.plot(
                stored, values, style, color=colour, mfc="white" if name == "p95_ms" else colour, label=shown, ms=5
            )
    right.set(title="Search, k=10, 100 memories a user", xlabel="memories in the store", ylabel="milliseconds")
    for style, fill, label in (("o-", None, "p50"), ("o--", "white", "p95"), ("s:", None, "p95, of CPU")):
        right.plot([], [], style, color="#444444", mfc=fill or "#444444", ms=5, label=label)
    goals = (left, "8 threads"), (middle, "batch 100"), (right, "search p95 ms")
    for (axes, name), ticks in zip(goals, (numbers, sizes, stored), strict=True):
        axes.axhline(GOALS[name], color="#c0392b", ls="--", lw=0.8)
        axes.set_xscale("log")
        axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
        if axes is not left:
            axes.set_yscale("log")
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:,g}")
        axes.minorticks_off()
        axes.grid(visible=True, color="#e6e6e6", lw=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=8, ncols=2 if axes is right else 1)
    figure.suptitle("Red: goals. " + "; ".join(caption.split("; ")[:2]), size=8, color="#555555")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    raise SystemExit(main())
