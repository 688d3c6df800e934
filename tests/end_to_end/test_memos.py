"""Laws of `MemOS`, the same for a store in memory and in a file."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from memos_agents import (
    AccessDenied,
    IncompatibleModel,
    InvalidRequest,
    InvalidTransition,
    MemCube,
    MemoryState,
    MemOS,
    NotFound,
    Scope,
    Source,
    VersionConflict,
    VersionRef,
)
from memos_agents.testing import FixedClock, HashEmbedder

START = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(START)


@pytest.fixture(params=["memory", "file"])
def memos(request: pytest.FixtureRequest, tmp_path: Path, clock: FixedClock) -> Iterator[MemOS]:
    target = ":memory:" if request.param == "memory" else str(tmp_path / "memos.db")
    with MemOS.open(target, embedder=HashEmbedder(dimension=64), clock=clock) as opened:
        yield opened


def texts(cubes: Any) -> list[str]:
    return [getattr(each, "cube", each).text for each in cubes]


# --- adding and finding


def test_what_is_added_is_found_by_itself_and_says_why(memos: MemOS) -> None:
    cubes = memos.add(
        [
            {
                "role": "user",
                "content": "I moved to Lisbon in May.",
                "name": "Mara",
                "created_at": "2026-05-02T10:00:00Z",
            },
            {"role": "assistant", "content": "How is the weather?"},
            {"role": "user", "content": "My sister breeds alpacas.", "metadata": {"topic": "family"}},
        ],
        user_id="mara",
        session_id="s1",
        metadata={"app": "chat"},
    )
    assert texts(cubes) == ["I moved to Lisbon in May.", "How is the weather?", "My sister breeds alpacas."]
    assert [cube.version for cube in cubes] == [1, 1, 1]
    assert cubes[2].metadata == {"app": "chat", "topic": "family"}
    assert cubes[0].descriptive.occurred_at == datetime(2026, 5, 2, 10, tzinfo=UTC)
    assert cubes[0].governance.owner == "mara"
    assert [memos.get(cube.id) for cube in cubes] == cubes
    hit = memos.search("Which animals does the sister breed? alpacas", user_id="mara", limit=1)[0]
    assert hit.cube.id == cubes[2].id
    assert hit.score > 0
    assert sum(hit.why.values()) == pytest.approx(hit.score, abs=1e-6)
    assert "s1" in str(hit.why)


def test_a_hit_counts_as_a_use(memos: MemOS) -> None:
    cube = memos.add("alpacas graze", user_id="mara")[0]
    memos.search("alpacas", user_id="mara")
    assert memos.get(cube.id).behavioural.use_count == 1


def test_an_exact_duplicate_is_a_use_and_the_same_cube(memos: MemOS) -> None:
    first = memos.add("I like tea.", user_id="mara")[0]
    again = memos.add("I like tea.", user_id="mara")[0]
    assert again.id == first.id
    assert again.behavioural.use_count == 1
    assert memos.stats(user_id="mara").cubes == 1


@pytest.mark.parametrize(
    "other",
    [
        {"user_id": "tom"},
        {"user_id": "mara", "session_id": "s1"},
        {"user_id": "mara", "metadata": {"a": 1}},
        {"user_id": "mara", "role": "user"},
        {"user_id": "mara", "occurred_at": "2026-01-01T00:00:00Z"},
        {"user_id": "mara", "key": "k"},
        {"user_id": "mara", "merge": False},
        {"user_id": "mara", "ttl_seconds": 60},
        {"user_id": "mara", "collection": "other"},
    ],
)
def test_what_differs_in_anything_is_no_duplicate(memos: MemOS, other: dict[str, Any]) -> None:
    first = memos.add("I like tea.", user_id="mara")[0]
    assert memos.add("I like tea.", **other)[0].id != first.id


def test_items_of_one_call_never_merge(memos: MemOS) -> None:
    assert len({cube.id for cube in memos.add(["ok", "ok"], user_id="mara")}) == 2


def test_near_duplicates_are_linked_not_dropped(memos: MemOS) -> None:
    old = memos.add("I moved to Lisbon in May with my two cats and a dog", user_id="mara")[0]
    new = memos.add("I moved to Lisbon in May with my two cats and a dog.", user_id="mara")[0]
    (record,) = memos.relations(new.id)
    assert (record.relation.source_id, record.relation.target_id) == (new.id, old.id)
    assert record.relation.properties["name"] == "near_duplicate"
    assert memos.add("I moved to Lisbon in May with my two cats and a dog!", user_id="tom")[0].id
    assert len(memos.relations(new.id)) == 1
    for number in range(5):
        memos.add("I moved to Lisbon in May with my two cats and a dog" + "!" * (number + 2), user_id="mara")
    newest = memos.list(user_id="mara", order="-created", limit=1)[0]
    assert len(memos.relations(newest.id)) == 3


def test_near_duplicates_of_what_another_front_added_are_linked_too(memos: MemOS, clock: FixedClock) -> None:
    memos.add("warm up", user_id="mara")
    other = MemOS(memos.vault, embedder=HashEmbedder(dimension=64), clock=clock)
    old = other.add("I moved to Lisbon in May with my two cats and a dog", user_id="mara")[0]
    clock.advance(timedelta(minutes=2))
    new = memos.add("I moved to Lisbon in May with my two cats and a dog.", user_id="mara")[0]
    assert [record.relation.target_id for record in memos.relations(new.id)] == [old.id]


def test_a_key_names_one_cube_that_takes_versions(memos: MemOS) -> None:
    first = memos.add("blue", user_id="mara", key="colour")[0]
    second = memos.add("green", user_id="mara", key="colour")[0]
    assert (second.id, second.version) == (first.id, 2)
    assert memos.add("green", user_id="mara", key="colour")[0].version == 2
    assert memos.get(key="colour", user_id="mara").text == "green"
    assert memos.get(first.id, version=1).text == "blue"
    assert memos.add("red", user_id="tom", key="colour")[0].id != first.id
    assert memos.add("red", user_id="mara", key="colour", collection="other")[0].id != first.id
    with pytest.raises(NotFound):
        memos.get(key="colour", user_id="nobody")
    memos.archive(first.id)
    assert memos.add("grey", user_id="mara", key="colour")[0].state is MemoryState.ACTIVATED
    memos.erase(key="colour", user_id="mara")
    assert memos.add("white", user_id="mara", key="colour")[0].id != first.id


def test_a_key_takes_one_item(memos: MemOS) -> None:
    with pytest.raises(InvalidRequest, match="2 items"):
        memos.add(["a", "b"], user_id="mara", key="k")


def test_concurrent_writers_of_one_key_lose_nothing(memos: MemOS) -> None:
    failures: list[BaseException] = []

    def write(number: int) -> None:
        try:
            memos.add(f"value {number}", user_id="mara", key="k")
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    head = memos.get(key="k", user_id="mara")
    assert sorted(texts(memos.history(head.id))) == sorted(f"value {number}" for number in range(8))


def test_a_commit_key_makes_a_call_once(memos: MemOS) -> None:
    first = memos.add(["a b c", "d e f"], user_id="mara", commit_key="call-1")
    again = memos.add(["a b c", "d e f"], user_id="mara", commit_key="call-1")
    assert [cube.id for cube in again] == [cube.id for cube in first]
    assert memos.stats(user_id="mara").cubes == 2


def test_a_large_call_is_committed_in_groups_and_tells_progress(memos: MemOS) -> None:
    told: list[tuple[int, int]] = []
    many = [f"fact number {number}" for number in range(1_201)]
    cubes = memos.add(many, user_id="mara", progress=lambda done, total: told.append((done, total)))
    assert texts(cubes) == many
    assert told == [(500, 1_201), (1_000, 1_201), (1_201, 1_201)]
    assert memos.stats(scope=Scope.everything()).commits == 3


def test_nothing_is_written_when_anything_is_wrong(memos: MemOS) -> None:
    with pytest.raises(InvalidRequest):
        memos.add([*(f"fact {number}" for number in range(600)), None], user_id="mara")  # type: ignore[list-item]
    assert memos.stats(user_id="mara").cubes == 0


def test_metadata_filters_and_times_narrow_a_search(memos: MemOS) -> None:
    memos.add("alpacas in Lisbon", user_id="mara", metadata={"year": 2024}, valid_to="2025-01-01T00:00:00Z")
    memos.add("alpacas in Porto", user_id="mara", metadata={"year": 2026}, valid_from="2025-01-01T00:00:00Z")
    assert texts(memos.search("alpacas", user_id="mara", filter={"year": {"$gt": 2025}})) == ["alpacas in Porto"]
    assert texts(memos.search("alpacas", user_id="mara", valid_at="2024-06-01T00:00:00Z")) == ["alpacas in Lisbon"]


def test_what_was_believed_can_be_asked(memos: MemOS, clock: FixedClock) -> None:
    cube = memos.add("Mara lives in Lisbon", user_id="mara")[0]
    then = clock()
    clock.advance(DAY)
    memos.update(cube.id, "Mara lives in Porto")
    assert texts(memos.search("Mara lives where", user_id="mara")) == ["Mara lives in Porto"]
    assert texts(memos.search("Mara lives where", user_id="mara", as_of=then)) == ["Mara lives in Lisbon"]
    assert texts(memos.search("Mara lives where", user_id="mara", as_of=then + 1000 * DAY)) == ["Mara lives in Porto"]
    assert memos.search("Mara lives where", user_id="mara", as_of=START - DAY) == []


def test_a_lifespan_ends(memos: MemOS, clock: FixedClock) -> None:
    memos.add("the code is 1234", user_id="mara", ttl_seconds=60)
    assert memos.search("code", user_id="mara")
    clock.advance(timedelta(seconds=90))
    assert memos.search("code", user_id="mara") == []
    assert memos.list(user_id="mara") == []
    assert len(memos.list(user_id="mara", include_hidden=True)) == 1
    memos.add("the code is 1234", user_id="mara", ttl_seconds=60)
    assert memos.search("code", user_id="mara")


# --- listing


@pytest.mark.parametrize("order", ["created", "-created"])
def test_listing_pages_are_stable_and_complete(memos: MemOS, order: Any) -> None:
    for number in range(7):
        memos.add(f"fact {number}", user_id="mara")
    seen: list[str] = []
    cursor = None
    for _ in range(9):
        page = memos.list(user_id="mara", order=order, limit=3, cursor=cursor)
        seen += texts(page)
        if order == "-created":
            memos.add(f"later {len(seen)}", user_id="mara")  # comes before everything that was there
        cursor = page.cursor
        if cursor is None:
            break
    facts = [f"fact {number}" for number in range(7)]
    assert seen == (facts if order == "created" else facts[::-1])


def test_a_filter_reads_on_until_the_page_is_full(memos: MemOS) -> None:
    memos.add(
        [{"text": f"fact {number}", "metadata": {"nth": number % 100}} for number in range(1_300)], user_id="mara"
    )
    page = memos.list(user_id="mara", filter={"nth": 99}, limit=12)
    assert texts(page) == [f"fact {number}" for number in range(99, 1_200, 100)]
    assert page.cursor is not None
    last = memos.list(user_id="mara", filter={"nth": 99}, limit=12, cursor=page.cursor)
    assert texts(last) == ["fact 1299"]
    assert last.cursor is None


def test_a_page_that_ends_exactly_has_no_cursor(memos: MemOS) -> None:
    memos.add(["a a", "b b"], user_id="mara")
    assert memos.list(user_id="mara", limit=2).cursor is None


def test_listing_by_event_time(memos: MemOS) -> None:
    memos.add("second", user_id="mara", occurred_at="2025-02-01T00:00:00Z")
    memos.add("first", user_id="mara", occurred_at="2025-01-01T00:00:00Z")
    memos.add("third", user_id="mara")
    page = memos.list(user_id="mara", order="occurred", limit=2)
    assert texts(page) + texts(memos.list(user_id="mara", order="occurred", cursor=page.cursor)) == [
        "first",
        "second",
        "third",
    ]


@pytest.mark.parametrize("cursor", ["", "nonsense", "W10=", "bnVsbA==", 5])
def test_a_foreign_cursor_is_refused(memos: MemOS, cursor: Any) -> None:
    with pytest.raises(InvalidRequest, match="cursor"):
        memos.list(user_id="mara", cursor=cursor)


def test_a_cursor_belongs_to_its_arguments(memos: MemOS) -> None:
    memos.add(["a a", "b b"], user_id="mara")
    cursor = memos.list(user_id="mara", limit=1).cursor
    for other in (
        {"user_id": "tom"},
        {"user_id": "mara", "order": "-created"},
        {"user_id": "mara", "filter": {"a": 1}},
    ):
        with pytest.raises(InvalidRequest, match="other arguments"):
            memos.list(cursor=cursor, **other)  # type: ignore[arg-type]


# --- versions


def test_an_update_is_a_version_and_history_keeps_all(memos: MemOS) -> None:
    cube = memos.add("one", user_id="mara", metadata={"a": 1})[0]
    two = memos.update(cube.id, "two", expected_version=1)
    assert (two.version, two.metadata, two.created_at) == (2, {"a": 1}, cube.created_at)
    three = memos.update(cube, metadata={"b": 2})
    assert (three.version, three.text, three.metadata) == (3, "two", {"b": 2})
    assert memos.update(cube.id, "two", metadata={"b": 2}).version == 3
    assert texts(memos.history(cube.id)) == ["one", "two", "two"]
    assert [version.superseded_at is None for version in memos.history(cube.id)] == [False, False, True]
    back = memos.rollback(cube.id, to_version=1)
    assert (back.version, back.text, back.metadata) == (4, "one", {"a": 1})
    assert memos.rollback(cube.id, to_version=4).version == 4
    assert memos.search("one", user_id="mara")[0].cube == back


def test_an_update_that_expected_another_version_is_refused(memos: MemOS) -> None:
    cube = memos.add("one", user_id="mara")[0]
    memos.update(cube.id, "two")
    with pytest.raises(VersionConflict, match="read it again"):
        memos.update(cube.id, "three", expected_version=1)
    with pytest.raises(VersionConflict):
        memos.rollback(cube.id, to_version=1, expected_version=1)
    assert memos.get(cube.id).text == "two"


def test_concurrent_updates_are_all_kept(memos: MemOS) -> None:
    cube = memos.add("start", user_id="mara")[0]
    threads = [threading.Thread(target=memos.update, args=(cube.id, f"text {number}")) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(texts(memos.history(cube.id))) == sorted(["start", *(f"text {number}" for number in range(6))])


def test_times_can_be_updated_and_must_make_sense(memos: MemOS) -> None:
    cube = memos.add("x y", user_id="mara", valid_from="2026-01-01T00:00:00Z")[0]
    assert memos.update(cube.id, valid_to="2026-02-01T00:00:00Z").descriptive.valid_to == datetime(
        2026, 2, 1, tzinfo=UTC
    )
    with pytest.raises(InvalidRequest, match="later than valid_from"):
        memos.update(cube.id, valid_to="2025-02-01T00:00:00Z")
    with pytest.raises(InvalidRequest, match="valid_to"):
        memos.add("x", user_id="mara", valid_from="2026-01-02T00:00:00Z", valid_to="2026-01-01T00:00:00Z")


# --- derivation, staleness, erasure


def test_what_was_derived_goes_stale_with_its_source(memos: MemOS) -> None:
    fact = memos.add("Mara lives in Lisbon", user_id="mara")[0]
    summary = memos.add("Summary: Lisbon", user_id="mara", derived_from=[fact], semantic_type="summary")[0]
    assert [derivation.source for derivation in memos.provenance(summary.id).derivations] == [fact.ref]
    memos.update(fact.id, "Mara lives in Porto")
    assert memos.get(summary.id).is_stale
    assert all(hit.cube.id != summary.id for hit in memos.search("Summary Lisbon", user_id="mara"))
    fresh = memos.add("Summary: Porto", user_id="mara", derived_from=fact.id)[0]
    assert not fresh.is_stale
    born_stale = memos.add("Old summary", user_id="mara", derived_from=VersionRef(fact.id, 1))[0]
    assert memos.get(born_stale.id).is_stale


def test_outside_evidence_is_a_source(memos: MemOS) -> None:
    letter = Source(id="letter-1", kind="file", locator="letter.txt", sha256="0" * 64)
    cube = memos.add("She wrote a letter.", user_id="mara", derived_from=[letter, "https://example.org/a"])[0]
    assert {source.locator for source in memos.provenance(cube.id).sources} == {"letter.txt", "https://example.org/a"}
    memos.add("Another thing.", user_id="mara", derived_from="https://example.org/a")


def test_erasing_takes_everything_derived_and_gives_a_receipt(memos: MemOS) -> None:
    fact = memos.add("Mara lives in Lisbon", user_id="mara")[0]
    memos.update(fact.id, "Mara lives in Porto")
    summary = memos.add("Summary: Porto", user_id="mara", derived_from=[fact.id])[0]
    other = memos.add("unrelated thing", user_id="mara")[0]
    receipt = memos.erase(fact.id, agent="dpo")
    assert receipt.is_complete
    assert receipt.agent.id == "dpo"
    assert [(stone.ref, stone.is_derived) for stone in receipt.tombstones] == sorted(
        [(VersionRef(fact.id, 1), False), (VersionRef(fact.id, 2), False), (VersionRef(summary.id, 1), True)]
    )
    check = receipt.verify(memos)
    assert check.ok, check.problems
    for gone in (fact.id, summary.id):
        for call in (memos.get, memos.history, memos.relations, memos.erase, memos.archive):
            with pytest.raises(NotFound):
                call(gone)
    assert memos.provenance(fact.id).entities[0].state is MemoryState.ERASED
    assert [cube.id for cube in memos.list(user_id="mara")] == [other.id]
    report = memos.verify()
    assert report.ok, report.problems


def test_erasing_a_whole_scope_must_be_said(memos: MemOS) -> None:
    memos.add(["a a", "b b"], user_id="mara")
    memos.add("c c", user_id="mara", session_id="s1")
    memos.add("d d", user_id="tom")
    for call in (memos.erase, memos.scoped(user_id="mara").erase):
        with pytest.raises(InvalidRequest):
            call()
        with pytest.raises(InvalidRequest, match="empty"):
            call([])
    with pytest.raises(InvalidRequest):
        memos.erase([], user_id="mara")
    assert len(memos.erase(user_id="mara", session_id="s1").tombstones) == 1
    assert len(memos.scoped(user_id="mara").erase(user_id="mara").tombstones) == 2
    assert memos.erase(user_id="mara").tombstones == ()
    assert texts(memos.list(user_id="tom")) == ["d d"]
    memos.erase(scope=Scope.everything())
    assert memos.stats(scope=Scope.everything()).cubes == 0


# --- life, relations, undo, log


def test_a_life_has_legal_steps_only(memos: MemOS) -> None:
    cube = memos.add("alpacas", user_id="mara")[0]
    assert memos.archive(cube.id).state is MemoryState.ARCHIVED
    assert memos.search("alpacas", user_id="mara") == []
    assert memos.search("alpacas", user_id="mara", states="archived")
    with pytest.raises(InvalidTransition):
        memos.archive(cube.id)
    assert memos.activate(cube.id).state is MemoryState.ACTIVATED
    assert memos.freeze(cube.id).frozen
    assert memos.freeze(cube.id).frozen
    for change in (lambda: memos.update(cube.id, "other"), lambda: memos.archive(cube.id)):
        with pytest.raises(InvalidTransition, match="frozen"):
            change()
    assert not memos.unfreeze(cube.id).frozen
    memos.freeze(cube.id)
    memos.erase(cube.id)


def test_relations_hold_until_they_are_taken_back(memos: MemOS) -> None:
    a, b = memos.add(["I like tea", "I hate tea"], user_id="mara")
    relation = memos.relate(a, "CONTRADICTS", b.id, properties={"confidence": 0.9})
    assert [record.relation for record in memos.relations(b.id)] == [relation]
    assert memos.relations(a.id, scope=Scope(user_id="mara"))[0].removed_at is None
    memos.unrelate(a, "CONTRADICTS", b)
    assert memos.relations(a.id) == []
    assert memos.relations(a.id, removed=True)[0].removed_at is not None
    with pytest.raises(InvalidRequest, match="itself"):
        memos.relate(a, "CONTRADICTS", a)
    with pytest.raises(InvalidRequest, match="CONTRADICTS"):
        memos.relate(a, "HATES", b)


def test_relating_across_users_needs_a_grant(memos: MemOS) -> None:
    mine = memos.add("mine alone", user_id="mara")[0]
    theirs = memos.add("toms thing", user_id="tom")[0]
    shared = memos.add("shared thing", user_id="tom", readers=["mara"])[0]
    with pytest.raises(AccessDenied):
        memos.relate(mine, "MENTIONS", theirs)
    with pytest.raises(AccessDenied):
        memos.add("copy", user_id="mara", derived_from=theirs)
    assert memos.relate(mine, "MENTIONS", shared)
    view = memos.scoped(user_id="mara")
    assert view.relate(mine, "RELATES_TO", shared)
    with pytest.raises(NotFound):
        view.relate(mine, "MENTIONS", theirs)
    with pytest.raises(NotFound):
        view.add("copy", derived_from=theirs)
    assert view.add("copy", derived_from=shared)


def test_undo_takes_back_an_add_an_update_and_itself(memos: MemOS) -> None:
    everything = Scope.everything()
    cube = memos.add("one", user_id="mara")[0]
    memos.update(cube.id, "two")
    update = memos.log(scope=everything)[0]
    undone = memos.undo(update.activity_id)
    assert undone.cubes == (cube.id,)
    assert memos.get(cube.id).text == "one"
    assert memos.get(cube.id).version == 3
    memos.undo(undone.activity_id)
    assert memos.get(cube.id).text == "two"
    added = memos.add("brand new alpaca", user_id="mara")[0]
    undo_add = memos.undo(memos.log(scope=everything)[0].activity_id)
    assert memos.search("brand new alpaca", user_id="mara") == []
    assert memos.add("brand new alpaca", user_id="mara", key="k")[0].id != added.id
    memos.undo(undo_add.activity_id)
    assert added.id in {hit.cube.id for hit in memos.search("brand new alpaca", user_id="mara")}
    report = memos.verify()
    assert report.ok, report.problems


def test_undo_reverses_steps_and_relations(memos: MemOS) -> None:
    everything = Scope.everything()
    a, b = memos.add(["I like tea", "I hate tea"], user_id="mara")

    def undo_last() -> None:
        memos.undo(memos.log(scope=everything)[0].activity_id)

    memos.archive(a.id)
    undo_last()
    assert memos.get(a.id).state is MemoryState.ACTIVATED
    memos.freeze(a.id)
    undo_last()
    assert not memos.get(a.id).frozen
    undo_last()
    assert memos.get(a.id).frozen
    memos.unfreeze(a.id)
    memos.relate(a, "CONTRADICTS", b, properties={"n": 1})
    memos.relate(a, "CONTRADICTS", b, properties={"n": 2})
    undo_last()
    assert [record.relation.properties for record in memos.relations(a.id)] == [{"n": 1}]
    memos.unrelate(a, "CONTRADICTS", b)
    undo_last()
    assert len(memos.relations(a.id)) == 1


def test_undo_refuses_what_cannot_be_undone(memos: MemOS) -> None:
    everything = Scope.everything()
    cube = memos.add("one", user_id="mara")[0]
    add = memos.log(scope=everything)[0].activity_id
    memos.update(cube.id, "two")
    with pytest.raises(VersionConflict):
        memos.undo(add)
    with pytest.raises(NotFound):
        memos.undo(add, user_id="tom")
    memos.erase(cube.id)
    with pytest.raises(InvalidRequest, match="erasure"):
        memos.undo(memos.log(scope=everything)[0].activity_id)
    with pytest.raises(NotFound):
        memos.undo(cube.id)


def test_rollback_carries_the_evidence_along(memos: MemOS) -> None:
    fact = memos.add("Mara lives in Lisbon", user_id="mara")[0]
    summary = memos.add("Summary: Lisbon", user_id="mara", derived_from=[fact])[0]
    memos.update(summary.id, "Summary: by hand")
    back = memos.rollback(summary.id, to_version=1)
    assert not back.is_stale
    memos.update(fact.id, "Mara lives in Porto")
    assert memos.get(summary.id).is_stale


def test_the_log_says_who_did_what(memos: MemOS, clock: FixedClock) -> None:
    cube = memos.add("alpacas graze", user_id="mara", agent="importer")[0]
    middle = clock()
    memos.update(cube.id, "two")
    memos.add("other", user_id="tom")
    entries = memos.log(user_id="mara")
    assert [(entry.kind, entry.agent.id) for entry in entries] == [("update", "application"), ("add", "importer")]
    assert [entry.kind for entry in memos.log(user_id="mara", since=middle)] == ["update"]
    assert [entry.kind for entry in memos.log(user_id="mara", until=middle)] == ["add"]
    assert [entry.kind for entry in memos.log(user_id="mara", cube_id=cube.id, limit=1)] == ["update"]
    assert "alpacas" not in str(entries)


# --- the store as a whole


def test_a_bundle_carries_everything_to_another_store(memos: MemOS, tmp_path: Path) -> None:
    fact = memos.add("Mara lives in Lisbon", user_id="mara", metadata={"a": [1, None]}, key="home")[0]
    memos.update(fact.id, "Mara lives in Porto")
    memos.add("Summary: Porto", user_id="mara", derived_from=[fact.id])
    memos.add("toms thing", user_id="tom")
    bundle = tmp_path / "mara.memcube"
    memos.export(bundle, user_id="mara")
    with MemOS.open(":memory:", embedder=HashEmbedder(dimension=32), clock=FixedClock(START + DAY)) as other:
        report = other.load(bundle)
        assert report.counts["cube"] == 2
        assert other.history(fact.id) == memos.history(fact.id)
        assert texts(other.list(scope=Scope.everything())) == texts(memos.list(user_id="mara"))
        assert other.search("Porto", user_id="mara")[0].why["meaning"] > 0
        assert other.load(bundle).counts["cube"] == 0
        check = other.verify()
        assert check.ok, check.problems
    with pytest.raises(InvalidRequest, match="memcube"):
        memos.load(bundle, format="mem0")


def test_a_store_is_bound_to_its_embedder_until_it_is_converted(tmp_path: Path) -> None:
    path = tmp_path / "memos.db"
    with MemOS.open(path, embedder=HashEmbedder(dimension=64)) as memos:
        cube = memos.add("alpacas graze", user_id="mara")[0]
    with pytest.raises(IncompatibleModel, match="reembed"):
        MemOS.open(path, embedder=HashEmbedder(dimension=32))
    with MemOS.open(path, embedder="none") as memos:
        assert memos.search("alpacas", user_id="mara")
        memos.add("found by words only", user_id="mara")
    with MemOS.open(path, embedder=HashEmbedder(dimension=32), reembed=True) as memos:
        assert [space.dimension for space in memos.stats(user_id="mara").spaces] == [32]
        assert memos.get(cube.id).version == 1
        assert all(hit.why["meaning"] > 0 for hit in memos.search("alpacas graze found by words only", user_id="mara"))
        assert memos.reembed(HashEmbedder(dimension=32)).embedded == 0
    with MemOS.open(path, embedder=HashEmbedder(dimension=32)) as memos:
        assert memos.verify().ok


def test_reopening_keeps_everything_and_a_copy_is_equal(tmp_path: Path) -> None:
    path, copy = tmp_path / "memos.db", tmp_path / "copy.db"
    with MemOS.open(path, embedder=HashEmbedder(dimension=64)) as memos:
        cube = memos.add("alpacas graze", user_id="mara")[0]
        memos.snapshot("before")
        memos.backup(copy)
        memos.update(cube.id, "llamas graze")
    for place, expected in ((path, "llamas graze"), (copy, "alpacas graze")):
        with MemOS.open(place, embedder=HashEmbedder(dimension=64)) as memos:
            assert memos.get(cube.id).text == expected
            assert [snapshot.name for snapshot in memos.snapshots()] == ["before"]
            assert memos.verify().ok


def test_a_readonly_store_reads_and_refuses_writes(tmp_path: Path) -> None:
    path = tmp_path / "memos.db"
    with MemOS.open(path, embedder=HashEmbedder(dimension=64)) as memos:
        cube = memos.add("alpacas graze", user_id="mara")[0]
    with MemOS.open(path, embedder=HashEmbedder(dimension=64), readonly=True) as memos:
        assert memos.search("alpacas", user_id="mara")[0].cube.id == cube.id
        for write in (
            lambda: memos.add("x y", user_id="mara"),
            lambda: memos.update(cube.id, "z"),
            lambda: memos.erase(cube.id),
        ):
            with pytest.raises(InvalidRequest, match="readonly"):
                write()
        assert memos.get(cube.id).behavioural.use_count == 0


def test_tenants_share_a_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "memos.db"
    with (
        MemOS.open(path, tenant="one", embedder=HashEmbedder(dimension=64)) as one,
        MemOS.open(path, tenant="two", embedder=HashEmbedder(dimension=64)) as two,
    ):
        cube = one.add("alpacas graze", user_id="mara")[0]
        assert cube.scope.tenant == "one"
        assert two.list(scope=Scope.everything()) == []
        with pytest.raises(NotFound):
            two.get(cube.id)
        with pytest.raises(InvalidRequest, match="tenant"):
            two.list(scope=Scope(tenant="one", user_id="mara"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"target": "neo4j://graph.example:7687"}, r"neo4j\+s://"),
        ({"target": "bolt://localhost", "durability": "relaxed"}, "durability"),
        ({"target": "redis://localhost"}, "backend"),
        ({"target": ""}, "file"),
        ({"target": 5}, "path"),
        ({"target": "a\x00b"}, "file"),
        ({"target": ":memory:", "auth": ("a", "b")}, "servers"),
        ({"target": ":memory:", "database": "x"}, "servers"),
        ({"target": ":memory:", "durability": "none"}, "durability"),
        ({"target": ":memory:", "readonly": True}, "readonly"),
        ({"target": ":memory:", "tenant": ""}, "tenant"),
        ({"target": ":memory:", "embedder": "minilm"}, "embedder"),
        ({"target": ":memory:", "embedder": object()}, "embed"),
        ({"target": ":memory:", "clock": 5}, "clock"),
    ],
)
def test_opening_refuses_what_it_cannot_open(arguments: dict[str, Any], words: str) -> None:
    arguments = {"embedder": HashEmbedder(dimension=64), **arguments}
    with pytest.raises(InvalidRequest, match=words):
        MemOS.open(**arguments)


def test_importing_is_cheap_and_loads_no_model() -> None:
    code = (
        "import sys, time; t = time.process_time();"
        "from memos_agents import MemOS, AsyncMemOS, MemCube, Scope, MemoryType;"
        "spent = time.process_time() - t;"
        "heavy = {'onnxruntime', 'torch', 'numpy', 'pydantic', 'fsspec', 'langchain_core', 'llama_index', 'openai',"
        " 'tokenizers', 'typer', 'rich'} & set(sys.modules);"
        "print(spent); assert not heavy, heavy"
    )
    spent = [
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
        for _ in range(3)
    ]
    assert min(spent) < 0.3, spent


def test_every_exported_name_is_there() -> None:
    import memos_agents

    for name in memos_agents.__all__:
        assert getattr(memos_agents, name) is not None
    assert set(memos_agents.__all__) <= set(dir(memos_agents))
    with pytest.raises(AttributeError):
        _ = memos_agents.Nothing


def test_a_cube_survives_json(memos: MemOS) -> None:
    cube = memos.add("x y", user_id="mara", tags=["a"], title="T", metadata={"n": 1.5})[0]
    assert MemCube.from_json(cube.to_json()) == cube


LATER = "2021-01-01T00:00:00Z"


def test_a_message_may_call_its_time_a_timestamp(memos: MemOS) -> None:
    first, second = memos.add(
        [
            {"role": "user", "content": "one", "timestamp": "2020-01-01T00:00:00Z"},
            {
                "role": "user",
                "content": "two",
                "timestamp": "2020-01-01T00:00:00Z",
                "created_at": "2021-01-01T00:00:00Z",
            },
        ],
        user_id="mara",
    )
    assert [cube.happened_at.year for cube in (first, second)] == [2020, 2021]


def test_a_hit_is_not_a_cube(memos: MemOS) -> None:
    memos.add("The cat is called Bacci.", user_id="mara")
    hit = memos.search("cat", user_id="mara")[0]
    with pytest.raises(InvalidRequest, match=r"hit\.cube"):
        memos.update(hit, "another")  # type: ignore[arg-type]  # the mistake in question
