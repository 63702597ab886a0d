#include <immintrin.h>

typedef __m256i vec;
#define VEC_REGISTER "x"
#define vec_zero     _mm256_setzero_si256

static inline vec vec_dot(vec sum, vec a, vec b)
{
  return _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(a, b), _mm256_set1_epi16(1)));
}

#include "bench/peak_dot.h"

const struct peak_loop dot_loop_avx2 = {OPS_A_STEP, run_chains};
