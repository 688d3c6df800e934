"""Loading records into a store: compared with what is there, then written under one log entry, all or nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, LiteralString

from memos_agents.cube.canonical import canonical_json
from memos_agents.cube.memcube import MemCube, VersionRef, unpack_body
from memos_agents.cube.metadata import DEFAULT_COLLECTION
from memos_agents.cube.moment import to_microseconds, utc
from memos_agents.cube.payload import ArtefactPayload
from memos_agents.errors import InvalidRequest
from memos_agents.infrastructure.vault import chain
from memos_agents.infrastructure.vault.commit import Commit
from memos_agents.infrastructure.vault.neo4j import cypher as commits
from memos_agents.infrastructure.vault.neo4j import cypher_beside, spaces
from memos_agents.infrastructure.vault.neo4j import cypher_transfer as cypher
from memos_agents.infrastructure.vault.neo4j.apply import activity_values, repeats
from memos_agents.infrastructure.vault.neo4j.checks import check_lease, check_writable, lookups, require_blobs
from memos_agents.infrastructure.vault.neo4j.comparing import Comparison
from memos_agents.infrastructure.vault.neo4j.drafting import cube_values, head_values, vector_name, version_values
from memos_agents.infrastructure.vault.neo4j.link import Tx
from memos_agents.infrastructure.vault.neo4j.reading import chunks
from memos_agents.infrastructure.vault.neo4j.working import Found, Tail
from memos_agents.infrastructure.vault.record_reading import Load
from memos_agents.infrastructure.vault.records import KINDS, CubeLine, RelationLine, VersionLine

_VERSIONS_AT_ONCE = 500


def restore(tx: Tx, tenant: str, load: Load, commit: Commit, has_blob: Callable[[str], bool]) -> dict[str, int]:
    """Write what is not there yet; returns how many of each kind. Everything is judged before the first write.

    One transaction, which the server holds in memory until it ends: load a large store in parts (`records_of`).
    """
    counts: dict[str, int] = dict.fromkeys(KINDS, 0)
    row = tx.one(commits.BEGIN, op=tx.op, **lookups(commit, tenant, ()))
    assert row is not None  # the statement makes the tenant if it is new
    found = Found.of(row, tenant)
    if found.op is not None and found.op == tx.op:
        return _counted_before(tx, commit, counts)  # the connection was lost while the server was committing
    if found.first is not None:
        return counts
    check_writable(found.tail.mirror_of, tenant)
    started_us = to_microseconds(utc(commit.activity.started_at, what="started_at"))
    check_lease(commit.lease, found.lease, started_us)
    if row[1]:
        raise repeats(commit.activity)
    if commit.activity.id in load.activities:
        raise InvalidRequest(
            f"activity {commit.activity.id!r} is among the records; a load needs an activity of its own"
        )
    at_us = started_us if found.tail.at_us is None else max(started_us, found.tail.at_us + 1)
    new = Comparison(tx, tenant).new_parts(load)
    rows = _Rows.of(new, commit.activity.id, found.tail, has_blob)
    counts.update(
        activity=len(new.activities), source=len(new.sources), cube=len(new.cubes),
        version=len(rows.versions), derivation=len(new.derivations), relation=len(new.relations),
        vector=len(new.vectors),
    )  # fmt: skip
    _log(tx, commit, found.tail, at_us, rows, counts)
    _write(tx, new, rows)
    return counts


@dataclass(slots=True)
class _Rows:
    """The new parts as the graph takes them."""

    cubes: list[dict[str, Any]] = field(default_factory=list)
    versions: list[dict[str, Any]] = field(default_factory=list)
    heads: list[list[Any]] = field(default_factory=list)
    revisions: list[list[Any]] = field(default_factory=list)
    ends: list[list[Any]] = field(default_factory=list)
    blobs: list[list[Any]] = field(default_factory=list)
    effects: list[str] = field(default_factory=list)
    touched: dict[tuple[str, str], None] = field(default_factory=dict)
    next_cube: int = 0
    next_version: int = 0

    @classmethod
    def of(cls, new: Load, activity: str, tail: Tail, has_blob: Callable[[str], bool]) -> _Rows:
        """`NotFound` if a payload's bytes are not there."""
        rows = cls(next_cube=tail.cubes + 1, next_version=tail.versions + 1)
        for cube_id, cube in new.cubes.items():
            rows._add_cube(activity, cube, new.versions[cube_id], has_blob)
        for line in new.relations:
            for cube_id in (line.relation.source_id, line.relation.target_id):
                rows.touched[activity, cube_id] = None
                rows.touched[line.activity_id, cube_id] = None
        return rows

    def _add_cube(
        self, activity: str, line: CubeLine, versions: list[VersionLine], has_blob: Callable[[str], bool]
    ) -> None:
        self.touched[activity, line.id] = None
        values: dict[str, Any] = {}
        for version in versions:
            cube = cube_of(line, version)
            if isinstance(cube.payload, ArtefactPayload):
                require_blobs(cube.payload, has_blob)
            values = self._version(version, cube)
            self.versions.append({"version": values, "made_by": version.activity_id})
            self.blobs.extend([*version.ref, sha256] for sha256 in values.get("blobs") or ())
            if version.ref.version > 1:
                self.revisions.append([*version.ref])
            if version.ended_by is not None:
                self.ends.append([*version.ref, version.ended_by])
            self.effects.append(chain.wrote(*version.ref, version.hash))
            for name in (version.activity_id, version.ended_by):
                if name is not None:  # one that was here before, too: it decides who may read its parameters
                    self.touched[name, line.id] = None
        newest = versions[-1]
        head = cube_of(line, newest)
        shown = erased_head(newest) if newest.body is None else head_values(head, newest.hash)
        use: dict[str, Any] = {}
        if line.use_count and newest.body is not None and line.last_used_at is not None:
            use = {"use_count": line.use_count, "last_used_us": to_microseconds(line.last_used_at)}
        self.cubes.append({**cube_values(head, self.next_cube, to_microseconds(line.created_at)), **shown, **use})
        self.heads.append([*newest.ref])
        self.next_cube += 1

    def _version(self, line: VersionLine, cube: MemCube) -> dict[str, Any]:
        rid, recorded_us = self.next_version, to_microseconds(line.recorded_at)
        self.next_version += 1
        values = (
            erased_version(line, rid, recorded_us)
            if line.body is None
            else version_values(cube, line.body, line.hash, rid=rid, recorded_us=recorded_us)
        )
        values["is_stale"] = line.is_stale
        values["superseded_us"] = None if line.superseded_at is None else to_microseconds(line.superseded_at)
        return values


