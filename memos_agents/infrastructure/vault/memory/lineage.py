"""Lineage: the graph around one version."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

from memos_agents.cube.memcube import VersionRef
from memos_agents.cube.scope import Scope
from memos_agents.errors import NotFound
from memos_agents.infrastructure.provenance.graph import EntityNode, ProvenanceGraph, label_of, walk
from memos_agents.infrastructure.provenance.values import Activity
from memos_agents.infrastructure.vault.base import Direction
from memos_agents.infrastructure.vault.memory.tables import Tables


def trace(tables: Tables, root: VersionRef, direction: Direction, depth: int | None, scope: Scope) -> ProvenanceGraph:
    """Walk from `root`; only what `scope` admits is entered or shown."""
    cube = tables.admitted(root.cube_id, scope)
    if cube is None or tables.version(root) is None:
        raise NotFound(f"there is no version {root.version} of cube {root.cube_id!r}", cube_id=root.cube_id)
    climbed: dict[VersionRef, None] = {}

    def neighbours(
        frontier: Sequence[VersionRef], way: Literal["up", "down"]
    ) -> Iterator[tuple[VersionRef, VersionRef]]:
        for ref in frontier:
            if way == "up":
                climbed[ref] = None
            for neighbour in _steps(tables, ref, way):
                if tables.version(neighbour) is not None and tables.admitted(neighbour.cube_id, scope):
                    yield ref, neighbour

    walked, truncated = walk(root, direction, depth, neighbours)
    inside = set(walked)
    derivations = [derivation for ref in walked for derivation in tables.up.get(ref, ()) if derivation.source in inside]
    evidence = [
        derivation
        for ref in climbed
        if ref in inside
        for derivation in tables.up.get(ref, ())
        if isinstance(derivation.source, str)
    ]
    relations = [
        row.value()
        for row in tables.relations_at.get(root.cube_id, ())
        if row.removed_at is None and tables.admits_all(row.ends, scope)
    ]
    ends = {end for relation in relations for end in (relation.source_id, relation.target_id)} - {root.cube_id}
    entities = [_node(tables, ref) for ref in (*walked, *(tables.cubes[end].head.ref for end in sorted(ends)))]
    return ProvenanceGraph.build(
        root,
        entities=entities,
        sources=[tables.sources[str(derivation.source)] for derivation in evidence],
        activities=_activities(tables, entities, scope),
        derivations=(*derivations, *evidence),
        revisions=[
            (ref, VersionRef(ref.cube_id, ref.version - 1))
            for ref in walked
            if VersionRef(ref.cube_id, ref.version - 1) in inside
        ],
        relations=relations,
        truncated=truncated,
    )


def _steps(tables: Tables, ref: VersionRef, way: Literal["up", "down"]) -> Iterator[VersionRef]:
    if way == "up":
        yield VersionRef(ref.cube_id, ref.version - 1)
        for derivation in tables.up.get(ref, ()):
            if isinstance(derivation.source, VersionRef):
                yield derivation.source
    else:
        yield VersionRef(ref.cube_id, ref.version + 1)
        for derivation in tables.down.get(ref, ()):
            yield derivation.derived


def _node(tables: Tables, ref: VersionRef) -> EntityNode:
    cube = tables.cubes[ref.cube_id]
    row = cube.versions[ref.version - 1]
    return EntityNode(
        ref=ref,
        memory_type=row.memory_type,
        state=cube.state,
        content_hash=row.hash,
        recorded_at=row.recorded_at,
        superseded_at=row.superseded_at,
        is_stale=row.is_stale,
        generated_by=row.activity_id,
        invalidated_by=row.ended_by,
        label=label_of(cube.value(row).text),
    )


def _activities(tables: Tables, entities: Iterable[EntityNode], scope: Scope) -> Iterator[Activity]:
    named = {name for node in entities for name in (node.generated_by, node.invalidated_by) if name is not None}
    for name in sorted(named):
        row = tables.activities[name]
        yield row.value(is_whole=tables.is_whole(scope) or tables.admits_all(row.touched, scope))
