/* Linear layers of 8- and 4-bit weights by AMX: what becomes of the tiles' sums, unpacking, and the
 * loops over rows by sixteens. */
#ifndef XF_OP_AMX_H
#define XF_OP_AMX_H

#include <string.h>

#include "kernels/op/asking.h"
#include "kernels/tile/amx.h"
#include "kernels/tile/records.h"

/* Those of 16 lanes that there are. */
XF_INLINE __mmask16 amx_some(size_t n)
{
  return v16_first(n < XF_LANES ? n : XF_LANES);
}

/* Some columns of y. */
struct amx_out {
  float *y;
  size_t ldy;
  __mmask16 some[2]; /* which columns of two panels there are */
};

static struct amx_out amx_out_at(const struct xf_quant_args *a, size_t r, size_t column)
{
  const size_t n = a->n - column, second = n > XF_LANES ? n - XF_LANES : 0;
  return (struct amx_out){a->y + r * a->ldy + column, a->ldy, {amx_some(n), amx_some(second)}};
}

/* The tile of rows from r on, `most` or, at the end, AMX_HALF. */
static struct amx_tile amx_rows_at(const struct xf_quant_args *a, size_t r, size_t most)
{
  const size_t ldq = xf_quant_ldq(a->k);
  return (struct amx_tile){a->x.q + r * ldq, ldq, a->rows - r < most ? AMX_HALF : most};
}

/* ---- one scale for a row ---- */

/* A tile whose sums become floats while the next one is multiplied. */
struct amx_sum {
  _Alignas(64) amx_sums dot[AMX_ROWS];
  size_t rows;
  const float *dx;
  const int32_t *totals;
  const float *d[2];
  struct amx_out out;
};

XF_INLINE void amx_finish(const struct amx_sum *s, size_t r)
{
  const v16i zero = v16i_set1(-128 * s->totals[r]);
  const v16 dx = v16_set1(s->dx[r]);
  XF_UNROLL
  for (int p = 0; p < 2; p++) {
    v16i dot = v16i_add((v16i)_mm512_load_si512(s->dot[r][p]), zero);
    v16 y = v16_mul(v16_from_int(dot), v16_mul(dx, v16_load(s->d[p])));
    _mm512_mask_storeu_ps(s->out.y + r * s->out.ldy + p * XF_LANES, s->out.some[p], y);
  }
}

/* The last 32 of k, with zeros behind them. */
static void amx_rest(const struct amx_tile *t, size_t k, const uint8_t *b0, const uint8_t *b1)
{
  enum { HALF = AMX_TILE / 2 };
  _Alignas(64) uint8_t b[2][AMX_TILE] = {{0}};
  _Alignas(64) int8_t x[AMX_ROWS][AMX_STEP] = {{0}};
  memcpy(b[0], b0, HALF), memcpy(b[1], b1, HALF);
  for (size_t r = 0; r < t->rows; r++) memcpy(x[r], t->q + r * t->ldq + k, AMX_STEP / 2);
  amx_fence(b), amx_fence(x);
  const struct amx_tile rest = {x[0], AMX_STEP, t->rows};
  amx_step(false, &rest, 0, b[0], b[1]);
}

/* s = the products of all of k; meanwhile `before`, of which a row is due in each step, and what
 * comes next is asked for. */
static void amx_row(const struct amx_tile *t, size_t k, const uint8_t *const b[2],
                    const struct amx_sum *before, struct amx_sum *s, struct asking next)
{
  size_t done = 0, i = 0;
  amx_zero(t);
  for (; i + AMX_STEP <= k; i += AMX_STEP) {
    ask_far(&next, 2);
    amx_step(false, t, i, b[0] + i * XF_LANES, b[1] + i * XF_LANES);
    if (done < before->rows) amx_finish(before, done++);
  }
  if (i < k) amx_rest(t, i, b[0] + i * XF_LANES, b[1] + i * XF_LANES);
  while (done < before->rows) amx_finish(before, done++);
  amx_store(t, s->dot);
}

