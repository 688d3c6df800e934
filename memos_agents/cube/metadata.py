"""The three header groups of a MemCube (MemOS, arXiv:2507.03724, section on MemCube).

*Descriptive* and *governance* are part of a version: they are hashed with the content. *Behavioural* is computed from
usage facts and never makes a version.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import cast

from memos_agents.cube.canonical import JSON
from memos_agents.cube.moment import iso, utc

DEFAULT_COLLECTION = "memories"


@dataclass(frozen=True, slots=True, kw_only=True)
class Descriptive:
    """What the memory is about and where it came from.

    `occurred_at` is when it happened; `valid_from`/`valid_to` bound when it is true in the world (half open; None is
    unbounded). When *we* recorded it is kept by the store, apart from these (`MemCube.recorded_at`).
    """

    semantic_type: str = "turn"
    origin: str = "user_input"
    role: str | None = None
    name: str | None = None
    title: str | None = None
    tags: tuple[str, ...] = ()
    language: str | None = None
    collection: str = DEFAULT_COLLECTION
    key: str | None = None
    occurred_at: datetime | None = None
    valid_from: datetime | None = None
    valid_to: datetime | None = None

    def to_json(self) -> dict[str, JSON]:
        """Only what differs from the defaults."""
        return _compact(self, _DESCRIPTIVE_DEFAULTS)

    @classmethod
    def from_json(cls, value: Mapping[str, JSON]) -> Descriptive:
        return cls(**_restored(value)) if value else _PLAIN_DESCRIPTIVE  # type: ignore[arg-type]  # checked on the way in


@dataclass(frozen=True, slots=True, kw_only=True)
class Governance:
    """Who may do what with it, and for how long.

    `ttl_seconds` counts from the version's recorded time. `trust` runs from 0 (quarantine) to 1.
    """

    owner: str | None = None
    readers: tuple[str, ...] = ()
    writers: tuple[str, ...] = ()
    ttl_seconds: float | None = None
    priority: int = 0
    sensitivity: tuple[str, ...] = ()
    trust: float = 1.0
    watermark: str | None = None

    def to_json(self) -> dict[str, JSON]:
        """Only what differs from the defaults."""
        return _compact(self, _GOVERNANCE_DEFAULTS)

    @classmethod
    def from_json(cls, value: Mapping[str, JSON]) -> Governance:
        return cls(**_restored(value)) if value else _PLAIN_GOVERNANCE  # type: ignore[arg-type]  # checked on the way in


@dataclass(frozen=True, slots=True, kw_only=True)
class Behavioural:
    """How the memory is used. `fingerprint` is the content hash of the context it was last used in, if told."""

    use_count: int = 0
    last_used_at: datetime | None = None
    fingerprint: str | None = None
    version_chain: tuple[int, ...] = ()

    def to_json(self) -> dict[str, JSON]:
        """Only what differs from the defaults."""
        return _compact(self, _BEHAVIOURAL_DEFAULTS)


_PLAIN_DESCRIPTIVE = Descriptive()
_PLAIN_GOVERNANCE = Governance()


def _defaults(header: object) -> tuple[tuple[str, object], ...]:
    return tuple((field.name, getattr(header, field.name)) for field in fields(header))  # type: ignore[arg-type]


_DESCRIPTIVE_DEFAULTS = _defaults(_PLAIN_DESCRIPTIVE)
_GOVERNANCE_DEFAULTS = _defaults(_PLAIN_GOVERNANCE)
_BEHAVIOURAL_DEFAULTS = _defaults(Behavioural())
_TIMES = {"occurred_at", "valid_from", "valid_to"}
_TUPLES = {"tags", "readers", "writers", "sensitivity"}


def _compact(header: object, defaults: tuple[tuple[str, object], ...]) -> dict[str, JSON]:
    found: dict[str, JSON] = {}
    for name, default in defaults:
        value = getattr(header, name)
        if value != default:
            if isinstance(value, datetime):
                value = iso(value)
            elif isinstance(value, tuple):
                value = list(value)
            found[name] = value
    return found


def _restored(value: Mapping[str, JSON]) -> dict[str, object]:
    restored: dict[str, object] = {}
    for name, item in value.items():
        if name in _TIMES:
            restored[name] = utc(item, what=name)
        elif name in _TUPLES:
            restored[name] = tuple(cast("list[str]", item))
        else:
            restored[name] = item
    return restored
