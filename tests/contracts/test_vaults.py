"""Every vault keeps the contract."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import ClassVar, cast

from hypothesis import settings

from memos_agents.cube.memcube import MemCube, body_hash
from memos_agents.infrastructure.vault.memory import MemoryVault
from memos_agents.infrastructure.vault.memory.tables import Tables
from memos_agents.infrastructure.vault.sqlite import SqliteVault
from memos_agents.testing.vault_concurrency_laws import PlanningLaws
from memos_agents.testing.vault_machine import VaultMachine
from memos_agents.testing.vault_scribe import FullVault
from memos_agents.testing.vault_suite import DurableVaultSuite, VaultSuite
from memos_agents.testing.vault_verify_laws import Damage


def _tables(vault: FullVault) -> Tables:
    return cast(MemoryVault, vault)._tables


def _change_text(vault: FullVault, cube: MemCube) -> None:
    head = _tables(vault).cubes[cube.id].head
    assert head.body is not None
    head.body = head.body.replace("derived", "forged")


def _change_hash_and_text(vault: FullVault, cube: MemCube) -> None:
    _change_text(vault, cube)
    head = _tables(vault).cubes[cube.id].head
    head.hash = body_hash(head.body or "")


def _forget_stale_mark(vault: FullVault, cube: MemCube) -> None:
    _tables(vault).cubes[cube.id].head.is_stale = False


def _believe_an_old_version(vault: FullVault, cube: MemCube) -> None:
    first = next(row for row in _tables(vault).cubes.values() if len(row.versions) > 1)
    first.versions[0].superseded_at = None


def _lose_a_version(vault: FullVault, cube: MemCube) -> None:
    first = next(row for row in _tables(vault).cubes.values() if len(row.versions) > 1)
    del first.versions[0]


def _change_the_log(vault: FullVault, cube: MemCube) -> None:
    row = _tables(vault).log[1]
    row.chain = bytes(32)


def _lose_a_log_entry(vault: FullVault, cube: MemCube) -> None:
    del _tables(vault).log[-1]
    del _tables(vault).log[1]


def _lose_a_key(vault: FullVault, cube: MemCube) -> None:
    _tables(vault).keys.clear()


def _change_the_index(vault: FullVault, cube: MemCube) -> None:
    _tables(vault).cubes[cube.id].head.terms = {"forg": 1}


def _bring_back_the_erased(vault: FullVault, cube: MemCube) -> None:
    row = next(row for row in _tables(vault).cubes.values() if row.is_erased)
    row.head.terms = {"back": 1}


class TestMemoryVault(VaultSuite):
    damages: ClassVar = {
        "a changed text": _change_text,
        "a changed text with its hash": _change_hash_and_text,
        "a stale mark taken off": _forget_stale_mark,
        "an old version that is believed": _believe_an_old_version,
        "a lost version": _lose_a_version,
        "a changed log entry": _change_the_log,
        "a lost log entry": _lose_a_log_entry,
        "a lost key": _lose_a_key,
        "an index of another text": _change_the_index,
        "words of what was erased": _bring_back_the_erased,
    }

    def make_vault(self, folder: Path, tenant: str = "default") -> FullVault:
        return MemoryVault(tenant=tenant)


def _run(*statements: str) -> Damage:
    """Change the file as another program could; `:id` is the cube's id."""

    def damage(vault: FullVault, cube: MemCube) -> None:
        assert isinstance(vault, SqliteVault)
        with closing(sqlite3.connect(vault.path)) as connection:
            changed = []
            for statement in statements:
                values = {"id": cube.id} if ":id" in statement else {}
                changed.append(connection.execute(statement, values).rowcount)
            connection.commit()
        assert 0 not in changed, f"{statements} changed nothing"

    return damage


_CUBE = "(SELECT rid FROM cube WHERE id = :id)"
_HEAD = "(SELECT head FROM cube WHERE id = :id)"
_OLD = (
    "(SELECT v.rid FROM version v JOIN cube c ON c.rid = v.cube WHERE v.body IS NOT NULL AND v.n < c.version LIMIT 1)"
)
_ERASED = "(SELECT rid FROM version WHERE body IS NULL LIMIT 1)"


class TestSqliteVault(DurableVaultSuite, PlanningLaws):
    damages: ClassVar = {
        "a changed text": _run(f"UPDATE version SET body = replace(body, 'derived', 'forged') WHERE rid = {_HEAD}"),
        "a stale mark taken off": _run(f"UPDATE version SET stale = 0 WHERE rid = {_HEAD}"),
        "an old version that is believed": _run(f"UPDATE version SET superseded_us = NULL WHERE rid = {_OLD}"),
        "a lost version": _run("PRAGMA foreign_keys = OFF", f"DELETE FROM version WHERE rid = {_OLD}"),
        "a changed log entry": _run("UPDATE activity SET parameters = '{\"a\":1}' WHERE seq = 2"),
        "a log entry by another agent": _run("UPDATE activity SET agent_id = 'somebody' WHERE seq = 2"),
        "a lost log entry": _run("UPDATE activity SET seq = NULL WHERE seq = (SELECT max(seq) FROM activity)"),
        "a lost derivation": _run(f"DELETE FROM derivation WHERE derived = {_HEAD}"),
        "a lost relation": _run("DELETE FROM relation WHERE removed_us IS NULL"),
        "a moved head": _run(f"UPDATE cube SET version = version + 1 WHERE rid = {_CUBE}"),
        "another owner": _run(f"UPDATE cube SET user = user + 1 WHERE rid = {_CUBE}"),
        "a key that the content does not have": _run(f"UPDATE cube SET key = 'stolen' WHERE rid = {_CUBE}"),
        "a grant that the content does not give": _run(f"UPDATE cube SET readers = '[\"eve\"]' WHERE rid = {_CUBE}"),
        "another collection": _run(f"UPDATE version SET collection = 'x' WHERE rid = {_HEAD}"),
        "another lifespan": _run(f"UPDATE version SET expires_us = 1 WHERE rid = {_HEAD}"),
        "another time": _run(f"UPDATE version SET event_us = 1 WHERE rid = {_HEAD}"),
        "a lost row of the text index": _run(f"DELETE FROM terms WHERE rowid = {_HEAD}"),
        "a text index of another text": _run(f"UPDATE terms SET words = 'forg' WHERE rowid = {_HEAD}"),
        "words of what was erased": _run(f"INSERT INTO terms(rowid, words) VALUES({_ERASED}, 'back')"),
        "a vector cut short": _run(f"UPDATE vector SET data = x'00' WHERE version = {_HEAD}"),
    }

    def make_vault(self, folder: Path, tenant: str = "default") -> FullVault:
        folder.mkdir(exist_ok=True)
        return SqliteVault(folder / "memos.db", tenant=tenant)


class SqliteMachine(VaultMachine):
    def make_vault(self, folder: Path) -> FullVault:
        return SqliteVault(folder / "memos.db", durability="relaxed")


TestSqliteLikeMemory = SqliteMachine.TestCase
TestSqliteLikeMemory.settings = settings(max_examples=40, stateful_step_count=40)
