"""Where keys and values lie: budgets hold, users are kept apart, the cheaper way is taken, a crash leaves nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from memos_agents import IntegrityError, InvalidRequest, MemOS, Scope
from memos_agents.infrastructure.vault.blob_copies import CopiedBlobs
from memos_agents.infrastructure.vault.blobs import MemoryBlobs
from memos_agents.memories.costs import Costs
from memos_agents.memories.prefix_cache import PrefixCache, size_of
from memos_agents.models.held import Held
from memos_agents.models.prompts import Prompt
from memos_agents.testing import HashEmbedder

QUESTION = "Where is it?"


def held_of(ids: tuple[int, ...], ends: tuple[int, ...]) -> Held:
    keys = torch.tensor(ids, dtype=torch.float32)[None, :, None]
    return Held(ids, ends, [(keys, -keys)])


prompts = st.lists(st.integers(0, 2), min_size=2, max_size=12).flatmap(
    lambda ids: st.tuples(
        st.just(tuple(ids)), st.sets(st.integers(1, len(ids) - 1)).map(lambda cuts: (*sorted(cuts), len(ids)))
    )
)


@given(st.lists(st.tuples(st.sampled_from("ab"), prompts, st.booleans()), max_size=40), st.integers(8, 400))
@settings(max_examples=200)
def test_what_is_found_is_a_beginning_of_the_owner_s_own_within_the_budget(steps: list, budget: int) -> None:
    cache, put = PrefixCache(budget), list[tuple[str, tuple[int, ...], tuple[int, ...]]]()
    for owner, (ids, ends), is_put in steps:
        if is_put:
            held = held_of(ids, ends)
            is_kept = cache.put("m", owner, held)
            assert is_kept == (size_of(held) <= budget)
            put.append((owner, ids, ends))
        else:
            found = cache.find("m", owner, Prompt("", ids, ends), len(ids))
            if found is not None:
                common = [end for end in ends[:-1] if found.ids[:end] == ids[:end] and end in found.ends]
                assert common
                assert (owner, found.ids, found.ends) in put
            assert cache.find("other", owner, Prompt("", ids, ends), len(ids)) is None
        told = cache.stats()
        assert told.size_bytes <= budget
        assert told.size_bytes == sum(each.size_bytes for each in cache._entries.values())
        assert {id(each) for each in cache._places.values()} <= set(cache._entries)


@given(prompts, prompts)
def test_the_longest_common_beginning_is_found(one: tuple, other: tuple) -> None:
    cache = PrefixCache()
    cache.put("m", "a", held_of(*one))
    (ids, ends), (theirs, their_ends) = one, other
    alike = 0
    for place, (mine, end) in enumerate(zip(their_ends[:-1], ends, strict=False)):
        if mine != end or ids[:end] != theirs[:end] or their_ends[: place + 1] != ends[: place + 1]:
            break
        alike = end
    assert (cache.find("m", "a", Prompt("", theirs, their_ends), len(theirs)) is not None) == (alike > 0)


def test_a_longer_entry_takes_the_place_of_its_beginning() -> None:
    cache = PrefixCache()
    cache.put("m", "a", held_of((1, 2), (2,)))
    cache.put("m", "a", held_of((1, 2, 3, 4), (2, 4)))
    assert cache.stats().entries == 1
    assert cache.find("m", "a", Prompt("", (1, 2, 9), (2, 3)), 3) is not None


def test_the_next_turn_reuses_the_turns_before(memos: MemOS, each_model: Any) -> None:
    model = memos.model(each_model)
    cube = memos.add("Mara moved to Lisbon in May, and her sister followed her in June with two cats.", user_id="mara")[
        0
    ]
    talk: list[dict[str, str]] = []
    computed = []
    for question in (
        "Where does she live now, and since when does she?",
        "Who came with her, and with which animals?",
        "And then?",
    ):
        talk.append({"role": "user", "content": question + " Say it in a few words, please, as if to a friend."})
        plain = model.generate(talk, memories=[cube], max_new_tokens=6)
        found = model.generate(talk, memories=[cube], max_new_tokens=6, reuse=True)
        assert found.token_ids == plain.token_ids
        assert np.array_equal(model.logits(talk, memories=[cube], reuse=True), model.logits(talk, memories=[cube]))
        assert found.timings is not None
        computed.append((found.timings.tokens_reused, found.timings.tokens_computed))
        talk.append({"role": "assistant", "content": "I see: " + question})
    assert computed[0][0] == 0
    assert computed[1][0] >= computed[0][1], "the whole first prompt is there"
    assert computed[2][0] > computed[1][0]


def test_a_thousand_caches_and_eight_chats_under_a_small_budget(tmp_path: Path, make_small: Any) -> None:
    local = make_small("llama")
    with MemOS.open(tmp_path / "memos.db", embedder=HashEmbedder(16)) as memos:
        model = memos.model(local, ram_bytes=400_000)
        cubes = {
            user: memos.add([f"{user} keeps number {number} in the blue box" for number in range(125)], user_id=user)
            for user in (f"user{place}" for place in range(8))
        }
        caches = {user: memos.migrate(own, to="activation", model=model) for user, own in cubes.items()}
        assert sum(map(len, caches.values())) == 1_000
        expected = {user: [model.logits(QUESTION, memories=[cube]) for cube in own[:6]] for user, own in cubes.items()}
        failed: list[BaseException] = []
        worst = [0]

        def chat(user: str) -> None:
            try:
                view = memos.scoped(user_id=user)
                mine = view.model(local, ram_bytes=400_000) if user < "user4" else model
                for _ in range(3):
                    for place, cache in enumerate(caches[user][:6]):
                        found = mine.logits(QUESTION, memories=[cache], reuse=True)
                        assert np.array_equal(found, expected[user][place])
                        worst[0] = max(worst[0], mine.cache_stats().size_bytes)
            except BaseException as error:
                failed.append(error)

        threads = [threading.Thread(target=chat, args=(user,)) for user in cubes]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failed
        assert 0 < worst[0] <= 400_000
        assert model.cache_stats().evictions > 0
        assert memos.stats(scope=Scope.everything()).by_type["activation"] == 1_000


def test_a_cache_larger_than_the_budget_is_used_and_not_kept(memos: MemOS, make_small: Any) -> None:
    model = memos.model(make_small("llama"), ram_bytes=1)
    cube = memos.add("Mara moved to Lisbon in May.", user_id="mara")[0]
    cache = memos.migrate(cube, to="activation", model=model)
    found = model.generate(QUESTION, memories=[cache], max_new_tokens=1, reuse=True)
    assert found.memories[0].form == "activation"
    assert model.cache_stats().entries == 0


def test_reuse_finds_stored_caches_and_leaves_those_that_do_not_pay(memos: MemOS, make_small: Any) -> None:
    local = make_small("llama")
    cube = memos.add("Mara moved to Lisbon in May.", user_id="mara")[0]
    memos.migrate(cube, to="activation", model=memos.model(local))
    plain = memos.model(local).logits(QUESTION, memories=[cube])
    fresh = memos.model(local)
    first = fresh.generate(QUESTION, memories=[cube], max_new_tokens=1, reuse=True)
    assert first.memories[0].form == "activation", "what was never measured is tried"
    slow = memos.model(local)
    slow._injector.costs.prefilled(1_000, 1e-6)
    for tier in ("file", "store"):
        slow._injector.costs.loaded(tier, 1, 1.0)  # type: ignore[arg-type]
    left = slow.generate(QUESTION, memories=[cube], max_new_tokens=1, reuse=True)
    assert left.memories[0].form == "plaintext"
    assert "takes longer" in left.memories[0].reason
    assert np.array_equal(slow.logits(QUESTION, memories=[cube]), plain)
    assert sum(slow.costs().decisions.values()) == 2
    assert memos.stats(user_id="mara").models  # what `memos stats` tells of models that are open


def test_a_tier_that_lost_is_tried_again() -> None:
    costs = Costs()
    assert costs.why_not("file", 10, 10) is None
    costs.prefilled(100, 1.0)
    assert costs.why_not("file", 10, 10) is None
    costs.loaded("file", 100, 1.0)
    assert costs.why_not("file", 5, 10) is None
    answers = [costs.why_not("file", 1_000, 10) for _ in range(40)]
    assert answers[0] is not None
    assert 1 <= answers.count(None) <= 4
    for _ in range(20):
        costs.loaded("file", 10**6, 1.0)  # the disk was cold; now it is warm
    assert costs.why_not("file", 1_000, 10) is None


def test_debug_compares_with_the_text_and_with_nothing(memos: MemOS, make_small: Any) -> None:
    local = make_small("qwen3")
    model = memos.model(local, debug=True)
    cube = memos.add("Mara moved to Lisbon in May.", user_id="mara")[0]
    cache = memos.migrate(cube, to="activation", model=model)
    assert model.generate(QUESTION, memories=[cache], max_new_tokens=2).memories[0].form == "activation"
    rough = memos.migrate(cube, to="activation", model=model, precision="int8")
    assert model.generate(QUESTION, memories=[rough], max_new_tokens=2).memories[0].form == "activation"
    (entry,) = [each for key, each in model._injector.cache._places.items() if ":exact" in key[0]][:1]
    entry.held.layers[1][0].mul_(0.5)  # a bug that changes stored tensors
    with pytest.raises(IntegrityError, match="other logits"):
        model.logits(QUESTION, memories=[cache])
    assert memos.model(local).logits(QUESTION, memories=[cache]).size


KILLED = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
from conftest import small
from memos_agents import MemOS
from memos_agents.interface.store import Store

with MemOS.open(sys.argv[2], embedder="none") as memos:
    model = memos.model(small("llama"))
    Store.commit = lambda *_: os.kill(os.getpid(), signal.SIGKILL)  # the payload is written, the commit is not
    memos.migrate(sys.argv[3], to="activation", model=model)
"""


