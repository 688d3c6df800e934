"""Mirroring: a tenant that follows another store's changes, one transaction a batch, each batch once.

The tenant's node keeps whose mirror it is and the position up to which it is one, in the transaction that writes the
batch: so a batch that was sent twice is one, and a gap is found out. Log positions, times and the hash chain are the
source's own; `verify` recomputes the chain here. As long as it is a mirror, ordinary commits are refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, LiteralString

from memos_agents.cube.canonical import canonical_json
from memos_agents.cube.moment import to_microseconds
from memos_agents.cube.scope import Scope
from memos_agents.cube.state import MemoryState
from memos_agents.errors import InvalidRequest, VersionConflict
from memos_agents.infrastructure.vault.changes import Changes, Entry, Flags, Position, RelationState
from memos_agents.infrastructure.vault.commit import Commit, CommitResult
from memos_agents.infrastructure.vault.neo4j import cypher as commits
from memos_agents.infrastructure.vault.neo4j import cypher_beside, spaces
from memos_agents.infrastructure.vault.neo4j import cypher_mirror as cypher
from memos_agents.infrastructure.vault.neo4j import cypher_transfer as transfer
from memos_agents.infrastructure.vault.neo4j.apply import Applier, Prepared, activity_values
from memos_agents.infrastructure.vault.neo4j.drafting import cube_values, head_values, vector_name, version_values
from memos_agents.infrastructure.vault.neo4j.link import Tx
from memos_agents.infrastructure.vault.neo4j.reading import chunks
from memos_agents.infrastructure.vault.neo4j.restoring import cube_of, erased_head, erased_version
from memos_agents.infrastructure.vault.records import ActivityLine, CubeLine, VersionLine

_AT_ONCE = 1_000
_VERSIONS_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Mirrored:
    """Whether a batch was written, and what it asks for after its transaction: dropped spaces, erased payloads."""

    is_new: bool
    dropped: tuple[int, ...] = ()
    has_erased: bool = False


def position(tx: Tx) -> tuple[str, Position] | None:
    """Whose mirror the tenant is and how far it got; None if it is none."""
    row = tx.one(cypher.STATE)
    return None if row is None or row[0] is None or row[1] is None else (row[0], Position.of_text(row[1]))


def apply_changes(tx: Tx, tenant: str, changes: Changes, source_id: str) -> Mirrored:
    """Write one batch and its position. One that was written already changes nothing.

    Raises `InvalidRequest` if the tenant holds memories of its own or mirrors another store, `VersionConflict` if the
    batch does not begin where the mirror stands (somebody else sent batches too: ask for the position and go on).
    """
    row = tx.one(cypher.BEGIN, op=tx.op)
    assert row is not None  # the statement makes the tenant if it is new
    seq, cubes, versions, mirror_of, mirrored, last_space, snapshots = row
    if mirror_of is None and (seq or cubes):
        raise InvalidRequest(
            f"tenant {tenant!r} there holds memories of its own; mirror into an empty tenant, or name another store"
        )
    if mirror_of not in (None, source_id) or source_id != changes.source_id:
        raise InvalidRequest(f"tenant {tenant!r} there is the mirror of another store; mirror into an empty tenant")
    if mirrored == changes.upto.to_text():
        return Mirrored(is_new=False)
    if (mirrored or Position().to_text()) != changes.after.to_text():
        raise VersionConflict(
            "the mirror does not stand where these changes begin; ask where it stands and go on there"
        )
    writing = _Writing(tx, tenant, changes, cubes, versions)
    dropped, epochs = _settle_spaces(tx, changes, last_space)
    erased = writing.write()
    _settle_snapshots(tx, changes, snapshots)
    tail: dict[str, object] = {
        "mirror_of": source_id, "mirrored": changes.upto.to_text(), "cubes": writing.last_cube,
        "versions": writing.last_version,
    }  # fmt: skip
    if changes.entries:
        tail.update(seq=changes.upto.seq, at_us=to_microseconds(changes.at), chain=changes.upto.chain)
        erasures = [entry.seq for entry in changes.entries if entry.has_erased]
        tail.update({"erased_seq": erasures[-1]} if erasures else {})
    tx.run(cypher.FINISH, tail=tail, epochs=epochs + bool(changes.swept))
    return Mirrored(is_new=True, dropped=tuple(dropped), has_erased=erased)


def release(tx: Tx, applier: Applier, at: Position, commit: Commit) -> CommitResult:
    """Make the mirror, which must stand at `at`, an ordinary tenant, and log `commit` as its first own one.

    Its log goes on where the source's log ended: the same numbers, times and hash chain.
    """
    row = tx.one(cypher.BEGIN, op=tx.op)
    assert row is not None  # the statement makes the tenant if it is new
    mirror_of, mirrored = row[3:5]
    if mirror_of is not None:
        if mirrored != at.to_text():
            raise VersionConflict("the mirror moved meanwhile; ask where it stands and try again")
        tx.run(cypher.RELEASE)
    elif not tx.rows(transfer.LOADED, activity=commit.activity.id):
        raise InvalidRequest("this tenant is not a mirror")
    return applier.apply(tx, Prepared.of(commit))


def doom(tx: Tx, names: Sequence[str]) -> None:
    """Mark payload bytes that were put for a batch which was not written; those that a version names are spared."""
    tx.run(cypher_beside.ENTER, op=tx.op)
    tx.run(cypher.DOOM, names=list(names))


@dataclass(slots=True)
class _Writing:
    """Writes the parts of a batch in an order in which each finds what it names."""

    tx: Tx
    tenant: str
    changes: Changes
    last_cube: int
    last_version: int
    heads: dict[str, dict[str, Any]] = field(default_factory=dict)

    def write(self) -> bool:
        """Returns whether anything was erased."""
        changes = self.changes
        self._send(cypher.ACTIVITIES, [*map(_activity, changes.activities), *map(_entry, changes.entries)])
        self._send(commits.SOURCES, (
            [line.source.id, line.source.kind, line.source.locator, line.source.sha256] for line in changes.sources
        ))  # fmt: skip
        cubes = {line.id: line for line in changes.cubes}
        blobs = self._write_versions(cubes)
        self._send(cypher.HEADS, ({"id": cube_id, "cube": head} for cube_id, head in self.heads.items()))
        self._send(cypher.STATES, map(_state, changes.cubes))
        self._send(cypher.FLAGS, map(_flags, changes.flags))
        ended: list[VersionLine | Flags] = [*changes.versions, *changes.flags]
        self._send(cypher.ENDS, ([*each.ref, each.ended_by] for each in ended if each.ended_by is not None))
        erased = [line.id for line in changes.cubes if line.state is MemoryState.ERASED]
        self._send_names(cypher.ERASE, erased)
        self._write_edges()
        self._send_names(cypher.BLANK_RELATIONS, erased)
        self._send_names(commits.DOOM_BLOBS, erased)
        self._send(commits.NAME_BLOBS, blobs)
        self._write_vectors()
        self._send(cypher.USES, ([use.cube_id, use.count, to_microseconds(use.last_at)] for use in changes.uses))
        return bool(erased)

    def _write_versions(self, cubes: dict[str, CubeLine]) -> list[list[object]]:
        """New cubes and new versions; returns the payloads that they name."""
        here: dict[str, int] = {}
        for ids in chunks(list(cubes), _AT_ONCE):
            here.update((cube_id, number) for cube_id, number in self.tx.rows(cypher.NUMBERS, ids=ids))
        fresh: dict[str, dict[str, Any]] = {}
        rows: list[dict[str, Any]] = []
        blobs: list[list[object]] = []
        for line in self.changes.versions:
            cube = _in_tenant(cubes[line.ref.cube_id], self.tenant)
            values, head = self._values(cube, line)
            rows.append({"version": values, "made_by": line.activity_id})
            blobs.extend([*line.ref, name] for name in values.get("blobs") or ())
            if cube.id not in here and cube.id not in fresh:
                self.last_cube += 1
                fresh[cube.id] = cube_values(cube_of(cube, line), self.last_cube, to_microseconds(cube.created_at))
            if line.ref.version >= here.get(cube.id, 0):
                here[cube.id], self.heads[cube.id] = line.ref.version, head
        self._send(transfer.LOAD_CUBES, fresh.values())
        self._send(transfer.LOAD_VERSIONS, rows, size=_VERSIONS_AT_ONCE)
        later = (line.ref for line in self.changes.versions if line.ref.version > 1)
        self._send(transfer.LOAD_REVISIONS, ([*ref] for ref in later))
        return blobs

    def _values(self, cube: CubeLine, line: VersionLine) -> tuple[dict[str, Any], dict[str, Any]]:
        """A version's properties, and what its cube shows as long as it is the newest."""
        self.last_version += 1
        recorded_us = to_microseconds(line.recorded_at)
        if line.body is None:
            values, head = erased_version(line, self.last_version, recorded_us), erased_head(line)
        else:
            version = cube_of(cube, line)
            values = version_values(version, line.body, line.hash, rid=self.last_version, recorded_us=recorded_us)
            head = head_values(version, line.hash)
        values["is_stale"] = line.is_stale
        values["superseded_us"] = None if line.superseded_at is None else to_microseconds(line.superseded_at)
        return values, head

    def _write_edges(self) -> None:
        changes = self.changes
        edges = [(line.derivation, line.activity_id) for line in changes.derivations]
        self._send(cypher.DERIVE, (
            [*edge.derived, *edge.source, edge.kind, name] for edge, name in edges if not isinstance(edge.source, str)
        ))  # fmt: skip
        self._send(cypher.EVIDENCE, (
            [*edge.derived, edge.source, edge.kind, name] for edge, name in edges if isinstance(edge.source, str)
        ))  # fmt: skip
        self._send(cypher.RELATE, map(_relation, changes.relations))
        self._send(cypher.TOUCH, map(list, changes.touched))

    def _write_vectors(self) -> None:
        changes = self.changes
        if not (changes.swept or changes.vectors):
            return
        names = {each.space.fingerprint: vector_name(each.number) for each in spaces.known(self.tx)}
        for ids in chunks(list(changes.swept), _AT_ONCE):
            self.tx.run(cypher.CLEAR_VECTORS, ids=ids, nothing=dict.fromkeys(names.values()))
        self._send(cypher_beside.PUT_VECTORS, (
            {"id": line.ref.cube_id, "n": line.ref.version, "vector": {names[line.space]: line.data}}
            for line in changes.vectors
        ))  # fmt: skip

    def _send(self, statement: LiteralString, rows: Iterable[object], *, size: int = _AT_ONCE) -> None:
        """Run a statement for all rows; no rows cost nothing."""
        for piece in chunks(list(rows), size):
            self.tx.run(statement, rows=piece)

    def _send_names(self, statement: LiteralString, ids: Sequence[str]) -> None:
        for piece in chunks(list(ids), _AT_ONCE):
            self.tx.run(statement, ids=piece)


