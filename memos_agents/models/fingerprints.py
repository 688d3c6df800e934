"""Fingerprints: everything about a local model that decides what its keys and values mean."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

NO_ADAPTER: Final = "none"
_SAYS_NOTHING: Final = frozenset(
    {"_name_or_path", "transformers_version", "dtype", "torch_dtype", "use_cache", "_attn_implementation",
     "attn_implementation", "quantization_config", "return_dict", "output_attentions", "output_hidden_states"}
)  # fmt: skip
_ADAPTER_NAMES: Final = "adapter_layer_names"
"""By this attribute peft's layers say which of their parameters are an adapter's."""
_SAMPLE: Final = 4096


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """SHA-256 digests, and the dtype of the weights in memory. `adapter`: of the active LoRA adapters, or "none"."""

    config: str
    weights: str
    tokenizer: str
    template: str
    dtype: str
    adapter: str = NO_ADAPTER

    def to_json(self) -> dict[str, str]:
        return asdict(self)

    @property
    def key(self) -> str:
        """One digest of all."""
        return _digest(json.dumps(self.to_json(), sort_keys=True))

    def differences(self, other: Mapping[str, object]) -> list[str]:
        """The names of the fields in which stored values are not these."""
        return [name for name, value in self.to_json().items() if other.get(name) != value]


def fingerprint(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Fingerprint:
    """Reads every weight: about 1 s a gigabyte. Without the adapter: that is asked for anew on each use."""
    return Fingerprint(
        config=_digest(json.dumps(_told(model.config.to_dict()), sort_keys=True, default=str)),
        weights=weights_digest(model, sample=None),
        tokenizer=_digest(_tokenizer_state(tokenizer)),
        template=_digest(str(tokenizer.chat_template or "")),
        dtype=str(model.dtype).removeprefix("torch."),
    )


def weights_digest(model: PreTrainedModel, *, sample: int | None = _SAMPLE) -> str:
    """Of names, shapes and bytes of all tensors but adapters'; of the first `sample` bytes of each: 2 ms for 272."""
    digest = hashlib.sha256()
    adapters = tuple(
        f"{place}.{name}" for place, module in model.named_modules() for name in getattr(module, _ADAPTER_NAMES, ())
    )
    named = {
        name.removeprefix("base_model.model.").replace(".base_layer.", "."): tensor
        for name, tensor in model.state_dict().items()
        if not name.startswith(adapters)
    }
    for name, tensor in sorted(named.items()):
        digest.update(f"{name}|{tuple(tensor.shape)}|{tensor.dtype}|".encode())
        digest.update(_bytes_of(tensor, sample).data)
    return digest.hexdigest()


def adapter_digest(model: Any) -> str:
    """Of the adapters (peft: LoRA, IA3, ...) that take part in a forward call now; "none" if none does."""
    digest, is_any = hashlib.sha256(), False
    for place, module in model.named_modules():
        kinds = getattr(module, _ADAPTER_NAMES, ())
        if not kinds or module.disable_adapters:
            continue
        active = set(module.active_adapters)
        for name, part in module.named_parameters():
            if name.startswith(kinds) and not active.isdisjoint(name.split(".")):
                is_any = True
                scaling = {each: getattr(module, "scaling", {}).get(each) for each in sorted(active)}
                told = (place.removeprefix("base_model.model."), name, scaling, tuple(part.shape), part.dtype)
                digest.update(repr(told).encode())
                digest.update(_bytes_of(part, None).data)
    return digest.hexdigest() if is_any else NO_ADAPTER


def keeps_positions(config: Any) -> bool:
    """Whether a key stays what it is when its prompt grows: not where RoPE's frequencies depend on the length."""
    return not _rope_kinds(getattr(config, "rope_parameters", None)) & {"dynamic", "longrope"}


def _rope_kinds(parameters: Any) -> set[str]:
    """Every `rope_type` in a configuration: there is one, or one for each kind of layer."""
    if not isinstance(parameters, Mapping):
        return set()
    found = {str(parameters["rope_type"])} if "rope_type" in parameters else set()
    return found.union(*map(_rope_kinds, parameters.values()))


def _bytes_of(tensor: torch.Tensor, sample: int | None) -> NDArray[np.uint8]:
    import torch

    flat = tensor.detach().reshape(-1)
    if sample is not None:
        flat = flat[: max(1, sample // flat.element_size())]
    found: NDArray[np.uint8] = flat.contiguous().cpu().view(torch.uint8).numpy()
    return found


def _told(config: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: _told(value) if isinstance(value, Mapping) else value
        for name, value in config.items()
        if name not in _SAYS_NOTHING
    }


def _tokenizer_state(tokenizer: Any) -> str:
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    for name in ("truncation", "padding"):  # settings of the last call, not of the vocabulary
        state.pop(name, None)
    return json.dumps(state, sort_keys=True)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
