"""SqliteVault: the embedded default, one file that several threads and processes share."""

from __future__ import annotations

import builtins
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from memos_agents.cube.canonical import JSON
from memos_agents.cube.memcube import MemCube, VersionRef
from memos_agents.cube.moment import from_microseconds, to_microseconds, utc
from memos_agents.cube.scope import Scope, check_name
from memos_agents.cube.state import MemoryState
from memos_agents.errors import BackendUnavailable, InvalidRequest, NotFound
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
    Snapshot,
    Space,
    VaultStats,
    ViewQuery,
)
from memos_agents.infrastructure.vault.blobs import BlobStore, FolderBlobs
from memos_agents.infrastructure.vault.changes import Changes, Position
from memos_agents.infrastructure.vault.commit import Commit, CommitResult, Lease, Tombstone
from memos_agents.infrastructure.vault.record_reading import collect_records
from memos_agents.infrastructure.vault.sqlite import leases, spaces
from memos_agents.infrastructure.vault.sqlite.apply import Applier
from memos_agents.infrastructure.vault.sqlite.changes import Feed
from memos_agents.infrastructure.vault.sqlite.copying import copy_to
from memos_agents.infrastructure.vault.sqlite.counting import count
from memos_agents.infrastructure.vault.sqlite.engine import Counters, Engine
from memos_agents.infrastructure.vault.sqlite.journal import Journal
from memos_agents.infrastructure.vault.sqlite.lineage import Lineage
from memos_agents.infrastructure.vault.sqlite.names import Names
from memos_agents.infrastructure.vault.sqlite.opening import Durability, prepare
from memos_agents.infrastructure.vault.sqlite.reading import Reader
from memos_agents.infrastructure.vault.sqlite.records_of import SqliteMoment
from memos_agents.infrastructure.vault.sqlite.restoring import restore
from memos_agents.infrastructure.vault.sqlite.schema import STATE_NUMBER
from memos_agents.infrastructure.vault.sqlite.scrubbing import delete_doomed_blobs, is_scrubbed, scrub
from memos_agents.infrastructure.vault.sqlite.searching import Searching, SqliteSearchView
from memos_agents.infrastructure.vault.sqlite.uses import PendingUses
from memos_agents.infrastructure.vault.sqlite.verifying import Checks

T = TypeVar("T")
_ERASED = STATE_NUMBER[MemoryState.ERASED]


