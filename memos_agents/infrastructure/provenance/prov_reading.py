"""Reads W3C PROV-JSON: what `prov_json` wrote without loss, other systems' documents as far as they have a place here.

Names are compared as URIs, so it does not matter which prefixes a document chose or who wrote it again. Nothing is
dropped silently: a statement without a place is reported in words.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import cast, get_args
from urllib.parse import unquote
from uuid import NAMESPACE_URL, uuid5

from memos_agents.cube.canonical import JSON
from memos_agents.cube.memcube import VersionRef
from memos_agents.cube.payload import MemoryType
from memos_agents.cube.state import MemoryState
from memos_agents.errors import InvalidRequest
from memos_agents.infrastructure.provenance.parts import LABEL_LENGTH, EntityNode, GraphParts, label_of
from memos_agents.infrastructure.provenance.prov_document import PROV, ProvDocument, Record
from memos_agents.infrastructure.provenance.prov_json import LINEAGE, NAMESPACES
from memos_agents.infrastructure.provenance.values import (
    Activity,
    Agent,
    AgentKind,
    Derivation,
    Relation,
    RelationKind,
    Source,
)

_VERSION = re.compile(re.escape(NAMESPACES["cube"]) + r"([^/]*)/v([1-9][0-9]*)")
_KINDS = frozenset(
    "entity activity agent wasDerivedFrom wasGeneratedBy used wasAttributedTo wasAssociatedWith wasInvalidatedBy "
    "wasInfluencedBy specializationOf".split()
)
_UNKNOWN = Agent(id="unknown", kind="system")


def read_prov_json(document: Mapping[str, JSON]) -> tuple[GraphParts, list[str]]:
    """The parts of the lineage, unsorted, and a sentence about every statement that has no place in it.

    Raises `InvalidRequest` if `document` is not shaped like PROV-JSON or holds nothing that can be a version.
    """
    reading = _Reading(ProvDocument(document))
    return reading.parts(), reading.unplaced


class _Reading:
    """One pass over a document; entities by URI, because a foreign name says nothing about what it names."""

    def __init__(self, document: ProvDocument) -> None:
        self._document = document
        self.unplaced: list[str] = []
        self._made = self._by_entity("wasGeneratedBy")
        self._ended = self._by_entity("wasInvalidatedBy")
        self._activities: dict[str, Activity] = {}
        self._nodes: dict[str, EntityNode] = {}
        self._sources: dict[str, Source] = {}
        self._derivations: list[Derivation] = []
        self._revisions: list[tuple[VersionRef, VersionRef]] = []
        self._relations: list[Relation] = []

    def parts(self) -> GraphParts:
        self._read_activities()
        lineage = self._read_entities()
        self._read_derivations()
        self._read_relations()
        self._check_implied()
        for kind in self._document.kinds:
            if kind not in _KINDS:
                for record in self._document.records(kind):
                    self._leave(record, "a lineage has no such statement")
        return GraphParts(
            root=self._root(lineage),
            entities=tuple(self._nodes.values()),
            sources=tuple(self._sources.values()),
            activities=tuple(self._activities.values()),
            derivations=tuple(self._derivations),
            revisions=tuple(self._revisions),
            relations=tuple(self._relations),
            truncated=lineage is not None and lineage.is_true("memos:truncated"),
        )

    def _root(self, lineage: Record | None) -> VersionRef:
        root = _version_of(lineage.name("memos:root")) if lineage else None
        if root is not None:
            return root
        if not self._nodes:
            raise InvalidRequest("this PROV-JSON has no entity with a time of generation, so it holds no lineage")
        return max(self._nodes.values(), key=lambda node: (node.recorded_at, node.ref)).ref

    def _read_activities(self) -> None:
        agents = {record.uri: _agent(record.uri, record) for record in self._document.records("agent")}
        doers: dict[str, Agent] = {}
        active = set()
        for record in self._document.records("wasAssociatedWith"):
            activity, agent_uri = record.name("prov:activity"), record.name("prov:agent")
            if not activity or not agent_uri or activity in doers:
                self._leave(record, "an activity has exactly one agent here")
                continue
            agent = agents.get(agent_uri) or _agent(agent_uri, None)
            if "memos:agent" in record.attributes:
                spelled = record.mapping("memos:agent")
                name, kind = spelled.get("name"), _agent_kind(spelled.get("kind"))
                agent = Agent(id=agent.id, kind=kind, name=None if name is None else str(name))
            doers[activity] = agent
            active.add(agent_uri)
        for record in self._document.records("agent"):
            if record.uri not in active:
                self._leave(record, "no activity is associated with it")
        made_at: dict[str, datetime] = {}
        for record in self._made.values():
            if (time := self._time(record, "prov:time")) is not None:
                activity = record.name("prov:activity")
                made_at[activity] = min(time, made_at.get(activity, time))
        for record in self._document.records("activity"):
            started = (
                self._time(record, "prov:startTime") or self._time(record, "prov:endTime") or made_at.get(record.uri)
            )
            if started is None:
                self._leave(record, "no time is given")
                continue
            self._activities[record.uri] = Activity(
                id=_activity_id(record.uri),
                kind=record.text("memos:kind") or _last(record.text("prov:type") or "activity"),
                started_at=started,
                agent=doers.get(record.uri, _UNKNOWN),
                parameters=record.mapping("memos:parameters"),
            )

    def _read_entities(self) -> Record | None:
        lineage = None
        for record in self._document.records("entity"):
            ref = _version_of(record.uri)
            if record.uri == self._document.uri(LINEAGE):
                lineage = record
            elif ref is not None:
                self._nodes[record.uri] = self._version(ref, record)
            elif (source_id := _own(record.uri, "source")) is not None:
                kind, locator = record.text("memos:kind") or "", record.text("memos:locator") or ""
                source = Source(id=source_id, kind=kind, locator=locator, sha256=record.text("memos:sha256"))
                self._sources[record.uri] = source
            elif _own(record.uri, "cube") is None:
                self._read_foreign(record)
        for told in (self._made, self._ended):
            for uri, record in told.items():
                if uri not in self._nodes:
                    self._leave(record, "its entity is not a version here")
        return lineage

    def _version(self, ref: VersionRef, record: Record) -> EntityNode:
        recorded_at = record.time("memos:recorded_at")
        try:
            memory_type = MemoryType(record.text("memos:memory_type") or "")
            state = MemoryState(record.text("memos:state") or "")
        except ValueError as error:
            raise InvalidRequest(f"the entity {record.uri} is not a complete version: {error}") from error
        if recorded_at is None:
            raise InvalidRequest(f"the entity {record.uri} is not a complete version: 'memos:recorded_at' is missing")
        return EntityNode(
            ref=ref,
            memory_type=memory_type,
            state=state,
            content_hash=record.text("memos:content_hash") or "",
            recorded_at=recorded_at,
            superseded_at=record.time("memos:superseded_at"),
            is_stale=record.is_true("memos:is_stale"),
            generated_by=self._activity_of(self._made.get(record.uri)),
            invalidated_by=self._activity_of(self._ended.get(record.uri)),
            label=(record.text("prov:label") or "")[:LABEL_LENGTH],
        )

    def _read_foreign(self, record: Record) -> None:
        made, ended = self._made.get(record.uri), self._ended.get(record.uri)
        maker = self._activities.get(made.name("prov:activity")) if made else None
        recorded_at = (self._time(made, "prov:time") if made else None) or (maker.started_at if maker else None)
        if recorded_at is None:
            kind = _last(record.text("prov:type") or "entity")
            self._sources[record.uri] = Source(
                id=record.uri, kind=kind, locator=record.text("prov:location") or record.uri
            )
            return
        self._nodes[record.uri] = EntityNode(
            ref=VersionRef(str(uuid5(NAMESPACE_URL, record.uri)), 1),
            memory_type=MemoryType.PLAINTEXT,
            state=MemoryState.ACTIVATED,
            content_hash="",
            recorded_at=recorded_at,
            superseded_at=self._time(ended, "prov:time") if ended else None,
            generated_by=self._activity_of(made),
            invalidated_by=self._activity_of(ended),
            label=label_of(record.text("prov:label") or record.uri),
        )

    def _read_derivations(self) -> None:
        for record in self._document.records("wasDerivedFrom"):
            derived = self._place_of(record.name("prov:generatedEntity"))
            source = self._place_of(record.name("prov:usedEntity"))
            kind = record.text("memos:derivation")
            is_revision = kind is None and record.name("prov:type") == f"{PROV}Revision"
            if not isinstance(derived, VersionRef) or source is None:
                self._leave(record, "an end is no version here, for want of a time of generation")
            elif is_revision and isinstance(source, VersionRef) and source.cube_id == derived.cube_id:
                self._revisions.append((derived, source))
            else:
                kind = kind or ("revision" if is_revision else "derive")
                self._derivations.append(Derivation(derived=derived, source=source, kind=kind))

    def _read_relations(self) -> None:
        for record in self._document.records("wasInfluencedBy"):
            source, target = _own(record.name("prov:influencer"), "cube"), _own(record.name("prov:influencee"), "cube")
            kind = record.text("memos:relation")
            if source is None or target is None or kind is None or kind not in RelationKind.__members__:
                self._leave(record, "it is not a relation between cubes")
                continue
            properties = record.mapping("memos:properties")
            relation = Relation(source_id=source, kind=RelationKind(kind), target_id=target, properties=properties)
            self._relations.append(relation)

    def _check_implied(self) -> None:
        """Report usages, attributions and specialisations that do not follow from what was placed."""
        makers = {node.ref: node.generated_by for node in self._nodes.values()}
        used = {(makers.get(each.derived), each.source) for each in self._derivations}
        doers = {activity.id: activity.agent.id for activity in self._activities.values()}
        for record in self._document.records("used"):
            if (self._activity_of(record), self._place_of(record.name("prov:entity"))) not in used:
                self._leave(record, "nothing that this activity made is said to derive from it")
        for record in self._document.records("wasAttributedTo"):
            node = self._nodes.get(record.name("prov:entity"))
            if node is None or doers.get(node.generated_by or "") != _agent(record.name("prov:agent"), None).id:
                self._leave(record, "the agent is not the one whose activity made the entity")
        for record in self._document.records("specializationOf"):
            version = _version_of(record.name("prov:specificEntity"))
            if version is None or _own(record.name("prov:generalEntity"), "cube") != version.cube_id:
                self._leave(record, "only a version specialises its cube here")

    def _place_of(self, uri: str) -> VersionRef | str | None:
        """The version or the id of the source behind a URI; ours need not be described in the document."""
        if uri in self._nodes:
            return self._nodes[uri].ref
        if uri in self._sources:
            return self._sources[uri].id
        return _version_of(uri) or _own(uri, "source")

    def _by_entity(self, kind: str) -> dict[str, Record]:
        found: dict[str, Record] = {}
        for record in self._document.records(kind):
            if found.setdefault(record.name("prov:entity"), record) is not record:
                self._leave(record, "an entity is made once and ends once here")
        return found

    def _activity_of(self, record: Record | None) -> str | None:
        uri = record.name("prov:activity") if record else ""
        return _activity_id(uri) if uri else None

    def _time(self, record: Record, name: str) -> datetime | None:
        """A time of a foreign document, where one without a zone is reported and left out."""
        try:
            return record.time(name)
        except InvalidRequest as error:
            if (complaint := str(error)) not in self.unplaced:
                self.unplaced.append(complaint)
            return None

    def _leave(self, record: Record, why: str) -> None:
        self.unplaced.append(f"{record.kind} {record.uri}: {why}")


def _agent(uri: str, record: Record | None) -> Agent:
    ours = _own(uri, "agent")
    agent_id = uri if ours is None else ours
    if record is None:
        return Agent(id=agent_id)
    is_person = record.name("prov:type") == f"{PROV}Person"
    kind = record.text("memos:agent_kind") or ("user" if is_person else "application")
    return Agent(id=agent_id, kind=_agent_kind(kind), name=record.text("prov:label"))


def _agent_kind(kind: JSON) -> AgentKind:
    if kind not in get_args(AgentKind):
        raise InvalidRequest(f"{kind!r} is not a kind of agent; known: {sorted(get_args(AgentKind))}")
    return cast(AgentKind, kind)


def _activity_id(uri: str) -> str:
    ours = _own(uri, "activity")
    return uri if ours is None else ours


def _version_of(uri: str) -> VersionRef | None:
    found = _VERSION.fullmatch(uri)
    return VersionRef(unquote(found[1]), int(found[2])) if found else None


def _own(uri: str, prefix: str) -> str | None:
    """What stands behind one of our own names, or None for another one."""
    base = NAMESPACES[prefix]
    return unquote(uri.removeprefix(base)) if uri.startswith(base) else None


def _last(name: str) -> str:
    return re.split(r"[:#/]", name)[-1] or name
