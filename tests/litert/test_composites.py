"""Single composites of all shapes, against double precision."""

import time

import graphs
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from conftest import delegate, interpreter, run

ATTENTION = "odml.scaled_dot_product_attention"
HIDDEN = -np.inf


def attention(q, k, v, mask, scale, cap=0.0):
    """In double precision; mask [batch or 1, heads or 1, queries, keys]."""
    group = q.shape[2] // k.shape[2]
    k, v = (np.repeat(x.astype(np.float64), group, axis=2) for x in (k, v))
    scores = np.einsum("bqhd,bkhd->bhqk", q.astype(np.float64), k) * scale
    if cap:
        scores = cap * np.tanh(scores / cap)
    scores = scores + mask
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return np.einsum("bhqk,bkhd->bqhd", weights / weights.sum(axis=-1, keepdims=True), v)


def causal(queries, keys, first):
    columns, rows = np.arange(keys)[None, :], first + np.arange(queries)[:, None]
    return np.where(columns <= rows, 0, HIDDEN).astype(np.float32)


def tensors(batch, queries, keys, heads, kv_heads, d, seed=0):
    rng = np.random.default_rng(seed)
    shapes = [(batch, queries, heads, d)] + [(batch, keys, kv_heads, d)] * 2
    return [rng.standard_normal(shape, np.float32) for shape in shapes]


def check(q, k, v, mask, attributes=None, **options):
    """Through LiteRT, which hands the composite to the delegate."""
    attributes = attributes or {"scale": 0.125}
    inputs = [q, k, v] if mask is None else [q, k, v, mask]
    model = graphs.composite(ATTENTION, attributes, [x.shape for x in inputs], q.shape)
    out = run(model, inputs, delegate(**options))
    shape = (1,) * (4 - mask.ndim) + mask.shape if mask is not None else (1, 1, 1, 1)
    full = np.zeros(shape) if mask is None else mask.reshape(shape).astype(np.float64)
    wanted = attention(q, k, v, full, attributes["scale"], attributes.get("logit_cap", 0))
    assert np.abs(out - wanted).max() <= 2e-6 * max(1, np.abs(v).max())
    return out


@pytest.mark.parametrize("heads, kv_heads", [(1, 1), (4, 1), (6, 2), (8, 8)])
@pytest.mark.parametrize("d", [8, 40, 64, 256])
@pytest.mark.parametrize("queries, keys, first", [(1, 300, 17), (1, 300, 299), (16, 40, 0), (70, 700, 600)])
def test_causal(heads, kv_heads, d, queries, keys, first):
    q, k, v = tensors(1, queries, keys, heads, kv_heads, d)
    k[:, first + queries :] = np.nan  # free slots of the cache are never read
    v[:, first + queries :] = np.nan
    model = graphs.composite(
        ATTENTION, {"scale": d**-0.5}, [q.shape, k.shape, v.shape, (1, 1, queries, keys)], q.shape
    )
    mask = causal(queries, keys, first)[None, None]
    out = run(model, [q, k, v, mask], delegate())
    used = slice(0, first + queries)
    wanted = attention(q, k[:, used], v[:, used], mask[..., used].astype(np.float64), d**-0.5)
    assert np.abs(out - wanted).max() <= 1e-5


@pytest.mark.parametrize("shape", [(1, 1, 5, 90), (1, 6, 5, 90), (5, 90), (2, 1, 5, 90), (1, 90), (1, 1, 1, 90)])
def test_masks(shape):
    """Any values, at all ways to broadcast, for two sequences."""
    rng = np.random.default_rng(3)
    mask = rng.standard_normal(shape, np.float32)
    mask[rng.random(shape) < 0.3] = HIDDEN
    mask[..., 70:] = HIDDEN
    check(*tensors(2, 5, 90, 6, 3, 32), mask)


