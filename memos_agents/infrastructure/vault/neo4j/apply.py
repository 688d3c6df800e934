"""Applying one commit inside a transaction: look, judge, then write.

The statement that looks takes the tenant's lock first, so what was seen holds until the transaction ends.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from memos_agents.cube.canonical import canonical_json
from memos_agents.cube.memcube import VersionRef, body_hash
from memos_agents.cube.moment import from_microseconds, to_microseconds, utc
from memos_agents.errors import InvalidRequest
from memos_agents.infrastructure.provenance.values import Activity
from memos_agents.infrastructure.vault import chain
from memos_agents.infrastructure.vault.commit import Commit, CommitResult, Tombstone, WriteOutcome
from memos_agents.infrastructure.vault.duplicates import redirect
from memos_agents.infrastructure.vault.neo4j import cypher
from memos_agents.infrastructure.vault.neo4j.cascade import Cascade
from memos_agents.infrastructure.vault.neo4j.checks import (
    check,
    check_lease,
    check_writable,
    find_duplicates,
    lookups,
    refs_of,
)
from memos_agents.infrastructure.vault.neo4j.drafting import draft_commit, new_rows
from memos_agents.infrastructure.vault.neo4j.erasing import erase
from memos_agents.infrastructure.vault.neo4j.link import Tx
from memos_agents.infrastructure.vault.neo4j.uses import PendingUses
from memos_agents.infrastructure.vault.neo4j.working import Draft, Found

ROWS_AT_ONCE = 250
"""New cubes in one statement: small enough that the server writes while the next rows are being packed."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """What of a commit can be computed before its turn comes: bodies and their hashes."""

    commit: Commit
    bodies: tuple[str, ...]
    hashes: tuple[str, ...]

    @classmethod
    def of(cls, commit: Commit) -> Prepared:
        bodies = tuple(write.cube.body() for write in commit.writes)
        return cls(commit, bodies, tuple(map(body_hash, bodies)))


class Applier:
    """Applies commits of one tenant."""

    def __init__(self, tenant: str, has_blob: Callable[[str], bool], uses: PendingUses) -> None:
        self._tenant = tenant
        self._has_blob = has_blob
        self._uses = uses
        self._last: tuple[str, CommitResult] | None = None

    @property
    def has_blob(self) -> Callable[[str], bool]:
        return self._has_blob

    def apply(self, tx: Tx, prepared: Prepared) -> CommitResult:
        """Write everything, or raise before anything is written."""
        commit = prepared.commit
        row = tx.one(cypher.BEGIN, op=tx.op, **lookups(commit, self._tenant, prepared.hashes))
        assert row is not None  # the statement makes the tenant if it is new
        found = Found.of(row, self._tenant)
        if found.op == tx.op and self._last is not None and self._last[0] == tx.op:
            return self._last[1]  # the connection was lost while the server was committing, and it did
        if found.first is not None:
            return _repeated(found.first)
        check_writable(found.tail.mirror_of, self._tenant)
        started_us = to_microseconds(utc(commit.activity.started_at, what="started_at"))
        check_lease(commit.lease, found.lease, started_us)
        if found.op is not None or found.op_seq is not None or row[1]:
            raise repeats(commit.activity)
        at_us = started_us if found.tail.at_us is None else max(started_us, found.tail.at_us + 1)
        result = self._write(tx, prepared, found, at_us)
        self._last = tx.op, result
        return result

    def _write(self, tx: Tx, prepared: Prepared, found: Found, at_us: int) -> CommitResult:
        commit, bodies, hashes = prepared.commit, prepared.bodies, prepared.hashes
        twins = find_duplicates(found, commit, hashes, at_us)
        outcomes = tuple(
            WriteOutcome(write.cube.ref)
            if (twin := twins.get(write.cube.id)) is None
            else WriteOutcome(VersionRef(twin.id, twin.head.version), is_duplicate=True)
            for write in commit.writes
        )
        if twins:
            kept = [position for position, write in enumerate(commit.writes) if write.cube.id not in twins]
            bodies, hashes = tuple(bodies[position] for position in kept), tuple(hashes[position] for position in kept)
            found.cubes.update({twin.id: twin for twin in twins.values() if twin.id not in found.cubes})
        commit = redirect(commit, {cube_id: VersionRef(twin.id, twin.head.version) for cube_id, twin in twins.items()})
        check(found, commit, self._tenant, self._has_blob)
        draft = draft_commit(found, commit, bodies, hashes, at_us)
        for twin in twins.values():
            draft.uses.append((twin.id, 1, at_us))
            draft.touched.add(twin.id)
        return self._send(tx, commit, found, draft, outcomes)

    def _send(
        self, tx: Tx, commit: Commit, found: Found, draft: Draft, outcomes: tuple[WriteOutcome, ...]
    ) -> CommitResult:
        """Write the draft. What only the graph can tell, the cascade and an erasure, closes the entry afterwards."""
        activity = commit.activity
        result = CommitResult(
            seq=draft.seq, at=from_microseconds(draft.at_us), activity_id=activity.id, outcomes=outcomes
        )
        entry = {
            **activity_values(activity), "seq": draft.seq, "at_us": draft.at_us, "key": commit.key, "op": tx.op,
            "reshapes": bool(draft.lifts), **_closing(found, commit, draft, result),
        }  # fmt: skip
        tail = {
            "seq": draft.seq, "at_us": draft.at_us, "chain": entry["chain"],
            "cubes": draft.next_cube - 1, "versions": draft.next_version - 1,
        }  # fmt: skip
        self._write_new(tx, entry, tail, draft)
        stale = self._write_changes(tx, activity.id, draft)
        if commit.erasures:
            doomed = erase(tx, activity.id, commit.erasures, draft)
            stale -= doomed.refs
            result = replace(result, erased=doomed.tombstones)
        touched = draft.touched - {each.cube.id for each in draft.new}  # those are touched as they are made
        if touched:
            tx.run(cypher.TOUCH, activity=activity.id, ids=sorted(touched))
        if stale or commit.erasures:
            result = replace(result, stale=len(stale))
            closing = _closing(found, commit, draft, result)
            values = {**closing, "reshapes": entry["reshapes"] or bool(stale)}
            last = {"chain": closing["chain"], **({"erased_seq": draft.seq} if commit.erasures else {})}
            tx.run(cypher.FINISH, activity=activity.id, values=values, tail=last)
        return result

    def _write_new(self, tx: Tx, activity: dict[str, object], tail: dict[str, object], draft: Draft) -> None:
        agent = {"id": activity["agent_id"], "kind": activity["agent_kind"], "name": activity["agent_name"]}
        first = new_rows(draft.new[:ROWS_AT_ONCE], draft.at_us)
        tx.start(cypher.WRITE_NEW, activity=activity, agent=agent, tail=tail, rows=first)
        for start in range(ROWS_AT_ONCE, len(draft.new), ROWS_AT_ONCE):
            rows = new_rows(draft.new[start : start + ROWS_AT_ONCE], draft.at_us)
            tx.start(cypher.WRITE_MORE, activity=activity["id"], rows=rows)

    def _write_changes(self, tx: Tx, activity: str, draft: Draft) -> set[VersionRef]:
        """Everything beside new cubes; returns the versions that became stale."""
        for round_ in draft.revisions:
            tx.run(cypher.REVISE, activity=activity, rows=round_, at_us=draft.at_us)
        if draft.blobs:
            tx.run(cypher.NAME_BLOBS, rows=[list(row) for row in draft.blobs])
        uses = [*draft.uses, *self._uses.take(tx.op)]
        if uses:
            tx.run(cypher.USE, rows=[list(row) for row in uses])
        if draft.steps:
            tx.run(cypher.STEP, rows=[[cube_id, *step] for cube_id, step in draft.steps.items()])
        if draft.ends:
            tx.run(cypher.END, activity=activity, refs=refs_of(draft.ends), at_us=draft.at_us)
        if draft.lifts:
            tx.run(cypher.LIFT, refs=refs_of(draft.lifts))
        if draft.sources:
            tx.run(cypher.SOURCES, rows=[[each.id, each.kind, each.locator, each.sha256] for each in draft.sources])
        if draft.edges:
            tx.run(cypher.DERIVE, activity=activity, rows=[[*new, *old, kind] for new, old, kind in draft.edges])
        if draft.evidence:
            tx.run(cypher.EVIDENCE, activity=activity, rows=[[*new, old, kind] for new, old, kind in draft.evidence])
        if draft.closed:
            triples = [list(triple) for triple in draft.closed]
            tx.run(cypher.UNRELATE, activity=activity, triples=triples, at_us=draft.at_us)
        if draft.opened:
            rows = [_relation_row(triple, draft, activity) for triple in draft.opened]
            tx.run(cypher.RELATE, rows=rows)
        return Cascade(tx).settle(draft)


def activity_values(activity: Activity) -> dict[str, object]:
    """An activity's own properties."""
    return {
        "id": activity.id,
        "kind": activity.kind,
        "agent_id": activity.agent.id,
        "agent_kind": activity.agent.kind,
        "agent_name": activity.agent.name,
        "started_us": to_microseconds(utc(activity.started_at, what="started_at")),
        "parameters": canonical_json(activity.parameters),
    }


