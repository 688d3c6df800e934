"""The log's hash chain: each entry commits to the one before it and to everything its activity changed.

Only ids, numbers, kinds and content hashes go in, so that erasing content leaves the chain checkable.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from memos_agents.cube.canonical import JSON, canonical_json
from memos_agents.cube.moment import iso
from memos_agents.infrastructure.provenance.values import Activity

GENESIS = bytes(32)


def link(previous: bytes, activity: Activity, at_us: int, effects: Iterable[str]) -> bytes:
    """The entry's 32 bytes: SHA-256 over the previous entry, the activity, the time and the effects (a sorted set)."""
    statement: dict[str, JSON] = {
        "activity": activity.id,
        "kind": activity.kind,
        "agent": [activity.agent.id, activity.agent.kind, activity.agent.name],
        "started_at": iso(activity.started_at),
        "parameters": activity.parameters,
        "at": at_us,
        "effects": sorted(set(effects)),
    }
    return hashlib.sha256(previous + canonical_json(statement).encode()).digest()


def wrote(cube_id: str, version: int, content_hash: str) -> str:
    """A version was written."""
    return f"write {cube_id} {version} {content_hash}"


def moved(cube_id: str, state: str, frozen: bool) -> str:
    """A cube's state or frozen flag is this now."""
    return f"state {cube_id} {state} {int(frozen)}"


def derived(result: str, source: str, kind: str) -> str:
    """One version was derived from another, or from a source."""
    return f"derive {result} {source} {kind}"


def related(source_id: str, kind: str, target_id: str) -> str:
    """A relation was opened."""
    return f"relate {source_id} {kind} {target_id}"


def unrelated(source_id: str, kind: str, target_id: str) -> str:
    """A relation was closed."""
    return f"unrelate {source_id} {kind} {target_id}"


def ended(ref: str) -> str:
    """A version stopped being believed."""
    return f"end {ref}"


def lifted(ref: str) -> str:
    """A version is believed again."""
    return f"lift {ref}"


def erased(ref: str, content_hash: str) -> str:
    """A version lost its content."""
    return f"erase {ref} {content_hash}"
