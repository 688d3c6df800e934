"""Commit: the one thing that changes a vault, all or nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Protocol, TypeAlias, runtime_checkable

from memos_agents.cube.memcube import MemCube, VersionRef
from memos_agents.cube.state import MemoryState
from memos_agents.infrastructure.provenance.values import Activity, Derivation, Relation, Source

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Vectors: TypeAlias = "Mapping[str, NDArray[np.float32]]"
"""One vector for each space, by the space's fingerprint."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Write:
    """A new version. `replaces` is the version it expects to be newest; None makes a new cube.

    With `merge_duplicate`, a cube in the same scope whose current version has the same body takes the write as a use
    instead of a new cube being made (only cubes from before this commit are looked at).
    The vault stamps `recorded_at`, and `created_at` of a new cube, with the commit's time.
    """

    cube: MemCube
    replaces: int | None = None
    vectors: Vectors = field(default_factory=dict)
    merge_duplicate: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """A step in a cube's life, or a change of its frozen flag; makes no version."""

    cube_id: str
    state: MemoryState | None = None
    frozen: bool | None = None
    expected_version: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Invalidation:
    """The head version stops being believed without a successor (prov:wasInvalidatedBy), or, `lifted`, is again."""

    ref: VersionRef
    lifted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """The right to do one named thing until `expires_at`; `token` grows with every grant (fencing)."""

    name: str
    owner: str
    token: int
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """One activity and everything it changes.

    `key`: a commit repeated with the same key is one commit and returns the first result. `lease`: refused with
    `VersionConflict` unless this lease is still held. `erasures` name cubes; whatever was derived from them is erased
    in the same transaction.
    """

    activity: Activity
    key: str | None = None
    writes: tuple[Write, ...] = ()
    transitions: tuple[Transition, ...] = ()
    invalidations: tuple[Invalidation, ...] = ()
    sources: tuple[Source, ...] = ()
    derivations: tuple[Derivation, ...] = ()
    relations: tuple[Relation, ...] = ()
    unrelations: tuple[Relation, ...] = ()
    erasures: tuple[str, ...] = ()
    lease: Lease | None = None


@dataclass(frozen=True, slots=True)
class WriteOutcome:
    """Which version a `Write` became; `is_duplicate`: an existing one took it as a use."""

    ref: VersionRef
    is_duplicate: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Tombstone:
    """What is left of an erased version. `is_derived`: it was erased because something it came from was."""

    ref: VersionRef
    content_hash: str
    is_derived: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitResult:
    """`seq` is the position in the log, `at` the recorded time of everything that the commit wrote (unique, rising)."""

    seq: int
    at: datetime
    activity_id: str
    outcomes: tuple[WriteOutcome, ...] = ()
    erased: tuple[Tombstone, ...] = ()
    stale: int = 0
    is_repeated: bool = False


@runtime_checkable
class SupportsPlanning(Protocol):
    """A vault that lets a caller plan when it is its turn to write."""

    def commit_planned(self, plan: Callable[[], Commit]) -> tuple[Commit, CommitResult]:
        """Commit what `plan` returns; it is called once, before the transaction, and must not write.

        Gives the same as `commit(plan())`, and its errors. Callers that write at the same time plan one after the other
        in one thread, which costs a third less than planning side by side under the interpreter's lock.
        """
        ...
