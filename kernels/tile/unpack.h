/* Weights of 5 and 6 bits are unpacked once for many rows. Instructions that multiply unsigned by
 * signed bytes have the weights signed then, less their zero, and q + 128 for q: what that adds,
 * 128 · Σ w, does not depend on the row. */
#ifndef XF_TILE_UNPACK_H
#define XF_TILE_UNPACK_H

#include "kernels/tile/records.h"

enum {
  QUANT_TALL = 4,     /* as many rows at least */
  QUANT_DEPTH = 2048, /* most k at a time: unpacked, they fit the second cache */
  QUANT_NEAR = 256,   /* for few rows: those that come are asked for while these are used */
  QUANT_MANY = 64     /* what are not few rows */
};

/* Some k of one panel. */
struct quant_unpacked {
  w16 w[QUANT_DEPTH / 8];
  v16i begin[QUANT_DEPTH / XF_QUANT_CHUNK];  /* of each block's sums */
  v16i scale[QUANT_DEPTH / 16];              /* of sub-blocks, where blocks have them */
  v16i minima[QUANT_DEPTH / XF_QUANT_CHUNK]; /* of sub-blocks too, as v16i_pairs */
  v16 d[QUANT_DEPTH / XF_QUANT_CHUNK], m[QUANT_DEPTH / XF_QUANT_CHUNK];
};

/* The panels of a tile of many rows, in a kernel's scratch. */
static struct quant_unpacked *quant_unpacked_in(float *scratch)
{
  enum { PANELS = QUANT_PANELS_MAX < 2 ? 1 : 2, ALIGN = sizeof(v16i) };
  _Static_assert(PANELS * sizeof(struct quant_unpacked) + ALIGN <=
                     XF_LINEAR_SCRATCH * sizeof(float),
                 "they fit");
  return (struct quant_unpacked *)(((uintptr_t)scratch + ALIGN - 1) / ALIGN * ALIGN);
}

/* Whether a tile takes its weights from there. */
XF_INLINE bool quant_unpacks(struct xf_quant_format f, const int rows)
{
  return f.bits > 4 && f.bits < 8 && rows >= QUANT_TALL;
}

/* Whether they are signed there, and its rows q + 128. */
XF_INLINE bool quant_turns(struct xf_quant_format f, const int rows)
{
  return QUANT_TURNS && f.zero && quant_unpacks(f, rows);
}

XF_INLINE void quant_unpack_weights(const int bits, const int zero, const uint8_t *w, size_t chunks,
                                    struct quant_unpacked *u)
{
  for (size_t chunk = 0; chunk < chunks; chunk++, w += 64 * bits) {
    XF_UNROLL
    for (int pair = 0; pair < 4; pair++)
      u->w[4 * chunk + (size_t)pair] = w16_turn(zero, w16_load(bits, zero, w, pair));
  }
}

static void quant_unpack_scales(struct xf_quant_format f, const uint8_t *record, size_t blocks,
                                struct quant_unpacked *u)
{
  const size_t subs = f.block / f.sub;
  for (size_t i = 0; i < blocks; i++, record += f.record) {
    const uint16_t *scales = (const uint16_t *)record;
    u->d[i] = v16_load_f16(scales);
    if (f.has_min) u->m[i] = v16_load_f16(scales + XF_LANES);
    for (size_t sub = 0; subs > 1 && sub < subs; sub++) {
      u->scale[i * subs + sub] = quant_sub_scale(f, record, sub);
      if (f.has_min) u->minima[i * subs + sub] = v16i_pairs(quant_sub_scale(f, record, subs + sub));
    }
  }
}

/* −128 · Σ w, of sub-blocks times their scales. */
static void quant_unpack_begin(struct xf_quant_format f, size_t blocks, struct quant_unpacked *u)
{
  static const int8_t one[2 * XF_QUANT_STEP] = {1, 1, 1, 1, 1, 1, 1, 1};
  const q8 ones = q8_load(one, 0);
  const size_t subs = f.block / f.sub, pairs = f.sub / sizeof one;
  for (size_t i = 0; i < blocks; i++) {
    v16i all = v16i_zero();
    for (size_t sub = i * subs; sub < (i + 1) * subs; sub++) {
      d16 sum = d16_begin(v16i_zero());
      for (size_t pair = sub * pairs; pair < (sub + 1) * pairs; pair++)
        for (int step = 0; step < 2; step++) sum = d16_add_turned(sum, u->w[pair], ones, step);
      v16i part = v16i_mul(d16_row(sum, 0), v16i_set1(-128));
      all = v16i_add(all, subs > 1 ? v16i_mul(part, u->scale[sub]) : part);
    }
    u->begin[i] = all;
  }
}

/* Chunks of one panel, and the records of their blocks. */
XF_APART void quant_unpack(struct xf_quant_format f, const uint8_t *w, const uint8_t *records,
                           size_t chunks, struct quant_unpacked *u)
{
  const size_t blocks = chunks * XF_QUANT_CHUNK / f.block;
  if (f.bits == 5)
    quant_unpack_weights(5, f.zero, w, chunks, u);
  else
    quant_unpack_weights(6, f.zero, w, chunks, u);
  quant_unpack_scales(f, records, blocks, u);
  if (quant_turns(f, QUANT_TALL)) quant_unpack_begin(f, blocks, u);
}

#endif
