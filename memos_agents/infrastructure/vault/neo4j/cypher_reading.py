"""Cypher of reading: cubes, lists, relations, the log, lineage and counts.

Constants only. A part that a statement is joined from starts with an underscore or names its variables: `c` is a cube,
`v` its version, `a` an activity. `$user`, `$agent` and `$session` are a scope, null where it binds nothing. Nothing
here follows a variable-length path: a lineage is asked for step by step, because `*` walks every path of a graph with
joins.
"""

from __future__ import annotations

from typing import Final, Literal, LiteralString, TypeAlias

Owner: TypeAlias = Literal["session", "user", "agent", "anyone"]
"""By which of a scope's fields its cubes are looked up: the most selective one that is bound."""
Order: TypeAlias = Literal["created", "created down", "occurred", "occurred down"]
Way: TypeAlias = Literal["up", "down"]
Direction: TypeAlias = Literal["up", "down", "both"]

# -- whose: conditions on a cube

ADMITTED: Final[LiteralString] = (
    "($user IS NULL OR c.user_id = $user) AND ($agent IS NULL OR c.agent_id = $agent) "
    "AND ($session IS NULL OR c.session_id = $session)"
)
BOTH_ADMITTED: Final[LiteralString] = (
    ADMITTED + " AND ($user IS NULL OR b.user_id = $user) AND ($agent IS NULL OR b.agent_id = $agent) "
    "AND ($session IS NULL OR b.session_id = $session)"
)
_REFUSED: Final[LiteralString] = (
    "(coalesce(c.user_id <> $user, $user IS NOT NULL) OR coalesce(c.agent_id <> $agent, $agent IS NOT NULL) "
    "OR coalesce(c.session_id <> $session, $session IS NOT NULL))"
)
"""The opposite of `ADMITTED`, also where a cube does not have the property (then `<>` gives null)."""

OWNED: Final[dict[Owner, LiteralString]] = {
    "session": "MATCH (c:MemCube {tenant: $tenant, session_id: $session}) USING INDEX c:MemCube(tenant, session_id) "
    "WHERE ($user IS NULL OR c.user_id = $user) AND ($agent IS NULL OR c.agent_id = $agent) ",
    "user": "MATCH (c:MemCube {tenant: $tenant, user_id: $user}) USING INDEX c:MemCube(tenant, user_id, created_us) "
    "WHERE c.created_us IS NOT NULL AND ($agent IS NULL OR c.agent_id = $agent) ",
    "agent": "MATCH (c:MemCube {tenant: $tenant, agent_id: $agent}) USING INDEX c:MemCube(tenant, agent_id) "
    "WHERE $agent IS NOT NULL ",
    "anyone": "MATCH (c:MemCube {tenant: $tenant}) USING INDEX c:MemCube(tenant, created_us) "
    "WHERE c.created_us IS NOT NULL ",
}
"""Every cube of a scope, by an index; a condition can be added. An index on several properties is used only where each
of them has a condition: hence `IS NOT NULL`. It is named, because a planner that thinks little of a graph's size starts
elsewhere."""

RELATED: Final[LiteralString] = "[r:MERGED_INTO|SUPERSEDED_BY|CONTRADICTS|RELATES_TO|NEXT|PART_OF|MENTIONS]"
_HEAD: Final[LiteralString] = "MATCH (c)-[:CURRENT]->(v:CubeVersion {tenant: $tenant}) "

# -- cubes

