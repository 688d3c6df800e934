"""Writes a lineage as W3C PROV-JSON (https://www.w3.org/submissions/prov-json/).

A version is a `prov:Entity` that specialises its cube. A new version of the same cube is a `wasDerivedFrom` of type
`prov:Revision`. PROV has no word for CONTRADICTS and its kin: they are `wasInfluencedBy` between cubes with our
attribute `memos:relation`. What PROV cannot say (state, hash, superseded time) is an attribute in our namespace.
"""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import quote

from memos_agents.cube.canonical import JSON, canonical_json
from memos_agents.cube.memcube import VersionRef
from memos_agents.cube.moment import iso
from memos_agents.cube.state import MemoryState
from memos_agents.infrastructure.provenance.parts import EntityNode, GraphParts
from memos_agents.infrastructure.provenance.values import Activity, Agent, Derivation, Source

_BASE = "urn:memos-agents:"
NAMESPACES = {prefix: f"{_BASE}{prefix}:" for prefix in ("memos", "cube", "activity", "agent", "source")}
LINEAGE = "memos:lineage"
"""The entity that says which version the document is about, and whether it is complete."""

_Records = dict[str, JSON]


def write_prov_json(graph: GraphParts) -> dict[str, JSON]:
    """The graph as a document of plain dictionaries, ready for `json.dump`."""
    activities = {activity.id: activity for activity in graph.activities}
    document: dict[str, JSON] = {
        "prefix": dict(NAMESPACES),
        "entity": dict(_entities(graph)),
        "activity": {_name("activity", activity.id): _activity(activity) for activity in graph.activities},
        "agent": {_name("agent", agent.id): _agent(agent) for agent in _agents(graph)},
        "wasDerivedFrom": _numbered("derivation", _derivations(graph)),
        "wasGeneratedBy": _numbered("generation", _generations(graph)),
        "used": _numbered("usage", _usages(graph)),
        "wasAttributedTo": _numbered("attribution", _attributions(graph, activities)),
        "wasAssociatedWith": _numbered("association", _associations(graph)),
        "wasInvalidatedBy": _numbered("invalidation", _invalidations(graph)),
        "wasInfluencedBy": _numbered("relation", _relations(graph)),
        "specializationOf": _numbered("version", _specializations(graph)),
    }
    return {kind: records for kind, records in document.items() if records}


def _entities(graph: GraphParts) -> Iterator[tuple[str, JSON]]:
    yield (
        LINEAGE,
        {
            "prov:type": _term("Lineage"),
            "memos:root": _typed(_version(graph.root), "prov:QUALIFIED_NAME"),
            "memos:truncated": graph.truncated,
        },
    )
    cubes = {node.ref.cube_id for node in graph.entities}
    cubes.update(end for relation in graph.relations for end in (relation.source_id, relation.target_id))
    for cube_id in sorted(cubes):
        yield _name("cube", cube_id), {"prov:type": _term("MemCube")}
    for node in graph.entities:
        yield _version(node.ref), _version_attributes(node)
    for source in graph.sources:
        yield _name("source", source.id), _source_attributes(source)


def _version_attributes(node: EntityNode) -> _Records:
    attributes: _Records = {
        "prov:type": _term("Version"),
        "memos:memory_type": node.memory_type.value,
        "memos:state": node.state.value,
        "memos:content_hash": node.content_hash,
        "memos:recorded_at": _typed(iso(node.recorded_at), "xsd:dateTime"),
        "memos:is_stale": node.is_stale,
    }
    if node.label and node.state is not MemoryState.ERASED:
        attributes["prov:label"] = node.label
    if node.superseded_at is not None:
        attributes["memos:superseded_at"] = _typed(iso(node.superseded_at), "xsd:dateTime")
    return attributes


def _source_attributes(source: Source) -> _Records:
    attributes: _Records = {
        "prov:type": _term("Source"),
        "memos:kind": source.kind,
        "memos:locator": source.locator,
    }
    if source.sha256 is not None:
        attributes["memos:sha256"] = source.sha256
    return attributes


def _activity(activity: Activity) -> _Records:
    return {
        "prov:startTime": iso(activity.started_at),
        "memos:kind": activity.kind,
        "memos:parameters": canonical_json(activity.parameters),
    }


def _agents(graph: GraphParts) -> list[Agent]:
    """Each agent once; where activities spell one agent differently, the association says how."""
    first: dict[str, Agent] = {}
    for activity in graph.activities:
        first.setdefault(activity.agent.id, activity.agent)
    return [first[agent_id] for agent_id in sorted(first)]


