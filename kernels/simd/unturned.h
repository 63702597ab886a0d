/* Instructions for 8-bit products that take weights as w16_load gives them, unpacked ahead or not.
 * Those that take unsigned by signed numbers have it the other way round then. */
#ifndef XF_SIMD_UNTURNED_H
#define XF_SIMD_UNTURNED_H

enum { QUANT_TURNS = 0 };

/* u − zero. */
XF_INLINE w16 w16_turn(int zero, w16 w)
{
  (void)zero;
  return w;
}

/* q + 128. */
XF_INLINE q8 q8_turn(q8 q)
{
  return q;
}

/* sum + Σ w · q of these. */
XF_INLINE d16 d16_add_turned(d16 sum, w16 w, q8 q, int step)
{
  (void)step;
  return d16_add(8, sum, w, q);
}

#endif
