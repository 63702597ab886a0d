"""Attention on arrays of the caller's."""

from ctypes import addressof, byref, c_size_t, sizeof
from typing import Any

from exactflash import _abi, _arrays
from exactflash._arrays import Array
from exactflash._context import Context, default_context
from exactflash._errors import ArgumentError, ShapeError
from exactflash._library import call, lib

LAYOUTS = ("bshd", "bhsd")
SPLITS = ("auto", "never", "always")

# xf_attention without argument types, whose conversions take a microsecond: all its arguments are
# objects of ctypes. Returns the status.
run_unchecked = lib["xf_attention"]


def _ordered(x: Array, layout: str, rank: int) -> Array:
    """x as [batch, sequence, heads, …], of `rank` dimensions: a batch of one where x has one less."""
    shape, strides = x.shape, x.strides
    if len(shape) == rank - 1:
        shape, strides = (1, *shape), (0, *strides)
    if layout == "bhsd" and len(shape) == rank:
        shape, strides = ((a[0], a[2], a[1], *a[3:]) for a in (shape, strides))
    return x._replace(shape=shape, strides=strides)


def _mask_view(mask: Any, shape: tuple[int, ...]) -> tuple[_abi.View, Array]:
    """The mask broadcast to [batch, q_heads, q_len, keys] by strides of 0."""
    x = _arrays.array(mask, "mask")
    missing = 4 - len(x.shape)
    if missing < 0:
        raise ShapeError(f"mask: has {len(x.shape)} dimensions, at most 4")
    given, strides = (1,) * missing + tuple(x.shape), (0,) * missing + tuple(x.strides)
    for have, want in zip(given, shape, strict=True):
        if have not in (1, want):
            raise ShapeError(f"mask: {list(x.shape)} does not broadcast to {list(shape)}")
    wide = tuple(
        0 if have == 1 and want != 1 else stride
        for have, want, stride in zip(given, shape, strides, strict=True)
    )
    x = x._replace(shape=shape, strides=wide)
    return _arrays.view(x, "mask"), x


class Call:
    """One descriptor under construction, with all that must live until it has run."""

    def __init__(self, q: Any, k: Any, v: Any, layout: str, page_table: Any) -> None:
        _arrays.choice(layout, LAYOUTS, "layout")
        self.layout = layout
        self.desc = _abi.AttentionDesc(struct_size=sizeof(_abi.AttentionDesc))
        self.reference, self.size = byref(self.desc), c_size_t()  # the size of a workspace
        self.like = q
        self.rank = len(q.shape)
        self.q, self.k, self.v = (
            _ordered(_arrays.array(x, name), layout, 4) for x, name in ((q, "q"), (k, "k"), (v, "v"))
        )
        self.desc.q = _arrays.view(self.q, "q", 4)
        self.desc.kv.k, self.desc.kv.v = _arrays.view(self.k, "k", 4), _arrays.view(self.v, "v", 4)
        self.keep: list[Any] = []
        self.n_keys = self.k.shape[1]
        if page_table is not None:
            self._set_pages(page_table)

    def _set_pages(self, page_table: Any) -> None:
        import numpy

        table = numpy.asarray(page_table)
        if table.ndim != 2 or table.shape[0] != self.q.shape[0] or table.dtype.kind not in "iu":
            raise ShapeError("page_table: integers [batch, pages of a sequence] are wanted")
        if table.size and (table.min() < 0 or table.max() > 0xFFFFFFFF):
            raise ArgumentError("page_table: page numbers are 0 … 2^32 − 1")
        table = numpy.ascontiguousarray(table, dtype=numpy.uint32)
        kv = self.desc.kv
        kv.layout, kv.page_table, kv.page_table_stride = 1, table.ctypes.data, table.shape[1]
        self.n_keys *= table.shape[1]
        self.keep.append(table)

    def set_scales(self, **scales: Any) -> None:
        """k_scale and v_scale."""
        for name, scale in scales.items():
            if scale is not None:
                x = _ordered(_arrays.array(scale, name), self.layout, 3)
                setattr(self.desc.kv, name, _arrays.view(x, name, 3))
                self.keep.append(x)

    def set_mask(self, mask: Any) -> None:
        """mask, if there is one."""
        if mask is not None:
            batch, q_len, q_heads, _ = self.q.shape
            self.desc.mask, x = _mask_view(mask, (batch, q_heads, q_len, self.n_keys))
            self.keep.append(x)

    def set_heads(self, **numbers: Any) -> None:
        """alibi_slopes and sinks."""
        for name, given in numbers.items():
            if given is not None:
                array = _arrays.floats(given, self.q.shape[2], name)
                setattr(self.desc, name, array.ctypes.data)
                self.keep.append(array)

    def set_positions(self, target: Any, **counts: Any) -> None:
        """The fields that are integers, one for each sequence."""
        for name, given in counts.items():
            if given is not None:
                array = _arrays.integers(given, self.desc.q.shape[0], name)
                setattr(target, name, addressof(array))
                self.keep.append(array)

    def _new(self, shape: tuple[int, ...]) -> Any:
        """A new array, [batch, q_len, q_heads, …] in memory, seen as the layout orders it."""
        x = _arrays.empty(shape, self.like)
        if self.layout == "bhsd":
            x = x.swapaxes(1, 2)
        return x if self.rank == 4 else x[0]

    def set_results(self, out: Any, return_lse: bool) -> tuple[Any, Any]:
        """out, made if it is None, and lse or None."""
        shape = self.q.shape[:3]
        out = self._new((*shape, self.v.shape[3])) if out is None else out
        self.desc.out = _arrays.view(_ordered(_arrays.array(out, "out"), self.layout, 4), "out", 4)
        if not return_lse:
            return out, None
        lse = self._new(shape)
        self.desc.lse = _arrays.view(_ordered(_arrays.array(lse, "lse"), self.layout, 3), "lse", 3)
        return out, lse

    def prepare(self, context: Context) -> None:
        """Checks the descriptor, and finds how much workspace it takes."""
        self.context = context
        call(lib.xf_attention_workspace, context._handle.pointer, self.reference, 0, byref(self.size))

    def run(self) -> None:
        """Runs it, without the GIL."""
        space = _arrays.workspace(self.size.value)
        call(run_unchecked, self.context._handle.pointer, self.reference, space, self.size)


