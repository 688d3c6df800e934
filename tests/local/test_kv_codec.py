"""The codec of keys and values: exact is exact, and what is packed is off by half a step of its group at most."""

from __future__ import annotations

import pytest

pytest.importorskip("torch", reason="needs memos-agents[local]")

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from memos_agents import IncompatibleModel, InvalidRequest
from memos_agents.memories import kv_codec

DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def layers_of(
    seed: int, layers: int, heads: int, tokens: int, channels: int, dtype: torch.dtype, spread: float
) -> list:
    source = torch.Generator().manual_seed(seed)
    made = []
    for _ in range(layers):
        pair = [(torch.randn(heads, tokens, channels, generator=source) * spread).to(dtype) for _ in range(2)]
        pair[0][:, :, 0] *= 20  # an outlier channel, as keys have
        made.append(tuple(pair))
    return made


shapes = st.tuples(
    st.integers(0, 2**31),
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(1, 150),
    st.sampled_from([2, 8, 16, 48, 64]),
    st.sampled_from(DTYPES),
    st.sampled_from([1e-3, 1.0, 30.0]),
)
"""Seed, layers, heads, tokens, channels, dtype, spread."""


@given(shapes)
@settings(max_examples=60)
def test_exact_is_exact(shape: tuple) -> None:
    layers = layers_of(*shape)
    found = kv_codec.unpack(kv_codec.pack(layers, "exact"), "exact", shape[3], shape[5])
    assert all(
        torch.equal(a, b) for one, other in zip(layers, found, strict=True) for a, b in zip(one, other, strict=True)
    )


@given(shapes, st.sampled_from(["int8", "int4"]))
@settings(max_examples=120)
def test_what_is_packed_is_off_by_less_than_a_step_of_its_group(shape: tuple, precision: str) -> None:
    layers, tokens = layers_of(*shape[:5], torch.float32, shape[6]), shape[3]
    packed = kv_codec.pack(layers, precision)  # type: ignore[arg-type]
    found = kv_codec.unpack(packed, precision, tokens, torch.float32)
    sinks = min(kv_codec.SINKS[precision], tokens)
    for (keys, values), (found_keys, found_values) in zip(layers, found, strict=True):
        assert torch.equal(keys[:, :sinks], found_keys[:, :sinks])
        assert torch.equal(values[:, :sinks], found_values[:, :sinks])
        for number, (wanted, got) in enumerate(((keys, found_keys), (values, found_values))):
            assert wanted.shape == got.shape
            span = (
                wanted.amax() - wanted.amin() if number else wanted.amax(1, keepdim=True) - wanted.amin(1, keepdim=True)
            )
            step = span / (255 if precision == "int8" else 15)
            assert ((wanted - got).abs() <= 0.52 * step + 2e-3 * wanted.abs().amax() + 1e-6).all()


@given(shapes)
@settings(max_examples=20)
def test_fewer_bits_take_fewer_bytes(shape: tuple) -> None:
    layers = layers_of(*shape[:3], 128, 64, torch.float32, 1.0)
    sizes = [
        sum(each.nelement() * each.element_size() for each in kv_codec.pack(layers, precision).values())  # type: ignore[arg-type]
        for precision in ("exact", "int8", "int4")
    ]
    assert sizes[1] < 0.28 * sizes[0] and sizes[2] < 0.19 * sizes[0]


def test_what_is_missing_or_misshapen_is_refused() -> None:
    layers = layers_of(1, 2, 2, 9, 8, torch.float32, 1.0)
    for precision in kv_codec.PRECISIONS:
        packed = kv_codec.pack(layers, precision)  # type: ignore[arg-type]
        for name in packed:
            if name.startswith("v."):  # a whole layer less is what the manifest's count of layers tells
                left = {key: each for key, each in packed.items() if key != name}
                with pytest.raises(IncompatibleModel):
                    kv_codec.unpack(left, precision, 9, torch.float32)
        with pytest.raises(IncompatibleModel):
            kv_codec.unpack(packed, precision, 12_345, torch.float32)
    with pytest.raises(InvalidRequest):
        kv_codec.pack(layers, "int3")  # type: ignore[arg-type]
