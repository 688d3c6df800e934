"""Sweeping: erasing what outlived its time, when told or at intervals."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING

from memos_agents.connectors.langgraph.placing import fact_of
from memos_agents.cube.metadata import DEFAULT_COLLECTION
from memos_agents.errors import InvalidRequest
from memos_agents.infrastructure.vault.base import ListQuery
from memos_agents.interface.finding import place_of
from memos_agents.interface.keyed import Place, write_keyed
from memos_agents.interface.nearest import scope_of
from memos_agents.interface.recall import on_thread

if TYPE_CHECKING:
    from langgraph.store.base import TTLConfig

    from memos_agents.connectors.langgraph.scoping import Scoping

SWEEPER = "langgraph.MemOSStore.sweep"
_ERASED_AT_ONCE = 500


class Sweeping:
    """The part of a store that knows about time. Names as in upstream's SqliteStore, asynchronous ones with an `a`."""

    _scoping: Scoping
    _scrubs: bool
    ttl_config: TTLConfig | None

    def _start_sweeping(self) -> None:
        self._sweeper: tuple[threading.Event, Future[None]] | None = None

    def sweep_ttl(self) -> int:
        """Erase the items whose time is over, in everything this store may see; return how many."""
        front = self._scoping.front
        store = front._store
        now, over = store.now(), list[Place]()
        after: tuple[int, str] | None = None
        while True:
            query = ListQuery(scope=scope_of(front), collection=DEFAULT_COLLECTION, limit=_ERASED_AT_ONCE, after=after)
            batch = store.vault.list(query)
            for cube in batch:
                fact = fact_of(cube)
                ends = None if fact is None else fact.ends_at(cube.behavioural.last_used_at)
                if ends is not None and ends <= now and cube.descriptive.key is not None:
                    over.append(Place(cube.scope, DEFAULT_COLLECTION, cube.descriptive.key))
            if len(batch) < _ERASED_AT_ONCE:
                break
            after = place_of(batch[-1], "created")
        erased = 0
        for start in range(0, len(over), _ERASED_AT_ONCE):
            some = over[start : start + _ERASED_AT_ONCE]
            is_last = start + _ERASED_AT_ONCE >= len(over)  # one scrub serves every erasure so far
            erased += write_keyed(front, [], erasures=some, agent=SWEEPER, scrub=self._scrubs and is_last).erased
        return erased

    async def asweep_ttl(self) -> int:
        """As `sweep_ttl`."""
        return await on_thread(self._scoping.aio, self.sweep_ttl)

    def start_ttl_sweeper(self, sweep_interval_minutes: float | None = None) -> Future[None]:
        """Sweep at intervals (default: `sweep_interval_minutes` of `ttl=`, else 5) in a thread, until stopped.

        The future ends with the sweeper, and carries the error if a sweep failed: then it has stopped.
        """
        if self._sweeper is not None and not self._sweeper[1].done():
            return self._sweeper[1]
        configured = None if self.ttl_config is None else self.ttl_config.get("sweep_interval_minutes")
        minutes = sweep_interval_minutes if sweep_interval_minutes is not None else configured or 5
        if isinstance(minutes, bool) or not isinstance(minutes, int | float) or minutes <= 0:
            raise InvalidRequest(f"sweep_interval_minutes is {minutes!r}; it must be above 0")
        stopped, ended = threading.Event(), Future[None]()

        def sweep() -> None:
            try:
                while not stopped.wait(minutes * 60):
                    self.sweep_ttl()
            except BaseException as error:  # noqa: BLE001  # whoever holds the future is told
                ended.set_exception(error)
            else:
                ended.set_result(None)

        self._sweeper = (stopped, ended)
        threading.Thread(target=sweep, name="memos-ttl-sweeper", daemon=True).start()
        return ended

    def stop_ttl_sweeper(self, timeout: float | None = None) -> bool:
        """Stop it, waiting `timeout` seconds at most (None: until it has ended); whether it has ended."""
        if self._sweeper is None:
            return True
        stopped, ended = self._sweeper
        stopped.set()
        try:
            ended.exception(timeout)
        except TimeoutError:
            return False
        self._sweeper = None
        return True

    async def astart_ttl_sweeper(self, sweep_interval_minutes: float | None = None) -> Future[None]:
        """As `start_ttl_sweeper`, which does not wait for anything."""
        return self.start_ttl_sweeper(sweep_interval_minutes)

    async def astop_ttl_sweeper(self) -> bool:
        """As `stop_ttl_sweeper`, without blocking the loop; bound it with `asyncio.timeout`."""
        return await asyncio.to_thread(self.stop_ttl_sweeper)
