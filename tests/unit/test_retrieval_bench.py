"""The retrieval benchmark: reads the public formats and counts what it says it counts."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from rich.console import Console

from memos_agents import MemOS
from memos_agents.errors import InvalidRequest
from memos_agents.testing.doubles import HashEmbedder
from memos_agents.testing.retrieval_bench import METHODS, main, measure, render
from memos_agents.testing.retrieval_data import read_cases

LOCOMO = {
    "sample_id": "conv-1",
    "conversation": {
        "session_1_date_time": "1:56 pm on 8 May, 2023",
        "session_1": [
            {"speaker": "Ann", "dia_id": "D1:1", "text": "Where did you go?"},
            {"speaker": "Ben", "dia_id": "D1:2", "text": "To the Alps, hiking.", "blip_caption": "a glacier"},
        ],
        "session_2_date_time": "10:00 am on 1 June, 2023",
        "session_2": [{"speaker": "Ann", "dia_id": "D2:1", "text": "I sold my car."}],
    },
    "qa": [
        {"question": "Where did Ben go hiking?", "evidence": ["D1:2"], "category": 4},
        {"question": "Who has a photo of a glacier and who sold a car?", "evidence": ["D1:2; D2:1"], "category": 1},
        {"question": "Never said", "evidence": [], "category": 5},
    ],
}
LONGMEMEVAL = {
    "question_id": "q1",
    "question": "Which city did I move to?",
    "question_date": "2023/05/30 (Tue) 20:02",
    "question_type": "single-session-user",
    "answer_session_ids": ["s2"],
    "haystack_dates": ["2023/05/20 (Sat) 02:21", "2023/05/01 (Mon) 10:00"],
    "haystack_session_ids": ["s1", "s2"],
    "haystack_sessions": [
        [{"role": "user", "content": "Tips for baking bread?"}, {"role": "assistant", "content": "Use good flour."}],
        [{"role": "user", "content": "I moved to the city of Porto."}, {"role": "assistant", "content": "How nice!"}],
    ],
}
BEAM = {
    "id": "chat-1",
    "messages": [
        {
            "id": 0,
            "role": "user",
            "content": "My sprint ends on March 29. ->-> 1,1",
            "time": "March-15-2024",
            "batch": 1,
        },
        {"id": 1, "role": "assistant", "content": "Noted.", "time": None, "batch": 1},
    ],
    "probing": {
        "update": [{"question": "When does my sprint end?", "source_chat_ids": {"original": [0], "new": [0]}}],
        "abstention": [{"question": "What is my name?"}],
    },
}


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    locomo, longmemeval, beam = (tmp_path / name for name in ("locomo.json", "lme.json.gz", "beam.jsonl"))
    locomo.write_text(json.dumps([LOCOMO]))
    longmemeval.write_bytes(gzip.compress(json.dumps([LONGMEMEVAL]).encode()))
    beam.write_text("\n".join([json.dumps(BEAM), ""]))
    return [locomo, longmemeval, beam]


def test_the_public_formats_are_told_apart(files: list[Path]) -> None:
    locomo, longmemeval, beam = (read_cases(path)[0] for path in files)
    assert [question.gold for question in locomo.questions] == [{"D1:2"}, {"D1:2", "D2:1"}]
    photo = locomo.sessions["session_1"][1]
    assert photo["content"] == "To the Alps, hiking. [shares a photo: a glacier]"
    assert (photo["name"], photo["created_at"]) == ("Ben", "2023-05-08T13:56:01+00:00")
    assert list(longmemeval.sessions) == ["s2", "s1"]  # in the order they happened
    assert longmemeval.now.isoformat() == "2023-05-30T20:02:00+00:00"
    assert beam.sessions["batch_1"][0]["content"] == "My sprint ends on March 29."
    assert [question.gold for question in beam.questions] == [{"0"}]


def test_every_method_is_measured_on_every_set(files: list[Path]) -> None:
    report = measure(files, open_store=MemOS.open, embedder=HashEmbedder(64), command="bench")
    assert {(row.dataset, row.method) for row in report.measured} == {
        (dataset, method) for dataset in ("LoCoMo", "LongMemEval", "BEAM") for method in METHODS
    }
    for row in report.measured:
        if row.method == "MemOS":
            assert row.figures["any@10"] == row.figures["all@10"] == row.figures["frac@10"] == 1  # so few rows
        assert row.questions == (2 if row.dataset == "LoCoMo" else 1)
    console = Console(record=True, width=120)
    render(report, console)
    shown = console.export_text()
    assert "LoCoMo: turns, 2 questions" in shown
    assert "bench" in shown


def test_what_is_no_benchmark_file_is_refused(tmp_path: Path) -> None:
    for content in ("{}", "[1]", "not json", '{"messages": []}'):
        path = tmp_path / "file.json"
        path.write_text(content)
        with pytest.raises(InvalidRequest, match=r"file\.json"):
            read_cases(path)
    with pytest.raises(InvalidRequest, match="missing"):
        read_cases(tmp_path / "missing.json")


def test_the_command_needs_data(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([], open_store=MemOS.open)
    assert "--data" in capsys.readouterr().err
