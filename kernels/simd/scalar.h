/* Sixteen virtual lanes in plain C: the definition of every operation. */
#ifndef XF_SIMD_SCALAR_H
#define XF_SIMD_SCALAR_H

#include "kernels/simd/common.h"

typedef struct v16 {
  float r[XF_LANES];
} v16;

XF_INLINE v16 v16_set1(float x)
{
  v16 v;
  for (int i = 0; i < XF_LANES; i++) v.r[i] = x;
  return v;
}

XF_INLINE v16 v16_load(const float *p)
{
  v16 v;
  memcpy(v.r, p, sizeof v.r);
  return v;
}

XF_INLINE void v16_store(float *p, v16 v)
{
  memcpy(p, v.r, sizeof v.r);
}

/* The first n < 16 elements; the other lanes are +0. */
XF_INLINE v16 v16_load_n(const float *p, size_t n)
{
  v16 v = v16_set1(0);
  memcpy(v.r, p, n * sizeof *p);
  return v;
}

XF_INLINE void v16_store_n(float *p, size_t n, v16 v)
{
  memcpy(p, v.r, n * sizeof *p);
}

XF_INLINE float xf_widen_bf16(uint16_t h)
{
  return xf_float_of_bits((uint32_t)h << 16);
}

/* Exact: a subnormal half is a normal float. */
XF_INLINE float xf_widen_f16(uint16_t h)
{
  uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = h >> 10 & 31, fraction = h & 0x3FF;
  if (exponent == 31) return xf_float_of_bits(sign | 0x7F800000 | fraction << 13);
  if (exponent > 0) return xf_float_of_bits(sign | (exponent + 112) << 23 | fraction << 13);
  float magnitude = (float)fraction * 0x1p-24f;
  return sign ? -magnitude : magnitude;
}

XF_INLINE v16 v16_load_bf16(const uint16_t *p)
{
  v16 v;
  for (int i = 0; i < XF_LANES; i++) v.r[i] = xf_widen_bf16(p[i]);
  return v;
}

XF_INLINE v16 v16_load_f16(const uint16_t *p)
{
  v16 v;
  for (int i = 0; i < XF_LANES; i++) v.r[i] = xf_widen_f16(p[i]);
  return v;
}

XF_INLINE v16 v16_load_i8(const int8_t *p)
{
  v16 v;
  for (int i = 0; i < XF_LANES; i++) v.r[i] = p[i];
  return v;
}

XF_INLINE v16 v16_add(v16 a, v16 b)
{
  for (int i = 0; i < XF_LANES; i++) a.r[i] += b.r[i];
  return a;
}

XF_INLINE v16 v16_sub(v16 a, v16 b)
{
  for (int i = 0; i < XF_LANES; i++) a.r[i] -= b.r[i];
  return a;
}

XF_INLINE v16 v16_mul(v16 a, v16 b)
{
  for (int i = 0; i < XF_LANES; i++) a.r[i] *= b.r[i];
  return a;
}

XF_INLINE v16 v16_div(v16 a, v16 b)
{
  for (int i = 0; i < XF_LANES; i++) a.r[i] /= b.r[i];
  return a;
}

XF_INLINE v16 v16_neg(v16 a)
{
  for (int i = 0; i < XF_LANES; i++) a.r[i] = -a.r[i];
  return a;
}

/* a·b + c, rounded once. */
XF_INLINE v16 v16_fma(v16 a, v16 b, v16 c)
{
  for (int i = 0; i < XF_LANES; i++) c.r[i] = fmaf(a.r[i], b.r[i], c.r[i]);
  return c;
}

XF_INLINE v16 v16_max(v16 a, v16 b)
{
  for (int i = 0; i < XF_LANES; i++) a.r[i] = xf_max(a.r[i], b.r[i]);
  return a;
}

/* p · 2^k for each lane, where n = 1.5·2²³ + 127 + k holds k in its low bits; k = −127 gives 0. */
XF_INLINE v16 v16_scale2(v16 p, v16 n)
{
  for (int i = 0; i < XF_LANES; i++) p.r[i] *= xf_float_of_bits(xf_bits_of_float(n.r[i]) << 23);
  return p;
}

/* Halves 8, 4, 2, 1. */
XF_INLINE float v16_sum(v16 v)
{
  for (int half = XF_LANES / 2; half > 0; half /= 2)
    for (int i = 0; i < half; i++) v.r[i] += v.r[i + half];
  return v.r[0];
}

XF_INLINE v16 v16_exp(v16 v)
{
  for (int i = 0; i < XF_LANES; i++) v.r[i] = XF_SLEEF(expf1_u10purecfma)(v.r[i]);
  return v;
}

XF_INLINE v16 v16_sin(v16 v)
{
  for (int i = 0; i < XF_LANES; i++) v.r[i] = XF_SLEEF(sinf1_u10purecfma)(v.r[i]);
  return v;
}

XF_INLINE v16 v16_cos(v16 v)
{
  for (int i = 0; i < XF_LANES; i++) v.r[i] = XF_SLEEF(cosf1_u10purecfma)(v.r[i]);
  return v;
}

XF_INLINE v16 v16_tanh(v16 v)
{
  for (int i = 0; i < XF_LANES; i++) v.r[i] = XF_SLEEF(tanhf1_u10purecfma)(v.r[i]);
  return v;
}

/* Sixteen unsigned numbers. */
typedef struct v16u {
  uint32_t r[XF_LANES];
} v16u;

XF_INLINE v16u v16u_load(const void *p)
{
  v16u v;
  memcpy(v.r, p, sizeof v.r);
  return v;
}

/* (v >> shift) & mask */
XF_INLINE v16u v16u_bits(v16u v, int shift, uint32_t mask)
{
  for (int i = 0; i < XF_LANES; i++) v.r[i] = v.r[i] >> shift & mask;
  return v;
}

/* low | high << 4 */
XF_INLINE v16u v16u_join(v16u low, v16u high)
{
  for (int i = 0; i < XF_LANES; i++) low.r[i] |= high.r[i] << 4;
  return low;
}

/* Numbers below 2²⁴. */
XF_INLINE v16 v16_of_u(v16u v)
{
  v16 f;
  for (int i = 0; i < XF_LANES; i++) f.r[i] = (float)v.r[i];
  return f;
}

/* −inf where mask is −inf, v elsewhere. */
XF_INLINE v16 v16_keep_masked(v16 v, v16 mask)
{
  for (int i = 0; i < XF_LANES; i++)
    if (mask.r[i] == -INFINITY) v.r[i] = -INFINITY;
  return v;
}

#endif
