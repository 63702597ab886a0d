/* Register tiles of 8- and 4-bit weights, rows × panels by all of k: once for every ISA, on its
 * integer vocabulary. */
#ifndef XF_TILE_QUANT_H
#define XF_TILE_QUANT_H

#include "kernels/tile/unpack.h"

struct quant_tile {
  struct xf_quant_rows x; /* the first row's; distances between rows behind it */
  size_t ldq, ldd, lds;
  const uint8_t *w[QUANT_PANELS_MAX];
  const struct quant_unpacked *unpacked; /* [panels], of tiles that take weights from there */
  size_t records_at;                     /* bytes from a panel's start to its records */
  size_t after;  /* and to that of the one in its place in the next tile of these rows */
  bool asks;     /* these rows are the first: the weights come from memory */
  size_t chunks; /* of XF_QUANT_CHUNK k */
  bool fresh;    /* these are the first of all: y holds nothing yet */
  float *y;      /* [rows][panels · 16], rows ldy apart */
  size_t ldy;
};

/* The part of a format that the loops over one chunk need. */
XF_INLINE const uint8_t *quant_record(struct xf_quant_format f, const struct quant_tile *t, int p,
                                      size_t block)
{
  return t->w[p] + t->records_at + block * f.record;
}

/* Scales of a block, of its sub-blocks, and of what is subtracted. */
XF_INLINE v16 quant_d(struct xf_quant_format f, const int rows, const struct quant_tile *t, int p,
                      size_t block)
{
  if (quant_unpacks(f, rows)) return t->unpacked[p].d[block];
  return v16_load_f16((const uint16_t *)quant_record(f, t, p, block));
}

XF_INLINE v16 quant_m(struct xf_quant_format f, const int rows, const struct quant_tile *t, int p,
                      size_t block)
{
  if (!f.has_min) return v16_set1(0);
  if (quant_unpacks(f, rows)) return t->unpacked[p].m[block];
  return v16_load_f16((const uint16_t *)quant_record(f, t, p, block) + XF_LANES);
}

XF_INLINE v16i quant_sub(struct xf_quant_format f, const int rows, const struct quant_tile *t,
                         int p, size_t block, size_t sub)
{
  if (quant_unpacks(f, rows)) return t->unpacked[p].scale[block * (f.block / f.sub) + sub];
  return quant_sub_scale(f, quant_record(f, t, p, block), sub);
}

XF_INLINE v16i quant_sub_minimum(struct xf_quant_format f, const int rows,
                                 const struct quant_tile *t, int p, size_t block, size_t sub)
{
  const size_t subs = f.block / f.sub;
  if (quant_unpacks(f, rows)) return t->unpacked[p].minima[block * subs + sub];
  return v16i_pairs(quant_sub_scale(f, quant_record(f, t, p, block), subs + sub));
}

/* What the sums of one sub-block begin with: −zero · Σ q where the weights keep their zero. `even`
 * and `odd`: which halves of the chunk belong to it. With sub-scales, what unpacking gives is in
 * the sums of the whole block instead. */
XF_INLINE void quant_begin(struct xf_quant_format f, const int rows, const int panels,
                           const struct quant_tile *t, size_t chunk, bool even, bool odd, d16 *dot)
{
  const bool turns = quant_turns(f, rows);
  XF_UNROLL
  for (int r = 0; r < rows; r += QUANT_UNIT) {
    const int16_t *sums = t->x.sums + (size_t)r * t->lds + 2 * chunk;
    v16i first = v16i_zero();
    if (f.zero && !turns && w16_keeps_zero(f.bits))
      first = v16i_times_sums(even ? -f.zero : 0, odd ? -f.zero : 0, sums);
    XF_UNROLL
    for (int p = 0; p < panels; p++) {
      if (turns && f.block == XF_QUANT_CHUNK) first = t->unpacked[p].begin[chunk];
      dot[r / QUANT_UNIT * panels + p] = d16_begin(first);
    }
  }
}

/* Asks for the weights and scales that come some chunks after this one, in the next tile where this
 * one ends: what a CPU runs out of order does not reach that far where unpacking is long or rows
 * are several. Scales are short runs, which prefetchers do not follow. */
