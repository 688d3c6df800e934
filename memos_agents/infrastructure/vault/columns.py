"""Columns: from the rows of a store to the arrays that a ranker reads, the same way for every vault."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from memos_agents.cube.memcube import MemCube, VersionRef
from memos_agents.cube.metadata import Descriptive
from memos_agents.errors import InvalidRequest
from memos_agents.infrastructure.vault.view import Posting, View

STORED_DTYPE = np.dtype("<f2")
"""Vectors are kept in half precision, little-endian: 2 bytes a dimension, relative error at most 2**-11."""

_SURELY_FITS = 60_000.0**2
"""A vector whose squared length is below this holds no NaN and nothing beyond half precision."""

MAX_POSTED_COUNT = 8
"""A term held more often is posted with this count; a ranker's gain has long levelled off there."""


class ViewRow(NamedTuple):
    """One row of a `View` as a store has it; a plain tuple in this order does as well.

    `speaker`: see `speaker_of`. `flags`: `text.text_flags` of the text. `event_us`: event time, or recorded time when
    unknown. `length`: number of index terms. `vector`: what `pack_vector` made, None without one.
    """

    cube_id: str
    version: int
    user_id: str | None
    agent_id: str | None
    session_id: str | None
    speaker: str | None
    flags: int
    event_us: int
    length: float
    vector: bytes | None


def build_view(rows: Sequence[ViewRow], dimension: int) -> View:
    """The columns of `rows`, which keep their order. `dimension` 0 gives vectors of shape (n, 0).

    Neighbours are those with the same user, agent and session, in row order. Costs about 1 microsecond a row, and one
    pass over the vectors.
    """
    count = len(rows)
    columns: list[tuple[Any, ...]] = list(zip(*rows, strict=True)) or [()] * len(ViewRow._fields)
    ids, versions, users, agents, sessions, names, flags, events, lengths, packed = columns
    numbers: dict[tuple[str | None, str | None, str], int] = {}
    speakers: dict[str, int] = {}
    session = np.fromiter(
        (
            -1 if name is None else numbers.setdefault((user, agent, name), len(numbers))
            for user, agent, name in zip(users, agents, sessions, strict=True)
        ),
        np.int32,
        count,
    )
    previous, following = neighbours(session)
    return View(
        refs=list(map(VersionRef, ids, versions)),
        session=session,
        previous=previous,
        following=following,
        speaker=np.fromiter(
            (-1 if name is None else speakers.setdefault(name, len(speakers)) for name in names), np.int32, count
        ),
        speakers=tuple(speakers),
        flags=np.array(flags, np.uint16),
        event_us=np.array(events, np.int64),
        length=np.array(lengths, np.float32),
        vectors=unpack_vectors(packed, dimension),
    )


def neighbours(session: NDArray[np.int32]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """For each row the row before and after it in the same session; -1: none."""
    previous = np.full(len(session), -1, np.int32)
    following = previous.copy()
    order = np.argsort(session, kind="stable").astype(np.int32)
    ordered = session[order]
    joined = (ordered[1:] == ordered[:-1]) & (ordered[1:] >= 0)
    before, after = order[:-1][joined], order[1:][joined]
    previous[after] = before
    following[before] = after
    return previous, following


def pack_vector(vector: NDArray[np.float32], dimension: int) -> bytes:
    """The bytes to keep for one vector; `InvalidRequest` unless it is (dimension,), finite and fits half precision."""
    array = np.asarray(vector)
    if array.shape != (dimension,):
        raise InvalidRequest(f"a vector of shape {array.shape} does not fit a space of dimension {dimension}")
    if array.dtype == np.float32 and float(array @ array) < _SURELY_FITS:
        return array.astype(STORED_DTYPE).tobytes()
    with np.errstate(over="ignore"):
        packed = array.astype(STORED_DTYPE)
    if not np.isfinite(packed).all():
        raise InvalidRequest("a vector holds NaN, infinity or a number beyond 65504; the embedder is broken")
    return packed.tobytes()


def unpack_vectors(packed: Sequence[bytes | None], dimension: int) -> NDArray[np.float32]:
    """(n, dimension) float32, as they were kept; zeros where there is none."""
    if not dimension:
        return np.zeros((len(packed), 0), np.float32)
    nothing = bytes(dimension * STORED_DTYPE.itemsize)
    joined = b"".join([nothing if vector is None else vector for vector in packed])
    return np.frombuffer(joined, STORED_DTYPE).astype(np.float32).reshape(len(packed), dimension)


def speaker_of(descriptive: Descriptive) -> str | None:
    """Who said it: the name if it is known, else the role."""
    return descriptive.name or descriptive.role


def collect_postings(rows: Sequence[Mapping[str, int]], terms: Iterable[str]) -> dict[str, Posting]:
    """For each of `terms` that any row holds: its rows (ascending) and counts, capped. `rows` are term counts."""
    found: dict[str, Posting] = {}
    for term in dict.fromkeys(terms):
        holding = [(row, counts[term]) for row, counts in enumerate(rows) if term in counts]
        if holding:
            numbers, counted = zip(*holding, strict=True)
            found[term] = (
                np.array(numbers, np.int64),
                np.minimum(np.array(counted, np.float32), np.float32(MAX_POSTED_COUNT)),
            )
    return found


def row_of(cube: MemCube, *, flags: int, event_us: int, length: float, vector: bytes | None) -> ViewRow:
    """The row of one version."""
    scope = cube.scope
    return ViewRow(
        cube.id,
        cube.version,
        scope.user_id,
        scope.agent_id,
        scope.session_id,
        speaker_of(cube.descriptive),
        flags,
        event_us,
        length,
        vector,
    )
