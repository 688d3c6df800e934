"""`memos bench retrieval`: how well search finds what is known to be right, on the user's data."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from memos_agents.cli.session import Session
from memos_agents.errors import InvalidRequest, NotFound


def retrieval(
    session: Session,
    data: Annotated[
        list[Path], typer.Option("--data", metavar="FILE", help="LoCoMo, LongMemEval or BEAM, as published.")
    ],
    conversations: Annotated[
        int | None, typer.Option("--limit", "-n", min=1, help="Only the first conversations of each file.")
    ] = None,
) -> None:
    """Measure how often search finds the evidence of questions in FILE, beside words alone and vectors alone.

    Works on a store in memory; yours is not touched. With --json one document with all figures.

    Examples:
      memos bench retrieval --data locomo.json.gz
      memos bench retrieval --data locomo.json --data longmemeval_s.json --limit 3 --json
    """
    for path in data:
        if not path.is_file():
            raise NotFound(f"there is no file {str(path)!r}; give --data a file of conversations with questions")
    embedder = session.embedder()
    if embedder is None:
        raise InvalidRequest(
            'the benchmark compares words with vectors, and the embedder is "none"; add --embedder minilm'
        )
    from memos_agents import MemOS
    from memos_agents.testing.retrieval_bench import measure, render

    files = " ".join(f"--data {shlex.quote(str(path))}" for path in data)
    limit = f" --limit {conversations}" if conversations else ""
    report = measure(
        data,
        open_store=MemOS.open,
        embedder=embedder,
        limit=conversations,
        command=f"memos bench retrieval {files}{limit}",
    )
    session.out.document(report)
    session.out.render(lambda console: render(report, console))
