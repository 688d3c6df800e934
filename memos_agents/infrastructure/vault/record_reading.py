"""Reading records back: each by itself (`record_fields`), then line against line.

After `collect_records` a vault only has to compare with what it already holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from memos_agents.cube.canonical import JSON
from memos_agents.cube.memcube import VersionRef
from memos_agents.cube.state import MemoryState
from memos_agents.errors import IntegrityError, InvalidRequest
from memos_agents.infrastructure.provenance.values import (
    Derivation,
    Source,
)
from memos_agents.infrastructure.vault.record_fields import parse_record
from memos_agents.infrastructure.vault.records import (
    ActivityLine,
    CubeLine,
    DerivationLine,
    RelationLine,
    SourceLine,
    VectorLine,
    VersionLine,
)

K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Load:
    """Checked lines, by what names them; versions of a cube in order from 1."""

    activities: dict[str, ActivityLine] = field(default_factory=dict)
    sources: dict[str, Source] = field(default_factory=dict)
    cubes: dict[str, CubeLine] = field(default_factory=dict)
    versions: dict[str, list[VersionLine]] = field(default_factory=dict)
    derivations: dict[Derivation, DerivationLine] = field(default_factory=dict)
    relations: list[RelationLine] = field(default_factory=list)
    vectors: dict[tuple[VersionRef, str], VectorLine] = field(default_factory=dict)

    def holds(self, ref: VersionRef) -> bool:
        """Whether there is a line for this version."""
        return 1 <= ref.version <= len(self.versions.get(ref.cube_id, ()))

    def version(self, ref: VersionRef | str) -> VersionLine | None:
        """The line of a version; None for the id of a source."""
        return self.versions[ref.cube_id][ref.version - 1] if isinstance(ref, VersionRef) and self.holds(ref) else None


def collect_records(records: Iterable[Mapping[str, JSON]], tenant: str) -> Load:
    """Read all `records`, in any order, and check that they fit together.

    Raises `InvalidRequest` for malformed or repeated lines, and `IntegrityError` where a line names one that is not
    there, a body does not match its hash, or versions do not follow each other.
    """
    load = Load()
    loose: dict[VersionRef, VersionLine] = {}
    for record in records:
        line = parse_record(record, tenant)
        match line:
            case ActivityLine():
                _once(load.activities, line.activity.id, line)
            case SourceLine():
                _once(load.sources, line.source.id, line.source)
            case CubeLine():
                _once(load.cubes, line.id, line)
            case VersionLine():
                _once(loose, line.ref, line)
            case DerivationLine():
                _once(load.derivations, line.derivation, line)
            case RelationLine():
                load.relations.append(line)
            case VectorLine():
                _once(load.vectors, (line.ref, line.space), line)
    for ref in sorted(loose):
        load.versions.setdefault(ref.cube_id, []).append(loose[ref])
    _check_cubes(load)
    _check_ends(load)
    return load


def _check_cubes(load: Load) -> None:
    for cube_id in load.versions.keys() - load.cubes.keys():
        raise IntegrityError(f"there are versions of cube {cube_id!r} but no line for the cube")
    for cube in load.cubes.values():
        versions = load.versions.get(cube.id, [])
        if [line.ref.version for line in versions] != list(range(1, len(versions) + 1)) or not versions:
            raise IntegrityError(f"the versions of cube {cube.id!r} do not run from 1 without a gap", cube_id=cube.id)
        is_erased = cube.state is MemoryState.ERASED
        if any((line.body is None) is not is_erased for line in versions):
            raise IntegrityError(
                f"cube {cube.id!r} is {cube.state.value!r} but its content says otherwise", cube_id=cube.id
            )
        if any(line.superseded_at is None for line in (versions if is_erased else versions[:-1])):
            raise IntegrityError(f"a version of cube {cube.id!r} was replaced but never superseded", cube_id=cube.id)


def _check_ends(load: Load) -> None:
    refs: list[VersionRef] = [ref for ref, _ in load.vectors]
    for derivation in load.derivations:
        refs.append(derivation.derived)
        if isinstance(derivation.source, VersionRef):
            refs.append(derivation.source)
        elif derivation.source not in load.sources:
            raise IntegrityError(f"{derivation.derived} is derived from source {derivation.source!r}, which is missing")
    for ref in refs:
        if not load.holds(ref):
            raise IntegrityError(f"a record names {ref}, which is missing", cube_id=ref.cube_id)
    for derivation in load.derivations:
        derived, source = load.version(derivation.derived), load.version(derivation.source)
        if source and derived and derived.body is not None and not derived.is_stale and source.has_changed:
            raise IntegrityError(f"{derived.ref} comes from something that has changed since, but is not marked stale")
    named: set[str | None] = {line.activity_id for versions in load.versions.values() for line in versions}
    named.update(line.ended_by for versions in load.versions.values() for line in versions)
    named.update(line.activity_id for line in load.derivations.values())
    stated: set[object] = set()
    for line in load.relations:
        named.add(line.activity_id)
        if line.relation.source_id not in load.cubes or line.relation.target_id not in load.cubes:
            raise IntegrityError(f"a relation {line.relation.kind.value} names a cube that is missing")
        identities: list[object] = [(line.triple, line.recorded_at)]
        if line.removed_at is None:
            identities.append(line.triple)
        for identity in identities:
            if identity in stated:
                raise InvalidRequest(
                    f"the relation {line.relation.kind.value} of {line.relation.source_id!r} stands twice"
                )
            stated.add(identity)
    for activity_id in named - load.activities.keys() - {None}:
        raise IntegrityError(f"a record names activity {activity_id!r}, which is missing")


def _once(found: dict[K, V], key: K, value: V) -> None:
    if found.setdefault(key, value) is not value:
        raise InvalidRequest(f"two records name {str(key)[:200]}")
