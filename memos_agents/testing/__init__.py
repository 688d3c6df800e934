"""What others need to test against us: doubles that behave, and the suites that every backend must pass.

`HashEmbedder` and `FixedClock` stand in for a model and for time; `VaultSuite` holds the promises of `MemVault` as
tests: subclass it, say how your vault is opened, and pytest runs them. Knows the protocols and values, not the
interface above them, and imports pytest in suites only. Rejected: mocks (they repeat what the test believes, a double
behaves by itself), and keeping this under `tests/` (authors of other vaults install the package, not our repository).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from memos_agents.testing.doubles import FixedClock, HashEmbedder
    from memos_agents.testing.vault_machine import VaultMachine
    from memos_agents.testing.vault_suite import DurableVaultSuite, VaultSuite

__all__ = ["DurableVaultSuite", "FixedClock", "HashEmbedder", "VaultMachine", "VaultSuite"]

_HOMES = {
    "DurableVaultSuite": "memos_agents.testing.vault_suite",
    "FixedClock": "memos_agents.testing.doubles",
    "HashEmbedder": "memos_agents.testing.doubles",
    "VaultMachine": "memos_agents.testing.vault_machine",
    "VaultSuite": "memos_agents.testing.vault_suite",
}


def __getattr__(name: str) -> object:
    # Importing the package must not import pytest, which only the suites need.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    try:
        found: object = getattr(import_module(_HOMES[name]), name)
    except ModuleNotFoundError as error:
        raise ImportError(f"{name} needs {error.name}: pip install pytest hypothesis") from error
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
