/* Register tiles for NEON: 32 q registers, four to a panel. Tall shapes keep 16 sums: 4 rows × 1
 * panel, 2 × 2, 1 × 4. x is read four k at a time and multiplied by lane, so that a step costs no
 * broadcasts, and 16 lanes are one load instruction: 24 registers are then in use at once, as many
 * as a function may have without saving any. */
#ifndef XF_TILE_NEON_H
#define XF_TILE_NEON_H

#include "kernels/op/vector.h"

enum { TILE_ROWS = 8, TILE_VALUE_PANELS = 1, TILE_PANELS_MAX = 4, TILE_FEW_PANELS = 1 };

/* The tallest tile for that many rows, and the panels it takes at once. */
XF_INLINE size_t tile_rows(size_t rows)
{
  return rows >= 8 ? 8 : rows >= 4 ? 4 : rows >= 2 ? 2 : 1;
}

XF_INLINE size_t tile_panels(size_t tile_row_count)
{
  return tile_row_count >= 4 ? 1 : tile_row_count == 2 ? 2 : 4;
}

/* The same where K is read once, from memory. */
XF_INLINE size_t tile_stream_panels(xf_type type, size_t tile_row_count)
{
  (void)type;
  return tile_panels(tile_row_count);
}

XF_INLINE size_t tile_value_rows(size_t rows)
{
  return tile_rows(rows);
}

/* sum[r] = fma(x[r][lane], w, sum[r]); lane is a constant after unrolling. */
XF_INLINE float32x4_t tile_fma_lane(float32x4_t sum, float32x4_t w, float32x4_t x, const int lane)
{
  switch (lane) {
  case 0: return vfmaq_laneq_f32(sum, w, x, 0);
  case 1: return vfmaq_laneq_f32(sum, w, x, 1);
  case 2: return vfmaq_laneq_f32(sum, w, x, 2);
  default: return vfmaq_laneq_f32(sum, w, x, 3);
  }
}

/* Sixteen floats: for GCC in one instruction, and behind all earlier loads, for it would ask for so
 * many at once that registers run out. clang pairs plain loads by itself, and spills tuples. */
XF_INLINE float32x4x4_t tile_floats(const float *p)
{
#ifdef __clang__
  return (float32x4x4_t){{vld1q_f32(p), vld1q_f32(p + 4), vld1q_f32(p + 8), vld1q_f32(p + 12)}};
#else
  __asm__ volatile("" ::: "memory");
  return vld1q_f32_x4(p);
#endif
}

/* The same for elements of 16 bits. */
XF_INLINE uint16x8x2_t tile_halves(const uint16_t *p)
{
#ifdef __clang__
  return (uint16x8x2_t){{vld1q_u16(p), vld1q_u16(p + 8)}};
#else
  __asm__ volatile("" ::: "memory");
  return vld1q_u16_x2(p);
#endif
}

/* Sixteen lanes from element i on. */
XF_INLINE float32x4x4_t tile_lanes(xf_type type, const void *panel, size_t i)
{
  if (type == XF_F32) return tile_floats((const float *)panel + i);
  uint16x8x2_t half = tile_halves((const uint16_t *)panel + i);
  float32x4x4_t out;
  XF_UNROLL
  for (int j = 0; j < 2; j++) {
    uint16x8_t eight = half.val[j];
    if (type == XF_F16) {
      out.val[2 * j] = vcvt_f32_f16(vget_low_f16(vreinterpretq_f16_u16(eight)));
      out.val[2 * j + 1] = vcvt_high_f32_f16(vreinterpretq_f16_u16(eight));
    } else {
      out.val[2 * j] = vreinterpretq_f32_u32(vshll_n_u16(vget_low_u16(eight), 16));
      out.val[2 * j + 1] = vreinterpretq_f32_u32(vshll_high_n_u16(eight, 16));
    }
  }
  return out;
}

XF_INLINE float32x4x4_t tile_tuple(v16 v)
{
  return (float32x4x4_t){{v.r[0], v.r[1], v.r[2], v.r[3]}};
}

/* Column i of a panel of weights or keys. */
XF_INLINE float32x4x4_t tile_column(xf_type type, const void *panel, size_t i)
{
  if (type == XF_I8) return tile_tuple(panel_column(type, panel, i));
  return tile_lanes(type, panel, i * XF_LANES);
}

/* Sixteen lanes of row j of a panel of values; v points to them. */
XF_INLINE float32x4x4_t tile_row(xf_type type, const void *panel, size_t j, const char *v)
{
  if (type != XF_I8) return tile_lanes(type, v, 0);
#ifndef __clang__ /* as in tile_floats */
  __asm__ volatile("" ::: "memory");
#endif
  return tile_tuple(row_lanes(type, v, 0, row_scale(type, panel, j)));
}

/* sum[4r + i] = fma(x[r][lane], w[i], sum[4r + i]) */
XF_INLINE void tile_step(const int rows, float32x4_t *sum, float32x4x4_t w, const float32x4_t *x,
                         const int lane)
{
  XF_UNROLL
  for (int r = 0; r < rows; r++) {
    XF_UNROLL
    for (int i = 0; i < 4; i++)
      sum[4 * r + i] = tile_fma_lane(sum[4 * r + i], w.val[i], x[r], lane);
  }
}