static void amx_i8_row(const struct xf_quant_args *a)
{
  const struct xf_quant_format f = xf_quant_format_of(XF_I8_ROW);
  const size_t bytes = xf_quant_panel_bytes(f, a->k), records = xf_quant_records_at(f, a->k);
  struct amx_sum sums[2];
  struct amx_sum *s = &sums[0], *before = &sums[1];
  before->rows = 0;
  for (size_t column = 0; column < a->n; column += 2 * XF_LANES) {
    const uint8_t *first = (const uint8_t *)a->w + column / XF_LANES * bytes,
                  *const b[2] = {first, column + XF_LANES < a->n ? first + bytes : first};
    for (size_t r = 0; r < a->rows; r += AMX_ROWS) {
      const struct amx_tile t = amx_rows_at(a, r, AMX_ROWS);
      const struct asking next =
          asking_share((uintptr_t)(first + 2 * bytes), bytes, xf_quant_k(a->k) / AMX_STEP, AMX_TILE,
                       r, t.rows, a->rows);
      amx_row(&t, xf_quant_k(a->k), b, before, s, next);
      s->rows = t.rows;
      s->dx = a->x.d + r;
      s->totals = a->x.totals + r;
      for (int p = 0; p < 2; p++) s->d[p] = (const float *)(const void *)(b[p] + records);
      s->out = amx_out_at(a, r, column);
      struct amx_sum *last = before;
      before = s, s = last;
    }
  }
  for (size_t r = 0; r < before->rows; r++) amx_finish(before, r);
}

/* ---- a scale for each block ---- */

/* Some k of a panel. */
struct amx_weights {
  /* u − zero, one of them; or low and high bytes. */
  _Alignas(64) uint8_t b[2][AMX_DEPTH * XF_LANES];
  v16 d[AMX_DEPTH / XF_QUANT_CHUNK], m[AMX_DEPTH / XF_QUANT_CHUNK]; /* of a block */
  v16i minima[AMX_DEPTH / XF_QUANT_CHUNK]; /* of sub-blocks, as v16i_pairs */
};
_Static_assert(sizeof(struct amx_weights) + 64 <= XF_LINEAR_SCRATCH * sizeof(float), "it fits");

/* What a tile is multiplied with: x at the first of some blocks. */
struct amx_block_tile {
  struct amx_tile t;
  struct xf_quant_rows x;
  size_t ldd, lds, blocks;
  const struct amx_weights *w;
};

/* y of a tile's rows by one panel, zeros at first; what is written later is asked for now. */
XF_INLINE void amx_load(const struct amx_out *out, size_t rows, bool fresh, v16 *y)
{
  XF_UNROLL
  for (size_t r = 0; r < rows; r++) {
    float *at = out->y + r * out->ldy;
    __builtin_prefetch(at, 1);
    y[r] = fresh ? v16_set1(0) : _mm512_maskz_loadu_ps(out->some[0], at);
  }
}

XF_INLINE void amx_write(const struct amx_out *out, size_t rows, const v16 *y)
{
  XF_UNROLL
  for (size_t r = 0; r < rows; r++)
    _mm512_mask_storeu_ps(out->y + r * out->ldy, out->some[0], y[r]);
}

/* dx · Σ q of each row and block. */
typedef float amx_minima[AMX_HALF][AMX_DEPTH / XF_QUANT_CHUNK];

static void amx_find_minima(const struct amx_block_tile *t, amx_minima minima)
{
  const __m512i ones = _mm512_set1_epi16(1);
  for (size_t r = 0; r < AMX_HALF; r++)
    for (size_t block = 0; block < t->blocks; block += XF_LANES) {
      const __mmask16 some = amx_some(t->blocks - block);
      __m512i pairs = _mm512_maskz_loadu_epi32(some, t->x.sums + r * t->lds + 2 * block);
      v16 d = _mm512_maskz_loadu_ps(some, t->x.d + r * t->ldd + block);
      v16_store(minima[r] + block, v16_mul(d, v16_from_int((v16i)_mm512_madd_epi16(pairs, ones))));
    }
}

