"""Leases: the right to do one named thing for a while, with a token that grows so that a late holder is noticed."""

from __future__ import annotations

import math
import sqlite3
from datetime import datetime

from memos_agents.cube.moment import from_microseconds, to_microseconds, utc
from memos_agents.errors import BackendUnavailable, InvalidRequest, VersionConflict
from memos_agents.infrastructure.vault.commit import Lease
from memos_agents.infrastructure.vault.sqlite.names import Names


def acquire(
    connection: sqlite3.Connection, names: Names, name: str, owner: str, seconds: float, now: datetime
) -> Lease:
    """Take or renew a lease; `BackendUnavailable` while another owner holds it."""
    if not (math.isfinite(seconds) and seconds > 0):
        raise InvalidRequest(f"a lease of {seconds!r} seconds ends before it begins")
    now_us = to_microseconds(utc(now, what="now"))
    expires_us = now_us + round(seconds * 1_000_000)
    tenant = names.tail(connection).tenant
    row = connection.execute(
        "SELECT owner, token, expires_us FROM lease WHERE tenant=? AND name=?", (tenant, name)
    ).fetchone()
    holder, token, until_us = row or (owner, 0, now_us)
    if now_us < until_us and holder != owner:
        until = from_microseconds(until_us).isoformat()
        raise BackendUnavailable(f"the lease {name!r} is held by another owner until {until}")
    if now_us >= until_us:
        token += 1
    connection.execute(
        "INSERT OR REPLACE INTO lease(tenant, name, owner, token, expires_us) VALUES(?,?,?,?,?)",
        (tenant, name, owner, token, expires_us),
    )
    return Lease(name=name, owner=owner, token=token, expires_at=from_microseconds(expires_us))


def release(connection: sqlite3.Connection, names: Names, lease: Lease) -> None:
    """Give it back. The row stays, so that the next token is a greater one."""
    connection.execute(
        "UPDATE lease SET expires_us=? WHERE tenant=? AND name=? AND owner=? AND token=?",
        (-(2**62), names.tail(connection).tenant, lease.name, lease.owner, lease.token),
    )


def check(connection: sqlite3.Connection, tenant: int, lease: Lease, now_us: int) -> None:
    """Raise `VersionConflict` unless `lease` is still held."""
    row = connection.execute(
        "SELECT owner, token, expires_us FROM lease WHERE tenant=? AND name=?", (tenant, lease.name)
    ).fetchone()
    if row is None or (row[0], row[1]) != (lease.owner, lease.token) or row[2] <= now_us:
        raise VersionConflict(
            f"the lease {lease.name!r} of {lease.owner!r} is no longer held; take it again and retry", lease=lease.name
        )