XF_INLINE void quant_prefetch(struct xf_quant_format f, const int rows, const int panels,
                              const struct quant_tile *t, size_t chunk)
{
  enum { LINE = 64 };
  const size_t ahead = rows > 1 ? 16 : 8;
  const bool ends = chunk + ahead >= t->chunks;
  const size_t then = chunk + ahead - (ends ? t->chunks : 0), after = ends ? t->after : 0;
  const size_t quants = then * 64 * f.bits,
               record = t->records_at + then * XF_QUANT_CHUNK * f.record / (f.block ? f.block : 1);
  XF_UNROLL
  for (int p = 0; p < panels; p++) {
    uintptr_t from = (uintptr_t)t->w[p] + after; /* may be behind the last panel */
    XF_UNROLL
    for (int line = 0; line < f.bits; line++)
      __builtin_prefetch((const void *)(from + quants + (size_t)line * LINE));
    if (f.block) __builtin_prefetch((const void *)(from + record));
  }
}

/* dot += the products of pairs of steps [first, end) of a chunk. */
XF_INLINE void quant_dot(struct xf_quant_format f, const int rows, const int panels,
                         const struct quant_tile *t, size_t chunk, const int first, const int end,
                         d16 *dot)
{
  const int8_t *q = t->x.q + chunk * XF_QUANT_CHUNK;
  const int more = rows > 1 ? rows : 0; /* a row alone takes each panel as it comes */
  /* Weights that are not unpacked are read faster without, by one row or of four panels. */
  const bool unpacks = f.bits < 8 || !w16_keeps_zero(f.bits);
  if (first == 0 && t->asks && (unpacks || (rows > 1 && panels < 4)))
    quant_prefetch(f, rows, panels, t, chunk);
  XF_UNROLL
  for (int pair = first; pair < end; pair++) {
    w16 w[QUANT_PANELS_MAX];
    XF_UNROLL
    for (int p = 0; p < panels; p++) {
      w[p] = w16_load(f.bits, f.zero, t->w[p] + chunk * 64 * f.bits, pair);
      if (rows == 1) dot[p] = d16_add(f.bits, dot[p], w[p], q8_load(q + 8 * pair, 0));
    }
    XF_UNROLL
    for (int r = 0; r < more; r += QUANT_UNIT) {
      q8 row = q8_load(q + (size_t)r * t->ldq + 8 * pair, t->ldq);
      XF_UNROLL
      for (int p = 0; p < panels; p++) {
        d16 *sum = &dot[r / QUANT_UNIT * panels + p];
        *sum = d16_add(f.bits, *sum, w[p], row);
      }
    }
  }
}

/* dot += the products of a sub-block by unpacked weights, a step at a time where both of a pair
 * would need more registers than there are. */
XF_INLINE void quant_dot_unpacked(struct xf_quant_format f, const int rows, const int panels,
                                  const struct quant_tile *t, size_t sub, d16 *dot)
{
  const bool turns = quant_turns(f, rows);
  const size_t first = sub * f.sub / 8;
  XF_UNROLL
  for (int i = 0; i < f.sub / 4; i += turns ? 1 : 2) {
    XF_UNROLL
    for (int r = 0; r < rows; r += QUANT_UNIT) {
      q8 row = q8_load(t->x.q + (size_t)r * t->ldq + sub * f.sub + 8 * (i / 2), t->ldq);
      if (turns) row = q8_turn(row);
      XF_UNROLL
      for (int p = 0; p < panels; p++) {
        const w16 *w = &t->unpacked[p].w[first + (size_t)i / 2];
        d16 *sum = &dot[r / QUANT_UNIT * panels + p];
        *sum = turns ? d16_add_turned(*sum, *w, row, i % 2) : d16_add(f.bits, *sum, *w, row);
      }
    }
  }
}

