"""quantize and dequantize against a reader of GGUF's blocks in NumPy, and linear layers of such weights."""

import ml_dtypes
import numpy as np
import pytest
import torch
from conftest import fixture_folder
from hypothesis import given
from hypothesis import strategies as st

import exactflash
from exactflash import _checkpoint, _ggml, _gguf

GGML = {kind.name.lower(): kind for kind in _ggml.TYPES.values()}
MADE = ("q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "q4_k", "q5_k", "q6_k", "i8_row", "f16", "bf16", "f32")
BLOCKS = {kind: 256 if kind.endswith("k") else 32 for kind in MADE[:8]}
# Greatest errors, as a share of the greatest weight of a row.
BOUNDS = {"q8_0": 0.5 / 127 * 1.01, "i8_row": 0.5 / 127 * 1.01, "q6_k": 0.06, "q4_k": 0.2, "q4_0": 0.2, "q4_1": 0.2,
          "q5_k": 0.1, "q5_0": 0.1, "q5_1": 0.1, "f16": 2**-11, "bf16": 2**-8, "f32": 0}  # fmt: skip


def random(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def widened(weights):
    """What docs/numerics.md makes of the bytes."""
    if weights.type == "i8_row":
        return weights.data.view(np.int8).astype(np.float32) * weights.scales[:, None]
    kind = GGML[weights.type]
    return kind.widen(weights.data.reshape(-1, kind.bytes)).reshape(weights.shape)


def same(a, b):
    return a.shape == b.shape and a.tobytes() == b.tobytes()


@pytest.mark.parametrize("kind", MADE)
@given(n=st.integers(1, 20), blocks=st.integers(1, 3), size=st.integers(-6, 12), seed=st.integers(0, 99))
def test_round_trip(kind, n, blocks, size, seed):
    x = random(seed, n, BLOCKS.get(kind, 37) * blocks) * np.float32(2.0**size)
    weights = exactflash.quantize(x, kind)
    assert weights.type == kind and weights.shape == x.shape
    back = exactflash.dequantize(weights)
    assert same(back, widened(weights))
    assert (np.abs(back - x).max(1) <= BOUNDS[kind] * np.abs(x).max(1)).all()


def test_known_bytes():
    """One block by hand: the greatest is 127 steps of its scale."""
    x = np.arange(-16, 16, dtype=np.float32)[None] * 127 / 16
    made = exactflash.quantize(x, "q8_0")
    assert made.data[0, :2].view(np.float16)[0] == 1 and made.nbytes == 34
    assert np.array_equal(made.data[0, 2:].view(np.int8), np.rint(x[0]))
    row = exactflash.quantize(x * 2, "i8_row")
    assert row.scales.tolist() == [2] and np.array_equal(row.data[0].view(np.int8), np.rint(x[0]))


@pytest.mark.parametrize("kind", MADE)
def test_the_same_bytes_everywhere(kind):
    x = random(3, 50, 512)
    want = exactflash.quantize(x, kind)
    for context in [exactflash.Context(threads=3), *(exactflash.Context(isa=isa) for isa in exactflash.isas())]:
        got = exactflash.quantize(x, kind, context=context)
        assert same(got.data, want.data) and (want.scales is None or same(got.scales, want.scales))
        assert same(exactflash.dequantize(got, context=context), exactflash.dequantize(want))


def test_arrays_of_others():
    """Tensors, other float types and views that are not dense."""
    x = random(4, 6, 64)
    want = exactflash.quantize(x).data
    tensor = torch.from_numpy(x)
    for given_x in (tensor, tensor.clone().requires_grad_(), tensor.double(), x.astype(np.float64),
                    np.asfortranarray(x), np.repeat(x, 2, axis=1)[:, ::2], x.tolist()):  # fmt: skip
        assert same(exactflash.quantize(given_x).data, want)
    narrow = tensor.bfloat16()
    halves = exactflash.quantize(narrow, "bf16")
    assert same(halves.data, narrow.view(torch.uint8).numpy())
    assert same(halves.data, exactflash.quantize(x.astype(ml_dtypes.bfloat16), "bf16").data)
    out = torch.empty(6, 64)
    assert exactflash.dequantize(halves, out=out) is out and torch.equal(out, narrow.float())


@pytest.mark.parametrize("kind", MADE)
@pytest.mark.parametrize("activations", ["int8", "f32"])
def test_linear(kind, activations):
    """f32 activations: the bits of the dequantized weights' layer; int8 ones come near."""
    x, weights = random(5, 7, 512), exactflash.quantize(random(6, 40, 512), kind)
    layer = exactflash.Linear(weights, activations=activations)
    assert layer.shape == (40, 512)
    got, want = layer(x), exactflash.linear(x, exactflash.dequantize(weights))
    floats = activations == "f32" or kind in ("f32", "f16", "bf16")
    assert same(got, want) if floats else 0 < np.abs(got - want).max() < 0.02 * np.abs(want).max() + 0.5
    assert same(exactflash.linear(x, weights, activations=activations), got)
    assert same(layer(x[2]), got[2])
    strided = np.zeros((40, weights.data.shape[1] + 8), np.uint8)
    strided[:, : weights.data.shape[1]] = weights.data
    view = exactflash.Quantized(kind, strided[:, : weights.data.shape[1]], weights.scales)
    assert same(exactflash.Linear(view, activations=activations)(x), got)
    assert same(exactflash.dequantize(view), exactflash.dequantize(weights))


@pytest.mark.parametrize("name", ["Q4_0", "Q4_1", "Q5_0", "Q8_0", "Q4_K", "Q5_K", "Q6_K", "F16"])
def test_tensors_of_gguf(name):
    """The bytes of a file's tensor are weights."""
    path = fixture_folder("gguf") / f"tl-mini-{name}.gguf"
    _, entries = _gguf.read(path)
    entry = next(each for each in entries if each.name == "blk.0.ffn_down.weight")
    row_bytes, _ = entry.row_format()
    data = np.memmap(path, np.uint8, "r", entry.offset, (entry.shape[0], row_bytes))
    weights = exactflash.Quantized(_ggml.TYPES[entry.type].name.lower(), data)
    assert weights.shape == entry.shape
    whole = np.concatenate(list(_checkpoint.Checkpoint(path).blocks("down")))
    assert same(exactflash.dequantize(weights), whole)
    x = random(7, 3, entry.shape[1])
    assert same(exactflash.linear(x, weights, activations="f32"), exactflash.linear(x, whole))


# Where a block has its 16-bit scales.
HALVES = {"q8_0": [0], "q4_0": [0], "q4_1": [0, 2], "q5_0": [0], "q5_1": [0, 2], "q4_k": [0, 2], "q5_k": [0, 2],
          "q6_k": [208]}  # fmt: skip


@pytest.mark.parametrize("kind", HALVES)
def test_random_blocks(kind):
    """Every pattern of bits that is no scale."""
    size, generator = GGML[kind].bytes, np.random.default_rng(8)
    blocks = generator.integers(0, 256, (300, size), np.uint8)
    for at in HALVES[kind]:
        blocks[:, at : at + 2] = generator.standard_normal((300, 1)).astype(np.float16).view(np.uint8)
    weights = exactflash.Quantized(kind, blocks.reshape(100, 3 * size))
    assert weights.shape == (100, 3 * GGML[kind].elements)
    assert same(exactflash.dequantize(weights), widened(weights))


X = np.ones((2, 256), np.float32)
BYTES = np.zeros((2, 34), np.uint8)


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (lambda: exactflash.quantize(X, "q3_k"), exactflash.ArgumentError, "type: 'q3_k'; one of f32, f16"),
        (lambda: exactflash.quantize(X[:, :48]), exactflash.ShapeError, "rows of 48 weights"),
        (lambda: exactflash.quantize(X[:, :128], "q4_k"), exactflash.ShapeError, "no whole blocks of q4_k"),
        (lambda: exactflash.quantize(X[0]), exactflash.ShapeError, r"x: has shape \[256\]"),
        (lambda: exactflash.quantize(X[:0]), exactflash.ShapeError, "x: has shape"),
        (lambda: exactflash.quantize(X[:, :0]), exactflash.ShapeError, "x: has shape"),
        (lambda: exactflash.quantize(X * np.nan), exactflash.ArgumentError, "x: row 0 has a weight that is not finite"),
        (lambda: exactflash.quantize(X * 1e9, "f16"), exactflash.ArgumentError, "too large for f16"),
        (lambda: exactflash.quantize("text"), exactflash.ArgumentError, "x: numbers are wanted"),
        (lambda: exactflash.Quantized("q9", BYTES), exactflash.ArgumentError, "type: 'q9'"),
        (lambda: exactflash.Quantized("q8_0", BYTES[:, :33]), exactflash.ShapeError, "no whole blocks of q8_0"),
        (lambda: exactflash.Quantized("q8_0", BYTES[:, :0]), exactflash.ShapeError, "rows of 0 bytes"),
        (lambda: exactflash.Quantized("q8_0", BYTES[0]), exactflash.ShapeError, "data: "),
        (lambda: exactflash.Quantized("q8_0", BYTES.view(np.int8)), exactflash.ShapeError, "data: "),
        (lambda: exactflash.Quantized("q8_0", b"bytes"), exactflash.ShapeError, "data: "),
        (lambda: exactflash.Quantized("q8_0", BYTES, [1, 1]), exactflash.ArgumentError, "scales: q8_0 has none"),
        (lambda: exactflash.Quantized("i8_row", BYTES), exactflash.ArgumentError, "scales: i8_row has one for each"),
        (lambda: exactflash.Quantized("i8_row", BYTES, [1]), exactflash.ShapeError, "scales: has shape"),
        (lambda: exactflash.dequantize(exactflash.Quantized("q8_0", np.zeros((2, 68), np.uint8)[:, ::2])),
         exactflash.UnsupportedError, "its rows are not dense"),
        (lambda: exactflash.dequantize(exactflash.quantize(X), out=X[:1]), exactflash.ShapeError, "y: shape"),
        (lambda: exactflash.Linear(X, activations="int4"), exactflash.ArgumentError, "activations: 'int4'"),
    ],
)  # fmt: skip
def test_errors(call, kind, words):
    with pytest.raises(kind, match=words):
        call()
