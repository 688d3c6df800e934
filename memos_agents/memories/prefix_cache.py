"""PrefixCache: keys and values of prompts' beginnings in memory, within a budget of bytes.

An entry is found by what it was computed from: model, owner, token ids and cuts. A longer prompt that begins with it is
served from it; what is dropped first is what saved least: tokens times uses over bytes, the oldest first among equals.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Final

from memos_agents.models.huggingface import Held
from memos_agents.models.prompts import Prompt, hash_of

DEFAULT_BYTES: Final = 512 * 2**20


@dataclass(slots=True)
class _Entry:
    held: Held
    size_bytes: int
    uses: int
    used_at: int

    @property
    def value(self) -> tuple[float, int]:
        return len(self.held.ids) * self.uses / self.size_bytes, self.used_at


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheStats:
    """`hits` and `misses` count prompts, `evictions` entries."""

    entries: int
    size_bytes: int
    budget_bytes: int
    hits: int
    misses: int
    evictions: int


class PrefixCache:
    """Safe for threads; the tensors it holds are never changed by the models that use them."""

    def __init__(self, budget_bytes: int = DEFAULT_BYTES) -> None:
        self.budget_bytes = budget_bytes
        self._entries: dict[tuple[str, str, str, tuple[int, ...]], _Entry] = {}
        self._lock = threading.Lock()
        self._size = self._clock = self._hits = self._misses = self._evictions = 0

    def find(self, model: str, owner: str, prompt: Prompt, most: int) -> Held | None:
        """The longest entry, of `most` tokens or fewer, that `prompt` begins with."""
        with self._lock:
            for place in reversed(range(len(prompt.ends) - 1)):
                ends = prompt.ends[: place + 1]
                if ends[-1] > most:
                    continue
                entry = self._entries.get((model, owner, prompt.prefix_hash(ends[-1]), ends))
                if entry is not None:
                    self._clock += 1
                    entry.uses, entry.used_at = entry.uses + 1, self._clock
                    self._hits += 1
                    return entry.held
            self._misses += 1
            return None

    def has(self, model: str, owner: str, ids_sha256: str, ends: tuple[int, ...]) -> bool:
        """Whether the keys and values of exactly these tokens are here."""
        with self._lock:
            return (model, owner, ids_sha256, ends) in self._entries

    def put(self, model: str, owner: str, held: Held) -> None:
        """Keep `held`, unless it is larger than the whole budget."""
        size = sum(part.element_size() * part.nelement() for layer in held.layers for part in layer)
        if not 0 < size <= self.budget_bytes:
            return
        with self._lock:
            key = (model, owner, hash_of(held.ids), held.ends)
            if key in self._entries:
                return
            self._clock += 1
            while self._size + size > self.budget_bytes:
                least = min(self._entries, key=lambda each: self._entries[each].value)
                self._size -= self._entries.pop(least).size_bytes
                self._evictions += 1
            self._entries[key] = _Entry(held, size, 1, self._clock)
            self._size += size

    def clear(self) -> None:
        """Forget everything: after an erasure, or when the models go."""
        with self._lock:
            self._entries.clear()
            self._size = 0

    def stats(self) -> CacheStats:
        with self._lock:
            return CacheStats(
                entries=len(self._entries), size_bytes=self._size, budget_bytes=self.budget_bytes, hits=self._hits,
                misses=self._misses, evictions=self._evictions,
            )  # fmt: skip
