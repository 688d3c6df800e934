"""One commit in a `MemoryVault`: everything that can fail is found out first, then everything is done."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TypeAlias, cast

from memos_agents.cube.canonical import JSON, canonical_json
from memos_agents.cube.memcube import MemCube, VersionRef, body_hash
from memos_agents.cube.moment import to_microseconds, utc
from memos_agents.cube.state import MemoryState
from memos_agents.errors import InvalidRequest, NotFound, VersionConflict
from memos_agents.infrastructure.provenance.values import Activity, Relation
from memos_agents.infrastructure.vault import chain
from memos_agents.infrastructure.vault.base import Effects
from memos_agents.infrastructure.vault.columns import pack_vector
from memos_agents.infrastructure.vault.commit import (
    Commit,
    CommitResult,
    Lease,
    Tombstone,
    Transition,
    Write,
    WriteOutcome,
)
from memos_agents.infrastructure.vault.duplicates import redirect
from memos_agents.infrastructure.vault.memory.staleness import erase, remark
from memos_agents.infrastructure.vault.memory.tables import ActivityRow, CubeRow, Key, RelationRow, Tables, VersionRow
from memos_agents.infrastructure.vault.rules import Head, check_commit, cubes_named

Step: TypeAlias = tuple[str, MemoryState, bool, MemoryState, bool]
MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A commit that cannot fail any more. `rows` belong to `commit.writes`, one each."""

    commit: Commit
    activity: Activity
    at: datetime
    outcomes: tuple[WriteOutcome, ...]
    rows: tuple[VersionRow, ...]
    relations: tuple[Relation, ...]


def commit_to(tables: Tables, commit: Commit, has_blob: Callable[[str], bool]) -> CommitResult:
    """Do `commit`, or raise and leave `tables` as they were."""
    if commit.key is not None and commit.key in tables.results:
        return replace(tables.results[commit.key], is_repeated=True)
    return _apply(tables, _plan(tables, commit, has_blob))


def checked_activity(tables: Tables, commit: Commit) -> tuple[Activity, datetime]:
    """The activity as it will be kept, and the time of its commit."""
    activity = commit.activity
    started_at = utc(activity.started_at, what="started_at")
    check_lease(tables, commit.lease, started_at)
    at = max(started_at, tables.log[-1].at + MICROSECOND) if tables.log else started_at
    return replace(activity, started_at=started_at, parameters=_copied(activity.parameters)), at


def check_unused(tables: Tables, activity: Activity) -> None:
    """Raise `InvalidRequest` if there is an activity with this id, done here or loaded."""
    if activity.id in tables.activities:
        raise InvalidRequest(f"there is an activity {activity.id!r} already", activity_id=activity.id)


def check_lease(tables: Tables, lease: Lease | None, now: datetime) -> None:
    """Raise `VersionConflict` unless the lease, if any is asked for, is held at `now`."""
    if lease is None:
        return
    held = tables.leases.get(lease.name)
    if held is None or (held.owner, held.token) != (lease.owner, lease.token) or held.expires_at <= now:
        raise VersionConflict(
            f"the lease {lease.name!r} is no longer held by {lease.owner!r}; acquire it again and redo the work",
            name=lease.name,
        )


def append_log(tables: Tables, row: ActivityRow) -> None:
    """Give the entry its place in the log and in the hash chain."""
    row.seq = len(tables.log) + 1
    previous = tables.log[-1].chain if tables.log else chain.GENESIS
    tables.activities[row.activity.id] = row
    row.chain = chain.link(previous, row.activity, to_microseconds(row.at), statements(tables, row))
    tables.log.append(row)


def statements(tables: Tables, row: ActivityRow) -> list[str]:
    """What the chain says that one activity changed, told from the tables as they are."""
    effects, told = row.effects, []
    for ref in (*(ref for ref, _ in effects.writes), *row.loaded):
        version = tables.version(ref)
        told.append(chain.wrote(*ref, version.hash if version else "missing"))
        told.extend(
            chain.derived(str(ref), str(derivation.source), derivation.kind)
            for derivation in tables.up.get(ref, ())
            if tables.derivations[derivation] == row.activity.id
        )
    told.extend(chain.moved(cube_id, state.value, frozen) for cube_id, _, _, state, frozen in effects.transitions)
    told.extend(chain.ended(str(ref)) for ref in effects.invalidated)
    told.extend(chain.lifted(str(ref)) for ref in effects.lifted)
    for tell, rows in (
        (chain.related, tables.opened_by(row.activity.id)),
        (chain.unrelated, tables.closed_by(row.activity.id)),
    ):
        told.extend(
            tell(relation.source_id, relation.kind.value, relation.target_id)
            for relation in (row.relation for row in rows)
        )
    told.extend(chain.erased(str(tombstone.ref), tombstone.content_hash) for tombstone in row.tombstones)
    return told


