"""Flash attention and Llama inference on CPUs with the same bits everywhere.

    import exactflash

    out = exactflash.attention(q, k, v, causal=True)     # NumPy arrays or torch CPU tensors
    model = exactflash.build_model("demo-model")
    for piece in model.generate("Once upon a time", max_new_tokens=50):
        print(piece.text, end="")

exactflash.torch has the PyTorch operator, exactflash.transformers the attention of transformers,
`python -m exactflash.verify` a comparison of a checkpoint with transformers.
`python -m exactflash.convert_to_tflite` and `verify_tflite` write and check files for LiteRT.
"""

from exactflash._attention import attention
from exactflash._context import Context, default_context, isas, set_default_context
from exactflash._errors import (
    ArgumentError,
    CacheFullError,
    CancelledError,
    CpuError,
    Error,
    FileError,
    FormatError,
    OutOfMemoryError,
    ShapeError,
    UnsupportedError,
)
from exactflash._generate import Piece
from exactflash._library import numerics_version, version
from exactflash._linear import Linear, linear, rms_norm, rope, silu_mul
from exactflash._model import Cache, Model, ModelConfig, build_model, get_model_config
from exactflash._quantize import Quantized, dequantize, quantize
from exactflash._tokenizer import Tokenizer

__version__ = version()

__all__ = [
    "ArgumentError",
    "Cache",
    "CacheFullError",
    "CancelledError",
    "Context",
    "CpuError",
    "Error",
    "FileError",
    "FormatError",
    "Linear",
    "Model",
    "ModelConfig",
    "OutOfMemoryError",
    "Piece",
    "Quantized",
    "ShapeError",
    "Tokenizer",
    "UnsupportedError",
    "attention",
    "build_model",
    "default_context",
    "dequantize",
    "get_model_config",
    "isas",
    "linear",
    "numerics_version",
    "quantize",
    "rms_norm",
    "rope",
    "set_default_context",
    "silu_mul",
    "version",
]
