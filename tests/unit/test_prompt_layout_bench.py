"""The benchmark of prompt layouts: its models of a cache, and that it says what it measured."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("openai", reason="needs memos-agents[openai]")

SCRIPT = Path(__file__).parents[2] / "cookbook" / "benchmarks" / "prompt_layout.py"
TOKENS = st.lists(st.integers(0, 1), max_size=24)


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    spec = importlib.util.spec_from_file_location("prompt_layout", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@given(prompts=st.lists(TOKENS, max_size=6), block=st.integers(1, 4))
def test_known_are_whole_blocks_of_the_longest_beginning_seen(
    bench: ModuleType, prompts: list[list[int]], block: int
) -> None:
    cache, seen = bench.BlockCache(block), []
    for prompt in prompts:
        common = [sum(1 for _ in takewhile_equal(prompt, earlier)) // block * block for earlier in seen]
        whole = [min(shared, len(earlier) // block * block) for shared, earlier in zip(common, seen, strict=True)]
        expected = min(max(whole, default=0), (len(prompt) - 1) // block * block if prompt else 0)
        assert cache.cached(prompt) == expected
        seen.append(prompt)


def takewhile_equal(one: list[int], other: list[int]) -> list[int]:
    length = next((place for place, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]), None)
    return one[: min(len(one), len(other)) if length is None else length]


def test_below_the_minimum_nothing_is_known(bench: ModuleType) -> None:
    cache = bench.BlockCache(4, minimum=8)
    assert [cache.cached(range(size)) for size in (20, 7, 9, 20)] == [0, 0, 8, 16]


def test_people_become_a_user_and_an_assistant(bench: ModuleType) -> None:
    said = [("Ann", "Hi"), ("Ann", "Bob"), ("Bob", "Hi Ann"), ("Ann", "Bye"), ("Bob", "Bye"), ("Ann", "Oh")]
    session = [{"role": "user", "name": name, "content": text} for name, text in said]
    assert bench.turns_of(session) == [("Hi\nBob", "Hi Ann"), ("Bye", "Bye")]
    roles = [
        {"role": role, "content": text} for role, text in [("assistant", "Hello"), ("user", "a"), ("assistant", "b")]
    ]
    assert bench.turns_of(roles) == [("a", "b")]


def test_append_leaves_the_least_to_compute(bench: ModuleType) -> None:
    sessions = [
        [bench.Turn(f"The {animal} number {number} likes toy {number}.", "Noted.") for number in range(6)]
        for animal in ("cat", "dog", "bird")
    ]
    sessions.append(
        [bench.Turn(f"Which toy does the {animal} like?", "A toy.") for animal in ("cat", "dog", "bird", "cat")]
    )
    talks = [bench.Talk("mara", sessions)]
    server = bench.Server(bench.tokenizer_of(None), None, "")
    sums = {
        name: bench.play(name, talks, server, last=1, max_tokens=10_000)
        for name in ("relevance", "id", "grows", "fresh", "append")
    }
    assert {row.requests for row in sums.values()} == {4}
    left = {name: row.prompt - row.paged for name, row in sums.items()}
    assert left["append"] <= left["grows"] < left["relevance"]
    assert all(0 <= row.hosted <= row.prompt and row.paged <= row.prompt for row in sums.values())
    table = bench.table_of(sums, "relevance", "layouts")
    assert table.row_count == 5 and len(table.columns) == 9