def repeats(activity: Activity) -> InvalidRequest:
    """The error for an activity that was done already."""
    return InvalidRequest(f"there is an activity {activity.id!r} already", activity_id=activity.id)


def packed(result: CommitResult) -> str:
    """The result as the log keeps it."""
    return canonical_json(
        {
            "outcomes": [[*outcome.ref, outcome.is_duplicate] for outcome in result.outcomes],
            "erased": [[*stone.ref, stone.content_hash, stone.is_derived] for stone in result.erased],
            "stale": result.stale,
        }
    )


def _repeated(first: Sequence[object]) -> CommitResult:
    activity_id, seq, at_us, text = first
    stored = json.loads(str(text))
    return CommitResult(
        seq=int(str(seq)),
        at=from_microseconds(int(str(at_us))),
        activity_id=str(activity_id),
        outcomes=tuple(WriteOutcome(VersionRef(name, number), flag) for name, number, flag in stored["outcomes"]),
        erased=tuple(
            Tombstone(ref=VersionRef(name, number), content_hash=digest, is_derived=flag)
            for name, number, digest, flag in stored["erased"]
        ),
        stale=stored["stale"],
        is_repeated=True,
    )


def _closing(found: Found, commit: Commit, draft: Draft, result: CommitResult) -> dict[str, object]:
    """What an entry says when everything that it changed is known."""
    effects = sorted(set(draft.effects))
    return {
        "effects": canonical_json({"chain": effects, **draft.changes}),
        "chain": chain.link(found.tail.chain, commit.activity, draft.at_us, effects).hex(),
        "result": None if commit.key is None else packed(result),
    }


def _relation_row(triple: tuple[str, str, str], draft: Draft, activity: str) -> dict[str, object]:
    values: dict[str, object] = {
        "properties": draft.opened[triple], "recorded_us": draft.at_us, "activity": activity
    }  # fmt: skip
    if triple in draft.shut:
        values.update(removed_us=draft.at_us, removed_by=activity)
    return {"source": triple[0], "kind": triple[1], "target": triple[2], "values": values}
