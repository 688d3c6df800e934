"""Cypher of tenants that move: sealing, what only a move reads, and deleting a tenant for good. Constants only.

A seal is `Tenant.mirror_of`: whoever stands there may write, nobody else (`apply` and `restore` look at it under the
tenant's lock).
"""

from __future__ import annotations

from typing import Final, LiteralString

# -- seals

SEAL: Final[LiteralString] = """
MATCH (t:Tenant {id: $tenant})
SET t._lock = $op
WITH t WHERE t.mirror_of IS NULL OR t.mirror_of = $mark
SET t.mirror_of = $mark
RETURN t.seq, t.chain
"""
UNSEAL: Final[LiteralString] = """
MATCH (t:Tenant {id: $tenant})
SET t._lock = $op
WITH t WHERE t.mirror_of = $mark
SET t.mirror_of = null
RETURN t.seq
"""
RESEAL: Final[LiteralString] = """
MATCH (t:Tenant {id: $tenant})
SET t._lock = $op
WITH t WHERE t.mirror_of = $was
SET t.mirror_of = $mark, t.mirrored = null
RETURN t.seq
"""
SEALED_BY: Final[LiteralString] = "MATCH (t:Tenant {id: $tenant}) RETURN t.mirror_of, t.seq, t.cubes"
REOPEN: Final[LiteralString] = """
MATCH (t:Tenant {id: $tenant})
SET t._lock = $op
WITH t WHERE t.mirror_of STARTS WITH $mark AND t.cubes = 0
SET t.mirror_of = null
RETURN t.seq
"""
"""A place that a tenant once left may take it again."""

# -- what a move reads beside records

ENTRIES: Final[LiteralString] = (
    "MATCH (a:Activity {tenant: $tenant}) WHERE a.seq > $after WITH a ORDER BY a.tenant, a.seq LIMIT $limit "
    "RETURN a.seq, a.chain, a.effects, a.reshapes, a.key, a.result, "
    "a.id, a.kind, a.agent_id, a.agent_kind, a.agent_name, a.started_us, a.at_us, a.parameters"
)
FIRST_CHAIN: Final[LiteralString] = (
    "MATCH (t:Tenant {id: $tenant}) "
    "RETURN t.seq, t.at_us, COLLECT { MATCH (a:Activity {tenant: $tenant, seq: 1}) RETURN a.chain }"
)
TOUCHED: Final[LiteralString] = (
    "UNWIND $ids AS id MATCH (c:MemCube {tenant: $tenant, id: id})<-[:TOUCHED]-(a:Activity {tenant: $tenant}) "
    "RETURN a.id, c.id"
)
RELATIONS: Final[LiteralString] = (
    "UNWIND $ids AS id MATCH (c:MemCube {tenant: $tenant, id: id})"
    "-[r:MERGED_INTO|SUPERSEDED_BY|CONTRADICTS|RELATES_TO|NEXT|PART_OF|MENTIONS]->(b:MemCube {tenant: $tenant}) "
    "RETURN c.id, type(r), b.id, r.properties, r.recorded_us, r.removed_us, r.activity, r.removed_by"
)
LEASES: Final[LiteralString] = (
    "MATCH (l:Lease {tenant: $tenant}) WHERE l.name >= '' RETURN l.name, l.owner, l.token, l.expires_us"
)
PUT_LEASES: Final[LiteralString] = """
UNWIND $rows AS row
MERGE (l:Lease {tenant: $tenant, name: row[0]})
SET l.owner = row[1], l.token = row[2], l.expires_us = row[3]
"""
SCRUBBED: Final[LiteralString] = "MATCH (t:Tenant {id: $tenant}) SET t.scrubbed_seq = t.erased_seq"

# -- deleting: piece by piece, each found by an index (one on several properties wants a condition on each)

_GONE_SLOWLY: Final[LiteralString] = " CALL (n) { DETACH DELETE n } IN TRANSACTIONS OF 10 ROWS"
_GONE: Final[LiteralString] = " CALL (n) { DETACH DELETE n } IN TRANSACTIONS OF 2000 ROWS"
PURGE: Final[tuple[LiteralString, ...]] = (
    "MATCH (n:CubeVersion {tenant: $tenant}) WHERE n.cube_id >= '' AND n.n >= 0" + _GONE,
    "MATCH (n:MemCube {tenant: $tenant}) WHERE n.id >= ''" + _GONE,
    "MATCH (n:Source {tenant: $tenant}) WHERE n.id >= ''" + _GONE,
    "MATCH (n:Activity {tenant: $tenant}) WHERE n.id >= ''" + _GONE,
    "MATCH (n:Agent {tenant: $tenant}) WHERE n.id >= ''" + _GONE,
    "MATCH (b:Blob {tenant: $tenant})-[:HAS_CHUNK]->(n:BlobChunk {tenant: $tenant}) WHERE b.sha256 >= ''"
    + _GONE_SLOWLY,
    "MATCH (n:Blob {tenant: $tenant}) WHERE n.sha256 >= ''" + _GONE,
    "MATCH (n:Space {tenant: $tenant}) WHERE n.fingerprint >= ''" + _GONE,
    "MATCH (n:Snapshot {tenant: $tenant}) WHERE n.name >= ''" + _GONE,
    "MATCH (n:Lease {tenant: $tenant}) WHERE n.name >= ''" + _GONE,
)
LEAVE: Final[LiteralString] = """
MATCH (t:Tenant {id: $tenant})
SET t = {id: t.id, mirror_of: t.mirror_of, seq: 0, cubes: 0, versions: 0, epoch: 0, erased_seq: 0, scrubbed_seq: 0}
"""
"""What stays of a tenant that moved: a closed door, so that an old client cannot begin it anew."""
FORGET: Final[LiteralString] = "MATCH (t:Tenant {id: $tenant}) DETACH DELETE t"
LEFT: Final[LiteralString] = """
RETURN EXISTS { MATCH (n:MemCube {tenant: $tenant}) WHERE n.id >= '' } OR
       EXISTS { MATCH (n:Activity {tenant: $tenant}) WHERE n.id >= '' } OR
       EXISTS { MATCH (n:Blob {tenant: $tenant}) WHERE n.sha256 >= '' }
"""
