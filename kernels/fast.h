/* Kernels of the opt-in fast mode: bf16 weights by activations rounded to bf16, with instructions
 * that multiply pairs of them. Results are those of docs/numerics.md, "Fast mode", not of numerics
 * 1. */
#ifndef XF_KERNELS_FAST_H
#define XF_KERNELS_FAST_H

#include "kernels/kernels.h"

/* Pairs from a row of k activations to the next. Element 2i is in the high half, 2i + 1 in the low
 * one. */
static inline size_t xf_fast_pairs(size_t k)
{
  return xf_row_stride(k * sizeof(uint16_t)) / sizeof(uint32_t);
}

/* y[r][c] = Σ_i x[r][i] · w[c][i] for r < rows, c < n. */
struct xf_fast_args {
  size_t rows, k, n; /* each ≥ 1 */
  const uint32_t *x; /* [rows][xf_fast_pairs(k)] */
  const uint16_t *w; /* [ceil(n/16)][k][16]; columns past n hold zeros */
  float *y;          /* [rows][n], may be uninitialised */
  size_t ldy;
  float *scratch; /* [XF_LINEAR_SCRATCH] */
};

struct xf_fast_kernels {
  const char *name; /* of the instructions */
  /* Rounds a row of k numbers to nearest even; subnormal ones to zero. Zeros behind them, to
   * the end of 16 pairs. */
  void (*round)(size_t k, const float *x, uint32_t *pairs);
  void (*linear_bf16)(const struct xf_fast_args *a);
};

extern const struct xf_fast_kernels xf_fast_avx512bf16, xf_fast_avx512amx;

#endif
