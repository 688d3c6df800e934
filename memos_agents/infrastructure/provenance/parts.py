"""GraphParts: what a lineage consists of, as plain values that the writers of PROV-JSON and of drawings read."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from memos_agents.cube.memcube import VersionRef
from memos_agents.cube.payload import MemoryType
from memos_agents.cube.state import MemoryState
from memos_agents.infrastructure.provenance.values import Activity, Derivation, Relation, Source

LABEL_LENGTH = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class EntityNode:
    """One version as provenance shows it (prov:Entity).

    `label` is the beginning of its text on one line, at most 80 characters, and empty once it is erased.
    `generated_by` and `invalidated_by` are ids of activities; a version that was merely superseded has no
    `invalidated_by`.
    """

    ref: VersionRef
    memory_type: MemoryType
    state: MemoryState
    content_hash: str
    recorded_at: datetime
    superseded_at: datetime | None = None
    is_stale: bool = False
    generated_by: str | None = None
    invalidated_by: str | None = None
    label: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphParts:
    """Versions, outside sources, activities and the edges between them, around `root`.

    `revisions` are (newer, older) pairs of versions of one cube. `truncated`: there is more than was collected. Every
    tuple is sorted (`ProvenanceGraph.build` sees to it), so equal graphs are equal values.
    """

    root: VersionRef
    entities: tuple[EntityNode, ...] = ()
    sources: tuple[Source, ...] = ()
    activities: tuple[Activity, ...] = ()
    derivations: tuple[Derivation, ...] = ()
    revisions: tuple[tuple[VersionRef, VersionRef], ...] = ()
    relations: tuple[Relation, ...] = ()
    truncated: bool = False

    def entity(self, ref: VersionRef) -> EntityNode | None:
        """The node of one version, if the graph holds it. Looks through all of them."""
        return next((node for node in self.entities if node.ref == ref), None)


def label_of(text: str) -> str:
    """The beginning of a text as a label: one line, at most 80 characters.

    >>> label_of("I moved\\n  to Lisbon.")
    'I moved to Lisbon.'
    """
    return " ".join(text[: LABEL_LENGTH * 4].split())[:LABEL_LENGTH].rstrip()
