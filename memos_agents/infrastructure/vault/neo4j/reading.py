"""Reading: records to cubes, lists and relations."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar

from memos_agents.cube.canonical import JSON
from memos_agents.cube.memcube import MemCube, VersionRef, empty_body, unpack_body
from memos_agents.cube.metadata import Behavioural
from memos_agents.cube.moment import from_microseconds, to_microseconds
from memos_agents.cube.payload import MemoryType
from memos_agents.cube.scope import Scope
from memos_agents.cube.state import MemoryState
from memos_agents.infrastructure.provenance.values import Activity, Agent, Relation, RelationKind
from memos_agents.infrastructure.vault.base import ListQuery, RelationRecord
from memos_agents.infrastructure.vault.neo4j import cypher_reading as cypher
from memos_agents.infrastructure.vault.neo4j.link import Tx
from memos_agents.infrastructure.vault.neo4j.working import place_of

T = TypeVar("T")
Uses: TypeAlias = Mapping[str, tuple[int, int]]
"""Uses not yet written, by cube id: how many, and the last time in microseconds."""

CHUNK: Final = 1_000
"""How much goes out in one statement: ids, versions or edges."""
_BEFORE_ALL, _AFTER_ALL = -(2**62), 2**62


class Reader:
    """Read operations in one transaction; nothing outside the given scope is ever returned.

    A scope of another tenant sees nothing and is not asked about.
    """

    def __init__(self, tenant: str, uses: Callable[[], Uses]) -> None:
        self._tenant = tenant
        self._uses = uses

    @property
    def tenant(self) -> str:
        return self._tenant

    def is_ours(self, scope: Scope) -> bool:
        """Whether the scope speaks of this tenant."""
        return scope.tenant == self._tenant

    def heads(self, tx: Tx, cube_ids: Sequence[str], scope: Scope) -> dict[str, MemCube]:
        """The newest versions; one round trip for each thousand."""
        found: dict[str, MemCube] = {}
        if self.is_ours(scope):
            for ids in chunks(list(dict.fromkeys(cube_ids))):
                for row in tx.rows(cypher.HEADS, ids=ids, **owners_of(scope)):
                    found[row[0]] = self._cube(row)
        return found

    def versions(self, tx: Tx, refs: Sequence[VersionRef], scope: Scope) -> dict[VersionRef, MemCube]:
        """Single versions."""
        found: dict[VersionRef, MemCube] = {}
        if self.is_ours(scope):
            for pairs in chunks(pairs_of(refs)):
                for row in tx.rows(cypher.VERSIONS, refs=pairs, **owners_of(scope)):
                    cube = self._cube(row)
                    found[cube.ref] = cube
        return found

    def history(self, tx: Tx, cube_id: str, scope: Scope) -> list[MemCube]:
        """Every version, oldest first."""
        if not self.is_ours(scope):
            return []
        return [self._cube(row) for row in tx.rows(cypher.HISTORY, id=cube_id, **owners_of(scope))]

    def by_key(self, tx: Tx, scope: Scope, collection: str, key: str) -> MemCube | None:
        """The cube with this key in exactly this scope."""
        if not self.is_ours(scope) or scope.is_everything:
            return None
        row = tx.one(cypher.BY_PLACE, place=place_of(scope, collection, key))
        return None if row is None else self._cube(row)

    def page(self, tx: Tx, query: ListQuery) -> list[MemCube]:
        """Heads in order. By creation, a user's page costs what it shows; by event, one look at all of the scope."""
        if not self.is_ours(query.scope) or query.limit <= 0:
            return []
        after = query.after or ((_AFTER_ALL, "") if query.descending else (_BEFORE_ALL, ""))
        order: dict[tuple[str, bool], cypher.Order] = {
            ("created", False): "created", ("created", True): "created down",
            ("occurred", False): "occurred", ("occurred", True): "occurred down",
        }  # fmt: skip
        rows = tx.rows(
            cypher.PAGE[owner_of(query.scope), order[query.order, query.descending]],
            **owners_of(query.scope),
            states=[state.value for state in query.states],
            types=[kind.value for kind in query.memory_types],
            collection=query.collection,
            hidden=query.include_hidden,
            now_us=None if query.now is None else to_microseconds(query.now),
            after_us=after[0],
            after_id=after[1],
            limit=query.limit,
        )
        return [self._cube(row) for row in rows]

    def relations(self, tx: Tx, cube_ids: Sequence[str], scope: Scope, *, removed: bool) -> list[RelationRecord]:
        """Relations that touch any of the cubes and whose ends `scope` admits, oldest first."""
        found: dict[tuple[Any, ...], RelationRecord] = {}
        if self.is_ours(scope):
            for ids in chunks(list(dict.fromkeys(cube_ids))):
                for row in tx.rows(cypher.RELATIONS, ids=ids, removed=removed, **owners_of(scope)):
                    source_id, kind, target_id, properties, activity_id, recorded_us, removed_us = row
                    found[tuple(row)] = RelationRecord(
                        relation=relation_of(source_id, kind, target_id, properties),
                        activity_id=activity_id,
                        recorded_at=from_microseconds(recorded_us),
                        removed_at=moment(removed_us),
                    )
        return sorted(found.values(), key=_relation_order)

    def metadata(self, tx: Tx, refs: Sequence[VersionRef]) -> list[Mapping[str, JSON]]:
        """The metadata of versions, in that order; empty for what was erased meanwhile. Asks for no scope."""
        found: dict[VersionRef, Mapping[str, JSON]] = {}
        for pairs in chunks(pairs_of(refs)):
            for cube_id, number, body in tx.rows(cypher.METADATA, refs=pairs):
                found[VersionRef(cube_id, number)] = json.loads(body)["metadata"]
        return [found.get(VersionRef(*ref), {}) for ref in refs]

    def use_of(self, cube_id: str, count: int | None, last_us: int | None) -> tuple[int, datetime | None]:
        """How often a living cube was used and when last, with the uses that wait in memory."""
        pending = self._uses().get(cube_id)
        count = count or 0
        if pending is not None:
            count, last_us = count + pending[0], max(pending[1], last_us or pending[1])
        return count, moment(last_us)

    def _cube(self, values: Sequence[Any]) -> MemCube:
        row = _CubeRow(*values)
        count, last = (0, None) if row.body is None else self.use_of(row.id, row.use_count, row.last_used_us)
        parts = empty_body(MemoryType(row.memory_type)) if row.body is None else unpack_body(json.loads(row.body))
        return MemCube(
            id=row.id,
            version=row.number,
            scope=scope_of(self._tenant, row.user, row.agent, row.session),
            state=MemoryState(row.state),
            frozen=row.frozen,
            behavioural=Behavioural(use_count=count, last_used_at=last, version_chain=tuple(range(1, row.newest + 1))),
            created_at=from_microseconds(row.created_us),
            recorded_at=from_microseconds(row.recorded_us),
            superseded_at=moment(row.superseded_us),
            is_stale=row.is_stale,
            **parts,
        )


