"""Payload bytes in the graph: for stores that several machines share without an object store beside them.

Fit for KV caches and adapters of tens of megabytes. For more, give the vault `blobs=open_blobs("s3://…")`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import Final

from memos_agents.cube.payload import BlobRef
from memos_agents.errors import IntegrityError, InvalidRequest, NotFound
from memos_agents.infrastructure.vault.neo4j import cypher, cypher_beside
from memos_agents.infrastructure.vault.neo4j.link import Link, Tx

CHUNK_BYTES: Final = 1 << 20
MAX_BYTES: Final = 256 << 20


class GraphBlobs:
    """A `BlobStore` of one tenant, in chunks of a megabyte. One transaction for each blob."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def put(self, data: bytes) -> BlobRef:
        if len(data) > MAX_BYTES:
            raise InvalidRequest(
                f"a payload of {len(data)} bytes is too large for the graph (at most {MAX_BYTES}); give the vault an "
                "object store: Neo4jVault(..., blobs=open_blobs('s3://…'))"
            )
        ref = BlobRef(hashlib.sha256(data).hexdigest(), len(data))

        def write(tx: Tx) -> None:
            tx.run(cypher_beside.ENTER, op=tx.op)  # two that put the same bytes take turns
            if tx.rows(cypher_beside.HAS_CHUNKS, name=ref.sha256) == [[True]]:
                tx.run(cypher.SPARE_BLOBS, names=[ref.sha256])
                return
            for number, start in enumerate(range(0, len(data), CHUNK_BYTES)):
                tx.run(cypher_beside.PUT_CHUNK, name=ref.sha256, n=number, data=data[start : start + CHUNK_BYTES])
            tx.run(cypher_beside.SEAL_BLOB, name=ref.sha256, size=len(data))

        self._link.write(write)
        return ref

    def get(self, sha256: str) -> bytes:
        _check_name(sha256)
        rows = self._link.read(lambda tx: tx.rows(cypher_beside.GET_CHUNKS, name=sha256), whole=False)
        if not rows:
            raise NotFound(f"there is no blob {sha256!r}", sha256=sha256)
        data = b"".join(row[0] for row in rows if row[0] is not None)
        if hashlib.sha256(data).hexdigest() != sha256:
            raise IntegrityError(
                f"blob {sha256!r} is damaged: its bytes hash to something else; restore it from a backup"
            )
        return data

    def has(self, sha256: str) -> bool:
        return self._link.read(lambda tx: tx.rows(cypher_beside.HAS_CHUNKS, name=sha256), whole=False) == [[True]]

    def names(self) -> Iterator[str]:
        for name, _ in self._link.read(lambda tx: tx.rows(cypher_beside.BLOB_NAMES), whole=False):
            yield name

    def delete(self, names: Iterable[str]) -> None:
        listed = sorted(set(names))
        if listed:
            self._link.write(lambda tx: tx.run(cypher_beside.DROP_CHUNKS, names=listed))

    def size_bytes(self) -> int:
        return sum(size for _, size in self._link.read(lambda tx: tx.rows(cypher_beside.BLOB_NAMES), whole=False))


def _check_name(sha256: str) -> None:
    if len(sha256) != 64 or not set(sha256) <= set("0123456789abcdef"):
        raise IntegrityError(f"{sha256[:80]!r} is not a SHA-256")
