/* Numbers of any float type as f32. */
#ifndef XF_WIDEN_H
#define XF_WIDEN_H

#include "kernels/kernels.h"

/* y[i] = x[i], exactly; type is XF_F32, XF_F16 or XF_BF16. x may be unaligned, as files have it. */
void xf_widen(const struct xf_kernels *kernels, xf_type type, size_t n, const void *x, float *y);

/* The same for a row of K or V, which may be XF_I8, too: y[i] = (float)x[i] · scale. */
void xf_widen_row(const struct xf_kernels *kernels, xf_type type, size_t n, const void *x,
                  float scale, float *y);

#endif
