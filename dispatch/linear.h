/* Linear layers: weights packed once into panels, applied many times. */
#ifndef XF_DISPATCH_LINEAR_H
#define XF_DISPATCH_LINEAR_H

#include "dispatch/context.h"

/* w: [n, k] row-major, in file order. Fields behind k are zeros as a rule. */
struct xf_matrix {
  const void *data;
  xf_type type;
  size_t n, k;
  /* 0: row r is the file's row r. Else an even divisor of n: in every group of so many rows, rows i
   * and i + paired/2 are the file's rows 2i and 2i + 1. */
  size_t paired;
  ptrdiff_t gap; /* bytes from the end of a row to the next one; negative where rows overlap */
};

struct xf_linear {
  xf_type type;
  size_t n, k;
  void *panels; /* [ceil(n/16)][k][16]; columns past n are zeros */
};

/* Packs `parts` matrices with equal k one below the other into one layer (q, k and v become one
 * product). The type is the parts' type, f32 if they differ. XF_E_SHAPE or XF_E_MEMORY. */
xf_status xf_linear_pack(const xf_context *context, const struct xf_matrix *matrices, size_t parts,
                         struct xf_linear *out, xf_error *error);
void xf_linear_free(struct xf_linear *linear); /* leaves it empty; an empty one is allowed */
size_t xf_linear_bytes(const struct xf_linear *linear);

/* y = x · wᵀ. x: [rows][k], y: [rows][n], no overlap. scratch: [threads][XF_LINEAR_SCRATCH]. */
void xf_linear_apply(const xf_context *context, const struct xf_linear *w, size_t rows,
                     const float *x, size_t ldx, float *y, size_t ldy, float *scratch);

#endif
