#include <arm_neon.h>

typedef int32x4_t vec;
#define VEC_REGISTER       "w"
#define vec_zero()         vdupq_n_s32(0)
#define vec_dot(sum, a, b) vdotq_s32(sum, vreinterpretq_s8_s32(a), vreinterpretq_s8_s32(b))
#include "bench/peak_dot.h"

const struct peak_loop dot_loop_neondot = {OPS_A_STEP, run_chains};
