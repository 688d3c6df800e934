"""Loading records into a store: compared with what is there, then written under one log entry, all or nothing."""

from __future__ import annotations

import json
import sqlite3

from memos_agents.cube.canonical import canonical_json
from memos_agents.cube.memcube import MemCube, VersionRef, unpack_body
from memos_agents.cube.moment import to_microseconds, utc
from memos_agents.cube.payload import ArtefactPayload
from memos_agents.errors import InvalidRequest, VersionConflict
from memos_agents.infrastructure.vault import chain
from memos_agents.infrastructure.vault.columns import speaker_of
from memos_agents.infrastructure.vault.commit import Commit
from memos_agents.infrastructure.vault.record_reading import Load
from memos_agents.infrastructure.vault.records import KINDS, ActivityLine, CubeLine, RelationLine, VersionLine
from memos_agents.infrastructure.vault.sqlite import leases
from memos_agents.infrastructure.vault.sqlite.apply import Applier
from memos_agents.infrastructure.vault.sqlite.checks import require_blobs
from memos_agents.infrastructure.vault.sqlite.comparing import Comparison, version_rid
from memos_agents.infrastructure.vault.sqlite.reading import Reader
from memos_agents.infrastructure.vault.sqlite.schema import STATE_NUMBER, TYPE_NUMBER
from memos_agents.infrastructure.vault.sqlite.terms import index_row
from memos_agents.infrastructure.vault.sqlite.writing import short_hash, time_columns
from memos_agents.infrastructure.vault.text import text_flags


def restore(
    connection: sqlite3.Connection,
    applier: Applier,
    reader: Reader,
    load: Load,
    commit: Commit,
) -> dict[str, int]:
    """Write what is not there yet; returns how many of each kind."""
    counts: dict[str, int] = dict.fromkeys(KINDS, 0)
    applier.names.store_tail(connection)
    tail = applier.names.tail(connection)
    tenant = tail.tenant
    if commit.key is not None:
        row = connection.execute("SELECT 1 FROM activity WHERE tenant=? AND key=?", (tenant, commit.key)).fetchone()
        if row is not None:
            return counts
    started_us = to_microseconds(utc(commit.activity.started_at, what="started_at"))
    if commit.lease is not None:
        leases.check(connection, tenant, commit.lease, started_us)
    at_us = started_us if tail.at_us is None else max(started_us, tail.at_us + 1)
    if commit.activity.id in load.activities:
        raise InvalidRequest(
            f"activity {commit.activity.id!r} is among the records; a load needs an activity of its own"
        )
    new = Comparison(connection, applier, reader, tenant).new_parts(load)
    writer = _Restoration(connection, applier, tenant)
    writer.log(commit, tail.seq + 1, at_us)
    writer.write(new)
    writer.chain(commit, tail.seq + 1, at_us, tail.chain)
    applier.names.begin()  # what was read of the log's end is no longer so
    counts.update(
        activity=len(new.activities), source=len(new.sources), cube=len(new.cubes),
        version=sum(map(len, new.versions.values())), derivation=len(new.derivations), relation=len(new.relations),
        vector=len(new.vectors),
    )  # fmt: skip
    return counts