CUBE_COLUMNS: Final[LiteralString] = (
    "c.id, c.user_id, c.agent_id, c.session_id, c.state, c.frozen, c.created_us, c.version, c.use_count, "
    "c.last_used_us, v.n, v.recorded_us, v.superseded_us, v.is_stale, v.body, v.memory_type"
)
HEADS: Final[LiteralString] = (
    "UNWIND $ids AS id MATCH (c:MemCube {tenant: $tenant, id: id}) WHERE "
    + ADMITTED + " " + _HEAD + "RETURN " + CUBE_COLUMNS
)  # fmt: skip
VERSIONS: Final[LiteralString] = (
    "UNWIND $refs AS ref MATCH (c:MemCube {tenant: $tenant, id: ref[0]}) WHERE "
    + ADMITTED
    + " MATCH (v:CubeVersion {tenant: $tenant, cube_id: ref[0], n: ref[1]}) RETURN "
    + CUBE_COLUMNS
)
HISTORY: Final[LiteralString] = (
    "MATCH (c:MemCube {tenant: $tenant, id: $id}) WHERE "
    + ADMITTED
    + " MATCH (v:CubeVersion {tenant: $tenant, cube_id: $id}) WHERE v.n > 0 RETURN "
    + CUBE_COLUMNS
    + " ORDER BY v.n"
)
BY_PLACE: Final[LiteralString] = (
    "MATCH (c:MemCube {place: $place}) WHERE c.tenant = $tenant " + _HEAD + "RETURN " + CUBE_COLUMNS
)
METADATA: Final[LiteralString] = (
    "UNWIND $refs AS ref MATCH (v:CubeVersion {tenant: $tenant, cube_id: ref[0], n: ref[1]}) WHERE v.body IS NOT NULL "
    "RETURN v.cube_id, v.n, v.body"
)

# -- lists

_SHOWN: Final[LiteralString] = (
    "v.memory_type IN $types AND ($hidden OR (v.superseded_us IS NULL AND NOT v.is_stale "
    "AND ($now_us IS NULL OR v.expires_us IS NULL OR v.expires_us > $now_us))) "
)
_OF_KIND: Final[LiteralString] = "AND c.state IN $states AND ($collection IS NULL OR c.collection = $collection) "
_AFTER: Final[LiteralString] = (
    "AND c.created_us >= $after_us AND CASE c.created_us WHEN $after_us THEN c.id > $after_id ELSE true END "
    + _OF_KIND + "WITH c"
)  # fmt: skip
_BEFORE: Final[LiteralString] = (
    "AND c.created_us <= $after_us AND CASE c.created_us WHEN $after_us THEN c.id < $after_id ELSE true END "
    + _OF_KIND + "WITH c"
)  # fmt: skip
_LISTED: Final[LiteralString] = " " + _HEAD + "WHERE " + _SHOWN + "RETURN " + CUBE_COLUMNS
_BY_USER: Final[LiteralString] = " ORDER BY c.tenant, c.user_id, c.created_us, c.id"
_BY_USER_DOWN: Final[LiteralString] = " ORDER BY c.tenant DESC, c.user_id DESC, c.created_us DESC, c.id DESC"
_BY_TIME: Final[LiteralString] = " ORDER BY c.tenant, c.created_us, c.id"
_BY_TIME_DOWN: Final[LiteralString] = " ORDER BY c.tenant DESC, c.created_us DESC, c.id DESC"
_CREATED: Final[LiteralString] = _AFTER + _BY_TIME + _LISTED + _BY_TIME + " LIMIT $limit"
_CREATED_DOWN: Final[LiteralString] = _BEFORE + _BY_TIME_DOWN + _LISTED + _BY_TIME_DOWN + " LIMIT $limit"
_CREATED_BY_USER: Final[LiteralString] = _AFTER + _BY_USER + _LISTED + _BY_USER + " LIMIT $limit"
_CREATED_BY_USER_DOWN: Final[LiteralString] = _BEFORE + _BY_USER_DOWN + _LISTED + _BY_USER_DOWN + " LIMIT $limit"
_OCCURRED: Final[LiteralString] = (
    _OF_KIND + _HEAD + "WHERE v.event_us >= $after_us "
    "AND CASE v.event_us WHEN $after_us THEN c.id > $after_id ELSE true END AND " + _SHOWN
    + "RETURN " + CUBE_COLUMNS + " ORDER BY v.event_us, c.id LIMIT $limit"
)  # fmt: skip
_OCCURRED_DOWN: Final[LiteralString] = (
    _OF_KIND + _HEAD + "WHERE v.event_us <= $after_us "
    "AND CASE v.event_us WHEN $after_us THEN c.id < $after_id ELSE true END AND " + _SHOWN
    + "RETURN " + CUBE_COLUMNS + " ORDER BY v.event_us DESC, c.id DESC LIMIT $limit"
)  # fmt: skip

