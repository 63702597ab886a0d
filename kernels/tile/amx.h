/* AMX: exact int32 sums of up to 32 rows by two tiles of weights, 64 k in each instruction.
 *
 * An instruction takes 16 cycles and most of a vector port, so that what follows the sums decides.
 * Rows of one scale keep theirs through all of k. Types with a scale for each 32 k must take theirs
 * out of the tiles as often. Those with a scale for each 256 and sub-scales are multiplied by the
 * latter when they are unpacked: two planes of bytes, low and high, whose sums last for 256 k. */
#ifndef XF_TILE_AMX_H
#define XF_TILE_AMX_H

#include "kernels/quant.h"
#include "kernels/simd/avx512_int.h"
#include "kernels/tile/amx_shapes.h"

enum {
  AMX_HALF = AMX_TILE_ROWS, /* rows of one tile */
  AMX_ROWS = 2 * AMX_HALF,  /* most rows at once */
  AMX_STEP = 64,            /* most k of an instruction */
  AMX_TILE = 64 * AMX_HALF, /* bytes of so many k of a panel */
  AMX_DEPTH = 2048,         /* most k unpacked at a time */
  AMX_NEAR = 256,           /* the same for few rows: the first cache holds them */
  AMX_MANY = 64,            /* what are not few rows */
  AMX_NEAR_BYTES = 5 << 18  /* of x at once: the second cache holds them */
};

/* Sums of a row by two tiles of weights. */
typedef int32_t amx_sums[2][XF_LANES];

struct amx_tile {
  const int8_t *q;  /* [rows], ldq apart */
  size_t ldq, rows; /* AMX_HALF or AMX_ROWS */
};

/* Sums += the products of one instruction's k by b0 and b1 [k/4][16][4]; b0 is unsigned. */
XF_INLINE void amx_upper(const bool signed1, const struct amx_tile *t, size_t k, const void *b0,
                         const void *b1)
{
  _tile_loadd(4, t->q + k, t->ldq);
  _tile_loadd(6, b0, 64);
  _tile_dpbsud(0, 4, 6);
  _tile_loadd(7, b1, 64);
  if (signed1)
    _tile_dpbssd(1, 4, 7);
  else
    _tile_dpbsud(1, 4, 7);
}

/* The same weights by the rows from AMX_HALF on. */
XF_INLINE void amx_lower(const bool signed1, const struct amx_tile *t, size_t k)
{
  _tile_loadd(5, t->q + AMX_HALF * t->ldq + k, t->ldq);
  _tile_dpbsud(2, 5, 6);
  if (signed1)
    _tile_dpbssd(3, 5, 7);
  else
    _tile_dpbsud(3, 5, 7);
}

XF_INLINE void amx_step(const bool signed1, const struct amx_tile *t, size_t k, const void *b0,
                        const void *b1)
{
  amx_upper(signed1, t, k, b0, b1);
  if (t->rows == AMX_ROWS) amx_lower(signed1, t, k);
}

XF_INLINE void amx_zero(const struct amx_tile *t)
{
  _tile_zero(0);
  _tile_zero(1);
  if (t->rows == AMX_HALF) return;
  _tile_zero(2);
  _tile_zero(3);
}

XF_INLINE void amx_store(const struct amx_tile *t, amx_sums *dot)
{
  _tile_stored(0, dot[0][0], sizeof *dot);
  _tile_stored(1, dot[0][1], sizeof *dot);
  if (t->rows == AMX_ROWS) {
    _tile_stored(2, dot[AMX_HALF][0], sizeof *dot);
    _tile_stored(3, dot[AMX_HALF][1], sizeof *dot);
  }
  amx_fence(dot);
}

#endif
