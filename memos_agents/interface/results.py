"""What the calls of `MemOS` return, beside cubes."""

from __future__ import annotations

import builtins
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from memos_agents.cube.memcube import MemCube
from memos_agents.infrastructure.vault.base import Problem, VaultStats

if TYPE_CHECKING:
    from memos_agents.memories.costs import CostReport
    from memos_agents.memories.prefix_cache import CacheStats


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelStats:
    """What a local model that is open in this process keeps in memory, what it measured, and what it decided how often,
    by reason.
    """

    name: str
    cache: CacheStats
    costs: CostReport


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats(VaultStats):
    """What a scope holds, and the local models that this process has open for it."""

    models: tuple[ModelStats, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Why(Mapping[str, float]):
    """Why a memory was found and where it comes from: a mapping from each part of the score to its share.

    `str(why)` is one line for people. Who did what to the memory in full is `memos.provenance(hit.cube.id)`.
    """

    parts: Mapping[str, float]
    origin: str
    said_by: str | None
    session_id: str | None
    happened_at: datetime
    recorded_at: datetime

    def __getitem__(self, part: str) -> float:
        return self.parts[part]

    def __iter__(self) -> Iterator[str]:
        return iter(self.parts)

    def __len__(self) -> int:
        return len(self.parts)

    def __str__(self) -> str:
        shares = " + ".join(f"{name} {share:.2f}" for name, share in self.parts.items() if round(share, 2))
        place = [
            self.origin,
            *(name for name in (self.said_by, self.session_id) if name),
            f"{self.happened_at:%Y-%m-%d}",
        ]
        return f"{shares or 'no part above 0.01'}; from {', '.join(place)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """A memory that was found, how well it fits (higher is better; comparable within one search only), and why."""

    cube: MemCube
    score: float
    why: Why

    def __str__(self) -> str:
        return f"{self.score:.2f}  {self.cube}"


def hit_of(cube: MemCube, score: float, parts: Mapping[str, float]) -> Hit:
    """A hit that says where its cube comes from."""
    about = cube.descriptive
    why = Why(
        parts=parts,
        origin=about.origin,
        said_by=about.name or about.role,
        session_id=cube.scope.session_id,
        happened_at=cube.happened_at,
        recorded_at=cube.recorded_at,
    )
    return Hit(cube=cube, score=score, why=why)


class Page(builtins.list[MemCube]):
    """A list of cubes, and the `cursor` that gives the next ones (None: there are no more)."""

    def __init__(self, cubes: Iterable[MemCube] = (), *, cursor: str | None = None) -> None:
        super().__init__(cubes)
        self.cursor = cursor


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyReport:
    """What `verify` found; `counts` says how much there was to check."""

    ok: bool
    problems: tuple[Problem, ...]
    counts: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadReport:
    """What `load` wrote, by kind of record, and under which activity; `embedded` are vectors made anew."""

    activity_id: str
    counts: Mapping[str, int]
    embedded: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class UndoResult:
    """The activity that took `undone` back (itself undoable), and the cubes that it changed."""

    activity_id: str
    undone: str
    cubes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReembedReport:
    """How many versions got a vector of the embedder `fingerprint`, and which spaces were dropped."""

    fingerprint: str
    embedded: int
    dropped: tuple[str, ...] = ()
