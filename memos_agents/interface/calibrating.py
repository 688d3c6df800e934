"""Calibrating: how far composed caches are from running the same texts, on the user's own memories and questions.

For each group of memories and each question the text is run and answered greedily; then every way of composing is given
the same tokens. Reported are the mean Kullback-Leibler divergence of its next-token distributions from the text's, the
share of tokens that would be chosen the same, the share of answers that are the same in all tokens, and the share of
the memories' tokens that was computed again. Composition stays off unless a way keeps within the bounds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from memos_agents.cube.memcube import MemCube
from memos_agents.errors import IncompatibleModel, InvalidRequest
from memos_agents.interface.asked import Asked
from memos_agents.interface.store import Progress

if TYPE_CHECKING:
    from memos_agents.models.composing import Piece, Strategy
    from memos_agents.models.held import Prefilled
    from memos_agents.models.huggingface import LocalModel
    from memos_agents.models.prompts import Prompt

Built: TypeAlias = "Callable[[str, Sequence[Asked]], Prompt]"
"""Makes the prompt of a question and memories."""

STRATEGIES: Final = ("turned", "first 4", "attended 5%", "attended 10%", "first 16", "deviating 5%", "deviating 30%")
"""From the cheapest to the dearest: nothing computed again; EPIC; what the question looks at; CacheBlend, which runs
one layer and a half of all tokens first."""
QUESTIONS: Final = ("What is said here, and when was it?", "Who is this about?")
TOKENS: Final = 16
"""Of each answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One way of composing. `kl` in nats a token; the others are shares of 1."""

    strategy: str
    recomputed: float
    kl: float
    same_tokens: float
    same_answers: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """What was measured with one model. `chosen`: the cheapest way within the bounds; None: there is none."""

    model: str
    prompts: int
    kl_at_most: float
    same_at_least: float
    measured: tuple[Measured, ...]

    @property
    def chosen(self) -> str | None:
        within = (
            each.strategy
            for each in self.measured
            if each.kl <= self.kl_at_most and each.same_tokens >= self.same_at_least
        )
        return next(within, None)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> Calibration:
        """The inverse of `to_json`: set it as `model.calibration` instead of measuring again."""
        return cls(**{**found, "measured": tuple(Measured(**each) for each in found["measured"])})


def strategy_of(calibration: Calibration | None, model: str) -> Strategy:
    """Raises `InvalidRequest` where nothing was measured or nothing was good enough, `IncompatibleModel` for a
    calibration of another model.
    """
    if calibration is None:
        raise InvalidRequest("compose=True needs model.calibrate(memories) first: it measures what composing changes")
    if calibration.model != model:
        raise IncompatibleModel("this calibration was measured with another model; calibrate again", field="model")
    if calibration.chosen is None:
        best = min(calibration.measured, key=lambda each: each.kl)
        raise InvalidRequest(
            f"composing was measured and is not good enough here: at best ({best.strategy}) KL {best.kl:.2g} and "
            f"{best.same_tokens:.0%} of tokens the same, the bounds are {calibration.kl_at_most:.2g} and "
            f"{calibration.same_at_least:.0%}; without compose= memories are injected where that is exact"
        )
    return strategies()[calibration.chosen]


def strategies() -> dict[str, Strategy]:
    """By name."""
    from memos_agents.models.composing import first_tokens, most_attended, most_deviating, nothing

    found = (
        nothing, first_tokens(4), most_attended(0.05), most_attended(0.1), first_tokens(16), most_deviating(0.05),
        most_deviating(0.3),
    )  # fmt: skip
    return dict(zip(STRATEGIES, found, strict=True))


def calibrated(
    local: LocalModel,
    built: Built,
    cubes: Sequence[MemCube],
    questions: Sequence[str],
    *,
    together: int,
    kl_at_most: float,
    same_at_least: float,
    progress: Progress | None,
) -> Calibration:
    """See `MemoryModel.calibrate`."""
    from memos_agents.models.composing import check_turns

    if together < 2 or len(cubes) < 2:
        raise InvalidRequest("composing puts at least two memories together; give calibrate two or more")
    check_turns(local)
    groups = [cubes[start : start + together] for start in range(0, len(cubes), together)]
    pairs = [(group, question) for group in groups if len(group) > 1 for question in questions or QUESTIONS]
    ways = strategies()
    rows: dict[str, list[tuple[float, float, float, float]]] = {name: [] for name in ways}
    for number, (group, question) in enumerate(pairs):
        for name, row in _compared(local, built, group, question, ways):
            rows[name].append(row)
        if progress is not None:
            progress(number + 1, len(pairs))
    measured = []
    for name, found in rows.items():
        recomputed, kl, same, answers = (sum(column) / len(found) for column in zip(*found, strict=True))
        measured.append(Measured(strategy=name, recomputed=recomputed, kl=kl, same_tokens=same, same_answers=answers))
    return Calibration(
        model=local.fingerprint.key, prompts=len(pairs), kl_at_most=kl_at_most, same_at_least=same_at_least,
        measured=tuple(measured),
    )  # fmt: skip


def _compared(
    local: LocalModel, built: Built, group: Sequence[MemCube], question: str, ways: dict[str, Strategy]
) -> list[tuple[str, tuple[float, float, float, float]]]:
    """Each way's share computed again, divergence, share of the same tokens, and whether all are."""
    import numpy as np

    from memos_agents.models.composing import composed
    from memos_agents.models.generation import Generated, Sampling

    prompt = built(question, [Asked(cube, cube.id) for cube in group])
    into = Generated()
    for _ in local.generate(prompt, Sampling(max_new_tokens=TOKENS), into):
        pass
    expected = local.followed(local.prefill(prompt), into.token_ids)
    pieces = pieces_of(local, built, group, prompt)
    covered = sum(piece.end - piece.place for piece in pieces)
    found = []
    for name, way in ways.items():
        state: Prefilled = composed(local, prompt, pieces, way)
        recomputed = covered - state.tokens_reused
        shares = local.followed(state, into.token_ids)
        kl = (np.exp(expected) * (expected - shares)).sum(-1).mean()
        same = (expected.argmax(-1) == shares.argmax(-1)).mean()
        found.append((name, (recomputed / max(covered, 1), float(kl), float(same), float(same == 1))))
    return found


def pieces_of(local: LocalModel, built: Built, group: Sequence[MemCube], prompt: Prompt) -> list[Piece]:
    """The group's memories, each run alone behind the beginning that all prompts share; nothing is stored."""
    from memos_agents.models.composing import Piece

    pieces: list[Piece] = []
    for number, cube in enumerate(group):
        alone = built("", [Asked(cube, cube.id)])
        place = prompt.begin if number == 0 else prompt.marks[number - 1]
        (mark,), begin = alone.marks, alone.begin
        if (
            mark is None
            or begin is None
            or place is None
            or alone.ids[begin:mark] != prompt.ids[place : place + mark - begin]
        ):
            continue
        held = local.keys_and_values(alone, mark)
        pieces.append(Piece(0, held, 0, mark) if number == 0 else Piece(place, held, begin, mark))
    return pieces
