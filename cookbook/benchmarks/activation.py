"""What activation memory changes (nothing but the time), what it saves, and what fewer bytes cost.

    make bench-activation                                              all of it (most of an hour on two cores)
    python cookbook/benchmarks/activation.py --quick                   a few points (three minutes)
    python cookbook/benchmarks/activation.py --parts equality          one of: equality, first-token, precision,
                                                                       composition, reference

SmolLM2-135M-Instruct in float32, one thread (equality: two, too), process CPU time (on a quiet machine that is the wall
clock), best of `--repeats`. Memories are cut from the conversation that ships with the cookbook. First token: so many
tokens that are cached and a question of 16, bare; and the same through the API, where the block around the memory and
the chat template come on top. "Disk": a model without anything in memory, file in the page cache; "its check" by
SHA-256 comes on top the first time that a process sees the file. "Bound": the question alone, and attention alone over
tensors of the cache's shape, measured in the same run. "Reference": the recipe of the paper's own implementation,
rebuilt on the same model. Needs the extra "local" and the weights (see docs/local_models.md).
"""

from __future__ import annotations

import argparse
import hashlib
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
from memos_agents.cube.memcube import VersionRef

PARTS = ("equality", "first-token", "precision", "composition", "reference")
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
        quick = options.quick
        if "equality" in options.parts:
            points = ((37, 3), (257, 16)) if quick else tuple((c, q) for c in CONTEXTS for q in QUERIES)
            console.print(bench.equality(points, tokens=8 if quick else 64))
            console.print(Bench(Path(folder) / "windows.db", windowed()).equality(points, tokens=8 if quick else 64))
        if "first-token" in options.parts:
            console.print(
                bench.first_token((256, 1_024) if quick else (256, 1_024, 4_096), 1 if quick else options.repeats)
            )
            console.print(
                bench.through_the_api((256,) if quick else (256, 1_024, 4_096), 1 if quick else options.repeats)
            )
        if "precision" in options.parts:
            console.print(bench.precision(*((1, 256, 32) if quick else (4, 640, 512))))
        if "composition" in options.parts:
            console.print(bench.composition(*((1, 3, 48) if quick else (4, 5, 128))))
        if "reference" in options.parts:
            console.print(bench.reference())
    return 0