PAGE: Final[dict[tuple[Owner, Order], LiteralString]] = {
    ("session", "created"): OWNED["session"] + _CREATED,
    ("session", "created down"): OWNED["session"] + _CREATED_DOWN,
    ("session", "occurred"): OWNED["session"] + _OCCURRED,
    ("session", "occurred down"): OWNED["session"] + _OCCURRED_DOWN,
    ("user", "created"): OWNED["user"] + _CREATED_BY_USER,
    ("user", "created down"): OWNED["user"] + _CREATED_BY_USER_DOWN,
    ("user", "occurred"): OWNED["user"] + _OCCURRED,
    ("user", "occurred down"): OWNED["user"] + _OCCURRED_DOWN,
    ("agent", "created"): OWNED["agent"] + _CREATED,
    ("agent", "created down"): OWNED["agent"] + _CREATED_DOWN,
    ("agent", "occurred"): OWNED["agent"] + _OCCURRED,
    ("agent", "occurred down"): OWNED["agent"] + _OCCURRED_DOWN,
    ("anyone", "created"): OWNED["anyone"] + _CREATED,
    ("anyone", "created down"): OWNED["anyone"] + _CREATED_DOWN,
    ("anyone", "occurred"): OWNED["anyone"] + _OCCURRED,
    ("anyone", "occurred down"): OWNED["anyone"] + _OCCURRED_DOWN,
}
"""One page of heads. By creation, cubes are brought in order before their versions are looked at, so that a page costs
what it shows, wherever it begins; what was created in one moment is looked through for each page of it. An index gives
its order only to an ORDER BY that names all of its properties, those that are equal too. CASE and not OR, which a
planner may turn into a union of two seeks, without an order."""

# -- relations

RELATIONS: Final[LiteralString] = (
    "UNWIND $ids AS id MATCH (c:MemCube {tenant: $tenant, id: id})-"
    + RELATED
    + "-(b:MemCube {tenant: $tenant}) WHERE "
    + BOTH_ADMITTED
    + " AND ($removed OR r.removed_us IS NULL) WITH DISTINCT r "
    "RETURN startNode(r).id, type(r), endNode(r).id, r.properties, r.activity, r.recorded_us, r.removed_us"
)

# -- the log

_TOUCHES_ADMITTED: Final[LiteralString] = "(a)-[:TOUCHED]->(c:MemCube {tenant: $tenant}) WHERE " + ADMITTED
_TOUCHES_REFUSED: Final[LiteralString] = "(a)-[:TOUCHED]->(c:MemCube {tenant: $tenant}) WHERE " + _REFUSED
_IN_TIME: Final[LiteralString] = (
    "($since_us IS NULL OR a.at_us >= $since_us) AND ($until_us IS NULL OR a.at_us < $until_us) "
)
_LOG_ENTRIES: Final[LiteralString] = (
    "WITH DISTINCT a ORDER BY a.tenant DESC, a.seq DESC LIMIT $limit "
    "RETURN a.id, a.kind, a.agent_id, a.agent_kind, a.agent_name, a.at_us, a.parameters, a.seq, a.chain, "
    "COLLECT { MATCH " + _TOUCHES_ADMITTED + " RETURN DISTINCT c.id } AS cubes, "
    "NOT $whole AND a.parameters <> '{}' AND EXISTS { MATCH " + _TOUCHES_REFUSED + " } AS hides "
    "ORDER BY a.seq DESC"
)
_LOG_OF_OWNER: Final[LiteralString] = (
    "CALL (c) { MATCH (c)<-[:TOUCHED]-(a:Activity {tenant: $tenant}) WHERE coalesce(a.seq, 0) > 0 AND " + _IN_TIME
    + " RETURN a } " + _LOG_ENTRIES
)  # fmt: skip
"""CALL and `coalesce` keep the planner from beginning with all of the log."""
_SHOWN_TO_SCOPE: Final[LiteralString] = "AND ($whole OR EXISTS { MATCH " + _TOUCHES_ADMITTED + " }) "