/* Four elements from x[r] on, of each row; or one in every lane. */
XF_INLINE void tile_rows_load(const int rows, const int n, const float *const *row, size_t i,
                              float32x4_t *x)
{
  XF_UNROLL
  for (int r = 0; r < rows; r++) x[r] = n == 4 ? vld1q_f32(row[r] + i) : vld1q_dup_f32(row[r] + i);
}

/* sum[4·rows·p + 4r + q] is a chain over k of lanes 4q … 4q + 3 of panel p. */
XF_INLINE void tile_dot_shape(xf_type type, const int rows, const int panels,
                              const struct dot_tile *t)
{
  float32x4_t sum[16], xs[4];
  const float *row[4];
  const void *panel[4];
  XF_UNROLL
  for (int p = 0; p < panels; p++) panel[p] = t->w[p];
  XF_UNROLL
  for (int i = 0; i < 4 * rows * panels; i++) sum[i] = vdupq_n_f32(0);
  XF_UNROLL
  for (int r = 0; r < rows; r++) row[r] = t->x + (size_t)r * t->ldx;
  size_t i = 0;
  for (; i + 4 <= t->k; i += 4) {
    tile_rows_load(rows, 4, row, i, xs);
    XF_UNROLL
    for (int j = 0; j < 4 * panels; j++)
      tile_step(rows, sum + j % panels * 4 * rows,
                tile_column(type, panel[j % panels], i + (size_t)(j / panels)), xs, j / panels);
  }
  for (; i < t->k; i++) {
    tile_rows_load(rows, 1, row, i, xs);
    XF_UNROLL
    for (int p = 0; p < panels; p++)
      tile_step(rows, sum + 4 * p * rows, tile_column(type, panel[p], i), xs, 0);
  }
  float *const y = t->y; /* not read again behind each store */
  const size_t ldy = t->ldy;
  const bool add = t->add;
  XF_UNROLL
  for (int j = 0; j < 4 * rows * panels; j++) {
    float *out = y + (size_t)(j / 4 % rows) * ldy + j / (4 * rows) * XF_LANES + j % 4 * 4;
    vst1q_f32(out, add ? vaddq_f32(vld1q_f32(out), sum[j]) : sum[j]);
  }
}

/* rows is one of tile_rows, panels is 1 or tile_panels of these rows. */
XF_INLINE void tile_dot(xf_type type, const enum asks asks, size_t rows, size_t panels,
                        const struct dot_tile *t)
{
  (void)asks;
  switch (rows << 4 | panels) {
  case 0x81: {
    struct dot_tile lower = *t;
    lower.x += 4 * t->ldx;
    lower.y += 4 * t->ldy;
    tile_dot_shape(type, 4, 1, t);
    tile_dot_shape(type, 4, 1, &lower);
    break;
  }
  case 0x41: tile_dot_shape(type, 4, 1, t); break;
  case 0x22: tile_dot_shape(type, 2, 2, t); break;
  case 0x21: tile_dot_shape(type, 2, 1, t); break;
  case 0x14: tile_dot_shape(type, 1, 4, t); break;
  case 0x12: tile_dot_shape(type, 1, 2, t); break;
  default: tile_dot_shape(type, 1, 1, t); break;
  }
}

/* Keys [j, end) of one panel one by one. */
XF_INLINE void tile_values_single(xf_type type, const int rows, const struct value_tile *t,
                                  float32x4_t *sum, const float *const *row, size_t j, size_t end)
{
  float32x4_t ps[4];
  for (; j < end; j++) {
    const char *v = value_row(type, t, j);
    tile_rows_load(rows, 1, row, j, ps);
    tile_step(rows, sum, tile_row(type, t->v[j / XF_LANES], j, v), ps, 0);
  }
}

/* Keys [j, end) of one panel, a multiple of four of them. */
XF_INLINE void tile_values_fours(xf_type type, const int rows, const struct value_tile *t,
                                 float32x4_t *sum, const float *const *row, size_t j, size_t end)
{
  const size_t step = t->v_stride * element_size(type);
  const void *panel = t->v[j / XF_LANES];
  const char *v = value_row(type, t, j);
  float32x4_t ps[4];
  for (; j < end; j += 4) {
    tile_rows_load(rows, 4, row, j, ps);
    XF_UNROLL
    for (int i = 0; i < 4; i++, v += step)
      tile_step(rows, sum, tile_row(type, panel, j + (size_t)i, v), ps, i);
  }
}

XF_INLINE size_t tile_least(size_t a, size_t b)
{
  return a < b ? a : b;
}

