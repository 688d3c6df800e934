"""Every vault keeps the contract."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, cast

from hypothesis import settings

from memos_agents.cube.memcube import MemCube, body_hash
from memos_agents.infrastructure.vault.memory import MemoryVault
from memos_agents.infrastructure.vault.memory.tables import Tables
from memos_agents.infrastructure.vault.sqlite import SqliteVault
from memos_agents.testing.vault_machine import VaultMachine
from memos_agents.testing.vault_scribe import FullVault
from memos_agents.testing.vault_suite import DurableVaultSuite, VaultSuite


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


class TestSqliteVault(DurableVaultSuite):
    def make_vault(self, folder: Path, tenant: str = "default") -> FullVault:
        folder.mkdir(exist_ok=True)
        return SqliteVault(folder / "memos.db", tenant=tenant)


class SqliteMachine(VaultMachine):
    def make_vault(self, folder: Path) -> FullVault:
        return SqliteVault(folder / "memos.db", durability="relaxed")


class TestSqliteLikeMemory(SqliteMachine.TestCase):
    settings = settings(max_examples=60, stateful_step_count=40)
