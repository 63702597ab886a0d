/* Register tiles for AVX2: 16 ymm, two to a panel; 6 rows × 1 panel keep 12 sums in registers. */
#ifndef XF_TILE_AVX2_H
#define XF_TILE_AVX2_H

#include "kernels/op/vector.h"

enum { TILE_ROWS = 6, TILE_VALUE_PANELS = 1, TILE_PANELS_MAX = 4 };

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

/* One step of the chains of all sums: sum[r][p] = fma(x[r], w[p], sum[r][p]), p in halves of
 * panels. */
XF_INLINE void tile_step(const int rows, const int halves, __m256 *sum, const float *x, size_t ldx,
                         const __m256 *w)
{
  XF_UNROLL
  for (int r = 0; r < rows; r++) {
    __m256 xr = _mm256_broadcast_ss(x + (size_t)r * ldx);
    XF_UNROLL
    for (int p = 0; p < halves; p++)
      sum[r * halves + p] = _mm256_fmadd_ps(xr, w[p], sum[r * halves + p]);
  }
}

XF_INLINE void tile_dot_shape(xf_type type, const int rows, const int panels, const float *x,
                              size_t ldx, const void *const *w, size_t k, float *y, size_t ldy,
                              bool add)
{
  const int halves = 2 * panels;
  __m256 sum[12], column[8];
  XF_UNROLL
  for (int i = 0; i < rows * halves; i++) sum[i] = _mm256_setzero_ps();
  for (size_t i = 0; i < k; i++) {
    XF_UNROLL
    for (int p = 0; p < panels; p++) {
      v16 panel = v16_load_as(type, w[p], i * XF_LANES);
      column[2 * p] = panel.lo, column[2 * p + 1] = panel.hi;
    }
    tile_step(rows, halves, sum, x + i, ldx, column);
  }
  XF_UNROLL
  for (int r = 0; r < rows; r++) {
    XF_UNROLL
    for (int p = 0; p < halves; p++) {
      float *out = y + (size_t)r * ldy + p * 8;
      __m256 block = sum[r * halves + p];
      _mm256_storeu_ps(out, add ? _mm256_add_ps(_mm256_loadu_ps(out), block) : block);
    }
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
  __m256 sum[12], row[2];
  XF_UNROLL
  for (int i = 0; i < rows * 2; i++) {
    const float *old = t->acc + (size_t)(i / 2) * t->ld + i % 2 * 8;
    sum[i] = t->resume ? _mm256_loadu_ps(old) : _mm256_setzero_ps();
  }
  for (size_t j = t->from; j < t->to;) {
    const float *v = t->v[j / XF_LANES] + j % XF_LANES * t->v_stride + t->column;
    size_t end = j - j % XF_LANES + XF_LANES;
    for (end = end < t->to ? end : t->to; j < end; j++, v += t->v_stride) {
      row[0] = _mm256_loadu_ps(v), row[1] = _mm256_loadu_ps(v + 8);
      tile_step(rows, 2, sum, t->p + j, t->ldp, row);
    }
  }
  XF_UNROLL
  for (int i = 0; i < rows * 2; i++)
    _mm256_storeu_ps(t->acc + (size_t)(i / 2) * t->ld + i % 2 * 8, sum[i]);
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
  const __m256 lowest = _mm256_set1_ps(-INFINITY);
  __m256 top[4] = {lowest, lowest, lowest, lowest};
  size_t i = 0;
  for (; i + 32 <= n; i += 32) {
    XF_UNROLL
    for (int j = 0; j < 4; j++) top[j] = _mm256_max_ps(_mm256_loadu_ps(s + i + 8 * j), top[j]);
  }
  for (; i + 8 <= n; i += 8) top[0] = _mm256_max_ps(_mm256_loadu_ps(s + i), top[0]);
  top[0] = _mm256_max_ps(_mm256_max_ps(top[0], top[1]), _mm256_max_ps(top[2], top[3]));
  __m128 best = _mm_max_ps(_mm256_castps256_ps128(top[0]), _mm256_extractf128_ps(top[0], 1));
  best = _mm_max_ps(best, _mm_movehl_ps(best, best));
  best = _mm_max_ss(best, _mm_movehdup_ps(best));
  float largest = _mm_cvtss_f32(best);
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
  for (; i + 64 <= n; i += 64) {
    XF_UNROLL
    for (int j = 0; j < 4; j++) {
      v16 p = exp2_v16(v16_fma(v16_load(s + i + 16 * j), scale, offset));
      v16_store(s + i + 16 * j, p);
      sum[j] = v16_add(sum[j], p);
    }
  }
  XF_UNROLL
  for (int j = 0; j < 4; j++) {
    if (i >= n) break;
    __m256 live_lo = _mm256_castsi256_ps(v16_lanes_below(0, n - i));
    __m256 live_hi = _mm256_castsi256_ps(v16_lanes_below(8, n - i));
    v16 p = exp2_v16(v16_fma(v16_load(s + i), scale, offset));
    p = (v16){_mm256_and_ps(p.lo, live_lo), _mm256_and_ps(p.hi, live_hi)};
    v16_store(s + i, p);
    sum[j] = v16_add(sum[j], p);
    i += 16;
  }
  *l = sum64_v16(sum[0], sum[1], sum[2], sum[3]);
}

#endif
