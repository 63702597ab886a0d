/* Sixteen int32 lanes and 8-bit products in plain C: the definition of every operation. */
#ifndef XF_SIMD_SCALAR_INT_H
#define XF_SIMD_SCALAR_INT_H

#include "kernels/simd/scalar.h"

typedef struct v16i {
  int32_t r[XF_LANES];
} v16i;

#include "kernels/simd/row_sums.h"

/* Two steps of a panel of weights: 8 consecutive k of 16 columns. */
typedef struct w16 {
  int16_t r[2][XF_LANES][4];
} w16;

/* The 8 numbers of each row of QUANT_UNIT that belong to them; rows lie ld apart. */
typedef struct q8 {
  int8_t r[2][4];
} q8;

/* Most rows of a tile, of which there are 6, 4, 2 and 1; most panels; most of their product;
 * whether the float sums of blocks of 32 have registers too. */
enum { QUANT_ROWS = 1, QUANT_PANELS_MAX = 1, QUANT_SUMS = 1, QUANT_KEEPS_FLOATS = 0 };

/* Panels of a tile of so many rows; a divisor of those of one row. */
XF_INLINE int quant_panels(xf_type type, int rows)
{
  (void)type, (void)rows;
  return 1;
}

/* Whether w16_load gives u itself; else u − zero. */
XF_INLINE bool w16_keeps_zero(int bits)
{
  (void)bits;
  return false;
}

XF_INLINE v16i v16i_set1(int a)
{
  v16i v;
  for (int i = 0; i < XF_LANES; i++) v.r[i] = a;
  return v;
}

XF_INLINE v16i v16i_zero(void)
{
  return v16i_set1(0);
}

XF_INLINE v16i v16i_add(v16i a, v16i b)
{
  for (int i = 0; i < XF_LANES; i++) a.r[i] += b.r[i];
  return a;
}

XF_INLINE v16i v16i_mul(v16i a, v16i b)
{
  for (int i = 0; i < XF_LANES; i++) a.r[i] *= b.r[i];
  return a;
}

XF_INLINE v16i v16i_load_u8(const uint8_t *p)
{
  v16i a;
  for (int i = 0; i < XF_LANES; i++) a.r[i] = p[i];
  return a;
}

XF_INLINE v16i v16i_load_i8(const int8_t *p)
{
  v16i a;
  for (int i = 0; i < XF_LANES; i++) a.r[i] = p[i];
  return a;
}

/* Rounded to nearest even. */
XF_INLINE v16 v16_from_int(v16i a)
{
  v16 v;
  for (int i = 0; i < XF_LANES; i++) v.r[i] = (float)a.r[i];
  return v;
}

/* To nearest even; |a| < 2³¹. */
XF_INLINE v16i v16_round(v16 a)
{
  v16i v;
  for (int i = 0; i < XF_LANES; i++) v.r[i] = (int32_t)rintf(a.r[i]);
  return v;
}

/* Lanes of −128 … 127. */
XF_INLINE void v16i_store_i8(int8_t *p, v16i a)
{
  for (int i = 0; i < XF_LANES; i++) p[i] = (int8_t)a.r[i];
}

/* sums[i] = Σ of the i-th 16 of 32. */
XF_INLINE void q_sums(const int8_t *q, int16_t *sums)
{
  for (int half = 0; half < 2; half++) {
    int sum = 0;
    for (int i = 0; i < XF_LANES; i++) sum += q[half * XF_LANES + i];
    sums[half] = (int16_t)sum;
  }
}

/* |a| as integers, which have the order of the numbers, infinity and NaN above them. */
XF_INLINE v16i v16_magnitude(v16 a)
{
  v16i bits;
  memcpy(bits.r, a.r, sizeof bits.r);
  for (int i = 0; i < XF_LANES; i++) bits.r[i] &= INT32_MAX;
  return bits;
}

XF_INLINE v16i v16i_max(v16i a, v16i b)
{
  for (int i = 0; i < XF_LANES; i++) a.r[i] = a.r[i] > b.r[i] ? a.r[i] : b.r[i];
  return a;
}

/* The largest lane. */
XF_INLINE int32_t v16i_largest(v16i a)
{
  int32_t largest = a.r[0];
  for (int i = 1; i < XF_LANES; i++) largest = a.r[i] > largest ? a.r[i] : largest;
  return largest;
}

/* Lanes of −32,768 … 32,767 in the form of v16i_add_sums. */
XF_INLINE v16i v16i_pairs(v16i a)
{
  return a;
}

/* sum + a · (sums[0] + sums[1]), pairs made of a. */
XF_INLINE v16i v16i_add_sums(v16i sum, v16i pairs, const int16_t *sums)
{
  for (int i = 0; i < XF_LANES; i++) sum.r[i] += pairs.r[i] * (sums[0] + sums[1]);
  return sum;
}

/* even · sums[0] + odd · sums[1] in all lanes; both are 16-bit numbers. */
XF_INLINE v16i v16i_times_sums(int even, int odd, const int16_t *sums)
{
  v16i a;
  for (int i = 0; i < XF_LANES; i++) a.r[i] = even * sums[0] + odd * sums[1];
  return a;
}

/* u of step `step`, lane and byte as [16][4], of a chunk (kernels/quant.h). */
XF_INLINE int w16_quant(int bits, const uint8_t *chunk, int step, int at)
{
  if (bits == 8) return chunk[64 * step + at];
  int u = chunk[step / 2 * 64 + at] >> step % 2 * 4 & 15, shift = step * (bits - 4);
  if (bits > 4) u |= (chunk[256 + shift / 8 * 64 + at] >> shift % 8 & ((1 << (bits - 4)) - 1)) << 4;
  return u;
}

/* Steps 2 · pair and 2 · pair + 1 of a chunk. */
XF_INLINE w16 w16_load(int bits, int zero, const uint8_t *chunk, int pair)
{
  w16 w;
  for (int i = 0; i < 2; i++)
    for (int at = 0; at < 64; at++)
      w.r[i][at / 4][at % 4] = (int16_t)(w16_quant(bits, chunk, 2 * pair + i, at) - zero);
  return w;
}

XF_INLINE q8 q8_load(const int8_t *q, size_t ld)
{
  (void)ld;
  q8 row;
  memcpy(row.r, q, sizeof row.r);
  return row;
}

/* sums + Σ w · q. */
XF_INLINE d16 d16_add(int bits, d16 sum, w16 w, q8 q)
{
  (void)bits;
  for (int i = 0; i < XF_LANES; i++)
    for (int j = 0; j < 8; j++) sum.r[i] += w.r[j / 4][i][j % 4] * q.r[j / 4][j % 4];
  return sum;
}

#include "kernels/simd/unturned.h"

#endif
