/* Register tiles for AVX-512: 32 zmm, two FMA ports, a whole panel in one register.
 * A shape is rows × panels; 8×3 and 6×4 keep 24 sums in registers, eight or more hide the latency.
 * Where fewer panels are left, two are taken together (TILE_FEW_PANELS).
 */
#ifndef XF_TILE_AVX512_H
#define XF_TILE_AVX512_H

#include "kernels/op/vector.h"

enum { TILE_ROWS = 8, TILE_VALUE_PANELS = 4, TILE_PANELS_MAX = 8, TILE_FEW_PANELS = 2 };

/* Tiles of so many rows ask for what comes next: fewer multiply so little that the CPU looks far
 * enough ahead by itself. */
enum { TILE_ASKING_ROWS = 4 };

/* The tallest tile for that many rows, and the panels it takes at once. */
XF_INLINE size_t tile_rows(size_t rows)
{
  return rows >= 8 ? 8 : rows >= 4 ? 4 : rows >= 2 ? 2 : 1;
}

XF_INLINE size_t tile_panels(size_t tile_row_count)
{
  return tile_row_count == 8 ? 3 : tile_row_count == 4 ? 4 : 8;
}

/* The same where K is read once, from memory: 8 rows keep both FMA ports busy with one panel, and
 * one stream is what prefetchers follow best. Where widening needs these ports, too, twice as many
 * chains lose less. */
XF_INLINE size_t tile_stream_panels(xf_type type, size_t tile_row_count)
{
  if (tile_row_count == 8) return type == XF_F32 ? 1 : 2;
  return tile_panels(tile_row_count);
}

XF_INLINE size_t tile_value_rows(size_t rows)
{
  return rows >= 6 ? 6 : rows >= 4 ? 4 : rows >= 2 ? 2 : 1;
}

/* One step of the chains of all sums: sum[r][p] = fma(x[r], w[p], sum[r][p]). */
XF_INLINE void tile_step(const int rows, const int panels, __m512 *sum, const float *x, size_t ldx,
                         const __m512 *w)
{
  XF_UNROLL
  for (int r = 0; r < rows; r++) {
    __m512 xr = _mm512_set1_ps(x[(size_t)r * ldx]);
    XF_UNROLL
    for (int p = 0; p < panels; p++)
      sum[r * panels + p] = _mm512_fmadd_ps(xr, w[p], sum[r * panels + p]);
  }
}

/* The weights of f32 that are needed some steps behind step i. */
XF_INLINE void ask_near(const int panels, const void *const *panel, size_t i)
{
  XF_UNROLL
  for (int p = 0; p < panels; p++)
    __builtin_prefetch((const float *)panel[p] + (i + NEAR_STEPS) * XF_LANES);
}

XF_INLINE void tile_dot_shape(xf_type type, const enum asks asks, const int rows, const int panels,
                              const struct dot_tile *t)
{
  __m512 sum[24];
  const void *panel[TILE_PANELS_MAX];
  XF_UNROLL
  for (int p = 0; p < panels; p++) panel[p] = t->w[p];
  XF_UNROLL
  for (int i = 0; i < rows * panels; i++) sum[i] = _mm512_setzero_ps();
  struct asking next = dot_asking(type, t);
  const float *x = t->x; /* not read again: clang thinks that asking may change it */
  size_t ldx = t->ldx;
  for (size_t i = 0; i < t->k; i++) {
    __m512 column[TILE_PANELS_MAX];
    if (asks) __asm__("" : "+r"(ldx)); /* else its multiples are kept, and sums spilled */
    XF_UNROLL
    for (int p = 0; p < panels; p++) column[p] = panel_column(type, panel[p], i);
    if (asks && rows >= TILE_ASKING_ROWS) ask_step(&next, panels);
    if (asks == ASKS_NEAR && rows == TILE_ROWS) ask_near(panels, panel, i);
    tile_step(rows, panels, sum, x + i, ldx, column);
  }
  float *const y = t->y; /* not read again behind each store */
  const size_t ldy = t->ldy;
  const bool add = t->add;
  XF_UNROLL
  for (int r = 0; r < rows; r++) {
    XF_UNROLL
    for (int p = 0; p < panels; p++) {
      float *out = y + (size_t)r * ldy + p * XF_LANES;
      __m512 block = sum[r * panels + p];
      _mm512_storeu_ps(out, add ? _mm512_add_ps(_mm512_loadu_ps(out), block) : block);
    }
  }
}

