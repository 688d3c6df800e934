"""Finding: by content and by place in a listing."""

from __future__ import annotations

import builtins
from collections.abc import Iterable, Mapping
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING, Literal, TypeAlias

from memos_agents.cube.canonical import JSON
from memos_agents.cube.memcube import MemCube
from memos_agents.cube.metadata import DEFAULT_COLLECTION
from memos_agents.cube.moment import to_microseconds
from memos_agents.cube.payload import MemoryType
from memos_agents.cube.scope import Scope, check_name
from memos_agents.cube.state import MemoryState
from memos_agents.errors import InvalidRequest
from memos_agents.infrastructure.vault.base import LIVING, ListQuery, SearchView, ViewQuery
from memos_agents.interface import arguments
from memos_agents.interface.reader import checked_content
from memos_agents.interface.results import Hit, Page, hit_of
from memos_agents.interface.surface import Surface

if TYPE_CHECKING:
    from memos_agents.operation.weights import Weights

Order: TypeAlias = Literal["created", "-created", "occurred", "-occurred"]
States: TypeAlias = "Iterable[MemoryState | str] | MemoryState | str | None"
MemoryTypes: TypeAlias = "Iterable[MemoryType | str] | MemoryType | str | None"

_SEARCHED = frozenset({MemoryState.ACTIVATED})
_PLAINTEXT = frozenset({MemoryType.PLAINTEXT})
_ALL_TYPES = frozenset(MemoryType)
_SCANNED_AT_ONCE = 500


class Finding(Surface):
    """Search and listing."""

    def search(
        self,
        query: str,
        *,
        user_id: str | None = None,
        agent_id: str | None = None,
        session_id: str | None = None,
        scope: Scope | None = None,
        limit: int = 10,
        as_of: datetime | str | None = None,
        valid_at: datetime | str | None = None,
        filter: Mapping[str, JSON] | None = None,
        states: States = None,
        memory_types: MemoryTypes = None,
        collection: str | None = DEFAULT_COLLECTION,
        weights: Weights | None = None,
    ) -> builtins.list[Hit]:
        """Find the memories that answer `query`, best first, at most `limit` (1 to 1,000).

        Only what the scope admits is looked at and only that moves a score. Without further words: current, activated
        plaintext. `as_of` asks what was believed then, `valid_at` what was true then; `filter` is a condition on
        metadata (`{"city": "Lisbon", "age": {"$gt": 30}}`); `collection` None means all. Each hit says why it was found
        and counts as a use. Raises `InvalidRequest` for an empty query and without a scope.
        """
        vault = self._store.vault
        text = checked_content(query, what="query")
        named = arguments.for_reading(self._named(user_id, agent_id, session_id, scope), what="search")
        count = arguments.count_of(limit, what="limit")
        searcher = self._store.searcher
        if searcher is None:
            raise InvalidRequest(f"{type(vault).__name__} cannot search; use a store that can, such as a file")
        from memos_agents.operation.filters import compile_filter
        from memos_agents.operation.retrieval import find_candidates, retrieve
        from memos_agents.operation.weights import Weights

        now, embedder = self._store.now(), self._store.embedder
        view_query = ViewQuery(
            scope=named,
            now=now,
            space=None if embedder is None else embedder.fingerprint,
            as_of=arguments.time_of(as_of, what="as_of"),
            valid_at=arguments.time_of(valid_at, what="valid_at"),
            states=_states(states, _SEARCHED),
            memory_types=arguments.choices_of(memory_types, MemoryType, _PLAINTEXT, what="memory_types"),
            collection=None if collection is None else check_name(collection, what="collection"),
        )
        weighing = Weights() if weights is None else weights
        embed = None if embedder is None else cache(embedder.embed_query)
        source: SearchView | None = None
        if filter is None and self._store.chooser is not None:  # a filter could refuse all of a few candidates
            source = find_candidates(self._store.chooser, view_query, text, embed=embed, limit=count, weights=weighing)
        ranked = retrieve(
            searcher.search_view(view_query) if source is None else source,
            text,
            embed=embed,
            now=now,
            limit=count,
            accepts=None if filter is None else compile_filter(filter),
            weights=weighing,
        )
        cubes = vault.versions([found.ref for found in ranked], named)
        hits = [
            hit_of(cube, found.score, found.parts)
            for found in ranked
            if (cube := cubes.get(found.ref)) is not None and cube.state is not MemoryState.ERASED
        ]
        if hits and not vault.is_readonly:
            vault.touch([hit.cube.id for hit in hits], now)
        return hits

    def list(
        self,
        *,
        user_id: str | None = None,
        agent_id: str | None = None,
        session_id: str | None = None,
        scope: Scope | None = None,
        filter: Mapping[str, JSON] | None = None,
        order: Order = "created",
        limit: int = 100,
        cursor: str | None = None,
        states: States = None,
        memory_types: MemoryTypes = None,
        collection: str | None = None,
        include_hidden: bool = False,
    ) -> Page:
        """Return the cubes of a scope in order, `limit` (1 to 1,000) at a time; `page.cursor` continues.

        Paging is stable: what is added or changed meanwhile moves nothing that was there. 'occurred' orders by event
        time, a '-' turns round. Stale, invalidated and outlived cubes are left out unless `include_hidden`. A filter
        reads on until the page is full.
        """
        vault, now = self._store.vault, self._store.now()
        named = arguments.for_reading(self._named(user_id, agent_id, session_id, scope), what="list")
        count = arguments.count_of(limit, what="limit")
        if order not in ("created", "-created", "occurred", "-occurred"):
            raise InvalidRequest(f"order is {order!r}; it must be 'created', 'occurred', '-created' or '-occurred'")
        by: Literal["created", "occurred"] = "occurred" if order.endswith("occurred") else "created"
        kinds = arguments.choices_of(memory_types, MemoryType, _ALL_TYPES, what="memory_types")
        wanted = _states(states, LIVING)
        place = None if collection is None else check_name(collection, what="collection")
        accepts = None
        if filter is not None:
            from memos_agents.operation.filters import compile_filter

            accepts = compile_filter(filter)
        fingerprint = arguments.fingerprint_of(
            arguments.scope_json(named), filter, order, sorted(kinds), sorted(wanted), place, include_hidden
        )
        after = arguments.read_cursor(cursor, fingerprint)
        found: list[MemCube] = []
        while len(found) <= count:
            asked = _SCANNED_AT_ONCE if accepts is not None else count + 1
            batch = vault.list(
                ListQuery(
                    scope=named,
                    now=now,
                    include_hidden=include_hidden,
                    states=wanted,
                    memory_types=kinds,
                    collection=place,
                    order=by,
                    descending=order.startswith("-"),
                    limit=asked,
                    after=after,
                )
            )
            found += batch if accepts is None else [cube for cube in batch if accepts(cube.metadata)]
            if len(batch) < asked:
                break
            after = place_of(batch[-1], by)
        if len(found) <= count:
            return Page(found)
        return Page(found[:count], cursor=arguments.write_cursor(place_of(found[count - 1], by), fingerprint))


def _states(states: States, default: frozenset[MemoryState]) -> frozenset[MemoryState]:
    chosen = arguments.choices_of(states, MemoryState, default, what="states")
    if MemoryState.ERASED in chosen:
        raise InvalidRequest("states names 'erased', but nothing is left of erased memory to list or find")
    return chosen


def place_of(cube: MemCube, order: Literal["created", "occurred"]) -> tuple[int, str]:
    """Where a listing in this order goes on after `cube`."""
    return to_microseconds(cube.created_at if order == "created" else cube.happened_at), cube.id
