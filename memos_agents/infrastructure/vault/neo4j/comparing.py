"""What of a load is new to a store, and what contradicts it. Found out before anything is written."""

from __future__ import annotations

import json
from dataclasses import replace

from memos_agents.cube.memcube import VersionRef, unpack_body
from memos_agents.cube.scope import Scope
from memos_agents.errors import IncompatibleModel, VersionConflict
from memos_agents.infrastructure.provenance.values import Derivation
from memos_agents.infrastructure.vault.neo4j import cypher_transfer as cypher
from memos_agents.infrastructure.vault.neo4j import spaces
from memos_agents.infrastructure.vault.neo4j.link import Tx
from memos_agents.infrastructure.vault.neo4j.reading import Reader, chunks
from memos_agents.infrastructure.vault.neo4j.transfer import Lines
from memos_agents.infrastructure.vault.neo4j.working import place_of
from memos_agents.infrastructure.vault.record_reading import Load
from memos_agents.infrastructure.vault.records import CubeLine, RelationLine, VersionLine


class Comparison:
    """What of a load is new here; `VersionConflict` where something else is."""

    def __init__(self, tx: Tx, tenant: str) -> None:
        self._tx = tx
        self._here = Lines(tx, Reader(tenant, dict), Scope.everything(tenant))

    def new_parts(self, load: Load) -> Load:
        """The part of `load` that is not here yet. Reads what `load` names, whatever else the store holds."""
        new = Load()
        self._activities(load, new)
        self._sources(load, new)
        self._cubes(load, new)
        self._keys(new)
        self._edges(load, new)
        self._relations(load, new)
        self._vectors(load, new)
        return new

    def _activities(self, load: Load, new: Load) -> None:
        known = {line.activity.id: line for line in self._here.activities(load.activities)}
        for name, line in load.activities.items():
            found = known.get(name)
            if found is not None and not (found.activity.parameters and line.activity.parameters):
                # told without parameters where the records were, or were here before
                found = replace(found, activity=replace(found.activity, parameters=line.activity.parameters))
            if _is_new("activity", name, line, found):
                new.activities[name] = line

    def _sources(self, load: Load, new: Load) -> None:
        known = {line.source.id: line.source for line in self._here.sources(load.sources)}
        for name, source in load.sources.items():
            found = known.get(name)
            if found is not None and found != source and found.locator:
                raise _differs("source", name)
            if found != source:
                new.sources[name] = source

    def _cubes(self, load: Load, new: Load) -> None:
        known: dict[str, list[CubeLine | VersionLine]] = {}
        numbers: dict[str, int] = {}
        for cube, newest in self._here.cubes(list(load.cubes)):
            known[cube.id] = [_without_use(cube)]
            numbers[cube.id] = newest
        refs = (VersionRef(cube_id, number) for cube_id, last in numbers.items() for number in range(1, last + 1))
        for version in self._here.versions(refs):
            known[version.ref.cube_id].append(version)
        for cube_id, cube in load.cubes.items():
            lines = [_without_use(cube), *load.versions[cube_id]]
            if _is_new("cube", cube_id, lines, known.get(cube_id)):
                new.cubes[cube_id], new.versions[cube_id] = cube, load.versions[cube_id]

    def _keys(self, new: Load) -> None:
        """Each key has one cube."""
        wanted: dict[str, tuple[str, str]] = {}
        for cube_id, cube in new.cubes.items():
            body = new.versions[cube_id][-1].body
            if body is None:
                continue
            header = unpack_body(json.loads(body))["descriptive"]
            place = place_of(cube.scope, header.collection, header.key)
            if place is None or header.key is None:
                continue
            if place in wanted:
                raise _taken(header.key, cube_id)
            wanted[place] = header.key, cube_id
        for places in chunks(list(wanted)):
            for place, _ in self._tx.rows(cypher.HOLDERS, places=places):
                raise _taken(*wanted[place])

    def _edges(self, load: Load, new: Load) -> None:
        here = {edge.derived for edge in load.derivations if edge.derived.cube_id not in new.cubes}
        known: set[Derivation] = {line.derivation for line in self._here.derivations(sorted(here))}
        new.derivations.update({edge: line for edge, line in load.derivations.items() if edge not in known})

    def _relations(self, load: Load, new: Load) -> None:
        ends = [(line.relation.source_id, line.relation.target_id) for line in load.relations]
        both_known = sorted({source for source, target in ends if not new.cubes.keys() & {source, target}})
        known: dict[tuple[object, ...], RelationLine] = {}
        is_open: set[tuple[object, ...]] = set()
        for line in self._here.relations(both_known):
            known[line.triple, line.recorded_at] = line
            if line.removed_at is None:
                is_open.add(line.triple)
        for line in load.relations:
            if _is_new("relation", line.triple, line, known.get((line.triple, line.recorded_at))):
                if line.removed_at is None and line.triple in is_open:
                    raise _differs("relation", line.triple)
                new.relations.append(line)

    def _vectors(self, load: Load, new: Load) -> None:
        known = {each.space.fingerprint: each.space for each in spaces.known(self._tx)}
        for vector in load.vectors.values():
            space = known.get(vector.space)
            if space is not None and space.dimension != vector.dimension:
                raise IncompatibleModel(
                    f"space {vector.space!r} has dimension {space.dimension}, not {vector.dimension}",
                    found=space.dimension,
                    expected=vector.dimension,
                )
        asked = sorted({ref for ref, name in load.vectors if name in known and ref.cube_id not in new.cubes})
        here = {(line.ref, line.space) for line in self._here.vectors(asked)}
        for name, vector in load.vectors.items():
            is_erased = load.versions[vector.ref.cube_id][0].body is None
            if name not in here and not is_erased:  # of an erased cube a vector would tell the text
                new.vectors[name] = vector


def _without_use(cube: CubeLine) -> CubeLine:
    return replace(cube, use_count=0, last_used_at=None)


def _is_new(kind: str, name: object, line: object, found: object | None) -> bool:
    if found is not None and found != line:
        raise _differs(kind, name)
    return found is None


def _differs(kind: str, name: object) -> VersionConflict:
    return VersionConflict(
        f"the store holds another {kind} {name} than the one to load; load into an empty store instead"
    )


def _taken(key: str, cube_id: str) -> VersionConflict:
    return VersionConflict(f"the key {key!r} of cube {cube_id!r} is taken", key=key)
