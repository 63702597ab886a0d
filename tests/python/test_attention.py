"""exactflash.attention: against double precision, for any shapes and strides, and without copies."""

import resource

import ml_dtypes
import numpy as np
import oracle
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import exactflash


def random(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


@st.composite
def problems(draw):
    """q, k, v and the options, of any shape."""
    batch, kv_heads, group = draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(st.integers(1, 3))
    rows, keys = draw(st.integers(1, 40)), draw(st.integers(1, 600))
    d_k, d_v = draw(st.integers(1, 80)), draw(st.integers(1, 80))
    seed, heads = draw(st.integers(0, 1000)), kv_heads * group
    options = {"causal": draw(st.booleans()), "window": draw(st.sampled_from([0, 1, 7, 300]))}
    if draw(st.booleans()):
        options["soft_cap"] = draw(st.sampled_from([0.5, 30.0]))
    if draw(st.booleans()):
        options["scale"] = draw(st.sampled_from([0.01, 1.0, -0.3]))
    if draw(st.booleans()):
        options["sinks"] = random(seed + 1, heads)
    if draw(st.booleans()):
        options["alibi_slopes"] = random(seed + 2, heads)
    kind = draw(st.sampled_from([None, "bool", "f32"]))
    shape = draw(st.sampled_from([(batch, 1, rows, keys), (1, heads, 1, keys), (rows, keys), (keys,)]))
    if kind == "bool":
        options["mask"] = random(seed + 3, *shape) > -0.5
    elif kind == "f32":
        options["mask"] = random(seed + 3, *shape)
    q = random(seed + 4, batch, rows, heads, d_k)
    return q, random(seed + 5, batch, keys, kv_heads, d_k), random(seed + 6, batch, keys, kv_heads, d_v), options


@given(problems())
def test_any_problem(problem):
    q, k, v, options = problem
    out, lse = exactflash.attention(q, k, v, return_lse=True, **options)
    want, want_lse = oracle.attention(q, k, v, **options)
    assert out.dtype == lse.dtype == np.float32
    np.testing.assert_allclose(out, want, rtol=0, atol=2e-5 * max(1.0, np.abs(v).max()))
    np.testing.assert_allclose(lse, want_lse, rtol=2e-5, atol=2e-5)


@given(st.permutations(range(4)), st.integers(1, 3), st.booleans(), st.integers(0, 99))
def test_any_strides(order, step, backwards, seed):
    """Bits do not depend on how an array lies in memory."""
    plain = random(seed, 2, 20, 4, 16)
    want = exactflash.attention(plain, plain, plain, causal=True)
    # The last dimension must be dense, the others may come in any order, with gaps, backwards.
    axes = [axis for axis in order if axis != 3]
    big = np.zeros([plain.shape[a] * step for a in axes] + [16], np.float32)
    inner = big[tuple(slice(None, None, step) for _ in axes)]
    strange = inner.transpose([axes.index(0), axes.index(1), axes.index(2), 3])
    if backwards:
        strange = strange[:, ::-1]
    strange[...] = plain
    out = np.zeros_like(big)[tuple(slice(None, None, step) for _ in axes)]
    out = out.transpose([axes.index(0), axes.index(1), axes.index(2), 3])
    given_back = exactflash.attention(strange, strange, strange, causal=True, out=out)
    assert given_back is out
    assert np.array_equal(out, want)


@given(st.integers(1, 30), st.integers(1, 60), st.integers(0, 99))
def test_layouts_and_kinds(rows, keys, seed):
    """NumPy and torch, [sequence, heads] and [heads, sequence], with and without a batch: the same bits."""
    q, k, v = random(seed, 1, rows, 4, 24), random(seed + 1, 1, keys, 2, 24), random(seed + 2, 1, keys, 2, 40)
    want, want_lse = exactflash.attention(q, k, v, return_lse=True)
    tensors = [torch.from_numpy(x) for x in (q, k, v)]
    out, lse = exactflash.attention(*tensors, return_lse=True)
    assert isinstance(out, torch.Tensor) and np.array_equal(out.numpy(), want)
    swapped = [x.transpose(1, 2) for x in tensors]
    out, lse = exactflash.attention(*swapped, layout="bhsd", return_lse=True)
    assert np.array_equal(out.transpose(1, 2).numpy(), want)
    assert np.array_equal(lse.transpose(1, 2).numpy(), want_lse)
    out, lse = exactflash.attention(q[0], k[0], v[0], return_lse=True)
    assert np.array_equal(out, want[0]) and np.array_equal(lse, want_lse[0])


class OnlyDlpack:
    """An array of a library that only speaks DLPack."""

    def __init__(self, x):
        self.x = x
        self.shape = x.shape

    def __dlpack__(self, **options):
        return self.x.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.x.__dlpack_device__()


def test_dlpack_and_buffers():
    q = random(1, 1, 5, 2, 16)
    want = exactflash.attention(q, q, q)
    assert np.array_equal(exactflash.attention(OnlyDlpack(q), OnlyDlpack(q), OnlyDlpack(q)), want)
    view = memoryview(q)
    assert np.array_equal(exactflash.attention(view, view, view), want)


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
def test_nothing_is_copied(kind):
    """K of 2^20 keys, a gibibyte if it were copied: the memory of all of them is that of one."""
    one = random(1, 1, 1, 4, 64)
    keys = np.broadcast_to(one, (1, 1 << 20, 4, 64)).view()
    keys.flags.writeable = True
    q, k = kind(random(2, 1, 1, 4, 64)), kind(keys)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    out = exactflash.attention(q, k, k, kv_len=8)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB
    assert np.abs(np.asarray(out) - one).max() < 1e-6


@pytest.mark.parametrize("kind", ["float16", "bfloat16", "int8"])
def test_element_types(kind):
    """16-bit and 8-bit K and V are what their values are in f32, to the bit."""
    q, x = random(1, 2, 7, 4, 32), random(2, 2, 50, 2, 32)
    if kind == "int8":
        scale = np.abs(random(3, 2, 50, 2)) / 50
        small = np.random.default_rng(4).integers(-127, 128, x.shape, np.int8)
        wide = small.astype(np.float32) * scale[..., None]
        out = exactflash.attention(q, small, small, k_scale=scale, v_scale=scale)
    else:
        small = x.astype(ml_dtypes.bfloat16 if kind == "bfloat16" else np.float16)
        wide = small.astype(np.float32)
        out = exactflash.attention(q, small, small)
        tensor = torch.from_numpy(x).to(getattr(torch, kind))
        again = exactflash.attention(torch.from_numpy(q), tensor, tensor)
        assert np.array_equal(again.numpy(), out)
    assert np.array_equal(out, exactflash.attention(q, wide, wide))


def test_pages():
    """Keys in pages, in any order, give the bits of keys in a row."""
    q, k, v = random(1, 2, 3, 4, 16), random(2, 2, 40, 2, 16), random(3, 2, 40, 2, 16)
    lens, table = [40, 33], np.array([[5, 0, 3, 7, 1], [2, 8, 4, 6, 9]])
    pools = [np.full((10, 8, 2, 16), np.nan, np.float32) for _ in range(2)]
    for pool, x in zip(pools, (k, v), strict=True):
        for sequence in range(2):
            for place in range(5):
                pool[table[sequence, place]] = x[sequence, 8 * place : 8 * place + 8]
    out = exactflash.attention(q, *pools, page_table=table, kv_len=lens, causal=True)
    assert np.array_equal(out, exactflash.attention(q, k, v, kv_len=lens, causal=True))


def test_positions():
    """q_first, q_lens, kv_begin, kv_len: what they leave out may be anything."""
    q, k = random(1, 2, 6, 2, 16), random(2, 2, 30, 2, 16)
    k[0, :5] = k[0, 25:] = k[1, 12:] = np.nan
    out = np.full_like(q, 7)
    exactflash.attention(
        q, k, k, out=out, causal=True, q_lens=[6, 2], kv_begin=[5, 0], kv_len=[25, 12], q_first=[3, 1]
    )
    first = exactflash.attention(q[0], k[0, 5:25], k[0, 5:25], causal=True, q_first=3)
    second = exactflash.attention(q[1, :2], k[1, :12], k[1, :12], causal=True, q_first=1)
    assert np.array_equal(out[0], first) and np.array_equal(out[1, :2], second)
    assert (out[1, 2:] == 7).all()


def test_empty():
    q = random(1, 1, 3, 2, 16)
    none = np.zeros((1, 0, 2, 16), np.float32)
    out, lse = exactflash.attention(q, none, none, return_lse=True)
    assert (out == 0).all() and np.isneginf(lse).all()
    nothing = torch.zeros(1, 0, 2, 16)
    assert (exactflash.attention(torch.from_numpy(q), nothing, nothing) == 0).all()


def test_one_column():
    """A last dimension of 1 is dense, whatever its stride."""
    x = random(1, 1, 5, 2, 16)
    want = exactflash.attention(x[..., :1].copy(), x[..., :1].copy(), x[..., :1].copy())
    strange = x[..., ::4][..., :1]
    assert np.array_equal(exactflash.attention(strange, strange, strange), want)


def test_numbers_for_each_head():
    """Slopes and sinks of any float type, of tensors that require grad, and of lists."""
    x, numbers = random(1, 1, 5, 4, 16), [0.5, 0.25, -1.0, 2.0]
    want = exactflash.attention(x, x, x, sinks=np.array(numbers, np.float32))
    tensor = torch.tensor(numbers, requires_grad=True)
    for each in (numbers, tensor, tensor.bfloat16(), tensor.detach().half(), np.array(numbers)):
        assert np.array_equal(exactflash.attention(x, x, x, sinks=each), want)


Q = np.zeros((1, 3, 4, 16), np.float32)
BAD = [
    (dict(q=Q.astype(np.float64)), exactflash.UnsupportedError, "q: element type float64"),
    (dict(q=Q.astype(">f4")), exactflash.UnsupportedError, "q: element type"),
    (dict(q=Q.astype(np.float16)), exactflash.UnsupportedError, "q"),
    (dict(q=Q[0, 0]), exactflash.ShapeError, "q: has 2 dimensions"),
    (dict(k=Q[..., :8]), exactflash.ShapeError, "kv.k"),
    (dict(k=Q[:, :, :3], v=Q[:, :, :3]), exactflash.ShapeError, "heads"),
    (dict(q=Q[..., ::2], k=Q[..., :8], v=Q), exactflash.UnsupportedError, "q"),
    (dict(mask=np.zeros((2, 3), bool)), exactflash.ShapeError, "mask"),
    (dict(mask=np.zeros((3, 3), np.int8)), exactflash.UnsupportedError, "mask"),
    (dict(sinks=np.zeros(3)), exactflash.ShapeError, r"sinks: has shape \[3\], not \[4\]"),
    (dict(sinks=["a"] * 4), exactflash.ArgumentError, "sinks: numbers are wanted"),
    (dict(sinks=np.zeros(4, complex)), exactflash.ArgumentError, "sinks: numbers are wanted: not complex128"),
    (dict(sinks=torch.zeros(4, device="meta")), exactflash.UnsupportedError, "sinks: .* on meta"),
    (dict(window=-1), exactflash.ArgumentError, "window"),
    (dict(scale=float("nan")), exactflash.ArgumentError, "scale"),
    (dict(kv_len=9), exactflash.Error, "kv_len"),
    (dict(kv_len=[1, 2]), exactflash.ShapeError, "kv_len"),
    (dict(layout="sbhd"), exactflash.ArgumentError, "layout: 'sbhd'; one of bshd, bhsd"),
    (dict(out=np.zeros((1, 3, 4, 8), np.float32)), exactflash.ShapeError, "out"),
    (dict(out=Q), exactflash.ArgumentError, "out"),
    (dict(page_table=np.zeros((1, 1), int)), exactflash.ArgumentError, "kv_len"),
]


@pytest.mark.parametrize("number", range(len(BAD)))
def test_errors(number):
    """A bad argument is an exception that names it, with the C library's message."""
    arguments, kind, message = BAD[number]
    with pytest.raises(kind, match=message) as raised:
        exactflash.attention(**{"q": Q, "k": Q, "v": Q, **arguments})
    assert raised.value.status == kind.status or kind is exactflash.Error
