"""What no commit may break, checked the same way for every vault, before anything is written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from memos_agents.cube.memcube import VersionRef
from memos_agents.cube.scope import Scope
from memos_agents.cube.state import MemoryState, check_transition
from memos_agents.errors import AccessDenied, InvalidRequest, InvalidTransition, NotFound, VersionConflict
from memos_agents.infrastructure.vault.commit import Commit, Write


@dataclass(frozen=True, slots=True)
class Head:
    """What the rules need to know about a cube. `is_believed`: its newest version is not invalidated."""

    version: int
    scope: Scope
    state: MemoryState
    frozen: bool
    is_believed: bool
    readers: tuple[str, ...] = ()


def cubes_named(commit: Commit) -> set[str]:
    """Every cube id that a commit speaks about: their heads are what `check_commit` wants."""
    named = {write.cube.id for write in commit.writes}
    named.update(step.cube_id for step in commit.transitions)
    named.update(invalidation.ref.cube_id for invalidation in commit.invalidations)
    for derivation in commit.derivations:
        named.add(derivation.derived.cube_id)
        if isinstance(derivation.source, VersionRef):
            named.add(derivation.source.cube_id)
    for relation in (*commit.relations, *commit.unrelations):
        named.update((relation.source_id, relation.target_id))
    named.update(commit.erasures)
    return named


def check_commit(
    commit: Commit, before: Mapping[str, Head], tenant: str, sources: frozenset[str] = frozenset()
) -> None:
    """Raise unless `commit` is legal for cubes whose heads are `before`. `sources`: ids of known outside sources.

    Order of effects: writes, transitions, invalidations, then edges, then erasures; each sees the ones before it.
    """
    heads = dict(before)
    written: set[VersionRef] = set()
    for write in commit.writes:
        heads[write.cube.id] = _after_write(write, heads.get(write.cube.id), tenant)
        written.add(write.cube.ref)
    for step in commit.transitions:
        head = _living(heads, step.cube_id)
        if step.expected_version not in (None, head.version):
            raise _moved(step.cube_id, step.expected_version, head.version)
        if step.state is MemoryState.ERASED:
            raise InvalidRequest(
                f"erasing cube {step.cube_id!r} is not a step: name it in `erasures`, which removes its content"
            )
        if step.state is not None:
            check_transition(step.cube_id, head.state, step.state, is_frozen=head.frozen)
            head = replace(head, state=step.state)
        if step.frozen is not None:
            head = replace(head, frozen=step.frozen)
        heads[step.cube_id] = head
    for invalidation in commit.invalidations:
        ref = invalidation.ref
        head = _living(heads, ref.cube_id)
        if head.version != ref.version or head.is_believed is invalidation.lifted:
            raise _moved(ref.cube_id, ref.version, head.version)
        if head.frozen:
            raise InvalidTransition(f"cube {ref.cube_id!r} is frozen; unfreeze it first", cube_id=ref.cube_id)
        heads[ref.cube_id] = replace(head, is_believed=invalidation.lifted)
    for derived, source in _version_edges(commit, written, sources | {source.id for source in commit.sources}):
        origin, result = _living(heads, source.cube_id), _living(heads, derived.cube_id)
        if not 1 <= source.version <= origin.version:
            raise NotFound(f"there is no version {source.version} of cube {source.cube_id!r} to derive from")
        _check_grant(origin, result.scope, "derive from", source.cube_id)
    for relation in commit.relations:
        if relation.source_id == relation.target_id:
            raise InvalidRequest(f"a cube cannot be {relation.kind.value} itself ({relation.source_id!r})")
        _check_grant(
            _living(heads, relation.target_id),
            _living(heads, relation.source_id).scope,
            "relate to",
            relation.target_id,
        )
    for cube_id in commit.erasures:
        _living(heads, cube_id)


def _after_write(write: Write, head: Head | None, tenant: str) -> Head:
    cube, replaces = write.cube, write.replaces
    if cube.scope.tenant != tenant or cube.scope.is_everything:
        raise InvalidRequest(f"cube {cube.id!r} belongs to another tenant than this store ({tenant!r})")
    if cube.version != (replaces or 0) + 1:
        raise InvalidRequest(f"version {cube.version} of {cube.id!r} cannot replace version {replaces or 0}")
    if replaces is None:
        if head is not None:
            raise VersionConflict(f"there is a cube {cube.id!r} already", cube_id=cube.id)
    else:
        if head is None or head.state is MemoryState.ERASED or head.scope != cube.scope:
            raise NotFound(f"there is no cube {cube.id!r} to write a new version of", cube_id=cube.id)
        if head.version != replaces:
            raise _moved(cube.id, replaces, head.version)
        if head.frozen:
            raise InvalidTransition(f"cube {cube.id!r} is frozen; unfreeze it first", cube_id=cube.id)
    state, frozen = (cube.state, cube.frozen) if head is None else (head.state, head.frozen)
    return Head(cube.version, cube.scope, state, frozen, is_believed=True, readers=cube.governance.readers)


def _version_edges(
    commit: Commit, written: set[VersionRef], sources: frozenset[str]
) -> Iterator[tuple[VersionRef, VersionRef]]:
    """Edges between versions. `derived` must be new and `source` must not come later in the commit: so, no cycles."""
    order = {write.cube.ref: position for position, write in enumerate(commit.writes)}
    for derivation in commit.derivations:
        derived, source = derivation.derived, derivation.source
        if derived not in written:
            raise InvalidRequest(f"only a version written by the same commit can be derived, not {derived}")
        if isinstance(source, VersionRef):
            if source in written and order[source] >= order[derived]:
                raise InvalidRequest(f"{derived} cannot be derived from {source}, which is written after it")
            yield derived, source
        elif source not in sources:
            raise NotFound(f"there is no source {source!r} to derive {derived} from")


def _living(heads: Mapping[str, Head], cube_id: str) -> Head:
    head = heads.get(cube_id)
    if head is None or head.state is MemoryState.ERASED:
        raise NotFound(f"there is no cube {cube_id!r}", cube_id=cube_id)
    return head


def _check_grant(target: Head, reader: Scope, verb: str, cube_id: str) -> None:
    if target.scope.user_id != reader.user_id and (reader.user_id is None or reader.user_id not in target.readers):
        raise AccessDenied(
            f"memory of another user cannot {verb} cube {cube_id!r}; its owner can grant it by naming the user in "
            "`readers`",
            cube_id=cube_id,
        )


def _moved(cube_id: str, expected: int | None, found: int) -> VersionConflict:
    return VersionConflict(
        f"cube {cube_id!r} was expected at version {expected} but is at version {found}; read it again and retry",
        cube_id=cube_id,
        expected=expected,
        found=found,
    )