def _settle_spaces(tx: Tx, changes: Changes, last: int) -> tuple[list[int], int]:
    """Make the tenant's vector spaces those of the source; gives the numbers of dropped ones, and 1 if any changed."""
    here = {each.space.fingerprint: each for each in spaces.known(tx)}
    there = {space.fingerprint: space for space in changes.spaces}
    dropped: list[int] = []
    for name, each in here.items():
        if name not in there or there[name].dimension != each.space.dimension:
            tx.run(cypher_beside.DROP_SPACE, fingerprint=name)
            dropped.append(each.number)
    changed = 0
    for name, space in there.items():
        known = here.get(name)
        if known is not None and known.space == space:
            continue
        is_new = known is None or known.number in dropped
        last += is_new
        number = last if known is None or is_new else known.number
        tx.run(
            cypher_beside.SET_SPACE, fingerprint=name, dimension=space.dimension, number=number,
            is_default=space.is_default, last=last,
        )  # fmt: skip
        changed = 1
    return dropped, changed


def _settle_snapshots(tx: Tx, changes: Changes, here: list[list[Any]]) -> None:
    there = [[each.name, each.seq, to_microseconds(each.at)] for each in changes.snapshots]
    if sorted(here) != there:
        tx.run(cypher.DROP_SNAPSHOTS, names=[row[0] for row in there])
        tx.run(cypher.SNAPSHOTS, rows=there)


