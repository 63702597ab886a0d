"""The attention of other libraries, for compare.py. A peer is left out where its module is missing."""

import ctypes
import importlib.metadata
from pathlib import Path

import numpy

Q_HEADS, KV_HEADS, HEAD_DIM = 32, 4, 64
GROUP = Q_HEADS // KV_HEADS


class Problem:
    """Causal attention of q_len queries, the last of kv_len positions: all of them, or one."""

    def __init__(self, q_len, kv_len):
        random = numpy.random.default_rng(0)
        self.q_len, self.kv_len = q_len, kv_len
        self.q = random.standard_normal((q_len, Q_HEADS, HEAD_DIM), numpy.float32)
        self.k = random.standard_normal((kv_len, KV_HEADS, HEAD_DIM), numpy.float32)
        self.v = random.standard_normal((kv_len, KV_HEADS, HEAD_DIM), numpy.float32)
        self.flops = 4 * HEAD_DIM * Q_HEADS * q_len * (kv_len - q_len + 1 + kv_len) / 2
        assert q_len in (1, kv_len)

    def heads_first(self, type_=numpy.float32):
        return [numpy.ascontiguousarray(x.swapaxes(0, 1), type_) for x in (self.q, self.k, self.v)]


class Torch:
    """scaled_dot_product_attention: with enable_gqa; with K and V expanded to all heads beforehand,
    which is not counted; for one query also with the heads of a group as queries."""

    module, tolerance = "torch", 2e-5

    def __init__(self, threads):
        import torch  # pylint: disable=import-outside-toplevel
        self.torch = torch
        torch.set_num_threads(threads)

    def ways(self, problem):
        attention = self.torch.nn.functional.scaled_dot_product_attention
        q, k, v = (self.torch.from_numpy(x)[None] for x in problem.heads_first())
        wide_k, wide_v = (x.repeat_interleave(GROUP, 1).contiguous() for x in (k, v))
        causal = problem.q_len > 1
        ways = {"gqa": lambda: attention(q, k, v, is_causal=causal, enable_gqa=True),
                "expanded": lambda: attention(q, wide_k, wide_v, is_causal=causal)}
        if problem.q_len == 1:
            folded = q.reshape(1, KV_HEADS, GROUP, HEAD_DIM)
            ways["folded"] = lambda: attention(folded, k, v)
        return ways

    @staticmethod
    def result(problem, out):
        return out.numpy().reshape(Q_HEADS, problem.q_len, HEAD_DIM).swapaxes(0, 1)


class OnnxRuntime:
    """GroupQueryAttention, which appends K and V to its cache: of a prompt all, of one query its
    own into a cache that it shares with the output, as a decoder does."""

    module, tolerance = "onnxruntime", 2e-5

    def __init__(self, threads):
        import onnxruntime  # pylint: disable=import-outside-toplevel
        self.ort = onnxruntime
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        # Its threads shall not spin while others are measured.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        self.session = onnxruntime.InferenceSession(self.model(), options,
                                                    providers=["CPUExecutionProvider"])

    @staticmethod
    def model():
        from onnx import TensorProto, helper  # pylint: disable=import-outside-toplevel
        inputs = ["query", "key", "value", "past_key", "past_value"]
        outputs = ["output", "present_key", "present_value"]
        floats = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
                  for name in inputs + outputs]
        lengths = [helper.make_tensor_value_info(name, TensorProto.INT32, None)
                   for name in ("seqlens_k", "total_sequence_length")]
        node = helper.make_node("GroupQueryAttention", inputs + [x.name for x in lengths], outputs,
                                domain="com.microsoft", num_heads=Q_HEADS, kv_num_heads=KV_HEADS)
        graph = helper.make_graph([node], "attention", floats[:5] + lengths, floats[5:])
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
        return model.SerializeToString()

    def ways(self, problem):
        q_len, kv_len = problem.q_len, problem.kv_len
        _, k, v = (x[None] for x in problem.heads_first())
        value = self.ort.OrtValue.ortvalue_from_numpy
        caches = [value(k), value(v)]
        pasts = caches if q_len == 1 else [value(x[:, :, :0].copy()) for x in (k, v)]
        out = value(numpy.zeros((1, q_len, Q_HEADS * HEAD_DIM), numpy.float32))
        fresh = [x[kv_len - q_len:].reshape(1, q_len, -1) for x in (problem.k, problem.v)]
        inputs = [value(problem.q.reshape(1, q_len, -1)), *map(value, fresh), *pasts,
                  value(numpy.array([kv_len - 1], numpy.int32)),
                  value(numpy.array(kv_len, numpy.int32))]
        binding = self.session.io_binding()
        for node, data in zip(self.session.get_inputs(), inputs):
            binding.bind_ortvalue_input(node.name, data)
        for node, data in zip(self.session.get_outputs(), [out, *caches]):
            binding.bind_ortvalue_output(node.name, data)

        def run():
            self.session.run_with_iobinding(binding)
            return out
        return {"GroupQueryAttention": run}

    @staticmethod
    def result(problem, out):
        return out.numpy().reshape(problem.q_len, Q_HEADS, HEAD_DIM)


