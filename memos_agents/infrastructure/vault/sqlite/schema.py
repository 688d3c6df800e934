"""The tables of a store, one migration for each schema.

Integers carry rowids (`cube`, `version`, `activity`), microseconds (`*_us`) or numbers of states and types; 0 stands
for an unbound name. A file holds any number of tenants; each has its own log, sequence and hash chain.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import TypeAlias

from memos_agents.cube.payload import MemoryType
from memos_agents.cube.state import MemoryState

APPLICATION_ID = 0x4D434245  # "MCBE", in every file of ours

STATES = tuple(MemoryState)
STATE_NUMBER = {state: number for number, state in enumerate(STATES)}
TYPES = tuple(MemoryType)
TYPE_NUMBER = {kind: number for number, kind in enumerate(TYPES)}
USER, AGENT, SESSION = 1, 2, 3

_SCHEMA_1 = """
CREATE TABLE meta(name TEXT PRIMARY KEY, value ANY) STRICT, WITHOUT ROWID;
CREATE TABLE tenant(
    rid INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE,
    seq INTEGER NOT NULL DEFAULT 0, at_us INTEGER, chain BLOB NOT NULL,
    erased_seq INTEGER NOT NULL DEFAULT 0, scrubbed_seq INTEGER NOT NULL DEFAULT 0,
    vector_epoch INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE name(
    rid INTEGER PRIMARY KEY, tenant INTEGER NOT NULL, field INTEGER NOT NULL, value TEXT NOT NULL,
    UNIQUE(tenant, field, value)
) STRICT;
CREATE TABLE activity(
    rid INTEGER PRIMARY KEY, tenant INTEGER NOT NULL, id TEXT NOT NULL, seq INTEGER, kind TEXT NOT NULL,
    agent_id TEXT NOT NULL, agent_kind TEXT NOT NULL, agent_name TEXT,
    started_us INTEGER NOT NULL, at_us INTEGER NOT NULL, parameters TEXT NOT NULL,
    effects TEXT, chain BLOB, key TEXT, result TEXT, reshapes INTEGER NOT NULL DEFAULT 0,
    UNIQUE(tenant, id)
) STRICT;
CREATE UNIQUE INDEX activity_key ON activity(tenant, key) WHERE key IS NOT NULL;
CREATE TABLE cube(
    rid INTEGER PRIMARY KEY, tenant INTEGER NOT NULL, id TEXT NOT NULL,
    user INTEGER NOT NULL, agent INTEGER NOT NULL, session INTEGER NOT NULL,
    state INTEGER NOT NULL, frozen INTEGER NOT NULL,
    version INTEGER NOT NULL, head INTEGER NOT NULL, hash INTEGER NOT NULL, created_us INTEGER NOT NULL,
    collection TEXT NOT NULL, key TEXT, readers TEXT NOT NULL,
    UNIQUE(tenant, id)
) STRICT;
CREATE INDEX cube_user ON cube(user, created_us);
CREATE INDEX cube_created ON cube(tenant, created_us);
CREATE INDEX cube_hash ON cube(hash);
CREATE INDEX cube_session ON cube(session) WHERE session <> 0;
CREATE INDEX cube_agent ON cube(agent) WHERE agent <> 0;
CREATE UNIQUE INDEX cube_key ON cube(tenant, user, agent, session, collection, key) WHERE key IS NOT NULL;
CREATE TABLE version(
    rid INTEGER PRIMARY KEY, cube INTEGER NOT NULL REFERENCES cube(rid), n INTEGER NOT NULL,
    activity INTEGER NOT NULL,
    recorded_us INTEGER NOT NULL, superseded_us INTEGER, ended_by INTEGER, stale INTEGER NOT NULL DEFAULT 0,
    hash BLOB NOT NULL, body TEXT, memory_type INTEGER NOT NULL,
    event_us INTEGER NOT NULL, valid_from_us INTEGER, valid_to_us INTEGER, expires_us INTEGER,
    collection TEXT NOT NULL, speaker TEXT, flags INTEGER NOT NULL, length INTEGER NOT NULL,
    UNIQUE(cube, n)
) STRICT;
CREATE TABLE derivation(
    derived INTEGER NOT NULL REFERENCES version(rid), source INTEGER NOT NULL REFERENCES version(rid),
    kind TEXT NOT NULL, activity INTEGER NOT NULL,
    PRIMARY KEY(derived, source, kind)
) STRICT, WITHOUT ROWID;
CREATE INDEX derivation_source ON derivation(source, derived);
CREATE TABLE source(
    rid INTEGER PRIMARY KEY, tenant INTEGER NOT NULL, id TEXT NOT NULL,
    kind TEXT NOT NULL, locator TEXT NOT NULL, sha256 TEXT,
    UNIQUE(tenant, id)
) STRICT;
CREATE TABLE evidence(
    derived INTEGER NOT NULL REFERENCES version(rid), source INTEGER NOT NULL REFERENCES source(rid),
    kind TEXT NOT NULL, activity INTEGER NOT NULL,
    PRIMARY KEY(derived, source, kind)
) STRICT, WITHOUT ROWID;
CREATE INDEX evidence_source ON evidence(source, derived);
CREATE TABLE relation(
    rid INTEGER PRIMARY KEY, source INTEGER NOT NULL REFERENCES cube(rid), kind TEXT NOT NULL,
    target INTEGER NOT NULL REFERENCES cube(rid), properties TEXT NOT NULL,
    recorded_us INTEGER NOT NULL, removed_us INTEGER, activity INTEGER NOT NULL, removed_by INTEGER
) STRICT;
CREATE UNIQUE INDEX relation_open ON relation(source, kind, target) WHERE removed_us IS NULL;
CREATE INDEX relation_source ON relation(source);
CREATE INDEX relation_target ON relation(target);
CREATE INDEX relation_activity ON relation(activity);
CREATE INDEX relation_removed_by ON relation(removed_by) WHERE removed_by IS NOT NULL;
CREATE TABLE touched(
    activity INTEGER NOT NULL, cube INTEGER NOT NULL, PRIMARY KEY(activity, cube)
) STRICT, WITHOUT ROWID;
CREATE INDEX touched_cube ON touched(cube, activity);
CREATE TABLE usage(cube INTEGER PRIMARY KEY, count INTEGER NOT NULL, last_us INTEGER NOT NULL) STRICT;
CREATE TABLE space(
    rid INTEGER PRIMARY KEY AUTOINCREMENT, tenant INTEGER NOT NULL, fingerprint TEXT NOT NULL,
    dimension INTEGER NOT NULL, is_default INTEGER NOT NULL, UNIQUE(tenant, fingerprint)
) STRICT;
CREATE TABLE vector(
    space INTEGER NOT NULL, version INTEGER NOT NULL, data BLOB NOT NULL, PRIMARY KEY(space, version)
) STRICT, WITHOUT ROWID;
CREATE TABLE blob(
    sha256 TEXT NOT NULL, version INTEGER NOT NULL, PRIMARY KEY(sha256, version)
) STRICT, WITHOUT ROWID;
CREATE INDEX blob_version ON blob(version);
CREATE TABLE doomed_blob(sha256 TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;
CREATE TABLE lease(
    tenant INTEGER NOT NULL, name TEXT NOT NULL, owner TEXT NOT NULL, token INTEGER NOT NULL,
    expires_us INTEGER NOT NULL, PRIMARY KEY(tenant, name)
) STRICT, WITHOUT ROWID;
CREATE TABLE snapshot(
    tenant INTEGER NOT NULL, name TEXT NOT NULL, seq INTEGER NOT NULL, at_us INTEGER NOT NULL,
    PRIMARY KEY(tenant, name)
) STRICT, WITHOUT ROWID;
CREATE VIRTUAL TABLE terms USING fts5(words, detail=none, columnsize=0, tokenize=ascii);
"""


def _create_schema_1(connection: sqlite3.Connection) -> None:
    for statement in _SCHEMA_1.split(";\n"):
        if statement.strip():
            connection.execute(statement)


Migration: TypeAlias = Callable[[sqlite3.Connection], None]
MIGRATIONS: Sequence[Migration] = (_create_schema_1,)
"""Step `n` turns schema `n` into `n + 1`; `PRAGMA user_version` says which one a file has."""


def migrate(connection: sqlite3.Connection, migrations: Sequence[Migration] = MIGRATIONS) -> None:
    """Bring the file to the newest schema in one transaction, or leave it as it was."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        (found,) = connection.execute("PRAGMA user_version").fetchone()
        for step in migrations[found:]:
            step(connection)
        if found < len(migrations):  # another process, of a newer release even, may have been first
            connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version={len(migrations)}")
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
