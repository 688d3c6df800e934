"""Cypher for people: six questions worth asking of a store's graph. Constants only; docs/neo4j_schema.md shows them.

The vault never sends these. They return no embeddings, and each begins at an index. Where they follow a lineage, they
ask only for its ends, so that the server visits each version once instead of walking every path.
"""

from __future__ import annotations

from typing import Final, LiteralString

_TEXT: Final[LiteralString] = (
    '[text IN split(v.body, \'"payload":{"text":"\')[1..][-1..] | left(left(text, size(text) - 3), 100)][0] AS text'
)
"""The text that ends a version's JSON, as JSON writes it; null for other payloads and for what was erased."""

HOLDS_NOW: Final[LiteralString] = """
MATCH (c:MemCube {tenant: $tenant, user_id: $user})
USING INDEX c:MemCube(tenant, user_id, created_us)
WHERE c.created_us IS NOT NULL AND c.state = 'activated'
MATCH (c)-[:CURRENT]->(v:CubeVersion {tenant: $tenant})
WHERE v.superseded_us IS NULL AND NOT v.is_stale AND coalesce(v.expires_us > $now_us, true)
RETURN c.id AS memory, v.n AS version, datetime({epochMillis: v.recorded_us / 1000}) AS recorded, c.text AS text
ORDER BY c.created_us, memory
"""

WHY_BELIEVED: Final[LiteralString] = """
MATCH (:MemCube {tenant: $tenant, id: $id})-[:CURRENT]->(newest:CubeVersion {tenant: $tenant})
MATCH path = (newest)-[:WAS_DERIVED_FROM|WAS_REVISION_OF*0..]->(found {tenant: $tenant})
WITH found, min(length(path)) AS steps
OPTIONAL MATCH (found)-[:WAS_GENERATED_BY]->(a:Activity {tenant: $tenant})
RETURN steps, labels(found)[0] AS what, coalesce(found.cube_id, found.id) AS id, found.n AS version,
  found.locator AS source, a.kind AS did, coalesce(a.agent_name, a.agent_id) AS who,
  CASE WHEN found.recorded_us IS NOT NULL THEN datetime({epochMillis: found.recorded_us / 1000}) END AS recorded
ORDER BY steps, id, version
"""

WOULD_GO: Final[LiteralString] = """
MATCH (:CubeVersion {tenant: $tenant, cube_id: $id, n: 1})
  <-[:WAS_DERIVED_FROM|WAS_REVISION_OF*0..]-(v:CubeVersion {tenant: $tenant})
WITH DISTINCT v
MATCH (v)<-[:HAS_VERSION]-(c:MemCube {tenant: $tenant})
WITH c, min(v.n) AS first
OPTIONAL MATCH (c)-[:HAS_VERSION]->(earlier:CubeVersion {tenant: $tenant}) WHERE earlier.n < first
OPTIONAL MATCH (earlier)<-[:WAS_DERIVED_FROM|WAS_REVISION_OF*0..]-(w:CubeVersion {tenant: $tenant})
WITH DISTINCT c, w
OPTIONAL MATCH (w)<-[:HAS_VERSION]-(d:MemCube {tenant: $tenant})
WITH collect(DISTINCT c) + collect(DISTINCT d) AS cubes
UNWIND cubes AS gone
WITH DISTINCT gone WHERE gone.state <> 'erased'
RETURN gone.id AS memory, gone.user_id AS user, gone.version AS versions, gone.text AS text
ORDER BY memory
"""
"""Down to what derives from any version, and once to earlier versions of the memories on the way. `erase` follows
those of what is found then, too."""

WROTE_MOST: Final[LiteralString] = """
MATCH (a:Activity {tenant: $tenant})
USING INDEX a:Activity(tenant, id)
WHERE a.id >= '' AND a.at_us >= $since_us
MATCH (a)-[:WAS_ASSOCIATED_WITH]->(g:Agent {tenant: $tenant})
RETURN coalesce(g.name, g.id) AS who, g.kind AS kind, count(a) AS activities,
  sum(COUNT { (a)<-[:WAS_GENERATED_BY]-(:CubeVersion {tenant: $tenant}) }) AS versions
ORDER BY versions DESC, activities DESC, who
LIMIT 10
"""

OPEN_CONTRADICTIONS: Final[LiteralString] = """
MATCH (a:MemCube {tenant: $tenant})
USING INDEX a:MemCube(tenant, id)
WHERE a.id >= '' AND a.state = 'activated'
MATCH (a)-[r:CONTRADICTS]->(b:MemCube {tenant: $tenant})
WHERE r.removed_us IS NULL AND b.state = 'activated'
RETURN a.id AS memory, a.text AS text, b.id AS contradicts, b.text AS its_text,
  datetime({epochMillis: r.recorded_us / 1000}) AS since
ORDER BY since, memory, contradicts
"""

BELIEVED_AT: Final[LiteralString] = (
    """
MATCH (c:MemCube {tenant: $tenant, user_id: $user})
USING INDEX c:MemCube(tenant, user_id, created_us)
WHERE c.created_us <= $at_us
MATCH (c)-[:HAS_VERSION]->(v:CubeVersion {tenant: $tenant})
WHERE v.recorded_us <= $at_us AND coalesce(v.superseded_us > $at_us, true) AND v.body IS NOT NULL
RETURN c.id AS memory, v.n AS version, datetime({epochMillis: v.recorded_us / 1000}) AS recorded,
  """
    + _TEXT
    + """
ORDER BY recorded, memory
"""
)
"""Not what was erased since: that nobody can tell any more."""
