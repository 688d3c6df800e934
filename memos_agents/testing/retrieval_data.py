"""Conversations with questions and the turns that answer them, read from the files the public sets come in."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal, TypeAlias, cast

from memos_agents.cube.canonical import JSON
from memos_agents.errors import InvalidRequest

Unit: TypeAlias = Literal["turns", "sessions", "messages"]
_Record: TypeAlias = "dict[str, JSON]"

_LOCOMO_TIMES = ("%I:%M %p on %d %B, %Y", "%I:%M %p on %d %B,%Y")
_FIRST_MOMENT = datetime(2024, 1, 1, tzinfo=UTC)  # for BEAM's messages before the first one with a date


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """`gold` are the `source` metadata of the turns (or the session ids) that hold the answer."""

    text: str
    gold: frozenset[str]
    kind: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One conversation: sessions of messages as `MemOS.add` takes them, in order, and what is asked at `now`.

    Each message carries `{"source": id}` as metadata; `dataset` is "LoCoMo", "LongMemEval" or "BEAM".
    """

    dataset: str
    name: str
    unit: Unit
    sessions: Mapping[str, Sequence[Mapping[str, JSON]]]
    questions: Sequence[Question]
    now: datetime


def read_cases(path: str | Path) -> list[Case]:
    """Read a file of LoCoMo, LongMemEval or BEAM conversations, whichever it is: JSON or JSON lines, gzip or not.

    Questions without evidence (abstentions) are left out, and so are conversations without questions. Raises
    `InvalidRequest` for another format.
    """
    found: list[Case] = []
    for record in _records(Path(path)):
        if "conversation" in record and "qa" in record:
            case = _locomo(record)
        elif "probing" in record and "messages" in record:
            case = _beam(record)
        elif "sessions" in record and "queries" in record:
            case = _longmemeval(record)
        elif "haystack_sessions" in record:
            case = _longmemeval(_from_haystack(record))
        else:
            raise InvalidRequest(
                f"{str(path)!r} is not a LoCoMo, LongMemEval or BEAM file: it has {sorted(record)[:9]}"
            )
        if case.questions:
            found.append(case)
    return found


