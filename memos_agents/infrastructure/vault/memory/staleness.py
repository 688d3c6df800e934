"""What follows from an ended version: everything derived from it is stale, or erased with it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime

from memos_agents.cube.memcube import VersionRef
from memos_agents.cube.state import MemoryState
from memos_agents.infrastructure.vault.commit import Tombstone
from memos_agents.infrastructure.vault.memory.tables import Tables


def descendants(tables: Tables, roots: Iterable[VersionRef]) -> set[VersionRef]:
    """Every version derived from `roots`, directly or not."""
    found: set[VersionRef] = set()
    waiting = deque(roots)
    while waiting:
        for derivation in tables.down.get(waiting.popleft(), ()):
            if derivation.derived not in found:
                found.add(derivation.derived)
                waiting.append(derivation.derived)
    return found


def should_be_stale(tables: Tables, ref: VersionRef) -> bool:
    """Whether a direct source of `ref` has ended or is itself marked stale."""
    for derivation in tables.up.get(ref, ()):
        source = tables.version(derivation.source) if isinstance(derivation.source, VersionRef) else None
        if source is not None and (source.superseded_at is not None or source.is_stale):
            return True
    return False


def remark(tables: Tables, changed: Iterable[VersionRef], new: Iterable[VersionRef]) -> int:
    """Judge anew everything below `changed`, and the `new` versions; returns how many are stale that were not."""
    judged = {ref: tables.version(ref) for ref in descendants(tables, changed) | set(new)}
    living = {ref: row for ref, row in judged.items() if row is not None and row.body is not None}
    before = {ref for ref, row in living.items() if row.is_stale}
    for row in living.values():
        row.is_stale = False
    waiting = deque(ref for ref in living if should_be_stale(tables, ref))
    while waiting:
        ref = waiting.popleft()
        if ref in living and not living[ref].is_stale:
            living[ref].is_stale = True
            waiting.extend(derivation.derived for derivation in tables.down.get(ref, ()))
    return sum(row.is_stale and ref not in before for ref, row in living.items())


def erase(tables: Tables, named: Iterable[str], at: datetime, activity_id: str) -> tuple[Tombstone, ...]:
    """Erase the cubes `named` and every cube of which any version derives from any version of theirs."""
    roots = set(named)
    doomed = set(roots)
    waiting = deque(roots)
    while waiting:
        for version in tables.cubes[waiting.popleft()].versions:
            for derivation in tables.down.get(version.ref, ()):
                cube_id = derivation.derived.cube_id
                if cube_id not in doomed and not tables.cubes[cube_id].is_erased:
                    doomed.add(cube_id)
                    waiting.append(cube_id)
    tombstones: list[Tombstone] = []
    for cube_id in sorted(doomed):
        cube = tables.cubes[cube_id]
        tables.unindex(cube)
        cube.state, cube.use_count, cube.last_used_at = MemoryState.ERASED, 0, None
        for version in cube.versions:
            tables.doomed_blobs |= version.blobs
            version.erase(at, activity_id)
            tombstones.append(Tombstone(ref=version.ref, content_hash=version.hash, is_derived=cube_id not in roots))
    _end_relations(tables, doomed, at, activity_id)
    _blank_sources(tables, doomed)
    return tuple(tombstones)


def _end_relations(tables: Tables, doomed: set[str], at: datetime, activity_id: str) -> None:
    for cube_id in doomed:
        for row in tables.relations_at.get(cube_id, ()):
            row.relation = replace(row.relation, properties={})
            if row.removed_at is None:
                tables.close_relation(row.triple, at, activity_id)


def _blank_sources(tables: Tables, doomed: set[str]) -> None:
    """A file's name may say as much as its content: forget it with the last version made from it."""
    for source_id, source in tables.sources.items():
        users = [derivation.derived.cube_id for derivation in tables.down.get(source_id, ())]
        if not doomed.isdisjoint(users) and all(tables.cubes[user].is_erased for user in users):
            tables.sources[source_id] = replace(source, locator="", sha256=None)
