"""Verifying what stands beside the content: columns that repeat a body, and edges that the log says were stored."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Iterator

from memos_agents.cube.memcube import MemCube, unpack_body
from memos_agents.cube.moment import from_microseconds
from memos_agents.cube.scope import Scope
from memos_agents.infrastructure.vault import chain
from memos_agents.infrastructure.vault.base import Problem
from memos_agents.infrastructure.vault.columns import speaker_of
from memos_agents.infrastructure.vault.sqlite.schema import TYPE_NUMBER
from memos_agents.infrastructure.vault.sqlite.writing import time_columns
from memos_agents.infrastructure.vault.text import text_flags


def column_problems(connection: sqlite3.Connection, tenant: int) -> Iterator[Problem]:
    """Columns that say something else than the body they were taken from: who may read it, when it ends, its key."""
    rows = connection.execute(
        "SELECT c.id, v.n, v.n = c.version, v.body, v.recorded_us, v.event_us, v.valid_from_us, v.valid_to_us, "
        "v.expires_us, v.memory_type, v.collection, v.speaker, v.flags, c.collection, c.key, c.readers "
        "FROM version v JOIN cube c ON c.rid = v.cube WHERE c.tenant=? AND v.body IS NOT NULL",
        (tenant,),
    )
    for cube_id, number, is_head, body, recorded_us, *found in rows:
        try:
            cube = _cube(cube_id, body)
        except (KeyError, TypeError, ValueError):  # not what was written: its hash has told that already
            continue
        header, readers = cube.descriptive, cube.governance.readers
        own = [
            *time_columns(cube, recorded_us),
            TYPE_NUMBER[cube.memory_type],
            header.collection,
            speaker_of(header),
            int(text_flags(cube.text)),
        ]
        head = [header.collection, header.key, json.dumps(readers) if readers else ""]
        if found[:8] != own or (is_head and found[8:] != head):
            what = f"the columns of {cube_id} version {number} are not what its content says"
            yield Problem(kind="index", what=what, cube_id=cube_id)


def edge_problems(connection: sqlite3.Connection, tenant: int) -> Iterator[Problem]:
    """Derivations and relations that the log says were stored and that are not there."""
    stated: Counter[str] = Counter()
    for (effects,) in connection.execute("SELECT effects FROM activity WHERE tenant=? AND seq IS NOT NULL", (tenant,)):
        stated.update(told for told in set(json.loads(effects)["chain"]) if told.startswith(("derive ", "relate ")))
    held = Counter(_edges(connection, tenant))
    for told, times in stated.items():
        if held[told] < times:
            kind, cube_id = told.split(" ")[0], told.split(" ")[1].split("/")[0]
            what = f"the log says {told!r}, which is not there"
            yield Problem(kind={"derive": "derivation", "relate": "relation"}[kind], what=what, cube_id=cube_id)


def _edges(connection: sqlite3.Connection, tenant: int) -> Iterator[str]:
    version = "JOIN version v ON v.rid = e.derived JOIN cube c ON c.rid = v.cube"
    for cube_id, number, origin_id, origin_number, kind in connection.execute(
        f"SELECT c.id, v.n, o.id, s.n, e.kind FROM derivation e {version} JOIN version s ON s.rid = e.source "
        "JOIN cube o ON o.rid = s.cube WHERE c.tenant=?",
        (tenant,),
    ):
        yield chain.derived(f"{cube_id}/v{number}", f"{origin_id}/v{origin_number}", kind)
    for cube_id, number, source_id, kind in connection.execute(
        f"SELECT c.id, v.n, s.id, e.kind FROM evidence e {version} JOIN source s ON s.rid = e.source WHERE c.tenant=?",
        (tenant,),
    ):
        yield chain.derived(f"{cube_id}/v{number}", source_id, kind)
    for ends in connection.execute(
        "SELECT a.id, r.kind, b.id FROM relation r JOIN cube a ON a.rid = r.source JOIN cube b ON b.rid = r.target "
        "WHERE a.tenant=?",
        (tenant,),
    ):
        yield chain.related(*ends)


def _cube(cube_id: str, body: str) -> MemCube:
    moment = from_microseconds(0)
    parts = unpack_body(json.loads(body))
    return MemCube(id=cube_id, scope=Scope(), created_at=moment, recorded_at=moment, **parts)
