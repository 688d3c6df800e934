"""Ways to break a graph behind a `Neo4jVault`'s back: name -> Cypher.

Each is run with `$tenant` (as the graph names it) and `$id`, the id of the cube "derived" of `vault_transfer_laws`'
story: in the log, with vectors, derived from a version that has been superseded. Each returns how much it changed.
"""

from __future__ import annotations

from typing import Final, LiteralString

_CUBE: Final[LiteralString] = "MATCH (c:MemCube {tenant: $tenant, id: $id}) "
_HEAD: Final[LiteralString] = "MATCH (c:MemCube {tenant: $tenant, id: $id})-[current:CURRENT]->(v:CubeVersion) "
_OLD: Final[LiteralString] = (
    "MATCH (c:MemCube {tenant: $tenant})-[has:HAS_VERSION]->(v:CubeVersion) "
    "WHERE v.body IS NOT NULL AND v.n < c.version WITH c, has, v LIMIT 1 "
)
_ERASED: Final[LiteralString] = (
    "MATCH (c:MemCube {tenant: $tenant, state: 'erased'})-[:CURRENT]->(v:CubeVersion) WITH c, v LIMIT 1 "
)
_ENTRY: Final[LiteralString] = "MATCH (a:Activity {tenant: $tenant, seq: 2}) "
_END: Final[LiteralString] = "MATCH (t:Tenant {id: $tenant}) "
_COUNTED: Final[LiteralString] = " RETURN count(*)"

