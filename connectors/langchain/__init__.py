"""LangChain 1.x: middleware for `create_agent`, retriever, vector store, embeddings, byte store, loader, tools.

    from langchain.agents import create_agent
    from memos_agents import MemOS
    from memos_agents.connectors.langchain import MemOSMiddleware

    agent = create_agent(model, middleware=[MemOSMiddleware(MemOS.open("memos.db"))], context_schema=Context)
    agent.invoke({"messages": [...]}, context=Context(user_id="mara"))

Needs `pip install 'memos-agents[langchain]'`. Names are loaded when first asked for: `MemOSChatMessageHistory`, whose
base class is deprecated upstream and goes with LangChain 2.0, costs nobody a warning who does not use it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

try:
    import langchain_core as _needed  # noqa: F401  # says early, and by its extra's name, what is missing
except ImportError as error:
    raise ImportError("the LangChain parts need LangChain: pip install 'memos-agents[langchain]'") from error

if TYPE_CHECKING:
    from memos_agents.connectors.langchain.byte_store import MemOSByteStore
    from memos_agents.connectors.langchain.chat_model import ChatMemOS
    from memos_agents.connectors.langchain.embeddings import MemOSEmbeddings
    from memos_agents.connectors.langchain.history import MemOSChatMessageHistory
    from memos_agents.connectors.langchain.loader import MemOSLoader
    from memos_agents.connectors.langchain.middleware import MemOSMiddleware
    from memos_agents.connectors.langchain.retriever import MemOSRetriever
    from memos_agents.connectors.langchain.tools import memory_tools
    from memos_agents.connectors.langchain.vector_store import MemOSVectorStore

_HOMES = {
    "ChatMemOS": "chat_model",
    "MemOSByteStore": "byte_store",
    "MemOSChatMessageHistory": "history",
    "MemOSEmbeddings": "embeddings",
    "MemOSLoader": "loader",
    "MemOSMiddleware": "middleware",
    "MemOSRetriever": "retriever",
    "MemOSVectorStore": "vector_store",
    "memory_tools": "tools",
}

__all__ = [
    "ChatMemOS",
    "MemOSByteStore",
    "MemOSChatMessageHistory",
    "MemOSEmbeddings",
    "MemOSLoader",
    "MemOSMiddleware",
    "MemOSRetriever",
    "MemOSVectorStore",
    "memory_tools",
]


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    try:
        found = getattr(import_module(f"{__name__}.{home}"), name)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("langchain", "langgraph"):
            raise
        raise ImportError(f"{name} needs LangChain: pip install 'memos-agents[langchain]'") from error
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
