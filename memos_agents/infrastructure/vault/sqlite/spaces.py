"""Vector spaces: each bound to one embedder, filled and dropped as a whole."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from memos_agents.cube.memcube import VersionRef
from memos_agents.errors import IncompatibleModel, InvalidRequest
from memos_agents.infrastructure.vault.base import Space
from memos_agents.infrastructure.vault.columns import pack_vector
from memos_agents.infrastructure.vault.sqlite.comparing import version_rid
from memos_agents.infrastructure.vault.sqlite.names import Names


def known(connection: sqlite3.Connection, names: Names) -> list[Space]:
    """The tenant's spaces, the default one first."""
    rows = connection.execute(
        "SELECT fingerprint, dimension, is_default FROM space WHERE tenant=? ORDER BY is_default DESC, fingerprint",
        (names.tenant(connection),),
    )
    return [Space(fingerprint=name, dimension=size, is_default=bool(first)) for name, size, first in rows]


def check_dimension(fingerprint: str, dimension: int, found: Space | None) -> None:
    """Raise unless the space `found`, if any, has this dimension."""
    if dimension < 1:
        raise InvalidRequest(f"a vector space cannot have dimension {dimension}")
    if found is not None and found.dimension != dimension:
        raise IncompatibleModel(
            f"vector space {fingerprint!r} has dimension {found.dimension}, not {dimension}",
            found=found.dimension,
            expected=dimension,
        )


def make(
    connection: sqlite3.Connection, names: Names, fingerprint: str, dimension: int, *, make_default: bool
) -> Space:
    """Make the space, or make it the default one; the first space is the default in any case."""
    tenant = names.tail(connection).tenant
    if make_default:
        connection.execute("UPDATE space SET is_default=0 WHERE tenant=?", (tenant,))
    connection.execute(
        "INSERT INTO space(tenant, fingerprint, dimension, is_default) SELECT ?1, ?2, ?3, "
        "NOT EXISTS (SELECT 1 FROM space WHERE tenant=?1 AND is_default) WHERE true "
        "ON CONFLICT(tenant, fingerprint) DO UPDATE SET is_default=max(is_default, excluded.is_default)",
        (tenant, fingerprint, dimension),
    )
    return next(space for space in known(connection, names) if space.fingerprint == fingerprint)


def drop(connection: sqlite3.Connection, names: Names, fingerprint: str) -> None:
    """Remove a space and its vectors; an unknown one is passed over."""
    tenant = names.tail(connection).tenant
    row = connection.execute("SELECT rid FROM space WHERE tenant=? AND fingerprint=?", (tenant, fingerprint)).fetchone()
    if row is not None:
        connection.execute("DELETE FROM vector WHERE space=?", row)
        connection.execute("DELETE FROM space WHERE rid=?", row)
        connection.execute("UPDATE tenant SET vector_epoch=vector_epoch+1 WHERE rid=?", (tenant,))


def add_vectors(
    connection: sqlite3.Connection, names: Names, space: str, vectors: Mapping[VersionRef, NDArray[np.float32]]
) -> None:
    """Set vectors of versions that are there and not erased."""
    tenant = names.tail(connection).tenant
    rid, dimension = names.space(connection, space)
    packed = [(ref, pack_vector(vector, dimension)) for ref, vector in vectors.items()]
    for ref, data in packed:
        connection.execute(
            "INSERT OR REPLACE INTO vector(space, version, data) "
            "SELECT ?, rid, ? FROM version WHERE rid=? AND body IS NOT NULL",
            (rid, data, version_rid(connection, tenant, ref)),
        )
    connection.execute("UPDATE tenant SET vector_epoch=vector_epoch+1 WHERE rid=?", (tenant,))


def missing(
    connection: sqlite3.Connection, names: Names, space: str, limit: int, after: VersionRef | None
) -> list[VersionRef]:
    """Versions with text that have no vector in the space, by cube id and version."""
    rid, _ = names.space(connection, space)
    rows = connection.execute(
        "SELECT c.id, v.n FROM cube c JOIN version v ON v.cube = c.rid WHERE c.tenant=? AND (c.id, v.n) > (?, ?) "
        "AND v.body IS NOT NULL AND json_extract(v.body, '$.payload.text') <> '' "
        "AND NOT EXISTS (SELECT 1 FROM vector x WHERE x.space = ? AND x.version = v.rid) ORDER BY c.id, v.n LIMIT ?",
        (names.tenant(connection), *(after or ("", 0)), rid, limit),
    )
    return [VersionRef(*row) for row in rows]
