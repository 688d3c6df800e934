"""Laws of concurrency: many threads, one order; and of durability, for vaults that can be opened again."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from memos_agents.cube.memcube import MemCube
from memos_agents.cube.metadata import Descriptive
from memos_agents.errors import BackendUnavailable, InvalidRequest, NotFound, VersionConflict
from memos_agents.infrastructure.vault.base import LogQuery, ViewQuery
from memos_agents.infrastructure.vault.commit import Commit, CommitResult, SupportsPlanning, Write
from memos_agents.testing.vault_scribe import (
    EVERYTHING,
    LATER,
    MARA,
    START,
    FullVault,
    Scribe,
    VaultLaws,
    everything_in,
)
from memos_agents.testing.vault_transfer_laws import story

THREADS = 8


def race(works: Sequence[Callable[[], object]]) -> list[object]:
    """Run all at once; what each returned or raised."""
    barrier = threading.Barrier(len(works))

    def run(work: Callable[[], object]) -> object:
        barrier.wait()
        try:
            return work()
        except (VersionConflict, BackendUnavailable) as error:
            return error

    with ThreadPoolExecutor(len(works)) as pool:
        return list(pool.map(run, works))


def _commit(vault: FullVault, commit: Commit) -> Callable[[], CommitResult]:
    return partial(vault.commit, commit)


def _commit_all(vault: FullVault, commits: Sequence[Commit], results: list[CommitResult]) -> None:
    results.extend(vault.commit(commit) for commit in commits)


def _writing(scribe: Scribe, cube: MemCube) -> Commit:
    return Commit(activity=scribe.activity(), writes=(Write(cube=cube),))


class ConcurrencyLaws(VaultLaws):
    """Threads on one vault object."""

    def test_of_many_writers_of_one_version_one_wins(self, vault: FullVault, scribe: Scribe) -> None:
        cube = scribe.add("0")
        for version in range(1, 6):
            head = scribe.head(cube)
            writes = [scribe.next_of(head, f"{version} by {number}") for number in range(THREADS)]
            commits = [Commit(activity=scribe.activity(), writes=(write,)) for write in writes]
            results = race([_commit(vault, commit) for commit in commits])
            assert Counter(type(result) for result in results) == {CommitResult: 1, VersionConflict: THREADS - 1}
            winner = next(number for number, result in enumerate(results) if isinstance(result, CommitResult))
            assert scribe.head(cube).text == f"{version} by {winner}"
        assert scribe.head(cube).version == 6
        assert vault.verify() == []

    def test_no_commit_is_lost_and_none_shares_its_place(self, vault: FullVault, scribe: Scribe) -> None:
        commits = [
            [_writing(scribe, scribe.cube(f"{thread} {number}")) for number in range(5)] for thread in range(THREADS)
        ]
        results: list[CommitResult] = []
        race([partial(_commit_all, vault, own, results) for own in commits])
        assert sorted(result.seq for result in results) == list(range(1, 5 * THREADS + 1))
        assert len({result.at for result in results}) == 5 * THREADS
        by_seq = sorted(results, key=lambda result: result.seq)
        assert [result.at for result in by_seq] == sorted(result.at for result in results)
        assert vault.stats(MARA).cubes == len(scribe.found()) == 5 * THREADS
        assert vault.verify() == []

    def test_a_key_is_taken_once(self, vault: FullVault, scribe: Scribe) -> None:
        keyed = Descriptive(key="k")
        commits = [_writing(scribe, scribe.cube(descriptive=keyed)) for _ in range(THREADS)]
        results = race([_commit(vault, commit) for commit in commits])
        assert Counter(type(result) for result in results) == {CommitResult: 1, VersionConflict: THREADS - 1}
        assert vault.stats(MARA).cubes == 1

    def test_a_commit_sent_by_many_is_done_once(self, vault: FullVault, scribe: Scribe) -> None:
        commit = Commit(activity=scribe.activity(), key="k", writes=(Write(cube=scribe.cube()),))
        results = race([_commit(vault, commit)] * THREADS)
        assert {result.seq for result in results if isinstance(result, CommitResult)} == {1}
        assert Counter(result.is_repeated for result in results if isinstance(result, CommitResult)) == {
            False: 1,
            True: THREADS - 1,
        }
        assert vault.stats(EVERYTHING).commits == 1

    def test_a_duplicate_sent_by_many_is_one_cube(self, vault: FullVault, scribe: Scribe) -> None:
        cubes = [scribe.cube("same") for _ in range(THREADS)]
        commits = [
            Commit(activity=scribe.activity(), writes=(Write(cube=cube, merge_duplicate=True),)) for cube in cubes
        ]
        race([_commit(vault, commit) for commit in commits])
        stats = vault.stats(MARA)
        assert (stats.cubes, stats.uses) == (1, THREADS - 1)

    def test_a_lease_is_given_to_one(self, vault: FullVault) -> None:
        owners = [str(number) for number in range(THREADS)]
        results = race([partial(vault.acquire_lease, "work", owner, 60, START) for owner in owners])
        assert sum(isinstance(result, BackendUnavailable) for result in results) == THREADS - 1

    def test_readers_see_whole_commits(self, vault: FullVault, scribe: Scribe) -> None:
        one, two = scribe.add("0"), scribe.add("0")
        commits = []
        heads = [one, two]
        for number in range(1, 20):
            writes = [scribe.next_of(head, str(number)) for head in heads]
            commits.append(Commit(activity=scribe.activity(), writes=tuple(writes)))
            heads = [write.cube for write in writes]
        finished = threading.Event()
        torn: list[object] = []

        def read() -> None:
            while not finished.is_set():
                found = vault.get([one.id, two.id], MARA)
                texts = {cube.text for cube in found.values()}
                view = vault.search_view(ViewQuery(scope=MARA, now=LATER)).view
                versions = {ref.version for ref in view.refs}
                if len(texts) != 1 or len(versions) != 1 or len(view) != 2:
                    torn.append((texts, versions))

        readers = [threading.Thread(target=read) for _ in range(2)]
        for reader in readers:
            reader.start()
        try:
            for commit in commits:
                vault.commit(commit)
        finally:
            finished.set()
            for reader in readers:
                reader.join()
        assert torn == []


class PlanningLaws(VaultLaws):
    """What `SupportsPlanning` promises, for vaults that have it."""

    def test_a_commit_planned_in_its_turn_is_a_commit(self, vault: FullVault, scribe: Scribe) -> None:
        assert isinstance(vault, SupportsPlanning)
        commit = _writing(scribe, scribe.cube("planned"))
        planned, result = vault.commit_planned(lambda: commit)
        assert planned is commit
        assert [outcome.ref for outcome in result.outcomes] == [commit.writes[0].cube.ref]
        with pytest.raises(InvalidRequest):
            vault.commit_planned(lambda: commit)
        assert vault.verify() == []

    def test_a_plan_that_fails_writes_nothing_and_harms_nobody(self, vault: FullVault, scribe: Scribe) -> None:
        assert isinstance(vault, SupportsPlanning)
        before = len(vault.log(LogQuery(scope=EVERYTHING, limit=1000)))
        commits = [_writing(scribe, scribe.cube(f"number {number}")) for number in range(THREADS)]

        def plan(number: int) -> Commit:
            if number % 2:
                raise VersionConflict(f"planned to fail: {number}")
            return commits[number]

        works = [partial(vault.commit_planned, partial(plan, number)) for number in range(THREADS)]
        results = race(works)
        assert [isinstance(result, VersionConflict) for result in results] == [False, True] * (THREADS // 2)
        assert len(vault.log(LogQuery(scope=EVERYTHING, limit=1000))) == before + THREADS // 2
        assert vault.verify() == []


class DurabilityLaws(VaultLaws):
    """For vaults whose content outlives the object: what is told is the same after opening again."""

    def test_opened_again_it_is_the_same(self, tmp_path: Path) -> None:
        vault = self.make_vault(tmp_path / "one")
        scribe = Scribe(vault)
        cubes = story(scribe)
        vault.set_snapshot("s", scribe.now)
        lease = vault.acquire_lease("work", "a", 60, scribe.now)
        first = scribe.commit(key="k", writes=[scribe.cube("last")])
        vault.touch([cubes["first"].id], scribe.now)
        query = ViewQuery(scope=MARA, now=scribe.now, space="m")
        terms = ["chang", "last", "deriv"]
        before, shown = everything_in(vault), vault.search_view(query)
        postings = {term: rows.tolist() for term, (rows, _) in shown.postings(terms).items()}
        vault.close()
        again = self.make_vault(tmp_path / "one")
        try:
            assert everything_in(again) == before
            found = again.search_view(query)
            assert found.view.refs == shown.view.refs
            assert np.array_equal(found.view.vectors, shown.view.vectors)
            assert {term: rows.tolist() for term, (rows, _) in found.postings(terms).items()} == postings
            assert again.tombstones(_erasing(again)) != []
            repeated = again.commit(Commit(activity=scribe.activity(), key="k"))
            assert (repeated.seq, repeated.is_repeated, repeated.outcomes) == (first.seq, True, first.outcomes)
            assert again.commit(Commit(activity=scribe.activity(), lease=lease)).seq == first.seq + 1
            assert again.verify() == []
        finally:
            again.close()

    def test_two_objects_on_one_place_see_each_other(self, tmp_path: Path) -> None:
        one, two = self.make_vault(tmp_path / "one"), self.make_vault(tmp_path / "one")
        try:
            writer, reader = Scribe(one, seed=1), Scribe(two, seed=2, start=LATER)
            cube = writer.add("one")
            assert reader.found() == [cube.id]
            head = reader.revise(cube, "two")
            assert writer.found() == [cube.id]
            assert writer.head(cube) == head
            assert one.search_view(ViewQuery(scope=MARA, now=LATER)).postings(["two"]).keys() == {"two"}
            two.touch([cube.id], LATER)
            reader.add("more")
            assert writer.head(cube).behavioural.use_count == 1
            reader.erase(head)
            assert one.find_key(MARA, "memories", "k") is None
            assert len(writer.found()) == 1
            with pytest.raises(NotFound):
                writer.revise(head, "three")
            assert one.verify() == two.verify() == []
        finally:
            one.close()
            two.close()

    def test_objects_on_one_place_race_like_threads(self, tmp_path: Path) -> None:
        vaults = [self.make_vault(tmp_path / "one") for _ in range(4)]
        try:
            scribe = Scribe(vaults[0])
            cube = scribe.add("0")
            commits = [
                Commit(activity=scribe.activity(), writes=(scribe.next_of(cube, str(number)),)) for number in range(4)
            ]
            results = race([_commit(vault, commit) for vault, commit in zip(vaults, commits, strict=True)])
            assert Counter(type(result) for result in results) == {CommitResult: 1, VersionConflict: 3}
            assert {vault.get([cube.id], MARA)[cube.id].version for vault in vaults} == {2}
        finally:
            for vault in vaults:
                vault.close()


def _erasing(vault: FullVault) -> str:
    """The id of an erasure in the log."""
    return next(entry.activity_id for entry in vault.log(LogQuery(scope=EVERYTHING)) if entry.kind == "erase")