/* y = fma((float)dot, dx · d, y), and then the minima, if there are some. */
XF_INLINE void amx_scale_chunk(const bool has_min, const struct amx_block_tile *t, size_t block,
                               const v16i *dot, const amx_minima minima, v16 *y)
{
  const v16 d = t->w->d[block], m = has_min ? t->w->m[block] : d;
  const float *dx = t->x.d + block;
  const size_t ldd = t->ldd;
  XF_UNROLL
  for (size_t r = 0; r < AMX_HALF; r++) {
    y[r] = v16_fma(v16_from_int(dot[r]), v16_mul(v16_set1(dx[r * ldd]), d), y[r]);
    if (has_min) y[r] = v16_fma(m, v16_set1(minima[r][block]), y[r]);
  }
}

XF_INLINE void amx_chunk(const struct amx_block_tile *t, size_t block, v16i *dot)
{
  const size_t k = block * XF_QUANT_CHUNK;
  _tile_zero(0);
  _tile_loadd(4, t->t.q + k, t->t.ldq);
  _tile_loadd(6, t->w->b[0] + k * XF_LANES, 64);
  _tile_dpbssd(0, 4, 6);
  _tile_stored(0, dot, sizeof *dot);
  amx_fence(dot);
}

/* Types with a scale for each chunk: AMX_HALF rows, whose floats are in registers. Each chunk is
 * multiplied before the one before is scaled, or that would wait for it. */
XF_INLINE void amx_chunks(const bool has_min, const struct amx_block_tile *t,
                          const struct amx_out *out, bool fresh)
{
  v16i dots[2][AMX_HALF];
  v16 y[AMX_HALF];
  _Alignas(64) amx_minima minima;
  if (has_min) amx_find_minima(t, minima);
  amx_load(out, AMX_HALF, fresh, y);
  amx_chunk(t, 0, dots[0]);
  for (size_t block = 0; block < t->blocks; block++) {
    if (block + 1 < t->blocks) amx_chunk(t, block + 1, dots[(block + 1) % 2]);
    amx_scale_chunk(has_min, t, block, dots[block % 2], minima, y);
  }
  amx_write(out, AMX_HALF, y);
}

/* y = fma((float)dot, dx · d, y), and fma(−(float)minima, dx · dmin, y) where there are some. */
XF_INLINE void amx_scale_block(const bool has_min, const struct amx_block_tile *t, size_t block,
                               const amx_sums *dot, v16 *y)
{
  enum { SUBS = 8 };
  const v16 d = t->w->d[block], m = has_min ? t->w->m[block] : d;
  const size_t rows = t->t.rows, ldd = t->ldd, lds = t->lds;
  const float *dx_at = t->x.d + block;
  const int16_t *sums = t->x.sums + 2 * SUBS * block;
  v16i pairs[SUBS];
  for (size_t i = 0; has_min && i < SUBS; i++) pairs[i] = t->w->minima[SUBS * block + i];
  for (size_t r = 0; r < rows; r++) {
    const v16i low = (v16i)_mm512_load_si512(dot[r][0]), high = (v16i)_mm512_load_si512(dot[r][1]);
    const v16 dx = v16_set1(dx_at[r * ldd]);
    v16 all = v16_from_int(v16i_add(low, (v16i)_mm512_slli_epi32((__m512i)high, 8)));
    v16 out = v16_fma(all, v16_mul(dx, d), y[r]);
    if (has_min) {
      v16i minima = v16i_zero();
      XF_UNROLL
      for (size_t i = 0; i < SUBS; i++)
        minima = v16i_add_sums(minima, pairs[i], sums + r * lds + 2 * i);
      out = _mm512_fnmadd_ps(v16_from_int(minima), v16_mul(dx, m), out);
    }
    y[r] = out;
  }
}

