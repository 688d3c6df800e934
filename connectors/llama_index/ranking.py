"""Ranking: LlamaIndex's query modes over the rows of a search view. Functions of arrays; nothing is read here.

Source of the modes: `llama_index.core.vector_stores.types.VectorStoreQueryMode` and what upstream's own stores do with
them. Ours differ in that every mode looks at all rows (exact), and that ties go to the row that was written first.
"""

from __future__ import annotations

from datetime import datetime

import numpy as np
from llama_index.core.indices.query.embedding_utils import get_top_k_embeddings_learner
from llama_index.core.vector_stores.types import VectorStoreQuery, VectorStoreQueryMode
from numpy.typing import NDArray

from memos_agents.connectors.llama_index.storable import storable_text
from memos_agents.errors import InvalidRequest
from memos_agents.infrastructure.vault.base import SearchView
from memos_agents.operation.products import product
from memos_agents.operation.retrieval import retrieve

Rows = NDArray[np.int64]
Scores = NDArray[np.float64]

WORD_MODES = frozenset({VectorStoreQueryMode.TEXT_SEARCH, VectorStoreQueryMode.SPARSE})
MIXED_MODES = frozenset({VectorStoreQueryMode.HYBRID, VectorStoreQueryMode.SEMANTIC_HYBRID})
LEARNER_MODES = frozenset(
    {
        VectorStoreQueryMode.SVM,
        VectorStoreQueryMode.LINEAR_REGRESSION,
        VectorStoreQueryMode.LOGISTIC_REGRESSION,
    }
)
DEFAULT_ALPHA = 0.5
DEFAULT_MMR_THRESHOLD = 0.5


def rank(
    source: SearchView,
    rows: Rows,
    query: VectorStoreQuery,
    vector: NDArray[np.float32] | None,
    *,
    now: datetime,
    mmr_threshold: float | None = None,
) -> tuple[Rows, list[float]]:
    """The best of `rows` (indices into the view) with their scores, best first, `similarity_top_k` at most.

    DEFAULT: cosine. MMR: cosine less what was taken already. TEXT_SEARCH, SPARSE: words alone, from 0 to 1. HYBRID,
    SEMANTIC_HYBRID: `alpha` parts cosine, the rest words. Learners need scikit-learn (`ImportError`). Rows without a
    vector of this space are found by words only. `InvalidRequest` if the mode needs a vector or words that are missing.
    """
    mode, most = query.mode, query.similarity_top_k
    if isinstance(most, bool) or not isinstance(most, int) or most < 0:
        raise InvalidRequest(f"similarity_top_k must be an int of at least 0, not {most!r}")
    if mode not in WORD_MODES and vector is None:
        raise InvalidRequest(f"a query in mode {mode.value!r} needs query_embedding")
    if not len(rows) or not most:
        return rows[:0], []
    if vector is None or mode in WORD_MODES:
        return _best(rows, _words(source, rows, query, now), most, above=0.0)
    if mode in MIXED_MODES:
        alpha = DEFAULT_ALPHA if query.alpha is None else query.alpha
        if not 0 <= alpha <= 1:
            raise InvalidRequest(f"alpha is {alpha!r}; it must be from 0 (words alone) to 1 (meaning alone)")
        meaning = np.clip(_cosines(source, vector)[rows], 0, 1)
        top = query.hybrid_top_k or most
        return _best(rows, alpha * meaning + (1 - alpha) * _words(source, rows, query, now), top, above=0.0)
    cosines = _cosines(source, vector)
    rows = _with_vector(source, rows, cosines)
    if mode == VectorStoreQueryMode.MMR:
        threshold = query.mmr_threshold if mmr_threshold is None else mmr_threshold
        threshold = DEFAULT_MMR_THRESHOLD if threshold is None else threshold
        return _marginal(source, rows, cosines[rows], most, threshold)
    if mode in LEARNER_MODES:
        return _learned(source, rows, vector, most, mode)
    return _best(rows, cosines[rows], most)


def _best(rows: Rows, scores: Scores, most: int, *, above: float | None = None) -> tuple[Rows, list[float]]:
    if above is not None:
        rows, scores = rows[scores > above], scores[scores > above]
    order = np.argsort(-scores, kind="stable")[:most]
    return rows[order], scores[order].tolist()


def _cosines(source: SearchView, vector: NDArray[np.float32]) -> Scores:
    """Cosines with all rows. Kept vectors have length 1 up to half precision, so the error is below 1e-3."""
    scores: Scores = np.clip(product(source.view.vectors, vector), -1, 1).astype(np.float64)
    return scores


def _with_vector(source: SearchView, rows: Rows, cosines: Scores) -> Rows:
    """Without the rows that have no vector in this space: their cosine is 0, as that of few others is."""
    doubtful = rows[cosines[rows] == 0]
    bare = doubtful[~source.view.vectors[doubtful].any(axis=1)]
    return np.setdiff1d(rows, bare) if len(bare) else rows


def _words(source: SearchView, rows: Rows, query: VectorStoreQuery, now: datetime) -> Scores:
    question = storable_text(query.query_str or "")
    if not question.strip():
        raise InvalidRequest(f"a query in mode {query.mode.value!r} needs query_str")
    place = {ref: position for position, ref in enumerate(source.view.refs)}
    scores = np.zeros(len(place))
    for found in retrieve(source, question, embed=None, now=now, limit=len(place)):
        scores[place[found.ref]] = found.score
    return scores[rows]


def _marginal(source: SearchView, rows: Rows, cosines: Scores, most: int, threshold: float) -> tuple[Rows, list[float]]:
    """Maximal marginal relevance as LlamaIndex counts it: against the row taken last, not against all taken so far."""
    near = threshold * cosines
    kept = source.view.vectors[rows]
    taken: list[int] = []
    scores: list[float] = []
    gains = near
    while len(taken) < min(most, len(rows)):
        gains[taken] = -np.inf
        taken.append(int(gains.argmax()))
        scores.append(float(gains[taken[-1]]))
        gains = near - (1 - threshold) * product(kept, kept[taken[-1]])
    return rows[taken], scores


def _learned(
    source: SearchView, rows: Rows, vector: NDArray[np.float32], most: int, mode: VectorStoreQueryMode
) -> tuple[Rows, list[float]]:
    scores, found = get_top_k_embeddings_learner(
        vector.tolist(),
        source.view.vectors[rows].tolist(),
        similarity_top_k=most,
        embedding_ids=rows.tolist(),
        query_mode=mode,
    )
    return np.array(found, dtype=np.int64), [float(score) for score in scores]
