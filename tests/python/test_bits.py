"""The same bits: on every instruction set, for any number of threads, alone and in a batch."""

import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import exactflash

CONTEXTS = [exactflash.Context(isa, threads) for isa in exactflash.isas() for threads in (1, 3)]


def random(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def test_isas_that_this_machine_must_have():
    wanted = [name for name in os.environ.get("XF_REQUIRE_ISA", "scalar").split(",") if name]
    assert set(wanted) <= set(exactflash.isas())


@settings(max_examples=15)
@given(
    st.integers(1, 70), st.integers(1, 1100), st.sampled_from([16, 64, 80, 128]),
    st.booleans(), st.sampled_from([0, 100]), st.sampled_from([0.0, 20.0]), st.integers(0, 99),
)  # fmt: skip
def test_attention(rows, keys, dim, causal, window, soft_cap, seed):
    q, k, v = random(seed, 2, rows, 4, dim), random(seed + 1, 2, keys, 2, dim), random(seed + 2, 2, keys, 2, dim)
    options = {"causal": causal, "window": window, "soft_cap": soft_cap, "return_lse": True}
    results = {
        b"".join(x.tobytes() for x in exactflash.attention(q, k, v, context=context, **options))
        for context in CONTEXTS
    }
    assert len(results) == 1


@settings(max_examples=10)
@given(st.integers(1, 40), st.integers(1, 1100), st.integers(1, 50), st.integers(0, 99))
def test_linear(rows, k, n, seed):
    x, weight = random(seed, rows, k), random(seed + 1, n, k)
    results = {exactflash.linear(x, weight, context=context).tobytes() for context in CONTEXTS}
    assert len(results) == 1
    packed = exactflash.Linear(weight)
    alone = np.stack([packed(row) for row in x])
    assert results == {alone.tobytes()}


def test_other_operators():
    x, y, weight = random(1, 5, 96), random(2, 5, 96), random(3, 96)
    inverse = (10000.0 ** -(np.arange(0, 16, 2) / 16)).astype(np.float32)
    results = {
        exactflash.rms_norm(x, weight, context=context).tobytes()
        + exactflash.silu_mul(x, y, context=context).tobytes()
        + exactflash.rope(x.reshape(5, 6, 16).copy(), range(5), inverse, context=context).tobytes()
        for context in CONTEXTS
    }
    assert len(results) == 1
    norm = x / np.sqrt((x.astype(np.float64) ** 2).mean(axis=1, keepdims=True) + 1e-5) * weight
    np.testing.assert_allclose(exactflash.rms_norm(x, weight), norm, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(exactflash.silu_mul(x, y), x / (1 + np.exp(-x)) * y, rtol=1e-5, atol=1e-6)


def test_chunks():
    """Queries in pieces, each seeing the keys up to it, give the rows of all at once."""
    x = random(1, 1, 700, 4, 32)
    whole = exactflash.attention(x, x, x, causal=True)
    places = [0, 1, 13, 511, 513, 700]
    for begin, end in zip(places, places[1:], strict=False):
        part = exactflash.attention(x[:, begin:end], x[:, :end], x[:, :end], causal=True)
        assert np.array_equal(part, whole[:, begin:end])


@pytest.mark.parametrize("threads", [1, 2])
def test_model(model, threads):
    """Logits of the model: every instruction set, flash and standard differ by rounding only."""
    ids = model.tokenizer.encode("Once upon a time there was a king who had three daughters.")
    want = model(ids)
    for isa in exactflash.isas():
        other = exactflash.build_model(model.path, context=exactflash.Context(isa, threads), chunk=7)
        assert other(ids).tobytes() == want.tobytes()
    standard = exactflash.build_model(model.path, use_flash_attention=False)
    np.testing.assert_allclose(standard(ids), want, rtol=0, atol=1e-4)
