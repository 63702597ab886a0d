/* Linear layers of 8- and 4-bit weights over rows of 8-bit activations: once for every ISA, on its
 * integer vocabulary. Tiles are rows × panels, of all k. */
#ifndef XF_OP_QUANT_H
#define XF_OP_QUANT_H

#include <string.h>

#include "kernels/op/quantize.h"
#include "kernels/quant.h"

struct quant_tile {
  struct xf_quant_rows x; /* the first row's; distances between rows behind it */
  size_t ldq, ldd, lds;
  const uint8_t *w[QUANT_PANELS_MAX];
  size_t records_at; /* bytes from a panel's start to its records */
  size_t chunks;     /* of XF_QUANT_CHUNK k */
  float *y;          /* out [rows][panels][16] */
};

/* The part of a format that the loops over one chunk need. */
XF_INLINE const uint8_t *quant_record(struct xf_quant_format f, const struct quant_tile *t, int p,
                                      size_t block)
{
  return t->w[p] + t->records_at + block * f.record;
}

/* What the sums of one sub-block begin with: −zero · Σ q where the weights keep their zero. `even`
 * and `odd`: which halves of the chunk belong to it. */
XF_INLINE void quant_begin(struct xf_quant_format f, const int rows, const int panels,
                           const struct quant_tile *t, size_t chunk, bool even, bool odd, d16 *dot)
{
  XF_UNROLL
  for (int r = 0; r < rows; r += QUANT_UNIT) {
    const int16_t *sums = t->x.sums + (size_t)r * t->lds + 2 * chunk;
    v16i first = v16i_zero();
    if (f.zero && w16_keeps_zero(f.bits))
      first = v16i_times_sums(even ? -f.zero : 0, odd ? -f.zero : 0, sums);
    XF_UNROLL
    for (int p = 0; p < panels; p++) dot[r / QUANT_UNIT * panels + p] = d16_begin(first);
  }
}

/* dot += the products of pairs of steps [first, end) of a chunk. */
XF_INLINE void quant_dot(struct xf_quant_format f, const int rows, const int panels,
                         const struct quant_tile *t, size_t chunk, const int first, const int end,
                         d16 *dot)
{
  const int8_t *q = t->x.q + chunk * XF_QUANT_CHUNK;
  XF_UNROLL
  for (int pair = first; pair < end; pair++) {
    w16 w[QUANT_PANELS_MAX];
    XF_UNROLL
    for (int p = 0; p < panels; p++)
      w[p] = w16_load(f.bits, f.zero, t->w[p] + chunk * 64 * f.bits, pair);
    XF_UNROLL
    for (int r = 0; r < rows; r += QUANT_UNIT) {
      q8 row = q8_load(q + (size_t)r * t->ldq + 8 * pair, rows > 1 ? t->ldq : 0);
      XF_UNROLL
      for (int p = 0; p < panels; p++) {
        d16 *sum = &dot[r / QUANT_UNIT * panels + p];
        *sum = d16_add(f.bits, *sum, w[p], row);
      }
    }
  }
}

XF_INLINE void quant_clear(const int sums, const struct quant_tile *t)
{
  for (int i = 0; i < sums; i++) v16_store(t->y + i * XF_LANES, v16_set1(0));
}

/* y = fma((float)dot, dx · d, y), and then the minima of types that have one for each block. */
XF_INLINE void quant_scale(struct xf_quant_format f, const int rows, const int panels,
                           const struct quant_tile *t, size_t block, const d16 *dot, v16 *kept)
{
  v16 d[QUANT_PANELS_MAX], m[QUANT_PANELS_MAX];
  XF_UNROLL
  for (int p = 0; p < panels; p++) {
    const uint16_t *scales = (const uint16_t *)quant_record(f, t, p, block);
    d[p] = v16_load_f16(scales);
    m[p] = f.has_min ? v16_load_f16(scales + XF_LANES) : d[p];
  }
  XF_UNROLL
  for (int r = 0; r < rows; r++) {
    v16 dx = v16_set1(t->x.d[(size_t)r * t->ldd + block]), sum = dx;
    if (f.has_min) {
      const int16_t *sums = t->x.sums + (size_t)r * t->lds + 2 * block;
      sum = v16_mul(dx, v16_from_int(v16i_times_sums(1, 1, sums)));
    }
    XF_UNROLL
    for (int p = 0; p < panels; p++) {
      float *at = t->y + (r * panels + p) * XF_LANES;
      v16 y = QUANT_KEEPS_FLOATS ? kept[r * panels + p] : v16_load(at);
      v16i row = d16_row(dot[r / QUANT_UNIT * panels + p], r % QUANT_UNIT);
      y = v16_fma(v16_from_int(row), v16_mul(dx, d[p]), y);
      if (f.has_min) y = v16_fma(m[p], sum, y);
      if (QUANT_KEEPS_FLOATS)
        kept[r * panels + p] = y;
      else
        v16_store(at, y);
    }
  }
}

