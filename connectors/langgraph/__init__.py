"""LangGraph: `MemOSStore`, a `BaseStore` in which every put is a cube with provenance and history, and `quoted`.

    from memos_agents import MemOS
    from memos_agents.connectors.langgraph import MemOSStore

    memos = MemOS.open("memos.db")
    graph = builder.compile(store=MemOSStore(memos.scoped(user_id="mara")))

Needs `pip install 'memos-agents[langgraph]'`. No checkpointer is shipped: any saver works beside this store.
"""

from __future__ import annotations

try:
    import langgraph.store.base as _needed  # noqa: F401  # says early, and by its extra's name, what is missing
except ImportError as error:
    raise ImportError("MemOSStore needs LangGraph: pip install 'memos-agents[langgraph]'") from error

from memos_agents.connectors.langgraph.quoting import quoted
from memos_agents.connectors.langgraph.store import MemOSStore

__all__ = ["MemOSStore", "quoted"]