XF_INLINE void tile_values_shape(xf_type type, const int rows, const struct value_tile *t)
{
  float32x4_t sum[16];
  const float *row[4];
  XF_UNROLL
  for (int r = 0; r < rows; r++) row[r] = t->p + (size_t)r * t->ldp;
  XF_UNROLL
  for (int i = 0; i < 4 * rows; i++) {
    const float *old = t->acc + (size_t)(i / 4) * t->ld + i % 4 * 4;
    sum[i] = t->resume ? vld1q_f32(old) : vdupq_n_f32(0);
  }
  size_t j = t->from, fours = t->to - t->to % 4;
  size_t head = tile_least((t->from + 3) / 4 * 4, t->to);
  tile_values_single(type, rows, t, sum, row, j, head);
  for (j = head; j < fours;) {
    size_t end = tile_least(j - j % XF_LANES + XF_LANES, fours);
    tile_values_fours(type, rows, t, sum, row, j, end);
    j = end;
  }
  tile_values_single(type, rows, t, sum, row, j, t->to);
  XF_UNROLL
  for (int i = 0; i < 4 * rows; i++)
    vst1q_f32(t->acc + (size_t)(i / 4) * t->ld + i % 4 * 4, sum[i]);
}

/* rows is one of tile_value_rows, panels is 1. */
XF_INLINE void tile_values(xf_type type, const bool asks, size_t rows, size_t panels,
                           const struct value_tile *t)
{
  (void)asks, (void)panels;
  struct value_tile lower = *t;
  switch (rows) {
  case 8:
    tile_values_shape(type, 4, t);
    lower.p += 4 * t->ldp;
    lower.acc += 4 * t->ld;
    tile_values_shape(type, 4, &lower);
    break;
  case 4: tile_values_shape(type, 4, t); break;
  case 2: tile_values_shape(type, 2, t); break;
  default: tile_values_shape(type, 1, t); break;
  }
}

/* out[j][i] = rows[i][column + j], 4 × 4. */
XF_INLINE void tile_transpose_4(const float *const *rows, size_t column, float *out)
{
  float64x2_t a[4];
  XF_UNROLL
  for (int i = 0; i < 4; i += 2) {
    float32x4_t x = vld1q_f32(rows[i] + column), y = vld1q_f32(rows[i + 1] + column);
    a[i] = vreinterpretq_f64_f32(vtrn1q_f32(x, y));
    a[i + 1] = vreinterpretq_f64_f32(vtrn2q_f32(x, y));
  }
  vst1q_f32(out, vreinterpretq_f32_f64(vtrn1q_f64(a[0], a[2])));
  vst1q_f32(out + XF_LANES, vreinterpretq_f32_f64(vtrn1q_f64(a[1], a[3])));
  vst1q_f32(out + 2 * XF_LANES, vreinterpretq_f32_f64(vtrn2q_f64(a[0], a[2])));
  vst1q_f32(out + 3 * XF_LANES, vreinterpretq_f32_f64(vtrn2q_f64(a[1], a[3])));
}

/* out[j][i] = rows[i][column + j], 16 × 16. */
XF_INLINE void tile_transpose(const float *const *rows, size_t column, float *out)
{
  for (size_t i = 0; i < XF_LANES; i += 4)
    for (size_t j = 0; j < XF_LANES; j += 4)
      tile_transpose_4(rows + i, column + j, out + j * XF_LANES + i);
}

/* The largest of s[0 … n−1] that is not NaN; −inf where there is none. */
XF_INLINE float tile_row_max(const float *s, size_t n)
{
  const float32x4_t lowest = vdupq_n_f32(-INFINITY);
  float32x4_t top[4] = {lowest, lowest, lowest, lowest};
  size_t i = 0;
  for (; i + 16 <= n; i += 16) {
    XF_UNROLL
    for (int j = 0; j < 4; j++) top[j] = v16_max_quarter(vld1q_f32(s + i + 4 * j), top[j]);
  }
  top[0] = vmaxq_f32(vmaxq_f32(top[0], top[1]), vmaxq_f32(top[2], top[3]));
  float largest = vmaxvq_f32(top[0]);
  for (; i < n; i++) largest = xf_max(s[i], largest);
  return largest;
}

/* E(x) of four lanes; the other three quarters are dead code to the compiler. */
XF_INLINE float32x4_t tile_exp2(float32x4_t x)
{
  return exp2_v16((v16){{x, x, x, x}}).r[0];
}

/* Turns the scores s[0 … n−1] of a row, whose tile_row_max is top, into p. *m: top times c (0 where
 * every score is −inf or NaN), *l: Σ p. */
XF_APART void tile_softmax(float *s, size_t n, float top, float c, float *m, float *l)
{
  const float minus_m = block_offset(s, n, top, c, m);
  const float32x4_t scale = vdupq_n_f32(c), offset = vdupq_n_f32(minus_m);
  size_t i = 0;
  for (; i + 4 <= n; i += 4)
    vst1q_f32(s + i, tile_exp2(vfmaq_f32(offset, vld1q_f32(s + i), scale)));
  for (; i < n; i++) s[i] = exp2_f32(fmaf(s[i], c, minus_m));
  *l = row_sum(s, n, false); /* a second pass: 16 sums and the polynomial are too many registers */
}

#endif
