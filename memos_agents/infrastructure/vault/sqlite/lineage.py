"""Lineage: the neighbours of versions for `provenance.graph.walk`, and the graph that it spans."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from typing import Literal

from memos_agents.cube.memcube import VersionRef
from memos_agents.cube.moment import from_microseconds
from memos_agents.cube.scope import Scope
from memos_agents.errors import NotFound
from memos_agents.infrastructure.provenance.graph import EntityNode, ProvenanceGraph, label_of, walk
from memos_agents.infrastructure.provenance.values import Activity, Agent, Derivation, Source
from memos_agents.infrastructure.vault.base import Direction
from memos_agents.infrastructure.vault.sqlite.engine import chunks
from memos_agents.infrastructure.vault.sqlite.reading import Reader
from memos_agents.infrastructure.vault.sqlite.schema import STATES, TYPES


class Lineage:
    """One lineage question over one connection's moment."""

    def __init__(self, reader: Reader, connection: sqlite3.Connection, scope: Scope) -> None:
        self._reader, self._db, self._scope = reader, connection, scope
        self._owner, self._values = reader.owner(connection, scope)
        self._rids: dict[VersionRef, int] = {}
        self._edges: dict[tuple[int, int], list[str]] = {}
        self._revisions: set[tuple[VersionRef, VersionRef]] = set()
        self._climbed: list[VersionRef] = []

    def graph(self, ref: VersionRef, direction: Direction, depth: int | None) -> ProvenanceGraph:
        if not self._know([ref]):
            raise NotFound(f"there is no version {ref.version} of cube {ref.cube_id!r}")
        refs, truncated = walk(ref, direction, depth, self._neighbours)
        walked = set(refs)
        by_rid = {self._rids[item]: item for item in refs}
        derivations = self._derivations(by_rid)
        sources = self._sources([self._rids[item] for item in self._climbed if item in walked], by_rid)
        relations = [
            record.relation for record in self._reader.relations(self._db, [ref.cube_id], self._scope, removed=False)
        ]
        ends = {end for relation in relations for end in (relation.source_id, relation.target_id)} - {ref.cube_id}
        heads = self._reader.heads(self._db, sorted(ends), self._scope)
        nodes = self._nodes([*by_rid, *self._know([head.ref for head in heads.values()])])
        activities = {name for node in nodes for name in (node.generated_by, node.invalidated_by) if name}
        return ProvenanceGraph.build(
            ref,
            entities=nodes,
            sources=(source for source, _ in sources),
            activities=self._activities(sorted(activities)),
            derivations=[*derivations, *(edge for _, edge in sources)],
            revisions=self._pairs(walked),
            relations=relations,
            truncated=truncated,
        )

    def _neighbours(
        self, frontier: Sequence[VersionRef], way: Literal["up", "down"]
    ) -> Iterable[tuple[VersionRef, VersionRef]]:
        rids = {self._rids[ref]: ref for ref in frontier}
        here, there, step = ("derived", "source", -1) if way == "up" else ("source", "derived", 1)
        if way == "up":
            self._climbed.extend(frontier)
        found = []
        for marks, piece in chunks(list(rids)):
            rows = self._db.execute(
                f"SELECT d.{here}, c.id, v.n, v.rid FROM derivation d JOIN version v ON v.rid = d.{there} "
                f"JOIN cube c ON c.rid = v.cube WHERE d.{here} IN ({marks}) AND {self._owner}",
                (*piece, *self._values),
            )
            for rid, cube_id, number, other in rows.fetchall():
                ref = VersionRef(cube_id, number)
                self._rids[ref] = other
                found.append((rids[rid], ref))
            rows = self._db.execute(
                "SELECT o.rid, v.n, v.rid FROM version o JOIN version v ON v.cube = o.cube AND v.n = o.n + ? WHERE "
                f"o.rid IN ({marks})",
                (step, *piece),
            )
            for rid, number, other in rows.fetchall():
                ref = VersionRef(rids[rid].cube_id, number)
                self._rids[ref] = other
                found.append((rids[rid], ref))
        return found

    def _know(self, refs: Sequence[VersionRef]) -> list[int]:
        rids = []
        owner, values = self._reader.owner_by_id(self._db, self._scope)
        for ref in refs:
            row = self._db.execute(
                f"SELECT v.rid FROM cube c JOIN version v ON v.cube = c.rid WHERE {owner} AND c.id = ? AND v.n = ?",
                (*values, *ref),
            ).fetchone()
            if row is not None:
                self._rids[ref] = row[0]
                rids.append(row[0])
        return rids

    def _derivations(self, by_rid: dict[int, VersionRef]) -> list[Derivation]:
        found = []
        for marks, piece in chunks(list(by_rid)):
            rows = self._db.execute(f"SELECT derived, source, kind FROM derivation WHERE derived IN ({marks})", piece)
            for derived, source, kind in rows.fetchall():
                if source in by_rid:
                    found.append(Derivation(derived=by_rid[derived], source=by_rid[source], kind=kind))
        return found

    def _sources(self, rids: list[int], by_rid: dict[int, VersionRef]) -> list[tuple[Source, Derivation]]:
        found = []
        for marks, piece in chunks(rids):
            rows = self._db.execute(
                "SELECT e.derived, e.kind, s.id, s.kind, s.locator, s.sha256 FROM evidence e "
                f"JOIN source s ON s.rid = e.source WHERE e.derived IN ({marks})",
                piece,
            )
            for derived, edge, source_id, kind, locator, sha256 in rows.fetchall():
                source = Source(id=source_id, kind=kind, locator=locator, sha256=sha256)
                found.append((source, Derivation(derived=by_rid[derived], source=source_id, kind=edge)))
        return found

    def _pairs(self, walked: set[VersionRef]) -> list[tuple[VersionRef, VersionRef]]:
        older = ((ref, VersionRef(ref.cube_id, ref.version - 1)) for ref in walked)
        return [(ref, before) for ref, before in older if before in walked]

    def _nodes(self, rids: Iterable[int]) -> list[EntityNode]:
        nodes = []
        for marks, piece in chunks(list(dict.fromkeys(rids))):
            rows = self._db.execute(
                "SELECT c.id, v.n, v.memory_type, c.state, v.hash, v.recorded_us, v.superseded_us, v.stale, g.id, "
                "e.id, "
                "substr(json_extract(v.body, '$.payload.text'), 1, 400) FROM version v JOIN cube c ON c.rid = v.cube "
                "JOIN activity g ON g.rid = v.activity LEFT JOIN activity e ON e.rid = v.ended_by WHERE v.rid IN "
                f"({marks})",
                piece,
            )
            for cube_id, number, kind, state, digest, recorded, superseded, stale, made, ended, text in rows.fetchall():
                nodes.append(
                    EntityNode(
                        ref=VersionRef(cube_id, number),
                        memory_type=TYPES[kind],
                        state=STATES[state],
                        content_hash=digest.hex(),
                        recorded_at=from_microseconds(recorded),
                        superseded_at=None if superseded is None else from_microseconds(superseded),
                        is_stale=bool(stale),
                        generated_by=made,
                        invalidated_by=ended,
                        label=label_of(text or ""),
                    )
                )
        return nodes

    def _activities(self, ids: list[str]) -> list[Activity]:
        found = []
        tenant = self._reader.names.tenant(self._db)
        for marks, piece in chunks(ids):
            rows = self._db.execute(
                "SELECT x.id, x.kind, x.agent_id, x.agent_kind, x.agent_name, x.started_us, x.parameters, "
                "EXISTS (SELECT 1 FROM touched t JOIN cube c ON c.rid = t.cube WHERE t.activity = x.rid AND NOT "
                f"({self._owner})) "
                f"FROM activity x WHERE x.tenant = ? AND x.id IN ({marks})",
                (*self._values, tenant, *piece),
            )
            for activity_id, kind, agent_id, agent_kind, agent_name, started, parameters, is_shared in rows.fetchall():
                found.append(
                    Activity(
                        id=activity_id,
                        kind=kind,
                        started_at=from_microseconds(started),
                        agent=Agent(id=agent_id, kind=agent_kind, name=agent_name),
                        parameters={} if is_shared and not self._scope.is_everything else json.loads(parameters),
                    )
                )
        return found
