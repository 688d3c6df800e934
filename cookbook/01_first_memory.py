# %% [markdown]
# # 1. A first memory
#
# A language model forgets everything between two calls. `memos_agents` is where an application keeps what should not be
# forgotten: it writes every memory down with where it came from, finds the right ones again, keeps their history, and
# can prove that something is gone.
#
# This page walks through one memory's life: **add, search, change, look back, ask where it came from, erase, take it
# along**. It runs as it stands, as a script or as a notebook, without a key, a server or a network.

# %%
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from memos_agents import MemOS, NotFound, Scope, VersionConflict

folder = Path(tempfile.mkdtemp(prefix="memos-"))
memos = MemOS.open(folder / "memos.db")  # one SQLite file; ":memory:" for a store that lives as long as the process

# %% [markdown]
# ## Add
#
# `add` takes a string, a chat message, a list of messages, or documents. What comes back are **cubes**, the unit of
# memory: content plus what one has to know about it, in three groups. *Descriptive*: what it is, when it happened.
# *Governance*: whose it is, how long it may live. *Behavioural*: how it is used.

# %%
conversation = [
    {"role": "user", "name": "Mara", "content": "I moved to Lisbon on Saturday!", "created_at": "2026-05-12T20:40:00Z"},
    {"role": "assistant", "content": "Congratulations! How is the flat?", "created_at": "2026-05-12T20:40:09Z"},
    {"role": "user", "name": "Mara", "content": "Bright. It has a tiny balcony.", "created_at": "2026-05-12T20:41:30Z"},
    {"role": "user", "name": "Mara", "content": "I run on Mondays now.", "created_at": "2026-05-12T20:43:00Z"},
    {"role": "user", "name": "Mara", "content": "No hazelnuts for me, please.", "created_at": "2026-05-12T20:44:00Z"},
]
cubes = memos.add(conversation, user_id="mara", session_id="2026-05-12")
moved = cubes[0]

print(moved.text)
print("happened ", moved.descriptive.occurred_at)
print("recorded ", moved.recorded_at)
print("said by  ", moved.descriptive.name, "as", moved.descriptive.role)
print("belongs to", moved.scope.user_id, "version", moved.version, "state", moved.state.value)

assert [cube.text for cube in cubes] == [message["content"] for message in conversation]
assert moved.descriptive.occurred_at == datetime(2026, 5, 12, 20, 40, tzinfo=UTC)

# %% [markdown]
# Every turn is a cube of its own, in order. Two times are kept apart: when it *happened* and when the store *heard* it.
#
# ## Scope: whose memory it is
#
# Every cube has a **scope**: a user, an agent, a session, or a combination. Every read names one, and it is the store
# that filters: another user's memory is not found, counted or ranked. A field left out of a read matches any value.

# %%
memos.add("I am moving to Porto in June.", user_id="joao")

mine = memos.search("Who is moving where?", user_id="mara")
print([hit.cube.text for hit in mine])
assert {hit.cube.scope.user_id for hit in mine} == {"mara"}

# %% [markdown]
# Hand code that serves one user a **view** that carries the scope in every call. For it, other users' cubes do not
# exist: the answer is the same as for an id that was never given out. The whole store is asked for in words, with
# `Scope.everything()`.

# %%
joao = memos.scoped(user_id="joao")
try:
    joao.get(moved.id)
except NotFound as error:
    print("NotFound:", error)
else:
    raise AssertionError("Mara's cube was shown to João")

assert memos.stats(user_id="mara").cubes == len(conversation)
assert memos.stats(scope=Scope.everything()).cubes == len(conversation) + 1

# %% [markdown]
# ## Search, and why
#
# Search is hybrid: words (a full-text index) and meaning (a small embedding model that runs here, on the CPU), with the
# neighbouring turns and the time taken into account. Every hit says **why** it was found, as parts that add up to its
# score: *context* (its words and those of the turns around), *meaning* (vectors), *session* (how well its session
# fits), and cues such as *speaker*, *reply*, *time* and *recency*. `Weights` holds every number behind them.

# %%
for hit in memos.search("In which city does Mara live?", user_id="mara", limit=3):
    print(f"{hit.score:.2f}  {hit.cube.text}")
    print("      ", {name: round(value, 2) for name, value in hit.why.items()})

best = memos.search("What must I not put into Mara's cake?", user_id="mara", limit=1)[0]
assert "hazelnuts" in best.cube.text

# %% [markdown]
# Your own `metadata` is returned as given and can be filtered, with the operators `$eq $ne $gt $gte $lt $lte $in $nin
# $exists`.

# %%
memos.add("Rent is due.", user_id="mara", metadata={"kind": "bill", "amount": 1250})
memos.add("Electricity is due.", user_id="mara", metadata={"kind": "bill", "amount": 64})
bills = memos.search("What is due?", user_id="mara", filter={"kind": "bill", "amount": {"$lt": 100}})
print([hit.cube.text for hit in bills])
assert [hit.cube.metadata["amount"] for hit in bills] == [64]

# %% [markdown]
# ## Change
#
# Nothing is overwritten. An update is a new **version** that names the one it replaces; the old one stays readable.
# With `expected_version`, two writers cannot silently undo each other.

# %%
before = datetime.now(UTC)
corrected = memos.update(moved.id, "I moved to Lisbon on Friday!", expected_version=1, agent="mara")

