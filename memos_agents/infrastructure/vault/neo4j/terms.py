"""The text index of one cached scope: which versions hold a term, kept beside the columns and gone with them.

The server keeps a version's terms as one string ("word count word count ..."): its own full-text index knows neither a
scope's document frequencies nor our stemmer. What is read here once is appended to like a log-structured index: sorted
segments, merged when they are about equally large.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memos_agents.infrastructure.vault.view import Posting


@dataclass(frozen=True, slots=True)
class _Segment:
    """Postings sorted by word: those of word `number` are `versions[starts[number] : starts[number + 1]]`."""

    words: Mapping[str, int]
    starts: NDArray[np.int64]
    versions: NDArray[np.int64]
    counts: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.versions)

    def numbers(self) -> NDArray[np.int64]:
        """The word of each posting."""
        return np.repeat(np.arange(len(self.words), dtype=np.int64), np.diff(self.starts))


class TermIndex:
    """Words of versions, by the versions' numbers. Built when it is first asked; safe for threads."""

    def __init__(self, versions: Sequence[int] = (), terms: Sequence[str] = ()) -> None:
        self._lock = threading.Lock()
        self._segments: list[_Segment] = []
        self._waiting: list[tuple[Sequence[int], Sequence[str]]] = []
        self._characters = 0
        self.append(versions, terms)

    @property
    def size_bytes(self) -> int:
        """About what it holds in memory."""
        return self._characters + sum(9 * len(segment) + 100 * len(segment.words) for segment in self._segments)

    def append(self, versions: Sequence[int], terms: Sequence[str]) -> None:
        """Add versions that are not in it, with the terms of each."""
        if versions:
            with self._lock:
                self._waiting.append((versions, terms))
                self._characters += sum(map(len, terms))

    def without(self, versions: Iterable[int]) -> TermIndex:
        """A copy in which no word of these versions is left."""
        gone = np.fromiter(versions, np.int64)
        copy = TermIndex()
        with self._lock:
            copy._segments = [left for segment in self._segments if len(left := _without(segment, gone))]
            removed = set(gone.tolist())
            for numbers, terms in self._waiting:
                kept = [place for place, number in enumerate(numbers) if number not in removed]
                copy.append([numbers[place] for place in kept], [terms[place] for place in kept])
        return copy

    def look_up(self, terms: Iterable[str]) -> dict[str, tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """For each of `terms` that any version holds: the versions, in no order, and their counts."""
        with self._lock:
            self._settle()
            segments = list(self._segments)
        found: dict[str, tuple[NDArray[np.int64], NDArray[np.float32]]] = {}
        for term in dict.fromkeys(terms):
            places = [
                (segment, slice(segment.starts[number], segment.starts[number + 1]))
                for segment in segments
                if (number := segment.words.get(term)) is not None
            ]
            if places:
                found[term] = (
                    np.concatenate([segment.versions[place] for segment, place in places]),
                    np.concatenate([segment.counts[place] for segment, place in places]).astype(np.float32),
                )
        return found

    def _settle(self) -> None:
        """Turn what waits into a segment, and keep each segment at least twice as large as the next."""
        if self._waiting:
            versions = [number for numbers, _ in self._waiting for number in numbers]
            self._segments.append(_index(versions, [text for _, texts in self._waiting for text in texts]))
            self._waiting, self._characters = [], 0
        held = self._segments
        while len(held) > 1 and len(held[-2]) < 2 * len(held[-1]):
            held[-2:] = [_merged(held[-2], held[-1])]


def packed_postings(rows: Sequence[str], terms: Iterable[str]) -> dict[str, Posting]:
    """For each of `terms` that any row holds: its rows (ascending) and counts. Looks into the strings themselves.

    One pass over all of them for each term: worth it for some hundred rows and the few terms of one question.
    """
    found: dict[str, Posting] = {}
    text = f" {'  '.join(rows)} "
    sizes = np.array([len(row) + 2 for row in rows], np.int64)
    starts = np.cumsum(sizes) - sizes
    for term in dict.fromkeys(terms):
        if not term.isalnum():  # no such term is ever indexed
            continue
        needle = f" {term} "
        places: list[int] = []
        place = text.find(needle)
        while place >= 0:
            places.append(place)
            place = text.find(needle, place + len(needle) - 1)
        if not places:
            continue
        holding = np.searchsorted(starts, places, side="right") - 1
        if len(term) == 1 and term.isdigit():  # perhaps the count of a word: every second one is
            beginnings = starts[holding].tolist()
            words = [not text.count(" ", start + 1, at + 1) % 2 for start, at in zip(beginnings, places, strict=True)]
            holding, places = holding[words], [at for at, is_word in zip(places, words, strict=True) if is_word]
        if places:
            counts = np.array([int(text[at + len(needle)]) for at in places], np.float32)
            found[term] = holding.astype(np.int64), counts
    return found


def lucene_query(tags: Sequence[str], terms: Iterable[str]) -> str:
    """All of `tags`, which do not count, and some of `terms`, as Lucene's classic parser reads it; empty without terms.

    Every word stands in quotation marks, in which only the mark itself and the backslash mean anything: so neither a
    special character nor AND, OR and NOT can get out.
    """
    words = [_quoted(term) for term in dict.fromkeys(terms) if term.strip()]
    if not words:
        return ""
    return " ".join([*(f"+{_quoted(tag)}^0" for tag in tags), f"+({' '.join(words)})"])


def _quoted(word: str) -> str:
    escaped = word.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _index(versions: Sequence[int], texts: Sequence[str]) -> _Segment:
    tokens, sizes = [], []
    for text in texts:
        parts = text.split()
        tokens += parts
        sizes.append(len(parts) // 2)
    words: dict[str, int] = {}
    numbers = np.fromiter((words.setdefault(word, len(words)) for word in tokens[::2]), np.int64, len(tokens) // 2)
    counts = np.frombuffer("".join(tokens[1::2]).encode(), np.uint8) - np.uint8(ord("0"))
    return _sorted(words, numbers, np.repeat(np.array(versions, np.int64), sizes), counts)


def _merged(one: _Segment, other: _Segment) -> _Segment:
    words = dict(one.words)
    renumbered = np.fromiter(
        (words.setdefault(word, len(words)) for word in other.words), np.int64, len(other.words)
    )  # a dictionary gives its keys in the order of their numbers
    return _sorted(
        words,
        np.concatenate([one.numbers(), renumbered[other.numbers()]]),
        np.concatenate([one.versions, other.versions]),
        np.concatenate([one.counts, other.counts]),
    )


def _without(segment: _Segment, gone: NDArray[np.int64]) -> _Segment:
    kept = ~np.isin(segment.versions, gone)
    if kept.all():
        return segment
    numbers = segment.numbers()[kept]
    used = np.bincount(numbers, minlength=len(segment.words)) > 0
    renumbered = np.cumsum(used) - 1
    words = {word: int(renumbered[number]) for word, number in segment.words.items() if used[number]}
    return _sorted(words, renumbered[numbers], segment.versions[kept], segment.counts[kept])


def _sorted(
    words: Mapping[str, int], numbers: NDArray[np.int64], versions: NDArray[np.int64], counts: NDArray[np.uint8]
) -> _Segment:
    order = np.argsort(numbers, kind="stable")
    starts = np.zeros(len(words) + 1, np.int64)
    np.cumsum(np.bincount(numbers, minlength=len(words)), out=starts[1:])
    return _Segment(words, starts, versions[order], counts[order])
