"""Upkeep: fills the server's vector and full-text index after the fact, in batches.

A commit writes packed vectors and terms only, which costs little. What the server searches large scopes by (floats in
an HNSW graph, words in Lucene) costs many times that, so it is made later and only where it is needed, as in a
log-structured index: `Tenant.near_seq` says up to which commit the indexes are complete, and a search looks at
everything after that itself.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Final, LiteralString

from memos_agents.cube.canonical import canonical_json
from memos_agents.errors import InvalidRequest, MemOSError, NotFound
from memos_agents.infrastructure.vault.columns import unpack_vectors
from memos_agents.infrastructure.vault.neo4j import cypher_nearest as cypher
from memos_agents.infrastructure.vault.neo4j.link import Link, Tx

Progress = Callable[[int, int], None]
BATCH: Final = 1_000
MAX_INCREMENT: Final = 20_000
"""Commits after which going through all cubes is cheaper than going through what was touched."""
POLL_SECONDS: Final = 0.2


def index_vectors(
    link: Link, space: str | None, progress: Progress | None = None, *, is_stopped: Callable[[], bool] = lambda: False
) -> int:
    """Bring the server's indexes up to the end of the log, for all current plaintext of the tenant; return how many
    cubes were changed.

    Creates the indexes when they are missing. `space` is the vector space (None: words only). Each batch is a
    transaction of its own and what is done is not done again, so this can be killed and called again, and several
    processes may run it. Waits until the indexes answer. Raises `NotFound` for an unknown space. Costs 1 to 4 ms of the
    server's time a cube. A space of uncommon dimension gets no vector index (`cypher_nearest.INDEXED_DIMENSIONS`).
    """
    head = link.read(lambda tx: tx.one(cypher.UPKEEP_HEAD, space=space))
    assert head is not None  # the statement gives one record
    seq, at_us, epoch, near_seq, near_epoch, near_space, number, dimension, stored, total = head
    if space is not None and number is None:
        raise NotFound(f"there is no vector space {space!r}; open it first", space=space)
    if seq is None:
        return 0
    link.define(cypher.CREATE_TEXT_INDEX)
    link.define(cypher.CREATE_TURN_INDEX)
    state = [number or 0, epoch]
    is_fresh = near_seq is None or [near_space, near_epoch] != state or seq - near_seq > MAX_INCREMENT
    changed = done = 0
    for ids in _all_ids(link) if is_fresh or near_seq is None else _touched_ids(link, near_seq, seq):
        if is_stopped():
            return changed
        changed += _index_batch(link, ids, stored, number, dimension, epoch)
        done += len(ids)
        if progress is not None:
            progress(done, max(done, total) if is_fresh else done)
    if dimension in cypher.INDEXED_DIMENSIONS:  # filled first: to build a graph at once is cheaper than to let it grow
        link.define((cypher.CREATE_VECTOR_INDEX_25 if link.is_2026 else cypher.CREATE_VECTOR_INDEX)[dimension])
    while not are_online(link, dimension):
        _require_indexes(link, dimension)
        if is_stopped():
            return changed
        time.sleep(POLL_SECONDS)
    done_for = {"seq": seq, "at_us": at_us, "epoch": epoch, "number": number or 0, "dimension": dimension}
    link.write(lambda tx: tx.run(cypher.SET_INDEXED, **done_for))
    return changed


def drop_indexed(link: Link) -> None:
    """Take all of the tenant out of the server's indexes, which stay there for others; searches are exact then."""
    link.write(lambda tx: tx.run(cypher.UNSET_INDEXED))
    link.autocommit(cypher.DROP_INDEXED)


def are_online(link: Link, dimension: int | None) -> bool:
    """Whether the indexes that a search in vectors of this dimension needs are there and filled."""
    states = _states(link)
    return all(states.get(name) == "ONLINE" for name in _needed(dimension))


def _require_indexes(link: Link, dimension: int | None) -> None:
    """Raise unless every index is there, or on its way: waiting for another would take for ever."""
    states = _states(link)
    for name in _needed(dimension):
        if states.get(name) in (None, "FAILED"):
            reason = "failed" if name in states else "cannot be made, because another one has its place"
            raise InvalidRequest(
                f"the index {name!r} {reason}; drop the one that is there (SHOW INDEXES), then it is made anew",
                index=name,
            )


