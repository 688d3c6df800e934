"""Nearest: memories by the angle of their vectors alone, as vector stores of frameworks promise it.

`MemOS.search` ranks by more than that and usually finds the answer more often; these calls exist so that a framework's
vector store gives the order and the scores its users know. Exact: every vector of the scope is compared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from memos_agents.cube.memcube import MemCube, VersionRef
from memos_agents.cube.scope import Scope
from memos_agents.cube.state import MemoryState
from memos_agents.errors import IncompatibleModel, InvalidRequest
from memos_agents.infrastructure.vault.base import ViewQuery
from memos_agents.interface.recall import AnySync
from memos_agents.interface.views import ScopedMemOS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from memos_agents.models.base import Embedder

_READ_AT_ONCE = 64


class Near(NamedTuple):
    """A memory, the cosine of its vector with the question's, and the vector itself (unit length)."""

    cube: MemCube
    score: float
    vector: NDArray[np.float32]


def open_space(front: AnySync, embedder: Embedder, *, prefix: str = "") -> str:
    """The name of the space for `embedder`'s vectors, made if it is new; another model's vectors never mix with them.

    With `prefix` it is a space apart from the store's own even for the same embedder.
    """
    name = prefix + embedder.fingerprint
    vault = front._store.vault
    if not vault.is_readonly or all(space.fingerprint != name for space in vault.spaces()):
        vault.open_space(name, embedder.dimension)
    return name


def nearest(
    front: AnySync,
    vector: NDArray[np.float32],
    *,
    space: str,
    limit: int,
    collection: str | None,
    accepts: Callable[[MemCube], bool] | None = None,
    uses: bool = True,
) -> list[Near]:
    """The `limit` current memories whose vectors in `space` point most nearly where `vector` points, best first.

    Memories without a vector there are left out; `accepts` is asked of the best ones until enough are found. What is
    returned counts as used. Ties: older first.
    """
    if limit < 1:
        raise InvalidRequest(f"limit is {limit}; it must be at least 1")
    found: list[Near] = []
    for refs, scores, rows in _ranked(front, vector, space=space, collection=collection):
        cubes = front._store.vault.versions(refs, scope_of(front))
        for ref, score, row in zip(refs, scores, rows, strict=True):
            cube = cubes.get(ref)
            if cube is None or cube.state is MemoryState.ERASED:  # meanwhile
                continue
            if accepts is None or accepts(cube):
                found.append(Near(cube, score, row))
                if len(found) == limit:
                    break
        if len(found) == limit:
            break
    if uses and found and not front._store.vault.is_readonly:
        front._store.vault.touch([near.cube.id for near in found], front._store.now())
    return found


def scope_of(front: AnySync) -> Scope:
    """What a front may see: a view's own scope, or the tenant."""
    return front.scope if isinstance(front, ScopedMemOS) else Scope.everything(front.tenant)


def _ranked(
    front: AnySync, vector: NDArray[np.float32], *, space: str, collection: str | None
) -> Iterator[tuple[list[VersionRef], list[float], NDArray[np.float32]]]:
    """All rows with a vector, best first, in pieces that grow."""
    import numpy as np

    from memos_agents.operation.products import product

    store = front._store
    vault, searcher = store.vault, store.searcher
    if searcher is None:
        raise InvalidRequest(f"{type(vault).__name__} cannot search; use a store that can, such as a file")
    query = ViewQuery(scope=scope_of(front), now=store.now(), space=space, collection=collection)
    view = searcher.search_view(query).view
    if not len(view):
        return
    asked = np.asarray(vector, dtype=np.float32)
    if asked.shape != (view.vectors.shape[1],):
        raise IncompatibleModel(
            f"the vector has shape {asked.shape}, but those of this store have {view.vectors.shape[1]} numbers",
            found=asked.shape,
            expected=(view.vectors.shape[1],),
        )
    length = float(np.linalg.norm(asked))
    scores = product(view.vectors, asked / length if length else asked)
    known = np.flatnonzero(view.vectors.any(axis=1))
    order = known[np.argsort(-np.round(scores[known], 6), kind="stable")]
    start, size = 0, _READ_AT_ONCE
    while start < len(order):
        piece = order[start : start + size]
        yield [view.refs[row] for row in piece], [float(scores[row]) for row in piece], view.vectors[piece]
        start, size = start + size, size * 4
