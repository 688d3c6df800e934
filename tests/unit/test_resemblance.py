"""The cheap first answer about near duplicates: it may raise false alarms, it must not miss."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from memos_agents.operation.resemblance import RELOADED_AFTER, ROWS_PER_PLACE, Place, Resemblance

NOW = datetime(2026, 1, 1, tzinfo=UTC)
PLACE: Place = ("mara", None, None, "memories", "space")


def unit(count: int, dimension: int = 384, seed: int = 0) -> NDArray[np.float32]:
    rows = np.random.default_rng(seed).standard_normal((count, dimension)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def tilted(rows: NDArray[np.float32], cosine: float) -> NDArray[np.float32]:
    """For each row one at exactly this cosine, in a direction of its own."""
    other = unit(len(rows), rows.shape[1], seed=7)
    other -= (other * rows).sum(axis=1, keepdims=True) * rows
    other /= np.linalg.norm(other, axis=1, keepdims=True)
    tilted: NDArray[np.float32] = cosine * rows + np.sqrt(np.float32(1 - cosine**2)) * other
    return tilted


def nothing() -> NDArray[np.float32]:
    return np.zeros((0, 384), dtype=np.float32)


def test_near_vectors_are_found_and_far_ones_raise_few_alarms() -> None:
    held = unit(1_000)
    assert len(Resemblance().suspects(PLACE, tilted(held, 0.95), lambda: held, NOW)) >= 998
    assert len(Resemblance().suspects(PLACE, tilted(held, 0.75), lambda: held, NOW)) <= 5


def test_what_was_asked_about_is_held_from_then_on() -> None:
    resemblance = Resemblance()
    rows = unit(30)
    for row in rows:
        assert resemblance.suspects(PLACE, row[None], nothing, NOW) == []
    assert resemblance.suspects(PLACE, rows[7][None], nothing, NOW) == [0]
    assert resemblance.suspects(PLACE, rows, nothing, NOW) == list(range(30))
    assert resemblance.suspects(("tom", *PLACE[1:]), rows, nothing, NOW) == []
    resemblance.forget()
    assert resemblance.suspects(PLACE, rows, nothing, NOW) == []


def test_it_loads_again_after_a_while_and_when_the_clock_goes_back() -> None:
    resemblance = Resemblance()
    rows = unit(3)
    assert resemblance.suspects(PLACE, rows[:1], nothing, NOW) == []
    assert resemblance.suspects(PLACE, rows[1:2], lambda: rows, NOW) == []
    assert resemblance.suspects(PLACE, rows[2:], lambda: rows, NOW + RELOADED_AFTER) == [0]
    assert resemblance.suspects(PLACE, rows[2:], nothing, NOW - timedelta(seconds=1)) == []


def test_only_the_newest_are_kept() -> None:
    resemblance = Resemblance()
    rows = unit(3 * ROWS_PER_PLACE, dimension=16)
    for start in range(0, len(rows), 500):
        resemblance.suspects(PLACE, rows[start : start + 500], lambda: nothing()[:, :16], NOW)
    assert resemblance.suspects(PLACE, rows[-1:], nothing, NOW) == [0]
    block = resemblance._columns[PLACE]._rows
    assert block is not None
    assert len(block) <= ROWS_PER_PLACE


def test_a_zero_vector_is_near_nothing() -> None:
    zeros = np.zeros((2, 384), dtype=np.float32)
    assert Resemblance().suspects(PLACE, zeros, lambda: np.concatenate([zeros, unit(3)]), NOW) == []
