"""PyTorch: the operator torch.ops.exactflash.attention, and scaled_dot_product_attention by it.

    import exactflash.torch

    with exactflash.torch.sdpa():      # F.scaled_dot_product_attention on CPU tensors
        model(inputs)

Tensors are read where they lie. The operator has a fake implementation: torch.compile takes it without
a graph break. It has no gradient: where one is wanted, sdpa() leaves the call to PyTorch.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from ctypes import byref
from typing import Any

import torch
import torch.nn.functional as F

from exactflash import _abi, _arrays, _context, _masks
from exactflash._attention import Call, run_unchecked
from exactflash._attention import attention as _attention
from exactflash._context import Context
from exactflash._errors import ShapeError, UnsupportedError

_HALVES = (torch.float16, torch.bfloat16)


_SCHEMA = (
    "attention(Tensor q, Tensor k, Tensor v, Tensor? mask=None, bool causal=False, float scale=0., "
    "float soft_cap=0., SymInt window=0, Tensor? sinks=None) -> Tensor"
)


class _Plan(Call):
    """A call that is made again and again, with other addresses and, token after token, other keys. Its
    result is [batch, q_len, q_heads, d_v]."""

    def __init__(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, options: dict[str, Any], context: Context
    ) -> None:  # fmt: skip
        super().__init__(q, k, v, "bhsd", None)
        for name, value in options.items():
            setattr(self.desc, name, value)
        batch, heads, rows, _ = q.shape
        self.shape = batch, rows, heads, v.shape[-1]
        out = torch.empty(self.shape, dtype=torch.float32)
        self.strides = out.stride()
        self.set_results(out.transpose(1, 2), False)
        self.causal = bool(options["causal"])
        self.views = self.desc.q, self.desc.kv.k, self.desc.kv.v, self.desc.out
        self.keys: Any = None  # that it is fit for
        self.context, self.handle = context, context._handle.pointer
        self.error = _abi.Error()
        self.told = byref(self.error)
        del self.like, self.q, self.k, self.v  # nobody's memory is kept

    def _fit(self, keys: Any) -> None:
        """Makes it one for other keys: see _planned()."""
        self.keys = None
        shapes = (keys[0], keys[1], self.views[1]), (keys[2], keys[3], self.views[2])
        for shape, stride, view in shapes:
            if len(shape) != 4:
                raise ShapeError(f"k, v: have {len(keys[0])} and {len(keys[2])} dimensions, not 4")
            size = _arrays.item_size(view.type)
            dense = 1 if shape[3] == 1 or 0 in shape else stride[3]
            view.shape[:] = shape[0], shape[2], shape[1], shape[3]
            view.stride[:] = stride[0] * size, stride[2] * size, stride[1] * size, dense * size
        positions: _masks.Pattern | None = keys[4]
        if positions or self.keep:
            desc, kv = self.desc, self.desc.kv
            desc.q_first = kv.kv_begin = kv.kv_len = None
            self.keep.clear()
        if positions:
            self.set_positions(desc, q_first=positions.q_first)
            self.set_positions(kv, kv_begin=positions.kv_begin, kv_len=positions.kv_len)
        elif self.causal:
            self.set_positions(self.desc, q_first=0)
        self.keys = keys

    def again(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, keys: Any) -> torch.Tensor:
        """The same with other tensors; all but what `keys` tells of them is as it was."""
        out = torch.empty_strided(self.shape, self.strides, dtype=torch.float32)
        views = self.views
        views[0].data, views[1].data = q.data_ptr(), k.data_ptr()
        views[2].data, views[3].data = v.data_ptr(), out.data_ptr()
        if self.keys != keys:
            self._fit(keys)
        space = _arrays.workspace(self.size.value)
        if run_unchecked(self.handle, self.reference, space, self.size, self.told):
            self.prepare(self.context)  # the workspace may be too small for these keys
            self.run()
        return out


class _Plans(threading.local):
    def __init__(self) -> None:
        self.known: dict[Any, _Plan] = {}


_plans = _Plans()
_PLANS_MAX = 256


def _planned(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, causal: bool, scale: float, soft_cap: float,
    window: int, positions: _masks.Pattern | None,
) -> torch.Tensor:  # fmt: skip
    """Attention without arrays beside q, k and v, of four dimensions."""
    keys = k.shape, k.stride(), v.shape, v.stride(), positions
    key = (
        q.shape, q.stride(), keys[2][-1], q.dtype, k.dtype, v.dtype, causal, scale, soft_cap, window,
    )  # fmt: skip
    plan = _plans.known.get(key)
    if plan is None or plan.context is not _context._default:
        options = {"causal": int(causal), "scale": scale, "soft_cap": soft_cap, "window": window}
        plan = _Plan(q, k, v, options, _context.default_context())
        if len(_plans.known) >= _PLANS_MAX:
            _plans.known.clear()
        _plans.known[key] = plan
    return plan.again(q, k, v, keys)


def _pattern(mask: torch.Tensor, shape: tuple[int, ...], window: int) -> _masks.Pattern | None:
    """What a boolean mask that is the same for all heads means. shape: [batch, heads, q_len, keys]."""
    wide = mask.expand(shape)
    if mask.dtype is not torch.bool or (shape[1] > 1 and wide.stride(1) != 0):
        return None
    return _masks.read(wide[:, 0].numpy(), window)


def _on_cpu(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None = None,
    causal: bool = False, scale: float = 0.0, soft_cap: float = 0.0, window: int = 0,
    sinks: torch.Tensor | None = None,
) -> torch.Tensor:  # fmt: skip
    kind = q.dtype
    if kind is not torch.float32 and kind in _HALVES:
        q = q.float()
    if mask is not None and not causal:
        pattern = _pattern(mask, (q.shape[0], q.shape[1], q.shape[2], k.shape[2]), window)
        if pattern is not None:
            mask, causal, window = None, pattern.causal, pattern.window
        else:
            window = 0  # the mask has it
    else:
        pattern = None
    if mask is None and sinks is None and q.dim() == 4:
        out = _planned(q, k, v, causal, scale, soft_cap, window, pattern)
    else:
        places = pattern._asdict() if pattern else {"causal": causal, "window": window}
        if causal and not pattern:
            places["q_first"] = 0
        if mask is not None and mask.dtype in _HALVES:
            mask = mask.float()
        out = _attention(
            q, k, v, mask=mask, scale=scale, soft_cap=soft_cap, sinks=sinks, layout="bhsd", **places
        ).transpose(1, 2)
    return out if kind is torch.float32 else out.to(kind)


def _fake(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None = None,
    causal: bool = False, scale: float = 0.0, soft_cap: float = 0.0, window: int = 0,
    sinks: torch.Tensor | None = None,
) -> torch.Tensor:  # fmt: skip
    if not q.device == k.device == v.device:
        raise UnsupportedError(f"q, k, v: on {q.device}, {k.device}, {v.device}; CPU tensors are wanted")
    batch, heads, rows, _ = q.shape
    return q.new_empty((batch, rows, heads, v.shape[3]))


# Not torch.library.custom_op, whose checks take longer than attention to a few keys.
_library: Any = torch.library.Library("exactflash", "DEF")  # type: ignore[no-untyped-call]
_library.define(_SCHEMA, tags=(torch.Tag.needs_exact_strides, torch.Tag.pt2_compliant_tag))
_library.impl("attention", _on_cpu, "CPU")
torch.library.register_fake("exactflash::attention", _fake, lib=_library)
operator = torch.ops.exactflash.attention.default  # attention() but for the result's order

try:
    from torch._C import _get_tracing_state, _is_torch_function_mode_enabled, _len_torch_dispatch_stack
    from torch._C._functorch import peek_interpreter_stack
    from torch._C._autograd import _profiler_enabled
    from torch.autograd import forward_ad

    forward_ad._current_level  # noqa: B018
    _TELLS = True
except (ImportError, AttributeError):  # a PyTorch whose modes are told in another way
    _TELLS = False


def _is_watched() -> bool:
    """Whether PyTorch has more to do in a call than the operator on the CPU: compiling, tracing,
    transforming, or showing it to a mode or the profiler."""
    return (
        torch.compiler.is_compiling()
        or not _TELLS
        or _len_torch_dispatch_stack() > 0
        or _is_torch_function_mode_enabled()
        or peek_interpreter_stack() is not None
        or _get_tracing_state() is not None
        or forward_ad._current_level >= 0
        or _profiler_enabled()
    )


def _is_plain(x: torch.Tensor) -> bool:
    """Whether x is numbers on the CPU, and no more."""
    return type(x) is torch.Tensor and x.is_cpu and not (x.requires_grad or x.is_neg())


def dispatch(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None, causal: bool,
    scale: float, soft_cap: float, window: int, sinks: torch.Tensor | None,
) -> torch.Tensor:  # fmt: skip
    """The operator. PyTorch's dispatcher takes as long as attention to 16 keys: it is asked where it
    could do something."""
    plain = not _is_watched() and _is_plain(q) and _is_plain(k) and _is_plain(v)
    if plain and (mask is None or _is_plain(mask)) and (sinks is None or _is_plain(sinks)):
        return _on_cpu(q, k, v, mask, causal, scale, soft_cap, window, sinks)
    result: torch.Tensor = operator(q, k, v, mask, causal, scale, soft_cap, window, sinks)
    return result


def attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None = None,
    causal: bool = False, scale: float = 0.0, soft_cap: float = 0.0, window: int = 0,
    sinks: torch.Tensor | None = None,
) -> torch.Tensor:  # fmt: skip
    """Attention on CPU tensors by the operator: [batch, q_heads, q_len, d_v], of q's type, a view of what
    the operator gives, [batch, q_len, q_heads, d_v].

    q: [batch, q_heads, q_len, d_k], k: [batch, kv_heads, keys, d_k], v: [batch, kv_heads, keys, d_v],
    f32, f16 or bf16 (computed in f32; 16-bit queries are widened first); q_heads is a multiple of
    kv_heads. causal: query i sees the keys up to index i, as scaled_dot_product_attention has it.
    mask: bool (False hides) or f32 (is added), broadcast to [batch, q_heads, q_len, keys].
    window > 0: only keys at a distance < window; with a mask it is a hint what window the mask has,
    which keeps the bits where a mask cannot tell where its sequence begins. scale 0: 1 / sqrt(d_k).
    sinks: f32 [q_heads]. No gradient.
    """
    return dispatch(q, k, v, mask, causal, scale, soft_cap, window, sinks).transpose(1, 2)


def _fits(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None) -> bool:
    """Whether the operator can do a call of scaled_dot_product_attention."""
    tensors = [q, k, v] if mask is None else [q, k, v, mask]
    if any(x.device.type != "cpu" or type(x) is not torch.Tensor for x in tensors):
        return False
    if torch.is_grad_enabled() and any(x.requires_grad for x in tensors):
        return False
    if q.dtype not in (torch.float32, *_HALVES) or k.dtype != q.dtype or v.dtype != q.dtype:
        return False
    if mask is not None and mask.dtype not in (torch.bool, torch.float32, *_HALVES):
        return False
    if any(x.dim() != q.dim() or x.stride(-1) != 1 for x in (q, k, v)) or q.dim() not in (3, 4):
        return False
    return max(q.shape[-1], v.shape[-1]) <= 256 and min(x.numel() for x in (q, k, v)) > 0


_original = F.scaled_dot_product_attention


def scaled_dot_product_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor,
    attn_mask: torch.Tensor | None = None, dropout_p: float = 0.0, is_causal: bool = False,
    scale: float | None = None, enable_gqa: bool = False,
) -> torch.Tensor:  # fmt: skip
    """torch.nn.functional.scaled_dot_product_attention, by exactflash where it can: CPU, three or four
    dimensions with a dense last one of at most 256, f32 or 16 bits, no dropout, no gradient. Else
    PyTorch does it. Rows that see no key give zeros."""
    fits = dropout_p == 0.0 and _fits(query, key, value, attn_mask)
    same = query.shape[-3] == key.shape[-3] if fits else False
    if not fits or not (same or enable_gqa) or query.shape[:-3] != key.shape[:-3]:
        return _original(
            query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa
        )
    if query.dim() == 3:
        query, key, value = query[None], key[None], value[None]
        out = attention(query, key, value, attn_mask, is_causal, scale or 0.0)
        return out[0]
    return attention(query, key, value, attn_mask, is_causal, scale or 0.0)


_lock = threading.Lock()
_entered = 0


@contextlib.contextmanager
def sdpa() -> Iterator[None]:
    """Within it, torch.nn.functional.scaled_dot_product_attention is exactflash's, in all threads. A
    function that was imported by its name before stays PyTorch's."""
    global _entered
    with _lock:
        _entered += 1
        F.scaled_dot_product_attention = scaled_dot_product_attention
    try:
        yield
    finally:
        with _lock:
            _entered -= 1
            if not _entered:
                F.scaled_dot_product_attention = _original
