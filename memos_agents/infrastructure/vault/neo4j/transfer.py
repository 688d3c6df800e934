"""Records out of a store (see `vault.records`), in pages."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from memos_agents.cube.memcube import VersionRef
from memos_agents.cube.moment import from_microseconds
from memos_agents.cube.payload import MemoryType
from memos_agents.cube.scope import Scope
from memos_agents.cube.state import MemoryState
from memos_agents.infrastructure.provenance.values import Derivation, Source
from memos_agents.infrastructure.vault.neo4j import cypher_reading, spaces
from memos_agents.infrastructure.vault.neo4j import cypher_transfer as cypher
from memos_agents.infrastructure.vault.neo4j.drafting import vector_name
from memos_agents.infrastructure.vault.neo4j.link import Tx
from memos_agents.infrastructure.vault.neo4j.reading import (
    CHUNK,
    Reader,
    activity_of,
    chunks,
    moment,
    owner_of,
    owners_of,
    relation_of,
    scope_of,
)
from memos_agents.infrastructure.vault.records import (
    ActivityLine,
    CubeLine,
    DerivationLine,
    Line,
    Record,
    RelationLine,
    SourceLine,
    VectorLine,
    VersionLine,
)

_BODIES_AT_ONCE: Final = 250


def export(tx: Tx, reader: Reader, scope: Scope) -> Iterator[Record]:
    """Everything in the scope, in the order of `records.KINDS`, each kind sorted by what names it.

    Holds a page of lines at a time; of a scope that binds a user, agent or session also the ids of its cubes and
    activities. A round trip for each thousand lines, for each 250 of those with bodies.
    """
    if reader.is_ours(scope):
        yield from _records(_Export(Lines(tx, reader, scope)).lines())


def records_of(tx: Tx, reader: Reader, cube_ids: Sequence[str], scope: Scope) -> Iterator[Record]:
    """What a load of these cubes needs (see `SupportsRecordsOf`). Holds their edges in memory, bodies by the page."""
    if reader.is_ours(scope):
        yield from _records(_lines_of(Lines(tx, reader, scope), cube_ids))


def cube_ids(tx: Tx, reader: Reader, scope: Scope, *, limit: int, after: str | None) -> list[str]:
    """Ids of the cubes in the scope, rising, those after `after`."""
    if not reader.is_ours(scope) or limit <= 0:
        return []
    return [row[0] for row in tx.rows(cypher.CUBE_IDS, after=after or "", limit=limit, **owners_of(scope))]


class Lines:
    """What stands in the graph, as lines. What is asked for by id is given as far as the scope admits it."""

    def __init__(self, tx: Tx, reader: Reader, scope: Scope) -> None:
        self._tx, self._reader, self._scope, self._owners = tx, reader, scope, owners_of(scope)
        self._vector_names: dict[str, tuple[str, int]] | None = None

    @property
    def is_whole(self) -> bool:
        return self._scope.is_everything

    def pages(self) -> Iterator[list[tuple[str, int]]]:
        """Every cube of the scope, by id: (id, number of its newest version)."""
        owner = owner_of(self._scope)
        if owner != "anyone":
            rows = self._tx.rows(cypher.OWNED_IDS[owner], **self._owners)
            yield from chunks(sorted((cube_id, newest) for cube_id, newest in rows))
            return
        after = ""
        while page := self._tx.rows(cypher.CUBE_IDS, after=after, limit=CHUNK, **self._owners):
            yield [(cube_id, newest) for cube_id, newest in page]
            after = page[-1][0]

    def cubes(self, ids: Sequence[str]) -> Iterator[tuple[CubeLine, int]]:
        """Cubes by id, sorted, each with the number of its newest version."""
        for piece in chunks(sorted(set(ids))):
            rows = self._tx.rows(cypher.CUBES, ids=piece, **self._owners)
            for cube_id, newest, user, agent, session, state, frozen, created_us, count, last_us in sorted(rows):
                is_erased = state == MemoryState.ERASED
                uses = (0, None) if is_erased else self._reader.use_of(cube_id, count, last_us)
                line = CubeLine(
                    id=cube_id,
                    scope=scope_of(self._reader.tenant, user, agent, session),
                    state=MemoryState(state),
                    frozen=frozen,
                    created_at=from_microseconds(created_us),
                    use_count=uses[0],
                    last_used_at=uses[1],
                )
                yield line, newest

    def versions(self, refs: Iterable[VersionRef]) -> Iterator[VersionLine]:
        """Versions that are there, in the order of `refs`."""
        for pairs in _pages(refs, _BODIES_AT_ONCE):
            rows = {(row[0], row[1]): row for row in self._tx.rows(cypher.VERSIONS, refs=pairs)}
            for pair in pairs:
                row = rows.get((pair[0], pair[1]))
                if row is not None:
                    yield _version_line(row)

    def activities_of(self, refs: Iterable[VersionRef]) -> set[str]:
        """What made and what ended these versions."""
        return {row[0] for pairs in _pages(refs) for row in self._tx.rows(cypher.ACTIVITIES_OF, refs=pairs)}

    def derivations(self, refs: Iterable[VersionRef]) -> Iterator[DerivationLine]:
        """Derivations of these versions, which come sorted, from what the scope admits."""
        for pairs in _pages(refs):
            rows = self._tx.rows(cypher.DERIVATIONS, refs=pairs, **self._owners)
            found = [
                DerivationLine(
                    derivation=Derivation(
                        derived=VersionRef(cube_id, number),
                        source=source if source_number is None else VersionRef(source, source_number),
                        kind=kind,
                    ),
                    activity_id=activity_id,
                )
                for cube_id, number, source, source_number, kind, activity_id in rows
            ]
            yield from sorted(found, key=_derivation_order)

    def relations(self, ids: Iterable[str]) -> Iterator[RelationLine]:
        """Relations that go out from these cubes, which come sorted."""
        for piece in chunks(list(ids)):
            rows = self._tx.rows(cypher.RELATIONS, ids=piece, **self._owners)
            yield from sorted(map(_relation_line, rows), key=_relation_order)

    def relations_to_smaller(self, ids: Iterable[str]) -> list[RelationLine]:
        """Relations between these cubes and cubes with a smaller id, whichever way, sorted."""
        found: list[RelationLine] = []
        for piece in chunks(list(ids)):
            found.extend(map(_relation_line, self._tx.rows(cypher.RELATIONS_TO_SMALLER, ids=piece, **self._owners)))
        return sorted(found, key=_relation_order)

    def vectors(self, refs: Iterable[VersionRef]) -> Iterator[VectorLine]:
        """Vectors of these versions, which come sorted."""
        if self._vector_names is None:
            self._vector_names = {
                vector_name(each.number): (each.space.fingerprint, each.space.dimension)
                for each in spaces.known(self._tx)
            }
        names = self._vector_names
        if not names:
            return
        for pairs in _pages(refs):
            rows = self._tx.rows(cypher.VECTORS, refs=pairs, names=list(names))
            for cube_id, number, (fingerprint, dimension), data in sorted(
                (cube_id, number, names[name], data) for cube_id, number, name, data in rows
            ):
                yield VectorLine(
                    ref=VersionRef(cube_id, number), space=fingerprint, dimension=dimension, data=bytes(data)
                )

    def activities(self, ids: Iterable[str]) -> Iterator[ActivityLine]:
        """Activities by id, sorted; without the parameters of those that touched something outside the scope."""
        for piece in chunks(sorted(ids)):
            rows = self._tx.rows(cypher_reading.ACTIVITIES, ids=piece, whole=self.is_whole, **self._owners)
            yield from map(_activity_line, sorted(rows))

    def all_activities(self) -> Iterator[ActivityLine]:
        after = ""
        while page := self._tx.rows(cypher.ALL_ACTIVITIES, after=after, limit=CHUNK):
            yield from map(_activity_line, page)
            after = page[-1][0]

    def sources(self, ids: Iterable[str]) -> Iterator[SourceLine]:
        """Sources by id, sorted."""
        for piece in chunks(sorted(ids)):
            yield from map(_source_line, sorted(self._tx.rows(cypher.SOURCES, ids=piece)))

    def all_sources(self) -> Iterator[SourceLine]:
        after = ""
        while page := self._tx.rows(cypher.ALL_SOURCES, after=after, limit=CHUNK):
            yield from map(_source_line, page)
            after = page[-1][0]


class _Export:
    """All lines of a scope."""

    def __init__(self, lines: Lines) -> None:
        self._all = lines

    def lines(self) -> Iterator[Line]:
        if self._all.is_whole:
            yield from self._all.all_activities()
            yield from self._all.all_sources()
        else:
            activities, sources = self._named()
            yield from self._all.activities(activities)
            yield from self._all.sources(sources)
        for page in self._all.pages():
            yield from (line for line, _ in self._all.cubes([cube_id for cube_id, _ in page]))
        for page in self._all.pages():
            yield from self._all.versions(_refs(page))
        for page in self._all.pages():
            yield from self._all.derivations(_refs(page))
        for page in self._all.pages():
            yield from self._all.relations(cube_id for cube_id, _ in page)
        for page in self._all.pages():
            yield from self._all.vectors(_refs(page))

    def _named(self) -> tuple[set[str], set[str]]:
        """The activities and the sources that the other lines name."""
        activities: set[str] = set()
        edges: list[DerivationLine] = []
        sources: set[str] = set()
        for page in self._all.pages():
            activities |= self._all.activities_of(_refs(page))
            edges = list(self._all.derivations(_refs(page)))
            activities.update(edge.activity_id for edge in edges)
            sources |= _outside(edges)
            activities.update(line.activity_id for line in self._all.relations(cube_id for cube_id, _ in page))
        return activities, sources


def _lines_of(lines: Lines, ids: Sequence[str]) -> Iterator[Line]:
    own = [(line.id, newest) for line, newest in lines.cubes(ids)]
    own_ids = [cube_id for cube_id, _ in own]
    derivations = list(lines.derivations(_refs(own)))
    relations = lines.relations_to_smaller(own_ids)
    named = {end for line in relations for end in (line.relation.source_id, line.relation.target_id)}
    origins = [edge.derivation.source for edge in derivations]
    named.update(origin.cube_id for origin in origins if isinstance(origin, VersionRef))
    told = list(lines.cubes([*named, *own_ids]))
    refs = list(_refs((line.id, newest) for line, newest in told))
    activities = lines.activities_of(refs)
    activities.update(edge.activity_id for edge in derivations)
    activities.update(line.activity_id for line in relations)
    yield from lines.activities(activities)
    yield from lines.sources(_outside(derivations))
    yield from (line for line, _ in told)
    yield from lines.versions(refs)
    yield from derivations
    yield from relations
    yield from lines.vectors(_refs(own))


def _refs(page: Iterable[tuple[str, int]]) -> Iterator[VersionRef]:
    for cube_id, newest in page:
        for number in range(1, newest + 1):
            yield VersionRef(cube_id, number)


def _pages(refs: Iterable[VersionRef], size: int = CHUNK) -> Iterator[list[list[Any]]]:
    page: list[list[Any]] = []
    for ref in refs:
        page.append([ref.cube_id, ref.version])
        if len(page) == size:
            yield page
            page = []
    if page:
        yield page


def _outside(edges: Iterable[DerivationLine]) -> set[str]:
    origins = (edge.derivation.source for edge in edges)
    return {origin for origin in origins if isinstance(origin, str)}


def _records(lines: Iterable[Line]) -> Iterator[Record]:
    for line in lines:
        yield line.to_record()


def _version_line(row: Sequence[Any]) -> VersionLine:
    cube_id, number, digest, body, kind, recorded_us, superseded_us, is_stale, made, ended = row
    return VersionLine(
        ref=VersionRef(cube_id, number),
        hash=digest,
        body=body,
        memory_type=MemoryType(kind),
        recorded_at=from_microseconds(recorded_us),
        superseded_at=moment(superseded_us),
        is_stale=is_stale,
        activity_id=made,
        ended_by=ended,
    )


def _activity_line(row: Sequence[Any]) -> ActivityLine:
    activity, at = activity_of(row)
    return ActivityLine(activity=activity, at=at)


def _source_line(row: Sequence[Any]) -> SourceLine:
    source_id, kind, locator, sha256 = row
    return SourceLine(source=Source(id=source_id, kind=kind, locator=locator, sha256=sha256))


def _relation_line(row: Sequence[Any]) -> RelationLine:
    source_id, kind, target_id, properties, recorded_us, removed_us, activity_id = row
    return RelationLine(
        relation=relation_of(source_id, kind, target_id, properties),
        recorded_at=from_microseconds(recorded_us),
        removed_at=moment(removed_us),
        activity_id=activity_id,
    )


def _derivation_order(line: DerivationLine) -> tuple[VersionRef, str, str]:
    return line.derivation.derived, str(line.derivation.source), line.derivation.kind


def _relation_order(line: RelationLine) -> tuple[Any, ...]:
    return line.triple, line.recorded_at, line.removed_at is None
