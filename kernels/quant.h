/* 8- and 4-bit weights in panels, the same on every ISA, and rows of 8-bit activations: layouts and
 * kernel arguments. Order of operations: docs/numerics.md.
 *
 * A weight is scale · (u − zero), less a minimum in some types, with u of 4, 5, 6 or 8 unsigned
 * bits. A panel holds 16 columns, k rounded up to whole blocks of 32 (u = zero behind k):
 *
 *   quants   for each 32 of k, ascending, 64 · bits bytes. A step is 4 consecutive k.
 *            8 bits: [8 steps][16 columns][4].
 *            else:   [4][16][4] bytes, byte i of pair c: low nibble u of step 2c, high nibble of
 *                    step 2c + 1; then what is above the nibble, [16][4] bytes at a time:
 *            5 bits: one plane, bit s belongs to step s;
 *            6 bits: two planes, bits 2j and 2j + 1 of plane h belong to step 4h + j.
 *   records  for each block of k, ascending, its scales; padded with zeros to 64 bytes.
 *            Q8_0, Q4_0, Q5_0: d, f16 [16].
 *            Q4_1, Q5_1:       d and m, f16 [2][16].
 *            Q4_K, Q5_K:       d and dmin, f16 [2][16]; sub-scales and sub-minima, u8 [2][8][16].
 *            Q6_K:             d, f16 [16]; sub-scales, i8 [16][16].
 *            I8_ROW:           d, f32 [16].
 */
#ifndef XF_QUANT_H
#define XF_QUANT_H

#include <stdbool.h>
#include <stdint.h>

#include "kernels/kernels.h"

enum {
  XF_QUANT_STEP = 4,
  XF_QUANT_CHUNK = 32,
  XF_QUANT_ALIGN = 64,
  XF_QUANT_ROW_MAX = 131072 /* most k of I8_ROW: its sums fit 32 bits, 128 · 127 · 2¹⁷ < 2³¹ */
};

struct xf_quant_format {
  uint16_t block;  /* k of one record; 0: the whole row */
  uint16_t sub;    /* k of one sub-scale; the block where there are none */
  uint16_t record; /* bytes of a record */
  uint8_t bits;    /* of u */
  uint8_t zero;    /* what is subtracted from u */
  bool has_min;    /* a minimum belongs to each sub-scale, or to each scale */
};

/* bits 0 for other types. */
__attribute__((always_inline)) static inline struct xf_quant_format xf_quant_format_of(xf_type type)
{
  switch (type) {
  case XF_Q8_0: return (struct xf_quant_format){32, 32, 32, 8, 128, false};
  case XF_Q4_0: return (struct xf_quant_format){32, 32, 32, 4, 8, false};
  case XF_Q5_0: return (struct xf_quant_format){32, 32, 32, 5, 16, false};
  case XF_Q4_1: return (struct xf_quant_format){32, 32, 64, 4, 0, true};
  case XF_Q5_1: return (struct xf_quant_format){32, 32, 64, 5, 0, true};
  case XF_Q4_K: return (struct xf_quant_format){256, 32, 320, 4, 0, true};
  case XF_Q5_K: return (struct xf_quant_format){256, 32, 320, 5, 0, true};
  case XF_Q6_K: return (struct xf_quant_format){256, 16, 288, 6, 32, false};
  case XF_I8_ROW: return (struct xf_quant_format){0, 0, 64, 8, 128, false};
  default: return (struct xf_quant_format){0, 0, 0, 0, 0, false};
  }
}

/* k as the panels and the rows of activations have it: whole chunks. */
static inline size_t xf_quant_k(size_t k)
{
  return (k + XF_QUANT_CHUNK - 1) / XF_QUANT_CHUNK * XF_QUANT_CHUNK;
}

/* Distance between rows of activations. */
static inline size_t xf_quant_ldq(size_t k)
{
  return xf_row_stride(k);
}

/* Bytes of the quants of a panel, behind which its records begin. */
static inline size_t xf_quant_records_at(struct xf_quant_format format, size_t k)
{
  return xf_quant_k(k) / XF_QUANT_CHUNK * 64 * format.bits;
}

static inline size_t xf_quant_panel_bytes(struct xf_quant_format format, size_t k)
{
  size_t records = (format.block ? k / format.block : 1) * format.record;
  return xf_quant_records_at(format, k) +
         (records + XF_QUANT_ALIGN - 1) / XF_QUANT_ALIGN * XF_QUANT_ALIGN;
}

/* Rows of activations, quantized in groups that share one scale: x[i] ≈ q[i] · d[i / group]. */
struct xf_quant_rows {
  int8_t *q;       /* [rows][xf_quant_k(k)], xf_quant_ldq(k) apart; |q| ≤ 127, zeros behind k */
  float *d;        /* [rows][groups]; NaN where the group holds NaN or infinity */
  int16_t *sums;   /* [rows][xf_quant_k(k) / 16]: sums of 16 consecutive q */
  int32_t *totals; /* [rows]: sums of all q, of rows with one group */
};

/* The same from row r on, of k numbers in groups of `group` (0: one group). */
static inline struct xf_quant_rows xf_quant_rows_from(struct xf_quant_rows x, size_t k,
                                                      size_t group, size_t r)
{
  return (struct xf_quant_rows){x.q + r * xf_quant_ldq(k), x.d + r * (group ? k / group : 1),
                                x.sums + r * (xf_quant_k(k) / XF_LANES), x.totals + r};
}

/* y[r][c] = Σ_i x[r][i] · w[c][i] for r < rows, c < n, x quantized in groups of the format's block.
 */
struct xf_quant_args {
  xf_type type;
  size_t rows, k, n; /* each ≥ 1; k a multiple of the format's block, ≤ XF_QUANT_ROW_MAX without */
  struct xf_quant_rows x; /* of these rows */
  const void *w;          /* [ceil(n/16)] panels; aligned to XF_QUANT_ALIGN */
  float *y;               /* [rows][n], may be uninitialised */
  size_t ldy;
  float *scratch; /* [XF_LINEAR_SCRATCH] */
};

/* The kernels that differ between CPUs of one ISA. */
struct xf_quant_kernels {
  /* One row of k numbers in groups of `group` (0: one group; else k is a multiple) into the arrays
   * of one row. x may be unaligned. */
  void (*quantize)(size_t k, size_t group, const float *x, struct xf_quant_rows row);
  void (*linear)(const struct xf_quant_args *a);
};

extern const struct xf_quant_kernels xf_quant_scalar;
extern const struct xf_quant_kernels xf_quant_avx2, xf_quant_avx2vnni;
extern const struct xf_quant_kernels xf_quant_avx512, xf_quant_avx512vnni, xf_quant_avx512amx;
extern const struct xf_quant_kernels xf_quant_neon, xf_quant_neondot, xf_quant_neoni8mm;

#endif
