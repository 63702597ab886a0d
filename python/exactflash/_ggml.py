"""The element types of GGUF files, widened to f32 with ggml's roundings (docs/numerics.md)."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

Blocks = Any  # uint8 [blocks, bytes of one block]


class Type(NamedTuple):
    """Blocks of `elements` in `bytes`; widen: uint8 [blocks, bytes] to f32 [blocks, elements]."""

    name: str
    elements: int
    bytes: int
    widen: Callable[[Blocks], Any]


def _half(blocks: Blocks, offset: int) -> Any:
    """One f16 of each block, f32 [blocks, 1]."""
    return blocks[:, offset : offset + 2].copy().view("<f2").astype(np.float32)


def _nibbles(codes: Any) -> Any:
    """[…, n] bytes to […, 2n] codes: all low halves, then all high halves."""
    return np.concatenate((codes & 15, codes >> 4), axis=-1)


def _fifth_bits(blocks: Blocks, offset: int) -> Any:
    """[blocks, 32]: the bits of a little-endian u32, times 16."""
    return np.unpackbits(blocks[:, offset : offset + 4], axis=1, bitorder="little") << 4


def _q8_0(b: Blocks) -> Any:
    return _half(b, 0) * b[:, 2:].view(np.int8).astype(np.float32)


def _q4_0(b: Blocks) -> Any:
    return _half(b, 0) * (_nibbles(b[:, 2:]).astype(np.float32) - 8)


def _q4_1(b: Blocks) -> Any:
    return _half(b, 0) * _nibbles(b[:, 4:]).astype(np.float32) + _half(b, 2)


def _q5_0(b: Blocks) -> Any:
    codes = _nibbles(b[:, 6:]) | _fifth_bits(b, 2)
    return _half(b, 0) * (codes.astype(np.float32) - 16)


def _q5_1(b: Blocks) -> Any:
    codes = _nibbles(b[:, 8:]) | _fifth_bits(b, 4)
    return _half(b, 0) * codes.astype(np.float32) + _half(b, 2)


def _k_scales(b: Blocks) -> tuple[Any, Any]:
    """(scales, minima), f32 [blocks, 8, 1], of Q4_K and Q5_K: 6 bits each in the bytes 4 … 15."""
    low, high, rest = b[:, 4:8], b[:, 8:12], b[:, 12:16]
    scales = np.concatenate((low & 63, (rest & 15) | (low >> 6 << 4)), axis=1)
    minima = np.concatenate((high & 63, (rest >> 4) | (high >> 6 << 4)), axis=1)
    d, dmin = _half(b, 0), _half(b, 2)
    return (d * scales.astype(np.float32))[..., None], (dmin * minima.astype(np.float32))[..., None]


def _q4_k(b: Blocks) -> Any:
    scales, minima = _k_scales(b)
    codes = _nibbles(b[:, 16:].reshape(-1, 4, 32)).reshape(-1, 8, 32)
    return (scales * codes.astype(np.float32) - minima).reshape(-1, 256)


def _q5_k(b: Blocks) -> Any:
    scales, minima = _k_scales(b)
    codes = _nibbles(b[:, 48:].reshape(-1, 4, 32)).reshape(-1, 8, 32)
    fifth = b[:, None, 16:48] >> np.arange(8, dtype=np.uint8)[:, None] & 1
    codes = codes | fifth << 4
    return (scales * codes.astype(np.float32) - minima).reshape(-1, 256)


def _q6_k(b: Blocks) -> Any:
    low = _nibbles(b[:, :128].reshape(-1, 2, 64)).reshape(-1, 2, 4, 32)
    pairs = b[:, 128:192].reshape(-1, 2, 1, 32) >> np.array([0, 2, 4, 6], np.uint8)[:, None] & 3
    codes = (low | pairs << 4).astype(np.float32) - 32
    scales = _half(b, 208) * b[:, 192:208].copy().view(np.int8).astype(np.float32)
    return (scales[..., None] * codes.reshape(-1, 16, 16)).reshape(-1, 256)


def _bf16(b: Blocks) -> Any:
    return (b.view("<u2").astype(np.uint32) << 16).view(np.float32)


# By the number that a GGUF file has for them.
TYPES: dict[int, Type] = {
    0: Type("F32", 1, 4, lambda b: b.view("<f4")),
    1: Type("F16", 1, 2, lambda b: b.view("<f2").astype(np.float32)),
    2: Type("Q4_0", 32, 18, _q4_0),
    3: Type("Q4_1", 32, 20, _q4_1),
    6: Type("Q5_0", 32, 22, _q5_0),
    7: Type("Q5_1", 32, 24, _q5_1),
    8: Type("Q8_0", 32, 34, _q8_0),
    12: Type("Q4_K", 256, 144, _q4_k),
    13: Type("Q5_K", 256, 176, _q5_k),
    14: Type("Q6_K", 256, 210, _q6_k),
    30: Type("BF16", 1, 2, _bf16),
}
