"""LocalModel: a causal language model of transformers in this process, whose key-value cache can be given and taken.

Prompts are run in the segments that their tokens are cut into (`prompts.build`), one forward call each, whether or not
some of them are cached; so what is injected gives the same logits, to the last bit, as what is computed.
"""

from __future__ import annotations

import inspect
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from memos_agents.errors import IncompatibleModel, InvalidRequest
from memos_agents.models import fingerprints, hub, loading, prompts, room
from memos_agents.models.attention import NAME, share_keys_and_values
from memos_agents.models.fingerprints import Fingerprint
from memos_agents.models.generation import Generated, Sampling, Timings, chooser
from memos_agents.models.held import Held, Prefilled
from memos_agents.models.prompts import Message, Prompt, Tool

if TYPE_CHECKING:
    import torch

_LOCKS: dict[str, threading.RLock] = {}
_LOCKS_LOCK = threading.Lock()


class LocalModel:
    """One model with its tokenizer. Calls from any thread; those on one device take turns."""

    def __init__(self, model: Any, tokenizer: Any, *, name: str = "") -> None:
        """Take a loaded `transformers` model as it is; reads all weights once for the fingerprint."""
        if model.config.is_encoder_decoder:
            raise InvalidRequest("encoder-decoder models have no cache that memory could be put in")
        share_keys_and_values(model)
        self.model: Any = model.eval()
        self.tokenizer: Any = tokenizer
        self.name = name or str(model.config.name_or_path or type(model).__name__)
        self._fingerprint = fingerprints.fingerprint(model, tokenizer)
        self._sample = fingerprints.weights_digest(model)
        self.lock = _lock_of(str(model.device))
        self.keeps_positions = fingerprints.keeps_positions(model.config)
        """Whether a key stays what it is when the prompt grows; else a prompt is one segment, and nothing is kept."""
        told = getattr(model.config, "max_position_embeddings", None)
        self.window: int | None = told if self.keeps_positions and isinstance(told, int) else None
        """How many tokens the model was made for, prompt and answer; None if its configuration does not say."""
        self.turns: bool | None = None
        """Whether keys can be turned to another position; None until somebody asks (`composing.check_turns`)."""
        named = inspect.signature(model.forward).parameters
        self.takes_cache_as = "cache" if "cache" in named else "past_key_values"  # the new name since transformers 5.24

    @classmethod
    def load(
        cls,
        name: str | PathLike[str],
        *,
        revision: str | None = None,
        device: str | None = None,
        dtype: str | None = None,
        cache_dir: Path | None = None,
        progress: hub.Progress | None = None,
    ) -> LocalModel:
        """Load by folder, known short name or hub id (`hub.find_weights`). Code of the repository is never run.

        `device` None: the first GPU, else the CPU. `dtype` None: bfloat16 on a GPU; on a CPU float32, unless a probe of
        a tenth of a second shows bfloat16 to be faster there.
        """
        model, tokenizer = loading.loaded(
            name, revision=revision, device=device, dtype=dtype, cache_dir=cache_dir, progress=progress
        )
        return cls(model, tokenizer, name=str(name))

    def __repr__(self) -> str:
        return f"<LocalModel {self.name}, {self._fingerprint.dtype}>"

    @property
    def fingerprint(self) -> Fingerprint:
        """What decides its keys and values, with the adapter that is active now."""
        return replace(self._fingerprint, adapter=fingerprints.adapter_digest(self.model))

    def prompt(
        self,
        prompt: str | Sequence[Message],
        *,
        block: str = "",
        marks: Sequence[int] = (),
        tools: Sequence[Tool] = (),
    ) -> Prompt:
        """See `prompts.build`. Raises `InvalidRequest` if it leaves no room for an answer in the model's window."""
        built = prompts.build(self.tokenizer, prompt, block=block, marks=marks, tools=tools)
        if self.window is not None and len(built.ids) >= self.window:
            raise InvalidRequest(
                f"the prompt has {len(built.ids):,} tokens, and {self.name!r} takes {self.window:,} with its answer; "
                "give it fewer or shorter memories, or less of the conversation"
            )
        if self.keeps_positions:
            return built
        return replace(built, ends=built.ends[-1:], marks=(None,) * len(built.marks))

    def check_unchanged(self) -> None:
        """Raise `IncompatibleModel` if the weights are not those that were fingerprinted. Samples each tensor: 2 ms."""
        if fingerprints.weights_digest(self.model) != self._sample:
            raise IncompatibleModel(
                "the weights of this model were changed since it was loaded; keys and values made before are not its "
                "own any more: load it again",
                field="weights",
            )

    def prefill(self, prompt: Prompt, held: Held | None = None, *, keep: int = 0) -> Prefilled:
        """Run a prompt. Of `held`, as much is used as the prompt begins with, up to the end of one of its segments.

        The tensors of `held` are not changed. At least the last segment is computed: its logits are wanted. `keep`: of
        how many tokens keys and values are wanted for other prompts, in `Prefilled.kept`.
        """
        import torch

        begin = reusable(prompt, held)
        borrows = (
            keep <= begin
            and room.fits(held, begin, len(prompt.ids) - begin, self.model.device)
            and self.model.config._attn_implementation in ("sdpa", NAME)  # of these strides change no bit
        )
        with self.lock, torch.no_grad():
            cache = room.borrowed(held) if borrows and held is not None else self._cache(held, begin)
            out: Any = None
            computed = begin
            for end in prompt.ends:
                if end > computed:
                    out = self.forward(prompt.ids[computed:end], computed, cache)
                    computed = end
            if borrows and held is not None:
                room.settle(cache, held)
            ends = tuple(end for end in prompt.ends if end <= keep)
            kept = _held(cache, prompt.ids[:keep], ends) if keep else None
            return Prefilled(out.logits[0, -1].float(), cache, begin, len(prompt.ids) - begin, kept)

    def keys_and_values(self, prompt: Prompt, length: int, held: Held | None = None) -> Held:
        """Of the first `length` tokens; the last of its segments may be shorter than the prompt's."""
        import torch

        begin = reusable(prompt, held, most=length)
        ends = (*(end for end in prompt.ends if end < length), length)
        with self.lock, torch.no_grad():
            cache, computed = self._cache(held, begin), begin
            for end in ends:
                if computed < end:
                    self.forward(prompt.ids[computed:end], computed, cache)
                    computed = end
            return _held(cache, prompt.ids[:length], ends)

    def logits(self, prompt: Prompt, held: Held | None = None) -> NDArray[np.float32]:
        """Of the next token, shape (vocabulary,)."""
        found: NDArray[np.float32] = self.prefill(prompt, held).logits.cpu().numpy()
        return found

    def followed(self, state: Prefilled, token_ids: Sequence[int]) -> NDArray[np.float32]:
        """Log-probabilities before each of `token_ids`, shape (tokens, vocabulary), if they follow; uses `state` up."""
        import torch

        rows = [state.logits[None]]
        if len(token_ids) > 1:
            with self.lock, torch.no_grad():
                begin = state.tokens_reused + state.tokens_computed
                rows.append(self.forward(token_ids[:-1], begin, state.cache, keep=0).logits[0].float())
        found: NDArray[np.float32] = torch.cat(rows).log_softmax(-1).cpu().numpy()
        return found

    def generate(
        self,
        prompt: Prompt,
        sampling: Sampling,
        into: Generated,
        prefill: Callable[[], Prefilled] | None = None,
    ) -> Iterator[str]:
        """Yield pieces of text as they come, and keep the whole in `into`. `prefill` runs the prompt, inside the clock.

        Between two pieces other callers of the device may take their turn.
        """
        started = time.perf_counter()
        state = self.prefill(prompt) if prefill is None else prefill()
        prefilled = time.perf_counter() - started
        choose, ends = chooser(sampling, self.model.device), self._end_ids()
        logits, position, shown, first = state.logits, len(prompt.ids), 0, 0.0
        for _ in range(sampling.max_new_tokens):
            token = choose(logits)
            first = first or time.perf_counter() - started
            into.token_ids.append(token)
            if token in ends:
                break
            text = self.tokenizer.decode(into.token_ids, skip_special_tokens=True)
            stop = min((place for mark in sampling.stop if (place := text.find(mark)) >= 0), default=-1)
            into.text = text if stop < 0 else text[:stop]
            if (
                not text.endswith("\N{REPLACEMENT CHARACTER}") and len(into.text) > shown
            ):  # not in the middle of a letter
                yield into.text[shown:]
                shown = len(into.text)
            if stop >= 0 or len(into.token_ids) == sampling.max_new_tokens or position + 1 == self.window:
                break
            logits = self._step(token, position, state.cache)
            position += 1
        if len(into.text) > shown:
            yield into.text[shown:]
        into.timings = Timings(
            prefill_seconds=prefilled, first_token_seconds=first, total_seconds=time.perf_counter() - started,
            tokens_reused=state.tokens_reused, tokens_computed=state.tokens_computed,
        )  # fmt: skip

    def close(self) -> None:
        """Let go of the weights; the model cannot be used any more."""
        self.model = None

    def _step(self, token: int, position: int, cache: Any) -> torch.Tensor:
        import torch

        with self.lock, torch.no_grad():
            logits: torch.Tensor = self.forward([token], position, cache).logits[0, -1].float()
            return logits

    @property
    def rotary(self) -> Any:
        """The module that turns positions into angles; AttributeError if there is none."""
        for name, module in self.model.named_modules():
            if name.rpartition(".")[2] == "rotary_emb":
                return module
        raise AttributeError(f"{self.name!r} has no rotary embedding")

    def empty_cache(self) -> Any:
        """Plain layers for every kind of attention: windows are masked, so all tokens stay for other prompts to use."""
        from transformers import DynamicCache

        return DynamicCache()

    def _cache(self, held: Held | None, length: int) -> Any:
        from transformers import DynamicCache

        if held is None or not length:
            return self.empty_cache()
        device = self.model.device
        return DynamicCache([(k[None, :, :length].to(device), v[None, :, :length].to(device)) for k, v in held.layers])

    def forward(self, ids: Sequence[int], start: int, cache: Any, *, keep: int = 1) -> Any:
        """One call, with the logits of the last `keep` tokens (0: all). The caller holds the lock, and no gradients."""
        import torch

        device = self.model.device
        return self.model(
            input_ids=torch.tensor([list(ids)], device=device),
            position_ids=torch.arange(start, start + len(ids), device=device)[None],
            use_cache=True,
            logits_to_keep=keep,
            **{self.takes_cache_as: cache},
        )

    def _end_ids(self) -> set[int]:
        found = {self.tokenizer.eos_token_id}
        told = getattr(self.model.generation_config, "eos_token_id", None)
        found.update(told if isinstance(told, list) else [told])
        return {token for token in found if token is not None}


def _held(cache: Any, ids: tuple[int, ...], ends: tuple[int, ...]) -> Held:
    """The cache's tensors themselves where all of it is wanted: it never changes them, it makes new ones."""
    length = len(ids)
    layers = [
        (keys, values) if keys.shape[1] == length else (keys[:, :length].clone(), values[:, :length].clone())
        for keys, values in ((layer.keys[0], layer.values[0]) for layer in cache.layers)
    ]
    return Held(ids, ends, layers)


def reusable(prompt: Prompt, held: Held | None, *, most: int | None = None) -> int:
    """How many tokens of `held` a prompt can use: whole segments only, and never the last one."""
    if held is None:
        return 0
    limit = min(len(held.ids), len(prompt.ids) - 1 if most is None else most)
    same = 0
    while same < limit and held.ids[same] == prompt.ids[same]:
        same += 1
    begin = 0
    for ours, theirs in zip(prompt.ends, held.ends, strict=False):  # cut elsewhere, sums would differ in the last bits
        if ours != theirs or ours > same:
            break
        begin = ours
    return begin


def _lock_of(device: str) -> threading.RLock:
    with _LOCKS_LOCK:
        return _LOCKS.setdefault(device, threading.RLock())
