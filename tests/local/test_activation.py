"""Activation memory: injected keys and values change nothing but the time it takes, and end with their source."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from memos_agents import IncompatibleModel, IntegrityError, InvalidRequest, MemoryType, MemOS, NotFound
from memos_agents.cube.payload import ArtefactPayload
from memos_agents.infrastructure.vault.blob_copies import CopiedBlobs
from memos_agents.infrastructure.vault.blobs import FolderBlobs, MemoryBlobs
from memos_agents.memories import activation
from memos_agents.models.huggingface import LocalModel

QUESTION = "Where does Mara live, and with whom?"
TEXTS = [
    "Mara moved to Lisbon in May.",
    "Her sister Ines has a red bicycle, a black cat and three plants; she waters them on Sundays, says Mara.",
    "Ω≈ç√ éàü 東京 — accents and letters of other scripts.",
]


def other_words(model: LocalModel, text: str) -> np.ndarray:
    """What plain transformers says to a prompt's exact text, in one pass."""
    ids = model.tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        found: np.ndarray = model.model(input_ids=ids).logits[0, -1].float().numpy()
    return found


def test_injected_or_run_the_logits_are_equal_to_the_last_bit(memos: MemOS, each_model: LocalModel) -> None:
    model = memos.model(each_model)
    cubes = memos.add(TEXTS, user_id="mara")
    caches = memos.migrate(cubes, to="activation", model=model)
    assert [cache.memory_type for cache in caches] == [MemoryType.ACTIVATION] * 3
    nothing = model.logits(QUESTION)
    for count in (1, 2, 3):
        plain = model.logits(QUESTION, memories=cubes[:count])
        injected = model.logits(QUESTION, memories=[caches[0], *cubes[1:count]])
        again = model.logits(QUESTION, memories=caches[:count])  # the second time also what the first one left
        assert np.array_equal(plain, injected)
        assert np.array_equal(plain, again)
        assert np.abs(plain - nothing).max() > 0.1, "the memory must matter, else equality says nothing"
        whole = other_words(each_model, memos.prompt(QUESTION, memories=cubes[:count], model=model))
        assert np.abs(plain - whole).max() < 1e-3
        assert plain.argmax() == whole.argmax()


