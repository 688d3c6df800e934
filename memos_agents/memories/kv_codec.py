"""Keys and values as few bytes: exact, int8 or int4.

Asymmetric quantization with a scale and an offset a group. Keys are grouped along tokens, channel by channel, because
their outliers lie in few channels; values along channels, token by token (KIVI, arXiv:2402.02750, 3.2). In int8 scales
and offsets are float16. In int4 they would be a fifth of all bytes, so they are quantized to 8 bits themselves (as in
QLoRA, arXiv:2305.14314, 3), along tokens, rounded outwards; and the first four tokens stay exact: they are attention
sinks and hold the outliers, which halves the divergence.
Bytes a token of SmolLM2-135M (11,520 values): exact 46,080 in float32, int8 12,240, int4 6,480 and 4 tokens more.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, get_args

from memos_agents.errors import IncompatibleModel, InvalidRequest

if TYPE_CHECKING:
    import torch

    from memos_agents.models.held import Layers

Precision: TypeAlias = Literal["exact", "int8", "int4"]
PRECISIONS: Final[tuple[str, ...]] = get_args(Precision)
KEY_GROUP: Final[Mapping[str, int]] = {"int8": 64, "int4": 32}
"""Tokens."""
VALUE_GROUP: Final[Mapping[str, int]] = {"int8": 64, "int4": 32}
"""Channels; fewer where a head has fewer."""
SINKS: Final[Mapping[str, int]] = {"int8": 0, "int4": 4}
"""Tokens at the beginning that stay exact."""
SHORT: Final = 8
"""Rows of fewer scales than this keep them in float16."""

_TINY: Final = 6e-8
"""The least step of float16."""

Tensors: TypeAlias = "dict[str, torch.Tensor]"


def pack(layers: Layers, precision: Precision) -> Tensors:
    """Tensors to store, by name: `k.3` are the keys of layer 3; with `.scale` and `.low`, and `.sinks`, if packed."""
    if precision not in PRECISIONS:
        raise InvalidRequest(f"precision is {precision!r}; it must be one of {', '.join(PRECISIONS)}")
    packed: Tensors = {}
    for number, (keys, values) in enumerate(layers):
        for name, tensor, axis in ((f"k.{number}", keys, 1), (f"v.{number}", values, 2)):
            if precision == "exact":
                packed[name] = tensor.contiguous().cpu()
            else:
                packed.update(_quantized(name, tensor.cpu(), axis, precision))
    return packed


def unpack(tensors: Mapping[str, torch.Tensor], precision: str, tokens: int, dtype: torch.dtype) -> Layers:
    """The inverse of `pack`, in `dtype`. `IncompatibleModel` if a tensor is missing or has another shape."""
    layers: list[tuple[torch.Tensor, torch.Tensor]] = []
    while f"k.{len(layers)}" in tensors:
        number = len(layers)
        try:
            found = [
                tensors[name] if precision == "exact" else _restored(name, tensors, axis, precision, tokens, dtype)
                for name, axis in ((f"k.{number}", 1), (f"v.{number}", 2))
            ]
        except (KeyError, RuntimeError) as error:
            raise IncompatibleModel(
                f"the stored keys and values of layer {number} are incomplete; make them again from the text",
                field="tensors",
            ) from error
        if any(part.dim() != 3 or part.shape[1] != tokens for part in found):
            raise IncompatibleModel(
                f"the stored keys and values of layer {number} have shape {tuple(found[0].shape)}, not {tokens} tokens",
                field="tensors",
            )
        layers.append((found[0], found[1]))
    return layers


def _quantized(name: str, tensor: torch.Tensor, axis: int, precision: str) -> Tensors:
    import torch

    sinks = min(SINKS[precision], tensor.shape[1])
    packed: Tensors = {f"{name}.sinks": tensor[:, :sinks].contiguous()} if sinks else {}
    grouped = _grouped(tensor[:, sinks:].float(), axis, precision)
    least, most = grouped.amin(-1), grouped.amax(-1)
    if precision == "int8":
        lows, low = _half_below(name, "low", least)
        scales, scale = _half_above(name, "scale", (most - low) / 255)
    else:
        lows, low = _eight_bits(name, "low", least, axis)
        scales, scale = _eight_bits(name, "scale", (most - low) / 15, axis)
    top = 255 if precision == "int8" else 15
    whole = ((grouped - low[..., None]) / scale[..., None]).round().clamp(0, top).to(torch.uint8)
    if precision == "int4":
        flat = torch.nn.functional.pad(whole.flatten(-2), (0, whole.flatten(-2).shape[-1] % 2))
        whole = flat[..., ::2] | (flat[..., 1::2] << 4)
    return packed | {name: whole.contiguous()} | lows | scales


def _restored(
    name: str, tensors: Mapping[str, torch.Tensor], axis: int, precision: str, tokens: int, dtype: torch.dtype
) -> torch.Tensor:
    import torch

    whole, scale, low = tensors[name], _parameter(name, "scale", tensors, axis), _parameter(name, "low", tensors, axis)
    sinks = min(SINKS[precision], tokens)
    if precision == "int4":
        pairs = torch.stack([whole & 15, whole >> 4], -1).flatten(-2)
        count = scale.shape[-1]
        group = (KEY_GROUP if axis == 1 else VALUE_GROUP)[precision]
        size = pairs.shape[-1] // count if axis == 2 else group
        whole = pairs[..., : count * size].reshape(*pairs.shape[:-1], count, size)
    grouped = whole.float() * scale[..., None] + low[..., None]
    flat = grouped.flatten(-2)
    rest = flat.transpose(1, 2)[:, : tokens - sinks] if axis == 1 else flat
    rest = rest.to(dtype)
    return torch.cat([tensors[f"{name}.sinks"].to(dtype), rest], 1) if sinks else rest.contiguous()


def _half_below(name: str, what: str, wanted: torch.Tensor) -> tuple[Tensors, torch.Tensor]:
    """As float16, rounded down: what lies at the edge of a group is not cut off."""
    half = (wanted - wanted.abs() * 2**-10 - _TINY).half()
    return {f"{name}.{what}": half}, half.float()


def _half_above(name: str, what: str, wanted: torch.Tensor) -> tuple[Tensors, torch.Tensor]:
    half = (wanted * (1 + 2**-10) + _TINY).half()
    return {f"{name}.{what}": half}, half.float()


def _eight_bits(name: str, what: str, wanted: torch.Tensor, axis: int) -> tuple[Tensors, torch.Tensor]:
    """As 8 bits with a float16 step and offset for each row along tokens; short rows stay float16. Rounded outwards."""
    import torch

    rows = wanted if axis == 1 else wanted.transpose(1, 2)
    if rows.shape[-1] < SHORT:
        return _half_below(name, what, wanted) if what == "low" else _half_above(name, what, wanted)
    lows, low = _half_below(name, f"{what}.low", rows.amin(-1))
    steps, step = _half_above(name, f"{what}.scale", (rows.amax(-1) - low) / 254)
    exact = (rows - low[..., None]) / step[..., None]
    whole = (exact.floor() if what == "low" else exact.ceil()).clamp(0, 255).to(torch.uint8).contiguous()
    stored = {f"{name}.{what}": whole} | lows | steps
    return stored, _parameter(name, what, stored, axis)


def _parameter(name: str, what: str, tensors: Mapping[str, torch.Tensor], axis: int) -> torch.Tensor:
    found = tensors[f"{name}.{what}"].float()
    if f"{name}.{what}.scale" in tensors:
        step, low = (tensors[f"{name}.{what}.{part}"].float()[..., None] for part in ("scale", "low"))
        found = found * step + low
        found = found if axis == 1 else found.transpose(1, 2)
    return found.clamp(min=_TINY) if what == "scale" else found


def _grouped(tensor: torch.Tensor, axis: int, precision: str) -> torch.Tensor:
    """(heads, tokens, channels) as (…, groups, members): along tokens a channel at a time, or along channels."""
    import torch

    if axis == 2:
        size = min(VALUE_GROUP[precision], tensor.shape[2])
        if tensor.shape[2] % size:
            size = tensor.shape[2]
        return tensor.reshape(*tensor.shape[:2], tensor.shape[2] // size, size)
    size = KEY_GROUP[precision]
    by_channel = tensor.transpose(1, 2)
    missing = -by_channel.shape[2] % size if by_channel.shape[2] else size
    if missing:  # the last group is filled with its own last token, which widens no range
        last = by_channel[..., -1:] if by_channel.shape[2] else by_channel.new_zeros(*by_channel.shape[:2], 1)
        by_channel = torch.cat([by_channel, last.expand(*by_channel.shape[:2], missing)], 2)
    return by_channel.reshape(*by_channel.shape[:2], by_channel.shape[2] // size, size)
