"""Cypher of commits: the statements that take the lock, look before a commit, and write one.

Constants only. Values come as parameters, labels and relationship types stand here, and every pattern names the tenant.
"""

from __future__ import annotations

from typing import Final, LiteralString

from memos_agents.infrastructure.vault.neo4j.cypher_nearest import FORGET

SERVER: Final[LiteralString] = (
    "CALL dbms.components() YIELD name, versions, edition RETURN name, versions[0] AS version, edition"
)
GET_META: Final[LiteralString] = "MATCH (m:MemosMeta {key: $key}) RETURN m.value"
SET_META: Final[LiteralString] = "MERGE (m:MemosMeta {key: $key}) SET m.value = $value"
AWAIT_INDEXES: Final[LiteralString] = "CALL db.awaitIndexes(600)"

LOCK: Final[LiteralString] = "MATCH (t:Tenant {id: $tenant}) SET t._lock = $op"
"""Neo4j does not check a WHERE again after waiting for a lock: so, first write, then read."""

HEAD_COLUMNS: Final[LiteralString] = (
    "[c.id, c.rid, c.user_id, c.agent_id, c.session_id, c.state, c.frozen, c.version, c.readers, c.place, "
    "v.rid, v.superseded_us, v.is_stale, v.expires_us]"
)

BEGIN: Final[LiteralString] = (
    """
MERGE (t:Tenant {id: $tenant})
ON CREATE SET t.seq = 0, t.cubes = 0, t.versions = 0, t.epoch = 0, t.erased_seq = 0, t.scrubbed_seq = 0
SET t._lock = $op
WITH t
RETURN [t.seq, t.at_us, t.chain, t.cubes, t.versions, t.epoch, t.mirror_of] AS tail,
  COLLECT { MATCH (a:Activity {tenant: $tenant, id: $activity}) RETURN [a.op, a.seq] } AS known,
  COLLECT { MATCH (a:Activity {tenant: $tenant, key: $key}) RETURN [a.id, a.seq, a.at_us, a.result] } AS first,
  COLLECT { MATCH (l:Lease {tenant: $tenant, name: $lease}) RETURN [l.owner, l.token, l.expires_us] } AS lease,
  COLLECT { MATCH (p:Space {tenant: $tenant}) WHERE p.fingerprint IN $spaces
            RETURN [p.fingerprint, p.dimension, p.number] } AS spaces,
  COLLECT { UNWIND $cubes AS id MATCH (c:MemCube {tenant: $tenant, id: id})-[:CURRENT]->(v)
            RETURN """
    + HEAD_COLUMNS
    + """ } AS heads,
  COLLECT { UNWIND $sames AS same MATCH (c:MemCube {same: same})-[:CURRENT]->(v)
            WHERE c.tenant = $tenant AND c.state = 'activated' AND v.superseded_us IS NULL AND NOT v.is_stale
            RETURN [same, """
    + HEAD_COLUMNS
    + """] } AS equals,
  COLLECT { UNWIND $places AS place MATCH (c:MemCube {place: place}) WHERE c.tenant = $tenant
            RETURN [place, c.id] } AS holders,
  COLLECT { UNWIND $sources AS id MATCH (s:Source {tenant: $tenant, id: id})
            RETURN [s.id, s.kind, s.locator, s.sha256] } AS sources,
  COLLECT { UNWIND $triples AS triple
            MATCH (:MemCube {tenant: $tenant, id: triple[0]})-[r]->(:MemCube {tenant: $tenant, id: triple[2]})
            WHERE type(r) = triple[1] AND r.removed_us IS NULL RETURN triple } AS related
"""
)

WRITE_NEW: Final[LiteralString] = """
CREATE (a:Activity {tenant: $tenant})
SET a += $activity
MERGE (g:Agent {tenant: $tenant, id: $agent.id})
ON CREATE SET g.kind = $agent.kind, g.name = $agent.name
CREATE (a)-[:WAS_ASSOCIATED_WITH]->(g)
WITH a
MATCH (t:Tenant {id: $tenant})
SET t += $tail
WITH a
UNWIND $rows AS row
CREATE (c:MemCube {tenant: $tenant})
SET c += row.cube
CREATE (v:CubeVersion {tenant: $tenant})
SET v += row.version
CREATE (c)-[:HAS_VERSION {n: 1}]->(v), (c)-[:CURRENT]->(v), (v)-[:WAS_GENERATED_BY]->(a), (a)-[:TOUCHED]->(c)
"""
"""The activity, the end of the log, and every cube that is new: all that a plain `add` writes, in one round trip."""

