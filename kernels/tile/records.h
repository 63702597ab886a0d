/* What the records of 8- and 4-bit weights hold, on an ISA's integer vocabulary. */
#ifndef XF_TILE_RECORDS_H
#define XF_TILE_RECORDS_H

#include "kernels/quant.h"

/* Sub-scale, or sub-minimum, i of a block. */
XF_INLINE v16i quant_sub_scale(struct xf_quant_format f, const uint8_t *record, size_t i)
{
  const uint8_t *at = record + (f.has_min ? 64 : 32) + i * XF_LANES;
  return f.has_min ? v16i_load_u8(at) : v16i_load_i8((const int8_t *)at);
}

#endif
