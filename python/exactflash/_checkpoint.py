"""The tensors of a Llama checkpoint as NumPy rows, read a few at a time, whatever the file's format."""

import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from exactflash import _gguf
from exactflash._errors import FileError, FormatError, ShapeError, UnsupportedError
from exactflash._ggml import TYPES
from exactflash._llama_config import LlamaConfig, config_of_folder, json_object, read_json

BLOCK_BYTES = 16 << 20  # of f32 that are read at once

# role: (name in a Hugging Face folder, name in a GGUF file)
_LAYER = {
    "attention_norm": ("input_layernorm", "attn_norm"),
    "q": ("self_attn.q_proj", "attn_q"),
    "k": ("self_attn.k_proj", "attn_k"),
    "v": ("self_attn.v_proj", "attn_v"),
    "o": ("self_attn.o_proj", "attn_output"),
    "mlp_norm": ("post_attention_layernorm", "ffn_norm"),
    "gate": ("mlp.gate_proj", "ffn_gate"),
    "up": ("mlp.up_proj", "ffn_up"),
    "down": ("mlp.down_proj", "ffn_down"),
}
_TOP = {
    "embedding": ("model.embed_tokens", "token_embd"),
    "norm": ("model.norm", "output_norm"),
    "head": ("lm_head", "output"),
}

Rows = Callable[[Any], Any]  # raw rows of a file to f32


@dataclass(frozen=True)
class Tensor:
    """A tensor of a file. `row_bytes` bytes of the file at `offset` are one row (of the first axis)."""

    name: str
    path: Path
    shape: tuple[int, ...]
    offset: int
    row_bytes: int
    widen: Rows

    def rows(self, first: int, count: int) -> Any:
        """f32 [count, …]: some of its rows. Read, not mapped: the memory is given back at once."""
        size = count * self.row_bytes
        try:
            with open(self.path, "rb") as file:
                file.seek(self.offset + first * self.row_bytes)
                data = file.read(size)
        except OSError as error:
            raise FileError(f"{self.path}: {error.strerror}") from error
        if len(data) != size:
            raise FormatError(f"{self.path}: ends within tensor {self.name}: the file is truncated")
        raw = np.frombuffer(data, np.uint8).reshape(count, self.row_bytes)
        with np.errstate(invalid="ignore", over="ignore"):  # a file's own NaN and infinity stay what they are
            return self.widen(raw).reshape(count, *self.shape[1:])


# Safetensors' names of floats are ggml's.
_SAFETENSORS_TYPES = {kind.name: kind for kind in TYPES.values() if kind.elements == 1}


def _safetensors_header(path: Path) -> tuple[dict[str, Any], int, int]:
    """(header, offset of the data, bytes of the data)"""
    try:
        total = os.path.getsize(path)
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if total < 8 or length > total - 8:
                raise FormatError(f"{path}: its header is longer than the file: it is truncated")
            header = json_object(f"{path}: the header", file.read(length))
    except FormatError:
        raise
    except OSError as error:
        raise FileError(f"{path}: {error.strerror}") from error
    except ValueError as error:  # a name that no file can have
        raise FormatError(f"{str(path)!r}: {error}") from error
    return header, 8 + length, total - 8 - length


def _counts(values: Any) -> tuple[int, ...]:
    """A list of integers from 0 on, else TypeError."""
    if not isinstance(values, list) or any(type(n) is not int or n < 0 for n in values):
        raise TypeError
    return tuple(values)


