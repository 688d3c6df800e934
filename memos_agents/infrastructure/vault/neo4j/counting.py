"""Counting what a scope holds."""

from __future__ import annotations

from collections import Counter

from memos_agents.cube.scope import Scope
from memos_agents.cube.state import MemoryState
from memos_agents.infrastructure.vault.base import VaultStats
from memos_agents.infrastructure.vault.neo4j import cypher_reading as cypher
from memos_agents.infrastructure.vault.neo4j import spaces
from memos_agents.infrastructure.vault.neo4j.link import Tx
from memos_agents.infrastructure.vault.neo4j.reading import Reader, owner_of, owners_of


def count(tx: Tx, reader: Reader, scope: Scope, blob_bytes: int | None) -> VaultStats:
    """Counts over the scope; looks at every cube of it.

    `size_bytes`, only of the whole tenant, counts the characters of all bodies: a lower bound, because a server does
    not tell which part of its files a tenant takes.
    """
    by_state: Counter[str] = Counter()
    by_type: Counter[str] = Counter()
    cubes = versions = stale = uses = relations = 0
    if reader.is_ours(scope):
        owner, owners = owner_of(scope), owners_of(scope)
        for state, kind, heads, all_versions, all_stale, all_uses in tx.rows(cypher.COUNT_CUBES[owner], **owners):
            by_state[state] += heads
            if state == MemoryState.ERASED:
                continue
            by_type[kind] += heads
            cubes, versions, stale, uses = cubes + heads, versions + all_versions, stale + all_stale, uses + all_uses
        counted = tx.one(cypher.COUNT_RELATIONS[owner], **owners)
        relations = counted[0] if counted else 0
    is_whole = scope.is_everything and reader.is_ours(scope)
    commits, is_pending, size = (is_whole and tx.one(cypher.COUNT_TENANT)) or (0, False, 0)
    return VaultStats(
        cubes=cubes,
        versions=versions,
        by_state=dict(by_state),
        by_type=dict(by_type),
        relations=relations,
        stale=stale,
        uses=uses,
        commits=commits if is_whole else None,
        size_bytes=size if is_whole else None,
        blob_bytes=blob_bytes if is_whole else None,
        spaces=tuple(numbered.space for numbered in spaces.known(tx)),
        pending_scrubs=int(is_pending) if is_whole else 0,
    )
