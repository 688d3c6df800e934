"""Signals: one number a row for each thing that makes a row likely to answer a question.

Every statistic (document frequency, average length, maximum) is taken over the rows of the view, so that no row outside
the caller's scope can move a score; where the view has only some rows of a large scope (`known`), over a sample of that
scope. No loop over rows: numpy over columns, and over the rows that hold a term.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from memos_agents.errors import IncompatibleModel
from memos_agents.infrastructure.vault.capabilities import Statistics
from memos_agents.infrastructure.vault.text import query_terms
from memos_agents.infrastructure.vault.view import Postings, View
from memos_agents.operation import cues
from memos_agents.operation.products import product

Column: TypeAlias = NDArray[np.float32]
Embed: TypeAlias = Callable[[str], NDArray[np.float32]]

_HOUR_US: Final = 3_600_000_000
_CAPITALISED: Final = re.compile(r"(?<!\w)[^\W\d_]\w*(?:['\u2019]s)?(?!\w)")


def chained(view: View) -> View:
    """`view` with turns that were said outside any session joined to the next ones in row order, up to an hour apart.

    Only rows with a speaker: facts and documents that were added one after another are not a talk.
    """
    loose = (view.session < 0) & (view.speaker >= 0)
    if np.count_nonzero(loose) < 2:
        return view
    joined = loose[1:] & loose[:-1] & (np.abs(np.diff(view.event_us)) <= _HOUR_US)
    rows = np.arange(len(view), dtype=np.int32)
    previous, following, session = view.previous.copy(), view.following.copy(), view.session.copy()
    previous[1:][joined] = rows[:-1][joined]
    following[:-1][joined] = rows[1:][joined]
    starts = np.concatenate(([True], ~joined))
    numbers = np.cumsum(starts, dtype=np.int32) + np.int32(max(int(view.session.max()), -1))
    session[loose] = numbers[loose]
    return replace(view, previous=previous, following=following, session=session)


def talk(view: View, reach: float, known: Statistics | None = None) -> float:
    """How much the scope is like a chat of short turns, in (0, 1]; see `Weights`."""
    typical = float(np.exp(np.mean(np.log1p(view.length)))) if known is None else known.typical_length
    return min(1.0, reach / max(typical, 1e-9))


def lexical(
    view: View,
    postings: Postings,
    terms: Mapping[str, float],
    *,
    k1: float,
    b: float,
    reach: float,
    known: Statistics | None = None,
) -> tuple[Column, Column]:
    """BM25 of each row by its own terms, and by a window of its session: own terms x3, the next x2, the second next x1.

    What a row lends to its neighbours and takes from them shrinks with its length, as `reach` / terms: a short turn
    needs the talk around it to be understood, a long message speaks for itself and would drown its neighbours.
    `terms` are the query's, with their weights. Cost: some passes over n rows, and over the rows that hold each term.
    Source: Robertson and Zaragoza, *The Probabilistic Relevance Framework: BM25 and Beyond* (2009), section 3, with the
    idf of Lucene (never negative); the window is ours.
    """
    n = len(view)
    own = np.zeros(n + 1, dtype=np.float32)  # the last place takes what falls off either end of a session
    window = np.zeros(n + 1, dtype=np.float32)
    if not postings:
        return own[:n], window[:n]
    following, previous = padded(view.following), padded(view.previous)
    shifts = ((following, 2.0), (previous, 2.0), (following[following], 1.0), (previous[previous], 1.0))
    length = np.append(view.length, np.float32(0))
    lent = np.minimum(1, np.float32(reach) / np.maximum(length, 1))
    span = 3 * length
    for place, share in shifts:
        span += np.float32(share) * (length * lent)[place] * lent
    average, span_average = max(float(length[:n].mean()), 1e-9), max(float(span[:n].mean()), 1e-9)
    if known is not None and known.mean_length > 0:
        average, span_average = known.mean_length, span_average * known.mean_length / average
    saturation, span_saturation = _saturation(length, average, k1, b), _saturation(span, span_average, k1, b)
    whole = n if known is None else known.rows
    frequency = np.zeros(n + 1, dtype=np.float32)
    for term, weight in terms.items():
        if term not in postings:
            continue
        rows, counts = postings[term]
        holders = len(rows) if known is None else known.holders[term]
        own[rows] += np.float32(weight * _idf(holders, whole) * (k1 + 1)) * counts / (counts + saturation[rows])
        frequency[rows] += 3 * counts
        given = counts * lent[rows]
        reached = [rows]
        for place, share in shifts:
            places = place[rows]
            frequency[places] += np.float32(share) * given * lent[places]
            reached.append(places)
        frequency[n] = 0
        where = np.concatenate(reached)
        held = frequency[where]
        spread = np.count_nonzero(frequency) / len(rows)  # rows that one holder reaches, itself among them
        idf = _idf(min(round(holders * spread), whole), whole)
        # A place that is reached twice gets the same value twice: assigned, not added up.
        window[where] += np.float32(weight * idf * (k1 + 1)) * held / (held + span_saturation[where])
        frequency[where] = 0
    return own[:n], window[:n]


def coverage(
    best: float,
    postings: Postings,
    terms: Mapping[str, float],
    n: int,
    *,
    k1: float,
    known: Statistics | None = None,
) -> float:
    """How much of what BM25 could give for these terms the best row gets, 0 to 1.

    Low where the question is put in other words: then the best row by words is no good either, and scaled to 1 it
    would look like one.
    """
    holders = {term: len(postings[term][0]) if term in postings else 0 for term in terms}
    if known is not None:
        n, holders = known.rows, dict(known.holders)
    most = sum(weight * _idf(holders[term], n) for term, weight in terms.items())
    return best / (most * (k1 + 1)) if most > 0 else 0.0


def meaning(view: View, vector: Column) -> Column:
    """Cosine of each row with the question's vector, not below 0; 0 where a row has none.

    Raises `IncompatibleModel` if the vector is of another space than the view's.
    """
    if vector.shape != view.vectors.shape[1:]:
        raise IncompatibleModel(
            f"the question's vector has shape {vector.shape}, those of the memories have {view.vectors.shape[1:]}; "
            "search with the embedder that the memories were added with, or re-embed the store",
            found=vector.shape,
            expected=view.vectors.shape[1:],
        )
    cosine: Column = np.maximum(product(view.vectors, vector), np.float32(0))
    return cosine


def neighbours(view: View, column: Column) -> Column:
    """The larger value of the turn before and the turn after, 0 at both ends."""
    ends = np.append(column, np.float32(0))
    return np.maximum(ends[padded(view.previous)], ends[padded(view.following)])[:-1]


def best_of_session(view: View, column: Column) -> Column:
    """For each row the largest value in its session; its own where it has no session."""
    best = column.copy()
    bound = view.session >= 0
    if bound.any():
        top = np.zeros(int(view.session.max()) + 1, dtype=np.float32)
        np.maximum.at(top, view.session[bound], column[bound])
        best[bound] = top[view.session[bound]]
    return best


def scaled(column: Column) -> Column:
    """`column` divided by its maximum, so that its best row has 1; unchanged if there is nothing above 0."""
    top = float(column.max()) if len(column) else 0.0
    return column / np.float32(top) if top > 0 else column


def without_names(question: str, view: View, postings: Postings, *, is_talk: bool) -> str:
    """`question` without names that occur everywhere in the scope, for the embedder.

    In a talk between Ann and Ben nearly every turn is said by, or speaks to, Ann: the name takes half of a short
    question's vector and tells nothing (LoCoMo, all@10 of the vectors alone: 36 with names, 55 without). A name is
    a speaker of at least an eighth of the rows; in a talk also a capitalised word that a quarter of its rows hold, and
    eight at least, because some talks have their speakers written into the text.
    """
    if not len(view):
        return question
    said = np.bincount(view.speaker[view.speaker >= 0], minlength=len(view.speakers))
    known = Statistics(
        rows=len(view),
        mean_length=0,
        typical_length=0,
        holders={term: len(rows) for term, (rows, _) in postings.items()},
        speakers={name: count / len(view) for name, count in zip(view.speakers, said.tolist(), strict=True)},
    )
    return stripped_of_names(question, known, is_talk=is_talk)


def stripped_of_names(question: str, known: Statistics, *, is_talk: bool) -> str:
    """As `without_names`, of a scope that only its statistics are known of."""
    frequent = {name.casefold() for name, share in known.speakers.items() if share * 8 >= 1} - cues.ROLES
    common = {part for name in frequent for part in name.split()}
    least = max(known.rows / 4, 8)

    def drop(match: re.Match[str]) -> str:
        word = match[0]
        if not word[0].isupper():
            return word
        plain = re.sub(r"['\u2019]s$", "", word)
        everywhere = is_talk and all(known.holders.get(term, 0) >= least for term in query_terms(plain))
        return "" if plain.casefold() in common or everywhere else word

    stripped = " ".join(_CAPITALISED.sub(drop, question).split())
    return stripped if query_terms(stripped) else question


def padded(rows: NDArray[np.int32]) -> NDArray[np.int64]:
    """Row numbers with -1 turned into n, and n itself at the end: indexes for columns with one place more."""
    n = len(rows)
    return np.append(np.where(rows < 0, n, rows), n).astype(np.int64)


def _idf(holders: int, n: int) -> float:
    return math.log(1 + (n - holders + 0.5) / (holders + 0.5))


def _saturation(length: Column, average: float, k1: float, b: float) -> Column:
    return (k1 * (1 - b + b * length / np.float32(average))).astype(np.float32)
