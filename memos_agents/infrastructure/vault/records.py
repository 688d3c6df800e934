"""Records: one vault-neutral JSON line for each thing a vault holds.

A vault makes lines and writes them with `to_record`, in the order of `KINDS`; `record_reading` is the inverse.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar, TypeAlias, cast

from memos_agents.cube.canonical import JSON
from memos_agents.cube.memcube import VersionRef
from memos_agents.cube.moment import iso
from memos_agents.cube.payload import MemoryType
from memos_agents.cube.scope import Scope
from memos_agents.cube.state import MemoryState
from memos_agents.infrastructure.provenance.values import (
    Activity,
    Derivation,
    Relation,
    RelationKind,
    Source,
)

Record: TypeAlias = dict[str, JSON]
KINDS = ("activity", "source", "cube", "version", "derivation", "relation", "vector")
AGENT_KINDS = ("user", "assistant", "model", "application", "system")


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivityLine:
    """An activity and the time of its commit."""

    kind: ClassVar[str] = "activity"
    activity: Activity
    at: datetime

    def to_record(self) -> Record:
        agent = self.activity.agent
        return {
            "kind": self.kind,
            "id": self.activity.id,
            "activity": self.activity.kind,
            "agent": {"id": agent.id, "kind": agent.kind, "name": agent.name},
            "started_at": iso(self.activity.started_at),
            "at": iso(self.at),
            "parameters": self.activity.parameters,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceLine:
    """Evidence outside the store."""

    kind: ClassVar[str] = "source"
    source: Source

    def to_record(self) -> Record:
        source = self.source
        return {
            "kind": self.kind,
            "id": source.id,
            "source": source.kind,
            "locator": source.locator,
            "sha256": source.sha256,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class CubeLine:
    """What belongs to a cube and not to one of its versions."""

    kind: ClassVar[str] = "cube"
    id: str
    scope: Scope
    state: MemoryState
    frozen: bool
    created_at: datetime
    use_count: int = 0
    last_used_at: datetime | None = None

    def to_record(self) -> Record:
        return {
            "kind": self.kind,
            "id": self.id,
            "scope": cast("Mapping[str, JSON]", self.scope.to_json()),
            "state": self.state.value,
            "frozen": self.frozen,
            "created_at": iso(self.created_at),
            "uses": {"count": self.use_count, "last_at": _iso_or_none(self.last_used_at)},
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionLine:
    """One version; `body` is canonical, None once erased. `ended_by`: what invalidated or erased it."""

    kind: ClassVar[str] = "version"
    ref: VersionRef
    hash: str
    body: str | None
    memory_type: MemoryType
    recorded_at: datetime
    superseded_at: datetime | None
    is_stale: bool
    activity_id: str
    ended_by: str | None = None

    @property
    def has_changed(self) -> bool:
        """Whether what was derived from it is stale."""
        return self.superseded_at is not None or self.is_stale

    def to_record(self) -> Record:
        return {
            "kind": self.kind,
            "cube": self.ref.cube_id,
            "version": self.ref.version,
            "hash": self.hash,
            "body": None if self.body is None else json.loads(self.body),
            "memory_type": self.memory_type.value,
            "recorded_at": iso(self.recorded_at),
            "superseded_at": _iso_or_none(self.superseded_at),
            "is_stale": self.is_stale,
            "activity": self.activity_id,
            "ended_by": self.ended_by,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class DerivationLine:
    """A derivation and the activity that stated it."""

    kind: ClassVar[str] = "derivation"
    derivation: Derivation
    activity_id: str

    def to_record(self) -> Record:
        source = self.derivation.source
        return {
            "kind": self.kind,
            "derived": list(self.derivation.derived),
            "source": list(source) if isinstance(source, VersionRef) else source,
            "derivation": self.derivation.kind,
            "activity": self.activity_id,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class RelationLine:
    """A relation with its times."""

    kind: ClassVar[str] = "relation"
    relation: Relation
    recorded_at: datetime
    removed_at: datetime | None
    activity_id: str

    @property
    def triple(self) -> tuple[str, RelationKind, str]:
        return self.relation.source_id, self.relation.kind, self.relation.target_id

    def to_record(self) -> Record:
        relation = self.relation
        return {
            "kind": self.kind,
            "source": relation.source_id,
            "relation": relation.kind.value,
            "target": relation.target_id,
            "properties": relation.properties,
            "recorded_at": iso(self.recorded_at),
            "removed_at": _iso_or_none(self.removed_at),
            "activity": self.activity_id,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class VectorLine:
    """One vector as it is kept (see `columns.pack_vector`)."""

    kind: ClassVar[str] = "vector"
    ref: VersionRef
    space: str
    dimension: int
    data: bytes

    def to_record(self) -> Record:
        return {
            "kind": self.kind,
            "cube": self.ref.cube_id,
            "version": self.ref.version,
            "space": self.space,
            "dimension": self.dimension,
            "data": base64.b64encode(self.data).decode(),
        }


Line: TypeAlias = ActivityLine | SourceLine | CubeLine | VersionLine | DerivationLine | RelationLine | VectorLine


def _iso_or_none(value: datetime | None) -> str | None:
    return None if value is None else iso(value)
