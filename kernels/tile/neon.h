/* Register tiles for NEON: 32 q registers, four to a panel; x is read four k at a time and
 * multiplied by lane, so that a step costs no broadcasts. */
#ifndef XF_TILE_NEON_H
#define XF_TILE_NEON_H

#include "kernels/op/vector.h"

enum { TILE_ROWS = 6, TILE_VALUE_PANELS = 1, TILE_PANELS_MAX = 4, QUARTERS = 4 };

/* The tallest tile for that many rows, and the panels it takes at once. */
XF_INLINE size_t tile_rows(size_t rows)
{
  return rows >= 6 ? 6 : rows >= 4 ? 4 : rows >= 2 ? 2 : 1;
}

XF_INLINE size_t tile_panels(size_t tile_row_count)
{
  return tile_row_count >= 4 ? 1 : tile_row_count == 2 ? 2 : 4;
}

XF_INLINE size_t tile_value_rows(size_t rows)
{
  return tile_rows(rows);
}

/* sum[r] = fma(x[r][lane], w, sum[r]); lane is a constant after unrolling. */
XF_INLINE float32x4_t tile_fma_lane(float32x4_t sum, float32x4_t w, float32x4_t x, const int lane)
{
  switch (lane) {
  case 0:
    return vfmaq_laneq_f32(sum, w, x, 0);
  case 1:
    return vfmaq_laneq_f32(sum, w, x, 1);
  case 2:
    return vfmaq_laneq_f32(sum, w, x, 2);
  default:
    return vfmaq_laneq_f32(sum, w, x, 3);
  }
}

/* One step of the chains of one panel: x[r] holds four k of row r, of which `lane` is multiplied.
 */
XF_INLINE void tile_step(const int rows, float32x4_t *sum, const float32x4_t *x, const int lane,
                         v16 w)
{
  XF_UNROLL
  for (int q = 0; q < QUARTERS; q++) {
    XF_UNROLL
    for (int r = 0; r < rows; r++)
      sum[r * QUARTERS + q] = tile_fma_lane(sum[r * QUARTERS + q], w.r[q], x[r], lane);
  }
}

XF_INLINE void tile_dot_shape(xf_type type, const int rows, const int panels, const float *x,
                              size_t ldx, const void *const *w, size_t k, float *y, size_t ldy,
                              bool add)
{
  float32x4_t sum[24], xs[6];
  XF_UNROLL
  for (int i = 0; i < rows * panels * QUARTERS; i++) sum[i] = vdupq_n_f32(0);
  size_t i = 0;
  for (; i + 4 <= k; i += 4) {
    XF_UNROLL
    for (int r = 0; r < rows; r++) xs[r] = vld1q_f32(x + (size_t)r * ldx + i);
    XF_UNROLL
    for (int lane = 0; lane < 4; lane++) {
      XF_UNROLL
      for (int p = 0; p < panels; p++)
        tile_step(rows, sum + p * rows * QUARTERS, xs, lane,
                  v16_load_as(type, w[p], (i + (size_t)lane) * XF_LANES));
    }
  }
  for (; i < k; i++) {
    XF_UNROLL
    for (int r = 0; r < rows; r++) xs[r] = vld1q_dup_f32(x + (size_t)r * ldx + i);
    XF_UNROLL
    for (int p = 0; p < panels; p++)
      tile_step(rows, sum + p * rows * QUARTERS, xs, 0, v16_load_as(type, w[p], i * XF_LANES));
  }
  XF_UNROLL
  for (int j = 0; j < rows * panels * QUARTERS; j++) {
    int p = j / (rows * QUARTERS), r = j / QUARTERS % rows, q = j % QUARTERS;
    float *out = y + (size_t)r * ldy + p * XF_LANES + q * 4;
    vst1q_f32(out, add ? vaddq_f32(vld1q_f32(out), sum[j]) : sum[j]);
  }
}

/* y[r][16p + lane] = Σ_i x[r][i] · w[p][i][lane], one chain each; added to y where add is set.
 * rows is one of tile_rows, panels is 1 or tile_panels of these rows. */
