/* Sixteen int32 lanes in two ymm, and 8-bit products, by AVX-VNNI where the file is compiled for
 * it. Meanings as in scalar_int.h. */
#ifndef XF_SIMD_AVX2_INT_H
#define XF_SIMD_AVX2_INT_H

#include "kernels/simd/avx2.h"

/* Lanes of 32 bits, for gcc: avx512_int.h. */
typedef int32_t v8i __attribute__((vector_size(32)));

typedef struct v16i {
  v8i lo, hi;
} v16i;

#include "kernels/simd/q_sums.h"
#include "kernels/simd/row_sums.h"

/* Two steps, each of two halves of a panel. Without VNNI, 8-bit weights are u − 128. */
typedef struct w16 {
  __m256i lo[2], hi[2];
} w16;

typedef struct q8 {
  __m256i step[2];
} q8;

enum { QUANT_ROWS = 4, QUANT_PANELS_MAX = 4, QUANT_SUMS = 4, QUANT_KEEPS_FLOATS = 0 };

XF_INLINE int quant_panels(xf_type type, int rows)
{
  (void)type;
  return rows >= 4 ? 1 : rows >= 2 ? 2 : 4;
}

XF_INLINE bool w16_keeps_zero(int bits)
{
#ifdef __AVXVNNI__
  (void)bits;
  return true;
#else
  return bits < 8;
#endif
}

XF_INLINE v16i v16i_set1(int a)
{
  return (v16i){(v8i)_mm256_set1_epi32(a), (v8i)_mm256_set1_epi32(a)};
}

XF_INLINE v16i v16i_zero(void)
{
  return v16i_set1(0);
}

XF_INLINE v8i v8i_add(v8i a, v8i b)
{
  return (v8i)_mm256_add_epi32((__m256i)a, (__m256i)b);
}

XF_INLINE v16i v16i_add(v16i a, v16i b)
{
  return (v16i){v8i_add(a.lo, b.lo), v8i_add(a.hi, b.hi)};
}

XF_INLINE v16i v16i_mul(v16i a, v16i b)
{
  return (v16i){(v8i)_mm256_mullo_epi32((__m256i)a.lo, (__m256i)b.lo),
                (v8i)_mm256_mullo_epi32((__m256i)a.hi, (__m256i)b.hi)};
}

XF_INLINE v16i v16i_load_u8(const uint8_t *p)
{
  return (v16i){(v8i)_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)p)),
                (v8i)_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(p + 8)))};
}

XF_INLINE v16i v16i_load_i8(const int8_t *p)
{
  return (v16i){(v8i)_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)p)),
                (v8i)_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(p + 8)))};
}

XF_INLINE v16 v16_from_int(v16i a)
{
  return (v16){_mm256_cvtepi32_ps((__m256i)a.lo), _mm256_cvtepi32_ps((__m256i)a.hi)};
}

XF_INLINE v16i v16_round(v16 a)
{
  return (v16i){(v8i)_mm256_cvtps_epi32(a.lo), (v8i)_mm256_cvtps_epi32(a.hi)};
}

XF_INLINE void v16i_store_i8(int8_t *p, v16i a)
{
  /* Packing goes by halves of 128 bits: 0–3, 8–11, 4–7, 12–15. */
  __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32((__m256i)a.lo, (__m256i)a.hi), 0xD8);
  __m128i bytes =
      _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
  _mm_storeu_si128((__m128i *)p, bytes);
}

XF_INLINE v8i v8i_magnitude(__m256 a)
{
  return (v8i)_mm256_and_si256(_mm256_castps_si256(a), _mm256_set1_epi32(INT32_MAX));
}

XF_INLINE v16i v16_magnitude(v16 a)
{
  return (v16i){v8i_magnitude(a.lo), v8i_magnitude(a.hi)};
}

XF_INLINE v8i v8i_max(v8i a, v8i b)
{
  return (v8i)_mm256_max_epi32((__m256i)a, (__m256i)b);
}

XF_INLINE v16i v16i_max(v16i a, v16i b)
{
  return (v16i){v8i_max(a.lo, b.lo), v8i_max(a.hi, b.hi)};
}

XF_INLINE int32_t v16i_largest(v16i a)
{
  __m256i both = (__m256i)v8i_max(a.lo, a.hi);
  __m128i four = _mm_max_epi32(_mm256_castsi256_si128(both), _mm256_extracti128_si256(both, 1));
  four = _mm_max_epi32(four, _mm_shuffle_epi32(four, 0x4E));
  return _mm_cvtsi128_si32(_mm_max_epi32(four, _mm_shuffle_epi32(four, 0xB1)));
}

XF_INLINE v16i v16i_pairs(v16i a)
{
  return (v16i){a.lo | a.lo << 16, a.hi | a.hi << 16};
}

XF_INLINE __m256i v16i_set4(const void *p)
{
  int32_t four;
  memcpy(&four, p, sizeof four);
  return _mm256_set1_epi32(four);
}

XF_INLINE v16i v16i_add_sums(v16i sum, v16i pairs, const int16_t *sums)
{
  __m256i x = v16i_set4(sums);
  return v16i_add(sum, (v16i){(v8i)_mm256_madd_epi16((__m256i)pairs.lo, x),
                              (v8i)_mm256_madd_epi16((__m256i)pairs.hi, x)});
}

XF_INLINE v16i v16i_times_sums(int even, int odd, const int16_t *sums)
{
  __m256i pairs = _mm256_set1_epi32((int)((uint32_t)odd << 16 | (uint16_t)even));
  v8i lanes = (v8i)_mm256_madd_epi16(pairs, v16i_set4(sums));
  return (v16i){lanes, lanes};
}

