"""Text: what is indexed is what a question looks up."""

from __future__ import annotations

import threading
import unicodedata
from datetime import UTC, datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from memos_agents.cube.memcube import MemCube
from memos_agents.cube.metadata import Descriptive
from memos_agents.cube.payload import TextPayload
from memos_agents.cube.scope import Scope
from memos_agents.infrastructure.vault.text import (
    MAX_TERM_CHARACTERS,
    MAX_TERMS,
    TextFlag,
    index_terms,
    query_terms,
    text_flags,
)

NOW = datetime(2026, 5, 1, tzinfo=UTC)


def cube(text: str, **header: object) -> MemCube:
    return MemCube(
        id="c",
        scope=Scope(user_id="mara"),
        payload=TextPayload(text),
        descriptive=Descriptive(**header),  # type: ignore[arg-type]  # the test's own names
        created_at=NOW,
        recorded_at=NOW,
    )


@given(st.text(max_size=200))
@example("İstanbul ﬃ ½ ① ﾊﾟ \u0e01\u0e33 a\u0300 ｆｕｌｌ \U0001f600 ')]")
@example("x" * 500)
def test_every_term_can_be_kept_by_every_index(text: str) -> None:
    for term in index_terms(cube(text)) + query_terms(text):
        assert 0 < len(term) <= MAX_TERM_CHARACTERS
        for sign in term:
            plain = "abcdefghijklmnopqrstuvwxyz0123456789"
            assert sign in plain if sign.isascii() else unicodedata.category(sign)[0] in "LN"
            assert not "\ue000" <= sign <= "\uf8ff"


@given(st.text(max_size=100))
def test_a_text_is_found_by_itself(text: str) -> None:
    assert set(query_terms(text)) <= set(index_terms(cube(text)))


@pytest.mark.parametrize(
    ("indexed", "asked"),
    [
        ("She was running", "run"),
        ("Two hobbies", "hobby"),
        ("Mara's café", "CAFE mara"),
        ("It cost $1,200", "1200"),
        ("snake_case_name", "snake"),
        ("it\u2019s Caroline\u2019s turn", "caroline"),
        ("Straße", "STRASSE"),
        ("ｆｕｌｌ width", "full"),
        ("東京に住んでいます", "東京"),
        ("我有一只猫", "猫"),
        ("저는 서울에 살아요", "서울"),
        ("Я живу в Москве", "москве"),
        ("हिन्दी भाषा", "हिन्दी"),
        ("ภาษาไทย", "ไทย"),
    ],
)
def test_other_spellings_of_a_word_meet(indexed: str, asked: str) -> None:
    assert set(query_terms(asked)) <= set(index_terms(cube(indexed)))


def test_kana_that_differ_by_their_voicing_mark_stay_apart() -> None:
    assert set(query_terms("かき")).isdisjoint(index_terms(cube("かぎ")))


def test_stop_words_are_dropped_from_a_question_unless_nothing_is_left() -> None:
    assert query_terms("What is the city?") == ["citi"]
    assert query_terms("Who are you?") == ["who", "are", "you"]
    assert query_terms("...") == []


def test_name_title_and_tags_are_indexed_with_the_text() -> None:
    terms = index_terms(cube("hi hi", name="Caroline", title="Greetings", tags=("small talk",)))
    assert sorted(terms) == ["carolin", "greet", "hi", "hi", "small", "talk"]


def test_a_huge_text_gives_a_bounded_number_of_terms() -> None:
    assert len(index_terms(cube("lorem ipsum " * 1_000_000, name="Ann"))) <= MAX_TERMS
    assert "ann" in index_terms(cube("lorem ipsum " * 100_000, name="Ann"))
    assert len(query_terms("lorem " * 100_000)) <= MAX_TERMS


def test_threads_get_the_same_stems() -> None:
    words = [f"running{number} hopefully{number} nationality{number}" for number in range(300)]
    expected = [query_terms(word) for word in words]
    found: list[list[list[str]]] = []
    fresh = [f"{word}q" for word in words]  # stems that no cache holds yet
    threads = [threading.Thread(target=lambda: found.append([query_terms(word) for word in fresh])) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(terms == found[0] for terms in found)
    assert [query_terms(word) for word in words] == expected


@pytest.mark.parametrize(
    ("text", "flag"),
    [
        ("Where do you live?", TextFlag.ASKS),
        ("どこに住んでいますか？", TextFlag.ASKS),
        ("We met in March", TextFlag.TIME),
        ("three cats", TextFlag.NUMBER),
        ("Flight 42", TextFlag.NUMBER),
        ("I\u2019m tired", TextFlag.FIRST_PERSON),
        ("Always answer in French.", TextFlag.INSTRUCTION),
        ("From now on, call me Sam.", TextFlag.INSTRUCTION),
        ("I really prefer tea", TextFlag.PREFERENCE),
        ("Blue is my favourite colour", TextFlag.PREFERENCE),
    ],
)
def test_flags_say_what_a_text_holds(text: str, flag: TextFlag) -> None:
    assert flag in text_flags(text)
    assert flag not in text_flags("Rain fell over the hills")


@given(st.text(max_size=200))
def test_flags_fit_in_16_bits(text: str) -> None:
    assert 0 <= int(text_flags(text)) < 1 << 16


def test_flags_of_a_huge_text_look_at_both_ends() -> None:
    assert text_flags("In March " + "x " * 1_000_000 + "ok?") == TextFlag.TIME | TextFlag.ASKS
