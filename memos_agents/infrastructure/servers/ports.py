"""Ports on the loopback: a free one, or the truth about a wanted one."""

from __future__ import annotations

import socket

from memos_agents.errors import BackendUnavailable, InvalidRequest


def free_port() -> int:
    """A port on which nothing listens now. Another program may take it before we do: callers try again."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def is_free(port: int) -> bool:
    """Whether a server could listen on the port now; connections of a server that ended do not count."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def check_port(port: int) -> None:
    """Raise `InvalidRequest` for what is no port of ours, `BackendUnavailable` for one that is taken."""
    if not 1024 <= port <= 65535:
        raise InvalidRequest(f"{port} is no port that a server of yours may have; take one from 1024 to 65535")
    if not is_free(port):
        raise BackendUnavailable(
            f"port {port} is taken by another program; stop that one, give another port, or none to get a free one",
            port=port,
        )
