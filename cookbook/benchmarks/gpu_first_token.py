"""What a memory's keys and values save on a GPU until the first token, and how fast they would have to be loaded.

    python cookbook/benchmarks/gpu_first_token.py --shape qwen3-8b               on a GPU; or qwen3-32b, qwen2.5-72b
    python cookbook/benchmarks/gpu_first_token.py --shape qwen3-8b --unshared    each layer with weights of its own
    python cookbook/benchmarks/gpu_first_token.py --shape tiny                   on a CPU, seconds: it runs, no figure

The shapes are those of the published models, the weights random, and all layers share the weights of one: a layer has
0.4 to 1.8 GB, far more than a GPU keeps near its cores, so each layer is still read from memory and computed, and the
time is the whole model's while 72 billion parameters need 7 GB. "direct": the memory and the question in one pass.
"on the GPU", "from the host" (pinned), "from a file" (safetensors, from the page cache): where keys and values lie
before. "floor": the question without memory. "break-even": below this rate of loading, running the text is faster.
"same": all ways choose the same token, which rounding may change on a GPU. Wall clock, median of `--repeats` after one.
Needs the extra "local"; nothing is downloaded.
"""

from __future__ import annotations

import argparse
import copy
import inspect
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import torch
from rich.console import Console
from rich.table import Table
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, DynamicCache, PretrainedConfig, Qwen2Config, Qwen3Config

Layers: TypeAlias = "list[tuple[torch.Tensor, torch.Tensor]]"
HEAD_DIM = 128


class Shape(NamedTuple):
    """A model without its weights."""

    config: type[PretrainedConfig]
    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    vocabulary: int
    contexts: tuple[int, ...] = (583, 2_773, 6_064)
    questions: tuple[int, ...] = (167, 302, 952)


SHAPES = {
    "qwen3-8b": Shape(Qwen3Config, 4_096, 12_288, 36, 32, 8, 151_936),
    "qwen3-32b": Shape(Qwen3Config, 5_120, 25_600, 64, 64, 8, 151_936),
    "qwen2.5-72b": Shape(Qwen2Config, 8_192, 29_568, 80, 64, 8, 152_064),
    "tiny": Shape(Qwen3Config, 256, 512, 4, 8, 2, 1_000, contexts=(64, 256), questions=(3, 16)),
}


def build(shape: Shape, device: torch.device, dtype: torch.dtype, *, unshared: bool) -> Any:
    """A model of this shape whose layers are modules of their own around the same weights."""
    options: dict[str, Any] = {"head_dim": HEAD_DIM} if shape.config is Qwen3Config else {}
    config = shape.config(
        hidden_size=shape.hidden, intermediate_size=shape.intermediate, num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads, vocab_size=shape.vocabulary, max_position_embeddings=32_768,
        num_hidden_layers=shape.layers if unshared else 1, tie_word_embeddings=False, **options,
    )  # fmt: skip
    torch.manual_seed(0)
    with device:
        model = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa", dtype=dtype).eval()
    if unshared:
        return model
    first = model.model.layers[0]
    weights = {id(each): each for each in first.parameters()}
    for number in range(1, shape.layers):
        layer = copy.deepcopy(first, dict(weights))
        layer.self_attn.layer_idx = number
        model.model.layers.append(layer)
    model.config.num_hidden_layers = shape.layers
    if getattr(model.config, "layer_types", None):
        model.config.layer_types = ["full_attention"] * shape.layers
    return model