class SqliteVault:
    """One tenant's cubes in a file, with its log beside it (`-wal`, `-shm`) and payload bytes in `FILE.blobs/`.

    Every commit is durable when it returns: `durability="full"` survives a power cut, "relaxed" a killed process
    (SQLite's synchronous=FULL and NORMAL). Threads share one fsync (group commit); processes take turns.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        tenant: str = "default",
        durability: Durability = "full",
        readonly: bool = False,
        blobs: BlobStore | None = None,
    ) -> None:
        if durability not in ("full", "relaxed"):
            raise InvalidRequest(f"durability is {durability!r}; possible: 'full' or 'relaxed'")
        self._path = Path(path)
        self._tenant = check_name(tenant, what="tenant")
        self._is_readonly = readonly
        prepare(self._path, durability=durability, readonly=readonly)
        self._blobs: BlobStore = FolderBlobs(Path(f"{self._path}.blobs")) if blobs is None else blobs
        self._names = Names(self._tenant)
        self._uses = PendingUses()
        self._engine = Engine(self._path, durability=durability, readonly=readonly, hooks=self)
        self._reader = Reader(self._tenant, self._names, self._uses.pending)
        self._journal = Journal(self._reader)
        self._applier = Applier(self._tenant, self._names, self._blobs.has)
        self._searching = Searching(self._engine, self._reader, self._names)
        self._closing = threading.Lock()

    @property
    def tenant(self) -> str:
        return self._tenant

    @property
    def blobs(self) -> BlobStore:
        return self._blobs

    @property
    def is_readonly(self) -> bool:
        return self._is_readonly

    @property
    def path(self) -> Path:
        return self._path

    @property
    def counters(self) -> Counters:
        """Commits of this process, and the groups in which they became durable together (one fsync each)."""
        return self._engine.counters

    # -- what changes the store

    def commit(self, commit: Commit) -> CommitResult:
        result = self._engine.write(lambda connection: self._applier.apply(connection, commit))
        if result.erased and not result.is_repeated:
            with suppress(BackendUnavailable, OSError):  # the commit is durable; `scrub` deletes what is left
                self._forget_blobs()
        return result

    def commit_planned(self, plan: Callable[[], Commit]) -> tuple[Commit, CommitResult]:
        planned: list[Commit] = []
        result = self._engine.write(
            lambda connection: self._applier.apply(connection, planned[0]), lambda: planned.append(plan())
        )
        return planned[0], result

    def restore(self, records: Iterable[Mapping[str, JSON]], commit: Commit) -> dict[str, int]:
        if commit != Commit(activity=commit.activity, key=commit.key, lease=commit.lease):
            raise InvalidRequest("a commit that loads records can carry an activity, a key and a lease, nothing else")
        load = collect_records(records, self._tenant)  # before the transaction: the lines may come from this very file
        return self._engine.write(lambda connection: restore(connection, self._applier, self._reader, load, commit))

    def touch(self, cube_ids: Iterable[str], at: datetime) -> None:
        if self._is_readonly:
            raise BackendUnavailable(
                f"the store {str(self._path)!r} was opened with readonly=True; open it without to write"
            )
        if self._engine.is_closed:
            raise BackendUnavailable("the store is closed; open it again with MemOS.open(...)")
        self._uses.add(set(cube_ids), to_microseconds(utc(at, what="at")))

    def acquire_lease(self, name: str, owner: str, seconds: float, now: datetime) -> Lease:
        return self._engine.write(lambda connection: leases.acquire(connection, self._names, name, owner, seconds, now))

    def release_lease(self, lease: Lease) -> None:
        self._engine.write(lambda connection: leases.release(connection, self._names, lease))

    def set_snapshot(self, name: str, now: datetime) -> Snapshot:
        at = utc(now, what="now")

        def mark(connection: sqlite3.Connection) -> Snapshot:
            tail = self._names.tail(connection)
            connection.execute(
                "INSERT OR REPLACE INTO snapshot(tenant, name, seq, at_us) VALUES(?,?,?,?)",
                (tail.tenant, name, tail.seq, to_microseconds(at)),
            )
            return Snapshot(name=name, seq=tail.seq, at=at)

        return self._engine.write(mark)

    def open_space(
        self, fingerprint: str, dimension: int, *, make_default: bool = False, instead_of: str | None = None
    ) -> Space:
        known = {space.fingerprint: space for space in self.spaces()}.get(fingerprint)
        spaces.check_dimension(fingerprint, dimension, known)
        if known is not None and instead_of is None and (known.is_default or not make_default):
            return known

        def make(connection: sqlite3.Connection) -> Space:
            if make_default and instead_of is not None and instead_of != fingerprint:
                spaces.drop(connection, self._names, instead_of)
            return spaces.make(connection, self._names, fingerprint, dimension, make_default=make_default)

        space = self._engine.write(make)
        self._forget_space(instead_of)
        return space

    def add_vectors(self, space: str, vectors: Mapping[VersionRef, NDArray[np.float32]]) -> None:
        self._engine.write(lambda connection: spaces.add_vectors(connection, self._names, space, vectors))

    def drop_space(self, fingerprint: str) -> None:
        self._engine.write(lambda connection: spaces.drop(connection, self._names, fingerprint))
        self._forget_space(fingerprint)

    def scrub(self) -> bool:
        try:
            self._forget_blobs()
            if isinstance(self._blobs, FolderBlobs):
                self._blobs.clear_staging()
        except OSError:
            return False
        with self._engine.exclusive() as connection:
            return scrub(connection)

    # -- what reads it

    def get(self, cube_ids: Sequence[str], scope: Scope) -> dict[str, MemCube]:
        return self._read(lambda connection: self._reader.heads(connection, cube_ids, scope))

    def versions(self, refs: Sequence[VersionRef], scope: Scope) -> dict[VersionRef, MemCube]:
        return self._read(
            lambda connection: self._reader.versions(connection, [VersionRef(*ref) for ref in refs], scope)
        )

    def history(self, cube_id: str, scope: Scope) -> builtins.list[MemCube]:
        return self._read(lambda connection: self._reader.history(connection, cube_id, scope))

    def find_key(self, scope: Scope, collection: str, key: str) -> MemCube | None:
        return self._read(lambda connection: self._reader.by_key(connection, scope, collection, key))

    def list(self, query: ListQuery) -> builtins.list[MemCube]:
        return self._read(lambda connection: self._reader.page(connection, query))

    def relations(
        self, cube_ids: Sequence[str], scope: Scope, *, removed: bool = False
    ) -> builtins.list[RelationRecord]:
        return self._read(lambda connection: self._reader.relations(connection, cube_ids, scope, removed=removed))

    def lineage(self, ref: VersionRef, direction: Direction, depth: int | None, scope: Scope) -> ProvenanceGraph:
        root = VersionRef(*ref)
        return self._read(lambda connection: Lineage(self._reader, connection, scope).graph(root, direction, depth))

    def log(self, query: LogQuery) -> builtins.list[LogEntry]:
        return self._read(lambda connection: self._journal.log(connection, query))

    def effects(self, activity_id: str, scope: Scope) -> Effects:
        found = self._read(lambda connection: self._journal.effects(connection, activity_id, scope))
        if found is None:
            raise NotFound(f"there is no activity {activity_id!r}", activity_id=activity_id)
        return found

    def tombstones(self, activity_id: str) -> builtins.list[Tombstone]:
        return self._read(lambda connection: self._journal.tombstones(connection, activity_id))

    def snapshots(self) -> builtins.list[Snapshot]:
        def read(connection: sqlite3.Connection) -> builtins.list[Snapshot]:
            rows = connection.execute(
                "SELECT name, seq, at_us FROM snapshot WHERE tenant=? ORDER BY name", (self._names.tenant(connection),)
            )
            return [Snapshot(name=name, seq=seq, at=from_microseconds(at_us)) for name, seq, at_us in rows]

        return self._read(read)

    def spaces(self) -> builtins.list[Space]:
        return self._read(lambda connection: spaces.known(connection, self._names))

    def stats(self, scope: Scope) -> VaultStats:
        self._store_uses()
        blob_bytes = self._blobs.size_bytes() if scope.is_everything else None
        size_bytes = self._engine.size_bytes()
        return self._read(lambda connection: count(connection, self._reader, scope, size_bytes, blob_bytes))

    def verify(self) -> builtins.list[Problem]:
        with self._engine.read() as connection:
            return [*Checks(connection, self._names, self._tenant, self._blobs)]

    def search_view(self, query: ViewQuery) -> SqliteSearchView:
        return self._searching.view(query)

    def missing_vectors(self, space: str, limit: int, after: VersionRef | None = None) -> builtins.list[MemCube]:
        refs = self._read(lambda connection: spaces.missing(connection, self._names, space, limit, after))
        found = self.versions(refs, Scope.everything(self._tenant))
        return [found[ref] for ref in refs if ref in found]

    def is_scrubbed(self, seq: int) -> bool:
        return self._read(lambda connection: is_scrubbed(connection, self._names.tenant(connection), seq))

    @contextmanager
    def moment(self) -> Iterator[SqliteMoment]:
        self._store_uses()
        with self._engine.read() as connection:
            yield SqliteMoment(self._reader, connection)

    def cube_ids(self, scope: Scope, *, limit: int, after: str | None = None) -> builtins.list[str]:
        with self.moment() as moment:
            return moment.cube_ids(scope, limit=limit, after=after)

    def records_of(self, cube_ids: Sequence[str], scope: Scope) -> Iterator[Record]:
        with self.moment() as moment:
            yield from moment.records_of(cube_ids, scope)

    def records(self, scope: Scope) -> Iterator[Record]:
        with self.moment() as moment:
            yield from moment.records(scope)

    def changes(self, after: Position, limit: int) -> Changes | None:
        self._store_uses()
        return self._read(lambda connection: Feed(self._reader, connection).after(after, limit))

    def backup(self, path: Path) -> None:
        """Write a copy as of one moment to a new file while the store is in use; blobs go to `PATH.blobs/`.

        Takes about a second for 500 MB. Raises `InvalidRequest` if there is such a file already.
        """
        if path.exists():
            raise InvalidRequest(f"{str(path)!r} exists already; a backup never overwrites, name a new file")
        self._store_uses()
        copies = FolderBlobs(Path(f"{path}.blobs"))
        with self._engine.read() as connection:
            names = [row[0] for row in connection.execute("SELECT DISTINCT sha256 FROM blob")]
            for name in names:
                copies.put(self._blobs.get(name))
            copy_to(connection, path)

    def close(self) -> None:
        with self._closing:
            if self._engine.is_closed:
                return
            try:
                self._store_uses()
            finally:
                self._engine.close()

    # -- what the engine calls around a group of commits

    def begin(self, connection: sqlite3.Connection) -> None:
        self._names.begin()
        self._uses.store(connection, self._names.tenant(connection))

    def finish(self, connection: sqlite3.Connection) -> None:
        self._names.store_tail(connection)

    def end(self, *, is_committed: bool) -> None:
        self._uses.settle(is_stored=is_committed)
        if not is_committed:
            self._names.forget()

    def _read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        with self._engine.read() as connection:
            return work(connection)

    def _forget_space(self, fingerprint: str | None) -> None:
        if fingerprint is not None:
            self._searching.forget()

    def _store_uses(self) -> None:
        if self._uses.pending() and not self._is_readonly:
            self._engine.write(lambda connection: None)

    def _forget_blobs(self) -> None:
        with self._engine.exclusive() as connection:
            delete_doomed_blobs(connection, self._blobs)