def _agent(agent: Agent) -> _Records:
    attributes: _Records = {
        "prov:type": _typed("prov:Person" if agent.kind == "user" else "prov:SoftwareAgent", "prov:QUALIFIED_NAME"),
        "memos:agent_kind": agent.kind,
    }
    if agent.name is not None:
        attributes["prov:label"] = agent.name
    return attributes


def _derivations(graph: GraphParts) -> Iterator[_Records]:
    makers = {node.ref: node.generated_by for node in graph.entities}
    for derivation in graph.derivations:
        record: _Records = {
            "prov:generatedEntity": _version(derivation.derived),
            "prov:usedEntity": _origin(derivation),
            "memos:derivation": derivation.kind,
        }
        maker = makers.get(derivation.derived)
        if maker is not None:
            record["prov:activity"] = _name("activity", maker)
        yield record
    for newer, older in graph.revisions:
        yield {
            "prov:generatedEntity": _version(newer),
            "prov:usedEntity": _version(older),
            "prov:type": _typed("prov:Revision", "prov:QUALIFIED_NAME"),
        }


def _generations(graph: GraphParts) -> Iterator[_Records]:
    for node in graph.entities:
        if node.generated_by is not None:
            yield {
                "prov:entity": _version(node.ref),
                "prov:activity": _name("activity", node.generated_by),
                "prov:time": iso(node.recorded_at),
            }


def _usages(graph: GraphParts) -> Iterator[_Records]:
    makers = {node.ref: node.generated_by for node in graph.entities}
    used = {
        (maker, _origin(derivation))
        for derivation in graph.derivations
        if (maker := makers.get(derivation.derived)) is not None
    }
    for activity_id, entity in sorted(used):
        yield {"prov:activity": _name("activity", activity_id), "prov:entity": entity}


def _attributions(graph: GraphParts, activities: dict[str, Activity]) -> Iterator[_Records]:
    for node in graph.entities:
        activity = activities.get(node.generated_by or "")
        if activity is not None:
            yield {"prov:entity": _version(node.ref), "prov:agent": _name("agent", activity.agent.id)}


def _associations(graph: GraphParts) -> Iterator[_Records]:
    usual = {agent.id: agent for agent in _agents(graph)}
    for activity in graph.activities:
        agent = activity.agent
        record: _Records = {
            "prov:activity": _name("activity", activity.id),
            "prov:agent": _name("agent", agent.id),
        }
        if agent != usual[agent.id]:
            record["memos:agent"] = canonical_json({"kind": agent.kind, "name": agent.name})
        yield record


def _invalidations(graph: GraphParts) -> Iterator[_Records]:
    for node in graph.entities:
        if node.invalidated_by is not None:
            record: _Records = {
                "prov:entity": _version(node.ref),
                "prov:activity": _name("activity", node.invalidated_by),
            }
            # An erased version may have been superseded long before, so its end is not the invalidation's time.
            if node.superseded_at is not None and node.state is not MemoryState.ERASED:
                record["prov:time"] = iso(node.superseded_at)
            yield record


def _relations(graph: GraphParts) -> Iterator[_Records]:
    for relation in graph.relations:
        yield {
            "prov:influencee": _name("cube", relation.target_id),
            "prov:influencer": _name("cube", relation.source_id),
            "memos:relation": relation.kind.value,
            "memos:properties": canonical_json(relation.properties),
        }


def _specializations(graph: GraphParts) -> Iterator[_Records]:
    for node in graph.entities:
        yield {"prov:specificEntity": _version(node.ref), "prov:generalEntity": _name("cube", node.ref.cube_id)}


def _numbered(word: str, records: Iterator[_Records]) -> _Records:
    return {f"_:{word}{number}": record for number, record in enumerate(records, start=1)}


def _origin(derivation: Derivation) -> str:
    source = derivation.source
    return _version(source) if isinstance(source, VersionRef) else _name("source", source)


def _version(ref: VersionRef) -> str:
    return f"{_name('cube', ref.cube_id)}/v{ref.version}"


def _name(prefix: str, text: str) -> str:
    """A qualified name; what PROV-N does not allow everywhere in a local name is percent-encoded."""
    local = quote(text, safe="").replace(".", "%2E")
    return f"{prefix}:{local.replace('-', '%2D', 1) if local.startswith('-') else local}"


def _term(name: str) -> JSON:
    return _typed(f"memos:{name}", "prov:QUALIFIED_NAME")


def _typed(value: str, datatype: str) -> JSON:
    return {"$": value, "type": datatype}
