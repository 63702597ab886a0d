"""A .tflite file of a Llama, run by LiteRT."""

import mmap
import re
import struct
from pathlib import Path
from typing import Any

import numpy as np

from exactflash._errors import FileError, FormatError, UnsupportedError

Caches = dict[str, Any]  # kv_cache_k_0, … to f32 [1, kv, kv_heads, head_dim]

PREFILL = "prefill_"


def check_file(path: Path) -> str:
    """What LiteRT may take for granted: the identifier, and that all buffers lie within the file.

    Returns the type of the weights: f32, fp16 or int8, or "other"."""
    from ai_edge_litert import schema_py_generated as schema

    try:
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            if data[4:8] != b"TFL3":
                raise FormatError(f"{path}: is no .tflite file: it lacks the identifier TFL3")
            model = schema.Model.GetRootAs(data, 0)
            for i in range(model.BuffersLength()):
                buffer = model.Buffers(i)
                size = buffer.DataLength()
                if buffer.Offset() + buffer.Size() > len(data) or size > len(data):
                    raise FormatError(f"{path}: buffer {i} ends behind the file: it is truncated")
            return _weights(schema, model, path)
    except OSError as error:
        raise FileError(f"{path}: {error.strerror}") from error
    except (struct.error, IndexError, TypeError, ValueError) as error:
        if isinstance(error, FormatError):
            raise
        raise FormatError(f"{path}: its FlatBuffer is damaged or truncated: {error}") from error


def _index(value: int, count: int, what: str, path: Path) -> int:
    """value, which a file uses as an index of `count` things."""
    if not 0 <= value < count:
        raise FormatError(f"{path}: subgraph 0 uses {what} {value} of {count}: the file is damaged")
    return value


def _weights(schema: Any, model: Any, path: Path) -> str:
    """The type of the matrices of the first subgraph's linear layers."""
    if not model.SubgraphsLength():
        raise FormatError(f"{path}: has no subgraph: it holds no model")
    graph = model.Subgraphs(0)
    operators = [graph.Operators(i) for i in range(graph.OperatorsLength())]
    produced = {operator.Outputs(0): operator for operator in operators if operator.OutputsLength()}
    kinds = set()
    for operator in operators:
        code = _index(operator.OpcodeIndex(), model.OperatorCodesLength(), "operator code", path)
        if model.OperatorCodes(code).BuiltinCode() != schema.BuiltinOperator.FULLY_CONNECTED:
            continue
        if operator.InputsLength() < 2:
            raise FormatError(f"{path}: a FULLY_CONNECTED of subgraph 0 has no weights")
        matrix = operator.Inputs(1)
        if matrix in produced and produced[matrix].InputsLength():  # DEQUANTIZE
            matrix = produced[matrix].Inputs(0)
        kinds.add(graph.Tensors(_index(matrix, graph.TensorsLength(), "tensor", path)).Type())
    names = {value: name for name, value in vars(schema.TensorType).items() if isinstance(value, int)}
    own = {"FLOAT32": "f32", "FLOAT16": "fp16", "INT8": "int8"}
    return "+".join(sorted(own.get(names.get(kind, "?"), "other") for kind in kinds))


