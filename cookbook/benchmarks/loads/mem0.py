"""mem0 in the shape of a LangGraph store, as far as it has the operations: what its own documentation shows, no model.

Its records have ids of its own; keys lie in the metadata and are looked up here for nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from langchain_core.embeddings import Embeddings
from langgraph.store.base import BaseStore, GetOp, ListNamespacesOp, Op, PutOp, SearchOp


class _Model(Embeddings):
    def __init__(self, embed: Callable[[list[str]], list[list[float]]]) -> None:
        self._embed = embed

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return self._embed(texts)

    def embed_query(self, text: str) -> list[float]:
        return self._embed([text])[0]


class Mem0(BaseStore):
    """`Memory` with its embedded Qdrant on disk, `infer=False`."""

    def __init__(self, folder: Path, embed: Callable[[list[str]], list[list[float]]]) -> None:
        os.environ.update(MEM0_DIR=str(folder / "home"), MEM0_TELEMETRY="False")
        from mem0 import Memory  # type: ignore[import-not-found,unused-ignore]

        qdrant = {"path": str(folder / "qdrant"), "on_disk": True, "embedding_model_dims": 384}
        self._memory = Memory.from_config(
            {
                "vector_store": {"provider": "qdrant", "config": qdrant},
                "embedder": {"provider": "langchain", "config": {"model": _Model(embed), "embedding_dims": 384}},
                "llm": {"provider": "openai", "config": {"api_key": "not used"}},
                "history_db_path": str(folder / "history.db"),
            }
        )
        self._ids: dict[tuple[tuple[str, ...], str], str] = {}

    def batch(self, ops: Iterable[Op]) -> list[Any]:
        return [self._do(op) for op in ops]

    async def abatch(self, ops: Iterable[Op]) -> list[Any]:
        raise NotImplementedError

    def _do(self, op: Op) -> Any:
        if isinstance(op, PutOp) and op.value is not None:
            return self._put((op.namespace, op.key), op.value)
        if isinstance(op, GetOp):
            return self._memory.get(self._ids[op.namespace, op.key])
        if isinstance(op, SearchOp) and op.query:
            return self._memory.search(op.query, filters={"user_id": "mara"}, top_k=op.limit, threshold=0.0)["results"]
        if isinstance(op, (SearchOp, ListNamespacesOp)):
            raise NotImplementedError
        raise AssertionError(op)

    def _put(self, place: tuple[tuple[str, ...], str], value: dict[str, Any]) -> None:
        text, metadata = str(value["text"]), {name: item for name, item in value.items() if name != "text"}
        if place in self._ids:
            self._memory.update(self._ids[place], text)
            return
        added: Sequence[Any] = self._memory.add(text, user_id="mara", metadata=metadata, infer=False)["results"]
        self._ids[place] = added[0]["id"]
