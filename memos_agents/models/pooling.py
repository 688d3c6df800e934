"""Arithmetic shared by the embedders: checking texts, cutting long ones, averaging, unit length."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from memos_agents.errors import IncompatibleModel, InvalidRequest

MAX_WINDOWS = 32
"""Windows of one text that are embedded at most, so that no text takes more than seconds."""


def checked_texts(texts: Sequence[str]) -> list[str]:
    """Return the texts as a list in which every one can be encoded as UTF-8.

    Lone surrogates become "?". Raises `InvalidRequest` for anything but a sequence of strings.
    """
    if isinstance(texts, str | bytes) or not isinstance(texts, Sequence):
        raise InvalidRequest(f"embed takes a list of strings, not {type(texts).__name__}; for one text: embed([text])")
    for position, text in enumerate(texts):
        if not isinstance(text, str):
            raise InvalidRequest(f"text {position} to be embedded is {type(text).__name__}, not a string")
    return [text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8") for text in texts]


def windows(length: int, size: int, limit: int = MAX_WINDOWS) -> list[tuple[int, int]]:
    """Cut `length` items into pieces (start, stop) of at most `size`, all equally long, give or take one.

    Equal pieces, because in an average of windows a short last one would weigh as much as a full one. If more than
    `limit` pieces are needed, `limit` of them are kept, evenly spread, the first and the last among them.
    """
    if length <= 0:
        return []
    count = -(-length // size)
    chosen = range(count) if count <= limit else [i * (count - 1) // (limit - 1) for i in range(limit)]
    return [(length * i // count, length * (i + 1) // count) for i in chosen]


def unit_rows(values: ArrayLike, *, rows: int, dimension: int | None, origin: str) -> NDArray[np.float32]:
    """Return what a model gave as float32 rows of length 1; all-zero rows stay so.

    Raises `IncompatibleModel` if the shape is not (rows, dimension) or a number is not finite.
    """
    try:
        found = np.asarray(values, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise IncompatibleModel(f"{origin} did not return vectors of numbers: {error}", origin=origin) from error
    if found.ndim != 2 or found.shape[0] != rows or found.shape[1] != (dimension or found.shape[1] or 1):
        raise IncompatibleModel(
            f"{origin} returned an array of shape {found.shape}, expected ({rows}, {dimension or 'dimension'}); "
            "name the model's real dimension, or re-embed the store if the model was changed",
            found=found.shape,
            expected=(rows, dimension),
        )
    if not np.isfinite(found).all():
        raise IncompatibleModel(f"{origin} returned numbers that are not finite", origin=origin)
    return _scaled(found)


def mean_by_owner(vectors: NDArray[np.float32], owners: Sequence[int], count: int) -> NDArray[np.float32]:
    """Average the rows that belong to one owner and scale to length 1; an owner without rows gets zeros."""
    if len(owners) == count and all(owner == row for row, owner in enumerate(owners)):
        return vectors
    sums = np.zeros((count, vectors.shape[1]), dtype=np.float32)
    np.add.at(sums, np.asarray(owners, dtype=np.intp), vectors)
    return _scaled(sums)


def _scaled(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(lengths == 0, 1, lengths), dtype=np.float32)
