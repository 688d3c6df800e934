"""What activation memory changes (nothing but the time), what it saves, and what fewer bytes cost.

    python cookbook/benchmarks/activation.py --quick                   a few points (two minutes)
    python cookbook/benchmarks/activation.py                           all of them (half an hour on two cores)
    python cookbook/benchmarks/activation.py --parts equality          one of: equality, first-token, precision

SmolLM2-135M-Instruct in float32, one thread, process CPU time (on a quiet machine that is the wall clock), best of
`--repeats`. A memory has so many tokens, cut from the conversation that ships with the cookbook; the block around it
and the template come on top. "Disk": a model without anything in memory, file in the page cache, read and
checked by SHA-256. "Query alone": the rest of the prompt without the memory and its block. Needs the extra "local" and
the weights (see docs/local_models.md).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from memos_agents import MemCube, MemOS

PARTS = ("equality", "first-token", "precision")
CONTEXTS, QUERIES = (1, 17, 37, 200, 257, 333, 1_024), (1, 2, 3, 13, 16)
TALK = Path(__file__).parents[1] / "conversations" / "lisbon.jsonl"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a few points")
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=PARTS, help="only these")
    parser.add_argument("--model", default="smollm2-135m-instruct", help="short name, hub id or folder")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 140)
    console.print(f"[dim]{context()}[/dim]")
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder) / "memos.db", options.model)
        if "equality" in options.parts:
            points = ((37, 3), (257, 16)) if options.quick else tuple((c, q) for c in CONTEXTS for q in QUERIES)
            console.print(bench.equality(points, tokens=8 if options.quick else 64))
        if "first-token" in options.parts:
            sizes = (256, 1_024) if options.quick else (256, 1_024, 4_096)
            console.print(bench.first_token(sizes, 1 if options.quick else options.repeats))
        if "precision" in options.parts:
            console.print(bench.precision(*((1, 256, 32) if options.quick else (4, 640, 512))))
    return 0


class Bench:
    """A store, a model, and memories and questions of so many tokens."""

    def __init__(self, path: Path, name: str) -> None:
        self.path = path
        with MemOS.open(path, embedder="none") as memos:
            self.local = memos.model(name, dtype="float32").local
        lines = [json.loads(line)["content"] for line in TALK.read_text(encoding="utf-8").splitlines()]
        self.ids: list[int] = self.local.tokenizer(" ".join(lines), add_special_tokens=False)["input_ids"]

    def text(self, tokens: int, skip: int = 0) -> str:
        found: str = self.local.tokenizer.decode(self.ids[skip : skip + tokens])
        return found

    def equality(self, points: tuple[tuple[int, int], ...], tokens: int) -> Table:
        """Max |difference| of logits, and equal greedy tokens, between text and injection: from memory, from disk, and
        after the store was opened again; how far from no memory; and how far from one pass of plain transformers.
        """
        import torch

        table = Table(
            "memory", "question", "RAM", "disk, reopened", f"{tokens} tokens equal", "from no memory", "from one pass",
            title="Equality: max |logit difference|", title_justify="left",
        )  # fmt: skip
        for size, asked in points:
            question = self.text(asked, skip=3_000)
            with MemOS.open(self.path, embedder="none") as memos:
                model = memos.model(self.local)
                cube = memos.add(self.text(size), user_id="mara")[0]
                cache = memos.migrate(cube, to="activation", model=model)
                plain = model.logits(question, memories=[cube])
                first, nothing = model.logits(question, memories=[cache]), model.logits(question)
                ids = self.local.tokenizer(model.prompt(question, memories=[cube]), add_special_tokens=False)[
                    "input_ids"
                ]
                with torch.no_grad():
                    whole = self.local.model(torch.tensor([ids])).logits[0, -1].numpy()
                said = [
                    model.generate(question, memories=[each], max_new_tokens=tokens).token_ids for each in (cube, cache)
                ]
            with MemOS.open(self.path, embedder="none") as memos:
                again = memos.model(self.local).logits(question, memories=[cache.id])
            table.add_row(
                str(size), str(asked), *(f"{np.abs(plain - other).max():.3g}" for other in (first, again)),
                "yes" if said[0] == said[1] else "NO", f"{np.abs(plain - nothing).max():.2f}",
                f"{np.abs(plain - whole).max():.1e}",
            )  # fmt: skip
        return table

    def first_token(self, sizes: tuple[int, ...], repeats: int) -> Table:
        """CPU milliseconds until the logits of the first token are there."""
        table = Table(
            "memory", "question", "text", "RAM", "disk", "query alone", "saved, RAM", "saved, disk", "MB",
            title="Time to the first token, CPU ms", title_justify="left",
        )  # fmt: skip
        for size in sizes:
            question = self.text(16, skip=3_000)
            with MemOS.open(self.path, embedder="none") as memos:
                model = memos.model(self.local)
                cube = memos.add(self.text(size), user_id="mara")[0]
                cache = memos.migrate(cube, to="activation", model=model)
                model.logits(question, memories=[cache])
                text = best(partial(model.logits, question, memories=[cube]), 1 if size > 2_000 else repeats)
                ram = best(partial(model.logits, question, memories=[cache]), repeats)
                disk = best(partial(self.from_disk, memos, question, cache), repeats)
                alone = best(partial(model.logits, question), repeats)
                (ref,) = cache.payload.blobs.values()  # type: ignore[union-attr]
            table.add_row(
                str(size), "16", *(f"{1e3 * each:.0f}" for each in (text, ram, disk, alone)),
                f"{1 - ram / text:.1%}", f"{1 - disk / text:.1%}", f"{ref.size_bytes / 1e6:.1f}",
            )  # fmt: skip
        return table

    def from_disk(self, memos: MemOS, question: str, cache: MemCube) -> None:
        memos.model(self.local).logits(question, memories=[cache])

    def precision(self, documents: int, size: int, following: int) -> Table:
        """Over `following` tokens of each document, given the ones before: against the exact cache."""
        import torch

        from memos_agents.memories import kv_codec
        from memos_agents.models.huggingface import Held

        found: dict[str, list[tuple[float, float]]] = {}
        bytes_a_token: dict[str, float] = {}
        for number in range(documents):
            start = number * (size + following)
            ids = self.ids[start : start + size + following]
            with torch.no_grad():
                cache = self.local._cache(None, 0)
                self.local.forward(ids[:size], 0, cache)
                layers = [(layer.keys[0].clone(), layer.values[0].clone()) for layer in cache.layers]
                expected = None
                for precision in kv_codec.PRECISIONS:
                    packed = kv_codec.pack(layers, precision)  # type: ignore[arg-type]
                    size_bytes = sum(each.nelement() * each.element_size() for each in packed.values())
                    bytes_a_token[precision] = size_bytes / size
                    restored = kv_codec.unpack(packed, precision, size, torch.float32)
                    state = self.local._cache(Held(tuple(ids[:size]), (size,), restored), size)
                    out = self.local.model(
                        input_ids=torch.tensor([ids[size:]]), position_ids=torch.arange(size, len(ids))[None],
                        **{self.local.takes_cache_as: state},
                    )  # fmt: skip
                    shares = out.logits[0].float().log_softmax(-1)
                    expected = shares if expected is None else expected
                    divergence = (expected.exp() * (expected - shares)).sum(-1).mean()
                    same = (expected.argmax(-1) == shares.argmax(-1)).float().mean()
                    found.setdefault(precision, []).append((float(divergence), float(same)))
        table = Table(
            "precision", "bytes a token", "mean KL", "top-1 equal",
            title=f"Fewer bytes, over {documents * following:,} tokens", title_justify="left",
        )  # fmt: skip
        for precision, rows in found.items():
            divergence, same = np.mean(rows, axis=0)
            table.add_row(precision, f"{bytes_a_token[precision]:,.0f}", f"{divergence:.1e}", f"{same:.1%}")
        return table


def best(work: Callable[[], Any], repeats: int) -> float:
    """The least CPU seconds of several runs."""
    seconds = []
    for _ in range(repeats):
        started = time.process_time()
        work()
        seconds.append(time.process_time() - started)
    return min(seconds)


def context() -> str:
    """Where and with what: no figure means anything without it."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "safetensors"))
    return (
        f"{names[0] if names else platform.processor() or 'unknown processor'}, {os.cpu_count()} cores, load average "
        f"{os.getloadavg()[0]:.1f} at the start; Python {platform.python_version()}, {packages}; "
        f"{datetime.now(UTC):%Y-%m-%d}; python cookbook/benchmarks/activation.py {' '.join(sys.argv[1:])}".rstrip()
    )


if __name__ == "__main__":
    raise SystemExit(main())
