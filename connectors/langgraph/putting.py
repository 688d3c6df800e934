"""Putting: LangGraph's puts and deletes as keyed writes and erasures of one commit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from langgraph.store.base import PutOp

from memos_agents.connectors.langgraph.indexing import Embed, Index, checked_paths, searchable, texts_at
from memos_agents.connectors.langgraph.placing import key_name, metadata_of
from memos_agents.connectors.langgraph.scoping import Scoping
from memos_agents.cube.canonical import JSON
from memos_agents.cube.metadata import DEFAULT_COLLECTION, Descriptive
from memos_agents.errors import InvalidRequest
from memos_agents.interface.keyed import Keyed, Place


def planned(
    puts: Sequence[PutOp], scoping: Scoping, index: Index | None, embed: Embed
) -> tuple[list[Keyed], list[Place]]:
    """What to write and what to erase; every text of all puts is embedded in one call of the index's model."""
    erasures: list[Place] = []
    kept: list[tuple[PutOp, list[str], str | None]] = []
    for op in puts:
        namespace = tuple(op.namespace)
        front, owner = scoping.of(namespace)
        if op.value is None:
            erasures.append(Place(owner, DEFAULT_COLLECTION, key_name(namespace, op.key)))
            continue
        paths = checked_paths(op.index)
        texts, space = list[str](), None
        if index is not None and paths is not False:
            texts = texts_at(op.value, index.fields if paths is None else paths)
            space = index.space(front, embed) if texts else None
        kept.append((op, texts, space))
    vectors = {} if index is None else index.vectors([text for _, texts, _ in kept for text in texts], embed)
    writes: list[Keyed] = []
    for op, texts, space in kept:
        write = _write(op, scoping, index, space)
        if space is None:
            writes.append(write)
            continue
        first, *others = [{space: vectors[text]} for text in dict.fromkeys(texts)]
        writes.append(
            Keyed(
                scope=write.scope,
                descriptive=write.descriptive,
                text=write.text,
                metadata=write.metadata,
                embedded=write.embedded,
                vectors=first,
                parts=tuple(others),
            )
        )
    return writes, erasures


def _write(op: PutOp, scoping: Scoping, index: Index | None, space: str | None) -> Keyed:
    assert op.value is not None  # a put without a value is an erasure
    namespace, paths = tuple(op.namespace), checked_paths(op.index)
    configured = ["$"] if index is None else index.fields
    text = searchable(op.value, paths, configured)
    metadata = metadata_of(
        namespace,
        op.key,
        op.value,
        ttl_minutes=_minutes(op.ttl),
        index=cast(JSON, paths if paths is not None or index is None else configured),
        space=space,
    )
    about = Descriptive(semantic_type="fact", origin="langgraph", key=key_name(namespace, op.key))
    return Keyed(
        scope=scoping.owner_of(namespace), descriptive=about, text=text, metadata=metadata, embedded=bool(text)
    )


def _minutes(ttl: float | None) -> float | None:
    if ttl is None:
        return None
    if isinstance(ttl, bool) or not isinstance(ttl, int | float) or not 0 < ttl <= 1e9:
        raise InvalidRequest(f"ttl is {ttl!r}; it must be a number of minutes above 0 (and at most 1e9)")
    return float(ttl)
