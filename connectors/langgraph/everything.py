"""Everything: the memory of a scope, whoever wrote it, under one reserved name that a graph can read.

A namespace that ends in "memos" stands for all memories of its scope, as `memos.search` finds them: what a middleware,
a chat session, an MCP client or the application remembered. It is read only; items put by this store are in it too.
"""

from __future__ import annotations

from langgraph.store.base import GetOp, InvalidNamespaceError, Item, PutOp, SearchItem, SearchOp

from memos_agents.connectors.langgraph.placing import Namespace
from memos_agents.cube.canonical import checked_mapping
from memos_agents.cube.memcube import MemCube, is_current
from memos_agents.cube.metadata import DEFAULT_COLLECTION
from memos_agents.errors import NotFound
from memos_agents.interface.recall import AnySync, told

EVERYTHING = "memos"
_PLACE = ("id", "version", "score")


def is_everything(namespace: Namespace) -> bool:
    """Whether a namespace stands for all memories of its scope."""
    return bool(namespace) and namespace[-1] == EVERYTHING


def check_put(op: PutOp) -> None:
    """Refuse to write where everything is read."""
    if is_everything(tuple(op.namespace)):
        raise InvalidNamespaceError(
            f"a namespace that ends in {EVERYTHING!r} shows all memories of its scope and is read only; put under "
            "another name, and erase with store.memos.erase(key)"
        )


def get_from_everything(op: GetOp, front: AnySync) -> Item | None:
    """The memory with this id."""
    try:
        cube = front.get(op.key)
    except (NotFound, ValueError):  # no such id here, or none at all
        return None
    if not cube.text or not is_current(cube, front._store.now()):
        return None
    return _found(cube, tuple(op.namespace), None)


def search_everything(op: SearchOp, front: AnySync) -> list[SearchItem]:
    """With a query the best memories as `memos.search` ranks them, else the newest; `filter` is on metadata."""
    namespace, count = tuple(op.namespace_prefix), min(op.offset + op.limit, 1_000)
    condition = checked_mapping(op.filter, what="filter") or None
    if not count:
        return []
    if op.query:
        hits = front.search(op.query, limit=count, filter=condition)
        scored = [(hit.cube, hit.score) for hit in hits]
    else:
        page = front.list(order="-created", limit=count, filter=condition, collection=DEFAULT_COLLECTION)
        scored = [(cube, None) for cube in page if cube.text]  # type: ignore[misc]  # no score without a query
    return [_found(cube, namespace, score) for cube, score in scored[op.offset :]]


def _found(cube: MemCube, namespace: Namespace, score: float | None) -> SearchItem:
    value = {name: item for name, item in told(cube).items() if name not in _PLACE}
    return SearchItem(
        namespace=namespace,
        key=cube.id,
        value=value,
        created_at=cube.created_at,
        updated_at=cube.recorded_at,
        score=score,
    )