class Bench:
    """A store, a model, and memories and questions of so many tokens."""

    def __init__(self, path: Path, model: Any) -> None:
        self.path = path
        with MemOS.open(path, embedder="none") as memos:
            self.local = memos.model(model, dtype="float32").local
        self._tensors: dict[int, Any] = {}
        lines = [json.loads(line)["content"] for line in TALK.read_text(encoding="utf-8").splitlines()]
        self.ids: list[int] = self.local.tokenizer(" ".join(lines), add_special_tokens=False)["input_ids"]

    def text(self, tokens: int, skip: int = 0) -> str:
        found: str = self.local.tokenizer.decode(self.ids[skip : skip + tokens])
        return found

    def equality(self, points: tuple[tuple[int, int], ...], tokens: int) -> Table:
        """Max |difference| of logits, and equal greedy tokens, between text and injection: from memory, from disk,
        after the store was opened again, and made with one thread and used with two; and how far from no memory, and
        from one pass of plain transformers.
        """
        import torch

        table = Table(
            "memory", "question", "RAM", "disk, reopened", "two threads", f"{tokens} tokens equal", "from no memory",
            "from one pass", "same first token",
            title=f"Equality of {self.local.name}: max |logit difference|", title_justify="left",
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
                replies = [model.generate(question, memories=[each], max_new_tokens=tokens) for each in (cube, cache)]
                assert [reply.memories[0].form for reply in replies] == ["plaintext", "activation"]
                said = [reply.token_ids for reply in replies]
                torch.set_num_threads(2)
                two = np.abs(model.logits(question, memories=[cube]) - model.logits(question, memories=[cache])).max()
                torch.set_num_threads(1)
            with MemOS.open(self.path, embedder="none") as memos:
                again = memos.model(self.local).logits(question, memories=[cache.id])
            table.add_row(
                str(size), str(asked),
                *(f"{each:.3g}" for each in (np.abs(plain - first).max(), np.abs(plain - again).max(), two)),
                "yes" if said[0] == said[1] else "NO", f"{np.abs(plain - nothing).max():.2f}",
                f"{np.abs(plain - whole).max():.1e}", "yes" if plain.argmax() == whole.argmax() else "NO",
            )  # fmt: skip
        return table

    def first_token(self, sizes: tuple[int, ...], repeats: int) -> Table:
        """CPU milliseconds until the logits of the first token are there: `sizes` tokens cached, 16 computed."""
        from memos_agents.memories import activation
        from memos_agents.models.prompts import Prompt
        from memos_agents.models.room import with_room

        table = Table(
            "cached", "question", "text", "RAM", "disk", "its check", "question alone", "attention alone",
            "saved, RAM", "saved, disk", "RAM to its bound", "MB",
            title="Time to the first token, CPU ms, bare", title_justify="left",
        )  # fmt: skip
        ref = VersionRef("bench", 1)
        for size in sizes:
            ids = tuple(self.ids[:size] + self.ids[3_000:3_016])
            prompt = Prompt("", ids, (size, size + 16))
            held = with_room(self.local.keys_and_values(prompt, size))
            manifest, data = activation.encode(held, self.local.fingerprint, name="bench", sources=[ref], begin=0)
            file = self.path.with_suffix(".safetensors")
            file.write_bytes(data)

            def from_file(file: Path = file, prompt: Prompt = prompt, manifest: Any = manifest) -> None:
                found = with_room(activation.decode(file, manifest, self.local.model.dtype))
                self.local.prefill(prompt, found)

            def check(file: Path = file) -> None:
                with file.open("rb") as read:
                    hashlib.file_digest(read, "sha256")

            text = best(partial(self.local.prefill, prompt), 1 if size > 2_000 else repeats)
            ram = best(partial(self.local.prefill, prompt, held), 3 * repeats)
            disk = best(from_file, 3 * repeats)
            checked = best(check, repeats)
            alone = best(partial(self.local.prefill, Prompt("", ids[size:], (16,))), 3 * repeats)
            attention = best(partial(self.attention, size), 3 * repeats)
            table.add_row(
                str(size), "16", *(f"{1e3 * each:.0f}" for each in (text, ram, disk, checked, alone, attention)),
                f"{1 - ram / text:.1%}", f"{1 - disk / text:.1%}", f"{ram / (alone + attention):.2f}",
                f"{len(data) / 1e6:.1f}",
            )  # fmt: skip
        return table

    def attention(self, size: int) -> None:
        """Only the product of 16 queries with keys and values of a cache, in every layer."""
        import torch
        from torch.nn.functional import scaled_dot_product_attention

        config = self.local.model.config
        if size not in self._tensors:
            shape = (config.num_key_value_heads, size + 16, config.head_dim)
            layers = [(torch.randn(1, *shape), torch.randn(1, *shape)) for _ in range(config.num_hidden_layers)]
            query = torch.randn(1, config.num_attention_heads, 16, config.head_dim)
            self._tensors = {size: (query, torch.ones(16, size + 16, dtype=torch.bool).tril(size)[None, None], layers)}
        query, mask, layers = self._tensors[size]
        with torch.no_grad():
            for keys, values in layers:
                scaled_dot_product_attention(query, keys, values, attn_mask=mask, enable_gqa=True)

    def through_the_api(self, sizes: tuple[int, ...], repeats: int) -> Table:
        """The same with everything around it: the store, the block, the template, the checks of the model."""
        table = Table(
            "memory", "question", "text", "RAM", "disk", "query alone", "saved, RAM", "saved, disk", "MB",
            title="Time to the first token, CPU ms, through the API", title_justify="left",
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
        from memos_agents.models.held import Held

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

    def composition(self, groups: int, together: int, size: int) -> Table:
        """Memories of `size` tokens, `together` in a prompt, two questions each, 16 tokens of answer."""
        with MemOS.open(self.path, embedder="none") as memos:
            model = memos.model(self.local)
            texts = [self.text(size, skip=number * size) for number in range(groups * together)]
            cubes = [memos.add(text, user_id="mara")[0] for text in texts]
            started = time.process_time()
            found = model.calibrate(cubes, together=together)
            seconds = time.process_time() - started
        table = Table(
            "way", "computed again", "mean KL", "top-1 equal", "answers kept",
            title=f"Composition: {found.prompts} prompts of {together} memories of {size} tokens; {seconds:.0f} s CPU "
            f"to calibrate; within KL {found.kl_at_most} and {found.same_at_least:.0%}: {found.chosen or 'none'}",
            title_justify="left",
        )  # fmt: skip
        for row in found.measured:
            table.add_row(
                row.strategy, f"{row.recomputed:.1%}", f"{row.kl:.3f}", f"{row.same_tokens:.1%}",
                f"{row.same_answers:.1%}",
            )  # fmt: skip
        return table

    def reference(self) -> Table:
        """The recipe of the paper's implementation (memos/memories/activation/kv.py): the memory's text alone is run,
        its layers are copied by assignment, and the chat template goes around the question only.
        """
        import torch
        from transformers import DynamicCache
        from transformers.cache_utils import DynamicLayer

        local = self.local
        facts = (
            ("Mara moved to Lisbon in May.", "Where did Mara move to?", "Lisbon"),
            ("The code of the garage is 4417.", "What is the code of the garage?", "4417"),
            ("Ines is allergic to walnuts.", "What is Ines allergic to?", "walnut"),
        )
        answers: dict[str, list[bool]] = {
            "text": [],
            "ours, injected": [],
            "the reference's recipe": [],
            "no memory": [],
        }
        is_nothing = []
        for text, question, expected in facts:
            with MemOS.open(":memory:", embedder="none") as memos:
                model = memos.model(local)
                cube = memos.add(text, user_id="mara")[0]
                cache = memos.migrate(cube, to="activation", model=model)
                for name, given in (("text", [cube]), ("ours, injected", [cache]), ("no memory", [])):
                    said = model.generate(question, memories=given, max_new_tokens=32).text
                    answers[name].append(expected.lower() in said.lower())
                alone = local.prompt(question)
            ids = local.tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
            made, copied = DynamicCache(), DynamicCache()
            with torch.no_grad():
                local.model(ids, use_cache=True, **{local.takes_cache_as: made})
                for layer in made.layers:
                    empty: Any = DynamicLayer()
                    empty.keys, empty.values = layer.keys.clone(), layer.values.clone()  # is_initialized stays False
                    copied.layers.append(empty)
                asked = torch.tensor([list(alone.ids)])
                out = local.model(asked, use_cache=True, **{local.takes_cache_as: copied})
                is_nothing.append(bool(torch.equal(out.logits[0, -1], local.model(asked).logits[0, -1])))
                said_ids: list[int] = []
                for _ in range(32):
                    said_ids.append(int(out.logits[0, -1].argmax()))
                    out = local.model(torch.tensor([said_ids[-1:]]), use_cache=True, **{local.takes_cache_as: copied})
            said = local.tokenizer.decode(said_ids).split(str(local.tokenizer.eos_token))[0]
            answers["the reference's recipe"].append(expected.lower() in said.lower())
        table = Table(
            "way", "right answers", title_justify="left",
            title=f"Answers; the recipe's logits are those of no memory in {sum(is_nothing)} of {len(is_nothing)}",
        )  # fmt: skip
        for name, right in answers.items():
            table.add_row(name, f"{sum(right)} of {len(right)}")
        return table


def windowed() -> Any:
    """A model with sliding windows in two of three layers (Gemma 3's shape, random weights) and SmolLM2's tokenizer."""
    import torch
    from transformers import AutoTokenizer, Gemma3ForCausalLM, Gemma3TextConfig

    from memos_agents.models import hub
    from memos_agents.models.huggingface import LocalModel

    folder = hub.find_weights("smollm2-135m-instruct")
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    torch.manual_seed(0)
    config = Gemma3TextConfig(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128, num_hidden_layers=6, num_attention_heads=4,
        num_key_value_heads=2, head_dim=32, sliding_window=64, max_position_embeddings=4096, initializer_range=0.3,
        layer_types=["sliding_attention", "sliding_attention", "full_attention"] * 2,
    )  # fmt: skip
    return LocalModel(Gemma3ForCausalLM(config), tokenizer, name="a model with sliding windows")


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
