"""Generation: how the next token is chosen, and what comes out of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from memos_agents.errors import InvalidRequest

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True, kw_only=True)
class Timings:
    """Seconds of wall clock. `tokens_reused` were taken from memory, `tokens_computed` went through the model."""

    prefill_seconds: float
    first_token_seconds: float
    total_seconds: float
    tokens_reused: int
    tokens_computed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How tokens are chosen: greedily unless `temperature` is above 0."""

    max_new_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    stop: tuple[str, ...] = ()
    seed: int | None = None

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1 or self.temperature < 0 or not 0 < self.top_p <= 1:
            raise InvalidRequest(
                f"max_new_tokens ({self.max_new_tokens}) must be at least 1, temperature ({self.temperature}) at least "
                f"0, top_p ({self.top_p}) above 0 and at most 1"
            )


@dataclass(slots=True)
class Generated:
    """What came out so far; complete when the iterator that filled it has ended."""

    text: str = ""
    token_ids: list[int] = field(default_factory=list)
    timings: Timings | None = None


def chooser(sampling: Sampling, device: Any) -> Callable[[torch.Tensor], int]:
    """What picks a token id from logits (vocabulary,)."""
    import torch

    if not sampling.temperature:
        return lambda logits: int(logits.argmax())
    source = torch.Generator(device=device)
    if sampling.seed is None:
        source.seed()
    else:
        source.manual_seed(sampling.seed)

    def choose(logits: torch.Tensor) -> int:
        shares = torch.softmax(logits / sampling.temperature, -1)
        if sampling.top_p < 1:
            ordered, places = shares.sort(descending=True)
            ordered[ordered.cumsum(-1) - ordered >= sampling.top_p] = 0  # the first that reaches the bound stays
            shares = torch.zeros_like(shares).scatter(0, places, ordered)
        return int(torch.multinomial(shares, 1, generator=source))

    return choose
