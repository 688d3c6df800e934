"""Cypher of transfer: records out of the graph and into it, and what verifying reads.

Constants only; the fragments of `cypher_reading` mean the same here. Everything goes in pages: by id, or by (id,
number) pairs, so that neither side holds more than a page of bodies.
"""

from __future__ import annotations

from typing import Final, LiteralString

from memos_agents.infrastructure.vault.neo4j.cypher_reading import ADMITTED, BOTH_ADMITTED, OWNED, RELATED, Owner

# -- out: which cubes

CUBE_IDS: Final[LiteralString] = (
    "MATCH (c:MemCube {tenant: $tenant}) WHERE c.id > $after AND "
    + ADMITTED
    + " RETURN c.id, c.version ORDER BY c.tenant, c.id LIMIT $limit"
)
"""A page in the order of ids; walks over the ids of others."""
OWNED_IDS: Final[dict[Owner, LiteralString]] = {
    "session": OWNED["session"] + "RETURN c.id, c.version",
    "user": OWNED["user"] + "RETURN c.id, c.version",
    "agent": OWNED["agent"] + "RETURN c.id, c.version",
}

# -- out: lines

CUBES: Final[LiteralString] = (
    "UNWIND $ids AS id MATCH (c:MemCube {tenant: $tenant, id: id}) WHERE "
    + ADMITTED
    + " RETURN c.id, c.version, c.user_id, c.agent_id, c.session_id, c.state, c.frozen, c.created_us, c.use_count, "
    "c.last_used_us"
)
VERSIONS: Final[LiteralString] = (
    "UNWIND $refs AS ref MATCH (v:CubeVersion {tenant: $tenant, cube_id: ref[0], n: ref[1]}) "
    "OPTIONAL MATCH (v)-[:WAS_GENERATED_BY]->(g:Activity {tenant: $tenant}) "
    "OPTIONAL MATCH (v)-[:WAS_INVALIDATED_BY]->(e:Activity {tenant: $tenant}) "
    "RETURN v.cube_id, v.n, v.hash, v.body, v.memory_type, v.recorded_us, v.superseded_us, v.is_stale, g.id, e.id"
)
ACTIVITIES_OF: Final[LiteralString] = (
    "UNWIND $refs AS ref MATCH (:CubeVersion {tenant: $tenant, cube_id: ref[0], n: ref[1]})"
    "-[:WAS_GENERATED_BY|WAS_INVALIDATED_BY]->(a:Activity {tenant: $tenant}) RETURN DISTINCT a.id"
)
DERIVATIONS: Final[LiteralString] = (
    "UNWIND $refs AS ref MATCH (v:CubeVersion {tenant: $tenant, cube_id: ref[0], n: ref[1]})-[d:WAS_DERIVED_FROM]->"
    "(o:CubeVersion {tenant: $tenant})<-[:HAS_VERSION]-(c:MemCube {tenant: $tenant}) WHERE " + ADMITTED + " "
    "RETURN v.cube_id AS id, v.n AS n, o.cube_id AS source, o.n AS number, d.kind AS kind, d.activity AS activity "
    "UNION ALL "
    "UNWIND $refs AS ref MATCH (v:CubeVersion {tenant: $tenant, cube_id: ref[0], n: ref[1]})-[d:WAS_DERIVED_FROM]->"
    "(s:Source {tenant: $tenant}) "
    "RETURN v.cube_id AS id, v.n AS n, s.id AS source, null AS number, d.kind AS kind, d.activity AS activity"
)
_RELATION_COLUMNS: Final[LiteralString] = (
    "startNode(r).id, type(r), endNode(r).id, r.properties, r.recorded_us, r.removed_us, r.activity"
)
RELATIONS: Final[LiteralString] = (
    "UNWIND $ids AS id MATCH (c:MemCube {tenant: $tenant, id: id})-" + RELATED + "->(b:MemCube {tenant: $tenant}) "
    "WHERE " + BOTH_ADMITTED + " RETURN " + _RELATION_COLUMNS
)
"""Those that go out from the cubes."""
RELATIONS_TO_SMALLER: Final[LiteralString] = (
    "UNWIND $ids AS id MATCH (c:MemCube {tenant: $tenant, id: id})-" + RELATED + "-(b:MemCube {tenant: $tenant}) "
    "WHERE b.id < c.id AND " + BOTH_ADMITTED + " RETURN " + _RELATION_COLUMNS
)
"""Those with a cube of a smaller id at the other end, whichever way they go."""
VECTORS: Final[LiteralString] = (
    "UNWIND $refs AS ref MATCH (v:CubeVersion {tenant: $tenant, cube_id: ref[0], n: ref[1]}) UNWIND $names AS name "
    "WITH v, name WHERE v[name] IS NOT NULL RETURN v.cube_id, v.n, name, v[name]"
)
"""`v[name]` reads a property whose name is data ("vec_3"): a look-up by key, nothing that is parsed."""
ALL_ACTIVITIES: Final[LiteralString] = (
    "MATCH (a:Activity {tenant: $tenant}) WHERE a.id > $after WITH a ORDER BY a.tenant, a.id LIMIT $limit "
    "RETURN a.id, a.kind, a.agent_id, a.agent_kind, a.agent_name, a.started_us, a.at_us, a.parameters"
)
SOURCES: Final[LiteralString] = (
    "UNWIND $ids AS id MATCH (s:Source {tenant: $tenant, id: id}) RETURN s.id, s.kind, s.locator, s.sha256"
)
ALL_SOURCES: Final[LiteralString] = (
    "MATCH (s:Source {tenant: $tenant}) WHERE s.id > $after "
    "RETURN s.id, s.kind, s.locator, s.sha256 ORDER BY s.tenant, s.id LIMIT $limit"
)

