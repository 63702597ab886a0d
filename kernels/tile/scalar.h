/* The tiles in plain C: they define the bits. One row and one panel at a time. */
#ifndef XF_TILE_SCALAR_H
#define XF_TILE_SCALAR_H

#include "kernels/op/vector.h"

enum { TILE_ROWS = 1, TILE_VALUE_PANELS = 1, TILE_PANELS_MAX = 1, TILE_FEW_PANELS = 1 };

XF_INLINE size_t tile_rows(size_t rows)
{
  (void)rows;
  return 1;
}

XF_INLINE size_t tile_panels(size_t tile_row_count)
{
  (void)tile_row_count;
  return 1;
}

/* The same where K is read once, from memory. */
XF_INLINE size_t tile_stream_panels(xf_type type, size_t tile_row_count)
{
  (void)type;
  return tile_panels(tile_row_count);
}

XF_INLINE size_t tile_value_rows(size_t rows)
{
  (void)rows;
  return 1;
}

XF_INLINE void tile_dot(xf_type type, const enum asks asks, size_t rows, size_t panels,
                        const struct dot_tile *t)
{
  (void)asks, (void)rows, (void)panels;
  v16 sum = v16_set1(0);
  for (size_t i = 0; i < t->k; i++)
    sum = v16_fma(v16_set1(t->x[i]), panel_column(type, t->w[0], i), sum);
  v16_store(t->y, t->add ? v16_add(v16_load(t->y), sum) : sum);
}

XF_INLINE void tile_values(xf_type type, const bool asks, size_t rows, size_t panels,
                           const struct value_tile *t)
{
  (void)asks, (void)rows, (void)panels;
  v16 sum = t->resume ? v16_load(t->acc) : v16_set1(0);
  for (size_t j = t->from; j < t->to; j++) {
    v16 scale = row_scale(type, t->v[j / XF_LANES], j);
    sum = v16_fma(v16_set1(t->p[j]), row_lanes(type, value_row(type, t, j), 0, scale), sum);
  }
  v16_store(t->acc, sum);
}

/* out[j][i] = rows[i][column + j], 16 × 16. */
XF_INLINE void tile_transpose(const float *const *rows, size_t column, float *out)
{
  for (size_t j = 0; j < XF_LANES; j++)
    for (size_t i = 0; i < XF_LANES; i++) out[j * XF_LANES + i] = rows[i][column + j];
}

/* The largest of s[0 … n−1] that is not NaN; −inf where there is none. */
XF_INLINE float tile_row_max(const float *s, size_t n)
{
  float top = -INFINITY;
  for (size_t i = 0; i < n; i++) top = xf_max(s[i], top);
  return top;
}

/* Turns the scores s[0 … n−1] of a row, whose tile_row_max is top, into p. *m: top times c (0 where
 * every score is −inf or NaN), *l: Σ p. */
XF_APART void tile_softmax(float *s, size_t n, float top, float c, float *m, float *l)
{
  float sum[64] = {0};
  const float offset = block_offset(s, n, top, c, m);
  for (size_t i = 0; i < n; i++) {
    s[i] = exp2_f32(fmaf(s[i], c, offset));
    sum[i % 64] += s[i];
  }
  *l = sum64_v16(v16_load(sum), v16_load(sum + 16), v16_load(sum + 32), v16_load(sum + 48));
}

#endif
