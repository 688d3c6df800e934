"""What is found out before a commit writes anything: duplicates, broken rules, taken keys, missing blobs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from memos_agents.cube.memcube import VersionRef
from memos_agents.cube.payload import ArtefactPayload
from memos_agents.cube.state import MemoryState
from memos_agents.errors import BackendUnavailable, InvalidRequest, NotFound, VersionConflict
from memos_agents.infrastructure.vault.commit import Commit, Lease
from memos_agents.infrastructure.vault.neo4j.working import Found, KnownCube, place_of, same_of
from memos_agents.infrastructure.vault.rules import check_commit, cubes_named

ON_ITS_WAY = ("moving:", "moved:")
"""How the mark of a tenant begins that a move has sealed."""


def lookups(commit: Commit, tenant: str, hashes: Sequence[str]) -> dict[str, Any]:
    """The parameters of `cypher.BEGIN`: everything that `commit` has to know before it is judged."""
    fresh = {write.cube.id for write in commit.writes if write.replaces is None}
    fresh -= {write.cube.id for write in commit.writes if write.replaces is not None}
    sames = {
        same_of(write.cube.scope, digest)
        for write, digest in zip(commit.writes, hashes, strict=True)
        if write.merge_duplicate and write.replaces is None and write.cube.scope.tenant == tenant
    }
    keyed = ((write.cube.scope, write.cube.descriptive) for write in commit.writes)
    places = {place_of(scope, header.collection, header.key) for scope, header in keyed if header.key is not None}
    named = {edge.source for edge in commit.derivations if isinstance(edge.source, str)}
    return {
        "activity": commit.activity.id,
        "key": commit.key,
        "lease": None if commit.lease is None else commit.lease.name,
        "spaces": sorted({name for write in commit.writes for name in write.vectors}),
        "cubes": sorted(cubes_named(commit) - fresh),  # ids of new cubes are checked by the constraint
        "sames": sorted(sames),
        "places": sorted(place for place in places if place is not None),
        "sources": sorted(named | {source.id for source in commit.sources}),
        "triples": sorted(
            {
                (relation.source_id, relation.kind.value, relation.target_id)
                for relation in (*commit.relations, *commit.unrelations)
            }
        ),
    }


def find_duplicates(found: Found, commit: Commit, hashes: Sequence[str], at_us: int) -> dict[str, KnownCube]:
    """For each write that an existing cube takes as a use: that cube, by the id of the never-made one."""
    twins: dict[str, KnownCube] = {}
    for write, digest in zip(commit.writes, hashes, strict=True):
        if not write.merge_duplicate or write.replaces is not None:
            continue
        alike = found.equals.get(same_of(write.cube.scope, digest), ())
        living = [cube for cube, expires_us in alike if expires_us is None or expires_us > at_us]
        if living:
            twins[write.cube.id] = min(living, key=lambda cube: cube.id)
    return twins


def check(found: Found, commit: Commit, tenant: str, has_blob: Callable[[str], bool]) -> None:
    """Raise unless the commit, in which duplicates are redirected, is legal here."""
    check_commit(
        commit,
        {cube_id: known.head for cube_id, known in found.cubes.items()},
        tenant,
        frozenset(found.sources),
    )
    for write in commit.writes:
        if write.replaces is None and write.cube.state is MemoryState.ERASED:
            raise InvalidRequest(f"cube {write.cube.id!r} cannot begin its life erased")
        if isinstance(write.cube.payload, ArtefactPayload):
            require_blobs(write.cube.payload, has_blob)
    _check_keys(found, commit)
    for write in commit.writes:
        for fingerprint in write.vectors:
            if fingerprint not in found.spaces:
                raise NotFound(f"there is no vector space {fingerprint!r}; open it first", space=fingerprint)
    for source in commit.sources:
        known = found.sources.get(source.id)
        if known is not None and known != source and known.locator:
            raise VersionConflict(f"there is another source {source.id!r} already; give this one an id of its own")


def require_blobs(payload: ArtefactPayload, has_blob: Callable[[str], bool]) -> None:
    """Raise `NotFound` unless every blob that the payload names is there."""
    for ref in payload.blobs.values():
        if not has_blob(ref.sha256):
            raise NotFound(
                f"there is no blob {ref.sha256!r}; put it before the commit that names it", sha256=ref.sha256
            )


def check_writable(mirror_of: str | None, tenant: str) -> None:
    """Raise where only somebody else may write: the tenant follows another store, or moves to another place."""
    if mirror_of is None:
        return
    if mirror_of.startswith(ON_ITS_WAY):
        raise BackendUnavailable(f"tenant {tenant!r} moves or has moved; open it again through its router and retry")
    raise InvalidRequest(f"tenant {tenant!r} here is a mirror of another store, which alone may change it; write there")


def check_lease(lease: Lease | None, held: Sequence[Any] | None, now_us: int) -> None:
    """Raise `VersionConflict` unless the lease, if any is asked for, is still held at `now_us`."""
    if lease is None:
        return
    if held is None or (held[0], held[1]) != (lease.owner, lease.token) or held[2] <= now_us:
        raise VersionConflict(
            f"the lease {lease.name!r} of {lease.owner!r} is no longer held; take it again and retry", lease=lease.name
        )


def _check_keys(found: Found, commit: Commit) -> None:
    """Each key has one cube, in the order of the writes."""
    holders: dict[str, str | None] = dict(found.holders)
    held: dict[str, str | None] = {}
    for write in commit.writes:
        cube, header = write.cube, write.cube.descriptive
        known = found.cubes.get(cube.id)
        before = held.get(cube.id, None if known is None else known.place)
        place = place_of(cube.scope, header.collection, header.key)
        if before is not None:
            holders[before] = None
        if place is not None:
            if holders.get(place) not in (None, cube.id):
                raise VersionConflict(
                    f"the key {header.key!r} is taken in collection {header.collection!r}; read the cube that has it "
                    "and write a new version of that",
                    key=header.key,
                )
            holders[place] = cube.id
        held[cube.id] = place


def refs_of(pairs: Sequence[VersionRef]) -> list[list[object]]:
    """Versions as parameters."""
    return [[ref.cube_id, ref.version] for ref in pairs]
