"""View: the rows that one search may see, as columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from memos_agents.cube.memcube import VersionRef

Posting: TypeAlias = tuple[NDArray[np.int64], NDArray[np.float32]]
"""Rows of a `View` (ascending) that hold a term, and how often each holds it, counted up to 8."""


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """Everything visible to one read (scope, state, `as_of`, `valid_at` applied), one row a version, n rows.

    Statistics such as document frequencies are taken over these rows only, so that nothing outside the caller's scope
    can move a score. All arrays have length n; times are microseconds since 1970.
    """

    refs: list[VersionRef]
    session: NDArray[np.int32]
    """Dense number of the session; -1: none."""
    previous: NDArray[np.int32]
    """Row of the turn before in the same session; -1: none."""
    following: NDArray[np.int32]
    """Row of the turn after in the same session; -1: none."""
    speaker: NDArray[np.int32]
    """Index into `speakers`; -1: unknown."""
    speakers: tuple[str, ...]
    """Names as they are written, e.g. ('Caroline', 'Melanie')."""
    flags: NDArray[np.uint16]
    """`text.TextFlag` bits of each row's text."""
    event_us: NDArray[np.int64]
    """Event time, or recorded time when unknown."""
    length: NDArray[np.float32]
    """Number of index terms, repeated ones counted."""
    vectors: NDArray[np.float32]
    """(n, dimension), rows of length 1; all zeros where there is no vector."""

    def __len__(self) -> int:
        return len(self.refs)


Postings: TypeAlias = Mapping[str, Posting]
