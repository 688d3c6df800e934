"""The journal: who did what and when, what a commit changed, what an erasure left."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any, LiteralString

from memos_agents.cube.memcube import VersionRef
from memos_agents.cube.moment import from_microseconds, to_microseconds
from memos_agents.cube.scope import Scope
from memos_agents.cube.state import MemoryState
from memos_agents.infrastructure.provenance.values import Agent, Relation
from memos_agents.infrastructure.vault.base import Effects, LogEntry, LogQuery
from memos_agents.infrastructure.vault.commit import Tombstone
from memos_agents.infrastructure.vault.neo4j import cypher_reading as cypher
from memos_agents.infrastructure.vault.neo4j.link import Tx
from memos_agents.infrastructure.vault.neo4j.reading import Reader, owner_of, owners_of, relation_of


class Journal:
    """Reads the log in one transaction; nothing outside the given scope is ever returned."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def log(self, tx: Tx, query: LogQuery) -> list[LogEntry]:
        """Entries that touched something in the scope, newest first.

        For the whole tenant, costs what it shows; for a user, one look at every commit that touched what is theirs.
        """
        scope = query.scope
        if not self._reader.is_ours(scope) or query.limit <= 0:
            return []
        statement = _statement(query)
        rows = tx.rows(
            statement,
            **owners_of(scope),
            whole=scope.is_everything,
            cube=query.cube_id,
            activity=query.activity_id,
            since_us=None if query.since is None else to_microseconds(query.since),
            until_us=None if query.until is None else to_microseconds(query.until),
            limit=query.limit,
        )
        return [_entry(row, is_whole=scope.is_everything) for row in rows]

    def effects(self, tx: Tx, activity_id: str, scope: Scope) -> Effects | None:
        """What one commit changed; None unless `scope` admits everything that it touched."""
        if not self._reader.is_ours(scope):
            return None
        row = tx.one(cypher.EFFECTS, activity=activity_id, **owners_of(scope))
        if row is None:
            return None
        kind, packed, is_seen, hides, opened, closed = row
        if hides or not (is_seen or scope.is_everything):
            return None
        changed = json.loads(packed)
        return Effects(
            activity_id=activity_id,
            kind=kind,
            writes=tuple(
                (VersionRef(cube_id, number), replaced) for cube_id, number, replaced in changed.get("writes", ())
            ),
            transitions=tuple(
                (cube_id, MemoryState(before), was_frozen, MemoryState(after), is_frozen)
                for cube_id, before, was_frozen, after, is_frozen in changed.get("transitions", ())
            ),
            invalidated=tuple(VersionRef(*pair) for pair in changed.get("invalidated", ())),
            lifted=tuple(VersionRef(*pair) for pair in changed.get("lifted", ())),
            related=_relations(opened),
            unrelated=_relations(closed),
            erased=tuple(sorted(changed.get("erased", ()))),
        )

    def tombstones(self, tx: Tx, activity_id: str) -> list[Tombstone]:
        """What the erasure with this activity left, by cube and version."""
        row = tx.one(cypher.TOMBSTONES, activity=activity_id)
        if row is None:
            return []
        packed, stones = row
        derived = {VersionRef(*pair) for pair in json.loads(packed).get("derived", ())}
        refs = ((VersionRef(cube_id, number), digest) for cube_id, number, digest in stones)
        return sorted(
            (Tombstone(ref=ref, content_hash=digest, is_derived=ref in derived) for ref, digest in refs),
            key=lambda stone: stone.ref,
        )


def _statement(query: LogQuery) -> LiteralString:
    """The one that looks at the fewest entries."""
    if query.cube_id is not None:
        return cypher.LOG_OF_CUBE
    if query.activity_id is not None:
        return cypher.LOG_OF_ACTIVITY
    return cypher.LOG[owner_of(query.scope)]


def _entry(row: Sequence[Any], *, is_whole: bool) -> LogEntry:
    activity_id, kind, agent_id, agent_kind, agent_name, at_us, parameters, seq, chain, cubes, hides = row
    return LogEntry(
        activity_id=activity_id,
        kind=kind,
        agent=Agent(id=agent_id, kind=agent_kind, name=agent_name),
        at=from_microseconds(at_us),
        parameters={} if hides else json.loads(parameters),
        cubes=tuple(sorted(cubes)),
        seq=seq if is_whole else None,
        chain=chain if is_whole else None,
    )


def _relations(rows: Iterable[Sequence[Any]]) -> tuple[Relation, ...]:
    found = (relation_of(*row) for row in rows)
    return tuple(sorted(found, key=lambda relation: (relation.source_id, relation.kind, relation.target_id)))
