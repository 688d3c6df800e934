"""MemVault: what every backend promises, as protocols and the values they exchange.

`MemVault` is the part that every backend has. Capabilities are protocols of their own (`SupportsSearch`,
`SupportsScrub`, `SupportsRecords`, `SupportsBackup`), asked for with `isinstance`. `memos_agents.testing.VaultSuite`
is the contract as tests.
"""

from __future__ import annotations

import builtins
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias, runtime_checkable

from memos_agents.cube.canonical import JSON
from memos_agents.cube.memcube import MemCube, VersionRef
from memos_agents.cube.payload import MemoryType
from memos_agents.cube.scope import Scope
from memos_agents.cube.state import MemoryState
from memos_agents.infrastructure.provenance.graph import ProvenanceGraph
from memos_agents.infrastructure.provenance.values import Agent, Relation
from memos_agents.infrastructure.vault.commit import Commit, CommitResult, Lease, Tombstone

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from memos_agents.infrastructure.vault.blobs import BlobStore
    from memos_agents.infrastructure.vault.view import Postings, View

Direction: TypeAlias = Literal["up", "down", "both"]
Record: TypeAlias = dict[str, JSON]
"""One vault-neutral line of an export; `records.py` names the kinds."""

LIVING = frozenset(MemoryState) - {MemoryState.ERASED}


