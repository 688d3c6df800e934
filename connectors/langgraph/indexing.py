"""Indexing: which texts of a value are searched, and their vectors in a space of the store's own.

Without `index=` the MemOS's own embedder and ranking are used. With it, LangGraph's semantics: one vector for each text
of the configured fields, the best of them is the item's score.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, cast

from langgraph.store.base import IndexConfig, ensure_embeddings, get_text_at_path

from memos_agents.connectors.langgraph.placing import readable
from memos_agents.errors import IncompatibleModel, InvalidRequest
from memos_agents.interface.nearest import open_space
from memos_agents.interface.recall import AnySync
from memos_agents.models.adapters import AdaptedEmbedder
from memos_agents.models.pooling import unit_rows

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Paths = Literal[False] | list[str] | None
Embed = Callable[[list[str]], Sequence[Sequence[float]]]
"""The configured model, called from a thread that may wait."""


class Index:
    """An index configuration: the model, the fields, and the vector space that belongs to both."""

    def __init__(self, config: IndexConfig) -> None:
        if not isinstance(config, Mapping) or "embed" not in config:
            raise InvalidRequest("index= needs {'dims': int, 'embed': embeddings or function, 'fields': [...]}")
        own = getattr(config["embed"], "embedder", None)  # a MemOSEmbeddings gives what it stands for
        self.embeddings = ensure_embeddings(config["embed"])
        self.fields: list[str] = list(config.get("fields") or ["$"])
        self._dimension = config.get("dims")
        self._known = own if hasattr(own, "fingerprint") else None
        self._space: str | None = None

    def space(self, front: AnySync, embed: Embed) -> str:
        """The name of the space; the first call embeds four probe texts to tell models apart."""
        if self._space is None:
            model = self._known or AdaptedEmbedder(self.embeddings, embed, lambda text: embed([text])[0])
            if self._dimension is not None and model.dimension != self._dimension:
                raise IncompatibleModel(
                    f"index= says dims={self._dimension}, but the model gives {model.dimension} numbers",
                    expected=self._dimension,
                    found=model.dimension,
                )
            self._dimension = model.dimension
            self._space = open_space(front, model, prefix="langgraph:")
        return self._space

    def vectors(self, texts: Sequence[str], embed: Embed) -> dict[str, NDArray[np.float32]]:
        """One vector of length 1 for each different text, in one call of the model."""
        different = list(dict.fromkeys(texts))
        if not different:
            return {}
        rows = unit_rows(embed(different), rows=len(different), dimension=self._dimension, origin="index['embed']")
        return dict(zip(different, rows, strict=True))


def checked_paths(index: object) -> Paths:
    """`index` of a put: False, paths, or None for the configured ones."""
    if index is None or index is False:
        return cast(Paths, index)
    if isinstance(index, str) or not isinstance(index, Sequence) or not all(isinstance(path, str) for path in index):
        raise InvalidRequest(f"index must be False or a list of paths, not {index!r}")
    return list(index)


def texts_at(value: Mapping[str, Any], paths: Sequence[str]) -> list[str]:
    """The texts of these fields, as LangGraph takes them."""
    told = dict(value)
    return [text for path in paths for text in get_text_at_path(told, path)]


def searchable(value: Mapping[str, Any], paths: Paths, configured: Sequence[str]) -> str:
    """What other fronts search and quote: the chosen fields, or all of the value in words; "" for `index=False`."""
    if paths is False:
        return ""
    chosen = configured if paths is None else paths
    if "$" in chosen:
        return readable(value)
    return "\n".join(dict.fromkeys(text for text in texts_at(value, chosen) if text.strip()))
