"""Resemblance: a cheap first answer to "may this be near something that the scope holds already?".

Comparing every new memory with all vectors of its scope costs more than storing it. So each scope's newest vectors are
also kept here in 32 dimensions (a random projection, which keeps angles: for two texts of cosine 0.95 the projected
cosine is 0.95 +- 0.017), and only what is alike there is compared exactly. False alarms cost time, not truth; about one
near duplicate in 10,000 is missed (4 standard deviations). Source: Johnson and Lindenstrauss, 1984.

In memory only, and only a hint: what another process adds is seen after `RELOADED_AFTER`.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, TypeAlias

from memos_agents.cube.scope import Scope
from memos_agents.infrastructure.vault.commit import Commit, CommitResult

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Place: TypeAlias = tuple[Scope, str, str]
"""Exactly one scope, collection and vector space."""

ALIKE = 0.88
"""Projected cosine from which vectors are worth comparing, so that pairs of cosine 0.95 are found."""
ROWS_PER_PLACE = 10_000
"""Newest vectors of one place that are compared: 1.3 MB."""
PLACES = 512
"""Places kept, those used last."""
RELOADED_AFTER = timedelta(seconds=60)
_DIMENSION = 32


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
        import numpy as np

        if self._rows is None:
            return
        if self._count + len(rows) > len(self._rows):
            kept = self._rows[: self._count][-ROWS_PER_PLACE // 2 :]
            block = np.empty((min(2 * len(kept), ROWS_PER_PLACE) + len(rows) + 16, _DIMENSION), dtype=np.float32)
            block[: len(kept)] = kept
            self._rows, self._count = block, len(kept)
        self._rows[self._count : self._count + len(rows)] = rows
        self._count += len(rows)

    def holds_like(self, rows: NDArray[np.float32]) -> bool:
        return bool(
            self._rows is not None and self._count and (self._rows[: self._count] @ rows.T).max(initial=-1.0) >= ALIKE
        )


class Resemblance:
    """What the places used last hold, in a few dimensions. May be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._columns: OrderedDict[Place, _Column] = OrderedDict()
        self._projections: dict[int, NDArray[np.float32]] = {}

    def suspects(
        self, place: Place, vectors: NDArray[np.float32], load: Callable[[], NDArray[np.float32]], now: datetime
    ) -> bool:
        """Whether any of `vectors` (unit rows) may be near something in `place`; `load` gives the vectors it holds."""
        column = self._column(place)
        rows = self._projected(vectors)
        with column.lock:
            if column.loaded_at is None or not timedelta() <= now - column.loaded_at < RELOADED_AFTER:
                held = load()[-ROWS_PER_PLACE:]
                column.reset(self._projected(held) if held.shape[1:] == vectors.shape[1:] else rows[:0])
                column.loaded_at = now
            return column.holds_like(rows)

    def follow(self, commit: Commit, result: CommitResult) -> None:
        """Take note of what was written; forget everything when something was erased."""
        if result.erased:
            self.forget()
        if result.is_repeated:
            return
        import numpy as np

        new: dict[Place, list[NDArray[np.float32]]] = {}
        for write, outcome in zip(commit.writes, result.outcomes, strict=True):
            if not outcome.is_duplicate:
                for space, vector in write.vectors.items():
                    new.setdefault((write.cube.scope, write.cube.descriptive.collection, space), []).append(vector)
        for place, vectors in new.items():
            column = self._columns.get(place)
            if column is not None:
                rows = self._projected(np.stack(vectors))
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
        rows = vectors @ projection
        lengths = np.sqrt(np.einsum("ij,ij->i", rows, rows))[:, None]
        result: NDArray[np.float32] = np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0)
        return result
