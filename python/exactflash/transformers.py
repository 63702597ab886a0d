"""Hugging Face transformers with exactflash's attention.

    import exactflash.transformers

    exactflash.transformers.register()
    model = AutoModelForCausalLM.from_pretrained(path, attn_implementation="exactflash")
"""

from __future__ import annotations

import functools
import sys
from typing import Any

import torch
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask
from transformers.utils import generic

from exactflash._errors import UnsupportedError
from exactflash.torch import dispatch

NAME = "exactflash"


def attention_forward(
    module: torch.nn.Module, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor,
    attention_mask: torch.Tensor | None, dropout: float = 0.0, scaling: float | None = None,
    is_causal: bool | None = None, sliding_window: int | None = None, softcap: float | None = None,
    s_aux: torch.Tensor | None = None, **others: Any,
) -> tuple[torch.Tensor, None]:  # fmt: skip
    """One attention layer as transformers calls it. query: [batch, q_heads, q_len, head_dim]; key,
    value: [batch, kv_heads, keys, head_dim]; attention_mask: as sdpa_mask makes it. Returns [batch,
    q_len, q_heads, head_dim], and no weights.

    Masks, soft caps, sinks and windows are those of the model. No dropout and no gradient: for training
    take another implementation.
    """
    if dropout or others.get("position_bias") is not None or others.get("cache") is not None:
        raise UnsupportedError(
            "exactflash does attention without dropout, position_bias and a paged cache: "
            'attn_implementation="sdpa" has them'
        )
    if torch.is_grad_enabled() and (query.requires_grad or key.requires_grad):
        raise UnsupportedError(
            "exactflash's attention has no gradient: run the model under torch.no_grad(), or train "
            'it with attn_implementation="sdpa"'
        )
    if is_causal is None:
        is_causal = getattr(module, "is_causal", True)
    # sdpa_mask leaves a causal mask out where it says no more than is_causal, keys counted from 0.
    causal = bool(attention_mask is None and is_causal and query.shape[2] > 1)
    window = 0 if attention_mask is None else sliding_window or 0
    scale, cap = scaling or 0.0, softcap or 0.0
    return dispatch(query, key, value, attention_mask, causal, scale, cap, window, s_aux), None


def _tell_apart() -> None:
    """transformers takes every name with "flash" in it for the flash_attn package, which has no masks
    and no static caches. This one is no such: the function that tells is replaced wherever it is."""
    original = generic.is_flash_attention_requested
    if getattr(original, "knows_exactflash", False):
        return

    @functools.wraps(original)
    def requested(
        config: Any = None, requested_attention_implementation: str | None = None, version: Any = None
    ) -> bool:
        name = config._attn_implementation if config else requested_attention_implementation
        return name != NAME and bool(original(config, requested_attention_implementation, version))

    requested.knows_exactflash = True  # type: ignore[attr-defined]
    for module in list(sys.modules.values()):
        if vars(module).get("is_flash_attention_requested") is original:
            module.is_flash_attention_requested = requested  # type: ignore[attr-defined]


def register() -> None:
    """Makes attn_implementation="exactflash" known. To be called once; again is harmless."""
    _tell_apart()
    AttentionInterface.register(NAME, attention_forward)
    AttentionMaskInterface.register(NAME, sdpa_mask)
