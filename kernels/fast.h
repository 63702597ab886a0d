/* Kernels of the opt-in fast mode: bf16 weights by activations rounded to bf16, with instructions
 * that multiply pairs of them. Results are those of docs/numerics.md, "Fast mode", not of numerics
 * 1. */
#ifndef XF_KERNELS_FAST_H
#define XF_KERNELS_FAST_H

#include "kernels/kernels.h"

/* Pairs of a row of k activations: element 2i in the high half, 2i + 1 (0 past k) in the low one.
 */
#define XF_FAST_PAIRS(k) (((k) + 1) / 2)

/* y[r][c] = Σ_i x[r][i] · w[c][i] for r < rows, c < n. */
struct xf_fast_args {
  size_t rows, k, n; /* each ≥ 1 */
  const uint32_t *x; /* [rows][XF_FAST_PAIRS(k)] */
  const uint16_t *w; /* [ceil(n/16)][k][16]; columns past n hold zeros */
  float *y;          /* [rows][n], may be uninitialised */
  size_t ldy;
};

struct xf_fast_kernels {
  const char *name; /* of the instructions */
  /* Rounds a row of k numbers to nearest even; subnormal ones to zero. */
  void (*round)(size_t k, const float *x, uint32_t *pairs);
  void (*linear_bf16)(const struct xf_fast_args *a);
};

extern const struct xf_fast_kernels xf_fast_avx512bf16;

#endif
