"""The columns of one cached scope: appended to in place, patched by copying, never changed under a view handed out.

Shared by the vaults that cache what they read of a scope; each selects its rows in its own language.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Final, TypeAlias, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from memos_agents.cube.memcube import VersionRef
from memos_agents.cube.moment import to_microseconds
from memos_agents.infrastructure.vault.base import ViewQuery
from memos_agents.infrastructure.vault.columns import neighbours, unpack_vectors
from memos_agents.infrastructure.vault.view import View

Number = TypeVar("Number", bound=np.generic)
Row: TypeAlias = Sequence[object]
"""A `ViewRow` (owners may be the store's numbers, 0 for none), then for the cache alone: the numbers of cube and
version in the store, when the cube was made, `expires`, `valid_from` and `valid_to` (None: open), in microseconds.
"""
NEVER, ALWAYS = 2**62, -(2**62)
row_order: Final[Callable[[Row], tuple[int, str]]] = itemgetter(12, 0)
"""When the cube was made, then its id."""

_NUMBERS = {
    "session": np.int32, "speaker": np.int32, "flags": np.uint16, "event_us": np.int64, "length": np.float32,
    "cube": np.int64, "version": np.int64, "created": np.int64,
    "expires": np.int64, "valid_from": np.int64, "valid_to": np.int64,
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """A `View` with what a reader needs beside it, row by row; never changed once made."""

    view: View
    cube: NDArray[np.int64]
    version: NDArray[np.int64]
    expires: NDArray[np.int64]
    valid_from: NDArray[np.int64]
    valid_to: NDArray[np.int64]

    @property
    def size_bytes(self) -> int:
        return int(self.view.vectors.nbytes) + 250 * len(self.view)

    def visible(self, query: ViewQuery) -> Columns:
        """Without what has expired at `query.now`, and with `valid_at` only what was true then."""
        mask = self.expires > to_microseconds(query.now)
        if query.valid_at is not None:
            moment = to_microseconds(query.valid_at)
            mask &= (self.valid_from <= moment) & (moment < self.valid_to)
        return self.where(mask)

    def where(self, mask: NDArray[np.bool_]) -> Columns:
        """Only the rows of `mask`, with neighbours and numbers settled among them."""
        if mask.all():
            return self
        view, kept = self.view, np.flatnonzero(mask)
        session = _dense(view.session[kept])
        speaker, speakers = _renamed(view.speaker[kept], view.speakers)
        previous, following = neighbours(session)
        return Columns(
            view=View(
                refs=[view.refs[row] for row in kept.tolist()],
                session=session, previous=previous, following=following, speaker=speaker, speakers=speakers,
                flags=view.flags[kept], event_us=view.event_us[kept], length=view.length[kept],
                vectors=view.vectors[kept],
            ),
            cube=self.cube[kept], version=self.version[kept], expires=self.expires[kept],
            valid_from=self.valid_from[kept], valid_to=self.valid_to[kept],
        )  # fmt: skip


class Growth:
    """Rows in the order (created, id) as arrays with room to grow."""

    def __init__(self, dimension: int, rows: Iterable[Row] = ()) -> None:
        self._dimension = dimension
        self._count = 0
        self._refs: list[VersionRef] = []
        self._sessions: dict[tuple[object, ...], int] = {}
        self._speakers: dict[object, int] = {}
        self._arrays: dict[str, NDArray[Any]] = {name: np.empty(0, kind) for name, kind in _NUMBERS.items()}
        self._vectors = np.empty((0, dimension), np.float32)
        self.append(sorted(rows, key=row_order))

    def __len__(self) -> int:
        return self._count

    def cubes(self) -> NDArray[np.int64]:
        """Numbers of the cubes, in row order."""
        return self._arrays["cube"][: self._count]

    def versions(self) -> NDArray[np.int64]:
        """Numbers of the versions, in row order."""
        return self._arrays["version"][: self._count]

    def fits_behind(self, rows: Sequence[Row]) -> bool:
        """Whether sorted `rows` all come after the last row."""
        if not self._count or not rows:
            return True
        last = int(self._arrays["created"][self._count - 1]), self._refs[-1].cube_id
        return last < row_order(rows[0])

    def append(self, rows: Sequence[Row]) -> None:
        """Add sorted rows that come after the last one. Costs what the rows cost, and a copy each time room doubles."""
        if not rows:
            return
        start, end = self._count, self._count + len(rows)
        self._reserve(end)
        ids, numbers, users, agents, sessions, names, flags, events, lengths, packed, *times = zip(*rows, strict=True)
        self._refs = [*self._refs, *map(VersionRef, cast("Iterable[str]", ids), cast("Iterable[int]", numbers))]
        room = self._arrays
        owners = zip(users, agents, sessions, strict=True)
        room["session"][start:end] = [
            -1 if not owner[2] else self._sessions.setdefault(owner, len(self._sessions)) for owner in owners
        ]
        room["speaker"][start:end] = [
            -1 if name is None else self._speakers.setdefault(name, len(self._speakers)) for name in names
        ]
        room["flags"][start:end], room["event_us"][start:end], room["length"][start:end] = flags, events, lengths
        cubes, versions, created, expires, valid_from, valid_to = times
        room["cube"][start:end], room["version"][start:end], room["created"][start:end] = cubes, versions, created
        room["expires"][start:end] = [NEVER if value is None else value for value in expires]
        room["valid_from"][start:end] = [ALWAYS if value is None else value for value in valid_from]
        room["valid_to"][start:end] = [NEVER if value is None else value for value in valid_to]
        self._vectors[start:end] = unpack_vectors(cast("Sequence[bytes | None]", packed), self._dimension)
        self._count = end

    def patched(self, cubes: Sequence[int], rows: Sequence[Row]) -> Growth:
        """A copy without the rows of `cubes` and with `rows`. Costs a copy of everything."""
        kept = np.flatnonzero(~np.isin(self.cubes(), np.array(cubes, np.int64)))
        copy = Growth(self._dimension)
        copy._count = len(kept)
        copy._refs = [self._refs[row] for row in kept.tolist()]
        copy._arrays = {name: column[kept] for name, column in self._arrays.items()}
        copy._vectors = self._vectors[kept]
        copy._sessions, copy._speakers = dict(self._sessions), dict(self._speakers)
        fresh = sorted(rows, key=row_order)
        copy_fits = copy.fits_behind(fresh)
        copy.append(fresh)
        if not copy_fits:
            copy._sort()
        copy._renumber()
        return copy

    def columns(self) -> Columns:
        """The rows so far. Appending later does not change what is returned."""
        end, room = self._count, self._arrays
        session = room["session"][:end]
        previous, following = neighbours(session)
        return Columns(
            view=View(
                refs=self._refs, session=session, previous=previous, following=following,
                speaker=room["speaker"][:end], speakers=tuple(cast("Iterable[str]", self._speakers)),
                flags=room["flags"][:end], event_us=room["event_us"][:end], length=room["length"][:end],
                vectors=self._vectors[:end],
            ),
            cube=room["cube"][:end], version=room["version"][:end], expires=room["expires"][:end],
            valid_from=room["valid_from"][:end], valid_to=room["valid_to"][:end],
        )  # fmt: skip

    def _reserve(self, count: int) -> None:
        size = len(self._arrays["cube"])
        if count <= size:
            return
        size = max(count, size + size // 2)
        for name, column in self._arrays.items():
            self._arrays[name] = _wider(column, size, self._count)
        self._vectors = _wider(self._vectors, size, self._count)

    def _sort(self) -> None:
        created = self._arrays["created"][: self._count].tolist()
        order = sorted(range(self._count), key=lambda row: (created[row], self._refs[row].cube_id))
        self._refs = [self._refs[row] for row in order]
        self._arrays = {name: column[: self._count][order] for name, column in self._arrays.items()}
        self._vectors = self._vectors[: self._count][order]

    def _renumber(self) -> None:
        """Forget sessions and speakers that no row has any more, and number the others by first appearance."""
        room, end = self._arrays, self._count
        numbers = _first_seen(room["session"][:end])
        owners = list(self._sessions)
        self._sessions = {owners[number]: place for place, number in enumerate(numbers)}
        room["session"][:end] = _dense(room["session"][:end])
        room["speaker"][:end], names = _renamed(room["speaker"][:end], tuple(cast("Iterable[str]", self._speakers)))
        self._speakers = {name: place for place, name in enumerate(names)}


def _wider(column: NDArray[Number], size: int, count: int) -> NDArray[Number]:
    room = np.empty((size, *column.shape[1:]), column.dtype)
    room[:count] = column[:count]
    return room


def _first_seen(numbers: NDArray[np.int32]) -> list[int]:
    """The numbers that occur, -1 apart, in the order in which they first do."""
    found, first = np.unique(numbers, return_index=True)
    ordered = found[np.argsort(first, kind="stable")]
    return [int(number) for number in ordered if number >= 0]


def _dense(numbers: NDArray[np.int32]) -> NDArray[np.int32]:
    seen = _first_seen(numbers)
    table = np.full(max(seen, default=-1) + 2, -1, np.int32)  # the last place answers for -1
    table[seen] = np.arange(len(seen), dtype=np.int32)
    dense: NDArray[np.int32] = table[numbers]
    return dense


def _renamed(numbers: NDArray[np.int32], names: tuple[str, ...]) -> tuple[NDArray[np.int32], tuple[str, ...]]:
    return _dense(numbers), tuple(names[number] for number in _first_seen(numbers))
