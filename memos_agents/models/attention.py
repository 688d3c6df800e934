"""Attention over a cache without a copy of keys and values for each group of heads, where that changes no bit.

Models with fewer key-value heads than heads repeat keys and values before the product; at 4,096 cached tokens and a
question of 16 that is a fifth of the time. torch can share them between the heads of a group instead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import torch

NAME: Final = "memos_grouped"


def share_keys_and_values(model: Any) -> bool:
    """Let a loaded `transformers` model share them, on a CPU, if a probe with its dtype is equal to the last bit.

    Returns whether it does now. A model with another attention than "sdpa" stays as it is.
    """
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, sdpa_mask
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    config = model.config
    if config._attn_implementation != "sdpa" or model.device.type != "cpu" or not _is_equal(model.dtype):
        return bool(config._attn_implementation == NAME)
    ALL_ATTENTION_FUNCTIONS.register(NAME, _grouped)
    ALL_MASK_ATTENTION_FUNCTIONS.register(NAME, sdpa_mask)
    model.set_attn_implementation(NAME)
    return True


def _grouped(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **more: Any,
) -> tuple[torch.Tensor, None]:
    """Decoding and prompts without a cache are left to `transformers`: they repeat nothing there."""
    from torch.nn.functional import scaled_dot_product_attention
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    is_plain = more.get("softcap") is None and more.get("position_bias") is None and not dropout
    if attention_mask is None or query.shape[2] == 1 or query.shape[1] == key.shape[1] or not is_plain:
        out, _ = sdpa_attention_forward(module, query, key, value, attention_mask, dropout, scaling, **more)
        return out, None
    out = scaled_dot_product_attention(query, key, value, attn_mask=attention_mask, scale=scaling, enable_gqa=True)
    return out.transpose(1, 2).contiguous(), None


def _is_equal(dtype: torch.dtype) -> bool:
    import torch
    from torch.nn.functional import scaled_dot_product_attention

    source = torch.Generator().manual_seed(0)
    query, key, value = (
        torch.randn(1, heads, tokens, 64, generator=source).to(dtype) for heads, tokens in ((6, 13), (2, 333), (2, 333))
    )
    mask = torch.ones(13, 333, dtype=torch.bool).tril(320)[None, None]
    shared = scaled_dot_product_attention(query, key, value, attn_mask=mask, enable_gqa=True)
    repeated = scaled_dot_product_attention(
        query, key.repeat_interleave(3, 1), value.repeat_interleave(3, 1), attn_mask=mask
    )
    return torch.equal(shared, repeated)
