"""Purging: everything of one tenant leaves the database, thousands of nodes in a transaction."""

from __future__ import annotations

from memos_agents.errors import InvalidRequest, VersionConflict
from memos_agents.infrastructure.vault.neo4j import cypher_routing as cypher
from memos_agents.infrastructure.vault.neo4j.checks import ON_ITS_WAY
from memos_agents.infrastructure.vault.neo4j.link import Link

GONE = "gone"
"""Seals a tenant that is being deleted for good."""


def purge(link: Link, mark: str) -> None:
    """Delete everything of the tenant, which must be sealed with `mark`, but for the sealed node itself.

    The seal stays, so that clients that still know this place are refused. Can be interrupted and called again. Costs
    about 10,000 nodes a second. Raises `InvalidRequest` if the tenant is not sealed with `mark`.
    """
    row = link.read(lambda tx: tx.one(cypher.SEALED_BY), whole=False)
    if row is None:
        return
    if row[0] != mark:
        raise InvalidRequest(f"tenant {link.tenant!r} is in use; only one that was sealed for it can be purged")
    for statement in cypher.PURGE:
        link.autocommit(statement)
    link.write(lambda tx: tx.run(cypher.LEAVE))


def purge_for_good(link: Link) -> None:
    """Delete the tenant as if it had never been. No memory of it can be read again; take a copy before.

    A mirror can be purged too, its source is untouched; stop its follower first. Whoever has the tenant open is refused
    while this runs, and begins an empty one afterwards. Raises `InvalidRequest` for a tenant that is moving.
    """
    row = link.read(lambda tx: tx.one(cypher.SEALED_BY), whole=False)
    if row is None:
        return
    was = row[0]
    if was is not None and was != GONE and was.startswith(ON_ITS_WAY):
        raise InvalidRequest(f"tenant {link.tenant!r} is moving; finish or abandon the move")
    if was in (None, GONE):
        sealed = link.write(lambda tx: tx.one(cypher.SEAL, op=tx.op, mark=GONE))
    else:
        sealed = link.write(lambda tx: tx.one(cypher.RESEAL, op=tx.op, was=was, mark=GONE))
    if sealed is None:
        raise VersionConflict(f"somebody else sealed tenant {link.tenant!r} meanwhile; try again")
    purge(link, GONE)
    link.write(lambda tx: tx.run(cypher.FORGET))
