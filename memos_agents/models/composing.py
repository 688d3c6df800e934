"""Composing: keys and values of memories that were computed one by one, put together in one prompt. Approximate.

Each piece was computed behind the same beginning (system header and preamble: the attention sink), so of a prompt's
memories only what one says about another is missing. Keys are turned from the position where they were computed to the
one where they stand now; then one forward call computes the tokens that no piece covers, and those that a strategy
picks, over all others. Measured on SmolLM2-135M and chunks of 128 tokens, turning keys and encoding behind the shared
beginning take away three quarters of the divergence that plain concatenation has; recomputing takes away the rest.

Sources: EPIC (arXiv:2410.15332, 4: the first tokens of each piece), CacheBlend (arXiv:2405.16444, 4: the tokens whose
keys and values deviate most in an early layer), KVLink (arXiv:2502.16002: why keys are turned).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from memos_agents.errors import InvalidRequest
from memos_agents.models.held import Held, Prefilled
from memos_agents.models.huggingface import LocalModel
from memos_agents.models.prompts import Prompt

if TYPE_CHECKING:
    import torch

_PROBED = (1, 97, 1_000)
"""Positions to which a key is turned, to see that it is what the model makes there."""


@dataclass(frozen=True, slots=True)
class Piece:
    """The tokens `begin` to `stop` of `held`, which stand at `place` in the prompt."""

    place: int
    held: Held
    begin: int
    stop: int

    @property
    def end(self) -> int:
        """Where the piece ends in the prompt."""
        return self.place + self.stop - self.begin


Strategy: TypeAlias = Callable[[LocalModel, Prompt, Sequence[Piece]], list[int]]
"""Picks the covered tokens that are computed again, by their places in the prompt."""


def nothing(local: LocalModel, prompt: Prompt, pieces: Sequence[Piece]) -> list[int]:
    """Only what no piece covers."""
    return []


def first_tokens(count: int) -> Strategy:
    """EPIC: the first `count` tokens of each piece after the first, which took themselves for the text's beginning."""

    def pick(local: LocalModel, prompt: Prompt, pieces: Sequence[Piece]) -> list[int]:
        return [place for piece in pieces[1:] for place in range(piece.place, min(piece.place + count, piece.end))]

    return pick


def most_deviating(share: float) -> Strategy:
    """CacheBlend: this share of the covered tokens, those whose keys and values deviate most in the second layer.

    Costs a pass of all tokens through one layer and a half.
    """

    def pick(local: LocalModel, prompt: Prompt, pieces: Sequence[Piece]) -> list[int]:
        import torch

        covered = [place for piece in pieces[1:] for place in range(piece.place, piece.end)]
        if not covered:
            return []
        true_keys, true_values = _second_layer(local, prompt)
        keys, values = _filled(local, prompt, pieces, layers=(1,))[0]
        at = torch.tensor(covered, device=true_keys.device)
        off = sum(
            ((one[0] - other)[:, at].float() ** 2).sum((0, 2)) / (other[:, at].float() ** 2).sum((0, 2))
            for one, other in ((keys, true_keys), (values, true_values))
        )
        count = max(1, round(share * len(covered)))
        return sorted(at[off.topk(count).indices].tolist())  # type: ignore[union-attr]

    return pick


