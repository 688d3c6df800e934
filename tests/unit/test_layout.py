"""The layout of memories in a conversation: each prompt continues the one before, and nothing outdated stays."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memos_agents import InvalidRequest, MemCube, MemOS, Scope
from memos_agents.cube.payload import TextPayload
from memos_agents.interface.layout import (
    START,
    Placed,
    Shown,
    blocks_of,
    check_layout,
    extend,
    in_front_of,
    place_of,
    still_placed,
)
from memos_agents.interface.recall import estimate_tokens
from memos_agents.testing import HashEmbedder

NOW = datetime(2026, 5, 1, 10, 30, tzinfo=UTC)


def cube_of(number: int, text: str = "") -> MemCube:
    payload = TextPayload(text or f"fact {number}")
    return MemCube(id=f"id{number}", scope=Scope(user_id="mara"), payload=payload, created_at=NOW, recorded_at=NOW)


FOUND = st.lists(st.lists(st.integers(0, 19), max_size=5), max_size=8)


@given(FOUND)
def test_what_stands_somewhere_stays_there(turns: list[list[int]]) -> None:
    placed: list[Placed] = []
    for turn, found in enumerate(turns):
        before, at = placed, START if turn == 0 else f"m{turn}"
        placed = extend(before, [cube_of(number) for number in found], at=at, max_tokens=None)
        assert placed[: len(before)] == before
        assert {entry.place for entry in placed[len(before) :]} <= {at}
        earlier = blocks_of(before)
        assert {place: block for place, block in blocks_of(placed).items() if place != at} == {
            place: block for place, block in earlier.items() if place != at
        }
    assert sorted(entry.cube.id for entry in placed) == sorted({f"id{number}" for found in turns for number in found})


@given(FOUND, st.integers(0, 400))
def test_all_blocks_together_keep_the_budget(turns: list[list[int]], budget: int) -> None:
    placed: list[Placed] = []
    for turn, found in enumerate(turns):
        placed = extend(placed, [cube_of(number) for number in found], at=f"m{turn}", max_tokens=budget)
        assert sum(estimate_tokens(block) for block in blocks_of(placed).values()) <= budget


def test_over_budget_memory_begins_anew_with_what_is_asked_for_now() -> None:
    old, new = cube_of(1, "old " * 50), cube_of(2, "new " * 50)
    assert extend([Placed(old, START)], [new], at="m1", max_tokens=150) == [Placed(new, "m1")]
    assert extend([Placed(old, START)], [new], at="m1", max_tokens=400) == [Placed(old, START), Placed(new, "m1")]
    assert extend([Placed(old, START)], [old], at="m1", max_tokens=150) == [Placed(old, START)]


@pytest.mark.parametrize("budget", [-1, 1.5, True])
def test_a_budget_is_a_number_of_tokens(budget: object) -> None:
    with pytest.raises(InvalidRequest):
        extend([], [cube_of(1)], at=START, max_tokens=budget)  # type: ignore[arg-type]


def test_only_what_is_believed_stays_and_what_lost_its_message_moves_to_the_start() -> None:
    with MemOS.open(":memory:", embedder=HashEmbedder(16)) as memos:
        kept, moved, erased, updated = memos.add(["kept", "moved", "erased", "updated"], user_id="mara")
        foreign = memos.add("foreign", user_id="omar")[0]
        cubes = {"m1": kept, "m2": moved, "m3": erased, "m4": updated, "m5": foreign}
        shown = [Shown(str(cube.ref), place) for place, cube in cubes.items()]
        memos.erase(erased.id)
        memos.update(updated.id, "corrected")
        found = still_placed(memos.scoped(user_id="mara"), shown, places=["m1", "m3", "m4", "m5"])
        assert [(entry.cube.text, entry.place) for entry in found] == [("kept", "m1"), ("moved", START)]
        assert [entry.shown for entry in found] == [shown[0], Shown(str(moved.ref), START)]


def test_the_first_message_is_served_by_the_system_text_unless_memory_is_always_fresh() -> None:
    assert place_of([], layout="append") == place_of([], layout="fresh") == START
    assert (place_of(["m1"], layout="append"), place_of(["m1"], layout="fresh")) == (START, "m1")
    assert place_of(["m1", "m2"], layout="append") == place_of(["m1", "m2"], layout="fresh") == "m2"


def test_a_block_stands_in_front_of_whatever_is_said() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:,"}}
    assert in_front_of("Hello", "<b>") == "<b>\n\nHello"
    assert in_front_of([image], "<b>") == [{"type": "text", "text": "<b>\n\n"}, image]
    assert in_front_of(None, "<b>", kind="input_text") == [{"type": "input_text", "text": "<b>\n\n"}]


def test_there_are_two_layouts() -> None:
    assert [check_layout(layout) for layout in ("append", "fresh")] == ["append", "fresh"]
    with pytest.raises(InvalidRequest, match="'append', 'fresh'"):
        check_layout("relevance")
