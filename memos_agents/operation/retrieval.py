"""Retrieval: which rows of a view answer a question best, and why each was found.

A seam, not a framework: `signals.py` and `cues.py` give one column each, `score` adds them up, `Weights` holds the
numbers. Another ranker replaces `score` and keeps the rest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import numpy as np

from memos_agents.cube.canonical import JSON
from memos_agents.cube.memcube import VersionRef
from memos_agents.errors import InvalidRequest
from memos_agents.infrastructure.vault.base import SearchView, ViewQuery
from memos_agents.infrastructure.vault.capabilities import PartialView, Statistics, SupportsCandidates
from memos_agents.infrastructure.vault.text import query_terms
from memos_agents.infrastructure.vault.view import View
from memos_agents.operation import cues, signals
from memos_agents.operation.signals import Column, Embed
from memos_agents.operation.weights import Weights

_DEFAULT: Final = Weights()
CANDIDATES: Final = 160
"""Rows that an index is asked for where a scope is too large to look at all of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranked:
    """One row found. `parts` says what each signal added; they sum up to `score`, which lies in [0, 1]."""

    ref: VersionRef
    score: float
    parts: Mapping[str, float]


def retrieve(
    source: SearchView,
    query: str,
    *,
    embed: Embed | None,
    now: datetime,
    limit: int,
    accepts: Callable[[Mapping[str, JSON]], bool] | None = None,
    weights: Weights = _DEFAULT,
) -> list[Ranked]:
    """Rank the rows of `source` by how well they answer `query`, best first, `limit` at most.

    Rows that share no word with the question and have no similarity to it are left out, so the list may be shorter.
    `embed` turns a text into a vector of the view's space (called once at most); None ranks by words and cues alone.
    `accepts` filters by metadata and is called on the best rows only, until `limit` are found. Ties: newest event
    first, then the smaller id. Scores compare within one call, not across calls.

    Raises `InvalidRequest` if `limit` is below 1, `IncompatibleModel` if the vector is not of the view's space.
    Cost without the embedder: about 1 ms of CPU at 1,000 rows, 35 ms at 100,000.
    """
    if limit < 1:
        raise InvalidRequest(f"limit must be at least 1, not {limit}", limit=limit)
    view = source.view
    if not len(view):
        return []
    columns = score(source, query, embed=embed, now=now, weights=weights)
    total = np.sum([column for _, column in columns], axis=0) if columns else np.zeros(len(view), dtype=np.float32)
    metadata = source.metadata() if accepts is not None else None
    found: list[Ranked] = []
    for row in _best_first(view, total, limit):
        if accepts is not None and metadata is not None and not accepts(metadata[row]):
            continue
        parts = {name: float(column[row]) for name, column in columns if column[row] > 0}
        found.append(Ranked(ref=view.refs[row], score=sum(parts.values()), parts=parts))
        if len(found) == limit:
            break
    return found


def find_candidates(
    source: SupportsCandidates,
    view: ViewQuery,
    query: str,
    *,
    embed: Embed | None,
    limit: int,
    weights: Weights = _DEFAULT,
) -> PartialView | None:
    """What `retrieve` ranks instead of a whole scope, where that is too large to look at; None where it is not.

    `limit` is the number of hits that will be wanted.
    """
    terms = query_terms(query)

    def vector(known: Statistics) -> Column:
        assert embed is not None  # asked below
        is_talk = weights.reach >= known.typical_length
        return embed(signals.stripped_of_names(query, known, is_talk=is_talk) if weights.strip_names else query)

    chosen = max(CANDIDATES, 4 * limit)
    return source.candidates(view, terms, vector if embed is not None and query.strip() else None, chosen)


