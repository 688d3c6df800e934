"""What a call through a framework's own interface costs, beside the framework's own in-memory part.

    python cookbook/benchmarks/connectors.py --quick                          small numbers (about a minute)
    python cookbook/benchmarks/connectors.py                                  1,000 and 10,000 items
    python cookbook/benchmarks/connectors.py --data locomo10.json             also how often the answer is found

Stores of LangGraph are filled in batches and then asked one call at a time; every store uses the same cheap model
(`HashEmbedder`, 384 dimensions) as its index, so that what is compared is the store. Retrievers of LangChain get the
conversations of LoCoMo and its questions; all use the built-in model, whose vectors are made before the clock starts
(the time to embed is in "add"). A put of ours is durable (one fsync) and writes text index, vectors, provenance and
log; upstream's in-memory store keeps an object in a dictionary. CPU is user + system time of the process. What is
installed of mem0ai, langgraph-checkpoint-sqlite and langchain-chroma is compared too.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from loads import langchain, langgraph
from rich.console import Console
from rich.table import Table


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small numbers")
    parser.add_argument("--data", type=Path, help="a file of LoCoMo as it is published")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="where the stores are made")
    options = parser.parse_args()
    console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 160)
    console.print(f"[dim]{context()}[/dim]")
    for items in (300,) if options.quick else (1_000, 10_000):
        with langgraph.stores(options.folder) as stores:
            timed = [
                langgraph.measure(name, store, items, 10 if options.quick else 50) for name, store in stores.items()
            ]
        console.print(store_table(timed))
    if options.data is None:
        console.print("Retrievers are compared on data that is not ours to ship: give --data a file of LoCoMo.")
    else:
        few = {"conversations": 1, "questions": 40} if options.quick else {"conversations": None, "questions": None}
        console.print(retriever_table(langchain.measure(options.data, options.folder, **few)))
    return 0


def context() -> str:
    """Where and with what: no figure means anything without it."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    packages = ", ".join(f"{name} {version(name)}" for name in ("memos-agents", "langgraph", "langchain-core", "numpy"))
    return (
        f"{names[0] if names else platform.processor() or 'unknown processor'}, {os.cpu_count()} cores, load average "
        f"{os.getloadavg()[0]:.1f} at the start; Python {platform.python_version()}, {packages}; "
        f"{datetime.now(UTC):%Y-%m-%d}; python cookbook/benchmarks/connectors.py {' '.join(sys.argv[1:])}"
    )


def store_table(timed: Sequence[langgraph.Timed]) -> Table:
    table = Table(title=f"LangGraph stores, {timed[0].items:,} items: milliseconds (of CPU)", title_justify="left")
    table.add_column("")
    for row in timed:
        table.add_column(row.store, justify="right")
    for operation in timed[0].wall:
        cells = (
            f"{row.wall[operation]:.3f} ({row.cpu[operation]:.3f})" if operation in row.wall else "" for row in timed
        )
        table.add_row(operation, *cells)
    return table


def retriever_table(results: Mapping[str, langchain.Found]) -> Table:
    questions = next(iter(results.values())).questions
    table = Table(title=f"LangChain retrievers, {questions:,} questions of LoCoMo", title_justify="left")
    for name in ("", "a gold turn in 5", "all gold turns in 10", "CPU ms a question", "CPU s to add"):
        table.add_column(name, justify="right" if name else "left")
    for name, found in results.items():
        shares = [f"{100 * count / found.questions:.1f} %" for count in (found.any_5, found.all_10)]
        table.add_row(name, *shares, f"{found.cpu_ms / found.questions:.1f}", f"{found.add_ms / 1e3:.1f}")
    return table


if __name__ == "__main__":
    raise SystemExit(main())
