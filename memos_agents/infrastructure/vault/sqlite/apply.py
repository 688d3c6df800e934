"""Applying one commit inside the writer's transaction."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from memos_agents.cube.canonical import JSON, canonical_json
from memos_agents.cube.memcube import MemCube, VersionRef
from memos_agents.cube.metadata import DEFAULT_COLLECTION
from memos_agents.cube.moment import from_microseconds, to_microseconds, utc
from memos_agents.cube.payload import ArtefactPayload
from memos_agents.cube.state import MemoryState
from memos_agents.errors import InvalidRequest, NotFound, VersionConflict
from memos_agents.infrastructure.provenance.values import Relation, Source
from memos_agents.infrastructure.vault import chain
from memos_agents.infrastructure.vault.columns import pack_vector, speaker_of
from memos_agents.infrastructure.vault.commit import (
    Commit,
    CommitResult,
    Lease,
    Tombstone,
    Transition,
    Vectors,
    Write,
    WriteOutcome,
)
from memos_agents.infrastructure.vault.duplicates import redirect
from memos_agents.infrastructure.vault.rules import Head, check_commit, cubes_named
from memos_agents.infrastructure.vault.sqlite import cascade
from memos_agents.infrastructure.vault.sqlite.engine import chunks
from memos_agents.infrastructure.vault.sqlite.names import Names
from memos_agents.infrastructure.vault.sqlite.schema import STATE_NUMBER, STATES, TYPE_NUMBER
from memos_agents.infrastructure.vault.sqlite.terms import index_row
from memos_agents.infrastructure.vault.text import text_flags

_Key: TypeAlias = tuple[int, int, int, str, str]
"""User, agent, session (rowids), collection and key."""


@dataclass(slots=True)
class _Cube:
    """A cube as the commit goes on: its rowid, the head before it, and its head now."""

    rid: int
    head_rid: int
    head: Head
    key: _Key | None = None


@dataclass(slots=True)
class _Rows:
    """Rows to be inserted, gathered so that each table takes one statement."""

    cubes: dict[int, list[object]] = field(default_factory=dict)
    heads: dict[int, tuple[object, ...]] = field(default_factory=dict)
    versions: dict[int, list[object]] = field(default_factory=dict)
    ends: list[tuple[int, int]] = field(default_factory=list)
    terms: list[tuple[int, str]] = field(default_factory=list)
    vectors: list[tuple[int, int, bytes]] = field(default_factory=list)
    blobs: list[tuple[str, int]] = field(default_factory=list)


class Applier:
    """Applies commits to one tenant."""

    def __init__(self, tenant: str, names: Names, has_blob: Callable[[str], bool]) -> None:
        self._tenant = tenant
        self._names = names
        self._has_blob = has_blob

    def apply(self, connection: sqlite3.Connection, commit: Commit) -> CommitResult:
        """Check and write everything; raises without regard to what is written so far (the caller rolls back)."""
        tenant, seq, last_us, previous = self._names.tail(connection)
        if commit.key is not None:
            repeated = _repeated(connection, tenant, commit.key)
            if repeated is not None:
                return repeated
        started_us = to_microseconds(utc(commit.activity.started_at, what="started_at"))
        at_us = started_us if last_us is None else max(started_us, last_us + 1)
        if commit.lease is not None:
            check_lease(connection, tenant, commit.lease, started_us)
        return _Application(self, connection, commit, tenant, seq + 1, at_us, previous).run()

    @property
    def tenant_name(self) -> str:
        return self._tenant

    @property
    def names(self) -> Names:
        return self._names

    def require_blobs(self, payload: ArtefactPayload) -> None:
        for ref in payload.blobs.values():
            if not self._has_blob(ref.sha256):
                raise NotFound(
                    f"there is no blob {ref.sha256!r}; put it before the commit that names it", sha256=ref.sha256
                )


class _Application:
    """One commit on its way into the tables."""

    def __init__(
        self,
        applier: Applier,
        connection: sqlite3.Connection,
        commit: Commit,
        tenant: int,
        seq: int,
        at_us: int,
        previous: bytes,
    ) -> None:
        self._applier, self._db, self._commit = applier, connection, commit
        self._tenant, self._seq, self._at_us, self._previous = tenant, seq, at_us, previous
        self._cubes: dict[str, _Cube] = {}
        self._versions: dict[VersionRef, int] = {}
        self._effects: list[str] = []
        self._touched: set[int] = set()
        self._ended: list[int] = []
        self._undo: dict[str, list[JSON]] = {}
        (cube_rid, version_rid, activity_rid) = connection.execute(
            "SELECT (SELECT max(rid) FROM cube), (SELECT max(rid) FROM version), (SELECT max(rid) FROM activity)"
        ).fetchone()
        self._next_cube, self._next_version = (cube_rid or 0) + 1, (version_rid or 0) + 1
        self._activity = (activity_rid or 0) + 1

    def run(self) -> CommitResult:
        commit = self._commit
        bodies = [write.cube.body() for write in commit.writes]
        hashes = [hashlib.sha256(body.encode()).digest() for body in bodies]
        duplicates = self._find_duplicates(commit.writes, hashes)
        outcomes = []
        for write in commit.writes:
            twin = duplicates.get(write.cube.id)
            outcomes.append(WriteOutcome(write.cube.ref) if twin is None else WriteOutcome(twin[0], is_duplicate=True))
        if duplicates:
            kept = [position for position, write in enumerate(commit.writes) if write.cube.id not in duplicates]
            bodies, hashes = [bodies[position] for position in kept], [hashes[position] for position in kept]
            self._count_uses(rid for _, rid in duplicates.values())
        commit = redirect(commit, {cube_id: ref for cube_id, (ref, _) in duplicates.items()})
        self._check(commit)
        self._insert_activity()
        self._write(commit.writes, bodies, hashes)
        for step in commit.transitions:
            self._step(step)
        self._invalidate(commit)
        stale = self._derive(commit)
        self._relate(commit)
        tombstones: tuple[Tombstone, ...] = ()
        if commit.erasures:
            tombstones, gone = self._erase(commit.erasures)
            stale -= gone
        result = CommitResult(
            seq=self._seq,
            at=from_microseconds(self._at_us),
            activity_id=commit.activity.id,
            outcomes=tuple(outcomes),
            erased=tombstones,
            stale=len(stale),
        )
        self._log(commit, result)
        return result

    # -- before anything is written

    def _find_duplicates(self, writes: Iterable[Write], hashes: list[bytes]) -> dict[str, tuple[VersionRef, int]]:
        found: dict[str, tuple[VersionRef, int]] = {}
        for write, digest in zip(writes, hashes, strict=True):
            if not write.merge_duplicate or write.replaces is not None:
                continue
            owner = self._applier.names.scope_rids(self._db, write.cube.scope)
            rows = self._db.execute(
                "SELECT c.id, c.version, c.rid FROM cube c INDEXED BY cube_hash CROSS JOIN version v ON v.rid = c.head WHERE c.hash = ? "
                "AND c.tenant = ? AND c.user = ? AND c.agent = ? AND c.session = ? AND c.state = ? AND v.hash = ? "
                "AND v.superseded_us IS NULL AND v.stale = 0 AND (v.expires_us IS NULL OR v.expires_us > ?)",
                (short_hash(digest), self._tenant, *owner, STATE_NUMBER[MemoryState.ACTIVATED], digest, self._at_us),
            ).fetchall()
            if rows:
                cube_id, version, rid = min(rows)
                found[write.cube.id] = (VersionRef(cube_id, version), rid)
        return found

    def _check(self, commit: Commit) -> None:
        named = cubes_named(commit)
        fresh = {write.cube.id for write in commit.writes if write.replaces is None}
        if named != fresh:  # ids of new cubes are checked by the table's constraint
            self._load(named)
        heads = {cube_id: cube.head for cube_id, cube in self._cubes.items()}
        wanted = sorted({edge.source for edge in commit.derivations if isinstance(edge.source, str)})
        sources: set[str] = set()
        for marks, piece in chunks(wanted):
            rows = self._db.execute(
                f"SELECT id FROM source WHERE tenant = ? AND id IN ({marks})", (self._tenant, *piece)
            )
            sources.update(row[0] for row in rows)
        check_commit(commit, heads, self._applier.tenant_name, frozenset(sources))
        for write in commit.writes:
            if write.replaces is None and write.cube.state is MemoryState.ERASED:
                raise InvalidRequest(f"cube {write.cube.id!r} cannot begin its life erased")
            if isinstance(write.cube.payload, ArtefactPayload):
                self._applier.require_blobs(write.cube.payload)
        self._check_keys(commit.writes)

    def _check_keys(self, writes: tuple[Write, ...]) -> None:
        """Each key has one cube, in the order of the writes."""
        holders: dict[_Key, str | None] = {}
        held: dict[str, _Key | None] = {}
        for write in writes:
            cube, header = write.cube, write.cube.descriptive
            known = self._cubes.get(cube.id)
            if header.key is None and (known is None or known.key is None):
                continue
            before = held.get(cube.id, None if known is None else known.key)
            if before is not None:
                holders[before] = None
            key = None
            if header.key is not None:
                key = (*self._applier.names.scope_rids(self._db, cube.scope), header.collection, header.key)
                if key not in holders:
                    row = self._db.execute(
                        "SELECT id FROM cube WHERE tenant=? AND user=? AND agent=? AND session=? AND collection=? AND key=?",
                        (self._tenant, *key),
                    ).fetchone()
                    holders[key] = None if row is None else row[0]
                if holders[key] not in (None, cube.id):
                    raise VersionConflict(
                        f"the key {header.key!r} is taken in collection {header.collection!r}; read the cube that has it "
                        "and write a new version of that",
                        key=header.key,
                    )
                holders[key] = cube.id
            held[cube.id] = key

    def _load(self, cube_ids: Iterable[str]) -> None:
        for marks, piece in chunks(list(cube_ids)):
            rows = self._db.execute(
                "SELECT c.id, c.rid, c.head, c.version, c.user, c.agent, c.session, c.state, c.frozen, c.readers, "
                f"v.superseded_us, c.collection, c.key FROM cube c JOIN version v ON v.rid = c.head WHERE c.tenant = ? AND c.id IN ({marks})",
                (self._tenant, *piece),
            ).fetchall()
            for (
                cube_id,
                rid,
                head,
                version,
                user,
                agent,
                session,
                state,
                frozen,
                readers,
                superseded,
                collection,
                key,
            ) in rows:
                scope = self._applier.names.scope(self._db, user, agent, session)
                known = Head(
                    version,
                    scope,
                    STATES[state],
                    bool(frozen),
                    superseded is None,
                    tuple(json.loads(readers)) if readers else (),
                )
                held = None if key is None else (user, agent, session, collection, key)
                self._cubes[cube_id] = _Cube(rid, head, known, held)
                self._versions[VersionRef(cube_id, version)] = head

    # -- writing

    def _insert_activity(self) -> None:
        activity = self._commit.activity
        try:
            self._db.execute(
                "INSERT INTO activity(rid, tenant, id, seq, kind, agent_id, agent_kind, agent_name, started_us, at_us, "
                "parameters, key) VALUES(?,?,?,?,?,?,?,?,?,?,?,?)",
                (
                    self._activity,
                    self._tenant,
                    activity.id,
                    self._seq,
                    activity.kind,
                    activity.agent.id,
                    activity.agent.kind,
                    activity.agent.name,
                    to_microseconds(activity.started_at),
                    self._at_us,
                    canonical_json(activity.parameters),
                    self._commit.key,
                ),
            )
        except sqlite3.IntegrityError as error:
            raise InvalidRequest(f"there is an activity {activity.id!r} already", activity_id=activity.id) from error

    def _write(self, writes: tuple[Write, ...], bodies: list[str], hashes: list[bytes]) -> None:
        rows = _Rows()
        for write, body, digest in zip(writes, bodies, hashes, strict=True):
            cube = write.cube
            version_rid = self._next_version
            self._next_version += 1
            known = self._cubes.get(cube.id)
            if known is None:
                cube_rid = self._next_cube
                self._next_cube += 1
                owner = self._applier.names.scope_rids(self._db, cube.scope, make=True)
                head = Head(1, cube.scope, cube.state, cube.frozen, True, cube.governance.readers)
                self._cubes[cube.id] = _Cube(cube_rid, version_rid, head)
                rows.cubes[cube_rid] = [
                    cube_rid, self._tenant, cube.id, *owner, STATE_NUMBER[cube.state], int(cube.frozen), self._at_us
                ]  # fmt: skip
            else:
                cube_rid = known.rid
                owner = self._applier.names.scope_rids(self._db, cube.scope)
                if known.head_rid in rows.versions:
                    rows.versions[known.head_rid][5] = self._at_us
                elif known.head.is_believed:
                    rows.ends.append((self._at_us, known.head_rid))
                self._ended.append(known.head_rid)
                known.head_rid = version_rid
                known.head = replace(
                    known.head, version=cube.version, is_believed=True, readers=cube.governance.readers
                )
            self._versions[cube.ref] = version_rid
            self._touched.add(cube_rid)
            self._undo.setdefault("writes", []).append([cube.id, cube.version, write.replaces or 0])
            self._effects.append(chain.wrote(cube.id, cube.version, digest.hex()))
            header = cube.descriptive
            rows.heads[cube_rid] = (
                cube.version, version_rid, short_hash(digest), header.collection,
                header.key, json.dumps(cube.governance.readers) if cube.governance.readers else "",
            )  # fmt: skip
            words, length = index_row(cube, self._tenant, owner)
            rows.versions[version_rid] = [
                version_rid, cube_rid, cube.version, self._activity, self._at_us, None, digest, body,
                TYPE_NUMBER[cube.memory_type], *time_columns(cube, self._at_us), header.collection, speaker_of(header), int(text_flags(cube.text)), length,
            ]  # fmt: skip
            rows.terms.append((version_rid, words))
            rows.vectors.extend(self._vector_rows(version_rid, write.vectors))
            if isinstance(cube.payload, ArtefactPayload):
                rows.blobs.extend((ref.sha256, version_rid) for ref in set(cube.payload.blobs.values()))
        self._insert(rows)

    def _insert(self, rows: _Rows) -> None:
        new = [(*values, *rows.heads.pop(rid)) for rid, values in rows.cubes.items()]
        if rows.heads and any(cube.key is not None for cube in self._cubes.values()):
            self._many("UPDATE cube SET key=NULL WHERE rid=?", [(rid,) for rid in rows.heads])
        try:
            self._many(
                "INSERT INTO cube(rid, tenant, id, user, agent, session, state, frozen, created_us, version, "
                "head, hash, collection, key, readers) VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
                new,
            )
            self._many(
                "UPDATE cube SET version=?, head=?, hash=?, collection=?, key=?, readers=? WHERE rid=?",
                [(*values, rid) for rid, values in rows.heads.items()],
            )
        except sqlite3.IntegrityError as error:
            raise VersionConflict(
                "another cube has the same id or key in this scope; read it and write its next version"
            ) from error
        self._many("UPDATE version SET superseded_us=? WHERE rid=?", rows.ends)
        self._many(
            "INSERT INTO version(rid, cube, n, activity, recorded_us, superseded_us, hash, body, memory_type, event_us, "
            "valid_from_us, valid_to_us, expires_us, collection, speaker, flags, length) VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
            list(rows.versions.values()),
        )
        self._many("INSERT INTO terms(rowid, words) VALUES(?,?)", rows.terms)
        self._many("INSERT INTO vector(space, version, data) VALUES(?,?,?)", rows.vectors)
        self._many("INSERT INTO blob(sha256, version) VALUES(?,?)", rows.blobs)

    def _vector_rows(self, version_rid: int, vectors: Vectors) -> list[tuple[int, int, bytes]]:
        rows = []
        for fingerprint, vector in vectors.items():
            space, dimension = self._applier.names.space(self._db, fingerprint)
            rows.append((space, version_rid, pack_vector(vector, dimension)))
        return rows

    def _step(self, step: Transition) -> None:
        cube = self._cubes[step.cube_id]
        before = cube.head
        after = replace(
            before,
            state=before.state if step.state is None else step.state,
            frozen=before.frozen if step.frozen is None else step.frozen,
        )
        self._db.execute(
            "UPDATE cube SET state=?, frozen=? WHERE rid=?", (STATE_NUMBER[after.state], int(after.frozen), cube.rid)
        )
        cube.head = after
        self._touched.add(cube.rid)
        if after == before:
            return
        self._effects.append(chain.moved(step.cube_id, after.state.value, after.frozen))
        self._undo.setdefault("transitions", []).append(
            [step.cube_id, before.state.value, before.frozen, after.state.value, after.frozen]
        )

    def _invalidate(self, commit: Commit) -> None:
        for invalidation in commit.invalidations:
            ref = invalidation.ref
            cube, rid = self._cubes[ref.cube_id], self._versions[ref]
            if invalidation.lifted:
                self._db.execute("UPDATE version SET superseded_us=NULL, ended_by=NULL WHERE rid=?", (rid,))
            else:
                self._db.execute(
                    "UPDATE version SET superseded_us=?, ended_by=? WHERE rid=?", (self._at_us, self._activity, rid)
                )
                self._ended.append(rid)
            cube.head = replace(cube.head, is_believed=invalidation.lifted)
            self._touched.add(cube.rid)
            self._effects.append((chain.lifted if invalidation.lifted else chain.ended)(str(ref)))
            self._undo.setdefault("lifted" if invalidation.lifted else "invalidated", []).append(
                [ref.cube_id, ref.version]
            )

    def _derive(self, commit: Commit) -> set[int]:
        """Store the edges and settle what is stale now; return the versions that became so."""
        for source in commit.sources:
            self._know_source(source)
        edges, evidence = [], []
        for edge in dict.fromkeys(commit.derivations):
            derived = self._version_rid(edge.derived)
            if isinstance(edge.source, VersionRef):
                edges.append((derived, self._version_rid(edge.source), edge.kind, self._activity))
            else:
                (source,) = self._db.execute(
                    "SELECT rid FROM source WHERE tenant=? AND id=?", (self._tenant, edge.source)
                ).fetchone()
                evidence.append((derived, source, edge.kind, self._activity))
            self._effects.append(chain.derived(str(edge.derived), str(edge.source), edge.kind))
        self._many("INSERT OR IGNORE INTO derivation(derived, source, kind, activity) VALUES(?,?,?,?)", edges)
        self._many("INSERT OR IGNORE INTO evidence(derived, source, kind, activity) VALUES(?,?,?,?)", evidence)
        stale = set(cascade.mark_descendants(self._db, self._ended)) if self._ended else set()
        if edges:
            stale.update(cascade.mark_born_stale(self._db, [edge[0] for edge in edges]))
        lifted = [self._versions[item.ref] for item in commit.invalidations if item.lifted]
        if lifted:
            stale -= cascade.recompute_descendants(self._db, lifted)
        return stale

    def _know_source(self, source: Source) -> None:
        values = (source.kind, source.locator, source.sha256)
        known = self._db.execute(
            "SELECT kind, locator, sha256 FROM source WHERE tenant=? AND id=?", (self._tenant, source.id)
        ).fetchone()
        if known is None:
            self._db.execute(
                "INSERT INTO source(tenant, id, kind, locator, sha256) VALUES(?,?,?,?,?)",
                (self._tenant, source.id, *values),
            )
        elif not known[1]:  # blanked by an erasure
            self._db.execute(
                "UPDATE source SET kind=?, locator=?, sha256=? WHERE tenant=? AND id=?",
                (*values, self._tenant, source.id),
            )
        elif known != values:
            raise VersionConflict(f"there is another source {source.id!r} already; give this one an id of its own")

    def _version_rid(self, ref: VersionRef) -> int:
        if ref not in self._versions:
            row = self._db.execute(
                "SELECT rid FROM version WHERE cube=? AND n=?", (self._cubes[ref.cube_id].rid, ref.version)
            ).fetchone()
            self._versions[ref] = row[0]
        return self._versions[ref]

    def _relate(self, commit: Commit) -> None:
        for relation in commit.relations:
            ends = self._cubes[relation.source_id].rid, relation.kind.value, self._cubes[relation.target_id].rid
            self._close_relation(ends, relation)
            self._db.execute(
                "INSERT INTO relation(source, kind, target, properties, recorded_us, activity) VALUES(?,?,?,?,?,?)",
                (*ends, canonical_json(relation.properties), self._at_us, self._activity),
            )
            self._touched.update((ends[0], ends[2]))
            self._effects.append(chain.related(relation.source_id, relation.kind.value, relation.target_id))
        for relation in commit.unrelations:
            known = self._cubes.get(relation.source_id), self._cubes.get(relation.target_id)
            if known[0] is None or known[1] is None:
                continue
            ends = known[0].rid, relation.kind.value, known[1].rid
            if self._close_relation(ends, relation):
                self._touched.update((ends[0], ends[2]))

    def _close_relation(self, ends: tuple[int, str, int], relation: Relation) -> bool:
        closed = self._db.execute(
            "UPDATE relation SET removed_us=?, removed_by=? WHERE source=? AND kind=? AND target=? AND removed_us IS NULL",
            (self._at_us, self._activity, *ends),
        )
        if closed.rowcount:
            self._effects.append(chain.unrelated(relation.source_id, relation.kind.value, relation.target_id))
        return closed.rowcount > 0

    def _erase(self, cube_ids: tuple[str, ...]) -> tuple[tuple[Tombstone, ...], set[int]]:
        named = [self._cubes[cube_id].rid for cube_id in dict.fromkeys(cube_ids)]
        doomed = cascade.cubes_derived_from(self._db, named)
        tombstones: list[Tombstone] = []
        rids: list[int] = []
        for marks, piece in chunks(doomed):
            rows = self._db.execute(
                f"SELECT c.id, v.n, v.hash, v.rid, c.rid FROM version v JOIN cube c ON c.rid = v.cube WHERE c.rid IN ({marks})",
                piece,
            ).fetchall()
            direct = set(named)
            for cube_id, number, digest, version_rid, cube_rid in rows:
                tombstones.append(
                    Tombstone(
                        ref=VersionRef(cube_id, number), content_hash=digest.hex(), is_derived=cube_rid not in direct
                    )
                )
                rids.append(version_rid)
        tombstones.sort(key=lambda tombstone: tombstone.ref)
        cascade.erase_content(
            self._db, doomed, rids, at_us=self._at_us, activity=self._activity, collection=DEFAULT_COLLECTION
        )
        self._touched.update(doomed)
        self._effects.extend(chain.erased(str(tombstone.ref), tombstone.content_hash) for tombstone in tombstones)
        closed = self._db.execute(
            "SELECT DISTINCT a.id, r.kind, b.id, a.rid, b.rid FROM relation r JOIN cube a ON a.rid = r.source "
            "JOIN cube b ON b.rid = r.target WHERE r.removed_by = ?1 AND (a.state = ?2 OR b.state = ?2)",
            (self._activity, STATE_NUMBER[MemoryState.ERASED]),
        ).fetchall()
        self._effects.extend(chain.unrelated(source_id, kind, target_id) for source_id, kind, target_id, _, _ in closed)
        for row in closed:
            self._touched.update(row[3:])
        self._undo["erased"] = list(dict.fromkeys(tombstone.ref.cube_id for tombstone in tombstones))
        self._undo["derived"] = [list(tombstone.ref) for tombstone in tombstones if tombstone.is_derived]
        self._db.execute("UPDATE tenant SET erased_seq=? WHERE rid=?", (self._seq, self._tenant))
        return tuple(tombstones), set(rids)

    def _many(self, statement: str, rows: Sequence[tuple[object, ...] | list[object]]) -> None:
        if rows:
            self._db.executemany(statement, rows)

    def _count_uses(self, rids: Iterable[int]) -> None:
        rows = [(rid, self._at_us) for rid in rids]
        self._touched.update(rid for rid, _ in rows)
        add_uses(self._db, rows)

    def _log(self, commit: Commit, result: CommitResult) -> None:
        effects = sorted(self._effects)
        digest = chain.link(self._previous, commit.activity, self._at_us, effects)
        self._db.execute(
            "UPDATE activity SET effects=?, chain=?, result=?, reshapes=? WHERE rid=?",
            (
                canonical_json({"chain": effects, **self._undo}),
                digest,
                None if commit.key is None else _packed(result),
                int(bool(result.stale or "lifted" in self._undo)),
                self._activity,
            ),
        )
        self._many(
            "INSERT INTO touched(activity, cube) VALUES(?,?)", [(self._activity, rid) for rid in sorted(self._touched)]
        )
        self._db.execute(
            "UPDATE tenant SET seq=?, at_us=?, chain=? WHERE rid=?", (self._seq, self._at_us, digest, self._tenant)
        )


def time_columns(cube: MemCube, recorded_us: int) -> tuple[int, int | None, int | None, int | None]:
    """Event time, validity and end of life of a version, in microseconds."""
    header = cube.descriptive
    ttl = cube.governance.ttl_seconds
    return (
        recorded_us if header.occurred_at is None else to_microseconds(header.occurred_at),
        None if header.valid_from is None else to_microseconds(header.valid_from),
        None if header.valid_to is None else to_microseconds(header.valid_to),
        None if ttl is None else recorded_us + round(ttl * 1_000_000),
    )


def short_hash(digest: bytes) -> int:
    """The first 8 bytes of a hash as SQLite's integer, for a small index."""
    return int.from_bytes(digest[:8], "big", signed=True)