@pytest.mark.parametrize("threads", [1, 2])
def test_generation_is_equal_and_says_what_was_reused(memos: MemOS, make_small: Any, threads: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        model = memos.model(make_small("llama"))
        cube, other = memos.add(TEXTS[:2], user_id="mara")
        cache = memos.migrate(cube.id, to="activation", model=model)
        plain = model.generate(QUESTION, memories=[cube, other], max_new_tokens=64)
        injected = model.generate(QUESTION, memories=[cache, other], max_new_tokens=64)
    finally:
        torch.set_num_threads(before)
    assert plain.token_ids == injected.token_ids
    assert len(plain.token_ids) > 1
    assert plain.timings is not None and injected.timings is not None
    assert plain.timings.tokens_reused == 0
    assert injected.timings.tokens_reused == cache.payload.manifest["tokens"]  # type: ignore[union-attr]
    assert injected.timings.tokens_reused + injected.timings.tokens_computed == plain.timings.tokens_computed
    assert [(used.id, used.asked_id, used.form) for used in injected.memories] == [
        (cube.id, cache.id, "activation"),
        (other.id, other.id, "plaintext"),
    ]


def test_order_and_form_of_what_is_asked_for_change_no_prompt(memos: MemOS, make_small: Any) -> None:
    model = memos.model(make_small("llama"))
    cubes = memos.add(TEXTS, user_id="mara")
    caches = memos.migrate(cubes, to="activation", model=model)
    expected = memos.prompt(QUESTION, memories=cubes, model=model)
    assert memos.prompt(QUESTION, memories=[cubes[2].id, caches[0], cubes[1].id, cubes[0]], model=model) == expected
    assert all(text.split("—")[0] in expected for text in TEXTS)
    assert expected.index("<memories>") < expected.index(QUESTION)


def test_the_system_text_of_the_caller_stands_after_the_memories(memos: MemOS, make_small: Any) -> None:
    model = memos.model(make_small("llama"))
    cube = memos.add(TEXTS[0], user_id="mara")[0]
    messages = [{"role": "system", "content": "Answer in French."}, {"role": "user", "content": QUESTION}]
    text = memos.prompt(messages, memories=[cube], model=model)
    assert text.index("Lisbon") < text.index("Answer in French.") < text.index(QUESTION)
    assert "You are a helpful assistant" not in memos.prompt(QUESTION, model=model)  # the same base as with memories


def test_a_model_without_a_template_gets_the_plain_layout(memos: MemOS, make_small: Any) -> None:
    model = memos.model(make_small("llama", template=None))
    cube = memos.add(TEXTS[0], user_id="mara")[0]
    cache = memos.migrate(cube, to="activation", model=model)
    assert memos.prompt("Hello", model=model) == "User: Hello\n\nAssistant:"
    assert np.array_equal(model.logits("Hello", memories=[cube]), model.logits("Hello", memories=[cache]))


def test_reuse_keeps_the_beginnings_of_prompts(memos: MemOS, make_small: Any) -> None:
    model = memos.model(make_small("qwen3"))
    cubes = memos.add(TEXTS, user_id="mara")
    plain = model.generate(QUESTION, memories=cubes, max_new_tokens=8)
    first = model.generate(QUESTION, memories=cubes, max_new_tokens=8, reuse=True)
    second = model.generate("And since when?", memories=cubes, max_new_tokens=8, reuse=True)
    fresh = model.generate("And since when?", memories=cubes, max_new_tokens=8)
    assert plain.token_ids == first.token_ids and second.token_ids == fresh.token_ids
    assert (first.timings.tokens_reused, fresh.timings.tokens_reused) == (0, 0)  # type: ignore[union-attr]
    assert second.timings.tokens_reused > 0  # type: ignore[union-attr]
    assert {used.form for used in second.memories} == {"activation"}
    longer = model.generate(QUESTION, memories=[*cubes, memos.add("One more.", user_id="mara")[0]], reuse=True)
    assert longer.timings.tokens_reused == second.timings.tokens_reused  # type: ignore[union-attr]


def test_stored_tensors_are_never_changed_and_callers_run_at_once(memos: MemOS, make_small: Any) -> None:
    model = memos.model(make_small("gemma3"))
    cubes = memos.add([f"{text} ({number})" for number in range(4) for text in TEXTS[:1]], user_id="mara")
    caches = memos.migrate(cubes, to="activation", model=model)
    expected = [model.generate(QUESTION, memories=[cube], max_new_tokens=12).token_ids for cube in cubes]
    found: dict[int, list[list[int]]] = {}

    def talk(number: int) -> None:
        found[number] = [
            model.generate(QUESTION, memories=[cache], max_new_tokens=12).token_ids for cache in caches
        ]  # fmt: skip

    threads = [threading.Thread(target=talk, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == dict.fromkeys(range(4), expected)


# -- whose cache it is


@pytest.mark.parametrize(
    ("field", "other"),
    [
        ("config", {"rope_theta": 5_000.0}),
        ("config", {"rms_norm_eps": 1e-3}),
        ("weights", {"seed": 1}),
        ("template", {"template": "{{ messages[-1]['content'] }}"}),
    ],
)
def test_another_model_is_refused_by_name(memos: MemOS, make_small: Any, field: str, other: dict[str, Any]) -> None:
    cube = memos.add(TEXTS[0], user_id="mara")[0]
    cache = memos.migrate(cube, to="activation", model=memos.model(make_small("llama")))
    stranger = memos.model(make_small("llama", **other))
    with pytest.raises(IncompatibleModel) as refused:
        stranger.logits(QUESTION, memories=[cache])
    assert refused.value.details["field"] == field
    assert memos.model(make_small("llama")).logits(QUESTION, memories=[cache]).size  # made alike, it is the same


def test_one_changed_weight_is_seen(memos: MemOS, make_small: Any) -> None:
    local = make_small("llama")
    model, cube = memos.model(local), memos.add(TEXTS[0], user_id="mara")[0]
    cache = memos.migrate(cube, to="activation", model=model)
    with torch.no_grad():
        local.model.lm_head.weight[0, 0] += 1
    with pytest.raises(IncompatibleModel, match="changed since"):
        model.logits(QUESTION, memories=[cache])
    with pytest.raises(IncompatibleModel, match="weights"):
        memos.model(LocalModel(local.model, local.tokenizer)).logits(QUESTION, memories=[cache])


MUTATIONS: dict[str, Any] = {
    "format": lambda manifest: {**manifest, "format": "memos-kv/0"},
    "model gone": lambda manifest: {name: value for name, value in manifest.items() if name != "model"},
    **{
        f"model.{field}": lambda manifest, field=field: {**manifest, "model": {**manifest["model"], field: "0" * 64}}
        for field in ("config", "weights", "tokenizer", "template", "dtype")
    },
    "tokens": lambda manifest: {**manifest, "tokens": manifest["tokens"] - 1},
    "tokens as text": lambda manifest: {**manifest, "tokens": str(manifest["tokens"])},
    "ids": lambda manifest: {**manifest, "ids_sha256": "0" * 64},
    "ends": lambda manifest: {**manifest, "ends": manifest["ends"][:-1]},
    "ends gone": lambda manifest: {**manifest, "ends": None},
    "layers": lambda manifest: {**manifest, "layers": manifest["layers"] + 1},
    "heads": lambda manifest: {**manifest, "heads": 1},
    "head dimension": lambda manifest: {**manifest, "head_dimension": 8},
    "precision": lambda manifest: {**manifest, "precision": "int8"},
}


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_a_changed_manifest_is_refused(make_small: Any, mutation: str) -> None:
    manifest, data, local = _encoded(make_small)
    activation.decode(data, manifest, torch.float32)  # the right one is taken
    changed = MUTATIONS[mutation](manifest)

    def use() -> None:
        assert activation.check(changed, local.fingerprint) is None
        activation.decode(data, changed, torch.float32)

    with pytest.raises(IncompatibleModel) as refused:
        use()
    assert refused.value.details["field"]


def _swap(tensors: Any) -> None:
    tensors["v.0"], tensors["v.1"] = tensors["v.1"], tensors["v.0"]


FILES: dict[str, Any] = {
    "truncated": lambda data: data[:-100],
    "header only": lambda data: data[:200],
    "empty": lambda data: b"",
    "another token id": lambda data: _saved(data, lambda tensors: tensors["ids"].__setitem__(3, 7)),
    "swapped layers": lambda data: _saved(data, lambda tensors: tensors.pop("k.1")),
    "a layer with one token less": lambda data: _saved(data, lambda t: t.update({"v.0": t["v.0"][:, 1:].contiguous()})),
    "half precision": lambda data: _saved(data, lambda t: t.update({"v.0": t["v.0"].half()})),
    "no ids": lambda data: _saved(data, lambda tensors: tensors.pop("ids")),
}


@pytest.mark.parametrize("mutation", FILES)
def test_a_changed_file_is_refused(make_small: Any, tmp_path: Path, mutation: str) -> None:
    manifest, data, _ = _encoded(make_small)
    changed = FILES[mutation](data)
    path = tmp_path / "kv.safetensors"
    path.write_bytes(changed)
    for given in (changed, path):
        with pytest.raises(IncompatibleModel):
            activation.decode(given, manifest, torch.float32)


def test_another_adapter_is_no_error_but_a_reason(make_small: Any) -> None:
    manifest, _, local = _encoded(make_small)
    assert activation.check(manifest, local.fingerprint) is None
    assert "adapter" in str(activation.check(manifest, replace(local.fingerprint, adapter="0" * 64)))


@pytest.mark.parametrize("kind", ["lora", "dora", "ia3"])
def test_an_active_adapter_is_part_of_what_a_cache_is_made_by(memos: MemOS, make_small: Any, kind: str) -> None:
    """Of any kind: switched on or off it leaves every weight as it was, and a cache of the other state is wrong."""
    from peft import IA3Config, LoraConfig, inject_adapter_in_model

    config: Any = (
        IA3Config(target_modules=["k_proj"], feedforward_modules=[], init_ia3_weights=False)
        if kind == "ia3"
        else LoraConfig(r=2, target_modules=["k_proj"], init_lora_weights=False, use_dora=kind == "dora")
    )

    local = make_small("llama")
    model, cube = memos.model(local), memos.add(TEXTS[0], user_id="mara")[0]
    cache = memos.migrate(cube, to="activation", model=model)
    plain = model.logits(QUESTION, memories=[cube])
    inject_adapter_in_model(config, local.model)
    adapted = model.logits(QUESTION, memories=[cube])
    assert np.abs(adapted - plain).max() > 1e-3, "the adapter must matter"
    with_cache = model.generate(QUESTION, memories=[cache], max_new_tokens=1)
    assert [(used.form, used.reason) for used in with_cache.memories] == [("plaintext", "another adapter is active")]
    assert np.array_equal(model.logits(QUESTION, memories=[cache]), adapted)
    own = memos.migrate(cube, to="activation", model=model)
    assert own.id != cache.id
    assert np.array_equal(model.logits(QUESTION, memories=[own]), adapted)
    assert model.generate(QUESTION, memories=[own], max_new_tokens=1).memories[0].form == "activation"
    for module in local.model.modules():
        if hasattr(module, "adapter_layer_names"):
            module.enable_adapters(False)
    assert np.array_equal(model.logits(QUESTION, memories=[cache]), plain)
    assert model.generate(QUESTION, memories=[cache], max_new_tokens=1).memories[0].form == "activation"


@pytest.mark.parametrize("wrong", ["swapped", "elsewhere", "another cache's"])
def test_a_file_that_is_whole_but_not_the_one_is_refused(tmp_path: Path, make_small: Any, wrong: str) -> None:
    """Its shapes and tokens fit, so only its name, the hash of its bytes, tells."""
    with MemOS.open(tmp_path / "memos.db", embedder="none") as memos:
        local = make_small("llama")
        cube = memos.add(TEXTS[0], user_id="mara")[0]
        cache = memos.migrate(cube, to="activation", model=memos.model(local))
        (ref,) = cache.payload.blobs.values()  # type: ignore[union-attr]
        (file,) = [path for path in tmp_path.rglob("*") if path.name == ref.sha256]
        swapped = _saved(file.read_bytes(), _swap)
        if wrong == "swapped":
            file.write_bytes(swapped)
        elif wrong == "another cache's":
            file.write_bytes(file.read_bytes()[:-4] + bytes(4))
        else:
            outside = tmp_path / "outside"
            outside.write_bytes(swapped)
            file.unlink()
            file.symlink_to(outside)
        with pytest.raises(IncompatibleModel):
            memos.model(local).logits(QUESTION, memories=[cache])


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "A" * 64, "ab/" + "c" * 61, ""])
def test_a_name_that_leads_out_of_the_folder_is_no_blob(tmp_path: Path, name: str) -> None:
    blobs = CopiedBlobs(MemoryBlobs(), tmp_path)
    for ask in (FolderBlobs(tmp_path).get, FolderBlobs(tmp_path).checked_file, blobs.get, blobs.checked_file):
        with pytest.raises(IntegrityError):
            ask(name)


def test_a_damaged_blob_is_refused_and_the_text_still_works(tmp_path: Path, make_small: Any) -> None:
    with MemOS.open(tmp_path / "memos.db", embedder="none") as memos:
        model, cube = memos.model(make_small("llama")), memos.add(TEXTS[0], user_id="mara")[0]
        cache = memos.migrate(cube, to="activation", model=model)
        (ref,) = cache.payload.blobs.values()  # type: ignore[union-attr]
        (file,) = [path for path in tmp_path.rglob("*") if path.name == ref.sha256]
        data = bytearray(file.read_bytes())
        data[-1] ^= 1
        file.write_bytes(data)
        with pytest.raises(IncompatibleModel):
            memos.model(make_small("llama")).logits(QUESTION, memories=[cache])
        assert model.logits(QUESTION, memories=[cube]).size
        assert not memos.verify().ok


def test_a_model_whose_keys_depend_on_the_prompt_s_length_keeps_none(memos: MemOS, make_small: Any) -> None:
    """Cut into segments, or injected, its prompts would be answered as if they were shorter: wrong, and no error."""
    rope = {"rope_type": "dynamic", "factor": 4.0, "rope_theta": 100.0}
    local = make_small("llama", rope_parameters=rope, max_position_embeddings=64)
    model = memos.model(local)
    cubes = memos.add(TEXTS[:2], user_id="mara")
    for reuse in (False, True, True):
        found = model.generate(QUESTION, memories=cubes, max_new_tokens=2, reuse=reuse)
        assert found.timings is not None
        assert found.timings.tokens_reused == 0
        whole = other_words(local, memos.prompt(QUESTION, memories=cubes, model=model))
        assert np.abs(model.logits(QUESTION, memories=cubes, reuse=reuse) - whole).max() < 1e-3
    with pytest.raises(InvalidRequest, match="whole prompt's length"):
        memos.migrate(cubes[0], to="activation", model=model)


# -- its life


def test_a_cache_lives_and_dies_with_its_source(memos: MemOS, make_small: Any) -> None:
    model = memos.model(make_small("llama"))
    cube = memos.add(TEXTS[0], user_id="mara", session_id="s1", readers=["team"])[0]
    cache = memos.migrate(cube.id, to="activation", model=model)
    assert memos.migrate(cube.id, to="activation", model=model).id == cache.id  # one for a version, model and precision
    assert (cache.scope, cache.governance, cache.text) == (cube.scope, cube.governance, "")
    assert str(cube.ref) in {str(node.ref) for node in memos.provenance(cache.id).entities}
    assert [hit.cube.id for hit in memos.search("Lisbon", user_id="mara")] == [cube.id]

    memos.update(cube.id, "Mara moved to Porto in June.")
    stale = model.generate(QUESTION, memories=[cache.id], max_new_tokens=4)
    assert stale.timings is not None and stale.timings.tokens_reused == 0
    assert [(used.form, "stale" in used.reason) for used in stale.memories] == [("plaintext", True)]
    assert stale.token_ids == model.generate(QUESTION, memories=[cube.id], max_new_tokens=4).token_ids
    renewed = memos.migrate(cube.id, to="activation", model=model)
    assert (renewed.id, renewed.version) == (cache.id, 2)
    assert model.generate(QUESTION, memories=[cache.id], max_new_tokens=4).memories[0].form == "activation"

    receipt = memos.erase(cube.id)
    assert {stone.ref.cube_id for stone in receipt.tombstones} == {cube.id, cache.id}
    assert model.cache_stats().entries == 0
    gone = model.generate(QUESTION, memories=[cache], max_new_tokens=4)
    assert [(used.form, used.reason) for used in gone.memories] == [("none", "it was erased")]
    assert gone.token_ids == model.generate(QUESTION, max_new_tokens=4).token_ids
    assert memos.stats(scope=_everything()).blob_bytes == 0
    with pytest.raises(NotFound):
        memos.migrate(cube.id, to="activation", model=model)


def test_another_user_s_cache_does_not_exist(memos: MemOS, make_small: Any) -> None:
    local = make_small("llama")
    cube = memos.add(TEXTS[0], user_id="mara")[0]
    cache = memos.migrate(cube, to="activation", model=memos.model(local))
    theirs = memos.scoped(user_id="joao")
    for wanted in (cache.id, cube.id):
        with pytest.raises(NotFound):
            theirs.model(local).logits(QUESTION, memories=[wanted])
        with pytest.raises(NotFound):
            theirs.migrate(wanted, to="activation", model=theirs.model(local))
    mine = memos.scoped(user_id="mara")
    assert mine.model(local).logits(QUESTION, memories=[cache.id]).size


def test_quantized_caches_are_close_and_small(memos: MemOS, make_small: Any) -> None:
    model = memos.model(make_small("llama"))
    cube = memos.add(" ".join(TEXTS * 6), user_id="mara")[0]
    plain, nothing = model.logits(QUESTION, memories=[cube]), model.logits(QUESTION)
    sizes = {}
    for precision, bound in (("int8", 0.05), ("int4", 0.5)):
        cache = memos.migrate(cube, to="activation", model=model, precision=precision)  # type: ignore[call-overload]
        (ref,) = cache.payload.blobs.values()
        sizes[precision] = ref.size_bytes
        difference = np.abs(model.logits(QUESTION, memories=[cache]) - plain).max()
        assert 0 < difference < bound * np.abs(plain - nothing).max()
    exact = memos.migrate(cube, to="activation", model=model)
    assert np.array_equal(model.logits(QUESTION, memories=[exact]), plain), "a rougher copy was used for an exact one"
    (ref,) = exact.payload.blobs.values()  # type: ignore[union-attr]
    assert sizes["int4"] < sizes["int8"] < ref.size_bytes / 2


def _everything() -> Any:
    from memos_agents import Scope

    return Scope.everything()


def _encoded(make_small: Any) -> tuple[dict[str, Any], bytes, LocalModel]:
    local = make_small("llama")
    with MemOS.open(":memory:", embedder="none") as memos:
        cube = memos.add(TEXTS[0], user_id="mara")[0]
        cache = memos.migrate(cube, to="activation", model=memos.model(local))
        assert isinstance(cache.payload, ArtefactPayload)
        (ref,) = cache.payload.blobs.values()
        return dict(cache.payload.manifest), memos.vault.blobs.get(ref.sha256), local


def _saved(data: bytes, change: Any) -> bytes:
    from safetensors.torch import load, save

    tensors = load(data)
    change(tensors)
    found: bytes = save(tensors)
    return found


def test_what_does_not_fit_the_window_is_refused_and_an_answer_ends_with_it(memos: MemOS, make_small: Any) -> None:
    window = 450
    model = memos.model(make_small("llama", max_position_embeddings=window))
    long = memos.add("Mara moved to Lisbon in May. " * 60, user_id="mara")[0]
    for call in (
        lambda: model.generate(QUESTION, memories=[long]),
        lambda: memos.migrate(long, to="activation", model=model),
    ):
        with pytest.raises(InvalidRequest, match="takes 450"):
            call()
    cube = memos.add(TEXTS[0], user_id="mara")[0]
    said = model.generate(QUESTION, memories=[cube], max_new_tokens=1_000, temperature=1.0, seed=1)
    assert said.timings is not None
    assert said.timings.tokens_computed + len(said.token_ids) <= window
