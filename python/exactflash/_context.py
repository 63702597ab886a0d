"""Contexts: the instruction set and the threads that work is done with."""

import os
from ctypes import byref, sizeof

from exactflash import _abi
from exactflash._library import Handle, lib


class Context:
    """An instruction set and a pool of threads. But for `fast`: changes speed, never a bit of any result.

    isa: "avx512vnni", "avx2", … "scalar"; None: the environment variable XF_ISA, else the best
    one of this CPU. threads: 0 means the physical cores that this process may use. pin_threads: each
    thread stays on a core of its own. q_blocks: query positions per task of attention to fewer than 192
    keys, fewer than 768, and more (0: 32, 64, 256; `exactflash bench --tune` finds the best).
    fast: linear layers with bf16 weights round their input to bf16 where the CPU has instructions for
    that (the property `fast` names them): up to twice as fast, and the only one of these that changes
    results.

    Immutable; threads may share one, and call at the same time. In a process that was forked, the
    contexts of its parent go on with one thread.
    """

    def __init__(
        self, isa: str | None = None, threads: int = 0, pin_threads: bool = False,
        q_blocks: tuple[int, int, int] = (0, 0, 0), fast: bool = False,
    ) -> None:  # fmt: skip
        options = _abi.ContextOptions(
            struct_size=sizeof(_abi.ContextOptions),
            isa=None if isa is None else isa.encode(),
            threads=threads,
            pin_threads=int(pin_threads),
            q_blocks=q_blocks,
            fast=int(fast),
        )
        self._handle = Handle(lib.xf_context_create, lib.xf_context_destroy, byref(options))

    @property
    def isa(self) -> str:
        """Name of the instruction set."""
        return str(lib.xf_context_isa(self._handle.pointer).decode())

    @property
    def fast(self) -> str | None:
        """Name of fast mode's instructions; None: not asked for, or there are none; results are exact."""
        name = lib.xf_context_fast(self._handle.pointer)
        return None if name is None else str(name.decode())

    @property
    def threads(self) -> int:
        """Number of threads, the caller's included."""
        return int(lib.xf_context_threads(self._handle.pointer))

    def __repr__(self) -> str:
        return f"exactflash.Context(isa={self.isa!r}, threads={self.threads})"


_default: Context | None = None


def default_context() -> Context:
    """The context of calls that are given none: made at its first use, one for each process."""
    global _default
    if _default is None:
        _default = Context()
    return _default


def set_default_context(context: Context | None) -> None:
    """Replaces the default context. None: a new one, made at its first use."""
    global _default
    _default = context


os.register_at_fork(after_in_child=lambda: set_default_context(None))


def isas() -> list[str]:
    """Instruction sets of this build that this CPU has, the preferred one first."""
    names, index = [], 0
    while name := lib.xf_isa_name(index):
        if lib.xf_isa_supported(index):
            names.append(name.decode())
        index += 1
    return names
