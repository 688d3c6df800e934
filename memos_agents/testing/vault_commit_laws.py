"""Laws of `commit`: all or nothing, optimistic, once, in one order."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest

from memos_agents.cube.memcube import MemCube
from memos_agents.cube.metadata import Descriptive, Governance
from memos_agents.cube.payload import ArtefactPayload
from memos_agents.cube.scope import Scope
from memos_agents.cube.state import MemoryState
from memos_agents.errors import InvalidRequest, NotFound, VersionConflict
from memos_agents.infrastructure.provenance.values import Activity, Agent, Source
from memos_agents.infrastructure.vault.base import LogQuery
from memos_agents.infrastructure.vault.commit import Commit, Lease, Transition, Write
from memos_agents.testing.vault_faults import FAULTS, NOWHERE
from memos_agents.testing.vault_scribe import (
    EVERYTHING,
    MARA,
    NOAH,
    START,
    FullVault,
    Scribe,
    VaultLaws,
    everything_in,
)


class CommitLaws(VaultLaws):
    """Writing."""

    def test_a_written_cube_reads_back_as_it_was_given(self, vault: FullVault, scribe: Scribe) -> None:
        moment = datetime(2025, 5, 1, 8, 30, 0, 123456, tzinfo=UTC)
        cube = scribe.cube(
            "Übergrößen 👩‍🔬 'quoted'; DROP TABLE cube; --\n\t" + "x" * 5000,
            scope=Scope(user_id="mara", agent_id="a", session_id="s"),
            metadata={"a": [1, 2.5, None, True, "ü", {"deep": []}], "": {}, "big": 2**53 + 1, "tiny": 5e-324},
            state=MemoryState.GENERATED,
            frozen=True,
            descriptive=Descriptive(
                semantic_type="fact",
                role="user",
                name="Mara",
                title="Title",
                tags=("a", "b"),
                language="de",
                collection="notes",
                key="k",
                occurred_at=moment,
                valid_from=moment,
                valid_to=moment + timedelta(microseconds=1),
            ),
            governance=Governance(
                owner="mara", readers=("noah",), writers=("ida",), ttl_seconds=0.5, priority=-3, trust=0.25
            ),
        )
        result = scribe.commit(writes=[cube])
        read = scribe.head(cube)
        assert read == replace(
            cube, created_at=result.at, recorded_at=result.at, behavioural=replace(cube.behavioural, version_chain=(1,))
        )
        assert read.content_hash == cube.content_hash
        assert MemCube.from_json(read.to_json()) == read
        assert result.outcomes[0].ref == cube.ref
        assert not result.outcomes[0].is_duplicate
        assert vault.versions([cube.ref], EVERYTHING) == {cube.ref: read}

    def test_artefacts_read_back_with_their_manifest(self, vault: FullVault, scribe: Scribe) -> None:
        blob = vault.blobs.put(b"tensor")
        cube = scribe.cube(payload=ArtefactPayload(manifest={"model": "m", "layers": 2}, blobs={"kv": blob}))
        scribe.commit(writes=[cube])
        assert scribe.head(cube).payload == cube.payload
        assert scribe.head(cube).text == ""
        assert vault.verify() == []

    def test_recorded_times_rise_though_the_clock_stands_still_or_goes_back(self, scribe: Scribe) -> None:
        activities = [
            Activity(id=scribe.new_id(), kind="test", started_at=START + timedelta(seconds=seconds))
            for seconds in (0, 0, -3600, 5)
        ]
        times = [scribe.commit(activity=activity, writes=[scribe.cube()]).at for activity in activities]
        assert times == sorted(set(times))
        assert times[0] == START
        assert times[2] == START + timedelta(microseconds=2)
        assert times[3] == START + timedelta(seconds=5)

    def test_a_time_in_another_zone_is_the_same_moment(self, scribe: Scribe) -> None:
        zone = timezone(timedelta(hours=5, minutes=30))
        activity = Activity(id=scribe.new_id(), kind="test", started_at=START.astimezone(zone))
        result = scribe.commit(activity=activity, writes=[scribe.cube()])
        assert result.at == START
        assert result.at.utcoffset() == timedelta(0)

    @pytest.mark.parametrize("fault", FAULTS)
    def test_a_failed_commit_leaves_nothing(self, vault: FullVault, scribe: Scribe, fault: str) -> None:
        vault.open_space("space", 4)
        source = Source(id="letter", kind="file", locator="letter.txt")
        cube = scribe.add("first", sources=[source], descriptive=Descriptive(key="taken"))
        cube = scribe.revise(cube, "second")
        relation = scribe.relate(cube, scribe.add("third"), weight=1)
        before = everything_in(vault)
        error, spoil = FAULTS[fault]
        good = Commit(
            activity=scribe.activity(),
            key="once",
            writes=(Write(cube=scribe.cube("new", descriptive=Descriptive(key="mine"))), scribe.next_of(cube, "third")),
            transitions=(Transition(cube_id=relation.target_id, state=MemoryState.ARCHIVED),),
            sources=(Source(id="another", kind="url", locator="https://example.org"),),
            unrelations=(relation,),
        )
        spoilt = spoil(scribe, scribe.head(cube), good)
        if len(spoilt.writes) == len(good.writes):  # the fault speaks of the cube as it was before this commit
            spoilt = replace(spoilt, writes=good.writes[:1])
        with pytest.raises(error):
            vault.commit(spoilt)
        assert everything_in(vault) == before
        assert vault.find_key(MARA, "memories", "mine") is None
        assert vault.verify() == []
        result = vault.commit(replace(good, activity=scribe.activity()))  # and the key was not used up
        assert (result.seq, result.is_repeated) == (5, False)

    def test_a_version_must_be_one_more_than_the_one_it_replaces(self, scribe: Scribe) -> None:
        cube = scribe.add()
        for version, replaces in ((3, 1), (1, 1), (2, None), (1, 0)):
            with pytest.raises((InvalidRequest, VersionConflict)):
                scribe.commit(writes=[Write(cube=replace(cube, version=version), replaces=replaces)])
        assert scribe.head(cube) == cube

    def test_of_two_writers_of_one_version_the_second_is_told(self, scribe: Scribe) -> None:
        cube = scribe.add("one")
        first, second = scribe.next_of(cube, "two"), scribe.next_of(cube, "zwei")
        scribe.commit(writes=[first])
        with pytest.raises(VersionConflict) as caught:
            scribe.commit(writes=[second])
        assert caught.value.retryable
        assert scribe.head(cube).text == "two"

    def test_a_write_cannot_take_a_cube_into_another_scope(self, scribe: Scribe) -> None:
        cube = scribe.add()
        for scope in (NOAH, Scope(), Scope(user_id="mara", session_id="s")):
            with pytest.raises(NotFound):
                scribe.commit(writes=[Write(cube=replace(cube, version=2, scope=scope), replaces=1)])

    def test_a_new_version_ends_the_old_one_at_the_same_moment(self, vault: FullVault, scribe: Scribe) -> None:
        cube = scribe.add("one")
        scribe.revise(scribe.revise(cube, "two"), "three")
        first, second, third = vault.history(cube.id, MARA)
        assert [first.text, second.text, third.text] == ["one", "two", "three"]
        assert first.superseded_at == second.recorded_at
        assert second.superseded_at == third.recorded_at
        assert third.superseded_at is None
        assert {version.created_at for version in (first, second, third)} == {cube.created_at}
        assert third.behavioural.version_chain == (1, 2, 3)

    def test_one_commit_can_write_two_versions_of_a_cube(self, vault: FullVault, scribe: Scribe) -> None:
        cube = scribe.cube("one")
        scribe.commit(writes=[cube, scribe.next_of(cube, "two"), scribe.next_of(replace(cube, version=2), "three")])
        history = vault.history(cube.id, MARA)
        assert [version.text for version in history] == ["one", "two", "three"]
        assert [version.superseded_at for version in history] == [history[0].recorded_at, history[0].recorded_at, None]
        assert vault.verify() == []

    def test_a_new_version_keeps_state_and_scope_of_the_cube(self, scribe: Scribe) -> None:
        cube = scribe.add()
        scribe.step(cube, MemoryState.ARCHIVED)
        write = scribe.next_of(cube, "new")
        scribe.commit(writes=[replace(write, cube=replace(write.cube, state=MemoryState.GENERATED, frozen=True))])
        head = scribe.head(cube)
        assert (head.text, head.state, head.frozen) == ("new", MemoryState.ARCHIVED, False)

    def test_repeated_with_the_same_key_a_commit_is_done_once(self, vault: FullVault, scribe: Scribe) -> None:
        first = scribe.commit(key="k", writes=[scribe.cube("one"), scribe.cube("two")])
        erased = scribe.commit(key="e", erasures=[first.outcomes[1].ref.cube_id])
        before = everything_in(vault)
        again = scribe.commit(key="k", writes=[scribe.cube("another")])
        assert again == replace(first, is_repeated=True)
        assert scribe.commit(key="e", erasures=[NOWHERE]) == replace(erased, is_repeated=True)
        assert scribe.commit(key="k", lease=Lease(name="x", owner="y", token=9, expires_at=START)).is_repeated
        assert everything_in(vault) == before

    def test_a_commit_of_nothing_is_an_entry_in_the_log(self, vault: FullVault, scribe: Scribe) -> None:
        assert scribe.commit().seq == 1
        assert len(vault.log(LogQuery(scope=EVERYTHING))) == 1
        assert vault.log(LogQuery(scope=MARA)) == []

    def test_the_log_keeps_who_did_what(self, vault: FullVault, scribe: Scribe) -> None:
        agent = Agent(id="gpt", kind="model", name="A model")
        activity = scribe.activity("extract", agent=agent, temperature=0.5, nested={"a": [1]})
        result = scribe.commit(activity=activity, writes=[scribe.cube()])
        (entry,) = vault.log(LogQuery(scope=EVERYTHING))
        assert (entry.activity_id, entry.kind, entry.agent, entry.at) == (activity.id, "extract", agent, result.at)
        assert entry.parameters == {"temperature": 0.5, "nested": {"a": [1]}}
        assert (entry.cubes, entry.seq) == ((result.outcomes[0].ref.cube_id,), 1)
