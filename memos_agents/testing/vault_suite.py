"""VaultSuite: the contract of `MemVault` as tests. Subclass it, say how your vault is opened, and pytest runs them.

>>> from memos_agents.infrastructure.vault.memory import MemoryVault
>>> class TestMyVault(VaultSuite):
...     def make_vault(self, folder, tenant="default"):
...         return MemoryVault(tenant=tenant)

Vaults that keep their content on a medium subclass `DurableVaultSuite`, which opens them again. A backend without a
capability (search, records) composes the classes of laws that it can keep. `vault_machine` compares with `MemoryVault`.
"""

from __future__ import annotations

from memos_agents.testing.vault_commit_laws import CommitLaws
from memos_agents.testing.vault_concurrency_laws import ConcurrencyLaws, DurabilityLaws
from memos_agents.testing.vault_erasure_laws import ErasureLaws
from memos_agents.testing.vault_isolation_laws import UserIsolationLaws
from memos_agents.testing.vault_life_laws import DuplicateLaws, KeyLaws, LifeLaws
from memos_agents.testing.vault_provenance_laws import CascadeLaws, LineageLaws, LogLaws, RelationLaws
from memos_agents.testing.vault_reading_laws import CoordinationLaws, ReadingLaws
from memos_agents.testing.vault_search_laws import SearchLaws
from memos_agents.testing.vault_tenant_laws import TenantIsolationLaws
from memos_agents.testing.vault_transfer_laws import RecordLaws
from memos_agents.testing.vault_verify_laws import VerifyLaws


class VaultSuite(
    CommitLaws,
    LifeLaws,
    KeyLaws,
    DuplicateLaws,
    CascadeLaws,
    RelationLaws,
    LineageLaws,
    LogLaws,
    ErasureLaws,
    ReadingLaws,
    CoordinationLaws,
    SearchLaws,
    RecordLaws,
    VerifyLaws,
    UserIsolationLaws,
    TenantIsolationLaws,
    ConcurrencyLaws,
):
    """Everything that a vault promises while it is open. Provide `make_vault(folder, tenant)`.

    The same folder with another tenant is the same place: give out another tenant's view of one store if your backend
    keeps several.
    """


class DurableVaultSuite(VaultSuite, DurabilityLaws):
    """And everything that holds when it is opened again, or twice: the same folder and tenant is the same vault."""
