/* Sixteen virtual lanes: two ymm. Meanings as in scalar.h. */
#ifndef XF_SIMD_AVX2_H
#define XF_SIMD_AVX2_H

#include <immintrin.h>

#include "kernels/simd/common.h"

typedef struct v16 {
  __m256 lo, hi;
} v16;

XF_INLINE v16 v16_set1(float x)
{
  return (v16){_mm256_set1_ps(x), _mm256_set1_ps(x)};
}

XF_INLINE v16 v16_load(const float *p)
{
  return (v16){_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)};
}

XF_INLINE void v16_store(float *p, v16 v)
{
  _mm256_storeu_ps(p, v.lo);
  _mm256_storeu_ps(p + 8, v.hi);
}

/* All ones in lanes first … first+7 that are below n. */
XF_INLINE __m256i v16_lanes_below(int first, size_t n)
{
  __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n - first), lane);
}

XF_INLINE v16 v16_load_n(const float *p, size_t n)
{
  return (v16){_mm256_maskload_ps(p, v16_lanes_below(0, n)),
               _mm256_maskload_ps(p + 8, v16_lanes_below(8, n))};
}

XF_INLINE void v16_store_n(float *p, size_t n, v16 v)
{
  _mm256_maskstore_ps(p, v16_lanes_below(0, n), v.lo);
  _mm256_maskstore_ps(p + 8, v16_lanes_below(8, n), v.hi);
}

XF_INLINE __m256 v16_load8_bf16(const uint16_t *p)
{
  __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p));
  return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
}

XF_INLINE v16 v16_load_bf16(const uint16_t *p)
{
  return (v16){v16_load8_bf16(p), v16_load8_bf16(p + 8)};
}

XF_INLINE v16 v16_load_f16(const uint16_t *p)
{
  return (v16){_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p)),
               _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(p + 8)))};
}

XF_INLINE v16 v16_load_i8(const int8_t *p)
{
  __m128i bytes = _mm_loadu_si128((const __m128i *)p);
  return (v16){_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes)),
               _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128(bytes, 8)))};
}

XF_INLINE v16 v16_add(v16 a, v16 b)
{
  return (v16){_mm256_add_ps(a.lo, b.lo), _mm256_add_ps(a.hi, b.hi)};
}

XF_INLINE v16 v16_sub(v16 a, v16 b)
{
  return (v16){_mm256_sub_ps(a.lo, b.lo), _mm256_sub_ps(a.hi, b.hi)};
}

XF_INLINE v16 v16_mul(v16 a, v16 b)
{
  return (v16){_mm256_mul_ps(a.lo, b.lo), _mm256_mul_ps(a.hi, b.hi)};
}

XF_INLINE v16 v16_div(v16 a, v16 b)
{
  return (v16){_mm256_div_ps(a.lo, b.lo), _mm256_div_ps(a.hi, b.hi)};
}

XF_INLINE v16 v16_neg(v16 a)
{
  __m256 sign = _mm256_set1_ps(-0.0f);
  return (v16){_mm256_xor_ps(a.lo, sign), _mm256_xor_ps(a.hi, sign)};
}

XF_INLINE v16 v16_fma(v16 a, v16 b, v16 c)
{
  return (v16){_mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi)};
}

XF_INLINE v16 v16_max(v16 a, v16 b)
{
  return (v16){_mm256_max_ps(a.lo, b.lo), _mm256_max_ps(a.hi, b.hi)};
}

XF_INLINE __m256 v16_scale2_half(__m256 p, __m256 n)
{
  __m256i power = _mm256_slli_epi32(_mm256_castps_si256(n), 23);
  return _mm256_mul_ps(p, _mm256_castsi256_ps(power));
}

XF_INLINE v16 v16_scale2(v16 p, v16 n)
{
  return (v16){v16_scale2_half(p.lo, n.lo), v16_scale2_half(p.hi, n.hi)};
}

XF_INLINE float v16_sum(v16 v)
{
  __m256 a = _mm256_add_ps(v.lo, v.hi);
  __m128 b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
  b = _mm_add_ps(b, _mm_movehl_ps(b, b));
  return _mm_cvtss_f32(_mm_add_ss(b, _mm_movehdup_ps(b)));
}

XF_INLINE v16 v16_exp(v16 v)
{
  return (v16){XF_SLEEF(expf8_u10avx2)(v.lo), XF_SLEEF(expf8_u10avx2)(v.hi)};
}

XF_INLINE v16 v16_sin(v16 v)
{
  return (v16){XF_SLEEF(sinf8_u10avx2)(v.lo), XF_SLEEF(sinf8_u10avx2)(v.hi)};
}

XF_INLINE v16 v16_cos(v16 v)
{
  return (v16){XF_SLEEF(cosf8_u10avx2)(v.lo), XF_SLEEF(cosf8_u10avx2)(v.hi)};
}

XF_INLINE v16 v16_tanh(v16 v)
{
  return (v16){XF_SLEEF(tanhf8_u10avx2)(v.lo), XF_SLEEF(tanhf8_u10avx2)(v.hi)};
}

typedef struct v16u {
  __m256i lo, hi;
} v16u;

XF_INLINE v16u v16u_load(const void *p)
{
  const __m256i *from = p;
  return (v16u){_mm256_loadu_si256(from), _mm256_loadu_si256(from + 1)};
}

XF_INLINE v16u v16u_bits(v16u v, int shift, uint32_t mask)
{
  __m256i m = _mm256_set1_epi32((int)mask);
  return (v16u){_mm256_and_si256(_mm256_srli_epi32(v.lo, shift), m),
                _mm256_and_si256(_mm256_srli_epi32(v.hi, shift), m)};
}

XF_INLINE v16u v16u_join(v16u low, v16u high)
{
  return (v16u){_mm256_or_si256(low.lo, _mm256_slli_epi32(high.lo, 4)),
                _mm256_or_si256(low.hi, _mm256_slli_epi32(high.hi, 4))};
}

XF_INLINE v16 v16_of_u(v16u v)
{
  return (v16){_mm256_cvtepi32_ps(v.lo), _mm256_cvtepi32_ps(v.hi)};
}

XF_INLINE __m256 v16_keep_masked_half(__m256 v, __m256 mask)
{
  const __m256 masked = _mm256_set1_ps(-INFINITY);
  return _mm256_blendv_ps(v, masked, _mm256_cmp_ps(mask, masked, _CMP_EQ_OQ));
}

XF_INLINE v16 v16_keep_masked(v16 v, v16 mask)
{
  return (v16){v16_keep_masked_half(v.lo, mask.lo), v16_keep_masked_half(v.hi, mask.hi)};
}

#endif
