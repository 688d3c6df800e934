"""Every vault that gives itself out in parts keeps the laws of parts."""

from __future__ import annotations

from pathlib import Path

from memos_agents.infrastructure.vault.memory import MemoryVault
from memos_agents.infrastructure.vault.sqlite import SqliteVault
from memos_agents.testing.vault_records_of_laws import RecordsOfLaws
from memos_agents.testing.vault_scribe import FullVault


class TestMemoryVaultInParts(RecordsOfLaws):
    def make_vault(self, folder: Path, tenant: str = "default") -> FullVault:
        return MemoryVault(tenant=tenant)


class TestSqliteVaultInParts(RecordsOfLaws):
    def make_vault(self, folder: Path, tenant: str = "default") -> FullVault:
        folder.mkdir(exist_ok=True)
        return SqliteVault(folder / "memos.db", tenant=tenant)