class Bench:
    """One model, and the clock that waits for its device."""

    def __init__(self, model: Any, device: torch.device, repeats: int) -> None:
        self.model, self.device, self.repeats = model, device, repeats
        self.is_cuda = device.type == "cuda"
        names = inspect.signature(model.forward).parameters
        self.takes_cache_as = "cache" if "cache" in names else "past_key_values"  # renamed in transformers 5

    @torch.inference_mode()
    def run(self, ids: torch.Tensor, layers: Layers | None = None) -> tuple[int, Any]:
        """The next token after `ids`, behind keys and values that are there already; and all keys and values."""
        cache = DynamicCache(layers, config=self.model.config) if layers else DynamicCache(config=self.model.config)
        logits = self.model(ids, logits_to_keep=1, **{self.takes_cache_as: cache}).logits
        return int(logits[0, -1].argmax()), cache

    def timed(self, work: Callable[[], Any]) -> tuple[float, Any]:
        """Seconds, and what came of it."""
        result, seconds = work(), []
        for _ in range(self.repeats):
            self.wait()
            started = time.perf_counter()
            result = work()
            self.wait()
            seconds.append(time.perf_counter() - started)
        return statistics.median(seconds), result

    def wait(self) -> None:
        if self.is_cuda:
            torch.cuda.synchronize()

    def layers_of(self, cache: Any) -> Layers:
        return [(layer.keys.contiguous(), layer.values.contiguous()) for layer in cache.layers]

    def to_host(self, layers: Layers) -> Layers:
        return [tuple(each.cpu().pin_memory() if self.is_cuda else each.clone() for each in pair) for pair in layers]  # type: ignore[misc]

    def from_host(self, layers: Layers) -> Layers:
        return [
            (keys.to(self.device, non_blocking=True), values.to(self.device, non_blocking=True))
            for keys, values in layers
        ]

    def from_file(self, path: Path) -> Layers:
        tensors = load_file(path, device=str(self.device))
        return [(tensors[f"keys.{number}"], tensors[f"values.{number}"]) for number in range(len(tensors) // 2)]

    def rows(self, context: int, questions: tuple[int, ...], path: Path) -> list[list[str]]:
        """One row of the table for each length of the question."""
        vocabulary = self.model.config.vocab_size
        memory = torch.randint(0, vocabulary, (1, context), device=self.device)
        on_gpu = self.layers_of(self.run(memory)[1])
        size = sum(keys.nbytes + values.nbytes for keys, values in on_gpu)
        host = self.to_host(on_gpu)
        save_file(
            {
                f"{name}.{number}": each
                for number, pair in enumerate(host)
                for name, each in zip(("keys", "values"), pair, strict=True)
            },
            path,
        )
        rates = [
            size / self.timed(load)[0] / 1e9 for load in (lambda: self.from_host(host), lambda: self.from_file(path))
        ]
        rows = []
        for length in questions:
            asked = torch.randint(0, vocabulary, (1, length), device=self.device)
            whole = torch.cat([memory, asked], dim=1)
            ways: list[Callable[[], int]] = [
                lambda whole=whole: self.run(whole)[0],
                lambda asked=asked: self.run(asked, on_gpu)[0],
                lambda asked=asked: self.run(asked, self.from_host(host))[0],
                lambda asked=asked: self.run(asked, self.from_file(path))[0],
            ]
            times, tokens = zip(*(self.timed(way) for way in ways), strict=True)
            floor = self.timed(lambda asked=asked: self.run(asked)[0])[0]
            needed = size / max(times[0] - times[1], 1e-6) / 1e9
            rows.append(
                [f"{context:,}", str(length), *(f"{1e3 * each:.1f}" for each in (*times, floor)),
                 *(f"{1 - each / times[0]:.1%}" for each in times[1:]), f"{needed:.1f}",
                 *(f"{rate:.1f}" for rate in rates), f"{size / 1e6:,.0f}", "yes" if len(set(tokens)) == 1 else "NO"]
            )  # fmt: skip
        return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="the tiny shape, once")
    parser.add_argument("--shape", choices=tuple(SHAPES), help="a GPU's default is qwen3-8b, a CPU's is tiny")
    parser.add_argument("--unshared", action="store_true", help="weights for every layer, which must fit the GPU")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="where the file is written")
    options = parser.parse_args()
    is_cuda = torch.cuda.is_available()
    name = "tiny" if options.quick else options.shape or ("qwen3-8b" if is_cuda else "tiny")
    console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 190)
    if not is_cuda and name != "tiny":
        console.print(
            f"There is no GPU here, and {name} on a CPU would take hours; --shape tiny shows that the script runs."
        )
        return 1
    device = torch.device("cuda" if is_cuda else "cpu")
    shape, dtype = SHAPES[name], torch.bfloat16 if is_cuda else torch.float32
    console.print(f"[dim]{context(device)}[/dim]")
    bench = Bench(
        build(shape, device, dtype, unshared=options.unshared), device, 1 if options.quick else options.repeats
    )
    a_token = 2 * shape.layers * shape.kv_heads * HEAD_DIM * dtype.itemsize
    table = Table(
        title=f"{name}, {dtype}, {a_token:,} bytes a token: milliseconds to the first token", title_justify="left"
    )
    for column in (
        "memory", "question", "direct", "on the GPU", "from the host", "from a file", "floor", "saved: GPU", "host",
        "file", "break-even GB/s", "host GB/s", "file GB/s", "MB", "same",
    ):  # fmt: skip
        table.add_column(column, justify="right")
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        for length in shape.contexts:
            for row in bench.rows(length, shape.questions, Path(folder) / f"{length}.safetensors"):
                table.add_row(*row)
    console.print(table)
    if not is_cuda:
        console.print("On a GPU: python cookbook/benchmarks/gpu_first_token.py --shape qwen3-8b")
    return 0


def context(device: torch.device) -> str:
    """Where and with what: no figure means anything without it."""
    hardware = torch.cuda.get_device_name() if device.type == "cuda" else platform.processor() or "a CPU"
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "safetensors"))
    return (
        f"{hardware}; Python {platform.python_version()}, {packages}; {datetime.now(UTC):%Y-%m-%d}; "
        f"python cookbook/benchmarks/gpu_first_token.py {' '.join(sys.argv[1:])}".rstrip()
    )


if __name__ == "__main__":
    raise SystemExit(main())
