"""Cypher of nearest: the server's own vector and full-text index over large scopes, and their upkeep.

Constants only. An index and a property cannot be named by a parameter, so the dimensions that get an index are a closed
set (`INDEXED_DIMENSIONS`), and what differs between them stands in one table each.
"""

from __future__ import annotations

from typing import Final, LiteralString

from memos_agents.infrastructure.vault.neo4j.cypher_search import (
    BELIEVED,
    COLUMNS,
    FIND,
    OWNED,
    ROW,
    SHOWN,
    By,
)

VECTOR_PROPERTY: Final[dict[int, LiteralString]] = {
    64: "emb_64", 128: "emb_128", 256: "emb_256", 384: "emb_384", 512: "emb_512", 768: "emb_768",
    1024: "emb_1024", 1536: "emb_1536", 2048: "emb_2048", 3072: "emb_3072", 4096: "emb_4096",
}  # fmt: skip
VECTOR_INDEX: Final[dict[int, LiteralString]] = {
    64: "memos_vec_64", 128: "memos_vec_128", 256: "memos_vec_256", 384: "memos_vec_384", 512: "memos_vec_512",
    768: "memos_vec_768", 1024: "memos_vec_1024", 1536: "memos_vec_1536", 2048: "memos_vec_2048",
    3072: "memos_vec_3072", 4096: "memos_vec_4096",
}  # fmt: skip
PROPERTIES: Final = frozenset(VECTOR_PROPERTY.values())
INDEXED_DIMENSIONS: Final = frozenset(VECTOR_INDEX)
"""Scopes whose vectors have another dimension are always searched exactly."""

# -- schema

TEXT_INDEX: Final = "memos_words"
TURN_INDEX: Final = "memos_cube_turn"
CREATE_TEXT_INDEX: Final[LiteralString] = (
    "CREATE FULLTEXT INDEX memos_words IF NOT EXISTS FOR (c:MemCube) ON EACH [c.words] "
    "OPTIONS {indexConfig: {`fulltext.analyzer`: 'whitespace', `fulltext.eventually_consistent`: false}}"
)
"""Over our own terms, so that the server matches the words that our ranker counts."""
CREATE_TURN_INDEX: Final[LiteralString] = (
    "CREATE INDEX memos_cube_turn IF NOT EXISTS FOR (c:MemCube) ON (c.tenant, c.session_id, c.created_us, c.id)"
)
"""Finds the turns before and after one."""
_OF_COSINE: Final[LiteralString] = (
    " OPTIONS {indexConfig: {`vector.similarity_function`: 'cosine', `vector.dimensions`: "
)
_DIMENSION: Final[dict[int, LiteralString]] = {
    64: "64}}", 128: "128}}", 256: "256}}", 384: "384}}", 512: "512}}", 768: "768}}", 1024: "1024}}",
    1536: "1536}}", 2048: "2048}}", 3072: "3072}}", 4096: "4096}}",
}  # fmt: skip
_CREATE: Final[LiteralString] = "CREATE VECTOR INDEX "
_ON: Final[LiteralString] = " IF NOT EXISTS FOR (c:MemCube) ON (c."
_CREATE_25: Final[LiteralString] = "CYPHER 25 CREATE VECTOR INDEX "
_ON_25: Final[LiteralString] = " IF NOT EXISTS FOR (c:MemCube) ON c."
_WITH_25: Final[LiteralString] = " WITH [c.tenant, c.user_id, c.agent_id, c.session_id, c.collection]"
CREATE_VECTOR_INDEX: Final[dict[int, LiteralString]] = {
    size: _CREATE + VECTOR_INDEX[size] + _ON + VECTOR_PROPERTY[size] + ")" + _OF_COSINE + _DIMENSION[size]
    for size in VECTOR_INDEX
}
CREATE_VECTOR_INDEX_25: Final[dict[int, LiteralString]] = {
    size: _CREATE_25 + VECTOR_INDEX[size] + _ON_25 + VECTOR_PROPERTY[size] + _WITH_25 + _OF_COSINE + _DIMENSION[size]
    for size in VECTOR_INDEX
}
"""From 2026.01 on: the owner lies in the index, so that it is searched within a scope."""
SHOW_INDEXES: Final[LiteralString] = "SHOW INDEXES YIELD name, state WHERE name STARTS WITH 'memos_' RETURN name, state"
COUNT_INDEXED: Final[LiteralString] = (
    "MATCH (t:Tenant) WHERE t.near_dimension = $dimension RETURN coalesce(sum(t.cubes), 0)"
)
"""How many cubes of all tenants a vector index may hold: a number, and all that is ever read across tenants."""

