"""Drivers: one for each server and login in a process, shared by every vault that speaks to it.

What may be opened is decided here: plaintext only to this machine, credentials never in an address.
"""

from __future__ import annotations

import hashlib
import ipaddress
import logging
import os
import threading
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl, urlencode, urlsplit

from memos_agents.errors import InvalidRequest

try:
    import neo4j
except ImportError as error:
    raise ImportError("Neo4jVault needs the Neo4j driver: pip install 'memos-agents[neo4j]'") from error

DEFAULT_DATABASE: Final = "neo4j"
DEFAULT_PORT: Final = 7687
CONNECT_SECONDS: Final = 10.0
RETRY_SECONDS: Final = 30.0
ACQUIRE_SECONDS: Final = 60.0
MAX_CONNECTIONS: Final = 200

_SCHEMES = {"bolt", "neo4j"}


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server is, without any credentials. `uri` is what the driver gets; `store` stands beside it, as
    `?store=name`.
    """

    uri: str
    host: str
    is_encrypted: bool
    store: str | None = None

    def __str__(self) -> str:
        return self.uri


def parse_address(target: str, *, allow_insecure: bool) -> Address:
    """Read `bolt://host:port`, `neo4j://…` and their `+s` and `+ssc` forms; `InvalidRequest` for anything unsafe.

    Plaintext, and certificates that nobody checks (`+ssc`), are refused for other machines unless `allow_insecure`.
    """
    try:
        parts = urlsplit(target)
        port = parts.port
    except ValueError as error:
        raise InvalidRequest(
            "the server's address cannot be read; write it like neo4j+s://graph.example:7687"
        ) from error
    scheme, _, security = parts.scheme.partition("+")
    if scheme not in _SCHEMES or security not in {"", "s", "ssc"} or not parts.hostname:
        raise InvalidRequest(
            "the server's address must look like neo4j://host:7687, bolt://… or, encrypted, neo4j+s://…"
        )
    if parts.username is not None or parts.password is not None:
        raise InvalidRequest(
            "the server's address holds a user name or password, which end up in logs; pass auth=(user, password) or "
            "set NEO4J_USERNAME and NEO4J_PASSWORD"
        )
    if parts.path.strip("/") or parts.fragment:
        raise InvalidRequest("the server's address must end with the port; name a database with database=")
    host = parts.hostname
    if security != "s" and not allow_insecure and not _is_loopback(host):
        raise InvalidRequest(
            f"{parts.scheme}:// to {host!r} would send memories over the network "
            f"{'unencrypted' if not security else 'to whoever answers'}; use {scheme}+s://, or allow_insecure=True if "
            "the network is safe"
        )
    shown = f"[{host}]" if ":" in host else host
    named = dict(parse_qsl(parts.query, keep_blank_values=True))
    store = named.pop("store", None)
    context = f"?{urlencode(named)}" if named else ""  # for a cluster's routing
    return Address(f"{parts.scheme}://{shown}:{port or DEFAULT_PORT}{context}", host, bool(security), store)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@dataclass(slots=True)
class _Shared:
    driver: neo4j.Driver
    holders: int = 0


class Drivers:
    """The drivers of this process. `take` and `give_back` are paired; the last one to give back closes it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._shared: dict[tuple[object, ...], _Shared] = {}

    def take(self, address: Address, auth: tuple[str, str] | None) -> neo4j.Driver:
        """The driver for this server and login, made if it is new. Connects to nothing yet."""
        with self._lock:
            key = _key(address, auth)
            shared = self._shared.get(key)
            if shared is None:
                shared = self._shared[key] = _Shared(_make_driver(address, auth))
            shared.holders += 1
            return shared.driver

    def give_back(self, driver: neo4j.Driver) -> None:
        """Close the driver if nobody else holds it. One that was made before a fork belongs to the parent."""
        with self._lock:
            for key, shared in self._shared.items():
                if shared.driver is driver:
                    shared.holders -= 1
                    if shared.holders == 0:
                        del self._shared[key]
                        if key[0] == os.getpid():
                            driver.close()
                    return

    def __len__(self) -> int:
        return len(self._shared)


DRIVERS: Final = Drivers()


def _key(address: Address, auth: tuple[str, str] | None) -> tuple[object, ...]:
    """Equal for equal logins, without keeping the password a second time."""
    login = None if auth is None else (auth[0], hashlib.sha256(repr(auth).encode()).hexdigest())
    return os.getpid(), address.uri, login


def _make_driver(address: Address, auth: tuple[str, str] | None) -> neo4j.Driver:
    wire = logging.getLogger("neo4j.io")  # at DEBUG the driver logs what is sent: memories, word for word
    if wire.level == logging.NOTSET:
        wire.setLevel(logging.INFO)
    return neo4j.GraphDatabase.driver(
        address.uri,
        auth=auth,
        user_agent="memos-agents",
        connection_timeout=CONNECT_SECONDS,
        connection_acquisition_timeout=ACQUIRE_SECONDS,
        max_transaction_retry_time=RETRY_SECONDS,
        initial_retry_delay=0.1,  # the driver's own steps would wait 32 s for a server that is back after 33
        retry_delay_multiplier=1.2,
        max_connection_pool_size=MAX_CONNECTIONS,
        liveness_check_timeout=30.0,
        keep_alive=True,
        fetch_size=10_000,
        notifications_min_severity=neo4j.NotificationMinimumSeverity.OFF,
        telemetry_disabled=True,
    )