LOG: Final[dict[Owner, LiteralString]] = {
    "session": OWNED["session"] + _LOG_OF_OWNER,
    "user": OWNED["user"] + _LOG_OF_OWNER,
    "agent": OWNED["agent"] + _LOG_OF_OWNER,
    "anyone": "MATCH (a:Activity {tenant: $tenant}) WHERE a.seq > 0 AND " + _IN_TIME + _SHOWN_TO_SCOPE + _LOG_ENTRIES,
}
LOG_OF_CUBE: Final[LiteralString] = (
    "MATCH (c:MemCube {tenant: $tenant, id: $cube})<-[:TOUCHED]-(a:Activity {tenant: $tenant}) WHERE "
    + ADMITTED + " AND ($activity IS NULL OR a.id = $activity) AND coalesce(a.seq, 0) > 0 AND "
    + _IN_TIME + _LOG_ENTRIES
)  # fmt: skip
LOG_OF_ACTIVITY: Final[LiteralString] = (
    "MATCH (a:Activity {tenant: $tenant, id: $activity}) WHERE coalesce(a.seq, 0) > 0 AND "
    + _IN_TIME
    + _SHOWN_TO_SCOPE
    + _LOG_ENTRIES
)

EFFECTS: Final[LiteralString] = (
    "MATCH (a:Activity {tenant: $tenant, id: $activity}) WHERE a.seq IS NOT NULL "
    "RETURN a.kind, a.effects, EXISTS { MATCH " + _TOUCHES_ADMITTED + " } AS is_seen, "
    "EXISTS { MATCH " + _TOUCHES_REFUSED + " } AS hides, "
    "COLLECT { MATCH (a)-[:TOUCHED]->(c:MemCube {tenant: $tenant})-" + RELATED + "->(b:MemCube {tenant: $tenant}) "
    "WHERE r.activity = $activity RETURN DISTINCT [c.id, type(r), b.id, r.properties] } AS opened, "
    "COLLECT { MATCH (a)-[:TOUCHED]->(c:MemCube {tenant: $tenant})-" + RELATED + "->(b:MemCube {tenant: $tenant}) "
    "WHERE r.removed_by = $activity RETURN DISTINCT [c.id, type(r), b.id, r.properties] } AS closed"
)
TOMBSTONES: Final[LiteralString] = (
    "MATCH (a:Activity {tenant: $tenant, id: $activity}) WHERE a.seq IS NOT NULL "
    "RETURN a.effects, COLLECT { MATCH (a)<-[:WAS_INVALIDATED_BY]-(v:CubeVersion {tenant: $tenant}) "
    "WHERE v.body IS NULL RETURN [v.cube_id, v.n, v.hash] } AS stones"
)

# -- lineage

_ROOT: Final[LiteralString] = (
    "MATCH (root:CubeVersion {tenant: $tenant, cube_id: $id, n: $n})<-[:HAS_VERSION]-(c:MemCube {tenant: $tenant}) "
    "WHERE " + ADMITTED + " WITH root, COLLECT { MATCH (c)-" + RELATED + "-(b:MemCube {tenant: $tenant})"
    "-[:CURRENT]->(h:CubeVersion {tenant: $tenant}) WHERE r.removed_us IS NULL AND " + BOTH_ADMITTED + " "
    "RETURN [startNode(r).id, type(r), endNode(r).id, r.properties, h.cube_id, h.n] } AS relations "
)  # fmt: skip
"""The version that is asked for, and the open relations of its cube, each with the head of the other cube."""