/* Bit s of each byte, moved to bit 4; other bits hold anything. */
XF_INLINE __m256i w16_bit_to_4(__m256i plane, int s)
{
  switch (s) {
  case 0: return _mm256_slli_epi16(plane, 4);
  case 1: return _mm256_slli_epi16(plane, 3);
  case 2: return _mm256_slli_epi16(plane, 2);
  case 3: return _mm256_slli_epi16(plane, 1);
  case 4: return plane;
  case 5: return _mm256_srli_epi16(plane, 1);
  case 6: return _mm256_srli_epi16(plane, 2);
  default: return _mm256_srli_epi16(plane, 3);
  }
}

/* The low nibbles of `low` below bits 4 … bits − 1 of `high`. */
XF_INLINE __m256i w16_join(int bits, __m256i low, __m256i high)
{
  low = _mm256_and_si256(low, _mm256_set1_epi8(0x0F));
  if (bits == 4) return low;
  return _mm256_or_si256(low, _mm256_and_si256(high, _mm256_set1_epi8((char)((1 << bits) - 16))));
}

/* The weights of 8 columns, 32 bytes of each step. */
XF_INLINE void w16_half(int bits, const uint8_t *chunk, int pair, __m256i step[2])
{
  if (bits == 8) {
    for (int i = 0; i < 2; i++) {
      step[i] = _mm256_loadu_si256((const __m256i *)(chunk + 128 * pair + 64 * i));
#ifndef __AVXVNNI__
      step[i] = _mm256_xor_si256(step[i], _mm256_set1_epi8((char)0x80));
#endif
    }
    return;
  }
  __m256i low = _mm256_loadu_si256((const __m256i *)(chunk + 64 * pair));
  __m256i above[2] = {low, low};
  if (bits > 4) {
    int width = bits - 4, plane = 2 * pair * width / 8, first = 2 * pair * width % 8;
    __m256i bytes = _mm256_loadu_si256((const __m256i *)(chunk + 256 + 64 * plane));
    above[0] = w16_bit_to_4(bytes, first);
    above[1] = w16_bit_to_4(bytes, first + width);
  }
  step[0] = w16_join(bits, low, above[0]);
  step[1] = w16_join(bits, _mm256_srli_epi16(low, 4), above[1]);
}

XF_INLINE w16 w16_load(int bits, int zero, const uint8_t *chunk, int pair)
{
  w16 w;
  (void)zero;
  w16_half(bits, chunk, pair, w.lo);
  w16_half(bits, chunk + 32, pair, w.hi);
  return w;
}

XF_INLINE q8 q8_load(const int8_t *q, size_t ld)
{
  (void)ld;
  return (q8){{v16i_set4(q), v16i_set4(q + 4)}};
}

/* No product saturates: of 8-bit weights two reach 2 · 128 · 127 = 32,512 at most, of 6-bit ones
 * four reach 4 · 63 · 127 = 32,004. */
XF_INLINE v8i w16_dot_half(int bits, v8i sum, const __m256i w[2], const __m256i q[2])
{
#ifdef __AVXVNNI__
  (void)bits;
  sum = (v8i)_mm256_dpbusd_avx_epi32((__m256i)sum, w[0], q[0]);
  return (v8i)_mm256_dpbusd_avx_epi32((__m256i)sum, w[1], q[1]);
#else
  const __m256i ones = _mm256_set1_epi16(1);
  if (bits == 8) {
    for (int i = 0; i < 2; i++) {
      __m256i two = _mm256_maddubs_epi16(_mm256_abs_epi8(w[i]), _mm256_sign_epi8(q[i], w[i]));
      sum = v8i_add(sum, (v8i)_mm256_madd_epi16(two, ones));
    }
    return sum;
  }
  __m256i four =
      _mm256_add_epi16(_mm256_maddubs_epi16(w[0], q[0]), _mm256_maddubs_epi16(w[1], q[1]));
  return v8i_add(sum, (v8i)_mm256_madd_epi16(four, ones));
#endif
}

XF_INLINE d16 d16_add(int bits, d16 sum, w16 w, q8 q)
{
  return (v16i){w16_dot_half(bits, sum.lo, w.lo, q.step), w16_dot_half(bits, sum.hi, w.hi, q.step)};
}

#ifdef __AVXVNNI__
enum { QUANT_TURNS = 1 };

XF_INLINE w16 w16_turn(int zero, w16 w)
{
  const __m256i less = _mm256_set1_epi8((char)zero);
  for (int i = 0; i < 2; i++) {
    w.lo[i] = _mm256_sub_epi8(w.lo[i], less);
    w.hi[i] = _mm256_sub_epi8(w.hi[i], less);
  }
  return w;
}

XF_INLINE q8 q8_turn(q8 q)
{
  const __m256i more = _mm256_set1_epi8((char)128);
  return (q8){{_mm256_xor_si256(q.step[0], more), _mm256_xor_si256(q.step[1], more)}};
}

XF_INLINE d16 d16_add_turned(d16 sum, w16 w, q8 q, int i)
{
  sum.lo = (v8i)_mm256_dpbusd_avx_epi32((__m256i)sum.lo, q.step[i], w.lo[i]);
  sum.hi = (v8i)_mm256_dpbusd_avx_epi32((__m256i)sum.hi, q.step[i], w.hi[i]);
  return sum;
}
#else
#include "kernels/simd/unturned.h"
#endif

#endif
