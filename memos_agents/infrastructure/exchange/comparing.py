"""Two stores line by line: what the one has must be in the other, equal. Neither is held in memory.

Both sides are read once, in the order of `vault.records`, and walked side by side. What is compared, and digested, of a
line is everything but the tenant (a copy may have another) and the use counts (they move whenever somebody reads).
"""

from __future__ import annotations

import hashlib
import json
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias, cast

from memos_agents.cube.canonical import JSON, canonical_json
from memos_agents.cube.memcube import VersionRef
from memos_agents.cube.moment import to_microseconds, utc
from memos_agents.cube.scope import Scope
from memos_agents.errors import IntegrityError
from memos_agents.infrastructure.vault.base import Record
from memos_agents.infrastructure.vault.records import KINDS

COPY, COPY_MARK = "copy", "copy-"
"""The kind of the activities that copying logs, and how their ids begin."""

Key: TypeAlias = tuple[object, ...]
Line: TypeAlias = tuple[Key, Record]
_KIND_NUMBER = {kind: number for number, kind in enumerate(KINDS)}
_MOST_TOLD = 10


class SideDigest:
    """Counts lines by kind and chains them: the same lines give the same digest, whatever the tenant."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.uses = 0
        self._hashes = {kind: hashlib.sha256() for kind in KINDS}

    def add(self, record: Record, told: str) -> None:
        """Take the next line; `told` is what `told_of` says of it."""
        kind = cast(str, record["kind"])
        self.counts[kind] += 1
        self._hashes[kind].update(told.encode() + b"\n")
        if kind == "cube":
            self.uses += cast(int, cast("Mapping[str, JSON]", record["uses"])["count"])

    def hexdigest(self) -> str:
        """SHA-256 over the kinds' counts and digests."""
        parts: dict[str, JSON] = {kind: [self.counts[kind], each.hexdigest()] for kind, each in self._hashes.items()}
        return hashlib.sha256(canonical_json(parts).encode()).hexdigest()


@dataclass(slots=True)
class Comparison:
    """What a walk found. `theirs` digests of the other side only what should be there; `more` counts the rest."""

    ours: SideDigest = field(default_factory=SideDigest)
    theirs: SideDigest = field(default_factory=SideDigest)
    differing: int = 0
    differences: list[str] = field(default_factory=list)
    more: Counter[str] = field(default_factory=Counter)

    def tell(self, difference: str) -> None:
        """Count a difference, and keep the first ones."""
        self.differing += 1
        if len(self.differences) < _MOST_TOLD:
            self.differences.append(difference)


def compare_lines(
    ours: Iterable[Record], theirs: Iterable[Record], *, visit: Callable[[Record], None] = lambda record: None
) -> Comparison:
    """Look for every line of `ours` in `theirs`; `visit` sees each of them. One pass, one line of each in memory.

    Raises `IntegrityError` where a side does not keep the order of records or tells what cannot be read.
    """
    found = Comparison()
    there = _in_order(theirs, "target")
    other = next(there, None)
    for key, record in _in_order(ours, "source"):
        while other is not None and other[0] < key:
            found.more[cast(str, other[1]["kind"])] += 1
            other = next(there, None)
        told = told_of(record)
        found.ours.add(record, told)
        if other is None or other[0] != key:
            found.tell(f"{name_of(record)} is missing")
        else:
            also_told = told_of(other[1])
            found.theirs.add(other[1], also_told)
            if also_told != told:
                found.tell(_difference(record, other[1]))
            other = next(there, None)
        visit(record)
    while other is not None:
        found.more[cast(str, other[1]["kind"])] += 1
        other = next(there, None)
    return found


def digest_of(records: Iterable[Record]) -> str:
    """The digest of one side by itself: equal for a store and its copy, in whatever tenant and backend."""
    digest = SideDigest()
    for record in without_marks(records):
        digest.add(record, told_of(record))
    return digest.hexdigest()


def told_of(record: Record) -> str:
    """A line as text without what a copy need not keep: tenant and use counts."""
    return canonical_json(_kept(record))


