"""`memos bench retrieval`: how often search finds what holds the answer, through the public API.

Every conversation is added with `MemOS.add` and asked with `MemOS.search`; what differs between the rows of the table
is only `Weights`. *all@k*: every gold unit is among the first k; *frac@k*: the share of them (often called R@k);
*any@k*: at least one; MRR: mean of 1 / rank of the first.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from memos_agents.cube.canonical import JSON
from memos_agents.cube.memcube import MemCube
from memos_agents.models.embedding import default_embedder
from memos_agents.operation.weights import Weights
from memos_agents.testing.retrieval_data import Case, Question, read_cases

if TYPE_CHECKING:
    from memos_agents.models.base import Embedder

METRICS: Final = ("all@5", "all@10", "frac@10", "any@5", "any@10", "MRR")
_DEPTH: Final = 100
_OFF: Final = Weights(
    lexical_talk=0,
    lexical_log=0,
    context=0,
    coverage=0,
    meaning_talk=0,
    meaning_log=0,
    session=0,
    time=0,
    recency=0,
    speaker=0,
    user=0,
    guidance=0,
    reply=0,
    answer=0,
    strip_names=False,
)
METHODS: Final[Mapping[str, Weights]] = {
    "BM25 alone": replace(_OFF, lexical_talk=1, lexical_log=1),
    "vectors alone": replace(_OFF, meaning_talk=1, meaning_log=1),
    "their plain sum": replace(_OFF, lexical_talk=1, lexical_log=1, meaning_talk=1, meaning_log=1),
    "MemOS without vectors": replace(Weights(), meaning_talk=0, meaning_log=0),
    "MemOS": Weights(),
}


class Found(Protocol):
    """A hit."""

    @property
    def cube(self) -> MemCube: ...


class Searchable(Protocol):
    """What is measured: adds messages and finds them. `MemOS` is one."""

    def add(self, content: Sequence[Mapping[str, JSON]], *, user_id: str, session_id: str) -> object: ...

    def search(self, query: str, *, user_id: str, limit: int, weights: Weights) -> Sequence[Found]: ...


class OpensStore(Protocol):
    """Opens an empty one for each conversation, as `MemOS.open` does for ":memory:"."""

    def __call__(
        self, target: str, *, embedder: Embedder, clock: Callable[[], datetime]
    ) -> AbstractContextManager[Searchable]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Means over the questions of one data set with one method; `search_ms` is CPU time, question embedding apart."""

    dataset: str
    unit: str
    method: str
    questions: int
    search_ms: float
    figures: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All that was measured, and on what."""

    measured: Sequence[Measured]
    machine: str
    versions: str
    command: str
    seconds: float


def main(argv: Sequence[str] | None = None, *, open_store: OpensStore) -> int:
    """Run the benchmark as a command on `open_store` (`MemOS.open`); returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", action="append", required=True, metavar="FILE", help="LoCoMo, LongMemEval or BEAM")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.add_argument("--limit", type=int, default=None, metavar="N", help="only the first N conversations of a file")
    options = parser.parse_args(argv)
    arguments = shlex.join(sys.argv[1:] if argv is None else argv)
    report = measure(
        options.data, open_store=open_store, limit=options.limit, command=f"memos bench retrieval {arguments}"
    )
    if options.json:
        sys.stdout.write(json.dumps(asdict(report), indent=2) + "\n")
    else:
        render(report, Console())
    return 0