def most_attended(share: float, *, from_layer: float = 1 / 2) -> Strategy:
    """This share of the covered tokens: those that give most to the uncovered ones (the question), by attention weight
    times length of the value, over all heads of the layers after the first half. Costs a pass of the question.

    Ours: how far a token's keys and values are off matters as far as somebody reads them. On SmolLM2-135M and memories
    of 128 tokens it leaves at 5 % about what `most_deviating` leaves at 23 %.
    """

    def pick(local: LocalModel, prompt: Prompt, pieces: Sequence[Piece]) -> list[int]:
        import torch

        covered = [place for piece in pieces[1:] for place in range(piece.place, piece.end)]
        if not covered:
            return []
        used = local.model.config._attn_implementation
        local.model.set_attn_implementation("eager")  # the only one that tells its weights
        try:
            out, cache = _run(local, prompt, pieces, set(), output_attentions=True)
        finally:
            local.model.set_attn_implementation(used)
        given = 0
        for number in range(int(from_layer * len(out.attentions)), len(out.attentions)):
            weights, values = out.attentions[number][0].float().sum(1), cache.layers[number].values[0]
            lengths = values.float().norm(dim=-1).repeat_interleave(weights.shape[0] // values.shape[0], 0)
            given = given + (weights * lengths).sum(0)
        at = torch.tensor(covered, device=local.model.device)
        count = max(1, round(share * len(covered)))
        return sorted(at[given[at].topk(count).indices].tolist())  # type: ignore[index]

    return pick


def composed(local: LocalModel, prompt: Prompt, pieces: Sequence[Piece], strategy: Strategy) -> Prefilled:
    """Run a prompt over `pieces`, which lie in order and do not overlap; the last token belongs to none.

    Raises `InvalidRequest` for a model whose keys cannot be turned (`check_turns`).
    """
    import torch

    check_turns(local)
    with local.lock, torch.no_grad():
        wanted = set(strategy(local, prompt, pieces)) if len(pieces) > 1 else set()
        out, cache = _run(local, prompt, pieces, wanted)
        return Prefilled(out.logits[0, -1].float(), cache, len(prompt.ids) - out.computed, out.computed)


def _run(local: LocalModel, prompt: Prompt, pieces: Sequence[Piece], wanted: set[int], **more: Any) -> tuple[Any, Any]:
    """One forward call over the tokens that no piece covers and those `wanted`; its output and the cache."""
    import torch

    covered = {place for piece in pieces for place in range(piece.place, piece.end)}
    places = [place for place in range(len(prompt.ids)) if place not in covered or place in wanted]
    at = torch.tensor(places, device=local.model.device)
    cache = _cache_of([_scattering(keys, values, at) for keys, values in _filled(local, prompt, pieces)])
    out = local.model(
        input_ids=torch.tensor([[prompt.ids[place] for place in places]], device=local.model.device),
        position_ids=at[None],
        attention_mask=_masks(local.model.config, at, len(prompt.ids), local.model.dtype),
        use_cache=True,
        logits_to_keep=1,
        **{local.takes_cache_as: cache},
        **more,
    )
    out.computed = len(places)
    return out, cache


def check_turns(local: LocalModel) -> None:
    """Raise `InvalidRequest` unless turning a key gives what the model makes at the other position, in every layer.

    A single token attends only to itself, so nothing but its position can change its keys. Asked once a model.
    """
    import torch

    if local.turns is None:
        with local.lock, torch.no_grad():
            local.turns = local.keeps_positions and _turns_exactly(local)
    if not local.turns:
        raise InvalidRequest(
            f"the keys of {local.name!r} cannot be turned to another position, so its memories cannot be composed; "
            "without compose= they are injected where that is exact"
        )


def _turns_exactly(local: LocalModel) -> bool:
    import torch

    def keys_at(position: int) -> list[torch.Tensor]:
        cache = local.empty_cache()
        local.forward([1], position, cache)
        return [layer.keys[0] for layer in cache.layers]

    try:
        first = keys_at(0)
        for position in _PROBED:
            turned = [
                _turned(local, number, key, torch.tensor([position], device=key.device))
                for number, key in enumerate(first)
            ]
            for one, other in zip(turned, keys_at(position), strict=True):
                if not torch.allclose(one.float(), other.float(), atol=2e-3 * float(other.abs().max()), rtol=0):
                    return False
    except (AttributeError, TypeError, RuntimeError):  # a rotary embedding of another kind, or none
        return False
    return True


def _turned(local: LocalModel, number: int, keys: torch.Tensor, by: torch.Tensor) -> torch.Tensor:
    """Keys (heads, tokens, dimension) of a layer, each turned by so many positions (tokens,); rounded once."""
    import torch

    rotary = local.rotary
    kinds = getattr(local.model.config, "layer_types", None)
    takes_kind = "layer_type" in inspect.signature(rotary.forward).parameters
    more = {"layer_type": kinds[number]} if takes_kind and kinds else {}
    cos, sin = rotary(keys.new_zeros(1, dtype=torch.float32), by[None], **more)
    size = (cos**2 + sin**2).sqrt()  # the scaling of long contexts is in the keys already
    cos, sin, width = (cos / size)[0], (sin / size)[0], cos.shape[-1]
    part, rest = keys[..., :width].float(), keys[..., width:]
    half = torch.cat([-part[..., width // 2 :], part[..., : width // 2]], -1)
    return torch.cat([(part * cos + half * sin).to(keys.dtype), rest], -1)


def _filled(
    local: LocalModel, prompt: Prompt, pieces: Sequence[Piece], layers: Sequence[int] | None = None
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Keys and values (1, heads, len(prompt.ids), dimension) with the pieces in their places and zeros elsewhere."""
    import torch

    filled = []
    for number in range(len(pieces[0].held.layers)) if layers is None else layers:
        first_keys, first_values = pieces[0].held.layers[number]
        keys, values = (
            part.new_zeros(1, part.shape[0], len(prompt.ids), part.shape[2], device=local.model.device)
            for part in (first_keys, first_values)
        )
        for piece in pieces:
            own_keys, own_values = (
                part[:, piece.begin : piece.stop].to(keys.device) for part in piece.held.layers[number]
            )
            by = piece.place - piece.begin
            keys[0, :, piece.place : piece.end] = (
                _turned(local, number, own_keys, torch.tensor([by], device=keys.device)) if by else own_keys
            )
            values[0, :, piece.place : piece.end] = own_values
        filled.append((keys, values))
    return filled


def _masks(config: Any, places: torch.Tensor, count: int, dtype: torch.dtype) -> Any:
    """Which of `count` tokens each computed one looks at: those before it, within the window of its layer."""
    import torch

    others, window = torch.arange(count, device=places.device)[None], getattr(config, "sliding_window", None)

    def additive(is_seen: torch.Tensor) -> torch.Tensor:
        return torch.zeros(is_seen.shape, dtype=dtype, device=places.device).masked_fill(
            ~is_seen, torch.finfo(dtype).min
        )[None, None]

    before = others <= places[:, None]
    near = before & (others > places[:, None] - window) if window else before
    kinds = set(getattr(config, "layer_types", None) or ())
    if len(kinds) > 1:
        return {"full_attention": additive(before), "sliding_attention": additive(near)}
    is_full = kinds == {"full_attention"} or not getattr(config, "use_sliding_window", True)
    return additive(before if is_full else near)


def _second_layer(local: LocalModel, prompt: Prompt) -> tuple[torch.Tensor, torch.Tensor]:
    """What the second layer's keys and values of all tokens would be without pieces, (heads, tokens, dimension)."""
    cache = _cache_of([_plain_layer(), _stopping()])
    try:
        local.forward(prompt.ids, 0, cache)
    except _EnoughError as enough:
        return enough.keys[0], enough.values[0]
    raise InvalidRequest(f"{local.name!r} has fewer than two layers with a cache")


class _EnoughError(Exception):
    def __init__(self, keys: torch.Tensor, values: torch.Tensor) -> None:
        self.keys, self.values = keys, values


def _cache_of(layers: list[Any]) -> Any:
    from transformers import DynamicCache

    cache = DynamicCache()
    cache.layers = layers
    return cache


def _plain_layer() -> Any:
    from transformers import cache_utils

    make: Any = cache_utils.DynamicLayer
    return make()


def _scattering(keys: torch.Tensor, values: torch.Tensor, places: torch.Tensor) -> Any:
    """A cache layer over whole-length tensors: the first update goes to `places`, later ones are appended."""
    layer = _plain_layer()
    layer.keys, layer.values = keys, values
    layer.dtype, layer.device, layer.is_initialized = keys.dtype, keys.device, True

    def scatter(new_keys: Any, new_values: Any, *args: Any, **more: Any) -> tuple[Any, Any]:
        del layer.update  # the class's own from now on
        layer.keys[:, :, places], layer.values[:, :, places] = new_keys, new_values
        return layer.keys, layer.values

    layer.update = scatter
    return layer


def _stopping() -> Any:
    """A cache layer that ends the forward call with what it is given."""

    def stop(new_keys: Any, new_values: Any, *args: Any, **more: Any) -> tuple[Any, Any]:
        raise _EnoughError(new_keys, new_values)

    layer = _plain_layer()
    layer.update = stop
    return layer
