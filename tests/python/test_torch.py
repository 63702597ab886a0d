"""The PyTorch operator, and scaled_dot_product_attention by it."""

import contextlib

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

import exactflash
import exactflash.torch
from exactflash import _masks

OPERATOR = torch.ops.exactflash.attention.default


def tensors(seed, batch, heads, kv_heads, rows, keys, dim, kind=torch.float32):
    made = torch.Generator().manual_seed(seed)
    shapes = (batch, heads, rows, dim), (batch, kv_heads, keys, dim), (batch, kv_heads, keys, dim)
    return [torch.randn(shape, generator=made).to(kind) for shape in shapes]


@pytest.mark.parametrize(
    "options",
    [
        {}, {"causal": True}, {"scale": 0.3, "soft_cap": 20.0}, {"window": 5},
        {"mask": torch.rand(2, 1, 20, 30) > 0.5}, {"mask": torch.rand(20, 30)}, {"sinks": torch.rand(8)},
    ],
)  # fmt: skip
def test_opcheck(options):
    """The schema, the fake implementation and torch.compile's use of them, as PyTorch checks them."""
    torch.library.opcheck(OPERATOR, tuple(tensors(1, 2, 8, 2, 20, 30, 64)), options)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_opcheck_of_16_bits(kind):
    torch.library.opcheck(OPERATOR, tuple(tensors(1, 1, 4, 4, 9, 9, 32, kind)), {"causal": True})