/* Types with a scale for each 256. */
XF_INLINE void amx_blocks(const bool has_min, const struct amx_block_tile *t,
                          const struct amx_out *out, bool fresh)
{
  enum { BLOCK = 256 };
  _Alignas(64) amx_sums dot[AMX_ROWS];
  v16 y[AMX_ROWS];
  amx_load(out, t->t.rows, fresh, y);
  for (size_t block = 0; block < t->blocks; block++) {
    amx_zero(&t->t);
    for (size_t k = block * BLOCK; k < (block + 1) * BLOCK; k += AMX_STEP)
      amx_step(true, &t->t, k, t->w->b[0] + k * XF_LANES, t->w->b[1] + k * XF_LANES);
    amx_store(&t->t, dot);
    amx_scale_block(has_min, t, block, dot, y);
  }
  amx_write(out, t->t.rows, y);
}

/* ---- unpacking ---- */

/* The lower half of each lane in both. */
XF_INLINE __m512i amx_twice(v16i a)
{
  return _mm512_mask_blend_epi16(0xAAAAAAAA, (__m512i)a, _mm512_slli_epi32((__m512i)a, 16));
}

/* scale · (u − zero), 16 bits, as low and high bytes. No sum of products saturates: each has one.
 */
XF_INLINE void amx_planes(const int zero, __m512i u, __m512i scale, uint8_t *low, uint8_t *high)
{
  const __m512i byte = _mm512_set1_epi16(0x00FF), first = _mm512_and_si512(scale, byte),
                less = _mm512_mullo_epi16(scale, _mm512_set1_epi16((short)zero));
  __m512i even = _mm512_maddubs_epi16(u, first),
          odd = _mm512_maddubs_epi16(u, _mm512_slli_epi16(first, 8));
  if (zero) even = _mm512_sub_epi16(even, less), odd = _mm512_sub_epi16(odd, less);
  _mm512_store_si512(low, _mm512_ternarylogic_epi32(byte, even, _mm512_slli_epi16(odd, 8), 0xCA));
  _mm512_store_si512(high, _mm512_ternarylogic_epi32(byte, _mm512_srli_epi16(even, 8), odd, 0xCA));
}

/* A chunk's weights less their zero; where blocks have sub-scales, multiplied by these. */
XF_INLINE void amx_unpack_chunk(struct xf_quant_format f, const uint8_t *from,
                                const uint8_t *record, size_t chunk, struct amx_weights *w)
{
  const size_t subs = f.block / f.sub, halves = XF_QUANT_CHUNK / f.sub,
               sub = chunk % (f.block / XF_QUANT_CHUNK) * halves;
  XF_UNROLL
  for (int pair = 0; pair < 4; pair++) {
    const size_t at = (8 * chunk + 2 * (size_t)pair) * 64;
    w16 u = w16_load(f.bits, f.zero, from, pair);
    if (subs == 1) u = w16_turn(f.zero, u);
    XF_UNROLL
    for (size_t i = 0; i < 2; i++) {
      if (subs == 1)
        _mm512_store_si512(w->b[0] + at + 64 * i, u.step[i]);
      else
        amx_planes(f.zero, u.step[i],
                   amx_twice(quant_sub_scale(f, record, sub + (size_t)pair * halves / 4)),
                   w->b[0] + at + 64 * i, w->b[1] + at + 64 * i);
    }
  }
}

