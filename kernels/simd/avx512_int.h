/* Sixteen int32 lanes and the 8-bit products of avx512.h's lanes, with VNNI where the file is
 * compiled for it. Meanings as in scalar_int.h. */
#ifndef XF_SIMD_AVX512_INT_H
#define XF_SIMD_AVX512_INT_H

#include "kernels/simd/avx512.h"

/* Lanes of 32 bits, for gcc: a loop's sum that is both a __m512i, whose lanes have 64, and what an
 * instruction for 32 gave, has two registers and a copy in each round. */
typedef int32_t v16i __attribute__((vector_size(64)));

#include "kernels/simd/q_sums.h"
#include "kernels/simd/row_sums.h"

/* Two steps of a panel. Without VNNI, 8-bit weights are u − 128. */
typedef struct w16 {
  __m512i step[2];
} w16;

typedef struct q8 {
  __m512i step[2];
} q8;

/* 4×4, or 6×2 where floats or second integers are kept too. */
enum { QUANT_ROWS = 6, QUANT_PANELS_MAX = 4, QUANT_KEEPS_FLOATS = 1 };
enum { QUANT_SUMS = 16 };

XF_INLINE int quant_panels(xf_type type, int rows)
{
  return type == XF_I8_ROW || rows < 4 ? 4 : 2;
}

XF_INLINE bool w16_keeps_zero(int bits)
{
#ifdef __AVX512VNNI__
  (void)bits;
  return true;
#else
  return bits < 8;
#endif
}

XF_INLINE v16i v16i_set1(int a)
{
  return (v16i)_mm512_set1_epi32(a);
}

XF_INLINE v16i v16i_zero(void)
{
  return v16i_set1(0);
}

XF_INLINE v16i v16i_add(v16i a, v16i b)
{
  return (v16i)_mm512_add_epi32((__m512i)a, (__m512i)b);
}

XF_INLINE v16i v16i_mul(v16i a, v16i b)
{
  return (v16i)_mm512_mullo_epi32((__m512i)a, (__m512i)b);
}

XF_INLINE v16i v16i_load_u8(const uint8_t *p)
{
  return (v16i)_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)p));
}

XF_INLINE v16i v16i_load_i8(const int8_t *p)
{
  return (v16i)_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)p));
}

XF_INLINE v16 v16_from_int(v16i a)
{
  return _mm512_cvtepi32_ps((__m512i)a);
}

XF_INLINE v16i v16_round(v16 a)
{
  return (v16i)_mm512_cvtps_epi32(a);
}

XF_INLINE void v16i_store_i8(int8_t *p, v16i a)
{
  _mm_storeu_si128((__m128i *)p, _mm512_cvtepi32_epi8((__m512i)a));
}

XF_INLINE v16i v16_magnitude(v16 a)
{
  return (v16i)_mm512_and_si512(_mm512_castps_si512(a), _mm512_set1_epi32(INT32_MAX));
}

XF_INLINE v16i v16i_max(v16i a, v16i b)
{
  return (v16i)_mm512_max_epi32((__m512i)a, (__m512i)b);
}

XF_INLINE int32_t v16i_largest(v16i a)
{
  return _mm512_reduce_max_epi32((__m512i)a);
}

XF_INLINE v16i v16i_pairs(v16i a)
{
  return (v16i)_mm512_or_si512((__m512i)a, _mm512_slli_epi32((__m512i)a, 16));
}

XF_INLINE __m512i v16i_set4(const void *p)
{
  int32_t four;
  memcpy(&four, p, sizeof four);
  return _mm512_set1_epi32(four);
}

XF_INLINE v16i v16i_add_sums(v16i sum, v16i pairs, const int16_t *sums)
{
#ifdef __AVX512VNNI__
  return (v16i)_mm512_dpwssd_epi32((__m512i)sum, (__m512i)pairs, v16i_set4(sums));
#else
  return v16i_add(sum, (v16i)_mm512_madd_epi16((__m512i)pairs, v16i_set4(sums)));
#endif
}

XF_INLINE v16i v16i_times_sums(int even, int odd, const int16_t *sums)
{
  __m512i pairs = _mm512_set1_epi32((int)((uint32_t)odd << 16 | (uint16_t)even));
  return (v16i)_mm512_madd_epi16(pairs, v16i_set4(sums));
}

