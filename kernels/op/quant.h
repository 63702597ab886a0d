/* Linear layers of 8- and 4-bit weights over rows of 8-bit activations: the tiles of each type, and
 * the loops over them. */
#ifndef XF_OP_QUANT_H
#define XF_OP_QUANT_H

#include <string.h>

#include "kernels/op/quantize.h"
#include "kernels/tile/quant.h"

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

/* Whether tiles of more than 4 rows are the fastest: rows of one scale take more panels instead. */
XF_INLINE bool quant_is_tall(xf_type type)
{
  return type != XF_I8_ROW;
}

/* Rows of the tallest tile that has no more. */
XF_INLINE size_t quant_rows(xf_type type, size_t rows)
{
  if (amx_rows(type) && rows >= amx_rows(type)) return amx_rows(type);
  if (quant_is_tall(type) && rows >= QUANT_ROWS) return QUANT_ROWS;
  if (QUANT_ROWS >= 4 && rows >= 4) return 4;
  return QUANT_ROWS >= 2 && rows >= 2 ? 2 : 1;
}

/* A tile of one type. */
XF_INLINE void quant_tile(xf_type type, size_t rows, const struct quant_tile *t)
{
  if (amx_rows(type) && rows == amx_rows(type))
    quant_tile_shape(type, type == XF_I8_ROW ? AMX_ROW_ROWS : AMX_ROWS, t);
  else if (quant_is_tall(type) && rows == QUANT_ROWS)
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

/* A tile of which n columns exist, fewer than it has. */
static void quant_narrow_tile(quant_tile_function apply, size_t rows, size_t panels, size_t n,
                              const struct quant_tile *t)
{
  float y[QUANT_SUMS * XF_LANES];
  struct quant_tile whole = *t;
  whole.y = y;
  whole.ldy = panels * XF_LANES;
  apply(rows, &whole);
  for (size_t r = 0; r < rows; r++) memcpy(t->y + r * t->ldy, y + r * whole.ldy, n * sizeof *y);
}

/* All rows by the columns of at most `most` panels from `first` on. */
static void quant_panels_apply(const struct xf_quant_args *a, size_t first, size_t most)
{
  const struct xf_quant_format f = xf_quant_format_of(a->type);
  const size_t k = xf_quant_k(a->k), bytes = xf_quant_panel_bytes(f, a->k);
  const size_t last = (a->n - 1) / XF_LANES;
  const quant_tile_function apply = quant_tile_of(a->type);
  struct quant_tile t = {.ldq = k,
                         .ldd = f.block ? a->k / f.block : 1,
                         .lds = k / XF_LANES,
                         .records_at = xf_quant_records_at(f, a->k),
                         .after = bytes * (size_t)quant_panels(a->type, 1),
                         .chunks = k / XF_QUANT_CHUNK,
                         .ldy = a->ldy};
  for (size_t r = 0, rows; r < a->rows; r += rows) {
    rows = quant_rows(a->type, a->rows - r);
    const size_t panels = (size_t)quant_panels(a->type, (int)rows);
    t.x = (struct xf_quant_rows){a->x.q + r * t.ldq, a->x.d + r * t.ldd, a->x.sums + r * t.lds,
                                 a->x.totals + r};
    for (size_t p = first; p <= last && p < first + most; p += panels) {
      for (size_t i = 0; i < panels; i++) /* a panel that is missing: the last one again */
        t.w[i] = (const uint8_t *)a->w + (p + i < last ? p + i : last) * bytes;
      const size_t n = a->n - p * XF_LANES;
      t.y = a->y + r * a->ldy + p * XF_LANES;
      if (n < panels * XF_LANES)
        quant_narrow_tile(apply, rows, panels, n, &t);
      else
        apply(rows, &t);
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