# -- in

LOADED: Final[LiteralString] = "MATCH (a:Activity {tenant: $tenant, id: $activity}) RETURN a.effects"
HOLDERS: Final[LiteralString] = (
    "UNWIND $places AS place MATCH (c:MemCube {place: place}) WHERE c.tenant = $tenant RETURN place, c.id"
)
LOAD_ACTIVITIES: Final[LiteralString] = """
UNWIND $rows AS row
CREATE (a:Activity {tenant: $tenant})
SET a += row
MERGE (g:Agent {tenant: $tenant, id: row.agent_id})
ON CREATE SET g.kind = row.agent_kind, g.name = row.agent_name
CREATE (a)-[:WAS_ASSOCIATED_WITH]->(g)
"""
LOAD_CUBES: Final[LiteralString] = """
UNWIND $rows AS row
CREATE (c:MemCube {tenant: $tenant})
SET c += row
"""
LOAD_VERSIONS: Final[LiteralString] = """
UNWIND $rows AS row
MATCH (c:MemCube {tenant: $tenant, id: row.version.cube_id})
MATCH (a:Activity {tenant: $tenant, id: row.made_by})
CREATE (v:CubeVersion {tenant: $tenant})
SET v += row.version
CREATE (c)-[:HAS_VERSION {n: v.n}]->(v), (v)-[:WAS_GENERATED_BY]->(a)
"""
LOAD_HEADS: Final[LiteralString] = """
UNWIND $rows AS row
MATCH (c:MemCube {tenant: $tenant, id: row[0]})
MATCH (v:CubeVersion {tenant: $tenant, cube_id: row[0], n: row[1]})
CREATE (c)-[:CURRENT]->(v)
"""
LOAD_REVISIONS: Final[LiteralString] = """
UNWIND $rows AS row
MATCH (v:CubeVersion {tenant: $tenant, cube_id: row[0], n: row[1]})
MATCH (old:CubeVersion {tenant: $tenant, cube_id: row[0], n: row[1] - 1})
CREATE (v)-[:WAS_REVISION_OF]->(old)
"""
LOAD_ENDS: Final[LiteralString] = """
UNWIND $rows AS row
MATCH (v:CubeVersion {tenant: $tenant, cube_id: row[0], n: row[1]})
MATCH (a:Activity {tenant: $tenant, id: row[2]})
CREATE (v)-[:WAS_INVALIDATED_BY]->(a)
"""
LOAD_DERIVATIONS: Final[LiteralString] = """
UNWIND $rows AS row
MATCH (v:CubeVersion {tenant: $tenant, cube_id: row[0], n: row[1]})
MATCH (s:CubeVersion {tenant: $tenant, cube_id: row[2], n: row[3]})
CREATE (v)-[:WAS_DERIVED_FROM {kind: row[4], activity: row[5]}]->(s)
"""
LOAD_EVIDENCE: Final[LiteralString] = """
UNWIND $rows AS row
MATCH (v:CubeVersion {tenant: $tenant, cube_id: row[0], n: row[1]})
MATCH (s:Source {tenant: $tenant, id: row[2]})
CREATE (v)-[:WAS_DERIVED_FROM {kind: row[3], activity: row[4]}]->(s)
"""
LOAD_TOUCHED: Final[LiteralString] = """
UNWIND $rows AS row
MATCH (a:Activity {tenant: $tenant, id: row[0]})
MATCH (c:MemCube {tenant: $tenant, id: row[1]})
MERGE (a)-[:TOUCHED]->(c)
"""