def _safetensor(path: Path, name: str, entry: Any, data: int, size: int) -> Tensor:
    try:
        shape, (begin, end) = _counts(entry["shape"]), _counts(entry["data_offsets"])
        dtype = str(entry["dtype"])
    except (TypeError, KeyError, ValueError) as error:
        raise FormatError(
            f"{path}: tensor {name}: its header needs dtype, and integers as shape and data_offsets; "
            "save the checkpoint anew"
        ) from error
    if dtype not in _SAFETENSORS_TYPES:
        raise UnsupportedError(
            f"{path}: tensor {name}: only {', '.join(_SAFETENSORS_TYPES)} are supported, not {dtype}"
        )
    kind = _SAFETENSORS_TYPES[dtype]
    if (
        not shape
        or min(shape) < 1
        or begin > end
        or end - begin != kind.bytes * math.prod(shape)
    ):
        raise FormatError(f"{path}: tensor {name}: its shape and data_offsets do not agree")
    if end > size:
        raise FormatError(f"{path}: tensor {name} ends behind the file: it is truncated")
    return Tensor(name, path, shape, data + begin, (end - begin) // shape[0], kind.widen)


def _safetensors_file(path: Path) -> dict[str, Callable[[], Tensor]]:
    header, data, size = _safetensors_header(path)

    def maker(name: str) -> Callable[[], Tensor]:
        return lambda: _safetensor(path, name, header[name], data, size)

    return {name: maker(name) for name in header if name != "__metadata__"}


def _folder_tensors(folder: Path) -> dict[str, Callable[[], Tensor]]:
    single, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if single.exists():
        return _safetensors_file(single)
    if not index.exists():
        raise FileError(
            f"{folder}: has neither {single.name} nor {index.name}; weights in other formats must be converted"
        )
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise FormatError(f"{index}: weight_map must map tensor names to files")
    tensors: dict[str, Callable[[], Tensor]] = {}
    for shard in sorted(set(map(str, weight_map.values()))):
        if Path(shard).name != shard:
            raise FormatError(
                f'{index}: weight_map may name only files of its own folder, not "{shard}"'
            )
        found = _safetensors_file(folder / shard)
        tensors |= {name: found[name] for name in found if weight_map.get(name) == shard}
    return tensors


class Checkpoint:
    """A Hugging Face folder or a GGUF file. Rows of q and k are in the order of Hugging Face."""

    def __init__(self, path: "str | os.PathLike[str]") -> None:
        self.path = Path(path)
        if self.path.is_dir():
            self._column, self._paired = 0, False
            self.config: LlamaConfig = config_of_folder(self.path)
            self._tensors = _folder_tensors(self.path)
        elif not self.path.exists():
            raise FileError(f"{self.path}: there is no such folder or file")
        else:
            self._column, self._paired = 1, True
            self.config, entries = _gguf.read(self.path)
            self._tensors = {entry.name: self._gguf_maker(entry) for entry in entries}
        self._check()

    def _gguf_maker(self, entry: _gguf.Entry) -> Callable[[], Tensor]:
        def make() -> Tensor:
            row_bytes, widen = entry.row_format()
            return Tensor(entry.name, self.path, entry.shape, entry.offset, row_bytes, widen)

        return make

    def _name(self, role: str, layer: int) -> str:
        if role in _TOP:
            return _TOP[role][self._column]
        return f"{('model.layers', 'blk')[self._column]}.{layer}.{_LAYER[role][self._column]}"

    def _shape(self, role: str) -> tuple[int, ...]:
        c = self.config
        hidden, q, kv, ff = (
            c.hidden_size,
            c.heads * c.head_dim,
            c.kv_heads * c.head_dim,
            c.intermediate_size,
        )
        return {
            "embedding": (c.vocab_size, hidden),
            "head": (c.vocab_size, hidden),
            "q": (q, hidden),
            "k": (kv, hidden),
            "v": (kv, hidden),
            "o": (hidden, q),
            "gate": (ff, hidden),
            "up": (ff, hidden),
            "down": (hidden, ff),
        }.get(role, (hidden,))

    def _find(self, role: str, layer: int = 0) -> Tensor:
        name = self._name(role, layer)
        if f"{name}.bias" in self._tensors:
            raise UnsupportedError(
                f"{self.path}: tensor {name}.bias: linear layers with bias are not supported"
            )
        make = self._tensors.get(f"{name}.weight")
        if make is None:
            raise FormatError(f"{self.path}: the checkpoint has no tensor {name}.weight")
        tensor, wanted = make(), self._shape(role)
        if tensor.shape != wanted:
            raise ShapeError(
                f"{tensor.path}: tensor {tensor.name} has the shape {list(tensor.shape)}, but the "
                f"configuration needs {list(wanted)}"
            )
        return tensor

    def _check(self) -> None:
        """Every tensor is there and has its shape, before anything is written."""
        for role in _TOP:
            if role != "head" or not self.config.tied_embeddings:
                self._find(role)
        for layer in range(self.config.layers):
            for role in _LAYER:
                self._find(role, layer)
        if f"{self._name('attention_norm', self.config.layers)}.weight" in self._tensors:
            raise ShapeError(
                f"{self.path}: has more layers than the {self.config.layers} of its configuration"
            )

    def vector(self, role: str, layer: int = 0) -> Any:
        """f32 [hidden_size]"""
        tensor = self._find(role, layer)
        return tensor.rows(0, tensor.shape[0])

    def blocks(self, role: str, layer: int = 0) -> Iterator[Any]:
        """A matrix from top to bottom, f32 [rows, columns], a few MiB at a time."""
        tensor = self._find(role, layer)
        dim = self.config.head_dim if self._paired and role in ("q", "k") else 1
        step = max(1, BLOCK_BYTES // (4 * tensor.shape[1] * dim)) * dim
        for first in range(0, tensor.shape[0], step):
            rows = tensor.rows(first, min(step, tensor.shape[0] - first))
            if dim > 1:  # in each head rows i and i + head_dim/2 lie at 2i and 2i + 1
                rows = rows.reshape(-1, dim // 2, 2, tensor.shape[1]).swapaxes(1, 2)
            yield rows.reshape(-1, tensor.shape[1])
