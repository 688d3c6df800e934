"""MemoryCall: a request for memory, made structured (MemOS, arXiv:2507.03724, MemReader)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from memos_agents.cube.payload import MemoryType
from memos_agents.cube.scope import Scope


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeWindow:
    """A half-open span of event time that a request speaks about; `words` is the phrase that said so."""

    start: datetime
    end: datetime
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryCall:
    """What is asked of memory, by whom, about when."""

    intent: Literal["recall", "remember", "revise", "forget"]
    text: str
    scope: Scope
    memory_types: tuple[MemoryType, ...] = ()
    windows: tuple[TimeWindow, ...] = ()
    wants_latest: bool = False
    limit: int = 10