def attention(
    q: Any, k: Any, v: Any, *, causal: bool = False, window: int = 0, mask: Any = None,
    alibi_slopes: Any = None, sinks: Any = None, soft_cap: float = 0.0, scale: float = 0.0,
    q_lens: Any = None, q_first: Any = None, kv_begin: Any = None, kv_len: Any = None,
    k_scale: Any = None, v_scale: Any = None, page_table: Any = None, out: Any = None,
    return_lse: bool = False, layout: str = "bshd", split: str = "auto", q_block: int = 0,
    context: Context | None = None,
) -> Any:  # fmt: skip
    """softmax(scale · q·kᵀ + …) · v, with memory that does not grow with the sequence.

    The same bits for the same values on every instruction set, for any number of threads, strides,
    batch, left padding and split of the keys (docs/attention.md).

    q: f32 [batch, q_len, q_heads, d_k]; k: [batch, keys, kv_heads, d_k]; v: [batch, keys, kv_heads,
    d_v], f32, f16, bf16 or int8 (that with k_scale, v_scale: f32 [batch, keys, kv_heads]). q_heads is
    a multiple of kv_heads. NumPy arrays, torch CPU tensors and what speaks DLPack or the buffer
    protocol, with a dense last dimension; none is copied. The batch may be left out.
    layout "bhsd": [batch, heads, sequence, dim] in all of them, out and lse too.

    causal: the query at position p sees the keys at positions ≤ p. window > 0: only keys at a
    distance < window. mask: bool (False hides) or f32 (is added), broadcast to [batch, q_heads, q_len,
    keys]. alibi_slopes, sinks: [q_heads]. soft_cap > 0: scores become soft_cap · tanh(score /
    soft_cap). scale 0: 1 / sqrt(d_k).
    One integer, or [batch]: q_lens: queries of each (rows behind are not written); kv_begin, kv_len:
    its keys are those at indices kv_begin … kv_len − 1, and positions count from kv_begin; q_first:
    position of its first query (None: the queries are the last positions).
    page_table: integers [batch, pages of a sequence]; k and v are [pages, page_len, kv_heads, d].

    Returns out, f32 [batch, q_len, q_heads, d_v], made here if it is None: a tensor where q is one,
    else a NumPy array. With return_lse: (out, lse), lse [batch, q_len, q_heads] being the natural
    log-sum-exp. Raises ShapeError, ArgumentError or UnsupportedError, which name the argument.
    """
    request = Call(q, k, v, layout, page_table)
    desc = request.desc
    desc.causal, desc.window, desc.soft_cap, desc.scale = int(causal), window, soft_cap, scale
    desc.split, desc.q_block = _arrays.choice(split, SPLITS, "split"), q_block
    request.set_scales(k_scale=k_scale, v_scale=v_scale)
    request.set_mask(mask)
    request.set_heads(alibi_slopes=alibi_slopes, sinks=sinks)
    request.set_positions(desc, q_lens=q_lens, q_first=q_first)
    request.set_positions(desc.kv, kv_begin=kv_begin, kv_len=kv_len)
    out, lse = request.set_results(out, return_lse)
    request.prepare(context or default_context())
    request.run()
    return (out, lse) if return_lse else out
