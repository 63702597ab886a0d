#include <immintrin.h>

typedef __m256 vec;
#define vec_set1 _mm256_set1_ps
#define vec_fma  _mm256_fmadd_ps
#include "bench/peak_fma.h"

const struct peak_loop fma_loop_avx2 = {FLOPS_A_STEP, run_chains};