WRITE_MORE: Final[LiteralString] = """
MATCH (a:Activity {tenant: $tenant, id: $activity})
UNWIND $rows AS row
CREATE (c:MemCube {tenant: $tenant})
SET c += row.cube
CREATE (v:CubeVersion {tenant: $tenant})
SET v += row.version
CREATE (c)-[:HAS_VERSION {n: 1}]->(v), (c)-[:CURRENT]->(v), (v)-[:WAS_GENERATED_BY]->(a), (a)-[:TOUCHED]->(c)
"""

REVISE: Final[LiteralString] = (
    """
MATCH (a:Activity {tenant: $tenant, id: $activity})
UNWIND $rows AS row
MATCH (c:MemCube {tenant: $tenant, id: row.id})-[current:CURRENT]->(old:CubeVersion {tenant: $tenant})
SET old.superseded_us = coalesce(old.superseded_us, $at_us)
DELETE current
SET c += row.cube
"""
    + FORGET
    + """
CREATE (v:CubeVersion {tenant: $tenant})
SET v += row.version
CREATE (c)-[:HAS_VERSION {n: v.n}]->(v), (c)-[:CURRENT]->(v), (v)-[:WAS_REVISION_OF]->(old),
       (v)-[:WAS_GENERATED_BY]->(a)
"""
)

TOUCH: Final[LiteralString] = """
MATCH (a:Activity {tenant: $tenant, id: $activity})
UNWIND $ids AS id
MATCH (c:MemCube {tenant: $tenant, id: id})
CREATE (a)-[:TOUCHED]->(c)
"""

USE: Final[LiteralString] = """
UNWIND $rows AS row
MATCH (c:MemCube {tenant: $tenant, id: row[0]}) WHERE c.state <> 'erased'
SET c.use_count = coalesce(c.use_count, 0) + row[1],
    c.last_used_us = CASE WHEN c.last_used_us > row[2] THEN c.last_used_us ELSE row[2] END
WITH count(*) AS used, $tenant AS tenant
RETURN used
"""

STEP: Final[LiteralString] = """
UNWIND $rows AS row
MATCH (c:MemCube {tenant: $tenant, id: row[0]})
SET c.state = row[1], c.frozen = row[2]
"""

END: Final[LiteralString] = (
    """
MATCH (a:Activity {tenant: $tenant, id: $activity})
UNWIND $refs AS ref
MATCH (v:CubeVersion {tenant: $tenant, cube_id: ref[0], n: ref[1]})
SET v.superseded_us = $at_us
CREATE (v)-[:WAS_INVALIDATED_BY]->(a)
WITH v
MATCH (c:MemCube {tenant: $tenant})-[:CURRENT]->(v)
"""
    + FORGET
)

LIFT: Final[LiteralString] = """
UNWIND $refs AS ref
MATCH (v:CubeVersion {tenant: $tenant, cube_id: ref[0], n: ref[1]})-[ended:WAS_INVALIDATED_BY]->(:Activity)
SET v.superseded_us = null
DELETE ended
"""

SOURCES: Final[LiteralString] = """
UNWIND $rows AS row
MERGE (s:Source {tenant: $tenant, id: row[0]})
SET s.kind = row[1], s.locator = row[2], s.sha256 = row[3]
"""

DERIVE: Final[LiteralString] = """
UNWIND $rows AS row
MATCH (v:CubeVersion {tenant: $tenant, cube_id: row[0], n: row[1]})
MATCH (s:CubeVersion {tenant: $tenant, cube_id: row[2], n: row[3]})
CREATE (v)-[:WAS_DERIVED_FROM {kind: row[4], activity: $activity}]->(s)
"""

EVIDENCE: Final[LiteralString] = """
UNWIND $rows AS row
MATCH (v:CubeVersion {tenant: $tenant, cube_id: row[0], n: row[1]})
MATCH (s:Source {tenant: $tenant, id: row[2]})
CREATE (v)-[:WAS_DERIVED_FROM {kind: row[3], activity: $activity}]->(s)
"""

UNRELATE: Final[LiteralString] = """
UNWIND $triples AS triple
MATCH (:MemCube {tenant: $tenant, id: triple[0]})-[r]->(:MemCube {tenant: $tenant, id: triple[2]})
WHERE type(r) = triple[1] AND r.removed_us IS NULL
SET r.removed_us = $at_us, r.removed_by = $activity
"""

