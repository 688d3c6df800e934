"""Records out of and into a `MemoryVault`."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from memos_agents.cube.canonical import JSON
from memos_agents.cube.memcube import MemCube, unpack_body
from memos_agents.cube.scope import Scope
from memos_agents.errors import IncompatibleModel, InvalidRequest, VersionConflict
from memos_agents.infrastructure.vault.base import Effects, Space
from memos_agents.infrastructure.vault.commit import Commit, CommitResult
from memos_agents.infrastructure.vault.memory.commits import append_log, check_unused, checked_activity
from memos_agents.infrastructure.vault.memory.tables import ActivityRow, CubeRow, RelationRow, Tables, VersionRow
from memos_agents.infrastructure.vault.record_reading import Load, collect_records
from memos_agents.infrastructure.vault.records import (
    KINDS,
    ActivityLine,
    CubeLine,
    DerivationLine,
    Line,
    RelationLine,
    SourceLine,
    VectorLine,
    VersionLine,
)


def export_lines(tables: Tables, scope: Scope) -> list[Line]:
    """Everything in the scope, in the order of `KINDS`, each kind sorted by what names it."""
    cubes = sorted((cube for cube in tables.cubes.values() if scope.admits(cube.scope)), key=lambda cube: cube.id)
    relations = [row for row in tables.relations if tables.admits_all(row.ends, scope)]
    body = _body(tables, scope, cubes, cubes, relations)
    if tables.is_whole(scope):
        return _with_what_is_named(tables, scope, body, set(tables.activities), set(tables.sources))
    return _with_what_is_named(tables, scope, body, set(), set())


def lines_of(tables: Tables, cube_ids: Iterable[str], scope: Scope) -> list[Line]:
    """What a load of these cubes needs (see `SupportsRecordsOf`), in the same order."""
    found = {cube_id: tables.admitted(cube_id, scope) for cube_id in cube_ids}
    own = {cube_id: cube for cube_id, cube in found.items() if cube is not None}
    relations = [
        row
        for cube_id in own
        for row in tables.relations_at.get(cube_id, ())
        if max(row.ends) == cube_id and tables.admits_all(row.ends, scope)
    ]
    named = {end for row in relations for end in row.ends}
    named.update(
        edge.source.cube_id
        for cube in own.values()
        for version in cube.versions
        for edge in tables.up.get(version.ref, ())
        if not isinstance(edge.source, str)
    )
    context = {cube_id: cube for cube_id in named if (cube := tables.admitted(cube_id, scope)) is not None}
    told = sorted((own | context).values(), key=lambda cube: cube.id)
    cubes = [cube for cube in told if cube.id in own]
    return _with_what_is_named(tables, scope, _body(tables, scope, told, cubes, relations), set(), set())


def _with_what_is_named(
    tables: Tables, scope: Scope, body: list[Line], activities: set[str | None], sources: set[str]
) -> list[Line]:
    """`body` after the lines of the activities and sources: these, and those that it names."""
    for line in body:
        match line:
            case VersionLine():
                activities.update((line.activity_id, line.ended_by))
            case DerivationLine():
                activities.add(line.activity_id)
                if isinstance(line.derivation.source, str):
                    sources.add(line.derivation.source)
            case RelationLine():
                activities.add(line.activity_id)
            case _:
                pass
    lines: list[Line] = []
    for name in sorted(filter(None, activities)):
        row = tables.activities[name]
        is_whole = tables.is_whole(scope) or tables.admits_all(row.touched, scope)
        lines.append(ActivityLine(activity=row.value(is_whole=is_whole), at=row.at))
    lines.extend(SourceLine(source=tables.sources[name]) for name in sorted(sources))
    return [*lines, *body]


def _body(
    tables: Tables, scope: Scope, told: Sequence[CubeRow], cubes: Sequence[CubeRow], relations: Iterable[RelationRow]
) -> list[Line]:
    """The cubes and versions of `told`, and of `cubes` also the derivations and vectors."""
    lines: list[Line] = [*map(cube_line, told)]
    for cube in told:
        lines.extend(map(version_line, cube.versions))
    edges = [edge for cube in cubes for version in cube.versions for edge in tables.up.get(version.ref, ())]
    lines.extend(
        DerivationLine(derivation=edge, activity_id=tables.derivations[edge])
        for edge in sorted(edges, key=lambda edge: (edge.derived, str(edge.source), edge.kind))
        if isinstance(edge.source, str) or tables.admitted(edge.source.cube_id, scope)
    )
    ordered = sorted(relations, key=lambda row: (row.triple, row.recorded_at, row.removed_at is None))
    lines.extend(map(relation_line, ordered))
    for cube in cubes:
        for version in cube.versions:
            for fingerprint, data in sorted(version.vectors.items()):
                dimension = tables.spaces[fingerprint].dimension
                lines.append(VectorLine(ref=version.ref, space=fingerprint, dimension=dimension, data=data))
    return lines


def cube_line(cube: CubeRow) -> CubeLine:
    """The line of a cube."""
    return CubeLine(
        id=cube.id,
        scope=cube.scope,
        state=cube.state,
        frozen=cube.frozen,
        created_at=cube.created_at,
        use_count=cube.use_count,
        last_used_at=cube.last_used_at,
    )


def version_line(row: VersionRow) -> VersionLine:
    """The line of a version."""
    return VersionLine(
        ref=row.ref,
        hash=row.hash,
        body=row.body,
        memory_type=row.memory_type,
        recorded_at=row.recorded_at,
        superseded_at=row.superseded_at,
        is_stale=row.is_stale,
        activity_id=row.activity_id,
        ended_by=row.ended_by,
    )


def relation_line(row: RelationRow) -> RelationLine:
    """The line of a relation."""
    return RelationLine(
        relation=row.value(), recorded_at=row.recorded_at, removed_at=row.removed_at, activity_id=row.activity_id
    )


def restore_into(tables: Tables, records: Iterable[Mapping[str, JSON]], commit: Commit) -> dict[str, int]:
    """Write what is not there yet; everything is compared before anything is written."""
    if commit != Commit(activity=commit.activity, key=commit.key, lease=commit.lease):
        raise InvalidRequest("a commit that loads records can carry an activity, a key and a lease, nothing else")
    counts: dict[str, int] = dict.fromkeys(KINDS, 0)
    if commit.key is not None and commit.key in tables.results:
        return counts
    activity, at = checked_activity(tables, commit)
    check_unused(tables, activity)
    load = collect_records(records, tables.tenant)
    if activity.id in load.activities:
        raise InvalidRequest(f"activity {activity.id!r} is among the records; a load needs an activity of its own")
    new = _new_parts(tables, load)
    touched = _write_parts(tables, new)
    entry = ActivityRow(
        activity=activity,
        at=at,
        touched=touched,
        effects=Effects(activity_id=activity.id, kind=activity.kind),
        loaded=tuple(line.ref for versions in new.versions.values() for line in versions),
    )
    append_log(tables, entry)
    if commit.key is not None:
        tables.results[commit.key] = CommitResult(seq=len(tables.log), at=at, activity_id=activity.id)
    counts.update(
        activity=len(new.activities),
        source=len(new.sources),
        cube=len(new.cubes),
        version=sum(map(len, new.versions.values())),
        derivation=len(new.derivations),
        relation=len(new.relations),
        vector=len(new.vectors),
    )
    return counts


def _new_parts(tables: Tables, load: Load) -> Load:
    """What of `load` is not there; `VersionConflict` where something else is."""
    new = Load()
    for name, line in load.activities.items():
        if _is_new(name, line, _known_activity(tables, name, line)):
            new.activities[name] = line
    for name, source in load.sources.items():
        if tables.knows(source):
            raise _differs("source", name)
        if tables.sources.get(name) != source:
            new.sources[name] = source
    for cube_id, cube in load.cubes.items():
        known = tables.cubes.get(cube_id)
        found = known and [_without_use(cube_line(known)), *map(version_line, known.versions)]
        if _is_new(cube_id, [_without_use(cube), *load.versions[cube_id]], found):
            new.cubes[cube_id], new.versions[cube_id] = cube, load.versions[cube_id]
    _check_new_keys(tables, new)
    new.derivations.update({edge: line for edge, line in load.derivations.items() if edge not in tables.derivations})
    there = {(row.triple, row.recorded_at): relation_line(row) for row in tables.relations}
    for relation in load.relations:
        if _is_new(relation.triple, relation, there.get((relation.triple, relation.recorded_at))):
            if relation.removed_at is None and relation.triple in tables.open_relations:
                raise _differs("relation", relation.triple)
            new.relations.append(relation)
    for place, vector in load.vectors.items():
        space = tables.spaces.get(vector.space)
        if space is not None and space.dimension != vector.dimension:
            raise IncompatibleModel(f"space {vector.space!r} has dimension {space.dimension}, not {vector.dimension}")
        row = tables.version(vector.ref)
        is_erased = load.versions[vector.ref.cube_id][0].body is None
        if not is_erased and (row is None or vector.space not in row.vectors):
            new.vectors[place] = vector
    return new


def _is_new(name: object, line: object, found: object | None) -> bool:
    if found is not None and found != line:
        raise _differs("record", name)
    return found is None


def _differs(kind: str, name: object) -> VersionConflict:
    return VersionConflict(
        f"the store holds another {kind} {name} than the one to load; load into an empty store instead"
    )


def _known_activity(tables: Tables, name: str, line: ActivityLine) -> ActivityLine | None:
    """The activity here; told without parameters where the records were, or were here before."""
    row = tables.activities.get(name)
    if row is None:
        return None
    found = row.activity
    if not (found.parameters and line.activity.parameters):
        found = replace(found, parameters=line.activity.parameters)
    return ActivityLine(activity=found, at=row.at)


def _without_use(cube: CubeLine) -> CubeLine:
    return replace(cube, use_count=0, last_used_at=None)


def _check_new_keys(tables: Tables, new: Load) -> None:
    taken = set(tables.keys)
    for cube_id, cube in new.cubes.items():
        body = new.versions[cube_id][-1].body
        if body is None:
            continue
        header = json.loads(body)["descriptive"]
        key = (cube.scope, header.get("collection", "memories"), header.get("key"))
        if key[2] is not None and key in taken:
            raise VersionConflict(f"the key {key[2]!r} of cube {cube_id!r} is taken", key=key[2])
        taken.add(key)


def _write_parts(tables: Tables, new: Load) -> frozenset[str]:
    """Write what was found to be new; returns the cubes."""
    touched: defaultdict[str | None, set[str]] = defaultdict(set)
    for cube_id, cube in new.cubes.items():
        row = CubeRow(
            id=cube_id,
            scope=cube.scope,
            state=cube.state,
            frozen=cube.frozen,
            created_at=cube.created_at,
            versions=[_version_row(cube, line) for line in new.versions[cube_id]],
            use_count=cube.use_count,
            last_used_at=cube.last_used_at,
        )
        tables.cubes[cube_id] = row
        if not row.is_erased:
            tables.index(row)
        for version in row.versions:
            for name in (version.activity_id, version.ended_by):
                touched[name].add(cube_id)
    tables.sources.update(new.sources)
    for edge, derivation in new.derivations.items():
        tables.add_derivation(edge, derivation.activity_id)
    for line in new.relations:
        relation = RelationRow(
            relation=line.relation,
            activity_id=line.activity_id,
            recorded_at=line.recorded_at,
            removed_at=line.removed_at,
        )
        tables.add_relation(relation)
        touched[line.activity_id].update(relation.ends)
    for vector in new.vectors.values():
        if vector.space not in tables.spaces:
            is_default = not any(space.is_default for space in tables.spaces.values())
            tables.spaces[vector.space] = Space(
                fingerprint=vector.space, dimension=vector.dimension, is_default=is_default
            )
        tables.cubes[vector.ref.cube_id].versions[vector.ref.version - 1].vectors[vector.space] = vector.data
    for name, activity in new.activities.items():
        tables.activities[name] = ActivityRow(
            activity=activity.activity,
            at=activity.at,
            touched=frozenset(),
            effects=Effects(activity_id=name, kind=activity.activity.kind),
        )
    for name, cube_ids in touched.items():  # of one that was here before, too: it decides who may read its parameters
        if name is not None:
            tables.activities[name].touched |= cube_ids
    return frozenset(new.cubes) | {end for line in new.relations for end in line.triple[::2]}


def _version_row(cube: CubeLine, line: VersionLine) -> VersionRow:
    if line.body is None:
        row = VersionRow(
            ref=line.ref,
            hash=line.hash,
            body=None,
            memory_type=line.memory_type,
            recorded_at=line.recorded_at,
            activity_id=line.activity_id,
        )
    else:
        value = MemCube(
            id=cube.id,
            version=line.ref.version,
            scope=cube.scope,
            created_at=cube.created_at,
            recorded_at=line.recorded_at,
            **unpack_body(json.loads(line.body)),
        )
        row = VersionRow.of(value, line.body, line.hash, line.activity_id)
    row.superseded_at, row.ended_by, row.is_stale = line.superseded_at, line.ended_by, line.is_stale
    return row
