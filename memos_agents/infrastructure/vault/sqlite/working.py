"""A commit on its way into the tables: what is known of its cubes, and what it has changed so far."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from memos_agents.cube.canonical import JSON
from memos_agents.cube.memcube import VersionRef
from memos_agents.infrastructure.vault.rules import Head
from memos_agents.infrastructure.vault.sqlite.engine import chunks
from memos_agents.infrastructure.vault.sqlite.names import Names, Tail
from memos_agents.infrastructure.vault.sqlite.schema import STATES

KeyPlace: TypeAlias = tuple[int, int, int, str, str]
"""User, agent, session (rowids), collection and key."""


@dataclass(slots=True)
class WorkingCube:
    """A cube as the commit goes on: its rowid, the rowid of its head, its head, and the key it had before."""

    rid: int
    head_rid: int
    head: Head
    key: KeyPlace | None = None


class Working:
    """One commit's view of the tables. Everything is in the caller's transaction."""

    def __init__(self, connection: sqlite3.Connection, names: Names, tail: Tail, at_us: int) -> None:
        self.db, self.names, self.tail, self.at_us = connection, names, tail, at_us
        self.tenant, self.activity = tail.tenant, tail.activity + 1
        self.next_cube, self.next_version = tail.cube + 1, tail.version + 1
        self.cubes: dict[str, WorkingCube] = {}
        self.versions: dict[VersionRef, int] = {}
        self.effects: list[str] = []
        self.touched: set[int] = set()
        self.ended: list[int] = []
        self.changes: dict[str, list[JSON]] = {}

    def load(self, cube_ids: Iterable[str]) -> None:
        """Read the heads of these cubes, as far as they exist."""
        for marks, piece in chunks(list(cube_ids)):
            rows = self.db.execute(
                "SELECT c.id, c.rid, c.head, c.version, c.user, c.agent, c.session, c.state, c.frozen, c.readers, "
                "v.superseded_us, c.collection, c.key FROM cube c JOIN version v ON v.rid = c.head "
                f"WHERE c.tenant = ? AND c.id IN ({marks})",
                (self.tenant, *piece),
            ).fetchall()
            for row in rows:
                cube_id, rid, head, version, user, agent, session, state, frozen, readers, ended, collection, key = row
                granted = tuple(json.loads(readers)) if readers else ()
                scope = self.names.scope(self.db, user, agent, session)
                known = Head(version, scope, STATES[state], bool(frozen), ended is None, granted)
                held = None if key is None else (user, agent, session, collection, key)
                self.cubes[cube_id] = WorkingCube(rid, head, known, held)
                self.versions[VersionRef(cube_id, version)] = head

    def version_rid(self, ref: VersionRef) -> int:
        """The rowid of a version of a loaded cube."""
        if ref not in self.versions:
            row = self.db.execute(
                "SELECT rid FROM version WHERE cube=? AND n=?", (self.cubes[ref.cube_id].rid, ref.version)
            ).fetchone()
            self.versions[ref] = row[0]
        return self.versions[ref]

    def many(self, statement: str, rows: Sequence[tuple[object, ...] | list[object]]) -> None:
        """Run a statement for each row; no rows cost nothing."""
        if rows:
            self.db.executemany(statement, rows)
