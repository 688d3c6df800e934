"""PROV values: who did what, and what came of what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Literal, TypeAlias

from memos_agents.cube.canonical import JSON
from memos_agents.cube.memcube import VersionRef

AgentKind: TypeAlias = Literal["user", "assistant", "model", "application", "system"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Agent:
    """Somebody or something that acts (prov:Agent)."""

    id: str
    kind: AgentKind = "application"
    name: str | None = None


APPLICATION = Agent(id="application")


@dataclass(frozen=True, slots=True, kw_only=True)
class Activity:
    """Something that was done once (prov:Activity). `parameters` never hold content: they outlive an erasure."""

    id: str
    kind: str
    started_at: datetime
    agent: Agent = APPLICATION
    parameters: Mapping[str, JSON] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Evidence outside the store (prov:Entity): a file, a URL, an imported bundle."""

    id: str
    kind: str
    locator: str
    sha256: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Derivation:
    """`derived` was made from `source`, a version or the id of a `Source` (prov:wasDerivedFrom).

    As soon as `source` is superseded, invalidated or erased, `derived` is stale.
    """

    derived: VersionRef
    source: VersionRef | str
    kind: str = "derive"


class RelationKind(StrEnum):
    """What can hold between two cubes; a closed set, because backends turn it into edge types."""

    MERGED_INTO = "MERGED_INTO"
    SUPERSEDED_BY = "SUPERSEDED_BY"
    CONTRADICTS = "CONTRADICTS"
    RELATES_TO = "RELATES_TO"
    NEXT = "NEXT"
    PART_OF = "PART_OF"
    MENTIONS = "MENTIONS"


@dataclass(frozen=True, slots=True, kw_only=True)
class Relation:
    """A statement about two cubes, `source_id` -> `target_id`."""

    source_id: str
    kind: RelationKind
    target_id: str
    properties: Mapping[str, JSON] = field(default_factory=dict)
