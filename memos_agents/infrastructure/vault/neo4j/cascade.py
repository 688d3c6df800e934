"""What follows when a version ends: everything derived from it, at any distance, is stale.

Walked frontier by frontier, because a variable-length pattern enumerates paths, of which a graph with joins has
exponentially many. Each step marks and gives the next frontier in one statement.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from memos_agents.cube.memcube import VersionRef
from memos_agents.infrastructure.vault.neo4j import cypher
from memos_agents.infrastructure.vault.neo4j.checks import refs_of
from memos_agents.infrastructure.vault.neo4j.link import Tx
from memos_agents.infrastructure.vault.neo4j.working import Draft

AT_ONCE = 10_000


class Cascade:
    """Settles what is stale at the end of one commit, when its versions and derivations are written."""

    def __init__(self, tx: Tx) -> None:
        self._tx = tx

    def settle(self, draft: Draft) -> set[VersionRef]:
        """Returns the versions that are stale and were not before."""
        stale: set[VersionRef] = set()
        if draft.superseded or draft.ends:
            stale.update(self.mark([*draft.superseded, *draft.ends]))
        if draft.edges and not draft.is_settled:
            stale.update(self._mark_new(list(dict.fromkeys(derived for derived, _, _ in draft.edges))))
        if draft.lifts:
            stale -= self._judge_below(draft.lifts)
        return stale

    def mark(self, ended: Sequence[VersionRef]) -> list[VersionRef]:
        """Mark everything below these versions; returns those newly marked."""
        marked: list[VersionRef] = []
        frontier: list[str] = []
        for start in range(0, len(ended), AT_ONCE):
            rows = self._tx.rows(cypher.MARK_BELOW, refs=refs_of(ended[start : start + AT_ONCE]))
            frontier.extend(row[0] for row in rows)
            marked.extend(VersionRef(row[1], row[2]) for row in rows)
        while frontier:
            following: list[str] = []
            for start in range(0, len(frontier), AT_ONCE):
                rows = self._tx.rows(cypher.MARK_ON, frontier=frontier[start : start + AT_ONCE])
                following.extend(row[0] for row in rows)
                marked.extend(VersionRef(row[1], row[2]) for row in rows)
            frontier = following
        return marked

    def _mark_new(self, refs: Sequence[VersionRef]) -> set[VersionRef]:
        """Mark those of the new versions that come from something ended or stale, or from one so marked."""
        origins = self._origins(refs)
        stale = _spread(refs, origins, lambda source, is_stale: is_stale)
        self._set(stale, is_stale=True)
        return stale

    def _judge_below(self, lifted: Sequence[VersionRef]) -> set[VersionRef]:
        """Judge everything below anew, because one of its origins is believed again; returns what is fresh now."""
        below: dict[VersionRef, bool] = {}
        frontier = list(lifted)
        while frontier:
            following: list[VersionRef] = []
            for start in range(0, len(frontier), AT_ONCE):
                for cube_id, number, was_stale, is_living in self._tx.rows(
                    cypher.FIND_BELOW, refs=refs_of(frontier[start : start + AT_ONCE])
                ):
                    ref = VersionRef(cube_id, number)
                    if is_living and ref not in below:
                        below[ref] = was_stale
                        following.append(ref)
            frontier = following
        origins = self._origins(list(below))
        stale = _spread(below, origins, lambda source, is_stale: is_stale and source not in below)
        self._set({ref for ref in stale if not below[ref]}, is_stale=True)
        fresh = below.keys() - stale
        self._set({ref for ref in fresh if below[ref]}, is_stale=False)
        return set(fresh)

    def _origins(self, refs: Sequence[VersionRef]) -> dict[VersionRef, list[tuple[VersionRef, bool, bool]]]:
        """For each version its direct sources: which, whether they have ended, whether they are stale."""
        found: dict[VersionRef, list[tuple[VersionRef, bool, bool]]] = {}
        for start in range(0, len(refs), AT_ONCE):
            rows = self._tx.rows(cypher.ORIGINS, refs=refs_of(refs[start : start + AT_ONCE]))
            for cube_id, number, source_id, source_number, is_ended, is_stale in rows:
                source = VersionRef(source_id, source_number), bool(is_ended), bool(is_stale)
                found.setdefault(VersionRef(cube_id, number), []).append(source)
        return found

    def _set(self, refs: set[VersionRef], *, is_stale: bool) -> None:
        ordered = sorted(refs)
        for start in range(0, len(ordered), AT_ONCE):
            self._tx.run(cypher.SET_STALE, rows=[[*ref, is_stale] for ref in ordered[start : start + AT_ONCE]])


def _spread(
    judged: Iterable[VersionRef],
    origins: Mapping[VersionRef, Sequence[tuple[VersionRef, bool, bool]]],
    counts: Callable[[VersionRef, bool], bool],
) -> set[VersionRef]:
    """Which of `judged` are stale: those with an origin that has ended, or that `counts` as stale, or is found so."""
    stale: set[VersionRef] = set()
    waiting: dict[VersionRef, list[VersionRef]] = {}
    found: list[VersionRef] = []
    for ref in judged:
        for source, is_ended, is_stale in origins.get(ref, ()):
            waiting.setdefault(source, []).append(ref)
            if is_ended or counts(source, is_stale):
                found.append(ref)
    while found:
        ref = found.pop()
        if ref not in stale:
            stale.add(ref)
            found.extend(waiting.get(ref, ()))
    return stale
