/* Register tiles of 8- and 4-bit weights, rows × panels by all of k: once for every ISA, on its
 * integer vocabulary. */
#ifndef XF_TILE_QUANT_H
#define XF_TILE_QUANT_H

#include "kernels/tile/amx.h"

struct quant_tile {
  struct xf_quant_rows x; /* the first row's; distances between rows behind it */
  size_t ldq, ldd, lds;
  const uint8_t *w[QUANT_PANELS_MAX];
  size_t records_at; /* bytes from a panel's start to its records */
  size_t after;      /* and to that of the one in its place in the next tile of one row */
  size_t chunks;     /* of XF_QUANT_CHUNK k */
  float *y;          /* out [rows][panels · 16], rows ldy apart */
  size_t ldy;
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

/* Asks for the weights and scales that come some time after those of pairs [first, end), in the
 * next tile where this one ends: a row alone waits for memory, and where unpacking is long, what
 * runs out of order does not reach far enough. Scales are short runs, which prefetchers do not
 * follow. */
XF_INLINE void quant_prefetch(struct xf_quant_format f, const int panels,
                              const struct quant_tile *t, size_t chunk, const int first,
                              const int end)
{
  enum { AHEAD = 8, LINE = 64 };
  const bool ends = chunk + AHEAD >= t->chunks;
  const size_t then = chunk + AHEAD - (ends ? t->chunks : 0), after = ends ? t->after : 0;
  const size_t quants = then * 64 * f.bits,
               record = t->records_at + then * XF_QUANT_CHUNK * f.record / (f.block ? f.block : 1);
  XF_UNROLL
  for (int p = 0; p < panels; p++) {
    uintptr_t from = (uintptr_t)t->w[p] + after; /* may be behind the last panel */
    XF_UNROLL
    for (int line = f.bits * first / 4; line < f.bits * end / 4; line++)
      __builtin_prefetch((const void *)(from + quants + (size_t)line * LINE));
    if (first == 0 && f.block) __builtin_prefetch((const void *)(from + record));
  }
}

/* dot += the products of pairs of steps [first, end) of a chunk. */
XF_INLINE void quant_dot(struct xf_quant_format f, const int rows, const int panels,
                         const struct quant_tile *t, size_t chunk, const int first, const int end,
                         d16 *dot)
{
  const int8_t *q = t->x.q + chunk * XF_QUANT_CHUNK;
  const int more = rows > 1 ? rows : 0; /* a row alone takes each panel as it comes */
  const bool unpacks = f.bits < 8 || !w16_keeps_zero(f.bits);
  if (rows == 1 && unpacks) quant_prefetch(f, panels, t, chunk, first, end);
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

/* dot = the sums of a sub-block: pairs of steps [first, end) of a chunk. */
XF_INLINE void quant_products(struct xf_quant_format f, const int rows, const int panels,
                              const struct quant_tile *t, size_t chunk, const int first,
                              const int end, d16 *dot)
{
  const bool even = first == 0, odd = end == 4;
#ifdef XF_AMX
  if (rows == AMX_ROWS) {
    v16i sums[AMX_ROWS];
    amx_chunk(f.bits, f.zero, t->w[0] + chunk * 64 * f.bits, t->x.q + chunk * XF_QUANT_CHUNK,
              t->ldq, first, end, sums);
    quant_begin(f, rows, panels, t, chunk, even, odd, dot);
    amx_add(dot, sums);
    return;
  }
#endif
  quant_begin(f, rows, panels, t, chunk, even, odd, dot);
  quant_dot(f, rows, panels, t, chunk, first, end, dot);
}

/* dot = the sums of all chunks, without the zero that weights may have kept. */
XF_INLINE void quant_row_products(struct xf_quant_format f, const int rows, const int panels,
                                  const struct quant_tile *t, d16 *dot)
{
#ifdef XF_AMX
  if (rows == AMX_ROW_ROWS) {
    amx_row(t->w, t->x.q, t->ldq, t->chunks, dot);
    return;
  }
#endif
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
  for (int i = 0; i < rows * panels; i++)
    v16_store(quant_out(t, i / panels, i % panels), v16_set1(0));
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
  XF_UNROLL
  for (int i = 0; i < rows * panels; i++) y[i] = v16_set1(0);
  if (!QUANT_KEEPS_FLOATS) quant_clear(rows, panels, t);
  for (size_t chunk = 0; chunk < t->chunks; chunk++) {
    quant_products(f, rows, panels, t, chunk, 0, 4, dot);
    quant_scale(f, rows, panels, t, chunk, dot, y);
  }
  XF_UNROLL
  for (int i = 0; QUANT_KEEPS_FLOATS && i < rows * panels; i++)
    v16_store(quant_out(t, i / panels, i % panels), y[i]);
}

/* dot += the sub-scales of a chunk times its products. */
XF_INLINE void quant_sub_blocks(struct xf_quant_format f, const int rows, const int panels,
                                const struct quant_tile *t, size_t block, size_t chunk, v16i *dot)
{
  const int halves = XF_QUANT_CHUNK / f.sub;
  XF_UNROLL
  for (int half = 0; half < halves; half++) {
    d16 part[QUANT_SUMS];
    quant_products(f, rows, panels, t, chunk, 4 / halves * half, 4 / halves * (half + 1), part);
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
      float *y = quant_out(t, r, p);
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
  quant_clear(rows, panels, t);
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
        float *y = quant_out(t, r, p);
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
