"""Everything about a `MemoryVault` that can be checked."""

from __future__ import annotations

from collections.abc import Iterator

from memos_agents.cube.memcube import body_hash
from memos_agents.cube.moment import to_microseconds
from memos_agents.errors import IntegrityError, MemOSError
from memos_agents.infrastructure.vault import chain
from memos_agents.infrastructure.vault.base import Problem
from memos_agents.infrastructure.vault.blobs import BlobStore
from memos_agents.infrastructure.vault.memory.commits import statements
from memos_agents.infrastructure.vault.memory.staleness import should_be_stale
from memos_agents.infrastructure.vault.memory.tables import CubeRow, Tables, VersionRow


def find_problems(tables: Tables, blobs: BlobStore) -> list[Problem]:
    """What is wrong; empty if nothing is."""
    problems = list(_log_problems(tables))
    for cube in tables.cubes.values():
        problems.extend(_cube_problems(tables, cube))
        for version in cube.versions:
            problems.extend(_version_problems(tables, cube, version, blobs))
    problems.extend(
        Problem(kind="relation", what=f"a relation {row.relation.kind.value} has an end that is missing")
        for row in tables.relations
        if not set(row.ends) <= tables.cubes.keys()
    )
    return problems


def _log_problems(tables: Tables) -> Iterator[Problem]:
    previous = chain.GENESIS
    for seq, row in enumerate(tables.log, 1):
        previous = chain.link(previous, row.activity, to_microseconds(row.at), statements(tables, row))
        if row.seq != seq or row.chain != previous:
            yield Problem(kind="log", what=f"log entry {seq} does not follow from what it says it changed")
            previous = row.chain


def _cube_problems(tables: Tables, cube: CubeRow) -> Iterator[Problem]:
    if any(version.superseded_at is None for version in cube.versions[:-1]):
        yield Problem(kind="head", what="an old version is still believed", cube_id=cube.id)
    if [version.ref.version for version in cube.versions] != list(range(1, len(cube.versions) + 1)):
        yield Problem(kind="head", what="the versions do not run from 1 without a gap", cube_id=cube.id)
    if not cube.is_erased and cube.key is not None and tables.keys.get(cube.key) != cube.id:
        yield Problem(kind="key", what="the key is not in the index of keys", cube_id=cube.id)
    if not cube.is_erased and cube.id not in tables.same.get((cube.scope, cube.head.hash), ()):
        yield Problem(kind="index", what="the content is not in the index of duplicates", cube_id=cube.id)


def _version_problems(tables: Tables, cube: CubeRow, row: VersionRow, blobs: BlobStore) -> Iterator[Problem]:
    if row.activity_id not in tables.activities:
        yield Problem(kind="provenance", what=f"version {row.ref.version} has no activity", cube_id=cube.id)
    if cube.is_erased is not (row.body is None):
        yield Problem(
            kind="tombstone", what=f"version {row.ref.version} and the cube disagree on erasure", cube_id=cube.id
        )
    if row.body is None:
        if row.vectors or row.terms or row.has_text or row.blobs:
            yield Problem(kind="tombstone", what=f"version {row.ref.version} is erased but indexed", cube_id=cube.id)
        return
    if body_hash(row.body) != row.hash:
        yield Problem(kind="content", what=f"version {row.ref.version} does not match its hash", cube_id=cube.id)
        return
    expected = VersionRow.of(cube.value(row), row.body, row.hash, row.activity_id)
    if (expected.terms, expected.flags, expected.has_text) != (row.terms, row.flags, row.has_text):
        yield Problem(kind="index", what=f"version {row.ref.version} is indexed as another text", cube_id=cube.id)
    for fingerprint, data in row.vectors.items():
        space = tables.spaces.get(fingerprint)
        if space is None or len(data) != 2 * space.dimension:
            yield Problem(kind="vector", what=f"version {row.ref.version} has a vector of no space", cube_id=cube.id)
    if should_be_stale(tables, row.ref) and not row.is_stale:
        yield Problem(kind="stale", what=f"version {row.ref.version} is stale but not marked", cube_id=cube.id)
    for sha256 in sorted(row.blobs):
        try:
            blobs.get(sha256)
        except IntegrityError:
            yield Problem(kind="blob", what=f"blob {sha256} is damaged", cube_id=cube.id)
        except MemOSError:
            yield Problem(kind="blob", what=f"blob {sha256} is missing", cube_id=cube.id)
