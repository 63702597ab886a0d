/* Linear layers as operators: pack once, apply many times. Order of operations: docs/numerics.md.
 */
#ifndef EXACTFLASH_LINEAR_H
#define EXACTFLASH_LINEAR_H

#include "exactflash/context.h"
#include "exactflash/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A weight matrix packed as panels of 16 rows in its own type; the same on every ISA. */
typedef struct xf_linear xf_linear;

/* w: [n, k], any row stride, rows dense; copied. Either f32, f16 or bf16; or a type of 8- or 4-bit
 * weights as GGUF files have them: k a multiple of its block (32; 256 for Q4_K, Q5_K, Q6_K), a row
 * its k/block blocks, unaligned if need be, stride[0] the bytes from row to row, stride[1] not
 * read. scales: f32 [n], dense, for XF_I8_ROW (a row is k signed bytes); NULL for all others. */
XF_API xf_status xf_linear_create(const xf_context *context, const xf_view *w,
                                  const xf_view *scales, xf_linear **out, xf_error *error);
XF_API void xf_linear_destroy(xf_linear *linear); /* NULL is allowed */

/* y [n, k] = the weights as f32, exactly (f16, bf16) or rounded as docs/numerics.md says. w and
 * scales as above. y: rows dense, no overlap with them. */
XF_API xf_status xf_dequantize(const xf_context *context, const xf_view *w, const xf_view *scales,
                               const xf_view *y, xf_error *error);

/* w = x as w->type, the nearest of f32, f16 and bf16, or the rows and blocks that xf_convert writes
 * of the other types: the same bytes on every machine. x: f32 [n, k], rows dense. w, and scales of
 * XF_I8_ROW, as above, but written; no two rows overlap, nor do x, w and scales.
 * XF_E_ARGUMENT where a weight is NaN, infinite or too large for the type; w and scales are then of
 * no use. */
XF_API xf_status xf_quantize(const xf_context *context, const xf_view *x, const xf_view *w,
                             const xf_view *scales, xf_error *error);

/* Bytes of workspace for xf_linear_run with that context, layer and number of rows (or fewer); 0
 * for NULL. */
XF_API size_t xf_linear_workspace(const xf_context *context, const xf_linear *linear, size_t rows);

/* y = x · wᵀ. x: f32 [rows, k], y: f32 [rows, n], rows dense, strides not negative. y
 * overlaps neither x (columns beside each other in one buffer are fine) nor the workspace.
 * workspace: xf_linear_workspace bytes, aligned to 4; not shared with another running call.
 * activations: of 8- and 4-bit weights; float weights take x as it is. */
XF_API xf_status xf_linear_run(const xf_context *context, const xf_linear *linear,
                               xf_activations activations, const xf_view *x, const xf_view *y,
                               void *workspace, size_t bytes, xf_error *error);

#ifdef __cplusplus
}
#endif
#endif
