"""VaultMachine: a vault beside `MemoryVault`, the same random operations on both, every answer compared.

Ids and times come from the machine, so both vaults get the same input and must give the same output: values, errors (by
class), columns, postings, records, and the log's hash chain. Subclass it with `make_vault` and run `.TestCase`.
"""

from __future__ import annotations

import tempfile
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Protocol, TypeAlias, TypeVar

import numpy as np
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from memos_agents.cube.canonical import canonical_json
from memos_agents.cube.memcube import MemCube, VersionRef
from memos_agents.cube.metadata import Descriptive, Governance
from memos_agents.cube.moment import to_microseconds
from memos_agents.cube.payload import MemoryType, TextPayload
from memos_agents.cube.scope import Scope
from memos_agents.cube.state import MemoryState
from memos_agents.errors import MemOSError
from memos_agents.infrastructure.provenance.values import Derivation, Relation, RelationKind, Source
from memos_agents.infrastructure.vault.base import Direction, ListQuery, LogQuery, SearchView, ViewQuery
from memos_agents.infrastructure.vault.commit import Commit, Invalidation, Lease, Transition, Write
from memos_agents.infrastructure.vault.memory import MemoryVault
from memos_agents.testing.vault_scribe import EVERYTHING, LATER, MARA, NOAH, START, FullVault, Scribe

OWNERS = (
    MARA,
    NOAH,
    Scope(user_id="mara", session_id="s"),
    Scope(user_id="mara", agent_id="a", session_id="s"),
    Scope(),
)
READERS = (*OWNERS, EVERYTHING, Scope(session_id="s"), Scope(agent_id="a"), Scope(user_id="mar"), Scope.everything("x"))
TEXTS = ("", "Mara moved to Lisbon", "moved moved", "Noah likes café and 東京", "same", "same")
TERMS = ("mara", "move", "lisbon", "cafe", "東京", "same", "like", "nothing")
KEYS = (None, None, None, "k", "l")
SPACES = (("m", 2), ("n", 3))
VECTORS = {2: np.array([0.6, 0.8], np.float32), 3: np.array([1, 0, 0], np.float32)}
NOWHERE = "00000000-0000-7000-8000-000000000000"
PARTS = ("write", "write", "revise", "revise", "derive", "derive", "step", "end", "relate", "unrelate", "erase")
MOMENTS = st.integers(0, 40).map(lambda seconds: START + timedelta(seconds=seconds))
MAYBE_MOMENTS = st.none() | MOMENTS
some = st.sampled_from


T = TypeVar("T")
Moment: TypeAlias = datetime | None


class Draw(Protocol):
    """How Hypothesis hands out a value."""

    def __call__(self, strategy: st.SearchStrategy[T], /) -> T: ...


def columns(shown: SearchView) -> object:
    """A search view as a value."""
    view = shown.view
    arrays = (view.session, view.previous, view.following, view.speaker, view.flags, view.event_us, view.length)
    postings = {term: (rows.tolist(), counts.tolist()) for term, (rows, counts) in shown.postings(TERMS).items()}
    return (
        list(view.refs),
        [array.tolist() for array in arrays],
        view.speakers,
        view.vectors.tolist(),
        view.vectors.shape,
        [canonical_json(metadata) for metadata in shown.metadata()],
        postings,
    )


