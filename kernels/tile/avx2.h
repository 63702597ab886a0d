/* Register tiles for AVX2: 16 ymm, two to a panel; 6 rows × 1 panel keep 12 sums in registers. */
#ifndef XF_TILE_AVX2_H
#define XF_TILE_AVX2_H

#include "kernels/op/vector.h"

enum { TILE_ROWS = 6, TILE_VALUE_PANELS = 1, TILE_PANELS_MAX = 4, TILE_FEW_PANELS = 1 };

/* Tiles of so many rows ask for what comes next: for one alone the CPU looks far enough ahead. */
enum { TILE_ASKING_ROWS = 2 };

/* The tallest tile for that many rows, and the panels it takes at once. Of 8 rows, 4 and 4 keep
 * more chains going than 6 and 2. */
XF_INLINE size_t tile_rows(size_t rows)
{
  if (rows >= 6) return rows == 8 ? 4 : 6;
  return rows >= 4 ? 4 : rows >= 2 ? 2 : 1;
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
  return rows >= 6 ? 6 : rows >= 4 ? 4 : rows >= 2 ? 2 : 1;
}

/* One step of the chains of one panel: sum[r] = fma(x[r], w, sum[r]), two ymm a row. */
XF_INLINE void tile_step(const int rows, __m256 *sum, const float *x, size_t ldx, v16 w)
{
  XF_UNROLL
  for (int r = 0; r < rows; r++) {
    __m256 xr = _mm256_broadcast_ss(x + (size_t)r * ldx);
    sum[2 * r] = _mm256_fmadd_ps(xr, w.lo, sum[2 * r]);
    sum[2 * r + 1] = _mm256_fmadd_ps(xr, w.hi, sum[2 * r + 1]);
  }
}

XF_INLINE void tile_dot_shape(xf_type type, const enum asks asks, const int rows, const int panels,
                              const struct dot_tile *t)
{
  __m256 sum[12];
  const void *panel[TILE_PANELS_MAX];
  XF_UNROLL
  for (int p = 0; p < panels; p++) panel[p] = t->w[p];
  XF_UNROLL
  for (int i = 0; i < 2 * rows * panels; i++) sum[i] = _mm256_setzero_ps();
  struct asking next = dot_asking(type, t);
  for (size_t i = 0; i < t->k; i++) {
    if (asks && rows >= TILE_ASKING_ROWS) ask_step(&next, panels);
    XF_UNROLL
    for (int p = 0; p < panels; p++)
      tile_step(rows, sum + 2 * rows * p, t->x + i, t->ldx, panel_column(type, panel[p], i));
  }
  float *const y = t->y; /* not read again behind each store */
  const size_t ldy = t->ldy;
  const bool add = t->add;
  XF_UNROLL
  for (int i = 0; i < rows * panels; i++) {
    float *out = y + (size_t)(i % rows) * ldy + i / rows * XF_LANES;
    v16 block = {sum[2 * i], sum[2 * i + 1]};
    v16_store(out, add ? v16_add(v16_load(out), block) : block);
  }
}

/* rows is one of tile_rows, panels is 1 or tile_panels of these rows. */
XF_INLINE void tile_dot(xf_type type, const enum asks asks, size_t rows, size_t panels,
                        const struct dot_tile *t)
{
  switch (rows << 4 | panels) {
  case 0x61: tile_dot_shape(type, asks, 6, 1, t); break;
  case 0x41: tile_dot_shape(type, asks, 4, 1, t); break;
  case 0x22: tile_dot_shape(type, asks, 2, 2, t); break;
  case 0x21: tile_dot_shape(type, asks, 2, 1, t); break;
  case 0x14: tile_dot_shape(type, asks, 1, 4, t); break;
  case 0x12: tile_dot_shape(type, asks, 1, 2, t); break;
  default: tile_dot_shape(type, asks, 1, 1, t); break;
  }
}

