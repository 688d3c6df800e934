"""Records of some cubes, and a store as it was at one moment (see `vault.capabilities`)."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence

from memos_agents.cube.memcube import VersionRef
from memos_agents.cube.scope import Scope
from memos_agents.infrastructure.provenance.graph import ProvenanceGraph
from memos_agents.infrastructure.vault.base import Direction
from memos_agents.infrastructure.vault.records import (
    ActivityLine,
    DerivationLine,
    Line,
    Record,
    RelationLine,
    SourceLine,
)
from memos_agents.infrastructure.vault.sqlite.engine import chunks
from memos_agents.infrastructure.vault.sqlite.lineage import Lineage
from memos_agents.infrastructure.vault.sqlite.reading import Reader
from memos_agents.infrastructure.vault.sqlite.transfer import Records


class SqliteMoment:
    """Everything as one connection's read transaction sees it."""

    def __init__(self, reader: Reader, connection: sqlite3.Connection) -> None:
        self._reader, self._db = reader, connection

    def cube_ids(self, scope: Scope, *, limit: int, after: str | None = None) -> list[str]:
        condition, values = self._reader.owner_by_id(self._db, scope)
        rows = self._db.execute(
            f"SELECT c.id FROM cube c WHERE {condition} AND c.id > ? ORDER BY c.id LIMIT ?",
            (*values, after or "", limit),
        )
        return [row[0] for row in rows]

    def records(self, scope: Scope) -> Iterator[Record]:
        return iter(Records(self._reader, self._db, scope))

    def records_of(self, cube_ids: Sequence[str], scope: Scope) -> Iterator[Record]:
        return iter(RecordsOf(self._reader, self._db, scope, cube_ids))

    def lineage(self, ref: VersionRef, direction: Direction, depth: int | None, scope: Scope) -> ProvenanceGraph:
        return Lineage(self._reader, self._db, scope).graph(VersionRef(*ref), direction, depth)


class RecordsOf:
    """The lines of some cubes and of what they name. Edges are held in memory, versions and vectors are not."""

    def __init__(self, reader: Reader, connection: sqlite3.Connection, scope: Scope, cube_ids: Sequence[str]) -> None:
        self._db, self._cube_ids = connection, cube_ids
        self._all = Records(reader, connection, scope, by_id=True)

    def __iter__(self) -> Iterator[Record]:
        own = self._admitted()
        derivations = [
            line for marks, piece in chunks(own) for line in self._all.derivations(f"AND c.id IN ({marks})", (*piece,))
        ]
        relations = self._relations(own)
        named = {end for line in relations for end in line.triple[::2]}
        sources = [line.derivation.source for line in derivations]
        named.update(source.cube_id for source in sources if isinstance(source, VersionRef))
        told = sorted(named.union(own))
        yield from _records(self._activities(told, [*derivations, *relations]))
        yield from _records(self._sources({source for source in sources if isinstance(source, str)}))
        for marks, piece in chunks(told):
            yield from _records(self._all.cubes(f"AND c.id IN ({marks})", (*piece,)))
        for marks, piece in chunks(told):
            yield from _records(self._all.versions(f"AND c.id IN ({marks})", (*piece,)))
        yield from _records(derivations)
        yield from _records(relations)
        for marks, piece in chunks(own):
            yield from _records(self._all.vectors(f"AND c.id IN ({marks})", (*piece,)))

    def _admitted(self) -> list[str]:
        found: list[str] = []
        for marks, piece in chunks(sorted(set(self._cube_ids))):
            found.extend(line.id for line in self._all.cubes(f"AND c.id IN ({marks})", (*piece,)))
        return found

    def _relations(self, own: list[str]) -> list[RelationLine]:
        """Those with a cube of a smaller id at the other end."""
        found: list[RelationLine] = []
        for marks, piece in chunks(own):
            found.extend(self._all.relations(f"AND c.id IN ({marks}) AND b.id < c.id", (*piece,)))
            found.extend(self._all.relations(f"AND b.id IN ({marks}) AND c.id < b.id", (*piece,)))
        return sorted(found, key=lambda line: (*line.triple, line.recorded_at, line.removed_at is None))

    def _activities(self, told: list[str], edges: Sequence[DerivationLine | RelationLine]) -> list[ActivityLine]:
        named = {edge.activity_id for edge in edges}
        for marks, piece in chunks(told):
            named.update(self._all.activities_of(f"AND c.id IN ({marks})", (*piece,)))
        return [
            line
            for marks, piece in chunks(sorted(named))
            for line in self._all.activities(f"AND x.id IN ({marks})", (*piece,))
        ]

    def _sources(self, named: set[str]) -> list[SourceLine]:
        return [
            line
            for marks, piece in chunks(sorted(named))
            for line in self._all.sources(f"AND s.id IN ({marks})", (*piece,))
        ]


def _records(lines: Iterable[Line]) -> Iterator[Record]:
    for line in lines:
        yield line.to_record()
