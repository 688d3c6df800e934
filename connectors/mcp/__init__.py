"""MCP: a server of the Model Context Protocol over a store, for any client that speaks it (extra `mcp`).

    from memos_agents.connectors.mcp import server

    server(memos, user_id="mara").run("stdio")

On the command line it is `memos mcp`. The name is loaded when it is first asked for; importing this package loads no
framework. Rejected: the low-level `mcp.server.Server`, where every schema would be written by hand a second time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from memos_agents.connectors.mcp.serving import server

__all__ = ["server"]


def __getattr__(name: str) -> object:
    if name != "server":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from memos_agents.connectors.mcp.serving import server

    globals()[name] = server
    return server


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