XF_INLINE void tile_values_shape(xf_type type, const bool asks, const int rows,
                                 const struct value_tile *t)
{
  const size_t step = t->v_stride * element_size(type);
  __m256 sum[12];
  XF_UNROLL
  for (int i = 0; i < rows * 2; i++) {
    const float *old = t->acc + (size_t)(i / 2) * t->ld + i % 2 * 8;
    sum[i] = t->resume ? _mm256_loadu_ps(old) : _mm256_setzero_ps();
  }
  for (size_t j = t->from; j < t->to;) {
    const void *panel = t->v[j / XF_LANES];
    const char *v = value_row(type, t, j);
    size_t end = j - j % XF_LANES + XF_LANES;
    struct asking next = asks ? value_asking(type, t, j, 1) : (struct asking){0};
    for (end = end < t->to ? end : t->to; j < end; j++, v += step) {
      if (asks) ask_step(&next, 1);
      tile_step(rows, sum, t->p + j, t->ldp, row_lanes(type, v, 0, row_scale(type, panel, j)));
    }
  }
  XF_UNROLL
  for (int i = 0; i < rows * 2; i++)
    _mm256_storeu_ps(t->acc + (size_t)(i / 2) * t->ld + i % 2 * 8, sum[i]);
}

/* rows is one of tile_value_rows, panels is 1. */
XF_INLINE void tile_values(xf_type type, const bool asks, size_t rows, size_t panels,
                           const struct value_tile *t)
{
  (void)panels;
  switch (rows) {
  case 6: tile_values_shape(type, asks, 6, t); break;
  case 4: tile_values_shape(type, asks, 4, t); break;
  case 2: tile_values_shape(type, asks, 2, t); break;
  default: tile_values_shape(type, asks, 1, t); break;
  }
}

/* One step of a transposition of 8 × 8: pairs of rows at distance `apart` exchange elements, or
 * groups of them, so that after distances 1, 2 and 4 rows are columns. */
XF_INLINE void tile_exchange(__m256 *a, const int apart)
{
  XF_UNROLL
  for (int i = 0; i < 8; i++) {
    if (i & apart) continue;
    __m256 x = a[i], y = a[i + apart];
    if (apart == 1) {
      a[i] = _mm256_unpacklo_ps(x, y);
      a[i + 1] = _mm256_unpackhi_ps(x, y);
    } else if (apart == 2) {
      a[i] = _mm256_castpd_ps(_mm256_unpacklo_pd(_mm256_castps_pd(x), _mm256_castps_pd(y)));
      a[i + 2] = _mm256_castpd_ps(_mm256_unpackhi_pd(_mm256_castps_pd(x), _mm256_castps_pd(y)));
    } else {
      a[i] = _mm256_permute2f128_ps(x, y, 0x20);
      a[i + 4] = _mm256_permute2f128_ps(x, y, 0x31);
    }
  }
}

/* out[j][i] = rows[i][column + j], 16 × 16, as four blocks of 8 × 8. */
XF_INLINE void tile_transpose(const float *const *rows, size_t column, float *out)
{
  /* Where exchanges leave each column. */
  static const int place[8] = {0, 2, 1, 3, 4, 6, 5, 7};
  for (size_t block = 0; block < 4; block++) {
    size_t row = block % 2 * 8, first = block / 2 * 8;
    __m256 a[8];
    XF_UNROLL
    for (int i = 0; i < 8; i++) a[i] = _mm256_loadu_ps(rows[row + (size_t)i] + column + first);
    tile_exchange(a, 1);
    tile_exchange(a, 2);
    tile_exchange(a, 4);
    XF_UNROLL
    for (int i = 0; i < 8; i++)
      _mm256_storeu_ps(out + (first + (size_t)place[i]) * XF_LANES + row, a[i]);
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

/* E(x) of eight lanes; the other half is dead code to the compiler. */
XF_INLINE __m256 tile_exp2(__m256 x)
{
  return exp2_v16((v16){x, x}).lo;
}

/* Turns the scores s[0 … n−1] of a row, whose tile_row_max is top, into p. *m: top times c (0 where
 * every score is −inf or NaN), *l: Σ p. */
XF_APART void tile_softmax(float *s, size_t n, float top, float c, float *m, float *l)
{
  const __m256 scale = _mm256_set1_ps(c), offset = _mm256_set1_ps(block_offset(s, n, top, c, m));
  size_t i = 0;
  for (; i + 8 <= n; i += 8)
    _mm256_storeu_ps(s + i, tile_exp2(_mm256_fmadd_ps(_mm256_loadu_ps(s + i), scale, offset)));
  if (i < n) {
    __m256i live = v16_lanes_below(0, n - i);
    __m256 x = _mm256_maskload_ps(s + i, live);
    _mm256_maskstore_ps(s + i, live, tile_exp2(_mm256_fmadd_ps(x, scale, offset)));
  }
  *l = row_sum(s, n, false); /* apart: eight sums and the polynomial are too many registers */
}

#endif