def _records(path: Path) -> Iterator[_Record]:
    try:
        raw = path.read_bytes()
        text = (gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw).decode()
        try:
            parsed = json.loads(text)
        except ValueError:
            parsed = [json.loads(line) for line in text.splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise InvalidRequest(f"{str(path)!r} cannot be read as JSON or JSON lines: {error}") from error
    for record in parsed if isinstance(parsed, list) else [parsed]:
        if not isinstance(record, dict):
            raise InvalidRequest(f"{str(path)!r} holds a {type(record).__name__} where a conversation is expected")
        yield record


def _locomo(record: _Record) -> Case:
    talk = cast(_Record, record["conversation"])
    numbers = sorted(int(key.removeprefix("session_")) for key in talk if re.fullmatch(r"session_\d+", key))
    sessions: dict[str, list[dict[str, JSON]]] = {}
    at = _FIRST_MOMENT
    for number in numbers:
        at = _locomo_time(str(talk.get(f"session_{number}_date_time", ""))) or at
        sessions[f"session_{number}"] = turns = []
        for turn in cast("list[dict[str, str]]", talk[f"session_{number}"]):
            caption = turn.get("blip_caption")
            content = turn.get("text", "") + (f" [shares a photo: {caption}]" if caption else "")
            turns.append(_message("user", content, at, turn["dia_id"]) | {"name": turn["speaker"]})
            at += timedelta(seconds=1)
    known = {str(_source(turn)) for turns in sessions.values() for turn in turns}
    questions = []
    for asked in cast("list[_Record]", record["qa"]):
        evidence = " ".join(cast("list[str]", asked.get("evidence") or []))
        gold = {f"D{int(day)}:{int(turn)}" for day, turn in re.findall(r"D:?(\d+):(\d+)", evidence)} & known
        if gold:
            question = str(asked["question"])
            questions.append(Question(text=question, gold=frozenset(gold), kind=str(asked.get("category"))))
    return Case(
        dataset="LoCoMo",
        name=str(record.get("sample_id")),
        unit="turns",
        sessions=sessions,
        questions=questions,
        now=at,
    )


def _locomo_time(text: str) -> datetime | None:
    for form in _LOCOMO_TIMES:
        try:
            return datetime.strptime(text.strip(), form).replace(tzinfo=UTC)
        except ValueError:
            continue
    return None


def _longmemeval(record: _Record) -> Case:
    sessions: dict[str, list[dict[str, JSON]]] = {}
    latest = _FIRST_MOMENT
    for session in cast("list[_Record]", record["sessions"]):
        name = str(session["session_id"])
        turns = sessions.setdefault(name, [])
        for message in cast("list[dict[str, str]]", session["messages"]):
            if message["content"].strip():
                at = datetime.fromisoformat(message["created_at"]).replace(tzinfo=UTC) + timedelta(seconds=len(turns))
                turns.append(_message(message["role"], message["content"], at, f"{name}:{len(turns)}"))
                latest = max(latest, at)
    questions = []
    for query in cast("list[_Record]", record["queries"]):
        about = cast(_Record, query.get("metadata") or {})
        gold = frozenset(cast("list[str]", about.get("answer_session_ids") or []))
        latest = _longmemeval_time(str(about.get("question_date", ""))) or latest
        if gold:
            kind = str(about.get("question_type"))
            questions.append(Question(text=str(query["question"]), gold=gold, kind=kind))
    ordered = {name: turns for name, turns in sorted(sessions.items(), key=_first_moment) if turns}
    return Case(
        dataset="LongMemEval",
        name=str(record.get("case_id")),
        unit="sessions",
        sessions=ordered,
        questions=questions,
        now=latest,
    )


def _from_haystack(record: _Record) -> _Record:
    """The original LongMemEval layout as the one with `sessions` and `queries`."""
    dates = cast("list[str]", record["haystack_dates"])
    names = cast("list[str]", record["haystack_session_ids"])
    talks = cast("list[list[dict[str, JSON]]]", record["haystack_sessions"])
    sessions: list[JSON] = []
    for name, date, talk in zip(names, dates, talks, strict=True):
        at = (_longmemeval_time(date) or _FIRST_MOMENT).isoformat()
        messages: list[JSON] = [message | {"created_at": at} for message in talk]
        sessions.append({"session_id": name, "messages": messages})
    is_abstention = str(record.get("question_id", "")).endswith("_abs")
    about: _Record = {
        "answer_session_ids": [] if is_abstention else record.get("answer_session_ids"),
        "question_date": record.get("question_date"),
        "question_type": record.get("question_type"),
    }
    queries: list[JSON] = [{"question": record["question"], "metadata": about}]
    return {"case_id": record.get("question_id"), "sessions": sessions, "queries": queries}


def _longmemeval_time(text: str) -> datetime | None:
    try:
        return datetime.strptime(re.sub(r" \(\w+\)", "", text), "%Y/%m/%d %H:%M").replace(tzinfo=UTC)
    except ValueError:
        return None


def _first_moment(item: tuple[str, list[dict[str, JSON]]]) -> str:
    return str(item[1][0]["created_at"]) if item[1] else ""


def _beam(record: _Record) -> Case:
    sessions: dict[str, list[dict[str, JSON]]] = {}
    at = _FIRST_MOMENT
    for message in cast("list[_Record]", record["messages"]):
        with suppress(ValueError):  # most messages have no date of their own: they follow the one before
            at = max(at, datetime.strptime(str(message.get("time")), "%B-%d-%Y").replace(tzinfo=UTC))
        content = str(message.get("content") or "").split("->->")[0].rstrip()  # what follows is the set's own mark
        if content:
            turns = sessions.setdefault(f"batch_{message.get('batch')}", [])
            turns.append(_message(str(message["role"]), content, at, str(message["id"])))
            at += timedelta(seconds=30)
    known = {str(_source(turn)) for turns in sessions.values() for turn in turns}
    questions = []
    for kind, asked in cast("dict[str, list[_Record]]", record["probing"]).items():
        for question in asked:
            gold = frozenset(_numbers(question.get("source_chat_ids"))) & known
            if gold:
                questions.append(Question(text=str(question["question"]), gold=gold, kind=kind))
    return Case(
        dataset="BEAM",
        name=str(record.get("id")),
        unit="messages",
        sessions=sessions,
        questions=questions,
        now=at,
    )


def _numbers(value: JSON) -> list[str]:
    """Every message number anywhere in `value`."""
    if isinstance(value, bool) or value is None:
        return []
    if isinstance(value, int | str):
        return [str(int(number)) for number in re.findall(r"\d+", str(value))]
    parts = value.values() if isinstance(value, Mapping) else cast("Sequence[JSON]", value)
    return [number for part in parts for number in _numbers(part)]


def _message(role: str, content: str, at: datetime, source: str) -> dict[str, JSON]:
    return {"role": role, "content": content, "created_at": at.isoformat(), "metadata": {"source": source}}


def _source(message: Mapping[str, JSON]) -> JSON:
    return cast(_Record, message["metadata"])["source"]
