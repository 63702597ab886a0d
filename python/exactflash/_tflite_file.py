"""A .tflite file in the making: subgraphs, buffers and signatures, and how they reach the disk.

The FlatBuffer has the graphs and small constants only. Weights lie behind it (Buffer.offset and size), so that a
file may be larger than 2 GiB and is written while the checkpoint is read.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from flatbuffers import flexbuffers

F32, F16, INT32, INT8, BOOL = (
    schema.TensorType.FLOAT32, schema.TensorType.FLOAT16, schema.TensorType.INT32, schema.TensorType.INT8,
    schema.TensorType.BOOL,
)  # fmt: skip

ALIGNMENT = 64
_INLINE_BYTES = 1024  # constants shorter than this stay in the FlatBuffer, as in the original's files
_UNKNOWN = (
    2  # stands for an offset until the FlatBuffer's size is known; 0 would be left out, 1 is taken
)
_PLACEHOLDER_LIMIT = 127  # builtin codes above it have this in the older field
_NUMPY_TYPES = {"float32": F32, "int32": INT32}
_OPERATOR_VERSIONS = {"FULLY_CONNECTED": 5, "BROADCAST_TO": 2}
_MIN_RUNTIME_VERSION = b"2.17.0"  # the first with STABLEHLO_COMPOSITE


@dataclass
class Weight:
    """A matrix that is written from row blocks. `scales` is filled while an INT8 one is written."""

    name: str
    shape: tuple[int, int]
    type: int
    blocks: Callable[[], Iterator[Any]]  # f32 [rows, columns] from top to bottom
    buffer: int = 0
    scales: Any = None

    @property
    def size(self) -> int:
        """Bytes in the file."""
        return self.shape[0] * self.shape[1] * {F32: 4, F16: 2, INT8: 1}[self.type]

    def encode(self, rows: Any, first: int) -> Any:
        """Row block to what lies in the file; f32 rows beyond the range of F16 are refused."""
        if self.type == F32:
            return np.ascontiguousarray(rows, "<f4")
        if self.type == F16:
            with np.errstate(over="ignore"):
                half = rows.astype("<f2")
            if not np.isfinite(half).all():
                raise ValueError(f"{self.name}: has weights beyond the range of fp16, 65504")
            return half
        bound = np.maximum(np.abs(rows).max(axis=1), np.float32(1e-9))
        scale = bound / np.float32(127)
        if not np.isfinite(scale).all():
            raise ValueError(f"{self.name}: has weights that are infinite or NaN")
        self.scales[first : first + len(rows)] = scale
        return np.clip(np.rint(rows / scale[:, None]), -127, 127).astype(np.int8)


class Graph:
    """One subgraph."""

    def __init__(self, file: "TfliteFile", name: str) -> None:
        self.file, self.name = file, name
        self.table = schema.SubGraphT()
        self.table.name = name.encode()
        self.table.tensors, self.table.operators = [], []
        self.table.inputs, self.table.outputs = [], []
        self.index = len(file.model.subgraphs)
        file.model.subgraphs.append(self.table)
        self._constants: dict[tuple[Any, ...], int] = {}

    def _tensor(
        self, name: str, shape: Any, kind: int, buffer: int = 0, quantization: Any = None
    ) -> int:
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.type = name.encode(), np.array(shape, np.int32), kind
        tensor.buffer, tensor.quantization, tensor.hasRank = buffer, quantization, True
        self.table.tensors.append(tensor)
        return len(self.table.tensors) - 1

    def shape(self, tensor: int) -> list[int]:
        return list(map(int, self.table.tensors[tensor].shape))

    def input(self, name: str, shape: Any, kind: int = F32) -> int:
        self.table.inputs.append(self._tensor(name, shape, kind))
        return int(self.table.inputs[-1])

    def output(self, tensor: int, name: str | None = None) -> int:
        if name:
            self.table.tensors[tensor].name = name.encode()
        self.table.outputs.append(tensor)
        return tensor

    def constant(self, values: Any, dtype: Any = np.int32) -> int:
        array = np.asarray(values, dtype)
        key = (array.dtype.name, array.shape, array.tobytes())
        if key not in self._constants:
            name = f"constant{len(self._constants)}"
            kind = _NUMPY_TYPES[array.dtype.name]
            self._constants[key] = self._tensor(
                name, array.shape, kind, self.file.constant_buffer(array)
            )
        return self._constants[key]

    def weight(self, weight: Weight) -> int:
        """The matrix, as f32 where it is stored as F16."""
        key = (weight.name,)
        if key not in self._constants:
            quantization = self.file.quantization(weight) if weight.type == INT8 else None
            tensor = self._tensor(weight.name, weight.shape, weight.type, weight.buffer, quantization)
            if weight.type == F16:
                tensor = self.op("DEQUANTIZE", [tensor], weight.shape, name=f"{weight.name}dequantized")
            self._constants[key] = tensor
        return self._constants[key]

    def op(
        self,
        code: str,
        inputs: list[int],
        shape: Any,
        kind: int = F32,
        name: str | None = None,
        **options: Any,
    ) -> int:
        """Appends an operator with one output, and returns it. options: the fields of its options table."""
        operator = schema.OperatorT()
        operator.opcodeIndex = self.file.operator_code(code)
        operator.inputs = np.array(inputs, np.int32)
        output = self._tensor(
            name or f"{self.name}/{len(self.table.operators)}_{code.lower()}", shape, kind
        )
        operator.outputs = np.array([output], np.int32)
        table = _OPTIONS.get(code)
        if table:
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, table)
            operator.builtinOptions = getattr(schema, table + "T")()
            for field, value in options.items():
                setattr(operator.builtinOptions, field, value)
        self.table.operators.append(operator)
        return output

    def composite(
        self,
        name: str,
        decomposition: "Graph",
        attributes: dict[str, float],
        inputs: list[int],
        shape: Any,
    ) -> int:
        """An operator that a runtime may know by its name; one that doesn't runs the decomposition."""
        output = self.op("STABLEHLO_COMPOSITE", inputs, shape)
        operator = self.table.operators[-1]
        options = schema.StableHLOCompositeOptionsT()
        options.name, options.version = name.encode(), 0
        options.decompositionSubgraphIndex = decomposition.index
        options.compositeAttributes = np.frombuffer(_attributes(attributes), np.uint8)
        operator.builtinOptions2Type = schema.BuiltinOptions2.StableHLOCompositeOptions
        operator.builtinOptions2 = options
        return output


