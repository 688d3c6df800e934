"""The text index: FTS5 as an inverted index of whole words, with the owner's tags inside.

A row holds each of a cube's terms once, a second token with the count for those it holds more often, and a tag for its
tenant, user, agent and session; a search intersects a term's rows with the owner's tag inside FTS5, which at 100,000
texts costs a twentieth of a filter afterwards. The marks are private-use characters, which no term holds. `detail=none`
keeps neither positions nor the text; FTS5's own bm25() is not used, because its statistics span every user's texts.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from memos_agents.cube.memcube import MemCube, unpack_body
from memos_agents.cube.moment import from_microseconds
from memos_agents.cube.scope import Scope
from memos_agents.infrastructure.vault.columns import MAX_POSTED_COUNT
from memos_agents.infrastructure.vault.sqlite.names import UNKNOWN
from memos_agents.infrastructure.vault.text import TERMS_VERSION, index_terms, text_flags

_TAG, _REPEATED, _TIMES = "\ue100", "\ue101", "\ue102"
_COUNT = tuple(chr(0xE000 + count) for count in range(MAX_POSTED_COUNT + 1))
INDEX_VERSION = f"1.{TERMS_VERSION}"
"""Changes with what a row holds for a text; a store with another one is indexed anew when it is opened."""

_ONCE_OR_MORE = (
    "SELECT rowid, 1 FROM terms WHERE terms MATCH ?1 UNION ALL SELECT rowid, 2 FROM terms WHERE terms MATCH ?2"
)
_EXACTLY = " UNION ALL ".join(
    f"SELECT rowid, {count} FROM terms WHERE terms MATCH ?{count - 1}" for count in range(2, MAX_POSTED_COUNT + 1)
)


def index_row(cube: MemCube, tenant: int, owner: tuple[int, int, int]) -> tuple[str, int]:
    """The indexed words of a version and how many terms it has (repeated ones counted)."""
    terms = index_terms(cube)
    counts = Counter(terms)
    words = [f"{_TAG}t{tenant}", *(f"{_TAG}{field}{rid}" for field, rid in zip("uas", owner, strict=True) if rid)]
    words.extend(counts)
    if len(counts) < len(terms):
        repeated = ((term, min(count, MAX_POSTED_COUNT)) for term, count in counts.items() if count > 1)
        words.extend(f"{_REPEATED}{term}{_TIMES}{_COUNT[count]}" for term, count in repeated)
    return " ".join(words), len(terms)


def look_up(
    connection: sqlite3.Connection, terms: Iterable[str], tenant: int, owner: tuple[int, int, int]
) -> dict[str, tuple[NDArray[np.int64], NDArray[np.float32]]]:
    """For each term: rowids of the versions that hold it (ascending) and their counts, of this owner only."""
    if UNKNOWN in (tenant, *owner):
        return {}
    tags = [f'"{_TAG}{field}{rid}"' for field, rid in zip("uas", owner, strict=True) if rid] or [f'"{_TAG}t{tenant}"']
    owned = " AND ".join(tags) + " AND "
    found: dict[str, tuple[NDArray[np.int64], NDArray[np.float32]]] = {}
    for term in dict.fromkeys(terms):
        if not term.isalnum():  # no such term is ever indexed, and a mark or quote must not reach FTS5's syntax
            continue
        patterns = (f'{owned}"{term}"', f'{owned}"{_REPEATED}{term}{_TIMES}" *')
        rows = connection.execute(_ONCE_OR_MORE, patterns).fetchall()
        counts = {rid: 1 for rid, least in rows if least == 1}
        if len(counts) < len(rows):
            exact = [f'{owned}"{_REPEATED}{term}{_TIMES}{mark}"' for mark in _COUNT[2:]]
            counts.update(connection.execute(_EXACTLY, exact).fetchall())
        if counts:
            rids = np.fromiter(counts, np.int64, len(counts))  # FTS5 gives rows in ascending order
            found[term] = rids, np.fromiter(counts.values(), np.float32, len(counts))
    return found


def is_indexed_now(connection: sqlite3.Connection) -> bool:
    """Whether the text index is what this release would write."""
    return bool(connection.execute("SELECT value FROM meta WHERE name='index'").fetchone() == (INDEX_VERSION,))


def bring_index_up_to_date(connection: sqlite3.Connection) -> None:
    """Rebuild the text index, and what else is read off texts, if another release wrote it; in one transaction.

    About 100 microseconds a version.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        if not is_indexed_now(connection):
            _index_anew(connection)
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _index_anew(connection: sqlite3.Connection) -> None:
    connection.execute("DELETE FROM terms")
    rows = connection.execute(
        "SELECT v.rid, c.id, v.n, v.body, c.tenant, c.user, c.agent, c.session FROM version v JOIN cube c ON c.rid = "
        "v.cube "
        "WHERE v.body IS NOT NULL"
    )
    anyone, never = Scope(), from_microseconds(0)
    for rid, cube_id, number, body, tenant, *owner in rows.fetchall():
        cube = MemCube(
            id=cube_id,
            version=number,
            scope=anyone,
            created_at=never,
            recorded_at=never,
            **unpack_body(json.loads(body)),
        )
        words, length = index_row(cube, tenant, (owner[0], owner[1], owner[2]))
        connection.execute("INSERT INTO terms(rowid, words) VALUES(?,?)", (rid, words))
        connection.execute(
            "UPDATE version SET length=?, flags=? WHERE rid=?", (length, int(text_flags(cube.text)), rid)
        )
    connection.execute("INSERT OR REPLACE INTO meta(name, value) VALUES('index', ?)", (INDEX_VERSION,))
