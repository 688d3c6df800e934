"""Stand-ins that behave: an embedder without a model and a clock that obeys."""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from math import sqrt
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from memos_agents.errors import InvalidRequest
from memos_agents.models.pooling import checked_texts

_words = re.compile(r"\w+").findall
_REMEMBERED_WORDS = 50_000


class HashEmbedder:
    """An embedder without a model: each word adds +1 or -1 at two places that its CRC-32 names.

    Texts that share words are near, others about orthogonal; synonyms mean nothing to it. The same numbers in every
    process and on every machine. About 10 microseconds for a short text, so that a store can be timed without a model.
    """

    def __init__(self, dimension: int = 384) -> None:
        if dimension < 2:
            raise InvalidRequest(f"dimension must be at least 2, not {dimension}", dimension=dimension)
        self._dimension = dimension
        self._places: dict[str, list[int]] = {}  # per word 2 * place, + 1 for minus; only saves hashing it again

    def __repr__(self) -> str:
        return f"HashEmbedder(dimension={self._dimension})"

    @property
    def fingerprint(self) -> str:
        """Differs with the dimension only."""
        return f"hashed-words-1:{self._dimension}"

    @property
    def dimension(self) -> int:
        """Length of every vector."""
        return self._dimension

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return unit rows, shape (len(texts), dimension); zeros for a blank text. Letter case does not count."""
        checked = checked_texts(texts)
        vectors = np.zeros((len(checked), self._dimension), dtype=np.float32)
        for row, text in zip(vectors, checked, strict=True):
            places: list[int] = []
            for word in _words(text.lower()) or text.split():  # a text of signs only is made of its signs
                places += self._places.get(word) or self._place(word)
            if places:
                counts = np.bincount(places, minlength=2 * self._dimension)
                np.subtract(counts[::2], counts[1::2], out=row, casting="unsafe")
                square = float(row @ row)
                if square == 0:  # opposite signs met everywhere; only a text without words is all zero
                    row[0] = square = 1
                row *= 1 / sqrt(square)
        return vectors

    def embed_query(self, text: str) -> NDArray[np.float32]:
        """Return the vector of one text, shape (dimension,)."""
        vector: NDArray[np.float32] = self.embed([text])[0]
        return vector

    def _place(self, word: str) -> list[int]:
        code = crc32(word.encode())
        mixed = code * 2654435761  # Knuth's multiplicative hash gives the second place and both signs
        first, second = code % self._dimension, (mixed >> 8 & 0xFFFFFF) % self._dimension
        places = [2 * first + (mixed >> 31 & 1), 2 * second + (mixed >> 30 & 1)]
        if len(self._places) < _REMEMBERED_WORDS:
            self._places[word] = places
        return places


class FixedClock:
    """A clock that shows `start` and moves by `step` with every reading: moments differ and tests repeat."""

    def __init__(
        self, start: datetime = datetime(2026, 1, 1, tzinfo=UTC), step: timedelta = timedelta(seconds=1)
    ) -> None:
        if start.utcoffset() is None:
            raise InvalidRequest(f"start must name its time zone, such as tzinfo=UTC; {start!r} does not")
        self._next = start.astimezone(UTC)
        self._step = step
        self._lock = threading.Lock()

    def __call__(self) -> datetime:
        """Return the time (UTC), then move on by one step."""
        with self._lock:
            now = self._next
            self._next += self._step
        return now

    def advance(self, by: timedelta) -> None:
        """Let time pass; a negative `by` sets the clock back, as real ones sometimes are."""
        with self._lock:
            self._next += by
