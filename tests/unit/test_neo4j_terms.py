"""The client's text index of a cached scope, and what is sent to Lucene; no server."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("neo4j", reason="needs the Neo4j driver: pip install 'memos-agents[neo4j]'")

from memos_agents.infrastructure.vault.neo4j.terms import TermIndex, lucene_query, packed_postings
from memos_agents.infrastructure.vault.neo4j.upkeep import tag_of

WORDS = ("lisbon", "move", "8", "東京", "a1", "café", "x")
TEXTS = st.dictionaries(st.sampled_from(WORDS), st.integers(1, 8), max_size=5)
STEPS = st.lists(st.lists(TEXTS, max_size=4) | st.sets(st.integers(0, 20), max_size=4) | st.none(), max_size=12)


def packed(counts: dict[str, int]) -> str:
    return " ".join(f"{word} {count}" for word, count in counts.items())


def held(index: TermIndex) -> dict[str, dict[int, float]]:
    found = index.look_up([*WORDS, "nothing", ""])
    return {word: dict(zip(rows.tolist(), counts.tolist(), strict=True)) for word, (rows, counts) in found.items()}


@given(STEPS)
def test_an_index_holds_what_was_put_in_and_not_taken_out(steps: list[list[dict[str, int]] | set[int] | None]) -> None:
    index, expected, number = TermIndex(), {}, 0
    for step in steps:
        if isinstance(step, list):  # add
            texts = {number + place: text for place, text in enumerate(step)}
            number += len(step)
            index.append(list(texts), [packed(text) for text in texts.values()])
            expected |= texts
        elif isinstance(step, set):  # take out; what was there before does not change
            before = held(index)
            fewer = index.without(step)
            assert held(index) == before
            index, expected = fewer, {row: text for row, text in expected.items() if row not in step}
        else:
            held(index)  # builds it
        wanted: dict[str, dict[int, float]] = {}
        for row, text in expected.items():
            for word, count in text.items():
                wanted.setdefault(word, {})[row] = float(count)
    if steps:
        assert held(index) == wanted


@given(st.lists(st.dictionaries(st.sampled_from((*WORDS, "1", "2")), st.integers(1, 8), max_size=6), max_size=6))
def test_looking_into_packed_terms_finds_what_an_index_finds(texts: list[dict[str, int]]) -> None:
    """A count is never taken for a word, though both may be a digit."""
    words = [*WORDS, "1", "2", "3", "nothing", "", " ", "x y", "move*"]
    index = TermIndex(range(len(texts)), [packed(text) for text in texts])
    wanted = {word: sorted(zip(*map(list, held), strict=True)) for word, held in index.look_up(words).items()}
    found = packed_postings([packed(text) for text in texts], words)
    assert {word: list(zip(*map(list, held), strict=True)) for word, held in found.items()} == wanted


def test_no_word_stays_in_memory_when_its_last_version_leaves() -> None:
    index = TermIndex([1, 2], ["secret 1 plain 2", "plain 1"])
    held(index)
    fewer = index.without([1])
    assert "secret" not in repr([segment.words for segment in fewer._segments])
    assert held(TermIndex([1], ["secret 1"]).without([1])) == {}  # not built yet
    assert index.size_bytes > fewer.size_bytes


def test_looking_up_merges_little_segments() -> None:
    index = TermIndex()
    for number in range(100):
        index.append([number], [f"same 1 w{number} 2"])
        found = index.look_up(["same"])["same"]
        assert sorted(found[0].tolist()) == list(range(number + 1))
    assert len(index._segments) < 10


HOSTILE = [
    'a" OR words:"b', "a\\", '\\"', "AND", "OR", "NOT", "a AND b", "+x", "-x", "x*", "x?", "x~2", "x^9", "[a TO b]",
    "{a TO b}", "words:x", "(x", "x)", "/re/", "!x", "&&", "||", "*", "*:*", "#tother", "\x00", "\ud7ff",
]  # fmt: skip


@pytest.mark.parametrize("term", HOSTILE)
def test_every_word_stays_inside_its_quotation_marks(term: str) -> None:
    query = lucene_query(["#t1"], [term, "plain"])
    assert query.startswith('+"#t1"^0 +(')
    assert query.endswith(' "plain")')
    inside = query.removeprefix('+"#t1"^0 +("').removesuffix('" "plain")')
    unescaped = inside.replace("\\\\", "").replace('\\"', "")
    assert '"' not in unescaped
    assert "\\" not in unescaped


def test_nothing_is_asked_of_lucene_without_words() -> None:
    assert lucene_query(["#t1"], []) == ""
    assert lucene_query(["#t1"], ["", "  "]) == ""


def test_tags_tell_owners_apart() -> None:
    tags = [tag_of(stored, kind, name) for stored in ("a", "b") for kind in "uasc" for name in ("x", "y", 'x","y')]
    assert Counter(tags).most_common(1)[0][1] == 1
    assert not any(tag.isalnum() for tag in tags)  # no term of a text looks like one
