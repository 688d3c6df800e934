"""Room behind kept keys and values: a question's own are written there, and nothing is copied to put both together.

A cache of transformers makes new tensors of all tokens with every call, which at 4,096 cached tokens is a third of the
time to the first token. What is kept is never changed: the room belongs to whoever runs, and what was written there is
taken out before somebody else may run.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from memos_agents.models.held import Held

if TYPE_CHECKING:
    import torch

LEAST: Final = 512
"""Tokens; fewer are copied fast enough."""
ROOM: Final = 256
"""Tokens behind them."""


def with_room(held: Held) -> Held:
    """A copy with room behind every tensor, or without where it is short."""
    if len(held.ids) < LEAST:
        return Held(held.ids, held.ends, [(keys.clone(), values.clone()) for keys, values in held.layers])
    return Held(held.ids, held.ends, [(_roomy(keys), _roomy(values)) for keys, values in held.layers], room=ROOM)


def fits(held: Held | None, begin: int, count: int, device: torch.device) -> bool:
    """Whether `count` tokens after the first `begin` can be written behind `held`."""
    return held is not None and begin == len(held.ids) and count <= held.room and held.layers[0][0].device == device


def borrowed(held: Held) -> Any:
    """A cache that begins with `held` and writes into the room behind it. `settle` it before anybody else may run."""
    from transformers import DynamicCache

    cache: Any = DynamicCache([(keys[None], values[None]) for keys, values in held.layers])
    for layer, (keys, values) in zip(cache.layers, held.layers, strict=True):
        layer.update = _writer(layer, _whole(keys, held.room), _whole(values, held.room), len(held.ids))
    return cache


def settle(cache: Any, held: Held) -> None:
    """Take out what was written behind `held`; the next call puts all together in tensors of its own."""
    count = len(held.ids)
    for layer, (keys, values) in zip(cache.layers, held.layers, strict=True):
        tails = layer.keys[:, :, count:].clone(), layer.values[:, :, count:].clone()
        layer.update = _joiner(layer, (keys[None], values[None]), tails)


def _roomy(part: torch.Tensor) -> torch.Tensor:
    heads, count, width = part.shape
    found = part.new_empty(heads, count + ROOM, width)
    found[:, :count] = part
    return found[:, :count]


def _whole(part: torch.Tensor, room: int) -> torch.Tensor:
    return part.as_strided((part.shape[0], part.shape[1] + room, part.shape[2]), part.stride())[None]


def _writer(layer: Any, keys: torch.Tensor, values: torch.Tensor, count: int) -> Callable[..., Any]:
    done = count

    def update(new_keys: Any, new_values: Any, *args: Any, **more: Any) -> tuple[Any, Any]:
        nonlocal done
        end = done + new_keys.shape[2]
        keys[:, :, done:end], values[:, :, done:end] = new_keys, new_values
        done, layer.keys, layer.values = end, keys[:, :, :end], values[:, :, :end]
        return layer.keys, layer.values

    return update


def _joiner(layer: Any, kept: tuple[Any, Any], tails: tuple[Any, Any]) -> Callable[..., Any]:
    def update(new_keys: Any, new_values: Any, *args: Any, **more: Any) -> tuple[Any, Any]:
        import torch

        del layer.update  # the class's own from now on
        layer.keys, layer.values = (
            torch.cat([old, tail, new], 2) for old, tail, new in zip(kept, tails, (new_keys, new_values), strict=True)
        )
        return layer.keys, layer.values

    return update