class VaultMachine(RuleBasedStateMachine):
    """Random lives of two vaults."""

    @abstractmethod
    def make_vault(self, folder: Path) -> FullVault:
        """Open the vault under test in an empty folder."""

    @initialize()
    def open(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.vault = self.make_vault(Path(self.folder.name))
        self.model: FullVault = MemoryVault()
        self.scribe = Scribe(self.model)
        self.ids: list[str] = []
        self.activities: list[str] = []
        self.commits: list[Commit] = []
        self.leases: list[Lease] = []

    def teardown(self) -> None:
        if not hasattr(self, "folder"):
            return
        with self.folder:
            self.same(lambda vault: vault.log(LogQuery(scope=EVERYTHING, limit=1000)))
            self.same(lambda vault: [canonical_json(record) for record in vault.records(EVERYTHING)])
            self.same(lambda vault: columns(vault.search_view(ViewQuery(scope=EVERYTHING, now=self.scribe.now))))
            self.same(lambda vault: vault.verify())
            assert self.model.verify() == []
            self.vault.close()

    def same(self, call: Callable[[FullVault], object]) -> object:
        """Ask both, compare, and return the answer (the error's class, if it is one)."""
        answers: list[object] = []
        for vault in (self.model, self.vault):
            try:
                answers.append(call(vault))
            except MemOSError as error:
                answers.append(type(error))
        assert answers[1] == answers[0], f"\nexpected {answers[0]!r}\nbut was  {answers[1]!r}"
        return answers[0]

    # -- writing

    @rule(
        data=st.data(),
        kinds=st.lists(some(PARTS), min_size=1, max_size=4),
        key=some((None, None, None, "once", "twice")),
    )
    def commit(self, data: st.DataObject, kinds: list[str], key: str | None) -> None:
        commit = Commit(activity=self.scribe.activity("random", kinds=list(kinds)), key=key)
        heads: dict[str, MemCube] = {}
        for kind in kinds:
            commit = getattr(self, f"_{kind}")(data.draw, commit, heads)
        self.send(commit)

    @rule(pick=st.integers(0, 99))
    def repeat(self, pick: int) -> None:
        """The same commit again: once more the same activity, with its key or without."""
        if self.commits:
            self.send(self.commits[pick % len(self.commits)])

    @rule(pick=st.integers(0, 99), name=some(("work", "more")))
    def commit_with_lease(self, pick: int, name: str) -> None:
        if self.leases:
            lease = self.leases[pick % len(self.leases)]
            write = Write(cube=self.scribe.cube(f"by {lease.owner}"))
            self.send(Commit(activity=self.scribe.activity(), writes=(write,), lease=lease))

    def send(self, commit: Commit) -> None:
        """Commit to both and remember what there is now."""
        if not isinstance(self.same(lambda vault: vault.commit(commit)), type):
            self.commits.append(commit)
            self.activities.append(commit.activity.id)
            known = set(self.ids)
            self.ids.extend(write.cube.id for write in commit.writes if write.cube.id not in known)

    def _write(self, draw: Draw, commit: Commit, heads: dict[str, MemCube]) -> Commit:
        start = draw(MAYBE_MOMENTS)
        cube = self.scribe.cube(
            draw(some(TEXTS)),
            scope=draw(some(OWNERS)),
            metadata=draw(some(({}, {"n": 1.5, "deep": [None, {"ü": True}]}))),
            memory_type=draw(some((MemoryType.PLAINTEXT, MemoryType.PLAINTEXT, MemoryType.ACTIVATION))),
            state=draw(some((MemoryState.ACTIVATED,) * 4 + (MemoryState.GENERATED,))),
            frozen=draw(some((False,) * 5 + (True,))),
            descriptive=Descriptive(
                key=draw(some(KEYS)),
                name=draw(some((None, "Mara", "Noah"))),
                collection=draw(some(("memories", "memories", "notes"))),
                occurred_at=draw(MAYBE_MOMENTS),
                valid_from=start,
                valid_to=start and start + timedelta(seconds=draw(st.integers(0, 9))),
            ),
            governance=Governance(
                readers=draw(some(((), (), ("noah",)))), ttl_seconds=draw(some((None, None, None, 0.5, 20)))
            ),
        )
        vectors = {name: VECTORS[size] for name, size in SPACES if draw(some((False, False, True)))}
        heads[cube.id] = cube
        write = Write(cube=cube, vectors=vectors, merge_duplicate=draw(st.booleans()))
        return replace(commit, writes=(*commit.writes, write))

    def _revise(self, draw: Draw, commit: Commit, heads: dict[str, MemCube]) -> Commit:
        head = self._head(draw, heads)
        if head is None:
            return commit
        replaces = max(1, head.version - draw(some((0,) * 6 + (1,))))
        descriptive = replace(head.descriptive, key=draw(some((head.descriptive.key, *KEYS))))
        cube = replace(head, version=replaces + 1, payload=TextPayload(draw(some(TEXTS))), descriptive=descriptive)
        heads[cube.id] = cube
        return replace(commit, writes=(*commit.writes, Write(cube=cube, replaces=replaces)))

    def _derive(self, draw: Draw, commit: Commit, heads: dict[str, MemCube]) -> Commit:
        """A derivation of something that the commit writes, else of a new cube."""
        if not commit.writes:
            commit = self._write(draw, commit, heads)
        derived = draw(some(commit.writes)).cube.ref
        if draw(some((False,) * 4 + (True,))):
            source = Source(id=draw(some(("letter", "book"))), kind="file", locator=draw(some(("a", "a", "b"))))
            edge = Derivation(derived=derived, source=source.id)
            return replace(commit, sources=(*commit.sources, source), derivations=(*commit.derivations, edge))
        origin = self._head(draw, heads)
        if origin is None:
            return commit
        version = max(1, origin.version - draw(some((0, 0, 0, 1))))
        edge = Derivation(derived=derived, source=VersionRef(origin.id, version), kind=draw(some(("derive", "sum"))))
        return replace(commit, derivations=(*commit.derivations, edge))

    def _step(self, draw: Draw, commit: Commit, heads: dict[str, MemCube]) -> Commit:
        step = Transition(
            cube_id=self._id(draw),
            state=draw(
                some((None, MemoryState.ARCHIVED, MemoryState.ACTIVATED, MemoryState.MERGED, MemoryState.ERASED))
            ),
            frozen=draw(some((None, None, False, True))),
            expected_version=draw(some((None, None, None, 1))),
        )
        return replace(commit, transitions=(*commit.transitions, step))

    def _end(self, draw: Draw, commit: Commit, heads: dict[str, MemCube]) -> Commit:
        head = self._head(draw, heads)
        if head is None:
            return commit
        is_ended = head.superseded_at is not None
        lifted = is_ended if draw(some((True,) * 5 + (False,))) else not is_ended
        return replace(commit, invalidations=(*commit.invalidations, Invalidation(ref=head.ref, lifted=lifted)))

    def _relate(self, draw: Draw, commit: Commit, heads: dict[str, MemCube]) -> Commit:
        return replace(commit, relations=(*commit.relations, self._relation(draw)))

    def _unrelate(self, draw: Draw, commit: Commit, heads: dict[str, MemCube]) -> Commit:
        known = self.model.relations(self.ids, EVERYTHING)
        relation = draw(some(known)).relation if known and draw(st.booleans()) else self._relation(draw)
        return replace(commit, unrelations=(*commit.unrelations, relation))

    def _erase(self, draw: Draw, commit: Commit, heads: dict[str, MemCube]) -> Commit:
        return replace(commit, erasures=(*commit.erasures, self._id(draw)))

    def _relation(self, draw: Draw) -> Relation:
        return Relation(
            source_id=self._id(draw),
            kind=draw(some((RelationKind.RELATES_TO, RelationKind.NEXT))),
            target_id=self._id(draw),
            properties=draw(some(({}, {"weight": 0.5}))),
        )

    def _id(self, draw: Draw) -> str:
        return draw(some(self.ids)) if self.ids and draw(some((True,) * 12 + (False,))) else NOWHERE

    def _head(self, draw: Draw, heads: dict[str, MemCube]) -> MemCube | None:
        """A cube as it will be when the commit comes to it."""
        choices = [*self.ids, *(cube_id for cube_id in heads if cube_id not in self.ids)]
        if not choices:
            return None
        cube_id = draw(some(choices))
        return heads.get(cube_id) or self.model.get([cube_id], EVERYTHING).get(cube_id)

    # -- beside the commits

    @rule(data=st.data())
    def touch(self, data: st.DataObject) -> None:
        ids = [self._id(data.draw) for _ in range(data.draw(st.integers(0, 3)))]
        at = self.scribe.tick(data.draw(st.integers(0, 2)))
        self.same(lambda vault: vault.touch(ids, at))

    @rule(name=some(("work", "more")), owner=some(("a", "b")), seconds=st.integers(0, 8))
    def acquire_lease(self, name: str, owner: str, seconds: int) -> None:
        lease = self.same(lambda vault: vault.acquire_lease(name, owner, seconds, self.scribe.now))
        if isinstance(lease, Lease):
            self.leases.append(lease)

    @rule(pick=st.integers(0, 99))
    def release_lease(self, pick: int) -> None:
        if self.leases:
            self.same(lambda vault: vault.release_lease(self.leases[pick % len(self.leases)]))

    @rule(name=some(("s", "t")))
    def set_snapshot(self, name: str) -> None:
        self.same(lambda vault: vault.set_snapshot(name, self.scribe.now))
        self.same(lambda vault: vault.snapshots())

    @rule(space=some(SPACES), make_default=st.booleans(), wrong=some((0, 0, 0, 1)))
    def open_space(self, space: tuple[str, int], make_default: bool, wrong: int) -> None:
        self.same(lambda vault: vault.open_space(space[0], space[1] + wrong, make_default=make_default))
        self.same(lambda vault: vault.spaces())

    @rule(space=some(SPACES), chance=some((False, False, True)))
    def drop_space(self, space: tuple[str, int], chance: bool) -> None:
        if chance:
            self.same(lambda vault: vault.drop_space(space[0]))

    @rule(data=st.data(), space=some(SPACES))
    def add_vectors(self, data: st.DataObject, space: tuple[str, int]) -> None:
        refs = [VersionRef(self._id(data.draw), data.draw(st.integers(0, 3))) for _ in range(3)]
        self.same(lambda vault: vault.add_vectors(space[0], dict.fromkeys(refs, VECTORS[space[1]])))

    @rule(seconds=st.integers(1, 15))
    def wait(self, seconds: int) -> None:
        self.scribe.tick(seconds)

    # -- reading

    @rule(data=st.data(), scope=some(READERS))
    def read(self, data: st.DataObject, scope: Scope) -> None:
        ids = [self._id(data.draw) for _ in range(3)]
        refs = [VersionRef(cube_id, data.draw(st.integers(-1, 3))) for cube_id in ids]
        self.same(lambda vault: vault.get(ids, scope))
        self.same(lambda vault: vault.versions(refs, scope))
        self.same(lambda vault: vault.history(ids[0], scope))
        self.same(lambda vault: vault.find_key(scope, "memories", "k"))
        self.same(lambda vault: vault.relations(ids, scope, removed=True))
        self.same(lambda vault: vault.relations(ids, scope))

    @rule(
        data=st.data(),
        scope=some(READERS),
        descending=st.booleans(),
        include_hidden=st.booleans(),
        limit=st.integers(0, 5),
    )
    def list(self, data: st.DataObject, scope: Scope, descending: bool, include_hidden: bool, limit: int) -> None:
        after = data.draw(st.none() | MOMENTS.map(to_microseconds))
        query = ListQuery(
            scope=scope,
            now=data.draw(some((None, self.scribe.now, LATER))),
            include_hidden=include_hidden,
            states=data.draw(some((frozenset(MemoryState), frozenset({MemoryState.ACTIVATED})))),
            memory_types=data.draw(some((frozenset(MemoryType), frozenset({MemoryType.PLAINTEXT})))),
            collection=data.draw(some((None, None, "notes"))),
            order=data.draw(some(("created", "occurred"))),
            descending=descending,
            limit=limit,
            after=None if after is None else (after, self._id(data.draw)),
        )
        self.same(lambda vault: vault.list(query))

    @rule(
        data=st.data(), scope=some(READERS), way=some(("up", "down", "both")), depth=st.none() | st.integers(0, 3),
    )  # fmt: skip
    def lineage(self, data: st.DataObject, scope: Scope, way: Direction, depth: int | None) -> None:
        ref = VersionRef(self._id(data.draw), data.draw(st.integers(0, 3)))
        self.same(lambda vault: vault.lineage(ref, way, depth, scope))

    @rule(data=st.data(), scope=some(READERS), since=MAYBE_MOMENTS, until=MAYBE_MOMENTS, limit=st.integers(0, 9))
    def log(self, data: st.DataObject, scope: Scope, since: Moment, until: Moment, limit: int) -> None:
        activity = data.draw(some(self.activities)) if self.activities else "nothing"
        cube_id = data.draw(some((None, None, self._id(data.draw))))
        query = LogQuery(scope=scope, since=since, until=until, cube_id=cube_id, limit=limit)
        self.same(lambda vault: vault.log(query))
        self.same(lambda vault: vault.log(replace(query, cube_id=None, activity_id=activity)))
        self.same(lambda vault: vault.effects(activity, scope))
        self.same(lambda vault: vault.tombstones(activity))

    @rule(scope=some(READERS))
    def count(self, scope: Scope) -> None:
        self.same(lambda vault: replace(vault.stats(scope), size_bytes=None, blob_bytes=None, pending_scrubs=0))
        self.same(lambda vault: [canonical_json(record) for record in vault.records(scope)])

    @rule(data=st.data(), scope=some(READERS), as_of=MAYBE_MOMENTS, valid_at=MAYBE_MOMENTS)
    def search(self, data: st.DataObject, scope: Scope, as_of: Moment, valid_at: Moment) -> None:
        query = ViewQuery(
            scope=scope,
            now=data.draw(some((self.scribe.now, LATER))),
            space=data.draw(some((None, "m", "n"))),
            as_of=as_of,
            valid_at=valid_at,
            states=data.draw(some((frozenset({MemoryState.ACTIVATED}), frozenset(MemoryState)))),
            memory_types=data.draw(some((frozenset({MemoryType.PLAINTEXT}), frozenset(MemoryType)))),
            collection=data.draw(some((None, None, "notes"))),
        )
        self.same(lambda vault: columns(vault.search_view(query)))

    @rule(data=st.data(), space=some(SPACES), limit=st.integers(0, 5))
    def missing_vectors(self, data: st.DataObject, space: tuple[str, int], limit: int) -> None:
        after = data.draw(some((None, VersionRef(self._id(data.draw), 1))))
        self.same(lambda vault: vault.missing_vectors(space[0], limit, after))

    @rule(scope=some((EVERYTHING, MARA)))
    def transfer(self, scope: Scope) -> None:
        """What either gives out, a new vault takes in, and gives out again."""
        copies: list[list[str]] = []
        for vault in (self.model, self.vault):
            copy = MemoryVault()
            copy.restore(vault.records(scope), Commit(activity=Scribe(self.model, seed=9).activity("load")))
            assert copy.verify() == []
            copies.append([canonical_json(record) for record in copy.records(EVERYTHING)])
        assert copies[0] == copies[1]

    @rule(scope=some((EVERYTHING, MARA)))
    def load_own_records(self, scope: Scope) -> None:
        """Nothing is new to the vault that wrote it."""
        records = list(self.model.records(scope))
        commit = Commit(activity=self.scribe.activity("load"))
        self.same(lambda vault: vault.restore(records, commit))
        self.activities.append(commit.activity.id)