RELATE: Final[LiteralString] = """
UNWIND $rows AS row
MATCH (a:MemCube {tenant: $tenant, id: row.source}), (b:MemCube {tenant: $tenant, id: row.target})
CALL (a, b, row) { WITH * WHERE row.kind = 'MERGED_INTO' CREATE (a)-[r:MERGED_INTO]->(b) SET r = row.values }
CALL (a, b, row) { WITH * WHERE row.kind = 'SUPERSEDED_BY' CREATE (a)-[r:SUPERSEDED_BY]->(b) SET r = row.values }
CALL (a, b, row) { WITH * WHERE row.kind = 'CONTRADICTS' CREATE (a)-[r:CONTRADICTS]->(b) SET r = row.values }
CALL (a, b, row) { WITH * WHERE row.kind = 'RELATES_TO' CREATE (a)-[r:RELATES_TO]->(b) SET r = row.values }
CALL (a, b, row) { WITH * WHERE row.kind = 'NEXT' CREATE (a)-[r:NEXT]->(b) SET r = row.values }
CALL (a, b, row) { WITH * WHERE row.kind = 'PART_OF' CREATE (a)-[r:PART_OF]->(b) SET r = row.values }
CALL (a, b, row) { WITH * WHERE row.kind = 'MENTIONS' CREATE (a)-[r:MENTIONS]->(b) SET r = row.values }
"""
"""A relationship's type is no parameter: one branch for each of the closed enum `RelationKind`."""

FINISH: Final[LiteralString] = """
MATCH (a:Activity {tenant: $tenant, id: $activity})
MATCH (t:Tenant {id: $tenant})
SET a += $values, t += $tail
"""

# -- the cascade

MARK_BELOW: Final[LiteralString] = """
UNWIND $refs AS ref
MATCH (:CubeVersion {tenant: $tenant, cube_id: ref[0], n: ref[1]})
      <-[:WAS_DERIVED_FROM]-(d:CubeVersion {tenant: $tenant})
WHERE NOT d.is_stale AND d.body IS NOT NULL
WITH DISTINCT d
SET d.is_stale = true
RETURN elementId(d), d.cube_id, d.n
"""
MARK_ON: Final[LiteralString] = """
MATCH (u:CubeVersion)<-[:WAS_DERIVED_FROM]-(d:CubeVersion {tenant: $tenant})
WHERE elementId(u) IN $frontier AND u.tenant = $tenant AND NOT d.is_stale AND d.body IS NOT NULL
WITH DISTINCT d
SET d.is_stale = true
RETURN elementId(d), d.cube_id, d.n
"""
"""One step of the cascade: marks what comes from the frontier and gives it as the next one. Already marked versions
are not entered, because whatever comes from them is marked: so the cost is linear in what changes."""

FIND_BELOW: Final[LiteralString] = """
UNWIND $refs AS ref
MATCH (:CubeVersion {tenant: $tenant, cube_id: ref[0], n: ref[1]})
      <-[:WAS_DERIVED_FROM]-(d:CubeVersion {tenant: $tenant})
RETURN DISTINCT d.cube_id, d.n, d.is_stale, d.body IS NOT NULL
"""

ORIGINS: Final[LiteralString] = """
UNWIND $refs AS ref
MATCH (v:CubeVersion {tenant: $tenant, cube_id: ref[0], n: ref[1]})
      -[:WAS_DERIVED_FROM]->(s:CubeVersion {tenant: $tenant})
RETURN ref[0], ref[1], s.cube_id, s.n, s.superseded_us IS NOT NULL, s.is_stale
"""

SET_STALE: Final[LiteralString] = """
UNWIND $rows AS row
MATCH (v:CubeVersion {tenant: $tenant, cube_id: row[0], n: row[1]})
SET v.is_stale = row[2]
"""

# -- erasure

CUBES_BELOW: Final[LiteralString] = """
UNWIND $ids AS id
MATCH (:MemCube {tenant: $tenant, id: id})-[:HAS_VERSION]->(:CubeVersion {tenant: $tenant})
      <-[:WAS_DERIVED_FROM]-(:CubeVersion {tenant: $tenant})<-[:HAS_VERSION]-(c:MemCube {tenant: $tenant})
WHERE c.state <> 'erased'
RETURN DISTINCT c.id
"""

VERSIONS_OF: Final[LiteralString] = """
UNWIND $ids AS id
MATCH (c:MemCube {tenant: $tenant, id: id})-[:HAS_VERSION]->(v:CubeVersion {tenant: $tenant})
RETURN c.id, v.n, v.hash
"""