def test_compile_without_graph_breaks():
    layer = torch.nn.Linear(64, 64)

    def block(q, k, v, mask):
        return layer(exactflash.torch.attention(q * 2, k, v, mask).transpose(1, 2))

    compiled = torch.compile(block, fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        for rows in (20, 21, 35):  # more than one shape: dynamic ones too
            q, k, v = tensors(rows, 2, 4, 2, rows, rows, 64)
            mask = torch.ones(rows, rows, dtype=torch.bool).tril()
            assert torch.equal(compiled(q, k, v, mask), block(q, k, v, mask))


@given(
    st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.integers(1, 20), st.integers(1, 90),
    st.sampled_from(["none", "causal", "bool", "float", "rows"]), st.booleans(), st.integers(0, 99),
)  # fmt: skip
def test_sdpa(batch, kv_heads, group, rows, keys, kind, three, seed):
    """What PyTorch gives, within rounding, for shapes, masks and ranks of all kinds."""
    q, k, v = tensors(seed, batch, kv_heads * group, kv_heads, rows, keys, 32)
    made = torch.Generator().manual_seed(seed + 1)
    options = {"enable_gqa": True}
    if kind == "causal":
        options["is_causal"] = True
    elif kind == "bool":
        mask = torch.rand((batch, 1, rows, keys), generator=made) > 0.3
        mask[..., 0] = True  # rows that see nothing: PyTorch and exactflash may differ there
        options["attn_mask"] = mask
    elif kind == "float":
        options["attn_mask"] = torch.randn((kv_heads * group, rows, keys), generator=made)
    elif kind == "rows":
        options["attn_mask"] = torch.randn((rows, keys), generator=made)
    if three:
        q, k, v = q[0], k[0], v[0]
        if kind == "bool":
            options["attn_mask"] = options["attn_mask"][0]
    want = F.scaled_dot_product_attention(q, k, v, **options)
    with exactflash.torch.sdpa():
        out = F.scaled_dot_product_attention(q, k, v, **options)
    assert out.shape == want.shape
    torch.testing.assert_close(out, want, rtol=1e-5, atol=2e-6)


def test_sdpa_is_put_back():
    original = F.scaled_dot_product_attention
    with pytest.raises(KeyError), exactflash.torch.sdpa():
        with exactflash.torch.sdpa():
            pass
        assert F.scaled_dot_product_attention is exactflash.torch.scaled_dot_product_attention
        raise KeyError
    assert F.scaled_dot_product_attention is original


def test_calls_that_are_left_to_pytorch():
    """Gradients, dropout, double precision, heads that do not fit: PyTorch's result, and its errors."""
    q, k, v = tensors(1, 1, 4, 4, 9, 9, 32)
    with exactflash.torch.sdpa():
        x = q.clone().requires_grad_()
        F.scaled_dot_product_attention(x, k, v).sum().backward()
        assert x.grad is not None
        double = F.scaled_dot_product_attention(q.double(), k.double(), v.double())
        assert double.dtype == torch.float64
        assert F.scaled_dot_product_attention(q, k, v, dropout_p=1.0).abs().max() == 0
        strange = torch.randn(1, 4, 9, 64)[..., ::2]
        F.scaled_dot_product_attention(strange, k, v)
        with pytest.raises(RuntimeError):
            F.scaled_dot_product_attention(q, k[:, :2], v[:, :2])


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_16_bits(kind):
    """Computed in f32, rounded once at the end."""
    q, k, v = tensors(3, 2, 4, 2, 9, 33, 64, kind)
    out = exactflash.torch.attention(q, k, v, causal=False)
    wide = exactflash.torch.attention(q.float(), k.float(), v.float())
    assert out.dtype is kind and torch.equal(out, wide.to(kind))


@given(
    st.integers(1, 4), st.integers(1, 9), st.integers(1, 40), st.sampled_from([0, 1, 3, 8]), st.booleans(),
    st.integers(0, 20), st.integers(0, 10),
)  # fmt: skip
def test_patterns_mean_the_mask(batch, rows, keys, window, causal, left, right):
    """A pattern that is read from a mask hides what the mask hides, and the result is the mask's."""
    first = max(0, keys - rows - right)
    distance = torch.arange(keys) - (torch.arange(rows) + first)[:, None]
    mask = (distance <= 0) & (distance > -window if window else True) if causal else distance < keys + rows
    mask = mask.expand(batch, 1, rows, keys).clone()
    for sequence in range(batch):
        mask[sequence, :, :, : left * sequence // 2] = False
        if right:
            mask[sequence, :, :, keys - right :] = False
    if left == 0 and not window:
        assert _masks.read(mask[:, 0].numpy()) is not None
    q, k, v = tensors(1, batch, 2, 1, rows, keys, 16)
    direct = exactflash.attention(q, k, v, mask=mask, layout="bhsd")
    out = exactflash.torch.attention(q, k, v, mask, window=window)
    torch.testing.assert_close(out, direct, rtol=1e-5, atol=2e-6)


@given(st.integers(1, 3), st.integers(1, 6), st.integers(1, 12), st.integers(0, 1000))
def test_masks_without_a_pattern(batch, rows, keys, seed):
    """Whatever a mask is, the result is the mask's."""
    made = torch.Generator().manual_seed(seed)
    mask = torch.rand((batch, 1, rows, keys), generator=made) > 0.4
    q, k, v = tensors(seed, batch, 2, 1, rows, keys, 16)
    direct = exactflash.attention(q, k, v, mask=mask, layout="bhsd")
    out = exactflash.torch.attention(q, k, v, mask, window=seed % 4)
    torch.testing.assert_close(out, direct, rtol=1e-5, atol=2e-6)


# ---- with and without PyTorch's dispatcher ----


class DispatchMode(TorchDispatchMode):
    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        return function(*args, **(kwargs or {}))


class Numbers(torch.Tensor):
    """A subclass of others."""


def dual(q, k, v):
    with torch.autograd.forward_ad.dual_level():
        return exactflash.torch.attention(q, k, v)


def inside(context):
    def call(q, k, v):
        with context():
            return exactflash.torch.attention(q, k, v)

    return call


WATCHED = {
    "dispatch mode": inside(DispatchMode),
    "function mode": inside(lambda: torch.device("cpu")),
    "profiler": inside(torch.profiler.profile),
    "forward gradient": dual,
    "vmap": lambda q, k, v: torch.func.vmap(exactflash.torch.attention)(q[None], k[None], v[None])[0],
    "trace": lambda q, k, v: torch.jit.trace(exactflash.torch.attention, (q, k, v))(q, k, v),
    "gradient": lambda q, k, v: exactflash.torch.attention(q.requires_grad_(), k, v).detach(),
    "negation": lambda q, k, v: exactflash.torch.attention(torch._neg_view(-q), k, v),
    "subclass": lambda q, k, v: exactflash.torch.attention(q.as_subclass(Numbers), k, v).as_subclass(torch.Tensor),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("way", WATCHED)
def test_calls_that_pytorch_watches(way, monkeypatch):
    """Modes, transformations and tensors of other kinds meet the operator; plain calls go past it."""
    calls = []
    monkeypatch.setattr(
        exactflash.torch, "operator", lambda *arguments: calls.append(1) or OPERATOR(*arguments)
    )
    q, k, v = tensors(1, 1, 4, 2, 3, 9, 16)
    plain = exactflash.torch.attention(q, k, v)
    assert not calls
    assert torch.equal(WATCHED[way](q.clone(), k, v), plain)
    assert calls


def test_the_profiler_shows_the_operator():
    q, k, v = tensors(1, 1, 4, 2, 3, 9, 16)
    with torch.profiler.profile() as profile:
        exactflash.torch.attention(q, k, v)
    assert "exactflash::attention" in [event.key for event in profile.key_averages()]


def test_devices():
    q, k, v = tensors(1, 1, 4, 2, 3, 9, 16)
    with pytest.raises(exactflash.UnsupportedError, match="meta"):
        exactflash.torch.attention(q, k.to("meta"), v)
    with torch.device("meta"):  # where new tensors go is not where the result goes
        assert exactflash.torch.attention(q, k, v).device.type == "cpu"


def test_keys_that_grow():
    """Calls that differ in their keys alone, as decoding makes them, some masked, some in error."""
    q, k, v = tensors(2, 2, 4, 2, 1, 1100, 32)
    for keys in [1, 2, 3, 600, 15, 16, 17, 511, 512, 513, 1100, 7]:
        near = k[:, :, :keys], v[:, :, :keys]
        dense = [x.contiguous() for x in near]
        want = exactflash.attention(q, *near, layout="bhsd")
        mask = torch.ones(2, 1, 1, keys, dtype=torch.bool)
        mask[1, ..., : keys // 2] = False
        for call in (exactflash.torch.attention, OPERATOR):
            with contextlib.nullcontext() if keys % 2 else torch.inference_mode():
                outs = [call(q, *near), call(q, *dense)]
                padded = call(q, *near, mask)
                with pytest.raises(exactflash.ShapeError, match="v"):
                    call(q, k[:, :, : keys + 1], v[:, :, :keys]) if keys < 1100 else call(q, k, v[:, :1])
                outs.append(call(q, *near))
            outs = outs if call is not OPERATOR else [x.transpose(1, 2) for x in outs]
            assert all(torch.equal(out, want) for out in outs)
            half = exactflash.attention(
                q, *near, layout="bhsd", causal=True, kv_begin=[0, keys // 2], q_first=[keys - 1, keys - 1 - keys // 2]
            )
            assert torch.equal(padded if call is not OPERATOR else padded.transpose(1, 2), half)
    with pytest.raises(exactflash.ShapeError, match="dimensions"):
        exactflash.torch.attention(q, k[0], v)


def test_another_context():
    """The default context may be replaced between calls."""
    q, k, v = tensors(3, 1, 4, 2, 1, 50, 32)
    before = exactflash.default_context()
    want = exactflash.torch.attention(q, k, v)
    try:
        for isa in exactflash.isas():
            exactflash.set_default_context(exactflash.Context(isa=isa, threads=1))
            assert torch.equal(exactflash.torch.attention(q, k, v), want), isa
    finally:
        exactflash.set_default_context(before)
