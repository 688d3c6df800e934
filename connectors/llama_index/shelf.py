"""Shelf: keyed texts with vectors in one collection of a view, written in batches and found by nearness.

What the vector store and the property graph store share. Synchronous. Vectors come from LlamaIndex, so they live in a
space of their own, unless the caller names the embedder that made them; two spaces are never mixed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from memos_agents.connectors.llama_index.erasing import erase_all, everything_in
from memos_agents.connectors.llama_index.storable import key_of
from memos_agents.cube.canonical import JSON, checked_mapping, checked_text
from memos_agents.cube.memcube import MemCube, VersionRef
from memos_agents.cube.metadata import Descriptive, Governance
from memos_agents.cube.state import MemoryState
from memos_agents.errors import InvalidRequest, NotFound, VersionConflict
from memos_agents.infrastructure.provenance.values import Relation
from memos_agents.infrastructure.vault.base import SearchView, SupportsSearch, ViewQuery
from memos_agents.infrastructure.vault.commit import Commit
from memos_agents.interface.arguments import agent_of, for_writing
from memos_agents.interface.views import ScopedMemOS
from memos_agents.operation.lifecycle import new_activity
from memos_agents.operation.organization import Addition, Embedded, NewMemory, plan_add, plan_upsert

Vector = NDArray[np.float32]
Accepts = Callable[[Mapping[str, JSON]], bool]

WRITTEN_AT_ONCE = 500
"""Things that become durable together."""
_ATTEMPTS = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Thing:
    """Something to keep under `name`. `vector`: None without one. `evidence`: the version that it was taken from."""

    name: str
    text: str
    metadata: Mapping[str, JSON]
    semantic_type: str
    vector: Vector | None = None
    evidence: VersionRef | None = None


class Near(NamedTuple):
    """Rows of a search view, best first, with their scores."""

    refs: list[VersionRef]
    scores: list[float]


@dataclass(frozen=True, slots=True)
class Shelf:
    """A collection of a view; `agent` names the front that writes."""

    view: ScopedMemOS
    collection: str
    agent: str

    # -- writing

    def put(
        self,
        things: Iterable[Thing],
        space: str | None,
        *,
        relations: Callable[[Mapping[str, str]], Iterable[Relation]] | None = None,
    ) -> None:
        """Write things under their names, 500 at a time all or nothing; of equal names the last counts.

        A name that is there gets a new version, unless it says the same already. `relations` is given the cube ids of
        a batch by name, and what it returns is written with it.
        """
        _ = self.view._store.writable
        last = {thing.name: thing for thing in things}
        unique = list(last.values())
        for start in range(0, len(unique), WRITTEN_AT_ONCE):
            self._put_batch(unique[start : start + WRITTEN_AT_ONCE], space, relations)

    def _put_batch(
        self,
        things: Sequence[Thing],
        space: str | None,
        relations: Callable[[Mapping[str, str]], Iterable[Relation]] | None,
    ) -> None:
        store = self.view._store  # the front writes keyed texts one by one, and only with its own embedder's vectors
        for attempt in range(_ATTEMPTS):
            commit, unchanged, cube_ids = self._plan(things, space)
            if relations is not None:
                commit = replace(commit, relations=tuple(relations(cube_ids)))
            try:
                if commit.writes or commit.transitions or commit.relations:
                    store.commit(commit)
            except (VersionConflict, NotFound):  # somebody wrote or erased between our read and our commit
                if attempt == _ATTEMPTS - 1:
                    raise
                continue
            vault = store.vault
            if space is not None and unchanged and isinstance(vault, SupportsSearch):
                vault.add_vectors(space, unchanged)
            return

    def _plan(
        self, things: Sequence[Thing], space: str | None
    ) -> tuple[Commit, dict[VersionRef, Vector], dict[str, str]]:
        """One commit for all; beside it the vectors of what says the same already, and each name's cube id."""
        store = self.view._store
        owner, now = for_writing(self.view.scope, what="add"), store.now()
        actor = agent_of(self.agent)
        parts: list[Commit] = []
        unchanged: dict[VersionRef, Vector] = {}
        cube_ids: dict[str, str] = {}
        for thing in things:
            addition = Addition(
                scope=owner,
                governance=Governance(owner=owner.user_id),
                agent=actor,
                evidence=() if thing.evidence is None else (thing.evidence,),
                merges=False,
            )
            item = self._item(thing)
            embedded: Embedded | None = None
            if space is not None and thing.vector is not None:
                embedded = (space, thing.vector[None])
            head = self.named(thing.name)
            if head is None:
                part: Commit | None = plan_add(
                    [item], embedded, addition, searcher=None, resemblance=store.resemblance, ids=store.ids, now=now
                )
            elif _says(head, item):
                part = None
            else:
                part = plan_upsert(item, embedded, addition, head, ids=store.ids, now=now)
            if part is not None:
                parts.append(part)
                cube_ids[thing.name] = part.writes[0].cube.id
            elif head is not None:
                cube_ids[thing.name] = head.id
                if thing.vector is not None:
                    unchanged[head.ref] = thing.vector
        activity = new_activity("add", agent=actor, ids=store.ids, now=now, parameters={"items": len(things)})
        commit = Commit(
            activity=activity,
            writes=tuple(write for part in parts for write in part.writes),
            transitions=tuple(step for part in parts for step in part.transitions),
            derivations=tuple(edge for part in parts for edge in part.derivations),
        )
        return commit, unchanged, cube_ids

    def _item(self, thing: Thing) -> NewMemory:
        return NewMemory(
            text=checked_text(thing.text, what=f"the text of a {thing.semantic_type}"),
            metadata=checked_mapping(thing.metadata, what=f"the metadata of a {thing.semantic_type}"),
            descriptive=Descriptive(
                semantic_type=thing.semantic_type, collection=self.collection, key=key_of(thing.name)
            ),
        )

    # -- reading

    def named(self, name: str) -> MemCube | None:
        """The cube of a name in exactly the view's scope, whatever its state; None without one."""
        store = self.view._store
        owner = for_writing(self.view.scope, what="a key")
        head = store.vault.find_key(owner, self.collection, key_of(name))
        return None if head is None or head.state is MemoryState.ERASED else head

    def current(self, name: str) -> MemCube | None:
        """As `named`, if it is current."""
        head = self.named(name)
        return head if head is not None and self.is_current(head) else None

    def is_current(self, cube: MemCube) -> bool:
        """Whether a cube is active, believed, fresh and not outlived."""
        is_believed = cube.state is MemoryState.ACTIVATED and cube.superseded_at is None and not cube.is_stale
        return is_believed and (cube.expires_at is None or cube.expires_at > self.view._store.now())

    def all(self) -> Iterator[MemCube]:
        """Everything current that the view admits, oldest first."""
        cursor = None
        while True:
            page = self.view.list(states=MemoryState.ACTIVATED, collection=self.collection, limit=1_000, cursor=cursor)
            yield from page
            cursor = page.cursor
            if cursor is None:
                return

    def rows(self, space: str | None) -> SearchView:
        """What a search may see. Raises `InvalidRequest` if the vault cannot search."""
        store = self.view._store
        searcher = store.searcher
        if searcher is None:
            raise InvalidRequest(f"{type(store.vault).__name__} cannot search; use a store that can, such as a file")
        query = ViewQuery(scope=self.view.scope, now=store.now(), space=space, collection=self.collection)
        return searcher.search_view(query)

    def cubes(self, refs: Sequence[VersionRef]) -> list[MemCube]:
        """These versions, in order, counted as used; what was erased in the meantime is left out."""
        store = self.view._store
        found = store.vault.versions(refs, self.view.scope)
        cubes = [cube for ref in refs if (cube := found.get(ref)) is not None and cube.state is not MemoryState.ERASED]
        if cubes and not store.vault.is_readonly:
            store.vault.touch([cube.id for cube in cubes], store.now())
        return cubes

    # -- erasing

    def erase(self, is_doomed: Callable[[MemCube], bool]) -> None:
        """Erase what `is_doomed` says, of everything that the view admits, hidden things too."""

        def find() -> list[str]:
            return [cube.id for cube in everything_in(self.view, self.collection) if is_doomed(cube)]

        erase_all(self.view, find, agent=self.agent)


def open_space(view: ScopedMemOS, fingerprint: str, dimension: int) -> str:
    """The name of the space, made if it is new; `IncompatibleModel` if it has another dimension."""
    store = view._store
    known = any(space.fingerprint == fingerprint and space.dimension == dimension for space in store.vault.spaces())
    return fingerprint if known else store.writable.open_space(fingerprint, dimension).fingerprint


def unit(vector: Sequence[float]) -> Vector:
    """`vector` with length 1, shape (dimension,): what is compared is the angle. A zero vector is near to nothing."""
    row = np.asarray(vector, dtype=np.float64)
    if row.ndim != 1 or not row.size or not np.isfinite(row).all():
        raise InvalidRequest("an embedding must be a list of finite numbers")
    length = float(np.linalg.norm(row))
    return (row / length if length else row).astype(np.float32)


def _says(head: MemCube, item: NewMemory) -> bool:
    """Whether a cube is current and says exactly this already (evidence aside: the same words need no new version)."""
    return (
        head.state is MemoryState.ACTIVATED
        and head.superseded_at is None
        and not head.is_stale
        and head.text == item.text
        and head.metadata == item.metadata
        and head.descriptive == item.descriptive
    )
