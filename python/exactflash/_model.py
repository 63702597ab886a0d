"""Llama-architecture models: opened, run over tokens, and their KV caches."""

import os
from collections.abc import Callable, Iterator, Sequence
from ctypes import byref, c_int32, c_void_p, cast, sizeof
from ctypes import POINTER as pointer_to
from dataclasses import dataclass
from typing import Any

from exactflash import _abi, _arrays
from exactflash._context import Context, default_context
from exactflash._errors import ArgumentError, ShapeError
from exactflash._generate import Piece, generate
from exactflash._library import Handle, call, check, lib
from exactflash._quantize import ACTIVATIONS
from exactflash._tokenizer import Tokenizer

LOGITS = ("none", "last", "all")
CACHE_TYPES = ("f32", "f16", "bf16", "i8")  # in the order of xf_type

Progress = Callable[[str, int, int], bool | None]


@dataclass(frozen=True)
class ModelConfig:
    """What a checkpoint's configuration says, and what its weights take."""

    hidden_size: int
    intermediate_size: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab_size: int
    max_position_embeddings: int
    rms_norm_eps: float
    rope_theta: float
    rope_scaling: str  # "none", "linear", "llama3" or "factors"
    tied_embeddings: bool
    bos_token_id: int | None
    eos_token_ids: tuple[int, ...]
    weight_type: str  # "f32", "f16", "bf16", …: of the first layer's q_proj
    parameters: int
    weight_bytes: int  # in memory, packed


def _config(model: c_void_p) -> ModelConfig:
    info = _abi.ModelInfo()
    lib.xf_model_get_info(model, byref(info))
    values = {name: getattr(info, name) for name in ModelConfig.__dataclass_fields__}
    values["rope_scaling"] = info.rope_scaling.decode()
    values["tied_embeddings"] = bool(info.tied_embeddings)
    values["bos_token_id"] = None if info.bos_token_id < 0 else info.bos_token_id
    values["eos_token_ids"] = tuple(info.eos_token_ids[: info.n_eos_token_ids])
    values["weight_type"] = lib.xf_type_name(info.weight_type).decode()
    return ModelConfig(**values)


class Cache:
    """The KV cache of one sequence; made by Model.new_cache. One call at a time for each cache."""

    def __init__(self, model: "Model", capacity: int) -> None:
        self._config = model.config
        self._handle = Handle(
            lib.xf_cache_create, lib.xf_cache_destroy, model._handle.pointer, capacity,
            parent=model._handle,
        )  # fmt: skip

    def __len__(self) -> int:
        """Positions held."""
        return int(lib.xf_cache_length(self._handle.pointer))

    @property
    def capacity(self) -> int:
        """Positions at most."""
        return int(lib.xf_cache_capacity(self._handle.pointer))

    @property
    def bytes(self) -> int:
        """Memory held by its pages."""
        return int(lib.xf_cache_bytes(self._handle.pointer))

    def truncate(self, length: int) -> None:
        """Forgets the positions from length on."""
        if not 0 <= length <= len(self):
            raise ArgumentError(f"length: {length} is not in 0 … {len(self)}, the positions held")
        check(lib.xf_cache_truncate(self._handle.pointer, length), "cache.truncate")

    def _layers(self, k: Any, v: Any) -> tuple[Any, Any]:
        array = c_void_p * self._config.layers
        return tuple(
            array(*(x.ctypes.data + i * x.strides[0] for i in range(len(x)))) for x in (k, v)
        )  # type: ignore[return-value]

    def export_kv(self, max_seq_len: int | None = None) -> tuple[Any, Any]:
        """(k, v), f32 [layers, max_seq_len, kv_heads, head_dim] each, with zeros behind the positions
        held; max_seq_len: by default the positions held. k has RoPE applied. For each layer that is
        one entry of [batch, max_seq_len, num_heads, head_dim]."""
        import numpy

        n = len(self) if max_seq_len is None else max_seq_len
        shape = (self._config.layers, n, self._config.kv_heads, self._config.head_dim)
        k, v = numpy.zeros(shape, numpy.float32), numpy.zeros(shape, numpy.float32)
        call(lib.xf_cache_export, self._handle.pointer, n, *self._layers(k, v))
        return k, v

    def import_kv(self, k: Any, v: Any, length: int | None = None) -> None:
        """Replaces the contents by the first `length` positions (by default all) of what export_kv
        gives. All or nothing."""
        k, v = _arrays.f32(k, "k"), _arrays.f32(v, "v")
        wanted = [self._config.layers, -1, self._config.kv_heads, self._config.head_dim]
        for name, x in (("k", k), ("v", v)):
            if x.ndim != 4 or [x.shape[0], -1, *x.shape[2:]] != wanted or x.shape != k.shape:
                raise ShapeError(f"{name}: has shape {list(x.shape)}, not {wanted} (-1: positions)")
        n = k.shape[1] if length is None else length
        if not 0 <= n <= k.shape[1]:
            raise ArgumentError(f"length: {n} is not in 0 … {k.shape[1]}, the positions of k and v")
        call(lib.xf_cache_import, self._handle.pointer, n, *self._layers(k, v))