@dataclass(frozen=True, slots=True, kw_only=True)
class ListQuery:
    """Which heads to list, in a total order: (`order` value in microseconds, id). `after` is the last key already seen.

    Only heads that are believed and not stale, and, when `now` is given, whose lifespan has not ended at `now`;
    `include_hidden` lists the others too. 'occurred' orders by event time, by recorded time where that is unknown.
    """

    scope: Scope
    now: datetime | None = None
    include_hidden: bool = False
    states: frozenset[MemoryState] = LIVING
    memory_types: frozenset[MemoryType] = frozenset(MemoryType)
    collection: str | None = None
    order: Literal["created", "occurred"] = "created"
    descending: bool = False
    limit: int = 100
    after: tuple[int, str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LogQuery:
    """Which commits to return, newest first."""

    scope: Scope
    since: datetime | None = None
    until: datetime | None = None
    cube_id: str | None = None
    activity_id: str | None = None
    limit: int = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class LogEntry:
    """One commit: who did what, when, to which cubes. `seq` is None where it would count other people's commits."""

    activity_id: str
    kind: str
    agent: Agent
    at: datetime
    parameters: Mapping[str, JSON]
    cubes: tuple[str, ...]
    seq: int | None = None
    chain: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Effects:
    """What one commit changed, as `undo` needs it. `writes` pairs each version with the one it replaced (0: none).

    `transitions` are (cube id, state before, frozen before, state after, frozen after).
    """

    activity_id: str
    kind: str
    writes: tuple[tuple[VersionRef, int], ...] = ()
    transitions: tuple[tuple[str, MemoryState, bool, MemoryState, bool], ...] = ()
    invalidated: tuple[VersionRef, ...] = ()
    lifted: tuple[VersionRef, ...] = ()
    related: tuple[Relation, ...] = ()
    unrelated: tuple[Relation, ...] = ()
    erased: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RelationRecord:
    """A relation with its times: believed from `recorded_at` until `removed_at`."""

    relation: Relation
    activity_id: str
    recorded_at: datetime
    removed_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A named position in the log; nothing is copied."""

    name: str
    seq: int
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """A vector space, bound to one embedder by its fingerprint."""

    fingerprint: str
    dimension: int
    is_default: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Something `verify` found. `kind` is stable, `what` is for people and holds no content."""

    kind: str
    what: str
    cube_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class VaultStats:
    """Counts over one scope; sizes are None unless the scope is the whole tenant."""

    cubes: int
    versions: int
    by_state: Mapping[str, int]
    by_type: Mapping[str, int]
    relations: int
    stale: int
    uses: int
    commits: int | None = None
    size_bytes: int | None = None
    blob_bytes: int | None = None
    spaces: tuple[Space, ...] = ()
    pending_scrubs: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewQuery:
    """Which versions a search may see.

    Without `as_of`: current heads. With it: what was believed then. `valid_at` keeps what was true then. `now` decides
    which lifespans have ended. `space` None gives rows without vectors.
    """

    scope: Scope
    now: datetime
    space: str | None = None
    as_of: datetime | None = None
    valid_at: datetime | None = None
    states: frozenset[MemoryState] = field(default=frozenset({MemoryState.ACTIVATED}))
    memory_types: frozenset[MemoryType] = frozenset({MemoryType.PLAINTEXT})
    collection: str | None = None


class SearchView(Protocol):
    """A consistent set of rows and the index over them."""

    @property
    def view(self) -> View: ...

    def postings(self, terms: Iterable[str]) -> Postings:
        """For each term that any row holds: the rows and counts. Terms come from `text.tokenize`."""
        ...

    def metadata(self) -> Sequence[Mapping[str, JSON]]:
        """Each row's metadata, in row order."""
        ...


@runtime_checkable
class MemVault(Protocol):
    """Versioned storage of one tenant's cubes. Every method may be called from any thread."""

    @property
    def tenant(self) -> str: ...
    @property
    def blobs(self) -> BlobStore: ...
    @property
    def is_readonly(self) -> bool: ...

    def commit(self, commit: Commit) -> CommitResult:
        """Apply all of `commit` durably, or nothing.

        Raises `VersionConflict` (a head moved, a key was taken, a lease was lost), `NotFound`, `InvalidTransition`
        (also: frozen), `AccessDenied` (a relation or derivation across users that `readers` does not grant),
        `BackendUnavailable`. One call costs one fsync, shared with calls of other threads.
        """
        ...

    def get(self, cube_ids: Sequence[str], scope: Scope) -> dict[str, MemCube]:
        """Heads by id, erased ones included; what `scope` does not admit is absent, as if it did not exist."""
        ...

    def versions(self, refs: Sequence[VersionRef], scope: Scope) -> dict[VersionRef, MemCube]:
        """Single versions; what `scope` does not admit or what does not exist is absent.

        State, frozen and use belong to the cube, so every version shows those of today.
        """
        ...

    def history(self, cube_id: str, scope: Scope) -> list[MemCube]:
        """Every version, oldest first; empty if there is no such cube in `scope`."""
        ...

    def find_key(self, scope: Scope, collection: str, key: str) -> MemCube | None:
        """The cube with this key in exactly this scope (an unbound field equals only an unbound one)."""
        ...

    def list(self, query: ListQuery) -> list[MemCube]:
        """Heads in order, `query.limit` at most."""
        ...

    def relations(
        self, cube_ids: Sequence[str], scope: Scope, *, removed: bool = False
    ) -> builtins.list[RelationRecord]:
        """Relations that touch any of the cubes and whose two ends `scope` admits, oldest first."""
        ...

    def lineage(self, ref: VersionRef, direction: Direction, depth: int | None, scope: Scope) -> ProvenanceGraph:
        """What the version came from (up), what came of it (down), or both; nothing that `scope` does not admit.

        Raises `NotFound`. At most 10,000 nodes; `truncated` says that there is more.
        """
        ...

    def log(self, query: LogQuery) -> builtins.list[LogEntry]:
        """Commits that touched cubes in the scope, newest first."""
        ...

    def effects(self, activity_id: str, scope: Scope) -> Effects:
        """What one commit changed; `NotFound` unless `scope` admits every cube it touched."""
        ...

    def tombstones(self, activity_id: str) -> builtins.list[Tombstone]:
        """What the erasure with this activity left, sorted by cube and version; empty if it erased nothing."""
        ...

    def touch(self, cube_ids: Iterable[str], at: datetime) -> None:
        """Count one use of each cube (unknown and erased ones are passed over). Durable with the next commit."""
        ...

    def acquire_lease(self, name: str, owner: str, seconds: float, now: datetime) -> Lease:
        """Take or renew the lease; `BackendUnavailable` while another owner holds it."""
        ...

    def release_lease(self, lease: Lease) -> None:
        """Give it back; nothing happens if it is no longer held."""
        ...

    def set_snapshot(self, name: str, now: datetime) -> Snapshot:
        """Name the current log position; an existing name is moved."""
        ...

    def snapshots(self) -> builtins.list[Snapshot]: ...

    def spaces(self) -> builtins.list[Space]: ...

    def open_space(
        self, fingerprint: str, dimension: int, *, make_default: bool = False, instead_of: str | None = None
    ) -> Space:
        """Return the space of this embedder, made if it is new. The first space is the default one.

        With `make_default`, the space `instead_of` is dropped with its vectors in the same transaction.
        """
        ...

    def stats(self, scope: Scope) -> VaultStats: ...

    def verify(self) -> builtins.list[Problem]:
        """Check everything that can be checked: content hashes, the log's hash chain, heads, stale marks, indexes,
        blobs, tombstones. Reads the whole store.
        """
        ...

    def close(self) -> None: ...


@runtime_checkable
class SupportsSearch(Protocol):
    """Gives columns and postings to a ranker."""

    def search_view(self, query: ViewQuery) -> SearchView: ...

    def missing_vectors(self, space: str, limit: int, after: VersionRef | None = None) -> list[MemCube]:
        """Versions with text but without a vector in `space`, in a stable order after `after`."""
        ...

    def add_vectors(self, space: str, vectors: Mapping[VersionRef, NDArray[np.float32]]) -> None:
        """Add vectors to versions that exist; idempotent. Unknown and erased versions are passed over."""
        ...

    def drop_space(self, fingerprint: str) -> None: ...


@runtime_checkable
class SupportsScrub(Protocol):
    """Removes erased bytes from the medium."""

    def scrub(self) -> bool:
        """Remove the bytes of everything erased so far; False if somebody still reads them (try again)."""
        ...

    def is_scrubbed(self, seq: int) -> bool:
        """Whether what the commit at `seq` erased is physically gone."""
        ...


@runtime_checkable
class SupportsRecords(Protocol):
    """Lossless transfer between vaults."""

    def records(self, scope: Scope) -> Iterator[Record]:
        """Everything in the scope, in an order in which it can be restored, from one consistent moment."""
        ...

    def restore(self, records: Iterable[Record], commit: Commit) -> dict[str, int]:
        """Write records with their ids, versions and times, under `commit`'s activity; all or nothing.

        What is there already and equal is skipped; what differs raises `VersionConflict`. Returns counts by kind.
        """
        ...


@runtime_checkable
class SupportsBackup(Protocol):
    """Copies itself while in use."""

    def backup(self, path: Path) -> None: ...
