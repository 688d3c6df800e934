"""Surface: what every call of `MemOS` and of its views stands on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from memos_agents.cube.canonical import JSON
from memos_agents.cube.memcube import MemCube, VersionRef
from memos_agents.cube.scope import Scope, check_name
from memos_agents.cube.state import MemoryState
from memos_agents.errors import NotFound
from memos_agents.infrastructure.provenance.values import Activity, Agent
from memos_agents.interface import arguments
from memos_agents.interface.store import Store
from memos_agents.operation.lifecycle import new_activity

if TYPE_CHECKING:
    from memos_agents.models.base import Embedder


class Surface:
    """A store and the scope that its calls are bound to (None: none, the application's own front).

    What holds for every call: times are aware datetimes or ISO 8601 strings with an offset. Calls that find by content
    need `user_id=`, `agent_id=`, `session_id=` or `scope=`; an omitted field matches any value. Calls by id act for the
    application, unless a scope is given: then what it does not admit is `NotFound`, as if it did not exist. Every call
    raises `BackendUnavailable` once the store is closed.
    """

    _store: Store
    _bound: Scope | None = None

    @property
    def embedder(self) -> Embedder | None:
        """What turns texts into vectors; None for a store opened with `embedder="none"`."""
        return self._store.embedder

    @property
    def tenant(self) -> str:
        """The tenant that the store was opened for."""
        return self._store.tenant

    def _named(
        self, user_id: str | None, agent_id: str | None, session_id: str | None, scope: Scope | None
    ) -> Scope | None:
        return arguments.named_scope(self._store.tenant, self._bound, user_id, agent_id, session_id, scope)

    def _head(self, cube_id: str, scope: Scope) -> MemCube:
        head = self._store.vault.get([cube_id], scope).get(cube_id)
        if head is None or head.state is MemoryState.ERASED:
            raise arguments.no_cube(cube_id)
        return head

    def _version(self, cube_id: str, number: int | None, scope: Scope) -> MemCube:
        head = self._head(cube_id, scope)
        if number is None or number == head.version:
            return head
        ref = VersionRef(cube_id, number)
        found = self._store.vault.versions([ref], scope).get(ref)
        if found is None:
            raise NotFound(f"cube {cube_id!r} has no version {number}; its newest is {head.version}", cube_id=cube_id)
        return found

    def _by_key(self, key: str, collection: str, named: Scope | None) -> MemCube:
        owner = arguments.for_writing(named, what="a key")
        head = self._store.vault.find_key(owner, check_name(collection, what="collection"), check_name(key, what="key"))
        if head is None:
            raise NotFound(f"there is no cube with the key {key!r} in this scope", key=key)
        return head

    def _granted(self, cube_ids: Sequence[str], named: Scope | None, reader: str | None) -> list[MemCube]:
        """The heads of cubes that `named` admits or whose `readers` name the user `reader`; else `NotFound`."""
        heads = self._store.vault.get(cube_ids, Scope.everything(self.tenant)) if cube_ids else {}
        granted: list[MemCube] = []
        for cube_id in cube_ids:
            head = heads.get(cube_id)
            if head is None or head.state is MemoryState.ERASED:
                raise arguments.no_cube(cube_id)
            if not (named is None or named.admits(head.scope)) and (
                reader is None or reader not in head.governance.readers
            ):
                raise arguments.no_cube(cube_id)
            granted.append(head)
        return granted

    def _activity(self, kind: str, agent: Agent, parameters: Mapping[str, JSON] | None = None) -> Activity:
        store = self._store
        return new_activity(kind, agent=agent, ids=store.ids, now=store.now(), parameters=parameters)
