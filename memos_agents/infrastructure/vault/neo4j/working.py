"""A commit on its way into the graph: what is known of its cubes, and what it will change.

Everything that can fail is found out on these values, before the first statement writes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from memos_agents.cube.canonical import JSON, canonical_json
from memos_agents.cube.memcube import MemCube, VersionRef
from memos_agents.cube.scope import Scope
from memos_agents.cube.state import MemoryState
from memos_agents.infrastructure.provenance.values import Source
from memos_agents.infrastructure.vault.chain import GENESIS
from memos_agents.infrastructure.vault.rules import Head


def place_of(scope: Scope, collection: str, key: str | None) -> str | None:
    """What finds the cube with this key in exactly this scope; None without a key. A digest: one index serves all."""
    if key is None:
        return None
    return _digest(scope.to_json(), collection, key)


def same_of(scope: Scope, content_hash: str) -> str:
    """What finds cubes of exactly this scope with exactly this content."""
    return _digest(scope.to_json(), content_hash)


def _digest(*parts: JSON) -> str:
    return hashlib.sha256(canonical_json(list(parts)).encode()).hexdigest()[:32]


@dataclass(slots=True)
class Tail:
    """The end of the tenant's log, under its lock. `cubes` and `versions` are the last numbers given out."""

    seq: int
    at_us: int | None
    chain: bytes
    cubes: int
    versions: int
    epoch: int
    mirror_of: str | None

    @classmethod
    def of(cls, values: Sequence[Any]) -> Tail:
        seq, at_us, chain, cubes, versions, epoch, mirror_of = values
        return cls(seq, at_us, bytes.fromhex(chain) if chain else GENESIS, cubes, versions, epoch, mirror_of)


@dataclass(slots=True)
class KnownCube:
    """A cube as the commit goes on. `place`: where its key stands in the graph; `superseded_us`: of its head."""

    id: str
    rid: int
    head: Head
    place: str | None
    head_rid: int
    is_stale: bool
    is_new: bool = False

    @classmethod
    def of(cls, values: Sequence[Any], tenant: str) -> KnownCube:
        """From `cypher.HEAD_COLUMNS`."""
        cube_id, rid, user, agent, session, state, frozen, version, readers, place, head_rid, ended, stale, _ = values
        scope = Scope(tenant=tenant, user_id=user, agent_id=agent, session_id=session)
        head = Head(version, scope, MemoryState(state), frozen, ended is None, tuple(readers or ()))
        return cls(cube_id, rid, head, place, head_rid, bool(stale))


@dataclass(slots=True)
class Found:
    """What the graph says about everything that a commit names."""

    tail: Tail
    op: str | None
    op_seq: int | None
    first: Sequence[Any] | None
    lease: Sequence[Any] | None
    spaces: Mapping[str, tuple[int, int]]
    cubes: dict[str, KnownCube]
    equals: Mapping[str, Sequence[tuple[KnownCube, int | None]]]
    holders: Mapping[str, str]
    sources: Mapping[str, Source]
    related: set[tuple[str, str, str]]

    @classmethod
    def of(cls, row: Sequence[Any], tenant: str) -> Found:
        """From a record of `cypher.BEGIN`."""
        tail, known, first, lease, spaces, heads, equals, holders, sources, related = row
        alike: dict[str, list[tuple[KnownCube, int | None]]] = {}
        for same, values in equals:
            alike.setdefault(same, []).append((KnownCube.of(values, tenant), values[-1]))
        return cls(
            tail=Tail.of(tail),
            op=known[0][0] if known else None,
            op_seq=known[0][1] if known else None,
            first=first[0] if first else None,
            lease=lease[0] if lease else None,
            spaces={name: (dimension, number) for name, dimension, number in spaces},
            cubes={values[0]: KnownCube.of(values, tenant) for values in heads},
            equals=alike,
            holders=dict(holders),
            sources={
                values[0]: Source(id=values[0], kind=values[1], locator=values[2], sha256=values[3])
                for values in sources
            },
            related={(triple[0], triple[1], triple[2]) for triple in related},
        )


@dataclass(frozen=True, slots=True)
class NewCube:
    """A cube that a commit makes, its body, the numbers it gets, and its packed vectors by property."""

    cube: MemCube
    body: str
    digest: str
    rid: int
    version_rid: int
    vectors: Mapping[str, bytes]


@dataclass(slots=True)
class Draft:
    """Everything that one commit will write."""

    seq: int
    at_us: int
    next_cube: int
    next_version: int
    new: list[NewCube] = field(default_factory=list)
    revisions: list[list[dict[str, Any]]] = field(default_factory=list)
    """Rounds: within one a cube is revised at most once."""
    blobs: list[tuple[str, int, str]] = field(default_factory=list)
    uses: list[tuple[str, int, int]] = field(default_factory=list)
    steps: dict[str, tuple[str, bool]] = field(default_factory=dict)
    ends: list[VersionRef] = field(default_factory=list)
    lifts: list[VersionRef] = field(default_factory=list)
    superseded: list[VersionRef] = field(default_factory=list)
    """Heads that were believed, or not, and have a successor now."""
    edges: list[tuple[VersionRef, VersionRef, str]] = field(default_factory=list)
    is_settled: bool = False
    """Whether it is known already that none of `edges` makes anything stale."""
    evidence: list[tuple[VersionRef, str, str]] = field(default_factory=list)
    closed: list[tuple[str, str, str]] = field(default_factory=list)
    opened: dict[tuple[str, str, str], str] = field(default_factory=dict)
    """Properties of each relation that is stated."""
    shut: set[tuple[str, str, str]] = field(default_factory=set)
    """Those of `opened` that the same commit takes back."""
    sources: list[Source] = field(default_factory=list)
    touched: set[str] = field(default_factory=set)
    """Cubes beside the new ones."""
    effects: list[str] = field(default_factory=list)
    changes: dict[str, list[JSON]] = field(default_factory=dict)

    def note(self, kind: str, entry: JSON) -> None:
        """Keep for `effects()` what this commit did."""
        self.changes.setdefault(kind, []).append(entry)