def _plan(tables: Tables, commit: Commit, has_blob: Callable[[str], bool]) -> Plan:
    activity, at = checked_activity(tables, commit)
    merged: dict[str, VersionRef] = {}
    outcomes: list[WriteOutcome] = []
    rows: list[VersionRow] = []
    for write in commit.writes:
        body = write.cube.body()
        row = VersionRow.of(replace(write.cube, recorded_at=at), body, body_hash(body), activity.id)
        found = _duplicate(tables, write, row, at)
        if found is None:
            rows.append(row)
        else:
            merged[write.cube.id] = found
        outcomes.append(WriteOutcome(found or row.ref, is_duplicate=found is not None))
    redirected = redirect(commit, merged)
    before = {cube_id: _head(tables.cubes[cube_id]) for cube_id in cubes_named(redirected) if cube_id in tables.cubes}
    check_commit(redirected, before, tables.tenant, frozenset(tables.sources))
    _check_payloads(redirected, rows, has_blob)
    _check_keys(tables, redirected, rows)
    check_unused(tables, activity)
    for write, row in zip(redirected.writes, rows, strict=True):
        _attach_vectors(tables, write, row)
    _check_sources(tables, redirected)
    return Plan(
        commit=redirected,
        activity=activity,
        at=at,
        outcomes=tuple(outcomes),
        rows=tuple(rows),
        relations=tuple(
            replace(relation, properties=_copied(relation.properties)) for relation in redirected.relations
        ),
    )


def _check_payloads(commit: Commit, rows: list[VersionRow], has_blob: Callable[[str], bool]) -> None:
    for write, row in zip(commit.writes, rows, strict=True):
        if write.replaces is None and write.cube.state is MemoryState.ERASED:
            raise InvalidRequest(f"cube {write.cube.id!r} cannot begin its life erased")
        for sha256 in sorted(row.blobs):
            if not has_blob(sha256):
                raise NotFound(f"there is no blob {sha256!r}; put it before the commit that names it", sha256=sha256)


def _attach_vectors(tables: Tables, write: Write, row: VersionRow) -> None:
    for fingerprint, vector in write.vectors.items():
        row.vectors[fingerprint] = pack_vector(vector, tables.space(fingerprint).dimension)


def _duplicate(tables: Tables, write: Write, row: VersionRow, at: datetime) -> VersionRef | None:
    if not write.merge_duplicate or write.replaces is not None:
        return None
    for cube_id in sorted(tables.same.get((write.cube.scope, row.hash), ())):
        cube = tables.cubes[cube_id]
        head = cube.head
        is_current = head.superseded_at is None and not head.is_stale and not head.has_ended(at)
        if cube.state is MemoryState.ACTIVATED and is_current:
            return head.ref
    return None


def _head(cube: CubeRow) -> Head:
    head = cube.head
    return Head(
        head.ref.version, cube.scope, cube.state, cube.frozen, head.superseded_at is None, head.governance.readers
    )


def _check_sources(tables: Tables, commit: Commit) -> None:
    named: dict[str, object] = {}
    for source in commit.sources:
        if tables.knows(source) or named.setdefault(source.id, source) != source:
            raise VersionConflict(f"there is another source {source.id!r} already", source_id=source.id)


def _check_keys(tables: Tables, commit: Commit, rows: list[VersionRow]) -> None:
    taken = dict(tables.keys)
    held: dict[str, Key | None] = {}
    for write, row in zip(commit.writes, rows, strict=True):
        cube = tables.cubes.get(write.cube.id)
        before = held.get(write.cube.id, cube.key if cube else None)
        if before is not None:
            taken.pop(before, None)
        key = None
        if row.descriptive.key is not None:
            key = (write.cube.scope, row.descriptive.collection, row.descriptive.key)
            if taken.setdefault(key, write.cube.id) != write.cube.id:
                raise VersionConflict(
                    f"the key {row.descriptive.key!r} is taken in collection {row.descriptive.collection!r}; "
                    "read the cube that has it and write a new version of that",
                    key=row.descriptive.key,
                )
        held[write.cube.id] = key


