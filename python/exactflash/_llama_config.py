"""What a Llama checkpoint says of its sizes, read without the shared library: for writers of other formats."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from exactflash._errors import FileError, FormatError, UnsupportedError


MOST_POSITIONS = 1 << 24  # every position is a float


@dataclass(frozen=True)
class LlamaConfig:
    """Sizes and settings; inv_freq, f32 [head_dim / 2], has every scaling applied."""

    hidden_size: int
    intermediate_size: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab_size: int
    rms_norm_eps: float
    tied_embeddings: bool
    inv_freq: Any

    @property
    def qkv_rows(self) -> int:
        """Rows of q, k and v, one below the other."""
        return (self.heads + 2 * self.kv_heads) * self.head_dim


class Fields:
    """An object of a file, whose fields are asked for with the type that they must have."""

    def __init__(self, place: str, values: Mapping[str, Any]) -> None:
        self.place = place
        self.values = values

    def get(self, name: str) -> Any:
        """None where it is absent or null."""
        return self.values.get(name)

    def integer(self, name: str, default: int | None = None) -> int:
        value = self.get(name)
        if value is None and default is not None:
            return default
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value < 1 << 31:
            raise FormatError(f"{self.place}: {name} must be a positive integer, not {value!r}")
        return value

    def number(self, name: str, default: float | None, least: float, most: float) -> float:
        value = self.get(name)
        if value is None and default is not None:
            return default
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most:
            raise FormatError(
                f"{self.place}: {name} must be a number from {least:g} to {most:g}, not {value!r}"
            )
        return float(value)

    def factor(self, name: str, default: float | None = None) -> float:
        """A number by which frequencies are divided."""
        return self.number(name, default, 1e-6, 1e6)

    def theta(self, name: str, default: float) -> float:
        return self.number(name, default, 1, 1e30)

    def only(self, name: str, *allowed: Any) -> None:
        """Refuses what would give other numbers if it were ignored."""
        value = self.get(name)
        if value is not None and value not in allowed:
            raise UnsupportedError(
                f"{self.place}: {name}: only {allowed[0]!r} is supported, not {value!r}"
            )


def check_heads(fields: Fields, hidden: int, heads: int, kv_heads: int, head_dim: int | None) -> int:
    """head_dim, which is hidden / heads where it is not given."""
    if heads % kv_heads:
        raise FormatError(f"{fields.place}: {heads} heads are no multiple of {kv_heads} KV heads")
    if head_dim is None and hidden % heads:
        raise FormatError(f"{fields.place}: a hidden size of {hidden} is no multiple of {heads} heads")
    dim = head_dim or hidden // heads
    if dim % 2:
        raise UnsupportedError(f"{fields.place}: head_dim: only even sizes are supported, not {dim}")
    return dim


def base_frequencies(theta: float, head_dim: int) -> Any:
    """RoPE's frequencies as transformers computes them in f32 (docs/numerics.md)."""
    exponents = np.arange(0, head_dim, 2, dtype=np.float32) / np.float32(head_dim)
    powers = np.float64(np.float32(theta)) ** exponents.astype(np.float64)
    return np.float32(1) / powers.astype(np.float32)


def llama3_frequencies(inv_freq: Any, scaling: Fields) -> Any:
    """inv_freq scaled as Llama 3 does it, by the four numbers of config.json's rope_scaling."""
    factor, low = np.float32(scaling.factor("factor")), scaling.factor("low_freq_factor")
    high = scaling.factor("high_freq_factor")
    original = scaling.number("original_max_position_embeddings", None, 1, MOST_POSITIONS)
    if not high > low:
        raise FormatError(f"{scaling.place}: high_freq_factor must be greater than low_freq_factor")
    wavelength = np.float32(1) / inv_freq * np.float32(6.28318530717958648)
    smooth = np.float32(1) / wavelength * np.float32(original) - np.float32(low)
    smooth /= np.float32(high - low)
    between = (np.float32(1) - smooth) * inv_freq / factor + smooth * inv_freq
    scaled = np.where(wavelength < np.float32(original / high), inv_freq, between)
    return np.where(wavelength > np.float32(original / low), inv_freq / factor, scaled)