def _states(link: Link) -> dict[str, str]:
    return dict(link.rows_outside(cypher.SHOW_INDEXES))


def _needed(dimension: int | None) -> list[str]:
    names = [cypher.TEXT_INDEX, cypher.TURN_INDEX]
    if dimension in cypher.VECTOR_INDEX:
        names.append(cypher.VECTOR_INDEX[dimension])
    return names


def tag_of(stored: str, kind: str, value: str = "") -> str:
    """A word that stands for an owner or a collection in the full-text index. No term has its first character."""
    return f"#{kind}{hashlib.sha256(canonical_json([stored, value]).encode()).hexdigest()[:20]}"


def _all_ids(link: Link) -> Iterator[list[str]]:
    ids = _ids(link, cypher.IDS_AFTER, after="", limit=BATCH)
    while ids:
        yield ids
        ids = _ids(link, cypher.IDS_AFTER, after=ids[-1], limit=BATCH)


def _touched_ids(link: Link, since: int, until: int) -> Iterator[list[str]]:
    ids = _ids(link, cypher.TOUCHED_SINCE, since=since, until=until)
    for start in range(0, len(ids), BATCH):
        yield ids[start : start + BATCH]


def _ids(link: Link, statement: LiteralString, **parameters: object) -> list[str]:
    found = link.read(lambda tx: tx.one(statement, **parameters), whole=False)
    return [] if found is None else list(found[0])


def _index_batch(link: Link, ids: list[str], stored: str, number: int | None, dimension: int | None, epoch: int) -> int:
    """Read what the indexes lack of these cubes, and write it; both only as long as nobody changes the cube."""
    state = {"space": number or 0, "epoch": epoch}
    found = link.read(lambda tx: tx.rows(cypher.TO_INDEX, ids=ids, vector=f"vec_{number}", **state), whole=False)
    if not found:
        return 0
    is_indexed = dimension in cypher.INDEXED_DIMENSIONS
    vectors = unpack_vectors([row[-1] for row in found], dimension or 0) if is_indexed else None
    rows: list[list[Any]] = []
    gone: list[str] = []
    for place, (cube_id, version, is_searched, *owner, terms, packed) in enumerate(found):
        if not is_searched:
            gone.append(cube_id)
            continue
        floats = None if packed is None or vectors is None else vectors[place].tolist()
        rows.append([cube_id, version, _words(stored, owner, terms), [version, *state.values()], floats])
    name = cypher.VECTOR_PROPERTY[dimension] if is_indexed and dimension is not None else ""
    gone += [row[0] for row in rows if row[4] is None]

    def put(tx: Tx) -> None:
        if gone:
            tx.run(cypher.FORGET_INDEXED, ids=gone, nothing=dict.fromkeys(cypher.PROPERTIES))
        if rows:
            tx.run(cypher.PUT_INDEXED, rows=rows, property=name, others=dict.fromkeys(cypher.PROPERTIES - {name}))

    link.write(put)
    return len(found)


def _words(stored: str, owner: list[str | None], terms: str) -> str:
    """What the full-text index holds of a version: its owner's tags, and each term as often as it stands there."""
    tags = [tag_of(stored, "t")]
    tags += [tag_of(stored, kind, value) for kind, value in zip("uasc", owner, strict=True) if value is not None]
    parts = terms.split()
    words = [word for word, count in zip(parts[::2], parts[1::2], strict=True) for _ in range(int(count))]
    return " ".join([*tags, *words])


class Upkeep:
    """Runs `index_vectors` beside the caller, one run at a time."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self.error: MemOSError | None = None
        """What ended the last run, if it failed; the next search of a large scope starts another."""

    def start(self, space: str | None) -> None:
        """Begin a run unless one is going on, the store is read-only, or it is being closed."""
        with self._lock:
            is_running = self._thread is not None and self._thread.is_alive()
            if is_running or self._link.is_readonly or self._stop.is_set():
                return
            self._thread = threading.Thread(target=self._run, args=(space,), name="memos-neo4j-upkeep", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """End the run that is going on, after its batch."""
        self._stop.set()
        with self._lock:
            thread = self._thread
        if thread is not None:
            thread.join()

    def _run(self, space: str | None) -> None:
        try:
            index_vectors(self._link, space, is_stopped=self._stop.is_set)
            self.error = None
        except MemOSError as error:
            self.error = error
