"""Arrays of others (NumPy, torch, DLPack, buffers) as views of the C library, without copies."""

import sys
import threading
from collections.abc import Sequence
from ctypes import addressof, c_char, c_int32, c_int64, c_void_p
from operator import index
from typing import Any, NamedTuple

from exactflash import _abi
from exactflash._errors import ArgumentError, ShapeError, UnsupportedError

F32, F16, BF16, I8, BOOL = 1, 2, 3, 4, 5
_NAMES = {"float32": F32, "float16": F16, "bfloat16": BF16, "int8": I8, "bool": BOOL}
_SIZES = {F32: 4, F16: 2, BF16: 2, I8: 1, BOOL: 1}


def item_size(type: int) -> int:
    """Bytes of an element; 1 for types of blocks, whose rows are bytes."""
    return _SIZES.get(type, 1)


class Array(NamedTuple):
    """Memory of somebody else. strides are in bytes; owner keeps the memory alive."""

    address: int
    type: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    owner: Any


def torch_module() -> Any:
    """torch, where the program has imported it; else None."""
    return sys.modules.get("torch")


def is_tensor(x: object) -> bool:
    """Whether x is a torch tensor."""
    torch = torch_module()
    return torch is not None and isinstance(x, torch.Tensor)


def _of_tensor(x: Any, name: str) -> Array:
    kind = _NAMES.get(str(x.dtype)[6:])  # behind "torch."
    if x.device.type != "cpu":
        raise UnsupportedError(f"{name}: is on {x.device}; exactflash works on CPU tensors")
    if kind is None:
        raise UnsupportedError(f"{name}: element type {x.dtype}; float32, float16, bfloat16, int8 or bool")
    size = _SIZES[kind]
    return Array(x.data_ptr(), kind, tuple(x.shape), tuple(s * size for s in x.stride()), x)


def as_numpy(x: Any, name: str) -> Any:
    """x as a NumPy array on the same memory where it has an array's protocol."""
    import numpy

    if isinstance(x, numpy.ndarray):
        return x
    if hasattr(x, "__dlpack__") and not hasattr(x, "__array_interface__"):
        try:
            return numpy.from_dlpack(x)
        except (BufferError, RuntimeError, TypeError) as error:
            raise UnsupportedError(f"{name}: not readable through DLPack: {error}") from error
    return numpy.asarray(x)


def _of_numpy(x: Any, name: str) -> Array:
    x = as_numpy(x, name)
    kind = _NAMES.get(x.dtype.name) if x.dtype.isnative else None
    if kind is None:
        raise UnsupportedError(
            f"{name}: element type {x.dtype}; float32, float16, bfloat16 (ml_dtypes), int8 or bool"
        )
    return Array(x.__array_interface__["data"][0], kind, x.shape, x.strides, x)


def array(x: Any, name: str) -> Array:
    """Describes x; `name` is for messages."""
    return _of_tensor(x, name) if is_tensor(x) else _of_numpy(x, name)


_NOTHING = (c_char * 64)()  # where an empty array without memory points to


def view(x: Array, name: str, rank: int = 0) -> _abi.View:
    """The C struct. rank: the number of dimensions that is wanted; 0: any up to 4."""
    n = len(x.shape)
    if n > 4 or (rank and n != rank):
        raise ShapeError(f"{name}: has {n} dimensions, not {rank or 'at most 4'}")
    result = _abi.View(x.address or addressof(_NOTHING), x.type, n)
    result.shape[:n] = x.shape
    result.stride[:n] = x.strides
    if n and (x.shape[-1] == 1 or 0 in x.shape):  # NumPy and torch may have any stride there
        result.stride[n - 1] = item_size(x.type)
    return result


def empty(shape: tuple[int, ...], like: Any) -> Any:
    """A new f32 array of like's kind: a torch tensor for a tensor, else a NumPy array."""
    if is_tensor(like):
        torch = torch_module()
        return torch.empty(shape, dtype=torch.float32)
    import numpy

    return numpy.empty(shape, numpy.float32)


def integers(x: "int | Sequence[int] | Any | None", count: int, name: str) -> Any:
    """x, an integer for all or `count` of them, as a C array of int64; None stays None."""
    if x is None:
        return None
    values = x.tolist() if hasattr(x, "tolist") else x
    values = [values] * count if isinstance(values, int) else list(values)
    if len(values) != count or not all(isinstance(value, int) for value in values):
        raise ShapeError(f"{name}: {count} integers are wanted, one for each sequence")
    return (c_int64 * count)(*values)


def tokens(x: Any, name: str, least: int = 1) -> Any:
    """x, a sequence of integers, a NumPy array or a tensor, as a C array of int32."""
    try:
        values = [index(token) for token in (x.tolist() if hasattr(x, "tolist") else x)]
    except TypeError:
        raise ShapeError(f"{name}: one integer for each token is wanted") from None
    if len(values) < least:
        raise ShapeError(f"{name}: one integer for each token is wanted, and at least one token")
    if not all(0 <= token < 1 << 31 for token in values):
        raise ArgumentError(f"{name}: tokens are 0 … vocab_size − 1")
    return (c_int32 * len(values))(*values)


def f32(x: Any, name: str) -> Any:
    """x as a dense NumPy array of f32, a copy if need be. A tensor's gradient does not flow through it."""
    import numpy

    if is_tensor(x):
        if x.device.type != "cpu" or x.is_complex():
            raise UnsupportedError(f"{name}: {x.dtype} on {x.device}; a CPU tensor of real numbers is wanted")
        x = x.detach().float().numpy()
    try:
        data = as_numpy(x, name)
        if data.dtype.kind == "c":
            raise TypeError(f"not {data.dtype}")
        return numpy.ascontiguousarray(data, dtype=numpy.float32)
    except (TypeError, ValueError) as error:
        raise ArgumentError(f"{name}: numbers are wanted: {error}") from error


def floats(x: Any, count: int, name: str) -> Any:
    """x as `count` f32 one behind the other, a copy if need be."""
    data = f32(x, name)
    if data.shape != (count,):
        raise ShapeError(f"{name}: has shape {list(data.shape)}, not [{count}]")
    return data


class _Workspace(threading.local):
    memory: Any = None
    size = 0
    pointer = c_void_p()


_workspace = _Workspace()
_KEEP = 64 << 20  # bytes of workspace that a thread keeps for its next call


def workspace(size: int) -> c_void_p:
    """At least `size` bytes aligned to 64, this thread's own, until its next call."""
    have = _workspace.size
    if have < size or (have > _KEEP and have > size):
        _workspace.memory = (c_char * (size + 63))()
        _workspace.size = size
        _workspace.pointer = c_void_p((addressof(_workspace.memory) + 63) & ~63)
    return _workspace.pointer


def choice(value: str, choices: Sequence[str], name: str) -> int:
    """Index of value in choices."""
    if value not in choices:
        raise ArgumentError(f"{name}: {value!r}; one of {', '.join(choices)}")
    return choices.index(value)
