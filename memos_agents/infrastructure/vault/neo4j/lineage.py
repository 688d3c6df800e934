"""Lineage: several steps of `provenance.graph.walk` in one round trip, and the graph that it spans.

Three statements answer most questions: the root with its first three steps, what is shown of the versions found, and,
where it goes on, six more steps. Wide steps (from hundreds of versions, or to thousands) are asked for one by one.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from memos_agents.cube.memcube import VersionRef
from memos_agents.cube.moment import from_microseconds
from memos_agents.cube.payload import MemoryType
from memos_agents.cube.scope import Scope
from memos_agents.cube.state import MemoryState
from memos_agents.errors import NotFound
from memos_agents.infrastructure.provenance.graph import (
    LABEL_LENGTH,
    NODE_LIMIT,
    EntityNode,
    ProvenanceGraph,
    label_of,
    walk,
)
from memos_agents.infrastructure.provenance.values import Activity, Derivation, Relation, Source
from memos_agents.infrastructure.vault.base import Direction
from memos_agents.infrastructure.vault.neo4j import cypher_reading as cypher
from memos_agents.infrastructure.vault.neo4j.link import Tx
from memos_agents.infrastructure.vault.neo4j.reading import (
    Reader,
    activity_of,
    chunks,
    moment,
    owners_of,
    pairs_of,
    relation_of,
)

_MOST_PAIRS: Final = 2_000
_NARROW: Final = 200
_WIDE_CHUNK: Final = 2_500
_MOST_REACHED: Final = 2 * NODE_LIMIT + 1
"""A walk knows `NODE_LIMIT` versions at most, so among the first of this many are enough that it has not seen."""
_NO_END: Final = 1 << 31

_TEXT_START, _TEXT_END = '"payload":{"text":"', '"}}'
"""How the text begins in a canonical body and how such a body ends; inside a JSON string every quote is escaped."""
_LABEL_CHARACTERS: Final = 2_000
"""More than the escaped form of everything that can stand in a label: six characters for one."""


def graph(
    tx: Tx, reader: Reader, ref: VersionRef, direction: Direction, depth: int | None, scope: Scope
) -> ProvenanceGraph:
    """What `ref` came from, what came of it, or both; `NotFound` if `scope` does not admit it.

    Three hops cost two round trips, whatever the size of the graph. A lineage of 10,000 versions, the most that is
    told, costs one for each 2,500 of them and of each step's frontier.
    """
    return _Lineage(tx, scope).graph(ref, direction, depth, is_ours=reader.is_ours(scope))


class _Lineage:
    """One question."""

    def __init__(self, tx: Tx, scope: Scope) -> None:
        self._tx, self._scope, self._owners = tx, scope, owners_of(scope)
        self._known: dict[cypher.Way, dict[VersionRef, list[VersionRef]]] = {"up": {}, "down": {}}
        self._asked: dict[cypher.Way, int] = {"up": 0, "down": 0}
        self._climbed: set[VersionRef] = set()
        self._depth = _NO_END

    def graph(self, ref: VersionRef, direction: Direction, depth: int | None, *, is_ours: bool) -> ProvenanceGraph:
        self._depth = _NO_END if depth is None else depth
        row = None
        if is_ours and pairs_of([ref]):
            row = self._tx.one(
                cypher.FIRST_STEPS[direction],
                id=ref.cube_id,
                n=ref.version,
                most=_MOST_PAIRS,
                depth=self._depth,
                **self._owners,
            )
        if row is None:
            raise NotFound(f"there is no version {ref.version} of cube {ref.cube_id!r}", cube_id=ref.cube_id)
        stated, ups, downs = row
        self._learn("up", ups)
        self._learn("down", downs)
        walked, truncated = walk(ref, direction, depth, self._neighbours)
        relations = [relation_of(*values[:4]) for values in stated]
        others = [VersionRef(*values[4:]) for values in stated]
        return self._built(ref, walked, relations, others, truncated=truncated)

    def _neighbours(self, frontier: Sequence[VersionRef], way: cypher.Way) -> Iterator[tuple[VersionRef, VersionRef]]:
        known = self._known[way]
        missing = [ref for ref in frontier if ref not in known]
        if missing:
            self._ask(missing, way)
        self._asked[way] += 1
        if way == "up":
            self._climbed.update(frontier)
        for ref in frontier:
            for neighbour in known[ref]:
                yield ref, neighbour

    def _ask(self, refs: list[VersionRef], way: cypher.Way) -> None:
        known = self._known[way]
        if len(refs) <= _NARROW:
            row = self._tx.one(
                cypher.NEXT_STEPS[way],
                refs=pairs_of(refs),
                most=_MOST_PAIRS,
                depth=self._depth - self._asked[way],
                **self._owners,
            )
            self._learn(way, row[2] if row else ())
        wide = [ref for ref in refs if ref not in known]
        for pairs in chunks(pairs_of(wide), _WIDE_CHUNK):
            rows = self._tx.rows(cypher.WIDE_STEP[way], refs=pairs, most=_MOST_REACHED, **self._owners)
            known.setdefault(wide[0], []).extend(VersionRef(cube_id, number) for cube_id, number in rows)
        for ref in wide:  # which of them led where is not asked: a walk wants to know where all of them lead
            known.setdefault(ref, [])

    def _learn(self, way: cypher.Way, steps: Iterable[Sequence[Any]]) -> None:
        """Remember the steps that are complete."""
        known = self._known[way]
        for origins, pairs in steps:
            if len(pairs) >= _MOST_PAIRS:
                return
            for cube_id, number in origins:
                known.setdefault(VersionRef(cube_id, number), [])
            reached: dict[VersionRef, list[VersionRef]] = {}
            for cube_id, number, other_id, other_number in pairs:
                reached.setdefault(VersionRef(cube_id, number), []).append(VersionRef(other_id, other_number))
            known.update(reached)

    def _built(
        self,
        root: VersionRef,
        walked: list[VersionRef],
        relations: list[Relation],
        others: list[VersionRef],
        *,
        truncated: bool,
    ) -> ProvenanceGraph:
        inside = set(walked)
        entities: list[EntityNode] = []
        activities: list[Activity] = []
        derivations: list[Derivation] = []
        sources: list[Source] = []
        wanted = [[*ref, ref in inside and ref in self._climbed] for ref in dict.fromkeys((*walked, *others))]
        for refs in chunks(wanted, _WIDE_CHUNK):
            row = self._tx.one(
                cypher.LINEAGE_NODES,
                refs=refs,
                text_start=_TEXT_START,
                text_end=_TEXT_END,
                label_characters=_LABEL_CHARACTERS,
                whole=self._scope.is_everything,
                **self._owners,
            )
            nodes, done = row or ((), ())
            activities.extend(activity_of(values)[0] for values in done)
            for *values, origins, evidence in nodes:
                node = _node(values)
                entities.append(node)
                if node.ref in inside:
                    derivations.extend(
                        Derivation(derived=node.ref, source=VersionRef(cube_id, number), kind=kind)
                        for cube_id, number, kind in origins
                        if (cube_id, number) in inside
                    )
                for source_id, source_kind, locator, sha256, kind in evidence:
                    sources.append(Source(id=source_id, kind=source_kind, locator=locator, sha256=sha256))
                    derivations.append(Derivation(derived=node.ref, source=source_id, kind=kind))
        older = ((ref, VersionRef(ref.cube_id, ref.version - 1)) for ref in walked)
        return ProvenanceGraph.build(
            root,
            entities=entities,
            sources=sources,
            activities=activities,
            derivations=derivations,
            revisions=[(ref, before) for ref, before in older if before in inside],
            relations=relations,
            truncated=truncated,
        )


def _node(values: Sequence[Any]) -> EntityNode:
    cube_id, number, kind, state, digest, recorded_us, superseded_us, is_stale, made, ended, text = values
    return EntityNode(
        ref=VersionRef(cube_id, number),
        memory_type=MemoryType(kind),
        state=MemoryState(state),
        content_hash=digest,
        recorded_at=from_microseconds(recorded_us),
        superseded_at=moment(superseded_us),
        is_stale=is_stale,
        generated_by=made,
        invalidated_by=ended,
        label=label_of(_beginning(text)),
    )


def _beginning(raw: str | None) -> str:
    """The text that `raw`, the inside of a JSON string, begins with; the cut may have gone through an escape."""
    if raw is None:
        return ""
    raw = raw.removesuffix(_TEXT_END)
    for left in range(len(raw), max(len(raw) - 7, -1), -1):
        try:
            return str(json.loads('"' + raw[:left] + '"'))[: LABEL_LENGTH * 4]
        except json.JSONDecodeError:
            continue
    return ""