# -- the size of a scope, and what is common in it

_SIZE: Final[LiteralString] = " WITH c LIMIT $limit RETURN count(c)"
SIZE: Final[dict[By, LiteralString]] = {by: FIND[by] + _SIZE for by in FIND}
_SIZE_SHOWN: Final[LiteralString] = (
    " AND c.state IN $states AND ($collection IS NULL OR c.collection = $collection) RETURN count(c)"
)
SIZE_SHOWN: Final[dict[By, LiteralString]] = {by: FIND[by] + _SIZE_SHOWN for by in FIND}
_SAMPLED: Final[LiteralString] = (
    (
        " AND c.state IN $states AND ($collection IS NULL OR c.collection = $collection)"
        " WITH c ORDER BY c.rid * 2654435761 % 4294967296 LIMIT $sample"
        " MATCH (c)-[:CURRENT]->(v:CubeVersion {tenant: $tenant}) WHERE "
    )
    + SHOWN
    + " AND "
    + BELIEVED
    + (" RETURN collect(v.rid), collect(v.length), collect(coalesce(v.speaker, '')), collect(v.terms)")
)
SAMPLE: Final[dict[By, LiteralString]] = {by: FIND[by] + _SAMPLED for by in FIND}
"""Rows of the scope as if drawn by lot, always the same ones (the multiplier is Knuth's)."""

# -- candidates

