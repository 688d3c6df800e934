"""PrefixCache: keys and values of prompts' beginnings in memory, within a budget of bytes.

An entry is found by what it was computed from: model, owner, token ids and cuts, at every one of its cuts; so a prompt
that shares only a beginning with it is served as far as that goes. An entry that begins with another one takes its
place. What is dropped first is what saved least: tokens times uses over bytes, the longest unused first among equals
(value as in GDSF and RAGCache, arXiv:2404.12457, 4.2, without their ageing).
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Final, TypeAlias

from memos_agents.models.held import Held
from memos_agents.models.prompts import Prompt, hash_of

DEFAULT_BYTES: Final = 512 * 2**20

_Key: TypeAlias = tuple[str, str, str, tuple[int, ...]]
"""Model, owner, SHA-256 of the token ids up to a cut, and the cuts up to it."""


@dataclass(slots=True, eq=False)
class _Entry:
    held: Held
    keys: list[_Key]
    size_bytes: int
    uses: int
    used_at: int

    @property
    def value(self) -> tuple[float, int]:
        return len(self.held.ids) * self.uses / self.size_bytes, self.used_at


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheStats:
    """`hits` and `misses` count prompts, `evictions` entries that others took the room of."""

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
        self._entries: dict[int, _Entry] = {}
        self._places: dict[_Key, _Entry] = {}
        self._lock = threading.Lock()
        self.epoch = 0
        """Counts `clear`: what was computed from texts that were read before it must not come in after it."""
        self._size = self._clock = self._hits = self._misses = self._evictions = 0

    def find(self, model: str, owner: str, prompt: Prompt, most: int) -> Held | None:
        """What serves the longest beginning of `prompt`, up to a cut at or before `most` tokens."""
        with self._lock:
            for place in reversed(range(len(prompt.ends) - 1)):
                ends = prompt.ends[: place + 1]
                if ends[-1] > most:
                    continue
                entry = self._places.get((model, owner, prompt.prefix_hash(ends[-1]), ends))
                if entry is not None:
                    self._clock += 1
                    entry.uses, entry.used_at = entry.uses + 1, self._clock
                    self._hits += 1
                    return entry.held
            self._misses += 1
            return None

    def get(self, model: str, owner: str, ids_sha256: str, ends: tuple[int, ...]) -> Held | None:
        """What holds exactly these tokens, with these cuts, and perhaps more after them."""
        with self._lock:
            entry = self._places.get((model, owner, ids_sha256, ends))
            return None if entry is None else entry.held

    def put(self, model: str, owner: str, held: Held, epoch: int | None = None) -> bool:
        """Keep `held`, unless it is larger than the whole budget or of an earlier `epoch`; whether it is here now."""
        size = size_of(held)
        if not 0 < size <= self.budget_bytes:
            return False
        keys: list[_Key] = [
            (model, owner, hash_of(held.ids[:end]), held.ends[: place + 1]) for place, end in enumerate(held.ends)
        ]
        with self._lock:
            if epoch not in (None, self.epoch):
                return False
            if keys[-1] in self._places:
                return True
            self._clock += 1
            entry = _Entry(held, keys, size, 1, self._clock)
            for key in keys[:-1]:  # a beginning of this one that stood alone
                shorter = self._places.get(key)
                if shorter is not None and shorter.keys[-1] == key:
                    entry.uses += shorter.uses
                    self._drop(shorter)
            while self._size + size > self.budget_bytes:
                self._drop(min(self._entries.values(), key=lambda each: each.value))
                self._evictions += 1
            self._entries[id(entry)] = entry
            self._size += size
            for key in keys:
                self._places.setdefault(key, entry)
            return True

    def clear(self) -> None:
        """Forget everything: after an erasure, or when the models go."""
        with self._lock:
            self.epoch += 1
            self._entries.clear()
            self._places.clear()
            self._size = 0

    def stats(self) -> CacheStats:
        with self._lock:
            return CacheStats(
                entries=len(self._entries), size_bytes=self._size, budget_bytes=self.budget_bytes, hits=self._hits,
                misses=self._misses, evictions=self._evictions,
            )  # fmt: skip

    def _drop(self, entry: _Entry) -> None:
        """Other entries that go through the same cuts take its places; there are few of them."""
        del self._entries[id(entry)]
        self._size -= entry.size_bytes
        left = {key for key in entry.keys if self._places.get(key) is entry}
        for key in left:
            del self._places[key]
        for other in self._entries.values():
            for key in left.intersection(other.keys):
                self._places.setdefault(key, other)


def size_of(held: Held) -> int:
    """Bytes of its tensors, with the room behind them."""
    whole = (len(held.ids) + held.room) / len(held.ids)
    return round(whole * sum(part.element_size() * part.nelement() for layer in held.layers for part in layer))
