"""Usage facts that wait in memory for the next commit, so that reading a memory costs no write."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping


class PendingUses:
    """Counts and last times by cube id."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pending: dict[str, tuple[int, int]] = {}
        self._taken: dict[str, tuple[int, int]] = {}
        self._taker: str | None = None

    def add(self, cube_ids: Iterable[str], at_us: int) -> None:
        """One use of each at `at_us`."""
        with self._lock:
            for cube_id in cube_ids:
                _merge(self._pending, cube_id, 1, at_us)

    def pending(self) -> Mapping[str, tuple[int, int]]:
        """What is not stored yet: how many uses, and the last one in microseconds."""
        with self._lock:
            if not self._taken:
                return dict(self._pending)
            both = dict(self._taken)
            for cube_id, (count, last_us) in self._pending.items():
                _merge(both, cube_id, count, last_us)
            return both

    def take(self, op: str) -> list[tuple[str, int, int]]:
        """Everything pending, to be written by the transaction `op`; the same again when it is tried again."""
        with self._lock:
            if self._taker != op:
                self._give_back()
                self._taker, self._taken, self._pending = op, self._pending, {}
            return [(cube_id, count, last_us) for cube_id, (count, last_us) in sorted(self._taken.items())]

    def settle(self, *, is_stored: bool) -> None:
        """The transaction that took them ended: forget what was stored, or take it back."""
        with self._lock:
            if is_stored:
                self._taken = {}
            self._give_back()

    def _give_back(self) -> None:
        for cube_id, (count, last_us) in self._taken.items():
            _merge(self._pending, cube_id, count, last_us)
        self._taken, self._taker = {}, None


def _merge(uses: dict[str, tuple[int, int]], cube_id: str, count: int, last_us: int) -> None:
    before, last = uses.get(cube_id, (0, last_us))
    uses[cube_id] = before + count, max(last, last_us)
