"""Nodes: a LlamaIndex node as a keyed text with metadata, and back without loss; a memory as a node."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from llama_index.core.bridge.pydantic import Field
from llama_index.core.schema import BaseNode, MetadataMode, TextNode
from llama_index.core.vector_stores.utils import metadata_dict_to_node, node_to_metadata_dict

from memos_agents.connectors.llama_index.recalling import public
from memos_agents.connectors.llama_index.storable import exact_json, storable_fields, storable_text
from memos_agents.cube.canonical import JSON
from memos_agents.cube.memcube import MemCube
from memos_agents.errors import InvalidRequest
from memos_agents.interface.quoting import source_of
from memos_agents.interface.reader import MAX_TEXT_CHARACTERS
from memos_agents.interface.recall import render
from memos_agents.interface.results import Hit

CONTENT = "_node_content"
NODE_ID = "_node_id"
_WHOLE = "_node_is_whole"  # the text of the cube is not the node's: that one stands in its content


def text_and_metadata(node: BaseNode) -> tuple[str, dict[str, JSON]]:
    """A node's text, and its metadata as LlamaIndex's stores keep it: the node's own keys, then those of the framework.

    `InvalidRequest` if the node holds something that is not JSON.
    """
    text = node.get_content(metadata_mode=MetadataMode.NONE)
    kept = storable_text(text)[:MAX_TEXT_CHARACTERS]
    try:
        metadata = node_to_metadata_dict(node, remove_text=kept == text)
    except (TypeError, ValueError) as error:
        raise InvalidRequest(
            f"node {node.node_id!r} holds something that cannot be written as JSON (look at its metadata)"
        ) from error
    content = json.loads(metadata[CONTENT])
    metadata[CONTENT] = exact_json(content)
    if kept != text:
        metadata[_WHOLE] = True
    metadata[NODE_ID] = node.node_id
    return kept, storable_fields(metadata)


def node_of(cube: MemCube) -> BaseNode:
    """The node that `text_and_metadata` took apart; without its embedding, which stays in the store."""
    metadata: Mapping[str, Any] = cube.metadata
    return metadata_dict_to_node(dict(metadata), text=None if _WHOLE in metadata else cube.text)


def is_node(cube: MemCube) -> bool:
    """Whether a cube was written as a node."""
    return NODE_ID in cube.metadata


class RecalledNode(TextNode):
    """A memory as a node. To a model it shows itself as quoted data with its time and source, never as bare text."""

    quotation: str = Field(default="", description="The memory as a prompt may hold it.")

    @classmethod
    def class_name(cls) -> str:
        """The name that LlamaIndex writes down."""
        return "MemOSRecalledNode"

    def get_content(self, metadata_mode: MetadataMode = MetadataMode.NONE) -> str:
        """The bare text; for a model, the quotation."""
        return self.quotation if metadata_mode == MetadataMode.LLM else super().get_content(metadata_mode)


def recalled_node(hit: Hit) -> RecalledNode:
    """A found memory as a node: its id, text, public metadata, and where and when it comes from."""
    cube = hit.cube
    told = {
        "memory_source": source_of(cube),
        "memory_time": cube.happened_at.isoformat(),
        "memory_version": cube.version,
    }
    return RecalledNode(
        id_=cube.id,
        text=cube.text,
        extra_info={**public(cube.metadata), **told},
        excluded_embed_metadata_keys=list(told),
        quotation=render([cube], max_tokens=None),
    )
