"""Random parts of commits, mostly legal, for `VaultMachine`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Protocol, TypeAlias, TypeVar

import numpy as np
from hypothesis import strategies as st

from memos_agents.cube.memcube import MemCube, VersionRef
from memos_agents.cube.metadata import Descriptive, Governance
from memos_agents.cube.payload import MemoryType, TextPayload
from memos_agents.cube.scope import Scope
from memos_agents.cube.state import MemoryState
from memos_agents.infrastructure.provenance.values import Derivation, Relation, RelationKind, Source
from memos_agents.infrastructure.vault.commit import Commit, Invalidation, Transition, Write
from memos_agents.testing.vault_scribe import EVERYTHING, MARA, NOAH, START, FullVault, Scribe

T = TypeVar("T")
Moment: TypeAlias = datetime | None

MARAS_SESSION = Scope(user_id="mara", session_id="s")
OWNERS = (MARA, NOAH, MARAS_SESSION, Scope(user_id="mara", agent_id="a", session_id="s"), Scope())
TEXTS = ("", "Mara moved to Lisbon", "moved moved", "Noah likes café and 東京", "same", "same")
KEYS = (None, None, None, "k", "l")
SPACES = (("m", 2), ("n", 3))
VECTORS = {2: np.array([0.6, 0.8], np.float32), 3: np.array([1, 0, 0], np.float32)}
NOWHERE = "00000000-0000-7000-8000-000000000000"
STEPS = (None, MemoryState.ARCHIVED, MemoryState.ARCHIVED, MemoryState.ACTIVATED, MemoryState.MERGED)
PARTS = ("write", "revise", "revise", "derive", "derive", "derive", "step", "end", "end", "relate", "unrelate", "erase")
MOMENTS = st.integers(0, 40).map(lambda seconds: START + timedelta(seconds=seconds))
MAYBE_MOMENTS = st.none() | MOMENTS
some = st.sampled_from


class Draw(Protocol):
    """How Hypothesis hands out a value."""

    def __call__(self, strategy: st.SearchStrategy[T], /) -> T:
        """One value of the strategy."""
        ...


class RandomCommit:
    """A commit that grows part by part, against a vault as it is now."""

    def __init__(self, draw: Draw, scribe: Scribe, vault: FullVault, ids: Sequence[str]) -> None:
        self._draw, self._scribe, self._vault, self._ids = draw, scribe, vault, ids
        self._heads: dict[str, MemCube] = {}
        self.commit = Commit(activity=scribe.activity("random"))

    def add(self, kind: str) -> None:
        """Add one of `PARTS`."""
        match kind:
            case "write":
                self._write()
            case "revise":
                self._revise()
            case "derive":
                self._derive()
            case "step":
                self._step()
            case "end":
                self._end()
            case "relate":
                self._grow(relations=(*self.commit.relations, self._relation()))
            case "unrelate":
                self._unrelate()
            case _:
                self._grow(erasures=(*self.commit.erasures, self.any_id()))

    def any_id(self) -> str:
        """The id of a cube, now and then of none."""
        return self._draw(some(self._ids)) if self._ids and self._rarely(12) else NOWHERE

    def _rarely(self, odds: int) -> bool:
        """False once in `odds` times."""
        return self._draw(some((True,) * odds + (False,)))

    def _grow(self, **parts: object) -> None:
        self.commit = replace(self.commit, **parts)  # type: ignore[arg-type]  # parts of a Commit

    def _write(self) -> None:
        draw = self._draw
        start = draw(MAYBE_MOMENTS)
        cube = self._scribe.cube(
            draw(some(TEXTS)),
            scope=draw(some(OWNERS)),
            metadata=draw(some(({}, {"n": 1.5, "deep": [None, {"ü": True}]}))),
            memory_type=draw(some((MemoryType.PLAINTEXT, MemoryType.PLAINTEXT, MemoryType.ACTIVATION))),
            state=MemoryState.ACTIVATED if self._rarely(6) else MemoryState.GENERATED,
            frozen=not self._rarely(8),
            descriptive=Descriptive(
                key=draw(some(KEYS)),
                name=draw(some((None, "Mara", "Noah"))),
                collection=draw(some(("memories", "memories", "notes"))),
                occurred_at=draw(MAYBE_MOMENTS),
                valid_from=start,
                valid_to=start and start + timedelta(seconds=draw(st.integers(0, 9))),
            ),
            governance=Governance(
                readers=draw(some(((), ("noah",), ("noah", "mara")))), ttl_seconds=draw(some((None, None, 0.5, 20)))
            ),
        )
        vectors = {name: VECTORS[size] for name, size in SPACES[:1] if draw(some((False, False, True)))}
        self._heads[cube.id] = cube
        plain = draw(some((False, False, True)))
        if plain:  # as the others, so that duplicates are met
            cube = self._scribe.cube("same", id=cube.id, scope=cube.scope)
            self._heads[cube.id] = cube
        write = Write(cube=cube, vectors=vectors, merge_duplicate=draw(st.booleans()))
        self._grow(writes=(*self.commit.writes, write))

    def _revise(self) -> None:
        head = self._head()
        if head is None:
            return
        replaces = head.version if self._rarely(9) else max(1, head.version - 1)
        key = self._draw(some((head.descriptive.key, head.descriptive.key, "k")))
        cube = replace(
            head,
            version=replaces + 1,
            payload=TextPayload(self._draw(some(TEXTS))),
            descriptive=replace(head.descriptive, key=key),
        )
        self._heads[cube.id] = cube
        self._grow(writes=(*self.commit.writes, Write(cube=cube, replaces=replaces)))

    def _derive(self) -> None:
        """An edge from something that the commit writes, to what is there or stands before it in the commit."""
        if not self.commit.writes:
            self._write()
        derived = self.commit.writes[-1].cube
        if not self._rarely(4):
            source = Source(id=self._draw(some(("letter", "book"))), kind="file", locator=self._draw(some("aab")))
            edge = Derivation(derived=derived.ref, source=source.id)
            self._grow(sources=(*self.commit.sources, source), derivations=(*self.commit.derivations, edge))
            return
        origin = self._head(of=derived if self._rarely(6) else None)
        if origin is not None and origin.ref != derived.ref:
            version = max(1, origin.version - self._draw(some((0, 0, 0, 1))))
            kind = self._draw(some(("derive", "derive", "summarise")))
            edge = Derivation(derived=derived.ref, source=VersionRef(origin.id, version), kind=kind)
            self._grow(derivations=(*self.commit.derivations, edge))

    def _step(self) -> None:
        step = Transition(
            cube_id=self.any_id(),
            state=self._draw(some(STEPS)) if self._rarely(9) else MemoryState.ERASED,
            frozen=self._draw(some((None, None, False, True))),
            expected_version=self._draw(some((None, None, None, 1))),
        )
        self._grow(transitions=(*self.commit.transitions, step))

    def _end(self) -> None:
        head = self._head()
        if head is not None:
            lifted = (head.superseded_at is not None) is self._rarely(7)
            self._grow(invalidations=(*self.commit.invalidations, Invalidation(ref=head.ref, lifted=lifted)))

    def _unrelate(self) -> None:
        known = [record.relation for record in self._vault.relations(self._ids, EVERYTHING)]
        relation = self._draw(some(known)) if known and self._rarely(3) else self._relation()
        self._grow(unrelations=(*self.commit.unrelations, relation))

    def _relation(self) -> Relation:
        source = self._head()
        target = self._head(of=source if self._rarely(6) else None)
        return Relation(
            source_id=source.id if source else NOWHERE,
            kind=self._draw(some((RelationKind.RELATES_TO, RelationKind.NEXT))),
            target_id=target.id if target else NOWHERE,
            properties=self._draw(some(({}, {"weight": 0.5}))),
        )

    def _head(self, of: MemCube | None = None) -> MemCube | None:
        """A cube as it will be when the commit comes to it; with `of`, one of the same user."""
        there = self._vault.get(self._ids, EVERYTHING) | self._heads
        living = [cube for cube in there.values() if cube.state is not MemoryState.ERASED] if self._rarely(9) else []
        choices = [
            cube
            for cube in living or there.values()
            if of is None or (cube.scope.user_id == of.scope.user_id and cube.id != of.id)
        ]
        return self._draw(some(choices)) if choices else None
