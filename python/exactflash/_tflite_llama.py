"""The graphs of a Llama in a .tflite file: one signature for each prefill length, and decode.

Signatures, shapes and the order of the operators that have weights are those of litert-torch's files:
tokens [1, N], input_pos [N], kv_cache_k_i and kv_cache_v_i [1, kv_cache_max_len, kv_heads, head_dim].
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from exactflash._checkpoint import Checkpoint
from exactflash._tflite_file import BOOL, F16, F32, INT8, INT32, Graph, TfliteFile, Weight

WEIGHT_TYPES = {"none": F32, "fp16": F16, "dynamic_int8": INT8}
MASKED = np.finfo(np.float32).min


@dataclass(frozen=True)
class Plan:
    """What is to be written."""

    prefill_seq_lens: tuple[int, ...]
    kv_cache_max_len: int
    quantize: str = "none"
    use_flash_attention: bool = True  # attention as a composite; else as plain operators
    output_logits_on_prefill: bool = False
    mask_as_input: bool = False


@dataclass
class _Layer:
    attention_norm: Any
    qkv: Weight
    o: Weight
    mlp_norm: Any
    gate: Weight
    up: Weight
    down: Weight


class _Weights:
    """The checkpoint's tensors, each once, for all subgraphs."""

    def __init__(self, file: TfliteFile, checkpoint: Checkpoint, kind: int) -> None:
        self._file, self._checkpoint, self._kind = file, checkpoint, kind
        config = checkpoint.config
        self.embedding = self._add(
            "Embedding_tok_embedding", ["embedding"], config.vocab_size, config.hidden_size
        )
        self.layers = [self._layer(i) for i in range(config.layers)]
        self.norm = checkpoint.vector("norm")
        if config.tied_embeddings:
            self.head = self.embedding
        else:
            self.head = self._add("Linear_lm_head", ["head"], config.vocab_size, config.hidden_size)

    def _layer(self, i: int) -> _Layer:
        config, checkpoint = self._checkpoint.config, self._checkpoint
        hidden, ff, q = config.hidden_size, config.intermediate_size, config.heads * config.head_dim
        block = f"TransformerBlock_{i}"
        attention, feed_forward = (
            f"{block}/CausalSelfAttention_atten_func",
            f"{block}/GatedFeedForward_ff",
        )
        return _Layer(
            checkpoint.vector("attention_norm", i),
            self._add(f"{attention}/Linear_qkv_projection", ["q", "k", "v"], config.qkv_rows, hidden, i),
            self._add(f"{attention}/Linear_output_projection", ["o"], hidden, q, i),
            checkpoint.vector("mlp_norm", i),
            self._add(f"{feed_forward}/Linear_w1", ["gate"], ff, hidden, i),
            self._add(f"{feed_forward}/Linear_w3", ["up"], ff, hidden, i),
            self._add(f"{feed_forward}/Linear_w2", ["down"], hidden, ff, i),
        )

    def _add(self, name: str, roles: list[str], rows: int, columns: int, layer: int = 0) -> Weight:
        def blocks() -> Iterator[Any]:
            for role in roles:
                yield from self._checkpoint.blocks(role, layer)

        return self._file.add_weight(Weight(f"Llama/{name};", (rows, columns), self._kind, blocks))


class _Decompositions:
    """The subgraphs behind composites; those of one shape are shared."""

    def __init__(self, file: TfliteFile) -> None:
        self._file = file
        self._graphs: dict[tuple[Any, ...], Graph] = {}

    def rms_norm(self, shape: list[int], eps: float) -> Graph:
        key = ("rms_norm", *shape)
        if key not in self._graphs:
            graph = self._start("odml.rms_norm.impl")
            graph.output(
                _rms_norm(graph, graph.input("x", shape), graph.input("weight", shape[-1:]), eps)
            )
            self._graphs[key] = graph
        return self._graphs[key]

    def attention(self, shapes: list[list[int]], scale: float) -> Graph:
        key = ("attention", *map(tuple, shapes))
        if key not in self._graphs:
            graph = self._start("odml.scaled_dot_product_attention.impl")
            q, k, v, mask = (
                graph.input(n, s) for n, s in zip(("q", "k", "v", "mask"), shapes, strict=True)
            )
            graph.output(_attention(graph, q, k, v, mask, scale))
            self._graphs[key] = graph
        return self._graphs[key]

    def _start(self, name: str) -> Graph:
        same = sum(graph.name.startswith(name) for graph in self._graphs.values())
        return Graph(self._file, f"{name}_{same - 1}" if same else name)


def _rms_norm(g: Graph, x: int, weight: int, eps: float) -> int:
    shape = g.shape(x)
    one = [*shape[:-1], 1]
    mean = g.op("MEAN", [g.op("MUL", [x, x], shape), g.constant([len(shape) - 1])], one, keepDims=True)
    rsqrt = g.op("RSQRT", [g.op("ADD", [mean, g.constant(eps, np.float32)], one)], one)
    return g.op("MUL", [g.op("MUL", [x, rsqrt], shape), weight], shape)


