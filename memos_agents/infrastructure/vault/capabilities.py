"""Capabilities that a copy between vaults asks for: the records of some cubes, and reads that share one moment.

`memos_agents.testing.vault_records_of_laws.RecordsOfLaws` is the contract as tests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from memos_agents.cube.memcube import VersionRef
from memos_agents.cube.scope import Scope
from memos_agents.infrastructure.provenance.graph import ProvenanceGraph
from memos_agents.infrastructure.vault.base import Direction, Record, SearchView, ViewQuery
from memos_agents.infrastructure.vault.changes import Changes, Position
from memos_agents.infrastructure.vault.commit import Commit, CommitResult

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@runtime_checkable
class SupportsRecordsOf(Protocol):
    """Gives a store out in parts that can each be restored by themselves."""

    def cube_ids(self, scope: Scope, *, limit: int, after: str | None = None) -> list[str]:
        """Ids of the cubes in the scope, rising (by code point), those after `after`, `limit` at most.

        Every cube counts: hidden, stale, expired and erased ones too. No body is read.
        """
        ...

    def records_of(self, cube_ids: Sequence[str], scope: Scope) -> Iterator[Record]:
        """The lines of `records(scope)` that a load of these cubes needs: equal, each once, in the same order.

        *Own* lines, of each cube named that `scope` admits (other ids are passed over; an id may stand twice):

        - its cube line, its version lines and their vector lines;
        - the derivations whose `derived` is one of its versions;
        - the relations between it and a cube with a *smaller* id, whichever of the two is the relation's source.

        So over any partition of a scope's cubes every line of these kinds is an own line in exactly one part, and a hub
        that everybody relates to does not pull everybody into one part.

        *Context*: the cube line and the version lines of every other cube that an own line names, without vectors,
        derivations or relations of their own; and the source and activity lines that any of these lines names (through
        `activity`, `ended_by` or `source`). Nothing else.

        All of it is of one moment, and any vault's `restore` takes it: context that is there and equal is skipped.
        Costs time by the lines told, not by the size of the store; version bodies and vectors are read one at a time.
        """
        ...


class Moment(Protocol):
    """What a copy reads. A vault that supports records and records of cubes is one, of a moment that moves."""

    def cube_ids(self, scope: Scope, *, limit: int, after: str | None = None) -> list[str]:
        """See `SupportsRecordsOf`."""
        ...

    def records(self, scope: Scope) -> Iterator[Record]:
        """See `SupportsRecords`."""
        ...

    def records_of(self, cube_ids: Sequence[str], scope: Scope) -> Iterator[Record]:
        """See `SupportsRecordsOf`."""
        ...

    def lineage(self, ref: VersionRef, direction: Direction, depth: int | None, scope: Scope) -> ProvenanceGraph:
        """See `MemVault`."""
        ...


@runtime_checkable
class SupportsMoments(Protocol):
    """Can hold one moment while others write."""

    def moment(self) -> AbstractContextManager[Moment]:
        """Reads of the store as it is now, for as long as the context lasts; writers go on meanwhile."""
        ...


@runtime_checkable
class SupportsChanges(Protocol):
    """Tells what changed since a position of its log, so that something else can follow it."""

    def changes(self, after: Position, limit: int) -> Changes | None:
        """The next changes, of `limit` commits at most (fewer if they touch thousands of cubes); None if none are left.

        Writers never wait. Costs time by what is told. Raises `VersionConflict` if `after` is not a position of this
        store's history, as when it was restored from a backup.
        """
        ...


@runtime_checkable
class SupportsMirroring(Protocol):
    """Can follow another store. As long as it does, it refuses commits of its own."""

    def mirror(self, changes: Changes, source_id: str) -> bool:
        """Take a batch and its position in one transaction; False if it was taken before, which changes nothing.

        Raises `VersionConflict` if the batch does not begin where the mirror stands, `InvalidRequest` if it is of
        another store or the tenant holds memories of its own.
        """
        ...

    def mirror_position(self) -> tuple[str, Position] | None:
        """Whose mirror this is, and how far it got; None if it is none."""
        ...

    def unmirror(self, at: Position, commit: Commit) -> CommitResult:
        """Become an ordinary store whose log goes on with `commit`, which holds an activity and nothing else.

        Raises `VersionConflict` if the mirror does not stand at `at`, `InvalidRequest` if it is none.
        """
        ...

    def drop_payloads(self, names: Sequence[str]) -> None:
        """Forget payload files that were put for a batch which was not taken, unless a version names them."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """What a ranker asks about a whole scope when it gets only some of its rows; estimates, taken within the scope."""

    rows: int
    """How many rows the scope has."""
    mean_length: float
    """Average number of index terms."""
    typical_length: float
    """Geometric mean of the same (of 1 + terms, less 1)."""
    holders: Mapping[str, int]
    """For each term asked about: how many rows hold it; 0 if nobody seems to."""
    speakers: Mapping[str, float]
    """The share of rows that each speaker said."""


@runtime_checkable
class PartialView(SearchView, Protocol):
    """Some rows of a scope: those that may answer, and their neighbours in the session.

    `View.previous` and `following` name a row only if it really is the next one. Document frequencies and lengths of
    these rows say nothing about the scope, because they were chosen for their words: ask `statistics`.
    """

    def statistics(self, terms: Iterable[str]) -> Statistics: ...


@runtime_checkable
class SupportsCandidates(Protocol):
    """Lets its server choose what a ranker looks at, where a scope is too large to look at everything."""

    def candidates(
        self,
        query: ViewQuery,
        terms: Sequence[str],
        embed: Callable[[Statistics], NDArray[np.float32]] | None,
        limit: int,
    ) -> PartialView | None:
        """The rows of `query` most like the question, about `limit` of them, and their neighbours.

        `terms` are the question's (`text.query_terms`); `embed` gives its vector, given what is common in the scope,
        and is called only if there is use for it. None where `search_view` is the better answer: a small scope, a
        question about the past, indexes that are still being built. Nothing is missing because an index is behind: rows
        that it does not hold yet are among those returned.

        Raises `IncompatibleModel` if the vector does not fit the space, `NotFound` if there is no such space.
        """
        ...
