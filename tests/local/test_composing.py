"""Composing: approximate and said so; all computed again it is the text; off until it was measured as good enough."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from memos_agents import IncompatibleModel, InvalidRequest, MemOS
from memos_agents.interface.calibrating import STRATEGIES, Calibration, pieces_of
from memos_agents.models import composing
from memos_agents.models.huggingface import LocalModel

QUESTION = "Who is this about?"
TEXTS = [
    "Mara moved to Lisbon in May and works as a carpenter there.",
    "Her sister Ines has a red bicycle, a black cat and three plants; she waters them on Sundays, says Mara.",
    "They meet on the first Sunday of the month at the old market hall, unless it rains.",
]


def everything(local: Any, prompt: Any, pieces: Any) -> list[int]:
    return [place for piece in pieces[1:] for place in range(piece.place, piece.end)]


def test_all_computed_again_it_is_the_text_and_otherwise_it_is_not(memos: MemOS, each_model: LocalModel) -> None:
    model = memos.model(each_model)
    cubes = memos.add(TEXTS, user_id="mara")
    asked, _ = model._asked(cubes)
    prompt = model.built(QUESTION, asked)
    pieces = pieces_of(model.local, model.built, cubes, prompt)
    assert [piece.place for piece in pieces] == [0, *prompt.marks[:2]]
    plain = each_model.logits(prompt)
    again = composing.composed(each_model, prompt, pieces, everything)
    assert np.abs(again.logits.numpy() - plain).max() < 1e-3
    cheap = composing.composed(each_model, prompt, pieces, composing.nothing)
    if each_model.name != "small mistral":  # its windows end before the other memories begin
        assert np.abs(cheap.logits.numpy() - plain).max() > 1e-2, "these models look at other memories"
    assert cheap.tokens_reused == pieces[-1].end
    assert cheap.tokens_reused + cheap.tokens_computed == len(prompt.ids)
    some = composing.composed(each_model, prompt, pieces, composing.most_deviating(0.3))
    assert 0 < cheap.tokens_reused - some.tokens_reused < 0.4 * cheap.tokens_reused


def test_the_tokens_picked_by_deviation_are_those_that_deviate(memos: MemOS, make_small: Any) -> None:
    local = make_small("llama")
    model = memos.model(local)
    cubes = memos.add(TEXTS, user_id="mara")
    prompt = model.built(QUESTION, model._asked(cubes)[0])
    pieces = pieces_of(model.local, model.built, cubes, prompt)
    picked = set(composing.most_deviating(0.2)(local, prompt, pieces))
    whole = local.keys_and_values(prompt, len(prompt.ids))
    filled = composing._filled(local, prompt, pieces)[1]
    off = sum(
        ((one[0] - other) ** 2).sum((0, 2)) / (other**2).sum((0, 2))
        for one, other in zip(filled, whole.layers[1], strict=True)
    )
    covered = everything(local, prompt, pieces)
    others = [place for place in covered if place not in picked]
    assert min(off[list(picked)]) >= max(off[others]) - 1e-6  # type: ignore[index]


def test_what_the_question_looks_at_is_computed_again(memos: MemOS, each_model: LocalModel) -> None:
    model = memos.model(each_model)
    cubes = memos.add(TEXTS, user_id="mara")
    prompt = model.built(QUESTION, model._asked(cubes)[0])
    pieces = pieces_of(each_model, model.built, cubes, prompt)
    used, covered = each_model.model.config._attn_implementation, everything(each_model, prompt, pieces)
    picked = composing.most_attended(0.1)(each_model, prompt, pieces)
    assert len(picked) == round(0.1 * len(covered))
    assert set(picked) <= set(covered)
    again = composing.composed(each_model, prompt, pieces, composing.most_attended(1.0))
    assert np.abs(again.logits.numpy() - each_model.logits(prompt)).max() < 1e-3
    assert each_model.model.config._attn_implementation == used
    other = model.built("Ines has which animals?", model._asked(cubes)[0])
    if each_model.name in ("small llama", "small qwen3", "small phi3"):  # the others see mostly what is near
        assert composing.most_attended(0.1)(each_model, other, pieces) != picked


@pytest.mark.parametrize(
    "changes",
    [
        {"rope_parameters": {"rope_type": "dynamic", "factor": 4.0, "rope_theta": 100.0}},
        {"max_position_embeddings": 64, "rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}},
    ],
)
def test_keys_that_cannot_be_turned_are_refused(make_small: Any, changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest, match="cannot be turned"):
        composing.check_turns(make_small("llama", **changes))


def test_keys_that_turn_otherwise_than_we_think_are_refused(make_small: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Angles for neighbouring pairs (as GPT-J has them), not for halves: seen by the probe, not by a name."""
    local = make_small("llama")
    composing.check_turns(local)
    local.turns = None

    def interleaved(*arguments: Any) -> torch.Tensor:
        turned: torch.Tensor = original(*arguments)
        return turned.roll(1, -1)

    original = composing._turned
    monkeypatch.setattr(composing, "_turned", interleaved)
    with pytest.raises(InvalidRequest, match="cannot be turned"):
        composing.check_turns(local)


