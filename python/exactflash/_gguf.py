"""GGUF files (versions 2 and 3, little-endian): the settings of a Llama, and where its tensors lie."""

import math
import mmap
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from exactflash._errors import FileError, FormatError, ShapeError, UnsupportedError
from exactflash._ggml import TYPES
from exactflash._llama_config import (
    Fields,
    LlamaConfig,
    base_frequencies,
    check_heads,
    llama3_frequencies,
)

_STRING, _ARRAY, _F64 = 8, 9, 12
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_LLAMA3, _ORIGINAL = "exactflash.rope.llama3", "original_max_position_embeddings"


@dataclass(frozen=True)
class Entry:
    """A tensor: its shape has the rows first."""

    path: Path
    name: str
    shape: tuple[int, ...]
    type: int
    offset: int  # in the file
    room: int  # bytes of the file from there on

    def row_format(self) -> tuple[int, Callable[[Any], Any]]:
        """(bytes of a row, uint8 [rows, bytes] to f32). A vector's elements are its rows."""
        kind = TYPES.get(self.type)
        if kind is None:
            raise UnsupportedError(
                f"{self.path}: tensor {self.name}: GGUF type {self.type} is not supported; there are "
                f"{', '.join(each.name for each in TYPES.values())}"
            )
        columns = math.prod(self.shape[1:])
        if columns % kind.elements:
            raise FormatError(
                f"{self.path}: tensor {self.name}: rows of {columns} elements are no whole blocks of {kind.name}"
            )
        row_bytes = columns // kind.elements * kind.bytes
        if math.prod(self.shape[:1]) * row_bytes > self.room:
            raise FormatError(f"{self.path}: tensor {self.name} ends behind the file: it is truncated")
        return row_bytes, lambda raw: kind.widen(np.ascontiguousarray(raw).reshape(-1, kind.bytes))


_SHORT = 16  # elements of arrays that are kept


class _ArrayOf(NamedTuple):
    """An array of the metadata: its elements, where they are few numbers."""

    kind: int
    values: tuple[Any, ...]


class _Reader:
    """Little-endian values of a mapped file, one behind the other."""

    def __init__(self, path: Path, data: mmap.mmap) -> None:
        self.path, self.data, self.at = path, data, 0

    def take(self, size: int) -> bytes:
        if size > len(self.data) - self.at:
            raise FormatError(f"{self.path}: ends within its header: the file is truncated")
        self.at += size
        return self.data[self.at - size : self.at]

    def scalar(self, code: str) -> Any:
        return struct.unpack("<" + code, self.take(struct.calcsize("<" + code)))[0]

    def string(self) -> str:
        return self.take(self.scalar("Q")).decode("utf-8", "replace")

    def value(self, key: str, kind: int) -> Any:
        if kind in _SCALARS:
            return self.scalar(_SCALARS[kind])
        if kind == _STRING:
            return self.string()
        if kind != _ARRAY:
            raise FormatError(f"{self.path}: {key}: metadata of the unknown type {kind}")
        element, count = self.scalar("I"), self.scalar("Q")
        if element == _ARRAY:
            raise UnsupportedError(
                f"{self.path}: {key}: arrays of arrays are not supported; write the file without that key"
            )
        values: tuple[Any, ...] = ()
        if element in _SCALARS:
            code = _SCALARS[element]
            raw = self.take(count * struct.calcsize("<" + code))
            if count <= _SHORT:
                values = struct.unpack(f"<{count}{code}", raw)
        else:
            for _ in range(count):
                self.value(key, element)
        return _ArrayOf(element, values)


