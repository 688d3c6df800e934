"""The dictionaries of a `MemoryVault`, and how a row becomes a value."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TypeAlias, cast

from memos_agents.cube.canonical import JSON
from memos_agents.cube.memcube import MemCube, VersionRef, empty_body, unpack_body
from memos_agents.cube.metadata import Behavioural, Descriptive, Governance
from memos_agents.cube.moment import to_microseconds
from memos_agents.cube.payload import ArtefactPayload, MemoryType
from memos_agents.cube.scope import Scope
from memos_agents.cube.state import MemoryState
from memos_agents.errors import NotFound
from memos_agents.infrastructure.provenance.values import Activity, Derivation, Relation, RelationKind, Source
from memos_agents.infrastructure.vault.base import Effects, Snapshot, Space
from memos_agents.infrastructure.vault.chain import GENESIS
from memos_agents.infrastructure.vault.commit import CommitResult, Lease, Tombstone
from memos_agents.infrastructure.vault.text import index_terms, text_flags

Triple: TypeAlias = tuple[str, RelationKind, str]
Key: TypeAlias = tuple[Scope, str, str]
NO_TERMS: Mapping[str, int] = {}


@dataclass(slots=True, kw_only=True)
class VersionRow:
    """One version; `body` is None once erased. `terms` and `flags` are the text index."""

    ref: VersionRef
    hash: str
    body: str | None
    memory_type: MemoryType
    recorded_at: datetime
    activity_id: str
    superseded_at: datetime | None = None
    ended_by: str | None = None
    is_stale: bool = False
    descriptive: Descriptive = field(default_factory=Descriptive)
    governance: Governance = field(default_factory=Governance)
    blobs: frozenset[str] = frozenset()
    has_text: bool = False
    terms: Mapping[str, int] = field(default_factory=dict)
    flags: int = 0
    vectors: dict[str, bytes] = field(default_factory=dict)

    @classmethod
    def of(cls, cube: MemCube, body: str, digest: str, activity_id: str) -> VersionRow:
        """The row of a cube that is about to be written, with its index entries."""
        counts: dict[str, int] = {}
        for term in index_terms(cube):
            counts[term] = counts.get(term, 0) + 1
        payload = cube.payload
        return cls(
            ref=cube.ref,
            hash=digest,
            body=body,
            memory_type=cube.memory_type,
            recorded_at=cube.recorded_at,
            activity_id=activity_id,
            descriptive=cube.descriptive,
            governance=cube.governance,
            blobs=frozenset(ref.sha256 for ref in payload.blobs.values())
            if isinstance(payload, ArtefactPayload)
            else frozenset(),
            has_text=bool(cube.text),
            terms=counts,
            flags=int(text_flags(cube.text)),
        )

    @property
    def happened_at(self) -> datetime:
        return self.descriptive.occurred_at or self.recorded_at

    def has_ended(self, now: datetime) -> bool:
        """Whether its lifespan is over."""
        ttl = self.governance.ttl_seconds
        lived_us = to_microseconds(now) - to_microseconds(self.recorded_at)
        return ttl is not None and round(ttl * 1_000_000) <= lived_us

    def metadata(self) -> Mapping[str, JSON]:
        return cast("Mapping[str, JSON]", json.loads(self.body)["metadata"]) if self.body is not None else {}

    def erase(self, at: datetime, activity_id: str) -> None:
        """Leave the hash, the times and who did it."""
        self.body, self.has_text, self.terms, self.flags = None, False, NO_TERMS, 0
        self.descriptive, self.governance = Descriptive(), Governance()
        self.blobs, self.vectors, self.is_stale = frozenset(), {}, False
        self.superseded_at, self.ended_by = self.superseded_at or at, activity_id


@dataclass(slots=True, kw_only=True)
class CubeRow:
    """A cube and its versions, oldest first."""

    id: str
    scope: Scope
    state: MemoryState
    frozen: bool
    created_at: datetime
    versions: list[VersionRow]
    use_count: int = 0
    last_used_at: datetime | None = None

    @property
    def head(self) -> VersionRow:
        return self.versions[-1]

    @property
    def is_erased(self) -> bool:
        return self.state is MemoryState.ERASED

    @property
    def key(self) -> Key | None:
        header = self.head.descriptive
        return None if header.key is None else (self.scope, header.collection, header.key)

    def use(self, at: datetime) -> None:
        self.use_count += 1
        self.last_used_at = at if self.last_used_at is None else max(at, self.last_used_at)

    def value(self, version: VersionRow | None = None) -> MemCube:
        """One version as a cube (None: the head), made anew: callers may do with it what they like."""
        row = version or self.head
        parts = empty_body(row.memory_type) if row.body is None else unpack_body(json.loads(row.body))
        return MemCube(
            id=self.id,
            version=row.ref.version,
            scope=self.scope,
            state=self.state,
            frozen=self.frozen,
            payload=parts["payload"],
            metadata=parts["metadata"],
            memory_type=row.memory_type,
            descriptive=row.descriptive,
            governance=row.governance,
            behavioural=Behavioural(
                use_count=self.use_count,
                last_used_at=self.last_used_at,
                version_chain=tuple(range(1, len(self.versions) + 1)),
            ),
            created_at=self.created_at,
            recorded_at=row.recorded_at,
            superseded_at=row.superseded_at,
            is_stale=row.is_stale,
        )


@dataclass(slots=True, kw_only=True)
class RelationRow:
    """A relation from when it was stated until it was taken back, and by which activities."""

    relation: Relation
    activity_id: str
    recorded_at: datetime
    removed_at: datetime | None = None
    removed_by: str | None = None

    @property
    def triple(self) -> Triple:
        return self.relation.source_id, self.relation.kind, self.relation.target_id

    @property
    def ends(self) -> tuple[str, str]:
        return self.relation.source_id, self.relation.target_id

    def value(self) -> Relation:
        return replace(self.relation, properties=deepcopy(self.relation.properties))


@dataclass(slots=True, kw_only=True)
class ActivityRow:
    """An activity; `seq` is None for one that was loaded. `effects` leave the relations to their rows."""

    activity: Activity
    at: datetime
    touched: frozenset[str]
    effects: Effects
    seq: int | None = None
    chain: bytes = GENESIS
    loaded: tuple[VersionRef, ...] = ()
    tombstones: tuple[Tombstone, ...] = ()

    def value(self, *, is_whole: bool) -> Activity:
        """The activity, without its parameters where they may speak of what the reader cannot see."""
        return replace(self.activity, parameters=deepcopy(self.activity.parameters) if is_whole else {})


@dataclass(slots=True)
class Tables:
    """Everything a vault holds. Indexes stand beside what they index and are changed with it."""

    tenant: str
    cubes: dict[str, CubeRow] = field(default_factory=dict)
    keys: dict[Key, str] = field(default_factory=dict)
    same: dict[tuple[Scope, str], set[str]] = field(default_factory=dict)
    activities: dict[str, ActivityRow] = field(default_factory=dict)
    log: list[ActivityRow] = field(default_factory=list)
    results: dict[str, CommitResult] = field(default_factory=dict)
    sources: dict[str, Source] = field(default_factory=dict)
    derivations: dict[Derivation, str] = field(default_factory=dict)
    up: dict[VersionRef, list[Derivation]] = field(default_factory=dict)
    down: dict[VersionRef | str, list[Derivation]] = field(default_factory=dict)
    relations: list[RelationRow] = field(default_factory=list)
    relations_at: dict[str, list[RelationRow]] = field(default_factory=dict)
    relations_by: dict[str, list[RelationRow]] = field(default_factory=dict)
    open_relations: dict[Triple, RelationRow] = field(default_factory=dict)
    spaces: dict[str, Space] = field(default_factory=dict)
    leases: dict[str, Lease] = field(default_factory=dict)
    snapshots: dict[str, Snapshot] = field(default_factory=dict)
    doomed_blobs: set[str] = field(default_factory=set)

    def version(self, ref: VersionRef) -> VersionRow | None:
        cube = self.cubes.get(ref.cube_id)
        return cube.versions[ref.version - 1] if cube and 1 <= ref.version <= len(cube.versions) else None

    def space(self, fingerprint: str) -> Space:
        """The space, or `NotFound`."""
        space = self.spaces.get(fingerprint)
        if space is None:
            raise NotFound(f"there is no vector space {fingerprint!r}; open it first", space=fingerprint)
        return space

    def admitted(self, cube_id: str, scope: Scope) -> CubeRow | None:
        """The cube if `scope` may see it."""
        cube = self.cubes.get(cube_id)
        return cube if cube is not None and scope.admits(cube.scope) else None

    def is_whole(self, scope: Scope) -> bool:
        """Whether `scope` is everything that there is here."""
        return scope.is_everything and scope.tenant == self.tenant

    def admits_all(self, cube_ids: Iterable[str], scope: Scope) -> bool:
        return all(self.admitted(cube_id, scope) for cube_id in cube_ids)

    def living_versions(self) -> Iterator[tuple[CubeRow, VersionRow]]:
        for cube in self.cubes.values():
            if not cube.is_erased:
                for version in cube.versions:
                    yield cube, version

    def add_version(self, cube: CubeRow, version: VersionRow) -> None:
        """Make `version` the head of `cube`, new or known."""
        if cube.versions:
            self.unindex(cube)
        cube.versions.append(version)
        self.cubes[cube.id] = cube
        self.index(cube)

    def index(self, cube: CubeRow) -> None:
        if cube.key is not None:
            self.keys[cube.key] = cube.id
        self.same.setdefault((cube.scope, cube.head.hash), set()).add(cube.id)

    def unindex(self, cube: CubeRow) -> None:
        if cube.key is not None:
            self.keys.pop(cube.key, None)
        self.same.get((cube.scope, cube.head.hash), set()).discard(cube.id)

    def add_derivation(self, derivation: Derivation, activity_id: str) -> None:
        if derivation not in self.derivations:
            self.derivations[derivation] = activity_id
            self.up.setdefault(derivation.derived, []).append(derivation)
            self.down.setdefault(derivation.source, []).append(derivation)

    def add_relation(self, row: RelationRow) -> None:
        self.relations.append(row)
        for cube_id in (row.relation.source_id, row.relation.target_id):
            self.relations_at.setdefault(cube_id, []).append(row)
        self.relations_by.setdefault(row.activity_id, []).append(row)
        if row.removed_at is None:
            self.open_relations[row.triple] = row

    def close_relation(self, triple: Triple, at: datetime, activity_id: str) -> None:
        """End the open relation, if there is one."""
        row = self.open_relations.pop(triple, None)
        if row is not None:
            row.removed_at, row.removed_by = at, activity_id
            if row.activity_id != activity_id:
                self.relations_by.setdefault(activity_id, []).append(row)

    def opened_by(self, activity_id: str) -> list[RelationRow]:
        rows = self.relations_by.get(activity_id, ())
        return sorted((row for row in rows if row.activity_id == activity_id), key=lambda row: row.triple)

    def closed_by(self, activity_id: str) -> list[RelationRow]:
        rows = self.relations_by.get(activity_id, ())
        return sorted((row for row in rows if row.removed_by == activity_id), key=lambda row: row.triple)

    def knows(self, source: Source) -> bool:
        """Whether this source is there with other values. A blanked one may be filled again."""
        known = self.sources.get(source.id)
        return known is not None and known != source and bool(known.locator)
