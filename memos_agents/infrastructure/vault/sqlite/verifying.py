"""Verifying a store: what it says about itself against what it holds."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections import Counter
from collections.abc import Iterator

from memos_agents.cube.memcube import MemCube, unpack_body
from memos_agents.cube.moment import from_microseconds
from memos_agents.errors import IntegrityError, NotFound
from memos_agents.infrastructure.provenance.values import Activity, Agent
from memos_agents.infrastructure.vault import chain
from memos_agents.infrastructure.vault.base import Problem
from memos_agents.infrastructure.vault.blobs import BlobStore
from memos_agents.infrastructure.vault.sqlite.names import Names
from memos_agents.infrastructure.vault.sqlite.terms import index_row
from memos_agents.infrastructure.vault.sqlite.verifying_columns import column_problems, edge_problems
from memos_agents.infrastructure.vault.sqlite.writing import short_hash


class Checks:
    """Every check, over one connection's moment and one tenant. Reads the whole store."""

    def __init__(self, connection: sqlite3.Connection, names: Names, tenant_name: str, blobs: BlobStore) -> None:
        self._db, self._names, self._blobs = connection, names, blobs
        self._tenant_name, self._tenant = tenant_name, names.tenant(connection)

    def __iter__(self) -> Iterator[Problem]:
        yield from self._file()
        yield from self._log()
        yield from self._versions()
        yield from self._heads()
        yield from self._staleness()
        yield from self._tombstones()
        yield from self._indexes()
        yield from self._bytes()
        yield from column_problems(self._db, self._tenant)
        yield from edge_problems(self._db, self._tenant)

    def _file(self) -> Iterator[Problem]:
        for (found,) in self._db.execute("PRAGMA quick_check(20)"):
            if found != "ok":
                yield Problem(kind="file", what=f"SQLite reports: {found}")
        for table, rid, parent, _ in self._db.execute("PRAGMA foreign_key_check").fetchall()[:20]:
            yield Problem(kind="file", what=f"row {rid} of {table} names a row of {parent} that is not there")
        (strays,) = self._db.execute(
            "SELECT count(*) FROM version v JOIN cube c ON c.rid = v.cube LEFT JOIN activity x ON x.rid = v.activity "
            "WHERE c.tenant=? AND x.rid IS NULL",
            (self._tenant,),
        ).fetchone()
        if strays:
            yield Problem(kind="file", what=f"{strays} versions name an activity that is not there")

    def _log(self) -> Iterator[Problem]:
        previous, position = chain.GENESIS, 0
        rows = self._db.execute(
            "SELECT id, kind, agent_id, agent_kind, agent_name, started_us, parameters, at_us, effects, chain, seq "
            "FROM activity WHERE tenant=? AND seq IS NOT NULL ORDER BY rid",
            (self._tenant,),
        )
        for name, kind, agent_id, agent_kind, agent_name, started, parameters, at_us, effects, stored, seq in rows:
            position += 1
            if seq != position:
                yield Problem(kind="chain", what=f"the log has no entry {position}")
                return
            agent = Agent(id=agent_id, kind=agent_kind, name=agent_name)
            activity = Activity(
                id=name,
                kind=kind,
                started_at=from_microseconds(started),
                agent=agent,
                parameters=json.loads(parameters),
            )
            expected = chain.link(previous, activity, at_us, json.loads(effects)["chain"])
            if expected != stored:
                yield Problem(
                    kind="chain", what=f"log entry {seq} ({kind} {name}) does not match its hash: it was changed"
                )
                return
            previous = stored
        row = self._db.execute("SELECT seq, chain FROM tenant WHERE rid=?", (self._tenant,)).fetchone()
        if row is not None and row != (position, previous):
            yield Problem(kind="chain", what=f"the log ends at entry {position}, not at {row[0]} as it says")

    def _versions(self) -> Iterator[Problem]:
        stated = self._stated()
        rows = self._db.execute(
            "SELECT c.id, v.n, v.hash, v.body, v.rid, c.user, c.agent, c.session, v.length, t.words, "
            "v.superseded_us, c.version "
            "FROM version v JOIN cube c ON c.rid = v.cube LEFT JOIN terms t ON t.rowid = v.rid WHERE c.tenant=?",
            (self._tenant,),
        )
        for cube_id, number, digest, body, _, user, agent, session, length, words, superseded, newest in rows:
            ref = f"{cube_id} version {number}"
            if body is not None and hashlib.sha256(body.encode()).digest() != digest:
                yield Problem(kind="content", what=f"the content of {ref} does not match its hash", cube_id=cube_id)
                continue
            if stated.get((cube_id, number)) != digest.hex():
                yield Problem(kind="chain", what=f"no log entry wrote {ref} with this content", cube_id=cube_id)
            if superseded is None and number != newest:
                yield Problem(kind="head", what=f"{ref} was replaced but is still believed", cube_id=cube_id)
            if body is None:
                continue
            cube = MemCube(
                id=cube_id,
                version=number,
                scope=self._names.scope(self._db, user, agent, session),
                created_at=from_microseconds(0),
                recorded_at=from_microseconds(0),
                **unpack_body(json.loads(body)),
            )
            if (words, length) != index_row(cube, self._tenant, (user, agent, session)):
                yield Problem(kind="index", what=f"the text index of {ref} is not what its text gives", cube_id=cube_id)
        yield from self._missing(stated)

    def _missing(self, stated: dict[tuple[str, int], str]) -> Iterator[Problem]:
        held = Counter(dict(self._db.execute("SELECT id, version FROM cube WHERE tenant=?", (self._tenant,))))
        for cube_id, number in stated:
            if held[cube_id] < number:
                yield Problem(
                    kind="head", what=f"the log wrote {cube_id} version {number}, which is not there", cube_id=cube_id
                )

    def _stated(self) -> dict[tuple[str, int], str]:
        """What the log says was written: the hash of each version."""
        stated: dict[tuple[str, int], str] = {}
        rows = self._db.execute(
            "SELECT effects FROM activity WHERE tenant=? AND seq IS NOT NULL ORDER BY rid", (self._tenant,)
        )
        for (effects,) in rows:
            for effect in json.loads(effects)["chain"]:
                if effect.startswith("write "):
                    _, cube_id, number, digest = effect.split(" ")
                    stated[cube_id, int(number)] = digest
        return stated

    def _heads(self) -> Iterator[Problem]:
        rows = self._db.execute(
            "SELECT c.id, c.hash, v.hash, v.n, c.version, (SELECT max(n) FROM version WHERE cube = c.rid), "
            "(SELECT count(*) FROM version WHERE cube = c.rid), v.body IS NULL "
            "FROM cube c LEFT JOIN version v ON v.rid = c.head AND v.cube = c.rid WHERE c.tenant=?",
            (self._tenant,),
        )
        for cube_id, short, digest, number, version, newest, count, is_erased in rows:
            if not number == version == newest == count:
                yield Problem(kind="head", what=f"the head of {cube_id} is not its newest version", cube_id=cube_id)
            elif not is_erased and short != short_hash(digest):
                yield Problem(kind="head", what=f"the duplicate index of {cube_id} is off", cube_id=cube_id)

    def _staleness(self) -> Iterator[Problem]:
        rows = self._db.execute(
            "SELECT DISTINCT c.id, v.n FROM derivation d JOIN version v ON v.rid = d.derived JOIN version s ON s.rid "
            "= d.source "
            "JOIN cube c ON c.rid = v.cube WHERE c.tenant=? AND v.stale = 0 AND v.body IS NOT NULL "
            "AND (s.superseded_us IS NOT NULL OR s.stale)",
            (self._tenant,),
        )
        for cube_id, number in rows:
            yield Problem(kind="stale", what=f"{cube_id} version {number} should be marked stale", cube_id=cube_id)

    def _tombstones(self) -> Iterator[Problem]:
        rows = self._db.execute(
            "SELECT DISTINCT c.id FROM cube c JOIN version v ON v.cube = c.rid LEFT JOIN terms t ON t.rowid = v.rid "
            "WHERE c.tenant=? AND (v.body IS NULL) <> (c.state = 5) OR c.tenant=? AND v.body IS NULL AND (t.rowid IS "
            "NOT NULL "
            "OR c.key IS NOT NULL OR EXISTS (SELECT 1 FROM vector x WHERE x.version = v.rid AND x.space IN (SELECT "
            "rid FROM space)) "
            "OR EXISTS (SELECT 1 FROM blob b WHERE b.version = v.rid))",
            (self._tenant, self._tenant),
        )
        for (cube_id,) in rows:
            yield Problem(kind="tombstone", what=f"{cube_id} is erased only in part", cube_id=cube_id)

    def _indexes(self) -> Iterator[Problem]:
        (strays,) = self._db.execute(
            "SELECT count(*) FROM terms t WHERE NOT EXISTS (SELECT 1 FROM version v WHERE v.rid = t.rowid)"
        ).fetchone()
        if strays:
            yield Problem(kind="index", what=f"the text index holds {strays} rows of versions that are not there")
        (lost,) = self._db.execute("SELECT count(*) FROM vector WHERE space NOT IN (SELECT rid FROM space)").fetchone()
        if lost:
            yield Problem(kind="vector", what=f"{lost} vectors belong to a space that is not there")
        rows = self._db.execute(
            "SELECT p.fingerprint, count(*) FROM vector x JOIN space p ON p.rid = x.space LEFT JOIN version v ON "
            "v.rid = x.version "
            "WHERE p.tenant=? AND (v.rid IS NULL OR length(x.data) <> 2 * p.dimension) GROUP BY p.rid",
            (self._tenant,),
        )
        for fingerprint, count in rows:
            yield Problem(kind="vector", what=f"{count} vectors of space {fingerprint!r} are damaged or stray")

    def _bytes(self) -> Iterator[Problem]:
        rows = self._db.execute(
            "SELECT DISTINCT b.sha256, c.id FROM blob b JOIN version v ON v.rid = b.version JOIN cube c ON c.rid = "
            "v.cube "
            "WHERE c.tenant=?",
            (self._tenant,),
        )
        for sha256, cube_id in rows.fetchall():
            try:
                self._blobs.get(sha256)
            except (NotFound, IntegrityError) as error:
                yield Problem(kind="blob", what=str(error), cube_id=cube_id)
