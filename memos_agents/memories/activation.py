"""Activation memory: a memory's keys and values as one safetensors file and a manifest that says whose they are.

The manifest lies in the cube, under its hash; the file is a blob, under its own. A cache is used only by the model that
made it: another configuration, weights, tokenizer, template or dtype is refused by name. Another adapter is no error:
then the text is run instead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from memos_agents.cube.canonical import JSON
from memos_agents.cube.memcube import VersionRef
from memos_agents.errors import IncompatibleModel
from memos_agents.memories import kv_codec
from memos_agents.models.fingerprints import Fingerprint
from memos_agents.models.held import Held
from memos_agents.models.prompts import hash_of

if TYPE_CHECKING:
    import torch

FORMAT: Final = "memos-kv/1"
FILE: Final = "keys_and_values.safetensors"
_FIXED: Final = ("config", "weights", "tokenizer", "template", "dtype")


def encode(
    held: Held,
    model: Fingerprint,
    *,
    name: str,
    sources: Sequence[VersionRef],
    begin: int,
    precision: kv_codec.Precision = "exact",
) -> tuple[dict[str, JSON], bytes]:
    """The manifest and the bytes of the file that hold `held`, made by `model` from the texts of `sources`.

    `begin`: how many tokens stand before the first text: those that all prompts with memories share.
    """
    import torch
    from safetensors.torch import save

    tensors = kv_codec.pack(held.layers, precision)
    tensors["ids"] = torch.tensor(held.ids, dtype=torch.int32)
    keys = held.layers[0][0]
    manifest: dict[str, JSON] = {
        "format": FORMAT,
        "model": cast("dict[str, JSON]", model.to_json()),
        "model_name": name,
        "precision": precision,
        "tokens": len(held.ids),
        "ends": list(held.ends),
        "ids_sha256": hash_of(held.ids),
        "layers": len(held.layers),
        "heads": keys.shape[0],
        "head_dimension": keys.shape[2],
        "keys": "after RoPE",
        "begin": begin,
        "sources": [[source.cube_id, source.version] for source in sources],
        "transformers": version("transformers"),
    }
    return manifest, save(tensors, metadata={"format": FORMAT})


def check(manifest: Mapping[str, JSON], model: Fingerprint) -> str | None:
    """Raise `IncompatibleModel` unless `model` made what `manifest` describes; return why it cannot be used now, or
    None.
    """
    if manifest.get("format") != FORMAT:
        raise IncompatibleModel(f"this cache has format {manifest.get('format')!r}, not {FORMAT!r}", field="format")
    made_by = manifest.get("model")
    differing = model.differences(made_by if isinstance(made_by, Mapping) else {})
    for field in _FIXED:
        if field in differing:
            raise IncompatibleModel(
                f"this cache was made by another model: its {field} is not that of {manifest.get('model_name')!r} as "
                "loaded here; migrate the memory to this model",
                field=field,
            )
    return "another adapter is active" if "adapter" in differing else None


def decode(data: bytes | Path, manifest: Mapping[str, JSON], dtype: torch.dtype) -> Held:
    """The inverse of `encode`. `IncompatibleModel` says what does not fit.

    The tensors of a file are mapped, not read: copy them before they are kept, or a file that gets shorter kills the
    process.
    """
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import load

    try:
        if isinstance(data, Path):
            with safe_open(data, framework="pt") as file:
                tensors: dict[str, Any] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        else:
            tensors = load(data)
    except (SafetensorError, OSError, ValueError) as error:
        raise IncompatibleModel("the stored cache is damaged; make it again from the text", field="file") from error
    tokens, ends = manifest.get("tokens"), manifest.get("ends")
    ids = tuple(tensors["ids"].tolist()) if "ids" in tensors else ()
    if not isinstance(tokens, int) or len(ids) != tokens or hash_of(ids) != manifest.get("ids_sha256"):
        raise IncompatibleModel("the stored cache is of other tokens than its manifest says", field="ids")
    if not isinstance(ends, Sequence) or not ends or ends[-1] != tokens:
        raise IncompatibleModel("the manifest does not say where its tokens were cut", field="ends")
    if not isinstance(manifest.get("begin"), int) or not 0 <= cast(int, manifest["begin"]) < tokens:
        raise IncompatibleModel("the manifest does not say where its text begins", field="begin")
    layers = kv_codec.unpack(tensors, str(manifest.get("precision")), tokens, dtype)
    shapes = {tuple(part.shape) for layer in layers for part in layer}
    expected = (manifest.get("heads"), tokens, manifest.get("head_dimension"))
    if len(layers) != manifest.get("layers") or shapes != {expected}:
        raise IncompatibleModel("the stored cache has other layers than its manifest says", field="layers")
    if any(part.dtype != dtype for layer in layers for part in layer):
        raise IncompatibleModel(f"the stored cache is not in the model's dtype {dtype}", field="dtype")
    return Held(ids, tuple(cast("Sequence[int]", ends)), layers)
