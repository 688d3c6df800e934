"""What every test shares: one Hypothesis profile, and reasons to pass over tests whose surroundings are missing."""

from __future__ import annotations

import os
from importlib.util import find_spec

import pytest
from hypothesis import HealthCheck, settings

# Loaded machines are slow now and then, which says nothing about a law: no deadlines.
settings.register_profile("memos", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
settings.load_profile("memos")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip, with a reason, marked tests that cannot run here."""
    missing = {
        "neo4j": None if os.environ.get("MEMOS_TEST_NEO4J") else "set MEMOS_TEST_NEO4J to the address of a test server",
        "network": None if os.environ.get("MEMOS_TEST_NETWORK") else "set MEMOS_TEST_NETWORK=1 to reach beyond here",
    }
    if any(item.get_closest_marker("gpu") for item in items):
        missing["gpu"] = None if _has_gpu() else "no CUDA device"
    for item in items:
        for name, reason in missing.items():
            if reason is not None and item.get_closest_marker(name):
                item.add_marker(pytest.mark.skip(reason=reason))


def _has_gpu() -> bool:
    if find_spec("torch") is None:
        return False
    import torch

    return bool(torch.cuda.is_available())
