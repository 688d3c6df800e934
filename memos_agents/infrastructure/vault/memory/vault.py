"""MemoryVault: the vault protocol over dictionaries, under one lock."""

from __future__ import annotations

import builtins
import functools
import math
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Concatenate, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

from memos_agents.cube.memcube import MemCube, VersionRef
from memos_agents.cube.moment import utc
from memos_agents.cube.scope import Scope, check_name
from memos_agents.errors import BackendUnavailable, IncompatibleModel, InvalidRequest
from memos_agents.infrastructure.provenance.graph import ProvenanceGraph
from memos_agents.infrastructure.vault.base import (
    Direction,
    Effects,
    ListQuery,
    LogEntry,
    LogQuery,
    Problem,
    Record,
    RelationRecord,
    SearchView,
    Snapshot,
    Space,
    VaultStats,
    ViewQuery,
)
from memos_agents.infrastructure.vault.blobs import BlobStore, MemoryBlobs
from memos_agents.infrastructure.vault.commit import Commit, CommitResult, Lease, Tombstone
from memos_agents.infrastructure.vault.memory.checks import find_problems
from memos_agents.infrastructure.vault.memory.commits import commit_to
from memos_agents.infrastructure.vault.memory.lineage import trace
from memos_agents.infrastructure.vault.memory.reads import (
    count,
    list_cubes,
    list_spaces,
    read_effects,
    read_log,
    relations_of,
)
from memos_agents.infrastructure.vault.memory.search import make_view, put_vectors, without_vectors
from memos_agents.infrastructure.vault.memory.tables import Tables
from memos_agents.infrastructure.vault.memory.transfer import export_lines, lines_of, restore_into

P = ParamSpec("P")
T = TypeVar("T")


def _alone(
    method: Callable[Concatenate[MemoryVault, P], T],
) -> Callable[Concatenate[MemoryVault, P], T]:
    """Run a method of an open vault while no other one runs."""

    @functools.wraps(method)
    def run(self: MemoryVault, /, *args: P.args, **kwargs: P.kwargs) -> T:
        with self._lock:
            if self._is_closed:
                raise BackendUnavailable("the store is closed; open it again with MemOS.open(...)")
            return method(self, *args, **kwargs)

    return run


