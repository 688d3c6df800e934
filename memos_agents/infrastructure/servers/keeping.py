"""What the two ways to run a server have in common: how one is started, looked after and ended."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from memos_agents.errors import InvalidRequest
from memos_agents.infrastructure.servers.programs import QUOTED_LINES
from memos_agents.infrastructure.servers.record import How, Record

_SIZE = re.compile(r"(\d+)([kmg])", re.IGNORECASE)
_SECONDS_TO_TAKE_BACK = 10.0
_UNITS = {"k": 2**10, "m": 2**20, "g": 2**30}


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What a server may take. `heap`, `page_cache`: main memory ("512m", "1g"), beside about 300 MB of its own.

    `quick` (Maven's way only) compiles its code less: ready with a third less work, and slower under load later. Good
    for tests, wrong for measuring.
    """

    heap: str = "1g"
    page_cache: str = "256m"
    quick: bool = False

    def __post_init__(self) -> None:
        """Check both sizes."""
        if size_bytes(self.heap) < 2**27:
            raise InvalidRequest(f"a heap of {self.heap!r} is too small for Neo4j; give at least 128m, better 512m")
        size_bytes(self.page_cache)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """Whether the last start is alive, has ended by itself (or was killed), or was stopped by us; and its process."""

    state: Literal["alive", "died", "stopped"]
    pid: int | None = None


class Starter(Protocol):
    """Something that can start a server of one version; everything it needs is already here."""

    @property
    def how(self) -> How:
        """Which of the ways it is."""
        ...

    @property
    def runner(self) -> str:
        """What runs the server, for people."""
        ...

    def start(self, record: Record, folder: Path, *, resources: Resources, password: str | None) -> None:
        """Start it and return at once; `ServerFailed` if there is nothing to wait for."""
        ...


class Keeper(Protocol):
    """Something that finds and ends a server that was started before, perhaps by another process."""

    def look(self, record: Record, folder: Path) -> Sighting:
        """See how the last start is."""
        ...

    def stop(self, record: Record, folder: Path, *, seconds: float) -> bool:
        """End it, by force after `seconds`; False if it did not run. The data stays."""
        ...

    def log(self, record: Record, folder: Path, *, lines: int) -> list[str]:
        """The last lines that it wrote."""
        ...

    def remove_data(self, record: Record, folder: Path) -> None:
        """Forget everything that the stopped server stored."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A server that runs, or did a moment ago. `is_ours`: this very call started it."""

    record: Record
    keeper: Keeper
    folder: Path
    is_ours: bool

    @property
    def title(self) -> str:
        """What it is, for people."""
        return f"Neo4j {self.record.version}"

    @property
    def home(self) -> Path | None:
        """The folder that it says it lives in; None in a container, where all say the same."""
        return self.folder if self.record.how == "maven" else None

    def look(self) -> Sighting:
        """See how it is."""
        return self.keeper.look(self.record, self.folder)

    def last_lines(self) -> list[str]:
        """What it wrote last."""
        return self.keeper.log(self.record, self.folder, lines=QUOTED_LINES)

    def take_back(self) -> None:
        """End it, if it is ours."""
        if self.is_ours:
            self.keeper.stop(self.record, self.folder, seconds=_SECONDS_TO_TAKE_BACK)


def size_bytes(text: str) -> int:
    """Read a size as Java writes it.

    >>> size_bytes("256m")
    268435456
    """
    match = _SIZE.fullmatch(text)
    if match is None:
        raise InvalidRequest(f"{text[:20]!r} is no size of memory; write it as 512m or 1g")
    return int(match[1]) * _UNITS[match[2].lower()]
