"""Planning a cube's life after it was added: new versions, steps, relations, erasure, and taking a commit back.

Each function returns a `Commit`, or None where nothing would change; none of them writes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from memos_agents.cube.canonical import JSON
from memos_agents.cube.identity import IdSource
from memos_agents.cube.memcube import MemCube, VersionRef
from memos_agents.cube.payload import TextPayload
from memos_agents.cube.scope import Scope
from memos_agents.cube.state import MemoryState, check_transition
from memos_agents.errors import InvalidRequest, InvalidTransition, NotFound, VersionConflict
from memos_agents.infrastructure.provenance.values import Activity, Agent, Derivation, Relation
from memos_agents.infrastructure.vault.base import Effects, MemVault
from memos_agents.infrastructure.vault.commit import Commit, Invalidation, Transition, Vectors, Write

Embed = Callable[[str], Vectors]
"""The vectors of one text, by space."""


def new_activity(
    kind: str, *, agent: Agent, ids: IdSource, now: datetime, parameters: Mapping[str, JSON] | None = None
) -> Activity:
    """An activity that starts now. `parameters` must hold no content: they outlive an erasure."""
    return Activity(id=ids.new_id(now), kind=kind, started_at=now, agent=agent, parameters=parameters or {})


def plan_update(
    head: MemCube,
    *,
    text: str | None,
    metadata: Mapping[str, JSON] | None,
    times: Mapping[str, datetime],
    embed: Embed,
    activity: Activity,
) -> Commit | None:
    """Plan a version of `head` with another text, metadata (as a whole) or times (by field of `Descriptive`).

    None if that is what it says already. The new version stands on its own: it is derived from nothing.
    """
    if text is not None and not isinstance(head.payload, TextPayload):
        raise InvalidRequest(
            f"cube {head.id!r} is {head.memory_type.value}, which has no text to update", cube_id=head.id
        )
    descriptive = replace(head.descriptive, **times) if times else head.descriptive  # type: ignore[arg-type]  # time fields
    start, end = descriptive.valid_from, descriptive.valid_to
    if start is not None and end is not None and end <= start:
        raise InvalidRequest(f"valid_to ({end.isoformat()}) must be later than valid_from ({start.isoformat()})")
    cube = replace(
        head,
        version=head.version + 1,
        payload=head.payload if text is None else TextPayload(text),
        metadata=head.metadata if metadata is None else metadata,
        descriptive=descriptive,
        recorded_at=activity.started_at,
        superseded_at=None,
        is_stale=False,
    )
    if _is_believed(head) and cube.body() == head.body():
        return None
    return Commit(activity=activity, writes=(_write(cube, embed),))


def plan_rollback(head: MemCube, old: MemCube, *, vault: MemVault, embed: Embed, activity: Activity) -> Commit | None:
    """Plan a version of `head` that says what its version `old` said, with the evidence that `old` had.

    None if `head` says it already. If that evidence has changed since, the new version is stale like everything else
    that was derived from it.
    """
    if _is_believed(head) and old.body() == head.body():
        return None
    write = _write(_restored(head, old, activity.started_at), embed)
    return Commit(activity=activity, writes=(write,), derivations=_evidence_again(vault, old.ref, write.cube.ref))


def plan_transition(cube: MemCube, state: MemoryState, *, activity: Activity) -> Commit:
    """Plan one step in the life of `cube`; `InvalidTransition` if the table has no such step or it is frozen."""
    check_transition(cube.id, cube.state, state, is_frozen=cube.frozen)
    return Commit(activity=activity, transitions=(Transition(cube_id=cube.id, state=state),))


def plan_freeze(cube: MemCube, frozen: bool, *, activity: Activity) -> Commit | None:
    """Plan to set the frozen flag; None if it is set so already."""
    if cube.frozen is frozen:
        return None
    return Commit(activity=activity, transitions=(Transition(cube_id=cube.id, frozen=frozen),))


def plan_relation(relation: Relation, *, activity: Activity) -> Commit:
    """Plan to state `relation`; an open one between the same cubes gets the new properties."""
    if relation.source_id == relation.target_id:
        raise InvalidRequest(f"a cube cannot be {relation.kind.value} itself ({relation.source_id!r})")
    return Commit(activity=activity, relations=(relation,))


def plan_unrelation(relation: Relation, *, activity: Activity) -> Commit:
    """Plan to take `relation` back; the record that it held stays."""
    return Commit(activity=activity, unrelations=(relation,))


def plan_erase(cube_ids: Sequence[str], *, activity: Activity) -> Commit:
    """Plan to remove every version of these cubes, and of all that was derived from them, for good."""
    return Commit(activity=activity, erasures=tuple(dict.fromkeys(cube_ids)))


def plan_undo(effects: Effects, *, vault: MemVault, scope: Scope, embed: Embed, activity: Activity) -> Commit:
    """Plan the inverse of a commit: nothing is deleted, history gets one step longer.

    New cubes are invalidated, replaced content is written again, steps and relations are reversed. Raises
    `InvalidRequest` for an erasure and for a commit that changed nothing, `VersionConflict` if a cube has changed
    since, `InvalidTransition` if the life cycle has no way back.
    """
    if effects.erased:
        raise InvalidRequest(
            f"activity {effects.activity_id!r} erased {len(effects.erased)} cubes; an erasure cannot be undone"
        )
    if not any(
        (effects.writes, effects.transitions, effects.invalidated, effects.lifted, effects.related, effects.unrelated)
    ):
        raise InvalidRequest(f"activity {effects.activity_id!r} changed nothing that could be undone")
    invalidations = [Invalidation(ref=ref, lifted=True) for ref in effects.invalidated]
    invalidations += [Invalidation(ref=ref) for ref in effects.lifted]
    writes: list[Write] = []
    derivations: list[Derivation] = []
    for new, replaced in effects.writes:
        head = _unmoved(vault, new, scope)
        old = vault.versions([VersionRef(new.cube_id, replaced)], scope).get(VersionRef(new.cube_id, replaced))
        if old is None or _was_dead(old, head):
            invalidations.append(Invalidation(ref=new))
        else:
            writes.append(_write(_restored(head, old, activity.started_at), embed))
            derivations += _evidence_again(vault, old.ref, writes[-1].cube.ref)
    back = {(relation.source_id, relation.kind, relation.target_id): relation for relation in effects.unrelated}
    return Commit(
        activity=activity,
        writes=tuple(writes),
        transitions=tuple(_steps_back(effects, vault, scope)),
        invalidations=tuple(invalidations),
        derivations=tuple(derivations),
        relations=effects.unrelated,
        unrelations=tuple(
            relation
            for relation in effects.related
            if (relation.source_id, relation.kind, relation.target_id) not in back
        ),
    )


def _steps_back(effects: Effects, vault: MemVault, scope: Scope) -> list[Transition]:
    steps: list[Transition] = []
    for cube_id, state, frozen, state_after, frozen_after in effects.transitions:
        cube = vault.get([cube_id], scope).get(cube_id)
        if cube is None:
            raise NotFound(f"there is no cube {cube_id!r}", cube_id=cube_id)
        if (cube.state, cube.frozen) != (state_after, frozen_after):
            raise _moved(cube_id, effects.activity_id)
        if frozen_after and not frozen:
            steps.append(Transition(cube_id=cube_id, frozen=False))
        if state is not state_after:
            if frozen and frozen_after:
                raise InvalidTransition(f"cube {cube_id!r} is frozen; unfreeze it first", cube_id=cube_id)
            steps.append(Transition(cube_id=cube_id, state=state))
        if frozen and not frozen_after:
            steps.append(Transition(cube_id=cube_id, frozen=True))
    return steps


def _unmoved(vault: MemVault, ref: VersionRef, scope: Scope) -> MemCube:
    head = vault.get([ref.cube_id], scope).get(ref.cube_id)
    if head is None or head.state is MemoryState.ERASED:
        raise NotFound(f"there is no cube {ref.cube_id!r}", cube_id=ref.cube_id)
    if head.version != ref.version or head.superseded_at is not None:
        raise _moved(ref.cube_id, None)
    return head


def _moved(cube_id: str, activity_id: str | None) -> VersionConflict:
    which = f"activity {activity_id!r}" if activity_id else "the activity"
    return VersionConflict(
        f"cube {cube_id!r} has changed since {which} that should be undone; undo the later ones first, "
        "or write a new version",
        cube_id=cube_id,
    )


def _was_dead(old: MemCube, new: MemCube) -> bool:
    """Whether `old` had been invalidated before `new` replaced it."""
    return old.superseded_at is not None and old.superseded_at < new.recorded_at


def _is_believed(cube: MemCube) -> bool:
    return cube.superseded_at is None and not cube.is_stale


def _restored(head: MemCube, old: MemCube, now: datetime) -> MemCube:
    return replace(
        head,
        version=head.version + 1,
        payload=old.payload,
        metadata=old.metadata,
        memory_type=old.memory_type,
        descriptive=old.descriptive,
        governance=old.governance,
        recorded_at=now,
        superseded_at=None,
        is_stale=False,
    )


def _write(cube: MemCube, embed: Embed) -> Write:
    vectors = embed(cube.text) if isinstance(cube.payload, TextPayload) else {}
    return Write(cube=cube, replaces=cube.version - 1, vectors=vectors)


def _evidence_again(vault: MemVault, old: VersionRef, new: VersionRef) -> tuple[Derivation, ...]:
    graph = vault.lineage(old, "up", 1, Scope.everything(vault.tenant))
    return tuple(
        replace(derivation, derived=new)
        for derivation in graph.derivations
        if derivation.derived == old and derivation.source != new
    )
