"""Weights: every number that search uses, in one place."""

from __future__ import annotations

from dataclasses import dataclass, fields
from math import isfinite

from memos_agents.errors import InvalidRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """How much each signal counts. Frozen; `dataclasses.replace` makes a variant for one search.

    Signals are scaled to a maximum of 1 over the rows of the view and summed up (not reciprocal rank fusion: RRF with
    k=60 flattens a strong and a weak ranker alike and lost 10 points on LoCoMo). Zero switches a signal off.

    Two of them depend on what kind of texts the scope holds, by one measure in (0, 1], *talk*: `reach` divided by the
    geometric mean of the rows' lengths in terms, at most 1. It is 1 for chats of short turns and about 0.3 for logs of
    an assistant. In a talk words of the neighbouring turns count and vectors are weak; in a log of long messages it is
    the other way round (LoCoMo, all@10 of BM25 and MiniLM alone: 59 and 36; BEAM: 29 and 49). So one setting serves
    both. Chosen by kinds of questions on the development parts of LoCoMo, LongMemEval and BEAM, in round numbers on a
    flat part of the curve; `cookbook/benchmarks/retrieval.py` prints what they give. Raises `InvalidRequest` for a
    negative or infinite number.
    """

    lexical_talk: float = 1.0
    """BM25 where rows are short turns (talk = 1)."""
    lexical_log: float = 0.35
    """BM25 where rows are long (talk near 0). In between it moves in proportion to talk."""
    context: float = 1.0
    """Share of BM25 that looks at the turns around (times talk); the rest looks at the row's own words."""
    coverage: float = 0.35
    """BM25 counts in full if its best row holds this share of what the question's terms could give, else in proportion.
    0 switches this off."""
    meaning_talk: float = 0.6
    """Cosine between the vectors of the row and the question."""
    meaning_log: float = 1.0
    """The same where rows are long."""
    session: float = 0.3
    """The best row of its session (words and meaning together): a session is about something."""
    time: float = 0.5
    """Fit of the event time with a time named in the question."""
    recency: float = 0.15
    """Newer rows first, times relevance, when the question asks for the present state ('latest', 'now')."""
    speaker: float = 0.2
    """Said by the one person that the question names; by the user when it says 'I'."""
    user: float = 0.1
    """Said by the user rather than the assistant, in a log of both."""
    guidance: float = 0.6
    """A standing instruction of the user, or half of it a preference times relevance, when the question asks for advice
    or for work ('can you', 'how do I')."""
    reply: float = 0.2
    """Answers a question of somebody else (times talk)."""
    answer: float = 0.2
    """Holds what the question asks for: a time for 'when', a number for 'how many'."""

    reach: float = 50.0
    """Length in terms up to which a text leans on its neighbours; a longer one only by reach / length."""
    k1: float = 1.2
    """BM25: how soon repeated terms stop counting (the usual value)."""
    b: float = 0.75
    """BM25: how much longer rows are held back (the usual value)."""
    strip_names: bool = True
    """Leave names that occur everywhere in the scope out of the question's vector."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not (isfinite(value) and value >= 0):
                raise InvalidRequest(f"{field.name} is {value!r}; weights are finite and not below 0")
