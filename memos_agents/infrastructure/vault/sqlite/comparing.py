"""What of a load is new to a store, and what contradicts it."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import replace

from memos_agents.cube.memcube import VersionRef
from memos_agents.cube.moment import from_microseconds
from memos_agents.cube.scope import Scope
from memos_agents.errors import IncompatibleModel, VersionConflict
from memos_agents.infrastructure.provenance.values import Activity, Agent
from memos_agents.infrastructure.vault.record_reading import Load
from memos_agents.infrastructure.vault.records import ActivityLine, CubeLine, RelationLine, VersionLine
from memos_agents.infrastructure.vault.sqlite.apply import Applier
from memos_agents.infrastructure.vault.sqlite.engine import chunks
from memos_agents.infrastructure.vault.sqlite.reading import Reader
from memos_agents.infrastructure.vault.sqlite.transfer import Records


class Comparison:
    """What of a load is new here; `VersionConflict` where something else is."""

    def __init__(self, connection: sqlite3.Connection, applier: Applier, reader: Reader, tenant: int) -> None:
        self._db, self._applier, self._tenant = connection, applier, tenant
        self._here = Records(reader, connection, Scope.everything(applier.tenant_name))

    def new_parts(self, load: Load) -> Load:
        """The part of `load` that is not here yet; `VersionConflict` where something else is."""
        new = Load()
        self._activities(load, new)
        self._sources(load, new)
        self._cubes(load, new)
        self._edges(load, new)
        self._relations(load, new)
        self._vectors(load, new)
        return new

    def _activities(self, load: Load, new: Load) -> None:
        known: dict[str, ActivityLine] = {}
        for marks, piece in chunks(list(load.activities)):
            rows = self._db.execute(
                "SELECT id, kind, agent_id, agent_kind, agent_name, started_us, at_us, parameters FROM activity "
                f"WHERE tenant=? AND id IN ({marks})",
                (self._tenant, *piece),
            )
            for name, kind, agent_id, agent_kind, agent_name, started, at, parameters in rows:
                agent = Agent(id=agent_id, kind=agent_kind, name=agent_name)
                activity = Activity(
                    id=name,
                    kind=kind,
                    started_at=from_microseconds(started),
                    agent=agent,
                    parameters=json.loads(parameters),
                )
                known[name] = ActivityLine(activity=activity, at=from_microseconds(at))
        for name, line in load.activities.items():
            found = known.get(name)
            if found is not None and not (found.activity.parameters and line.activity.parameters):
                found = replace(found, activity=replace(found.activity, parameters=line.activity.parameters))
            if _is_new("activity", name, line, found):
                new.activities[name] = line

    def _sources(self, load: Load, new: Load) -> None:
        for name, source in load.sources.items():
            known = self._db.execute(
                "SELECT kind, locator, sha256 FROM source WHERE tenant=? AND id=?", (self._tenant, name)
            ).fetchone()
            if known == (source.kind, source.locator, source.sha256):
                continue
            if known is not None and known[1]:
                raise _differs("source", name)
            new.sources[name] = source

    def _cubes(self, load: Load, new: Load) -> None:
        known: dict[str, list[CubeLine | VersionLine]] = {}
        for marks, piece in chunks(list(load.cubes)):
            only = f"AND c.id IN ({marks})"
            for cube in self._here.cubes(only, tuple(piece)):
                known[cube.id] = [_without_use(cube)]
            for version in self._here.versions(only, tuple(piece)):
                known[version.ref.cube_id].append(version)
        for cube_id, cube in load.cubes.items():
            lines = [_without_use(cube), *load.versions[cube_id]]
            if _is_new("cube", cube_id, lines, known.get(cube_id)):
                new.cubes[cube_id], new.versions[cube_id] = cube, load.versions[cube_id]

    def _edges(self, load: Load, new: Load) -> None:
        for derivation, line in load.derivations.items():
            derived, source = derivation.derived, derivation.source
            if derived.cube_id not in new.cubes and self._has_edge(derived, source, derivation.kind):
                continue
            new.derivations[derivation] = line

    def _has_edge(self, derived: VersionRef, source: VersionRef | str, kind: str) -> bool:
        rid = version_rid(self._db, self._tenant, derived)
        if isinstance(source, VersionRef):
            origin = version_rid(self._db, self._tenant, source)
            statement = "SELECT 1 FROM derivation WHERE derived=? AND source=? AND kind=?"
        else:
            row = self._db.execute("SELECT rid FROM source WHERE tenant=? AND id=?", (self._tenant, source)).fetchone()
            origin = None if row is None else row[0]
            statement = "SELECT 1 FROM evidence WHERE derived=? AND source=? AND kind=?"
        return self._db.execute(statement, (rid, origin, kind)).fetchone() is not None

    def _relations(self, load: Load, new: Load) -> None:
        known: dict[tuple[object, ...], RelationLine] = {}
        is_open: set[tuple[object, ...]] = set()
        ends = [(line.relation.source_id, line.relation.target_id) for line in load.relations]
        both_known = sorted({source for source, target in ends if not new.cubes.keys() & {source, target}})
        for marks, piece in chunks(both_known):
            for line in self._here.relations(f"AND c.id IN ({marks})", tuple(piece)):
                known[_name(line)] = line
                if line.removed_at is None:
                    is_open.add(_name(line)[:3])
        for line in load.relations:
            if _is_new("relation", _name(line)[:3], line, known.get(_name(line))):
                if line.removed_at is None and _name(line)[:3] in is_open:
                    raise _differs("relation", _name(line)[:3])
                new.relations.append(line)

    def _vectors(self, load: Load, new: Load) -> None:
        for name, vector in load.vectors.items():
            space = self._db.execute(
                "SELECT rid, dimension FROM space WHERE tenant=? AND fingerprint=?", (self._tenant, vector.space)
            ).fetchone()
            if space is not None and space[1] != vector.dimension:
                raise IncompatibleModel(f"space {vector.space!r} has dimension {space[1]}, not {vector.dimension}")
            if load.versions[vector.ref.cube_id][0].body is None:
                continue  # of an erased cube: a vector tells of the text
            if space is not None and vector.ref.cube_id not in new.cubes:
                rid = version_rid(self._db, self._tenant, vector.ref)
                if self._db.execute("SELECT 1 FROM vector WHERE space=? AND version=?", (space[0], rid)).fetchone():
                    continue
            new.vectors[name] = vector


def version_rid(connection: sqlite3.Connection, tenant: int, ref: VersionRef) -> int | None:
    """The rowid of a version, if it is there."""
    row = connection.execute(
        "SELECT v.rid FROM cube c JOIN version v ON v.cube = c.rid WHERE c.tenant=? AND c.id=? AND v.n=?",
        (tenant, *ref),
    ).fetchone()
    return None if row is None else int(row[0])


def _without_use(cube: CubeLine) -> CubeLine:
    return replace(cube, use_count=0, last_used_at=None)


def _name(line: RelationLine) -> tuple[object, ...]:
    relation = line.relation
    return relation.source_id, relation.kind, relation.target_id, line.recorded_at, line.removed_at


def _is_new(kind: str, name: object, line: object, found: object | None) -> bool:
    if found is not None and found != line:
        raise _differs(kind, name)
    return found is None


def _differs(kind: str, name: object) -> VersionConflict:
    return VersionConflict(
        f"the store holds another {kind} {name} than the one to load; load into an empty store instead"
    )
