/* The sums of one row by one panel, where the instructions for 8-bit products have a row's sums in
 * their lanes. */
#ifndef XF_SIMD_ROW_SUMS_H
#define XF_SIMD_ROW_SUMS_H

enum { QUANT_UNIT = 1 }; /* rows whose sums are together */

typedef v16i d16;

XF_INLINE d16 d16_begin(v16i first)
{
  return first;
}

/* The sums of row i of these. */
XF_INLINE v16i d16_row(d16 sums, int i)
{
  (void)i;
  return sums;
}

#endif