class TfliteModel:
    """The signatures of a file; caches are handed in and come back."""

    def __init__(self, path: str, threads: int, delegate: str | None) -> None:
        from ai_edge_litert import interpreter as litert

        self.path = Path(path)
        self.weights = check_file(self.path)
        delegates = [litert.load_delegate(delegate)] if delegate else None
        self._interpreter = litert.Interpreter(
            model_path=str(self.path), num_threads=threads, experimental_delegates=delegates
        )
        self.signatures: dict[str, Any] = self._interpreter.get_signature_list()
        if "decode" not in self.signatures:
            raise UnsupportedError(f"{path}: has no signature decode")
        lengths = (re.fullmatch(PREFILL + r"(\d+)", name) for name in self.signatures)
        self.prefill_lengths = sorted(int(match[1]) for match in lengths if match)
        self._runners = {name: self._interpreter.get_signature_runner(name) for name in self._names()}
        self._check_inputs()

    def _names(self) -> list[str]:
        return [f"{PREFILL}{n}" for n in self.prefill_lengths] + ["decode"]

    def _check_inputs(self) -> None:
        details = self._runners["decode"].get_input_details()
        self.layers = sum(name.startswith("kv_cache_k_") for name in details)
        caches = [f"kv_cache_{x}_{i}" for i in range(self.layers) for x in "kv"]
        for name in self._names():
            signature = self.signatures[name]
            extra = set(signature["inputs"]) - {"tokens", "input_pos", "mask", *caches}
            missing = {"tokens", "input_pos", *caches} - set(signature["inputs"])
            if extra or missing or not set(caches) <= set(signature["outputs"]) or not caches:
                raise UnsupportedError(
                    f"{self.path}: the inputs of signature {name} are {', '.join(signature['inputs'])}; "
                    "expected are tokens, input_pos, mask (may lack), kv_cache_k_i and kv_cache_v_i"
                )
        self.cache_shape = tuple(int(n) for n in details["kv_cache_k_0"]["shape"])
        if len(self.cache_shape) != 4 or self.cache_shape[0] != 1:
            raise UnsupportedError(
                f"{self.path}: caches must be [1, kv, kv_heads, head_dim], not {list(self.cache_shape)}"
            )
        if not self.has_logits("decode"):
            raise UnsupportedError(
                f"{self.path}: the outputs of signature decode are "
                f"{', '.join(self.signatures['decode']['outputs'])}; logits must be one of them"
            )
        self.vocab_size = int(self._runners["decode"].get_output_details()["logits"]["shape"][-1])

    def has_logits(self, name: str) -> bool:
        return "logits" in self.signatures[name]["outputs"]

    def empty_caches(self) -> Caches:
        names = [f"kv_cache_{x}_{i}" for i in range(self.layers) for x in "kv"]
        return {name: np.zeros(self.cache_shape, np.float32) for name in names}

    def caches_of(self, k: Any, v: Any) -> Caches:
        """k and v [layers, kv, kv_heads, head_dim]"""
        return {
            f"kv_cache_{x}_{i}": rows[None]
            for x, all_rows in (("k", k), ("v", v))
            for i, rows in enumerate(all_rows)
        }

    def _call(self, name: str, tokens: list[int], first: int, caches: Caches) -> tuple[Caches, Any]:
        positions = np.arange(first, first + len(tokens), dtype=np.int32)
        inputs = {"tokens": np.array([tokens], np.int32), "input_pos": positions, **caches}
        if "mask" in self.signatures[name]["inputs"]:
            later = np.arange(self.cache_shape[1]) > positions[:, None]
            inputs["mask"] = np.where(later, np.finfo(np.float32).min, 0).astype(np.float32)[None, None]
        outputs = self._runners[name](**inputs)
        logits = outputs.pop("logits", None)
        return outputs, logits

    def prefill(self, name: str, ids: list[int]) -> tuple[Caches, Any]:
        """(caches, logits or None) of ids from position 0 on, padded to the signature's length."""
        padding = [0] * (int(name.removeprefix(PREFILL)) - len(ids))
        return self._call(name, ids + padding, 0, self.empty_caches())

    def decode(self, token: int, position: int, caches: Caches) -> tuple[Caches, Any]:
        return self._call("decode", [token], position, caches)

    def run(self, ids: list[int], caches: Caches) -> Caches:
        """Caches of ids from position 0 on: prefilled as far as a signature reaches, the rest decoded."""
        fitting = [n for n in self.prefill_lengths if n >= len(ids)] or self.prefill_lengths[-1:]
        done = 0
        if fitting:
            done = min(len(ids), fitting[0])
            caches, _ = self.prefill(f"{PREFILL}{fitting[0]}", ids[:done])
        for position in range(done, len(ids)):
            caches, _ = self.decode(ids[position], position, caches)
        return caches