for cube in memos.history(moved.id):
    print(cube.version, cube.text, "| believed until", cube.superseded_at or "today")

try:
    memos.update(moved.id, "I moved to Lisbon on Sunday!", expected_version=1)
except VersionConflict as error:
    print("VersionConflict:", error)
else:
    raise AssertionError("a lost update")

assert memos.get(moved.id).text == corrected.text
assert memos.get(moved.id, version=1).text == moved.text

# %% [markdown]
# A fact that you keep under a **key** is one cube whose versions follow each other: adding it again is an update.

# %%
memos.add("Mara's phone plan: 15 GB for 12 euros.", user_id="mara", key="phone plan", collection="facts")
memos.add("Mara's phone plan: 40 GB for 17 euros.", user_id="mara", key="phone plan", collection="facts")
plan = memos.get(key="phone plan", user_id="mara", collection="facts")
print(plan.version, plan.text)
assert plan.version == 2

# %% [markdown]
# ## Look back
#
# `as_of` asks what we **believed** at a time, `valid_at` what was **true** at a time (by `valid_from` and `valid_to`).
# They differ whenever someone hears of a thing later than it happened.

# %%
then = memos.search("When did Mara move?", user_id="mara", as_of=before, limit=1)[0]
now = memos.search("When did Mara move?", user_id="mara", limit=1)[0]
print("then:", then.cube.text)
print("now: ", now.cube.text)
assert "Saturday" in then.cube.text
assert "Friday" in now.cube.text

memos.add("Bacci's vet is Dr. Petersen.", user_id="mara", collection="facts", valid_to="2026-05-08T00:00:00Z")
memos.add("Bacci's vet is Dr. Salgado.", user_id="mara", collection="facts", valid_from="2026-06-09T00:00:00Z")
vet = memos.search("Who is the vet?", user_id="mara", collection="facts", valid_at="2026-03-01T00:00:00Z", limit=1)[0]
print("in March:", vet.cube.text)
assert "Petersen" in vet.cube.text

# %% [markdown]
# ## Where did this come from?
#
# Say what a memory was **derived from** and the store keeps the lineage. As soon as a source changes, everything made
# from it is *stale*: it is not returned any more until you make it anew.

# %%
summary = memos.add(
    "Mara lives in a bright flat in Lisbon.",
    user_id="mara",
    semantic_type="summary",
    derived_from=[corrected, cubes[2]],
    agent="summariser",
)[0]
graph = memos.provenance(summary.id, direction="up")
print(graph.to_mermaid())

page = folder / "provenance.html"
page.write_text(graph.to_html(), encoding="utf-8")  # one self-contained page: open it in a browser
document = graph.to_prov_json()  # W3C PROV-JSON, for other tools
assert {"entity", "activity", "agent", "wasDerivedFrom"} <= set(document)

# %%
memos.update(cubes[2].id, "Bright. It has two balconies.")
assert memos.get(summary.id).is_stale
assert summary.id not in {hit.cube.id for hit in memos.search("Where does Mara live?", user_id="mara")}
print("the summary is stale:", memos.get(summary.id).is_stale)

# %% [markdown]
# ## Erase, with a receipt
#
# `erase` removes a memory and everything derived from it: every version, the index, the vectors, and the bytes in the
# file. What is left is a **tombstone** (an id, a hash, a time) and a **receipt** that can be checked against the store
# later.

# %%
receipt = memos.erase(cubes[2].id, agent="mara")
for tombstone in receipt.tombstones:
    print(tombstone.ref, "derived" if tombstone.is_derived else "named", tombstone.content_hash[:12])

verdict = receipt.verify(memos)
print("complete:", receipt.is_complete, "| holds:", verdict.ok)
assert receipt.is_complete
assert verdict.ok
assert {tombstone.ref.cube_id for tombstone in receipt.tombstones} == {cubes[2].id, summary.id}
assert not any(b"balcon" in path.read_bytes() for path in folder.glob("memos.db*"))

# %% [markdown]
# `receipt.to_json()` is what you keep or hand to the person who asked. `erase(user_id="mara")` erases all of hers.
#
# ## Take it along
#
# `export` writes a bundle that loses nothing: versions, provenance, digests. `load` reads it into another store.

# %%
bundle = folder / "mara.memcube"
memos.export(bundle, user_id="mara")
with MemOS.open(folder / "elsewhere.db") as other:
    other.load(bundle)
    assert [cube.text for cube in other.history(moved.id)] == [cube.text for cube in memos.history(moved.id)]
    assert other.get(key="phone plan", user_id="mara", collection="facts").text == plan.text
    print("elsewhere:", other.stats(user_id="mara").cubes, "cubes")

# %% [markdown]
# ## Check
#
# `verify` re-reads everything: content against hashes, the log's hash chain, lineage, indexes. `log` says who did what.

# %%
report = memos.verify()
assert report.ok, report.problems
for entry in memos.log(user_id="mara", limit=4):
    print(f"{entry.at:%H:%M:%S}", entry.kind, "by", entry.agent.id, "on", len(entry.cubes), "cubes")
memos.close()

# %% [markdown]
# **Next:** `make demo` shows the same on nine months of conversation; `memos --help` is the command line; the README
# has guarantees and limits.