def score(
    source: SearchView, query: str, *, embed: Embed | None, now: datetime, weights: Weights
) -> list[tuple[str, Column]]:
    """What each signal gives to each row, weighted, so that a row's sum lies in [0, 1]; 0 in all where nothing fits.

    The sum is divided by the weights of the signals that say anything about this question.
    """
    terms = Counter(query_terms(query))
    if isinstance(source, PartialView):  # rows beside each other may be far apart: only true neighbours are joined
        view, known = source.view, source.statistics(terms)
    else:
        view, known = signals.chained(source.view), None
    postings = source.postings(terms)
    talk = signals.talk(view, weights.reach, known)
    own, window = signals.lexical(view, postings, terms, k1=weights.k1, b=weights.b, reach=weights.reach, known=known)
    best = max(float(own.max()), float(window.max()))
    held = signals.coverage(best, postings, terms, len(view), k1=weights.k1, known=known)
    lexical = weights.lexical_log + (weights.lexical_talk - weights.lexical_log) * talk
    lexical *= min(1.0, held / weights.coverage) if weights.coverage > 0 else 1.0
    context = weights.context * talk
    relevance = {
        "words": (lexical * (1 - context), signals.scaled(own)),
        "context": (lexical * context, signals.scaled(window)),
    }
    if embed is not None and query.strip():
        question = query
        if weights.strip_names and known is not None:
            question = signals.stripped_of_names(query, known, is_talk=talk == 1)
        elif weights.strip_names:
            question = signals.without_names(query, view, postings, is_talk=talk == 1)
        meaning = weights.meaning_log + (weights.meaning_talk - weights.meaning_log) * talk
        relevance["meaning"] = (meaning, signals.scaled(signals.meaning(view, embed(question))))
    base = signals.scaled(_weighted(relevance, len(view)))
    if not base.any():
        return []
    columns = relevance | {"session": (weights.session, signals.best_of_session(view, base))}
    columns |= _cues(view, query, base, now=now, talk=talk, weights=weights)
    spoken = {name: (weight, column) for name, (weight, column) in columns.items() if weight > 0 and column.any()}
    whole = sum(weight for weight, _ in spoken.values())
    found = (base > 0) & (view.length > 0)  # a row without a word of its own answers nothing
    return [(name, np.float32(weight / whole) * column * found) for name, (weight, column) in spoken.items()]


def _cues(
    view: View, query: str, base: Column, *, now: datetime, talk: float, weights: Weights
) -> dict[str, tuple[float, Column]]:
    found: dict[str, tuple[float, Column]] = {}
    time = cues.time_cue(query, now, view)
    if time is not None:
        found["time"] = (weights.time, time)
    if cues.wants_recent(query):
        found["recency"] = (weights.recency, cues.recency_cue(view) * base)
    speaker = cues.speaker_cue(query, view)
    if speaker is not None:
        found["speaker"] = (weights.speaker, speaker)
    guidance = cues.guidance_cue(query, view, base)
    if guidance is not None:
        found["guidance"] = (weights.guidance, guidance)
    user = cues.user_cue(view)
    if user is not None:
        found["user"] = (weights.user, user)
    if talk * weights.reply > 0:
        found["reply"] = (talk * weights.reply, cues.reply_cue(view))
    flags = cues.answer_flags(query)
    if flags:
        found["answer"] = (weights.answer, ((view.flags & flags.value) != 0).astype(np.float32))
    return found


def _weighted(columns: Mapping[str, tuple[float, Column]], n: int) -> Column:
    total = np.zeros(n, dtype=np.float32)
    for weight, column in columns.values():
        total += np.float32(weight) * column
    return total


def _best_first(view: View, total: Column, limit: int) -> Iterator[int]:
    """Rows by falling score, sorted only as far as the caller reads."""
    rounded = np.round(total, 6)  # sums of floats differ in the last bits with the order of the rows; ties must not
    above = np.inf
    size = max(4 * limit, 64)
    while True:
        rows = np.flatnonzero((rounded > 0) & (rounded < above))
        if not len(rows):
            return
        if len(rows) > size:
            least = np.partition(rounded[rows], len(rows) - size)[len(rows) - size]
            rows = rows[rounded[rows] >= least]
        yield from sorted(rows.tolist(), key=lambda row: (-rounded[row], -view.event_us[row], view.refs[row]))
        above = rounded[rows].min()
        size *= 8
