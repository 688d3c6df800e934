"""UUIDv7 ids: sort by time, unique without coordination (RFC 9562, section 5.7)."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from uuid import UUID

from memos_agents.errors import InvalidRequest


class IdSource:
    """Hands out UUIDv7 strings that sort in the order in which this process asked for them.

    48 bits of milliseconds, then a 12-bit counter and 62 random bits; when the clock stands still or goes back, the
    counter (and at its end the millisecond) goes on from the last id, so the order never breaks.
    """

    def __init__(self, random_bits: Callable[[int], int] = secrets.randbits) -> None:
        self._random_bits = random_bits
        self._lock = threading.Lock()
        self._last = 0  # milliseconds << 12 | counter

    def new_id(self, now: datetime) -> str:
        """Return the next id for the moment `now` (aware)."""
        tick = int(now.timestamp() * 1000) << 12
        with self._lock:
            self._last = tick = max(tick, self._last + 1)
        value = (tick >> 12) << 80 | 0x7 << 76 | (tick & 0xFFF) << 64 | 0b10 << 62 | self._random_bits(62)
        text = f"{value:032x}"
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def checked_id(value: object, *, what: str = "a cube id", given_by: str = "memos.add()") -> str:
    """Return `value` as the canonical spelling of a UUID, else raise `InvalidRequest`."""
    if isinstance(value, str):
        try:
            parsed = str(UUID(value))
        except ValueError:
            parsed = ""
        if parsed and parsed == value.lower():
            return parsed
    raise InvalidRequest(f"{what} must be a UUID string such as {given_by} returns, not {str(value)[:80]!r}")


def time_of(identifier: str) -> datetime:
    """Return the millisecond written into a UUIDv7."""
    return datetime.fromtimestamp((UUID(identifier).int >> 80) / 1000, tz=UTC)