class _Restoration:
    """Writes new parts with their own ids, versions and times."""

    def __init__(self, connection: sqlite3.Connection, applier: Applier, tenant: int) -> None:
        self._db, self._applier, self._tenant = connection, applier, tenant
        self._activity = 0
        self._activities: dict[str, int] = {}
        self._cubes: dict[str, int] = {}
        self._versions: dict[VersionRef, int] = {}
        self._effects: list[str] = []
        self._touched: set[tuple[int, int]] = set()

    def log(self, commit: Commit, seq: int, at_us: int) -> None:
        activity = commit.activity
        try:
            row = self._db.execute(
                "INSERT INTO activity(tenant, id, seq, kind, agent_id, agent_kind, agent_name, started_us, at_us, "
                "parameters, "
                "key, result) VALUES(?,?,?,?,?,?,?,?,?,?,?,?) RETURNING rid",
                (
                    self._tenant, activity.id, seq, activity.kind, activity.agent.id, activity.agent.kind,
                    activity.agent.name, to_microseconds(activity.started_at), at_us,
                    canonical_json(activity.parameters), commit.key, '{"erased":[],"outcomes":[],"stale":0}',
                ),
            ).fetchone()  # fmt: skip
        except sqlite3.IntegrityError as error:
            raise InvalidRequest(f"there is an activity {activity.id!r} already", activity_id=activity.id) from error
        self._activity = row[0]

    def write(self, new: Load) -> None:
        self._activities = {name: self._insert_activity(line) for name, line in new.activities.items()}
        for name, source in new.sources.items():
            self._db.execute(
                "INSERT INTO source(tenant, id, kind, locator, sha256) VALUES(?,?,?,?,?) ON CONFLICT(tenant, id) DO "
                "UPDATE "
                "SET kind=excluded.kind, locator=excluded.locator, sha256=excluded.sha256",
                (self._tenant, name, source.kind, source.locator, source.sha256),
            )
        for cube_id, cube in new.cubes.items():
            self._insert_cube(cube, new.versions[cube_id])
        for derivation, edge in new.derivations.items():
            self._insert_edge(derivation.derived, derivation.source, derivation.kind, self._known(edge.activity_id))
        for relation in new.relations:
            self._insert_relation(relation)
        for vector in new.vectors.values():
            space = self._space(vector.space, vector.dimension)
            self._db.execute(
                "INSERT OR IGNORE INTO vector(space, version, data) VALUES(?,?,?)",
                (space, self._version(vector.ref), vector.data),
            )

    def chain(self, commit: Commit, seq: int, at_us: int, previous: bytes) -> None:
        effects = sorted(self._effects)
        digest = chain.link(previous, commit.activity, at_us, effects)
        self._db.execute(
            "UPDATE activity SET effects=?, chain=?, reshapes=1 WHERE rid=?",
            (canonical_json({"chain": effects}), digest, self._activity),
        )
        self._db.executemany("INSERT OR IGNORE INTO touched(activity, cube) VALUES(?,?)", sorted(self._touched))
        self._db.execute(
            "UPDATE tenant SET seq=?, at_us=?, chain=?, vector_epoch=vector_epoch+1 WHERE rid=?",
            (seq, at_us, digest, self._tenant),
        )

    def _insert_activity(self, line: ActivityLine) -> int:
        activity = line.activity
        row = self._db.execute(
            "INSERT INTO activity(tenant, id, kind, agent_id, agent_kind, agent_name, started_us, at_us, parameters) "
            "VALUES(?,?,?,?,?,?,?,?,?) RETURNING rid",
            (
                self._tenant, activity.id, activity.kind, activity.agent.id, activity.agent.kind, activity.agent.name,
                to_microseconds(activity.started_at), to_microseconds(line.at), canonical_json(activity.parameters),
            ),
        ).fetchone()  # fmt: skip
        return int(row[0])

    def _known(self, activity_id: str) -> int:
        rid = self._activities.get(activity_id)
        if rid is None:
            row = self._db.execute(
                "SELECT rid FROM activity WHERE tenant=? AND id=?", (self._tenant, activity_id)
            ).fetchone()
            self._activities[activity_id] = rid = int(row[0])
        return rid

    def _cube(self, cube_id: str) -> int:
        rid = self._cubes.get(cube_id)
        if rid is None:
            row = self._db.execute("SELECT rid FROM cube WHERE tenant=? AND id=?", (self._tenant, cube_id)).fetchone()
            self._cubes[cube_id] = rid = int(row[0])
        return rid

    def _version(self, ref: VersionRef) -> int | None:
        return self._versions.get(ref) or version_rid(self._db, self._tenant, ref)

    def _insert_cube(self, line: CubeLine, versions: list[VersionLine]) -> None:
        owner = self._applier.names.scope_rids(self._db, line.scope, make=True)
        cubes = [_cube_of(line, version) for version in versions]
        head = cubes[-1]
        header, readers = head.descriptive, head.governance.readers
        is_erased = versions[-1].body is None
        try:
            (cube_rid,) = self._db.execute(
                "INSERT INTO cube(tenant, id, user, agent, session, state, frozen, created_us, version, head, hash, "
                "collection, key, readers) VALUES(?,?,?,?,?,?,?,?,?,0,?,?,?,?) RETURNING rid",
                (
                    self._tenant, line.id, *owner, STATE_NUMBER[line.state], int(line.frozen),
                    to_microseconds(line.created_at), len(versions),
                    0 if is_erased else short_hash(bytes.fromhex(versions[-1].hash)),
                    header.collection, header.key, json.dumps(readers) if readers else "",
                ),
            ).fetchone()  # fmt: skip
        except sqlite3.IntegrityError as error:
            raise VersionConflict(f"the key {header.key!r} of cube {line.id!r} is taken", key=header.key) from error
        self._cubes[line.id] = cube_rid
        rid = 0
        for version, cube in zip(versions, cubes, strict=True):
            rid = self._insert_version(cube_rid, version, cube, owner)
            self._effects.append(chain.wrote(line.id, version.ref.version, version.hash))
        self._db.execute("UPDATE cube SET head=? WHERE rid=?", (rid, cube_rid))
        if line.use_count and line.last_used_at is not None:
            self._db.execute(
                "INSERT INTO usage(cube, count, last_us) VALUES(?,?,?)",
                (cube_rid, line.use_count, to_microseconds(line.last_used_at)),
            )
        self._touched.add((self._activity, cube_rid))
        for name in {name for version in versions for name in (version.activity_id, version.ended_by)}:
            if name is not None:  # one that was here before, too: who may read its parameters depends on all it touched
                self._touched.add((self._known(name), cube_rid))

    def _insert_version(
        self,
        cube_rid: int,
        line: VersionLine,
        cube: MemCube,
        owner: tuple[int, int, int],
    ) -> int:
        recorded_us = to_microseconds(line.recorded_at)
        words, length, flags, speaker = None, 0, 0, None
        if line.body is not None:
            words, length = index_row(cube, self._tenant, owner)
            flags, speaker = int(text_flags(cube.text)), speaker_of(cube.descriptive)
        (rid,) = self._db.execute(
            "INSERT INTO version(cube, n, activity, recorded_us, superseded_us, ended_by, stale, hash, body, "
            "memory_type, event_us, "
            "valid_from_us, valid_to_us, expires_us, collection, speaker, flags, length) "
            "VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?) RETURNING rid",
            (
                cube_rid, line.ref.version, self._known(line.activity_id), recorded_us,
                None if line.superseded_at is None else to_microseconds(line.superseded_at),
                None if line.ended_by is None else self._known(line.ended_by), int(line.is_stale),
                bytes.fromhex(line.hash), line.body, TYPE_NUMBER[line.memory_type], *time_columns(cube, recorded_us),
                cube.descriptive.collection, speaker, flags, length,
            ),
        ).fetchone()  # fmt: skip
        self._versions[line.ref] = rid
        if words is not None:
            self._db.execute("INSERT INTO terms(rowid, words) VALUES(?,?)", (rid, words))
        if isinstance(cube.payload, ArtefactPayload):
            require_blobs(cube.payload, self._applier.has_blob)
            names = {ref.sha256 for ref in cube.payload.blobs.values()}
            self._db.executemany(
                "INSERT INTO blob(sha256, version) VALUES(?,?)", [(name, rid) for name in sorted(names)]
            )
        return int(rid)

    def _insert_edge(self, derived: VersionRef, source: VersionRef | str, kind: str, activity: int) -> None:
        rid = self._version(derived)
        if isinstance(source, VersionRef):
            origin = self._version(source)
            self._db.execute(
                "INSERT INTO derivation(derived, source, kind, activity) VALUES(?,?,?,?)", (rid, origin, kind, activity)
            )
        else:
            (origin,) = self._db.execute(
                "SELECT rid FROM source WHERE tenant=? AND id=?", (self._tenant, source)
            ).fetchone()
            self._db.execute(
                "INSERT INTO evidence(derived, source, kind, activity) VALUES(?,?,?,?)", (rid, origin, kind, activity)
            )

    def _insert_relation(self, line: RelationLine) -> None:
        relation = line.relation
        activity, ends = self._known(line.activity_id), (self._cube(relation.source_id), self._cube(relation.target_id))
        for end in ends:
            self._touched.update(((self._activity, end), (activity, end)))
        self._db.execute(
            "INSERT INTO relation(source, kind, target, properties, recorded_us, removed_us, activity) "
            "VALUES(?,?,?,?,?,?,?)",
            (
                ends[0], relation.kind.value, ends[1], canonical_json(relation.properties),
                to_microseconds(line.recorded_at),
                None if line.removed_at is None else to_microseconds(line.removed_at),
                activity,
            ),
        )  # fmt: skip

    def _space(self, fingerprint: str, dimension: int) -> int:
        row = self._db.execute(
            "SELECT rid FROM space WHERE tenant=? AND fingerprint=?", (self._tenant, fingerprint)
        ).fetchone()
        if row is None:
            row = self._db.execute(
                "INSERT INTO space(tenant, fingerprint, dimension, is_default) SELECT ?, ?, ?, "
                "NOT EXISTS (SELECT 1 FROM space WHERE tenant=? AND is_default) RETURNING rid",
                (self._tenant, fingerprint, dimension, self._tenant),
            ).fetchone()
        return int(row[0])


def _cube_of(line: CubeLine, version: VersionLine) -> MemCube:
    """The version as a cube, for its headers; an erased one has defaults."""
    body: dict[str, object] = {
        "payload": {"text": ""}, "metadata": {}, "memory_type": version.memory_type.value,
        "descriptive": {}, "governance": {},
    }  # fmt: skip
    if version.body is not None:
        body = json.loads(version.body)
    parts = unpack_body(body)  # type: ignore[arg-type]  # JSON by construction
    return MemCube(
        id=line.id, version=version.ref.version, scope=line.scope, state=line.state, frozen=line.frozen,
        created_at=line.created_at, recorded_at=version.recorded_at, **parts,
    )  # fmt: skip
