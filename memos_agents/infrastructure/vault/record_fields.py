"""One record at a time: what comes from outside is checked field by field."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import cast

import numpy as np

from memos_agents.cube.canonical import JSON, canonical_json, checked_mapping, checked_text
from memos_agents.cube.identity import checked_id
from memos_agents.cube.memcube import Body, VersionRef, body_hash, unpack_body
from memos_agents.cube.moment import utc
from memos_agents.cube.payload import MemoryType, TextPayload
from memos_agents.cube.scope import FIELDS, Scope
from memos_agents.cube.state import MemoryState
from memos_agents.errors import IntegrityError, InvalidRequest, MemOSError
from memos_agents.infrastructure.provenance.values import (
    Activity,
    Agent,
    AgentKind,
    Derivation,
    Relation,
    RelationKind,
    Source,
)
from memos_agents.infrastructure.vault.columns import STORED_DTYPE
from memos_agents.infrastructure.vault.records import (
    KINDS,
    ActivityLine,
    CubeLine,
    DerivationLine,
    Line,
    RelationLine,
    SourceLine,
    VectorLine,
    VersionLine,
)

AGENT_KINDS = ("user", "assistant", "model", "application", "system")


def parse_record(record: Mapping[str, JSON], tenant: str) -> Line:
    """One line, checked by itself; cubes move to `tenant`. `InvalidRequest` or, for a wrong hash, `IntegrityError`."""
    kind = record.get("kind")
    reader = _READERS.get(kind) if isinstance(kind, str) else None
    if reader is None:
        raise InvalidRequest(
            f"a record of kind {str(kind)[:80]!r} is not one of {', '.join(KINDS)}; a newer release may have written it"
        )
    try:
        return reader(record, tenant)
    except IntegrityError:
        raise
    except (MemOSError, KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise InvalidRequest(f"a {kind} record is malformed ({type(error).__name__}: {error})"[:400]) from error


def _activity(record: Mapping[str, JSON], tenant: str) -> ActivityLine:
    agent = _mapping(record["agent"])
    if agent["kind"] not in AGENT_KINDS:
        raise InvalidRequest(f"{agent['kind']!r} is not a kind of agent")
    return ActivityLine(
        activity=Activity(
            id=_name(record["id"]),
            kind=_name(record["activity"]),
            started_at=utc(record["started_at"], what="started_at"),
            agent=Agent(
                id=_name(agent["id"]), kind=cast(AgentKind, agent["kind"]), name=_name_or_none(agent.get("name"))
            ),
            parameters=checked_mapping(record["parameters"], what="parameters"),
        ),
        at=utc(record["at"], what="at"),
    )


def _source(record: Mapping[str, JSON], tenant: str) -> SourceLine:
    return SourceLine(
        source=Source(
            id=_name(record["id"]),
            kind=_name(record["source"]),
            locator=checked_text(record["locator"], what="locator"),
            sha256=_name_or_none(record["sha256"]),
        )
    )


def _cube(record: Mapping[str, JSON], tenant: str) -> CubeLine:
    scope, uses = _mapping(record["scope"]), _mapping(record["uses"])
    names = {name: cast("str | None", scope.get(name)) for name in FIELDS[1:]}
    count = _integer(uses["count"], at_least=0)
    return CubeLine(
        id=checked_id(record["id"]),
        scope=Scope(
            tenant=tenant, user_id=names["user_id"], agent_id=names["agent_id"], session_id=names["session_id"]
        ),
        state=MemoryState(cast(str, record["state"])),
        frozen=_flag(record["frozen"]),
        created_at=utc(record["created_at"], what="created_at"),
        use_count=count,
        last_used_at=_time_or_none(uses["last_at"]) if count else None,
    )


def _version(record: Mapping[str, JSON], tenant: str) -> VersionLine:
    ref = _ref([record["cube"], record["version"]])
    body, memory_type = None, MemoryType(cast(str, record["memory_type"]))
    digest = _sha256(record["hash"])
    if record["body"] is not None:
        value = checked_mapping(record["body"], what="body")
        unpacked = _checked_parts(value)
        body = canonical_json(value)
        if body_hash(body) != digest or unpacked["memory_type"] is not memory_type:
            raise IntegrityError(f"{ref} does not match its hash; the record was changed", cube_id=ref.cube_id)
    return VersionLine(
        ref=ref,
        hash=digest,
        body=body,
        memory_type=memory_type,
        recorded_at=utc(record["recorded_at"], what="recorded_at"),
        superseded_at=_time_or_none(record["superseded_at"]),
        is_stale=_flag(record["is_stale"]),
        activity_id=_name(record["activity"]),
        ended_by=_name_or_none(record.get("ended_by")),
    )


def _checked_parts(body: Mapping[str, JSON]) -> Body:
    """The parts of a body, none of another type than it says."""
    parts = unpack_body(body)
    payload = parts["payload"]
    if isinstance(payload, TextPayload):
        checked_text(payload.text, what="text")
    else:
        for ref in payload.blobs.values():
            _sha256(ref.sha256)
            _integer(ref.size_bytes, at_least=0)
    about, rules = parts["descriptive"], parts["governance"]
    names = (about.semantic_type, about.origin, about.collection)
    optional = (about.role, about.name, about.title, about.language, about.key, rules.owner, rules.watermark)
    for name in (*names, *about.tags, *rules.readers, *rules.writers, *rules.sensitivity):
        checked_text(name, what="a header")
    for header in optional:
        checked_text(header or "", what="a header")
    numbers = (rules.ttl_seconds or 0, rules.priority, rules.trust)
    if not all(type(number) in {int, float} for number in numbers):
        raise InvalidRequest("a header that counts is not a number")
    checked_mapping(parts["metadata"], what="metadata")
    return parts


def _derivation(record: Mapping[str, JSON], tenant: str) -> DerivationLine:
    source = record["source"]
    return DerivationLine(
        derivation=Derivation(
            derived=_ref(record["derived"]),
            source=_name(source) if isinstance(source, str) else _ref(source),
            kind=_name(record["derivation"]),
        ),
        activity_id=_name(record["activity"]),
    )


def _relation(record: Mapping[str, JSON], tenant: str) -> RelationLine:
    return RelationLine(
        relation=Relation(
            source_id=checked_id(record["source"]),
            kind=RelationKind(cast(str, record["relation"])),
            target_id=checked_id(record["target"]),
            properties=checked_mapping(record["properties"], what="properties"),
        ),
        recorded_at=utc(record["recorded_at"], what="recorded_at"),
        removed_at=_time_or_none(record["removed_at"]),
        activity_id=_name(record["activity"]),
    )


def _vector(record: Mapping[str, JSON], tenant: str) -> VectorLine:
    dimension = _integer(record["dimension"], at_least=1)
    try:
        data = base64.b64decode(_name(record["data"]), validate=True)
    except binascii.Error as error:
        raise InvalidRequest("the data is not base64") from error
    if len(data) != dimension * STORED_DTYPE.itemsize or not np.isfinite(np.frombuffer(data, STORED_DTYPE)).all():
        raise InvalidRequest(f"{len(data)} bytes are not {dimension} finite half-precision numbers")
    ref = _ref([record["cube"], record["version"]])
    return VectorLine(ref=ref, space=_name(record["space"]), dimension=dimension, data=data)


_READERS: Mapping[str, Callable[[Mapping[str, JSON], str], Line]] = {
    "activity": _activity,
    "source": _source,
    "cube": _cube,
    "version": _version,
    "derivation": _derivation,
    "relation": _relation,
    "vector": _vector,
}


def _mapping(value: JSON) -> Mapping[str, JSON]:
    if not isinstance(value, Mapping):
        raise InvalidRequest(f"{str(value)[:80]!r} is not a mapping")
    return value


def _name(value: JSON) -> str:
    if not value:
        raise InvalidRequest("a name is empty")
    return checked_text(value, what="a name")


def _name_or_none(value: JSON) -> str | None:
    return None if value is None else _name(value)


def _time_or_none(value: JSON) -> datetime | None:
    return None if value is None else utc(value, what="a time")


def _flag(value: JSON) -> bool:
    if not isinstance(value, bool):
        raise InvalidRequest(f"{str(value)[:80]!r} is neither true nor false")
    return value


def _integer(value: JSON, *, at_least: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not at_least <= value < 1 << 53:
        raise InvalidRequest(f"{str(value)[:80]!r} is not a whole number from {at_least}")
    return value


def _ref(value: JSON) -> VersionRef:
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise InvalidRequest(f"{str(value)[:80]!r} does not name a version")
    return VersionRef(checked_id(value[0]), _integer(value[1], at_least=1))


def _sha256(value: JSON) -> str:
    if not isinstance(value, str) or len(value) != 64 or set(value) - set("0123456789abcdef"):
        raise InvalidRequest(f"{str(value)[:80]!r} is not a SHA-256")
    return value
