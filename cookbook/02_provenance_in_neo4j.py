# %% [markdown]
# # 2. Provenance in Neo4j
#
# The same memory, on a Neo4j server: every version, who made it and what from are nodes and edges that any graph tool
# can look at. This page remembers a conversation there, corrects a fact, derives a summary, **shows the lineage three
# ways** (from `memos`, in Cypher, as a drawing), watches a correction spread, erases, and takes everything home into a
# file.
#
# It needs `pip install 'memos-agents[neo4j]' neo4j-viz`. It uses the server that `MEMOS_NEO4J_URI` names; without one
# it starts a throw-away Community server on this machine, with Docker or with Maven and a Java (`memos neo4j up` does
# the same).

# %%
import os
import secrets
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import neo4j

from memos_agents import MemOS, NotFound
from memos_agents.infrastructure.servers import up

folder = Path(tempfile.mkdtemp(prefix="memos-"))
server = up(environ=os.environ, uri=os.environ.get("MEMOS_NEO4J_URI"))
print("Neo4j", server.version)

# %% [markdown]
# ## Open
#
# A server instead of a file; nothing else changes. `?store=` keeps several stores apart in one database, of which
# Neo4j's Community edition has only one. This page takes a new name, so that it can run again.

# %%
store = f"tutorial-{secrets.token_hex(4)}"
memos = MemOS.open(f"{server.uri}?store={store}")

conversation = [
    {"role": "user", "name": "Mara", "content": "I moved to Lisbon on Saturday!", "created_at": "2026-05-12T20:40:00Z"},
    {"role": "assistant", "content": "Congratulations! How is the flat?", "created_at": "2026-05-12T20:40:09Z"},
    {"role": "user", "name": "Mara", "content": "Bright. It has a tiny balcony.", "created_at": "2026-05-12T20:41:30Z"},
    {"role": "user", "name": "Mara", "content": "I run on Mondays now.", "created_at": "2026-05-12T20:43:00Z"},
]
moved, _, balcony, runs = memos.add(conversation, user_id="mara", session_id="2026-05-12")
print([hit.cube.text for hit in memos.search("Where does Mara live?", user_id="mara", limit=2)])

# %% [markdown]
# ## Correct, and derive
#
# A correction is a new version that names the one it replaces. A summary says what it was **derived from**.

# %%
before = datetime.now(UTC)
corrected = memos.update(moved.id, "I moved to Lisbon on Friday!", expected_version=1, agent="mara")
summary = memos.add(
    "Mara lives in a bright flat in Lisbon.",
    user_id="mara",
    semantic_type="summary",
    derived_from=[corrected, balcony],
    agent="summariser",
)[0]
headline = memos.add(
    "Mara: Lisbon, bright flat.", user_id="mara", semantic_type="summary", derived_from=[summary], agent="summariser"
)[0]

# %% [markdown]
# ## Where did this come from?
#
# First, from `memos`: the same call and the same answer as with a file.

# %%
graph = memos.provenance(headline.id, direction="up")
for node in graph.entities:
    print(f"{node.label}  v{node.ref.version}")
assert {node.ref.cube_id for node in graph.entities} == {headline.id, summary.id, moved.id, balcony.id}
assert len(graph.revisions) == 1

# %% [markdown]
# ## The same, in Cypher
#
# Whoever can log in to the server can ask the graph. **Read it in a session of its own that may only read, and write it
# only through `memos`**: what is changed beside it, `memos.verify()` finds. The graph knows the tenant of a named store
# as `STORE`, U+001F, `TENANT`; every question names it, because several stores share the database.
#
# `DISTINCT` tells the server that only the ends matter, so it visits each version once. (`docs/neo4j_schema.md` lists
# labels, properties and more queries; `memos provenance ID --neo4j` prints some, filled in, for Neo4j Browser.)

# %%
tenant = f"{store}\x1fdefault"
LINEAGE = """
MATCH (:CubeVersion {tenant: $tenant, cube_id: $id, n: $n})
  -[:WAS_DERIVED_FROM|WAS_REVISION_OF*0..]->(v:CubeVersion {tenant: $tenant})
WITH DISTINCT v
MATCH (v)-[made:WAS_GENERATED_BY]->(a:Activity)-[did:WAS_ASSOCIATED_WITH]->(who:Agent)
OPTIONAL MATCH (v)-[edge:WAS_DERIVED_FROM|WAS_REVISION_OF]->(:CubeVersion {tenant: $tenant})
RETURN v, made, a, did, who, collect(edge) AS edges
ORDER BY v.recorded_us
"""
login = (
    (os.environ.get("NEO4J_USERNAME", "neo4j"), os.environ["NEO4J_PASSWORD"])
    if "NEO4J_PASSWORD" in os.environ
    else None
)
driver = neo4j.GraphDatabase.driver(server.uri, auth=login)
asked = {"tenant": tenant, "id": headline.id, "n": headline.version}
answer = driver.execute_query(LINEAGE, asked, database_="neo4j", routing_=neo4j.RoutingControl.READ)
texts = {(cube.id, cube.version): cube.text for node in graph.entities for cube in memos.history(node.ref.cube_id)}
for record in answer.records:
    version, activity, agent = record["v"], record["a"], record["who"]
    text = texts[version["cube_id"], version["n"]]
    print(f"{activity['kind']:<7} by {agent['id']:<12} v{version['n']}  {text}")

found = {(record["v"]["cube_id"], record["v"]["n"]) for record in answer.records}
assert found == {tuple(node.ref) for node in graph.entities}

# %% [markdown]
# ## The same, as a drawing
#
# `neo4j-viz` draws what a query returns. Versions are captioned with their text, everything gets a colour by its label,
# and the page that is written needs no network.

# %%
from neo4j_viz.neo4j import from_neo4j