def without_marks(records: Iterable[Record]) -> Iterator[Record]:
    """The lines but for those that tell of copying: how a store was filled is its own history, not the memories'."""
    for record in records:
        is_mark = record["kind"] == "activity" and record["activity"] == COPY
        if not (is_mark and cast(str, record["id"]).startswith(COPY_MARK)):
            yield record


def name_of(record: Record) -> str:
    """A line's kind and what names it, for people."""
    match record["kind"]:
        case "version":
            return f"version {record['version']} of cube {record['cube']}"
        case "derivation":
            derived = VersionRef(*cast("list[str]", record["derived"]))  # type: ignore[arg-type]  # an id and a number
            return f"the derivation of {derived} from {_source(record)}"
        case "relation":
            return f"the relation {record['source']} {record['relation']} {record['target']}"
        case "vector":
            return f"the vector of {record['cube']}/v{record['version']} in space {record['space']!r}"
        case kind:
            return f"{kind} {record['id']}"


def first_difference(ours: Iterable[Record], theirs: Iterable[Record]) -> str | None:
    """What stands on both sides in different words, if anything; holds `theirs` in memory."""
    there = {_key(record): record for record in theirs}
    for record in ours:
        other = there.get(_key(record))
        if other is not None and told_of(other) != told_of(record):
            return _difference(record, other)
    return None


class Sample:
    """A uniform sample of versions out of a stream of lines (Vitter's algorithm R, ACM TOMS 11, 1985)."""

    def __init__(self, size: int, seed: int) -> None:
        self._size, self._seen = size, 0
        self._chance = random.Random(seed)  # noqa: S311  # repeatable, not secret
        self._refs: list[VersionRef] = []

    def see(self, record: Record) -> None:
        """Consider one line."""
        if record["kind"] != "version" or not self._size:
            return
        ref = VersionRef(cast(str, record["cube"]), cast(int, record["version"]))
        self._seen += 1
        if len(self._refs) < self._size:
            self._refs.append(ref)
        elif (place := self._chance.randrange(self._seen)) < self._size:
            self._refs[place] = ref

    def refs(self) -> Sequence[VersionRef]:
        """What was picked."""
        return sorted(self._refs)


def in_tenant(scope: Scope, tenant: str) -> Scope:
    """The same scope of another tenant."""
    if scope.is_everything:
        return Scope.everything(tenant)
    return Scope(tenant=tenant, user_id=scope.user_id, agent_id=scope.agent_id, session_id=scope.session_id)


def _in_order(records: Iterable[Record], side: str) -> Iterator[Line]:
    last: Key = ()
    try:
        for record in without_marks(records):
            key = _key(record)
            if not last < key:
                raise IntegrityError(
                    f"the {side} tells {name_of(record)} twice or out of order; see what verify() says"
                )
            last = key
            yield key, record
    except json.JSONDecodeError as error:
        raise IntegrityError(f"the {side} holds a line that cannot be read; see what verify() says") from error


def _key(record: Record) -> Key:
    kind = cast(str, record["kind"])
    number = _KIND_NUMBER[kind]
    match kind:
        case "version":
            return number, record["cube"], record["version"]
        case "derivation":
            derived = cast("Sequence[JSON]", record["derived"])
            return number, *derived, _source(record), record["derivation"]
        case "relation":
            recorded_us = to_microseconds(utc(record["recorded_at"], what="recorded_at"))
            return number, record["source"], record["relation"], record["target"], recorded_us
        case "vector":
            return number, record["cube"], record["version"], record["space"]
        case _:
            return number, record["id"]


def _source(record: Record) -> str:
    source = record["source"]
    return source if isinstance(source, str) else str(VersionRef(*cast("list[str]", source)))  # type: ignore[arg-type]  # an id and a number


def _kept(record: Record) -> Record:
    if record["kind"] != "cube":
        return record
    scope = {name: value for name, value in cast("Mapping[str, JSON]", record["scope"]).items() if name != "tenant"}
    return {name: value for name, value in record.items() if name != "uses"} | {"scope": scope}


def _difference(record: Record, other: Record) -> str:
    """Names what differs, and nothing of its content."""
    record, other = _kept(record), _kept(other)
    fields = sorted(name for name in record.keys() | other.keys() if record.get(name) != other.get(name))
    return f"{name_of(record)} differs in {', '.join(fields)}"
