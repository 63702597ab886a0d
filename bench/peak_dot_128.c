/* Of the scalar kernels the compiler may make vectors of the baseline's width: their peak, and that
 * of NEON without SDOT. */
#if defined(__x86_64__)
#include <immintrin.h>

typedef __m128i vec;
#define VEC_REGISTER "x"
#define vec_zero     _mm_setzero_si128

static inline vec vec_dot(vec sum, vec a, vec b)
{
  __m128i low = _mm_madd_epi16(_mm_srai_epi16(a, 8), _mm_srai_epi16(b, 8));
  __m128i high = _mm_madd_epi16(_mm_slli_epi16(a, 8), _mm_slli_epi16(b, 8));
  return _mm_add_epi32(sum, _mm_add_epi32(low, high));
}
#else
#include <arm_neon.h>

typedef int32x4_t vec;
#define VEC_REGISTER "w"
#define vec_zero()   vdupq_n_s32(0)

static inline vec vec_dot(vec sum, vec a, vec b)
{
  int8x16_t x = vreinterpretq_s8_s32(a), y = vreinterpretq_s8_s32(b);
  int16x8_t low = vmull_s8(vget_low_s8(x), vget_low_s8(y)), high = vmull_high_s8(x, y);
  return vpadalq_s16(sum, vpaddq_s16(low, high));
}
#endif

#include "bench/peak_dot.h"

const struct peak_loop dot_loop_128 = {OPS_A_STEP, run_chains};
