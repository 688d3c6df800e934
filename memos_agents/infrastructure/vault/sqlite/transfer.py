"""Records out of a store and into one (see `vault.records`)."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from datetime import datetime

from memos_agents.cube.memcube import VersionRef
from memos_agents.cube.moment import from_microseconds
from memos_agents.cube.scope import Scope
from memos_agents.infrastructure.provenance.values import Activity, Agent, Derivation, Relation, RelationKind, Source
from memos_agents.infrastructure.vault.records import (
    ActivityLine,
    CubeLine,
    DerivationLine,
    Line,
    Record,
    RelationLine,
    SourceLine,
    VectorLine,
    VersionLine,
)
from memos_agents.infrastructure.vault.sqlite.names import UNKNOWN
from memos_agents.infrastructure.vault.sqlite.reading import Reader
from memos_agents.infrastructure.vault.sqlite.schema import STATES, TYPES

_NOTHING: tuple[int, ...] = ()


class Records:
    """Everything that one scope admits, line by line, from one connection's moment."""

    def __init__(self, reader: Reader, connection: sqlite3.Connection, scope: Scope) -> None:
        self._reader, self._db, self._scope = reader, connection, scope
        self._owner, self._values = reader.owner(connection, scope)
        is_ours = scope.tenant == reader.tenant
        self._tenant = reader.names.tenant(connection) if is_ours else UNKNOWN

    def __iter__(self) -> Iterator[Record]:
        """Every line, in the order of `records.KINDS`."""
        kinds: tuple[Callable[[], Iterator[Line]], ...] = (
            self._activities, self._sources, self.cubes, self.versions, self._derivations, self.relations, self._vectors
        )  # fmt: skip
        for lines in kinds:
            for line in lines():
                yield line.to_record()

    @property
    def _admitted(self) -> str:
        return f"SELECT c.rid FROM cube c WHERE {self._owner}"

    @property
    def _admitted_versions(self) -> str:
        return f"SELECT v.rid FROM version v JOIN cube c ON c.rid = v.cube WHERE {self._owner}"

    def _activities(self) -> Iterator[ActivityLine]:
        if self._scope.is_everything:
            condition, values = "", _NOTHING
        else:
            relations = f"r.source IN ({self._admitted}) AND r.target IN ({self._admitted})"
            condition = (
                f" AND x.rid IN (SELECT v.activity FROM version v JOIN cube c ON c.rid = v.cube WHERE {self._owner} "
                "UNION "
                f"SELECT v.ended_by FROM version v JOIN cube c ON c.rid = v.cube WHERE {self._owner} UNION "
                f"SELECT d.activity FROM derivation d WHERE d.derived IN ({self._admitted_versions}) AND d.source IN "
                f"({self._admitted_versions}) UNION SELECT e.activity FROM evidence e WHERE e.derived IN "
                f"({self._admitted_versions}) "
                f"UNION SELECT r.activity FROM relation r WHERE {relations})"
            )
            values = tuple(self._values) * 7
        rows = self._db.execute(
            "SELECT x.id, x.kind, x.agent_id, x.agent_kind, x.agent_name, x.started_us, x.at_us, x.parameters, "
            "EXISTS (SELECT 1 FROM touched t JOIN cube c ON c.rid = t.cube WHERE t.activity = x.rid AND NOT "
            f"({self._owner})) "
            f"FROM activity x WHERE x.tenant = ?{condition} ORDER BY x.id",
            (*self._values, self._tenant, *values),
        )
        for activity_id, kind, agent_id, agent_kind, agent_name, started, at, parameters, is_shared in rows:
            hides = is_shared and not self._scope.is_everything
            activity = Activity(
                id=activity_id,
                kind=kind,
                started_at=from_microseconds(started),
                agent=Agent(id=agent_id, kind=agent_kind, name=agent_name),
                parameters={} if hides else json.loads(parameters),
            )
            yield ActivityLine(activity=activity, at=from_microseconds(at))

    def _sources(self) -> Iterator[SourceLine]:
        condition, values = "", _NOTHING
        if not self._scope.is_everything:
            condition = (
                f" AND s.rid IN (SELECT e.source FROM evidence e WHERE e.derived IN ({self._admitted_versions}))"
            )
            values = tuple(self._values)
        rows = self._db.execute(
            f"SELECT s.id, s.kind, s.locator, s.sha256 FROM source s WHERE s.tenant = ?{condition} ORDER BY s.id",
            (self._tenant, *values),
        )
        for source_id, kind, locator, sha256 in rows:
            yield SourceLine(source=Source(id=source_id, kind=kind, locator=locator, sha256=sha256))

    def cubes(self, only: str = "", values: tuple[object, ...] = ()) -> Iterator[CubeLine]:
        """The cubes, of which `only` (a condition on `c`) can take a part."""
        rows = self._db.execute(
            "SELECT c.id, c.user, c.agent, c.session, c.state, c.frozen, c.created_us, u.count, u.last_us FROM cube c "
            f"LEFT JOIN usage u ON u.cube = c.rid WHERE {self._owner} {only} ORDER BY c.id",
            (*self._values, *values),
        )
        for cube_id, user, agent, session, state, frozen, created, count, last in rows:
            yield CubeLine(
                id=cube_id,
                scope=self._reader.names.scope(self._db, user, agent, session),
                state=STATES[state],
                frozen=bool(frozen),
                created_at=from_microseconds(created),
                use_count=count or 0,
                last_used_at=_moment(last),
            )

    def versions(self, only: str = "", values: tuple[object, ...] = ()) -> Iterator[VersionLine]:
        """Their versions, of which `only` (a condition on `c`) can take a part."""
        rows = self._db.execute(
            "SELECT c.id, v.n, v.hash, v.body, v.memory_type, v.recorded_us, v.superseded_us, v.stale, g.id, e.id "
            "FROM version v JOIN cube c ON c.rid = v.cube JOIN activity g ON g.rid = v.activity "
            f"LEFT JOIN activity e ON e.rid = v.ended_by WHERE {self._owner} {only} ORDER BY c.id, v.n",
            (*self._values, *values),
        )
        for cube_id, number, digest, body, kind, recorded, superseded, stale, made, ended in rows:
            yield VersionLine(
                ref=VersionRef(cube_id, number),
                hash=digest.hex(),
                body=body,
                memory_type=TYPES[kind],
                recorded_at=from_microseconds(recorded),
                superseded_at=_moment(superseded),
                is_stale=bool(stale),
                activity_id=made,
                ended_by=ended,
            )

    def _derivations(self) -> Iterator[DerivationLine]:
        rows = self._db.execute(
            "SELECT c.id, v.n, o.id, s.n, NULL, d.kind, x.id FROM derivation d JOIN version v ON v.rid = d.derived "
            "JOIN cube c ON c.rid = v.cube JOIN version s ON s.rid = d.source JOIN cube o ON o.rid = s.cube "
            f"JOIN activity x ON x.rid = d.activity WHERE {self._owner} AND o.rid IN ({self._admitted}) UNION ALL "
            "SELECT c.id, v.n, NULL, NULL, s.id, e.kind, x.id FROM evidence e JOIN version v ON v.rid = e.derived "
            "JOIN cube c ON c.rid = v.cube JOIN source s ON s.rid = e.source JOIN activity x ON x.rid = e.activity "
            f"WHERE {self._owner}",
            tuple(self._values) * 3,
        ).fetchall()
        lines = []
        for cube_id, number, origin_id, origin_number, source_id, kind, activity_id in rows:
            source = VersionRef(origin_id, origin_number) if source_id is None else source_id
            derivation = Derivation(derived=VersionRef(cube_id, number), source=source, kind=kind)
            lines.append(DerivationLine(derivation=derivation, activity_id=activity_id))
        lines.sort(key=lambda line: (line.derivation.derived, str(line.derivation.source), line.derivation.kind))
        yield from lines

    def relations(self, only: str = "", values: tuple[object, ...] = ()) -> Iterator[RelationLine]:
        """Relations with both ends here, of which `only` (a condition on `c`, the source) can take a part."""
        rows = self._db.execute(
            "SELECT c.id, r.kind, b.id, r.properties, r.recorded_us, r.removed_us, x.id FROM relation r "
            "JOIN cube c ON c.rid = r.source JOIN cube b ON b.rid = r.target JOIN activity x ON x.rid = r.activity "
            f"WHERE {self._owner} AND b.rid IN ({self._admitted}) {only} "
            "ORDER BY c.id, r.kind, b.id, r.recorded_us, r.removed_us IS NULL",
            (*self._values, *self._values, *values),
        )
        for source_id, kind, target_id, properties, recorded, removed, activity_id in rows:
            yield RelationLine(
                relation=Relation(
                    source_id=source_id, kind=RelationKind(kind), target_id=target_id, properties=json.loads(properties)
                ),
                recorded_at=from_microseconds(recorded),
                removed_at=_moment(removed),
                activity_id=activity_id,
            )

    def _vectors(self) -> Iterator[VectorLine]:
        rows = self._db.execute(
            "SELECT c.id, v.n, p.fingerprint, p.dimension, x.data FROM vector x JOIN space p ON p.rid = x.space "
            f"JOIN version v ON v.rid = x.version JOIN cube c ON c.rid = v.cube WHERE {self._owner} "
            "ORDER BY c.id, v.n, p.fingerprint",
            self._values,
        )
        for cube_id, number, fingerprint, dimension, data in rows:
            ref = VersionRef(cube_id, number)
            yield VectorLine(ref=ref, space=fingerprint, dimension=dimension, data=data)


def _moment(value: int | None) -> datetime | None:
    return None if value is None else from_microseconds(value)
