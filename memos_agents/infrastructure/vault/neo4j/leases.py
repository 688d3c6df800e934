"""Leases: the right to do one named thing for a while, with a token that grows so that a late holder is noticed."""

from __future__ import annotations

import math
from datetime import datetime

from memos_agents.cube.moment import from_microseconds, to_microseconds, utc
from memos_agents.errors import BackendUnavailable, InvalidRequest
from memos_agents.infrastructure.vault.commit import Lease
from memos_agents.infrastructure.vault.neo4j import cypher_beside
from memos_agents.infrastructure.vault.neo4j.link import Tx

_ENDED_US = -(2**62)


def acquire(tx: Tx, name: str, owner: str, seconds: float, now: datetime) -> Lease:
    """Take or renew a lease; `BackendUnavailable` while another owner holds it."""
    if not (math.isfinite(seconds) and seconds > 0):
        raise InvalidRequest(f"a lease of {seconds!r} seconds ends before it begins")
    now_us = to_microseconds(utc(now, what="now"))
    expires_us = now_us + round(seconds * 1_000_000)
    tx.run(cypher_beside.ENTER, op=tx.op)
    holder, token, until_us = tx.one(cypher_beside.GET_LEASE, name=name) or (owner, 0, now_us)
    if now_us < until_us and holder != owner:
        until = from_microseconds(until_us).isoformat()
        raise BackendUnavailable(f"the lease {name!r} is held by another owner until {until}")
    if now_us >= until_us:
        token += 1
    tx.run(cypher_beside.SET_LEASE, name=name, owner=owner, token=token, expires_us=expires_us)
    return Lease(name=name, owner=owner, token=token, expires_at=from_microseconds(expires_us))


def release(tx: Tx, lease: Lease) -> None:
    """Give it back. The node stays, so that the next token is a greater one."""
    tx.run(cypher_beside.END_LEASE, name=lease.name, owner=lease.owner, token=lease.token, expires_us=_ENDED_US)
