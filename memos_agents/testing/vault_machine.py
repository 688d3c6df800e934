"""VaultMachine: a vault beside `MemoryVault`, the same random operations on both, every answer compared.

Ids and times come from the machine, so both vaults get the same input and must give the same output: values, errors (by
class), columns, postings, records, and the log's hash chain. Subclass it with `make_vault` and run `.TestCase`.
"""

from __future__ import annotations

import tempfile
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from memos_agents.cube.canonical import canonical_json
from memos_agents.cube.memcube import VersionRef
from memos_agents.cube.moment import to_microseconds
from memos_agents.cube.payload import MemoryType
from memos_agents.cube.scope import Scope
from memos_agents.cube.state import MemoryState
from memos_agents.errors import MemOSError
from memos_agents.infrastructure.provenance.values import Derivation
from memos_agents.infrastructure.vault.base import Direction, ListQuery, LogQuery, SearchView, ViewQuery
from memos_agents.infrastructure.vault.commit import Commit, Lease, Write
from memos_agents.infrastructure.vault.memory import MemoryVault
from memos_agents.testing.vault_random import (
    MAYBE_MOMENTS,
    MOMENTS,
    OWNERS,
    PARTS,
    SPACES,
    VECTORS,
    Moment,
    RandomCommit,
    some,
)
from memos_agents.testing.vault_scribe import EVERYTHING, LATER, MARA, START, FullVault, Scribe

READERS = (*OWNERS, EVERYTHING, Scope(session_id="s"), Scope(agent_id="a"), Scope(user_id="mar"), Scope.everything("x"))
TERMS = ("mara", "move", "lisbon", "cafe", "東京", "same", "like", "nothing")
WAYS: tuple[Direction, ...] = ("up", "down", "both")
ALONE = ("write", "revise", "revise", "derive", "derive", "step", "end", "end", "relate", "relate", "unrelate", "erase")


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