def test_large_negative_values_hide():
    q, k, v = tensors(1, 4, 50, 2, 1, 16)
    hidden = causal(4, 50, 9)
    finite = np.where(np.isinf(hidden), np.finfo(np.float32).min, hidden).astype(np.float32)
    assert np.array_equal(check(q, k, v, hidden), check(q, k, v, finite))
    rows = finite.copy()
    rows[2] = np.finfo(np.float32).min  # a row that sees nothing: the mean of all values
    model = graphs.composite(ATTENTION, {"scale": 0.125}, [q.shape, k.shape, v.shape, rows.shape], q.shape)
    out = run(model, [q, k, v, rows], delegate())
    assert np.abs(out[0, 2] - v[0].mean(axis=0)).max() <= 1e-5


def test_no_mask():
    check(*tensors(2, 7, 33, 4, 2, 24), None)


@pytest.mark.parametrize("cap", [1, 20.5, 50])
def test_logit_cap(cap):
    check(*tensors(1, 6, 40, 4, 2, 64), causal(6, 40, 30), {"scale": 0.5, "logit_cap": cap})


def test_decode_costs_what_is_used():
    """A cache of 16,384 slots with few in use is read as far as it is used."""
    q, k, v = tensors(1, 1, 16384, 32, 4, 64)
    times = {}
    for last in (15, 16383):
        mask = causal(1, 16384, last)
        model = graphs.composite(
            ATTENTION, {"scale": 0.125}, [q.shape, k.shape, v.shape, mask.shape], q.shape
        )
        it = interpreter(model, delegate(threads=1))
        for detail, value in zip(it.get_input_details(), [q, k, v, mask], strict=True):
            it.set_tensor(detail["index"], value)
        times[last] = min(timed(it.invoke) for _ in range(5))
    assert times[15] < times[16383] / 5


@pytest.mark.parametrize("queries, keys", [(1, 300), (70, 700), (1, 5000)])
def test_threads_have_the_same_bits(queries, keys):
    """Of attentions that one thread computes, and of those large enough for all."""
    q, k, v = tensors(1, queries, keys, 8, 2, 64)
    mask = causal(queries, keys, keys - queries)[None, None]
    wanted = check(q, k, v, mask, threads=1)
    for threads in (2, 5):
        assert np.array_equal(check(q, k, v, mask, threads=threads), wanted)


def timed(call):
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def left(model, tmp_path):
    """What the report says of a model that LiteRT computes; its decomposition doubles the input.

    XNNPACK is left out, for it takes attentions by rules of its own.
    """
    path = tmp_path / "report.txt"
    it = interpreter(model, delegate(report=path), xnnpack=False)
    details = it.get_input_details()
    x = np.ones(details[0]["shape"], details[0]["dtype"])
    it.set_tensor(details[0]["index"], x)
    it.invoke()
    assert np.array_equal(it.get_tensor(it.get_output_details()[0]["index"]), 2 * x)
    return path.read_text()


Q, K = (1, 4, 6, 16), (1, 20, 3, 16)


@pytest.mark.parametrize(
    "attributes, shapes, reason",
    [
        ({}, [Q, K, K], "no attribute scale"),
        ({"scale": 0.1, "window": 5}, [Q, K, K], "attribute window"),
        ({"scale": "wide"}, [Q, K, K], "no number"),
        ({"scale": 1e30}, [Q, K, K], "scale"),
        ({"scale": 0.1}, [Q, K], "2 inputs"),
        ({"scale": 0.1}, [Q, K, (1, 20, 3, 8)], "out"),
        ({"scale": 0.1}, [Q, (1, 20, 4, 16), (1, 20, 4, 16)], "heads"),
        ({"scale": 0.1}, [Q, K, (1, 21, 3, 16)], "kv.v"),
        ({"scale": 0.1}, [Q, (2, 20, 3, 16), (2, 20, 3, 16)], "kv.k"),
        ({"scale": 0.1}, [(4, 6, 16), K, K], "four dimensions"),
        ({"scale": 0.1}, [Q, K, K, (1, 1, 4, 19)], "mask"),
        ({"scale": 0.1}, [Q, K, K, (1, 1, 4, 1)], "mask"),
        ({"scale": 0.1}, [(1, 4, 6, 300), (1, 20, 3, 300), (1, 20, 3, 300)], "300"),
    ],
)
def test_left_to_litert(attributes, shapes, reason, tmp_path):
    model = graphs.composite(ATTENTION, attributes, shapes, shapes[0])
    report = left(model, tmp_path)
    assert "node 0 is left to LiteRT" in report and reason in report
    assert "claimed 0 of odml.scaled" in report


