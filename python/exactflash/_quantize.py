"""Weights of 8 and 4 bits as files have them: made of floats, and made floats again."""

from collections.abc import Callable
from ctypes import byref
from dataclasses import dataclass
from typing import Any

from exactflash import _abi, _arrays
from exactflash._context import Context, default_context
from exactflash._errors import ArgumentError, ShapeError, UnsupportedError
from exactflash._library import call, lib

ACTIVATIONS = ("int8", "f32")  # in the order of xf_activations

_I8_ROW = 6
# xf_type by its name; i8 and bool are no weights.
_TYPES: dict[str, int] = {
    lib.xf_type_name(i).decode(): i
    for i in (_arrays.F32, _arrays.F16, _arrays.BF16, *range(_I8_ROW, _I8_ROW + 9))
}


def _type_number(name: str) -> int:
    if name not in _TYPES:
        raise ArgumentError(f"type: {name!r}; one of {', '.join(_TYPES)}")
    return _TYPES[name]


def _columns(type: str, row_bytes: int) -> int:
    """k of rows of so many bytes."""
    number, of_256 = _type_number(type), lib.xf_type_row_bytes(_type_number(type), 256)
    k = row_bytes * 256 // of_256
    if k < 1 or lib.xf_type_row_bytes(number, k) != row_bytes:
        raise ShapeError(f"data: rows of {row_bytes} bytes are no whole blocks of {type}")
    return int(k)


@dataclass(frozen=True, eq=False)
class Quantized:
    """A weight matrix [n, k] in a type of files: what `quantize` gives, or the bytes of a GGUF tensor.

    type: "q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "q4_k", "q5_k" or "q6_k" (ggml's blocks), "i8_row"
    (signed bytes, and one scale for each row), "f16", "bf16" or "f32". data: uint8 [n, bytes of a row],
    a NumPy array with dense rows. scales: f32 [n] of "i8_row", else None.
    """

    type: str
    data: Any
    scales: Any = None

    def __post_init__(self) -> None:
        data = self.data
        if getattr(data, "ndim", 0) != 2 or str(getattr(data, "dtype", "")) != "uint8":
            raise ShapeError("data: a NumPy array of uint8 [n, bytes of a row] is wanted")
        _columns(self.type, data.shape[1])
        if (self.scales is None) == (self.type == "i8_row"):
            raise ArgumentError(f"scales: {self.type} has {'one for each row' if self.scales is None else 'none'}")
        if self.scales is not None:
            object.__setattr__(self, "scales", _arrays.floats(self.scales, data.shape[0], "scales"))

    @property
    def shape(self) -> tuple[int, int]:
        """(n, k)"""
        return (self.data.shape[0], _columns(self.type, self.data.shape[1]))

    @property
    def nbytes(self) -> int:
        """Of data and scales."""
        return int(self.data.nbytes + (0 if self.scales is None else self.scales.nbytes))

    def _views(self) -> tuple[_abi.View, Any]:
        """The C structs of data, and of scales or None. They borrow the arrays."""
        number, (n, k) = _TYPES[self.type], self.shape
        address, strides = self.data.__array_interface__["data"][0], self.data.strides
        if strides[1] != 1 and self.data.shape[1] > 1:
            raise UnsupportedError("data: its rows are not dense; copy it first")
        array = _arrays.Array(address, number, (n, k), (strides[0], _arrays.item_size(number)), self)
        if self.scales is None:
            return _arrays.view(array, "data", 2), None
        return _arrays.view(array, "data", 2), _arrays.view(_arrays.array(self.scales, "scales"), "scales", 1)


def _call(function: Callable[..., int], context: Context | None, *views: Any) -> None:
    pointers = [None if view is None else byref(view) for view in views]
    call(function, (context or default_context())._handle.pointer, *pointers)


def quantize(x: Any, type: str = "q8_0", *, context: Context | None = None) -> Quantized:
    """x, weights [n, k] of any float type, rounded to one of the types that Quantized names: the bytes
    that `exactflash convert` writes, the same on every machine.

    k is a multiple of the type's block: 32 for q8_0, q4_0, q4_1, q5_0 and q5_1, 256 for q4_k, q5_k and
    q6_k. Raises ArgumentError for weights that are NaN, infinite or too large for the type."""
    import numpy

    number, weights = _type_number(type), _arrays.f32(x, "x")
    if weights.ndim != 2 or 0 in weights.shape:
        raise ShapeError(f"x: has shape {list(weights.shape)}; weights [n, k] are wanted")
    n, k = weights.shape
    row_bytes = lib.xf_type_row_bytes(number, k)
    if not row_bytes:
        raise ShapeError(f"x: rows of {k} weights are no whole blocks of {type}")
    scales = numpy.empty(n, numpy.float32) if number == _I8_ROW else None
    made = Quantized(type, numpy.empty((n, row_bytes), numpy.uint8), scales)
    source = _arrays.view(_arrays.array(weights, "x"), "x", 2)
    _call(lib.xf_quantize, context, source, *made._views())
    return made


def dequantize(weights: Quantized, *, out: Any = None, context: Context | None = None) -> Any:
    """The weights as f32 [n, k], with ggml's roundings (docs/numerics.md): out, made here if it is None."""
    out = _arrays.empty(weights.shape, None) if out is None else out
    target = _arrays.view(_arrays.array(out, "out"), "out", 2)
    _call(lib.xf_dequantize, context, *weights._views(), target)
    return out