def _log(tx: Tx, commit: Commit, tail: Tail, at_us: int, rows: _Rows, counts: dict[str, int]) -> None:
    """The log's entry, and its end."""
    activity = commit.activity
    effects = sorted(set(rows.effects))
    digest = chain.link(tail.chain, activity, at_us, effects).hex()
    entry = {
        **activity_values(activity), "seq": tail.seq + 1, "at_us": at_us, "key": commit.key, "op": tx.op,
        "reshapes": True, "effects": canonical_json({"chain": effects, "loaded": counts}), "chain": digest,
        "result": None if commit.key is None else '{"erased":[],"outcomes":[],"stale":0}',
    }  # fmt: skip
    end = {
        "seq": tail.seq + 1, "at_us": at_us, "chain": digest, "cubes": rows.next_cube - 1,
        "versions": rows.next_version - 1, "epoch": tail.epoch + 1,
    }  # fmt: skip
    agent = {"id": activity.agent.id, "kind": activity.agent.kind, "name": activity.agent.name}
    tx.run(commits.WRITE_NEW, activity=entry, agent=agent, tail=end, rows=[])


def _write(tx: Tx, new: Load, rows: _Rows) -> None:
    _send(tx, cypher.LOAD_ACTIVITIES, (
        {**activity_values(line.activity), "at_us": to_microseconds(line.at)} for line in new.activities.values()
    ))  # fmt: skip
    _send(tx, commits.SOURCES, (
        [source.id, source.kind, source.locator, source.sha256] for source in new.sources.values()
    ))  # fmt: skip
    _send(tx, cypher.LOAD_CUBES, rows.cubes)
    _send(tx, cypher.LOAD_VERSIONS, rows.versions, size=_VERSIONS_AT_ONCE)
    _send(tx, cypher.LOAD_HEADS, rows.heads)
    _send(tx, cypher.LOAD_REVISIONS, rows.revisions)
    _send(tx, cypher.LOAD_ENDS, rows.ends)
    _send(tx, commits.NAME_BLOBS, rows.blobs)
    edges = new.derivations.items()
    _send(tx, cypher.LOAD_DERIVATIONS, (
        [*edge.derived, *edge.source, edge.kind, line.activity_id]
        for edge, line in edges if isinstance(edge.source, VersionRef)
    ))  # fmt: skip
    _send(tx, cypher.LOAD_EVIDENCE, (
        [*edge.derived, edge.source, edge.kind, line.activity_id]
        for edge, line in edges if isinstance(edge.source, str)
    ))  # fmt: skip
    _send(tx, commits.RELATE, map(_relation_row, new.relations))
    _send(tx, cypher.LOAD_TOUCHED, map(list, rows.touched))
    _send(tx, cypher_beside.PUT_VECTORS, _vector_rows(tx, new))


