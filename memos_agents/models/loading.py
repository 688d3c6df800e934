"""Loading a model of transformers from a folder or the hub, on the device and in the dtype that are fastest here."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memos_agents.errors import InvalidRequest
from memos_agents.models import hub

if TYPE_CHECKING:
    import torch


def loaded(
    name: str | PathLike[str],
    *,
    revision: str | None,
    device: str | None,
    dtype: str | None,
    cache_dir: Path | None,
    progress: hub.Progress | None,
) -> tuple[Any, Any]:
    """The model and its tokenizer; see `LocalModel.load`."""
    try:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer
    except ImportError as error:
        raise ImportError("local models need the extra: pip install 'memos-agents[local]'") from error
    folder = hub.find_weights(name, revision=revision, cache_dir=cache_dir, progress=progress)
    place = device or ("cuda" if torch.cuda.is_available() else "cpu")
    kind = getattr(torch, dtype or best_dtype(place), None)
    if not isinstance(kind, torch.dtype) or not kind.is_floating_point:
        raise InvalidRequest(f"{dtype!r} is no dtype for weights; use float32, bfloat16 or float16")
    tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    with _silent():
        model: Any = AutoModelForCausalLM.from_pretrained(
            folder, dtype=kind, local_files_only=True, use_safetensors=True
        )
    return model.to(place), tokenizer


@contextmanager
def _silent() -> Iterator[None]:
    """Without the library's own progress bar, which would stand in the middle of a program's output."""
    from transformers.utils import logging as module

    logging: Any = module
    is_shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if is_shown:
            logging.enable_progress_bar()


def best_dtype(device: str) -> str:
    """bfloat16 on a GPU, and on a CPU where a product of the size of a layer's is faster in it."""
    if not device.startswith("cpu"):
        return "bfloat16"
    import torch

    def seconds(kind: torch.dtype) -> float:
        left, right = torch.ones(16, 1024, dtype=kind), torch.ones(1024, 1024, dtype=kind)
        _ = left @ right
        times = []
        for _ in range(5):
            started = time.perf_counter()
            _ = left @ right
            times.append(time.perf_counter() - started)
        return min(times)

    return "bfloat16" if seconds(torch.bfloat16) < 0.8 * seconds(torch.float32) else "float32"
