"""The calls that a `MemOS` and its views share, and the views: a store as one user, agent or session may see it."""

from __future__ import annotations

from memos_agents.cube.scope import Scope
from memos_agents.errors import InvalidRequest
from memos_agents.interface import arguments
from memos_agents.interface.adding import Adding
from memos_agents.interface.arranging import Arranging
from memos_agents.interface.chatting import Chatting
from memos_agents.interface.finding import Finding
from memos_agents.interface.forms import Forms
from memos_agents.interface.reading import Reading
from memos_agents.interface.revising import Revising
from memos_agents.interface.store import Store


class Front(Chatting, Forms, Adding, Finding, Reading, Revising, Arranging):
    """Add, find, read, revise, arrange, change the form, chat, and hand out views."""

    def scoped(
        self,
        *,
        user_id: str | None = None,
        agent_id: str | None = None,
        session_id: str | None = None,
        scope: Scope | None = None,
    ) -> ScopedMemOS:
        """A view of this store that carries the scope in every call: what to hand to code that serves one user."""
        named = self._named(user_id, agent_id, session_id, scope)
        if named is None:
            raise InvalidRequest("a view needs a scope: user_id=, agent_id=, session_id= or scope=Scope(...)")
        return ScopedMemOS(self._store, arguments.for_reading(named, what="a view"))


class ScopedMemOS(Front):
    """The calls of a `MemOS` with a scope in every one; from `memos.scoped(user_id=...)`.

    A call may narrow the scope (`session_id=`) and never widen it; naming another value is `InvalidRequest`. What lies
    outside does not exist here, not even by id. Calls about the store as a whole (`verify`, `backup`, `load`, ...)
    belong to the `MemOS`, which also closes it. A whole scope is erased only when the call names it: `erase()` alone is
    refused here too.
    """

    def __init__(self, store: Store, bound: Scope) -> None:
        self._store = store
        self._bound = self._scope = bound

    def __repr__(self) -> str:
        return f"ScopedMemOS({self._scope!r})"

    @property
    def scope(self) -> Scope:
        """What every call is bound to."""
        return self._scope
