"""Laws of the search view: which versions it shows, and that its columns and postings are those of the cubes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta

import numpy as np

from memos_agents.cube.memcube import MemCube, VersionRef
from memos_agents.cube.metadata import Descriptive, Governance
from memos_agents.cube.moment import to_microseconds
from memos_agents.cube.payload import ArtefactPayload, MemoryType
from memos_agents.cube.scope import Scope
from memos_agents.cube.state import MemoryState
from memos_agents.infrastructure.vault.base import SearchView, ViewQuery
from memos_agents.infrastructure.vault.columns import MAX_POSTED_COUNT, speaker_of
from memos_agents.infrastructure.vault.text import index_terms, text_flags
from memos_agents.testing.vault_scribe import (
    EVERYTHING,
    LATER,
    MARA,
    NOAH,
    START,
    FullVault,
    Scribe,
    VaultLaws,
)

SECOND = timedelta(seconds=1)
TICK = timedelta(microseconds=1)
TEXTS = (
    "I moved to Lisbon in May.",
    "Where does Mara live? She moved!",
    "",
    "moved moved moved moved moved moved moved moved moved moved",
    "東京に引っ越した",
    "MATCH 'x' OR NEAR(a b) * \" AND NOT col:term ^",
    "naïve café — Straße",
    "a",
)
NO_TERMS = (
    "absent",
    "absent term",
    "",
    "*",
    'a" OR "move',
    "move*",
    "move)",
    "\ue001",
    "move\ue001",
    "\ue100t1",
    "\x00",
)
"""What nobody holds; a vault that hands them to a query language must not be taken in."""


def by_hand(cubes: Mapping[VersionRef, MemCube], shown: SearchView) -> dict[str, dict[int, float]]:
    """What the postings of a view should be, counted from the cubes themselves."""
    expected: dict[str, dict[int, float]] = {}
    for row, ref in enumerate(shown.view.refs):
        for term, count in Counter(index_terms(cubes[ref])).items():
            expected.setdefault(term, {})[row] = float(min(count, MAX_POSTED_COUNT))
    return expected


def check_view(vault: FullVault, shown: SearchView) -> None:
    """Compare every column with the cubes that it stands for."""
    view = shown.view
    cubes = vault.versions(view.refs, EVERYTHING)
    rows = [cubes[ref] for ref in view.refs]
    assert [(cube.created_at, cube.id) for cube in rows] == sorted((cube.created_at, cube.id) for cube in rows)
    assert view.event_us.tolist() == [to_microseconds(cube.happened_at) for cube in rows]
    assert view.length.tolist() == [len(index_terms(cube)) for cube in rows]
    assert view.flags.tolist() == [int(text_flags(cube.text)) for cube in rows]
    names = [view.speakers[number] if number >= 0 else None for number in view.speaker]
    assert names == [speaker_of(cube.descriptive) for cube in rows]
    assert [dict(metadata) for metadata in shown.metadata()] == [cube.metadata for cube in rows]
    for row, cube in enumerate(rows):
        same = [
            number
            for number, other in enumerate(rows)
            if other.scope == cube.scope and cube.scope.session_id is not None
        ]
        place = same.index(row) if same else 0
        assert view.previous[row] == (same[place - 1] if place else -1)
        assert view.following[row] == (same[place + 1] if place + 1 < len(same) else -1)
        assert (view.session[row] == -1) == (cube.scope.session_id is None)
        assert all(view.session[number] == view.session[row] for number in same)
    assert len(set(view.session.tolist()) - {-1}) == len({cube.scope for cube in rows if cube.scope.session_id})
    expected = by_hand(cubes, shown)
    postings = shown.postings([*expected, *NO_TERMS])
    assert {
        term: dict(zip(held.tolist(), counts.tolist(), strict=True)) for term, (held, counts) in postings.items()
    } == expected
    assert all(held.tolist() == sorted(held.tolist()) for held, _ in postings.values())


class SearchLaws(VaultLaws):
    """What a ranker gets."""

    def _ids(self, vault: FullVault, query: ViewQuery) -> list[str]:
        return [ref.cube_id for ref in vault.search_view(query).view.refs]

    def test_columns_and_postings_are_those_counted_by_hand(self, vault: FullVault, scribe: Scribe) -> None:
        for number, text in enumerate(TEXTS * 2):
            scribe.add(
                text,
                scope=Scope(
                    user_id="mara", agent_id=(None, "a")[number % 2], session_id=(None, "s1", "s2")[number % 3]
                ),
                metadata={"number": number},
                descriptive=Descriptive(
                    role=("user", None)[number % 2],
                    name=("Caroline", None, "Mélanie 2")[number % 3],
                    title=("A title", None)[number % 2],
                    tags=("tag one", "moved") if number % 4 == 0 else (),
                    occurred_at=START - timedelta(days=number) if number % 2 else None,
                ),
            )
        cube = scribe.add("to be changed")
        query = ViewQuery(scope=MARA, now=scribe.now)
        check_view(vault, vault.search_view(query))
        scribe.revise(cube, "changed to something else")
        scribe.step(vault.get(scribe.found()[:1], MARA)[scribe.found()[0]], MemoryState.ARCHIVED)
        scribe.erase(scribe.head(scribe.found()[3]))
        shown = vault.search_view(query)
        check_view(vault, shown)
        assert len(shown.view) == 2 * len(TEXTS) - 1
        check_view(vault, vault.search_view(replace(query, scope=Scope(user_id="mara", session_id="s1"))))
        assert vault.verify() == []

    def test_rows_of_one_moment_stand_in_the_order_of_their_ids(self, vault: FullVault, scribe: Scribe) -> None:
        scope = Scope(user_id="mara", session_id="s")
        cubes = [scribe.cube(str(number), scope=scope) for number in range(5)]
        scribe.commit(writes=cubes[::-1])
        shown = vault.search_view(ViewQuery(scope=MARA, now=scribe.now))
        assert [ref.cube_id for ref in shown.view.refs] == [cube.id for cube in cubes]
        assert shown.view.following.tolist() == [1, 2, 3, 4, -1]

    def test_a_row_keeps_its_place_when_it_gets_a_new_version(self, vault: FullVault, scribe: Scribe) -> None:
        cubes = [scribe.add(str(number)) for number in range(3)]
        assert scribe.found() == [cube.id for cube in cubes]
        scribe.revise(cubes[0], "new")
        assert scribe.found() == [cube.id for cube in cubes]
        assert vault.search_view(ViewQuery(scope=MARA, now=scribe.now)).view.refs[0].version == 2

    def test_what_is_written_after_a_view_of_nothing_is_found(self, vault: FullVault, scribe: Scribe) -> None:
        vault.open_space("m", 2)
        for scope in (MARA, NOAH, EVERYTHING):
            for space in (None, "m"):
                assert len(vault.search_view(ViewQuery(scope=scope, now=START, space=space)).view) == 0
        cube = scribe.add("first words")
        for space in (None, "m"):
            shown = vault.search_view(ViewQuery(scope=MARA, now=scribe.now, space=space))
            assert [ref.cube_id for ref in shown.view.refs] == [cube.id]
            assert shown.postings(["word"]).keys() == {"word"}
        assert scribe.found(EVERYTHING) == [cube.id]
        assert scribe.found(NOAH) == []

    def test_a_view_does_not_change_under_its_reader(self, vault: FullVault, scribe: Scribe) -> None:
        cube = scribe.add("first words")
        shown = vault.search_view(ViewQuery(scope=MARA, now=scribe.now))
        before = (list(shown.view.refs), shown.view.length.tolist(), shown.view.following.tolist())
        scribe.add("second words")
        scribe.revise(cube, "third")
        assert (list(shown.view.refs), shown.view.length.tolist(), shown.view.following.tolist()) == before
        assert len(vault.search_view(ViewQuery(scope=MARA, now=scribe.now)).view) == 2

    def test_only_current_things_of_the_kind_asked_for(self, vault: FullVault, scribe: Scribe) -> None:
        active = scribe.add("active")
        archived = scribe.add("archived", state=MemoryState.ARCHIVED)
        note = scribe.add("note", descriptive=Descriptive(collection="notes"))
        blob = vault.blobs.put(b"kv")
        cache = scribe.cube(payload=ArtefactPayload(blobs={"kv": blob}), memory_type=MemoryType.ACTIVATION)
        scribe.commit(writes=[cache])
        scribe.invalidate(scribe.add("ended"))
        query = ViewQuery(scope=MARA, now=scribe.now)
        assert self._ids(vault, query) == [active.id, note.id]
        assert self._ids(vault, replace(query, collection="memories")) == [active.id]
        assert self._ids(vault, replace(query, collection="Memories")) == []
        assert self._ids(vault, replace(query, states=frozenset({MemoryState.ARCHIVED}))) == [archived.id]
        assert self._ids(vault, replace(query, memory_types=frozenset({MemoryType.ACTIVATION}))) == [cache.id]
        assert self._ids(vault, replace(query, states=frozenset())) == []

    def test_a_lifespan_ends_to_the_microsecond(self, vault: FullVault, scribe: Scribe) -> None:
        cube = scribe.add("brief", governance=Governance(ttl_seconds=1.5))
        end = cube.recorded_at + timedelta(seconds=1.5)
        assert cube.expires_at == end
        assert self._ids(vault, ViewQuery(scope=MARA, now=end - TICK)) == [cube.id]
        assert self._ids(vault, ViewQuery(scope=MARA, now=end)) == []
        scribe.tick(60)
        renewed = scribe.revise(cube, "renewed")
        assert self._ids(vault, ViewQuery(scope=MARA, now=renewed.recorded_at)) == [cube.id]

    def test_what_was_believed_then(self, vault: FullVault, scribe: Scribe) -> None:
        cube = scribe.add("one")
        second = scribe.revise(cube, "two")
        ended = scribe.invalidate(second)
        fourth = scribe.revise(second, "three")
        expected = [
            (cube.recorded_at - TICK, []),
            (cube.recorded_at, [1]),
            (second.recorded_at - TICK, [1]),
            (second.recorded_at, [2]),
            (ended.at - TICK, [2]),
            (ended.at, []),
            (fourth.recorded_at, [3]),
            (LATER, [3]),
        ]
        for moment, numbers in expected:
            shown = vault.search_view(ViewQuery(scope=MARA, now=scribe.now, as_of=moment))
            assert [ref.version for ref in shown.view.refs] == numbers
            check_view(vault, shown)

    def test_the_past_shows_nothing_erased_and_what_has_become_stale(self, vault: FullVault, scribe: Scribe) -> None:
        source = scribe.add("source")
        derived = scribe.add("derived", sources=[source.ref])
        erased = scribe.add("erased")
        then = scribe.now
        scribe.revise(source, "changed")
        scribe.erase(erased)
        for states in (frozenset({MemoryState.ACTIVATED}), frozenset(MemoryState)):
            query = ViewQuery(scope=MARA, now=scribe.now, as_of=then, states=states)
            assert self._ids(vault, query) == [source.id, derived.id]
        assert self._ids(vault, ViewQuery(scope=MARA, now=scribe.now)) == [source.id]

    def test_the_past_is_asked_with_its_own_collection(self, vault: FullVault, scribe: Scribe) -> None:
        cube = scribe.add("one", descriptive=Descriptive(collection="then"))
        then = cube.recorded_at
        scribe.commit(writes=[scribe.next_of(replace(cube, descriptive=Descriptive(collection="now")))])
        query = ViewQuery(scope=MARA, now=scribe.now)
        assert self._ids(vault, replace(query, as_of=then, collection="then")) == [cube.id]
        assert self._ids(vault, replace(query, as_of=then, collection="now")) == []
        assert self._ids(vault, replace(query, collection="now")) == [cube.id]

    def test_what_was_true_then(self, vault: FullVault, scribe: Scribe) -> None:
        spans = [(None, None), (START, None), (None, START), (START, START + SECOND), (START + SECOND, None)]
        cubes = [scribe.add(descriptive=Descriptive(valid_from=start, valid_to=end)).id for start, end in spans]
        query = ViewQuery(scope=MARA, now=scribe.now)
        assert self._ids(vault, query) == cubes
        for moment, numbers in (
            (START - TICK, [0, 2]),
            (START, [0, 1, 3]),
            (START + SECOND - TICK, [0, 1, 3]),
            (START + SECOND, [0, 1, 4]),
        ):
            assert self._ids(vault, replace(query, valid_at=moment)) == [cubes[number] for number in numbers]

    def test_vectors_are_those_of_the_space_and_zeros_without(self, vault: FullVault, scribe: Scribe) -> None:
        vault.open_space("m", 3)
        vault.open_space("n", 2)
        vector = np.array([0.6, 0.8, 0], np.float32)
        scribe.add("one", vectors={"m": vector, "n": np.array([1, 0], np.float32)})
        scribe.add("two")
        query = ViewQuery(scope=MARA, now=scribe.now, space="m")
        shown = vault.search_view(query).view.vectors
        assert shown.dtype == np.float32
        assert np.allclose(shown, np.stack([vector, np.zeros(3)]), atol=2**-11)  # half precision
        assert np.array_equal(vault.search_view(replace(query, space="n")).view.vectors, [[1, 0], [0, 0]])
        assert vault.search_view(replace(query, space=None)).view.vectors.shape == (2, 0)
        assert vault.search_view(replace(query, scope=NOAH)).view.vectors.shape == (0, 3)

    def test_postings_of_one_scope_do_not_know_the_others(self, vault: FullVault, scribe: Scribe) -> None:
        scribe.add("shared mine", scope=MARA)
        scribe.add("shared secret secret", scope=NOAH)
        postings = vault.search_view(ViewQuery(scope=MARA, now=scribe.now)).postings(["share", "secret", "mine"])
        assert {term: rows.tolist() for term, (rows, _) in postings.items()} == {"share": [0], "mine": [0]}
