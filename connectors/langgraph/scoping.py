"""Scoping: which scope a namespace belongs to, and the front that sees no more than that."""

from __future__ import annotations

from collections.abc import Callable

from memos_agents.connectors.langgraph.placing import Namespace
from memos_agents.cube.scope import Scope
from memos_agents.errors import InvalidRequest
from memos_agents.interface.recall import AnyAsync, AnyMemOS, AnySync, fronts_of, view_of
from memos_agents.interface.views import ScopedMemOS


class Scoping:
    """Either one scope for all namespaces, or a function from a namespace to its scope. Fails closed."""

    def __init__(
        self,
        memos: AnyMemOS,
        *,
        scope_of: Callable[[Namespace], Scope] | None,
        user_id: str | None,
        agent_id: str | None,
        session_id: str | None,
        scope: Scope | None,
    ) -> None:
        self._scope_of = scope_of
        named = not (user_id is None and agent_id is None and session_id is None and scope is None)
        if scope_of is None or named:
            self.front: AnySync
            self.aio: AnyAsync
            self.front, self.aio = view_of(
                memos, user_id=user_id, agent_id=agent_id, session_id=session_id, scope=scope
            )
        else:
            self.front, self.aio = fronts_of(memos)
        if scope_of is not None and not callable(scope_of):
            raise InvalidRequest(f"scope_of must be a function from a namespace to a Scope, not {scope_of!r}")

    def told(self) -> str:
        """For people: whose memory it is."""
        return "scope_of=..." if self._scope_of is not None else repr(self.front)

    def of(self, namespace: Namespace, *, reading: bool = False) -> tuple[AnySync, Scope]:
        """The front to read with, and the exact scope that an item of this namespace belongs to.

        `reading`: the namespace is a prefix, and its scope may be wider than those of what lies under it. Raises
        `InvalidRequest` if the function does not say whose it is: it is never "everyone".
        """
        if self._scope_of is None:
            return self.front, self._owner(self.front)
        what = "a search under" if reading else "the namespace"
        try:
            found = self._scope_of(namespace)
        except (LookupError, TypeError, ValueError) as error:
            raise InvalidRequest(
                f"scope_of does not say whose memory {what} {namespace!r} is ({type(error).__name__}: {error}); "
                "name a longer namespace"
            ) from error
        if not isinstance(found, Scope):
            raise InvalidRequest(f"scope_of must return a Scope for {what} {namespace!r}, not {found!r}")
        view = self.front.scoped(scope=found)
        return view, self._owner(view)

    def owner_of(self, namespace: Namespace) -> Scope:
        """The exact scope that an item of this namespace belongs to."""
        return self.of(namespace)[1]

    @staticmethod
    def _owner(front: AnySync) -> Scope:
        scope = front.scope if isinstance(front, ScopedMemOS) else Scope.everything(front.tenant)
        return Scope(tenant=scope.tenant) if scope.is_everything else scope
