/* Rows of 8-bit activations: once for every ISA, on its integer vocabulary. */
#ifndef XF_OP_QUANTIZE_H
#define XF_OP_QUANTIZE_H

#include <math.h>
#include <string.h>

#include "kernels/quant.h"

XF_INLINE v16 quant_load(const float *x, size_t n)
{
  return n < XF_LANES ? v16_load_n(x, n) : v16_load(x);
}

/* dx of n numbers. */
XF_INLINE float quant_step(size_t n, const float *x)
{
  v16 largest = v16_set1(0), nothing = v16_set1(0);
  for (size_t i = 0; i < n; i += XF_LANES) {
    v16 v = quant_load(x + i, n - i);
    largest = v16_max(v16_max(v, v16_neg(v)), largest);
    nothing = v16_fma(v, v16_set1(0), nothing); /* NaN where v is no finite number */
  }
  if (v16_sum(nothing) != 0) return NAN;
  float step = v16_largest(largest) / 127;
  return step >= 0x1p-126f ? step : 0;
}

/* One group: n numbers, in all `room` of q, a multiple of XF_LANES. */
XF_INLINE float quant_group(size_t n, size_t room, const float *x, int8_t *q, int16_t *sums)
{
  const float step = quant_step(n, x);
  if (!(step > 0)) {
    memset(q, 0, room);
    memset(sums, 0, room / XF_LANES * sizeof *sums);
    return step;
  }
  const v16 inverse = v16_set1(1 / step), least = v16_set1(-127);
  for (size_t i = 0; i < room; i += XF_LANES) {
    v16 v = i < n ? quant_load(x + i, n - i) : v16_set1(0);
    v = v16_neg(v16_max(v16_mul(v, inverse), least));
    v16i rounded = v16_round(v16_neg(v16_max(v, least)));
    v16i_store_i8(q + i, rounded);
    sums[i / XF_LANES] = (int16_t)v16i_sum(rounded);
  }
  return step;
}

static void quant_quantize(size_t k, size_t group, const float *x, struct xf_quant_rows row)
{
  if (group == 0) {
    *row.d = quant_group(k, xf_quant_k(k), x, row.q, row.sums);
    return;
  }
  for (size_t i = 0; i < k; i += group)
    row.d[i / group] = quant_group(group, group, x + i, row.q + i, row.sums + i / XF_LANES);
}

#endif