_STEP_UP: Final[LiteralString] = (
    "CALL (frontier) { UNWIND frontier AS f MATCH (f)-[:WAS_DERIVED_FROM|WAS_REVISION_OF]->"
    "(v:CubeVersion {tenant: $tenant})<-[:HAS_VERSION]-(c:MemCube {tenant: $tenant}) WHERE " + ADMITTED + " "
    "WITH DISTINCT f, v LIMIT $most RETURN collect(DISTINCT v) AS reached, "
    "collect([f.cube_id, f.n, v.cube_id, v.n]) AS pairs } "
)
_STEP_DOWN: Final[LiteralString] = (
    "CALL (frontier) { UNWIND frontier AS f MATCH (f)<-[:WAS_DERIVED_FROM|WAS_REVISION_OF]-"
    "(v:CubeVersion {tenant: $tenant})<-[:HAS_VERSION]-(c:MemCube {tenant: $tenant}) WHERE " + ADMITTED + " "
    "WITH DISTINCT f, v LIMIT $most RETURN collect(DISTINCT v) AS reached, "
    "collect([f.cube_id, f.n, v.cube_id, v.n]) AS pairs } "
)
_STEPPED: Final[LiteralString] = (
    "WITH root, relations, ups, steps + [[[f IN frontier | [f.cube_id, f.n]], pairs]] AS steps, "
    "CASE WHEN size(pairs) < $most AND size(steps) + 1 < $depth THEN reached ELSE [] END AS frontier "
)
_UP: Final[LiteralString] = _STEP_UP + _STEPPED
_DOWN: Final[LiteralString] = _STEP_DOWN + _STEPPED
_ANSWER: Final[LiteralString] = "RETURN relations, ups, steps"

FIRST_STEPS: Final[dict[Direction, LiteralString]] = {
    "up": _ROOT + "WITH root, relations, [] AS ups, [] AS steps, [root] AS frontier " + _UP + _UP + _UP
    + "WITH relations, steps AS ups, [] AS steps " + _ANSWER,
    "down": _ROOT + "WITH root, relations, [] AS ups, [] AS steps, [root] AS frontier " + _DOWN + _DOWN + _DOWN
    + _ANSWER,
    "both": _ROOT + "WITH root, relations, [] AS ups, [] AS steps, [root] AS frontier " + _UP + _UP + _UP
    + "WITH root, relations, steps AS ups, [] AS steps, [root] AS frontier " + _DOWN + _DOWN + _DOWN
    + _ANSWER,
}  # fmt: skip
"""The root and three steps from it, in one round trip; no record if it is not there. For each step, the versions that
it went out from, and the (from, to) pairs. A step that finds `$most` pairs is not complete: nothing goes on from it."""

_FRONTIER: Final[LiteralString] = (
    "UNWIND $refs AS ref MATCH (f:CubeVersion {tenant: $tenant, cube_id: ref[0], n: ref[1]}) "
    "WITH collect(f) AS frontier, [] AS steps, [] AS ups, null AS root, [] AS relations "
)
NEXT_STEPS: Final[dict[Way, LiteralString]] = {
    "up": _FRONTIER + _UP + _UP + _UP + _UP + _UP + _UP + _ANSWER,
    "down": _FRONTIER
    + _DOWN + _DOWN + _DOWN + _DOWN + _DOWN + _DOWN
    + _ANSWER,
}  # fmt: skip
"""Six more steps. Not dozens: a server takes as long to plan a statement as to run it hundreds of times."""

WIDE_STEP: Final[dict[Way, LiteralString]] = {
    "up": "UNWIND $refs AS ref MATCH (f:CubeVersion {tenant: $tenant, cube_id: ref[0], n: ref[1]})"
    "-[:WAS_DERIVED_FROM|WAS_REVISION_OF]->(v:CubeVersion {tenant: $tenant})<-[:HAS_VERSION]-"
    "(c:MemCube {tenant: $tenant}) WHERE " + ADMITTED + " WITH DISTINCT v.cube_id AS id, v.n AS n "
    "RETURN id, n ORDER BY id, n LIMIT $most",
    "down": "UNWIND $refs AS ref MATCH (f:CubeVersion {tenant: $tenant, cube_id: ref[0], n: ref[1]})"
    "<-[:WAS_DERIVED_FROM|WAS_REVISION_OF]-(v:CubeVersion {tenant: $tenant})<-[:HAS_VERSION]-"
    "(c:MemCube {tenant: $tenant}) WHERE " + ADMITTED + " WITH DISTINCT v.cube_id AS id, v.n AS n "
    "RETURN id, n ORDER BY id, n LIMIT $most",
}
"""One step from many versions: the first `$most` that it reaches, in order."""