/* rows is one of tile_rows, panels is 1, TILE_FEW_PANELS or tile_panels of these or more rows. */
XF_INLINE void tile_dot(xf_type type, const enum asks asks, size_t rows, size_t panels,
                        const struct dot_tile *t)
{
  switch (rows << 4 | panels) {
  case 0x83: tile_dot_shape(type, asks, 8, 3, t); break;
  case 0x82: tile_dot_shape(type, asks, 8, 2, t); break;
  case 0x81: tile_dot_shape(type, asks, 8, 1, t); break;
  case 0x44: tile_dot_shape(type, asks, 4, 4, t); break;
  case 0x43: tile_dot_shape(type, asks, 4, 3, t); break;
  case 0x42: tile_dot_shape(type, asks, 4, 2, t); break;
  case 0x41: tile_dot_shape(type, asks, 4, 1, t); break;
  case 0x28: tile_dot_shape(type, asks, 2, 8, t); break;
  case 0x24: tile_dot_shape(type, asks, 2, 4, t); break;
  case 0x23: tile_dot_shape(type, asks, 2, 3, t); break;
  case 0x22: tile_dot_shape(type, asks, 2, 2, t); break;
  case 0x21: tile_dot_shape(type, asks, 2, 1, t); break;
  case 0x18: tile_dot_shape(type, asks, 1, 8, t); break;
  case 0x14: tile_dot_shape(type, asks, 1, 4, t); break;
  case 0x13: tile_dot_shape(type, asks, 1, 3, t); break;
  case 0x12: tile_dot_shape(type, asks, 1, 2, t); break;
  default: tile_dot_shape(type, asks, 1, 1, t); break;
  }
}

XF_INLINE void tile_values_shape(xf_type type, const bool asks, const int rows, const int panels,
                                 const struct value_tile *t)
{
  const size_t step = t->v_stride * element_size(type), ahead = asks ? 0 : t->ahead;
  __m512 sum[24];
  XF_UNROLL
  for (int i = 0; i < rows * panels; i++) {
    const float *old = t->acc + (size_t)(i / panels) * t->ld + i % panels * XF_LANES;
    sum[i] = t->resume ? _mm512_loadu_ps(old) : _mm512_setzero_ps();
  }
  for (size_t j = t->from; j < t->to;) {
    const void *panel = t->v[j / XF_LANES];
    const char *v = value_row(type, t, j);
    size_t end = j - j % XF_LANES + XF_LANES;
    struct asking next = asks ? value_asking(type, t, j, panels) : (struct asking){0};
    for (end = end < t->to ? end : t->to; j < end; j++, v += step) {
      __m512 row[TILE_VALUE_PANELS], scale = row_scale(type, panel, j);
      if (asks) ask_step(&next, value_lines(type, panels));
      if (ahead) value_ask(type, panels, v + ahead);
      row[0] = row_lanes(type, v, 0, scale);
      XF_UNROLL
      for (size_t i = 1; i < (size_t)panels; i++) row[i] = row_lanes(type, v, i * XF_LANES, scale);
      tile_step(rows, panels, sum, t->p + j, t->ldp, row);
    }
  }
  XF_UNROLL
  for (int i = 0; i < rows * panels; i++)
    _mm512_storeu_ps(t->acc + (size_t)(i / panels) * t->ld + i % panels * XF_LANES, sum[i]);
}

/* rows is one of tile_value_rows, panels 1 or TILE_VALUE_PANELS. */
XF_INLINE void tile_values(xf_type type, const bool asks, size_t rows, size_t panels,
                           const struct value_tile *t)
{
  switch (rows << 4 | panels) {
  case 0x64: tile_values_shape(type, asks, 6, 4, t); break;
  case 0x61: tile_values_shape(type, asks, 6, 1, t); break;
  case 0x44: tile_values_shape(type, asks, 4, 4, t); break;
  case 0x41: tile_values_shape(type, asks, 4, 1, t); break;
  case 0x24: tile_values_shape(type, asks, 2, 4, t); break;
  case 0x21: tile_values_shape(type, asks, 2, 1, t); break;
  case 0x14: tile_values_shape(type, asks, 1, 4, t); break;
  default: tile_values_shape(type, asks, 1, 1, t); break;
  }
}

/* One step of a transposition of 16 × 16: pairs of rows at distance `apart` exchange elements, or
 * groups of them, so that after distances 1, 2, 4 and 8 rows are columns. */
