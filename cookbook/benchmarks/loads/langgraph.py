"""The work that `connectors.py` times for LangGraph's stores: put, get, search, filter, list."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

from langgraph.store.base import BaseStore, IndexConfig, PutOp
from langgraph.store.memory import InMemoryStore

from memos_agents import MemOS
from memos_agents.connectors.langgraph import MemOSStore
from memos_agents.testing import HashEmbedder

NAMESPACES = 20
MAX_SECONDS = 2.0
EMBEDDER = HashEmbedder(384)


@dataclass(frozen=True, slots=True)
class Timed:
    """Median milliseconds of one call, of wall clock and of CPU, by operation."""

    store: str
    items: int
    wall: dict[str, float]
    cpu: dict[str, float]


def embed(texts: list[str]) -> list[list[float]]:
    """The same cheap model for every store."""
    return EMBEDDER.embed(list(texts)).tolist()  # type: ignore[no-any-return]


INDEX: IndexConfig = {"dims": 384, "embed": embed, "fields": ["text"]}


@contextmanager
def stores(folder: Path) -> Iterator[dict[str, BaseStore]]:
    """The stores to compare, empty; SqliteStore where it is installed, without an index (it needs an extension)."""
    with (
        TemporaryDirectory(dir=folder) as place,
        MemOS.open(":memory:", embedder=EMBEDDER) as memory,
        MemOS.open(Path(place) / "full.db", embedder=EMBEDDER) as full,
        MemOS.open(Path(place) / "relaxed.db", embedder=EMBEDDER, durability="relaxed") as relaxed,
    ):
        found: dict[str, BaseStore] = {"InMemoryStore": InMemoryStore(index=INDEX)}
        if find_spec("mem0"):
            from loads.mem0 import Mem0

            found["mem0, infer=False"] = Mem0(Path(place) / "mem0", embed)
        if find_spec("langgraph.store.sqlite"):
            from langgraph.store.sqlite import SqliteStore  # type: ignore[import-not-found,unused-ignore]

            with SqliteStore.from_conn_string(str(Path(place) / "upstream.db")) as upstream:
                upstream.setup()
                yield found | {"SqliteStore, no index": upstream} | _ours(memory, full, relaxed)
                return
        yield found | _ours(memory, full, relaxed)


def _ours(memory: MemOS, full: MemOS, relaxed: MemOS) -> dict[str, BaseStore]:
    return {
        "MemOSStore, :memory:": MemOSStore(memory, user_id="mara", index=INDEX),
        "MemOSStore, file": MemOSStore(full, user_id="mara", index=INDEX),
        "MemOSStore, file, relaxed": MemOSStore(relaxed, user_id="mara", index=INDEX),
    }


def measure(name: str, store: BaseStore, items: int, calls: int) -> Timed:
    """Fill the store with `items` in batches of 250, then time single calls: `calls` at most, two seconds each.

    Searches are warm: one is made before the clock starts.
    """
    put_ops = [PutOp(("app", f"n{number % NAMESPACES}"), f"k{number}", _value(number)) for number in range(items)]
    wall, cpu = _Clock(), _Clock()
    begun = time.perf_counter(), time.process_time()
    for start in range(0, items, 250):
        store.batch(put_ops[start : start + 250])
    fill = (time.perf_counter() - begun[0]) / items, (time.process_time() - begun[1]) / items
    operations: dict[str, Callable[[int], object]] = {
        "put": lambda number: store.put(("app", "n1"), f"new{number}", _value(number)),
        "update": lambda number: store.put(("app", "n2"), f"new{number}", _value(number + 1)),
        "get": lambda number: store.get(("app", f"n{number % NAMESPACES}"), f"k{number}"),
        "search, query": lambda number: store.search(("app",), query=f"topic {number % 97}", limit=10),
        "search, one namespace": lambda number: store.search(("app", f"n{number % NAMESPACES}"), limit=10),
        "search, filter": lambda number: store.search(("app",), filter={"n": number}, limit=10),
        "list_namespaces": lambda _: store.list_namespaces(),
    }
    for operation, call in operations.items():
        try:
            call(calls)
        except NotImplementedError:
            continue
        started = time.perf_counter()
        for number in range(calls):
            if time.perf_counter() - started > MAX_SECONDS:
                break
            before = time.perf_counter(), time.process_time()
            call(number)
            wall.add(operation, time.perf_counter() - before[0])
            cpu.add(operation, time.process_time() - before[1])
    return Timed(
        name,
        items,
        {"put in batches of 250": 1e3 * fill[0], **wall.medians()},
        {"put in batches of 250": 1e3 * fill[1], **cpu.medians()},
    )


class _Clock:
    """Milliseconds by operation."""

    def __init__(self) -> None:
        self._seconds: dict[str, list[float]] = {}

    def add(self, operation: str, seconds: float) -> None:
        self._seconds.setdefault(operation, []).append(seconds)

    def medians(self) -> dict[str, float]:
        return {operation: 1e3 * statistics.median(found) for operation, found in self._seconds.items()}


def _value(number: int) -> dict[str, object]:
    return {"text": f"Fact number {number} is about topic {number % 97}.", "n": number, "kind": "fact"}
