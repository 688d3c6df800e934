"""Neo4jVault: cubes, versions and their provenance as a graph on a Neo4j server."""

from __future__ import annotations

import builtins
import json
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import TypeVar, cast

import neo4j
import numpy as np
from numpy.typing import NDArray

from memos_agents.cube.canonical import JSON
from memos_agents.cube.memcube import MemCube, VersionRef
from memos_agents.cube.moment import from_microseconds, to_microseconds, utc
from memos_agents.cube.scope import Scope, check_name
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
    SearchView,
    Snapshot,
    Space,
    VaultStats,
    ViewQuery,
)
from memos_agents.infrastructure.vault.blobs import BlobStore
from memos_agents.infrastructure.vault.commit import Commit, CommitResult, Lease, Tombstone
from memos_agents.infrastructure.vault.neo4j import cypher, cypher_beside, leases, lineage, schema, spaces
from memos_agents.infrastructure.vault.neo4j.apply import Applier, Prepared
from memos_agents.infrastructure.vault.neo4j.blobs import GraphBlobs
from memos_agents.infrastructure.vault.neo4j.counting import count
from memos_agents.infrastructure.vault.neo4j.erasing import delete_doomed_blobs
from memos_agents.infrastructure.vault.neo4j.following import Following
from memos_agents.infrastructure.vault.neo4j.journal import Journal
from memos_agents.infrastructure.vault.neo4j.link import Link, Tx
from memos_agents.infrastructure.vault.neo4j.nearest import LargeScopes, Nearest
from memos_agents.infrastructure.vault.neo4j.opening import DEFAULT_DATABASE, DRIVERS, parse_address
from memos_agents.infrastructure.vault.neo4j.reading import Reader
from memos_agents.infrastructure.vault.neo4j.restoring import restore
from memos_agents.infrastructure.vault.neo4j.searching import Searching
from memos_agents.infrastructure.vault.neo4j.transfer import cube_ids, export, records_of
from memos_agents.infrastructure.vault.neo4j.uses import PendingUses
from memos_agents.infrastructure.vault.neo4j.verifying import problems
from memos_agents.infrastructure.vault.record_reading import collect_records

T = TypeVar("T")
_SPOOL_BYTES = 64 << 20
_SEPARATOR = "\x1f"
"""Between store and tenant; no name can hold it."""


