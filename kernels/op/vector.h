/* What tiles and ops share on top of the vocabulary: typed loads, 2^x, the row reduction. */
#ifndef XF_OP_VECTOR_H
#define XF_OP_VECTOR_H

#include <stdbool.h>

#include "kernels/op/asking.h"

/* So far ahead attention asks: enough to arrive in time, little enough to stay until it is used. */
enum { ASKED_BYTES = 8192 };

/* What a tile of x · w works on: y[r][16p + lane] = Σ_i x[r][i] · w[p][i][lane], one chain each;
 * added to y where add is set. */
struct dot_tile {
  const float *x; /* [rows][ldx] */
  size_t ldx;
  const void *const *w; /* panels [k][16], of the type that the tile is for */
  size_t k;
  float *y; /* [rows][ldy] */
  size_t ldy;
  bool add;
  struct asking next;
};

/* What a value tile works on: acc[r][16i + lane] = Σ_{from ≤ j < to} p[r][j] · v[j][column + 16i +
 * lane], one chain each, from +0 or, where resume is set, from acc. */
struct value_tile {
  const float *p; /* [rows][ldp] */
  size_t ldp;
  const void *const *v; /* panels of 16 rows, of the type that the tile is for */
  size_t v_stride, column, from, to;
  float *acc; /* [rows][ld] */
  size_t ld;
  bool resume;
  size_t
      ahead; /* bytes from a row of v to the one that a tile asks for, if it asks for no others */
  bool far;  /* what comes next is asked for only in the second cache */
  /* Of v, where the tile asks for what comes next. Last, since compilers write the fields in front
   * in pairs, of which a CPU hands on no part to a load in the next instructions. */
  size_t panels, piece; /* piece: so many panels on, these columns are next; 0: other keys */
};

/* Known at compile time not to be far where the type is narrow. */
XF_INLINE struct asking dot_asking(xf_type type, const struct dot_tile *t)
{
  struct asking next = t->next;
  next.far &= type == XF_F32;
  return next;
}

/* Sixteen 16-bit elements, widened exactly. */
XF_INLINE v16 v16_load_16(xf_type type, const uint16_t *p)
{
  return type == XF_F16 ? v16_load_f16(p) : v16_load_bf16(p);
}

/* Sixteen elements from index i on, widened exactly. */
XF_INLINE v16 v16_load_as(xf_type type, const void *p, size_t i)
{
  if (type == XF_F32) return v16_load((const float *)p + i);
  return v16_load_16(type, (const uint16_t *)p + i);
}

XF_INLINE size_t element_size(xf_type type)
{
  return type == XF_F32 ? sizeof(float) : type == XF_I8 ? sizeof(int8_t) : sizeof(uint16_t);
}

/* Where the elements of a panel begin: behind the scales of its 16 rows, if it has any. */
XF_INLINE const char *panel_elements(xf_type type, const void *panel)
{
  return (const char *)panel + (type == XF_I8 ? XF_LANES * sizeof(float) : 0);
}

/* Column i of a panel of weights or keys. The scales of bytes are read each time, behind the bytes:
 * kept for a whole loop, they would take registers that a tile's sums need. */
XF_INLINE v16 panel_column(xf_type type, const void *panel, size_t i)
{
  if (type != XF_I8) return v16_load_as(type, panel, i * XF_LANES);
  v16 q = v16_load_i8((const int8_t *)panel_elements(type, panel) + i * XF_LANES);
  __asm__ volatile("" ::: "memory");
  return v16_mul(q, v16_load(panel));
}

/* The scale of row j of a panel of values, in every lane. */
XF_INLINE v16 row_scale(xf_type type, const void *panel, size_t j)
{
  return v16_set1(type == XF_I8 ? ((const float *)panel)[j % XF_LANES] : 1);
}

/* Sixteen elements of that row, from index i on. */
XF_INLINE v16 row_lanes(xf_type type, const void *row, size_t i, v16 scale)
{
  if (type != XF_I8) return v16_load_as(type, row, i);
  return v16_mul(v16_load_i8((const int8_t *)row + i), scale);
}

/* Row j of v, from the tile's column on. */
XF_INLINE const char *value_row(xf_type type, const struct value_tile *t, size_t j)
{
  size_t i = j % XF_LANES * t->v_stride + t->column;
  return panel_elements(type, t->v[j / XF_LANES]) + i * element_size(type);
}

/* Cache lines that so many panels of a row of v take. */
XF_INLINE int value_lines(xf_type type, const int panels)
{
  return (int)(((size_t)panels * XF_LANES * element_size(type) + 63) / 64);
}

/* Asks for so many panels of a row of v. */
XF_INLINE void value_ask(xf_type type, const int panels, const char *v)
{
  XF_UNROLL
  for (int i = 0; i < value_lines(type, panels); i++) __builtin_prefetch(v + 64 * i);
}

