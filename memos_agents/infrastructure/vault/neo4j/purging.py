"""Purging: everything of one tenant leaves the database, thousands of nodes in a transaction."""

from __future__ import annotations

from memos_agents.errors import InvalidRequest
from memos_agents.infrastructure.vault.neo4j import cypher_routing as cypher
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

    Whoever has it open is refused while this runs, and begins an empty tenant afterwards.
    """
    sealed = link.write(lambda tx: tx.one(cypher.SEAL, op=tx.op, mark=GONE))
    if sealed is None:
        row = link.read(lambda tx: tx.one(cypher.SEALED_BY), whole=False)
        if row is None:
            return
        raise InvalidRequest(f"tenant {link.tenant!r} mirrors another store or is moving; end that first")
    purge(link, GONE)
    link.write(lambda tx: tx.run(cypher.FORGET))