_START: Final[LiteralString] = """
OPTIONAL MATCH (t:Tenant {id: $tenant})
OPTIONAL MATCH (p:Space {tenant: $tenant, fingerprint: $space})
WITH t, p, 'vec_' + coalesce(toString(p.number), '') AS vector,
  CASE WHEN $after > t.near_seq THEN $after ELSE t.near_seq END AS since
CALL (vector) {
  CALL () {
    CALL () {
"""
_BY_MEANING_25: Final[LiteralString] = "MATCH (c:MemCube) SEARCH c IN (VECTOR INDEX "
_FOR_25: Final[LiteralString] = " FOR $question WHERE c.tenant = $tenant"
_WITHIN_25: Final[dict[By, LiteralString]] = {
    "session": " AND c.session_id = $session",
    "user": " AND c.user_id = $user",
    "agent": " AND c.agent_id = $agent",
    "tenant": "",
}
_AS_25: Final[LiteralString] = " LIMIT $nearest) SCORE AS score "
_BY_MEANING: Final[LiteralString] = (
    "CALL db.index.vector.queryNodes($index, $nearest, $question) YIELD node AS c, score "
)
_BY_WORDS: Final[LiteralString] = (
    "CALL db.index.fulltext.queryNodes('memos_words', $words, {limit: $matching}) YIELD node AS c, score "
)
_BEST_FIRST: Final[LiteralString] = (
    "WITH c, score WHERE c.tenant = $tenant AND ($collection IS NULL OR c.collection = $collection) AND "
    + OWNED
    + " WITH c ORDER BY score DESC LIMIT $each RETURN collect(c) AS found\n"
)
_OR: Final[LiteralString] = "    UNION ALL\n"
_JOINED: Final[LiteralString] = (
    """
    }
    UNWIND range(0, size(found) - 1) AS place
    WITH found[place] AS c, 1.0 / (60 + place) AS share
    WITH c, sum(share) AS score ORDER BY score DESC
    RETURN collect(c) AS chosen
  }
  CALL (chosen) {
    UNWIND chosen[..$around] AS c
    WITH c, (
      COLLECT { MATCH (n:MemCube {tenant: $tenant, session_id: c.session_id, created_us: c.created_us})
        WHERE n.id < c.id RETURN n
        ORDER BY n.tenant DESC, n.session_id DESC, n.created_us DESC, n.id DESC LIMIT 2 }
      + COLLECT { MATCH (n:MemCube {tenant: $tenant, session_id: c.session_id})
        WHERE n.created_us < c.created_us AND n.id IS NOT NULL RETURN n
        ORDER BY n.tenant DESC, n.session_id DESC, n.created_us DESC, n.id DESC LIMIT 2 }
    )[..2] AS before, (
      COLLECT { MATCH (n:MemCube {tenant: $tenant, session_id: c.session_id, created_us: c.created_us})
        WHERE n.id > c.id RETURN n
        ORDER BY n.tenant, n.session_id, n.created_us, n.id LIMIT 2 }
      + COLLECT { MATCH (n:MemCube {tenant: $tenant, session_id: c.session_id})
        WHERE n.created_us > c.created_us AND n.id IS NOT NULL RETURN n
        ORDER BY n.tenant, n.session_id, n.created_us, n.id LIMIT 2 }
    )[..2] AS after
    RETURN collect(reverse(before) + [c] + after) AS talks
  }
  CALL (vector, chosen, talks) {
    UNWIND [chosen] + talks AS turns
    UNWIND turns AS c
    WITH DISTINCT vector, c
    MATCH (c)-[:CURRENT]->(v:CubeVersion {tenant: $tenant}) WHERE c.tenant = $tenant AND """
    + OWNED
    + " AND "
    + SHOWN
    + " AND "
    + BELIEVED
    + COLUMNS
    + """
  }
  RETURN [turns IN talks | [c IN turns | c.rid]] AS talks_said, ids, numbers, users, agents, sessions, speakers, flags,
    events, lengths, vectors, cubes, versions, created, expires, valid_from, valid_to, terms
}"""
)
"""What either index finds, and the turns around the best of them by rank fusion (Cormack, Clarke and Buettcher 2009,
k = 60); our own ranker does the rest. The index order in ORDER BY makes each neighbour one step in the index, however
long its session is. In a talk our ranker reads a turn in its context: on 98,000 turns, about 400 rows chosen as fewer
candidates with two neighbours on each side gave more of the exact top ten (82 %) than as more with fewer (77 %)."""
_FINISH: Final[LiteralString] = (
    """
RETURN coalesce(t.seq, 0), t.epoch, coalesce(t.erased_seq, 0),
  [t.near_seq, t.near_us, t.near_space, t.near_epoch], p.number, p.dimension, talks_said,
  [ids, numbers, users, agents, sessions, speakers, flags, events, lengths, vectors, cubes, versions, created, expires,
   valid_from, valid_to, terms],
  EXISTS { MATCH (a:Activity {tenant: $tenant}) WHERE a.seq > since AND a.reshapes },
  COLLECT {
    MATCH (a:Activity {tenant: $tenant}) WHERE a.seq > since
    MATCH (a)-[:TOUCHED]->(c:MemCube {tenant: $tenant}) WHERE """
    + OWNED
    + """
    WITH DISTINCT c LIMIT $tail
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
BY_WORDS: Final[LiteralString] = _START + _BY_WORDS + _BEST_FIRST + _JOINED + _FINISH
BY_MEANING: Final[LiteralString] = _START + _BY_MEANING + _BEST_FIRST + _JOINED + _FINISH
BY_BOTH: Final[LiteralString] = _START + _BY_MEANING + _BEST_FIRST + _OR + _BY_WORDS + _BEST_FIRST + _JOINED + _FINISH
"""Candidates of a scope with their neighbours in the session, and what the indexes do not hold yet, in one question."""

_CYPHER_25: Final[LiteralString] = "CYPHER 25 "
_IN_COLLECTION: Final[dict[bool, LiteralString]] = {True: " AND c.collection = $collection", False: ""}
BY_MEANING_25: Final[dict[tuple[int, By, bool], LiteralString]] = {
    (size, by, one): _CYPHER_25 + _START + _BY_MEANING_25 + VECTOR_INDEX[size] + _FOR_25 + _WITHIN_25[by]
    + _IN_COLLECTION[one] + _AS_25 + _BEST_FIRST + _JOINED + _FINISH
    for size in VECTOR_INDEX for by in _WITHIN_25 for one in _IN_COLLECTION
}  # fmt: skip
BY_BOTH_25: Final[dict[tuple[int, By, bool], LiteralString]] = {
    (size, by, one): _CYPHER_25 + _START + _BY_MEANING_25 + VECTOR_INDEX[size] + _FOR_25 + _WITHIN_25[by]
    + _IN_COLLECTION[one] + _AS_25 + _BEST_FIRST + _OR + _BY_WORDS + _BEST_FIRST + _JOINED + _FINISH
    for size in VECTOR_INDEX for by in _WITHIN_25 for one in _IN_COLLECTION
}  # fmt: skip
"""The same with the owner filtered inside the vector index; by dimension, field of the scope, and whether it names a
collection."""

# -- upkeep

STORED: Final[LiteralString] = "MATCH (t:Tenant {id: $tenant}) RETURN t.id"
UPKEEP_HEAD: Final[LiteralString] = """
OPTIONAL MATCH (t:Tenant {id: $tenant})
OPTIONAL MATCH (p:Space {tenant: $tenant, fingerprint: $space})
RETURN t.seq, t.at_us, t.epoch, t.near_seq, t.near_epoch, t.near_space, p.number, p.dimension, t.id, t.cubes
"""
TOUCHED_SINCE: Final[LiteralString] = """
MATCH (a:Activity {tenant: $tenant}) WHERE a.seq > $since AND a.seq <= $until
MATCH (a)-[:TOUCHED]->(c:MemCube {tenant: $tenant})
RETURN collect(DISTINCT c.id)
"""
IDS_AFTER: Final[LiteralString] = """
MATCH (c:MemCube {tenant: $tenant}) WHERE c.id > $after
WITH c.id AS id ORDER BY id LIMIT $limit
RETURN collect(id)
"""
TO_INDEX: Final[LiteralString] = """
UNWIND $ids AS id
MATCH (c:MemCube {tenant: $tenant, id: id})-[:CURRENT]->(v:CubeVersion {tenant: $tenant})
WITH c, v, c.state = 'activated' AND v.memory_type = 'plaintext' AND v.superseded_us IS NULL AS is_searched
WHERE (is_searched AND coalesce(c.near <> [v.rid, $space, $epoch], true)) OR (NOT is_searched AND c.near IS NOT NULL)
RETURN c.id, v.rid, is_searched, c.user_id, c.agent_id, c.session_id, c.collection, v.terms,
  CASE WHEN c.text IS NOT NULL THEN v[$vector] END
"""
"""What the indexes do not hold as it is now. Stale heads stay in them: the mark comes and goes without a line in the
log that names the cube, so it is looked at when searching. A vector without a text would break other tools."""
PUT_INDEXED: Final[LiteralString] = """
UNWIND $rows AS row
MATCH (c:MemCube {tenant: $tenant, id: row[0]})-[:CURRENT]->(v:CubeVersion {tenant: $tenant, rid: row[1]})
SET c += $others, c.words = row[2], c.near = row[3]
WITH c, row WHERE row[4] IS NOT NULL
CALL db.create.setNodeVectorProperty(c, $property, row[4])
RETURN count(c)
"""
"""`setNodeVectorProperty` keeps 4 bytes a number where SET would keep 8."""
FORGET: Final[LiteralString] = (
    " REMOVE c.words, c.near, c.emb_64, c.emb_128, c.emb_256, c.emb_384, c.emb_512, c.emb_768, c.emb_1024, c.emb_1536, "
    "c.emb_2048, c.emb_3072, c.emb_4096 "
)
"""For a statement that changes what the head of `c` says: it leaves the indexes with the same transaction."""
FORGET_INDEXED: Final[LiteralString] = """
UNWIND $ids AS id
MATCH (c:MemCube {tenant: $tenant, id: id})
SET c.words = null, c.near = null, c += $nothing
"""
SET_INDEXED: Final[LiteralString] = """
MATCH (t:Tenant {id: $tenant}) SET t.near_seq = $seq, t.near_us = $at_us, t.near_epoch = $epoch, t.near_space = $number,
  t.near_dimension = $dimension
"""
DROP_INDEXED: Final[LiteralString] = (
    "MATCH (c:MemCube {tenant: $tenant}) WHERE c.created_us IS NOT NULL AND c.near IS NOT NULL CALL (c) {"
    + FORGET
    + "} IN TRANSACTIONS OF 2000 ROWS"
)
UNSET_INDEXED: Final[LiteralString] = """
MATCH (t:Tenant {id: $tenant})
SET t.near_seq = null, t.near_us = null, t.near_epoch = null, t.near_space = null, t.near_dimension = null
"""
