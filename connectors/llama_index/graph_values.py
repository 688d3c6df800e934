"""Graph values: LlamaIndex's labelled nodes and relations as keyed texts, and back without loss."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast

from llama_index.core.graph_stores.types import TRIPLET_SOURCE_KEY, ChunkNode, EntityNode, LabelledNode, Relation

from memos_agents.connectors.llama_index.shelf import Thing, Vector
from memos_agents.connectors.llama_index.storable import Fields, exact_json, storable_fields, storable_text
from memos_agents.cube.memcube import MemCube, VersionRef
from memos_agents.errors import InvalidRequest
from memos_agents.interface.reader import MAX_TEXT_CHARACTERS

_NODE = "_graph_node"
_RELATION = "_graph_relation"
_KINDS: dict[str, type[LabelledNode]] = {"entity": EntityNode, "chunk": ChunkNode}


def node_thing(node: LabelledNode, vector: Vector | None) -> Thing:
    """A node under its id; `InvalidRequest` for a kind of node that has neither name nor text."""
    if isinstance(node, EntityNode):
        kind, text = "entity", node.name
    elif isinstance(node, ChunkNode):
        kind, text = "chunk", node.text
    else:
        raise InvalidRequest(f"a graph node must be an EntityNode or a ChunkNode, not {type(node).__name__}")
    whole = _dumped(node, exclude={"embedding"})
    if isinstance(node, ChunkNode):
        whole["id_"] = node.id  # made from Python's hash() unless given, which differs from process to process
    header: Fields = {"kind": kind, "id": storable_text(node.id), "label": storable_text(node.label)}
    semantic_type = "entity" if kind == "entity" else "document"
    return Thing(
        name=node.id,
        text=storable_text(text)[:MAX_TEXT_CHARACTERS],
        metadata=_metadata(_NODE, header, whole),
        semantic_type=semantic_type,
        vector=vector,
    )


def node_of(cube: MemCube) -> LabelledNode:
    """The node that `node_thing` wrote; without its embedding, which stays in the store."""
    header = cast("Mapping[str, Any]", cube.metadata[_NODE])
    return _KINDS[header["kind"]].model_validate(json.loads(header["whole"]))


def entity_in(metadata: Mapping[str, object]) -> str | None:
    """The id of the entity that metadata describes, as far as a store can keep it; None for a chunk or another cube."""
    header = metadata.get(_NODE)
    return str(header["id"]) if isinstance(header, Mapping) and header["kind"] == "entity" else None


def is_graph_node(cube: MemCube) -> bool:
    """Whether a cube was written as a node of a graph."""
    return _NODE in cube.metadata


def relation_thing(relation: Relation, evidence: VersionRef | None) -> Thing:
    """A statement under its ends, its label and what it was taken from: each text that states it has its own."""
    header: Fields = {
        "label": storable_text(relation.label),
        "source_id": storable_text(relation.source_id),
        "target_id": storable_text(relation.target_id),
    }
    return Thing(
        name=relation_name(relation),
        text=storable_text(f"{relation.source_id} {relation.label} {relation.target_id}")[:MAX_TEXT_CHARACTERS],
        metadata=_metadata(_RELATION, header, _dumped(relation)),
        semantic_type="relation",
        evidence=evidence,
    )


def relation_name(relation: Relation) -> str:
    """A name for a statement that no other one has."""
    return exact_json([relation.source_id, relation.label, relation.target_id, source_of(relation)])


def relation_of(cube: MemCube) -> Relation:
    """The relation that `relation_thing` wrote."""
    header = cast("Mapping[str, Any]", cube.metadata[_RELATION])
    return Relation.model_validate(json.loads(header["whole"]))


def is_statement(cube: MemCube) -> bool:
    """Whether a cube was written as a relation of a graph."""
    return _RELATION in cube.metadata


def source_of(part: LabelledNode | Relation) -> str | None:
    """The id of the chunk that a node or relation was extracted from, if it says so."""
    found = part.properties.get(TRIPLET_SOURCE_KEY)
    return found if isinstance(found, str) else None


def _dumped(value: LabelledNode | Relation, exclude: set[str] | None = None) -> dict[str, Any]:
    try:
        dumped = value.model_dump(mode="json", exclude=exclude)
        json.dumps(dumped)
    except (TypeError, ValueError) as error:
        raise InvalidRequest(
            f"a {type(value).__name__} labelled {value.label!r} holds something that cannot be written as JSON "
            "(look at its properties)"
        ) from error
    return dumped


def _metadata(name: str, header: Fields, whole: Mapping[str, Any]) -> Fields:
    """Its properties, for filters, and under `name` what the thing is; there also the whole of it, exactly."""
    properties = whole["properties"]
    return {**storable_fields(properties), name: {**header, "whole": exact_json(whole)}}
