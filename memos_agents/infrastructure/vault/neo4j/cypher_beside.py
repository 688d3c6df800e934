"""Cypher of what stands beside the log: leases, snapshots, vector spaces, payload bytes. Constants only."""

from __future__ import annotations

from typing import Final, LiteralString

SCRUBBED: Final[LiteralString] = "MATCH (t:Tenant {id: $tenant}) SET t.scrubbed_seq = t.erased_seq"
TAIL: Final[LiteralString] = (
    "MATCH (t:Tenant {id: $tenant}) RETURN t.seq, t.epoch, t.at_us, t.erased_seq, t.scrubbed_seq"
)
GET_LEASE: Final[LiteralString] = "MATCH (l:Lease {tenant: $tenant, name: $name}) RETURN l.owner, l.token, l.expires_us"
SET_LEASE: Final[LiteralString] = """
MERGE (l:Lease {tenant: $tenant, name: $name})
SET l.owner = $owner, l.token = $token, l.expires_us = $expires_us
"""
END_LEASE: Final[LiteralString] = """
MATCH (l:Lease {tenant: $tenant, name: $name, owner: $owner, token: $token}) SET l.expires_us = $expires_us
"""
ENTER: Final[LiteralString] = """
MERGE (t:Tenant {id: $tenant})
ON CREATE SET t.seq = 0, t.cubes = 0, t.versions = 0, t.epoch = 0, t.erased_seq = 0, t.scrubbed_seq = 0
SET t._lock = $op
RETURN t.seq, t.epoch, coalesce(t.spaces, 0)
"""
"""Take the tenant's lock; the tenant is made if it is new."""
COUNT_ONCE: Final[LiteralString] = """
MATCH (t:Tenant {id: $tenant})
WHERE t.mirror_of IS NULL AND (t.used_op IS NULL OR t.used_op <> $op)
SET t.used_op = $op
RETURN t.id
"""
"""Under the lock: nothing where the uses of this try are counted already, or another store counts them."""
SET_SNAPSHOT: Final[LiteralString] = """
MERGE (s:Snapshot {tenant: $tenant, name: $name}) SET s.seq = $seq, s.at_us = $at_us
"""
SNAPSHOTS: Final[LiteralString] = "MATCH (s:Snapshot {tenant: $tenant}) RETURN s.name, s.seq, s.at_us ORDER BY s.name"
SPACES: Final[LiteralString] = (
    "MATCH (p:Space {tenant: $tenant}) RETURN p.fingerprint, p.dimension, p.is_default, p.number "
    "ORDER BY p.is_default DESC, p.fingerprint"
)
DEMOTE_SPACES: Final[LiteralString] = "MATCH (p:Space {tenant: $tenant}) SET p.is_default = false"
SET_SPACE: Final[LiteralString] = """
MATCH (t:Tenant {id: $tenant})
MERGE (p:Space {tenant: $tenant, fingerprint: $fingerprint})
ON CREATE SET p.number = $number, p.dimension = $dimension
SET p.is_default = $is_default, t.spaces = $last
"""
DROP_SPACE: Final[LiteralString] = """
MATCH (t:Tenant {id: $tenant})
MATCH (p:Space {tenant: $tenant, fingerprint: $fingerprint})
SET t.epoch = t.epoch + 1
DELETE p
"""
DROP_VECTORS: Final[LiteralString] = """
MATCH (v:CubeVersion {tenant: $tenant}) WHERE v[$name] IS NOT NULL
CALL (v) { SET v += $nothing } IN TRANSACTIONS OF 5000 ROWS
"""
PUT_VECTORS: Final[LiteralString] = """
UNWIND $rows AS row
MATCH (v:CubeVersion {tenant: $tenant, cube_id: row.id, n: row.n}) WHERE v.body IS NOT NULL
SET v += row.vector
"""
NEXT_EPOCH: Final[LiteralString] = "MATCH (t:Tenant {id: $tenant}) SET t.epoch = t.epoch + 1"
WITHOUT_VECTOR: Final[LiteralString] = """
MATCH (v:CubeVersion {tenant: $tenant})
WHERE v.cube_id >= $after_id AND CASE v.cube_id WHEN $after_id THEN v.n > $after_n ELSE true END
  AND v.body IS NOT NULL AND v[$name] IS NULL AND v.has_text
RETURN v.cube_id, v.n ORDER BY v.tenant, v.cube_id, v.n LIMIT $limit
"""
"""Ordered by all that the index holds, or it would be sorted; without OR, or it would be two walks."""

# -- payload bytes in the graph

PUT_CHUNK: Final[LiteralString] = """
MERGE (b:Blob {tenant: $tenant, sha256: $name})
CREATE (b)-[:HAS_CHUNK {n: $n}]->(:BlobChunk {tenant: $tenant, data: $data})
"""
SEAL_BLOB: Final[LiteralString] = "MERGE (b:Blob {tenant: $tenant, sha256: $name}) SET b.size_bytes = $size"
GET_CHUNKS: Final[LiteralString] = """
MATCH (b:Blob {tenant: $tenant, sha256: $name}) WHERE b.size_bytes IS NOT NULL
OPTIONAL MATCH (b)-[h:HAS_CHUNK]->(k:BlobChunk {tenant: $tenant})
WITH h, k ORDER BY h.n
RETURN k.data
"""
HAS_CHUNKS: Final[LiteralString] = """
RETURN EXISTS { MATCH (b:Blob {tenant: $tenant, sha256: $name}) WHERE b.size_bytes IS NOT NULL }
"""
BLOB_NAMES: Final[LiteralString] = (
    "MATCH (b:Blob {tenant: $tenant}) WHERE b.size_bytes IS NOT NULL RETURN b.sha256, b.size_bytes"
)
DROP_CHUNKS: Final[LiteralString] = """
UNWIND $names AS name
MATCH (b:Blob {tenant: $tenant, sha256: name})
SET b.size_bytes = null
WITH b
OPTIONAL MATCH (b)-[:HAS_CHUNK]->(k:BlobChunk {tenant: $tenant})
DETACH DELETE k
"""
