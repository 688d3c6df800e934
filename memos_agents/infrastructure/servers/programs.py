"""Other people's programs: found, asked, quoted. And the errors for when one is missing or gives up."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from memos_agents.errors import BackendUnavailable, MemOSError

QUOTED_LINES = 20
_CREDENTIALS = re.compile(r"(?<=//)[^/\s@]+@")
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


class ToolMissing(MemOSError):
    """A program that starting a server needs is not on this machine. Not retryable: somebody has to install it."""


class ServerFailed(BackendUnavailable):
    """A server, or a program that prepares it, gave up. `summary` says so in one line; `output`: its last lines."""

    def __init__(self, summary: str, *, output: Iterable[str] = (), **details: object) -> None:
        self.summary = summary
        self.output = [quotable(line) for line in output if line.strip()][-QUOTED_LINES:]
        super().__init__("\n    ".join([summary, *self.output]), **details)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a program that ran to its end said."""

    code: int
    out: str
    err: str

    @property
    def is_good(self) -> bool:
        return self.code == 0

    @property
    def lines(self) -> list[str]:
        """Everything it wrote, standard output first."""
        return [*self.out.splitlines(), *self.err.splitlines()]


def find_program(name: str, environ: Mapping[str, str]) -> Path | None:
    """Where the search path of `environ` has a program."""
    found = shutil.which(name, path=environ.get("PATH", ""))
    return Path(found) if found else None


def ask(command: Sequence[str | Path], *, environ: Mapping[str, str], seconds: float) -> Answer | None:
    """Run a program to its end; None if it cannot be started or does not end in time."""
    try:
        done = subprocess.run(  # noqa: S603  # programs found on the caller's own path, arguments of ours, no shell
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            env=dict(environ),
            timeout=seconds,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return Answer(
        code=done.returncode, out=done.stdout.decode(errors="replace"), err=done.stderr.decode(errors="replace")
    )


def quotable(line: str) -> str:
    """A line of another program's output without colours and without credentials in addresses.

    >>> quotable("from https://mara:secret@repo.example/x")
    'from https://repo.example/x'
    """
    return _CREDENTIALS.sub("", _COLOURS.sub("", line.rstrip()))
