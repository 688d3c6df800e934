"""OpenAI: memory for the Agents SDK, for function tools, and for any client of an OpenAI-compatible server.

    from memos_agents.connectors.openai import MemOSSession, memory_tools, warm, with_memory

`MemOSSession` keeps a conversation of the Agents SDK (extra `openai-agents`), `with_memory` gives an `OpenAI` or
`AsyncOpenAI` client recall and a record (extra `openai`), `warm` fills a server's prefix cache, `memory_tools` lets a
model manage memory itself (needs neither). Names are loaded when they are first asked for, so that each needs only its
own library.
Rejected: a wrapper of the model classes of the Agents SDK, which would have to follow every one of their releases.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from memos_agents.connectors.openai.client import with_memory
    from memos_agents.connectors.openai.session import MemOSSession
    from memos_agents.connectors.openai.tools import MemoryTools, handle_tool_call, memory_tools
    from memos_agents.connectors.openai.warming import Warmth, awarm, warm

_HOME_OF = {
    "MemOSSession": "memos_agents.connectors.openai.session",
    "MemoryTools": "memos_agents.connectors.openai.tools",
    "Warmth": "memos_agents.connectors.openai.warming",
    "awarm": "memos_agents.connectors.openai.warming",
    "handle_tool_call": "memos_agents.connectors.openai.tools",
    "memory_tools": "memos_agents.connectors.openai.tools",
    "warm": "memos_agents.connectors.openai.warming",
    "with_memory": "memos_agents.connectors.openai.client",
}

__all__ = [
    "MemOSSession",
    "MemoryTools",
    "Warmth",
    "awarm",
    "handle_tool_call",
    "memory_tools",
    "warm",
    "with_memory",
]


def __getattr__(name: str) -> object:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    found: object = getattr(import_module(_HOME_OF[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
