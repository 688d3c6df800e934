"""`memos bench retrieval`: how well search finds what is known to be right, on the user's data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from memos_agents.cli.session import Session
from memos_agents.errors import NotFound


def retrieval(
    session: Session,
    data: Annotated[Path, typer.Option("--data", metavar="FILE", help="Conversations with questions and evidence.")],
) -> None:
    """Measure how often search finds the evidence of questions in FILE, beside words alone and vectors alone.

    Examples:
      memos bench retrieval --data locomo.json.gz

    """
    if not data.is_file():
        raise NotFound(f"there is no file {str(data)!r}; give --data a file of conversations with questions")
    from memos_agents.testing import retrieval_bench

    code = retrieval_bench.main(["--data", str(data), *(["--json"] if session.options.json else [])])
    if code:
        raise typer.Exit(code)