def _scaled(top: Fields, name: str, head_dim: int) -> Any:
    """The frequencies of one spelling of RoPE: rope_scaling beside rope_theta, or rope_parameters."""
    given = top.get(name) or {}
    if not isinstance(given, dict):
        raise FormatError(f"{top.place}: {name} must be an object or null")
    scaling = Fields(f"{top.place}: {name}", given)
    scaling.only("partial_rotary_factor", 1)
    theta = scaling.theta("rope_theta", top.theta("rope_theta", 10000.0))
    kind = scaling.get("rope_type") or scaling.get("type") or "default"
    inv_freq = base_frequencies(theta, head_dim)
    if kind == "llama3":
        return llama3_frequencies(inv_freq, scaling)
    if kind == "linear":
        return inv_freq / np.float32(scaling.factor("factor"))
    if kind != "default":
        raise UnsupportedError(
            f'{top.place}: {name}: only "default", "linear" and "llama3" are supported, not "{kind}"'
        )
    return inv_freq


def _frequencies(top: Fields, head_dim: int) -> Any:
    names = [name for name in ("rope_scaling", "rope_parameters") if top.get(name) is not None]
    spelled = [_scaled(top, name, head_dim) for name in names or ["rope_scaling"]]
    if len(spelled) == 2 and not np.array_equal(*spelled):
        raise FormatError(f"{top.place}: rope_parameters disagrees with rope_scaling; keep one of them")
    return spelled[-1]


def _check_variant(top: Fields) -> None:
    names = top.get("architectures")
    if names is None and top.get("model_type") is None:
        raise FormatError(f"{top.place}: the field architectures is missing")
    if names is not None and (not isinstance(names, list) or names[:1] != ["LlamaForCausalLM"]):
        raise UnsupportedError(
            f"{top.place}: architectures: only LlamaForCausalLM is supported, not {names!r}"
        )
    top.only("model_type", "llama")
    top.only("hidden_act", "silu", "swish")
    top.only("attention_bias", False)
    top.only("mlp_bias", False)
    top.only("partial_rotary_factor", 1)
    if top.get("quantization_config") is not None:
        raise UnsupportedError(
            f"{top.place}: quantization_config: quantized checkpoints are not supported; convert to "
            "float32, float16 or bfloat16"
        )


def json_object(place: str, data: bytes) -> dict[str, Any]:
    """A JSON object; place is for messages."""
    try:
        value = json.loads(data)
    except ValueError as error:
        raise FormatError(f"{place}: is no JSON: {error}") from error
    except RecursionError:
        raise FormatError(f"{place}: its JSON is nested too deeply for a checkpoint's") from None
    if not isinstance(value, dict):
        raise FormatError(f"{place}: must hold a JSON object")
    return value


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object of a file."""
    try:
        return json_object(str(path), path.read_bytes())
    except OSError as error:
        raise FileError(f"{path}: {error.strerror}") from error


def config_of_folder(folder: Path) -> LlamaConfig:
    """FOLDER/config.json, with the defaults of transformers' LlamaConfig."""
    path = folder / "config.json"
    top = Fields(str(path), read_json(path))
    _check_variant(top)
    hidden, heads = top.integer("hidden_size"), top.integer("num_attention_heads")
    kv_heads = top.integer("num_key_value_heads", heads)
    given = None if top.get("head_dim") is None else top.integer("head_dim")
    head_dim = check_heads(top, hidden, heads, kv_heads, given)
    return LlamaConfig(
        hidden_size=hidden,
        intermediate_size=top.integer("intermediate_size"),
        layers=top.integer("num_hidden_layers"),
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        vocab_size=top.integer("vocab_size"),
        rms_norm_eps=top.number("rms_norm_eps", 1e-6, 0, 1),
        tied_embeddings=bool(top.get("tie_word_embeddings")),
        inv_freq=_frequencies(top, head_dim),
    )