def lines(vault: FullVault, scope: Scope) -> list[str]:
    """An export as text."""
    return [canonical_json(record) for record in vault.records(scope)]


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
        self.same(lambda vault: vault.open_space(*SPACES[0]))
        for scope in (EVERYTHING, MARA):  # what a vault keeps of a view of nothing must not last
            self.same(lambda vault, scope=scope: columns(vault.search_view(ViewQuery(scope=scope, now=START))))  # type: ignore[misc]  # bound early
        cubes = [self.scribe.cube("Mara moved", scope=owner) for owner in OWNERS[:3]]
        made = self.scribe.cube("made of two")
        edges = tuple(Derivation(derived=made.ref, source=cube.ref) for cube in (cubes[0], cubes[2]))
        writes = tuple(Write(cube=cube) for cube in (*cubes, made))
        self.send(Commit(activity=self.scribe.activity(), writes=writes, derivations=edges))

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            self.same(lambda vault: vault.log(LogQuery(scope=EVERYTHING, limit=1000)))
            self.same(lambda vault: lines(vault, EVERYTHING))
            self.same(lambda vault: columns(vault.search_view(ViewQuery(scope=EVERYTHING, now=self.scribe.now))))
            self.same(lambda vault: vault.verify())
            assert self.model.verify() == []
            self.vault.close()
            self.folder.cleanup()

    def same(self, call: Callable[[FullVault], object], *, any_error: bool = False) -> object:
        """Ask both, compare, and return the answer (the error's class, if it is one; with `any_error`, just that)."""
        answers: list[object] = []
        for vault in (self.model, self.vault):
            try:
                answers.append(call(vault))
            except MemOSError as error:
                answers.append(MemOSError if any_error else type(error))
        assert answers[1] == answers[0], f"\nexpected {answers[0]!r}\nbut was  {answers[1]!r}"
        return answers[0]

    def send(self, commit: Commit) -> None:
        """Commit to both and remember what there is now. Of the many faults of a repetition either may be named."""
        is_repetition = commit.activity.id in self.activities
        if not isinstance(self.same(lambda vault: vault.commit(commit), any_error=is_repetition), type):
            self.commits.append(commit)
            self.activities.append(commit.activity.id)
            made = (write.cube.id for write in commit.writes if write.replaces is None)
            self.ids.extend(cube_id for cube_id in made if self.model.get([cube_id], EVERYTHING))

    def write(self, data: st.DataObject, kinds: Sequence[str], key: str | None = None) -> None:
        """Commit random parts of these kinds."""
        growing = RandomCommit(data.draw, self.scribe, self.model, self.ids)
        for kind in kinds:
            growing.add(kind)
        self.send(replace(growing.commit, key=key))

    def any_id(self, data: st.DataObject) -> str:
        """The id of a cube, now and then of none."""
        return RandomCommit(data.draw, self.scribe, self.model, self.ids).any_id()

    # -- writing

    @rule(data=st.data(), kind=some(ALONE))
    def write_one(self, data: st.DataObject, kind: str) -> None:
        self.write(data, [kind])

    @rule(data=st.data(), kinds=st.lists(some(("write", "derive", "revise")), min_size=1, max_size=3))
    def write_versions(self, data: st.DataObject, kinds: list[str]) -> None:
        self.write(data, kinds)

    @rule(data=st.data(), kind=some(("end", "end", "step", "relate", "revise")))
    def change(self, data: st.DataObject, kind: str) -> None:
        self.write(data, [kind])

    @rule(data=st.data(), kinds=st.lists(some(PARTS), min_size=2, max_size=5), key=some((None, None, "once", "twice")))
    def write_much(self, data: st.DataObject, kinds: list[str], key: str | None) -> None:
        self.write(data, kinds, key)

    @rule(pick=st.integers(0, 99))
    def repeat(self, pick: int) -> None:
        """The same commit again: once more the same activity, with its key or without."""
        self.send(self.commits[pick % len(self.commits)])

    @rule(name=some(("work", "more")), owner=some(("a", "b")), seconds=st.integers(0, 8), pick=st.integers(0, 99))
    def use_lease(self, name: str, owner: str, seconds: int, pick: int) -> None:
        lease = self.same(lambda vault: vault.acquire_lease(name, owner, seconds, self.scribe.now))
        if isinstance(lease, Lease):
            self.leases.append(lease)
        if self.leases:
            held = self.leases[pick % len(self.leases)]
            self.send(Commit(activity=self.scribe.activity(), writes=(Write(cube=self.scribe.cube("x")),), lease=held))
            if pick % 3 == 0:
                self.same(lambda vault: vault.release_lease(held))

    @rule(data=st.data(), name=some(("s", "t")), space=some(SPACES), wrong=some((0, 0, 0, 1)))
    def change_beside(self, data: st.DataObject, name: str, space: tuple[str, int], wrong: int) -> None:
        """Use, snapshots and vector spaces; time passes."""
        fingerprint, dimension = space
        match data.draw(some(("touch", "touch", "snapshot", "open", "vectors", "vectors", "drop"))):
            case "touch":
                ids = [self.any_id(data) for _ in range(3)]
                at = self.scribe.tick(data.draw(st.integers(0, 2)))
                self.same(lambda vault: vault.touch(ids, at))
            case "snapshot":
                self.same(lambda vault: vault.set_snapshot(name, self.scribe.now))
                self.same(lambda vault: vault.snapshots())
            case "open":
                is_default = data.draw(st.booleans())
                self.same(lambda vault: vault.open_space(fingerprint, dimension + wrong, make_default=is_default))
            case "vectors":
                refs = [VersionRef(self.any_id(data), data.draw(st.integers(0, 3))) for _ in range(3)]
                vectors = dict.fromkeys(refs, VECTORS[dimension])
                self.same(lambda vault: vault.add_vectors(fingerprint, vectors))
            case _:
                self.same(lambda vault: vault.drop_space(fingerprint))
        self.same(lambda vault: vault.spaces())
        self.scribe.tick(data.draw(st.integers(0, 6)))

    # -- reading

    @rule(data=st.data(), scope=some(READERS), way=some(WAYS), depth=st.none() | st.integers(0, 3))
    def read(self, data: st.DataObject, scope: Scope, way: Direction, depth: int | None) -> None:
        ids = [self.any_id(data) for _ in range(3)]
        refs = [VersionRef(cube_id, data.draw(st.integers(-1, 3))) for cube_id in ids]
        self.same(lambda vault: vault.get(ids, scope))
        self.same(lambda vault: vault.versions(refs, scope))
        self.same(lambda vault: vault.history(ids[0], scope))
        self.same(lambda vault: vault.find_key(scope, "memories", "k"))
        self.same(lambda vault: vault.relations(ids, scope, removed=True))
        self.same(lambda vault: vault.relations(ids, scope))
        for ref in (refs[0], VersionRef(ids[1], 1), VersionRef(ids[2], 2)):
            self.same(lambda vault, ref=ref: vault.lineage(ref, way, depth, scope))  # type: ignore[misc]  # bound early

    @rule(data=st.data(), scope=some(READERS), descending=st.booleans(), hidden=st.booleans(), limit=st.integers(0, 9))
    def show(self, data: st.DataObject, scope: Scope, descending: bool, hidden: bool, limit: int) -> None:
        after = data.draw(st.none() | MOMENTS.map(to_microseconds))
        query = ListQuery(
            scope=scope,
            now=data.draw(some((None, self.scribe.now, LATER))),
            include_hidden=hidden,
            states=data.draw(some((frozenset(MemoryState), frozenset({MemoryState.ACTIVATED})))),
            memory_types=data.draw(some((frozenset(MemoryType), frozenset({MemoryType.PLAINTEXT})))),
            collection=data.draw(some((None, None, "notes"))),
            order=data.draw(some(("created", "occurred"))),
            descending=descending,
            limit=limit,
            after=None if after is None else (after, self.any_id(data)),
        )
        self.same(lambda vault: vault.list(query))

    @rule(data=st.data(), scope=some(READERS), since=MAYBE_MOMENTS, until=MAYBE_MOMENTS, limit=st.integers(0, 9))
    def read_log(self, data: st.DataObject, scope: Scope, since: Moment, until: Moment, limit: int) -> None:
        activity = data.draw(some(self.activities))
        cube_id = data.draw(some((None, None, self.any_id(data))))
        query = LogQuery(scope=scope, since=since, until=until, cube_id=cube_id, limit=limit)
        self.same(lambda vault: vault.log(query))
        self.same(lambda vault: vault.log(LogQuery(scope=scope, activity_id=activity)))
        self.same(lambda vault: vault.effects(activity, scope))
        self.same(lambda vault: vault.effects(activity, EVERYTHING))
        self.same(lambda vault: vault.tombstones(activity))

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
        self.same(lambda vault: columns(vault.search_view(ViewQuery(scope=scope, now=self.scribe.now))))
        after = data.draw(some((None, VersionRef(self.any_id(data), 1))))
        self.same(lambda vault: vault.missing_vectors("m", 3, after))

    @rule(scope=some(READERS))
    def count(self, scope: Scope) -> None:
        self.same(lambda vault: replace(vault.stats(scope), size_bytes=None, blob_bytes=None, pending_scrubs=0))
        self.same(lambda vault: lines(vault, scope))

    @rule(scope=some((EVERYTHING, MARA)))
    def transfer(self, scope: Scope) -> None:
        """What either gives out, a new vault takes in and gives out again; to itself nothing of it is new."""
        copies: list[list[str]] = []
        for vault in (self.model, self.vault):
            copy = MemoryVault()
            copy.restore(vault.records(scope), Commit(activity=Scribe(copy, seed=9).activity("load")))
            assert copy.verify() == []
            copies.append(lines(copy, EVERYTHING))
        assert copies[0] == copies[1]
        records = list(self.model.records(scope))
        commit = Commit(activity=self.scribe.activity("load"))
        self.same(lambda vault: vault.restore(records, commit))
        self.activities.append(commit.activity.id)