/* Chunks of a panel and the records of their blocks, and asks for those that lie behind them. */
XF_INLINE void amx_unpack(struct xf_quant_format f, const uint8_t *from, const uint8_t *records,
                          size_t chunks, struct amx_weights *w)
{
  enum { AHEAD = 4096, LINE = 64 };
  const size_t each = f.block / XF_QUANT_CHUNK, subs = f.block / f.sub, bytes = 64 * f.bits;
  for (size_t block = 0; block < chunks / each; block++, records += f.record) {
    w->d[block] = v16_load_f16((const uint16_t *)(const void *)records);
    if (f.has_min) w->m[block] = v16_load_f16((const uint16_t *)(const void *)records + XF_LANES);
    for (size_t i = 0; f.has_min && subs > 1 && i < subs; i++)
      w->minima[block * subs + i] = v16i_pairs(quant_sub_scale(f, records, subs + i));
    for (size_t chunk = block * each; chunk < (block + 1) * each; chunk++) {
      for (size_t i = 0; i < bytes; i += LINE)
        __builtin_prefetch((const void *)((uintptr_t)from + chunk * bytes + AHEAD + i));
      amx_unpack_chunk(f, from + chunk * bytes, records, chunk, w);
    }
  }
}

/* All rows by a panel of the weights of k [from, from + t->blocks · block). */
XF_INLINE void amx_all_rows(struct xf_quant_format f, const struct xf_quant_args *a, size_t from,
                            size_t column, struct amx_block_tile *t)
{
  const bool chunks = f.block == XF_QUANT_CHUNK;
  for (size_t r = 0; r < a->rows; r += t->t.rows) {
    const struct amx_out out = amx_out_at(a, r, column);
    t->t = amx_rows_at(a, r, chunks ? AMX_HALF : AMX_ROWS);
    t->t.q += from;
    t->x.d = a->x.d + r * t->ldd + from / f.block;
    t->x.sums = a->x.sums + r * t->lds + from / XF_LANES;
    if (chunks)
      amx_chunks(f.has_min, t, &out, from == 0);
    else
      amx_blocks(f.has_min, t, &out, from == 0);
  }
}

XF_INLINE void amx_of_blocks(xf_type type, const struct xf_quant_args *a)
{
  const struct xf_quant_format f = xf_quant_format_of(type);
  const size_t bytes = xf_quant_panel_bytes(f, a->k), records = xf_quant_records_at(f, a->k);
  struct amx_weights *w = (void *)(((uintptr_t)a->scratch + 63) / 64 * 64);
  struct amx_block_tile t = {.ldd = a->k / f.block, .lds = a->k / XF_LANES, .w = w};
  const size_t most = a->rows < AMX_MANY ? AMX_NEAR : AMX_DEPTH;
  for (size_t column = 0; column < a->n; column += XF_LANES)
    for (size_t from = 0, k; from < a->k; from += k) {
      const uint8_t *panel = (const uint8_t *)a->w + column / XF_LANES * bytes;
      k = a->k - from < most ? a->k - from : most;
      t.blocks = k / f.block;
      amx_unpack(f, panel + from / XF_QUANT_CHUNK * 64 * f.bits,
                 panel + records + from / f.block * f.record, k / XF_QUANT_CHUNK, w);
      amx_all_rows(f, a, from, column, &t);
    }
}

/* One function a type, so that its format is known in its loops. */
static void amx_linear(const struct xf_quant_args *a)
{
  switch (a->type) {
  case XF_Q8_0: amx_of_blocks(XF_Q8_0, a); break;
  case XF_Q4_0: amx_of_blocks(XF_Q4_0, a); break;
  case XF_Q4_1: amx_of_blocks(XF_Q4_1, a); break;
  case XF_Q5_0: amx_of_blocks(XF_Q5_0, a); break;
  case XF_Q5_1: amx_of_blocks(XF_Q5_1, a); break;
  case XF_Q4_K: amx_of_blocks(XF_Q4_K, a); break;
  case XF_Q5_K: amx_of_blocks(XF_Q5_K, a); break;
  case XF_Q6_K: amx_of_blocks(XF_Q6_K, a); break;
  default: amx_i8_row(a);
  }
}

#endif
