"""The benchmark for GPUs runs on a CPU, on a shape that is small."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "cookbook" / "benchmarks" / "gpu_first_token.py"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", str(SCRIPT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def test_all_ways_choose_the_same_token() -> None:
    done = run("--shape", "tiny", "--repeats", "1")
    assert done.returncode == 0, done.stderr
    rows = [line for line in done.stdout.splitlines() if line.startswith("│")]
    assert len(rows) == 4 and all(row.rstrip("│ ").endswith("yes") for row in rows)


def test_a_large_shape_is_refused_without_a_gpu() -> None:
    import torch

    if not torch.cuda.is_available():
        done = run("--shape", "qwen2.5-72b")
        assert done.returncode == 1 and "no GPU" in done.stdout
