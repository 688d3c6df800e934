"""Verifying a store: what it says about itself against what it holds."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from memos_agents.cube.memcube import MemCube, VersionRef, body_hash, unpack_body
from memos_agents.cube.metadata import DEFAULT_COLLECTION
from memos_agents.cube.moment import EPOCH
from memos_agents.cube.scope import Scope
from memos_agents.cube.state import MemoryState
from memos_agents.errors import IntegrityError, NotFound
from memos_agents.infrastructure.vault import chain
from memos_agents.infrastructure.vault.base import Problem
from memos_agents.infrastructure.vault.blobs import BlobStore
from memos_agents.infrastructure.vault.columns import STORED_DTYPE
from memos_agents.infrastructure.vault.neo4j import cypher_transfer as cypher
from memos_agents.infrastructure.vault.neo4j import spaces
from memos_agents.infrastructure.vault.neo4j.drafting import head_values, vector_name, version_values
from memos_agents.infrastructure.vault.neo4j.link import Tx
from memos_agents.infrastructure.vault.neo4j.reading import activity_of, scope_of

_CUBES_AT_ONCE: Final = 200
_ENTRIES_AT_ONCE: Final = 1_000
_MOST_STRAYS: Final = 100
_INDEXED: Final = ("terms", "length", "flags", "has_text")
_EMPTY: Final[Mapping[str, Any]] = {
    "body": None, "valid_from_us": None, "valid_to_us": None, "expires_us": None, "collection": DEFAULT_COLLECTION,
    "speaker": None, "flags": 0, "length": 0, "terms": "", "has_text": None, "blobs": None,
}  # fmt: skip
_EMPTY_HEAD: Final[Mapping[str, Any]] = {
    "same": None, "place": None, "collection": DEFAULT_COLLECTION, "key": None, "readers": [], "text": None
}  # fmt: skip


def problems(tx: Tx, tenant: str, blobs: BlobStore) -> Iterator[Problem]:
    """Every check over one tenant; `tenant` is its name in scopes. Reads the whole store.

    Holds in memory what the log says was written (ids and hashes), bodies by the page.
    """
    stated = _Stated()
    yield from _log(tx, stated)
    yield from _strays(tx)
    yield from _Cubes(tx, tenant, stated, blobs).problems()
    yield from stated.missing()


@dataclass(slots=True)
class _Stated:
    """What the log says was stored, and how much of it was not met yet."""

    hashes: dict[VersionRef, str] = field(default_factory=dict)
    edges: Counter[str] = field(default_factory=Counter)
    met: set[VersionRef] = field(default_factory=set)

    def learn(self, effects: Sequence[str]) -> None:
        for told in effects:
            if told.startswith("write "):
                _, cube_id, number, digest = told.split(" ")
                self.hashes[VersionRef(cube_id, int(number))] = digest
        self.edges.update(told for told in set(effects) if told.startswith(("derive ", "relate ")))

    def meet_edges(self, edges: Iterable[str]) -> None:
        self.edges.subtract(edge for edge in edges if edge in self.edges)

    def missing(self) -> Iterator[Problem]:
        for cube_id, number in sorted(self.hashes.keys() - self.met):
            what = f"the log wrote {cube_id} version {number}, which is not there"
            yield Problem(kind="head", what=what, cube_id=cube_id)
        for told, times in self.edges.items():
            if times > 0:
                verb, name = told.split(" ")[:2]
                kind = {"derive": "derivation", "relate": "relation"}[verb]
                what = f"the log says {told!r}, which is not there"
                yield Problem(kind=kind, what=what, cube_id=name.split("/")[0])


def _log(tx: Tx, stated: _Stated) -> Iterator[Problem]:
    """The chain, from the first entry to the end that the tenant knows; and that entries show what they touched."""
    previous, position, is_broken = chain.GENESIS, 0, False
    while page := tx.rows(cypher.LOG_PAGE, after=position, limit=_ENTRIES_AT_ONCE):
        for seq, *values, effects, stored, touched in page:
            position += 1
            changed = json.loads(effects)
            stated.learn(changed["chain"])
            activity, _ = activity_of(values)
            if not _named(changed) <= set(touched):
                yield Problem(kind="log", what=f"log entry {seq} ({activity.id}) does not show all that it touched")
            if is_broken:
                continue
            if seq != position:
                yield Problem(kind="chain", what=f"the log has no entry {position}")
                is_broken = True
            elif chain.link(previous, activity, values[6], changed["chain"]).hex() != stored:
                what = f"log entry {seq} ({activity.kind} {activity.id}) does not match its hash: it was changed"
                yield Problem(kind="chain", what=what)
                is_broken = True
            else:
                previous = bytes.fromhex(stored)
        position = page[-1][0]
    row = tx.one(cypher.END_OF_LOG)
    if row is None or is_broken:
        return
    if row[0] != position or (row[1] or chain.GENESIS.hex()) != previous.hex():
        yield Problem(kind="chain", what=f"the log ends at entry {position}, not at {row[0]} as it says")


def _named(changed: Mapping[str, Any]) -> set[str]:
    """Cubes that an entry says it changed."""
    named = {told.split(" ")[1] for told in changed["chain"] if told.startswith("write ")}
    for kind in ("writes", "transitions", "invalidated", "lifted"):
        named.update(entry[0] for entry in changed.get(kind, ()))
    named.update(changed.get("erased", ()))
    return named


def _strays(tx: Tx) -> Iterator[Problem]:
    for cube_id, number in tx.rows(cypher.STRAY_VERSIONS, limit=_MOST_STRAYS):
        yield Problem(kind="graph", what=f"{cube_id} version {number} hangs on no cube", cube_id=cube_id)
    for (activity_id,) in tx.rows(cypher.WITHOUT_AGENT, limit=_MOST_STRAYS):
        yield Problem(kind="graph", what=f"activity {activity_id} is not joined with the agent that it names")


class _Cubes:
    """Checks of cubes and of their versions."""

    def __init__(self, tx: Tx, tenant: str, stated: _Stated, blobs: BlobStore) -> None:
        self._tx, self._tenant, self._stated, self._blobs = tx, tenant, stated, blobs
        self._sizes = {vector_name(each.number): each.space.dimension for each in spaces.known(tx)}
        numbers: Sequence[int] = (tx.one(cypher.END_OF_LOG) or (0, 0, 0, 0, 0))[2:]
        self._last_cube, self._last_version, self._last_space = numbers
        self._complaints: dict[str, str | None] = {}

    def problems(self) -> Iterator[Problem]:
        after = ""
        while page := self._tx.rows(cypher.CUBES_TO_VERIFY, after=after, limit=_CUBES_AT_ONCE):
            after = page[-1][0]
            versions: dict[str, list[_Version]] = {row[0]: [] for row in page}
            for row in self._tx.rows(cypher.VERSIONS_TO_VERIFY, ids=list(versions)):
                versions[row[0]].append(_Version(*row))
            for cube_id, found, heads, vectors, relations, leaves in page:
                held = sorted(versions[cube_id], key=lambda version: version.number)
                self._stated.meet_edges(chain.related(*ends) for ends in relations)
                if leaves:
                    yield Problem(kind="tenant", what=f"{cube_id} is joined to another tenant", cube_id=cube_id)
                yield from self._cube(cube_id, found, heads, vectors, held)

    def _cube(
        self, cube_id: str, found: dict[str, Any], heads: list[list[Any]], vectors: list[str], held: list[_Version]
    ) -> Iterator[Problem]:
        last = found["version"]
        if not held or [version.number for version in held] != list(range(1, len(held) + 1)) or last != len(held):
            yield Problem(
                kind="head",
                what=f"the versions of {cube_id} do not run from 1 to {last} without a gap",
                cube_id=cube_id,
            )
        elif heads != [[cube_id, last]]:
            yield Problem(kind="head", what=f"the head of {cube_id} is not its newest version", cube_id=cube_id)
        if not 0 < (found["rid"] or 0) <= self._last_cube:
            yield Problem(kind="head", what=f"the number of {cube_id} was never given out", cube_id=cube_id)
        is_erased = found["state"] == MemoryState.ERASED
        if any((version.body is None) is not is_erased for version in held) or (
            is_erased and (vectors or not _agree(found, _EMPTY_HEAD))
        ):
            yield Problem(kind="tombstone", what=f"{cube_id} is erased only in part", cube_id=cube_id)
        scope = scope_of(self._tenant, found["user_id"], found["agent_id"], found["session_id"])
        for version in held:
            for kind, what in self._version(version, scope, is_newest=version is held[-1]):
                yield Problem(kind=kind, what=f"{cube_id} version {version.number}: {what}", cube_id=cube_id)
        newest = held[-1].cube(scope) if held else None
        if newest is not None and not _agree(found, head_values(newest, held[-1].found["hash"])):
            what = f"what {cube_id} shows is not what its newest version says"
            yield Problem(kind="index", what=what, cube_id=cube_id)

    def _version(self, version: _Version, scope: Scope, *, is_newest: bool) -> Iterator[tuple[str, str]]:
        found, ref = version.found, VersionRef(version.cube_id, version.number)
        self._stated.met.add(ref)
        self._stated.meet_edges(version.edges())
        yield from version.structure(is_newest=is_newest)
        if not 0 < (found["rid"] or 0) <= self._last_version:
            yield "head", "its number was never given out"
        if version.body is not None and body_hash(version.body) != found["hash"]:
            yield "content", "the content does not match its hash"
            return
        if self._stated.hashes.get(ref) != found["hash"]:
            yield "chain", "no log entry wrote this content"
        if version.body is None:
            if not _agree(found, _EMPTY) or version.vectors or version.blobs:
                yield "tombstone", "something is left of the erased content"
            return
        cube = version.cube(scope)
        if cube is None:
            yield "content", "the content cannot be read"
            return
        expected = version_values(cube, version.body, found["hash"], rid=found["rid"], recorded_us=found["recorded_us"])
        if any(found[name] != expected[name] for name in _INDEXED):
            yield "index", "the text index is not what the text gives"
        if any(found[name] != expected[name] for name in found if name not in _INDEXED):
            yield "index", "its columns are not what its content says"
        if not version.is_stale and any(has_changed for *_, has_changed in version.origins):
            yield "stale", "it comes from something that has changed and should be marked stale"
        yield from self._vectors(version)
        yield from self._payload(version)

    def _vectors(self, version: _Version) -> Iterator[tuple[str, str]]:
        for name, data in version.vectors:
            dimension, number = self._sizes.get(name), name.removeprefix("vec_")
            if dimension is None:
                # Those of a dropped space are removed after it, piece by piece; its number never comes back.
                if not (number.isdecimal() and 0 < int(number) <= self._last_space):
                    yield "vector", "a vector belongs to a space that never was"
            elif not isinstance(data, bytes | bytearray) or len(data) != dimension * STORED_DTYPE.itemsize:
                yield "vector", "a vector does not have the size of its space"

    def _payload(self, version: _Version) -> Iterator[tuple[str, str]]:
        named = version.found["blobs"] or []
        if sorted(named) != sorted(version.blobs):
            yield "blob", "it is not joined with the payloads that its content names"
        for sha256 in named:
            if sha256 not in self._complaints:
                self._complaints[sha256] = self._complaint(sha256)
            complaint = self._complaints[sha256]
            if complaint is not None:
                yield "blob", complaint

    def _complaint(self, sha256: str) -> str | None:
        try:
            self._blobs.get(sha256)
        except (NotFound, IntegrityError) as error:
            return str(error)
        return None


@dataclass(slots=True)
class _Version:
    """A record of `cypher.VERSIONS_TO_VERIFY`."""

    cube_id: str
    number: int
    place: int
    found: dict[str, Any]
    is_believed: bool
    is_stale: bool
    made: list[str]
    ended: list[str]
    revised: list[list[Any]]
    blobs: list[str]
    origins: list[list[Any]]
    sources: list[list[Any]]
    vectors: list[list[Any]]
    leaves: bool

    @property
    def body(self) -> str | None:
        body: str | None = self.found["body"]
        return body

    def cube(self, scope: Scope) -> MemCube | None:
        """As a value; None if it is erased, or not what was written."""
        if self.body is None:
            return None
        try:
            parts = unpack_body(json.loads(self.body))
        except (KeyError, TypeError, ValueError):
            return None
        return MemCube(id=self.cube_id, version=self.number, scope=scope, created_at=EPOCH, recorded_at=EPOCH, **parts)

    def edges(self) -> Iterator[str]:
        """Its derivations, as the log tells them."""
        ref = f"{self.cube_id}/v{self.number}"
        for origin_id, origin_number, kind, _ in self.origins:
            yield chain.derived(ref, f"{origin_id}/v{origin_number}", kind)
        for source_id, kind in self.sources:
            yield chain.derived(ref, source_id, kind)

    def structure(self, *, is_newest: bool) -> Iterator[tuple[str, str]]:
        """Whether it hangs where it belongs."""
        if self.place != self.number or self.found["cube_id"] != self.cube_id:
            yield "head", "it hangs on another cube or in another place than it says"
        if self.revised != ([[self.cube_id, self.number - 1]] if self.number > 1 else []):
            yield "graph", "it is not joined with the version before it"
        if len(self.made) != 1 or len(self.ended) > 1:
            yield "graph", "it is not joined with the activity that made it, or with several that ended it"
        if self.is_believed and not is_newest:
            yield "head", "it was replaced but is still believed"
        if self.leaves:
            yield "tenant", "it is joined to another tenant"


def _agree(found: Mapping[str, Any], expected: Mapping[str, Any]) -> bool:
    return all(found[name] == value for name, value in expected.items())
