"""What a model has to offer to be used here. Protocols only: importing this file loads no library."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Embedder(Protocol):
    """Turns texts into vectors of which near ones mean similar things. Every method may be called from any thread.

    A store binds its vectors to `fingerprint`; a store opened with another one refuses to mix the two.
    """

    @property
    def fingerprint(self) -> str:
        """Stable name of everything that decides the numbers: model, weights, preprocessing."""
        ...

    @property
    def dimension(self) -> int:
        """Length of every vector."""
        ...

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return one row for each text, shape (len(texts), dimension).

        Rows have length 1; a text without content (empty, only blanks) has an all-zero row, near to nothing.
        """
        ...

    def embed_query(self, text: str) -> NDArray[np.float32]:
        """Return the vector, shape (dimension,), of a text that searches among those given to `embed`."""
        ...
