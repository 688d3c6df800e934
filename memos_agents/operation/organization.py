"""Planning what is added: new cubes, versions under an existing key, evidence, links between near duplicates.

Nothing is dropped and no model is asked. An exact duplicate is recognised by the vault inside the commit (only there is
the answer free of races); a near duplicate becomes a link. Rejected: merging near duplicates on the way in, which loses
updates ("I live in Lisbon" and "I live in London" are 0.9 alike).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Protocol, TypeAlias

from memos_agents.cube.canonical import JSON
from memos_agents.cube.identity import IdSource
from memos_agents.cube.memcube import MemCube, VersionRef
from memos_agents.cube.metadata import Behavioural, Descriptive, Governance
from memos_agents.cube.payload import TextPayload
from memos_agents.cube.scope import Scope
from memos_agents.cube.state import MemoryState
from memos_agents.infrastructure.provenance.values import (
    APPLICATION,
    Activity,
    Agent,
    Derivation,
    Relation,
    RelationKind,
    Source,
)
from memos_agents.infrastructure.vault.base import SearchView, ViewQuery
from memos_agents.infrastructure.vault.commit import Commit, Transition, Vectors, Write
from memos_agents.operation.resemblance import ROWS_PER_PLACE, Resemblance, place_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from memos_agents.infrastructure.vault.view import View


Embedded: TypeAlias = "tuple[str, NDArray[np.float32]]"
"""A vector space (its embedder's fingerprint) and one row of length 1 for each item, shape (items, dimension)."""

NEAR_DUPLICATE = 0.95
"""Cosine from which two texts are linked as near duplicates."""
MAX_LINKS = 3
"""Links from one new cube, nearest first."""
_FETCHED = 8  # candidates read for one new cube: enough to find MAX_LINKS among repetitions of its own text
_FIRST = Behavioural(version_chain=(1,))


class Searchable(Protocol):
    """The part of a vault that knows what a new memory is near to."""

    def search_view(self, query: ViewQuery) -> SearchView:
        """As in `SupportsSearch`."""
        ...

    def versions(self, refs: Sequence[VersionRef], scope: Scope) -> dict[VersionRef, MemCube]:
        """As in `MemVault`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class NewMemory:
    """One validated thing to remember."""

    text: str
    metadata: Mapping[str, JSON]
    descriptive: Descriptive


@dataclass(frozen=True, slots=True, kw_only=True)
class Addition:
    """What all items of one call share.

    `evidence` is what they were made from. `merges`: an exact duplicate of a current memory counts as a use of it.
    """

    scope: Scope
    governance: Governance
    agent: Agent = APPLICATION
    evidence: tuple[VersionRef | Source, ...] = ()
    merges: bool = True


def plan_add(
    items: Sequence[NewMemory],
    embedded: Embedded | None,
    addition: Addition,
    *,
    searcher: Searchable | None,
    resemblance: Resemblance,
    ids: IdSource,
    now: datetime,
    commit_key: str | None = None,
) -> Commit:
    """Plan one new cube for each item, in order, with links to near duplicates that the scope holds already.

    What ends by itself (`ttl_seconds`) or was derived never merges: the one would not live as long as asked, the other
    would lose its evidence. `embedded` None makes memories that only words can find. `searcher` is the vault, if it can
    search; without it nothing is linked.
    """
    scope, governance = addition.scope, addition.governance
    merges = addition.merges and not addition.evidence and governance.ttl_seconds is None
    activity = Activity(
        id=ids.new_id(now), kind="add", started_at=now, agent=addition.agent, parameters={"items": len(items)}
    )
    writes = tuple(
        Write(
            cube=MemCube(
                id=ids.new_id(now),
                scope=scope,
                payload=TextPayload(item.text),
                metadata=item.metadata,
                descriptive=item.descriptive,
                governance=governance,
                behavioural=_FIRST,
                created_at=now,
                recorded_at=now,
            ),
            vectors=vectors,
            merge_duplicate=merges and item.descriptive.key is None,
        )
        for item, vectors in zip(items, _by_item(embedded, len(items)), strict=True)
    )
    sources, derivations = _evidence(addition.evidence, writes)
    links: tuple[Relation, ...] = ()
    if embedded is not None and searcher is not None:
        links = near_duplicates(writes, embedded, searcher, resemblance, now)
    return Commit(
        activity=activity, key=commit_key, writes=writes, sources=sources, derivations=derivations, relations=links
    )


def plan_upsert(
    item: NewMemory,
    embedded: Embedded | None,
    addition: Addition,
    head: MemCube,
    *,
    ids: IdSource,
    now: datetime,
    commit_key: str | None = None,
) -> Commit | None:
    """Plan a new version of `head`, which holds the item's key already; None if it would say the same again.

    A cube that was put away (archived, expired, merged) comes back. The same content is written again when its
    lifespan has to start anew, when it came with evidence, or when the present version is stale or not believed.
    """
    cube = MemCube(
        id=head.id,
        version=head.version + 1,
        scope=head.scope,
        payload=TextPayload(item.text),
        metadata=item.metadata,
        descriptive=item.descriptive,
        governance=addition.governance,
        state=head.state,
        frozen=head.frozen,
        created_at=head.created_at,
        recorded_at=now,
    )
    is_active = head.state is MemoryState.ACTIVATED
    renews = bool(addition.evidence) or addition.governance.ttl_seconds is not None
    is_current = is_active and head.superseded_at is None and not head.is_stale
    if is_current and not renews and cube.body() == head.body():
        return None
    writes = (Write(cube=cube, replaces=head.version, vectors=_by_item(embedded, 1)[0]),)
    sources, derivations = _evidence(addition.evidence, writes)
    return Commit(
        activity=Activity(
            id=ids.new_id(now), kind="add", started_at=now, agent=addition.agent, parameters={"items": 1}
        ),
        key=commit_key,
        writes=writes,
        transitions=() if is_active else (Transition(cube_id=head.id, state=MemoryState.ACTIVATED),),
        sources=sources,
        derivations=derivations,
    )


def near_duplicates(
    writes: Sequence[Write], embedded: Embedded, searcher: Searchable, resemblance: Resemblance, now: datetime
) -> tuple[Relation, ...]:
    """Link each new cube to the current cubes of exactly its scope and collection that say almost the same.

    Compares exactly, and reads cubes, only where `resemblance` suspects something among the newest of the scope.
    """
    if not writes:
        return ()
    first, (space, vectors) = writes[0].cube, embedded

    def held() -> View:
        query = ViewQuery(scope=first.scope, now=now, space=space, collection=first.descriptive.collection)
        return searcher.search_view(query).view

    suspects = resemblance.suspects(place_of(first, space), vectors, lambda: held().vectors, now)
    if not suspects:
        return ()
    view = held()
    recent = view.vectors[-ROWS_PER_PLACE:]
    if not len(recent) or recent.shape[1] != vectors.shape[1]:
        return ()
    from memos_agents.operation.products import product

    similarity = product(recent, vectors[suspects].T)
    offset = len(view.refs) - len(recent)
    found: dict[int, list[tuple[float, VersionRef]]] = {}
    for position, column in enumerate(suspects):
        rows = (similarity[:, position] >= NEAR_DUPLICATE).nonzero()[0][::-1]  # the newest first
        nearest = rows[(-similarity[rows, position]).argsort(kind="stable")][:_FETCHED].tolist()
        if nearest:
            found[column] = [(float(similarity[row, position]), view.refs[offset + row]) for row in nearest]
    if not found:
        return ()
    wanted = list(dict.fromkeys(ref for pairs in found.values() for _, ref in pairs))
    cubes = searcher.versions(wanted, first.scope)
    links: list[Relation] = []
    for column, pairs in found.items():
        links += _links(writes[column], [(value, cubes[ref]) for value, ref in pairs if ref in cubes])
    return tuple(links)


def _links(write: Write, candidates: Sequence[tuple[float, MemCube]]) -> list[Relation]:
    new = write.cube
    links: list[Relation] = []
    for similarity, old in candidates:
        if old.scope != new.scope:
            continue
        if old.text == new.text:
            if write.merge_duplicate and old.body() == new.body():
                return []  # the vault will count a use of `old`, whose links are there already
            continue
        if len(links) < MAX_LINKS:
            properties: dict[str, JSON] = {"name": "near_duplicate", "similarity": round(min(similarity, 1.0), 4)}
            links.append(
                Relation(source_id=new.id, kind=RelationKind.RELATES_TO, target_id=old.id, properties=properties)
            )
    return links


def _by_item(embedded: Embedded | None, items: int) -> list[Vectors]:
    if embedded is None:
        return [{} for _ in range(items)]
    space, rows = embedded
    return [{space: row} for row in rows]


def _evidence(
    evidence: Sequence[VersionRef | Source], writes: Sequence[Write]
) -> tuple[tuple[Source, ...], tuple[Derivation, ...]]:
    if not evidence:
        return (), ()
    sources = tuple({origin.id: origin for origin in evidence if isinstance(origin, Source)}.values())
    origins = dict.fromkeys(origin.id if isinstance(origin, Source) else origin for origin in evidence)
    return sources, tuple(Derivation(derived=write.cube.ref, source=origin) for write in writes for origin in origins)
