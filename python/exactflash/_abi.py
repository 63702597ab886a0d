"""The C headers of include/exactflash in ctypes: structs field by field, and every function called here.

tests/python/test_abi.py compares sizes and offsets with what a C compiler makes of the headers.
"""

from ctypes import (
    CFUNCTYPE,
    POINTER,
    Structure,
    c_char,
    c_char_p,
    c_double,
    c_float,
    c_int,
    c_int32,
    c_int64,
    c_size_t,
    c_uint32,
    c_uint64,
    c_void_p,
)
from typing import Any

PROGRESS = CFUNCTYPE(c_int, c_void_p, c_char_p, c_size_t, c_size_t)


class Error(Structure):
    """xf_error"""

    _fields_ = [("status", c_int), ("message", c_char * 500)]


class View(Structure):
    """xf_view"""

    _fields_ = [
        ("data", c_void_p),
        ("type", c_int),
        ("rank", c_uint32),
        ("shape", c_int64 * 4),
        ("stride", c_int64 * 4),
    ]


class Kv(Structure):
    """xf_kv"""

    _fields_ = [
        ("layout", c_int),
        ("k", View),
        ("v", View),
        ("k_scale", View),
        ("v_scale", View),
        ("page_table", c_void_p),
        ("page_table_stride", c_int64),
        ("kv_begin", c_void_p),
        ("kv_len", c_void_p),
    ]


class AttentionDesc(Structure):
    """xf_attention_desc"""

    _fields_ = [
        ("struct_size", c_size_t),
        ("q", View),
        ("kv", Kv),
        ("out", View),
        ("lse", View),
        ("q_lens", c_void_p),
        ("q_first", c_void_p),
        ("scale", c_float),
        ("soft_cap", c_float),
        ("causal", c_int),
        ("window", c_int64),
        ("mask", View),
        ("alibi_slopes", c_void_p),
        ("sinks", c_void_p),
        ("q_block", c_uint32),
        ("split", c_uint32),
    ]


class ContextOptions(Structure):
    """xf_context_options"""

    _fields_ = [
        ("struct_size", c_size_t),
        ("isa", c_char_p),
        ("threads", c_uint32),
        ("parallel_for", c_void_p),
        ("pool", c_void_p),
        ("pin_threads", c_int),
        ("q_blocks", c_uint32 * 3),
        ("observer", c_void_p),  # NULL: none
        ("observer_arg", c_void_p),
        ("fast", c_int),
    ]


class ModelOptions(Structure):
    """xf_model_options"""

    _fields_ = [
        ("struct_size", c_size_t),
        ("attention", c_int),
        ("split", c_int),
        ("q_block", c_uint32),
        ("chunk", c_uint32),
        ("progress", PROGRESS),
        ("progress_arg", c_void_p),
        ("boundary", c_void_p),  # NULL: operator boundaries are off
        ("boundary_arg", c_void_p),
        ("boundaries", c_uint64),
        ("activations", c_int),
        ("cache_type", c_int),
    ]


class TypeShare(Structure):
    """xf_type_share"""

    _fields_ = [("type", c_int), ("parameters", c_uint64), ("bytes", c_uint64)]


class ModelInfo(Structure):
    """xf_model_info"""

    _fields_ = [
        ("hidden_size", c_uint32),
        ("intermediate_size", c_uint32),
        ("layers", c_uint32),
        ("heads", c_uint32),
        ("kv_heads", c_uint32),
        ("head_dim", c_uint32),
        ("vocab_size", c_uint32),
        ("max_position_embeddings", c_uint32),
        ("rms_norm_eps", c_float),
        ("rope_theta", c_double),
        ("rope_scaling", c_char_p),
        ("tied_embeddings", c_int),
        ("bos_token_id", c_int32),
        ("eos_token_ids", c_int32 * 8),
        ("n_eos_token_ids", c_uint32),
        ("weight_type", c_int),
        ("parameters", c_uint64),
        ("weight_bytes", c_uint64),
        ("types", TypeShare * 12),
        ("n_types", c_uint32),
    ]


class Sequence(Structure):
    """xf_sequence"""

    _fields_ = [
        ("cache", c_void_p),
        ("tokens", POINTER(c_int32)),
        ("n_tokens", c_size_t),
        ("logits", c_int),
        ("out", c_void_p),
    ]


class LogitBias(Structure):
    """xf_logit_bias"""

    _fields_ = [("token", c_int32), ("bias", c_float)]


class GenerateOptions(Structure):
    """xf_generate_options"""

    _fields_ = [
        ("struct_size", c_size_t),
        ("temperature", c_float),
        ("top_p", c_float),
        ("seed", c_uint64),
        ("ignore_eos", c_int),
        ("top_k", c_size_t),
        ("min_p", c_float),
        ("typical", c_float),
        ("repetition_penalty", c_float),
        ("frequency_penalty", c_float),
        ("presence_penalty", c_float),
        ("repeat_last_n", c_uint32),
        ("logit_bias", POINTER(LogitBias)),
        ("n_logit_bias", c_size_t),
        ("stop", POINTER(c_char_p)),
        ("n_stop", c_size_t),
    ]


class TokenLogprob(Structure):
    """xf_token_logprob"""

    _fields_ = [("token", c_int32), ("logprob", c_float)]