class _CubeRow(NamedTuple):
    """What `cypher.CUBE_COLUMNS` gives."""

    id: str
    user: str | None
    agent: str | None
    session: str | None
    state: str
    frozen: bool
    created_us: int
    newest: int
    use_count: int | None
    last_used_us: int | None
    number: int
    recorded_us: int
    superseded_us: int | None
    is_stale: bool
    body: str | None
    memory_type: str


def owners_of(scope: Scope) -> dict[str, str | None]:
    """A scope as parameters."""
    return {"user": scope.user_id, "agent": scope.agent_id, "session": scope.session_id}


def owner_of(scope: Scope) -> cypher.Owner:
    """The most selective field that the scope binds."""
    if scope.session_id is not None:
        return "session"
    if scope.user_id is not None:
        return "user"
    return "anyone" if scope.agent_id is None else "agent"


@lru_cache(maxsize=4096)
def scope_of(tenant: str, user: str | None, agent: str | None, session: str | None) -> Scope:
    """Whose a cube is. Kept, because checking a name costs more than reading a cube."""
    return Scope(tenant=tenant, user_id=user, agent_id=agent, session_id=session)


def pairs_of(refs: Sequence[VersionRef]) -> list[list[object]]:
    """Versions as parameters, each once; a number that no version can have is left out."""
    return [[cube_id, number] for cube_id, number in dict.fromkeys(refs) if 0 < number < 1 << 62]


def chunks(items: list[T], size: int = CHUNK) -> Iterator[list[T]]:
    """Pieces that one statement takes."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def moment(value: int | None) -> datetime | None:
    """A time that may be missing."""
    return None if value is None else from_microseconds(value)


def relation_of(source_id: str, kind: str, target_id: str, properties: str) -> Relation:
    """A relation as the graph says it."""
    return Relation(
        source_id=source_id, kind=RelationKind(kind), target_id=target_id, properties=json.loads(properties)
    )


def activity_of(values: Sequence[Any]) -> tuple[Activity, datetime]:
    """An activity, as `cypher.ACTIVITIES` tells it, and the time of its commit."""
    activity_id, kind, agent_id, agent_kind, agent_name, started_us, at_us, parameters = values
    activity = Activity(
        id=activity_id,
        kind=kind,
        started_at=from_microseconds(started_us),
        agent=Agent(id=agent_id, kind=agent_kind, name=agent_name),
        parameters=json.loads(parameters),
    )
    return activity, from_microseconds(at_us)


def _relation_order(record: RelationRecord) -> tuple[datetime, str, str, str]:
    relation = record.relation
    return record.recorded_at, relation.source_id, relation.kind, relation.target_id