/* Types with a scale for each chunk. */
XF_INLINE void quant_tile_chunks(struct xf_quant_format f, const int rows, const int panels,
                                 const struct quant_tile *t)
{
  v16 y[QUANT_SUMS];
  d16 dot[QUANT_SUMS];
  XF_UNROLL
  for (int i = 0; i < rows * panels; i++) y[i] = v16_set1(0);
  if (!QUANT_KEEPS_FLOATS) quant_clear(rows * panels, t);
  for (size_t chunk = 0; chunk < t->chunks; chunk++) {
    quant_begin(f, rows, panels, t, chunk, true, true, dot);
    quant_dot(f, rows, panels, t, chunk, 0, 4, dot);
    quant_scale(f, rows, panels, t, chunk, dot, y);
  }
  XF_UNROLL
  for (int i = 0; QUANT_KEEPS_FLOATS && i < rows * panels; i++)
    v16_store(t->y + i * XF_LANES, y[i]);
}

/* dot += the sub-scales of a chunk times its products. */
XF_INLINE void quant_sub_blocks(struct xf_quant_format f, const int rows, const int panels,
                                const struct quant_tile *t, size_t block, size_t chunk, v16i *dot)
{
  const int halves = XF_QUANT_CHUNK / f.sub;
  XF_UNROLL
  for (int half = 0; half < halves; half++) {
    d16 part[QUANT_SUMS];
    quant_begin(f, rows, panels, t, chunk, half == 0, half == halves - 1, part);
    quant_dot(f, rows, panels, t, chunk, 4 / halves * half, 4 / halves * (half + 1), part);
    size_t sub = chunk % (f.block / XF_QUANT_CHUNK) * (size_t)halves + (size_t)half;
    XF_UNROLL
    for (int p = 0; p < panels; p++) {
      const uint8_t *scales = quant_record(f, t, p, block) + (f.has_min ? 64 : 32) + sub * XF_LANES;
      v16i scale = f.has_min ? v16i_load_u8(scales) : v16i_load_i8((const int8_t *)scales);
      XF_UNROLL
      for (int r = 0; r < rows; r++) {
        v16i *sum = &dot[r * panels + p];
        v16i row = d16_row(part[r / QUANT_UNIT * panels + p], r % QUANT_UNIT);
        *sum = v16i_add(*sum, v16i_mul(scale, row));
      }
    }
  }
}

/* y = fma(−(float)Σ mn · Σ q, dx · dmin, y) for a block of 256. */
XF_INLINE void quant_minima(struct xf_quant_format f, const int rows, const int panels,
                            const struct quant_tile *t, size_t block)
{
  v16i sum[QUANT_SUMS];
  XF_UNROLL
  for (int i = 0; i < rows * panels; i++) sum[i] = v16i_zero();
  for (size_t sub = 0; sub < 8; sub++) {
    XF_UNROLL
    for (int p = 0; p < panels; p++) {
      v16i pairs =
          v16i_pairs(v16i_load_u8(quant_record(f, t, p, block) + 64 + (8 + sub) * XF_LANES));
      XF_UNROLL
      for (int r = 0; r < rows; r++) {
        const int16_t *sums = t->x.sums + (size_t)r * t->lds + 16 * block + 2 * sub;
        sum[r * panels + p] = v16i_add_sums(sum[r * panels + p], pairs, sums);
      }
    }
  }
  XF_UNROLL
  for (int p = 0; p < panels; p++) {
    v16 dmin = v16_load_f16((const uint16_t *)quant_record(f, t, p, block) + XF_LANES);
    XF_UNROLL
    for (int r = 0; r < rows; r++) {
      float *y = t->y + (r * panels + p) * XF_LANES;
      v16 d = v16_mul(v16_set1(t->x.d[(size_t)r * t->ldd + block]), dmin);
      v16_store(y, v16_fma(v16_neg(v16_from_int(sum[r * panels + p])), d, v16_load(y)));
    }
  }
}

/* Types with a scale for each 256 and sub-scales. The floats stay in memory: two integers for each
 * are in registers. */
