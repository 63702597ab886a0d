"""Attention in double precision, by its formula: the whole matrix of scores."""

import numpy as np


def attention(q, k, v, *, scale=None, causal=False, window=0, mask=None, soft_cap=0.0, sinks=None,
              alibi_slopes=None, q_first=None):
    """[batch, sequence, heads, dim] each. Returns (out, lse), f64."""
    q, k, v = (x.astype(np.float64) for x in (q, k, v))
    group = q.shape[2] // k.shape[2]
    k, v = np.repeat(k, group, axis=2), np.repeat(v, group, axis=2)
    scores = np.einsum("bqhd,bkhd->bhqk", q, k) * (scale or q.shape[3] ** -0.5)
    if soft_cap:
        scores = soft_cap * np.tanh(scores / soft_cap)
    rows, keys = scores.shape[2:]
    first = keys - rows if q_first is None else q_first
    distance = np.arange(keys) - (np.arange(rows) + first)[:, None]
    if alibi_slopes is not None:
        scores = scores + np.asarray(alibi_slopes, np.float64)[:, None, None] * distance
    visible = np.ones_like(distance, bool)
    if causal:
        visible &= distance <= 0
    if window:
        visible &= np.abs(distance) < window
    scores = np.where(visible, scores, -np.inf)
    if mask is not None:
        scores = np.where(mask, scores, -np.inf) if mask.dtype == bool else scores + mask
    return _softmax(scores, v, sinks)


def _softmax(scores, v, sinks):
    sink = np.full(scores.shape[1], -np.inf) if sinks is None else np.asarray(sinks, np.float64)
    sink = np.broadcast_to(sink[:, None], scores.shape[:3])
    top = np.maximum(scores.max(axis=-1, initial=-np.inf), sink)
    top = np.where(np.isfinite(top), top, 0.0)
    weights = np.exp(scores - top[..., None])
    total = weights.sum(axis=-1) + np.exp(sink - top)
    with np.errstate(divide="ignore"):
        lse = np.log(total) + top
    out = np.einsum("bhqk,bkhd->bqhd", weights / np.where(total == 0, 1, total)[..., None], v)
    return out, lse.swapaxes(1, 2)
