"""Laws of a cube's life: steps, freezing, ending; keys; duplicates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from memos_agents.cube.memcube import MemCube
from memos_agents.cube.metadata import Descriptive, Governance
from memos_agents.cube.scope import Scope
from memos_agents.cube.state import TRANSITIONS, MemoryState
from memos_agents.errors import InvalidTransition, NotFound, VersionConflict
from memos_agents.infrastructure.provenance.values import Derivation, Relation, RelationKind
from memos_agents.infrastructure.vault.base import LogQuery
from memos_agents.infrastructure.vault.commit import CommitResult, Invalidation, Transition, Write, WriteOutcome
from memos_agents.testing.vault_scribe import EVERYTHING, MARA, NOAH, FullVault, Scribe, VaultLaws

LIVING_STATES = [state for state in MemoryState if state is not MemoryState.ERASED]


class LifeLaws(VaultLaws):
    """States, freezing, ending and lifting."""

    @pytest.mark.parametrize("target", LIVING_STATES)
    @pytest.mark.parametrize("current", LIVING_STATES)
    def test_the_steps_are_those_of_the_table(self, scribe: Scribe, current: MemoryState, target: MemoryState) -> None:
        cube = scribe.add(state=current)
        if target in TRANSITIONS[current]:
            scribe.step(cube, target)
            assert scribe.head(cube).state is target
        else:
            with pytest.raises(InvalidTransition):
                scribe.step(cube, target)
            assert scribe.head(cube).state is current

    def test_a_step_makes_no_version_and_shows_on_all(self, vault: FullVault, scribe: Scribe) -> None:
        cube = scribe.revise(scribe.add("one"), "two")
        scribe.step(cube, MemoryState.ARCHIVED, frozen=True)
        assert [(old.version, old.state, old.frozen) for old in vault.history(cube.id, MARA)] == [
            (1, MemoryState.ARCHIVED, True),
            (2, MemoryState.ARCHIVED, True),
        ]

    def test_a_frozen_cube_takes_nothing_until_it_is_unfrozen(self, scribe: Scribe) -> None:
        cube = scribe.add()
        scribe.step(cube, frozen=True)
        attempts: list[Callable[[], object]] = [
            lambda: scribe.commit(writes=[scribe.next_of(cube)]),
            lambda: scribe.step(cube, MemoryState.ARCHIVED),
            lambda: scribe.invalidate(cube),
            lambda: scribe.commit(  # writes come before steps
                writes=[scribe.next_of(cube)], transitions=[Transition(cube_id=cube.id, frozen=False)]
            ),
        ]
        for attempt in attempts:
            with pytest.raises(InvalidTransition):
                attempt()
        scribe.step(cube, frozen=True)  # once more is no harm
        scribe.step(cube, frozen=False)
        assert scribe.revise(cube, "new").version == 2

    def test_freezing_and_a_step_are_taken_in_their_order(self, scribe: Scribe) -> None:
        cube = scribe.add()
        freeze = Transition(cube_id=cube.id, frozen=True)
        archive = Transition(cube_id=cube.id, state=MemoryState.ARCHIVED, expected_version=1)
        with pytest.raises(InvalidTransition):
            scribe.commit(transitions=[freeze, archive])
        scribe.commit(transitions=[archive, freeze])
        assert (scribe.head(cube).state, scribe.head(cube).frozen) == (MemoryState.ARCHIVED, True)

    def test_what_ended_is_not_found_until_it_is_lifted(self, vault: FullVault, scribe: Scribe) -> None:
        cube = scribe.add()
        ended = scribe.invalidate(cube)
        assert scribe.head(cube).superseded_at == ended.at
        assert scribe.found() == scribe.listed() == []
        with pytest.raises(VersionConflict):
            scribe.invalidate(cube)
        scribe.invalidate(cube, lifted=True)
        assert scribe.head(cube) == cube
        assert scribe.found() == scribe.listed() == [cube.id]
        assert vault.verify() == []

    def test_a_new_version_of_what_ended_is_believed(self, vault: FullVault, scribe: Scribe) -> None:
        cube = scribe.add("one")
        ended = scribe.invalidate(cube)
        new = scribe.revise(cube, "two")
        old = vault.history(cube.id, MARA)[0]
        assert old.superseded_at == ended.at
        assert new.superseded_at is None
        assert scribe.found() == [cube.id]
        with pytest.raises(VersionConflict):
            scribe.invalidate(old, lifted=True)

    def test_a_commit_can_write_a_version_and_end_it(self, scribe: Scribe) -> None:
        cube = scribe.cube()
        result = scribe.commit(writes=[cube], invalidations=[Invalidation(ref=cube.ref)])
        assert scribe.head(cube).superseded_at == result.at
        assert scribe.found() == []


class KeyLaws(VaultLaws):
    """Names that callers give."""

    def test_a_key_finds_its_cube_in_exactly_its_scope(self, vault: FullVault, scribe: Scribe) -> None:
        scopes = [Scope(), MARA, NOAH, Scope(user_id="mara", session_id="s"), Scope(agent_id="mara")]
        cubes = [scribe.add(scope=scope, descriptive=Descriptive(key="k")) for scope in scopes]
        elsewhere = scribe.add(descriptive=Descriptive(key="k", collection="notes"))
        for scope, cube in zip(scopes, cubes, strict=True):
            assert vault.find_key(scope, "memories", "k") == cube
        assert vault.find_key(MARA, "notes", "k") == elsewhere
        for scope, collection, key in (
            (Scope(user_id="ma"), "memories", "k"),
            (Scope(session_id="s"), "memories", "k"),
            (EVERYTHING, "notes", "k"),
            (Scope(tenant="other", user_id="mara"), "memories", "k"),
            (MARA, "memories", "K"),
            (MARA, "memories", "%"),
            (MARA, "", "k"),
        ):
            assert vault.find_key(scope, collection, key) is None

    def test_a_key_has_one_cube(self, scribe: Scribe) -> None:
        keyed = Descriptive(key="k")
        cube, unkeyed = scribe.add(descriptive=keyed), scribe.add()
        with pytest.raises(VersionConflict):
            scribe.add(descriptive=keyed)
        with pytest.raises(VersionConflict):
            scribe.commit(writes=[scribe.next_of(replace(unkeyed, descriptive=keyed))])
        with pytest.raises(VersionConflict):
            twins = Descriptive(key="twins")
            scribe.commit(writes=[scribe.cube(descriptive=twins), scribe.cube(descriptive=twins)])
        assert scribe.revise(cube, "new").descriptive.key == "k"

    def test_a_key_is_that_of_the_newest_version(self, vault: FullVault, scribe: Scribe) -> None:
        cube = scribe.add(descriptive=Descriptive(key="old"))
        scribe.commit(writes=[scribe.next_of(replace(cube, descriptive=Descriptive(key="new")))])
        assert vault.find_key(MARA, "memories", "old") is None
        assert vault.find_key(MARA, "memories", "new") == scribe.head(cube)
        other = scribe.add(descriptive=Descriptive(key="old"))
        assert vault.find_key(MARA, "memories", "old") == other
        assert vault.verify() == []

    def test_a_key_given_up_can_be_taken_later_in_the_same_commit(self, vault: FullVault, scribe: Scribe) -> None:
        keyed = Descriptive(key="k")
        cube = scribe.add(descriptive=keyed)
        give, take = scribe.next_of(replace(cube, descriptive=Descriptive())), scribe.cube(descriptive=keyed)
        with pytest.raises(VersionConflict):
            scribe.commit(writes=[take, give])
        scribe.commit(writes=[give, take])
        assert vault.find_key(MARA, "memories", "k") == scribe.head(take)

    def test_a_key_outlives_every_state_but_erasure(self, vault: FullVault, scribe: Scribe) -> None:
        keyed = Descriptive(key="k")
        cube = scribe.add(descriptive=keyed)
        scribe.step(cube, MemoryState.ARCHIVED)
        scribe.invalidate(cube)
        assert vault.find_key(MARA, "memories", "k") == scribe.head(cube)
        scribe.erase(cube)
        assert vault.find_key(MARA, "memories", "k") is None
        assert scribe.add(descriptive=keyed).version == 1

    def test_an_erasure_frees_keys_only_after_its_commit(self, scribe: Scribe) -> None:
        keyed = Descriptive(key="k")
        cube = scribe.add(descriptive=keyed)
        with pytest.raises(VersionConflict):
            scribe.commit(writes=[scribe.cube(descriptive=keyed)], erasures=[cube.id])


class DuplicateLaws(VaultLaws):
    """Writes that say what is there already."""

    def _merge(self, scribe: Scribe, *cubes: MemCube) -> CommitResult:
        return scribe.commit(writes=[Write(cube=cube, merge_duplicate=True) for cube in cubes])

    def test_a_duplicate_is_a_use_of_what_is_there(self, vault: FullVault, scribe: Scribe) -> None:
        cube = scribe.add("same", metadata={"a": 1, "b": 2})
        twin = scribe.cube("same", metadata={"b": 2, "a": 1})
        result = self._merge(scribe, twin)
        assert result.outcomes == (WriteOutcome(cube.ref, is_duplicate=True),)
        assert vault.get([twin.id], EVERYTHING) == {}
        head = scribe.head(cube)
        assert (head.version, head.behavioural.use_count, head.behavioural.last_used_at) == (1, 1, result.at)
        entry = vault.log(LogQuery(scope=EVERYTHING))[0]
        assert (entry.seq, entry.cubes) == (result.seq, (cube.id,))
        assert vault.effects(entry.activity_id, MARA).writes == ()

    def test_only_if_asked(self, scribe: Scribe) -> None:
        assert scribe.add("same").id != scribe.add("same").id

    def test_what_differs_in_anything_is_no_duplicate(self, scribe: Scribe) -> None:
        scribe.add("same")
        different = [
            scribe.cube("Same"),
            scribe.cube("same", metadata={"a": 1}),
            scribe.cube("same", descriptive=Descriptive(role="user")),
            scribe.cube("same", governance=Governance(priority=1)),
            *(
                scribe.cube("same", scope=scope)
                for scope in (NOAH, Scope(), Scope(user_id="mara", session_id="s"), Scope(agent_id="mara"))
            ),
        ]
        assert not any(outcome.is_duplicate for outcome in self._merge(scribe, *different).outcomes)

    def test_what_cannot_be_found_takes_no_duplicates(self, scribe: Scribe) -> None:
        """Else a new memory would vanish into one that nobody sees."""
        source = scribe.add("source")
        hidden = [scribe.add("same", sources=[source.ref] if number == 0 else ()) for number in range(5)]
        scribe.revise(source, "changed")  # 0 is stale now
        scribe.invalidate(hidden[1])
        scribe.step(hidden[2], MemoryState.ARCHIVED)
        scribe.revise(hidden[3], "another")
        scribe.erase(hidden[4])
        brief = Governance(ttl_seconds=3)
        scribe.add("brief", governance=brief)
        scribe.tick(5)
        result = self._merge(scribe, scribe.cube("same"), scribe.cube("brief", governance=brief))
        assert [outcome.is_duplicate for outcome in result.outcomes] == [False, False]

    def test_of_several_the_oldest_id_takes_it(self, scribe: Scribe) -> None:
        cubes = sorted(scribe.add("same").id for _ in range(3))
        assert self._merge(scribe, scribe.cube("same")).outcomes[0].ref.cube_id == cubes[0]

    def test_writes_of_one_commit_never_merge_with_each_other(self, scribe: Scribe) -> None:
        result = self._merge(scribe, scribe.cube("same"), scribe.cube("same"))
        assert [outcome.is_duplicate for outcome in result.outcomes] == [False, False]
        again = self._merge(scribe, scribe.cube("same"), scribe.cube("new"), scribe.cube("same"))
        assert [outcome.is_duplicate for outcome in again.outcomes] == [True, False, True]
        assert scribe.head(again.outcomes[0].ref.cube_id).behavioural.use_count == 2

    def test_edges_of_a_duplicate_go_to_what_is_there(self, vault: FullVault, scribe: Scribe) -> None:
        source, cube = scribe.add("source"), scribe.add("same")
        twin, made = scribe.cube("same"), scribe.cube("made from it")
        related = RelationKind.RELATES_TO
        scribe.commit(
            writes=[Write(cube=twin, merge_duplicate=True), made],
            derivations=[
                Derivation(derived=twin.ref, source=source.ref),
                Derivation(derived=made.ref, source=twin.ref),
            ],
            relations=[
                Relation(source_id=made.id, kind=related, target_id=twin.id),
                Relation(source_id=twin.id, kind=related, target_id=cube.id),
            ],
        )
        graph = vault.lineage(made.ref, "up", None, EVERYTHING)
        assert graph.derivations == (Derivation(derived=made.ref, source=cube.ref),)
        assert vault.lineage(cube.ref, "up", None, EVERYTHING).derivations == ()
        (record,) = vault.relations([cube.id], EVERYTHING)
        assert (record.relation.source_id, record.relation.target_id) == (made.id, cube.id)
        scribe.erase(cube)
        assert scribe.head(made).state is MemoryState.ERASED

    def test_a_cube_that_was_not_made_cannot_be_stepped_or_erased(self, scribe: Scribe) -> None:
        scribe.add("same")
        for number in range(3):
            twin = scribe.cube("same")
            with pytest.raises(NotFound):
                scribe.commit(
                    writes=[Write(cube=twin, merge_duplicate=True)],
                    transitions=[Transition(cube_id=twin.id, frozen=True)][number:],
                    invalidations=[Invalidation(ref=twin.ref)] if number == 1 else (),
                    erasures=[twin.id] if number == 2 else (),
                )
