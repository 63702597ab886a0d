"""Linear layers and the other operators of a Llama layer, on arrays of the caller's."""

from ctypes import byref
from typing import Any

from exactflash import _abi, _arrays
from exactflash._context import Context, default_context
from exactflash._errors import ShapeError
from exactflash._library import Handle, call, lib
from exactflash._quantize import ACTIVATIONS, Quantized


def _rows(x: Any, name: str) -> _arrays.Array:
    """x as [rows, n]: a row where it has one dimension; more than two must be dense."""
    array = _arrays.array(x, name)
    if len(array.shape) == 1:
        return array._replace(shape=(1, *array.shape), strides=(0, *array.strides))
    if len(array.shape) <= 2:
        return array
    flat = x.reshape(-1, array.shape[-1])
    same = _arrays.array(flat, name)
    if same.address != array.address:
        raise ShapeError(f"{name}: its rows do not lie at equal distances; copy it first")
    return same


def _views(weight: "Any | Quantized") -> tuple[_abi.View, Any]:
    if isinstance(weight, Quantized):
        return weight._views()
    return _arrays.view(_arrays.array(weight, "weight"), "weight", 2), None


class Linear:
    """A weight matrix, packed once for many products: y = x · weightᵀ.

    weight: f32, f16 or bf16 [n, k] with dense rows, or Quantized; it is copied, in its own type. bf16
    and f16 are widened exactly as they are used. activations: how 8- and 4-bit weights take x:
    "int8", quantized for each row, or "f32", as it is: what their dequantized weights would give.
    """

    def __init__(
        self, weight: "Any | Quantized", *, activations: str = "int8", context: Context | None = None
    ) -> None:
        self._context = context or default_context()
        self._activations = _arrays.choice(activations, ACTIVATIONS, "activations")
        view, scales = _views(weight)
        self.shape: tuple[int, int] = (view.shape[0], view.shape[1])
        self._handle = Handle(
            lib.xf_linear_create, lib.xf_linear_destroy, self._context._handle.pointer, byref(view),
            None if scales is None else byref(scales),
        )  # fmt: skip

    def __call__(self, x: Any, *, out: Any = None) -> Any:
        """x: f32 [rows, k], [k] or [..., k]. Returns out, f32 [..., n], made here if it is None. A
        row's bits depend on that row alone, not on the others beside it."""
        given = _rows(x, "x")
        if out is None:
            out = _arrays.empty((*x.shape[:-1], self.shape[0]), x)
        source, target = _arrays.view(given, "x", 2), _arrays.view(_rows(out, "out"), "out", 2)
        handle, layer = self._context._handle.pointer, self._handle.pointer
        size = int(lib.xf_linear_workspace(handle, layer, given.shape[0]))
        space = _arrays.workspace(size)
        views = byref(source), byref(target)
        call(lib.xf_linear_run, handle, layer, self._activations, *views, space, size)
        return out


def linear(
    x: Any, weight: "Any | Quantized | Linear", *, activations: str = "int8", out: Any = None,
    context: Context | None = None,
) -> Any:  # fmt: skip
    """x · weightᵀ for x f32 [..., k] and weight [n, k] (an array, Quantized, or a Linear: packed
    before, which is what a weight that is used more than once should be; it has its own activations
    and context). Returns f32 [..., n]."""
    if not isinstance(weight, Linear):
        weight = Linear(weight, activations=activations, context=context)
    return weight(x, out=out)


def rms_norm(x: Any, weight: Any, eps: float = 1e-5, *, context: Context | None = None) -> Any:
    """x / sqrt(mean(x²) + eps) · weight for each row of x, f32 [..., n]; weight: f32 [n]."""
    out = _arrays.empty(tuple(x.shape), x)
    source, target = _rows(x, "x"), _rows(out, "out")
    numbers = _arrays.floats(weight, source.shape[1], "weight")
    views = _arrays.view(source, "x", 2), _arrays.view(target, "out", 2)
    handle = (context or default_context())._handle.pointer
    call(lib.xf_rms_norm, handle, byref(views[0]), numbers.ctypes.data, eps, byref(views[1]))
    return out


def silu_mul(gate: Any, up: Any, *, context: Context | None = None) -> Any:
    """gate / (1 + exp(−gate)) · up, all f32 [..., n]."""
    out = _arrays.empty(tuple(gate.shape), gate)
    gates, ups, result = (
        _arrays.view(_rows(x, name), name, 2) for x, name in ((gate, "gate"), (up, "up"), (out, "out"))
    )
    handle = (context or default_context())._handle.pointer
    call(lib.xf_silu_mul, handle, byref(gates), byref(ups), byref(result))
    return out


def rope(x: Any, positions: Any, inv_freq: Any, *, context: Context | None = None) -> Any:
    """Rotates x, f32 [tokens, heads, head_dim], in place: pairs (i, i + head_dim/2) of each head by the
    angle positions[token] · inv_freq[i]; positions: integers [tokens], inv_freq: f32 [head_dim/2].
    Returns x."""
    array = _arrays.array(x, "x")
    target = _arrays.view(array, "x", 3)
    places = _arrays.integers(positions, array.shape[0], "positions")
    angles = _arrays.floats(inv_freq, array.shape[2] // 2, "inv_freq")
    handle = (context or default_context())._handle.pointer
    call(lib.xf_rope, handle, byref(target), places, angles.ctypes.data)
    return x
