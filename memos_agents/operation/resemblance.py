"""Resemblance: a cheap first answer to "may this be near something that the scope holds already?".

Comparing every new memory with all vectors of its scope, through a view, costs half as much as storing it. So each
scope's newest vectors are also kept here in 128 dimensions (a random projection, which about keeps angles), and only
what is alike there is compared exactly. False alarms cost time, not truth. Of pairs at cosine 0.95 about one in 10,000
is missed, of nearer ones fewer: Fisher's z of a projected cosine spreads by 1/sqrt(125). With 32 dimensions texts of
one pattern ("X likes Y") raise an alarm nearly every time. Source: Johnson and Lindenstrauss, 1984.

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

ALIKE = 0.905
"""Projected cosine from which vectors are worth comparing, so that pairs of cosine 0.95 are found."""
ROWS_PER_PLACE = 4_096
"""Newest vectors of one place that are compared: 2 MB."""
ROWS_IN_ALL = 131_072
"""Rows kept over all places (64 MB at most), those of places used last."""
RELOADED_AFTER = timedelta(seconds=60)
_DIMENSION = 128
_TINY = 1e-12


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
            import numpy as np

            kept = self._rows[: self._count]
            if self._count + len(rows) > ROWS_PER_PLACE:
                kept = kept[-ROWS_PER_PLACE // 2 :]
            size = max(min(2 * len(kept), ROWS_PER_PLACE), len(kept) + len(rows), 16)
            block = np.empty((size, rows.shape[1]), dtype=np.float32)
            block[: len(kept)] = kept
            self._rows, self._count = block, len(kept)
        self._rows[self._count : self._count + len(rows)] = rows
        self._count += len(rows)

    def like(self, rows: NDArray[np.float32]) -> list[int]:
        if self._rows is None or not self._count:
            return []
        from memos_agents.operation.products import product

        held = self._rows[: self._count]
        if len(rows) == 1:
            return [0] if product(held, rows[0]).max() >= ALIKE else []
        nearest = product(held, rows.T).max(axis=0).tolist()
        return [position for position, cosine in enumerate(nearest) if cosine >= ALIKE]

    @property
    def size(self) -> int:
        return 0 if self._rows is None else len(self._rows)


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

        Takes `vectors` for added: if their commit fails, they cause false alarms at worst. 40 microseconds for one
        vector and 1,000 rows.
        """
        column, rows = self._column(place), self._projected(vectors)
        with column.lock:
            if column.loaded_at is None or not timedelta() <= now - column.loaded_at < RELOADED_AFTER:
                held = load()[-ROWS_PER_PLACE:]
                column.reset(self._projected(held) if held.shape[1:] == vectors.shape[1:] else rows[:0])
                column.loaded_at = now
            alike = column.like(rows)
            column.append(rows)
            return alike

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
                while len(self._columns) > 1 and sum(each.size for each in self._columns.values()) > ROWS_IN_ALL:
                    self._columns.popitem(last=False)
            self._columns.move_to_end(place)
            return column

    def _projected(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        import numpy as np

        from memos_agents.operation.products import product

        dimension = vectors.shape[1]
        if dimension <= _DIMENSION:
            return vectors
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
