/* AMX: products of 16 rows by a panel of 16 columns in one instruction, whose int32 sums are as
 * exact as those of all others. A chunk of 8-bit weights lies in a panel as AMX wants it, and so
 * do unpacked ones. Only a file that defines XF_AMX has such tiles. */
#ifndef XF_TILE_AMX_H
#define XF_TILE_AMX_H

#include "kernels/quant.h"

#ifndef XF_AMX

enum { AMX_ROWS = 0, AMX_ROW_ROWS = 0, AMX_ROW_PANELS = 0 };

/* Rows of a type's tiles. */
XF_INLINE size_t amx_rows(xf_type type)
{
  (void)type;
  return 0;
}

#else

enum { AMX_ROWS = 16, AMX_ROW_ROWS = 32, AMX_ROW_PANELS = 2 };

/* One scale for a whole row leaves the sums in their registers, so that there are 2 × 2 of them,
 * and instructions need not wait for each other. */
XF_INLINE size_t amx_rows(xf_type type)
{
  return type == XF_I8_ROW ? AMX_ROW_ROWS : AMX_ROWS;
}

/* The compiler knows neither that tile instructions read memory nor, where it does not see it
 * written elsewhere, that they write it. */
XF_INLINE void amx_fence(const void *memory)
{
  __asm__ volatile("" : : "r"(memory) : "memory");
}

/* Until amx_end the thread has registers 0 to 3 for sums, 4 and 5 for rows of x, 6 and 7 for
 * panels.
 */
static void amx_begin(xf_type type)
{
  enum { SUMS = 4, ROWS = 6, REGISTERS = 8 };
  const struct xf_quant_format f = xf_quant_format_of(type);
  const uint8_t depth = f.block ? (uint8_t)f.sub : 2 * XF_QUANT_CHUNK; /* k of an instruction */
  struct {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
  } shapes = {.palette = 1};
  for (int i = 0; i < REGISTERS; i++) {
    bool x = i >= SUMS && i < ROWS;
    shapes.row_bytes[i] = x ? depth : 4 * XF_LANES;
    shapes.rows[i] = i < ROWS ? AMX_ROWS : depth / 4;
  }
  amx_fence(&shapes);
  _tile_loadconfig(&shapes);
}

static void amx_end(void)
{
  _tile_release();
}

/* sums = the products of a sub-block: 16 rows of x by signed weights. */
XF_INLINE void amx_chunk(const w16 *w, const int8_t *q, size_t ldq, v16i *sums)
{
  amx_fence(w);
  _tile_zero(0);
  _tile_loadd(4, q, ldq);
  _tile_loadd(6, w, 64);
  _tile_dpbssd(0, 4, 6);
  _tile_stored(0, sums, 64);
  amx_fence(sums);
}

/* The sums in registers += the products of 64 k. */
XF_INLINE void amx_row_step(const uint8_t *w0, const uint8_t *w1, const int8_t *q, size_t ldq)
{
  _tile_loadd(4, q, ldq);
  _tile_loadd(6, w0, 64);
  _tile_dpbsud(0, 4, 6);
  _tile_loadd(7, w1, 64);
  _tile_dpbsud(1, 4, 7);
  _tile_loadd(5, q + AMX_ROWS * ldq, ldq);
  _tile_dpbsud(2, 5, 6);
  _tile_dpbsud(3, 5, 7);
}

/* The same of a last chunk of 32 k, with zeros behind it. */
XF_INLINE void amx_row_rest(const uint8_t *w0, const uint8_t *w1, const int8_t *q, size_t ldq)
{
  enum { W = XF_QUANT_CHUNK * XF_LANES, Q = 2 * XF_QUANT_CHUNK };
  _Alignas(64) uint8_t w[AMX_ROW_PANELS][2 * W] = {0};
  _Alignas(64) int8_t x[AMX_ROW_ROWS][Q] = {0};
  memcpy(w[0], w0, W), memcpy(w[1], w1, W);
  for (size_t r = 0; r < AMX_ROW_ROWS; r++) memcpy(x[r], q + r * ldq, XF_QUANT_CHUNK);
  amx_fence(w), amx_fence(x);
  amx_row_step(w[0], w[1], x[0], Q);
}

/* dot [AMX_ROW_ROWS][AMX_ROW_PANELS] = the products of all of k, 8 bits. */
XF_INLINE void amx_row(const uint8_t *const *w, const int8_t *q, size_t ldq, size_t chunks,
                       v16i *dot)
{
  const size_t w_step = 2 * XF_QUANT_CHUNK * XF_LANES, q_step = 2 * XF_QUANT_CHUNK,
               steps = chunks / 2, next = AMX_ROW_PANELS * sizeof *dot;
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (size_t i = 0; i < steps; i++)
    amx_row_step(w[0] + i * w_step, w[1] + i * w_step, q + i * q_step, ldq);
  if (chunks % 2)
    amx_row_rest(w[0] + steps * w_step, w[1] + steps * w_step, q + steps * q_step, ldq);
  v16i *below = dot + AMX_ROWS * AMX_ROW_PANELS;
  _tile_stored(0, dot, next);
  _tile_stored(1, dot + 1, next);
  _tile_stored(2, below, next);
  _tile_stored(3, below + 1, next);
  amx_fence(dot);
}

#endif

#endif