ERASE_CUBES: Final[LiteralString] = """
MATCH (a:Activity {tenant: $tenant, id: $activity})
UNWIND $ids AS id
MATCH (c:MemCube {tenant: $tenant, id: id})
SET c = {tenant: c.tenant, id: c.id, rid: c.rid, user_id: c.user_id, agent_id: c.agent_id, session_id: c.session_id,
         state: 'erased', frozen: c.frozen, version: c.version, created_us: c.created_us, collection: 'memories',
         readers: [], hash: c.hash}
WITH a, c
MATCH (c)-[:HAS_VERSION]->(v:CubeVersion {tenant: $tenant})
SET v = {tenant: v.tenant, cube_id: v.cube_id, n: v.n, rid: v.rid, hash: v.hash, memory_type: v.memory_type,
         recorded_us: v.recorded_us, superseded_us: coalesce(v.superseded_us, $at_us), is_stale: false,
         event_us: v.recorded_us, collection: 'memories', flags: 0, length: 0, terms: ''}
WITH a, v
OPTIONAL MATCH (v)-[ended:WAS_INVALIDATED_BY]->(:Activity)
DELETE ended
WITH DISTINCT a, v
CREATE (v)-[:WAS_INVALIDATED_BY]->(a)
"""
"""What is left of a cube: ids, hashes, times, whose it was, and the activity that ended it. A list of what stays, so
that a property added later is erased unless somebody decides otherwise."""

CLOSE_RELATIONS: Final[LiteralString] = """
UNWIND $ids AS id
MATCH (c:MemCube {tenant: $tenant, id: id})-[r:MERGED_INTO|SUPERSEDED_BY|CONTRADICTS|RELATES_TO|NEXT|PART_OF|MENTIONS]-
      (:MemCube {tenant: $tenant})
WITH DISTINCT r, r.removed_us IS NULL AS was_open
SET r.properties = '{}', r.removed_us = coalesce(r.removed_us, $at_us),
    r.removed_by = CASE WHEN was_open THEN $activity ELSE r.removed_by END
WITH r WHERE r.removed_by = $activity
RETURN startNode(r).id, type(r), endNode(r).id
"""

BLANK_SOURCES: Final[LiteralString] = """
UNWIND $ids AS id
MATCH (:MemCube {tenant: $tenant, id: id})-[:HAS_VERSION]->(:CubeVersion {tenant: $tenant})
      -[:WAS_DERIVED_FROM]->(s:Source {tenant: $tenant})
WITH DISTINCT s
WHERE NOT EXISTS { (s)<-[:WAS_DERIVED_FROM]-(v:CubeVersion {tenant: $tenant}) WHERE v.body IS NOT NULL }
SET s.locator = '', s.sha256 = null
"""

DOOM_BLOBS: Final[LiteralString] = """
UNWIND $ids AS id
MATCH (:MemCube {tenant: $tenant, id: id})-[:HAS_VERSION]->(:CubeVersion {tenant: $tenant})
      -[names:HAS_BLOB]->(b:Blob {tenant: $tenant})
SET b.is_doomed = true
DELETE names
"""
NAME_BLOBS: Final[LiteralString] = """
UNWIND $rows AS row
MATCH (v:CubeVersion {tenant: $tenant, cube_id: row[0], n: row[1]})
MERGE (b:Blob {tenant: $tenant, sha256: row[2]})
MERGE (v)-[:HAS_BLOB]->(b)
"""
DOOMED: Final[LiteralString] = """
MATCH (b:Blob {tenant: $tenant, is_doomed: true})
RETURN b.sha256, EXISTS { (b)<-[:HAS_BLOB]-(:CubeVersion {tenant: $tenant}) }
"""
FORGET_BLOBS: Final[LiteralString] = """
UNWIND $names AS name
MATCH (b:Blob {tenant: $tenant, sha256: name})
WHERE NOT EXISTS { (b)<-[:HAS_BLOB]-(:CubeVersion {tenant: $tenant}) }
OPTIONAL MATCH (b)-[:HAS_CHUNK]->(k:BlobChunk {tenant: $tenant})
DETACH DELETE b, k
"""
SPARE_BLOBS: Final[LiteralString] = """
UNWIND $names AS name
MATCH (b:Blob {tenant: $tenant, sha256: name})
SET b.is_doomed = null
"""
NAMED_ELSEWHERE: Final[LiteralString] = """
UNWIND $names AS name
MATCH (b:Blob {sha256: name}) WHERE b.tenant <> $tenant
RETURN DISTINCT name
"""
"""Of bytes that tenants share outside the graph: those that others name, of which nothing more is told."""
