/* Sums of 8-bit activations with AVX2, as scalar_int.h means them. */
#ifndef XF_SIMD_Q_SUMS_H
#define XF_SIMD_Q_SUMS_H

/* VPSADBW adds eight unsigned bytes. */
XF_INLINE void q_sums(const int8_t *q, int16_t *sums)
{
  const __m256i zero = _mm256_set1_epi8((char)0x80);
  __m256i u = _mm256_xor_si256(_mm256_loadu_si256((const __m256i *)q), zero);
  __m256i eights = _mm256_sad_epu8(u, _mm256_setzero_si256());
  __m256i all = _mm256_add_epi32(eights, _mm256_shuffle_epi32(eights, 0x4E));
  sums[0] = (int16_t)(_mm256_extract_epi32(all, 0) - XF_LANES * 128);
  sums[1] = (int16_t)(_mm256_extract_epi32(all, 4) - XF_LANES * 128);
}

#endif
