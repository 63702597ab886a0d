/* The compiler may make vectors of the baseline's width out of the scalar kernels, so theirs is the
 * peak of that width. */
#if defined(__x86_64__)
#include <immintrin.h>

typedef __m128 vec;
#define vec_set1 _mm_set1_ps
#define vec_fma  _mm_fmadd_ps
#else
#include <arm_neon.h>

typedef float32x4_t vec;
#define vec_set1         vdupq_n_f32
#define vec_fma(a, b, c) vfmaq_f32(c, a, b)
#endif
#include "bench/peak_fma.h"

const struct peak_loop fma_loop_128 = {FLOPS_A_STEP, run_chains};
