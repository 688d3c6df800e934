"""LlamaIndex drop-ins: memory block, memory, chat store, retriever, vector store, property graph store, local model.

`MemOSLLM` takes a `memos.model(...)`; each of the others a `MemOS`, an `AsyncMemOS` or a scoped view of one as `memos`,
the framework's own options by the framework's own names, and `user_id= agent_id= session_id=` or `scope=`. Every
asynchronous method works on threads, never in the loop; every deletion is an erasure. What lives here translates and
decides nothing: recalled text is quoted by `memos_agents.interface.recall`; filters, planners and vaults do the rest.
Rejected: LlamaIndex's defaults for the `a*`
methods, which call the synchronous ones inside the loop.
"""

from __future__ import annotations

try:
    import llama_index.core  # noqa: F401  # asked for by name, so that a missing extra says what to install
except ImportError as error:
    raise ImportError(
        "memos_agents.connectors.llama_index needs LlamaIndex: pip install 'memos-agents[llama-index]'"
    ) from error

from memos_agents.connectors.llama_index.chat_store import MemOSChatStore
from memos_agents.connectors.llama_index.embedding import MemOSEmbedding
from memos_agents.connectors.llama_index.llm import MemOSLLM
from memos_agents.connectors.llama_index.memory import MemOSMemory
from memos_agents.connectors.llama_index.memory_block import MemOSMemoryBlock
from memos_agents.connectors.llama_index.property_graph import MemOSPropertyGraphStore
from memos_agents.connectors.llama_index.retriever import MemOSRetriever
from memos_agents.connectors.llama_index.vector_store import MemOSVectorStore

__all__ = [
    "MemOSChatStore",
    "MemOSEmbedding",
    "MemOSLLM",
    "MemOSMemory",
    "MemOSMemoryBlock",
    "MemOSPropertyGraphStore",
    "MemOSRetriever",
    "MemOSVectorStore",
]
