"""Cypher of the mirror: a tenant that follows another store. Constants only; every statement can be run twice.

What it writes has the shape that commits give it (`cypher`), so that every read works on it.
"""

from __future__ import annotations

from typing import Final, LiteralString

BEGIN: Final[LiteralString] = """
MERGE (t:Tenant {id: $tenant})
ON CREATE SET t.seq = 0, t.cubes = 0, t.versions = 0, t.epoch = 0, t.erased_seq = 0, t.scrubbed_seq = 0
SET t._lock = $op
RETURN t.seq, t.cubes, t.versions, t.mirror_of, t.mirrored, coalesce(t.spaces, 0),
  COLLECT { MATCH (s:Snapshot {tenant: $tenant}) WHERE s.name >= '' RETURN [s.name, s.seq, s.at_us] }
"""
STATE: Final[LiteralString] = "MATCH (t:Tenant {id: $tenant}) RETURN t.mirror_of, t.mirrored, t.seq, t.at_us"
ACTIVITIES: Final[LiteralString] = """
UNWIND $rows AS row
MERGE (a:Activity {tenant: $tenant, id: row.id})
SET a += row
MERGE (g:Agent {tenant: $tenant, id: row.agent_id})
ON CREATE SET g.kind = row.agent_kind, g.name = row.agent_name
MERGE (a)-[:WAS_ASSOCIATED_WITH]->(g)
"""
NUMBERS: Final[LiteralString] = """
UNWIND $ids AS id
MATCH (c:MemCube {tenant: $tenant, id: id})
RETURN c.id, c.version
"""
HEADS: Final[LiteralString] = """
UNWIND $rows AS row
MATCH (c:MemCube {tenant: $tenant, id: row.id})
OPTIONAL MATCH (c)-[current:CURRENT]->(:CubeVersion {tenant: $tenant})
DELETE current
SET c += row.cube
WITH c, row
MATCH (v:CubeVersion {tenant: $tenant, cube_id: row.id, n: row.cube.version})
CREATE (c)-[:CURRENT]->(v)
"""
STATES: Final[LiteralString] = """
UNWIND $rows AS row
MATCH (c:MemCube {tenant: $tenant, id: row[0]})
SET c.state = row[1], c.frozen = row[2], c.use_count = row[3], c.last_used_us = row[4]
"""
USES: Final[LiteralString] = """
UNWIND $rows AS row
MATCH (c:MemCube {tenant: $tenant, id: row[0]}) WHERE c.state <> 'erased'
SET c.use_count = row[1], c.last_used_us = row[2]
"""
FLAGS: Final[LiteralString] = """
UNWIND $rows AS row
MATCH (v:CubeVersion {tenant: $tenant, cube_id: row[0], n: row[1]})
SET v.superseded_us = row[2], v.is_stale = row[3]
WITH v
MATCH (v)-[ended:WAS_INVALIDATED_BY]->(:Activity)
DELETE ended
"""
ENDS: Final[LiteralString] = """
UNWIND $rows AS row
MATCH (v:CubeVersion {tenant: $tenant, cube_id: row[0], n: row[1]})
MATCH (a:Activity {tenant: $tenant, id: row[2]})
MERGE (v)-[:WAS_INVALIDATED_BY]->(a)
"""
ERASE: Final[LiteralString] = """
UNWIND $ids AS id
MATCH (c:MemCube {tenant: $tenant, id: id})
SET c = {tenant: c.tenant, id: c.id, rid: c.rid, user_id: c.user_id, agent_id: c.agent_id, session_id: c.session_id,
         state: 'erased', frozen: c.frozen, version: c.version, created_us: c.created_us, collection: 'memories',
         readers: [], hash: c.hash}
WITH c
MATCH (c)-[:HAS_VERSION]->(v:CubeVersion {tenant: $tenant})
SET v = {tenant: v.tenant, cube_id: v.cube_id, n: v.n, rid: v.rid, hash: v.hash, memory_type: v.memory_type,
         recorded_us: v.recorded_us, superseded_us: v.superseded_us, is_stale: false, event_us: v.recorded_us,
         collection: 'memories', flags: 0, length: 0, terms: ''}
"""
"""What `cypher.ERASE_CUBES` leaves: a list of what stays. When and by what it ended was told with the flags."""
BLANK_RELATIONS: Final[LiteralString] = """
UNWIND $ids AS id
MATCH (c:MemCube {tenant: $tenant, id: id})-[r:MERGED_INTO|SUPERSEDED_BY|CONTRADICTS|RELATES_TO|NEXT|PART_OF|MENTIONS]-
      (:MemCube {tenant: $tenant})
SET r.properties = '{}'
"""
DERIVE: Final[LiteralString] = """
UNWIND $rows AS row
MATCH (v:CubeVersion {tenant: $tenant, cube_id: row[0], n: row[1]})
MATCH (s:CubeVersion {tenant: $tenant, cube_id: row[2], n: row[3]})
MERGE (v)-[d:WAS_DERIVED_FROM {kind: row[4]}]->(s)
SET d.activity = row[5]
"""
EVIDENCE: Final[LiteralString] = """
UNWIND $rows AS row
MATCH (v:CubeVersion {tenant: $tenant, cube_id: row[0], n: row[1]})
MATCH (s:Source {tenant: $tenant, id: row[2]})
MERGE (v)-[d:WAS_DERIVED_FROM {kind: row[3]}]->(s)
SET d.activity = row[4]
"""
RELATE: Final[LiteralString] = """
UNWIND $rows AS row
MATCH (a:MemCube {tenant: $tenant, id: row.source}), (b:MemCube {tenant: $tenant, id: row.target})
CALL (a, b, row) { WITH * WHERE row.kind = 'MERGED_INTO'
                   MERGE (a)-[r:MERGED_INTO {recorded_us: row.values.recorded_us}]->(b) SET r = row.values }
CALL (a, b, row) { WITH * WHERE row.kind = 'SUPERSEDED_BY'
                   MERGE (a)-[r:SUPERSEDED_BY {recorded_us: row.values.recorded_us}]->(b) SET r = row.values }
CALL (a, b, row) { WITH * WHERE row.kind = 'CONTRADICTS'
                   MERGE (a)-[r:CONTRADICTS {recorded_us: row.values.recorded_us}]->(b) SET r = row.values }
CALL (a, b, row) { WITH * WHERE row.kind = 'RELATES_TO'
                   MERGE (a)-[r:RELATES_TO {recorded_us: row.values.recorded_us}]->(b) SET r = row.values }
CALL (a, b, row) { WITH * WHERE row.kind = 'NEXT'
                   MERGE (a)-[r:NEXT {recorded_us: row.values.recorded_us}]->(b) SET r = row.values }
CALL (a, b, row) { WITH * WHERE row.kind = 'PART_OF'
                   MERGE (a)-[r:PART_OF {recorded_us: row.values.recorded_us}]->(b) SET r = row.values }
CALL (a, b, row) { WITH * WHERE row.kind = 'MENTIONS'
                   MERGE (a)-[r:MENTIONS {recorded_us: row.values.recorded_us}]->(b) SET r = row.values }
"""
"""A relation is known by its ends, its kind and when it was stated."""
TOUCH: Final[LiteralString] = """
UNWIND $rows AS row
MATCH (a:Activity {tenant: $tenant, id: row[0]})
MATCH (c:MemCube {tenant: $tenant, id: row[1]})
MERGE (a)-[:TOUCHED]->(c)
"""
CLEAR_VECTORS: Final[LiteralString] = """
UNWIND $ids AS id
MATCH (c:MemCube {tenant: $tenant, id: id})-[:HAS_VERSION]->(v:CubeVersion {tenant: $tenant})
SET v += $nothing
"""
SNAPSHOTS: Final[LiteralString] = """
UNWIND $rows AS row
MERGE (s:Snapshot {tenant: $tenant, name: row[0]})
SET s.seq = row[1], s.at_us = row[2]
"""
DROP_SNAPSHOTS: Final[LiteralString] = """
MATCH (s:Snapshot {tenant: $tenant}) WHERE NOT s.name IN $names
DELETE s
"""
FINISH: Final[LiteralString] = """
MATCH (t:Tenant {id: $tenant})
SET t += $tail, t.epoch = t.epoch + $epochs
"""
RELEASE: Final[LiteralString] = """
MATCH (t:Tenant {id: $tenant})
SET t.mirror_of = null, t.mirrored = null
"""
DOOM: Final[LiteralString] = """
UNWIND $names AS name
MERGE (b:Blob {tenant: $tenant, sha256: name})
SET b.is_doomed = true
"""