def _in_tenant(line: CubeLine, tenant: str) -> CubeLine:
    scope = line.scope
    return CubeLine(
        id=line.id,
        scope=Scope(tenant=tenant, user_id=scope.user_id, agent_id=scope.agent_id, session_id=scope.session_id),
        state=line.state,
        frozen=line.frozen,
        created_at=line.created_at,
    )


def _activity(line: ActivityLine) -> dict[str, object]:
    return {**activity_values(line.activity), "at_us": to_microseconds(line.at)}


def _entry(entry: Entry) -> dict[str, object]:
    return {
        **_activity(entry.line), "seq": entry.seq, "chain": entry.chain, "effects": entry.effects, "key": entry.key,
        "result": entry.result, "reshapes": entry.reshapes,
    }  # fmt: skip


def _state(line: CubeLine) -> list[object]:
    used = None if line.last_used_at is None else to_microseconds(line.last_used_at)
    return [line.id, line.state.value, line.frozen, line.use_count or None, used]


def _flags(each: Flags) -> list[object]:
    superseded = None if each.superseded_at is None else to_microseconds(each.superseded_at)
    return [*each.ref, superseded, each.is_stale]


def _relation(each: RelationState) -> dict[str, object]:
    line, relation = each.line, each.line.relation
    return {
        "source": relation.source_id,
        "kind": relation.kind.value,
        "target": relation.target_id,
        "values": {
            "properties": canonical_json(relation.properties),
            "recorded_us": to_microseconds(line.recorded_at),
            "removed_us": None if line.removed_at is None else to_microseconds(line.removed_at),
            "activity": line.activity_id,
            "removed_by": each.removed_by,
        },
    }