STRUCTS = {
    "xf_error": Error,
    "xf_view": View,
    "xf_kv": Kv,
    "xf_attention_desc": AttentionDesc,
    "xf_context_options": ContextOptions,
    "xf_model_options": ModelOptions,
    "xf_type_share": TypeShare,
    "xf_model_info": ModelInfo,
    "xf_sequence": Sequence,
    "xf_logit_bias": LogitBias,
    "xf_generate_options": GenerateOptions,
    "xf_token_logprob": TokenLogprob,
}

_P = c_void_p
_ERROR = POINTER(Error)
_OUT = POINTER(c_void_p)
_VIEW = POINTER(View)
_SIZE = POINTER(c_size_t)
_IDS = POINTER(c_int32)
_TEXT = POINTER(c_void_p)  # const char **: the bytes are read by their length

# name: (result, arguments)
FUNCTIONS: dict[str, tuple[Any, list[Any]]] = {
    "xf_version": (c_uint32, []),
    "xf_numerics_version": (c_uint32, []),
    "xf_status_string": (c_char_p, [c_int]),
    "xf_type_name": (c_char_p, [c_int]),
    "xf_isa_name": (c_char_p, [c_size_t]),
    "xf_isa_supported": (c_int, [c_size_t]),
    "xf_context_create": (c_int, [POINTER(ContextOptions), _OUT, _ERROR]),
    "xf_context_destroy": (None, [_P]),
    "xf_context_fast": (c_char_p, [_P]),
    "xf_context_isa": (c_char_p, [_P]),
    "xf_context_threads": (c_uint32, [_P]),
    "xf_attention_workspace": (c_int, [_P, POINTER(AttentionDesc), c_size_t, _SIZE, _ERROR]),
    "xf_attention": (c_int, [_P, POINTER(AttentionDesc), _P, c_size_t, _ERROR]),
    "xf_type_row_bytes": (c_size_t, [c_int, c_size_t]),
    "xf_quantize": (c_int, [_P, _VIEW, _VIEW, _VIEW, _ERROR]),
    "xf_dequantize": (c_int, [_P, _VIEW, _VIEW, _VIEW, _ERROR]),
    "xf_linear_create": (c_int, [_P, _VIEW, _VIEW, _OUT, _ERROR]),
    "xf_linear_destroy": (None, [_P]),
    "xf_linear_workspace": (c_size_t, [_P, _P, c_size_t]),
    "xf_linear_run": (c_int, [_P, _P, c_int, _VIEW, _VIEW, _P, c_size_t, _ERROR]),
    "xf_rms_norm": (c_int, [_P, _VIEW, _P, c_float, _VIEW, _ERROR]),
    "xf_rope": (c_int, [_P, _VIEW, _P, _P, _ERROR]),
    "xf_silu_mul": (c_int, [_P, _VIEW, _VIEW, _VIEW, _ERROR]),
    "xf_model_open": (c_int, [_P, c_char_p, POINTER(ModelOptions), _OUT, _ERROR]),
    "xf_model_close": (None, [_P]),
    "xf_model_get_info": (None, [_P, POINTER(ModelInfo)]),
    "xf_forward": (c_int, [_P, POINTER(Sequence), c_size_t, _ERROR]),
    "xf_cache_create": (c_int, [_P, c_size_t, _OUT, _ERROR]),
    "xf_cache_destroy": (None, [_P]),
    "xf_cache_length": (c_size_t, [_P]),
    "xf_cache_capacity": (c_size_t, [_P]),
    "xf_cache_bytes": (c_size_t, [_P]),
    "xf_cache_truncate": (c_int, [_P, c_size_t]),
    "xf_cache_export": (c_int, [_P, c_size_t, _OUT, _OUT, _ERROR]),
    "xf_cache_import": (c_int, [_P, c_size_t, _OUT, _OUT, _ERROR]),
    "xf_tokenizer_open": (c_int, [c_char_p, _OUT, _ERROR]),
    "xf_tokenizer_close": (None, [_P]),
    "xf_tokenizer_vocab_size": (c_size_t, [_P]),
    "xf_tokenizer_bos": (c_int32, [_P]),
    "xf_tokenizer_eos": (c_int32, [_P]),
    "xf_tokenizer_adds_bos": (c_int, [_P]),
    "xf_tokenizer_encode": (c_int, [_P, c_char_p, c_size_t, c_uint32, _IDS, c_size_t, _SIZE, _ERROR]),
    "xf_tokenizer_decode": (c_int, [_P, _IDS, c_size_t, c_char_p, c_size_t, _SIZE, _ERROR]),
    "xf_generator_create": (c_int, [_P, _P, _P, POINTER(GenerateOptions), _OUT, _ERROR]),
    "xf_generator_destroy": (None, [_P]),
    "xf_generator_prompt": (c_int, [_P, _IDS, c_size_t, _ERROR]),
    "xf_generator_next": (c_int, [_P, _IDS, POINTER(c_int), _TEXT, _SIZE, _ERROR]),
    "xf_generator_flush": (c_int, [_P, _TEXT, _SIZE]),
    "xf_generator_logprobs": (
        c_int,
        [_P, POINTER(TokenLogprob), POINTER(TokenLogprob), c_size_t, _ERROR],
    ),
}
