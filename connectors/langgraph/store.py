"""MemOSStore: LangGraph's `BaseStore` on a MemOS.

Reads of a batch see the store as it was before the batch's puts, as upstream; the puts and deletes of a batch are one
commit. What differs from upstream's stores on purpose stands in docs/connectors_langgraph.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, cast

import numpy as np
from langgraph.store.base import (
    BaseStore,
    GetOp,
    IndexConfig,
    InvalidNamespaceError,
    Item,
    ListNamespacesOp,
    MatchCondition,
    Op,
    PutOp,
    Result,
    SearchItem,
    SearchOp,
    TTLConfig,
    validate_op_namespace,
)

from memos_agents.connectors.langgraph.everything import (
    check_put,
    get_from_everything,
    is_everything,
    search_everything,
)
from memos_agents.connectors.langgraph.filtering import compile_conditions
from memos_agents.connectors.langgraph.indexing import Embed, Index
from memos_agents.connectors.langgraph.placing import (
    Fact,
    Namespace,
    fact_of,
    found_of,
    item_of,
    key_name,
)
from memos_agents.connectors.langgraph.putting import planned
from memos_agents.connectors.langgraph.rows import Chosen, Row, RowReader, Rows
from memos_agents.connectors.langgraph.scoping import Scoping
from memos_agents.connectors.langgraph.sweeping import Sweeping
from memos_agents.cube.memcube import MemCube
from memos_agents.cube.metadata import DEFAULT_COLLECTION
from memos_agents.cube.scope import Scope
from memos_agents.cube.state import MemoryState
from memos_agents.errors import InvalidRequest, NotFound
from memos_agents.interface.keyed import Place, find_keyed, write_keyed
from memos_agents.interface.nearest import scope_of as seen_by
from memos_agents.interface.recall import AnyMemOS, AnySync, on_thread

AGENT = "langgraph.MemOSStore"
_Scored = tuple[Row, float | None]


class MemOSStore(Sweeping, BaseStore):
    """Long-term memory for graphs: sync and async in one object, safe to share between threads and processes.

    `memos` is a scoped view (every namespace lies inside its scope; `user_id=` and the like make one), or a `MemOS`
    with `scope_of=`, a function from a namespace to the `Scope` it belongs to, or `scope=Scope.everything()` for one
    memory shared by all. `index` is LangGraph's `IndexConfig`: its model gets a vector space of its own; without it the
    MemOS's embedder and ranking answer queries. `ttl` is LangGraph's `TTLConfig`. Delete erases, with what was derived.
    `scrub=False` leaves the bytes of what was deleted to the next `memos.scrub()`, which rewrites the file.
    A namespace that ends in "memos" shows all memories of its scope, whoever wrote them.
    """

    supports_ttl = True

    def __init__(
        self,
        memos: AnyMemOS,
        *,
        scope_of: Callable[[Namespace], Scope] | None = None,
        user_id: str | None = None,
        agent_id: str | None = None,
        session_id: str | None = None,
        scope: Scope | None = None,
        index: IndexConfig | None = None,
        ttl: TTLConfig | None = None,
        scrub: bool = True,
    ) -> None:
        self.memos = memos
        self._scrubs = scrub
        self._scoping = Scoping(
            memos, scope_of=scope_of, user_id=user_id, agent_id=agent_id, session_id=session_id, scope=scope
        )
        self._index = None if index is None else Index(index)
        self._rows = RowReader()
        self.index_config = index
        self.embeddings = None if self._index is None else self._index.embeddings
        self.ttl_config = None if ttl is None else cast(TTLConfig, {**ttl})
        self._start_sweeping()

    def __repr__(self) -> str:
        return f"MemOSStore({self._scoping.told()})"

    def batch(self, ops: Iterable[Op]) -> list[Result]:
        """Answer the reads, then write all puts and deletes in one commit; results in the order of `ops`."""
        return self._batch(list(ops), self._embed)

    async def abatch(self, ops: Iterable[Op]) -> list[Result]:
        """As `batch`, on threads of the store's own; an asynchronous model is awaited on the caller's loop."""
        loop = asyncio.get_running_loop()

        def embed(texts: list[str]) -> Sequence[Sequence[float]]:
            assert self.embeddings is not None  # only an index asks for vectors
            return asyncio.run_coroutine_threadsafe(self.embeddings.aembed_documents(texts), loop).result()

        return await on_thread(self._scoping.aio, self._batch, list(ops), embed)

    def cube(self, namespace: Namespace, key: str) -> MemCube:
        """The cube behind an item: `memos.history(cube.id)` and `memos.provenance(cube.id)` tell the rest.

        Raises `NotFound`.
        """
        found = self._found(namespace, str(key))
        if found is None:
            raise NotFound(f"there is no item {key!r} in this namespace", key=key)
        return found[0]

    async def acube(self, namespace: Namespace, key: str) -> MemCube:
        """As `cube`."""
        return await on_thread(self._scoping.aio, self.cube, namespace, key)

    def _embed(self, texts: list[str]) -> Sequence[Sequence[float]]:
        assert self.embeddings is not None  # only an index asks for vectors
        return self.embeddings.embed_documents(texts)

    def _batch(self, ops: Sequence[Op], embed: Embed) -> list[Result]:
        puts: dict[tuple[Namespace, str], PutOp] = {}
        for op in ops:
            _check(op)
            if isinstance(op, PutOp):
                check_put(op)
                puts[tuple(op.namespace), op.key] = op
        writes, erasures = planned(
            list(puts.values()), self._scoping, self._index, embed
        )  # before anything is read: it may be refused
        results: list[Result] = [self._answer(op, embed) for op in ops]
        if writes or erasures:
            front = self._scoping.front
            ended = self._ended([write.place for write in writes])
            if ended:  # its time was over, so what comes now is new
                write_keyed(front, [], erasures=ended, agent=AGENT, scrub=self._scrubs)
            write_keyed(front, writes, erasures=erasures, agent=AGENT, scrub=self._scrubs)
        return results

    def _answer(self, op: Op, embed: Embed) -> Result:
        if isinstance(op, GetOp):
            return self._get(op)
        if isinstance(op, SearchOp):
            return self._search(op, embed)
        if isinstance(op, ListNamespacesOp):
            return self._namespaces(op)
        return None

    # -- reading

    def _get(self, op: GetOp) -> Item | None:
        if is_everything(tuple(op.namespace)):
            return get_from_everything(op, self._scoping.of(tuple(op.namespace), reading=True)[0])
        found = self._found(tuple(op.namespace), op.key)
        if found is None:
            return None
        self._use([found[0].id], op.refresh_ttl)
        return item_of(*found)

    def _found(self, namespace: Namespace, key: str) -> tuple[MemCube, Fact] | None:
        front, owner = self._scoping.of(namespace)
        place = Place(owner, DEFAULT_COLLECTION, key_name(namespace, key))
        cube = find_keyed(front, [place]).get(place)
        fact = None if cube is None else fact_of(cube)
        if cube is None or fact is None or (not self._shows_ended and self._is_over(cube, fact)):
            return None
        return cube, fact

    def _search(self, op: SearchOp, embed: Embed) -> list[SearchItem]:
        if op.limit < 0 or op.offset < 0:
            raise InvalidRequest(f"limit and offset must be at least 0; they are {op.limit} and {op.offset}")
        accepts, prefix = compile_conditions(op.filter), tuple(op.namespace_prefix)
        front, _ = self._scoping.of(prefix, reading=True)
        if is_everything(prefix):
            return search_everything(op, front)
        scored = self._ranked(front, prefix, op.query, embed)
        if accepts is not None:
            scored = [(row, score) for row, score in scored if accepts(row.fact.value)]
        page = scored[op.offset : op.offset + op.limit]
        cubes = front._store.vault.versions([row.ref for row, _ in page], seen_by(front)) if page else {}
        found = [
            (cube, row.fact, score)
            for row, score in page
            if (cube := cubes.get(row.ref)) is not None and cube.state is MemoryState.ACTIVATED  # not erased meanwhile
        ]
        self._use([cube.id for cube, _, _ in found], op.refresh_ttl)
        return [found_of(*entry) for entry in found]

    def _ranked(self, front: AnySync, prefix: Namespace, query: str | None, embed: Embed) -> list[_Scored]:
        """The items under `prefix`: without a query oldest first, else best first and those without a score behind."""
        store = front._store
        space = None if store.embedder is None else store.embedder.fingerprint
        if self._index is not None:
            space = self._index.space(front, embed)
        rows = self._rows.read(front, space=space, owner_of=self._scoping.owner_of, shows_ended=self._shows_ended)
        under = rows.under(prefix)
        if not query or not under:
            return [(row, None) for row in under]
        if self._index is not None and space is not None:
            vector = self._index.vectors([query], embed)[query]
            scores = self._rows.scores(front, rows, under, vector, space)
            own = scores[np.fromiter((row.number for row in under), np.int64, len(under))]
            known = np.flatnonzero(~np.isnan(own))
            order = known[np.argsort(-own[known], kind="stable")].tolist()
            ranked: list[_Scored] = [(under[place], float(own[place])) for place in order]
            return ranked + [(under[place], None) for place in np.flatnonzero(np.isnan(own)).tolist()]
        ranked = self._by_relevance(front, rows, under, query)
        held = {row.number for row, _ in ranked}
        return ranked + [(row, None) for row in under if row.number not in held]

    @staticmethod
    def _by_relevance(front: AnySync, rows: Rows, under: Sequence[Row], query: str) -> list[_Scored]:
        from memos_agents.operation.retrieval import retrieve

        store, row_of = front._store, {row.number: row for row in under}
        ref_of = {row.ref: row for row in under}
        found = retrieve(
            cast(Any, Chosen(rows.source)),
            query,
            embed=None if store.embedder is None else store.embedder.embed_query,
            now=store.now(),
            limit=len(under),
            accepts=lambda metadata: metadata["row"] in row_of,
        )
        return [(ref_of[entry.ref], entry.score) for entry in found]

    def _namespaces(self, op: ListNamespacesOp) -> list[Namespace]:
        conditions = op.match_conditions or ()
        prefix = next((condition.path for condition in conditions if condition.match_type == "prefix"), ())
        plain = prefix[: prefix.index("*")] if "*" in prefix else prefix
        front, _ = self._scoping.of(tuple(plain), reading=True)
        rows = self._rows.read(front, space=None, owner_of=self._scoping.owner_of, shows_ended=self._shows_ended)
        found = rows.namespaces()
        found = {name for name in found if all(_matches(condition, name) for condition in conditions)}
        if op.max_depth is not None:
            found = {name[: op.max_depth] for name in found}
        return sorted(found)[op.offset : op.offset + op.limit]

    def _use(self, cube_ids: Sequence[str], refreshes: bool) -> None:
        """Count a use, from which the time to live is counted anew."""
        store = self._scoping.front._store
        if refreshes and cube_ids and not store.vault.is_readonly:
            store.vault.touch(cube_ids, store.now())

    # -- time to live

    @property
    def _shows_ended(self) -> bool:
        """Whether what is over is shown until it is swept: only if asked for."""
        return self.ttl_config is not None and self.ttl_config.get("omit_expired") is False

    def _is_over(self, cube: MemCube, fact: Fact) -> bool:
        ends = fact.ends_at(cube.behavioural.last_used_at)
        return ends is not None and ends <= self._now()

    def _now(self) -> datetime:
        return self._scoping.front._store.now()

    def _ended(self, places: Sequence[Place]) -> list[Place]:
        over = []
        for place, cube in find_keyed(self._scoping.front, places).items():
            fact = fact_of(cube)
            if fact is not None and self._is_over(cube, fact):
                over.append(place)
        return over


def _check(op: Op) -> None:
    if not isinstance(op, GetOp | PutOp | SearchOp | ListNamespacesOp):
        raise InvalidRequest(f"an operation is a GetOp, PutOp, SearchOp or ListNamespacesOp, not {type(op).__name__}")
    validate_op_namespace(op)
    if isinstance(op, PutOp) and op.value is not None:
        if not op.namespace:
            raise InvalidNamespaceError("Namespace cannot be empty.")
        if not isinstance(op.value, Mapping):
            raise InvalidRequest(f"a value must be a mapping, not {type(op.value).__name__}")


def _matches(condition: MatchCondition, namespace: Namespace) -> bool:
    path = condition.path
    if len(namespace) < len(path):
        return False
    if condition.match_type not in ("prefix", "suffix"):
        raise InvalidRequest(f"match_type is {condition.match_type!r}; it must be 'prefix' or 'suffix'")
    part = namespace[: len(path)] if condition.match_type == "prefix" else namespace[len(namespace) - len(path) :]
    return all(wanted in ("*", found) for wanted, found in zip(path, part, strict=True))
