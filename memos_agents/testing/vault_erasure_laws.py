"""Laws of erasure: content is gone from every read, what came of it too, and a tombstone proves it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from memos_agents.cube.memcube import MemCube, VersionRef
from memos_agents.cube.metadata import Descriptive, Governance
from memos_agents.cube.payload import ArtefactPayload, TextPayload
from memos_agents.cube.state import MemoryState
from memos_agents.errors import NotFound
from memos_agents.infrastructure.provenance.values import Derivation, Relation, RelationKind, Source
from memos_agents.infrastructure.vault.base import ListQuery, LogQuery, ViewQuery
from memos_agents.infrastructure.vault.commit import Invalidation, Transition, Write
from memos_agents.testing.vault_scribe import EVERYTHING, LATER, MARA, NOAH, FullVault, Scribe, VaultLaws

WORD = "xylograph"
"""Occurs nowhere but in what the tests erase."""


def told_by(vault: FullVault, cube: MemCube, activities: list[str]) -> str:
    """Everything that the read methods say about a cube and the commits that touched it."""
    listing = ListQuery(scope=EVERYTHING, include_hidden=True, states=frozenset(MemoryState), limit=1000)
    view = vault.search_view(
        ViewQuery(scope=EVERYTHING, now=LATER, space="space", states=frozenset(MemoryState), collection=None)
    )
    past = vault.search_view(
        ViewQuery(scope=EVERYTHING, now=LATER, as_of=cube.recorded_at, states=frozenset(MemoryState))
    )
    said: list[object] = [
        vault.get([cube.id], EVERYTHING),
        vault.history(cube.id, EVERYTHING),
        vault.versions([cube.ref, VersionRef(cube.id, 2)], EVERYTHING),
        vault.list(listing),
        vault.list(replace(listing, order="occurred")),
        vault.relations([cube.id], EVERYTHING, removed=True),
        vault.lineage(cube.ref, "both", None, EVERYTHING),
        vault.log(LogQuery(scope=EVERYTHING)),
        [vault.effects(activity, EVERYTHING) for activity in activities],
        list(vault.records(EVERYTHING)),
        vault.stats(EVERYTHING),
        vault.verify(),
        vault.missing_vectors("space", 1000),
    ]
    for shown in (view, past):
        said.extend((shown.view, shown.metadata(), shown.postings([WORD, "xylograph", "xylographi"])))
    return repr(said)


class ErasureLaws(VaultLaws):
    """The right to be forgotten."""

    def test_an_erased_word_is_in_no_read(self, vault: FullVault, scribe: Scribe) -> None:
        vault.open_space("space", 4)
        other = scribe.add("other")
        cube = scribe.add(
            f"one {WORD}",
            sources=[Source(id="letter", kind="file", locator=f"/letters/{WORD}.txt", sha256="ab" * 32)],
            metadata={WORD: WORD},
            vectors={"space": np.ones(4, np.float32)},
            descriptive=Descriptive(key=f"{WORD}-key", title=WORD, name=WORD, tags=(WORD,), collection=f"{WORD}s"),
            governance=Governance(owner=WORD, readers=(WORD,), watermark=WORD, sensitivity=(WORD,)),
        )
        cube = scribe.revise(cube, f"two {WORD}")
        scribe.relate(cube, other, why=WORD)
        scribe.relate(cube, other, why=f"{WORD} again")
        scribe.relate(other, cube, RelationKind.MENTIONS, why=WORD)
        vault.touch([cube.id], scribe.now)
        activities = [entry.activity_id for entry in vault.log(LogQuery(scope=EVERYTHING))]
        assert WORD in told_by(vault, cube, activities)
        erased = scribe.erase(cube)
        assert WORD not in told_by(vault, cube, [*activities, erased.activity_id])
        assert vault.find_key(MARA, f"{WORD}s", f"{WORD}-key") is None
        assert vault.verify() == []

    def test_what_is_left_of_a_cube_is_ids_times_and_hashes(self, vault: FullVault, scribe: Scribe) -> None:
        cube = scribe.revise(scribe.add("one", descriptive=Descriptive(title="t")), "two")
        hashes = [version.content_hash for version in vault.history(cube.id, MARA)]
        scribe.step(cube, MemoryState.ARCHIVED, frozen=True)  # a freeze does not stand in the way
        result = scribe.erase(cube)
        assert [(stone.ref, stone.content_hash, stone.is_derived) for stone in result.erased] == [
            (VersionRef(cube.id, 1), hashes[0], False),
            (VersionRef(cube.id, 2), hashes[1], False),
        ]
        assert vault.tombstones(result.activity_id) == list(result.erased)
        assert vault.tombstones("nothing") == []
        first, second = vault.history(cube.id, MARA)
        for version in (first, second):
            assert (version.state, version.payload, version.metadata) == (MemoryState.ERASED, TextPayload(""), {})
            assert (version.descriptive, version.governance) == (Descriptive(), Governance())
            assert version.behavioural.use_count == 0
            assert version.scope == MARA
        assert second.superseded_at == result.at
        assert first.superseded_at == second.recorded_at
        assert vault.get([cube.id], MARA)[cube.id] == second
        nodes = vault.lineage(cube.ref, "up", None, MARA).entities
        assert {node.invalidated_by for node in nodes} == {result.activity_id}
        assert [node.content_hash for node in nodes] == hashes
        assert {(node.state, node.label) for node in nodes} == {(MemoryState.ERASED, "")}

    def test_what_was_derived_goes_too_whosever_it_is(self, vault: FullVault, scribe: Scribe) -> None:
        source = scribe.add("source", governance=Governance(readers=("noah",)))
        derived = scribe.add("derived", scope=NOAH, sources=[source.ref])
        far = scribe.add("far", scope=NOAH, sources=[derived.ref])
        old = scribe.add("beside")
        once = scribe.revise(scribe.add("once derived", sources=[source.ref]), "no longer derived")
        result = scribe.erase(source)
        gone = {stone.ref.cube_id: stone.is_derived for stone in result.erased}
        assert gone == {source.id: False, derived.id: True, far.id: True, once.id: True}
        assert [stone.ref for stone in result.erased] == sorted(stone.ref for stone in result.erased)
        assert scribe.head(old) == old
        assert scribe.found() == [old.id]
        assert scribe.found(NOAH) == []
        assert vault.stats(EVERYTHING).by_state == {"erased": 4, "activated": 1}
        assert vault.log(LogQuery(scope=NOAH))[0].kind == "erase"
        assert vault.verify() == []

    def test_what_came_of_an_old_version_goes_too(self, scribe: Scribe) -> None:
        source = scribe.add("one")
        derived = scribe.add("of one", sources=[source.ref])
        scribe.revise(source, "two")
        result = scribe.erase(source)
        assert {stone.ref.cube_id for stone in result.erased} == {source.id, derived.id}
        assert scribe.head(derived).text == ""

    def test_sources_of_what_is_erased_stay(self, scribe: Scribe) -> None:
        source = scribe.add("source")
        derived, sibling = scribe.add("derived", sources=[source.ref]), scribe.add("sibling", sources=[source.ref])
        scribe.erase(derived)
        assert scribe.found() == [source.id, sibling.id]

    def test_several_are_erased_at_once_and_each_once(self, scribe: Scribe) -> None:
        source = scribe.add("source")
        derived, other = scribe.add("derived", sources=[source.ref]), scribe.add("other")
        result = scribe.commit(erasures=[other.id, derived.id, source.id, other.id])
        assert [(stone.ref, stone.is_derived) for stone in result.erased] == [
            (cube.ref, False) for cube in sorted((source, derived, other), key=lambda cube: cube.id)
        ]

    def test_an_erasure_that_fails_erases_nothing(self, vault: FullVault, scribe: Scribe) -> None:
        cube = scribe.add()
        with pytest.raises(NotFound):
            scribe.commit(erasures=[cube.id, "00000000-0000-7000-8000-000000000000"])
        assert scribe.head(cube) == cube
        assert vault.stats(EVERYTHING).by_state == {"activated": 1}

    def test_nothing_can_be_done_with_an_erased_cube(self, scribe: Scribe) -> None:
        cube, other = scribe.add("erased"), scribe.add("other")
        scribe.erase(cube)
        new = scribe.cube("new")
        relation = Relation(source_id=other.id, kind=RelationKind.NEXT, target_id=cube.id)
        attempts: list[dict[str, list[object]]] = [
            {"writes": [scribe.next_of(cube)]},
            {"transitions": [Transition(cube_id=cube.id, state=MemoryState.ACTIVATED)]},
            {"transitions": [Transition(cube_id=cube.id, frozen=True)]},
            {"invalidations": [Invalidation(ref=cube.ref)]},
            {"invalidations": [Invalidation(ref=cube.ref, lifted=True)]},
            {"relations": [relation]},
            {"relations": [replace(relation, source_id=cube.id, target_id=other.id)]},
            {"erasures": [cube.id]},
            {"writes": [new], "derivations": [Derivation(derived=new.ref, source=cube.ref)]},
        ]
        for parts in attempts:
            with pytest.raises(NotFound):
                scribe.commit(**parts)  # type: ignore[arg-type]  # parts of a commit
        scribe.vault.touch([cube.id], scribe.now)
        assert scribe.head(cube).behavioural.use_count == 0
        assert (
            not scribe.commit(writes=[Write(cube=scribe.cube("erased"), merge_duplicate=True)]).outcomes[0].is_duplicate
        )

    def test_a_cube_can_be_written_and_erased_in_one_commit(self, vault: FullVault, scribe: Scribe) -> None:
        source, derived = scribe.cube(WORD, descriptive=Descriptive(key="k")), scribe.cube(f"of {WORD}")
        result = scribe.commit(
            writes=[source, derived],
            derivations=[Derivation(derived=derived.ref, source=source.ref)],
            relations=[Relation(source_id=source.id, kind=RelationKind.NEXT, target_id=derived.id)],
            erasures=[source.id],
        )
        assert [stone.is_derived for stone in result.erased] == [False, True]
        assert result.stale == 0
        assert WORD not in told_by_records(vault)
        assert vault.find_key(MARA, "memories", "k") is None
        assert vault.verify() == []

    def test_relations_end_and_say_nothing(self, vault: FullVault, scribe: Scribe) -> None:
        one, two, three = scribe.add("one"), scribe.add("two"), scribe.add("three")
        scribe.relate(one, two, hidden="x")
        kept = scribe.relate(two, three, open="y")
        result = scribe.erase(one)
        assert [record.relation for record in vault.relations([two.id], MARA)] == [kept]
        ended, _ = vault.relations([two.id], MARA, removed=True)
        assert (ended.removed_at, ended.relation.properties) == (result.at, {})
        assert vault.stats(MARA).relations == 1

    def test_blobs_go_with_the_last_version_that_names_them(self, vault: FullVault, scribe: Scribe) -> None:
        own, shared = vault.blobs.put(b"own"), vault.blobs.put(b"shared")
        doomed = scribe.cube(payload=ArtefactPayload(blobs={"a": own, "b": shared}))
        kept = scribe.cube(payload=ArtefactPayload(blobs={"x": shared}))
        scribe.commit(writes=[doomed, kept])
        scribe.commit(writes=[replace(scribe.next_of(kept), cube=replace(kept, version=2, payload=TextPayload("new")))])
        scribe.erase(doomed)
        assert set(vault.blobs.names()) == {shared.sha256}  # an old version of the other cube still has it
        assert vault.verify() == []
        scribe.erase(kept)
        assert set(vault.blobs.names()) == set()

    def test_a_source_is_forgotten_with_its_last_version(self, vault: FullVault, scribe: Scribe) -> None:
        letter = Source(id="letter", kind="file", locator=f"/{WORD}.txt", sha256="ab" * 32)
        one, two = scribe.add("one", sources=[letter]), scribe.add("two", sources=[letter])
        scribe.erase(one)
        assert vault.lineage(two.ref, "up", None, MARA).sources == (letter,)
        scribe.erase(two)
        (blank,) = vault.lineage(two.ref, "up", None, MARA).sources
        assert blank == Source(id="letter", kind="file", locator="", sha256=None)
        three = scribe.add("three", sources=[letter])  # and can be learned again
        assert vault.lineage(three.ref, "up", None, MARA).sources == (letter,)

    def test_what_was_erased_is_scrubbed(self, vault: FullVault, scribe: Scribe) -> None:
        result = scribe.erase(scribe.add(WORD))
        assert vault.scrub()
        assert vault.is_scrubbed(result.seq)
        assert vault.stats(EVERYTHING).pending_scrubs == 0
        assert vault.verify() == []

    def test_erased_cubes_are_listed_only_on_request(self, vault: FullVault, scribe: Scribe) -> None:
        cube = scribe.add()
        scribe.erase(cube)
        query = ListQuery(scope=MARA, include_hidden=True)
        assert vault.list(query) == []
        assert [found.id for found in vault.list(replace(query, states=frozenset({MemoryState.ERASED})))] == [cube.id]
        assert vault.search_view(ViewQuery(scope=MARA, now=LATER, states=frozenset(MemoryState))).view.refs == []

    def test_a_view_made_before_shows_no_content_fetched_after(self, vault: FullVault, scribe: Scribe) -> None:
        cube = scribe.add(WORD)
        view = vault.search_view(ViewQuery(scope=MARA, now=LATER))
        scribe.erase(cube)
        assert vault.get([ref.cube_id for ref in view.view.refs], MARA)[cube.id].text == ""


def told_by_records(vault: FullVault) -> str:
    """All lines of an export."""
    return repr(list(vault.records(EVERYTHING)))
