#include "dispatch/narrow.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

static const uint32_t infinity = 0x7F800000;

static uint32_t bits_of(float x)
{
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}

/* magnitude / 2^shift, rounded; shift is 1 … 25. */
static uint32_t shift_rounded(uint32_t magnitude, unsigned shift)
{
  return (magnitude + ((uint32_t)1 << (shift - 1)) - 1 + (magnitude >> shift & 1)) >> shift;
}

/* Below 2^-14: in steps of 2^-24. */
static uint32_t subnormal_f16(uint32_t magnitude)
{
  uint32_t exponent = magnitude >> 23, fraction = (magnitude & 0x7FFFFF) | 0x800000;
  return exponent < 101 ? 0 : shift_rounded(fraction, 126 - exponent);
}

uint16_t xf_round_f16(float x, float *rounded)
{
  uint32_t bits = bits_of(x), sign = bits >> 31, half, value;
  bits &= 0x7FFFFFFF;
  if (bits > infinity) {
    half = 0x7E00, value = infinity | 0x400000;
  } else if (bits >= 0x477FF000) { /* 65520 */
    half = 0x7C00, value = infinity;
  } else if (bits >= 0x38800000) { /* 2^-14 */
    half = shift_rounded(bits, 13) - (112 << 10);
    value = (half + (112 << 10)) << 13;
  } else {
    half = subnormal_f16(bits);
    value = bits_of((float)half * 0x1p-24f);
  }
  value |= sign << 31;
  memcpy(rounded, &value, sizeof value);
  return (uint16_t)(sign << 15 | half);
}

uint16_t xf_round_bf16(float x)
{
  uint32_t bits = bits_of(x);
  bool is_nan = (bits & 0x7FFFFFFF) > infinity;
  return (uint16_t)(is_nan ? bits >> 16 | 0x40 : (bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

void xf_narrow(xf_type type, size_t n, const float *x, size_t step, void *y)
{
  uint16_t *half = y;
  float *whole = y, rounded;
  for (size_t i = 0; i < n; i++) {
    if (type == XF_F32)
      whole[i * step] = x[i];
    else
      half[i * step] = type == XF_F16 ? xf_round_f16(x[i], &rounded) : xf_round_bf16(x[i]);
  }
}