_OPTIONS = {
    "ADD": "AddOptions",
    "SUB": "SubOptions",
    "MUL": "MulOptions",
    "CONCATENATION": "ConcatenationOptions",
    "FULLY_CONNECTED": "FullyConnectedOptions",
    "MEAN": "ReducerOptions",
    "BATCH_MATMUL": "BatchMatMulOptions",
    "SOFTMAX": "SoftmaxOptions",
    "SELECT_V2": "SelectV2Options",
    "GREATER": "GreaterOptions",
    "DEQUANTIZE": "DequantizeOptions",
}


def _attributes(values: dict[str, float]) -> bytes:
    builder = flexbuffers.Builder()
    with builder.Map():
        for name, value in values.items():
            builder.Key(name)
            builder.Float(value, 4)
    return bytes(builder.Finish())


class TfliteFile:
    """Graphs are added first; then write() is called once."""

    def __init__(self, description: str) -> None:
        self.model = schema.ModelT()
        self.model.version, self.model.description = 3, description.encode()
        self.model.operatorCodes, self.model.subgraphs = [], []
        self.model.signatureDefs, self.model.buffers = [], [schema.BufferT()]
        self._codes: dict[str, int] = {}
        self._constants: dict[bytes, int] = {}
        self._quantization: dict[str, Any] = {}
        self.weights: list[Weight] = []
        self._outside: list[tuple[int, bytes]] = []  # (buffer, constant)
        metadata = schema.MetadataT()
        metadata.name = b"min_runtime_version"
        metadata.buffer = self._inline(_MIN_RUNTIME_VERSION.ljust(16, b"\0"))
        self.model.metadata = [metadata]

    def operator_code(self, name: str) -> int:
        if name not in self._codes:
            code = schema.OperatorCodeT()
            code.builtinCode = getattr(schema.BuiltinOperator, name)
            code.deprecatedBuiltinCode = min(code.builtinCode, _PLACEHOLDER_LIMIT)
            code.version = _OPERATOR_VERSIONS.get(name, 1)
            self._codes[name] = len(self.model.operatorCodes)
            self.model.operatorCodes.append(code)
        return self._codes[name]

    def _buffer(self, data: Any) -> int:
        buffer = schema.BufferT()
        buffer.data = data
        if data is None:
            buffer.offset = buffer.size = _UNKNOWN
        self.model.buffers.append(buffer)
        return len(self.model.buffers) - 1

    def _inline(self, data: bytes) -> int:
        return self._buffer(np.frombuffer(data, np.uint8))

    def constant_buffer(self, array: Any) -> int:
        data = array.tobytes()
        if data not in self._constants:
            if len(data) < _INLINE_BYTES:
                self._constants[data] = self._inline(data)
            else:
                self._constants[data] = self._buffer(None)
                self._outside.append((self._constants[data], data))
        return self._constants[data]

    def add_weight(self, weight: Weight) -> Weight:
        weight.buffer = self._buffer(None)
        if weight.type == INT8:
            weight.scales = np.ones(weight.shape[0], np.float32)
        self.weights.append(weight)
        return weight

    def quantization(self, weight: Weight) -> Any:
        if weight.name not in self._quantization:
            table = schema.QuantizationParametersT()
            table.scale, table.zeroPoint = weight.scales, np.zeros(weight.shape[0], np.int64)
            table.quantizedDimension = 0
            self._quantization[weight.name] = table
        return self._quantization[weight.name]

    def add_signature(
        self, name: str, graph: Graph, inputs: dict[str, int], outputs: dict[str, int]
    ) -> None:
        signature = schema.SignatureDefT()
        signature.signatureKey, signature.subgraphIndex = name.encode(), graph.index
        signature.inputs, signature.outputs = _tensor_maps(inputs), _tensor_maps(outputs)
        self.model.signatureDefs.append(signature)

    def _flatbuffer(self) -> bytes:
        builder = flatbuffers.Builder(1 << 20)
        builder.Finish(self.model.Pack(builder), b"TFL3")
        return bytes(builder.Output())

    def _place(self, start: int) -> int:
        """Gives every buffer behind the FlatBuffer its place; returns the size of the file."""
        sizes = [(buffer, len(data)) for buffer, data in self._outside]
        sizes += [(weight.buffer, weight.size) for weight in self.weights]
        for buffer, size in sizes:
            start = -(-start // ALIGNMENT) * ALIGNMENT
            self.model.buffers[buffer].offset, self.model.buffers[buffer].size = start, size
            start += size
        return start

    def write(self, file: BinaryIO, progress: Callable[[int, int], None]) -> int:
        """progress(done, total) is told bytes. Returns the size of the file.

        The FlatBuffer is written last: scales are known when the rows have been read. Its size is known before: it
        depends on no value.
        """
        head = len(self._flatbuffer())
        total = self._place(head)
        for buffer, data in self._outside:
            file.seek(self.model.buffers[buffer].offset)
            file.write(data)
        for weight in self.weights:
            file.seek(self.model.buffers[weight.buffer].offset)
            first = 0
            for rows in weight.blocks():
                file.write(weight.encode(rows, first).data)
                first += len(rows)
                progress(file.tell(), total)
            if first != weight.shape[0]:
                raise ValueError(f"{weight.name}: has {first} rows, not {weight.shape[0]}")
        table = self._flatbuffer()
        if len(table) != head:
            raise ValueError("the FlatBuffer has changed its size")
        file.seek(0)
        file.write(table)
        progress(total, total)
        return total


def _tensor_maps(tensors: dict[str, int]) -> list[Any]:
    maps = []
    for name in sorted(tensors):
        item = schema.TensorMapT()
        item.name, item.tensorIndex = name.encode(), tensors[name]
        maps.append(item)
    return maps
