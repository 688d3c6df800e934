"""MemCube: content with its provenance, version, rights, lifetime and use."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple, TypedDict, cast

from memos_agents.cube.canonical import JSON, canonical_json
from memos_agents.cube.metadata import Behavioural, Descriptive, Governance
from memos_agents.cube.moment import iso, utc
from memos_agents.cube.payload import MemoryType, Payload, TextPayload, payload_from_json
from memos_agents.cube.scope import Scope
from memos_agents.cube.state import MemoryState
from memos_agents.errors import IntegrityError


class VersionRef(NamedTuple):
    """One version of one cube: the entity that provenance speaks about."""

    cube_id: str
    version: int

    def __str__(self) -> str:
        return f"{self.cube_id}/v{self.version}"


@dataclass(frozen=True, slots=True, kw_only=True)
class MemCube:
    """One version of one memory. Never edited: a change is a new version that names the one it replaces.

    `metadata` is the caller's own JSON, returned as given. `created_at` is when version 1 was recorded, `recorded_at`
    when this one was, `superseded_at` when it stopped being what we believe (None: it still is). `is_stale` says that
    something it was derived from has changed since; `valid_to` in `descriptive` bounds when it was *true*.
    """

    id: str
    version: int = 1
    scope: Scope
    payload: Payload
    metadata: Mapping[str, JSON] = field(default_factory=dict)
    memory_type: MemoryType = MemoryType.PLAINTEXT
    state: MemoryState = MemoryState.ACTIVATED
    frozen: bool = False
    descriptive: Descriptive = Descriptive()
    governance: Governance = Governance()
    behavioural: Behavioural = Behavioural()
    created_at: datetime
    recorded_at: datetime
    superseded_at: datetime | None = None
    is_stale: bool = False

    def __str__(self) -> str:
        return self.text or f"({self.memory_type.value} memory {self.id}, {self.state.value})"

    @property
    def text(self) -> str:
        """The plaintext; empty for tensors, adapters and erased cubes."""
        return self.payload.text if isinstance(self.payload, TextPayload) else ""

    @property
    def ref(self) -> VersionRef:
        return VersionRef(self.id, self.version)

    @property
    def happened_at(self) -> datetime:
        """Event time if known, else when it was recorded."""
        return self.descriptive.occurred_at or self.recorded_at

    @property
    def expires_at(self) -> datetime | None:
        """When its lifespan ends, if it has one."""
        ttl = self.governance.ttl_seconds
        return None if ttl is None else self.recorded_at + timedelta(seconds=ttl)

    def body(self) -> str:
        """Everything a version fixes for good, as canonical JSON: what is stored and what is hashed."""
        return canonical_json(
            {
                "payload": self.payload.to_json(),
                "metadata": self.metadata,
                "memory_type": self.memory_type.value,
                "descriptive": self.descriptive.to_json(),
                "governance": self.governance.to_json(),
            }
        )

    @property
    def content_hash(self) -> str:
        """SHA-256 of `body()`: equal for equal payload, metadata and headers, whoever owns it and whenever it was."""
        return body_hash(self.body())

    def to_json(self) -> dict[str, JSON]:
        """Lossless; `MemCube.from_json` is its inverse."""
        value: dict[str, JSON] = {
            "id": self.id,
            "version": self.version,
            "scope": self.scope.to_json(),
            "state": self.state.value,
            "frozen": self.frozen,
            "created_at": iso(self.created_at),
            "recorded_at": iso(self.recorded_at),
            "superseded_at": iso(self.superseded_at) if self.superseded_at else None,
            "is_stale": self.is_stale,
            "behavioural": self.behavioural.to_json(),
            "content_hash": self.content_hash,
        }
        value.update(json.loads(self.body()))
        return value

    @classmethod
    def from_json(cls, value: Mapping[str, JSON]) -> MemCube:
        """Read what `to_json` wrote; `IntegrityError` if the content does not match its hash."""
        behavioural = dict(cast("Mapping[str, JSON]", value.get("behavioural") or {}))
        if "last_used_at" in behavioural:
            behavioural["last_used_at"] = cast(JSON, utc(behavioural["last_used_at"], what="last_used_at"))
        behavioural["version_chain"] = cast(JSON, tuple(cast("list[int]", behavioural.get("version_chain", []))))
        cube = cls(
            id=cast(str, value["id"]),
            version=cast(int, value["version"]),
            scope=Scope(**cast("dict[str, str]", value["scope"])),  # type: ignore[arg-type]  # a bool field is never there
            state=MemoryState(cast(str, value["state"])),
            frozen=cast(bool, value["frozen"]),
            created_at=utc(value["created_at"], what="created_at"),
            recorded_at=utc(value["recorded_at"], what="recorded_at"),
            superseded_at=utc(value["superseded_at"], what="superseded_at") if value.get("superseded_at") else None,
            is_stale=bool(value.get("is_stale", False)),
            behavioural=Behavioural(**behavioural),  # type: ignore[arg-type]  # names come from to_json
            **unpack_body(value),
        )
        expected = value.get("content_hash")
        if expected is not None and expected != cube.content_hash:
            raise IntegrityError(
                f"cube {cube.id!r} version {cube.version} has content hash {cube.content_hash!r} but says "
                f"{expected!r}; the JSON was changed after it was written",
                cube_id=cube.id,
            )
        return cube


class Body(TypedDict):
    """What a body holds, by the names that `MemCube` takes."""

    payload: Payload
    metadata: Mapping[str, JSON]
    memory_type: MemoryType
    descriptive: Descriptive
    governance: Governance


def empty_body(memory_type: MemoryType) -> Body:
    """What is left of an erased version: nothing."""
    return {
        "payload": TextPayload(""),
        "metadata": {},
        "memory_type": memory_type,
        "descriptive": Descriptive(),
        "governance": Governance(),
    }


def is_current(cube: MemCube, now: datetime) -> bool:
    """Whether a head may be shown: activated, believed, not stale, its lifespan not over."""
    return (
        cube.state is MemoryState.ACTIVATED
        and cube.superseded_at is None
        and not cube.is_stale
        and (cube.expires_at is None or cube.expires_at > now)
    )


def body_hash(body: str) -> str:
    """SHA-256 of a canonical body, as 64 hexadecimal digits."""
    return hashlib.sha256(body.encode()).hexdigest()


def unpack_body(value: Mapping[str, JSON]) -> Body:
    """The constructor arguments that a parsed body gives."""
    return {
        "payload": payload_from_json(cast("Mapping[str, JSON]", value["payload"])),
        "metadata": cast("Mapping[str, JSON]", value["metadata"]),
        "memory_type": MemoryType(cast(str, value["memory_type"])),
        "descriptive": Descriptive.from_json(cast("Mapping[str, JSON]", value["descriptive"])),
        "governance": Governance.from_json(cast("Mapping[str, JSON]", value["governance"])),
    }
