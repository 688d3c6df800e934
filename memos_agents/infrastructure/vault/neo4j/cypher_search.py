"""Cypher of searching: the rows of a scope, what changed in it, and what a version says.

Constants only. Values come as parameters, and every pattern names the tenant. `v[vector]` reads a property
whose name is data ("vec_3"): a look-up by key, nothing that is parsed.
"""

from __future__ import annotations

from typing import Final, Literal, LiteralString, TypeAlias

By: TypeAlias = Literal["session", "user", "agent", "tenant"]
"""The most selective field that a scope binds, whose index finds the cubes."""

TAIL: Final[LiteralString] = "MATCH (t:Tenant {id: $tenant}) RETURN t.seq, t.epoch"

ROW: Final[LiteralString] = (
    "c.id, v.n, coalesce(c.user_id, ''), coalesce(c.agent_id, ''), coalesce(c.session_id, ''), v.speaker, v.flags, "
    "v.event_us, v.length, v[vector], "
    "c.rid, v.rid, c.created_us, v.expires_us, v.valid_from_us, v.valid_to_us, v.terms"
)
"""The columns of a `growth.Row`, and the terms."""

COLUMNS: Final[LiteralString] = """
RETURN collect(c.id) AS ids, collect(v.n) AS numbers, collect(coalesce(c.user_id, '')) AS users,
  collect(coalesce(c.agent_id, '')) AS agents, collect(coalesce(c.session_id, '')) AS sessions,
  collect(coalesce(v.speaker, '')) AS speakers, collect(v.flags) AS flags, collect(v.event_us) AS events,
  collect(v.length) AS lengths, collect(coalesce(v[vector], '')) AS vectors, collect(c.rid) AS cubes,
  collect(v.rid) AS versions, collect(c.created_us) AS created, collect(coalesce(v.expires_us, 4611686018427387904))
  AS expires, collect(coalesce(v.valid_from_us, -4611686018427387904)) AS valid_from,
  collect(coalesce(v.valid_to_us, 4611686018427387904)) AS valid_to, collect(v.terms) AS terms
"""
"""The same, one list a column: a record a row takes the driver 25 times longer to read. `collect` passes over null, so
nothing is null; open times are `growth.NEVER` and `growth.ALWAYS`."""

OWNED: Final[LiteralString] = (
    "($user IS NULL OR c.user_id = $user) AND ($agent IS NULL OR c.agent_id = $agent) "
    "AND ($session IS NULL OR c.session_id = $session)"
)
SHOWN: Final[LiteralString] = (
    "c.state IN $states AND v.memory_type IN $types AND ($collection IS NULL OR v.collection = $collection)"
)
BELIEVED: Final[LiteralString] = "v.superseded_us IS NULL AND NOT v.is_stale"

# An index on several properties is used only when each of them is asked about; so every statement names a span of time.
_MADE: Final[LiteralString] = "c.created_us >= $from_us AND c.created_us < $to_us AND "
FIND: Final[dict[By, LiteralString]] = {
    "session": "MATCH (c:MemCube {tenant: $tenant, session_id: $session}) WHERE " + _MADE + OWNED,
    "user": "MATCH (c:MemCube {tenant: $tenant, user_id: $user}) WHERE " + _MADE + OWNED,
    "agent": "MATCH (c:MemCube {tenant: $tenant, agent_id: $agent}) WHERE " + _MADE + OWNED,
    "tenant": "MATCH (c:MemCube {tenant: $tenant}) WHERE " + _MADE + OWNED,
}
_HEAD: Final[LiteralString] = """
OPTIONAL MATCH (t:Tenant {id: $tenant})
OPTIONAL MATCH (p:Space {tenant: $tenant, fingerprint: $space})
WITH t, p, 'vec_' + coalesce(toString(p.number), '') AS vector
CALL (vector) {
"""
_END: Final[LiteralString] = """
}
RETURN coalesce(t.seq, 0), coalesce(t.epoch, 0), p.number, p.dimension, ids, numbers, users, agents, sessions, speakers,
  flags, events, lengths, vectors, cubes, versions, created, expires, valid_from, valid_to, terms
"""
_HEADS: Final[LiteralString] = (
    " MATCH (c)-[:CURRENT]->(v:CubeVersion {tenant: $tenant}) WHERE "
    + SHOWN
    + " AND "
    + BELIEVED
    + " WITH c, v, vector LIMIT $limit"
    + COLUMNS
    + _END
)
_PAST: Final[LiteralString] = (
    " MATCH (c)-[:HAS_VERSION]->(v:CubeVersion {tenant: $tenant}) WHERE "
    + SHOWN
    + " AND v.recorded_us <= $moment AND (v.superseded_us IS NULL OR v.superseded_us > $moment)"
    + " WITH c, v, vector LIMIT $limit"
    + COLUMNS
    + _END
)
LOAD: Final[dict[By, LiteralString]] = {
    "session": _HEAD + FIND["session"] + _HEADS,
    "user": _HEAD + FIND["user"] + _HEADS,
    "agent": _HEAD + FIND["agent"] + _HEADS,
    "tenant": _HEAD + FIND["tenant"] + _HEADS,
}
"""Heads that are believed now, in no order, after the log's position, the epoch and the vector space. Nothing of an
erased cube, as long as $states does not name that state."""

LOAD_PAST: Final[dict[By, LiteralString]] = {
    "session": _HEAD + FIND["session"] + _PAST,
    "user": _HEAD + FIND["user"] + _PAST,
    "agent": _HEAD + FIND["agent"] + _PAST,
    "tenant": _HEAD + FIND["tenant"] + _PAST,
}
"""Versions that were believed at $moment, in the same form."""

TIMES: Final[dict[By, LiteralString]] = {
    "session": FIND["session"] + " RETURN collect(c.created_us)",
    "user": FIND["user"] + " RETURN collect(c.created_us)",
    "agent": FIND["agent"] + " RETURN collect(c.created_us)",
    "tenant": FIND["tenant"] + " RETURN collect(c.created_us)",
}
"""When the cubes of a scope were made, in no order."""

REFRESH: Final[LiteralString] = (
    """
OPTIONAL MATCH (t:Tenant {id: $tenant})
WITH t, $vector AS vector
RETURN coalesce(t.seq, 0), coalesce(t.epoch, 0),
  EXISTS { MATCH (a:Activity {tenant: $tenant}) WHERE a.seq > $seq AND a.reshapes },
  COLLECT {
    MATCH (a:Activity {tenant: $tenant}) WHERE a.seq > $seq
    MATCH (a)-[:TOUCHED]->(c:MemCube {tenant: $tenant}) WHERE """
    + OWNED
    + """
    WITH DISTINCT c LIMIT $limit
    OPTIONAL MATCH (c)-[:CURRENT]->(v:CubeVersion {tenant: $tenant}) WHERE """
    + SHOWN
    + " AND "
    + BELIEVED
    + """
    RETURN CASE WHEN v IS NULL THEN [c.rid] ELSE ["""
    + ROW
    + """] END
  }
"""
)
"""What commits after $seq touched in the scope: its row, or its number alone if it is not shown (any more)."""

BODIES: Final[LiteralString] = """
UNWIND $refs AS ref
MATCH (v:CubeVersion {tenant: $tenant, cube_id: ref[1], n: ref[2]}) WHERE v.body IS NOT NULL
RETURN ref[0], v.body
"""