XF_INLINE void quant_tile_blocks(struct xf_quant_format f, const int rows, const int panels,
                                 const struct quant_tile *t)
{
  const size_t chunks = f.block / XF_QUANT_CHUNK;
  quant_clear(rows * panels, t);
  for (size_t block = 0; block < t->chunks / chunks; block++) {
    v16i dot[QUANT_SUMS];
    XF_UNROLL
    for (int i = 0; i < rows * panels; i++) dot[i] = v16i_zero();
    for (size_t chunk = block * chunks; chunk < (block + 1) * chunks; chunk++)
      quant_sub_blocks(f, rows, panels, t, block, chunk, dot);
    XF_UNROLL
    for (int p = 0; p < panels; p++) {
      v16 d = v16_load_f16((const uint16_t *)quant_record(f, t, p, block));
      XF_UNROLL
      for (int r = 0; r < rows; r++) {
        float *y = t->y + (r * panels + p) * XF_LANES;
        v16 scale = v16_mul(v16_set1(t->x.d[(size_t)r * t->ldd + block]), d);
        v16_store(y, v16_fma(v16_from_int(dot[r * panels + p]), scale, v16_load(y)));
      }
    }
    if (f.has_min) quant_minima(f, rows, panels, t, block);
  }
}

/* A row has one scale. */
XF_INLINE void quant_tile_row(struct xf_quant_format f, const int rows, const int panels,
                              const struct quant_tile *t)
{
  d16 dot[QUANT_SUMS];
  XF_UNROLL
  for (int i = 0; i < rows * panels; i++) dot[i] = d16_begin(v16i_zero());
  for (size_t chunk = 0; chunk < t->chunks; chunk++)
    quant_dot(f, rows, panels, t, chunk, 0, 4, dot);
  XF_UNROLL
  for (int r = 0; r < rows; r++) {
    const int16_t *sums = t->x.sums + (size_t)r * t->lds;
    v16i first = v16i_zero();
    for (size_t chunk = 0; w16_keeps_zero(f.bits) && chunk < t->chunks; chunk++)
      first = v16i_add(first, v16i_times_sums(-f.zero, -f.zero, sums + 2 * chunk));
    v16 dx = v16_set1(t->x.d[(size_t)r * t->ldd]);
    XF_UNROLL
    for (int p = 0; p < panels; p++) {
      v16 scale = v16_mul(dx, v16_load((const float *)quant_record(f, t, p, 0)));
      v16i row = d16_row(dot[r / QUANT_UNIT * panels + p], r % QUANT_UNIT);
      v16 sum = v16_from_int(v16i_add(row, first));
      v16_store(t->y + (r * panels + p) * XF_LANES, v16_mul(sum, scale));
    }
  }
}

XF_INLINE void quant_tile_shape(xf_type type, const int rows, const struct quant_tile *tile)
{
  const struct xf_quant_format f = xf_quant_format_of(type);
  const struct quant_tile copy = *tile, *t = &copy; /* which stores cannot change */
  const int panels = quant_panels(type, rows);
  if (f.block == 0)
    quant_tile_row(f, rows, panels, t);
  else if (f.block == XF_QUANT_CHUNK)
    quant_tile_chunks(f, rows, panels, t);
  else
    quant_tile_blocks(f, rows, panels, t);
}

/* Whether tiles of more than 4 rows are the fastest: rows of one scale take more panels instead,
 * and sub-blocks of 16 k need more registers. */
XF_INLINE bool quant_is_tall(xf_type type)
{
  return type != XF_Q6_K && type != XF_I8_ROW;
}

/* Rows of the tallest tile that has no more. */
XF_INLINE size_t quant_rows(xf_type type, size_t rows)
{
  if (quant_is_tall(type) && rows >= QUANT_ROWS) return QUANT_ROWS;
  if (QUANT_ROWS >= 4 && rows >= 4) return 4;
  return QUANT_ROWS >= 2 && rows >= 2 ? 2 : 1;
}

/* A tile of one type. */
XF_INLINE void quant_tile(xf_type type, size_t rows, const struct quant_tile *t)
{
  if (quant_is_tall(type) && rows == QUANT_ROWS)
    quant_tile_shape(type, QUANT_ROWS, t);
  else if (QUANT_ROWS >= 4 && rows == 4)
    quant_tile_shape(type, 4, t);
  else if (QUANT_ROWS >= 2 && rows == 2)
    quant_tile_shape(type, 2, t);
  else
    quant_tile_shape(type, 1, t);
}