def add_uses(connection: sqlite3.Connection, rows: Iterable[tuple[int, int]]) -> None:
    """Count one use for each (cube rowid, microseconds)."""
    connection.executemany(
        "INSERT INTO usage(cube, count, last_us) VALUES(?, 1, ?) "
        "ON CONFLICT(cube) DO UPDATE SET count = count + 1, last_us = max(last_us, excluded.last_us)",
        rows,
    )


def check_lease(connection: sqlite3.Connection, tenant: int, lease: Lease, now_us: int) -> None:
    """Raise `VersionConflict` unless `lease` is still held."""
    row = connection.execute(
        "SELECT owner, token, expires_us FROM lease WHERE tenant=? AND name=?", (tenant, lease.name)
    ).fetchone()
    if row is None or (row[0], row[1]) != (lease.owner, lease.token) or row[2] <= now_us:
        raise VersionConflict(
            f"the lease {lease.name!r} of {lease.owner!r} is no longer held; take it again and retry", lease=lease.name
        )


def _repeated(connection: sqlite3.Connection, tenant: int, key: str) -> CommitResult | None:
    row = connection.execute(
        "SELECT id, seq, at_us, result FROM activity WHERE tenant=? AND key=?", (tenant, key)
    ).fetchone()
    if row is None:
        return None
    packed = json.loads(row[3])
    return CommitResult(
        seq=row[1],
        at=from_microseconds(row[2]),
        activity_id=row[0],
        outcomes=tuple(
            WriteOutcome(VersionRef(cube_id, number), is_duplicate)
            for cube_id, number, is_duplicate in packed["outcomes"]
        ),
        erased=tuple(
            Tombstone(ref=VersionRef(cube_id, number), content_hash=digest, is_derived=is_derived)
            for cube_id, number, digest, is_derived in packed["erased"]
        ),
        stale=packed["stale"],
        is_repeated=True,
    )


def _packed(result: CommitResult) -> str:
    return canonical_json(
        {
            "outcomes": [[*outcome.ref, outcome.is_duplicate] for outcome in result.outcomes],
            "erased": [[*stone.ref, stone.content_hash, stone.is_derived] for stone in result.erased],
            "stale": result.stale,
        }
    )