class GgmlInit(ctypes.Structure):
    """struct ggml_init_params"""
    _fields_ = [("mem_size", ctypes.c_size_t), ("mem_buffer", ctypes.c_void_p),
                ("no_alloc", ctypes.c_bool)]


class LlamaCpp:
    """ggml_flash_attn_ext on a cache of f16, llama.cpp's default, each head's K and V dense."""

    module, tolerance = "llama_cpp", 5e-3
    F32, F16 = 0, 1

    def __init__(self, threads):
        import llama_cpp  # pylint: disable=import-outside-toplevel
        folder = Path(llama_cpp.__file__).parent / "lib"
        self.base, self.cpu = (ctypes.CDLL(str(folder / f"libggml-{name}.so"))
                               for name in ("base", "cpu"))
        pointer, i64, real = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float
        for library, name, result, arguments in (
                (self.base, "ggml_init", pointer, [GgmlInit]),
                (self.base, "ggml_free", None, [pointer]),
                (self.base, "ggml_new_tensor_3d", pointer, [pointer, ctypes.c_int] + [i64] * 3),
                (self.base, "ggml_get_data", pointer, [pointer]),
                (self.base, "ggml_flash_attn_ext", pointer, [pointer] * 5 + [real] * 3),
                (self.base, "ggml_new_graph", pointer, [pointer]),
                (self.base, "ggml_build_forward_expand", None, [pointer] * 2),
                (self.base, "ggml_backend_graph_compute", ctypes.c_int, [pointer] * 2),
                (self.cpu, "ggml_backend_cpu_init", pointer, []),
                (self.cpu, "ggml_backend_cpu_set_n_threads", None, [pointer, ctypes.c_int])):
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
        self.backend = self.cpu.ggml_backend_cpu_init()
        self.cpu.ggml_backend_cpu_set_n_threads(self.backend, threads)
        self.context = None

    def tensor(self, data):
        """A tensor with a copy of data; its sizes are named from the innermost on."""
        kind = self.F16 if data.dtype == numpy.float16 else self.F32
        tensor = self.base.ggml_new_tensor_3d(self.context, kind, *reversed(data.shape))
        ctypes.memmove(self.base.ggml_get_data(tensor), data.ctypes.data, data.nbytes)
        return tensor

    def ways(self, problem):
        q_len, kv_len = problem.q_len, problem.kv_len
        q = problem.heads_first()[0]
        k, v = problem.heads_first(numpy.float16)[1:]
        rows = -(-q_len // 64) * 64  # older versions want the mask padded so
        mask = numpy.zeros((1, rows, kv_len), numpy.float16)
        if q_len > 1:
            mask[0, :q_len] = numpy.triu(numpy.full((q_len, kv_len), -numpy.inf), 1)
        bytes_ = 2 * q.nbytes + k.nbytes + v.nbytes + mask.nbytes + (16 << 20)
        if self.context:
            self.base.ggml_free(self.context)
        self.context = self.base.ggml_init(GgmlInit(bytes_, None, False))
        out = self.base.ggml_flash_attn_ext(
            self.context, *(self.tensor(x) for x in (q, k, v, mask)), HEAD_DIM ** -0.5, 0, 0)
        graph = self.base.ggml_new_graph(self.context)
        self.base.ggml_build_forward_expand(graph, out)

        def run():
            self.base.ggml_backend_graph_compute(self.backend, graph)
            return out
        return {"f16 cache": run}

    def result(self, problem, out):
        shape = (problem.q_len, Q_HEADS, HEAD_DIM)
        data = (ctypes.c_float * numpy.prod(shape)).from_address(self.base.ggml_get_data(out))
        return numpy.ctypeslib.as_array(data).reshape(shape)


PACKAGES = {"torch": Torch, "onnxruntime": OnnxRuntime, "llama-cpp-python": LlamaCpp}


def installed():
    """Name and version of the packages that are there."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            pass
    return versions