def _entries(reader: _Reader, count: int, alignment: int) -> list[Entry]:
    found = []
    for _ in range(count):
        name, rank = reader.string(), reader.scalar("I")
        if rank > 4:
            raise FormatError(f"{reader.path}: tensor {name} has {rank} dimensions")
        shape = tuple(reader.scalar("Q") for _ in range(rank))[::-1]
        found.append((name, shape, reader.scalar("I"), reader.scalar("Q")))
    data = -(-reader.at // alignment) * alignment
    total = len(reader.data)
    return [
        Entry(reader.path, name, shape, kind, data + at, total - data - at)
        for name, shape, kind, at in found
    ]


def _parse(path: Path) -> tuple[dict[str, Any], list[Entry]]:
    try:
        with open(path, "rb") as file:
            if file.read(4) != b"GGUF":
                raise FormatError(f"{path}: is neither a folder nor a GGUF file")
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise FileError(f"{path}: {error.strerror}") from error
    with data:
        reader = _Reader(path, data)
        reader.take(4)
        version, tensors, values = reader.scalar("I"), reader.scalar("Q"), reader.scalar("Q")
        if version not in (2, 3):
            raise UnsupportedError(f"{path}: GGUF version {version}: only 2 and 3 are supported")
        metadata = {}
        for _ in range(values):
            key = reader.string()
            metadata[key] = reader.value(key, reader.scalar("I"))
        alignment = metadata.get("general.alignment", 32)
        if not isinstance(alignment, int) or not 1 <= alignment <= 1 << 20:
            raise FormatError(
                f"{path}: general.alignment must be a small number of bytes, not {alignment!r}"
            )
        return metadata, _entries(reader, tensors, alignment)


def _check_variant(fields: Fields) -> None:
    fields.only("general.architecture", "llama")
    fields.only("llama.expert_count", 0)
    fields.only("llama.attention.sliding_window", 0)
    fields.only("llama.rope.scaling.attn_factor", 1)
    fields.only("llama.attention.causal", True)
    fields.only("llama.rope.scaling.type", "none", "linear")
    if fields.get("general.architecture") is None:
        raise FormatError(f"{fields.place}: the key general.architecture is missing")


def _llama3(fields: Fields, inv_freq: Any) -> Any:
    """By the settings that `exactflash convert` writes of a config.json: as such a folder's, to the bit,
    which factors in a tensor do not give."""
    given, names = fields.get(_LLAMA3), ("factor", "low_freq_factor", "high_freq_factor", _ORIGINAL)
    if not isinstance(given, _ArrayOf) or given.kind != _F64 or len(given.values) != len(names):
        raise FormatError(f"{fields.place}: {_LLAMA3} must be four numbers in F64: {', '.join(names)}")
    scaling = Fields(f"{fields.place}: {_LLAMA3}", dict(zip(names, given.values, strict=True)))
    return llama3_frequencies(inv_freq, scaling)


def _frequencies(fields: Fields, head_dim: int, entries: dict[str, Entry]) -> Any:
    inv_freq = base_frequencies(fields.theta("llama.rope.freq_base", 10000.0), head_dim)
    if fields.get(_LLAMA3) is not None:
        return _llama3(fields, inv_freq)
    factor = fields.factor("llama.rope.scale_linear", 1.0)
    factor = fields.factor("llama.rope.scaling.factor", factor)
    if fields.get("llama.rope.scaling.type") != "none":
        inv_freq = inv_freq / np.float32(factor)
    factors = entries.get("rope_freqs.weight")
    if factors is None:
        return inv_freq
    if factors.shape != (head_dim // 2,) or factors.type != 0:
        raise ShapeError(f"{fields.place}: rope_freqs.weight must be {head_dim // 2} numbers in F32")
    factors.row_format()  # checks that they lie within the file
    divisors = np.fromfile(fields.place, "<f4", head_dim // 2, offset=factors.offset)
    if not ((divisors >= 1e-6) & (divisors <= 1e6)).all():
        raise FormatError(f"{fields.place}: rope_freqs.weight must hold numbers from 1e-6 to 1e6")
    return inv_freq / divisors


def _rows(embedding: Entry) -> int:
    """Of a matrix; of anything else too, whose shape is refused where it is read."""
    rows = embedding.shape[0] if embedding.shape else 0
    if not 1 <= rows < 1 << 31:
        raise ShapeError(f"{embedding.path}: tensor {embedding.name} has {rows} rows, one for each token")
    return rows


def read(path: Path) -> tuple[LlamaConfig, list[Entry]]:
    """The settings and the tensors of a file."""
    metadata, found = _parse(path)
    fields, entries = Fields(str(path), metadata), {entry.name: entry for entry in found}
    _check_variant(fields)
    embedding = entries.get("token_embd.weight")
    if embedding is None:
        raise FormatError(
            f"{path}: has no tensor token_embd.weight: it holds a vocabulary or a part of a model only"
        )
    hidden, heads = (
        fields.integer("llama.embedding_length"),
        fields.integer("llama.attention.head_count"),
    )
    kv_heads = fields.integer("llama.attention.head_count_kv", heads)
    length = "llama.attention.key_length"
    given = None if fields.get(length) is None else fields.integer(length)
    head_dim = check_heads(fields, hidden, heads, kv_heads, given)
    fields.only("llama.attention.value_length", head_dim)
    fields.only("llama.rope.dimension_count", head_dim)
    config = LlamaConfig(
        hidden_size=hidden,
        intermediate_size=fields.integer("llama.feed_forward_length"),
        layers=fields.integer("llama.block_count"),
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        vocab_size=_rows(embedding),
        rms_norm_eps=fields.number("llama.attention.layer_norm_rms_epsilon", None, 0, 1),
        tied_embeddings="output.weight" not in entries,
        inv_freq=_frequencies(fields, head_dim, entries),
    )
    return config, found