_ACTIVITY_COLUMNS: Final[LiteralString] = (
    "a.id, a.kind, a.agent_id, a.agent_kind, a.agent_name, a.started_us, a.at_us, "
    "CASE WHEN $whole OR a.parameters = '{}' OR NOT EXISTS { MATCH " + _TOUCHES_REFUSED + " } "
    "THEN a.parameters ELSE '{}' END"
)
LINEAGE_NODES: Final[LiteralString] = (
    "UNWIND $refs AS ref MATCH (v:CubeVersion {tenant: $tenant, cube_id: ref[0], n: ref[1]})<-[:HAS_VERSION]-"
    "(c:MemCube {tenant: $tenant}) "
    "OPTIONAL MATCH (v)-[:WAS_GENERATED_BY]->(g:Activity {tenant: $tenant}) "
    "OPTIONAL MATCH (v)-[:WAS_INVALIDATED_BY]->(e:Activity {tenant: $tenant}) "
    "WITH v, c, g, e, "
    "CASE WHEN v.body ENDS WITH $text_end THEN left(split(v.body, $text_start)[-1], $label_characters) END AS text, "
    "COLLECT { MATCH (v)-[d:WAS_DERIVED_FROM]->(o:CubeVersion {tenant: $tenant}) RETURN [o.cube_id, o.n, d.kind] } "
    "AS origins, "
    "COLLECT { MATCH (v)-[d:WAS_DERIVED_FROM]->(s:Source {tenant: $tenant}) WHERE ref[2] "
    "RETURN [s.id, s.kind, s.locator, s.sha256, d.kind] } AS sources "
    "WITH collect([v.cube_id, v.n, v.memory_type, c.state, v.hash, v.recorded_us, v.superseded_us, v.is_stale, g.id, "
    "e.id, text, origins, sources]) AS nodes, collect(g) + collect(e) AS done "
    "CALL (done) { UNWIND done AS a WITH DISTINCT a RETURN collect([" + _ACTIVITY_COLUMNS + "]) AS activities } "
    "RETURN nodes, activities"
)
"""What a lineage shows of each version, and the activities that made or ended them. `ref[2]`: whether its outside
sources are wanted too."""

ACTIVITIES: Final[LiteralString] = (
    "UNWIND $ids AS id MATCH (a:Activity {tenant: $tenant, id: id}) RETURN " + _ACTIVITY_COLUMNS
)

# -- counts

_COUNTED: Final[LiteralString] = (
    _HEAD + "RETURN c.state, v.memory_type, count(c), sum(c.version), sum(CASE WHEN v.is_stale THEN 1 ELSE 0 END), "
    "sum(coalesce(c.use_count, 0))"
)
COUNT_CUBES: Final[dict[Owner, LiteralString]] = {
    "session": OWNED["session"] + _COUNTED,
    "user": OWNED["user"] + _COUNTED,
    "agent": OWNED["agent"] + _COUNTED,
    "anyone": OWNED["anyone"] + _COUNTED,
}
_COUNTED_RELATIONS: Final[LiteralString] = (
    "CALL (c) { MATCH (c)-" + RELATED + "->(b:MemCube {tenant: $tenant}) WHERE r.removed_us IS NULL AND "
    + BOTH_ADMITTED + " RETURN count(r) AS related } RETURN coalesce(sum(related), 0)"
)  # fmt: skip
COUNT_RELATIONS: Final[dict[Owner, LiteralString]] = {
    "session": OWNED["session"] + _COUNTED_RELATIONS,
    "user": OWNED["user"] + _COUNTED_RELATIONS,
    "agent": OWNED["agent"] + _COUNTED_RELATIONS,
    "anyone": OWNED["anyone"] + _COUNTED_RELATIONS,
}
COUNT_TENANT: Final[LiteralString] = (
    "MATCH (t:Tenant {id: $tenant}) RETURN t.seq, coalesce(t.erased_seq, 0) > coalesce(t.scrubbed_seq, 0), "
    "COLLECT { MATCH (c:MemCube {tenant: $tenant})-[:HAS_VERSION]->(v:CubeVersion {tenant: $tenant}) "
    "WHERE c.created_us IS NOT NULL RETURN sum(size(v.body)) }[0]"
)
