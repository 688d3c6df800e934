"""Applying one commit inside the writer's transaction."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable, Iterable
from dataclasses import replace

from memos_agents.cube.canonical import canonical_json
from memos_agents.cube.memcube import VersionRef
from memos_agents.cube.metadata import DEFAULT_COLLECTION
from memos_agents.cube.moment import from_microseconds, to_microseconds, utc
from memos_agents.cube.state import MemoryState
from memos_agents.errors import InvalidRequest, MemOSError, VersionConflict
from memos_agents.infrastructure.provenance.values import Activity, Relation, Source
from memos_agents.infrastructure.vault import chain
from memos_agents.infrastructure.vault.commit import Commit, CommitResult, Tombstone, Transition, WriteOutcome
from memos_agents.infrastructure.vault.duplicates import redirect
from memos_agents.infrastructure.vault.sqlite import cascade, leases
from memos_agents.infrastructure.vault.sqlite.checks import check, find_duplicates
from memos_agents.infrastructure.vault.sqlite.engine import chunks
from memos_agents.infrastructure.vault.sqlite.names import Names
from memos_agents.infrastructure.vault.sqlite.repeats import first_result, packed
from memos_agents.infrastructure.vault.sqlite.schema import STATE_NUMBER
from memos_agents.infrastructure.vault.sqlite.working import Working
from memos_agents.infrastructure.vault.sqlite.writing import write_versions


class Applier:
    """Applies commits to one tenant."""

    def __init__(self, tenant: str, names: Names, has_blob: Callable[[str], bool]) -> None:
        self._tenant = tenant
        self._names = names
        self._has_blob = has_blob

    def apply(self, connection: sqlite3.Connection, commit: Commit) -> CommitResult:
        """Check and write everything; raises without regard to what is written so far (the caller rolls back)."""
        tail = self._names.tail(connection)
        if commit.key is not None:
            repeated = first_result(connection, tail.tenant, commit.key)
            if repeated is not None:
                return repeated
        started_us = to_microseconds(utc(commit.activity.started_at, what="started_at"))
        at_us = started_us if tail.at_us is None else max(started_us, tail.at_us + 1)
        if commit.lease is not None:
            leases.check(connection, tail.tenant, commit.lease, started_us)
        work = Working(connection, self._names, tail, at_us)
        try:
            return _Application(work, commit, self._tenant, self._has_blob).run()
        except MemOSError as error:
            known = "SELECT 1 FROM activity WHERE tenant=? AND id=?"
            if connection.execute(known, (tail.tenant, commit.activity.id)).fetchone() is not None:
                raise _repeats(commit.activity) from error
            raise

    @property
    def tenant_name(self) -> str:
        return self._tenant

    @property
    def names(self) -> Names:
        return self._names

    @property
    def has_blob(self) -> Callable[[str], bool]:
        return self._has_blob


class _Application:
    """One commit on its way into the tables, step by step."""

    def __init__(self, work: Working, commit: Commit, tenant_name: str, has_blob: Callable[[str], bool]) -> None:
        self._work, self._commit, self._seq = work, commit, work.tail.seq + 1
        self._tenant_name, self._has_blob = tenant_name, has_blob

    def run(self) -> CommitResult:
        commit = self._commit
        bodies = [write.cube.body() for write in commit.writes]
        hashes = [hashlib.sha256(body.encode()).digest() for body in bodies]
        duplicates = find_duplicates(self._work, commit.writes, hashes)
        outcomes = []
        for write in commit.writes:
            twin = duplicates.get(write.cube.id)
            outcomes.append(WriteOutcome(write.cube.ref) if twin is None else WriteOutcome(twin[0], is_duplicate=True))
        if duplicates:
            kept = [position for position, write in enumerate(commit.writes) if write.cube.id not in duplicates]
            bodies, hashes = [bodies[position] for position in kept], [hashes[position] for position in kept]
            self._count_uses(rid for _, rid in duplicates.values())
        commit = redirect(commit, {cube_id: ref for cube_id, (ref, _) in duplicates.items()})
        check(self._work, commit, self._tenant_name, self._has_blob)
        write_versions(self._work, commit.writes, bodies, hashes)
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
            at=from_microseconds(self._work.at_us),
            activity_id=commit.activity.id,
            outcomes=tuple(outcomes),
            erased=tombstones,
            stale=len(stale),
        )
        self._log(commit, result)
        return result

    def _step(self, step: Transition) -> None:
        cube = self._work.cubes[step.cube_id]
        before = cube.head
        after = replace(
            before,
            state=before.state if step.state is None else step.state,
            frozen=before.frozen if step.frozen is None else step.frozen,
        )
        self._work.db.execute(
            "UPDATE cube SET state=?, frozen=? WHERE rid=?", (STATE_NUMBER[after.state], int(after.frozen), cube.rid)
        )
        cube.head = after
        self._work.touched.add(cube.rid)
        if after == before:
            return
        self._work.effects.append(chain.moved(step.cube_id, after.state.value, after.frozen))
        self._work.changes.setdefault("transitions", []).append(
            [step.cube_id, before.state.value, before.frozen, after.state.value, after.frozen]
        )

    def _invalidate(self, commit: Commit) -> None:
        for invalidation in commit.invalidations:
            ref = invalidation.ref
            cube, rid = self._work.cubes[ref.cube_id], self._work.versions[ref]
            if invalidation.lifted:
                self._work.db.execute("UPDATE version SET superseded_us=NULL, ended_by=NULL WHERE rid=?", (rid,))
            else:
                self._work.db.execute(
                    "UPDATE version SET superseded_us=?, ended_by=? WHERE rid=?",
                    (self._work.at_us, self._work.activity, rid),
                )
                self._work.ended.append(rid)
            cube.head = replace(cube.head, is_believed=invalidation.lifted)
            self._work.touched.add(cube.rid)
            self._work.effects.append((chain.lifted if invalidation.lifted else chain.ended)(str(ref)))
            self._work.changes.setdefault("lifted" if invalidation.lifted else "invalidated", []).append(
                [ref.cube_id, ref.version]
            )

    def _derive(self, commit: Commit) -> set[int]:
        """Store the edges and settle what is stale now; return the versions that became so."""
        for source in commit.sources:
            self._know_source(source)
        edges, evidence = [], []
        for edge in dict.fromkeys(commit.derivations):
            derived = self._work.version_rid(edge.derived)
            if isinstance(edge.source, VersionRef):
                edges.append((derived, self._work.version_rid(edge.source), edge.kind, self._work.activity))
            else:
                (source,) = self._work.db.execute(
                    "SELECT rid FROM source WHERE tenant=? AND id=?", (self._work.tenant, edge.source)
                ).fetchone()
                evidence.append((derived, source, edge.kind, self._work.activity))
            self._work.effects.append(chain.derived(str(edge.derived), str(edge.source), edge.kind))
        self._work.many("INSERT OR IGNORE INTO derivation(derived, source, kind, activity) VALUES(?,?,?,?)", edges)
        self._work.many("INSERT OR IGNORE INTO evidence(derived, source, kind, activity) VALUES(?,?,?,?)", evidence)
        stale = set(cascade.mark_descendants(self._work.db, self._work.ended)) if self._work.ended else set()
        if edges:
            stale.update(cascade.mark_born_stale(self._work.db, [edge[0] for edge in edges]))
        lifted = [self._work.versions[item.ref] for item in commit.invalidations if item.lifted]
        if lifted:
            stale -= cascade.recompute_descendants(self._work.db, lifted)
        return stale

    def _know_source(self, source: Source) -> None:
        values = (source.kind, source.locator, source.sha256)
        known = self._work.db.execute(
            "SELECT kind, locator, sha256 FROM source WHERE tenant=? AND id=?", (self._work.tenant, source.id)
        ).fetchone()
        if known is None:
            self._work.db.execute(
                "INSERT INTO source(tenant, id, kind, locator, sha256) VALUES(?,?,?,?,?)",
                (self._work.tenant, source.id, *values),
            )
        elif not known[1]:  # blanked by an erasure
            self._work.db.execute(
                "UPDATE source SET kind=?, locator=?, sha256=? WHERE tenant=? AND id=?",
                (*values, self._work.tenant, source.id),
            )
        elif known != values:
            raise VersionConflict(f"there is another source {source.id!r} already; give this one an id of its own")

    def _relate(self, commit: Commit) -> None:
        for relation in commit.relations:
            ends = (
                self._work.cubes[relation.source_id].rid,
                relation.kind.value,
                self._work.cubes[relation.target_id].rid,
            )
            self._close_relation(ends, relation)
            self._work.db.execute(
                "INSERT INTO relation(source, kind, target, properties, recorded_us, activity) VALUES(?,?,?,?,?,?)",
                (*ends, canonical_json(relation.properties), self._work.at_us, self._work.activity),
            )
            self._work.touched.update((ends[0], ends[2]))
            self._work.effects.append(chain.related(relation.source_id, relation.kind.value, relation.target_id))
        for relation in commit.unrelations:
            known = self._work.cubes.get(relation.source_id), self._work.cubes.get(relation.target_id)
            if known[0] is None or known[1] is None:
                continue
            ends = known[0].rid, relation.kind.value, known[1].rid
            if self._close_relation(ends, relation):
                self._work.touched.update((ends[0], ends[2]))

    def _close_relation(self, ends: tuple[int, str, int], relation: Relation) -> bool:
        closed = self._work.db.execute(
            "UPDATE relation SET removed_us=?, removed_by=? WHERE source=? AND kind=? AND target=? AND removed_us IS "
            "NULL",
            (self._work.at_us, self._work.activity, *ends),
        )
        if closed.rowcount:
            self._work.effects.append(chain.unrelated(relation.source_id, relation.kind.value, relation.target_id))
        return closed.rowcount > 0

    def _erase(self, cube_ids: tuple[str, ...]) -> tuple[tuple[Tombstone, ...], set[int]]:
        named = [self._work.cubes[cube_id].rid for cube_id in dict.fromkeys(cube_ids)]
        doomed = cascade.cubes_derived_from(self._work.db, named)
        tombstones: list[Tombstone] = []
        rids: list[int] = []
        for marks, piece in chunks(doomed):
            rows = self._work.db.execute(
                "SELECT c.id, v.n, v.hash, v.rid, c.rid FROM version v JOIN cube c ON c.rid = v.cube WHERE c.rid IN "
                f"({marks})",
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
            self._work.db,
            doomed,
            rids,
            at_us=self._work.at_us,
            activity=self._work.activity,
            collection=DEFAULT_COLLECTION,
        )
        self._work.touched.update(doomed)
        self._work.effects.extend(chain.erased(str(tombstone.ref), tombstone.content_hash) for tombstone in tombstones)
        closed = self._work.db.execute(
            "SELECT DISTINCT a.id, r.kind, b.id, a.rid, b.rid FROM relation r JOIN cube a ON a.rid = r.source "
            "JOIN cube b ON b.rid = r.target WHERE r.removed_by = ?1 AND (a.state = ?2 OR b.state = ?2)",
            (self._work.activity, STATE_NUMBER[MemoryState.ERASED]),
        ).fetchall()
        self._work.effects.extend(
            chain.unrelated(source_id, kind, target_id) for source_id, kind, target_id, _, _ in closed
        )
        for row in closed:
            self._work.touched.update(row[3:])
        self._work.changes["erased"] = list(dict.fromkeys(tombstone.ref.cube_id for tombstone in tombstones))
        self._work.changes["derived"] = [list(tombstone.ref) for tombstone in tombstones if tombstone.is_derived]
        self._work.db.execute("UPDATE tenant SET erased_seq=? WHERE rid=?", (self._seq, self._work.tenant))
        return tuple(tombstones), set(rids)

    def _count_uses(self, rids: Iterable[int]) -> None:
        rows = [(rid, self._work.at_us) for rid in rids]
        self._work.touched.update(rid for rid, _ in rows)
        add_uses(self._work.db, rows)

    def _log(self, commit: Commit, result: CommitResult) -> None:
        work, activity, agent = self._work, commit.activity, commit.activity.agent
        effects = sorted(work.effects)
        digest = chain.link(work.tail.chain, activity, work.at_us, effects)
        try:
            work.db.execute(
                "INSERT INTO activity(rid, tenant, id, seq, kind, agent_id, agent_kind, agent_name, started_us, at_us, "
                "parameters, key, effects, chain, result, reshapes) VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
                (
                    work.activity, work.tenant, activity.id, self._seq, activity.kind, agent.id, agent.kind, agent.name,
                    to_microseconds(activity.started_at), work.at_us, canonical_json(activity.parameters), commit.key,
                    canonical_json({"chain": effects, **work.changes}), digest,
                    None if commit.key is None else packed(result), int(bool(result.stale or "lifted" in work.changes)),
                ),
            )  # fmt: skip
        except sqlite3.IntegrityError as error:
            raise _repeats(activity) from error
        work.many(
            "INSERT INTO touched(activity, cube) VALUES(?,?)", [(work.activity, rid) for rid in sorted(work.touched)]
        )
        tail = work.tail
        tail.seq, tail.at_us, tail.chain, tail.has_moved = self._seq, work.at_us, digest, True
        tail.cube, tail.version, tail.activity = work.next_cube - 1, work.next_version - 1, work.activity


def _repeats(activity: Activity) -> InvalidRequest:
    return InvalidRequest(f"there is an activity {activity.id!r} already", activity_id=activity.id)


def add_uses(connection: sqlite3.Connection, rows: Iterable[tuple[int, int]]) -> None:
    """Count one use for each (cube rowid, microseconds)."""
    connection.executemany(
        "INSERT INTO usage(cube, count, last_us) VALUES(?, 1, ?) "
        "ON CONFLICT(cube) DO UPDATE SET count = count + 1, last_us = max(last_us, excluded.last_us)",
        rows,
    )
