"""Names and their rowids: tenants, users, agents and sessions, cached because they never change; vector spaces."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from memos_agents.cube.scope import Scope
from memos_agents.errors import NotFound
from memos_agents.infrastructure.vault.chain import GENESIS
from memos_agents.infrastructure.vault.sqlite.schema import AGENT, SESSION, USER

UNKNOWN = -1
"""A rowid that no row has: a name that was never stored matches nothing."""


@dataclass(slots=True)
class Tail:
    """The tenant's rowid, the last log entry, and the last rowids given to cubes, versions and activities."""

    tenant: int
    seq: int
    at_us: int | None
    chain: bytes
    cube: int
    version: int
    activity: int
    has_moved: bool = False


class Names:
    """Looks up one tenant's names. `forget` after a rollback: cached rows may be gone."""

    def __init__(self, tenant: str) -> None:
        self._tenant_name = tenant
        self._tenant: int | None = None
        self._tail: Tail | None = None
        self._rids: dict[tuple[int, str], int] = {}
        self._values: dict[int, str] = {}
        self._scopes: dict[tuple[int, int, int], Scope] = {}

    def forget(self) -> None:
        self._tenant = self._tail = None
        self._rids, self._values, self._scopes = {}, {}, {}

    def tenant(self, connection: sqlite3.Connection) -> int:
        """The tenant's rowid; `UNKNOWN` before its first commit."""
        known = self._tenant
        if known is None:
            row = connection.execute("SELECT rid FROM tenant WHERE name=?", (self._tenant_name,)).fetchone()
            if row is None:
                return UNKNOWN
            self._tenant = known = int(row[0])
        return known

    @property
    def tenant_name(self) -> str:
        return self._tenant_name

    def begin(self) -> None:
        """A write transaction has begun: nothing is known of the log's end."""
        self._tail = None

    def tail(self, connection: sqlite3.Connection) -> Tail:
        """The end of the log in the present write transaction; makes the tenant if it is new.

        Read once for a group of commits, moved on by each of them, and stored by `store_tail` before they are durable.
        """
        if self._tail is None:
            row = connection.execute(
                "SELECT rid, seq, at_us, chain, (SELECT coalesce(max(rid), 0) FROM cube), "
                "(SELECT coalesce(max(rid), 0) FROM version), (SELECT coalesce(max(rid), 0) FROM activity) "
                "FROM tenant WHERE name=?",
                (self._tenant_name,),
            ).fetchone()
            if row is None:
                connection.execute("INSERT INTO tenant(name, chain) VALUES(?,?)", (self._tenant_name, GENESIS))
                return self.tail(connection)
            self._tail = Tail(*row)
            self._tenant = self._tail.tenant
        return self._tail

    def store_tail(self, connection: sqlite3.Connection) -> None:
        """Write where the log ends now, if it moved."""
        tail = self._tail
        if tail is not None and tail.has_moved:
            connection.execute(
                "UPDATE tenant SET seq=?, at_us=?, chain=? WHERE rid=?", (tail.seq, tail.at_us, tail.chain, tail.tenant)
            )
            tail.has_moved = False

    def scope_rids(self, connection: sqlite3.Connection, scope: Scope, *, make: bool = False) -> tuple[int, int, int]:
        """Rowids of user, agent and session; 0 for an unbound one, `UNKNOWN` for a name never stored."""
        return (
            self._rid(connection, USER, scope.user_id, make=make),
            self._rid(connection, AGENT, scope.agent_id, make=make),
            self._rid(connection, SESSION, scope.session_id, make=make),
        )

    def scope(self, connection: sqlite3.Connection, user: int, agent: int, session: int) -> Scope:
        """Inverse of `scope_rids`."""
        key = (user, agent, session)
        found = self._scopes.get(key)
        if found is None:
            found = Scope(
                tenant=self._tenant_name,
                user_id=self._value(connection, user),
                agent_id=self._value(connection, agent),
                session_id=self._value(connection, session),
            )
            self._scopes[key] = found
        return found

    def space(self, connection: sqlite3.Connection, fingerprint: str) -> tuple[int, int]:
        """(rowid, dimension) of a vector space; `NotFound` if it is not there. Never cached: spaces can be dropped."""
        found = connection.execute(
            "SELECT rid, dimension FROM space WHERE tenant=? AND fingerprint=?", (self.tenant(connection), fingerprint)
        ).fetchone()
        if found is None:
            raise NotFound(f"there is no vector space {fingerprint!r} in this store; open it first")
        return int(found[0]), int(found[1])

    def _rid(self, connection: sqlite3.Connection, field: int, value: str | None, *, make: bool) -> int:
        if value is None:
            return 0
        rid = self._rids.get((field, value))
        if rid is not None:
            return rid
        row = connection.execute(
            "SELECT rid FROM name WHERE tenant=? AND field=? AND value=?", (self.tenant(connection), field, value)
        ).fetchone()
        if row is None:
            if not make:
                return UNKNOWN
            row = connection.execute(
                "INSERT INTO name(tenant, field, value) VALUES(?,?,?) RETURNING rid",
                (self.tenant(connection), field, value),
            ).fetchone()
        rid = int(row[0])
        self._rids[field, value] = rid
        return rid

    def _value(self, connection: sqlite3.Connection, rid: int) -> str | None:
        if rid == 0:
            return None
        value = self._values.get(rid)
        if value is None:
            (value,) = connection.execute("SELECT value FROM name WHERE rid=?", (rid,)).fetchone()
            self._values[rid] = value
        return value
