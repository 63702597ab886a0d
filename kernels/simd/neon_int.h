/* Sixteen int32 lanes in four q registers, and how weights are read. The products are in
 * neon_dot.h and neon_i8mm.h. Meanings as in scalar_int.h. */
#ifndef XF_SIMD_NEON_INT_H
#define XF_SIMD_NEON_INT_H

#include "kernels/simd/neon.h"

typedef struct v16i {
  int32x4_t r[4];
} v16i;

/* Four rows are 16 sums. */
enum { QUANT_ROWS = 4, QUANT_PANELS_MAX = 2, QUANT_SUMS = 4, QUANT_KEEPS_FLOATS = 0 };

XF_INLINE int quant_panels(xf_type type, int rows)
{
  (void)type;
  return rows >= 2 ? 1 : 2;
}

XF_INLINE bool w16_keeps_zero(int bits)
{
  (void)bits;
  return false;
}

XF_INLINE v16i v16i_set1(int a)
{
  int32x4_t q = vdupq_n_s32(a);
  return (v16i){{q, q, q, q}};
}

XF_INLINE v16i v16i_zero(void)
{
  return v16i_set1(0);
}

XF_INLINE v16i v16i_add(v16i a, v16i b)
{
  XF_UNROLL
  for (int i = 0; i < 4; i++) a.r[i] = vaddq_s32(a.r[i], b.r[i]);
  return a;
}

XF_INLINE v16i v16i_mul(v16i a, v16i b)
{
  XF_UNROLL
  for (int i = 0; i < 4; i++) a.r[i] = vmulq_s32(a.r[i], b.r[i]);
  return a;
}

XF_INLINE v16i v16i_load_u8(const uint8_t *p)
{
  uint8x16_t bytes = vld1q_u8(p);
  int16x8_t low = vreinterpretq_s16_u16(vmovl_u8(vget_low_u8(bytes)));
  int16x8_t high = vreinterpretq_s16_u16(vmovl_u8(vget_high_u8(bytes)));
  return (v16i){{vmovl_s16(vget_low_s16(low)), vmovl_s16(vget_high_s16(low)),
                 vmovl_s16(vget_low_s16(high)), vmovl_s16(vget_high_s16(high))}};
}

XF_INLINE v16i v16i_load_i8(const int8_t *p)
{
  int8x16_t bytes = vld1q_s8(p);
  int16x8_t low = vmovl_s8(vget_low_s8(bytes)), high = vmovl_s8(vget_high_s8(bytes));
  return (v16i){{vmovl_s16(vget_low_s16(low)), vmovl_s16(vget_high_s16(low)),
                 vmovl_s16(vget_low_s16(high)), vmovl_s16(vget_high_s16(high))}};
}

XF_INLINE v16 v16_from_int(v16i a)
{
  v16 v;
  XF_UNROLL
  for (int i = 0; i < 4; i++) v.r[i] = vcvtq_f32_s32(a.r[i]);
  return v;
}

XF_INLINE v16i v16_round(v16 a)
{
  v16i v;
  XF_UNROLL
  for (int i = 0; i < 4; i++) v.r[i] = vcvtnq_s32_f32(a.r[i]);
  return v;
}

XF_INLINE void v16i_store_i8(int8_t *p, v16i a)
{
  int16x8_t low = vcombine_s16(vmovn_s32(a.r[0]), vmovn_s32(a.r[1]));
  int16x8_t high = vcombine_s16(vmovn_s32(a.r[2]), vmovn_s32(a.r[3]));
  vst1q_s8(p, vcombine_s8(vmovn_s16(low), vmovn_s16(high)));
}

XF_INLINE void q_sums(const int8_t *q, int16_t *sums)
{
  sums[0] = vaddlvq_s8(vld1q_s8(q));
  sums[1] = vaddlvq_s8(vld1q_s8(q + XF_LANES));
}

XF_INLINE v16i v16_magnitude(v16 a)
{
  v16i v;
  XF_UNROLL
  for (int i = 0; i < 4; i++) v.r[i] = vreinterpretq_s32_f32(vabsq_f32(a.r[i]));
  return v;
}

XF_INLINE v16i v16i_max(v16i a, v16i b)
{
  XF_UNROLL
  for (int i = 0; i < 4; i++) a.r[i] = vmaxq_s32(a.r[i], b.r[i]);
  return a;
}

XF_INLINE int32_t v16i_largest(v16i a)
{
  return vmaxvq_s32(vmaxq_s32(vmaxq_s32(a.r[0], a.r[1]), vmaxq_s32(a.r[2], a.r[3])));
}

XF_INLINE v16i v16i_pairs(v16i a)
{
  return a;
}

XF_INLINE v16i v16i_add_sums(v16i sum, v16i pairs, const int16_t *sums)
{
  XF_UNROLL
  for (int i = 0; i < 4; i++) sum.r[i] = vmlaq_n_s32(sum.r[i], pairs.r[i], sums[0] + sums[1]);
  return sum;
}

XF_INLINE v16i v16i_times_sums(int even, int odd, const int16_t *sums)
{
  return v16i_set1(even * sums[0] + odd * sums[1]);
}

/* Bit s of each byte, moved to bit 4; other bits hold anything. */
XF_INLINE uint8x16_t w16_bit_to_4(uint8x16_t plane, int s)
{
  switch (s) {
  case 0: return vshlq_n_u8(plane, 4);
  case 1: return vshlq_n_u8(plane, 3);
  case 2: return vshlq_n_u8(plane, 2);
  case 3: return vshlq_n_u8(plane, 1);
  case 4: return plane;
  case 5: return vshrq_n_u8(plane, 1);
  case 6: return vshrq_n_u8(plane, 2);
  default: return vshrq_n_u8(plane, 3);
  }
}

/* The weights of four columns, 16 bytes of each step: nibbles, and what is above them. */
XF_INLINE void w16_quarter(int bits, int zero, const uint8_t *chunk, int pair, int8x16_t step[2])
{
  uint8x16_t low = vld1q_u8(chunk + 64 * pair);
  uint8x16_t u[2] = {vandq_u8(low, vdupq_n_u8(15)), vshrq_n_u8(low, 4)};
  if (bits > 4) {
    int width = bits - 4, plane = 2 * pair * width / 8, first = 2 * pair * width % 8;
    uint8x16_t bytes = vld1q_u8(chunk + 256 + 64 * plane);
    uint8x16_t mask = vdupq_n_u8((uint8_t)((1 << bits) - 16));
    u[0] = vorrq_u8(u[0], vandq_u8(w16_bit_to_4(bytes, first), mask));
    u[1] = vorrq_u8(u[1], vandq_u8(w16_bit_to_4(bytes, first + width), mask));
  }
  XF_UNROLL
  for (int i = 0; i < 2; i++) {
    step[i] = vreinterpretq_s8_u8(u[i]);
    if (zero) step[i] = vsubq_s8(step[i], vdupq_n_s8((int8_t)zero));
  }
}

/* Of every type. */
XF_INLINE void w16_steps(int bits, int zero, const uint8_t *chunk, int pair, int8x16_t step[2])
{
  if (bits < 8) {
    w16_quarter(bits, zero, chunk, pair, step);
    return;
  }
  XF_UNROLL
  for (int i = 0; i < 2; i++) {
    uint8x16_t u = vld1q_u8(chunk + 128 * pair + 64 * i);
    step[i] = vreinterpretq_s8_u8(veorq_u8(u, vdupq_n_u8(0x80)));
  }
}

#endif