COLOURS = {"CubeVersion": "#4c8eda", "Activity": "#f2a93b", "Agent": "#57a773"}
SAID = {"WAS_DERIVED_FROM": "derived from", "WAS_REVISION_OF": "revision of", "WAS_GENERATED_BY": "generated by"}

picture = from_neo4j(answer)
for node in picture.nodes:
    (label,) = node.properties["labels"]
    if label == "CubeVersion":
        node.caption = f"{texts[node.properties['cube_id'], node.properties['n']]} (v{node.properties['n']})"
    else:
        node.caption = node.properties["kind"] if label == "Activity" else node.properties["id"]
    node.color = COLOURS[label]
    node.size = {"CubeVersion": 60, "Activity": 26, "Agent": 30}[label]
    node.properties = {"label": label}  # what a click shows; the rest, vectors too, stays out of the page
for edge in picture.relationships:
    edge.caption = SAID.get(edge.caption, "by")
    edge.properties = {}
picture.set_legend(nodes=COLOURS)

drawing = picture.render(layout="forcedirected", height="640px", theme="light")
page = folder / "lineage.html"
page.write_text(drawing.data, encoding="utf-8")
print("drawn:", page.name, len(picture.nodes), "nodes,", len(picture.relationships), "edges")
assert {node.color.as_hex() for node in picture.nodes} == {"#4c8eda", "#f2a93b", "#57a773"}
assert "bright flat" in page.read_text(encoding="utf-8")
drawing  # noqa: B018  # shown in a notebook

# %% [markdown]
# ## A correction spreads
#
# When a source changes, everything made from it is *stale* in the same transaction, however far down. Stale memories
# are not returned any more until they are made anew.

# %%
memos.update(balcony.id, "Bright. It has two balconies.", agent="mara")
print({cube.text: cube.is_stale for cube in (memos.get(summary.id), memos.get(headline.id))})
assert memos.get(summary.id).is_stale
assert memos.get(headline.id).is_stale
assert headline.id not in {hit.cube.id for hit in memos.search("Where does Mara live?", user_id="mara")}

STALE = """
MATCH (c:MemCube {tenant: $tenant, user_id: $user})-[:CURRENT]->(v:CubeVersion {tenant: $tenant})
WHERE v.is_stale
RETURN c.text AS text, [(v)-[:WAS_DERIVED_FROM]->(o) WHERE o.superseded_us IS NOT NULL | o.n] AS outdated
ORDER BY c.created_us
"""
stale = driver.execute_query(STALE, tenant=tenant, user="mara", database_="neo4j", routing_="r").records
print([(record["text"], record["outdated"]) for record in stale])
assert [record["text"] for record in stale] == [summary.text, headline.text]

# %% [markdown]
# What was believed before is still there, as long as nobody erases it.

# %%
then = memos.search("When did Mara move?", user_id="mara", as_of=before, limit=1)[0]
print("then:", then.cube.text)
assert "Saturday" in then.cube.text

# %% [markdown]
# ## Take it home
#
# `copy_to` (the command is `memos copy SOURCE TARGET`) moves everything between a server and a file, in either
# direction, and proves afterwards that both say the same.

# %%
with MemOS.open(folder / "home.db") as home:
    report = memos.copy_to(home)
    print(
        "equal:",
        report.ok,
        "| lineage:",
        home.provenance(headline.id, direction="up").to_mermaid().count("-->"),
        "edges",
    )
    assert report.ok, report.differences
    assert home.provenance(headline.id) == memos.provenance(headline.id)
    with MemOS.open(f"{server.uri}?store={store}-back") as back:
        assert home.copy_to(back).ok
        assert [cube.text for cube in back.history(moved.id)] == [cube.text for cube in memos.history(moved.id)]

# %% [markdown]
# ## Erase
#
# Erasing follows the lineage down. In the graph there are **tombstones**: ids, versions, times, hashes, and the edges
# between them, so that one can still see *that* something was made from it, and nothing of what it said.

# %%
receipt = memos.erase(balcony.id, agent="mara")
assert {stone.ref.cube_id for stone in receipt.tombstones} == {balcony.id, summary.id, headline.id}
assert receipt.verify(memos).ok

LEFT = """
MATCH (c:MemCube {tenant: $tenant, id: $id})-[:HAS_VERSION]->(v:CubeVersion {tenant: $tenant})
OPTIONAL MATCH (v)-[:WAS_INVALIDATED_BY]->(a:Activity {tenant: $tenant})
RETURN c.state AS state, v {.*} AS version, a.kind AS ended_by ORDER BY v.n
"""
left = driver.execute_query(LEFT, tenant=tenant, id=balcony.id, database_="neo4j", routing_="r").records
for record in left:
    print(record["state"], "by", record["ended_by"], sorted(record["version"]))
assert {record["state"] for record in left} == {"erased"}
assert not any("body" in record["version"] or "balcon" in str(record["version"]) for record in left)
assert memos.get(runs.id).text == "I run on Mondays now."

# %% [markdown]
# That is all that the server *answers*. Its files are another matter: freed records and transaction logs keep old bytes
# until the server overwrites or drops them. `docs/neo4j.md` says what was measured and how to make them go. The copies
# that you made are copies: erase there, too.
#
# ## Check

# %%
assert memos.verify().ok
try:
    memos.provenance(headline.id, user_id="joao")
except NotFound as error:
    print("NotFound:", error)
else:
    raise AssertionError("Mara's lineage was shown to João")

driver.close()
memos.close()

# %% [markdown]
# A server that this page started still runs; `memos neo4j down` stops it, and `--purge` removes its data.
#
# **Next:** `docs/neo4j.md` for real servers (logins, TLS, backups), `docs/neo4j_schema.md` for the graph.
