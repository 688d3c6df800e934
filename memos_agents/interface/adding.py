"""Adding: one call from what the caller passed to cubes that are durable and findable."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from math import isfinite
from typing import TypeAlias
from uuid import NAMESPACE_URL, uuid5

from memos_agents.cube.canonical import JSON, canonical_json, checked_mapping, checked_text, content_hash
from memos_agents.cube.memcube import MemCube, VersionRef
from memos_agents.cube.metadata import DEFAULT_COLLECTION, Descriptive, Governance
from memos_agents.cube.scope import Scope, check_name
from memos_agents.cube.state import MemoryState
from memos_agents.errors import InvalidRequest, NotFound, VersionConflict
from memos_agents.infrastructure.provenance.values import Agent, Source
from memos_agents.infrastructure.vault.commit import Commit, CommitResult
from memos_agents.interface import arguments
from memos_agents.interface.reader import Content, read_items
from memos_agents.interface.store import Progress
from memos_agents.interface.surface import Surface
from memos_agents.operation.organization import Addition, NewMemory, plan_add, plan_upsert

Origin: TypeAlias = "str | MemCube | VersionRef | Source"
"""Evidence: the id of a cube, a cube, one version of a cube, a URL, or a `Source`."""

COMMITTED_AT_ONCE = 500
"""Items of one `add` call that are embedded together and become durable together."""
_ATTEMPTS = 50
_scheme = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:").match


class Adding(Surface):
    """The one call that makes new cubes."""

    def add(
        self,
        content: Content,
        *,
        user_id: str | None = None,
        agent_id: str | None = None,
        session_id: str | None = None,
        scope: Scope | None = None,
        occurred_at: datetime | str | None = None,
        metadata: Mapping[str, JSON] | None = None,
        key: str | None = None,
        title: str | None = None,
        tags: Iterable[str] = (),
        semantic_type: str | None = None,
        collection: str = DEFAULT_COLLECTION,
        role: str | None = None,
        name: str | None = None,
        valid_from: datetime | str | None = None,
        valid_to: datetime | str | None = None,
        ttl_seconds: float | None = None,
        priority: int = 0,
        readers: Iterable[str] = (),
        sensitivity: Iterable[str] = (),
        trust: float = 1.0,
        owner: str | None = None,
        origin: str = "user_input",
        derived_from: Origin | Iterable[Origin] = (),
        agent: Agent | str | None = None,
        merge: bool = True,
        commit_key: str | None = None,
        progress: Progress | None = None,
    ) -> list[MemCube]:
        """Remember a text, a chat message, a document, or a list of them; return the cubes in order.

        Each item stays findable by itself. Messages are taken in OpenAI's, LangChain's and LlamaIndex's spelling; what
        a message says about itself (role, name, `created_at`, metadata) goes before what the call says.

        An exact duplicate (same scope, content, role, event time and metadata) of a current memory counts as a use of
        it and that cube is returned; `merge=False` keeps both. Items of one call never merge. A near duplicate is
        linked (`RELATES_TO`), never dropped. `key` names the one item within scope and collection: added again it
        becomes a new version of the same cube. `derived_from` names what it was made from: when that changes, this is
        stale, when that is erased, so is this. A `Source` or URL is evidence outside the store and kept for each owner
        apart, under an id that the store gives it.

        Durable when it returns: 500 items at a time, each such group all or nothing; `progress(done, total)` is called
        after each. With `commit_key` a call repeated in the same scope is one call and returns the first one's
        cubes. Everything is checked before anything is written; `InvalidRequest` names the place.
        """
        store = self._store
        _ = store.writable  # before anything is embedded
        owner_scope = arguments.for_writing(self._named(user_id, agent_id, session_id, scope), what="add")
        kind = None if semantic_type is None else check_name(semantic_type, what="semantic_type")
        base = Descriptive(
            semantic_type=kind or "fact",
            origin=check_name(origin, what="origin"),
            role=None if role is None else check_name(role, what="role"),
            name=None if name is None else check_name(name, what="name"),
            title=None if title is None else arguments.label_of(title, what="title"),
            tags=arguments.labels_of(tags, what="tags") if tags else (),
            collection=collection if collection == DEFAULT_COLLECTION else check_name(collection, what="collection"),
            key=None if key is None else check_name(key, what="key"),
            occurred_at=arguments.time_of(occurred_at, what="occurred_at"),
            valid_from=arguments.time_of(valid_from, what="valid_from"),
            valid_to=arguments.time_of(valid_to, what="valid_to"),
        )
        if base.valid_from is not None and base.valid_to is not None and base.valid_to <= base.valid_from:
            raise InvalidRequest(f"valid_to ({base.valid_to}) must be later than valid_from ({base.valid_from})")
        items = read_items(content, base=base, semantic_type=kind, metadata=checked_mapping(metadata, what="metadata"))
        if key is not None and len(items) != 1:
            raise InvalidRequest(f"key={key!r} names one memory, but there are {len(items)} items; add them one by one")
        addition = Addition(
            scope=owner_scope,
            governance=_governance(
                owner_scope.user_id if owner is None else check_name(owner, what="owner"),
                readers,
                sensitivity,
                ttl_seconds,
                priority,
                trust,
            ),
            agent=arguments.agent_of(agent),
            evidence=self._evidence_of(derived_from, owner_scope) if derived_from else (),
            merges=bool(merge),
        )
        once = None if commit_key is None else _own_key(check_name(commit_key, what="commit_key"), owner_scope)
        if key is not None:
            return [self._put(items[0], addition, once)]
        cubes: list[MemCube] = []
        for start in range(0, len(items), COMMITTED_AT_ONCE):
            group = items[start : start + COMMITTED_AT_ONCE]
            cubes += self._add_group(group, addition, once if once is None or not start else f"{once}#{start}")
            if progress is not None:
                progress(len(cubes), len(items))
        return cubes

    def _add_group(self, items: Sequence[NewMemory], addition: Addition, commit_key: str | None) -> list[MemCube]:
        store = self._store
        embedded = store.embed([item.text for item in items])

        planned: list[Commit] = []

        def plan() -> Commit:
            planned.append(
                plan_add(
                    items,
                    embedded,
                    addition,
                    searcher=store.searcher,
                    resemblance=store.resemblance,
                    ids=store.ids,
                    now=store.now(),
                    commit_key=commit_key,
                )
            )
            return planned[-1]

        for attempt in range(_ATTEMPTS):
            try:
                commit, result = store.commit_planned(plan)
                return self._as_written(commit, result, addition.scope)
            except NotFound:  # a near duplicate was erased between our read and our commit
                if not (planned and planned[-1].relations) or attempt == _ATTEMPTS - 1:
                    raise
        raise AssertionError("the last attempt returns or raises")

    def _put(self, item: NewMemory, addition: Addition, commit_key: str | None) -> MemCube:
        store, about = self._store, item.descriptive
        assert about.key is not None
        vectors = store.embed([item.text])
        for attempt in range(_ATTEMPTS):
            vault, now = store.vault, store.now()
            head = vault.find_key(addition.scope, about.collection, about.key)
            if head is None:
                commit: Commit | None = plan_add(
                    [item],
                    vectors,
                    addition,
                    searcher=store.searcher,
                    resemblance=store.resemblance,
                    ids=store.ids,
                    now=now,
                    commit_key=commit_key,
                )
            else:
                commit = plan_upsert(item, vectors, addition, head, ids=store.ids, now=now, commit_key=commit_key)
            if commit is None:
                assert head is not None
                vault.touch([head.id], now)
                return head
            try:
                return self._as_written(commit, store.commit(commit), addition.scope)[0]
            except VersionConflict:  # another writer took the key or wrote a version between our read and our commit
                if attempt == _ATTEMPTS - 1:
                    raise
        raise AssertionError("the last attempt returns or raises")

    def _as_written(self, commit: Commit, result: CommitResult, scope: Scope) -> list[MemCube]:
        """The cubes as the vault has them; new ones need no reading."""
        at, planned = result.at, commit.activity.started_at
        if not result.is_repeated and all(write.replaces is None for write in commit.writes):
            existing = [outcome.ref.cube_id for outcome in result.outcomes if outcome.is_duplicate]
            found = self._store.vault.get(existing, scope) if existing else {}
            return [
                found.get(outcome.ref.cube_id, write.cube)
                if outcome.is_duplicate
                else (write.cube if at == planned else _stamped(write.cube, at))
                for write, outcome in zip(commit.writes, result.outcomes, strict=True)
            ]
        refs = [outcome.ref for outcome in result.outcomes]
        versions = self._store.vault.versions(refs, scope)
        for ref in refs:
            if ref not in versions or versions[ref].state is MemoryState.ERASED:
                raise NotFound(f"cube {ref.cube_id!r} was written under this commit_key, but has been erased since")
        return [versions[ref] for ref in refs]

    def _evidence_of(self, derived_from: Origin | Iterable[Origin], reader: Scope) -> tuple[VersionRef | Source, ...]:
        if isinstance(derived_from, str | MemCube | VersionRef | Source):
            entries: list[Origin] = [derived_from]
        elif isinstance(derived_from, Iterable):
            entries = list(derived_from)
        else:
            raise InvalidRequest(f"derived_from must name cubes or sources, not {derived_from!r}")
        origins: list[str | VersionRef | Source] = []
        for entry in entries:
            if isinstance(entry, VersionRef):
                number = arguments.count_of(entry.version, what="a version in derived_from", most=2**31)
                origins.append(VersionRef(arguments.cube_id_of(entry.cube_id), number))
            elif isinstance(entry, MemCube):
                origins.append(entry.ref)
            elif isinstance(entry, Source):
                origins.append(_owned(entry, reader))
            elif isinstance(entry, str) and _scheme(entry):
                locator = checked_text(entry, what="a source in derived_from")
                origins.append(_owned(Source(id=locator, kind="url", locator=locator), reader))
            else:
                origins.append(arguments.cube_id_of(entry))
        ids = [origin if isinstance(origin, str) else origin[0] for origin in origins if not isinstance(origin, Source)]
        heads = {cube.id: cube for cube in self._granted(ids, self._bound, reader.user_id)}
        return tuple(heads[origin].ref if isinstance(origin, str) else origin for origin in origins)


def _owned(source: Source, owner: Scope) -> Source:
    """The source as its owner's own: another user's with the same id is another one, and neither tells of the other."""
    told = [arguments.scope_json(owner), source.id, source.kind, source.locator, source.sha256]
    return replace(source, id=str(uuid5(NAMESPACE_URL, canonical_json(told))))


def _own_key(commit_key: str, owner: Scope) -> str:
    """The key that the vault gets: nobody else's, though its keys are one set, and without words that would outlive
    an erasure.
    """
    return content_hash([arguments.scope_json(owner), commit_key])


def _governance(
    owner: str | None,
    readers: Iterable[str],
    sensitivity: Iterable[str],
    ttl_seconds: float | None,
    priority: int,
    trust: float,
) -> Governance:
    if ttl_seconds is not None:
        ttl_seconds = _number(ttl_seconds, what="ttl_seconds")
        if not 0 < ttl_seconds <= 1e10:
            raise InvalidRequest(f"ttl_seconds is {ttl_seconds!r}; it must be above 0 (and at most 1e10, 300 years)")
    if trust != 1.0 and not 0 <= _number(trust, what="trust") <= 1:
        raise InvalidRequest(f"trust is {trust!r}; it must be from 0 to 1")
    return Governance(
        owner=owner,
        readers=arguments.labels_of(readers, what="readers") if readers else (),
        ttl_seconds=ttl_seconds,
        priority=arguments.count_of(priority, what="priority", least=-1_000_000, most=1_000_000) if priority else 0,
        sensitivity=arguments.labels_of(sensitivity, what="sensitivity") if sensitivity else (),
        trust=float(trust),
    )


def _number(value: float, *, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        raise InvalidRequest(f"{what} must be a finite number, not {value!r}")
    return float(value)


def _stamped(cube: MemCube, at: datetime) -> MemCube:
    """A new cube with the time that the vault gave it (written out: `replace` costs three times as much)."""
    return MemCube(
        id=cube.id,
        scope=cube.scope,
        payload=cube.payload,
        metadata=cube.metadata,
        descriptive=cube.descriptive,
        governance=cube.governance,
        behavioural=cube.behavioural,
        created_at=at,
        recorded_at=at,
    )
