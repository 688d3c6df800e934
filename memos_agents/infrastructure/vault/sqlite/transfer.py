"""Records out of a store and into one (see `vault.records`)."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from datetime import datetime
from heapq import merge

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
    """Everything that one scope admits, line by line, from one connection's moment.

    `by_id`: for questions by id, whose cost must not grow with the scope.
    """

    def __init__(self, reader: Reader, connection: sqlite3.Connection, scope: Scope, *, by_id: bool = False) -> None:
        self._reader, self._db, self._scope = reader, connection, scope
        owner = reader.owner_by_id if by_id else reader.owner
        self._owner, self._values = owner(connection, scope)
        self._other_owner, _ = owner(connection, scope, "b")
        is_ours = scope.tenant == reader.tenant
        self._tenant = reader.names.tenant(connection) if is_ours else UNKNOWN

    def __iter__(self) -> Iterator[Record]:
        """Every line, in the order of `records.KINDS`."""
        kinds: tuple[Callable[[], Iterator[Line]], ...] = (
            self._named_activities,
            self._named_sources,
            self.cubes,
            self.versions,
            self.derivations,
            self.relations,
            self.vectors,
        )
        for lines in kinds:
            for line in lines():
                yield line.to_record()

    @property
    def _admitted(self) -> str:
        return f"SELECT c.rid FROM cube c WHERE {self._owner}"

    @property
    def _admitted_versions(self) -> str:
        return f"SELECT v.rid FROM version v JOIN cube c ON c.rid = v.cube WHERE {self._owner}"

    def _named_activities(self) -> Iterator[ActivityLine]:
        """Those that the lines name; of the whole tenant, all."""
        if self._scope.is_everything:
            return self.activities()
        relations = f"r.source IN ({self._admitted}) AND r.target IN ({self._admitted})"
        return self.activities(
            f"AND x.rid IN (SELECT v.activity FROM version v JOIN cube c ON c.rid = v.cube WHERE {self._owner} "
            "UNION "
            f"SELECT v.ended_by FROM version v JOIN cube c ON c.rid = v.cube WHERE {self._owner} UNION "
            f"SELECT d.activity FROM derivation d WHERE d.derived IN ({self._admitted_versions}) AND d.source IN "
            f"({self._admitted_versions}) UNION SELECT e.activity FROM evidence e WHERE e.derived IN "
            f"({self._admitted_versions}) "
            f"UNION SELECT r.activity FROM relation r WHERE {relations})",
            tuple(self._values) * 7,
        )

    def activities(self, only: str = "", values: tuple[object, ...] = ()) -> Iterator[ActivityLine]:
        """Activities, of which `only` (a condition on `x`) can take a part.

        Parameters of one that touched cubes outside the scope are left out: they may speak of those.
        """
        is_shared, owner = "0", _NOTHING
        if not self._scope.is_everything:
            owner = tuple(self._values)
            is_shared = (
                "EXISTS (SELECT 1 FROM touched t JOIN cube c ON c.rid = t.cube WHERE t.activity = x.rid AND NOT "
                f"({self._owner}))"
            )
        rows = self._db.execute(
            "SELECT x.id, x.kind, x.agent_id, x.agent_kind, x.agent_name, x.started_us, x.at_us, x.parameters, "
            f"{is_shared} FROM activity x WHERE x.tenant = ? {only} ORDER BY x.id",
            (*owner, self._tenant, *values),
        )
        for activity_id, kind, agent_id, agent_kind, agent_name, started, at, parameters, hides in rows:
            activity = Activity(
                id=activity_id,
                kind=kind,
                started_at=from_microseconds(started),
                agent=Agent(id=agent_id, kind=agent_kind, name=agent_name),
                parameters={} if hides else json.loads(parameters),
            )
            yield ActivityLine(activity=activity, at=from_microseconds(at))

    def activities_of(self, only: str, values: tuple[object, ...]) -> set[str]:
        """What made and what ended the versions of cubes that `only` (a condition on `c`) picks."""
        rows = self._db.execute(
            "SELECT g.id, e.id FROM version v JOIN cube c ON c.rid = v.cube JOIN activity g ON g.rid = v.activity "
            f"LEFT JOIN activity e ON e.rid = v.ended_by WHERE {self._owner} {only}",
            (*self._values, *values),
        )
        return {name for row in rows for name in row if name is not None}

    def _named_sources(self) -> Iterator[SourceLine]:
        if self._scope.is_everything:
            return self.sources()
        return self.sources(
            f"AND s.rid IN (SELECT e.source FROM evidence e WHERE e.derived IN ({self._admitted_versions}))",
            tuple(self._values),
        )

    def sources(self, only: str = "", values: tuple[object, ...] = ()) -> Iterator[SourceLine]:
        """Sources outside the store, of which `only` (a condition on `s`) can take a part."""
        rows = self._db.execute(
            f"SELECT s.id, s.kind, s.locator, s.sha256 FROM source s WHERE s.tenant = ? {only} ORDER BY s.id",
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

    def derivations(self, only: str = "", values: tuple[object, ...] = ()) -> Iterator[DerivationLine]:
        """Derivations whose two ends are here, of which `only` (a condition on `c`, the derived) can take a part."""
        inside = self._db.execute(
            "SELECT c.id, v.n, b.id, s.n, b.id || '/v' || s.n AS name, d.kind, x.id FROM derivation d "
            "JOIN version v ON v.rid = d.derived JOIN cube c ON c.rid = v.cube JOIN version s ON s.rid = d.source "
            "JOIN cube b ON b.rid = s.cube JOIN activity x ON x.rid = d.activity "
            f"WHERE {self._owner} AND {self._other_owner} {only} ORDER BY c.id, v.n, name, d.kind",
            (*self._values, *self._values, *values),
        )
        outside = self._db.execute(
            "SELECT c.id, v.n, NULL, NULL, s.id AS name, e.kind, x.id FROM evidence e "
            "JOIN version v ON v.rid = e.derived JOIN cube c ON c.rid = v.cube JOIN source s ON s.rid = e.source "
            f"JOIN activity x ON x.rid = e.activity WHERE {self._owner} {only} ORDER BY c.id, v.n, name, e.kind",
            (*self._values, *values),
        )
        for cube_id, number, origin_id, origin_number, name, kind, activity_id in merge(
            inside, outside, key=_derivation_order
        ):
            source = name if origin_id is None else VersionRef(origin_id, origin_number)
            derivation = Derivation(derived=VersionRef(cube_id, number), source=source, kind=kind)
            yield DerivationLine(derivation=derivation, activity_id=activity_id)

    def relations(self, only: str = "", values: tuple[object, ...] = ()) -> Iterator[RelationLine]:
        """Relations with both ends here, of which `only` (a condition on `c`, the source, and `b`) can take a part."""
        rows = self._db.execute(
            "SELECT c.id, r.kind, b.id, r.properties, r.recorded_us, r.removed_us, x.id FROM relation r "
            "JOIN cube c ON c.rid = r.source JOIN cube b ON b.rid = r.target JOIN activity x ON x.rid = r.activity "
            f"WHERE {self._owner} AND {self._other_owner} {only} "
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

    def vectors(self, only: str = "", values: tuple[object, ...] = ()) -> Iterator[VectorLine]:
        """Vectors, of which `only` (a condition on `c`) can take a part."""
        rows = self._db.execute(
            # In this order, which CROSS JOIN keeps, indexes give the rows sorted; else all vectors would be sorted.
            "SELECT c.id, v.n, p.fingerprint, p.dimension, x.data FROM cube c CROSS JOIN version v ON v.cube = c.rid "
            "CROSS JOIN space p ON p.tenant = c.tenant CROSS JOIN vector x ON x.space = p.rid AND x.version = v.rid "
            f"WHERE {self._owner} {only} ORDER BY c.id, v.n, p.fingerprint",
            (*self._values, *values),
        )
        for cube_id, number, fingerprint, dimension, data in rows:
            ref = VersionRef(cube_id, number)
            yield VectorLine(ref=ref, space=fingerprint, dimension=dimension, data=data)


def _derivation_order(row: tuple[object, ...]) -> tuple[object, ...]:
    return row[0], row[1], row[4], row[5]


def _moment(value: int | None) -> datetime | None:
    return None if value is None else from_microseconds(value)
