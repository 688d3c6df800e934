"""What `MemOS.open` was given, turned into a vault and an embedder."""

from __future__ import annotations

import hashlib
import os
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from memos_agents.errors import InvalidRequest
from memos_agents.infrastructure.vault.base import MemVault

if TYPE_CHECKING:
    from memos_agents.infrastructure.vault.blobs import BlobStore
    from memos_agents.models.base import Embedder

_SERVERS = ("neo4j", "bolt")


def open_vault(
    target: str | PathLike[str],
    *,
    tenant: str,
    durability: Literal["full", "relaxed"],
    readonly: bool,
    auth: tuple[str, str] | None,
    database: str | None,
    allow_insecure: bool,
    blobs: BlobStore | None = None,
) -> MemVault:
    """The vault that `target` names; `InvalidRequest` for what this release cannot open.

    A server's login is `auth`, else what NEO4J_USERNAME and NEO4J_PASSWORD say. `blobs` None: where the vault itself
    puts payload bytes.
    """
    if not isinstance(target, str | PathLike):
        raise InvalidRequest(f"target must be a path, ':memory:' or an address, not {type(target).__name__}")
    name = os.fspath(target)
    if not isinstance(name, str) or not name or name.isspace() or "\x00" in name:
        raise InvalidRequest(f"target must name a file, or be ':memory:'; it is {name!r}")
    if durability not in ("full", "relaxed"):
        raise InvalidRequest(f"durability is {durability!r}; it must be 'full' or 'relaxed'")
    scheme = name.partition("://")[0] if "://" in name else ""
    if scheme.split("+")[0] in _SERVERS:
        from memos_agents.infrastructure.vault.neo4j import Neo4jVault
        from memos_agents.interface.settings import server_login

        if durability != "full":
            raise InvalidRequest("durability is for files; a server syncs every commit to its disk")
        return Neo4jVault(
            name,
            tenant=tenant,
            auth=_checked_login(auth) if auth is not None else server_login(),
            database=database,
            allow_insecure=allow_insecure,
            readonly=readonly,
            blobs=blobs,
        )
    if scheme:
        raise InvalidRequest(f"there is no backend for {scheme!r}://; use a file path, ':memory:' or neo4j://host:7687")
    if auth is not None or database is not None or allow_insecure:
        raise InvalidRequest("auth=, database= and allow_insecure= are for servers; a file has none of them")
    if name == ":memory:":
        from memos_agents.infrastructure.vault.memory import MemoryVault

        if readonly:
            raise InvalidRequest("a new store in memory is empty; readonly=True would leave it so")
        return MemoryVault(tenant=tenant, blobs=blobs)
    from memos_agents.infrastructure.vault.sqlite import SqliteVault

    return SqliteVault(name, tenant=tenant, durability=durability, readonly=readonly, blobs=blobs)


def blobs_of(
    place: str | PathLike[str] | None, *, cache_dir: str | PathLike[str] | None, disk_bytes: int
) -> BlobStore | None:
    """Where payload bytes lie: None for the vault's own place, a folder, or an fsspec address with copies here."""
    if place is None:
        return None
    from memos_agents.infrastructure.vault.blob_copies import CopiedBlobs
    from memos_agents.infrastructure.vault.blobs import open_blobs

    name = os.fspath(place)
    if not isinstance(name, str) or not name.strip():
        raise InvalidRequest(f"blobs must be a folder or an fsspec address (s3://bucket/folder), not {place!r}")
    if isinstance(disk_bytes, bool) or not isinstance(disk_bytes, int) or disk_bytes < 0:
        raise InvalidRequest(f"disk_bytes is {disk_bytes!r}; it must be an int of at least 0")
    try:
        far = open_blobs(name)
    except (ImportError, ValueError) as error:
        raise InvalidRequest(f"blobs: {error}") from error
    if "://" not in name or cache_dir is None or not disk_bytes:
        return far
    folder = Path(cache_dir) / "blobs" / hashlib.sha256(name.encode()).hexdigest()[:16]
    return CopiedBlobs(far, folder, disk_bytes)


def _checked_login(auth: object) -> tuple[str, str]:
    match auth:
        case (str() as user, str() as password):
            return user, password
        case _:
            pass
    raise InvalidRequest("auth must be (user name, password)")


def embedder_of(embedder: object | None) -> Embedder | None:
    """The built-in embedder for None, no embedder for "none", else what was given, adapted if it is a framework's."""
    if isinstance(embedder, str):
        if embedder == "none":
            return None
        raise InvalidRequest(f"embedder is {embedder!r}; pass an embedder object, None for the built-in one, or 'none'")
    if embedder is None:
        from memos_agents.models.embedding import default_embedder

        return default_embedder()
    from memos_agents.models.adapters import as_embedder

    return as_embedder(embedder)
