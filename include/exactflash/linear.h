/* Linear layers as operators: pack once, apply many times. Order of operations: docs/numerics.md.
 */
#ifndef EXACTFLASH_LINEAR_H
#define EXACTFLASH_LINEAR_H

#include "exactflash/context.h"
#include "exactflash/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A weight matrix packed as panels [ceil(n/16)][k][16] in its own type; the same on every ISA. */
typedef struct xf_linear xf_linear;

/* w: [n, k] of f32, f16 or bf16, any row stride, rows dense; copied. */
XF_API xf_status xf_linear_create(const xf_context *context, const xf_view *w, xf_linear **out,
                                  xf_error *error);
XF_API void xf_linear_destroy(xf_linear *linear); /* NULL is allowed */

/* Bytes of workspace for xf_linear_run with that context; 0 for NULL. */
XF_API size_t xf_linear_workspace(const xf_context *context);

/* y = x · wᵀ. x: f32 [rows, k], y: f32 [rows, n], rows dense, strides not negative. y
 * overlaps neither x (columns beside each other in one buffer are fine) nor the workspace.
 * workspace: xf_linear_workspace bytes, aligned to 4; not shared with another running call. */
XF_API xf_status xf_linear_run(const xf_context *context, const xf_linear *linear, const xf_view *x,
                               const xf_view *y, void *workspace, size_t bytes, xf_error *error);

#ifdef __cplusplus
}
#endif
#endif