class Model:
    """A checkpoint in memory; made by build_model. Threads may share one, with different caches."""

    def __init__(
        self, path: "str | os.PathLike[str]", *, kv_cache_max_len: int = 1024,
        use_flash_attention: bool = True, activations: str = "int8", chunk: int = 0,
        cache_type: str = "f32", context: Context | None = None, progress: Progress | None = None,
    ) -> None:  # fmt: skip
        self.path = os.fspath(path)
        self.kv_cache_max_len = kv_cache_max_len
        self.context = context or default_context()

        def report(_: Any, stage: bytes, done: int, total: int) -> int:
            return int(bool(progress and progress(stage.decode(), done, total)))

        # Called from xf_forward too, so that it lives as long as the model.
        self._progress = _abi.PROGRESS(report) if progress else _abi.PROGRESS()
        options = _abi.ModelOptions(
            struct_size=sizeof(_abi.ModelOptions), attention=int(not use_flash_attention),
            activations=_arrays.choice(activations, ACTIVATIONS, "activations"), chunk=chunk,
            progress=self._progress,
            cache_type=_arrays.F32 + _arrays.choice(cache_type, CACHE_TYPES, "cache_type"),
        )  # fmt: skip
        self._handle = Handle(
            lib.xf_model_open, lib.xf_model_close, self.context._handle.pointer,
            os.fsencode(self.path), byref(options), parent=self.context._handle,
        )  # fmt: skip
        self.config = _config(self._handle.pointer)
        self._tokenizer: Tokenizer | None = None

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer that lies with the checkpoint, opened at its first use."""
        if self._tokenizer is None:
            self._tokenizer = Tokenizer(self.path)
        return self._tokenizer

    def new_cache(self, capacity: int | None = None) -> Cache:
        """An empty KV cache; capacity: by default kv_cache_max_len."""
        return Cache(self, self.kv_cache_max_len if capacity is None else capacity)

    def __call__(
        self, tokens: Any, *, cache: "Cache | Sequence[Cache] | None" = None, logits: str = "all"
    ) -> Any:
        """Logits, a NumPy array, f32: [n, vocab_size] for tokens [n]; for several sequences, which
        may differ in length, a list of such arrays, or [batch, n, vocab_size] for an array of tokens.

        cache: the tokens come behind those that it holds, and are added to it; one for each
        sequence. None: each sequence begins at position 0, and is forgotten afterwards. logits: "all",
        "last" (then [1, vocab_size] each) or "none" (None). A sequence's logits have the same bits
        alone, in any batch, at once or token by token."""
        kind = _arrays.choice(logits, LOGITS, "logits")
        ndim = getattr(tokens, "ndim", None)
        single = ndim == 1 if ndim is not None else not hasattr(next(iter(tokens), 0), "__len__")
        rows = [tokens] if single else list(tokens)
        arrays = [_arrays.tokens(row, "tokens") for row in rows]
        if cache is None:
            caches = [self.new_cache(len(array)) for array in arrays]
        else:
            caches = [cache] if isinstance(cache, Cache) else list(cache)
        if len(caches) != len(arrays):
            raise ShapeError(f"cache: {len(caches)} for {len(arrays)} sequences")
        results = self._forward(arrays, caches, kind)
        if kind == 0:
            return None
        if single:
            return results[0]
        import numpy

        return numpy.stack(results) if ndim == 2 else results

    def _forward(self, arrays: list[Any], caches: list[Cache], kind: int) -> list[Any]:
        sequences = (_abi.Sequence * len(arrays))()
        results: list[Any] = []
        for sequence, array, cache in zip(sequences, arrays, caches, strict=True):
            sequence.cache = cache._handle.pointer
            sequence.tokens = cast(array, pointer_to(c_int32))
            sequence.n_tokens, sequence.logits = len(array), kind
            if kind:
                import numpy

                shape = (len(array) if kind == 2 else 1, self.config.vocab_size)
                results.append(numpy.empty(shape, numpy.float32))
                sequence.out = results[-1].ctypes.data
        call(lib.xf_forward, self._handle.pointer, sequences, len(arrays))
        return results

    def generate(self, prompt: "str | Sequence[int]", **options: Any) -> Iterator[Piece]:
        """The text that follows a prompt, piece by piece; the options are those of
        exactflash.generate."""
        return generate(self, prompt, **options)


def build_model(
    checkpoint_path: "str | os.PathLike[str]", kv_cache_max_len: int = 1024,
    use_flash_attention: bool = True, *, activations: str = "int8", chunk: int = 0,
    cache_type: str = "f32", context: Context | None = None, progress: Progress | None = None,
) -> Model:  # fmt: skip
    """Opens a Hugging Face folder (config.json, safetensors), a GGUF or a .tflite file.

    kv_cache_max_len: capacity of the caches that it makes. use_flash_attention: False takes the
    textbook's attention, whose scores lie in memory as a whole. activations: what 8- and 4-bit weights
    are multiplied with, "int8" (quantized for each row) or "f32". chunk: most tokens that go through the
    layers at once (0: 512; never a bit). cache_type: of keys and values in caches, "f32", or "f16", "bf16"
    or "i8", to which they are rounded: half or about a quarter of the memory, and results of their own.
    progress(stage, done, total) is called now and then during long work; a true result cancels it.
    """
    return Model(
        checkpoint_path, kv_cache_max_len=kv_cache_max_len, activations=activations, chunk=chunk,
        cache_type=cache_type, context=context, use_flash_attention=use_flash_attention,
        progress=progress,
    )  # fmt: skip


def get_model_config(model: "Model | str | os.PathLike[str]") -> ModelConfig:
    """The configuration of a model, or of a checkpoint, which is opened for it as a whole."""
    return (model if isinstance(model, Model) else Model(model)).config
