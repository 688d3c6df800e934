"""`memos mcp`: the store as a server of the Model Context Protocol, for the clients of one person on this machine."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from memos_agents.cli.session import Session
from memos_agents.errors import InvalidRequest

_LOOPBACK = ("127.0.0.1", "localhost", "::1")


class Transport(StrEnum):
    """How clients reach the server."""

    STDIO = "stdio"
    HTTP = "http"


def mcp(
    session: Session,
    transport: Annotated[
        Transport, typer.Option("--transport", help="stdio: the client starts this command. http: streamable HTTP.")
    ] = Transport.STDIO,
    host: Annotated[str, typer.Option("--host", metavar="NAME", help="A loopback address.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=1, max=65_535, help="With http.")] = 8765,
) -> None:
    """Serve memory to MCP clients (editors, assistants): eight tools, and memories as resources memory://ID.

    The server works for whom --user, --agent and --session (or MEMOS_USER, ...) name, and no call can name anybody
    else. With --everything each call must name its user: only for clients that you trust to name the right one.
    HTTP listens on this machine alone and refuses foreign Host and Origin headers. Remarks and errors go to stderr.

    Examples:
      memos mcp --user mara
      memos mcp --user mara --transport http --port 8765
      memos mcp --store ~/memos.db --everything
    """
    if host not in _LOOPBACK:
        raise InvalidRequest(
            f"--host is {host!r}; `memos mcp` serves this machine only ({', '.join(_LOOPBACK)}). To serve others, put "
            "memos_agents.connectors.mcp.server() with auth= and scope_of= behind your own web server"
        )
    scope = session.scope()
    from memos_agents.connectors.mcp import server

    with session.store(creates=True, embeds=True) as memos:
        made = server(memos, scope=scope)
        if transport is Transport.STDIO:
            made.run("stdio")
        else:
            session.out.remark(f"serving http://{f'[{host}]' if ':' in host else host}:{port}/mcp; stop with Ctrl-C")
            made.run("streamable-http", host=host, port=port)
