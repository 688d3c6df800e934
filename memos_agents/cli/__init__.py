"""The command line: `memos`, `memos-agents`, `python -m memos_agents`.

The only place that knows everything. Commands are plain functions that take a `Session` (settings, store, output) and
are listed in `application.py`; they decide nothing that `MemOS` can decide. Modules that cost time (numpy, pydantic,
rich, the store) are imported inside the functions that need them, so that `--help` answers at once.
"""

from __future__ import annotations


def main() -> None:
    """Run the command line of this process and exit with its code (`failures.py` lists the codes)."""
    from memos_agents.cli.application import app

    app()
