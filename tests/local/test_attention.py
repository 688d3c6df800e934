"""Shared keys and values change no bit of what `transformers` computes, and the library is left as it is elsewhere."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from memos_agents.models import attention, room
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


@pytest.mark.parametrize(
    ("kind", "threads"), [("llama", 1), ("mistral", 1), ("qwen3", 1), ("gemma3", 1), ("phi3", 1), ("llama", 2)]
)
def test_room_behind_what_is_kept_changes_no_bit_and_is_given_back(
    make_small: Any, monkeypatch: pytest.MonkeyPatch, kind: str, threads: int
) -> None:
    """Two prompts take turns in the room behind one cache: each goes on with what it wrote itself."""
    monkeypatch.setattr(room, "LEAST", 1)
    local = make_small(kind)
    torch.set_num_threads(threads)
    try:
        for cached in (1, 37, 333):
            ids = tuple(n % 290 + 5 for n in range(cached + 60))
            prompts = [Prompt("", (*ids[:cached], *tail), (cached, cached + 20, cached + len(tail)))
                       for tail in (ids[cached : cached + 33], tuple(reversed(ids[cached : cached + 41])))]  # fmt: skip
            held = room.with_room(local.keys_and_values(prompts[0], cached))
            before = [(keys.clone(), values.clone()) for keys, values in held.layers]
            plain = [local.prefill(prompt) for prompt in prompts]
            taken = [local.prefill(prompt, held) for prompt in prompts]  # the second writes where the first did
            for one, other in zip(plain, taken, strict=True):
                assert other.tokens_reused == cached
                assert torch.equal(one.logits, other.logits)
                for token in (7, 8, 9):
                    place = one.cache.get_seq_length()
                    assert other.cache.get_seq_length() == place
                    logits = [local._step(token, place, state.cache) for state in (one, other)]
                    assert torch.equal(*logits)
            for (keys, values), (old_keys, old_values) in zip(held.layers, before, strict=True):
                assert torch.equal(keys, old_keys) and torch.equal(values, old_values)
    finally:
        torch.set_num_threads(1)


def test_what_does_not_fit_the_room_is_run_all_the_same(make_small: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "LEAST", 1)
    monkeypatch.setattr(room, "ROOM", 8)
    local = make_small("llama")
    ids = tuple(n % 290 + 5 for n in range(60))
    for end in (47, 48, 49, 60):
        prompt = Prompt("", ids[:end], (40, end))
        held = room.with_room(local.keys_and_values(prompt, 40))
        assert room.fits(held, 40, end - 40, local.model.device) == (end <= 48)
        assert torch.equal(local.prefill(prompt, held).logits, local.prefill(prompt).logits)