/* dot = the sums of a sub-block, `half` of a chunk where that has two. */
XF_INLINE void quant_products(struct xf_quant_format f, const int rows, const int panels,
                              const struct quant_tile *t, size_t chunk, int half, d16 *dot)
{
  const int halves = XF_QUANT_CHUNK / f.sub, pairs = 4 / halves, first = pairs * half;
  const size_t sub = chunk * (size_t)halves + (size_t)half;
  quant_begin(f, rows, panels, t, chunk, half == 0, half == halves - 1, dot);
  if (quant_unpacks(f, rows))
    quant_dot_unpacked(f, rows, panels, t, sub, dot);
  else
    quant_dot(f, rows, panels, t, chunk, first, first + pairs, dot);
}

/* dot = the sums of all chunks, without the zero that weights may have kept. */
XF_INLINE void quant_row_products(struct xf_quant_format f, const int rows, const int panels,
                                  const struct quant_tile *t, d16 *dot)
{
  XF_UNROLL
  for (int i = 0; i < rows * panels; i++) dot[i] = d16_begin(v16i_zero());
  for (size_t chunk = 0; chunk < t->chunks; chunk++)
    quant_dot(f, rows, panels, t, chunk, 0, 4, dot);
}

/* Where row r by panel p is stored. */
XF_INLINE float *quant_out(const struct quant_tile *t, int r, int p)
{
  return t->y + (size_t)r * t->ldy + p * XF_LANES;
}

XF_INLINE void quant_clear(const int rows, const int panels, const struct quant_tile *t)
{
  for (int i = 0; t->fresh && i < rows * panels; i++)
    v16_store(quant_out(t, i / panels, i % panels), v16_set1(0));
}

