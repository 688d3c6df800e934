"""Writing versions: the rows of a commit's new versions, gathered so that each table takes one statement."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from memos_agents.cube.memcube import MemCube
from memos_agents.cube.moment import to_microseconds
from memos_agents.cube.payload import ArtefactPayload
from memos_agents.errors import VersionConflict
from memos_agents.infrastructure.vault import chain
from memos_agents.infrastructure.vault.columns import pack_vector, speaker_of
from memos_agents.infrastructure.vault.commit import Vectors, Write
from memos_agents.infrastructure.vault.rules import Head
from memos_agents.infrastructure.vault.sqlite.schema import STATE_NUMBER, TYPE_NUMBER
from memos_agents.infrastructure.vault.sqlite.terms import index_row
from memos_agents.infrastructure.vault.sqlite.working import Working, WorkingCube
from memos_agents.infrastructure.vault.text import text_flags


@dataclass(slots=True)
class _Rows:
    """Rows to be inserted, gathered so that each table takes one statement."""

    cubes: dict[int, list[object]] = field(default_factory=dict)
    heads: dict[int, tuple[object, ...]] = field(default_factory=dict)
    versions: dict[int, list[object]] = field(default_factory=dict)
    ends: list[tuple[int, int]] = field(default_factory=list)
    terms: list[tuple[int, str]] = field(default_factory=list)
    vectors: list[tuple[int, int, bytes]] = field(default_factory=list)
    blobs: list[tuple[str, int]] = field(default_factory=list)


def write_versions(working: Working, writes: Sequence[Write], bodies: Sequence[str], hashes: Sequence[bytes]) -> None:
    """Insert new versions with their index entries, one statement a table; the replaced ones are superseded."""
    rows = _Rows()
    for write, body, digest in zip(writes, bodies, hashes, strict=True):
        cube = write.cube
        version_rid = working.next_version
        working.next_version += 1
        known = working.cubes.get(cube.id)
        if known is None:
            cube_rid = working.next_cube
            working.next_cube += 1
            owner = working.names.scope_rids(working.db, cube.scope, make=True)
            head = Head(1, cube.scope, cube.state, cube.frozen, True, cube.governance.readers)
            working.cubes[cube.id] = WorkingCube(cube_rid, version_rid, head)
            rows.cubes[cube_rid] = [
                cube_rid, working.tenant, cube.id, *owner, STATE_NUMBER[cube.state], int(cube.frozen), working.at_us
            ]  # fmt: skip
        else:
            cube_rid = known.rid
            owner = working.names.scope_rids(working.db, cube.scope)
            if known.head_rid in rows.versions:
                rows.versions[known.head_rid][5] = working.at_us
            elif known.head.is_believed:
                rows.ends.append((working.at_us, known.head_rid))
            working.ended.append(known.head_rid)
            known.head_rid = version_rid
            known.head = replace(known.head, version=cube.version, is_believed=True, readers=cube.governance.readers)
        working.versions[cube.ref] = version_rid
        working.touched.add(cube_rid)
        working.changes.setdefault("writes", []).append([cube.id, cube.version, write.replaces or 0])
        working.effects.append(chain.wrote(cube.id, cube.version, digest.hex()))
        header = cube.descriptive
        rows.heads[cube_rid] = (
            cube.version, version_rid, short_hash(digest), header.collection,
            header.key, json.dumps(cube.governance.readers) if cube.governance.readers else "",
        )  # fmt: skip
        words, length = index_row(cube, working.tenant, owner)
        rows.versions[version_rid] = [
            version_rid, cube_rid, cube.version, working.activity, working.at_us, None, digest, body,
            TYPE_NUMBER[cube.memory_type], *time_columns(cube, working.at_us), header.collection, speaker_of(header),
            int(text_flags(cube.text)), length,
        ]  # fmt: skip
        rows.terms.append((version_rid, words))
        rows.vectors.extend(_vector_rows(working, version_rid, write.vectors))
        if isinstance(cube.payload, ArtefactPayload):
            rows.blobs.extend((ref.sha256, version_rid) for ref in set(cube.payload.blobs.values()))
    _insert(working, rows)


def time_columns(cube: MemCube, recorded_us: int) -> tuple[int, int | None, int | None, int | None]:
    """Event time, validity and end of life of a version, in microseconds."""
    header = cube.descriptive
    ttl = cube.governance.ttl_seconds
    return (
        recorded_us if header.occurred_at is None else to_microseconds(header.occurred_at),
        None if header.valid_from is None else to_microseconds(header.valid_from),
        None if header.valid_to is None else to_microseconds(header.valid_to),
        None if ttl is None else recorded_us + round(ttl * 1_000_000),
    )


def short_hash(digest: bytes) -> int:
    """The first 8 bytes of a hash as SQLite's integer, for a small index."""
    return int.from_bytes(digest[:8], "big", signed=True)


def _insert(working: Working, rows: _Rows) -> None:
    new = [(*values, *rows.heads.pop(rid)) for rid, values in rows.cubes.items()]
    if rows.heads and any(cube.key is not None for cube in working.cubes.values()):
        working.many("UPDATE cube SET key=NULL WHERE rid=?", [(rid,) for rid in rows.heads])
    try:
        working.many(
            "INSERT INTO cube(rid, tenant, id, user, agent, session, state, frozen, created_us, version, "
            "head, hash, collection, key, readers) VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
            new,
        )
        working.many(
            "UPDATE cube SET version=?, head=?, hash=?, collection=?, key=?, readers=? WHERE rid=?",
            [(*values, rid) for rid, values in rows.heads.items()],
        )
    except sqlite3.IntegrityError as error:
        raise VersionConflict(
            "another cube has the same id or key in this scope; read it and write its next version"
        ) from error
    working.many("UPDATE version SET superseded_us=? WHERE rid=?", rows.ends)
    working.many(
        "INSERT INTO version(rid, cube, n, activity, recorded_us, superseded_us, hash, body, memory_type, event_us, "
        "valid_from_us, valid_to_us, expires_us, collection, speaker, flags, length) "
        "VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
        list(rows.versions.values()),
    )
    working.many("INSERT INTO terms(rowid, words) VALUES(?,?)", rows.terms)
    working.many("INSERT INTO vector(space, version, data) VALUES(?,?,?)", rows.vectors)
    working.many("INSERT INTO blob(sha256, version) VALUES(?,?)", rows.blobs)


def _vector_rows(working: Working, version_rid: int, vectors: Vectors) -> list[tuple[int, int, bytes]]:
    rows = []
    for fingerprint, vector in vectors.items():
        space, dimension = working.names.space(working.db, fingerprint)
        rows.append((space, version_rid, pack_vector(vector, dimension)))
    return rows