XF_INLINE void tile_exchange(__m512 *a, const int apart)
{
  XF_UNROLL
  for (int i = 0; i < 16; i++) {
    if (i & apart) continue;
    __m512 x = a[i], y = a[i + apart];
    if (apart == 1) {
      a[i] = _mm512_unpacklo_ps(x, y);
      a[i + 1] = _mm512_unpackhi_ps(x, y);
    } else if (apart == 2) {
      a[i] = _mm512_castpd_ps(_mm512_unpacklo_pd(_mm512_castps_pd(x), _mm512_castps_pd(y)));
      a[i + 2] = _mm512_castpd_ps(_mm512_unpackhi_pd(_mm512_castps_pd(x), _mm512_castps_pd(y)));
    } else {
      a[i] = _mm512_shuffle_f32x4(x, y, 0x88);
      a[i + apart] = _mm512_shuffle_f32x4(x, y, 0xDD);
    }
  }
}

/* out[j][i] = rows[i][column + j], 16 × 16. */
XF_INLINE void tile_transpose(const float *const *rows, size_t column, float *out)
{
  /* Where exchanges leave each column. */
  static const int place[16] = {0, 2, 1, 3, 4, 6, 5, 7, 8, 10, 9, 11, 12, 14, 13, 15};
  __m512 a[16];
  XF_UNROLL
  for (int i = 0; i < 16; i++) a[i] = _mm512_loadu_ps(rows[i] + column);
  tile_exchange(a, 1);
  tile_exchange(a, 2);
  tile_exchange(a, 4);
  tile_exchange(a, 8);
  XF_UNROLL
  for (int i = 0; i < 16; i++) _mm512_storeu_ps(out + place[i] * XF_LANES, a[i]);
}

/* The largest of s[0 … n−1] that is not NaN; −inf where there is none. */
XF_INLINE float tile_row_max(const float *s, size_t n)
{
  const __m512 lowest = _mm512_set1_ps(-INFINITY);
  __m512 top[4] = {lowest, lowest, lowest, lowest};
  size_t i = 0;
  for (; i + 64 <= n; i += 64) {
    XF_UNROLL
    for (int j = 0; j < 4; j++) top[j] = _mm512_max_ps(_mm512_loadu_ps(s + i + 16 * j), top[j]);
  }
  for (; i + 16 <= n; i += 16) top[0] = _mm512_max_ps(_mm512_loadu_ps(s + i), top[0]);
  __mmask16 rest = v16_first(n - i);
  top[1] = _mm512_mask_max_ps(top[1], rest, _mm512_maskz_loadu_ps(rest, s + i), top[1]);
  return _mm512_reduce_max_ps(
      _mm512_max_ps(_mm512_max_ps(top[0], top[1]), _mm512_max_ps(top[2], top[3])));
}

/* Turns the scores s[0 … n−1] of a row, whose tile_row_max is top, into p. *m: top times c (0 where
 * every score is −inf or NaN), *l: Σ p. */
XF_APART void tile_softmax(float *s, size_t n, float top, float c, float *m, float *l)
{
  const __m512 scale = _mm512_set1_ps(c), offset = _mm512_set1_ps(block_offset(s, n, top, c, m));
  __m512 sum[4] = {_mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps(),
                   _mm512_setzero_ps()};
  size_t i = 0;
  for (; i + 64 <= n; i += 64) {
    XF_UNROLL
    for (int j = 0; j < 4; j++) {
      __m512 p = exp2_v16(_mm512_fmadd_ps(_mm512_loadu_ps(s + i + 16 * j), scale, offset));
      _mm512_storeu_ps(s + i + 16 * j, p);
      sum[j] = _mm512_add_ps(sum[j], p);
    }
  }
  XF_UNROLL
  for (int j = 0; j < 4; j++) {
    if (i < n) {
      __mmask16 live = v16_first(n - i < 16 ? n - i : 16);
      __m512 p = exp2_v16(_mm512_fmadd_ps(_mm512_maskz_loadu_ps(live, s + i), scale, offset));
      _mm512_mask_storeu_ps(s + i, live, p);
      sum[j] = _mm512_mask_add_ps(sum[j], live, sum[j], p);
      i += 16;
    }
  }
  *l = sum64_v16(sum[0], sum[1], sum[2], sum[3]);
}

#endif