/* y = fma((float)dot, dx · d, y), and then the minima of types that have one for each block. */
XF_INLINE void quant_scale(struct xf_quant_format f, const int rows, const int panels,
                           const struct quant_tile *t, size_t block, const d16 *dot, v16 *kept)
{
  v16 d[QUANT_PANELS_MAX], m[QUANT_PANELS_MAX];
  XF_UNROLL
  for (int p = 0; p < panels; p++) {
    d[p] = quant_d(f, rows, t, p, block);
    m[p] = quant_m(f, rows, t, p, block);
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
      float *at = quant_out(t, r, p);
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
  if (!QUANT_KEEPS_FLOATS) quant_clear(rows, panels, t);
  XF_UNROLL
  for (int i = 0; QUANT_KEEPS_FLOATS && i < rows * panels; i++)
    y[i] = t->fresh ? v16_set1(0) : v16_load(quant_out(t, i / panels, i % panels));
  for (size_t chunk = 0; chunk < t->chunks; chunk++) {
    quant_products(f, rows, panels, t, chunk, 0, dot);
    quant_scale(f, rows, panels, t, chunk, dot, y);
  }
  XF_UNROLL
  for (int i = 0; QUANT_KEEPS_FLOATS && i < rows * panels; i++)
    v16_store(quant_out(t, i / panels, i % panels), y[i]);
}

/* dot += a sub-scale times the products of its half of a chunk. */
XF_INLINE void quant_sub_block(struct xf_quant_format f, const int rows, const int panels,
                               const struct quant_tile *t, size_t block, size_t chunk, int half,
                               v16i *dot)
{
  const size_t halves = XF_QUANT_CHUNK / f.sub,
               sub = chunk % (f.block / XF_QUANT_CHUNK) * halves + (size_t)half;
  d16 part[QUANT_SUMS];
  quant_products(f, rows, panels, t, chunk, half, part);
  XF_UNROLL
  for (int p = 0; p < panels; p++) {
    v16i scale = quant_sub(f, rows, t, p, block, sub);
    XF_UNROLL
    for (int r = 0; r < rows; r++) {
      v16i *sum = &dot[r * panels + p];
      v16i row = d16_row(part[r / QUANT_UNIT * panels + p], r % QUANT_UNIT);
      *sum = v16i_add(*sum, v16i_mul(scale, row));
    }
  }
}

/* sum = Σ mn · Σ q of a block of 256. */
XF_INLINE void quant_minima(struct xf_quant_format f, const int rows, const int panels,
                            const struct quant_tile *t, size_t block, v16i *sum)
{
  XF_UNROLL
  for (int i = 0; i < rows * panels; i++) sum[i] = v16i_zero();
  for (size_t sub = 0; sub < (size_t)(f.block / f.sub); sub++) {
    XF_UNROLL
    for (int p = 0; p < panels; p++) {
      v16i pairs = quant_sub_minimum(f, rows, t, p, block, sub);
      XF_UNROLL
      for (int r = 0; r < rows; r++) {
        const int16_t *sums = t->x.sums + (size_t)r * t->lds + 16 * block + 2 * sub;
        sum[r * panels + p] = v16i_add_sums(sum[r * panels + p], pairs, sums);
      }
    }
  }
}

/* y = fma((float)dot, dx · d, y), and fma(−(float)minima, dx · dmin, y) where there are some. */
XF_INLINE void quant_scale_block(struct xf_quant_format f, const int rows, const int panels,
                                 const struct quant_tile *t, size_t block, const v16i *dot,
                                 const v16i *minima)
{
  XF_UNROLL
  for (int p = 0; p < panels; p++) {
    v16 d = quant_d(f, rows, t, p, block), m = quant_m(f, rows, t, p, block);
    XF_UNROLL
    for (int r = 0; r < rows; r++) {
      float *at = quant_out(t, r, p);
      v16 dx = v16_set1(t->x.d[(size_t)r * t->ldd + block]);
      v16 y = v16_fma(v16_from_int(dot[r * panels + p]), v16_mul(dx, d), v16_load(at));
      if (f.has_min) y = v16_fma(v16_neg(v16_from_int(minima[r * panels + p])), v16_mul(dx, m), y);
      v16_store(at, y);
    }
  }
}

/* Types with a scale for each 256 and sub-scales. The floats stay in memory: two integers for each
 * are in registers. */
XF_INLINE void quant_tile_blocks(struct xf_quant_format f, const int rows, const int panels,
                                 const struct quant_tile *t)
{
  const size_t chunks = f.block / XF_QUANT_CHUNK, halves = XF_QUANT_CHUNK / f.sub;
  const size_t subs = chunks * halves;
  quant_clear(rows, panels, t);
  for (size_t block = 0; block < t->chunks / chunks; block++) {
    v16i dot[QUANT_SUMS], minima[QUANT_SUMS];
    XF_UNROLL
    for (int i = 0; i < rows * panels; i++)
      dot[i] = quant_turns(f, rows) ? t->unpacked[i % panels].begin[block] : v16i_zero();
    if (quant_turns(f, rows)) { /* nothing here depends on the half: no need to unroll */
      for (size_t sub = block * subs; sub < (block + 1) * subs; sub++)
        quant_sub_block(f, rows, panels, t, block, sub / halves, (int)(sub % halves), dot);
    } else {
      for (size_t chunk = block * chunks; chunk < (block + 1) * chunks; chunk++) {
        XF_UNROLL
        for (int half = 0; half < (int)halves; half++)
          quant_sub_block(f, rows, panels, t, block, chunk, half, dot);
      }
    }
    if (f.has_min) quant_minima(f, rows, panels, t, block, minima);
    quant_scale_block(f, rows, panels, t, block, dot, minima);
  }
}

/* A row has one scale. */
XF_INLINE void quant_tile_row(struct xf_quant_format f, const int rows, const int panels,
                              const struct quant_tile *t)
{
  d16 dot[QUANT_SUMS];
  quant_row_products(f, rows, panels, t, dot);
  XF_UNROLL
  for (int r = 0; r < rows; r++) {
    v16i first = v16i_set1(w16_keeps_zero(f.bits) ? -f.zero * t->x.totals[r] : 0);
    v16 dx = v16_set1(t->x.d[(size_t)r * t->ldd]);
    XF_UNROLL
    for (int p = 0; p < panels; p++) {
      v16 scale = v16_mul(dx, v16_load((const float *)quant_record(f, t, p, 0)));
      v16i row = d16_row(dot[r / QUANT_UNIT * panels + p], r % QUANT_UNIT);
      v16 sum = v16_from_int(v16i_add(row, first));
      v16_store(quant_out(t, r, p), v16_mul(sum, scale));
    }
  }
}

#endif