def _send(tx: Tx, statement: LiteralString, rows: Iterable[object], *, size: int = 1_000) -> None:
    """Run a statement for all rows; no rows cost nothing."""
    for piece in chunks(list(rows), size):
        tx.run(statement, rows=piece)


def _vector_rows(tx: Tx, new: Load) -> Iterator[dict[str, Any]]:
    """Rows of vectors, whose spaces are made if they are new."""
    for name, dimension in {vector.space: vector.dimension for vector in new.vectors.values()}.items():
        spaces.open_space(tx, name, dimension, make_default=False, instead_of=None)
    names = {each.space.fingerprint: vector_name(each.number) for each in spaces.known(tx)}
    for vector in new.vectors.values():
        yield {"id": vector.ref.cube_id, "n": vector.ref.version, "vector": {names[vector.space]: vector.data}}


def _relation_row(line: RelationLine) -> dict[str, Any]:
    relation = line.relation
    return {
        "source": relation.source_id,
        "kind": relation.kind.value,
        "target": relation.target_id,
        "values": {
            "properties": canonical_json(relation.properties),
            "recorded_us": to_microseconds(line.recorded_at),
            "removed_us": None if line.removed_at is None else to_microseconds(line.removed_at),
            "activity": line.activity_id,
        },
    }


def cube_of(line: CubeLine, version: VersionLine) -> MemCube:
    """The version as a cube; an erased one has defaults."""
    body: dict[str, Any] = {
        "payload": {"text": ""}, "metadata": {}, "memory_type": version.memory_type.value,
        "descriptive": {}, "governance": {},
    }  # fmt: skip
    if version.body is not None:
        body = json.loads(version.body)
    return MemCube(
        id=line.id, version=version.ref.version, scope=line.scope, state=line.state, frozen=line.frozen,
        created_at=line.created_at, recorded_at=version.recorded_at, **unpack_body(body),
    )  # fmt: skip


def erased_head(newest: VersionLine) -> dict[str, Any]:
    """What an erased cube shows, as `cypher.ERASE_CUBES` leaves it."""
    return {"version": newest.ref.version, "hash": newest.hash, "collection": DEFAULT_COLLECTION, "readers": []}


def erased_version(line: VersionLine, rid: int, recorded_us: int) -> dict[str, Any]:
    """What is left of an erased version, as `cypher.ERASE_CUBES` leaves it."""
    return {
        "cube_id": line.ref.cube_id, "n": line.ref.version, "rid": rid, "hash": line.hash,
        "memory_type": line.memory_type.value, "recorded_us": recorded_us, "event_us": recorded_us,
        "collection": DEFAULT_COLLECTION, "flags": 0, "length": 0, "terms": "",
    }  # fmt: skip


def _counted_before(tx: Tx, commit: Commit, counts: dict[str, int]) -> dict[str, int]:
    row = tx.one(cypher.LOADED, activity=commit.activity.id)
    return counts if row is None else {**counts, **json.loads(row[0])["loaded"]}
