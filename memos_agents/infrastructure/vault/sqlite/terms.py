"""The text index: FTS5 as an inverted index of whole words, with the owner's tags inside.

A row holds, for each of a cube's terms, one token "term" + count, and one for its tenant, user, agent and session; a
search intersects a term's rows with the owner's tag inside FTS5, which at 100,000 texts costs a twentieth of a filter
afterwards (lab/retrieval/fts_bench.py). The marks are private-use characters, which no term holds. `detail=none` keeps
neither positions nor the text; FTS5's own bm25() is not used, because its statistics span every user's texts.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable

import numpy as np

from memos_agents.cube.memcube import MemCube
from memos_agents.infrastructure.vault.columns import MAX_POSTED_COUNT
from memos_agents.infrastructure.vault.sqlite.names import UNKNOWN
from memos_agents.infrastructure.vault.text import index_terms

_COUNT = tuple(chr(0xE000 + count) for count in range(MAX_POSTED_COUNT + 1))
_TAG = chr(0xE100)

_LOOK_UP = " UNION ALL ".join(
    f"SELECT rowid, {count} FROM terms WHERE terms MATCH ?{count}" for count in range(1, MAX_POSTED_COUNT + 1)
)


def index_row(cube: MemCube, tenant: int, owner: tuple[int, int, int]) -> tuple[str, int]:
    """The indexed words of a version and how many terms it has (repeated ones counted)."""
    terms = index_terms(cube)
    words = [f"{_TAG}t{tenant}"]
    words.extend(f"{_TAG}{field}{rid}" for field, rid in zip("uas", owner, strict=True) if rid)
    words.extend(term + _COUNT[min(count, MAX_POSTED_COUNT)] for term, count in Counter(terms).items())
    return " ".join(words), len(terms)


def look_up(
    connection: sqlite3.Connection, terms: Iterable[str], tenant: int, owner: tuple[int, int, int]
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """For each term: rowids of the versions that hold it (ascending) and their counts, of this owner only."""
    if UNKNOWN in (tenant, *owner):
        return {}
    tags = [f'"{_TAG}{field}{rid}"' for field, rid in zip("uas", owner, strict=True) if rid] or [f'"{_TAG}t{tenant}"']
    prefix = " AND ".join(tags)
    found: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for term in dict.fromkeys(terms):
        if not term.isalnum():  # no such term is ever indexed, and a mark or quote must not reach FTS5's syntax
            continue
        patterns = [f'{prefix} AND "{term}{mark}"' for mark in _COUNT[1:]]
        rows = connection.execute(_LOOK_UP, patterns).fetchall()
        if rows:
            pairs = np.array(rows, dtype=np.int64)
            pairs = pairs[np.argsort(pairs[:, 0], kind="stable")]
            found[term] = pairs[:, 0], pairs[:, 1].astype(np.float32)
    return found
