"""Dates: the times that a question names, in English words or ISO 8601, as spans of the calendar."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

_MONTHS: Final = (
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
)
_WEEKDAYS: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_COUNTS: Final = {
    word: number
    for number, word in enumerate("one two three four five six seven eight nine ten eleven twelve".split(), start=1)
} | {"a": 1, "an": 1, "couple of": 2, "few": 3}
_MONTH: Final = "(" + "|".join(_MONTHS) + ")"
_ISO_DATE: Final = re.compile(r"\b(\d{4})-(\d{2})(?:-(\d{2}))?\b")
_DAY_MONTH: Final = re.compile(rf"\b(\d{{1,2}})(?:st|nd|rd|th)?(?: of)? {_MONTH}\b(?:,? (\d{{4}})\b)?")
_MONTH_DAY: Final = re.compile(rf"\b{_MONTH} (\d{{1,2}})(?:st|nd|rd|th)?\b(?:,? (\d{{4}})\b)?")
_MONTH_YEAR: Final = re.compile(rf"\b{_MONTH}\b(?:,?(?: of)? (\d{{4}})\b)?")
_MAY: Final = re.compile(r"\b(?:in|of|during|since|last|until|by|this) may\b")  # elsewhere it is mostly a verb
_YEAR: Final = re.compile(r"\b(?:in|of|during|since|from|year) (19\d\d|20\d\d)\b")
_AGO: Final = re.compile(rf"\b(\d{{1,3}}|{'|'.join(_COUNTS)}) (day|week|month|year)s? (?:ago|back|before today)\b")
_LAST: Final = re.compile(rf"\b(?:last|past|previous) (week|weekend|month|year|{'|'.join(_WEEKDAYS)})\b")
_THIS: Final = re.compile(r"\b(?:this|current) (week|weekend|month|year)\b")
_DAY_WORD: Final = re.compile(r"\b(today|yesterday)\b")
_DAY: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Span:
    """Part of the calendar that a question names: start included, end not. `weight` says how sharply (0 to 1]."""

    start: datetime
    end: datetime
    weight: float


@dataclass(frozen=True, slots=True)
class Month:
    """A month, or a day in it, of no particular year (month 1 to 12; day 0: any)."""

    month: int
    day: int = 0


def spans(question: str, now: datetime) -> list[Span | Month]:
    """The times that `question` names, absolute ones as written, relative ones ('two weeks ago') seen from `now`.

    Sharper times weigh more: a day 1, a week .75, a month .5, a year .2. Impossible dates are passed over.
    """
    text = question.lower()
    found: list[Span | Month] = []
    for pattern in (_read_iso, _read_days, _read_months, _read_years):
        text = pattern(text, found)
    found.extend(_relative(text, now))
    return found


def _read_iso(text: str, found: list[Span | Month]) -> str:
    for match in _ISO_DATE.finditer(text):
        year, month, day = int(match[1]), int(match[2]), int(match[3] or 0)
        found.extend(_date(year, month, day))
    return _ISO_DATE.sub(" ", text)


def _read_days(text: str, found: list[Span | Month]) -> str:
    for pattern, day_group, month_group in ((_DAY_MONTH, 1, 2), (_MONTH_DAY, 2, 1)):
        for match in pattern.finditer(text):
            month, day = _MONTHS.index(match[month_group]) + 1, int(match[day_group])
            found.extend(_date(int(match[3]), month, day) if match[3] else [Month(month, day)])
        text = pattern.sub(" ", text)
    return text


def _read_months(text: str, found: list[Span | Month]) -> str:
    for match in _MONTH_YEAR.finditer(text):
        if (
            match[1] == "may"
            and not match[2]
            and not re.search(r"\b(?:in|of|during|since|last|until|by|this) may\b", text)
        ):
            continue  # "may" is mostly a verb
        month = _MONTHS.index(match[1]) + 1
        found.extend(_date(int(match[2]), month, 0) if match[2] else [Month(month)])
    return _MONTH_YEAR.sub(" ", text)


def _read_years(text: str, found: list[Span | Month]) -> str:
    for match in _YEAR.finditer(text):
        found.extend(_date(int(match[1]), 0, 0))
    return text


def _date(year: int, month: int, day: int) -> Iterator[Span]:
    try:
        start = datetime(year, month or 1, day or 1, tzinfo=UTC)
        if day:
            yield Span(start, start + _DAY, 1.0)
        elif month:
            yield Span(start, datetime(year + month // 12, month % 12 + 1, 1, tzinfo=UTC), 0.5)
        else:
            yield Span(start, datetime(year + 1, 1, 1, tzinfo=UTC), 0.2)
    except (ValueError, OverflowError):
        return


def _relative(text: str, now: datetime) -> Iterator[Span]:
    midnight = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    try:
        for match in _DAY_WORD.finditer(text):
            start = midnight - _DAY * (match[1] == "yesterday")
            yield Span(start, start + _DAY, 1.0)
        for match in _AGO.finditer(text):
            count = _COUNTS.get(match[1]) or int(match[1])
            yield _back(midnight, count, match[2])
        for match in _LAST.finditer(text):
            if match[1] in _WEEKDAYS:
                days = (midnight.weekday() - _WEEKDAYS.index(match[1]) - 1) % 7 + 1
                yield Span(midnight - days * _DAY, midnight - (days - 1) * _DAY, 1.0)
            else:
                yield _back(midnight, 1, match[1])
        for match in _THIS.finditer(text):
            days = {"week": 7, "weekend": 7, "month": 31, "year": 366}[match[1]]
            yield Span(midnight - days * _DAY, midnight + _DAY, 0.5)
    except OverflowError:
        return


def _back(midnight: datetime, count: int, unit: str) -> Span:
    days, slack, weight = {
        "day": (1, 0, 1.0),
        "week": (7, 3, 0.75),
        "weekend": (7, 3, 0.75),
        "month": (30, 15, 0.5),
        "year": (365, 182, 0.2),
    }[unit]
    centre = midnight - count * days * _DAY
    return Span(centre - slack * _DAY, centre + (slack + 1) * _DAY, weight)
