"""Revising: new versions, erasure, and taking an activity back. Each call plans, and lets the vault commit the plan."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, TypeVar

from memos_agents.cube.canonical import JSON, checked_mapping
from memos_agents.cube.identity import checked_id
from memos_agents.cube.memcube import MemCube, VersionRef
from memos_agents.cube.metadata import DEFAULT_COLLECTION
from memos_agents.cube.scope import Scope
from memos_agents.cube.state import MemoryState
from memos_agents.errors import BackendUnavailable, InvalidRequest, VersionConflict
from memos_agents.infrastructure.provenance.values import Agent
from memos_agents.infrastructure.vault.base import ListQuery, LogQuery, SupportsScrub
from memos_agents.infrastructure.vault.commit import Commit, CommitResult
from memos_agents.interface import arguments
from memos_agents.interface.finding import place_of
from memos_agents.interface.reader import checked_content
from memos_agents.interface.results import UndoResult
from memos_agents.interface.surface import Surface
from memos_agents.operation import lifecycle

if TYPE_CHECKING:
    from memos_agents.infrastructure.governance.receipt import Receipt

T = TypeVar("T")

_ATTEMPTS = 50
_ERASED_AT_ONCE = 1_000


class Revising(Surface):
    """What changes content. Each call is one activity in the log, by `agent` (the application unless told).

    A call without `expected_version` that meets a concurrent writer reads again and retries; with it, `VersionConflict`
    is raised.
    """

    def update(
        self,
        id: str | MemCube,
        text: str | None = None,
        *,
        metadata: Mapping[str, JSON] | None = None,
        occurred_at: datetime | str | None = None,
        valid_from: datetime | str | None = None,
        valid_to: datetime | str | None = None,
        expected_version: int | None = None,
        agent: Agent | str | None = None,
        user_id: str | None = None,
        agent_id: str | None = None,
        session_id: str | None = None,
        scope: Scope | None = None,
    ) -> MemCube:
        """Write a new version with another text, metadata (replaced as a whole) or times; what is not given stays.

        Returns the new version, or the present one if it says the same already. Whatever was derived from the old
        version is stale from then on. Raises `InvalidTransition` if the cube is frozen.
        """
        times = {
            name: moment
            for name, value in (("occurred_at", occurred_at), ("valid_from", valid_from), ("valid_to", valid_to))
            if (moment := arguments.time_of(value, what=name)) is not None
        }
        if text is None and metadata is None and not times:
            raise InvalidRequest("update() needs a new text, metadata= or a time; it got none of them")
        new_text = None if text is None else checked_content(text, what="text")
        new_metadata = None if metadata is None else checked_mapping(metadata, what="metadata")
        named = arguments.for_ids(self._named(user_id, agent_id, session_id, scope), self.tenant)
        actor = arguments.agent_of(agent)

        def plan(head: MemCube) -> Commit | None:
            return lifecycle.plan_update(
                head,
                text=new_text,
                metadata=new_metadata,
                times=times,
                embed=self._store.vectors_of,
                activity=self._activity("update", actor),
            )

        return self._revise(arguments.cube_id_of(id), named, expected_version, plan)

    def rollback(
        self,
        id: str | MemCube,
        *,
        to_version: int,
        expected_version: int | None = None,
        agent: Agent | str | None = None,
        user_id: str | None = None,
        agent_id: str | None = None,
        session_id: str | None = None,
        scope: Scope | None = None,
    ) -> MemCube:
        """Write a new version that says what version `to_version` said; history keeps everything in between."""
        number = arguments.count_of(to_version, what="to_version", most=2**31)
        named = arguments.for_ids(self._named(user_id, agent_id, session_id, scope), self.tenant)
        cube_id, actor = arguments.cube_id_of(id), arguments.agent_of(agent)
        old = self._version(cube_id, number, named)

        def plan(head: MemCube) -> Commit | None:
            activity = self._activity("rollback", actor, {"to_version": number})
            embed = self._store.vectors_of
            return lifecycle.plan_rollback(head, old, vault=self._store.vault, embed=embed, activity=activity)

        return self._revise(cube_id, named, expected_version, plan)

    def erase(
        self,
        ids: str | MemCube | Iterable[str | MemCube] | None = None,
        *,
        key: str | None = None,
        collection: str = DEFAULT_COLLECTION,
        scrub: bool = True,
        agent: Agent | str | None = None,
        user_id: str | None = None,
        agent_id: str | None = None,
        session_id: str | None = None,
        scope: Scope | None = None,
    ) -> Receipt:
        """Remove memory for good: one or several cubes, the cube of a key, or everything of a scope.

        All versions go, and all that was derived from them, whoever owns it, in one transaction; content is left
        nowhere, tombstones stay. `scrub` also removes the bytes from the medium before returning; `receipt.is_complete`
        says whether that is done (`MemOS.scrub` does it later). `receipt.verify(memos)` checks it at any time. What is
        added while a whole scope is being erased is not part of it. Raises `NotFound` for an id that is not there.
        """
        vault, actor = self._store.vault, arguments.agent_of(agent)
        spoken = user_id is not None or agent_id is not None or session_id is not None or scope is not None
        named = self._named(user_id, agent_id, session_id, scope)
        cube_ids = self._to_erase(ids, key, collection, named, spoken)
        parameters: dict[str, JSON] = {"cubes": len(cube_ids), "whole_scope": ids is None and key is None}
        activity = self._activity("erase", actor, parameters)
        result = self._store.commit(lifecycle.plan_erase(cube_ids, activity=activity))
        for model in list(self._store.models):
            model.forget()
        is_complete = True
        if isinstance(vault, SupportsScrub):
            if scrub and result.erased:
                with suppress(BackendUnavailable):  # it is erased, and whoever asked must get the receipt that says so
                    vault.scrub()
            is_complete = vault.is_scrubbed(result.seq)
        return self._receipt(result, actor, is_complete)

    def undo(
        self,
        activity_id: str,
        *,
        agent: Agent | str | None = None,
        user_id: str | None = None,
        agent_id: str | None = None,
        session_id: str | None = None,
        scope: Scope | None = None,
    ) -> UndoResult:
        """Take back what one activity of the log did, as a new activity that can itself be undone.

        New cubes stop being believed, replaced content is written again, steps and relations are reversed. Raises
        `InvalidRequest` for an erasure, `VersionConflict` if a cube has changed since.
        """
        named = arguments.for_ids(self._named(user_id, agent_id, session_id, scope), self.tenant)
        undone = checked_id(activity_id, what="an activity id", given_by="memos.log()")
        vault = self._store.vault
        activity = self._activity("undo", arguments.agent_of(agent), {"undone": undone})
        commit = lifecycle.plan_undo(
            vault.effects(undone, named), vault=vault, scope=named, embed=self._store.vectors_of, activity=activity
        )
        self._store.commit(commit)
        changed = {write.cube.id for write in commit.writes} | {step.cube_id for step in commit.transitions}
        changed |= {invalidation.ref.cube_id for invalidation in commit.invalidations}
        for relation in (*commit.relations, *commit.unrelations):
            changed |= {relation.source_id, relation.target_id}
        return UndoResult(activity_id=activity.id, undone=undone, cubes=tuple(sorted(changed)))

    def _revise(
        self, cube_id: str, named: Scope, expected_version: int | None, plan: Callable[[MemCube], Commit | None]
    ) -> MemCube:
        expected = arguments.version_of(expected_version, what="expected_version")
        for attempt in range(_ATTEMPTS):
            head = self._head(cube_id, named)
            if expected is not None and head.version != expected:
                raise VersionConflict(
                    f"cube {cube_id!r} was expected at version {expected} but is at version {head.version}; "
                    "read it again and retry",
                    cube_id=cube_id,
                    expected=expected,
                    found=head.version,
                )
            commit = plan(head)
            if commit is None:
                return head
            try:
                result = self._store.commit(commit)
            except VersionConflict:
                if expected is not None or attempt == _ATTEMPTS - 1:
                    raise
                continue
            return self._written(result.outcomes[0].ref, named)
        raise AssertionError("the last attempt returns or raises")

    def _written(self, ref: VersionRef, named: Scope) -> MemCube:
        found = self._store.vault.versions([ref], named).get(ref)
        if found is None or found.state is MemoryState.ERASED:
            raise arguments.no_cube(ref.cube_id)  # erased by somebody else since
        return found

    def _to_erase(
        self,
        ids: str | MemCube | Iterable[str | MemCube] | None,
        key: str | None,
        collection: str,
        named: Scope | None,
        spoken: bool,
    ) -> Sequence[str]:
        if ids is not None and key is not None:
            raise InvalidRequest("erase() takes ids or key=, not both")
        if key is not None:
            return [self._by_key(key, collection, named).id]
        if ids is not None:
            several = [ids] if isinstance(ids, str | MemCube) else ids
            if not isinstance(several, Iterable):
                raise InvalidRequest(f"ids must be an id, a cube or a list of them, not {type(ids).__name__}")
            wanted = [arguments.cube_id_of(entry) for entry in several]
            if not wanted:
                raise InvalidRequest("erase() got an empty list of ids; nothing is erased")
            found = self._store.vault.get(wanted, arguments.for_ids(named, self.tenant))
            for cube_id in wanted:
                if cube_id not in found or found[cube_id].state is MemoryState.ERASED:
                    raise arguments.no_cube(cube_id)
            return wanted
        if not spoken:
            raise InvalidRequest(
                "erase() must be told what: ids, key=, or a whole scope (user_id=, agent_id=, session_id= or scope=)"
            )
        return self._all_of(arguments.for_reading(named, what="erase"))

    def _all_of(self, scope: Scope) -> list[str]:
        query = ListQuery(scope=scope, include_hidden=True, limit=_ERASED_AT_ONCE)
        found: list[str] = []
        while batch := self._store.vault.list(query):
            found += [cube.id for cube in batch]
            query = replace(query, after=place_of(batch[-1], "created"))
        return found

    def _receipt(self, result: CommitResult, actor: Agent, is_complete: bool) -> Receipt:
        from memos_agents.infrastructure.governance.receipt import Receipt

        vault, tombstones, chain, seq = self._store.vault, result.erased, None, None
        if self._bound is None:
            entries = vault.log(LogQuery(scope=Scope.everything(self.tenant), activity_id=result.activity_id, limit=1))
            chain, seq = (entries[0].chain if entries else None), result.seq
        else:  # a view shows nobody else's cubes, not even that they were derived, and counts nobody else's commits
            mine = vault.get([stone.ref.cube_id for stone in tombstones], self._bound)
            tombstones = tuple(stone for stone in tombstones if stone.ref.cube_id in mine)
        return Receipt(
            activity_id=result.activity_id,
            seq=seq,
            at=result.at,
            agent=actor,
            tombstones=tombstones,
            is_complete=is_complete,
            chain=chain,
        )
