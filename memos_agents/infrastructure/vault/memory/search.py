"""Search in a `MemoryVault`: the rows that a read may see, with their vectors and terms."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from memos_agents.cube.canonical import JSON
from memos_agents.cube.memcube import MemCube, VersionRef
from memos_agents.cube.moment import to_microseconds
from memos_agents.infrastructure.vault.base import ViewQuery
from memos_agents.infrastructure.vault.columns import build_view, collect_postings, pack_vector, row_of
from memos_agents.infrastructure.vault.memory.tables import CubeRow, Tables, VersionRow
from memos_agents.infrastructure.vault.view import Postings, View


class MemorySearchView:
    """Rows as they were when the view was made; later commits do not change them."""

    def __init__(self, view: View, terms: Sequence[Mapping[str, int]], bodies: Sequence[VersionRow]) -> None:
        self._view = view
        self._terms = terms
        self._metadata = [row.metadata() for row in bodies]

    @property
    def view(self) -> View:
        return self._view

    def postings(self, terms: Iterable[str]) -> Postings:
        return collect_postings(self._terms, terms)

    def metadata(self) -> Sequence[Mapping[str, JSON]]:
        return self._metadata


def make_view(tables: Tables, query: ViewQuery) -> MemorySearchView:
    """The versions that `query` may see, in the order in which their cubes were made."""
    space = None if query.space is None else tables.space(query.space)
    cubes = sorted(tables.cubes.values(), key=lambda cube: (cube.created_at, cube.id))
    seen = [(cube, row) for cube in cubes if _is_open(cube, query) and (row := _version(cube, query)) is not None]
    columns = [
        row_of(
            cube.value(row),
            flags=row.flags,
            event_us=to_microseconds(row.happened_at),
            length=sum(row.terms.values()),
            vector=row.vectors.get(space.fingerprint) if space else None,
        )
        for cube, row in seen
    ]
    view = build_view(columns, space.dimension if space else 0)
    return MemorySearchView(view, [row.terms for _, row in seen], [row for _, row in seen])


def _is_open(cube: CubeRow, query: ViewQuery) -> bool:
    return query.scope.admits(cube.scope) and not cube.is_erased and cube.state in query.states


def _version(cube: CubeRow, query: ViewQuery) -> VersionRow | None:
    """The head, or what was believed at `as_of`; staleness has no history, so it is not asked for then."""
    if query.as_of is None:
        row = cube.head if cube.head.superseded_at is None and not cube.head.is_stale else None
    else:
        row = next((version for version in cube.versions if _was_believed(version, query.as_of)), None)
    if row is None or row.has_ended(query.now) or not _was_true(row, query.valid_at):
        return None
    is_asked_for = row.memory_type in query.memory_types and query.collection in {None, row.descriptive.collection}
    return row if is_asked_for else None


def _was_believed(row: VersionRow, moment: datetime) -> bool:
    return row.recorded_at <= moment and (row.superseded_at is None or moment < row.superseded_at)


def _was_true(row: VersionRow, moment: datetime | None) -> bool:
    start, end = row.descriptive.valid_from, row.descriptive.valid_to
    return moment is None or ((start is None or start <= moment) and (end is None or moment < end))


def without_vectors(tables: Tables, space: str, limit: int, after: VersionRef | None) -> list[MemCube]:
    """Versions with text that lack a vector, by cube id and version."""
    tables.space(space)
    missing = [
        (row.ref, cube, row)
        for cube, row in tables.living_versions()
        if row.has_text and space not in row.vectors and (after is None or row.ref > after)
    ]
    missing.sort(key=lambda found: found[0])
    return [cube.value(row) for _, cube, row in missing[:limit]]


def put_vectors(tables: Tables, space: str, vectors: Mapping[VersionRef, NDArray[np.float32]]) -> None:
    """All of them or none."""
    dimension = tables.space(space).dimension
    packed = {ref: pack_vector(vector, dimension) for ref, vector in vectors.items()}
    for ref, data in packed.items():
        row = tables.version(ref)
        if row is not None and row.body is not None:
            row.vectors[space] = data
