"""The shared library: found, loaded and called."""

import ctypes
import os
import threading
from ctypes import byref, c_size_t, c_void_p
from pathlib import Path
from typing import Any, Callable

from exactflash import _abi
from exactflash._errors import Error, of_status


def _path() -> str:
    """EXACTFLASH_LIBRARY (for work on the library itself), else the one in this package."""
    return os.environ.get("EXACTFLASH_LIBRARY") or str(Path(__file__).parent / "libexactflash.so")


def _load() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(_path())  # functions of a CDLL run without the GIL
    except OSError as error:
        raise ImportError(
            f"exactflash: cannot load the shared library: {error}; install the package, or name a "
            "built libexactflash.so in EXACTFLASH_LIBRARY"
        ) from error
    for name, (result, arguments) in _abi.FUNCTIONS.items():
        function = getattr(library, name)
        function.restype = result
        function.argtypes = arguments
    return library


lib: Any = _load()


class _Errors(threading.local):
    def __init__(self) -> None:
        self.text = _abi.Error()
        self.reference = byref(self.text)


_errors = _Errors()


def call(function: Callable[..., int], *arguments: Any) -> None:
    """Calls a function whose last argument is an xf_error, and raises what it tells."""
    error = _errors.text
    status = function(*arguments, _errors.reference)
    if status:
        raise of_status(status, error.message.decode("utf-8", "replace"))


def check(status: int, what: str) -> None:
    """Raises for a function without an xf_error."""
    if status:
        raise of_status(status, f"{what}: {lib.xf_status_string(status).decode()}")


class Handle:
    """An object of the C library, destroyed with its last reference, and before `parent` is."""

    # Parents by the id of their child. It keeps a parent out of reach of the garbage collector, which
    # would finalize the objects of a cycle in any order.
    _parents: dict[int, "Handle"] = {}

    def __init__(
        self,
        create: Callable[..., int],
        destroy: Callable[[c_void_p], None],
        *arguments: Any,
        parent: "Handle | None" = None,
    ) -> None:
        self.pointer = c_void_p()
        self._destroy = destroy
        call(create, *arguments, byref(self.pointer))
        if parent is not None:
            self._parents[id(self)] = parent

    def __del__(self) -> None:
        if self.pointer:
            self._destroy(self.pointer)
            self.pointer = c_void_p()
        self._parents.pop(id(self), None)


def text_at(address: c_void_p, length: c_size_t) -> str:
    """A C string that is not NUL-terminated, of whole characters."""
    if not address or not length.value:
        return ""
    return ctypes.string_at(address.value or 0, length.value).decode("utf-8", "replace")


def version() -> str:
    """Version of the shared library in use, such as "0.1.0"."""
    number = int(lib.xf_version())
    return f"{number >> 16}.{number >> 8 & 255}.{number & 255}"


def numerics_version() -> int:
    """Number of the order of operations: equal numbers, equal bits (docs/numerics.md)."""
    return int(lib.xf_numerics_version())


__all__ = ["Error", "Handle", "call", "check", "lib", "numerics_version", "text_at", "version"]
