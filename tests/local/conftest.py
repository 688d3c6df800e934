"""Small models with random weights, one for each kind of attention; a tokenizer that knows every byte."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("torch", reason="needs memos-agents[local]")
pytest.importorskip("transformers", reason="needs memos-agents[local]")

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from memos_agents import MemOS
from memos_agents.models.huggingface import LocalModel
from memos_agents.testing import HashEmbedder

torch.set_num_threads(1)  # the tests run side by side: more threads than cores wait for each other
TEMPLATE = (
    "{% if messages[0]['role'] != 'system' %}<|start|>system\nYou are a helpful assistant.<|end|>\n{% endif %}"
    "{% for message in messages %}<|start|>{{ message['role'] }}\n{{ message['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
)
SHAPE = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 4096, "initializer_range": 0.3,
}  # fmt: skip
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", {}),
    "mistral": ("Mistral", {"sliding_window": 24}),
    "qwen3": ("Qwen3", {}),
    "gemma3": ("Gemma3Text", {"sliding_window": 24, "layer_types": ["sliding_attention"] * 2 + ["full_attention"]}),
    "phi3": ("Phi3", {"pad_token_id": 0}),
}
"""Full attention, a window in every layer, and windows in some of them."""


def tokenizer_of(template: str | None = TEMPLATE) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320, special_tokens=["<|start|>", "<|end|>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    tokenizer.train_from_iterator(["the memory of a user is quoted as text with its time and source"], trainer)
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>", pad_token="<|end|>")
    if template is not None:
        wrapped.chat_template = template
    return wrapped


def small(kind: str = "llama", *, seed: int = 0, template: str | None = TEMPLATE, **changes: Any) -> LocalModel:
    """A model of `kind` whose logits depend visibly on everything it reads."""
    tokenizer = tokenizer_of(template)
    name, own = KINDS[kind]
    config = getattr(transformers, f"{name}Config")(vocab_size=len(tokenizer), **{**SHAPE, **own, **changes})
    torch.manual_seed(seed)
    model = getattr(transformers, f"{name.removesuffix('Text')}ForCausalLM")(config)
    return LocalModel(model, tokenizer, name=f"small {kind}")


@pytest.fixture(scope="session")
def make_small() -> Any:
    return small


@pytest.fixture(scope="session", params=KINDS)
def each_model(request: pytest.FixtureRequest) -> LocalModel:
    return small(request.param)


@pytest.fixture(params=["memory", "file"])
def memos(request: pytest.FixtureRequest, tmp_path: Any) -> Iterator[MemOS]:
    target = ":memory:" if request.param == "memory" else str(tmp_path / "memos.db")
    with MemOS.open(target, embedder=HashEmbedder(64)) as opened:
        yield opened
        assert opened.verify().ok
