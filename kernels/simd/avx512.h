/* Sixteen virtual lanes: one zmm. Meanings as in scalar.h. */
#ifndef XF_SIMD_AVX512_H
#define XF_SIMD_AVX512_H

#include <immintrin.h>

#include "kernels/simd/common.h"

typedef __m512 v16;

XF_INLINE __mmask16 v16_first(size_t n)
{
  return (__mmask16)((1u << n) - 1);
}

XF_INLINE v16 v16_set1(float x)
{
  return _mm512_set1_ps(x);
}

XF_INLINE v16 v16_load(const float *p)
{
  return _mm512_loadu_ps(p);
}

XF_INLINE void v16_store(float *p, v16 v)
{
  _mm512_storeu_ps(p, v);
}

XF_INLINE v16 v16_load_n(const float *p, size_t n)
{
  return _mm512_maskz_loadu_ps(v16_first(n), p);
}

XF_INLINE void v16_store_n(float *p, size_t n, v16 v)
{
  _mm512_mask_storeu_ps(p, v16_first(n), v);
}

XF_INLINE v16 v16_load_bf16(const uint16_t *p)
{
  __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p));
  return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}

XF_INLINE v16 v16_load_f16(const uint16_t *p)
{
  return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
}

XF_INLINE v16 v16_load_i8(const int8_t *p)
{
  return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)p)));
}

XF_INLINE v16 v16_add(v16 a, v16 b)
{
  return _mm512_add_ps(a, b);
}

XF_INLINE v16 v16_sub(v16 a, v16 b)
{
  return _mm512_sub_ps(a, b);
}

XF_INLINE v16 v16_mul(v16 a, v16 b)
{
  return _mm512_mul_ps(a, b);
}

XF_INLINE v16 v16_div(v16 a, v16 b)
{
  return _mm512_div_ps(a, b);
}

XF_INLINE v16 v16_neg(v16 a)
{
  return _mm512_xor_ps(a, _mm512_set1_ps(-0.0f));
}

XF_INLINE v16 v16_fma(v16 a, v16 b, v16 c)
{
  return _mm512_fmadd_ps(a, b, c);
}

XF_INLINE v16 v16_max(v16 a, v16 b)
{
  return _mm512_max_ps(a, b);
}

XF_INLINE v16 v16_scale2(v16 p, v16 n)
{
  __m512i power = _mm512_slli_epi32(_mm512_castps_si512(n), 23);
  return _mm512_mul_ps(p, _mm512_castsi512_ps(power));
}

XF_INLINE float v16_sum(v16 v)
{
  __m256 a = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
  __m128 b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
  b = _mm_add_ps(b, _mm_movehl_ps(b, b));
  return _mm_cvtss_f32(_mm_add_ss(b, _mm_movehdup_ps(b)));
}

XF_INLINE v16 v16_exp(v16 v)
{
  return XF_SLEEF(expf16_u10avx512f)(v);
}

XF_INLINE v16 v16_sin(v16 v)
{
  return XF_SLEEF(sinf16_u10avx512f)(v);
}

XF_INLINE v16 v16_cos(v16 v)
{
  return XF_SLEEF(cosf16_u10avx512f)(v);
}

XF_INLINE v16 v16_tanh(v16 v)
{
  return XF_SLEEF(tanhf16_u10avx512f)(v);
}

typedef __m512i v16u;

XF_INLINE v16u v16u_load(const void *p)
{
  return _mm512_loadu_si512(p);
}

XF_INLINE v16u v16u_bits(v16u v, int shift, uint32_t mask)
{
  v = _mm512_srl_epi32(v, _mm_cvtsi32_si128(shift));
  return _mm512_and_si512(v, _mm512_set1_epi32((int)mask));
}

XF_INLINE v16u v16u_join(v16u low, v16u high)
{
  return _mm512_or_si512(low, _mm512_slli_epi32(high, 4));
}

XF_INLINE v16 v16_of_u(v16u v)
{
  return _mm512_cvtepi32_ps(v);
}

XF_INLINE v16 v16_keep_masked(v16 v, v16 mask)
{
  const __m512 masked = _mm512_set1_ps(-INFINITY);
  return _mm512_mask_mov_ps(v, _mm512_cmp_ps_mask(mask, masked, _CMP_EQ_OQ), masked);
}

#endif
