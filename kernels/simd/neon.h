/* Sixteen virtual lanes: four q registers. Meanings as in scalar.h. */
#ifndef XF_SIMD_NEON_H
#define XF_SIMD_NEON_H

#include <arm_neon.h>

#include "kernels/simd/common.h"

typedef struct v16 {
  float32x4_t r[4];
} v16;

XF_INLINE v16 v16_set1(float x)
{
  float32x4_t q = vdupq_n_f32(x);
  return (v16){{q, q, q, q}};
}

XF_INLINE v16 v16_load(const float *p)
{
  return (v16){{vld1q_f32(p), vld1q_f32(p + 4), vld1q_f32(p + 8), vld1q_f32(p + 12)}};
}

XF_INLINE void v16_store(float *p, v16 v)
{
  for (int i = 0; i < 4; i++) vst1q_f32(p + 4 * i, v.r[i]);
}

XF_INLINE v16 v16_load_n(const float *p, size_t n)
{
  float lanes[XF_LANES] = {0};
  memcpy(lanes, p, n * sizeof *p);
  return v16_load(lanes);
}

XF_INLINE void v16_store_n(float *p, size_t n, v16 v)
{
  float lanes[XF_LANES];
  v16_store(lanes, v);
  memcpy(p, lanes, n * sizeof *p);
}

XF_INLINE v16 v16_load_bf16(const uint16_t *p)
{
  v16 v;
  XF_UNROLL
  for (int i = 0; i < 4; i++) {
    uint32x4_t wide = vshll_n_u16(vld1_u16(p + 4 * i), 16);
    v.r[i] = vreinterpretq_f32_u32(wide);
  }
  return v;
}

XF_INLINE v16 v16_load_f16(const uint16_t *p)
{
  v16 v;
  XF_UNROLL
  for (int i = 0; i < 4; i++) v.r[i] = vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p + 4 * i)));
  return v;
}

XF_INLINE v16 v16_load_i8(const int8_t *p)
{
  int8x16_t bytes = vld1q_s8(p);
  v16 v;
  XF_UNROLL
  for (int i = 0; i < 2; i++) {
    int16x8_t wide = i ? vmovl_high_s8(bytes) : vmovl_s8(vget_low_s8(bytes));
    v.r[2 * i] = vcvtq_f32_s32(vmovl_s16(vget_low_s16(wide)));
    v.r[2 * i + 1] = vcvtq_f32_s32(vmovl_s16(vget_high_s16(wide)));
  }
  return v;
}

XF_INLINE v16 v16_add(v16 a, v16 b)
{
  XF_UNROLL
  for (int i = 0; i < 4; i++) a.r[i] = vaddq_f32(a.r[i], b.r[i]);
  return a;
}

XF_INLINE v16 v16_sub(v16 a, v16 b)
{
  XF_UNROLL
  for (int i = 0; i < 4; i++) a.r[i] = vsubq_f32(a.r[i], b.r[i]);
  return a;
}

XF_INLINE v16 v16_mul(v16 a, v16 b)
{
  XF_UNROLL
  for (int i = 0; i < 4; i++) a.r[i] = vmulq_f32(a.r[i], b.r[i]);
  return a;
}

XF_INLINE v16 v16_div(v16 a, v16 b)
{
  XF_UNROLL
  for (int i = 0; i < 4; i++) a.r[i] = vdivq_f32(a.r[i], b.r[i]);
  return a;
}

XF_INLINE v16 v16_neg(v16 a)
{
  XF_UNROLL
  for (int i = 0; i < 4; i++) a.r[i] = vnegq_f32(a.r[i]);
  return a;
}

XF_INLINE v16 v16_fma(v16 a, v16 b, v16 c)
{
  XF_UNROLL
  for (int i = 0; i < 4; i++) c.r[i] = vfmaq_f32(c.r[i], a.r[i], b.r[i]);
  return c;
}

/* FMAX would give NaN where either operand is; numerics 1 gives the second operand. */
XF_INLINE float32x4_t v16_max_quarter(float32x4_t a, float32x4_t b)
{
  return vbslq_f32(vcgtq_f32(a, b), a, b);
}

XF_INLINE v16 v16_max(v16 a, v16 b)
{
  XF_UNROLL
  for (int i = 0; i < 4; i++) a.r[i] = v16_max_quarter(a.r[i], b.r[i]);
  return a;
}

XF_INLINE float32x4_t v16_scale2_quarter(float32x4_t p, float32x4_t n)
{
  uint32x4_t power = vshlq_n_u32(vreinterpretq_u32_f32(n), 23);
  return vmulq_f32(p, vreinterpretq_f32_u32(power));
}

XF_INLINE v16 v16_scale2(v16 p, v16 n)
{
  XF_UNROLL
  for (int i = 0; i < 4; i++) p.r[i] = v16_scale2_quarter(p.r[i], n.r[i]);
  return p;
}

XF_INLINE float v16_sum(v16 v)
{
  float32x4_t a = vaddq_f32(v.r[0], v.r[2]), b = vaddq_f32(v.r[1], v.r[3]);
  a = vaddq_f32(a, b);
  float32x2_t c = vadd_f32(vget_low_f32(a), vget_high_f32(a));
  return vget_lane_f32(c, 0) + vget_lane_f32(c, 1);
}

XF_INLINE v16 v16_exp(v16 v)
{
  for (int i = 0; i < 4; i++) v.r[i] = XF_SLEEF(expf4_u10advsimd)(v.r[i]);
  return v;
}

XF_INLINE v16 v16_sin(v16 v)
{
  for (int i = 0; i < 4; i++) v.r[i] = XF_SLEEF(sinf4_u10advsimd)(v.r[i]);
  return v;
}

XF_INLINE v16 v16_cos(v16 v)
{
  for (int i = 0; i < 4; i++) v.r[i] = XF_SLEEF(cosf4_u10advsimd)(v.r[i]);
  return v;
}

XF_INLINE v16 v16_tanh(v16 v)
{
  for (int i = 0; i < 4; i++) v.r[i] = XF_SLEEF(tanhf4_u10advsimd)(v.r[i]);
  return v;
}

typedef struct v16u {
  uint32x4_t r[4];
} v16u;

XF_INLINE v16u v16u_load(const void *p)
{
  v16u v;
  for (int i = 0; i < 4; i++) v.r[i] = vreinterpretq_u32_u8(vld1q_u8((const uint8_t *)p + 16 * i));
  return v;
}

XF_INLINE v16u v16u_bits(v16u v, int shift, uint32_t mask)
{
  uint32x4_t m = vdupq_n_u32(mask);
  int32x4_t right = vdupq_n_s32(-shift);
  for (int i = 0; i < 4; i++) v.r[i] = vandq_u32(vshlq_u32(v.r[i], right), m);
  return v;
}

XF_INLINE v16u v16u_join(v16u low, v16u high)
{
  for (int i = 0; i < 4; i++) low.r[i] = vorrq_u32(low.r[i], vshlq_n_u32(high.r[i], 4));
  return low;
}

XF_INLINE v16 v16_of_u(v16u v)
{
  v16 f;
  for (int i = 0; i < 4; i++) f.r[i] = vcvtq_f32_u32(v.r[i]);
  return f;
}

XF_INLINE v16 v16_keep_masked(v16 v, v16 mask)
{
  const float32x4_t masked = vdupq_n_f32(-INFINITY);
  for (int i = 0; i < 4; i++) v.r[i] = vbslq_f32(vceqq_f32(mask.r[i], masked), masked, v.r[i]);
  return v;
}

#endif
