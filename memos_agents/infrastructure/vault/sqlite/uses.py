"""Usage facts that wait in memory for the next commit, so that reading a memory costs no write."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable

from memos_agents.cube.state import MemoryState
from memos_agents.infrastructure.vault.sqlite.schema import STATE_NUMBER


class PendingUses:
    """Counts and last times by cube id."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pending: dict[str, tuple[int, int]] = {}
        self._storing: dict[str, tuple[int, int]] = {}

    def add(self, cube_ids: Iterable[str], at_us: int) -> None:
        """One use of each at `at_us`."""
        with self._lock:
            for cube_id in cube_ids:
                self._merge(cube_id, 1, at_us)

    def pending(self) -> dict[str, tuple[int, int]]:
        """What is not stored yet."""
        if not self._storing:
            return self._pending
        with self._lock:
            return {**self._storing, **self._pending}

    def store(self, connection: sqlite3.Connection, tenant: int) -> None:
        """Write everything pending inside the caller's transaction; `settle` says how that ended."""
        with self._lock:
            if not self._pending:
                return
            self._storing, self._pending = self._pending, {}
        connection.executemany(
            "INSERT INTO usage(cube, count, last_us) SELECT rid, ?, ? FROM cube WHERE tenant=? AND id=? AND state<>? "
            "ON CONFLICT(cube) DO UPDATE SET count = count + excluded.count, last_us = max(last_us, excluded.last_us)",
            [
                (count, last_us, tenant, cube_id, STATE_NUMBER[MemoryState.ERASED])
                for cube_id, (count, last_us) in self._storing.items()
            ],
        )

    def settle(self, *, is_stored: bool) -> None:
        """Forget what was stored, or take it back."""
        with self._lock:
            if not is_stored:
                for cube_id, (count, last_us) in self._storing.items():
                    self._merge(cube_id, count, last_us)
            self._storing = {}

    def _merge(self, cube_id: str, count: int, last_us: int) -> None:
        before, last = self._pending.get(cube_id, (0, last_us))
        self._pending[cube_id] = before + count, max(last, last_us)
