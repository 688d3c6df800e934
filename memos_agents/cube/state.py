"""The life of a cube, as one table of steps (MemOS, arXiv:2507.03724, MemLifecycle).

Frozen is not a state but a flag on top of one: a frozen cube takes no new version and no step until it is unfrozen.
We differ from the paper in two points: *archived* can come back (`activate`), and *erased* is a state of its own,
a tombstone, because a deletion that cannot be proved is not one.
"""

from __future__ import annotations

from enum import StrEnum

from memos_agents.errors import InvalidTransition


class MemoryState(StrEnum):
    """Where a cube is in its life."""

    GENERATED = "generated"
    ACTIVATED = "activated"
    MERGED = "merged"
    ARCHIVED = "archived"
    EXPIRED = "expired"
    ERASED = "erased"


TRANSITIONS: dict[MemoryState, frozenset[MemoryState]] = {
    MemoryState.GENERATED: frozenset(
        {MemoryState.ACTIVATED, MemoryState.ARCHIVED, MemoryState.EXPIRED, MemoryState.ERASED}
    ),
    MemoryState.ACTIVATED: frozenset(
        {MemoryState.MERGED, MemoryState.ARCHIVED, MemoryState.EXPIRED, MemoryState.ERASED}
    ),
    MemoryState.MERGED: frozenset(
        {MemoryState.ACTIVATED, MemoryState.ARCHIVED, MemoryState.EXPIRED, MemoryState.ERASED}
    ),
    MemoryState.ARCHIVED: frozenset({MemoryState.ACTIVATED, MemoryState.EXPIRED, MemoryState.ERASED}),
    MemoryState.EXPIRED: frozenset({MemoryState.ACTIVATED, MemoryState.ARCHIVED, MemoryState.ERASED}),
    MemoryState.ERASED: frozenset(),
}


def check_transition(cube_id: str, current: MemoryState, target: MemoryState, *, is_frozen: bool) -> None:
    """Raise `InvalidTransition` unless the step is in the table and the cube is not frozen.

    Erasing is a right of the person whose data it is, so it passes a freeze.
    """
    if is_frozen and target is not MemoryState.ERASED:
        raise InvalidTransition(f"cube {cube_id!r} is frozen; unfreeze it first", cube_id=cube_id)
    if target not in TRANSITIONS[current]:
        raise InvalidTransition(
            f"cube {cube_id!r} is {current.value!r} and cannot become {target.value!r}; "
            f"possible: {sorted(state.value for state in TRANSITIONS[current]) or 'nothing'}",
            cube_id=cube_id,
            current=current,
            target=target,
        )