def _reshape(g: Graph, x: int, shape: list[int], kind: int = F32) -> int:
    return g.op("RESHAPE", [x, g.constant(shape)], shape, kind)


def _transpose(g: Graph, x: int, order: list[int]) -> int:
    shape = g.shape(x)
    return g.op("TRANSPOSE", [x, g.constant(order)], [shape[i] for i in order])


def _slice(g: Graph, x: int, begin: list[int], size: list[int], kind: int = F32) -> int:
    return g.op("SLICE", [x, g.constant(begin), g.constant(size)], size, kind)


def _attention(g: Graph, q: int, k: int, v: int, mask: int, scale: float) -> int:
    """q [1, n, heads, d], k and v [1, kv, kv_heads, d], mask [1, 1, n, kv]: [1, n, heads, d].

    Query heads of one KV head are rows of one matrix, so that K and V are not repeated."""
    _, n, heads, d = g.shape(q)
    _, kv, kv_heads, _ = g.shape(k)
    rows = heads // kv_heads * n
    scaled = g.op("MUL", [q, g.constant(scale, np.float32)], g.shape(q))
    grouped = _reshape(g, _transpose(g, scaled, [0, 2, 1, 3]), [kv_heads, rows, d])
    keys = _reshape(g, _transpose(g, k, [0, 2, 3, 1]), [kv_heads, d, kv])
    values = _reshape(g, _transpose(g, v, [0, 2, 1, 3]), [kv_heads, kv, d])
    scores = _reshape(g, g.op("BATCH_MATMUL", [grouped, keys], [kv_heads, rows, kv]), [1, heads, n, kv])
    visible = g.op("ADD", [scores, mask], [1, heads, n, kv])
    weights = g.op("SOFTMAX", [visible], [1, heads, n, kv], beta=1.0)
    out = g.op("BATCH_MATMUL", [_reshape(g, weights, [kv_heads, rows, kv]), values], [kv_heads, rows, d])
    return _transpose(g, _reshape(g, out, [1, heads, n, d]), [0, 2, 1, 3])


