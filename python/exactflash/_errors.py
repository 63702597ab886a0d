"""Exceptions: one for each status of the C library, with the message of the C library."""


class Error(Exception):
    """Any failure of the library. `status` is the C status code (exactflash/status.h)."""

    status = -1


class ArgumentError(Error, ValueError):
    """An argument or option that is missing or out of range."""

    status = 1


class ShapeError(Error, ValueError):
    """Shapes that do not fit each other."""

    status = 2


class UnsupportedError(Error, NotImplementedError):
    """Well-formed, but nothing here can do it."""

    status = 3


class CpuError(Error, RuntimeError):
    """The CPU lacks an instruction set that was asked for."""

    status = 4


class FileError(Error, OSError):
    """The operating system could not open, read, map or write a file."""

    status = 5


class FormatError(Error, ValueError):
    """A file that is truncated, corrupt or contradicts itself."""

    status = 6


class OutOfMemoryError(Error, MemoryError):
    """An allocation failed."""

    status = 7


class CacheFullError(Error, RuntimeError):
    """The KV cache cannot hold the tokens; nothing was changed."""

    status = 8


class CancelledError(Error, RuntimeError):
    """A progress callback asked to stop; nothing was changed."""

    status = 9


_CLASSES: dict[int, type[Error]] = {
    kind.status: kind
    for kind in (
        ArgumentError,
        ShapeError,
        UnsupportedError,
        CpuError,
        FileError,
        FormatError,
        OutOfMemoryError,
        CacheFullError,
        CancelledError,
    )
}


def of_status(status: int, message: str) -> Error:
    """The exception for a status other than 0."""
    return _CLASSES.get(status, Error)(message)
