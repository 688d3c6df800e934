"""Cues: what a question says about *when*, *who* and *what kind* of answer, besides its words.

Pure functions of the question, the time and the view's columns. English only: a question in another language simply
gives no cue.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Final

import numpy as np
from numpy.typing import NDArray

from memos_agents.cube.moment import to_microseconds
from memos_agents.infrastructure.vault.text import TextFlag
from memos_agents.infrastructure.vault.view import View
from memos_agents.operation.dates import Month, Span, spans

_RECENT: Final = re.compile(
    r"\b(?:latest|newest|current|currently|now|nowadays|these days|recent|recently|most recent|up to date|so far|still"
    r"|at the moment|as of today|anymore)\b"
)
_WHEN: Final = re.compile(
    r"^when\b|\b(?:what|which) (?:date|day|month|year|time)\b|\bhow long\b|\bhow many (?:days|weeks|months|years)\b"
)
_HOW_MANY: Final = re.compile(
    r"\bhow (?:many|much|often|old|far|tall|big)\b|\bwhat (?:number|percentage|price|amount)\b"
)
_REQUEST: Final = re.compile(
    r"\b(?:can|could|would|will) you\b|\b(?:help|show|tell|teach|give) me\b|\bplease\b"
    r"|^(?:explain|write|create|suggest|recommend|describe|list|compare|calculate|find|plan|draft)\b"
    r"|\bhow (?:do|can|should|would|might|could) (?:i|we|you)\b"
    r"|\bwhat (?:\w+ ){0,3}(?:should|would|could|can) (?:i|we|you)\b"
    r"|\bany (?:\w+ )?(?:advice|tips?|suggestions?|ideas?)\b"
    r"|\bi'm (?:planning|looking|trying|thinking|working|considering|getting)\b|\b(?:ways|steps) to\b"
)
_WORD: Final = re.compile(r"\w+")
_FIRST_PERSON: Final = re.compile(r"\b(?:i|i'm|i've|i'd|me|my|mine|we|our)\b")
_USER_ROLES: Final = frozenset({"user", "human"})
_ASSISTANT_ROLES: Final = frozenset({"assistant", "ai", "model", "system", "tool", "bot"})
ROLES: Final = _USER_ROLES | _ASSISTANT_ROLES
"""What stands for a speaker's name where a message has none."""
_DAY_US: Final = 86_400_000_000


def time_cue(question: str, now: datetime, view: View) -> NDArray[np.float32] | None:
    """For each row how well its event time fits the times that `question` names (0 to 1); None if it names none.

    People speak of things after they happened: a row up to one such span (7 to 35 days) later still gets 0.4 of it.
    """
    named = spans(question, now)
    if not named or not len(view):
        return None
    cue = np.zeros(len(view), dtype=np.float32)
    for span in named:
        if isinstance(span, Span):
            start, end = to_microseconds(span.start), to_microseconds(span.end)
            after = min(max(end - start, 7 * _DAY_US), 35 * _DAY_US)
            slack = 2 * _DAY_US if span.weight == 1 else 0  # a day is often off by one or two
            inside = (view.event_us >= start - slack) & (view.event_us < end + slack)
            near = (view.event_us >= end) & (view.event_us < end + after)
            fit = np.where(
                inside, np.float32(span.weight), np.where(near, np.float32(0.4 * span.weight), np.float32(0))
            )
        else:
            fit = _month_fit(span, view.event_us)
        np.maximum(cue, fit, out=cue)
    return cue


def wants_recent(question: str) -> bool:
    """Whether the question asks for the present state of something ('latest', 'now', 'still')."""
    return _RECENT.search(question.lower()) is not None


def recency_cue(view: View) -> NDArray[np.float32]:
    """1 for the newest row falling to 0 for the oldest, by rank of event time (gaps in time do not matter)."""
    order = np.argsort(view.event_us, kind="stable")
    cue = np.empty(len(view), dtype=np.float32)
    cue[order] = np.arange(1, len(view) + 1, dtype=np.float32) / max(len(view), 1)
    return cue


def answer_flags(question: str) -> TextFlag:
    """Which flag an answer to `question` would have: a time for *when*, a number for *how many*."""
    text = question.lower()
    if _WHEN.search(text):
        return TextFlag.TIME
    if _HOW_MANY.search(text):
        return TextFlag.NUMBER
    return TextFlag.NONE


def guidance_cue(question: str, view: View, relevance: NDArray[np.float32]) -> NDArray[np.float32] | None:
    """Standing instructions (1) and stated preferences (0.5), if the question asks for something to be done.

    'Always show the code in Rust when I ask about loops' resembles no question about loops, yet bears on each of them.
    """
    if not _REQUEST.search(question.lower().replace("\u2019", "'")):
        return None
    instructs = (view.flags & TextFlag.INSTRUCTION.value) != 0
    prefers = (view.flags & TextFlag.PREFERENCE.value) != 0
    cue: NDArray[np.float32] = np.maximum(instructs, np.float32(0.5) * prefers * relevance)
    user = user_cue(view)
    return cue if user is None else cue * user


def speaker_cue(question: str, view: View) -> NDArray[np.float32] | None:
    """1 for rows of the one speaker that `question` names; None if it names none or several.

    In a log of a user and an assistant, 'I' and 'my' name the user.
    """
    words = set(_WORD.findall(question))
    named = [index for index, name in enumerate(view.speakers) if _first_name(name) in words]
    if not named and _FIRST_PERSON.search(question.lower().replace("\u2019", "'")):
        named = [index for index, name in enumerate(view.speakers) if name.lower() in _USER_ROLES]
    return (view.speaker == named[0]).astype(np.float32) if len(named) == 1 else None


def user_cue(view: View) -> NDArray[np.float32] | None:
    """1 for rows of the user in a log of a user and an assistant; None where there are not both.

    What the user said is the memory; much of what the assistant said repeats or elaborates it.
    """
    users = [index for index, name in enumerate(view.speakers) if name.lower() in _USER_ROLES]
    if not users or not any(name.lower() in _ASSISTANT_ROLES for name in view.speakers):
        return None
    return np.isin(view.speaker, users).astype(np.float32)


def reply_cue(view: View) -> NDArray[np.float32]:
    """1 for a row that does not ask, right after one by somebody else that does."""
    asks = (view.flags & TextFlag.ASKS.value) != 0
    before = np.where(view.previous >= 0, view.previous, 0)
    other = view.speaker != view.speaker[before]
    cue: NDArray[np.float32] = ((view.previous >= 0) & asks[before] & ~asks & other).astype(np.float32)
    return cue


def _first_name(name: str) -> str:
    found = _WORD.search(name)
    return found[0] if found and name.lower() not in ROLES else ""


def _month_fit(span: Month, event_us: NDArray[np.int64]) -> NDArray[np.float32]:
    moments = event_us.astype("datetime64[us]")
    months = moments.astype("datetime64[M]")
    number = months.astype(np.int64) % 12 + 1
    fit: NDArray[np.float32] = np.zeros(len(event_us), dtype=np.float32)
    fit[number == span.month % 12 + 1] = 0.2
    fit[number == span.month] = 0.5
    if span.day:
        day = (moments.astype("datetime64[D]") - months.astype("datetime64[D]")).astype(np.int64) + 1
        fit[(number == span.month) & (np.abs(day - span.day) <= 2)] = 1.0
    return fit
