"""Laws of provenance: what is derived goes stale, relations need a grant, lineage tells where things come from."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from memos_agents.cube.memcube import MemCube, VersionRef
from memos_agents.cube.metadata import Governance
from memos_agents.cube.state import MemoryState
from memos_agents.errors import AccessDenied, NotFound
from memos_agents.infrastructure.provenance.values import Derivation, Relation, RelationKind, Source
from memos_agents.infrastructure.vault.base import LogQuery
from memos_agents.infrastructure.vault.commit import Invalidation, Transition
from memos_agents.testing.vault_scribe import EVERYTHING, MARA, NOAH, FullVault, Scribe, VaultLaws

SHARED = Governance(readers=("noah",))


def stale_of(vault: FullVault, *cubes: MemCube) -> list[bool]:
    """Whether each of these versions is stale now."""
    found = vault.versions([cube.ref for cube in cubes], EVERYTHING)
    return [found[cube.ref].is_stale for cube in cubes]


class CascadeLaws(VaultLaws):
    """What follows when a source changes."""

    def _chain(self, scribe: Scribe) -> tuple[MemCube, MemCube, MemCube, MemCube]:
        """A source, two made from it, and one made from those two."""
        source = scribe.add("source")
        left, right = scribe.add("left", sources=[source.ref]), scribe.add("right", sources=[source.ref])
        return source, left, right, scribe.add("both", sources=[left.ref, right.ref])

    def test_superseding_a_source_marks_all_that_came_of_it(self, vault: FullVault, scribe: Scribe) -> None:
        source, *derived = self._chain(scribe)
        bystander = scribe.add("bystander")
        result = scribe.commit(writes=[scribe.next_of(source, "changed")])
        assert result.stale == 3
        assert stale_of(vault, source, *derived, bystander) == [False, True, True, True, False]
        assert vault.stats(MARA).stale == 3
        assert scribe.commit(writes=[scribe.next_of(scribe.head(source), "again")]).stale == 0
        assert vault.verify() == []

    def test_only_what_was_not_stale_before_is_counted(self, scribe: Scribe) -> None:
        one, two = scribe.add("one"), scribe.add("two")
        both = scribe.add("both", sources=[one.ref, two.ref])
        scribe.add("below", sources=[both.ref])
        assert scribe.commit(writes=[scribe.next_of(one, "changed")]).stale == 2
        assert scribe.commit(writes=[scribe.next_of(two, "changed")]).stale == 0

    def test_a_stale_thing_is_never_returned(self, vault: FullVault, scribe: Scribe) -> None:
        source, *derived = self._chain(scribe)
        changed = scribe.revise(source, "changed")
        assert scribe.found() == scribe.listed() == [changed.id]
        assert all(vault.get([cube.id], MARA)[cube.id].is_stale for cube in derived)

    def test_ending_a_source_marks_and_lifting_unmarks(self, vault: FullVault, scribe: Scribe) -> None:
        source, *derived = self._chain(scribe)
        assert scribe.invalidate(source).stale == 3
        assert stale_of(vault, *derived) == [True, True, True]
        assert scribe.invalidate(source, lifted=True).stale == 0
        assert stale_of(vault, *derived) == [False, False, False]

    def test_lifting_one_source_leaves_what_the_other_made_stale(self, vault: FullVault, scribe: Scribe) -> None:
        source, left, right, both = self._chain(scribe)
        other = scribe.add("other")
        mixed = scribe.add("mixed", sources=[left.ref, other.ref])
        last = scribe.add("last", sources=[mixed.ref])
        scribe.invalidate(source)
        scribe.invalidate(other)
        scribe.invalidate(source, lifted=True)
        assert stale_of(vault, left, right, both, mixed, last) == [False, False, False, True, True]
        assert vault.verify() == []

    def test_what_is_made_from_an_old_version_is_born_stale(self, vault: FullVault, scribe: Scribe) -> None:
        source = scribe.add("one")
        scribe.revise(source, "two")
        one, two = scribe.cube("from one"), scribe.cube("from that")
        result = scribe.commit(
            writes=[one, two],
            derivations=[Derivation(derived=two.ref, source=one.ref), Derivation(derived=one.ref, source=source.ref)],
        )
        assert result.stale == 2
        assert stale_of(vault, one, two) == [True, True]
        assert scribe.add("from a stale one", sources=[one.ref]).is_stale
        assert not scribe.add("from two", sources=[VersionRef(source.id, 2)]).is_stale

    def test_a_new_version_is_judged_by_its_own_sources(self, vault: FullVault, scribe: Scribe) -> None:
        source, left, right, both = self._chain(scribe)
        changed = scribe.revise(source, "changed")
        fresh = scribe.revise(left, "left of changed", sources=[changed.ref])
        free = scribe.revise(right, "right of nothing")
        assert stale_of(vault, left, right, both, fresh, free) == [True, True, True, False, False]
        assert scribe.found() == [source.id, left.id, right.id]

    def test_marks_are_made_in_the_commit_that_changes_the_source(self, scribe: Scribe) -> None:
        source = scribe.add("source")
        derived = scribe.cube("derived")
        result = scribe.commit(
            writes=[derived, scribe.next_of(source, "changed")],
            derivations=[Derivation(derived=derived.ref, source=source.ref)],
        )
        assert result.stale == 1
        assert scribe.head(derived).is_stale

    def test_relations_steps_and_use_make_nothing_stale(self, vault: FullVault, scribe: Scribe) -> None:
        source, *derived = self._chain(scribe)
        scribe.relate(source, scribe.add("next"), RelationKind.SUPERSEDED_BY)
        scribe.step(source, MemoryState.ARCHIVED, frozen=True)
        vault.touch([source.id], scribe.now)
        assert stale_of(vault, *derived) == [False, False, False]

    def test_marks_cross_users(self, vault: FullVault, scribe: Scribe) -> None:
        source = scribe.add("source", governance=SHARED)
        derived = scribe.add("derived", scope=NOAH, sources=[source.ref])
        result = scribe.commit(writes=[scribe.next_of(source, "changed")])
        assert result.stale == 1
        assert stale_of(vault, derived) == [True]

    def test_a_thousand_descendants_are_marked_at_once(self, vault: FullVault, scribe: Scribe) -> None:
        source = scribe.add("source")
        cubes = [scribe.cube(f"link {number}") for number in range(1000)]
        links = [source, *cubes]
        scribe.commit(
            writes=cubes,
            derivations=[Derivation(derived=links[n + 1].ref, source=links[n].ref) for n in range(len(cubes))],
        )
        assert scribe.commit(writes=[scribe.next_of(source, "changed")]).stale == 1000
        assert scribe.found() == [source.id]
        assert vault.stats(EVERYTHING).stale == 1000


class RelationLaws(VaultLaws):
    """Statements about two cubes."""

    def test_a_relation_is_read_from_both_ends(self, vault: FullVault, scribe: Scribe) -> None:
        one, two, three = scribe.add("one"), scribe.add("two"), scribe.add("three")
        first = scribe.relate(one, two, weight=0.5, why={"a": ["b"]})
        second = scribe.relate(two, three, RelationKind.CONTRADICTS)
        assert [record.relation for record in vault.relations([two.id], MARA)] == [first, second]
        assert [record.relation for record in vault.relations([one.id], MARA)] == [first]
        assert [record.relation for record in vault.relations([one.id, two.id, three.id], MARA)] == [first, second]
        assert vault.relations([], MARA) == []

    def test_stating_it_again_replaces_the_record(self, vault: FullVault, scribe: Scribe) -> None:
        one, two = scribe.add("one"), scribe.add("two")
        old, new = scribe.relate(one, two, weight=1), scribe.relate(one, two, weight=2)
        assert [record.relation for record in vault.relations([one.id], MARA)] == [new]
        first, second = vault.relations([one.id], MARA, removed=True)
        assert (first.relation, second.relation) == (old, new)
        assert first.removed_at == second.recorded_at
        effects = vault.effects(second.activity_id, MARA)
        assert (effects.unrelated, effects.related) == ((old,), (new,))

    def test_one_commit_states_a_relation_once(self, vault: FullVault, scribe: Scribe) -> None:
        one, two = scribe.add("one"), scribe.add("two")
        said = [
            Relation(source_id=one.id, kind=RelationKind.NEXT, target_id=two.id, properties={"n": n}) for n in (1, 2)
        ]
        scribe.commit(relations=said)
        assert [record.relation for record in vault.relations([one.id], MARA, removed=True)] == said[1:]

    def test_unrelating_ends_it_and_passes_over_what_is_not_there(self, vault: FullVault, scribe: Scribe) -> None:
        one, two = scribe.add("one"), scribe.add("two")
        relation = scribe.relate(one, two)
        unknown = replace(relation, target_id="00000000-0000-7000-8000-000000000000")
        result = scribe.commit(unrelations=[replace(relation, kind=RelationKind.NEXT), unknown, relation])
        assert vault.relations([one.id], MARA) == []
        (record,) = vault.relations([one.id], MARA, removed=True)
        assert record.removed_at == result.at
        assert vault.effects(result.activity_id, MARA).unrelated == (relation,)
        entry = scribe.commit(unrelations=[relation])
        assert vault.log(LogQuery(scope=EVERYTHING, activity_id=entry.activity_id))[0].cubes == ()

    def test_across_users_a_grant_is_needed(self, scribe: Scribe) -> None:
        mine, shared = scribe.add("mine", scope=NOAH), scribe.add("shared", governance=SHARED)
        secret, unbound = scribe.add("secret"), scribe.add("unbound", scope=replace(EVERYTHING, is_everything=False))
        scribe.relate(mine, shared)
        scribe.add("derived", scope=NOAH, sources=[shared.ref])
        for source, target in ((mine, secret), (shared, mine), (unbound, secret), (mine, unbound), (unbound, shared)):
            with pytest.raises(AccessDenied):
                scribe.relate(source, target)
            with pytest.raises(AccessDenied):
                scribe.add("derived", scope=source.scope, sources=[target.ref])

    def test_a_grant_ends_with_the_version_that_gave_it(self, scribe: Scribe) -> None:
        mine, shared = scribe.add("mine", scope=NOAH), scribe.add("shared", governance=SHARED)
        scribe.commit(writes=[scribe.next_of(replace(shared, governance=Governance()))])
        with pytest.raises(AccessDenied):
            scribe.relate(mine, shared)
        with pytest.raises(AccessDenied):
            scribe.add("derived", scope=NOAH, sources=[shared.ref])


class LineageLaws(VaultLaws):
    """Where a version came from and what came of it."""

    def test_up_down_and_both(self, vault: FullVault, scribe: Scribe) -> None:
        letter = Source(id="letter", kind="file", locator="letter.txt", sha256="ab" * 32)
        source = scribe.add("source\ntext", sources=[letter])
        middle = scribe.add("middle", sources=[source.ref])
        below, sibling = scribe.add("below", sources=[middle.ref]), scribe.add("sibling", sources=[source.ref])
        up = vault.lineage(middle.ref, "up", None, MARA)
        assert [node.ref for node in up.entities] == sorted([source.ref, middle.ref])
        assert up.sources == (letter,)
        assert set(up.derivations) == {
            Derivation(derived=middle.ref, source=source.ref),
            Derivation(derived=source.ref, source="letter"),
        }
        assert len(up.activities) == 2
        down = vault.lineage(source.ref, "down", None, MARA)
        assert {node.ref for node in down.entities} == {source.ref, middle.ref, below.ref, sibling.ref}
        assert down.sources == ()
        both = vault.lineage(middle.ref, "both", None, MARA)
        assert {node.ref for node in both.entities} == {source.ref, middle.ref, below.ref}
        assert both.root == middle.ref
        assert not both.truncated
        node = both.entity(source.ref)
        assert node is not None
        assert (node.label, node.content_hash, node.recorded_at) == (
            "source text",
            source.content_hash,
            source.recorded_at,
        )

    def test_depth_counts_steps(self, vault: FullVault, scribe: Scribe) -> None:
        letter = Source(id="letter", kind="file", locator="letter.txt")
        cubes = [scribe.add("0", sources=[letter])]
        for number in range(1, 5):
            cubes.append(scribe.add(str(number), sources=[cubes[-1].ref]))
        for depth in range(6):
            graph = vault.lineage(cubes[4].ref, "up", depth, MARA)
            assert len(graph.entities) == min(depth, 4) + 1
            assert len(graph.sources) == int(depth > 4)
        assert len(vault.lineage(cubes[0].ref, "down", 2, MARA).entities) == 3

    def test_versions_are_revisions_of_each_other(self, vault: FullVault, scribe: Scribe) -> None:
        cube = scribe.revise(scribe.revise(scribe.add("one"), "two"), "three")
        graph = vault.lineage(cube.ref, "up", None, MARA)
        refs = [VersionRef(cube.id, number) for number in (1, 2, 3)]
        assert [node.ref for node in graph.entities] == refs
        assert graph.revisions == ((refs[1], refs[0]), (refs[2], refs[1]))
        assert graph.entities[0].invalidated_by is None
        assert len(vault.lineage(refs[0], "down", 1, MARA).entities) == 2

    def test_who_made_and_who_ended_it(self, vault: FullVault, scribe: Scribe) -> None:
        made = scribe.activity("extract", model="m")
        cube = scribe.cube()
        scribe.commit(activity=made, writes=[cube])
        ended = scribe.activity("correct")
        scribe.commit(activity=ended, invalidations=[Invalidation(ref=cube.ref)])
        graph = vault.lineage(cube.ref, "both", None, MARA)
        (node,) = graph.entities
        assert (node.generated_by, node.invalidated_by) == (made.id, ended.id)
        assert {activity.id: activity for activity in graph.activities} == {made.id: made, ended.id: ended}

    def test_relations_show_the_other_cube_as_it_is_now(self, vault: FullVault, scribe: Scribe) -> None:
        one, two = scribe.add("one"), scribe.add("two")
        relation = scribe.relate(one, two, RelationKind.CONTRADICTS, why="x")
        head = scribe.revise(two, "two again")
        graph = vault.lineage(one.ref, "up", 0, MARA)
        assert graph.relations == (relation,)
        assert {node.ref for node in graph.entities} == {one.ref, head.ref}
        scribe.commit(unrelations=[relation])
        assert vault.lineage(one.ref, "up", 0, MARA).relations == ()

    def test_what_does_not_exist_is_not_found(self, vault: FullVault, scribe: Scribe) -> None:
        cube = scribe.add()
        for ref in (VersionRef(cube.id, 0), VersionRef(cube.id, 2), VersionRef("nobody", 1)):
            with pytest.raises(NotFound):
                vault.lineage(ref, "both", None, EVERYTHING)

    def test_a_graph_too_large_says_so(self, vault: FullVault, scribe: Scribe) -> None:
        source = scribe.add("source")
        for _ in range(11):
            cubes = [scribe.cube("derived") for _ in range(1000)]
            scribe.commit(writes=cubes, derivations=[Derivation(derived=cube.ref, source=source.ref) for cube in cubes])
        graph = vault.lineage(source.ref, "down", None, MARA)
        assert graph.truncated
        assert len(graph.entities) == 10_000


class LogLaws(VaultLaws):
    """What was done."""

    def test_the_newest_comes_first_between_two_moments(self, vault: FullVault, scribe: Scribe) -> None:
        results = [scribe.commit(writes=[scribe.cube(str(number))]) for number in range(5)]
        ids = [result.activity_id for result in results]
        assert [entry.activity_id for entry in vault.log(LogQuery(scope=MARA))] == ids[::-1]
        window = LogQuery(scope=MARA, since=results[1].at, until=results[3].at)
        assert [entry.activity_id for entry in vault.log(window)] == [ids[2], ids[1]]
        assert [entry.activity_id for entry in vault.log(LogQuery(scope=MARA, limit=2))] == ids[:2:-1]
        assert vault.log(LogQuery(scope=MARA, since=results[4].at + timedelta(microseconds=1))) == []
        (one,) = vault.log(LogQuery(scope=MARA, activity_id=ids[3]))
        assert one.at == results[3].at

    def test_a_cube_has_a_log_of_its_own(self, vault: FullVault, scribe: Scribe) -> None:
        cube, other = scribe.add("cube"), scribe.add("other")
        done = [scribe.commit(writes=[scribe.next_of(cube, "two")]), scribe.step(cube, MemoryState.ARCHIVED)]
        scribe.relate(other, cube)
        scribe.revise(other, "elsewhere")
        kinds = [entry.activity_id for entry in vault.log(LogQuery(scope=MARA, cube_id=cube.id))]
        assert len(kinds) == 4
        assert kinds[1:3] == [done[1].activity_id, done[0].activity_id]

    def test_marking_stale_is_not_an_entry_of_the_derived_cube(self, vault: FullVault, scribe: Scribe) -> None:
        source = scribe.add("source")
        derived = scribe.add("derived", sources=[source.ref])
        scribe.revise(source, "changed")
        assert len(vault.log(LogQuery(scope=MARA, cube_id=derived.id))) == 1

    def test_effects_tell_what_changed_and_nothing_else(self, vault: FullVault, scribe: Scribe) -> None:
        one, two, three = scribe.add("one"), scribe.add("two"), scribe.add("three")
        scribe.invalidate(three)
        relation = scribe.relate(one, two, weight=1)
        new = scribe.cube("new")
        again = replace(relation, properties={"weight": 2})
        doomed = scribe.add("doomed", sources=[one.ref])
        result = scribe.commit(
            activity=scribe.activity("much"),
            writes=[new, scribe.next_of(two, "zwei")],
            transitions=[
                Transition(cube_id=one.id, state=MemoryState.ARCHIVED),
                Transition(cube_id=one.id, frozen=False),
            ],
            invalidations=[Invalidation(ref=three.ref, lifted=True), Invalidation(ref=new.ref)],
            relations=[again],
            unrelations=[replace(relation, kind=RelationKind.NEXT)],
            erasures=[doomed.id],
        )
        effects = vault.effects(result.activity_id, MARA)
        assert (effects.activity_id, effects.kind) == (result.activity_id, "much")
        assert effects.writes == ((new.ref, 0), (VersionRef(two.id, 2), 1))
        assert effects.transitions == ((one.id, MemoryState.ACTIVATED, False, MemoryState.ARCHIVED, False),)
        assert (effects.invalidated, effects.lifted) == ((new.ref,), (three.ref,))
        assert (effects.related, effects.unrelated) == ((again,), (relation,))
        assert effects.erased == (doomed.id,)
        with pytest.raises(NotFound):
            vault.effects("nothing", EVERYTHING)
