"""Whose memory a call is about: fixed for the server, named by each call, or told by the request. Never guessed."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Annotated, Any, Protocol

from mcp.server.mcpserver import Context
from pydantic import Field

from memos_agents.cube.scope import Scope
from memos_agents.errors import InvalidRequest
from memos_agents.interface import recall
from memos_agents.interface.aio import AsyncScopedMemOS

ScopeOf = Callable[[Context[Any, Any]], Scope]
"""From a request to whose memory it may touch; raises what it likes for a request that may touch none."""


class Whose(Protocol):
    """Picks the view that one call works on. `parameters` are what it needs from the call."""

    parameters: tuple[inspect.Parameter, ...]
    place: str
    """What stands before the id in a resource's address."""

    def pick(self, arguments: dict[str, Any]) -> AsyncScopedMemOS:
        """Take its parameters out of `arguments` and return the view."""
        ...


def _wanted(name: str, annotation: object, default: object = inspect.Parameter.empty) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default)


class Fixed:
    """One scope for the whole server."""

    parameters: tuple[inspect.Parameter, ...] = ()
    place = ""

    def __init__(self, view: AsyncScopedMemOS) -> None:
        self._view = view

    def pick(self, arguments: dict[str, Any]) -> AsyncScopedMemOS:
        return self._view


class Named:
    """Each call names its user. For clients that the application trusts to do so: a gateway, its own agents."""

    parameters: tuple[inspect.Parameter, ...] = (
        _wanted("user_id", Annotated[str, Field(description="Whose memory. Always the user who is being served.")]),
        _wanted("agent_id", Annotated[str | None, Field(description="Only what belongs to this agent.")], default=None),
        _wanted("session_id", Annotated[str | None, Field(description="Only this session.")], default=None),
    )
    place = "{user_id}/"

    def __init__(self, fronts: recall.Fronts) -> None:
        self._fronts = fronts

    def pick(self, arguments: dict[str, Any]) -> AsyncScopedMemOS:
        named = {item.name: arguments.pop(item.name, None) for item in self.parameters}
        return self._fronts.aio.scoped(**named)


class Told:
    """The request itself tells, by its verified token for example; what a model writes has no say in it."""

    parameters: tuple[inspect.Parameter, ...] = (_wanted("context", Context),)
    place = ""

    def __init__(self, fronts: recall.Fronts, scope_of: ScopeOf) -> None:
        self._fronts = fronts
        self._scope_of = scope_of

    def pick(self, arguments: dict[str, Any]) -> AsyncScopedMemOS:
        scope = self._scope_of(arguments.pop("context"))
        if not isinstance(scope, Scope) or scope.is_everything:
            raise InvalidRequest("scope_of must return the Scope of one user, agent or session")
        return self._fronts.aio.scoped(scope=scope)


def whose_of(
    memos: recall.AnyMemOS,
    *,
    user_id: str | None,
    agent_id: str | None,
    session_id: str | None,
    scope: Scope | None,
    scope_of: ScopeOf | None,
) -> Whose:
    """What the arguments of `server` say; `InvalidRequest` if they say nothing, or two things."""
    names = (user_id, agent_id, session_id)
    if scope_of is not None:
        if scope is not None or any(name is not None for name in names):
            raise InvalidRequest("give scope_of= or a fixed scope, not both")
        return Told(recall.fronts_of(memos), scope_of)
    views = recall.view_of(memos, user_id=user_id, agent_id=agent_id, session_id=session_id, scope=scope)
    if views.sync.scope.is_everything:
        return Named(recall.Fronts(*views))
    return Fixed(views.aio)
