/* Register tiles for NEON: 32 q registers, four to a panel. Every tall shape keeps 16 sums: 8 rows
 * × half a panel, 4 × 1 panel, 2 × 2, 1 × 4. x is read four k at a time and multiplied by lane, so
 * that a step costs no broadcasts. */
#ifndef XF_TILE_NEON_H
#define XF_TILE_NEON_H

#include "kernels/op/vector.h"

enum { TILE_ROWS = 8, TILE_VALUE_PANELS = 1, TILE_PANELS_MAX = 4 };

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
XF_INLINE size_t tile_stream_panels(size_t tile_row_count)
{
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

/* Four lanes from element i on. */
XF_INLINE float32x4_t tile_quarter(xf_type type, const void *panel, size_t i)
{
  if (type == XF_F32) return vld1q_f32((const float *)panel + i);
  uint16x4_t half = vld1_u16((const uint16_t *)panel + i);
  if (type == XF_F16) return vcvt_f32_f16(vreinterpret_f16_u16(half));
  return vreinterpretq_f32_u32(vshll_n_u16(half, 16));
}

/* Rows × quarters of panels, the first quarter being `first` of w[0]: sum[q·rows + r] is a chain
 * over k of lanes 4q … 4q + 3. */
XF_INLINE void tile_dot_shape(xf_type type, const int rows, const int quarters, size_t first,
                              const float *x, size_t ldx, const void *const *w, size_t k, float *y,
                              size_t ldy, bool add)
{
  float32x4_t sum[16], xs[8];
  XF_UNROLL
  for (int i = 0; i < rows * quarters; i++) sum[i] = vdupq_n_f32(0);
  size_t i = 0;
  for (; i + 4 <= k; i += 4) {
    XF_UNROLL
    for (int r = 0; r < rows; r++) xs[r] = vld1q_f32(x + (size_t)r * ldx + i);
    XF_UNROLL
    for (int j = 0; j < 4 * quarters; j++) {
      size_t q = first + (size_t)(j % quarters), step = i + (size_t)(j / quarters);
      float32x4_t wq = tile_quarter(type, w[q / 4], step * XF_LANES + q % 4 * 4);
      XF_UNROLL
      for (int r = 0; r < rows; r++) {
        float32x4_t *chain = &sum[j % quarters * rows + r];
        *chain = tile_fma_lane(*chain, wq, xs[r], j / quarters);
      }
    }
  }
  for (; i < k; i++) {
    XF_UNROLL
    for (int j = 0; j < quarters; j++) {
      size_t q = first + (size_t)j;
      float32x4_t wq = tile_quarter(type, w[q / 4], i * XF_LANES + q % 4 * 4);
      XF_UNROLL
      for (int r = 0; r < rows; r++)
        sum[j * rows + r] = vfmaq_n_f32(sum[j * rows + r], wq, x[(size_t)r * ldx + i]);
    }
  }
  XF_UNROLL
  for (int j = 0; j < rows * quarters; j++) {
    float *out = y + (size_t)(j % rows) * ldy + 4 * (first + (size_t)(j / rows));
    vst1q_f32(out, add ? vaddq_f32(vld1q_f32(out), sum[j]) : sum[j]);
  }
}

/* y[r][16p + lane] = Σ_i x[r][i] · w[p][i][lane], one chain each; added to y where add is set.
 * rows is one of tile_rows, panels is 1 or tile_panels of these rows. */
XF_INLINE void tile_dot(xf_type type, size_t rows, size_t panels, const float *x, size_t ldx,
                        const void *const *w, size_t k, float *y, size_t ldy, bool add)
{
  switch (rows << 4 | panels) {
  case 0x81:
    tile_dot_shape(type, 8, 2, 0, x, ldx, w, k, y, ldy, add);
    tile_dot_shape(type, 8, 2, 2, x, ldx, w, k, y, ldy, add);
    break;
  case 0x41: tile_dot_shape(type, 4, 4, 0, x, ldx, w, k, y, ldy, add); break;
  case 0x22: tile_dot_shape(type, 2, 8, 0, x, ldx, w, k, y, ldy, add); break;
  case 0x21: tile_dot_shape(type, 2, 4, 0, x, ldx, w, k, y, ldy, add); break;
  case 0x14: tile_dot_shape(type, 1, 16, 0, x, ldx, w, k, y, ldy, add); break;
  case 0x12: tile_dot_shape(type, 1, 8, 0, x, ldx, w, k, y, ldy, add); break;
  default: tile_dot_shape(type, 1, 4, 0, x, ldx, w, k, y, ldy, add); break;
  }
}

/* Keys [j, j + steps) of one panel, steps a constant 1 or 4: v points to key j's first lane. */
XF_INLINE void tile_values_step(const int rows, const int quarters, const int steps,
                                float32x4_t *sum, const float *p, size_t ldp, const float *v,
                                size_t v_stride)
{
  float32x4_t ps[8];
  XF_UNROLL
  for (int r = 0; r < rows; r++)
    ps[r] = steps == 4 ? vld1q_f32(p + (size_t)r * ldp) : vld1q_dup_f32(p + (size_t)r * ldp);
  XF_UNROLL
  for (int j = 0; j < steps * quarters; j++) {
    float32x4_t vq = vld1q_f32(v + (size_t)(j / quarters) * v_stride + j % quarters * 4);
    XF_UNROLL
    for (int r = 0; r < rows; r++) {
      float32x4_t *chain = &sum[j % quarters * rows + r];
      *chain = tile_fma_lane(*chain, vq, ps[r], j / quarters);
    }
  }
}

XF_INLINE void tile_values_shape(const int rows, const int quarters, size_t first,
                                 const struct value_tile *t)
{
  float32x4_t sum[16];
  float *acc = t->acc + 4 * first;
  XF_UNROLL
  for (int i = 0; i < rows * quarters; i++) {
    const float *old = acc + (size_t)(i % rows) * t->ld + i / rows * 4;
    sum[i] = t->resume ? vld1q_f32(old) : vdupq_n_f32(0);
  }
  for (size_t j = t->from; j < t->to;) {
    const float *v = t->v[j / XF_LANES] + j % XF_LANES * t->v_stride + t->column + 4 * first;
    size_t end = j - j % XF_LANES + XF_LANES;
    end = end < t->to ? end : t->to;
    for (; j + 4 <= end; j += 4, v += 4 * t->v_stride)
      tile_values_step(rows, quarters, 4, sum, t->p + j, t->ldp, v, t->v_stride);
    for (; j < end; j++, v += t->v_stride)
      tile_values_step(rows, quarters, 1, sum, t->p + j, t->ldp, v, t->v_stride);
  }
  XF_UNROLL
  for (int i = 0; i < rows * quarters; i++)
    vst1q_f32(acc + (size_t)(i % rows) * t->ld + i / rows * 4, sum[i]);
}

/* rows is one of tile_value_rows, panels is 1. */
XF_APART void tile_values(size_t rows, size_t panels, const struct value_tile *t)
{
  (void)panels;
  switch (rows) {
  case 8:
    tile_values_shape(8, 2, 0, t);
    tile_values_shape(8, 2, 2, t);
    break;
  case 4: tile_values_shape(4, 4, 0, t); break;
  case 2: tile_values_shape(2, 4, 0, t); break;
  default: tile_values_shape(1, 4, 0, t); break;
  }
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

/* Turns the scores s[0 … n−1] of a row into p. *m: the maximum times c (0 where every score is −inf
 * or NaN), *l: Σ p. */
XF_APART void tile_softmax(float *s, size_t n, float c, float *m, float *l)
{
  float top = tile_row_max(s, n);
  const float minus_m = block_offset(s, n, top, c, m);
  const float32x4_t scale = vdupq_n_f32(c), offset = vdupq_n_f32(minus_m);
  size_t i = 0;
  for (; i + 4 <= n; i += 4)
    vst1q_f32(s + i, tile_exp2(vfmaq_f32(offset, vld1q_f32(s + i), scale)));
  for (; i < n; i++) s[i] = exp2_f32(fmaf(s[i], c, minus_m));
  *l = row_sum(s, n, false); /* a second pass: 16 sums and the polynomial are too many registers */
}

#endif
