"""Embedding models of other libraries, taken as they are. None of those libraries is imported here."""

from __future__ import annotations

import hashlib
import inspect
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from memos_agents.errors import InvalidRequest
from memos_agents.models.pooling import checked_texts, unit_rows

if TYPE_CHECKING:
    from memos_agents.models.base import Embedder

_PROBES = (
    "The quick brown fox jumps over the lazy dog.",
    "On 3 May she moved from Oslo to Porto for a new job.",
    "My favourite dish is lentil soup with lemon.",
    "def fibonacci(n): return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)",
)


def as_embedder(model: object) -> Embedder:
    """Return `model` as an `Embedder`.

    Takes our own protocol (returned as it is), LangChain `Embeddings`, LlamaIndex `BaseEmbedding` and
    sentence-transformers models, recognised by their methods. The model stays the caller's: it is not copied, moved or
    closed. Its fingerprint comes from its class, the name of its model and what it answers to four probe texts (one
    call, made when fingerprint or dimension is first asked for), so that two models of one class stay apart.
    Raises `InvalidRequest` for anything else.
    """
    if _offers(model, "embed", "embed_query", "fingerprint", "dimension"):
        return cast("Embedder", model)
    for names in (_LANGCHAIN, _LLAMA_INDEX):
        if _offers(model, *names):
            embed_many, embed_one = (getattr(model, name) for name in names)
            return AdaptedEmbedder(model, embed_many, embed_one)
    if _offers(model, "encode") and any(_offers(model, name) for name in _SENTENCE_TRANSFORMERS_DIMENSION):
        # Since version 5 there is one way for documents and one for queries.
        document, query = (
            _quiet(getattr(model, name if _offers(model, name) else "encode"))
            for name in ("encode_document", "encode_query")
        )
        return AdaptedEmbedder(model, document, _first_of(query))
    raise InvalidRequest(
        f"{type(model).__name__} is no embedder; pass a LangChain Embeddings, a LlamaIndex BaseEmbedding, "
        "a sentence-transformers model, or an object with embed, embed_query, fingerprint and dimension.",
        found=type(model).__name__,
    )


class AdaptedEmbedder:
    """Another library's model behind our protocol: unit rows, zeros for blank texts, shapes checked.

    Long texts go to the model as they are; what it does with them is its own affair.
    """

    def __init__(
        self, model: object, embed_many: Callable[[list[str]], ArrayLike], embed_one: Callable[[str], ArrayLike]
    ) -> None:
        self._name = _name_of(model)
        self._embed_many = embed_many
        self._embed_one = embed_one
        self._lock = threading.Lock()
        self._known: tuple[str, int] | None = None

    def __repr__(self) -> str:
        return f"AdaptedEmbedder({self._name})"

    @property
    def fingerprint(self) -> str:
        """Class, model name, dimension and the digest of the probe; the first call embeds four texts."""
        return self._probed()[0]

    @property
    def dimension(self) -> int:
        """Length of the vectors; the first call embeds four texts."""
        return self._probed()[1]

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return unit rows, shape (len(texts), dimension). Blank texts, which many models refuse, are not sent."""
        checked = checked_texts(texts)
        rows = [row for row, text in enumerate(checked) if text.strip()]
        vectors = np.zeros((len(checked), self.dimension), dtype=np.float32)
        if rows:
            found = self._embed_many([checked[row] for row in rows])
            vectors[rows] = unit_rows(found, rows=len(rows), dimension=self.dimension, origin=self._name)
        return vectors

    def embed_query(self, text: str) -> NDArray[np.float32]:
        """Return the vector of a query, shape (dimension,), by the model's own way for queries."""
        (checked,) = checked_texts([text])
        if not checked.strip():
            return np.zeros(self.dimension, dtype=np.float32)
        found = np.asarray(self._embed_one(checked), dtype=np.float32)[None]
        vector: NDArray[np.float32] = unit_rows(found, rows=1, dimension=self.dimension, origin=self._name)[0]
        return vector

    def _probed(self) -> tuple[str, int]:
        known = self._known
        if known is None:
            with self._lock:
                known = self._known
                if known is None:
                    found = self._embed_many(list(_PROBES))
                    vectors = unit_rows(found, rows=len(_PROBES), dimension=None, origin=self._name)
                    known = self._known = (f"{self._name}:{_digest(vectors)}", vectors.shape[1])
        return known


def _digest(vectors: NDArray[np.float32]) -> str:
    """Name a model by where its answers have their highest and lowest number.

    Not by the numbers themselves: they differ in the last digits between machines, threads and calls of a service,
    and the store would take the same model for another one.
    """
    places = [vectors.shape[1], *vectors.argmax(axis=1).tolist(), *vectors.argmin(axis=1).tolist()]
    return hashlib.sha256(repr(places).encode()).hexdigest()[:16]


_LANGCHAIN = ("embed_documents", "embed_query")
_LLAMA_INDEX = ("get_text_embedding_batch", "get_query_embedding")
_SENTENCE_TRANSFORMERS_DIMENSION = ("get_sentence_embedding_dimension", "get_embedding_dimension")


def _offers(model: object, *names: str) -> bool:
    """Whether `model` has these attributes, without running properties: asking for a dimension may cost a call."""
    if isinstance(model, type):
        return False  # the class instead of an instance of it
    return all(inspect.getattr_static(model, name, None) is not None for name in names)


def _quiet(encode: Callable[..., ArrayLike]) -> Callable[[list[str]], ArrayLike]:
    return lambda texts: encode(texts, show_progress_bar=False, convert_to_numpy=True)


def _first_of(encode: Callable[[list[str]], ArrayLike]) -> Callable[[str], ArrayLike]:
    return lambda text: np.asarray(encode([text]))[0]


def _name_of(model: object) -> str:
    """Class and model name, as far as the object tells it."""
    card = getattr(model, "model_card_data", None)  # where sentence-transformers keeps it
    candidates = [
        getattr(owner, attribute, None)
        for owner, attribute in (
            (model, "model_name"),
            (model, "model"),
            (model, "model_id"),
            (card, "base_model"),
        )
    ]
    # LlamaIndex calls a model without a name "unknown".
    name = next((found for found in candidates if isinstance(found, str) and found not in {"", "unknown"}), None)
    return type(model).__name__ if name is None else f"{type(model).__name__}:{name}"
