"""Costs: what running a token and reading a byte take here, measured as it happens; and which way is shorter."""

from __future__ import annotations

import statistics
import threading
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

Tier: TypeAlias = Literal["file", "store"]
"""A file on this machine, or a store that has to be asked for the bytes (a server, an object store)."""

_KEPT: Final = 15
_LEAST_TOKENS: Final = 16
"""Fewer tokens than this say more about the price of a call than of a token."""
_ASK_AGAIN: Final = 16
"""A tier that lost is tried again after so many times: it may have been a cold disk."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CostReport:
    """Medians of the last measurements, None before the first one; and how often what was decided, by reason."""

    prefill_seconds_per_token: float | None
    bytes_per_second: dict[str, float]
    decisions: dict[str, int]


@dataclass(slots=True)
class Costs:
    """Safe for threads."""

    _prefill: deque[float] = field(default_factory=lambda: deque(maxlen=_KEPT))
    _load: dict[str, deque[float]] = field(default_factory=dict)
    _decisions: Counter[str] = field(default_factory=Counter)
    _lost: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def prefilled(self, tokens: int, seconds: float) -> None:
        """Take note of a forward pass."""
        if tokens >= _LEAST_TOKENS:
            with self._lock:
                self._prefill.append(seconds / tokens)

    def loaded(self, tier: Tier, size_bytes: int, seconds: float) -> None:
        """Take note of a load, checks included."""
        with self._lock:
            self._load.setdefault(tier, deque(maxlen=_KEPT)).append(seconds / max(size_bytes, 1))

    def why_not(self, tier: Tier, size_bytes: int, tokens: int) -> str | None:
        """Why so many bytes are not loaded to save so many tokens; None if they are (research: activation.md, 5).

        What was never measured is tried.
        """
        with self._lock:
            loads = self._load.get(tier)
            if not self._prefill or not loads:
                return None
            load, prefill = statistics.median(loads) * size_bytes, statistics.median(self._prefill) * tokens
            if load < prefill:
                return None
            self._lost[tier] += 1
            if self._lost[tier] % _ASK_AGAIN == 0:
                return None
            return f"reading its keys and values takes longer ({load:.2g} s) than running its text ({prefill:.2g} s)"

    def decided(self, what: str) -> None:
        """Count a decision."""
        with self._lock:
            self._decisions[what] += 1

    def report(self) -> CostReport:
        with self._lock:
            return CostReport(
                prefill_seconds_per_token=statistics.median(self._prefill) if self._prefill else None,
                bytes_per_second={tier: 1 / statistics.median(each) for tier, each in self._load.items()},
                decisions=dict(self._decisions),
            )
