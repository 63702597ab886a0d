/* Template: the loop of 8-bit products of one ISA or variant, in registers only. The including file
 * names `vec`, an integer vector, and defines vec_zero(), vec_dot(sum, a, b), which adds the
 * products of their bytes, and VEC_REGISTER, the constraint of its registers. */
#ifndef XF_BENCH_PEAK_DOT_H
#define XF_BENCH_PEAK_DOT_H

#include "bench/peaks.h"

/* Products and additions. */
enum { CHAINS = 12, OPS_A_STEP = CHAINS * 2 * sizeof(vec) };

static float run_chains(size_t steps)
{
  vec sum[CHAINS], a = vec_zero(), b = vec_zero();
#pragma GCC unroll 12
  for (int i = 0; i < CHAINS; i++) sum[i] = vec_zero();
  for (size_t step = 0; step < steps; step++) {
#pragma GCC unroll 12
    for (int i = 0; i < CHAINS; i++) {
      __asm__("" : "+" VEC_REGISTER(a), "+" VEC_REGISTER(b)); /* may be other numbers now */
      sum[i] = vec_dot(sum[i], a, b);
    }
  }
  int32_t total = 0;
#pragma GCC unroll 12
  for (int i = 0; i < CHAINS; i++) {
    int32_t lanes[sizeof(vec) / sizeof(int32_t)];
    __builtin_memcpy(lanes, &sum[i], sizeof lanes);
    total += lanes[0];
  }
  return (float)total;
}

#endif
