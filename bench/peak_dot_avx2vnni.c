#include <immintrin.h>

typedef __m256i vec;
#define VEC_REGISTER "x"
#define vec_zero     _mm256_setzero_si256
#define vec_dot      _mm256_dpbusd_avx_epi32
#include "bench/peak_dot.h"

const struct peak_loop dot_loop_avx2vnni = {OPS_A_STEP, run_chains};
