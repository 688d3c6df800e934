"""Relocating: a whole tenant told as changes, so that another place can take it over with log, chain and receipts.

The tenant must be sealed, that is, nobody writes to it meanwhile. What takes it over is a mirror (see `mirroring`), so
a relocation that was killed goes on where it was.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Final

from memos_agents.cube.memcube import VersionRef
from memos_agents.cube.moment import from_microseconds
from memos_agents.cube.scope import Scope
from memos_agents.errors import InvalidRequest, VersionConflict
from memos_agents.infrastructure.vault.base import Snapshot
from memos_agents.infrastructure.vault.changes import Changes, Entry, Position, RelationState
from memos_agents.infrastructure.vault.neo4j import cypher_beside, spaces
from memos_agents.infrastructure.vault.neo4j import cypher_routing as cypher
from memos_agents.infrastructure.vault.neo4j import cypher_transfer as transfer
from memos_agents.infrastructure.vault.neo4j.link import Link, Tx
from memos_agents.infrastructure.vault.neo4j.reading import Reader, activity_of, moment, relation_of
from memos_agents.infrastructure.vault.neo4j.transfer import Lines
from memos_agents.infrastructure.vault.records import ActivityLine, RelationLine, SourceLine

LOADED, SOURCES, CUBES, EDGES, DONE = "loaded:", "sources:", "cubes:", "edges:", "done"
MOVING: Final = "moving:"
"""Begins the id under which the new place follows, so that it is never taken for the mirror of a living store."""
AT_ONCE: Final = 500
"""Cubes in a batch."""
_LINES_AT_ONCE: Final = 1_000


class Whole:
    """Tells everything of a sealed tenant, page by page: the log, sources, cubes with their versions, then the edges.

    `mark` is the seal: if it is broken, `InvalidRequest`, because what was told would no longer be all.
    """

    def __init__(self, link: Link, mark: str) -> None:
        self._link, self._mark = link, mark

    def changes(self, after: Position, limit: int) -> Changes | None:
        """See `SupportsChanges`. `limit` counts log entries; of cubes `AT_ONCE` come together."""
        return self._link.read(lambda tx: self._next(tx, after, limit))

    def leases(self) -> list[list[Any]]:
        """Rows of `cypher.PUT_LEASES`."""
        return self._link.read(lambda tx: tx.rows(cypher.LEASES), whole=False)

    def _next(self, tx: Tx, after: Position, limit: int) -> Changes | None:
        sealed = tx.one(cypher.SEALED_BY)
        if sealed is None or sealed[0] != self._mark:
            raise InvalidRequest("the tenant is not sealed for this move; somebody broke off the move or purged it")
        row = tx.one(cypher.FIRST_CHAIN)
        if row is None or not row[2] or after.cursor == DONE:
            return None
        seq, at_us, (first,) = row
        snapshots = [
            Snapshot(name=name, seq=at, at=from_microseconds(time_us))
            for name, at, time_us in tx.rows(cypher_beside.SNAPSHOTS)
        ]
        empty = Changes(
            source_id=f"{MOVING}{first}",
            after=after,
            upto=after,
            end_seq=seq,
            end_at=from_microseconds(at_us),
            at=from_microseconds(at_us),
            spaces=[each.space for each in spaces.known(tx)],
            snapshots=snapshots,
        )
        if after.seq < seq:
            return _entries(tx, empty, limit)
        return self._page(tx, empty, after.cursor or LOADED)

    def _page(self, tx: Tx, empty: Changes, cursor: str) -> Changes:
        """The next page; a phase that has nothing more ends with an empty one."""
        lines = Lines(tx, Reader(tx.tenant, dict), Scope.everything(tx.tenant))
        phase, _, last = cursor.partition(":")
        if f"{phase}:" == LOADED:
            rows = tx.rows(transfer.ALL_ACTIVITIES, after=last, limit=_LINES_AT_ONCE)
            found = [ActivityLine(activity=activity, at=at) for activity, at in map(activity_of, rows)]
            upto = f"{LOADED}{rows[-1][0]}" if rows else SOURCES
            return replace(empty, upto=replace(empty.after, cursor=upto), activities=found)
        if f"{phase}:" == SOURCES:
            rows = tx.rows(transfer.ALL_SOURCES, after=last, limit=_LINES_AT_ONCE)
            upto = f"{SOURCES}{rows[-1][0]}" if rows else CUBES
            sources: list[SourceLine] = [*lines.sources([row[0] for row in rows])]
            return replace(empty, upto=replace(empty.after, cursor=upto), sources=sources)
        owners = {"user": None, "agent": None, "session": None}
        page = tx.rows(transfer.CUBE_IDS, after=last, limit=AT_ONCE, **owners)
        ids = [cube_id for cube_id, _ in page]
        refs = [VersionRef(cube_id, number) for cube_id, newest in page for number in range(1, newest + 1)]
        if f"{phase}:" == CUBES:
            return replace(
                empty,
                upto=replace(empty.after, cursor=f"{CUBES}{ids[-1]}" if ids else EDGES),
                cubes=[line for line, _ in lines.cubes(ids)],
                versions=list(lines.versions(refs)),
                vectors=list(lines.vectors(refs)),
            )
        return replace(
            empty,
            upto=replace(empty.after, cursor=f"{EDGES}{ids[-1]}" if ids else DONE),
            derivations=list(lines.derivations(refs)),
            relations=list(_relations(tx, ids)),
            touched=[(activity_id, cube_id) for activity_id, cube_id in tx.rows(cypher.TOUCHED, ids=ids)],
        )


def _entries(tx: Tx, empty: Changes, limit: int) -> Changes:
    rows = tx.rows(cypher.ENTRIES, after=empty.after.seq, limit=limit)
    if not rows:
        raise VersionConflict("the tenant's log ends before it says it does; see what verify() says")
    found = []
    for seq, chain, effects, reshapes, key, result, *values in rows:
        activity, at = activity_of(values)
        found.append(
            Entry(
                line=ActivityLine(activity=activity, at=at), seq=seq, chain=chain, effects=effects,
                reshapes=bool(reshapes), key=key, result=result, has_erased="erased" in json.loads(effects),
            )
        )  # fmt: skip
    last = found[-1]
    upto = replace(empty.after, seq=last.seq, chain=last.chain)
    return replace(empty, upto=upto, at=last.line.at, entries=found)


def _relations(tx: Tx, ids: Sequence[str]) -> Iterator[RelationState]:
    for source, kind, target, properties, recorded_us, removed_us, activity, removed_by in tx.rows(
        cypher.RELATIONS, ids=list(ids)
    ):
        line = RelationLine(
            relation=relation_of(source, kind, target, properties),
            recorded_at=from_microseconds(recorded_us),
            removed_at=moment(removed_us),
            activity_id=activity,
        )
        yield RelationState(line=line, removed_by=removed_by)
