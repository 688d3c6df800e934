"""What goes into a local model and comes out of a prompt that it ran."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import torch

Layers: TypeAlias = "Sequence[tuple[torch.Tensor, torch.Tensor]]"
"""Keys and values of each layer, both of shape (key-value heads, tokens, head dimension), keys after RoPE."""


@dataclass(frozen=True, slots=True)
class Held:
    """Keys and values of the first tokens of a prompt: of exactly these `ids`, from position 0, cut at these `ends`.

    `room`: how many tokens fit behind them in memory (see `room`).
    """

    ids: tuple[int, ...]
    ends: tuple[int, ...]
    layers: Layers
    room: int = 0


@dataclass(slots=True)
class Prefilled:
    """A prompt that went through the model: the next token's logits (vocabulary,), and the cache to go on from."""

    logits: torch.Tensor
    cache: Any
    tokens_reused: int
    tokens_computed: int
    kept: Held | None = None
