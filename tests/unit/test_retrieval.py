"""Retrieval: what moves a score, and what never does."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from memos_agents.cube.canonical import JSON
from memos_agents.cube.memcube import MemCube, VersionRef
from memos_agents.cube.metadata import Descriptive
from memos_agents.cube.moment import to_microseconds
from memos_agents.cube.payload import TextPayload
from memos_agents.cube.scope import Scope
from memos_agents.errors import IncompatibleModel, InvalidRequest
from memos_agents.infrastructure.vault.text import index_terms, text_flags
from memos_agents.infrastructure.vault.view import Postings, View
from memos_agents.operation import cues, signals
from memos_agents.operation.dates import Month, Span, spans
from memos_agents.operation.retrieval import Ranked, retrieve
from memos_agents.operation.weights import Weights
from memos_agents.testing.doubles import HashEmbedder

NOW = datetime(2026, 5, 20, 12, tzinfo=UTC)
EMBEDDER = HashEmbedder(64)


@dataclass(frozen=True)
class Turn:
    text: str
    name: str | None = None
    session: str | None = "s"
    at: datetime = NOW
    id: str = ""
    metadata: Mapping[str, JSON] | None = None


class Rows:
    """A search view made of a list: the least that a ranker may count on."""

    def __init__(self, turns: Sequence[Turn], *, embedder: HashEmbedder = EMBEDDER) -> None:
        held: dict[str, tuple[list[int], list[float]]] = {}
        last: dict[str, int] = {}
        names = sorted({turn.name for turn in turns if turn.name})
        sessions = sorted({turn.session for turn in turns if turn.session})
        previous, following, length = [-1] * len(turns), [-1] * len(turns), []
        for row, turn in enumerate(turns):
            terms = index_terms(_cube(turn))
            length.append(len(terms))
            for term, count in Counter(terms).items():
                rows, counts = held.setdefault(term, ([], []))
                rows.append(row)
                counts.append(min(count, 8))
            if turn.session is not None:
                if turn.session in last:
                    previous[row], following[last[turn.session]] = last[turn.session], row
                last[turn.session] = row
        self._held = held
        self._metadata = [turn.metadata or {} for turn in turns]
        self.metadata_reads = 0
        self.view = View(
            refs=[VersionRef(turn.id or f"cube-{row:04}", 1) for row, turn in enumerate(turns)],
            session=_column([sessions.index(turn.session) if turn.session else -1 for turn in turns], np.int32),
            previous=_column(previous, np.int32),
            following=_column(following, np.int32),
            speaker=_column([names.index(turn.name) if turn.name else -1 for turn in turns], np.int32),
            speakers=tuple(names),
            flags=_column([int(text_flags(turn.text)) for turn in turns], np.uint16),
            event_us=_column([to_microseconds(turn.at) for turn in turns], np.int64),
            length=_column(length, np.float32),
            vectors=embedder.embed([turn.text for turn in turns]),
        )

    def postings(self, terms: Iterable[str]) -> Postings:
        found = {term: self._held[term] for term in terms if term in self._held}
        return {term: (_column(rows, np.int64), _column(counts, np.float32)) for term, (rows, counts) in found.items()}

    def metadata(self) -> Sequence[Mapping[str, JSON]]:
        self.metadata_reads += 1
        return self._metadata


def _cube(turn: Turn) -> MemCube:
    header = Descriptive(name=turn.name)
    return MemCube(
        id="c", scope=Scope(), payload=TextPayload(turn.text), descriptive=header, created_at=NOW, recorded_at=NOW
    )


def _column(values: Sequence[float], dtype: type[np.generic]) -> NDArray:  # type: ignore[type-arg]  # of many types
    return np.asarray(values, dtype=dtype)


def find(rows: Rows, query: str, *, limit: int = 10, dense: bool = True, **options: object) -> list[Ranked]:
    embed = EMBEDDER.embed_query if dense else None
    return retrieve(rows, query, embed=embed, now=NOW, limit=limit, **options)  # type: ignore[arg-type]


def ids(found: Iterable[Ranked]) -> list[str]:
    return [ranked.ref.cube_id for ranked in found]


TALK = [
    Turn("Hey Ben, how was the weekend?", "Ann", "one", NOW - timedelta(days=80), "a"),
    Turn("Great! I went hiking in the Alps with my sister.", "Ben", "one", NOW - timedelta(days=80), "b"),
    Turn("Lovely. I painted a lighthouse on Saturday.", "Ann", "one", NOW - timedelta(days=80), "c"),
    Turn("Did you sell the old car?", "Ann", "two", NOW - timedelta(days=20), "d"),
    Turn("Yes, for 900 euros, to a neighbour.", "Ben", "two", NOW - timedelta(days=20), "e"),
    Turn("I adopted two cats last month!", "Ann", "two", NOW - timedelta(days=20), "f"),
]

words = st.lists(st.sampled_from("red blue sea hill cat dog ran sat May 2024 Ann".split()), min_size=1, max_size=6)
talks = st.lists(
    st.builds(
        Turn,
        text=words.map(" ".join),
        name=st.sampled_from([None, "Ann", "Ben", "user", "assistant"]),
        session=st.sampled_from([None, "one", "two"]),
        at=st.integers(0, 900).map(lambda days: NOW - timedelta(days=days)),
    ),
    min_size=1,
    max_size=12,
)


@pytest.mark.parametrize("dense", [True, False])
def test_the_turn_that_answers_comes_first(dense: bool) -> None:
    rows = Rows(TALK)
    assert ids(find(rows, "Where did Ben go hiking?", dense=dense))[0] == "b"
    assert ids(find(rows, "What did Ann paint?", dense=dense))[0] == "c"
    assert ids(find(rows, "How many cats does Ann have?", dense=dense))[0] == "f"


def test_an_answer_without_the_words_of_the_question_is_found_by_the_turn_before() -> None:
    assert ids(find(Rows(TALK), "How much did Ben sell the car for?", dense=False))[:2] in (["e", "d"], ["d", "e"])


@given(talk=talks, query=words.map(" ".join), dense=st.booleans())
def test_scores_are_explained_bounded_and_sorted(talk: list[Turn], query: str, dense: bool) -> None:
    found = find(Rows(talk), query, limit=100, dense=dense)
    scores = [ranked.score for ranked in found]
    assert scores == sorted(scores, reverse=True) or np.allclose(scores, sorted(scores, reverse=True), atol=2e-6)
    assert len(set(ids(found))) == len(found) <= len(talk)
    for ranked in found:
        assert 0 < ranked.score <= 1 + 1e-6
        assert ranked.score == pytest.approx(sum(ranked.parts.values()))
        assert all(part > 0 for part in ranked.parts.values())
    assert find(Rows(talk), query, limit=100, dense=dense) == found


@given(talk=talks, query=words.map(" ".join), seed=st.integers(0, 99))
def test_the_order_of_sessions_in_the_view_moves_nothing(talk: list[Turn], query: str, seed: int) -> None:
    named = [replace(turn, id=f"{row:03}", session=turn.session or f"own {row}") for row, turn in enumerate(talk)]
    sessions = sorted({turn.session for turn in named}, key=str)
    random.Random(seed).shuffle(sessions)
    moved = [turn for session in sessions for turn in named if turn.session == session]
    before, after = find(Rows(named), query, limit=100), find(Rows(moved), query, limit=100)
    assert ids(before) == ids(after)
    assert [ranked.score for ranked in before] == pytest.approx([ranked.score for ranked in after], abs=1e-5)


def test_rows_outside_the_view_move_no_score() -> None:
    # A ranker is handed the view only; this guards against state that lives on between two calls.
    first = find(Rows(TALK), "Where did Ben go hiking?")
    find(Rows([Turn("hiking hiking Alps Ben", "Zoe")] * 50), "Where did Ben go hiking?")
    assert find(Rows(TALK), "Where did Ben go hiking?") == first


def test_limit_cuts_the_same_list() -> None:
    rows = Rows([Turn(f"cat number {number}", id=f"{number:03}") for number in range(300)])
    whole = find(rows, "cat", limit=300)
    assert len(whole) == 300
    for limit in (1, 7, 299):
        assert find(rows, "cat", limit=limit) == whole[:limit]
    with pytest.raises(InvalidRequest):
        find(rows, "cat", limit=0)


def test_ties_go_to_the_newest_event_then_to_the_smaller_id() -> None:
    old, new = NOW - timedelta(days=9), NOW - timedelta(days=1)
    talk = [Turn("a cat", at=at, id=id, session=None) for id, at in (("z", new), ("b", old), ("a", old), ("y", new))]
    assert ids(find(Rows(talk), "cat")) == ["y", "z", "a", "b"]


def test_an_empty_view_and_a_question_without_words_find_nothing() -> None:
    assert find(Rows([]), "cat") == []
    assert find(Rows(TALK), "?!", dense=False) == []
    assert find(Rows(TALK), "", dense=True) == []
    assert find(Rows(TALK), "zebra", dense=False) == []


def test_rows_without_text_are_never_found() -> None:
    assert ids(find(Rows([Turn("", id="none"), Turn("cat", id="cat")]), "cat")) == ["cat"]
    assert find(Rows([Turn(""), Turn("")]), "cat") == []


@pytest.mark.parametrize(
    ("query", "expected"),
    [("東京", "ja"), ("Куда уехала Мара?", "ru"), ("CAFÉ", "fr"), ("서울", "ko"), ("👩‍🚀 rocket", "emoji")],
)
def test_any_script_is_searched(query: str, expected: str) -> None:
    texts = {
        "ja": "東京に住んでいます",
        "ru": "мара уехала в лиссабон",
        "fr": "le cafe noir",
        "ko": "저는 서울에 살아요",
    }
    texts["emoji"] = "The 👩‍🚀 in her rocket"
    rows = Rows([Turn(text, id=id, session=None) for id, text in texts.items()])
    assert ids(find(rows, query, dense=False)) == [expected]


def test_a_filter_keeps_the_order_and_stops_reading_early() -> None:
    rows = Rows([Turn("cat", id=f"{n:03}", metadata={"even": n % 2 == 0}) for n in range(1000)])
    read: list[Mapping[str, JSON]] = []

    def accepts(metadata: Mapping[str, JSON]) -> bool:
        read.append(metadata)
        return metadata["even"] is True

    whole = [id for id in ids(find(rows, "cat", limit=1000)) if int(id) % 2 == 0]
    assert ids(find(rows, "cat", limit=5, accepts=accepts)) == whole[:5]
    assert len(read) < 100
    assert find(rows, "cat", accepts=lambda metadata: False) == []


def test_without_a_filter_metadata_is_not_read() -> None:
    rows = Rows(TALK)
    find(rows, "cat")
    assert rows.metadata_reads == 0


def test_the_embedder_is_asked_once_without_names_that_occur_everywhere() -> None:
    asked: list[str] = []

    def embed(text: str) -> NDArray[np.float32]:
        asked.append(text)
        return EMBEDDER.embed_query(text)

    retrieve(Rows(TALK), "What did Ann's neighbour Zoe say to Ben?", embed=embed, now=NOW, limit=3)
    retrieve(Rows(TALK), "Ann?", embed=embed, now=NOW, limit=3)
    assert asked == ["What did neighbour Zoe say to ?", "Ann?"]


def test_a_vector_of_another_space_is_refused() -> None:
    with pytest.raises(IncompatibleModel, match=r"\(3,\)"):
        retrieve(Rows(TALK), "cat", embed=lambda text: np.ones(3, dtype=np.float32), now=NOW, limit=3)


def test_a_long_message_is_not_lifted_by_its_neighbours() -> None:
    filler = " ".join(f"word{number}" for number in range(400))
    rows = Rows([Turn("My cat is called Miso"), Turn(filler), Turn("Miso likes tuna")])
    _, window = signals.lexical(rows.view, rows.postings(["miso"]), {"miso": 1.0}, k1=1.2, b=0.75, reach=50)
    assert window[1] < 0.2 * min(window[0], window[2])


def test_turns_without_a_session_lean_on_their_neighbours_in_time() -> None:
    loose = [replace(turn, session=None) for turn in TALK]
    view = signals.chained(Rows(loose).view)
    assert view.following.tolist() == [1, 2, -1, 4, 5, -1]
    assert view.previous.tolist() == [-1, 0, 1, -1, 3, 4]
    facts = Rows([Turn("a fact", session=None), Turn("another", session=None)]).view
    assert signals.chained(facts) is facts


def test_a_signal_of_weight_zero_is_silent() -> None:
    off = Weights(time=0, speaker=0, reply=0, session=0, answer=0)
    for ranked in find(Rows(TALK), "When did Ben sell the car in April?", weights=off):
        assert set(ranked.parts) <= {"words", "context", "meaning"}


@pytest.mark.parametrize("value", [-0.1, float("nan"), float("inf")])
def test_a_weight_is_a_finite_number_not_below_zero(value: float) -> None:
    with pytest.raises(InvalidRequest, match="session is"):
        Weights(session=value)


@pytest.mark.parametrize(
    ("question", "first", "days"),
    [
        ("What happened on 2026-05-07?", datetime(2026, 5, 7, tzinfo=UTC), 1),
        ("What happened on May 7th, 2026?", datetime(2026, 5, 7, tzinfo=UTC), 1),
        ("in May 2026", datetime(2026, 5, 1, tzinfo=UTC), 31),
        ("in december of 2025", datetime(2025, 12, 1, tzinfo=UTC), 31),
        ("in 2024", datetime(2024, 1, 1, tzinfo=UTC), 366),
        ("what did I do yesterday", datetime(2026, 5, 19, tzinfo=UTC), 1),
        ("3 days ago", datetime(2026, 5, 17, tzinfo=UTC), 1),
        ("last Wednesday", datetime(2026, 5, 13, tzinfo=UTC), 1),
        ("two weeks ago", datetime(2026, 5, 3, tzinfo=UTC), 7),
    ],
)
def test_times_are_read(question: str, first: datetime, days: int) -> None:
    (span,) = spans(question, NOW)
    assert isinstance(span, Span)
    assert (span.start, span.end) == (first, first + timedelta(days=days))


def test_a_month_without_a_year_is_any_year_and_may_is_mostly_a_verb() -> None:
    assert spans("the 3rd of June", NOW) == [Month(6, 3)]
    assert spans("in May", NOW) == [Month(5)]
    assert spans("May I ask who may come?", NOW) == []


@pytest.mark.parametrize("question", ["2026-13-45", "9999-12", "999 years ago", "31 February 2024", "in 2024-00", ""])
def test_impossible_times_are_passed_over(question: str) -> None:
    for moment in (NOW, datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)):
        spans(question, moment)
        spans("yesterday, last week, this year, next month", moment)
    assert find(Rows(TALK), f"cats {question}")


def test_a_named_month_lifts_the_turns_of_that_month() -> None:
    talk = [Turn("I saw a play", at=datetime(2025, month, 9, tzinfo=UTC), id=f"{month:02}") for month in range(1, 13)]
    assert ids(find(Rows(talk), "Which play did I see in August?"))[0] == "08"
    assert ids(find(Rows(talk), "Which play did I see in August 2025?"))[0] == "08"
    assert ids(find(Rows(talk), "What is the latest play I saw?"))[0] == "12"


def test_speakers_are_told_apart() -> None:
    view = Rows([Turn("x", "Ann Lee"), Turn("x", "Ben"), Turn("x", "user"), Turn("x", "assistant")]).view
    cue = cues.speaker_cue("Where does Ann live?", view)
    assert cue is not None
    assert [view.speakers[row] for row in view.speaker[cue > 0]] == ["Ann Lee"]
    mine = cues.speaker_cue("Where do I live?", view)
    assert mine is not None
    assert [view.speakers[row] for row in view.speaker[mine > 0]] == ["user"]
    assert cues.speaker_cue("Did Ann meet Ben?", view) is None
    assert cues.speaker_cue("Where is Annabel?", view) is None


def test_a_standing_instruction_is_found_when_work_is_asked_for() -> None:
    log = [Turn(f"Loop {number} runs over the list of cars", "user", id=f"{number:02}") for number in range(20)]
    log += [Turn("Fine.", "assistant"), Turn("Always write loops in Rust when I ask for code.", "user", id="rule")]
    assert "rule" in ids(find(Rows(log), "Can you show me how to loop over a list of cars?", limit=3))
