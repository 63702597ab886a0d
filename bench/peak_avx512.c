#include <immintrin.h>

typedef __m512 vec;
#define vec_set1 _mm512_set1_ps
#define vec_fma  _mm512_fmadd_ps
#include "bench/peak_fma.h"

const struct peak_loop fma_loop_avx512 = {FLOPS_A_STEP, run_chains};
