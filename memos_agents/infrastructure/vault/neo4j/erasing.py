"""Erasing: cubes and whatever was derived from them lose everything but ids, hashes and times."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from memos_agents.cube.memcube import VersionRef
from memos_agents.infrastructure.vault import chain
from memos_agents.infrastructure.vault.blobs import BlobStore
from memos_agents.infrastructure.vault.commit import Tombstone
from memos_agents.infrastructure.vault.neo4j import cypher, cypher_beside
from memos_agents.infrastructure.vault.neo4j.blobs import GraphBlobs
from memos_agents.infrastructure.vault.neo4j.link import Link, Tx
from memos_agents.infrastructure.vault.neo4j.working import Draft

AT_ONCE = 2_000


@dataclass(frozen=True, slots=True)
class Erased:
    """What an erasure took."""

    tombstones: tuple[Tombstone, ...]
    refs: set[VersionRef]


def erase(tx: Tx, activity: str, named: Sequence[str], draft: Draft) -> Erased:
    """Erase the cubes `named` and every cube of which any version derives from any version of theirs.

    Comes after everything else that the commit writes, so that what it made from them goes too. Adds to `draft` what
    the log has to say about it.
    """
    roots = set(named)
    doomed = list(dict.fromkeys([*named, *_below(tx, list(roots))]))
    tombstones: list[Tombstone] = []
    for start in range(0, len(doomed), AT_ONCE):
        ids = doomed[start : start + AT_ONCE]
        for cube_id, number, digest in tx.rows(cypher.VERSIONS_OF, ids=ids):
            stone = Tombstone(ref=VersionRef(cube_id, number), content_hash=digest, is_derived=cube_id not in roots)
            tombstones.append(stone)
        for source, kind, target in tx.rows(cypher.CLOSE_RELATIONS, ids=ids, activity=activity, at_us=draft.at_us):
            draft.effects.append(chain.unrelated(source, kind, target))
            draft.touched.update((source, target))
        tx.run(cypher.DOOM_BLOBS, ids=ids)
        tx.run(cypher.ERASE_CUBES, ids=ids, activity=activity, at_us=draft.at_us)
    for start in range(0, len(doomed), AT_ONCE):  # a source goes with the last of its versions
        tx.run(cypher.BLANK_SOURCES, ids=doomed[start : start + AT_ONCE])
    tombstones.sort(key=lambda stone: stone.ref)
    draft.effects.extend(chain.erased(str(stone.ref), stone.content_hash) for stone in tombstones)
    draft.touched.update(doomed)
    draft.changes["erased"] = list(dict.fromkeys(stone.ref.cube_id for stone in tombstones))
    draft.changes["derived"] = [list(stone.ref) for stone in tombstones if stone.is_derived]
    return Erased(tuple(tombstones), {stone.ref for stone in tombstones})


def _below(tx: Tx, frontier: list[str]) -> list[str]:
    """Cubes derived from these, at any distance, that are not erased yet."""
    seen = set(frontier)
    found: list[str] = []
    while frontier:
        following: list[str] = []
        for start in range(0, len(frontier), AT_ONCE):
            for (cube_id,) in tx.rows(cypher.CUBES_BELOW, ids=frontier[start : start + AT_ONCE]):
                if cube_id not in seen:
                    seen.add(cube_id)
                    following.append(cube_id)
        found.extend(following)
        frontier = following
    return found


def delete_doomed_blobs(link: Link, blobs: BlobStore) -> None:
    """Delete payload bytes that nothing names any more, under the tenant's lock, so that nobody names them meanwhile.

    Never in the transaction that erases: if that fell through, cubes would be back without their payloads.
    """
    if not link.read(lambda tx: tx.rows(cypher.DOOMED), whole=False):
        return

    def forget(tx: Tx) -> None:
        tx.run(cypher_beside.ENTER, op=tx.op)
        rows = tx.rows(cypher.DOOMED)
        spared = [name for name, is_named in rows if is_named]
        gone = [name for name, is_named in rows if not is_named]
        tx.run(cypher.SPARE_BLOBS, names=spared)
        tx.run(cypher.FORGET_BLOBS, names=gone)
        if not isinstance(blobs, GraphBlobs):  # those went with their node
            shared = {name for (name,) in tx.rows(cypher.NAMED_ELSEWHERE, names=gone)}
            blobs.delete([name for name in gone if name not in shared])

    link.write(forget)
