"""Duplicates: a commit as it reads once writes that found their equal are uses of what is there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from memos_agents.cube.memcube import VersionRef
from memos_agents.infrastructure.provenance.values import Derivation, Relation
from memos_agents.infrastructure.vault.commit import Commit


def redirect(commit: Commit, merged: Mapping[str, VersionRef]) -> Commit:
    """`commit` without the writes of new cubes in `merged`, which maps their ids to the existing cubes' heads.

    What named a never-made cube names the existing one: as a source of derivations its head, so that a cascade still
    finds the edge. Derivations *of* it are dropped (the existing cube has its own), and relations that would join a
    cube with itself. Of several relations with the same ends and kind the last one is kept.
    """
    if not merged and len(commit.relations) < 2:
        return commit
    if not merged:
        return replace(commit, relations=_last_of_each(commit.relations))
    return replace(
        commit,
        writes=tuple(write for write in commit.writes if write.replaces is not None or write.cube.id not in merged),
        derivations=tuple(dict.fromkeys(_derivations(commit.derivations, merged))),
        relations=_last_of_each(_relations(commit.relations, merged)),
        unrelations=tuple(_relations(commit.unrelations, merged)),
    )


def _derivations(derivations: Iterable[Derivation], merged: Mapping[str, VersionRef]) -> Iterator[Derivation]:
    for derivation in derivations:
        derived, source = derivation.derived, derivation.source
        if derived.cube_id in merged:
            continue
        if isinstance(source, VersionRef) and source.cube_id in merged:
            found = merged[source.cube_id]
            if found.cube_id != derived.cube_id:
                yield replace(derivation, source=found)
        else:
            yield derivation


def _relations(relations: Iterable[Relation], merged: Mapping[str, VersionRef]) -> Iterator[Relation]:
    for relation in relations:
        source_id, target_id = relation.source_id, relation.target_id
        if source_id in merged or target_id in merged:
            source_id = merged[source_id].cube_id if source_id in merged else source_id
            target_id = merged[target_id].cube_id if target_id in merged else target_id
            if source_id != target_id:
                yield replace(relation, source_id=source_id, target_id=target_id)
        else:
            yield relation


def _last_of_each(relations: Iterable[Relation]) -> tuple[Relation, ...]:
    last = {(relation.source_id, relation.kind, relation.target_id): relation for relation in relations}
    return tuple(last.values())
