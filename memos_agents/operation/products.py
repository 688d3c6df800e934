"""Products: rows times a matrix on the calling thread alone.

numpy hands a large product to BLAS, which wakes a thread for each core and lets them spin for about 25 ms afterwards in
case more comes: for the sizes a memory needs that costs up to fifty times the product (100 rows of 384 by 32: 1.2 ms of
CPU against 0.08), and cores that other callers could use. Small pieces stay below BLAS's threshold.
Rejected: limiting BLAS to one thread, because that is the application's to decide.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

_MATRIX_PRODUCTS: Final = 240_000
_VECTOR_PRODUCTS: Final = 400_000
# OpenBLAS 0.3 stays on one thread up to 65,536 * 4 products of two matrices, and further with a vector.


def product(rows: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return `rows @ other` for rows of shape (n, k) and `other` of shape (k,) or (k, m)."""
    most = _VECTOR_PRODUCTS if other.ndim == 1 else _MATRIX_PRODUCTS
    size = max(1, most // max(other.size, 1))
    if len(rows) <= size:
        whole: NDArray[np.float32] = rows @ other
        return whole
    result = np.empty((len(rows), *other.shape[1:]), dtype=np.float32)
    for start in range(0, len(rows), size):
        np.matmul(rows[start : start + size], other, out=result[start : start + size])
    return result
