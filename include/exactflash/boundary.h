/* Operator boundaries: a host's function is called in place of a model's operators. It can run the
 * built-in one, before and behind which it sees inputs and outputs, or do the work itself. */
#ifndef EXACTFLASH_BOUNDARY_H
#define EXACTFLASH_BOUNDARY_H

#include "exactflash/attention.h"
#include "exactflash/linear.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Bits, so that some can be chosen. */
typedef enum xf_operator_kind {
  XF_OPERATOR_ATTENTION = 1,  /* "scaled_dot_product_attention" */
  XF_OPERATOR_LINEAR = 2,     /* "linear" */
  XF_OPERATOR_RMS_NORM = 4,   /* "rms_norm" */
  XF_OPERATOR_ROPE = 8,       /* "rotary_embedding" */
  XF_OPERATOR_EMBEDDING = 16, /* "embedding" */
  XF_OPERATOR_ADD = 32,       /* "add": the residual */
  XF_OPERATOR_SILU_MUL = 64,  /* "silu_mul" */
  XF_OPERATOR_KV_WRITE = 128  /* "kv_write": k and v into the cache */
} xf_operator_kind;

/* One call of an operator, over all rows of a pass, which may be of several sequences; attention:
 * over those of one sequence. Rows are dense f32; what it writes may be read before it is run, but
 * means nothing then. Everything is valid until the host's function returns. */
typedef struct xf_operator {
  size_t struct_size; /* sizeof(xf_operator) of the library; fields may be added at the end */
  xf_operator_kind kind;
  const char *name; /* as above */
  /* What it makes: "embedding"; "attention_norm", "qkv", "rope", "kv", "attention", "o",
   * "residual", "mlp_norm", "gate_up", "silu_mul", "down"; "norm", "head". */
  const char *tensor;
  int32_t layer;                        /* −1: embedding, "norm" and "head" */
  const int64_t *positions;             /* [rows]: of each row in its sequence */
  const struct xf_cache *const *caches; /* [rows]: by which its sequence is known */
  /* LINEAR: y [rows, n] = x [rows, k] · weightᵀ, RMS_NORM: y = norm(x) [rows, hidden], ADD: y = y +
   * x, SILU_MUL: x gate, y up [rows, intermediate], the result in place of x. ROPE: x is q [rows,
   * heads, head_dim], y is k [rows, kv_heads, head_dim], both in place; the same k and v (in y) of
   * KV_WRITE. EMBEDDING: y [rows, hidden]. ATTENTION: none, see below. */
  xf_view x, y;
  const xf_linear *weight; /* LINEAR */
  const float *gain;       /* RMS_NORM: [hidden] */
  float eps;
  const float *inv_freq; /* ROPE: [head_dim / 2] */
  const int32_t *tokens; /* EMBEDDING: [rows] */
  /* ATTENTION: q, out, scale, causal, q_first are set; k and v have shape and type but no data,
   * which xf_operator_keys gives. */
  const xf_attention_desc *attention;
} xf_operator;

/* xf_model_options.boundary: a status other than XF_OK ends the forward call with it, and with the
 * message left in *error. Called by the thread that called xf_forward, in the order of the model;
 * by several threads at once where these run forward calls at once. It may not use the caches of
 * the forward call. */
typedef xf_status (*xf_boundary)(void *arg, const xf_operator *op, xf_error *error);

/* Runs the built-in operator, with the bits it has without boundaries. May be called once, or not
 * at all. */
XF_API xf_status xf_operator_run(const xf_operator *op, xf_error *error);

/* K and V of an ATTENTION, those of this call included: [kv_len, kv_heads, head_dim] floats each,
 * copied, as the cache holds them (xf_model_options.cache_type). k has RoPE applied. */
XF_API xf_status xf_operator_keys(const xf_operator *op, float *k, float *v);

#ifdef __cplusplus
}
#endif
#endif
