/* 8-bit products in neon_int.h's lanes, by SDOT where the file is compiled for it. Meanings as in
 * scalar_int.h. */
#ifndef XF_SIMD_NEON_DOT_H
#define XF_SIMD_NEON_DOT_H

#include "kernels/simd/neon_int.h"

#include "kernels/simd/row_sums.h"

/* u − zero of two steps, each of four quarters of a panel. */
typedef struct w16 {
  int8x16_t r[2][4];
} w16;

typedef struct q8 {
  int8x8_t r;
} q8;

XF_INLINE w16 w16_load(int bits, int zero, const uint8_t *chunk, int pair)
{
  w16 w;
  XF_UNROLL
  for (int i = 0; i < 4; i++) {
    int8x16_t step[2];
    w16_steps(bits, zero, chunk + 16 * i, pair, step);
    w.r[0][i] = step[0];
    w.r[1][i] = step[1];
  }
  return w;
}

XF_INLINE q8 q8_load(const int8_t *q, size_t ld)
{
  (void)ld;
  return (q8){vld1_s8(q)};
}

/* Pairs of products of two steps at most: 2 · 128 · 127 = 32,512 of 8-bit weights, one step, and
 * 4 · 32 · 127 of others, two steps, fit 16 bits. */
XF_INLINE int32x4_t w16_dot_quarter(int bits, int32x4_t sum, int8x16_t w0, int8x16_t w1, int8x8_t q)
{
#ifdef __ARM_FEATURE_DOTPROD
  (void)bits;
  return vdotq_lane_s32(vdotq_lane_s32(sum, w0, q, 0), w1, q, 1);
#else
  int8x8_t q0 = vreinterpret_s8_s32(vdup_lane_s32(vreinterpret_s32_s8(q), 0));
  int8x8_t q1 = vreinterpret_s8_s32(vdup_lane_s32(vreinterpret_s32_s8(q), 1));
  int16x8_t low = vmull_s8(vget_low_s8(w0), q0), high = vmull_s8(vget_high_s8(w0), q0);
  if (bits == 8) {
    sum = vpadalq_s16(sum, vpaddq_s16(low, high));
    low = vmull_s8(vget_low_s8(w1), q1);
    high = vmull_s8(vget_high_s8(w1), q1);
  } else {
    low = vmlal_s8(low, vget_low_s8(w1), q1);
    high = vmlal_s8(high, vget_high_s8(w1), q1);
  }
  return vpadalq_s16(sum, vpaddq_s16(low, high));
#endif
}

XF_INLINE d16 d16_add(int bits, d16 sum, w16 w, q8 q)
{
  XF_UNROLL
  for (int i = 0; i < 4; i++) sum.r[i] = w16_dot_quarter(bits, sum.r[i], w.r[0][i], w.r[1][i], q.r);
  return sum;
}

#include "kernels/simd/unturned.h"

#endif
