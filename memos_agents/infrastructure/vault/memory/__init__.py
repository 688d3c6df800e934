"""MemoryVault: a vault in plain dictionaries, and the executable specification of every other one.

Simple and obviously right comes before fast: one lock, everything checked before anything changes, marks recomputed
rather than maintained. Other vaults are compared with it on random sequences of operations (`testing.vault_machine`).
"""

from memos_agents.infrastructure.vault.memory.vault import MemoryVault

__all__ = ["MemoryVault"]
