/* 8-bit products in neon_int.h's lanes by SMMLA: two columns by two rows at a time, 8 k deep.
 * Meanings as in scalar_int.h and row_sums.h. */
#ifndef XF_SIMD_NEON_I8MM_H
#define XF_SIMD_NEON_I8MM_H

#include "kernels/simd/neon_int.h"

enum { QUANT_UNIT = 2 };

/* Columns 2i and 2i + 1 by two rows: {column 2i by row 0, by row 1, column 2i + 1 by row 0, …}. */
typedef struct d16 {
  int32x4_t r[8];
} d16;

/* u − zero of two steps: {8 k of column 2i, 8 k of column 2i + 1}. */
typedef struct w16 {
  int8x16_t r[8];
} w16;

typedef struct q8 {
  int8x16_t r;
} q8;

/* first is 0: the weights have no zero. */
XF_INLINE d16 d16_begin(v16i first)
{
  d16 sums;
  (void)first;
  XF_UNROLL
  for (int i = 0; i < 8; i++) sums.r[i] = vdupq_n_s32(0);
  return sums;
}

XF_INLINE v16i d16_row(d16 sums, int i)
{
  v16i row;
  XF_UNROLL
  for (int j = 0; j < 4; j++)
    row.r[j] = i == 0 ? vuzp1q_s32(sums.r[2 * j], sums.r[2 * j + 1])
                      : vuzp2q_s32(sums.r[2 * j], sums.r[2 * j + 1]);
  return row;
}

XF_INLINE w16 w16_load(int bits, int zero, const uint8_t *chunk, int pair)
{
  w16 w;
  XF_UNROLL
  for (int i = 0; i < 4; i++) {
    int8x16_t step[2];
    w16_steps(bits, zero, chunk + 16 * i, pair, step);
    int32x4_t first = vreinterpretq_s32_s8(step[0]), second = vreinterpretq_s32_s8(step[1]);
    w.r[2 * i] = vreinterpretq_s8_s32(vzip1q_s32(first, second));
    w.r[2 * i + 1] = vreinterpretq_s8_s32(vzip2q_s32(first, second));
  }
  return w;
}

/* A tile of one row has it twice. */
XF_INLINE q8 q8_load(const int8_t *q, size_t ld)
{
  return (q8){vcombine_s8(vld1_s8(q), vld1_s8(q + ld))};
}

XF_INLINE d16 d16_add(int bits, d16 sums, w16 w, q8 q)
{
  (void)bits;
  XF_UNROLL
  for (int i = 0; i < 8; i++) sums.r[i] = vmmlaq_s32(sums.r[i], w.r[i], q.r);
  return sums;
}

#include "kernels/simd/unturned.h"

#endif