class Neo4jVault(Following, LargeScopes):
    """One tenant's cubes in a Neo4j database (Community 5.26 or 2026.x; no plugins).

    `target` is `neo4j://host:7687`, `bolt://…`, or encrypted `neo4j+s://…`; plaintext to another machine is refused
    unless `allow_insecure`. `store`, also as `?store=name` in the target, keeps several stores apart in one database,
    of which Community has only one: the same tenant of two stores is two tenants. Payload bytes go into the graph, or
    to `blobs`.

    Every commit is one transaction, durable when it returns. Commits and reads of several things take the tenant's
    lock, so those of one tenant take turns across all machines; tenants do not wait for each other. A `driver` that is
    handed in belongs to the caller.
    """

    def __init__(
        self,
        target: str,
        *,
        tenant: str = "default",
        auth: tuple[str, str] | None = None,
        database: str | None = None,
        store: str | None = None,
        allow_insecure: bool = False,
        readonly: bool = False,
        blobs: BlobStore | None = None,
        driver: neo4j.Driver | None = None,
    ) -> None:
        self._tenant = check_name(tenant, what="tenant")
        address = parse_address(target, allow_insecure=allow_insecure)
        name = check_name(DEFAULT_DATABASE if database is None else database, what="database")
        store = address.store if store is None else store
        self._link = Link(
            DRIVERS.take(address, auth) if driver is None else driver,
            address,
            name,
            self._tenant,
            stored=self._tenant if store is None else f"{check_name(store, what='store')}{_SEPARATOR}{self._tenant}",
            readonly=readonly,
            owns_driver=driver is None,
        )
        try:
            self._link.greet()
            schema.ensure(self._link)
            if not readonly:
                self._link.write(lambda tx: tx.run(cypher_beside.ENTER, op=tx.op))
        except BaseException:
            self._link.close()
            raise
        self._blobs: BlobStore = GraphBlobs(self._link) if blobs is None else blobs
        self._uses = PendingUses()
        self._writing = threading.Lock()
        self._reader = Reader(self._tenant, self._uses.pending)
        self._journal = Journal(self._reader)
        self._applier = Applier(self._tenant, self._blobs.has, self._uses)
        self._searching = Searching(self._link)
        self.nearest = Nearest(self._link, self._searching)

    def __repr__(self) -> str:
        return f"<Neo4jVault, {self._link!r}>"

    @property
    def tenant(self) -> str:
        return self._tenant

    @property
    def blobs(self) -> BlobStore:
        return self._blobs

    @property
    def is_readonly(self) -> bool:
        return self._link.is_readonly

    @property
    def link(self) -> Link:
        """The connection underneath."""
        return self._link

    # -- what changes the store

    def commit(self, commit: Commit) -> CommitResult:
        prepared = Prepared.of(commit)
        result = self._write(lambda tx: self._applier.apply(tx, prepared))
        if result.erased and not result.is_repeated:
            self._forget()  # what was erased leaves this process's memory too
            with suppress(BackendUnavailable, OSError):  # the commit is durable; `scrub` deletes what is left
                delete_doomed_blobs(self._link, self._blobs)
        return result

    def restore(self, records: Iterable[Mapping[str, JSON]], commit: Commit) -> dict[str, int]:
        if commit != Commit(activity=commit.activity, key=commit.key, lease=commit.lease):
            raise InvalidRequest("a commit that loads records can carry an activity, a key and a lease, nothing else")
        load = collect_records(records, self._tenant)  # before the transaction: the lines may come from this very store
        return self._write(lambda tx: restore(tx, self._tenant, load, commit, self._blobs.has))

    def touch(self, cube_ids: Iterable[str], at: datetime) -> None:
        if self.is_readonly:
            raise BackendUnavailable("the store was opened with readonly=True; open it without to write")
        if self._link.is_closed:
            raise BackendUnavailable("the store is closed; open it again with MemOS.open(...)")
        self._uses.add(set(cube_ids), to_microseconds(utc(at, what="at")))

    def acquire_lease(self, name: str, owner: str, seconds: float, now: datetime) -> Lease:
        return self._write(lambda tx: leases.acquire(tx, name, owner, seconds, now))

    def release_lease(self, lease: Lease) -> None:
        self._write(lambda tx: leases.release(tx, lease))

    def set_snapshot(self, name: str, now: datetime) -> Snapshot:
        at = utc(now, what="now")

        def mark(tx: Tx) -> Snapshot:
            seq = (tx.one(cypher_beside.ENTER, op=tx.op) or [0])[0]
            tx.run(cypher_beside.SET_SNAPSHOT, name=name, seq=seq, at_us=to_microseconds(at))
            return Snapshot(name=name, seq=seq, at=at)

        return self._write(mark)

    def open_space(
        self, fingerprint: str, dimension: int, *, make_default: bool = False, instead_of: str | None = None
    ) -> Space:
        space, dropped = self._write(
            lambda tx: spaces.open_space(tx, fingerprint, dimension, make_default=make_default, instead_of=instead_of)
        )
        self._drop_vectors(dropped)
        return space

    def add_vectors(self, space: str, vectors: Mapping[VersionRef, NDArray[np.float32]]) -> None:
        self._write(lambda tx: spaces.add_vectors(tx, space, vectors))

    def drop_space(self, fingerprint: str) -> None:
        self._drop_vectors(self._write(lambda tx: spaces.drop(tx, fingerprint)))

    def scrub(self) -> bool:
        """Delete erased payloads, and note that nothing erased can be read through the server any more.

        The server's own files are beyond its protocol: freed records and transaction logs hold old bytes until the
        server reuses or rotates them (docs/neo4j.md says how to make it do so).
        """
        try:
            delete_doomed_blobs(self._link, self._blobs)
        except OSError:
            return False
        self._write(lambda tx: tx.run(cypher_beside.SCRUBBED))
        return True

    # -- what reads it

    def get(self, cube_ids: Sequence[str], scope: Scope) -> dict[str, MemCube]:
        return self._read(lambda tx: self._reader.heads(tx, cube_ids, scope))

    def versions(self, refs: Sequence[VersionRef], scope: Scope) -> dict[VersionRef, MemCube]:
        wanted = [VersionRef(*ref) for ref in refs]
        return self._read(lambda tx: self._reader.versions(tx, wanted, scope))

    def history(self, cube_id: str, scope: Scope) -> builtins.list[MemCube]:
        return self._read(lambda tx: self._reader.history(tx, cube_id, scope))

    def find_key(self, scope: Scope, collection: str, key: str) -> MemCube | None:
        return self._read(lambda tx: self._reader.by_key(tx, scope, collection, key))

    def list(self, query: ListQuery) -> builtins.list[MemCube]:
        return self._read(lambda tx: self._reader.page(tx, query))

    def relations(
        self, cube_ids: Sequence[str], scope: Scope, *, removed: bool = False
    ) -> builtins.list[RelationRecord]:
        return self._read(lambda tx: self._reader.relations(tx, cube_ids, scope, removed=removed))

    def lineage(self, ref: VersionRef, direction: Direction, depth: int | None, scope: Scope) -> ProvenanceGraph:
        root = VersionRef(*ref)
        return self._read(lambda tx: lineage.graph(tx, self._reader, root, direction, depth, scope))

    def log(self, query: LogQuery) -> builtins.list[LogEntry]:
        return self._read(lambda tx: self._journal.log(tx, query))

    def effects(self, activity_id: str, scope: Scope) -> Effects:
        found = self._read(lambda tx: self._journal.effects(tx, activity_id, scope))
        if found is None:
            raise NotFound(f"there is no activity {activity_id!r}", activity_id=activity_id)
        return found

    def tombstones(self, activity_id: str) -> builtins.list[Tombstone]:
        return self._read(lambda tx: self._journal.tombstones(tx, activity_id))

    def snapshots(self) -> builtins.list[Snapshot]:
        rows = self._link.read(lambda tx: tx.rows(cypher_beside.SNAPSHOTS), whole=False)
        return [Snapshot(name=name, seq=seq, at=from_microseconds(at_us)) for name, seq, at_us in rows]

    def spaces(self) -> builtins.list[Space]:
        return [numbered.space for numbered in self._link.read(spaces.known, whole=False)]

    def stats(self, scope: Scope) -> VaultStats:
        self._store_uses()
        blob_bytes = self._blobs.size_bytes() if scope.is_everything else None
        return self._read(lambda tx: count(tx, self._reader, scope, blob_bytes))

    def verify(self) -> builtins.list[Problem]:
        return self._read(lambda tx: [*problems(tx, self._tenant, self._blobs)])

    def search_view(self, query: ViewQuery) -> SearchView:
        return self._searching.view(query)

    def missing_vectors(self, space: str, limit: int, after: VersionRef | None = None) -> builtins.list[MemCube]:
        def read(tx: Tx) -> builtins.list[MemCube]:
            refs = spaces.missing(tx, space, limit, after)
            found = self._reader.versions(tx, refs, Scope.everything(self._tenant))
            return [found[ref] for ref in refs if ref in found]

        return self._read(read)

    def is_scrubbed(self, seq: int) -> bool:
        row = self._link.read(lambda tx: tx.one(cypher_beside.TAIL), whole=False)
        if row is None or seq > row[0]:
            return False
        return bool(row[4] >= min(seq, row[3]))

    def records(self, scope: Scope) -> Iterator[Record]:
        """See `SupportsRecords`."""
        self._store_uses()
        return self._spooled(lambda tx: export(tx, self._reader, scope))

    def records_of(self, cube_ids: Sequence[str], scope: Scope) -> Iterator[Record]:
        """See `SupportsRecordsOf`."""
        self._store_uses()
        return self._spooled(lambda tx: records_of(tx, self._reader, cube_ids, scope))

    def cube_ids(self, scope: Scope, *, limit: int, after: str | None = None) -> builtins.list[str]:
        """See `SupportsRecordsOf`."""
        return self._read(lambda tx: cube_ids(tx, self._reader, scope, limit=limit, after=after))

    def close(self) -> None:
        if not self._link.is_closed:
            self.nearest.close()
            try:
                self._store_uses()
            finally:
                self._link.close()

    # -- how

    def _read(self, work: Callable[[Tx], T]) -> T:
        return self._link.read(work)

    def _write(self, work: Callable[[Tx], T]) -> T:
        """One writer of this process at a time: they would only wait for each other at the server."""
        with self._writing:
            try:
                result = self._link.write(work)
            except BaseException:
                self._uses.settle(is_stored=False)
                raise
            self._uses.settle(is_stored=True)
            return result

    def _forget(self) -> None:
        self._searching.forget()
        self.nearest.forget()

    def _store_uses(self) -> None:
        if self._uses.pending() and not self.is_readonly:
            self._write(self._flush)

    def _flush(self, tx: Tx) -> None:
        tx.run(cypher_beside.ENTER, op=tx.op)
        rows = [list(row) for row in self._uses.take(tx.op)]
        if tx.one(cypher_beside.COUNT_ONCE, op=tx.op) is not None:
            tx.run(cypher.USE, rows=rows)

    def _spooled(self, lines: Callable[[Tx], Iterable[Record]]) -> Iterator[Record]:
        """Read all at once, to a file without a name, so that nobody waits for a slow consumer."""
        with tempfile.SpooledTemporaryFile(max_size=_SPOOL_BYTES, mode="w+", encoding="utf-8") as spool:

            def write(tx: Tx) -> None:
                spool.seek(0)
                spool.truncate()
                for record in lines(tx):
                    spool.write(json.dumps(record) + "\n")

            self._read(write)
            spool.seek(0)
            for line in spool:
                yield cast("Record", json.loads(line))

    def _drop_vectors(self, numbers: builtins.list[int]) -> None:
        if numbers:
            self._forget()
            spaces.remove_vectors(self._link, numbers)