# -- verifying

LOG_PAGE: Final[LiteralString] = (
    "MATCH (a:Activity {tenant: $tenant}) WHERE a.seq > $after WITH a ORDER BY a.tenant, a.seq LIMIT $limit "
    "RETURN a.seq, a.id, a.kind, a.agent_id, a.agent_kind, a.agent_name, a.started_us, a.at_us, a.parameters, "
    "a.effects, a.chain, COLLECT { MATCH (a)-[:TOUCHED]->(c:MemCube {tenant: $tenant}) RETURN c.id } AS touched"
)
END_OF_LOG: Final[LiteralString] = (
    "MATCH (t:Tenant {id: $tenant}) RETURN t.seq, t.chain, t.cubes, t.versions, coalesce(t.spaces, 0)"
)
WITHOUT_AGENT: Final[LiteralString] = (
    "MATCH (a:Activity {tenant: $tenant}) WHERE a.id IS NOT NULL AND NOT EXISTS { "
    "MATCH (a)-[:WAS_ASSOCIATED_WITH]->(g:Agent {tenant: $tenant}) WHERE g.id = a.agent_id } RETURN a.id LIMIT $limit"
)
STRAY_VERSIONS: Final[LiteralString] = (
    "MATCH (v:CubeVersion {tenant: $tenant}) WHERE v.cube_id IS NOT NULL AND v.n IS NOT NULL AND NOT EXISTS { "
    "MATCH (v)<-[:HAS_VERSION]-(c:MemCube {tenant: $tenant}) WHERE c.id = v.cube_id } "
    "RETURN v.cube_id, v.n LIMIT $limit"
)
CUBES_TO_VERIFY: Final[LiteralString] = (
    "MATCH (c:MemCube {tenant: $tenant}) WHERE c.id > $after WITH c ORDER BY c.tenant, c.id LIMIT $limit "
    "RETURN c.id, c {.rid, .user_id, .agent_id, .session_id, .state, .version, .hash, .same, .place, .collection, "
    ".key, .readers, .text} AS found, "
    "COLLECT { MATCH (c)-[:CURRENT]->(v:CubeVersion {tenant: $tenant}) RETURN [v.cube_id, v.n] } AS heads, "
    "[name IN keys(c) WHERE name STARTS WITH 'emb_'] AS vectors, "
    "COLLECT { MATCH (c)-" + RELATED + "->(b:MemCube {tenant: $tenant}) RETURN [c.id, type(r), b.id] } AS relations, "
    "EXISTS { MATCH (c)--(other) WHERE other.tenant IS NULL OR other.tenant <> $tenant } AS leaves"
)
VERSIONS_TO_VERIFY: Final[LiteralString] = (
    "UNWIND $ids AS id MATCH (c:MemCube {tenant: $tenant, id: id})-[h:HAS_VERSION]->(v:CubeVersion {tenant: $tenant}) "
    "RETURN c.id, v.n, h.n, v {.cube_id, .n, .rid, .hash, .body, .memory_type, .recorded_us, .event_us, "
    ".valid_from_us, .valid_to_us, .expires_us, .collection, .speaker, .flags, .length, .terms, .has_text, .blobs} "
    "AS found, v.superseded_us IS NULL AS is_believed, v.is_stale, "
    "COLLECT { MATCH (v)-[:WAS_GENERATED_BY]->(a:Activity {tenant: $tenant}) RETURN a.id } AS made, "
    "COLLECT { MATCH (v)-[:WAS_INVALIDATED_BY]->(a:Activity {tenant: $tenant}) RETURN a.id } AS ended, "
    "COLLECT { MATCH (v)-[:WAS_REVISION_OF]->(o:CubeVersion {tenant: $tenant}) RETURN [o.cube_id, o.n] } AS revised, "
    "COLLECT { MATCH (v)-[:HAS_BLOB]->(b:Blob {tenant: $tenant}) RETURN b.sha256 } AS blobs, "
    "COLLECT { MATCH (v)-[d:WAS_DERIVED_FROM]->(s:CubeVersion {tenant: $tenant}) "
    "RETURN [s.cube_id, s.n, d.kind, s.superseded_us IS NOT NULL OR s.is_stale] } AS origins, "
    "COLLECT { MATCH (v)-[d:WAS_DERIVED_FROM]->(s:Source {tenant: $tenant}) RETURN [s.id, d.kind] } AS sources, "
    "[name IN keys(v) WHERE name STARTS WITH 'vec_' | [name, v[name]]] AS vectors, "
    "EXISTS { MATCH (v)--(other) WHERE other.tenant IS NULL OR other.tenant <> $tenant } AS leaves"
)
