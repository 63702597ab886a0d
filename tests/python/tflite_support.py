"""Checkpoints, conversions and LiteRT runs for the tests of the .tflite files."""

import json
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from exactflash._tflite_reader import TfliteModel
from exactflash.convert_to_tflite import convert_to_tflite

SMALL = {"hidden": 64, "ff": 176, "layers": 22, "heads": 8, "kv_heads": 2, "head_dim": 8, "vocab": 300}


def tensors_of(s: dict[str, int]) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a Llama's tensors."""
    q, kv = s["heads"] * s["head_dim"], s["kv_heads"] * s["head_dim"]
    layer = {
        "input_layernorm": (s["hidden"],),
        "post_attention_layernorm": (s["hidden"],),
        "self_attn.q_proj": (q, s["hidden"]),
        "self_attn.k_proj": (kv, s["hidden"]),
        "self_attn.v_proj": (kv, s["hidden"]),
        "self_attn.o_proj": (s["hidden"], q),
        "mlp.gate_proj": (s["ff"], s["hidden"]),
        "mlp.up_proj": (s["ff"], s["hidden"]),
        "mlp.down_proj": (s["hidden"], s["ff"]),
    }
    tensors = {"model.embed_tokens.weight": (s["vocab"], s["hidden"]), "model.norm.weight": (s["hidden"],)}
    tensors["lm_head.weight"] = (s["vocab"], s["hidden"])
    for i in range(s["layers"]):
        tensors |= {f"model.layers.{i}.{name}.weight": shape for name, shape in layer.items()}
    return tensors


def write_checkpoint(folder: Path, sizes: dict[str, int] = SMALL, zeros: bool = False) -> Path:
    """A Hugging Face folder of random bf16 weights; or of zeros, which take no room on the disk."""
    folder.mkdir(parents=True)
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": sizes["hidden"],
        "intermediate_size": sizes["ff"], "num_hidden_layers": sizes["layers"], "rms_norm_eps": 1e-5,
        "num_attention_heads": sizes["heads"], "num_key_value_heads": sizes["kv_heads"],
        "head_dim": sizes["head_dim"], "vocab_size": sizes["vocab"],
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    header: dict[str, Any] = {}
    size = 0
    for name, shape in tensors_of(sizes).items():
        end = size + 2 * int(np.prod(shape))
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [size, end]}
        size = end
    text = json.dumps(header).encode()
    random = np.random.default_rng(1)
    with open(folder / "model.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        if zeros:
            file.truncate(8 + len(text) + size)
            return folder
        for shape in tensors_of(sizes).values():
            scale = 1.0 if len(shape) == 1 or shape[0] == sizes["vocab"] else shape[1] ** -0.5
            values = (scale * random.standard_normal(shape)).astype(np.float32)
            file.write((values.view(np.uint32) >> 16).astype("<u2").tobytes())
    return folder


def convert(
    checkpoint: Path, path: Path, *, lengths: Sequence[int] = (16, 64), kv: int = 128, quantize: str = "none",
    logits: bool = True, **options: Any,
) -> Path:  # fmt: skip
    """Writes path, and returns it."""
    convert_to_tflite(
        checkpoint, path, prefill_seq_lens=lengths, kv_cache_max_len=kv, quantize=quantize,
        output_logits_on_prefill=logits, **options,
    )  # fmt: skip
    return path


def expected(folder: Path) -> list[tuple[list[int], Any]]:
    """(ids, logits [n, vocab]) of a fixture's prompts, by transformers."""
    info = json.loads((folder / "ids.json").read_text())
    logits = np.fromfile(folder / info["logits_file"], "<f4").reshape(-1, info["vocab_size"])
    rows = zip(info["prompts"], info["logits_row_offset"], strict=True)
    return [(ids, logits[row : row + len(ids)]) for ids, row in rows]


def greatest_difference(path: Path, prompts: list[tuple[list[int], Any]]) -> float:
    """Of the logits of LiteRT, by every prefill signature that fits and by decode, from what is expected."""
    tflite, worst = TfliteModel(str(path), 1, None), 0.0
    for ids, want in prompts:
        runs = [tflite.prefill(f"prefill_{n}", ids) for n in tflite.prefill_lengths if n >= len(ids)]
        got = [logits[0, : len(ids)] for _, logits in runs if logits is not None]
        caches, rows = tflite.empty_caches(), []
        for position, token in enumerate(ids):
            caches, logits = tflite.decode(token, position, caches)
            rows.append(logits[0, 0])
        worst = max([worst, *(float(np.abs(each - want).max()) for each in [*got, np.stack(rows)])])
    return worst


def load(path: Path) -> Any:
    """The FlatBuffer as objects, and the file's bytes."""
    data = path.read_bytes()
    return schema.ModelT.InitFromObj(schema.Model.GetRootAs(data, 0)), data


def matrices(path: Path, graph: int = 0) -> list[tuple[Any, Any]]:
    """(values, scales) of the matrices of a subgraph's linear layers and of its embedding, in order; int8 ones."""
    model, data = load(path)
    subgraph, found = model.subgraphs[graph], []
    wanted = schema.BuiltinOperator.FULLY_CONNECTED, schema.BuiltinOperator.EMBEDDING_LOOKUP
    for operator in subgraph.operators:
        if model.operatorCodes[operator.opcodeIndex].builtinCode in wanted:
            tensor = subgraph.tensors[operator.inputs[1]]
            buffer = model.buffers[tensor.buffer]
            values = np.frombuffer(data, np.int8, buffer.size, buffer.offset).reshape(tensor.shape)
            found.append((values, tensor.quantization.scale))
    return found


def composites(path: Path) -> list[str]:
    """Names of the composites of the first subgraph."""
    model, _ = load(path)
    options = [operator.builtinOptions2 for operator in model.subgraphs[0].operators]
    return [each.name.decode() for each in options if each is not None]