XF_INLINE void tile_dot(xf_type type, size_t rows, size_t panels, const float *x, size_t ldx,
                        const void *const *w, size_t k, float *y, size_t ldy, bool add)
{
  switch (rows << 4 | panels) {
  case 0x61:
    tile_dot_shape(type, 6, 1, x, ldx, w, k, y, ldy, add);
    break;
  case 0x41:
    tile_dot_shape(type, 4, 1, x, ldx, w, k, y, ldy, add);
    break;
  case 0x22:
    tile_dot_shape(type, 2, 2, x, ldx, w, k, y, ldy, add);
    break;
  case 0x21:
    tile_dot_shape(type, 2, 1, x, ldx, w, k, y, ldy, add);
    break;
  case 0x14:
    tile_dot_shape(type, 1, 4, x, ldx, w, k, y, ldy, add);
    break;
  case 0x12:
    tile_dot_shape(type, 1, 2, x, ldx, w, k, y, ldy, add);
    break;
  default:
    tile_dot_shape(type, 1, 1, x, ldx, w, k, y, ldy, add);
    break;
  }
}

XF_INLINE void tile_values_shape(const int rows, const struct value_tile *t)
{
  float32x4_t sum[24], ps[6];
  XF_UNROLL
  for (int i = 0; i < rows * QUARTERS; i++) {
    const float *old = t->acc + (size_t)(i / QUARTERS) * t->ld + i % QUARTERS * 4;
    sum[i] = t->resume ? vld1q_f32(old) : vdupq_n_f32(0);
  }
  for (size_t j = t->from; j < t->to;) {
    const float *v = t->v[j / XF_LANES] + j % XF_LANES * t->v_stride + t->column;
    size_t end = j - j % XF_LANES + XF_LANES;
    end = end < t->to ? end : t->to;
    for (; j + 4 <= end; j += 4) {
      XF_UNROLL
      for (int r = 0; r < rows; r++) ps[r] = vld1q_f32(t->p + (size_t)r * t->ldp + j);
      XF_UNROLL
      for (int lane = 0; lane < 4; lane++, v += t->v_stride)
        tile_step(rows, sum, ps, lane, v16_load(v));
    }
    for (; j < end; j++, v += t->v_stride) {
      XF_UNROLL
      for (int r = 0; r < rows; r++) ps[r] = vld1q_dup_f32(t->p + (size_t)r * t->ldp + j);
      tile_step(rows, sum, ps, 0, v16_load(v));
    }
  }
  XF_UNROLL
  for (int i = 0; i < rows * QUARTERS; i++)
    vst1q_f32(t->acc + (size_t)(i / QUARTERS) * t->ld + i % QUARTERS * 4, sum[i]);
}

/* rows is one of tile_value_rows, panels is 1. */
XF_INLINE void tile_values(size_t rows, size_t panels, const struct value_tile *t)
{
  (void)panels;
  switch (rows) {
  case 6:
    tile_values_shape(6, t);
    break;
  case 4:
    tile_values_shape(4, t);
    break;
  case 2:
    tile_values_shape(2, t);
    break;
  default:
    tile_values_shape(1, t);
    break;
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

/* Turns the scores s[0 … n−1] of a row into p, zeros behind them up to a whole panel. *m: the
 * maximum times c (0 where every score is −inf or NaN), *l: Σ p. */
XF_INLINE void tile_softmax(float *s, size_t n, float c, float *m, float *l)
{
  float top = tile_row_max(s, n);
  *m = block_maximum(top, c);
  const v16 scale = v16_set1(c), offset = v16_set1(-*m);
  v16 sum[4] = {v16_set1(0), v16_set1(0), v16_set1(0), v16_set1(0)};
  size_t i = 0;
  for (; i + 16 <= n; i += 16) {
    v16 p = exp2_v16(v16_fma(v16_load(s + i), scale, offset));
    v16_store(s + i, p);
    sum[i / 16 % 4] = v16_add(sum[i / 16 % 4], p);
  }
  if (i < n) {
    v16 p = exp2_v16(v16_fma(v16_load(s + i), scale, offset));
    float lanes[XF_LANES];
    v16_store(lanes, p);
    memset(lanes + (n - i), 0, (XF_LANES - (n - i)) * sizeof *lanes);
    p = v16_load(lanes);
    v16_store(s + i, p);
    sum[i / 16 % 4] = v16_add(sum[i / 16 % 4], p);
  }
  *l = sum64_v16(sum[0], sum[1], sum[2], sum[3]);
}

#endif