class _Signature:
    """One entry point over n tokens."""

    def __init__(self, name: str, n: int, plan: Plan, weights: _Weights, config: Any, shared: _Decompositions,
                 file: TfliteFile) -> None:  # fmt: skip
        self.name, self.n, self.plan, self.config = name, n, plan, config
        self.weights, self.shared, self.file = weights, shared, file
        self.g = Graph(file, name)
        self.with_logits = name == "decode" or plan.output_logits_on_prefill

    def build(self) -> None:
        g, n = self.g, self.n
        cache = [1, self.plan.kv_cache_max_len, self.config.kv_heads, self.config.head_dim]
        names = [f"kv_cache_{which}_{i}" for i in range(self.config.layers) for which in "kv"]
        inputs = {"tokens": g.input(f"{self.name}_tokens", [1, n], INT32)}
        inputs["input_pos"] = g.input(f"{self.name}_input_pos", [n], INT32)
        inputs |= {name: g.input(f"{self.name}_{name}", cache) for name in names}
        if self.plan.mask_as_input:
            inputs["mask"] = g.input(f"{self.name}_mask", [1, 1, n, cache[1]])
        x = self._embed(inputs["tokens"])
        self._positions(inputs["input_pos"])
        self.mask = inputs["mask"] if self.plan.mask_as_input else self._mask(inputs["input_pos"])
        outputs: dict[str, int] = {}
        for i, layer in enumerate(self.weights.layers):
            caches = inputs[f"kv_cache_k_{i}"], inputs[f"kv_cache_v_{i}"]
            last = i == self.config.layers - 1 and not self.with_logits
            x, outputs[f"kv_cache_k_{i}"], outputs[f"kv_cache_v_{i}"] = self._layer(
                x, layer, caches, last
            )
        if self.with_logits:
            logits = self._linear(self._norm(x, self.weights.norm), self.weights.head)
            outputs = {"logits": logits, **outputs}
        for name, tensor in outputs.items():
            g.output(tensor, f"{self.name}_{name}_output")
        self.file.add_signature(self.name, g, inputs, outputs)

    def _embed(self, tokens: int) -> int:
        g, hidden = self.g, self.config.hidden_size
        ids = _reshape(g, tokens, [self.n], INT32)
        rows = g.op("EMBEDDING_LOOKUP", [ids, g.weight(self.weights.embedding)], [self.n, hidden])
        return _reshape(g, rows, [1, self.n, hidden])

    def _positions(self, input_pos: int) -> None:
        """cos and sin [1, n, 1, head_dim / 2], and where the caches are updated."""
        g, n, half = self.g, self.n, self.config.head_dim // 2
        positions = g.op("CAST", [_reshape(g, input_pos, [1, n, 1], INT32)], [1, n, 1])
        inv_freq = g.constant(self.config.inv_freq.reshape(1, 1, half), np.float32)
        angles = g.op("MUL", [positions, inv_freq], [1, n, half])
        self.cos, self.sin = (
            _reshape(g, g.op(f, [angles], [1, n, half]), [1, n, 1, half]) for f in ("COS", "SIN")
        )
        first = _slice(g, input_pos, [0], [1], INT32)
        self.start = g.op(
            "CONCATENATION", [g.constant([0]), first, g.constant([0, 0])], [4], INT32, axis=0
        )

    def _mask(self, input_pos: int) -> int:
        """0 where a key is seen, at and before a token's own position."""
        g, n, kv = self.g, self.n, self.plan.kv_cache_max_len
        own = _reshape(g, input_pos, [1, 1, n, 1], INT32)
        slots = g.constant(np.arange(kv).reshape(1, 1, 1, kv))
        later = g.op("GREATER", [slots, own], [1, 1, n, kv], BOOL)
        choices = [g.constant(MASKED, np.float32), g.constant(0, np.float32)]
        return g.op("SELECT_V2", [later, *choices], [1, 1, n, kv])

    def _norm(self, x: int, weight: Any) -> int:
        g, eps = self.g, float(np.float32(self.config.rms_norm_eps))
        impl = self.shared.rms_norm(g.shape(x), eps)
        return g.composite(
            "odml.rms_norm", impl, {"epsilon": eps}, [x, g.constant(weight, np.float32)], g.shape(x)
        )

    def _linear(self, x: int, weight: Weight) -> int:
        g = self.g
        shape = [*g.shape(x)[:-1], weight.shape[0]]
        return g.op("FULLY_CONNECTED", [x, g.weight(weight), -1], shape, keepNumDims=True)

    def _rope(self, x: int) -> int:
        """x [1, n, heads, d]: elements i and i + d/2 are turned by position · inv_freq[i]."""
        g = self.g
        shape = [*g.shape(x)[:3], g.shape(x)[3] // 2]
        low, high = (_slice(g, x, [0, 0, 0, begin], shape) for begin in (0, shape[3]))

        def times(a: int, b: int) -> int:
            return g.op("MUL", [a, b], shape)

        turned = g.op("SUB", [times(low, self.cos), times(high, self.sin)], shape)
        other = g.op("ADD", [times(high, self.cos), times(low, self.sin)], shape)
        return g.op("CONCATENATION", [turned, other], g.shape(x), axis=3)

    def _layer(self, x: int, layer: _Layer, caches: tuple[int, int], last: bool) -> tuple[int, int, int]:
        """(x, k, v). last: nothing but the caches is asked of it."""
        g, heads, kv_heads, d = self.g, self.config.heads, self.config.kv_heads, self.config.head_dim
        qkv = self._linear(self._norm(x, layer.attention_norm), layer.qkv)
        rows = _reshape(g, qkv, [1, self.n, heads + 2 * kv_heads, d])

        def part(begin: int, count: int) -> int:
            return _slice(g, rows, [0, 0, begin, 0], [1, self.n, count, d])

        new = self._rope(part(heads, kv_heads)), part(heads + kv_heads, kv_heads)
        k, v = (
            g.op("DYNAMIC_UPDATE_SLICE", [cache, update, self.start], g.shape(cache))
            for cache, update in zip(caches, new, strict=True)
        )
        if last:
            return x, k, v
        attended = _reshape(g, self._attend(self._rope(part(0, heads)), k, v), [1, self.n, heads * d])
        x = g.op("ADD", [x, self._linear(attended, layer.o)], g.shape(x))
        return self._feed_forward(x, layer), k, v

    def _feed_forward(self, x: int, layer: _Layer) -> int:
        g = self.g
        y = self._norm(x, layer.mlp_norm)
        gate = self._linear(y, layer.gate)
        silu = g.op("MUL", [gate, g.op("LOGISTIC", [gate], g.shape(gate))], g.shape(gate))
        gated = g.op("MUL", [silu, self._linear(y, layer.up)], g.shape(gate))
        return g.op("ADD", [x, self._linear(gated, layer.down)], g.shape(x))

    def _attend(self, q: int, k: int, v: int) -> int:
        g, scale = self.g, float(np.float32(self.config.head_dim**-0.5))
        if not self.plan.use_flash_attention:
            return _attention(g, q, k, v, self.mask, scale)
        impl = self.shared.attention([g.shape(t) for t in (q, k, v, self.mask)], scale)
        name = "odml.scaled_dot_product_attention"
        return g.composite(name, impl, {"scale": scale}, [q, k, v, self.mask], g.shape(q))


def build(checkpoint: Checkpoint, plan: Plan) -> TfliteFile:
    """The whole file; its weights are read when it is written."""
    file = TfliteFile("exactflash")
    weights = _Weights(file, checkpoint, WEIGHT_TYPES[plan.quantize])
    shared = _Decompositions(file)
    entries = [(f"prefill_{n}", n) for n in plan.prefill_seq_lens] + [("decode", 1)]
    signatures = [
        _Signature(name, n, plan, weights, checkpoint.config, shared, file) for name, n in entries
    ]
    for signature in signatures:
        signature.build()
    return file
