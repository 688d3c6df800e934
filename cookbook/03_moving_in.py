# %% [markdown]
# # 3. Moving in
#
# You have memory already: in mem0, in a LangGraph store, in langmem, in LlamaIndex, in a buffer of messages. This page
# takes each of them, **shows the few lines that change**, brings what it holds along, and shows what was wrong before
# where something was. Everything runs as it stands, offline.
#
# It needs `pip install 'memos-agents[langchain,langgraph,llama-index]' mem0ai langmem langchain-classic`; take the
# section that you need and leave the others.

# %%
import asyncio
import json
import os
import sqlite3
import tempfile
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from memos_agents import InvalidRequest, MemOS, Scope
from memos_agents.connectors.langchain import MemOSEmbeddings

warnings.filterwarnings("ignore", category=DeprecationWarning)  # some of what we come from is deprecated
folder = Path(tempfile.mkdtemp(prefix="memos-"))
memos = MemOS.open(folder / "memos.db")
embeddings = MemOSEmbeddings(memos)  # the same model before and after, so that only the memory differs


def wait_for(coroutine: Any) -> Any:
    """Also inside a notebook, which has a loop of its own."""
    return ThreadPoolExecutor(1).submit(asyncio.run, coroutine).result()


def shown(results: Any) -> list[str]:
    return [hit.cube.text for hit in results]


# %% [markdown]
# ## From LangGraph's InMemoryStore or SqliteStore
#
# Before. Overwriting a key loses the old value, and a prefix that is too short searches everyone's memory.

# %%
from langgraph.store.memory import InMemoryStore

before = InMemoryStore(index={"dims": 384, "embed": embeddings, "fields": ["text"]})
before.put(("mara", "facts"), "home", {"text": "Mara lives in Lisbon."})
before.put(("joao", "facts"), "home", {"text": "João lives in Porto."})
before.put(("mara", "facts"), "home", {"text": "Mara lives in Faro."})  # Lisbon is gone for good

leak = before.search((), query="Where do people live?")
print("an empty prefix finds", sorted({item.namespace[0] for item in leak}))
assert {item.namespace[0] for item in leak} == {"mara", "joao"}

# %% [markdown]
# After: the same interface, one other line. `scope_of` says whose memory a namespace is; a search that does not say it
# is refused.

# %%
from memos_agents.connectors.langgraph import MemOSStore

store = MemOSStore(memos, scope_of=lambda namespace: Scope(user_id=namespace[0]))

for namespace in before.list_namespaces(limit=10_000):  # bring it along
    for item in before.search(namespace, limit=10_000):
        store.put(item.namespace, item.key, item.value)

store.put(("mara", "facts"), "home", {"text": "Mara lives in Évora."})
print(store.search(("mara",), query="Where does Mara live?")[0].value)
cube = store.cube(("mara", "facts"), "home")
versions = [version.metadata["text"] for version in memos.history(cube.id)]
print(versions, "by", memos.log(user_id="mara", cube_id=cube.id)[0].agent.id)
assert versions == ["Mara lives in Faro.", "Mara lives in Évora."]

try:
    store.search((), query="Where do people live?")
    raise AssertionError("this must be refused")
except InvalidRequest as refused:
    print("refused:", refused)

# %% [markdown]
# `compile(store=store)` and `create_agent(store=store)` take it as they took the other one, synchronous or not.
#
# ## From langmem
#
# Its tools write through whatever store the agent has, so the change is the same line, `store=`. The tools stay.

# %%
from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langmem import create_manage_memory_tool, create_search_memory_tool


class Scripted(BaseChatModel):
    """A model that does what it is told, so that this page needs none."""

    steps: list[Any]

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Any, **options: Any) -> Any:
        return self

    def _generate(self, messages: list[BaseMessage], *args: Any, **options: Any) -> ChatResult:
        step = self.steps.pop(0) if self.steps else "Done."
        message = AIMessage(step) if isinstance(step, str) else AIMessage("", tool_calls=[step])
        return ChatResult(generations=[ChatGeneration(message=message)])


tools = [
    create_manage_memory_tool(namespace=("{user_id}", "notes")),
    create_search_memory_tool(namespace=("{user_id}", "notes")),
]
steps = [
    {"name": "manage_memory", "args": {"action": "create", "content": "Mara takes the train to work."}, "id": "1"},
    {"name": "search_memory", "args": {"query": "How does Mara get to work?"}, "id": "2"},
]
agent = create_agent(Scripted(steps=steps), tools=tools, store=store)  # before: store=InMemoryStore(index=...)
said = agent.invoke({"messages": [("user", "Remember that.")]}, {"configurable": {"user_id": "mara"}})
found = [message for message in said["messages"] if isinstance(message, ToolMessage)][-1]
assert "train to work" in str(found.content)
print(shown(memos.search("How does Mara get to work?", user_id="mara", limit=1)))

# %% [markdown]
# What langmem wrote is a memory like any other: versions, provenance, erasure, and every other front finds it.
#
# ## From LlamaIndex's VectorMemoryBlock
#
# Before. One block that serves two sessions gives the second one the first one's secrets: the session that reads first
# is the only one it ever reads (llama-index-core 0.14.25, run-llama/llama_index #22701).

# %%
from llama_index.core.llms import ChatMessage
from llama_index.core.memory import VectorMemoryBlock

from memos_agents.connectors.llama_index import MemOSEmbedding, MemOSMemoryBlock, MemOSVectorStore


def say(text: str) -> list[ChatMessage]:
    return [ChatMessage(role="user", content=text)]


