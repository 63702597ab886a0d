#include <immintrin.h>

typedef __m512i vec;
#define VEC_REGISTER "v"
#define vec_zero     _mm512_setzero_si512
#define vec_dot      _mm512_dpbusd_epi32
#include "bench/peak_dot.h"

const struct peak_loop dot_loop_avx512vnni = {OPS_A_STEP, run_chains};
