"""Vector spaces: each bound to one embedder, filled and dropped as a whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memos_agents.cube.memcube import VersionRef
from memos_agents.errors import IncompatibleModel, InvalidRequest, NotFound
from memos_agents.infrastructure.vault.base import Space
from memos_agents.infrastructure.vault.columns import pack_vector
from memos_agents.infrastructure.vault.neo4j import cypher_beside
from memos_agents.infrastructure.vault.neo4j.drafting import vector_name
from memos_agents.infrastructure.vault.neo4j.link import Link, Tx


@dataclass(frozen=True, slots=True)
class NumberedSpace:
    """A space and the number that its vectors' property carries; numbers are never used twice."""

    space: Space
    number: int


def known(tx: Tx) -> list[NumberedSpace]:
    """The tenant's spaces, the default one first."""
    return [
        NumberedSpace(Space(fingerprint=name, dimension=dimension, is_default=bool(is_default)), number)
        for name, dimension, is_default, number in tx.rows(cypher_beside.SPACES)
    ]


def find(tx: Tx, fingerprint: str) -> NumberedSpace:
    """The space, or `NotFound`."""
    for numbered in known(tx):
        if numbered.space.fingerprint == fingerprint:
            return numbered
    raise NotFound(f"there is no vector space {fingerprint!r} in this store; open it first", space=fingerprint)


def open_space(
    tx: Tx, fingerprint: str, dimension: int, *, make_default: bool, instead_of: str | None
) -> tuple[Space, list[int]]:
    """The space, made if it is new, and the numbers of the spaces that were dropped for it."""
    if dimension < 1:
        raise InvalidRequest(f"a vector space cannot have dimension {dimension}")
    _, _, last_number = tx.one(cypher_beside.ENTER, op=tx.op) or (0, 0, 0)
    spaces = {numbered.space.fingerprint: numbered for numbered in known(tx)}
    found = spaces.get(fingerprint)
    if found is not None and found.space.dimension != dimension:
        raise IncompatibleModel(
            f"vector space {fingerprint!r} has dimension {found.space.dimension}, not {dimension}",
            found=found.space.dimension,
            expected=dimension,
        )
    is_default = make_default or (
        found.space.is_default
        if found is not None
        else not any(numbered.space.is_default for numbered in spaces.values())
    )
    dropped: list[int] = []
    if make_default:
        if instead_of is not None and instead_of != fingerprint and instead_of in spaces:
            tx.run(cypher_beside.DROP_SPACE, fingerprint=instead_of)
            dropped.append(spaces[instead_of].number)
        tx.run(cypher_beside.DEMOTE_SPACES)
    if found is None or found.space.is_default is not is_default or make_default:
        number = last_number + 1 if found is None else found.number
        tx.run(
            cypher_beside.SET_SPACE, fingerprint=fingerprint, dimension=dimension, number=number, is_default=is_default,
            last=max(last_number, number),
        )  # fmt: skip
    return Space(fingerprint=fingerprint, dimension=dimension, is_default=is_default), dropped


def drop(tx: Tx, fingerprint: str) -> list[int]:
    """Remove a space; its number, so that its vectors can be removed too. An unknown one is passed over."""
    tx.run(cypher_beside.ENTER, op=tx.op)
    numbers = [numbered.number for numbered in known(tx) if numbered.space.fingerprint == fingerprint]
    if numbers:
        tx.run(cypher_beside.DROP_SPACE, fingerprint=fingerprint)
    return numbers


def remove_vectors(link: Link, numbers: list[int]) -> None:
    """Remove the vectors of dropped spaces, thousands in one transaction. No search can reach them by then."""
    for number in numbers:
        name = vector_name(number)
        link.autocommit(cypher_beside.DROP_VECTORS, name=name, nothing={name: None})


def add_vectors(tx: Tx, fingerprint: str, vectors: Mapping[VersionRef, NDArray[np.float32]]) -> None:
    """Set vectors of versions that are there and not erased."""
    tx.run(cypher_beside.ENTER, op=tx.op)
    numbered = find(tx, fingerprint)
    name = vector_name(numbered.number)
    rows = [
        {"id": ref.cube_id, "n": ref.version, "vector": {name: pack_vector(vector, numbered.space.dimension)}}
        for ref, vector in vectors.items()
    ]
    tx.run(cypher_beside.PUT_VECTORS, rows=rows)
    tx.run(cypher_beside.NEXT_EPOCH)


def missing(tx: Tx, fingerprint: str, limit: int, after: VersionRef | None) -> list[VersionRef]:
    """Versions with text that have no vector in the space, by cube id and version."""
    name = vector_name(find(tx, fingerprint).number)
    after_id, after_n = after or ("", 0)
    rows = tx.rows(cypher_beside.WITHOUT_VECTOR, name=name, after_id=after_id, after_n=after_n, limit=limit)
    return [VersionRef(*row) for row in rows]
