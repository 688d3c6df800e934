"""Changes: what a store tells a mirror since a position of its log.

State-based, not operation-based: content that was erased meanwhile is gone, so operations cannot be replayed. What is
told of the commits after a position is how that which they touched stands *now*. Whoever takes every batch in turn ends
with the same graph, because whatever changes later is touched, and told, again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

from memos_agents.cube.canonical import JSON, canonical_json
from memos_agents.cube.memcube import VersionRef
from memos_agents.cube.moment import iso
from memos_agents.errors import IntegrityError
from memos_agents.infrastructure.vault.base import Snapshot, Space
from memos_agents.infrastructure.vault.records import (
    ActivityLine,
    CubeLine,
    DerivationLine,
    RelationLine,
    SourceLine,
    VectorLine,
    VersionLine,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """How far somebody has taken a store's changes; the default is the beginning. Only its store can read it.

    `chain` is the hash of the log up to `seq`, so a position fits one history only. The rest follows what is not in the
    log: `epoch` counts changes of vectors and loads, `sweeping` and `cursor` how far a walk through everything got,
    `used_us` and `uses` use facts, and `beside` is a digest of spaces and snapshots.
    """

    seq: int = 0
    chain: str = ""
    row: int = 0
    source_row: int = 0
    epoch: int = 0
    sweeping: int | None = None
    cursor: str = ""
    used_us: int = 0
    uses: str = ""
    beside: str = ""

    def to_text(self) -> str:
        """As canonical JSON."""
        return canonical_json(asdict(self))

    @classmethod
    def of_text(cls, text: str) -> Position:
        """Inverse of `to_text`."""
        try:
            return cls(**json.loads(text))
        except (TypeError, ValueError) as error:
            raise IntegrityError("a mirror's position cannot be read; a newer release may have written it") from error


def digest_beside(spaces: Sequence[Space], snapshots: Sequence[Snapshot]) -> str:
    """Differs when a space or a snapshot does."""
    told: list[JSON] = [
        [[each.fingerprint, each.dimension, each.is_default] for each in spaces],
        [[each.name, each.seq, iso(each.at)] for each in snapshots],
    ]
    return hashlib.sha256(canonical_json(told).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One commit of the log, as the log keeps it. `effects` and `result` are JSON, `chain` is hexadecimal."""

    line: ActivityLine
    seq: int
    chain: str
    effects: str
    reshapes: bool
    key: str | None
    result: str | None
    has_erased: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Flags:
    """What can change about a version after it was written, apart from losing its content."""

    ref: VersionRef
    superseded_at: datetime | None
    is_stale: bool
    ended_by: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Uses:
    """How often a cube was used, and when last."""

    cube_id: str
    count: int
    last_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class RelationState:
    """A relation and what closed it."""

    line: RelationLine
    removed_by: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What brings somebody from position `after` to position `upto`, all of it of one moment.

    `entries` are the commits in between, oldest first, and `touched` the (activity, cube) pairs that they and loads
    made. `cubes` are the touched ones as they are now, `versions` those that the commits wrote, with their
    `derivations` and `vectors`; `flags` says of other versions what may have changed. `activities` and `sources` are
    named by any of these and may be unknown. Everything else that a line names was told before, or is told here.

    `swept` are cubes of which `vectors` are complete: one that is not told is gone. `spaces` and `snapshots` are always
    all of them. `end_seq` and `end_at` say where the log ended.
    """

    source_id: str
    after: Position
    upto: Position
    end_seq: int
    end_at: datetime
    at: datetime
    """Of the commit at `upto`."""
    spaces: Sequence[Space]
    snapshots: Sequence[Snapshot]
    entries: Sequence[Entry] = ()
    touched: Sequence[tuple[str, str]] = ()
    activities: Sequence[ActivityLine] = ()
    sources: Sequence[SourceLine] = ()
    cubes: Sequence[CubeLine] = ()
    versions: Sequence[VersionLine] = ()
    flags: Sequence[Flags] = ()
    derivations: Sequence[DerivationLine] = ()
    relations: Sequence[RelationState] = ()
    vectors: Sequence[VectorLine] = ()
    swept: Sequence[str] = ()
    uses: Sequence[Uses] = ()