/* Bit s of each byte, moved to bit 4; other bits hold anything. */
XF_INLINE __m512i w16_bit_to_4(__m512i plane, int s)
{
  switch (s) {
  case 0: return _mm512_slli_epi16(plane, 4);
  case 1: return _mm512_slli_epi16(plane, 3);
  case 2: return _mm512_slli_epi16(plane, 2);
  case 3: return _mm512_slli_epi16(plane, 1);
  case 4: return plane;
  case 5: return _mm512_srli_epi16(plane, 1);
  case 6: return _mm512_srli_epi16(plane, 2);
  default: return _mm512_srli_epi16(plane, 3);
  }
}

/* The low nibbles of `low` below `high`'s bits 4 up to bits − 1. */
XF_INLINE __m512i w16_join(int bits, __m512i low, __m512i high)
{
  const __m512i nibble = _mm512_set1_epi8(0x0F), all = _mm512_set1_epi8((char)((1 << bits) - 1));
  if (bits == 4) return _mm512_and_si512(low, nibble);
  return _mm512_and_si512(_mm512_ternarylogic_epi32(nibble, low, high, 0xCA), all);
}

XF_INLINE w16 w16_wide(const uint8_t *p)
{
  w16 w;
  for (int i = 0; i < 2; i++) {
    w.step[i] = _mm512_loadu_si512(p + 64 * i);
#ifndef __AVX512VNNI__
    w.step[i] = _mm512_xor_si512(w.step[i], _mm512_set1_epi8((char)0x80));
#endif
  }
  return w;
}

XF_INLINE w16 w16_load(int bits, int zero, const uint8_t *chunk, int pair)
{
  (void)zero;
  if (bits == 8) return w16_wide(chunk + 128 * pair);
  w16 w;
  __m512i low = _mm512_loadu_si512(chunk + 64 * pair), high = _mm512_srli_epi16(low, 4);
  __m512i above[2] = {low, low};
  if (bits > 4) {
    int width = bits - 4, plane = 2 * pair * width / 8, first = 2 * pair * width % 8;
    __m512i bytes = _mm512_loadu_si512(chunk + 256 + 64 * plane);
    above[0] = w16_bit_to_4(bytes, first);
    above[1] = w16_bit_to_4(bytes, first + width);
  }
  w.step[0] = w16_join(bits, low, above[0]);
  w.step[1] = w16_join(bits, high, above[1]);
  return w;
}

XF_INLINE q8 q8_load(const int8_t *q, size_t ld)
{
  (void)ld;
  return (q8){{v16i_set4(q), v16i_set4(q + 4)}};
}

/* No product saturates: of 8-bit weights two reach 2 · 128 · 127 = 32,512 at most, of 6-bit ones
 * four reach 4 · 63 · 127 = 32,004. */
XF_INLINE d16 d16_add(int bits, d16 sum, w16 w, q8 q)
{
#ifdef __AVX512VNNI__
  (void)bits;
  sum = (v16i)_mm512_dpbusd_epi32((__m512i)sum, w.step[0], q.step[0]);
  return (v16i)_mm512_dpbusd_epi32((__m512i)sum, w.step[1], q.step[1]);
#else
  const __m512i ones = _mm512_set1_epi16(1);
  if (bits == 8) {
    for (int i = 0; i < 2; i++) {
      __mmask64 negative = _mm512_movepi8_mask(w.step[i]);
      __m512i x = _mm512_mask_sub_epi8(q.step[i], negative, _mm512_setzero_si512(), q.step[i]);
      __m512i two = _mm512_maddubs_epi16(_mm512_abs_epi8(w.step[i]), x);
      sum = v16i_add(sum, (v16i)_mm512_madd_epi16(two, ones));
    }
    return sum;
  }
  __m512i four = _mm512_add_epi16(_mm512_maddubs_epi16(w.step[0], q.step[0]),
                                  _mm512_maddubs_epi16(w.step[1], q.step[1]));
  return v16i_add(sum, (v16i)_mm512_madd_epi16(four, ones));
#endif
}

#ifdef __AVX512VNNI__
enum { QUANT_TURNS = 1 };

XF_INLINE w16 w16_turn(int zero, w16 w)
{
  const __m512i less = _mm512_set1_epi8((char)zero);
  return (w16){{_mm512_sub_epi8(w.step[0], less), _mm512_sub_epi8(w.step[1], less)}};
}

XF_INLINE q8 q8_turn(q8 q)
{
  const __m512i more = _mm512_set1_epi8((char)128);
  return (q8){{_mm512_xor_si512(q.step[0], more), _mm512_xor_si512(q.step[1], more)}};
}

XF_INLINE d16 d16_add_turned(d16 sum, w16 w, q8 q, int step)
{
  return (v16i)_mm512_dpbusd_epi32((__m512i)sum, q.step[step], w.step[step]);
}
#else
#include "kernels/simd/unturned.h"
#endif

#endif