def _apply(tables: Tables, plan: Plan) -> CommitResult:
    commit, at, activity_id = plan.commit, plan.at, plan.activity.id
    changed: list[VersionRef] = []
    for write, row in zip(commit.writes, plan.rows, strict=True):
        changed.extend(_write(tables, write.cube, row, at))
    for outcome in plan.outcomes:
        if outcome.is_duplicate:
            tables.cubes[outcome.ref.cube_id].use(at)
    steps = [_step(tables.cubes[transition.cube_id], transition) for transition in commit.transitions]
    for invalidation in commit.invalidations:
        head = tables.cubes[invalidation.ref.cube_id].head
        head.superseded_at, head.ended_by = (None, None) if invalidation.lifted else (at, activity_id)
        changed.append(head.ref)
    tables.sources.update({source.id: source for source in commit.sources})
    for derivation in commit.derivations:
        tables.add_derivation(derivation, activity_id)
    _relate(tables, plan)
    tombstones = erase(tables, commit.erasures, at, activity_id) if commit.erasures else ()
    stale = remark(tables, changed, [row.ref for row in plan.rows])
    entry = ActivityRow(
        activity=plan.activity,
        at=at,
        touched=_touched(tables, plan, tombstones),
        effects=_effects(plan, [step for step in steps if step[1:3] != step[3:5]], tombstones),
        tombstones=tombstones,
    )
    append_log(tables, entry)
    result = CommitResult(
        seq=len(tables.log), at=at, activity_id=activity_id, outcomes=plan.outcomes, erased=tombstones, stale=stale
    )
    if commit.key is not None:
        tables.results[commit.key] = result
    return result


def _write(tables: Tables, cube: MemCube, row: VersionRow, at: datetime) -> list[VersionRef]:
    """Make the row its cube's head; returns the version that it replaced, if any."""
    known = tables.cubes.get(cube.id)
    if known is None:
        known = CubeRow(id=cube.id, scope=cube.scope, state=cube.state, frozen=cube.frozen, created_at=at, versions=[])
        tables.add_version(known, row)
        return []
    replaced = known.head
    replaced.superseded_at = replaced.superseded_at or at
    tables.add_version(known, row)
    return [replaced.ref]


def _step(cube: CubeRow, transition: Transition) -> Step:
    before = cube.state, cube.frozen
    cube.state = transition.state or cube.state
    cube.frozen = cube.frozen if transition.frozen is None else transition.frozen
    return cube.id, *before, cube.state, cube.frozen


def _relate(tables: Tables, plan: Plan) -> None:
    """Open and close relations; stating one again replaces the record, so that its properties have a history."""
    for relation in plan.relations:
        row = RelationRow(relation=relation, activity_id=plan.activity.id, recorded_at=plan.at)
        tables.close_relation(row.triple, plan.at, plan.activity.id)
        tables.add_relation(row)
    for relation in plan.commit.unrelations:
        tables.close_relation((relation.source_id, relation.kind, relation.target_id), plan.at, plan.activity.id)


def _touched(tables: Tables, plan: Plan, tombstones: tuple[Tombstone, ...]) -> frozenset[str]:
    """The cubes that the log shows the activity for: all that it changed, not those it only made stale."""
    touched = {outcome.ref.cube_id for outcome in plan.outcomes}
    touched.update(transition.cube_id for transition in plan.commit.transitions)
    touched.update(invalidation.ref.cube_id for invalidation in plan.commit.invalidations)
    touched.update(tombstone.ref.cube_id for tombstone in tombstones)
    for row in (*tables.opened_by(plan.activity.id), *tables.closed_by(plan.activity.id)):
        touched.update(row.ends)
    return frozenset(touched)


def _effects(plan: Plan, steps: list[Step], tombstones: tuple[Tombstone, ...]) -> Effects:
    return Effects(
        activity_id=plan.activity.id,
        kind=plan.activity.kind,
        writes=tuple((write.cube.ref, write.replaces or 0) for write in plan.commit.writes),
        transitions=tuple(steps),
        invalidated=tuple(step.ref for step in plan.commit.invalidations if not step.lifted),
        lifted=tuple(step.ref for step in plan.commit.invalidations if step.lifted),
        erased=tuple(sorted({tombstone.ref.cube_id for tombstone in tombstones})),
    )


def _copied(value: Mapping[str, JSON]) -> Mapping[str, JSON]:
    return cast("Mapping[str, JSON]", json.loads(canonical_json(value)))
