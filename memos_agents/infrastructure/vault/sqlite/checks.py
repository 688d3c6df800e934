"""What is found out before a commit writes anything: duplicates, broken rules, taken keys, missing blobs."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from memos_agents.cube.memcube import VersionRef
from memos_agents.cube.payload import ArtefactPayload
from memos_agents.cube.state import MemoryState
from memos_agents.errors import InvalidRequest, NotFound, VersionConflict
from memos_agents.infrastructure.vault.commit import Commit, Write
from memos_agents.infrastructure.vault.rules import check_commit, cubes_named
from memos_agents.infrastructure.vault.sqlite.engine import chunks
from memos_agents.infrastructure.vault.sqlite.schema import STATE_NUMBER
from memos_agents.infrastructure.vault.sqlite.working import KeyPlace, Working
from memos_agents.infrastructure.vault.sqlite.writing import short_hash


def find_duplicates(
    working: Working, writes: Iterable[Write], hashes: list[bytes]
) -> dict[str, tuple[VersionRef, int]]:
    """For each write that an existing cube takes as a use: that cube's head and rowid, by the never-made cube's id."""
    found: dict[str, tuple[VersionRef, int]] = {}
    for write, digest in zip(writes, hashes, strict=True):
        is_ours = write.cube.scope.tenant == working.names.tenant_name
        if not write.merge_duplicate or write.replaces is not None or not is_ours:
            continue
        owner = working.names.scope_rids(working.db, write.cube.scope)
        rows = working.db.execute(
            "SELECT c.id, c.version, c.rid FROM cube c INDEXED BY cube_hash CROSS JOIN version v ON v.rid = c.head "
            "WHERE c.hash = ? AND c.tenant = ? AND c.user = ? AND c.agent = ? AND c.session = ? AND c.state = ? AND "
            "v.hash = ? "
            "AND v.superseded_us IS NULL AND v.stale = 0 AND (v.expires_us IS NULL OR v.expires_us > ?)",
            (short_hash(digest), working.tenant, *owner, STATE_NUMBER[MemoryState.ACTIVATED], digest, working.at_us),
        ).fetchall()
        if rows:
            cube_id, version, rid = min(rows)
            found[write.cube.id] = (VersionRef(cube_id, version), rid)
    return found


def check(working: Working, commit: Commit, tenant_name: str, has_blob: Callable[[str], bool]) -> None:
    """Raise unless the commit is legal here; loads the cubes it names."""
    named = cubes_named(commit)
    fresh = {write.cube.id for write in commit.writes if write.replaces is None}
    if named != fresh:  # ids of new cubes are checked by the table's constraint
        working.load(named)
    heads = {cube_id: cube.head for cube_id, cube in working.cubes.items()}
    wanted = sorted({edge.source for edge in commit.derivations if isinstance(edge.source, str)})
    sources: set[str] = set()
    for marks, piece in chunks(wanted):
        rows = working.db.execute(
            f"SELECT id FROM source WHERE tenant = ? AND id IN ({marks})", (working.tenant, *piece)
        )
        sources.update(row[0] for row in rows)
    check_commit(commit, heads, tenant_name, frozenset(sources))
    for write in commit.writes:
        if write.replaces is None and write.cube.state is MemoryState.ERASED:
            raise InvalidRequest(f"cube {write.cube.id!r} cannot begin its life erased")
        if isinstance(write.cube.payload, ArtefactPayload):
            require_blobs(write.cube.payload, has_blob)
    _check_keys(working, commit.writes)


def require_blobs(payload: ArtefactPayload, has_blob: Callable[[str], bool]) -> None:
    """Raise `NotFound` unless every blob that the payload names is there."""
    for ref in payload.blobs.values():
        if not has_blob(ref.sha256):
            raise NotFound(
                f"there is no blob {ref.sha256!r}; put it before the commit that names it", sha256=ref.sha256
            )


def _check_keys(working: Working, writes: tuple[Write, ...]) -> None:
    """Each key has one cube, in the order of the writes."""
    holders: dict[KeyPlace, str | None] = {}
    held: dict[str, KeyPlace | None] = {}
    for write in writes:
        cube, header = write.cube, write.cube.descriptive
        known = working.cubes.get(cube.id)
        if header.key is None and (known is None or known.key is None):
            continue
        before = held.get(cube.id, None if known is None else known.key)
        if before is not None:
            holders[before] = None
        key = None
        if header.key is not None:
            key = (*working.names.scope_rids(working.db, cube.scope), header.collection, header.key)
            if key not in holders:
                row = working.db.execute(
                    "SELECT id FROM cube WHERE tenant=? AND user=? AND agent=? AND session=? AND collection=? AND "
                    "key=?",
                    (working.tenant, *key),
                ).fetchone()
                holders[key] = None if row is None else row[0]
            if holders[key] not in (None, cube.id):
                raise VersionConflict(
                    f"the key {header.key!r} is taken in collection {header.collection!r}; read the cube that has it "
                    "and write a new version of that",
                    key=header.key,
                )
            holders[key] = cube.id
        held[cube.id] = key