@pytest.mark.slow
def test_killed_between_payload_and_commit_nothing_usable_is_left(tmp_path: Path, make_small: Any) -> None:
    path = tmp_path / "memos.db"
    with MemOS.open(path, embedder="none") as memos:
        cube = memos.add("Mara moved to Lisbon in May.", user_id="mara")[0]
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(Path(__file__).parent), str(path), cube.id], env=os.environ, check=False
    )
    assert done.returncode == -signal.SIGKILL
    with MemOS.open(path, embedder="none") as memos:
        assert list(memos.vault.blobs.names()), "else it was killed too early"
        assert memos.verify().ok
        assert "activation" not in memos.stats(user_id="mara").by_type
        model = memos.model(make_small("llama"))
        plain = model.generate(QUESTION, memories=[cube.id], max_new_tokens=2, reuse=True)
        assert plain.memories[0].form == "plaintext"
        cache = memos.migrate(cube.id, to="activation", model=model)
        assert model.generate(QUESTION, memories=[cache], max_new_tokens=2).token_ids == plain.token_ids
        memos.erase(cube.id)
        assert memos.stats(scope=Scope.everything()).blob_bytes == 0


def test_what_was_read_before_an_erasure_does_not_stay_after_it(memos: MemOS, make_small: Any) -> None:
    local = make_small("llama")
    model = memos.model(local)
    cube = memos.add("Mara moved to Lisbon in May.", user_id="mara")[0]
    prefill = local.prefill

    def erased_meanwhile(*arguments: Any, **more: Any) -> Any:
        memos.erase(cube.id)
        return prefill(*arguments, **more)

    local.prefill = erased_meanwhile
    model.logits(QUESTION, memories=[cube], reuse=True)
    assert model.cache_stats().entries == 0