def test_damaged_attributes(tmp_path):
    data = bytearray(graphs.composite(ATTENTION, {"scale": 0.1}, [Q, K, K], Q))
    assert data.count(b"scale\0") == 1
    data[data.index(b"scale\0") + 5] = 0xFF
    assert "left to LiteRT" in left(bytes(data), tmp_path)


def test_other_types(tmp_path):
    model = graphs.composite(ATTENTION, {"scale": 0.1}, [Q, K, K], Q, schema.TensorType.INT32)
    assert "is not of f32" in left(model, tmp_path)


def test_other_composites(tmp_path):
    report = left(graphs.composite("odml.gelu", {}, [Q], Q), tmp_path)
    assert "claimed 0 of odml.scaled" in report and "left to" not in report


def norm(x, w, epsilon):
    x = x.astype(np.float64)
    return x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + epsilon) * w


@pytest.mark.parametrize("shape", [(1, 1, 64), (1, 17, 100), (3, 5, 2, 33), (2048,)])
def test_rms_norm(shape, tmp_path):
    rng = np.random.default_rng(5)
    x, w = rng.standard_normal(shape, np.float32), rng.standard_normal(shape[-1:], np.float32)
    model = graphs.composite("odml.rms_norm", {"epsilon": 1e-5}, [shape, w.shape], shape)
    out = run(model, [x, w], delegate())
    assert np.abs(out - norm(x, w, 1e-5)).max() <= 1e-5
    path = tmp_path / "report.txt"
    assert np.array_equal(run(model, [x, w], delegate(rms_norm=0, report=path)), 2 * x)
    assert "the option rms_norm is 0" in path.read_text()


@pytest.mark.parametrize(
    "attributes, shapes, reason",
    [
        ({}, [(4, 8), (8,)], "no attribute epsilon"),
        ({"epsilon": 1e-5, "axis": 1}, [(4, 8), (8,)], "attribute axis"),
        ({"epsilon": 1e-5}, [(4, 8), (1, 8)], "weights [n]"),
        ({"epsilon": 1e-5}, [(4, 8), (9,)], "weights [n]"),
        ({"epsilon": 1e-5}, [(4, 8)], "1 inputs"),
    ],
)
def test_rms_norm_left_to_litert(attributes, shapes, reason, tmp_path):
    report = left(graphs.composite("odml.rms_norm", attributes, shapes, shapes[0]), tmp_path)
    assert "node 0 is left to LiteRT" in report and reason in report


def test_resized_inputs():
    """The shapes of a graph may change between its runs."""
    w = np.ones(8, np.float32)
    it = interpreter(graphs.composite("odml.rms_norm", {"epsilon": 0.0}, [(4, 8), (8,)], (4, 8)), delegate())
    first, second = (detail["index"] for detail in it.get_input_details())
    for rows in (9, 2, 4):
        x = np.random.default_rng(rows).standard_normal((rows, 8), np.float32)
        it.resize_tensor_input(first, x.shape)
        it.allocate_tensors()
        it.set_tensor(first, x)
        it.set_tensor(second, w)
        it.invoke()
        out = it.get_tensor(it.get_output_details()[0]["index"])
        assert np.abs(out - norm(x, w, 0)).max() <= 1e-5
