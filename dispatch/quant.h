/* 8- and 4-bit weights as files have them, and their way into panels (kernels/quant.h). */
#ifndef XF_DISPATCH_QUANT_H
#define XF_DISPATCH_QUANT_H

#include "kernels/quant.h"

/* One row: the file's blocks, maybe unaligned, or signed bytes and their scale (I8_ROW). */
struct xf_quant_row {
  const void *data; /* NULL: a column that does not exist */
  float scale;
};

/* Whether it is one of these types. */
static inline bool xf_is_quant(xf_type type)
{
  return xf_quant_format_of(type).bits != 0;
}

/* Weights that a block of the file holds: a row has whole blocks. 1 for other types. */
size_t xf_quant_block(xf_type type);
/* Bytes of a row of k weights. */
size_t xf_quant_row_bytes(xf_type type, size_t k);
/* The weights of a row as floats, with the bits of docs/numerics.md. */
void xf_quant_widen(const struct xf_kernels *kernels, xf_type type, size_t k,
                    struct xf_quant_row row, float *y);
/* Writes a whole panel. */
void xf_quant_pack(xf_type type, size_t k, const struct xf_quant_row rows[static XF_LANES],
                   void *panel);

#endif
