"""Resemblance: a cheap first answer to "may this be near something that the scope holds already?".

Comparing every new memory with all vectors of its scope costs more than storing it. So each scope's newest vectors are
also kept here in 32 dimensions (a random projection, which about keeps angles), and only what is alike there is
compared exactly. False alarms cost time, not truth. Of pairs at cosine 0.95 about 3 in 10,000 are missed, of nearer
ones fewer: Fisher's z of a projected cosine spreads by 1/sqrt(29). Source: Johnson and Lindenstrauss, 1984.

In memory only, and only a hint: what another process adds is seen after `RELOADED_AFTER`.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, TypeAlias

from memos_agents.cube.memcube import MemCube
from memos_agents.infrastructure.vault.commit import Commit, CommitResult

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Place: TypeAlias = tuple[str | None, ...]
"""Exactly one scope, collection and vector space; strings, because their hashes are cached."""

ALIKE = 0.83
"""Projected cosine from which vectors are worth comparing, so that pairs of cosine 0.95 are found."""
ROWS_PER_PLACE = 10_000
"""Newest vectors of one place that are compared: 1.3 MB."""
PLACES = 512
"""Places kept, those used last."""
RELOADED_AFTER = timedelta(seconds=60)
_DIMENSION = 32
_TINY = 1e-12
_SINGLE_VECTOR, _SINGLE_MATRIX = 9_000, 260_000  # multiplications below which OpenBLAS stays on one thread


class _Column:
    """The newest vectors of one place, projected; a block that is halved when it is full."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.loaded_at: datetime | None = None
        self._rows: NDArray[np.float32] | None = None
        self._count = 0

    def reset(self, rows: NDArray[np.float32]) -> None:
        self._rows, self._count = rows, len(rows)

    def append(self, rows: NDArray[np.float32]) -> None:
        if self._rows is None:
            return
        if self._count + len(rows) > len(self._rows):
            kept = self._rows[: self._count][-ROWS_PER_PLACE // 2 :]
            import numpy as np

            block = np.empty((min(2 * len(kept), ROWS_PER_PLACE) + len(rows) + 16, _DIMENSION), dtype=np.float32)
            block[: len(kept)] = kept
            self._rows, self._count = block, len(kept)
        self._rows[self._count : self._count + len(rows)] = rows
        self._count += len(rows)

    def like(self, rows: NDArray[np.float32]) -> list[int]:
        if self._rows is None or not self._count:
            return []
        nearest = product(self._rows[: self._count], rows.T).max(axis=0).tolist()
        return [position for position, cosine in enumerate(nearest) if cosine >= ALIKE]


class Resemblance:
    """What the places used last hold, in a few dimensions. May be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._columns: OrderedDict[Place, _Column] = OrderedDict()
        self._projections: dict[int, NDArray[np.float32]] = {}

    def suspects(
        self, place: Place, vectors: NDArray[np.float32], load: Callable[[], NDArray[np.float32]], now: datetime
    ) -> list[int]:
        """Which of `vectors` (unit rows) may be near something in `place`; `load` gives the vectors it holds.

        Takes `vectors` for added: if their commit fails, they cause false alarms at worst. 30 microseconds for one
        vector and 1,000 rows.
        """
        column, count = self._column(place), len(vectors)
        rows = self._projected(vectors if count > 1 else vectors.repeat(2, axis=0))  # see `product`
        with column.lock:
            if column.loaded_at is None or not timedelta() <= now - column.loaded_at < RELOADED_AFTER:
                held = load()[-ROWS_PER_PLACE:]
                column.reset(self._projected(held) if held.shape[1:] == vectors.shape[1:] else rows[:0])
                column.loaded_at = now
            alike = column.like(rows)
            column.append(rows[:count])
            return [position for position in alike if position < count]

    def follow(self, commit: Commit, result: CommitResult) -> None:
        """Take note of new versions of old cubes; forget everything when something was erased."""
        if result.erased:
            self.forget()
        for write in commit.writes:
            if write.replaces is not None:
                for space, vector in write.vectors.items():
                    column = self._columns.get(place_of(write.cube, space))
                    if column is not None:
                        rows = self._projected(vector[None])
                        with column.lock:
                            column.append(rows)

    def forget(self) -> None:
        """Keep nothing of what was erased."""
        with self._lock:
            self._columns.clear()

    def _column(self, place: Place) -> _Column:
        with self._lock:
            column = self._columns.get(place)
            if column is None:
                column = self._columns[place] = _Column()
                if len(self._columns) > PLACES:
                    self._columns.popitem(last=False)
            self._columns.move_to_end(place)
            return column

    def _projected(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        import numpy as np

        dimension = vectors.shape[1]
        projection = self._projections.get(dimension)
        if projection is None:
            projection = np.random.default_rng(dimension).standard_normal((dimension, _DIMENSION)).astype(np.float32)
            self._projections[dimension] = projection
        rows = product(vectors, projection)
        rows /= np.maximum(np.sqrt(np.einsum("ij,ij->i", rows, rows)), _TINY)[:, None]  # a row of zeros stays one
        return rows


def place_of(cube: MemCube, space: str) -> Place:
    """Where the cube's vector in `space` is compared."""
    scope = cube.scope
    return scope.user_id, scope.agent_id, scope.session_id, cube.descriptive.collection, space


def product(rows: NDArray[np.float32], columns: NDArray[np.float32]) -> NDArray[np.float32]:
    """`rows @ columns` in pieces so small that BLAS computes them on this thread.

    Its own threads would wait for each other, for milliseconds on a machine that is busy writing. The limit is far
    lower where either side is a single vector, so double a vector that is compared often.
    """
    limit = _SINGLE_MATRIX if columns.shape[1] > 1 and len(rows) > 1 else _SINGLE_VECTOR
    step = max(2, limit // max(1, columns.size))
    if len(rows) <= step:
        return rows @ columns
    import numpy as np

    return np.concatenate([rows[at : at + step] @ columns for at in range(0, len(rows), step)])
