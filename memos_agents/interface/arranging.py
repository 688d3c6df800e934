"""Arranging: relations between cubes and steps in their lives; no content changes."""

from __future__ import annotations

from collections.abc import Mapping

from memos_agents.cube.canonical import JSON, checked_mapping
from memos_agents.cube.memcube import MemCube
from memos_agents.cube.scope import Scope
from memos_agents.cube.state import MemoryState
from memos_agents.infrastructure.provenance.values import Agent, Relation, RelationKind
from memos_agents.interface import arguments
from memos_agents.interface.surface import Surface
from memos_agents.operation import lifecycle


class Arranging(Surface):
    """Relations and steps. Each call is one activity in the log, by `agent` (the application unless told)."""

    def relate(
        self,
        a: str | MemCube,
        kind: RelationKind | str,
        b: str | MemCube,
        *,
        properties: Mapping[str, JSON] | None = None,
        agent: Agent | str | None = None,
        user_id: str | None = None,
        agent_id: str | None = None,
        session_id: str | None = None,
        scope: Scope | None = None,
    ) -> Relation:
        """State that a relation holds, e.g. `relate(a, "CONTRADICTS", b)`; stated again, it gets the new properties.

        Raises `AccessDenied` if `b` is another user's and does not name `a`'s user among its `readers`.
        """
        checked = checked_mapping(properties, what="properties")
        relation = self._relation(a, kind, b, checked, self._named(user_id, agent_id, session_id, scope))
        activity = self._activity("relate", arguments.agent_of(agent), {"kind": relation.kind.value})
        self._store.commit(lifecycle.plan_relation(relation, activity=activity))
        return relation

    def unrelate(
        self,
        a: str | MemCube,
        kind: RelationKind | str,
        b: str | MemCube,
        *,
        agent: Agent | str | None = None,
        user_id: str | None = None,
        agent_id: str | None = None,
        session_id: str | None = None,
        scope: Scope | None = None,
    ) -> None:
        """Take a relation back. That it held stays in the record; nothing happens if it does not hold."""
        relation = self._relation(a, kind, b, {}, self._named(user_id, agent_id, session_id, scope))
        activity = self._activity("unrelate", arguments.agent_of(agent), {"kind": relation.kind.value})
        self._store.commit(lifecycle.plan_unrelation(relation, activity=activity))

    def archive(
        self,
        id: str | MemCube,
        *,
        agent: Agent | str | None = None,
        user_id: str | None = None,
        agent_id: str | None = None,
        session_id: str | None = None,
        scope: Scope | None = None,
    ) -> MemCube:
        """Put a cube away: kept, but no longer found by `search` until `activate`."""
        named = self._named(user_id, agent_id, session_id, scope)
        return self._step(id, "archive", MemoryState.ARCHIVED, agent, named)

    def activate(
        self,
        id: str | MemCube,
        *,
        agent: Agent | str | None = None,
        user_id: str | None = None,
        agent_id: str | None = None,
        session_id: str | None = None,
        scope: Scope | None = None,
    ) -> MemCube:
        """Bring a cube back that was generated, archived, merged or expired."""
        named = self._named(user_id, agent_id, session_id, scope)
        return self._step(id, "activate", MemoryState.ACTIVATED, agent, named)

    def freeze(
        self,
        id: str | MemCube,
        *,
        agent: Agent | str | None = None,
        user_id: str | None = None,
        agent_id: str | None = None,
        session_id: str | None = None,
        scope: Scope | None = None,
    ) -> MemCube:
        """Refuse every new version and step of a cube, except erasing it, until `unfreeze`."""
        return self._set_frozen(id, True, agent, self._named(user_id, agent_id, session_id, scope))

    def unfreeze(
        self,
        id: str | MemCube,
        *,
        agent: Agent | str | None = None,
        user_id: str | None = None,
        agent_id: str | None = None,
        session_id: str | None = None,
        scope: Scope | None = None,
    ) -> MemCube:
        """Allow changes again."""
        return self._set_frozen(id, False, agent, self._named(user_id, agent_id, session_id, scope))

    def _step(
        self, id: str | MemCube, kind: str, state: MemoryState, agent: Agent | str | None, named: Scope | None
    ) -> MemCube:
        scope, cube_id = arguments.for_ids(named, self.tenant), arguments.cube_id_of(id)
        activity = self._activity(kind, arguments.agent_of(agent))
        head = self._head(cube_id, scope)
        self._store.commit(lifecycle.plan_transition(head, state, activity=activity))
        return self._head(cube_id, scope)

    def _set_frozen(self, id: str | MemCube, frozen: bool, agent: Agent | str | None, named: Scope | None) -> MemCube:
        scope, cube_id = arguments.for_ids(named, self.tenant), arguments.cube_id_of(id)
        activity = self._activity("freeze" if frozen else "unfreeze", arguments.agent_of(agent))
        head = self._head(cube_id, scope)
        commit = lifecycle.plan_freeze(head, frozen, activity=activity)
        if commit is None:
            return head
        self._store.commit(commit)
        return self._head(cube_id, scope)

    def _relation(
        self,
        a: str | MemCube,
        kind: RelationKind | str,
        b: str | MemCube,
        properties: Mapping[str, JSON],
        named: Scope | None,
    ) -> Relation:
        scope = arguments.for_ids(named, self.tenant)
        known = arguments.relation_kind_of(kind)
        source = self._head(arguments.cube_id_of(a), scope)
        (target,) = self._granted([arguments.cube_id_of(b)], named, source.scope.user_id)
        return Relation(source_id=source.id, kind=known, target_id=target.id, properties=properties)
