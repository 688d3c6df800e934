"""memos_agents: memory as a resource that an agent's application manages.

    from memos_agents import MemOS

    with MemOS.open("memos.db") as memos:
        memos.add("I moved to Lisbon in May.", user_id="mara")
        print(memos.search("Where does Mara live?", user_id="mara")[0].cube.text)

`MemOS` is the way in; `AsyncMemOS` is the same for an event loop. Names are loaded when they are first asked for:
importing this package reads no other file of it, and no model or framework is loaded before a call needs it.
Source of the idea: MemOS: A Memory OS for AI System (arXiv:2507.03724).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from memos_agents.cube.memcube import MemCube, VersionRef
    from memos_agents.cube.payload import MemoryType
    from memos_agents.cube.scope import Scope
    from memos_agents.cube.state import MemoryState
    from memos_agents.errors import (
        AccessDenied,
        BackendUnavailable,
        IncompatibleModel,
        IntegrityError,
        InvalidRequest,
        InvalidTransition,
        MemOSError,
        NotFound,
        VersionConflict,
    )
    from memos_agents.infrastructure.governance.receipt import Receipt
    from memos_agents.infrastructure.provenance.values import Agent, Relation, RelationKind, Source
    from memos_agents.interface.aio import AsyncMemOS, AsyncScopedMemOS
    from memos_agents.interface.api import MemOS
    from memos_agents.interface.reader import Message
    from memos_agents.interface.results import Hit, LoadReport, Page, UndoResult, VerifyReport, Why
    from memos_agents.interface.views import ScopedMemOS
    from memos_agents.operation.weights import Weights

    __version__: str

_HOMES = {
    "memos_agents.cube.memcube": ("MemCube", "VersionRef"),
    "memos_agents.cube.payload": ("MemoryType",),
    "memos_agents.cube.scope": ("Scope",),
    "memos_agents.cube.state": ("MemoryState",),
    "memos_agents.errors": (
        "AccessDenied",
        "BackendUnavailable",
        "IncompatibleModel",
        "IntegrityError",
        "InvalidRequest",
        "InvalidTransition",
        "MemOSError",
        "NotFound",
        "VersionConflict",
    ),
    "memos_agents.infrastructure.governance.receipt": ("Receipt",),
    "memos_agents.infrastructure.provenance.values": ("Agent", "Relation", "RelationKind", "Source"),
    "memos_agents.interface.aio": ("AsyncMemOS", "AsyncScopedMemOS"),
    "memos_agents.interface.api": ("MemOS",),
    "memos_agents.interface.reader": ("Message",),
    "memos_agents.interface.results": ("Hit", "LoadReport", "Page", "UndoResult", "VerifyReport", "Why"),
    "memos_agents.interface.views": ("ScopedMemOS",),
    "memos_agents.operation.weights": ("Weights",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [  # every name is a str
    "AccessDenied",
    "Agent",
    "AsyncMemOS",
    "AsyncScopedMemOS",
    "BackendUnavailable",
    "Hit",
    "IncompatibleModel",
    "IntegrityError",
    "InvalidRequest",
    "InvalidTransition",
    "LoadReport",
    "MemCube",
    "MemOS",
    "MemOSError",
    "MemoryState",
    "MemoryType",
    "Message",
    "NotFound",
    "Page",
    "Receipt",
    "Relation",
    "RelationKind",
    "Scope",
    "ScopedMemOS",
    "Source",
    "UndoResult",
    "VerifyReport",
    "VersionConflict",
    "VersionRef",
    "Weights",
    "Why",
    "__version__",
]


def __getattr__(name: str) -> object:
    found: object
    if name == "__version__":
        from importlib.metadata import version

        found = version("memos-agents")
    elif name in _HOME_OF:
        from importlib import import_module

        found = getattr(import_module(_HOME_OF[name]), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
