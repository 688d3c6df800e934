"""How recalled memory is said and whose it is, for every connector."""

from __future__ import annotations

import asyncio
import json
import threading
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memos_agents import AsyncMemOS, InvalidRequest, MemCube, MemOS, Scope
from memos_agents.cube.metadata import Descriptive, Governance
from memos_agents.cube.payload import TextPayload
from memos_agents.interface.quoting import PREAMBLE, quote
from memos_agents.interface.recall import (
    estimate_tokens,
    fitting,
    fronts_of,
    on_thread,
    render,
    still_current,
    told,
    tool_answer,
    view_of,
)
from memos_agents.testing import FixedClock, HashEmbedder

NOW = datetime(2026, 5, 1, 10, 30, tzinfo=UTC)


def cube_of(text: str, number: int = 0, **about: object) -> MemCube:
    return MemCube(
        id=f"id{number}",
        scope=Scope(user_id="mara", session_id="s1"),
        payload=TextPayload(text),
        descriptive=Descriptive(**about),  # type: ignore[arg-type]
        created_at=NOW,
        recorded_at=NOW,
    )


@given(st.text(min_size=1), st.text(max_size=20))
def test_no_text_ends_its_quotation(text: str, name: str) -> None:
    cube = cube_of(text.replace("\ud800", ""), name=name or None)
    block = render([cube], max_tokens=None)
    lines = block.split("\n")
    assert (lines[0], lines[1], lines[3]) == ("<memories>", PREAMBLE, "</memories>") and len(lines) == 4
    assert json.loads(lines[2])["text"] == cube.text
    assert "<" not in lines[2] and len(lines[2].splitlines()) == 1


def test_invisible_characters_are_shown_and_joiners_stay() -> None:
    line = quote(cube_of("a\u202eb\u2066c\u00adc\U000e0041d\ufeffe \u0646\u200c\u0647 👩\u200d🔬"))
    assert json.loads(line)["text"].startswith("a\u202eb")
    assert all(ord(character) < 0x202A or character in "نه👩🔬" or ord(character) == 0x200D for character in line)
    assert "\\u202e" in line and "\\udb40\\udc41" in line and "👩\u200d🔬" in line


def test_a_line_is_a_function_of_the_version_alone() -> None:
    cube = cube_of("I like tea.", role="user", title="Tastes")
    assert quote(cube) == (
        '{"time": "2026-05-01T10:30Z", "source": "user, titled Tastes, session s1", "text": "I like tea."}'
    )
    assert told(cube) | {"id": "id0", "version": 1} == told(cube)
    assert "trust" not in told(cube)


def test_little_trust_is_said() -> None:
    with MemOS.open(":memory:", embedder=HashEmbedder(16)) as memos:
        cube = memos.add("The earth is flat.", user_id="mara", trust=0.2)[0]
    assert json.loads(quote(cube))["trust"] == 0.2 == told(cube)["trust"]
    assert cube.governance == Governance(owner="mara", trust=0.2)


def test_nothing_found_is_nothing_said() -> None:
    assert render([]) == render([cube_of("")]) == render([cube_of("x")], max_tokens=0) == ""
    assert tool_answer([]) == "No memory was found."


@given(st.lists(st.text(alphabet="abc é", min_size=1, max_size=200), max_size=8), st.integers(0, 400))
def test_the_block_keeps_its_budget(texts: list[str], budget: int) -> None:
    cubes = [cube_of(text, number) for number, text in enumerate(texts)]
    assert estimate_tokens(render(cubes, max_tokens=budget)) <= budget
    shown = fitting(cubes, max_tokens=budget)
    assert [cube.id for cube in shown] == sorted(cube.id for cube in shown)


@pytest.mark.parametrize("budget", [-1, 1.5, True])
def test_a_budget_is_a_number_of_tokens(budget: object) -> None:
    with pytest.raises(InvalidRequest):
        render([], max_tokens=budget)  # type: ignore[arg-type]


def test_only_what_is_still_believed_is_shown_again() -> None:
    clock = FixedClock()
    with MemOS.open(":memory:", embedder=HashEmbedder(16), clock=clock) as memos:
        kinds = ("kept", "erased", "updated", "archived", "outlived", "derived")
        made = {
            kind: memos.add(kind, user_id="mara", ttl_seconds=60 if kind == "outlived" else None)[0] for kind in kinds
        }
        stale = memos.add("summary", user_id="mara", derived_from=made["updated"].id)[0]
        foreign = memos.add("foreign", user_id="omar")[0]
        refs = [str(cube.ref) for cube in (*made.values(), stale, foreign)]
        view = memos.scoped(user_id="mara")
        assert [cube.text for cube in still_current(view, refs)] == [*kinds, "summary"]
        memos.erase(made["erased"].id)
        memos.update(made["updated"].id, "another")
        memos.archive(made["archived"].id)
        clock.advance(timedelta(minutes=2))
        damaged = ["", "x", "x/v", "x/vy", f"{made['kept'].id}/v2"]
        assert [cube.text for cube in still_current(view, [*damaged, *refs])] == ["kept", "derived"]
        assert [cube.text for cube in still_current(memos, refs)] == ["kept", "derived", "foreign"]


def test_a_scope_is_required_and_never_widened() -> None:
    with MemOS.open(":memory:", embedder=HashEmbedder(16)) as memos:
        for front in (memos, AsyncMemOS(memos)):
            with pytest.raises(InvalidRequest):
                view_of(front)
            view = view_of(front, user_id="mara")
            assert view.sync.scope == view.aio.scope == Scope(user_id="mara")
            narrowed = view_of(view.sync if front is memos else view.aio, session_id="s1")
            assert narrowed.sync.scope == Scope(user_id="mara", session_id="s1")
            with pytest.raises(InvalidRequest):
                view_of(view.aio, user_id="omar")
            assert view_of(front, scope=Scope.everything()).sync.scope.is_everything
            assert fronts_of(front).sync is memos
        with pytest.raises(InvalidRequest):
            fronts_of("memos.db")  # type: ignore[arg-type]


async def test_work_runs_on_the_fronts_threads() -> None:
    with MemOS.open(":memory:", embedder=HashEmbedder(16)) as memos:
        view = view_of(memos, user_id="mara")
        names = await asyncio.gather(*(on_thread(view.aio, lambda: threading.current_thread().name) for _ in range(4)))
        assert all(name.startswith("memos") for name in names)