class MemoryVault:
    """One tenant's cubes, gone with the process.

    Costs: a commit or read of n cubes takes microseconds for each of them; lists, counts and search views look at every
    cube of the vault (about 5 ms for a thousand), which suits tests and small stores.
    """

    def __init__(self, *, tenant: str = "default", blobs: BlobStore | None = None) -> None:
        self._tables = Tables(check_name(tenant, what="tenant"))
        self._blobs: BlobStore = MemoryBlobs() if blobs is None else blobs
        self._lock = threading.RLock()
        self._is_closed = False

    @property
    def tenant(self) -> str:
        return self._tables.tenant

    @property
    def blobs(self) -> BlobStore:
        return self._blobs

    @property
    def is_readonly(self) -> bool:
        return False

    @_alone
    def commit(self, commit: Commit) -> CommitResult:
        result = commit_to(self._tables, commit, self._blobs.has)
        if result.erased and not result.is_repeated:
            self._scrub()
        return result

    @_alone
    def get(self, cube_ids: Sequence[str], scope: Scope) -> dict[str, MemCube]:
        found = {cube_id: self._tables.admitted(cube_id, scope) for cube_id in cube_ids}
        return {cube_id: cube.value() for cube_id, cube in found.items() if cube is not None}

    @_alone
    def versions(self, refs: Sequence[VersionRef], scope: Scope) -> dict[VersionRef, MemCube]:
        found: dict[VersionRef, MemCube] = {}
        for ref in refs:
            cube, row = self._tables.admitted(ref.cube_id, scope), self._tables.version(ref)
            if cube is not None and row is not None:
                found[row.ref] = cube.value(row)
        return found

    @_alone
    def history(self, cube_id: str, scope: Scope) -> builtins.list[MemCube]:
        cube = self._tables.admitted(cube_id, scope)
        return [cube.value(row) for row in cube.versions] if cube else []

    @_alone
    def find_key(self, scope: Scope, collection: str, key: str) -> MemCube | None:
        cube_id = self._tables.keys.get((scope, collection, key))
        return None if cube_id is None else self._tables.cubes[cube_id].value()

    @_alone
    def list(self, query: ListQuery) -> builtins.list[MemCube]:
        return list_cubes(self._tables, query)

    @_alone
    def relations(
        self, cube_ids: Sequence[str], scope: Scope, *, removed: bool = False
    ) -> builtins.list[RelationRecord]:
        return relations_of(self._tables, cube_ids, scope, removed=removed)

    @_alone
    def lineage(self, ref: VersionRef, direction: Direction, depth: int | None, scope: Scope) -> ProvenanceGraph:
        return trace(self._tables, VersionRef(*ref), direction, depth, scope)

    @_alone
    def log(self, query: LogQuery) -> builtins.list[LogEntry]:
        return read_log(self._tables, query)

    @_alone
    def effects(self, activity_id: str, scope: Scope) -> Effects:
        return read_effects(self._tables, activity_id, scope)

    @_alone
    def tombstones(self, activity_id: str) -> builtins.list[Tombstone]:
        row = self._tables.activities.get(activity_id)
        return [] if row is None else [*row.tombstones]

    @_alone
    def touch(self, cube_ids: Iterable[str], at: datetime) -> None:
        at = utc(at, what="at")
        for cube_id in set(cube_ids):
            cube = self._tables.cubes.get(cube_id)
            if cube is not None and not cube.is_erased:
                cube.use(at)

    @_alone
    def acquire_lease(self, name: str, owner: str, seconds: float, now: datetime) -> Lease:
        if not (math.isfinite(seconds) and seconds > 0):
            raise InvalidRequest(f"a lease of {seconds!r} seconds ends before it begins")
        now = utc(now, what="now")
        held = self._tables.leases.get(name)
        is_held = held is not None and now < held.expires_at
        if held is not None and is_held and held.owner != owner:
            raise BackendUnavailable(f"the lease {name!r} is held by another owner until {held.expires_at.isoformat()}")
        token = (held.token if held else 0) + (0 if is_held else 1)
        lease = Lease(name=name, owner=owner, token=token, expires_at=now + timedelta(seconds=seconds))
        self._tables.leases[name] = lease
        return lease

    @_alone
    def release_lease(self, lease: Lease) -> None:
        held = self._tables.leases.get(lease.name)
        if held is not None and (held.owner, held.token) == (lease.owner, lease.token):
            # The row stays, ended before any moment, so that the next token is a greater one.
            self._tables.leases[lease.name] = replace(
                held, expires_at=datetime.min.replace(tzinfo=held.expires_at.tzinfo)
            )

    @_alone
    def set_snapshot(self, name: str, now: datetime) -> Snapshot:
        snapshot = Snapshot(name=name, seq=len(self._tables.log), at=utc(now, what="now"))
        self._tables.snapshots[name] = snapshot
        return snapshot

    @_alone
    def snapshots(self) -> builtins.list[Snapshot]:
        return sorted(self._tables.snapshots.values(), key=lambda snapshot: snapshot.name)

    @_alone
    def spaces(self) -> builtins.list[Space]:
        return list_spaces(self._tables)

    @_alone
    def open_space(
        self, fingerprint: str, dimension: int, *, make_default: bool = False, instead_of: str | None = None
    ) -> Space:
        if dimension < 1:
            raise InvalidRequest(f"a vector space cannot have dimension {dimension}")
        spaces = self._tables.spaces
        known = spaces.get(fingerprint)
        if known is not None and known.dimension != dimension:
            raise IncompatibleModel(
                f"vector space {fingerprint!r} has dimension {known.dimension}, not {dimension}",
                found=known.dimension,
                expected=dimension,
            )
        is_first = known is None and not any(space.is_default for space in spaces.values())
        if make_default or is_first:
            for name, space in spaces.items():
                spaces[name] = replace(space, is_default=False)
            spaces[fingerprint] = Space(fingerprint=fingerprint, dimension=dimension, is_default=True)
        if make_default and instead_of is not None and instead_of != fingerprint:
            self.drop_space(instead_of)
        return spaces.setdefault(fingerprint, Space(fingerprint=fingerprint, dimension=dimension, is_default=False))

    @_alone
    def stats(self, scope: Scope) -> VaultStats:
        return count(self._tables, scope, self._blobs.size_bytes() if self._tables.is_whole(scope) else 0)

    @_alone
    def verify(self) -> builtins.list[Problem]:
        return find_problems(self._tables, self._blobs)

    @_alone
    def search_view(self, query: ViewQuery) -> SearchView:
        return make_view(self._tables, query)

    @_alone
    def missing_vectors(self, space: str, limit: int, after: VersionRef | None = None) -> builtins.list[MemCube]:
        return without_vectors(self._tables, space, limit, after)

    @_alone
    def add_vectors(self, space: str, vectors: Mapping[VersionRef, NDArray[np.float32]]) -> None:
        put_vectors(self._tables, space, vectors)

    @_alone
    def drop_space(self, fingerprint: str) -> None:
        if self._tables.spaces.pop(fingerprint, None) is not None:
            for _, row in self._tables.living_versions():
                row.vectors.pop(fingerprint, None)

    @_alone
    def scrub(self) -> bool:
        return self._scrub()

    @_alone
    def is_scrubbed(self, seq: int) -> bool:
        return seq <= len(self._tables.log) and not self._tables.doomed_blobs

    @_alone
    def records(self, scope: Scope) -> Iterator[Record]:
        return iter([line.to_record() for line in export_lines(self._tables, scope)])

    @_alone
    def cube_ids(self, scope: Scope, *, limit: int, after: str | None = None) -> builtins.list[str]:
        ids = (cube.id for cube in self._tables.cubes.values() if scope.admits(cube.scope))
        return sorted(cube_id for cube_id in ids if after is None or cube_id > after)[:limit]

    @_alone
    def records_of(self, cube_ids: Sequence[str], scope: Scope) -> Iterator[Record]:
        return iter([line.to_record() for line in lines_of(self._tables, cube_ids, scope)])

    @_alone
    def restore(self, records: Iterable[Record], commit: Commit) -> dict[str, int]:
        return restore_into(self._tables, records, commit)

    def close(self) -> None:
        with self._lock:
            self._is_closed = True

    def _scrub(self) -> bool:
        """Delete the blobs of what was erased; those that the blob store cannot delete now stay doomed."""
        doomed = self._tables.doomed_blobs
        doomed.difference_update(*(row.blobs for _, row in self._tables.living_versions()))
        try:
            self._blobs.delete(sorted(doomed))
        except OSError:
            return False
        doomed.clear()
        return True
