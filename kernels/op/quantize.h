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
  v16i magnitudes = v16i_zero();
  for (size_t i = 0; i < n; i += XF_LANES)
    magnitudes = v16i_max(magnitudes, v16_magnitude(quant_load(x + i, n - i)));
  const int32_t bits = v16i_largest(magnitudes);
  float largest;
  memcpy(&largest, &bits, sizeof largest);
  if (!isfinite(largest)) return NAN;
  float step = largest / 127;
  return step >= 0x1p-126f ? step : 0;
}

/* One group: n numbers, in all `room` of q, a multiple of XF_LANES. */
XF_INLINE float quant_group(size_t n, size_t room, const float *x, int8_t *q)
{
  const float step = quant_step(n, x);
  if (!(step > 0)) {
    memset(q, 0, room);
    return step;
  }
  const v16 inverse = v16_set1(1 / step), least = v16_set1(-127);
  for (size_t i = 0; i < room; i += XF_LANES) {
    v16 v = i < n ? quant_load(x + i, n - i) : v16_set1(0);
    v = v16_neg(v16_max(v16_mul(v, inverse), least));
    v16i_store_i8(q + i, v16_round(v16_neg(v16_max(v, least))));
  }
  return step;
}

static void quant_quantize(size_t k, size_t group, const float *x, struct xf_quant_rows row)
{
  const size_t room = xf_quant_k(k);
  if (group == 0) *row.d = quant_group(k, room, x, row.q);
  for (size_t i = 0; group && i < k; i += group)
    row.d[i / group] = quant_group(group, group, x + i, row.q + i);
  for (size_t i = 0; i < room; i += XF_QUANT_CHUNK) q_sums(row.q + i, row.sums + i / XF_LANES);
  if (group) return;
  *row.totals = 0;
  for (size_t i = 0; i < room / XF_LANES; i++) *row.totals += row.sums[i];
}

#endif
