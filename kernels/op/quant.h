/* Linear layers of 8- and 4-bit weights over rows of 8-bit activations: the tiles of each type, and
 * the loops over them. */
#ifndef XF_OP_QUANT_H
#define XF_OP_QUANT_H

#include <string.h>

#include "kernels/op/quantize.h"
#include "kernels/tile/quant.h"

XF_INLINE void quant_tile_shape(xf_type type, const int rows, const int panels,
                                const struct quant_tile *tile)
{
  const struct xf_quant_format f = xf_quant_format_of(type);
  const struct quant_tile copy = *tile, *t = &copy; /* which stores cannot change */
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

/* Rows of a type's next tile: the tallest there is, but two of 4 where 6 and 2 were left. */
XF_INLINE size_t quant_rows(xf_type type, size_t rows)
{
  const bool fours = QUANT_ROWS > 4 && (rows == 8 || rows == 9) && type != XF_Q8_0;
  if (quant_is_tall(type) && rows >= QUANT_ROWS && !fours) return QUANT_ROWS;
  if (QUANT_ROWS >= 4 && rows >= 4) return 4;
  return QUANT_ROWS >= 2 && rows >= 2 ? 2 : 1;
}

/* A tile of one type. */
XF_INLINE void quant_tile(xf_type type, size_t rows, const struct quant_tile *t)
{
  if (quant_is_tall(type) && rows == QUANT_ROWS)
    quant_tile_shape(type, QUANT_ROWS, quant_panels(type, QUANT_ROWS), t);
  else if (QUANT_ROWS >= 4 && rows == 4)
    quant_tile_shape(type, 4, quant_panels(type, 4), t);
  else if (QUANT_ROWS >= 2 && rows == 2)
    quant_tile_shape(type, 2, quant_panels(type, 2), t);
  else
    quant_tile_shape(type, 1, quant_panels(type, 1), t);
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

/* The loops over one matrix: t is the tile at hand. */
struct quant_loops {
  const struct xf_quant_args *a;
  struct xf_quant_format f;
  quant_tile_function apply;
  size_t bytes; /* of a panel */
  struct quant_tile t;
};

/* To row r, and panels [p, p + panels); where one is missing, the last one again. */
static void quant_at(struct quant_loops *l, size_t r, size_t p, size_t panels)
{
  const struct xf_quant_args *a = l->a;
  const size_t last = (a->n - 1) / XF_LANES;
  l->t.x = (struct xf_quant_rows){a->x.q + r * l->t.ldq, a->x.d + r * l->t.ldd,
                                  a->x.sums + r * l->t.lds, a->x.totals + r};
  for (size_t i = 0; i < panels; i++)
    l->t.w[i] = (const uint8_t *)a->w + (p + i < last ? p + i : last) * l->bytes;
  l->t.y = a->y + r * a->ldy + p * XF_LANES;
  l->t.ldy = a->ldy;
  l->t.after = panels * l->bytes;
}

/* The tile's products, of which n columns exist, maybe fewer than it has. */
static void quant_apply(struct quant_loops *l, size_t rows, size_t panels, size_t n)
{
  float some[QUANT_SUMS * XF_LANES], *y = l->t.y;
  const size_t width = panels * XF_LANES, ldy = l->t.ldy;
  if (n >= width) { /* no copy of l->t: it would wait for what quant_at has just written */
    l->apply(rows, &l->t);
    return;
  }
  for (size_t r = 0; !l->t.fresh && r < rows; r++)
    memcpy(some + r * width, y + r * ldy, n * sizeof *y);
  l->t.y = some;
  l->t.ldy = width;
  l->apply(rows, &l->t);
  for (size_t r = 0; r < rows; r++) memcpy(y + r * ldy, some + r * width, n * sizeof *y);
}

/* Rows [from, all) by the panels as they are. */
static void quant_direct(struct quant_loops *l, size_t from)
{
  const struct xf_quant_args *a = l->a;
  const size_t most = (size_t)quant_panels(a->type, 1);
  for (size_t first = 0; first * XF_LANES < a->n; first += most)
    for (size_t r = from, rows; r < a->rows; r += rows) {
      rows = quant_rows(a->type, a->rows - r);
      const size_t panels = (size_t)quant_panels(a->type, (int)rows);
      for (size_t p = first; p * XF_LANES < a->n && p < first + most; p += panels) {
        quant_at(l, r, p, panels);
        l->t.asks = r == from;
        quant_apply(l, rows, panels, a->n - p * XF_LANES);
      }
    }
}

/* Asks for part [r, end) of all there is of the weights that are unpacked next, those of chunks
 * [next, next + l->t.chunks) or of the panels behind these. */
static void quant_ask(const struct quant_loops *l, size_t panels, size_t next, size_t r, size_t end,
                      size_t all)
{
  enum { LINE = 64 };
  const size_t chunk = LINE * l->f.bits, lines = l->t.chunks * l->f.bits;
  const bool ends = next * XF_QUANT_CHUNK >= l->a->k;
  for (size_t p = 0; p < panels; p++) {
    const uintptr_t from = (uintptr_t)l->t.w[p] + (ends ? panels * l->bytes : next * chunk);
    for (size_t i = lines * r / all; i < lines * end / all; i++)
      __builtin_prefetch((const void *)(from + i * LINE));
  }
}

/* What is asked for longer before is gone from the cache again. */
enum { QUANT_ASKING_ROWS = 128 };

/* Rows [0, all) by chunks [chunk, chunk + l->t.chunks) of unpacked panels from p on. */
static void quant_tall_rows(struct quant_loops *l, size_t all, size_t p, size_t panels,
                            size_t chunk)
{
  const struct xf_quant_args *a = l->a;
  const size_t depth = chunk * XF_QUANT_CHUNK, next = chunk + l->t.chunks;
  const size_t asks = all > QUANT_ASKING_ROWS ? all - QUANT_ASKING_ROWS : 0;
  l->t.fresh = chunk == 0;
  for (size_t r = 0, rows; r < all; r += rows) {
    rows = quant_rows(a->type, all - r);
    quant_at(l, r, p, panels);
    l->t.x.q += depth;
    l->t.x.d += depth / l->f.block;
    l->t.x.sums += depth / XF_LANES;
    if (r >= asks) quant_ask(l, panels, next, r - asks, r + rows - asks, all - asks);
    for (size_t i = 0; !l->t.fresh && i < rows * panels && r + rows < all; i++)
      __builtin_prefetch(l->t.y + (rows + i / panels) * l->t.ldy + i % panels * XF_LANES);
    quant_apply(l, rows, panels, a->n - p * XF_LANES);
  }
}

/* Rows [0, rows) by panels that are unpacked some k at a time. */
static void quant_tall(const struct quant_loops *loops, size_t rows)
{
  const struct xf_quant_args *a = loops->a;
  const struct xf_quant_format f = loops->f;
  const size_t panels = (size_t)quant_panels(a->type, QUANT_TALL), chunks = loops->t.chunks,
               most = (rows < QUANT_MANY ? QUANT_NEAR : QUANT_DEPTH) / XF_QUANT_CHUNK;
  struct quant_unpacked *unpacked = quant_unpacked_in(a->scratch);
  struct quant_loops l = *loops;
  l.t.unpacked = unpacked;
  for (size_t p = 0; p * XF_LANES < a->n; p += panels)
    for (size_t chunk = 0; chunk < chunks; chunk += most) {
      const size_t records = loops->t.records_at + chunk * XF_QUANT_CHUNK / f.block * f.record;
      l.t.chunks = chunks - chunk < most ? chunks - chunk : most;
      quant_at(&l, 0, p, panels);
      for (size_t i = 0; i < panels; i++)
        quant_unpack(f, l.t.w[i] + chunk * 64 * f.bits, l.t.w[i] + records, l.t.chunks,
                     &unpacked[i]);
      quant_tall_rows(&l, rows, p, panels, chunk);
    }
}

static void quant_linear(const struct xf_quant_args *a)
{
  const struct xf_quant_format f = xf_quant_format_of(a->type);
  const size_t k = xf_quant_k(a->k), bytes = xf_quant_panel_bytes(f, a->k);
  struct quant_loops l = {.a = a, .f = f, .apply = quant_tile_of(a->type), .bytes = bytes};
  l.t = (struct quant_tile){.ldq = xf_quant_ldq(a->k),
                            .ldd = f.block ? a->k / f.block : 1,
                            .lds = k / XF_LANES,
                            .records_at = xf_quant_records_at(f, a->k),
                            .chunks = k / XF_QUANT_CHUNK,
                            .fresh = true};
  size_t tall = 0;
  for (size_t rows; tall < a->rows; tall += rows) {
    rows = quant_rows(a->type, a->rows - tall);
    if (!quant_unpacks(f, (int)rows)) break;
  }
  if (tall) quant_tall(&l, tall);
  quant_direct(&l, tall);
}

/* The table of the including file. */
#define XF_QUANT_TABLE                                                                             \
  {                                                                                                \
    .quantize = quant_quantize, .linear = quant_linear                                             \
  }

#endif
