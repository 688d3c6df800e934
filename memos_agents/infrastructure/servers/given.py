"""A server that somebody else runs and the caller named by its address: asked what it is, never started or stopped."""

from __future__ import annotations

import ssl
from urllib.parse import urlsplit

from memos_agents.errors import BackendUnavailable, InvalidRequest
from memos_agents.infrastructure.servers.bolt import Bolt

_SCHEMES = ("bolt", "neo4j", "bolt+s", "neo4j+s", "bolt+ssc", "neo4j+ssc")
_PORT = 7687
_SECONDS = 10.0


def check_given(uri: str) -> tuple[str, str]:
    """The address without credentials, and the version that its server tells (before any log-on).

    Raises `InvalidRequest` if it is no address of a Neo4j server, `BackendUnavailable` if none answers there.
    """
    try:
        parts = urlsplit(uri.strip())
        host, port = parts.hostname, parts.port or _PORT
    except ValueError:
        raise InvalidRequest("the given address is no URI; write it as bolt://127.0.0.1:7687") from None
    if parts.scheme not in _SCHEMES or not host:
        raise InvalidRequest(
            "the given address is not one of a Neo4j server; write it as bolt://127.0.0.1:7687 or neo4j+s://host"
        )
    shown = f"[{host}]" if ":" in host else host
    plain = f"{parts.scheme}://{shown}:{port}"
    try:
        with Bolt(host, port, seconds=_SECONDS, tls=_tls(parts.scheme)) as bolt:
            agent = bolt.hello()
    except BackendUnavailable as error:
        raise BackendUnavailable(
            f"the server that was named, {plain}, does not answer ({error}); start it, or leave the address out to "
            "get a server of your own",
            uri=plain,
        ) from error
    return plain, agent.partition("/")[2] or agent


def _tls(scheme: str) -> ssl.SSLContext | None:
    if scheme.endswith("+s"):
        return ssl.create_default_context()
    if scheme.endswith("+ssc"):  # the scheme's meaning: encrypted, and signed by nobody that we know
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context
    return None
