"""Identity: whose memory a run reads and writes, from what the application bound and what the run's context says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from memos_agents.cube.scope import Scope
from memos_agents.errors import InvalidRequest
from memos_agents.interface.recall import AnyAsync, AnyMemOS, Views, fronts_of, view_of

_FIELDS = ("user_id", "agent_id", "session_id")


class Identity(NamedTuple):
    """What a run recalls from (all sessions of its user), and where it writes (its own session)."""

    reads: Views
    writes: Views


class Identities:
    """Finds the identity of each run; never "everyone", and never outside what the application bound.

    `fixed`: the store must come with a scope. Else the context of the run may name it alone.
    """

    def __init__(
        self,
        memos: AnyMemOS,
        *,
        user_id: str | None,
        agent_id: str | None,
        session_id: str | None,
        scope: Scope | None,
        fixed: bool,
    ) -> None:
        named = user_id is not None or agent_id is not None or session_id is not None or scope is not None
        self._base: AnyAsync
        if fixed or named:
            self._base = view_of(memos, user_id=user_id, agent_id=agent_id, session_id=session_id, scope=scope).aio
        else:
            self._base = fronts_of(memos).aio

    @property
    def aio(self) -> AnyAsync:
        """The asynchronous front whose threads are used."""
        return self._base

    def of(self, context: object, thread_id: str | None) -> Identity:
        """The identity of a run: `user_id`, `agent_id` and `session_id` of its context, the thread as the session.

        Raises `InvalidRequest` if neither the application nor the context says whose memory it is, or if the context
        names somebody else than the application bound.
        """
        told = {name: _field(context, name) for name in _FIELDS}
        bound = getattr(self._base, "scope", None)
        if bound is None and told["user_id"] is None and told["agent_id"] is None:
            raise InvalidRequest(
                "this run does not say whose memory it is: give the agent a context_schema with user_id and invoke it "
                "with context={'user_id': ...}, or hand the connector a scoped view (memos.scoped(user_id=...))"
            )
        reads = self._base.scoped(user_id=told["user_id"], agent_id=told["agent_id"])
        session = told["session_id"]
        if session is None and (bound is None or bound.session_id is None):
            session = thread_id
        writes = reads if session is None else reads.scoped(session_id=session)
        return Identity(Views(reads.sync, reads), Views(writes.sync, writes))


def _field(context: object, name: str) -> str | None:
    value = context.get(name) if isinstance(context, Mapping) else getattr(context, name, None)
    if value is None or isinstance(value, str):
        return value
    raise InvalidRequest(f"{name} in the run's context must be a str, not {type(value).__name__}")