def test_long_context_scaling_is_not_applied_twice(make_small: Any) -> None:
    yarn = {"rope_type": "yarn", "factor": 4.0, "rope_theta": 1e4, "original_max_position_embeddings": 1024}
    local = make_small("llama", rope_parameters=yarn)
    composing.check_turns(local)
    assert local.rotary.attention_scaling != 1, "else this says nothing"


def test_it_is_off_until_it_was_measured_within_the_bounds(memos: MemOS, make_small: Any) -> None:
    local = make_small("llama")
    model = memos.model(local)
    cubes = memos.add(TEXTS, user_id="mara")
    caches = memos.migrate(cubes, to="activation", model=model)
    with pytest.raises(InvalidRequest, match="calibrate"):
        model.logits(QUESTION, memories=caches, compose=True)
    steps: list[tuple[int, int]] = []
    found = model.calibrate(caches, [QUESTION], together=3, progress=lambda done, of: steps.append((done, of)))
    assert steps == [(1, 1)]
    assert [row.strategy for row in found.measured] == list(STRATEGIES)
    assert found.measured[0].recomputed == 0 < found.measured[-1].recomputed < 0.35
    assert all(row.kl >= -1e-6 and 0 <= row.same_tokens <= 1 for row in found.measured)
    assert found.chosen is None, "a random model is never within the bounds"
    with pytest.raises(InvalidRequest, match="not good enough"):
        model.logits(QUESTION, memories=caches, compose=True)

    model.calibration = Calibration.from_json(
        json.loads(json.dumps(replace(found, kl_at_most=1e9, same_at_least=0.0).to_json()))
    )
    said = model.generate(QUESTION, memories=caches, max_new_tokens=4, compose=True)
    assert [(used.form, "not exact" in used.reason) for used in said.memories] == [("activation", True)] * 3
    assert said.timings is not None
    assert said.timings.tokens_reused > caches[0].payload.manifest["tokens"]  # type: ignore[union-attr]
    exact = model.generate(QUESTION, memories=caches, max_new_tokens=4)
    plain = model.generate(QUESTION, memories=cubes, max_new_tokens=4)
    assert exact.token_ids == plain.token_ids
    assert np.array_equal(
        model.logits(QUESTION, memories=caches, reuse=True), model.logits(QUESTION, memories=cubes)
    ), "what was composed was taken for exact"
    stranger = memos.model(make_small("llama", seed=1))
    stranger.calibration = model.calibration
    with pytest.raises(IncompatibleModel):
        stranger.logits(QUESTION, memories=cubes, compose=True)


def test_a_bundle_is_exact_at_the_beginning_and_dies_with_any_of_its_sources(memos: MemOS, make_small: Any) -> None:
    model = memos.model(make_small("llama"))
    cubes = memos.add(TEXTS, user_id="mara")
    bundle = memos.migrate(cubes[:2], to="activation", model=model, bundle=True)
    assert memos.migrate([cubes[1], cubes[0]], to="activation", model=model, bundle=True).id == bundle.id
    plain = model.logits(QUESTION, memories=cubes)
    assert np.array_equal(model.logits(QUESTION, memories=[bundle, cubes[2]]), plain)
    said = model.generate(QUESTION, memories=[bundle, cubes[2]], max_new_tokens=1)
    assert [(used.id, used.asked_id, used.form) for used in said.memories] == [
        (cubes[0].id, bundle.id, "activation"),
        (cubes[1].id, bundle.id, "activation"),
        (cubes[2].id, cubes[2].id, "plaintext"),
    ]
    memos.update(cubes[1].id, "Ines sold the bicycle.")
    stale = model.generate(QUESTION, memories=[bundle.id], max_new_tokens=1)
    assert {(used.form, "stale" in used.reason) for used in stale.memories} == {("plaintext", True)}
    memos.erase(cubes[0].id)
    gone = model.generate(QUESTION, memories=[bundle.id], max_new_tokens=1)
    assert [(used.form, used.reason) for used in gone.memories] == [("none", "it was erased")]


def test_a_bundle_of_two_owners_is_refused(memos: MemOS, make_small: Any) -> None:
    model = memos.model(make_small("llama"))
    one, other = memos.add(TEXTS[0], user_id="mara")[0], memos.add(TEXTS[1], user_id="joao")[0]
    with pytest.raises(InvalidRequest, match="same scope"):
        memos.migrate([one, other], to="activation", model=model, bundle=True)
