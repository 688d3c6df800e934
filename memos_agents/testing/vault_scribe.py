"""Scribe: writes a vault's history for tests, with ids and times of its own, so that two scribes write the same one."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

import pytest

from memos_agents.cube.canonical import JSON, canonical_json
from memos_agents.cube.identity import IdSource
from memos_agents.cube.memcube import MemCube, VersionRef
from memos_agents.cube.metadata import Descriptive, Governance
from memos_agents.cube.payload import MemoryType, Payload, TextPayload
from memos_agents.cube.scope import Scope
from memos_agents.cube.state import MemoryState
from memos_agents.infrastructure.provenance.values import (
    APPLICATION,
    Activity,
    Agent,
    Derivation,
    Relation,
    RelationKind,
    Source,
)
from memos_agents.infrastructure.vault.base import (
    ListQuery,
    LogQuery,
    MemVault,
    SupportsRecords,
    SupportsScrub,
    SupportsSearch,
    ViewQuery,
)
from memos_agents.infrastructure.vault.commit import (
    Commit,
    CommitResult,
    Invalidation,
    Lease,
    Transition,
    Vectors,
    Write,
)

START = datetime(2026, 1, 1, 12, tzinfo=UTC)
LATER = START + timedelta(days=365)
EVERYTHING = Scope.everything()
MARA, NOAH = Scope(user_id="mara"), Scope(user_id="noah")


class FullVault(MemVault, SupportsSearch, SupportsScrub, SupportsRecords, Protocol):
    """A vault with the capabilities that the suite tests."""


class Scribe:
    """Commits to one vault. Each activity takes a second and a new id, from a seed."""

    def __init__(self, vault: FullVault, *, seed: int = 0, start: datetime = START) -> None:
        self.vault = vault
        self._now = start
        self._ids = IdSource(random.Random(seed).getrandbits)  # noqa: S311  # repeatable, not secret

    @property
    def now(self) -> datetime:
        return self._now

    def tick(self, seconds: float = 1) -> datetime:
        """Let time pass."""
        self._now += timedelta(seconds=seconds)
        return self._now

    def new_id(self) -> str:
        return self._ids.new_id(self._now)

    def activity(self, kind: str = "test", *, agent: Agent = APPLICATION, **parameters: JSON) -> Activity:
        return Activity(id=self.new_id(), kind=kind, started_at=self.tick(), agent=agent, parameters=parameters)

    def cube(
        self,
        text: str = "the sky is blue",
        *,
        scope: Scope = MARA,
        id: str | None = None,
        payload: Payload | None = None,
        metadata: Mapping[str, JSON] | None = None,
        memory_type: MemoryType = MemoryType.PLAINTEXT,
        state: MemoryState = MemoryState.ACTIVATED,
        frozen: bool = False,
        descriptive: Descriptive = Descriptive(),
        governance: Governance = Governance(),
    ) -> MemCube:
        """A cube to be written; its times are those of the commit."""
        return MemCube(
            id=id or self.new_id(),
            scope=scope,
            payload=TextPayload(text) if payload is None else payload,
            metadata=metadata or {},
            memory_type=memory_type,
            state=state,
            frozen=frozen,
            descriptive=descriptive,
            governance=governance,
            created_at=START,
            recorded_at=START,
        )

    def commit(
        self,
        *,
        activity: Activity | None = None,
        key: str | None = None,
        writes: Sequence[Write | MemCube] = (),
        transitions: Sequence[Transition] = (),
        invalidations: Sequence[Invalidation] = (),
        sources: Sequence[Source] = (),
        derivations: Sequence[Derivation] = (),
        relations: Sequence[Relation] = (),
        unrelations: Sequence[Relation] = (),
        erasures: Sequence[str] = (),
        lease: Lease | None = None,
    ) -> CommitResult:
        """Commit these parts; a cube among `writes` is written as a new one."""
        return self.vault.commit(
            Commit(
                activity=activity or self.activity(),
                key=key,
                writes=tuple(Write(cube=write) if isinstance(write, MemCube) else write for write in writes),
                transitions=tuple(transitions),
                invalidations=tuple(invalidations),
                sources=tuple(sources),
                derivations=tuple(derivations),
                relations=tuple(relations),
                unrelations=tuple(unrelations),
                erasures=tuple(erasures),
                lease=lease,
            )
        )

    def head(self, cube: MemCube | str) -> MemCube:
        """The cube as it is now."""
        cube_id = cube if isinstance(cube, str) else cube.id
        return self.vault.get([cube_id], EVERYTHING)[cube_id]

    def add(
        self,
        text: str = "the sky is blue",
        *,
        scope: Scope = MARA,
        sources: Iterable[VersionRef | Source] = (),
        vectors: Vectors | None = None,
        metadata: Mapping[str, JSON] | None = None,
        state: MemoryState = MemoryState.ACTIVATED,
        descriptive: Descriptive = Descriptive(),
        governance: Governance = Governance(),
    ) -> MemCube:
        """Write one new cube, derived from `sources` if there are any."""
        cube = self.cube(
            text, scope=scope, metadata=metadata, state=state, descriptive=descriptive, governance=governance
        )
        sources = list(sources)
        self.commit(
            writes=[Write(cube=cube, vectors=vectors or {})],
            sources=[source for source in sources if isinstance(source, Source)],
            derivations=[
                Derivation(derived=cube.ref, source=source.id if isinstance(source, Source) else source)
                for source in sources
            ],
        )
        return self.head(cube)

    def next_of(self, cube: MemCube, text: str | None = None) -> Write:
        """A write of the version after `cube`."""
        payload = cube.payload if text is None else TextPayload(text)
        return Write(cube=replace(cube, version=cube.version + 1, payload=payload), replaces=cube.version)

    def revise(self, cube: MemCube, text: str, *, sources: Iterable[VersionRef] = ()) -> MemCube:
        """Write the next version of `cube`."""
        write = self.next_of(cube, text)
        self.commit(writes=[write], derivations=[Derivation(derived=write.cube.ref, source=ref) for ref in sources])
        return self.head(cube)

    def step(self, cube: MemCube, state: MemoryState | None = None, *, frozen: bool | None = None) -> CommitResult:
        return self.commit(transitions=[Transition(cube_id=cube.id, state=state, frozen=frozen)])

    def invalidate(self, cube: MemCube, *, lifted: bool = False) -> CommitResult:
        return self.commit(invalidations=[Invalidation(ref=cube.ref, lifted=lifted)])

    def relate(
        self, source: MemCube, target: MemCube, kind: RelationKind = RelationKind.RELATES_TO, **properties: JSON
    ) -> Relation:
        relation = Relation(source_id=source.id, kind=kind, target_id=target.id, properties=properties)
        self.commit(relations=[relation])
        return relation

    def erase(self, *cubes: MemCube) -> CommitResult:
        return self.commit(activity=self.activity("erase"), erasures=[cube.id for cube in cubes])

    def found(self, scope: Scope = MARA) -> list[str]:
        """Ids that a search in `scope` can see now, oldest first."""
        return [ref.cube_id for ref in self.vault.search_view(ViewQuery(scope=scope, now=self._now)).view.refs]

    def listed(self, scope: Scope = MARA) -> list[str]:
        """Ids that a list in `scope` shows now, oldest first."""
        return [cube.id for cube in self.vault.list(ListQuery(scope=scope, now=self._now, limit=100_000))]


def everything_in(vault: FullVault, scope: Scope = EVERYTHING) -> str:
    """All that a vault tells about its content, to compare before and after."""
    log = vault.log(LogQuery(scope=scope, limit=100_000))
    parts = (
        [canonical_json(record) for record in vault.records(scope)],
        [(entry.activity_id, entry.cubes, entry.seq, entry.chain, dict(entry.parameters)) for entry in log],
        vault.spaces(),
        vault.snapshots(),
        replace(vault.stats(scope), size_bytes=None),
    )
    return repr(parts)


class VaultLaws(ABC):
    """What the laws need: a way to open a vault. Subclasses of `VaultSuite` provide `make_vault`."""

    @abstractmethod
    def make_vault(self, folder: Path, tenant: str = "default") -> FullVault:
        """Open the vault that lives in `folder`, made if it is new."""

    @pytest.fixture
    def vault(self, tmp_path: Path) -> Iterator[FullVault]:
        """An empty vault."""
        vault = self.make_vault(tmp_path / "one")
        yield vault
        vault.close()

    @pytest.fixture
    def other(self, tmp_path: Path) -> Iterator[FullVault]:
        """Another empty vault."""
        vault = self.make_vault(tmp_path / "two")
        yield vault
        vault.close()

    @pytest.fixture
    def neighbour(self, tmp_path: Path, vault: FullVault) -> Iterator[FullVault]:
        """Another tenant of the place where `vault` lives."""
        neighbour = self.make_vault(tmp_path / "one", "other")
        yield neighbour
        neighbour.close()

    @pytest.fixture
    def scribe(self, vault: FullVault) -> Scribe:
        """Writes to `vault`."""
        return Scribe(vault)
