"""MemOSSession: a conversation of the OpenAI Agents SDK, kept as memories.

Rejected: one memory holding the whole conversation (every turn would write all of it again, and nothing in it could be
found, corrected or erased by itself), and copying on a branch (an erased turn would live on in the copies).
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from memos_agents.connectors.openai.items import ITEM, WORDLESS, Item, is_user_turn, item_of, memory_of, without_strays
from memos_agents.cube.canonical import JSON
from memos_agents.cube.memcube import MemCube
from memos_agents.cube.moment import iso, utc
from memos_agents.cube.scope import Scope, check_name
from memos_agents.errors import InvalidRequest, NotFound, VersionConflict
from memos_agents.interface import recall
from memos_agents.interface.views import ScopedMemOS

try:
    from agents.memory import SessionSettings
except ImportError as error:
    raise ImportError("MemOSSession needs the OpenAI Agents SDK: pip install 'memos-agents[openai-agents]'") from error

if TYPE_CHECKING:
    from agents.items import TResponseInputItem

_AGENT = "openai.MemOSSession"
_BRANCH = "_openai_branch"
"""Key, and metadata key, of the memory that says where a branch leaves its parent."""
_PAGE = 200


class _Place(NamedTuple):
    """Where a memory stands in the order of a session."""

    created_at: datetime
    cube_id: str


class _Entry(NamedTuple):
    """One item as it is kept; `is_inherited`: in the session that this one branched from."""

    cube: MemCube
    is_inherited: bool


class MemOSSession:
    """Implements `agents.memory.Session`: pass it as `session=` to `Runner.run`.

    Items come back exactly as they were added, in order; what users and assistants said is found by `search` like any
    other memory of the user, in this and in other sessions. Two items never merge. Removing erases: what is popped or
    cleared, or erased through any other front, is gone from the store, and a corrected memory is corrected here.
    """

    session_id: str
    session_settings: SessionSettings | None

    def __init__(
        self,
        session_id: str,
        memos: recall.AnyMemOS,
        *,
        user_id: str | None = None,
        agent_id: str | None = None,
        scope: Scope | None = None,
        session_settings: SessionSettings | dict[str, Any] | None = None,
    ) -> None:
        """Open the session `session_id` of the user or agent that `memos` (a view) or the keywords name.

        Only what was written in exactly this scope belongs to it: another user's session of the same name is another
        session. Raises `InvalidRequest` without a scope, and for `Scope.everything()`.
        """
        outer = recall.view_of(memos, user_id=user_id, agent_id=agent_id, scope=scope)
        if outer.sync.scope.is_everything:
            raise InvalidRequest("a session belongs to somebody; give user_id= or agent_id=, not Scope.everything()")
        self.session_id = check_name(session_id, what="session_id")
        self.session_settings = (
            SessionSettings(**session_settings) if isinstance(session_settings, dict) else session_settings
        ) or SessionSettings()
        self._outer = outer
        self._scope = outer.sync.scoped(session_id=session_id).scope

    def __repr__(self) -> str:
        return f"MemOSSession({self.session_id!r}, {self._outer.sync!r})"

    async def get_items(self, limit: int | None = None) -> list[TResponseInputItem]:
        """Return the latest `limit` items (None: as `session_settings` says, else all), oldest first.

        With a limit, outputs whose calls are cut off are left out, so there may be fewer. Without one every item is
        returned as it was added. Costs a read of the session from its end as far as the limit goes.
        """
        settings = self.session_settings
        count = limit if limit is not None or settings is None else settings.limit
        if count is not None and (isinstance(count, bool) or not isinstance(count, int) or count < 0):
            raise InvalidRequest(f"limit is {count!r}; it must be an int of at least 0, or None for all items")
        found = await recall.on_thread(self._outer.aio, self._latest, count)
        return cast("list[TResponseInputItem]", found)

    async def add_items(self, items: list[TResponseInputItem]) -> None:
        """Append items, all or none (500 at a time); they are durable when this returns."""
        memories = [memory_of(item, what=f"items[{index}]") for index, item in enumerate(items)]
        if memories:
            await self._outer.aio.add(memories, session_id=self.session_id, agent=_AGENT, origin=_AGENT, merge=False)

    async def pop_item(self) -> TResponseInputItem | None:
        """Erase the newest item and return it; None if there is none. Two callers never get the same item.

        On a branch that has no items of its own left, the branch gets shorter and its parent keeps the item. Costs what
        `erase` costs: a file is rewritten, 2 s for 100,000 memories.
        """
        return cast("TResponseInputItem | None", await recall.on_thread(self._outer.aio, self._pop))

    async def clear_session(self) -> None:
        """Erase every item of this session, with all that was derived from them. What a parent holds stays there."""
        await recall.on_thread(self._outer.aio, self._clear)

    async def branch_from_turn(self, turn_number: int, session_id: str) -> MemOSSession:
        """Start the session `session_id` with everything before one turn of this one, to go on differently.

        Turns count from 1 and begin with a message of the user; 1 starts empty. Nothing is copied: both sessions share
        what came before, so what is corrected or erased there is so in both; what comes later is each one's own.
        Raises `InvalidRequest` if there is no such turn or the new session exists already.
        """
        return await recall.on_thread(self._outer.aio, self._branch, turn_number, session_id)

    def _latest(self, count: int | None) -> list[Item]:
        if count == 0:
            return []
        window: list[Item] = []
        for entry in self._newest_first(count):
            window.append(item_of(entry.cube))
            if len(window) == count:
                break
        window.reverse()
        return window if count is None else without_strays(window)

    def _pop(self) -> Item | None:
        view = self._outer.sync
        while (entry := next(self._newest_first(1), None)) is not None:
            cube = entry.cube
            try:
                if entry.is_inherited:
                    self._shorten(view, cube)
                    return item_of(cube)
                receipt = view.erase(cube.id, agent=_AGENT)
            except (NotFound, VersionConflict):  # another caller popped it between our read and our write
                continue
            if any(stone.ref.cube_id == cube.id for stone in receipt.tombstones):
                return item_of(cube)
        return None

    def _clear(self) -> None:
        view = self._outer.sync
        while ids := [cube.id for cube in self._own(view, self._scope, None) if _is_ours(cube)]:
            try:
                view.erase(ids, agent=_AGENT)
            except NotFound:  # one of them was erased by somebody else since
                continue

    def _branch(self, turn_number: int, session_id: str) -> MemOSSession:
        view = self._outer.sync
        other = MemOSSession(session_id, self._outer.aio, session_settings=self.session_settings)
        turns = [entry.cube for entry in self._newest_first(None) if is_user_turn(item_of(entry.cube))][::-1]
        if isinstance(turn_number, bool) or not isinstance(turn_number, int) or not 1 <= turn_number <= len(turns):
            raise InvalidRequest(f"turn_number is {turn_number!r}, but session {self.session_id!r} has {len(turns)}")
        if next(other._own(view, other._scope, None), None) is not None:
            raise InvalidRequest(f"there is a session {session_id!r} already; give the branch another session_id")
        self._write_cut(view, other.session_id, self.session_id, _place_of(turns[turn_number - 1]))
        return other

    def _shorten(self, view: ScopedMemOS, popped: MemCube) -> None:
        pointer = view.get(key=_BRANCH, session_id=self.session_id)
        parent, _ = _cut_of(pointer)
        metadata = {_BRANCH: _cut(parent, _place_of(popped))}
        view.update(pointer.id, metadata=metadata, expected_version=pointer.version, agent=_AGENT)

    def _write_cut(self, view: ScopedMemOS, session_id: str, parent: str, before: _Place) -> None:
        metadata = {_BRANCH: _cut(parent, before)}
        view.add(WORDLESS, key=_BRANCH, session_id=session_id, metadata=metadata, agent=_AGENT, origin=_AGENT)

    def _newest_first(self, count: int | None) -> Iterator[_Entry]:
        """The items of this session, then those that it shares with its parents, newest first."""
        view, scope = self._outer.sync, self._scope
        before: _Place | None = None
        visited: set[str] = set()
        while scope.session_id is not None and scope.session_id not in visited:
            visited.add(scope.session_id)
            parent = None
            for cube in self._own(view, scope, count):
                if _BRANCH in cube.metadata:
                    parent = _cut_of(cube)
                elif before is None or _place_of(cube) < before:
                    yield _Entry(cube, is_inherited=scope is not self._scope)
            if parent is None:
                return
            before = parent[1] if before is None else min(before, parent[1])
            scope = view.scoped(session_id=parent[0]).scope

    @staticmethod
    def _own(view: ScopedMemOS, scope: Scope, count: int | None) -> Iterator[MemCube]:
        """What stands in exactly this scope and is ours, newest first, read a page at a time."""
        cursor: str | None = None
        while True:
            size = _PAGE if count is None else min(count + 1, _PAGE)
            page = view.list(scope=scope, order="-created", limit=size, cursor=cursor)
            yield from (cube for cube in page if cube.scope == scope and _is_ours(cube))
            if page.cursor is None:
                return
            cursor = page.cursor


def _is_ours(cube: MemCube) -> bool:
    return ITEM in cube.metadata or _BRANCH in cube.metadata


def _place_of(cube: MemCube) -> _Place:
    return _Place(cube.created_at, cube.id)


def _cut(parent: str, before: _Place) -> dict[str, JSON]:
    return {"session_id": parent, "before": [iso(before.created_at), before.cube_id]}


def _cut_of(pointer: MemCube) -> tuple[str, _Place]:
    cut = cast("dict[str, Any]", pointer.metadata[_BRANCH])
    created_at, cube_id = cut["before"]
    return cut["session_id"], _Place(utc(created_at, what="before"), cube_id)