typedef void (*quant_tile_function)(size_t rows, const struct quant_tile *t);

XF_APART void quant_i8_row(size_t rows, const struct quant_tile *t)
{
  quant_tile(XF_I8_ROW, rows, t);
}

XF_APART void quant_q8_0(size_t rows, const struct quant_tile *t)
{
  quant_tile(XF_Q8_0, rows, t);
}

XF_APART void quant_q4_0(size_t rows, const struct quant_tile *t)
{
  quant_tile(XF_Q4_0, rows, t);
}

XF_APART void quant_q4_1(size_t rows, const struct quant_tile *t)
{
  quant_tile(XF_Q4_1, rows, t);
}

XF_APART void quant_q5_0(size_t rows, const struct quant_tile *t)
{
  quant_tile(XF_Q5_0, rows, t);
}

XF_APART void quant_q5_1(size_t rows, const struct quant_tile *t)
{
  quant_tile(XF_Q5_1, rows, t);
}

XF_APART void quant_q4_k(size_t rows, const struct quant_tile *t)
{
  quant_tile(XF_Q4_K, rows, t);
}

XF_APART void quant_q5_k(size_t rows, const struct quant_tile *t)
{
  quant_tile(XF_Q5_K, rows, t);
}

XF_APART void quant_q6_k(size_t rows, const struct quant_tile *t)
{
  quant_tile(XF_Q6_K, rows, t);
}

static quant_tile_function quant_tile_of(xf_type type)
{
  switch (type) {
  case XF_Q8_0: return quant_q8_0;
  case XF_Q4_0: return quant_q4_0;
  case XF_Q4_1: return quant_q4_1;
  case XF_Q5_0: return quant_q5_0;
  case XF_Q5_1: return quant_q5_1;
  case XF_Q4_K: return quant_q4_k;
  case XF_Q5_K: return quant_q5_k;
  case XF_Q6_K: return quant_q6_k;
  default: return quant_i8_row;
  }
}

/* Stores what exists of a tile: n columns from the tile's first panel on. */
static void quant_store(const float *tile, size_t rows, size_t panels, size_t n, float *y,
                        size_t ldy)
{
  size_t width = panels * XF_LANES < n ? panels * XF_LANES : n;
  for (size_t r = 0; r < rows; r++)
    memcpy(y + r * ldy, tile + r * panels * XF_LANES, width * sizeof *y);
}

/* All rows by the columns of at most `most` panels from `first` on. */
static void quant_panels_apply(const struct xf_quant_args *a, size_t first, size_t most)
{
  const struct xf_quant_format f = xf_quant_format_of(a->type);
  const size_t k = xf_quant_k(a->k), bytes = xf_quant_panel_bytes(f, a->k);
  const size_t last = (a->n - 1) / XF_LANES;
  const quant_tile_function apply = quant_tile_of(a->type);
  float y[QUANT_SUMS * XF_LANES];
  struct quant_tile t = {.ldq = k,
                         .ldd = f.block ? a->k / f.block : 1,
                         .lds = k / XF_LANES,
                         .records_at = xf_quant_records_at(f, a->k),
                         .chunks = k / XF_QUANT_CHUNK,
                         .y = y};
  for (size_t r = 0, rows; r < a->rows; r += rows) {
    rows = quant_rows(a->type, a->rows - r);
    const size_t panels = (size_t)quant_panels(a->type, (int)rows);
    t.x = (struct xf_quant_rows){a->x.q + r * t.ldq, a->x.d + r * t.ldd, a->x.sums + r * t.lds};
    for (size_t p = first; p <= last && p < first + most; p += panels) {
      for (size_t i = 0; i < panels; i++) /* a panel that is missing: the last one again */
        t.w[i] = (const uint8_t *)a->w + (p + i < last ? p + i : last) * bytes;
      apply(rows, &t);
      quant_store(y, rows, panels, a->n - p * XF_LANES, a->y + r * a->ldy + p * XF_LANES, a->ldy);
    }
  }
}

static void quant_linear(const struct xf_quant_args *a)
{
  const size_t most = (size_t)quant_panels(a->type, 1);
  for (size_t p = 0; p * XF_LANES < a->n; p += most) quant_panels_apply(a, p, most);
}

/* The table of the including file. */
#define XF_QUANT_TABLE                                                                             \
  {                                                                                                \
    .quantize = quant_quantize, .linear = quant_linear                                             \
  }

#endif
