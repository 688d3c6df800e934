"""Keyed writes: many memories under keys of the caller, written and erased in one commit.

What key-value stores, document stores and vector stores of frameworks need, and `MemOS.add(key=)` does one at a time.
Shared by the connectors, which may not import each other; it takes part in every promise of `add` (scopes, versions,
provenance, the log). A memory may have several vectors (`parts`): each is a cube of its own without text, derived from
the memory, so that a new version leaves it stale and an erasure takes it along.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import NamedTuple

from memos_agents.cube.canonical import JSON, checked_mapping, checked_text
from memos_agents.cube.memcube import MemCube, VersionRef, is_current
from memos_agents.cube.metadata import Behavioural, Descriptive, Governance
from memos_agents.cube.payload import TextPayload
from memos_agents.cube.scope import Scope, check_name
from memos_agents.cube.state import MemoryState
from memos_agents.errors import BackendUnavailable, InvalidRequest, NotFound, VersionConflict
from memos_agents.infrastructure.provenance.values import Agent, Derivation
from memos_agents.infrastructure.vault.base import SupportsScrub
from memos_agents.infrastructure.vault.commit import Commit, Transition, Vectors, Write
from memos_agents.interface import arguments
from memos_agents.interface.reader import MAX_TEXT_CHARACTERS
from memos_agents.interface.recall import AnySync
from memos_agents.interface.store import Store

PARTS = "parts"
"""The collection of cubes that only carry a further vector of another one; `metadata["of"]` is its id."""
_ATTEMPTS = 50


class Place(NamedTuple):
    """Where a key stands: in exactly this scope and collection."""

    scope: Scope
    collection: str
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Keyed:
    """What should stand under `descriptive.key`.

    `text` may be empty: then only the key finds it. Words and the store's own embedder index `text` unless it is not
    `embedded`. `vectors` are further ones by space, of length 1; `parts` are more, of other pieces of the thing.
    """

    scope: Scope
    descriptive: Descriptive
    text: str
    metadata: Mapping[str, JSON]
    governance: Governance = Governance()
    embedded: bool = True
    vectors: Vectors = field(default_factory=dict)
    parts: tuple[Vectors, ...] = ()

    @property
    def place(self) -> Place:
        """Where it stands."""
        return Place(self.scope, self.descriptive.collection, self.descriptive.key or "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """The versions that stand there now, one for each write in order, and how many keys were erased."""

    refs: tuple[VersionRef, ...]
    erased: int = 0


def write_keyed(
    front: AnySync,
    writes: Sequence[Keyed],
    *,
    erasures: Iterable[Place] = (),
    agent: Agent | str | None = None,
    scrub: bool = True,
) -> Written:
    """Write and erase in one commit: all of it durable, or nothing.

    An existing key gets a new version; the same content again is a use and no version. Of several writes of one key the
    last counts. Keys to erase that are not there are passed over; a key both written and erased is `InvalidRequest`.
    Meeting a concurrent writer it reads again and retries. Cost: one commit (one fsync), one look-up for each key.
    """
    store, actor = front._store, arguments.agent_of(agent)
    _ = store.writable
    items = {write.place: _checked(write, front) for write in writes}
    doomed = list(dict.fromkeys(erasures))
    if both := [place.key for place in doomed if place in items]:
        raise InvalidRequest(f"the key {both[0]!r} is both written and erased in one call; say which")
    told = _embedded(store, items.values())
    for attempt in range(_ATTEMPTS):
        now = store.now()
        commit, refs, same = _plan(store, items, told, doomed, actor, now)
        if same:
            store.vault.touch(same, now)
        if commit is None:
            return Written(refs=tuple(refs[write.place] for write in writes))
        try:
            result = store.commit(commit)
        except (VersionConflict, NotFound):  # another writer took a key, wrote or erased between our read and commit
            if attempt == _ATTEMPTS - 1:
                raise
            continue
        if scrub and result.erased and isinstance(store.vault, SupportsScrub):
            with suppress(BackendUnavailable):  # it is erased, and whoever asked must be told so
                store.vault.scrub()
        return Written(refs=tuple(refs[write.place] for write in writes), erased=len(commit.erasures))
    raise AssertionError("the last attempt returns or raises")


def find_keyed(front: AnySync, places: Iterable[Place]) -> dict[Place, MemCube]:
    """What stands at these places and is current: activated, believed, not stale, its lifespan not over."""
    store = front._store
    now, found = store.now(), {}
    for place in dict.fromkeys(places):
        head = store.vault.find_key(*place)
        if head is not None and is_current(head, now):
            found[place] = head
    return found


def _checked(write: Keyed, front: AnySync) -> Keyed:
    about = write.descriptive
    check_name(about.key, what="key")
    check_name(about.collection, what="collection")
    if write.scope.is_everything or write.scope.tenant != front.tenant:
        raise InvalidRequest("a memory belongs to a user, agent or session, or to nobody, never to everything")
    if front._bound is not None and not front._bound.admits(write.scope):
        raise InvalidRequest(f"the scope of the key {about.key!r} lies outside this view")
    if len(checked_text(write.text, what="text")) > MAX_TEXT_CHARACTERS:
        raise InvalidRequest(
            f"the text has {len(write.text):,} characters, more than {MAX_TEXT_CHARACTERS:,}; split it"
        )
    governance = write.governance
    if governance.owner is None and write.scope.user_id is not None:
        governance = replace(governance, owner=write.scope.user_id)
    return replace(write, metadata=checked_mapping(write.metadata, what="metadata"), governance=governance)


def _embedded(store: Store, items: Iterable[Keyed]) -> dict[Place, Vectors]:
    wanted = [item for item in items if item.embedded and item.text and not item.text.isspace()]
    made = store.embed([item.text for item in wanted])
    if made is None:
        return {}
    space, rows = made
    return {item.place: {space: row} for item, row in zip(wanted, rows, strict=True)}


def _plan(
    store: Store,
    items: Mapping[Place, Keyed],
    told: Mapping[Place, Vectors],
    doomed: Sequence[Place],
    agent: Agent,
    now: datetime,
) -> tuple[Commit | None, dict[Place, VersionRef], list[str]]:
    """The commit (None: nothing to do), the version at each place afterwards, and the cubes that say the same again."""
    vault = store.vault
    writes: list[Write] = []
    steps: list[Transition] = []
    derivations: list[Derivation] = []
    refs: dict[Place, VersionRef] = {}
    same: list[str] = []
    for place, item in items.items():
        head = _living(vault.find_key(*place))
        cube = _version(store, item, head, now)
        if head is not None and is_current(head, now) and cube.body() == head.body() and not _ends(item):
            refs[place] = head.ref
            same.append(head.id)
            continue
        if head is not None and head.state is not MemoryState.ACTIVATED:
            steps.append(Transition(cube_id=head.id, state=MemoryState.ACTIVATED))
        vectors = {**item.vectors, **told.get(place, {})}
        writes.append(Write(cube=cube, replaces=None if head is None else head.version, vectors=vectors))
        refs[place] = cube.ref
        for part in item.parts:
            piece = _part(store, cube, now)
            writes.append(Write(cube=piece, vectors=part))
            derivations.append(Derivation(derived=piece.ref, source=cube.ref, kind="index"))
    erased = [head.id for place in doomed if (head := _living(vault.find_key(*place))) is not None]
    if not writes and not erased:
        return None, refs, same
    kind = "erase" if not writes else ("batch" if erased else "add")
    from memos_agents.operation.lifecycle import new_activity

    commit = Commit(
        activity=new_activity(kind, agent=agent, ids=store.ids, now=now),
        writes=tuple(writes),
        transitions=tuple(steps),
        derivations=tuple(derivations),
        erasures=tuple(dict.fromkeys(erased)),
    )
    return commit, refs, same


def _version(store: Store, item: Keyed, head: MemCube | None, now: datetime) -> MemCube:
    if head is None:
        cube_id, version, created, chain = store.ids.new_id(now), 1, now, Behavioural(version_chain=(1,))
    else:
        cube_id, version, created, chain = head.id, head.version + 1, head.created_at, head.behavioural
    return MemCube(
        id=cube_id,
        version=version,
        scope=item.scope,
        payload=TextPayload(item.text),
        metadata=item.metadata,
        descriptive=item.descriptive,
        governance=item.governance,
        state=MemoryState.ACTIVATED if head is None else head.state,
        frozen=False if head is None else head.frozen,
        behavioural=chain,
        created_at=created,
        recorded_at=now,
    )


def _part(store: Store, whole: MemCube, now: datetime) -> MemCube:
    return MemCube(
        id=store.ids.new_id(now),
        scope=whole.scope,
        payload=TextPayload(""),
        metadata={"of": whole.id},
        descriptive=Descriptive(semantic_type="part", origin=whole.descriptive.origin, collection=PARTS),
        governance=whole.governance,
        created_at=now,
        recorded_at=now,
    )


def _ends(item: Keyed) -> bool:
    return item.governance.ttl_seconds is not None  # said again, its lifespan starts anew


def _living(head: MemCube | None) -> MemCube | None:
    return None if head is None or head.state is MemoryState.ERASED else head
