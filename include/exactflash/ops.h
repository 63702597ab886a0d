/* The other operators of a Llama layer, row by row. Views are f32 with dense rows, which may lie
 * beside each other in one buffer; what is written may overlap an input only where that is said.
 * Nothing is allocated. Order of operations: docs/numerics.md. */
#ifndef EXACTFLASH_OPS_H
#define EXACTFLASH_OPS_H

#include "exactflash/context.h"
#include "exactflash/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

/* y = x / sqrt(mean(x²) + eps) · w for each row of x [rows, n]; w: [n] floats; y [rows, n] may be
 * x; eps is finite and ≥ 0. Source: Zhang & Sennrich 2019, "Root Mean Square Layer Normalization".
 */
XF_API xf_status xf_rms_norm(const xf_context *context, const xf_view *x, const float *w, float eps,
                             const xf_view *y, xf_error *error);

/* Rotates x [tokens, heads, head_dim] in place: pairs (i, i + head_dim/2) of each head by the angle
 * positions[token] · inv_freq[i]. head_dim is even and at most 256; positions in 0 … 2²⁴.
 * Source: Su et al. 2021, "RoFormer"; halves as Hugging Face's LlamaForCausalLM has them. */
XF_API xf_status xf_rope(const xf_context *context, const xf_view *x, const int64_t *positions,
                         const float *inv_freq, xf_error *error);

/* y = gate / (1 + exp(−gate)) · up, all [rows, n]; y may be gate or up.
 * Source: Shazeer 2020, "GLU Variants Improve Transformer". */
XF_API xf_status xf_silu_mul(const xf_context *context, const xf_view *gate, const xf_view *up,
                             const xf_view *y, xf_error *error);

#ifdef __cplusplus
}
#endif
#endif
