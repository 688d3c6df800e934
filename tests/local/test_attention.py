"""Shared keys and values change no bit of what `transformers` computes, and the library is left as it is elsewhere."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from memos_agents.models import attention
from memos_agents.models.huggingface import LocalModel
from memos_agents.models.prompts import Prompt


@pytest.mark.parametrize("kind", ["llama", "mistral", "qwen3", "gemma3", "phi3"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_logits_are_those_of_the_library_s_own_attention(make_small: Any, kind: str, dtype: torch.dtype) -> None:
    local = make_small(kind)
    model = LocalModel(local.model.to(dtype), local.tokenizer)
    ids = tuple(range(10, 130))
    for cached, asked in ((1, 1), (37, 13), (100, 2), (64, 56)):
        prompt = Prompt("", ids[: cached + asked], (cached, cached + asked))
        held = model.keys_and_values(prompt, cached)
        found = model.prefill(prompt, held).logits
        used = model.model.config._attn_implementation
        model.model.set_attn_implementation("sdpa")
        assert torch.equal(model.prefill(prompt, held).logits, found)
        model.model.set_attn_implementation(used)


def test_it_is_used_where_a_probe_finds_it_equal(monkeypatch: pytest.MonkeyPatch, make_small: Any) -> None:
    assert make_small("llama").model.config._attn_implementation == attention.NAME
    monkeypatch.setattr(attention, "_is_equal", lambda dtype: False)
    assert make_small("llama").model.config._attn_implementation == "sdpa"


def test_a_model_with_another_attention_keeps_it(make_small: Any) -> None:
    local = make_small("llama")
    local.model.set_attn_implementation("eager")
    model = LocalModel(local.model, local.tokenizer)
    assert model.model.config._attn_implementation == "eager"
    assert model.logits(Prompt("", (1, 2, 3), (3,))).size
