"""Receipt: what an erasure removed, and the check that it stays removed.

A receipt holds ids and hashes, no content, so it can be kept and shown to anyone. Whoever still has a copy of a text
can show that it was erased: its version's hash is in the receipt.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, cast

from memos_agents.cube.canonical import JSON, content_hash
from memos_agents.cube.memcube import MemCube, VersionRef
from memos_agents.cube.metadata import Descriptive, Governance
from memos_agents.cube.moment import iso, utc
from memos_agents.cube.payload import MemoryType, TextPayload
from memos_agents.cube.scope import Scope
from memos_agents.cube.state import MemoryState
from memos_agents.errors import IntegrityError, InvalidRequest, NotFound
from memos_agents.infrastructure.provenance.values import Agent, AgentKind
from memos_agents.infrastructure.vault.base import (
    LogQuery,
    MemVault,
    Problem,
    SupportsScrub,
    SupportsSearch,
    ViewQuery,
)
from memos_agents.infrastructure.vault.commit import Tombstone

FORMAT_VERSION = 1
_EMPTY = TextPayload("")


class HasVault(Protocol):
    """A `MemOS`, or anything else that shows its vault."""

    @property
    def vault(self) -> MemVault: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiptCheck:
    """What `Receipt.verify` found; `ok` if it found no problem."""

    ok: bool
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """Who erased what, and when. `tombstones` name every version with its hash, also of what was derived from it.

    A receipt given in a view lists what that view may see, and has neither `seq` nor `chain`, which count other
    people's commits. `is_complete`: when the receipt was given, the bytes were already gone from the medium too; until
    they are, `verify` says so. `chain` is the log's hash after the erasure, which commits to everything up to then.
    """

    activity_id: str
    seq: int | None
    at: datetime
    agent: Agent
    tombstones: tuple[Tombstone, ...]
    is_complete: bool
    chain: str | None = None

    def to_json(self) -> dict[str, JSON]:
        """Lossless; `from_json` is its inverse and finds changes that were made in between."""
        stones: list[JSON] = [
            [stone.ref.cube_id, stone.ref.version, stone.content_hash, stone.is_derived] for stone in self.tombstones
        ]
        value: dict[str, JSON] = {
            "format": "memos-receipt",
            "version": FORMAT_VERSION,
            "activity_id": self.activity_id,
            "seq": self.seq,
            "at": iso(self.at),
            "agent": {"id": self.agent.id, "kind": self.agent.kind, "name": self.agent.name},
            "tombstones": stones,
            "is_complete": self.is_complete,
            "chain": self.chain,
        }
        value["digest"] = content_hash(value)
        return value

    @classmethod
    def from_json(cls, value: Mapping[str, JSON]) -> Receipt:
        """Read what `to_json` wrote.

        Raises `InvalidRequest` if it is no receipt or one of a newer release, `IntegrityError` if it was changed.
        """
        if not isinstance(value, Mapping) or value.get("format") != "memos-receipt":
            raise InvalidRequest("this is not a receipt; give what Receipt.to_json() or `memos erase` wrote")
        if value.get("version") != FORMAT_VERSION:
            raise InvalidRequest(
                f"the receipt has format version {value.get('version')!r} and this release reads {FORMAT_VERSION}; "
                "upgrade memos-agents"
            )
        content = {key: item for key, item in value.items() if key != "digest"}
        if content_hash(content) != value.get("digest"):
            raise IntegrityError("the receipt was changed after it was written: it does not match its digest")
        try:
            return cls._read(content)
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidRequest(f"the receipt lacks a field or has a wrong one: {error}") from error

    @classmethod
    def _read(cls, content: Mapping[str, JSON]) -> Receipt:
        agent = cast("Mapping[str, str]", content["agent"])
        stones = cast("Sequence[tuple[str, int, str, bool]]", content["tombstones"])
        return cls(
            activity_id=cast(str, content["activity_id"]),
            seq=cast("int | None", content["seq"]),
            at=utc(content["at"], what="at"),
            agent=Agent(id=agent["id"], kind=cast(AgentKind, agent["kind"]), name=agent["name"]),
            tombstones=tuple(
                Tombstone(ref=VersionRef(cube_id, version), content_hash=digest, is_derived=is_derived)
                for cube_id, version, digest, is_derived in stones
            ),
            is_complete=cast(bool, content["is_complete"]),
            chain=cast("str | None", content["chain"]),
        )

    def verify(self, memos: HasVault) -> ReceiptCheck:
        """Check against the store that all of it is still gone: tombstones, content, search, lineage, log, bytes.

        Costs a read of each erased cube's history and of one step of lineage for each version, and one search view for
        each owner. Content elsewhere (bundles, backups) is out of reach.
        """
        problems = tuple(_problems(self, memos.vault))
        return ReceiptCheck(ok=not problems, problems=problems)


def _problems(receipt: Receipt, vault: MemVault) -> Iterator[Problem]:
    everything = Scope.everything(vault.tenant)
    yield from _log_problems(receipt, vault, everything)
    kept = {stone.ref: stone for stone in vault.tombstones(receipt.activity_id)}
    for stone in receipt.tombstones:
        if stone.ref not in kept:
            yield _problem("missing_tombstone", "the store has no tombstone of version", stone.ref)
        elif kept.pop(stone.ref) != stone:
            yield _problem("changed_tombstone", "the tombstone differs from the receipt for version", stone.ref)
    for ref in kept if receipt.seq is not None else ():
        yield _problem("unlisted_tombstone", "the erasure also left a tombstone that the receipt does not list,", ref)
    versions: dict[VersionRef, MemCube] = {}
    for cube_id in sorted({stone.ref.cube_id for stone in receipt.tombstones}):
        versions.update((cube.ref, cube) for cube in vault.history(cube_id, everything))
    for ref, cube in versions.items():
        if _has_content(cube):
            yield _problem("content_left", "there is content again, or still, in version", ref)
    for stone in receipt.tombstones:
        if stone.ref not in versions:
            yield _problem("missing_version", "the store no longer lists version", stone.ref)
    yield from _search_problems(receipt, vault, versions)
    yield from _lineage_problems(receipt, vault, everything)
    seq = _position(receipt, vault, everything)
    if isinstance(vault, SupportsScrub) and seq is not None and not vault.is_scrubbed(seq):
        yield Problem(
            kind="not_scrubbed", what="the erased bytes may still be on the medium; run scrub() and verify again"
        )


def _log_problems(receipt: Receipt, vault: MemVault, everything: Scope) -> Iterator[Problem]:
    entries = vault.log(LogQuery(scope=everything, activity_id=receipt.activity_id))
    if not entries:
        yield Problem(kind="missing_activity", what=f"the log has no activity {receipt.activity_id!r}: another store?")
        return
    entry = entries[0]
    told = (receipt.seq or entry.seq, receipt.at, receipt.agent)
    if (entry.seq, entry.at, entry.agent) != told:
        yield Problem(
            kind="changed_activity", what="the log tells position, time or agent differently from the receipt"
        )
    if receipt.chain is not None and entry.chain != receipt.chain:
        yield Problem(kind="changed_chain", what="the log's hash at this erasure is not the one in the receipt")


def _position(receipt: Receipt, vault: MemVault, everything: Scope) -> int | None:
    if receipt.seq is not None:
        return receipt.seq
    entries = vault.log(LogQuery(scope=everything, activity_id=receipt.activity_id))
    return entries[0].seq if entries else None


def _has_content(cube: MemCube) -> bool:
    is_bare = cube.descriptive == Descriptive() and cube.governance == Governance()
    return cube.state is not MemoryState.ERASED or cube.payload != _EMPTY or bool(cube.metadata) or not is_bare


def _search_problems(receipt: Receipt, vault: MemVault, versions: Mapping[VersionRef, MemCube]) -> Iterator[Problem]:
    if not isinstance(vault, SupportsSearch):
        return
    erased = {stone.ref.cube_id for stone in receipt.tombstones}
    owners = {cube.scope for cube in versions.values() if cube.id in erased}
    for owner in sorted(owners, key=lambda scope: str(scope.to_json())):
        query = ViewQuery(
            scope=owner, now=receipt.at, states=frozenset(MemoryState), memory_types=frozenset(MemoryType)
        )
        for ref in vault.search_view(query).view.refs:
            if ref.cube_id in erased:
                yield _problem("still_found", "a search can still find version", ref)


def _lineage_problems(receipt: Receipt, vault: MemVault, everything: Scope) -> Iterator[Problem]:
    """What was made directly from an erased version must be erased; so, one after the other, is all that follows."""
    reported: set[VersionRef] = set()
    for stone in receipt.tombstones:
        try:
            graph = vault.lineage(stone.ref, "down", 1, everything)
        except NotFound:
            continue  # reported as a missing version
        living = {node.ref for node in graph.entities if node.state is not MemoryState.ERASED}
        for derivation in graph.derivations:
            if derivation.derived in living - reported:
                reported.add(derivation.derived)
                yield _problem("derived_left", "something made from an erased version is there:", derivation.derived)


def _problem(kind: str, what: str, ref: VersionRef) -> Problem:
    return Problem(kind=kind, what=f"{what} {ref}", cube_id=ref.cube_id)