NEO4J_DAMAGES: Final[dict[str, LiteralString]] = {
    # content
    "a changed text": _HEAD + "SET v.body = replace(v.body, 'derived', 'forged')" + _COUNTED,
    "another content with its hash": _HEAD
    + "MATCH (o:CubeVersion {tenant: $tenant}) WHERE o.body IS NOT NULL AND o.hash <> v.hash WITH v, o LIMIT 1 "
    + "SET v.body = o.body, v.hash = o.hash"
    + _COUNTED,
    "another hash": _HEAD + "SET v.hash = reverse(v.hash)" + _COUNTED,
    # versions and heads
    "a stale mark taken off": _HEAD + "SET v.is_stale = false" + _COUNTED,
    "an old version that is believed": _OLD + "SET v.superseded_us = null" + _COUNTED,
    "a lost version": _OLD + "DETACH DELETE v" + _COUNTED,
    "a lost cube": _CUBE + "DETACH DELETE c" + _COUNTED,
    "a cube lost with its versions": _CUBE + "MATCH (c)-[:HAS_VERSION]->(v) DETACH DELETE c, v" + _COUNTED,
    "a version that hangs on no cube": _OLD + "DELETE has" + _COUNTED,
    "a version that hangs on another cube": _OLD
    + "MATCH (o:MemCube {tenant: $tenant, id: $id}) CREATE (o)-[:HAS_VERSION {n: v.n}]->(v) DELETE has"
    + _COUNTED,
    "a moved head": _CUBE + "SET c.version = c.version + 1" + _COUNTED,
    "a head on an old version": _OLD + "MATCH (c)-[now:CURRENT]->() CREATE (c)-[:CURRENT]->(v) DELETE now" + _COUNTED,
    "two heads": _OLD + "CREATE (c)-[:CURRENT]->(v)" + _COUNTED,
    "no head": _HEAD + "DELETE current" + _COUNTED,
    "a lost step from version to version": "MATCH (:CubeVersion {tenant: $tenant})-[r:WAS_REVISION_OF]->() "
    "WITH r LIMIT 1 DELETE r" + _COUNTED,
    "a number that was never given out": _CUBE + "SET c.rid = 1000000" + _COUNTED,
    "a version's number that was never given out": _HEAD + "SET v.rid = 1000000" + _COUNTED,
    # the log
    "a changed log entry": _ENTRY + "SET a.parameters = '{\"a\":1}'" + _COUNTED,
    "a log entry by another agent": _ENTRY + "SET a.agent_id = 'somebody'" + _COUNTED,
    "a log entry joined with another agent": _ENTRY
    + "MATCH (a)-[r:WAS_ASSOCIATED_WITH]->() CREATE (a)-[:WAS_ASSOCIATED_WITH]->(:Agent {tenant: $tenant, id: 'x'}) "
    + "DELETE r"
    + _COUNTED,
    "a log entry at another time": _ENTRY + "SET a.at_us = a.at_us + 1" + _COUNTED,
    "a lost log entry": "MATCH (a:Activity {tenant: $tenant}) WHERE a.seq IS NOT NULL "
    "WITH a ORDER BY a.seq DESC LIMIT 1 SET a.seq = null" + _COUNTED,
    "a log entry lost in the middle": _ENTRY + "SET a.seq = null" + _COUNTED,
    "a log that ends elsewhere": _END + "SET t.seq = t.seq - 1" + _COUNTED,
    "a log with another end": _END + "SET t.chain = reverse(t.chain)" + _COUNTED,
    "a log entry that does not show what it touched": _CUBE + "<-[r:TOUCHED]-() DELETE r" + _COUNTED,
    # edges
    "a lost derivation": _HEAD + "MATCH (v)-[d:WAS_DERIVED_FROM]->() DELETE d" + _COUNTED,
    "a derivation of another kind": _HEAD + "MATCH (v)-[d:WAS_DERIVED_FROM]->() SET d.kind = 'guess'" + _COUNTED,
    "a lost source": "MATCH (s:Source {tenant: $tenant}) DETACH DELETE s" + _COUNTED,
    "a lost relation": "MATCH (:MemCube {tenant: $tenant})-[r:RELATES_TO]->() "
    "WHERE r.removed_us IS NULL DELETE r" + _COUNTED,
    "a version that nobody made": _HEAD + "MATCH (v)-[r:WAS_GENERATED_BY]->() DELETE r" + _COUNTED,
    "a version joined to another tenant": _HEAD
    + "CREATE (v)-[:WAS_DERIVED_FROM {kind: 'derive', activity: 'x'}]->(:CubeVersion {tenant: $tenant + ' elsewhere'})"
    + _COUNTED,
    "a cube joined to another tenant": _CUBE
    + "CREATE (c)-[:RELATES_TO {properties: '{}'}]->(:MemCube {tenant: $tenant + ' elsewhere'})"
    + _COUNTED,
    # what stands beside the content
    "another owner": _CUBE + "SET c.user_id = 'eve'" + _COUNTED,
    "an owner more": _CUBE + "SET c.session_id = 'eve'" + _COUNTED,
    "no owner": _CUBE + "SET c.user_id = null" + _COUNTED,
    "a key that the content does not have": _CUBE + "SET c.key = 'stolen'" + _COUNTED,
    "a place that the content does not have": _CUBE + "SET c.place = 'stolen'" + _COUNTED,
    "a grant that the content does not give": _CUBE + "SET c.readers = ['eve']" + _COUNTED,
    "a text to be shown that is another": _CUBE + "SET c.text = 'forged'" + _COUNTED,
    "a row of the duplicate index that is off": _CUBE + "SET c.same = 'forged'" + _COUNTED,
    "another collection": _HEAD + "SET v.collection = 'x'" + _COUNTED,
    "another collection of the cube": _CUBE + "SET c.collection = 'x'" + _COUNTED,
    "another lifespan": _HEAD + "SET v.expires_us = 1" + _COUNTED,
    "another time": _HEAD + "SET v.event_us = 1" + _COUNTED,
    "another validity": _HEAD + "SET v.valid_to_us = 1" + _COUNTED,
    "another speaker": _HEAD + "SET v.speaker = 'eve'" + _COUNTED,
    "another form": _HEAD + "SET v.memory_type = 'activation'" + _COUNTED,
    "a lost row of the text index": _HEAD + "SET v.terms = null" + _COUNTED,
    "a text index of another text": _HEAD + "SET v.terms = 'forg 1'" + _COUNTED,
    "another length": _HEAD + "SET v.length = 99" + _COUNTED,
    "a payload that the content does not name": _HEAD + "SET v.blobs = ['00']" + _COUNTED,
    "a payload that it is joined with by mistake": _HEAD
    + "CREATE (v)-[:HAS_BLOB]->(:Blob {tenant: $tenant, sha256: '00'})"
    + _COUNTED,
    "a vector cut short": _HEAD + "SET v.vec_1 = 'x'" + _COUNTED,
    "a vector of a space that never was": _HEAD + "SET v.vec_99 = 'x'" + _COUNTED,
    # what was erased
    "a text of what was erased": _ERASED + "SET c.text = 'back'" + _COUNTED,
    "words of what was erased": _ERASED + "SET v.terms = 'back 1'" + _COUNTED,
    "a speaker of what was erased": _ERASED + "SET v.speaker = 'back'" + _COUNTED,
    "a key of what was erased": _ERASED + "SET c.key = 'back'" + _COUNTED,
    "a vector of what was erased": _ERASED + "SET v.vec_1 = 'x'" + _COUNTED,
    "an index row of what was erased": _ERASED + "SET c.emb_2 = [0.1, 0.2]" + _COUNTED,
    "the content of what was erased": _ERASED + "SET v.body = '{}'" + _COUNTED,
    "an erased cube that lives again": _ERASED + "SET c.state = 'activated'" + _COUNTED,
    "a living cube that says it is erased": _CUBE + "SET c.state = 'erased'" + _COUNTED,
}