def measure(
    paths: Sequence[str | Path],
    *,
    open_store: OpensStore,
    embedder: Embedder | None = None,
    methods: Mapping[str, Weights] = METHODS,
    limit: int | None = None,
    command: str = "",
) -> Report:
    """Measure each of `methods` on every file, on what `open_store` opens. `embedder` is the default one unless given.

    Most of the time goes into embedding what is added: about 20 s of CPU for three conversations of LoCoMo, 40 s for
    one haystack of LongMemEval. Raises `InvalidRequest` for files that cannot be read.
    """
    began = time.monotonic()
    cases = [case for path in paths for case in read_cases(path)[:limit]]
    remembering = _Remembering(default_embedder() if embedder is None else embedder)
    scores: dict[tuple[str, str, str], list[tuple[float, ...]]] = {}
    spent: dict[tuple[str, str, str], float] = {}
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("conversations", total=len(cases))
        for case in cases:
            with open_store(":memory:", embedder=remembering, clock=partial(getattr, case, "now")) as memos:
                for session, turns in case.sessions.items():
                    memos.add(list(turns), user_id=case.name, session_id=session)
                for name, weights in methods.items():
                    key = (case.dataset, case.unit, name)
                    for question in case.questions:
                        remembering.embed_query(question.text)
                        found, seconds = _ask(memos, case, question, weights)
                        scores.setdefault(key, []).append(_figures(found, question.gold))
                        spent[key] = spent.get(key, 0) + seconds
            progress.advance(task)
    measured = [
        Measured(
            dataset=key[0],
            unit=key[1],
            method=key[2],
            questions=len(rows),
            search_ms=1000 * spent[key] / len(rows),
            figures=dict(zip(METRICS, np.mean(rows, axis=0).tolist(), strict=True)),
        )
        for key, rows in scores.items()
    ]
    return Report(
        measured=measured,
        machine=f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}",
        versions=f"memos-agents {version('memos-agents')}, Python {platform.python_version()}, numpy {np.__version__}, "
        f"{remembering.fingerprint}",
        command=command,
        seconds=time.monotonic() - began,
    )


def render(report: Report, console: Console) -> None:
    """Print one table: methods down, data sets and their figures across, in percent."""
    datasets = list(dict.fromkeys((row.dataset, row.unit, row.questions) for row in report.measured))
    for dataset, unit, questions in datasets:
        table = Table(title=f"{dataset}: {unit}, {questions} questions", title_justify="left")
        table.add_column("method")
        for metric in (*METRICS, "ms"):
            table.add_column(metric, justify="right")
        for row in report.measured:
            if row.dataset == dataset:
                figures = [f"{100 * row.figures[metric]:.1f}" for metric in METRICS]
                table.add_row(row.method, *figures, f"{row.search_ms:.1f}")
        console.print(table)
    console.print(f"{report.versions}\n{report.machine}; {report.seconds:.0f} s; {report.command}", highlight=False)


def _ask(memos: Searchable, case: Case, question: Question, weights: Weights) -> tuple[list[str], float]:
    """The units found, best first, each once, and the CPU seconds it took."""
    began = time.process_time()
    hits = memos.search(question.text, user_id=case.name, limit=_DEPTH, weights=weights)
    seconds = time.process_time() - began
    if case.unit == "sessions":
        return list(dict.fromkeys(str(hit.cube.scope.session_id) for hit in hits)), seconds
    return [str(hit.cube.metadata["source"]) for hit in hits], seconds


def _figures(found: Sequence[str], gold: frozenset[str]) -> tuple[float, ...]:
    """In the order of `METRICS`."""
    ranks = sorted(rank for rank, unit in enumerate(found) if unit in gold)
    in_5, in_10 = (sum(rank < k for rank in ranks) for k in (5, 10))
    first = 1 / (ranks[0] + 1) if ranks else 0.0
    return (in_5 == len(gold), in_10 == len(gold), in_10 / len(gold), in_5 > 0, in_10 > 0, first)


class _Remembering:
    """An embedder that embeds the same question once, so that methods are timed and compared without it."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self._questions: dict[str, NDArray[np.float32]] = {}

    @property
    def fingerprint(self) -> str:
        return self._embedder.fingerprint

    @property
    def dimension(self) -> int:
        return self._embedder.dimension

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return self._embedder.embed(texts)

    def embed_query(self, text: str) -> NDArray[np.float32]:
        if text not in self._questions:
            self._questions[text] = self._embedder.embed_query(text)
        return self._questions[text]
