"""What writers of one process wait with: made so that a Ctrl-C anywhere leaves nobody else waiting for good."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Generic, TypeVar

T = TypeVar("T")


class Bell:
    """Wakes one who waits, also one who waits later. Rung twice it has rung once.

    Not `threading.Event`: that is Python inside, and a Ctrl-C can leave its own lock taken for good.
    """

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def ring(self) -> None:
        """Wake who waits."""
        with suppress(RuntimeError):  # it has rung already
            self._lock.release()

    def wait(self, seconds: float = -1) -> None:
        """Until it rings, or so long."""
        self._lock.acquire(timeout=seconds)

    def silence(self) -> None:
        """Forget that it rang."""
        self._lock.acquire(blocking=False)


class Task(Generic[T]):
    """One caller's work and, when `is_done`, what came of it. Woken undone, its caller leads the next group.

    A leader's task also has the `group` that it runs, and whether that is durable.
    """

    __slots__ = ("error", "group", "is_committed", "is_done", "prepare", "result", "woken", "work")

    def __init__(self, work: Callable[[sqlite3.Connection], T], prepare: Callable[[], None] | None) -> None:
        self.work = work
        self.prepare = prepare
        self.group: list[Task[object]] = []
        self.is_committed = False
        self.is_done = False
        self.result: T | None = None
        self.error: BaseException | None = None
        self.woken = Bell()


def insist(clean_up: Callable[[], None]) -> None:
    """Until it went through: a second Ctrl-C must not leave everybody else waiting."""
    while True:
        try:
            return clean_up()
        except KeyboardInterrupt:
            continue
