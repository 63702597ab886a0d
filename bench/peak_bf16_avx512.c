#include <immintrin.h>

/* Each step of a chain is two products of bf16. */
typedef __m512 vec;
#define vec_set1         _mm512_set1_ps
#define vec_fma(s, a, b) _mm512_dpbf16_ps(s, (__m512bh)(a), (__m512bh)(b))
#define PEAK_CHAINS      20
#include "bench/peak_fma.h"

const struct peak_loop bf16_loop_avx512 = {2 * FLOPS_A_STEP, run_chains};