/* What a tile of so many panels of columns asks for from row j of v on, where 16 rows begin: the
 * same columns of the next piece or, without pieces, rows further on, and past the last the first
 * ones' next columns. */
XF_INLINE struct asking value_asking(xf_type type, const struct value_tile *t, size_t j,
                                     const int panels)
{
  const size_t size = element_size(type), width = (size_t)panels * XF_LANES;
  const size_t distance = t->piece ? t->piece : ASKED_BYTES / (XF_LANES * width * size);
  size_t ahead = j / XF_LANES + distance, column = t->column;
  if (ahead >= t->panels && !t->piece) ahead -= t->panels, column += width;
  if (ahead >= t->panels || column >= t->ld) return (struct asking){0};
  const char *row = panel_elements(type, t->v[ahead]);
  return (struct asking){(uintptr_t)row + column * size, 64, t->v_stride * size,
                         type == XF_F32 && t->far};
}

/* Rounds x to an integer in the low bits of a float: 1.5·2²³ + 127, so that these bits, shifted
 * into the exponent, are 2^n. */
#define XF_EXP2_MAGIC 12583039.0f

/* At most 1.0145 ULP; below −126.5 exactly +0; NaN stays NaN. Coefficients: minimax for 2^f on
 * |f| ≤ 1/2 with the constant term 1. */
XF_INLINE v16 exp2_v16(v16 x)
{
  const v16 magic = v16_set1(XF_EXP2_MAGIC);
  x = v16_max(v16_set1(-127.0f), x);
  v16 n = v16_add(x, magic);
  v16 f = v16_sub(x, v16_sub(n, magic));
  v16 p = v16_set1(0x1.470b4ap-13f);
  p = v16_fma(p, f, v16_set1(0x1.5f7276p-10f));
  p = v16_fma(p, f, v16_set1(0x1.3b270ep-7f));
  p = v16_fma(p, f, v16_set1(0x1.c6ae72p-5f));
  p = v16_fma(p, f, v16_set1(0x1.ebfbe2p-3f));
  p = v16_fma(p, f, v16_set1(0x1.62e432p-1f));
  p = v16_fma(p, f, v16_set1(1.0f));
  return v16_scale2(p, n);
}

/* The same for one number. */
XF_INLINE float exp2_f32(float x)
{
  x = xf_max(-127.0f, x);
  float n = x + XF_EXP2_MAGIC;
  float f = x - (n - XF_EXP2_MAGIC);
  float p = 0x1.470b4ap-13f;
  p = fmaf(p, f, 0x1.5f7276p-10f);
  p = fmaf(p, f, 0x1.3b270ep-7f);
  p = fmaf(p, f, 0x1.c6ae72p-5f);
  p = fmaf(p, f, 0x1.ebfbe2p-3f);
  p = fmaf(p, f, 0x1.62e432p-1f);
  p = fmaf(p, f, 1.0f);
  return p * xf_float_of_bits(xf_bits_of_float(n) << 23);
}

/* What is added to s · c before E, where `top` is the greatest of the scores s[0 … n−1]: −M for M =
 * top · c, the block's maximum, which goes to *m. *m is 0 where there is no maximum, and +0 for −0,
 * since which of two zeros is the greatest depends on the order of comparison. Where M is so large
 * that its rounding could leave E's range, top is taken from the scores instead. */
XF_INLINE float block_offset(float *s, size_t n, float top, float c, float *m)
{
  *m = top == -INFINITY ? 0 : top * c + 0.0f;
  if (fabsf(*m) < 0x1p30f) return -*m;
  for (size_t i = 0; i < n; i++) s[i] -= top;
  return 0;
}

/* Row reduction: element i of the row was added to lane i mod 64 of (a, b, c, d). */
XF_INLINE float sum64_v16(v16 a, v16 b, v16 c, v16 d)
{
  return v16_sum(v16_add(v16_add(a, b), v16_add(c, d)));
}

/* Row reduction of x[0 … n−1], or of its squares. */
XF_INLINE float row_sum(const float *x, size_t n, const bool squares)
{
  v16 sum[4] = {v16_set1(0), v16_set1(0), v16_set1(0), v16_set1(0)};
  size_t i = 0;
  for (; i + 64 <= n; i += 64) {
    XF_UNROLL
    for (int j = 0; j < 4; j++) {
      v16 v = v16_load(x + i + 16 * j);
      sum[j] = squares ? v16_fma(v, v, sum[j]) : v16_add(sum[j], v);
    }
  }
  XF_UNROLL
  for (int j = 0; j < 4; j++) {
    if (i < n) {
      v16 v = n - i < 16 ? v16_load_n(x + i, n - i) : v16_load(x + i);
      sum[j] = squares ? v16_fma(v, v, sum[j]) : v16_add(sum[j], v);
      i += 16;
    }
  }
  return sum64_v16(sum[0], sum[1], sum[2], sum[3]);
}

#endif