def test_stored_caches_keep_within_their_budget_and_the_used_ones_stay(memos: MemOS, make_small: Any) -> None:
    local = make_small("llama")
    cubes = memos.add([f"Mara keeps number {number:03} in the blue box." for number in range(12)], user_id="mara")
    theirs = memos.add("João keeps nothing.", user_id="joao")[0]
    (ref,) = memos.migrate(theirs, to="activation", model=memos.model(local)).payload.blobs.values()  # type: ignore[union-attr]
    view = memos.scoped(user_id="mara")
    model = view.model(local, stored_bytes=5 * ref.size_bytes + ref.size_bytes // 2)
    first = view.migrate(cubes[0], to="activation", model=model)
    for _ in range(3):
        model.logits(QUESTION, memories=[first])
    caches = [view.migrate(cube, to="activation", model=model) for cube in cubes[1:]]
    left = [cube.id for cube in view.list(collection="activations")]
    assert len(left) <= 5
    assert {first.id, caches[-1].id} <= set(left), "the one that was used, and the one just made"
    assert [cube.scope.user_id for cube in memos.list(user_id="joao", collection="activations")] == ["joao"]
    gone = model.generate(QUESTION, memories=[caches[0].id], max_new_tokens=1)
    assert [used.form for used in gone.memories] == ["none"]
    with pytest.raises(InvalidRequest, match="more than stored_bytes"):
        view.migrate(cubes[1], to="activation", model=view.model(local, stored_bytes=10))


def test_bytes_in_an_object_store_are_fetched_once_and_gone_after_an_erasure(tmp_path: Path, make_small: Any) -> None:
    import fsspec

    far = fsspec.filesystem("memory")
    far.store.clear()
    address, local = "memory://bucket/kv", make_small("llama")
    options: dict[str, Any] = {"embedder": "none", "blobs": address, "cache_dir": tmp_path / "here"}
    with MemOS.open(tmp_path / "memos.db", **options) as memos:
        model = memos.model(local)
        cube = memos.add("Mara moved to Lisbon in May.", user_id="mara")[0]
        cache = memos.migrate(cube, to="activation", model=model)
        plain = model.logits(QUESTION, memories=[cube])
        assert len(far.find("/bucket/kv")) == 1
        assert not (tmp_path / "memos.db.blobs").exists()
    for options["cache_dir"] in (tmp_path / "here", tmp_path / "elsewhere", None):  # near, far, far without copies
        with MemOS.open(tmp_path / "memos.db", **options) as memos:
            found = memos.model(local)
            assert np.array_equal(found.logits(QUESTION, memories=[cache.id]), plain)
            assert memos.verify().ok
    copies = lambda place: [path for path in (tmp_path / place).rglob("*") if path.is_file()]  # noqa: E731
    assert len(copies("here")) == len(copies("elsewhere")) == 1
    damaged = copies("here")[0]
    damaged.write_bytes(damaged.read_bytes()[:-9])  # a copy that is damaged is fetched again
    with MemOS.open(tmp_path / "memos.db", **{**options, "cache_dir": tmp_path / "here"}) as memos:
        assert np.array_equal(memos.model(local).logits(QUESTION, memories=[cache.id]), plain)
        memos.erase(cube.id)
        assert not far.find("/bucket/kv")
        assert not copies("here")
    with MemOS.open(tmp_path / "memos.db", **{**options, "cache_dir": tmp_path / "elsewhere"}):
        assert not copies("elsewhere"), "what another machine erased is removed at the next opening"


def test_copies_keep_within_their_budget(tmp_path: Path) -> None:
    blobs = CopiedBlobs(MemoryBlobs(), tmp_path, 1_000)
    refs = [blobs.put(bytes([number]) * 300) for number in range(10)]
    assert sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) <= 1_000
    assert [blobs.get(ref.sha256)[0] for ref in refs] == list(range(10))
    assert blobs.checked_file(blobs.put(b"x" * 2_000).sha256) is None
    assert sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) <= 1_000
    kept = blobs.checked_file(refs[0].sha256)
    assert kept is not None and kept.read_bytes() == bytes(300)


@pytest.mark.parametrize("wrong", [{"blobs": ""}, {"blobs": "nosuch://x/y"}, {"blobs": "memory://x", "disk_bytes": -1}])
def test_a_wrong_place_for_blobs_is_refused_in_words(tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest, match=r"blobs|disk_bytes"):
        MemOS.open(tmp_path / "memos.db", embedder="none", **wrong)


def test_questions_about_the_same_memories_share_what_is_kept(memos: MemOS, make_small: Any) -> None:
    local = make_small("llama")
    model = memos.model(local)
    cubes = memos.add(["Mara moved to Lisbon in May.", "Her sister has a red bicycle and a black cat."], user_id="mara")
    sizes = []
    for question in ("Where?", "Who?", "What?"):
        found = model.logits(question, memories=cubes, reuse=True)
        assert np.array_equal(found, model.logits(question, memories=cubes))
        sizes.append(model.cache_stats().size_bytes)
    assert len(set(sizes)) == 1, "each question kept a copy of its own"
    assert model.cache_stats().entries == 1
