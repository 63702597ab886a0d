#include <immintrin.h>

typedef __m512i vec;
#define VEC_REGISTER "v"
#define vec_zero     _mm512_setzero_si512

static inline vec vec_dot(vec sum, vec a, vec b)
{
  return _mm512_add_epi32(sum, _mm512_madd_epi16(_mm512_maddubs_epi16(a, b), _mm512_set1_epi16(1)));
}

#include "bench/peak_dot.h"

const struct peak_loop dot_loop_avx512 = {OPS_A_STEP, run_chains};
