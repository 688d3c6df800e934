"""Turn log: the messages of one conversation in order, each a cube of its own that every front can find.

Synchronous, over a scoped view; the classes that LlamaIndex sees run it on threads. The log of a key is what this
connector wrote in exactly the view's scope with that session: nothing of another agent's, user's or front's is in it.
An archived message is an archived cube: kept, and out of `search`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

from llama_index.core.base.llms.types import ChatMessage

from memos_agents.connectors.llama_index.erasing import erase_all
from memos_agents.connectors.llama_index.messages import MESSAGE, from_cube, packed, to_entry
from memos_agents.cube.memcube import MemCube
from memos_agents.cube.state import MemoryState
from memos_agents.errors import InvalidRequest, InvalidTransition
from memos_agents.infrastructure.vault.commit import Commit
from memos_agents.interface.arguments import MAX_LIMIT, agent_of
from memos_agents.interface.views import ScopedMemOS
from memos_agents.operation.lifecycle import new_activity, plan_transition

T = TypeVar("T")

_ATTEMPTS = 50
_NEWEST_AT_ONCE = 100  # whoever reads from the end wants as much as fits a prompt
_STATES = (MemoryState.ACTIVATED, MemoryState.ARCHIVED)


@dataclass(frozen=True, slots=True)
class TurnLog:
    """The conversation `session_id` of a view; `agent` names the front that writes."""

    view: ScopedMemOS
    collection: str
    agent: str

    @classmethod
    def of(cls, view: ScopedMemOS, session_id: str, *, collection: str, agent: str) -> TurnLog:
        """The log of one session; `InvalidRequest` if the view is bound to another one."""
        return cls(view.scoped(session_id=session_id), collection, agent)

    def entries(
        self, state: MemoryState | None = None, *, newest_first: bool = False, include_hidden: bool = False
    ) -> Iterator[MemCube]:
        """The log's cubes with this state (None: active and archived), oldest first unless told, read page by page."""
        cursor = None
        while True:
            page = self.view.list(
                states=_STATES if state is None else state,
                collection=self.collection,
                order="-created" if newest_first else "created",
                limit=_NEWEST_AT_ONCE if newest_first else MAX_LIMIT,
                cursor=cursor,
                include_hidden=include_hidden,
            )
            yield from (cube for cube in page if MESSAGE in cube.metadata and cube.scope == self.view.scope)
            cursor = page.cursor
            if cursor is None:
                return

    def append(self, messages: Sequence[ChatMessage], state: MemoryState = MemoryState.ACTIVATED) -> list[MemCube]:
        """Write messages at the end, 500 at a time all or nothing."""
        entries = [to_entry(message) for message in messages]
        if not entries:
            return []
        cubes = self.view.add(entries, collection=self.collection, merge=False, agent=self.agent)
        if state is MemoryState.ARCHIVED:
            self._archive(cubes)
        return cubes

    def replace(self, messages: Sequence[ChatMessage], state: MemoryState = MemoryState.ACTIVATED) -> None:
        """Make the log say exactly this: what it begins with already stays, the rest is written, then the old erased.

        Killed in between, the log has both, never less.
        """
        wanted = [packed(message) for message in messages]
        present = list(self.entries())
        kept = 0
        for text, cube in zip(wanted, present, strict=False):
            if cube.metadata[MESSAGE] != text or cube.state is not state:
                break
            kept += 1
        self.append(messages[kept:], state)
        self._erase(present[kept:])

    def erase(self, state: MemoryState | None = None) -> None:
        """Erase the whole log, or what has this state."""
        erase_all(self.view, lambda: [cube.id for cube in self.entries(state, include_hidden=True)], agent=self.agent)

    def erase_at(self, position: int) -> ChatMessage | None:
        """Erase the message at a position (0: the oldest; -1: the newest) and return it; None if there is none."""
        present = list(self.entries())
        if not -len(present) <= position < len(present):
            return None
        cube = present[position]
        self._erase([cube])
        return from_cube(cube)

    def erase_oldest(self, count: int) -> list[ChatMessage]:
        """Erase the oldest active messages and return them."""
        oldest = self._oldest(count)
        self._erase(oldest)
        return [from_cube(cube) for cube in oldest]

    def archive_oldest(self, count: int) -> list[ChatMessage]:
        """Archive the oldest active messages, all or nothing, and return them."""

        def archive() -> list[ChatMessage]:
            oldest = self._oldest(count)
            self._archive(oldest)
            return [from_cube(cube) for cube in oldest]

        return _persistently(archive)

    def _oldest(self, count: int) -> list[MemCube]:
        if isinstance(count, bool) or not isinstance(count, int) or count < 0:
            raise InvalidRequest(f"n must be an int of at least 0, not {count!r}")
        return list(islice(self.entries(MemoryState.ACTIVATED), count))

    def _archive(self, cubes: Sequence[MemCube]) -> None:
        if not cubes:
            return
        store = self.view._store  # the front archives one by one; a queue must move as a whole
        activity = new_activity("archive", agent=agent_of(self.agent), ids=store.ids, now=store.now())
        plans = [plan_transition(cube, MemoryState.ARCHIVED, activity=activity) for cube in cubes]
        store.commit(Commit(activity=activity, transitions=tuple(step for plan in plans for step in plan.transitions)))

    def _erase(self, cubes: Sequence[MemCube]) -> None:
        erase_all(self.view, lambda: [cube.id for cube in cubes], agent=self.agent)


def conversations(view: ScopedMemOS, *, collection: str) -> list[str]:
    """The sessions of which the view holds a log, in the order in which they began."""
    found: dict[str, None] = {}
    cursor = None
    while True:
        page = view.list(states=_STATES, collection=collection, limit=MAX_LIMIT, cursor=cursor)
        for cube in page:
            session = cube.scope.session_id
            if session is None or session in found or MESSAGE not in cube.metadata:
                continue
            if cube.scope == view.scoped(session_id=session).scope:
                found[session] = None
        cursor = page.cursor
        if cursor is None:
            return list(found)


def _persistently(work: Callable[[], T]) -> T:
    """Try again what met a concurrent writer."""
    for attempt in range(_ATTEMPTS):
        try:
            return work()
        except InvalidTransition:
            if attempt == _ATTEMPTS - 1:
                raise
    raise AssertionError("the last attempt returns or raises")
