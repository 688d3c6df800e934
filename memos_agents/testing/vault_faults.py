"""Faults: one thing each that makes a good commit illegal, with the error that must come of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np

from memos_agents.cube.memcube import MemCube, VersionRef
from memos_agents.cube.metadata import Descriptive
from memos_agents.cube.payload import ArtefactPayload, BlobRef
from memos_agents.cube.scope import Scope
from memos_agents.cube.state import MemoryState
from memos_agents.errors import InvalidRequest, InvalidTransition, MemOSError, NotFound, VersionConflict
from memos_agents.infrastructure.provenance.values import Derivation, Relation, RelationKind, Source
from memos_agents.infrastructure.vault.base import LogQuery
from memos_agents.infrastructure.vault.commit import Commit, Invalidation, Lease, Transition, Write
from memos_agents.testing.vault_scribe import (
    EVERYTHING,
    START,
    Scribe,
)

NOWHERE = "00000000-0000-7000-8000-000000000000"
Fault = Callable[[Scribe, MemCube, Commit], Commit]


def _with(**parts: object) -> Fault:
    return lambda scribe, cube, commit: replace(commit, **parts)  # type: ignore[arg-type]  # parts of a Commit


FAULTS: dict[str, tuple[type[MemOSError], Fault]] = {
    "a moved head": (
        VersionConflict,
        lambda scribe, cube, commit: replace(commit, writes=(*commit.writes, scribe.next_of(replace(cube, version=1)))),
    ),
    "a cube that is there": (
        VersionConflict,
        lambda scribe, cube, commit: replace(commit, writes=(*commit.writes, Write(cube=scribe.cube(id=cube.id)))),
    ),
    "a taken key": (
        VersionConflict,
        lambda scribe, cube, commit: replace(
            commit, writes=(*commit.writes, Write(cube=scribe.cube(descriptive=Descriptive(key="taken"))))
        ),
    ),
    "another tenant": (
        InvalidRequest,
        lambda scribe, cube, commit: replace(
            commit, writes=(*commit.writes, Write(cube=scribe.cube(scope=Scope(tenant="elsewhere"))))
        ),
    ),
    "everything as a scope": (
        InvalidRequest,
        lambda scribe, cube, commit: replace(
            commit, writes=(*commit.writes, Write(cube=scribe.cube(scope=EVERYTHING)))
        ),
    ),
    "a life that begins erased": (
        InvalidRequest,
        lambda scribe, cube, commit: replace(
            commit, writes=(*commit.writes, Write(cube=scribe.cube(state=MemoryState.ERASED)))
        ),
    ),
    "metadata that is not JSON": (
        ValueError,  # type: ignore[dict-item]  # InvalidRequest is one, too
        lambda scribe, cube, commit: replace(
            commit, writes=(*commit.writes, Write(cube=scribe.cube(metadata={"x": float("nan")})))
        ),
    ),
    "a blob that is not there": (
        NotFound,
        lambda scribe, cube, commit: replace(
            commit,
            writes=(
                *commit.writes,
                Write(cube=scribe.cube(payload=ArtefactPayload(blobs={"kv": BlobRef("0" * 64, 1)}))),
            ),
        ),
    ),
    "a vector of no space": (
        NotFound,
        lambda scribe, cube, commit: replace(
            commit, writes=(*commit.writes, Write(cube=scribe.cube(), vectors={"nobody": np.ones(3, np.float32)}))
        ),
    ),
    "a vector of another size": (
        InvalidRequest,
        lambda scribe, cube, commit: replace(
            commit, writes=(*commit.writes, Write(cube=scribe.cube(), vectors={"space": np.ones(3, np.float32)}))
        ),
    ),
    "a vector with NaN": (
        InvalidRequest,
        lambda scribe, cube, commit: replace(
            commit,
            writes=(*commit.writes, Write(cube=scribe.cube(), vectors={"space": np.full(4, np.nan, np.float32)})),
        ),
    ),
    "a step of nobody": (NotFound, _with(transitions=(Transition(cube_id=NOWHERE, state=MemoryState.ARCHIVED),))),
    "a step that there is not": (
        InvalidTransition,
        lambda scribe, cube, commit: replace(
            commit, transitions=(Transition(cube_id=cube.id, state=MemoryState.GENERATED),)
        ),
    ),
    "erasing as a step": (
        InvalidRequest,
        lambda scribe, cube, commit: replace(
            commit, transitions=(Transition(cube_id=cube.id, state=MemoryState.ERASED),)
        ),
    ),
    "a step of an old version": (
        VersionConflict,
        lambda scribe, cube, commit: replace(
            commit, transitions=(Transition(cube_id=cube.id, state=MemoryState.ARCHIVED, expected_version=1),)
        ),
    ),
    "ending an old version": (
        VersionConflict,
        lambda scribe, cube, commit: replace(commit, invalidations=(Invalidation(ref=VersionRef(cube.id, 1)),)),
    ),
    "lifting what was not ended": (
        VersionConflict,
        lambda scribe, cube, commit: replace(commit, invalidations=(Invalidation(ref=cube.ref, lifted=True),)),
    ),
    "deriving what the commit does not write": (
        InvalidRequest,
        lambda scribe, cube, commit: replace(
            commit, derivations=(Derivation(derived=cube.ref, source=VersionRef(cube.id, 1)),)
        ),
    ),
    "deriving from nothing": (
        NotFound,
        lambda scribe, cube, commit: replace(
            commit,
            derivations=(Derivation(derived=commit.writes[0].cube.ref, source=VersionRef(NOWHERE, 1)),),
        ),
    ),
    "deriving from a version to come": (
        NotFound,
        lambda scribe, cube, commit: replace(
            commit,
            derivations=(Derivation(derived=commit.writes[0].cube.ref, source=VersionRef(cube.id, 9)),),
        ),
    ),
    "deriving from itself": (
        InvalidRequest,
        lambda scribe, cube, commit: replace(
            commit,
            derivations=(Derivation(derived=commit.writes[0].cube.ref, source=commit.writes[0].cube.ref),),
        ),
    ),
    "an unknown source": (
        NotFound,
        lambda scribe, cube, commit: replace(
            commit, derivations=(Derivation(derived=commit.writes[0].cube.ref, source="nowhere"),)
        ),
    ),
    "another source of the same id": (
        VersionConflict,
        _with(sources=(Source(id="letter", kind="file", locator="another.txt"),)),
    ),
    "a relation with itself": (
        InvalidRequest,
        lambda scribe, cube, commit: replace(
            commit, relations=(Relation(source_id=cube.id, kind=RelationKind.NEXT, target_id=cube.id),)
        ),
    ),
    "a relation to nobody": (
        NotFound,
        lambda scribe, cube, commit: replace(
            commit, relations=(Relation(source_id=cube.id, kind=RelationKind.NEXT, target_id=NOWHERE),)
        ),
    ),
    "erasing nobody": (NotFound, _with(erasures=(NOWHERE,))),
    "a lease that nobody holds": (
        VersionConflict,
        _with(lease=Lease(name="work", owner="me", token=1, expires_at=START + timedelta(days=1))),
    ),
    "an activity that was done": (
        InvalidRequest,
        lambda scribe, cube, commit: replace(
            commit, activity=replace(commit.activity, id=scribe.vault.log(LogQuery(scope=EVERYTHING))[0].activity_id)
        ),
    ),
    "a time without a zone": (
        InvalidRequest,
        lambda scribe, cube, commit: replace(
            commit,
            activity=replace(commit.activity, started_at=datetime(2026, 1, 1)),  # noqa: DTZ001  # the fault
        ),
    ),
}