async def two_sessions(block: Any) -> str:
    await block.aput(say("Alice's locker code is 1234."), session_id="alice")
    await block.aput(say("Bob's locker code is 9876."), session_id="bob")
    await block.aget(say("What is the locker code?"), session_id="alice")
    return str(await block.aget(say("What is the locker code?"), session_id="bob"))


with MemOS.open(":memory:") as scratch:
    vectors = MemOSVectorStore(scratch, user_id="office")
    upstream = VectorMemoryBlock(vector_store=vectors, embed_model=MemOSEmbedding(scratch))
    told = wait_for(two_sessions(upstream))
    print("Bob is told:", told)
    assert "1234" in told
    assert "9876" not in told

# %% [markdown]
# After: `memory_blocks=[MemOSMemoryBlock(memos, user_id=...)]`.

# %%
told = wait_for(two_sessions(MemOSMemoryBlock(memos, user_id="office")))
print("Bob is told:", told[-76:])
assert "9876" in told
assert "1234" not in told

# %% [markdown]
# ## From ConversationBufferMemory, or a chat history
#
# Before. LangChain 1.0 left it behind; it held every message in the prompt, and nothing beyond the process.

# %%
from langchain_classic.memory import ConversationBufferMemory

buffer = ConversationBufferMemory()
buffer.save_context({"input": "My sister Ines moved to Braga."}, {"output": "Good to know!"})

# %% [markdown]
# After: the messages become memories, with who said them, and an agent recalls those that matter. A thread's own
# messages are a checkpointer's business.

# %%
from langgraph.checkpoint.memory import InMemorySaver

from memos_agents.connectors.langchain import MemOSMiddleware

roles = {"human": "user", "ai": "assistant"}
messages = [{"role": roles[message.type], "content": message.text} for message in buffer.chat_memory.messages]
memos.add(messages, user_id="mara", session_id="the old buffer")

seen: list[str] = []


class Listening(Scripted):
    def _generate(self, messages: list[BaseMessage], *args: Any, **options: Any) -> ChatResult:
        seen.append(str(messages[0].text))
        return super()._generate(messages)


agent = create_agent(
    Listening(steps=["In Braga."]), middleware=[MemOSMiddleware(memos, user_id="mara")], checkpointer=InMemorySaver()
)
agent.invoke({"messages": [("user", "Where does my sister live?")]}, {"configurable": {"thread_id": "today"}})
assert "moved to Braga" in seen[0]
print(next(json.loads(line)["text"] for line in seen[0].splitlines() if "Braga" in line))

# %% [markdown]
# The same for `ChatMessageHistory` and its relatives: their `.messages` are the same objects. Code that must keep a
# history object takes `MemOSChatMessageHistory`.
#
# ## From mem0
#
# Before, without a language model (`infer=False`). The same thing twice is two memories, and what was deleted stays
# readable in the history file.

# %%
os.environ.update(MEM0_DIR=str(folder / "mem0"), MEM0_TELEMETRY="False")
from mem0 import Memory

memory = Memory.from_config(
    {
        "vector_store": {
            "provider": "qdrant",
            "config": {"path": str(folder / "qdrant"), "on_disk": True, "embedding_model_dims": 384},
        },
        "embedder": {"provider": "langchain", "config": {"model": embeddings, "embedding_dims": 384}},
        "llm": {"provider": "openai", "config": {"api_key": "not used"}},
        "history_db_path": str(folder / "history.db"),
    }
)
for _ in range(2):
    memory.add("My passport number is X1234567.", user_id="ines", infer=False)
memory.add("I prefer window seats.", user_id="ines", metadata={"topic": "travel"}, infer=False)
exported = memory.get_all(filters={"user_id": "ines"})["results"]
print(len(exported), "memories after three adds of two facts")

memory.delete_all(user_id="ines")
history = sqlite3.connect(folder / "history.db")
left = history.execute("SELECT count(*) FROM history WHERE old_memory LIKE '%X1234567%'").fetchone()[0]
history.close()
print("rows that still hold the passport number:", left)
assert len(exported) == 3
assert left > 0

# %% [markdown]
# After. `add`, `search`, `get`, `update`, `history` have the names you know; scopes are arguments instead of filters.
# What was said twice stays two sayings, each with its time; the same with the same time is one.

# %%
memory.close()
memory.vector_store.client.close()
for old in exported:
    memos.add(old["memory"], user_id="ines", metadata=old["metadata"] or {}, occurred_at=old["created_at"])

again = exported[0]
memos.add(again["memory"], user_id="ines", metadata=again["metadata"] or {}, occurred_at=again["created_at"])

kept = memos.list(user_id="ines")
print(len(kept), "memories, each with the time at which it was said")
print(shown(memos.search("Where do I like to sit?", user_id="ines", limit=1)))
assert len(kept) == 3

receipt = memos.erase(user_id="ines")
memos.close()
assert all(b"X1234567" not in path.read_bytes() for path in folder.glob("memos.db*"))
print("erased:", len(receipt.tombstones), "versions; the number is in no byte of the store")

# %% [markdown]
# ## What each call becomes
#
# | mem0 | here |
# | --- | --- |
# | `Memory()` | `MemOS.open("memos.db")` |
# | `add(text, user_id=, infer=False)` | `add(text, user_id=)` |
# | `search(query, filters={"user_id": u})` | `search(query, user_id=u)` |
# | `get_all(filters={"user_id": u})` | `list(user_id=u)`, in pages |
# | `update(id, data)` | `update(id, content)`, a new version |
# | `delete(id)`, `delete_all(user_id=u)` | `erase(id)`, `erase(user_id=u)`: with everything derived, and a receipt |
# | `history(id)` | `history(id)`, and `rollback`, `as_of=`, `provenance` |
