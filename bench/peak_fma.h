/* Template: the FMA loop of one ISA, in registers only. The including file names `vec` and defines
 * vec_set1 and vec_fma; PEAK_CHAINS, if two units of latency 6 and 16 registers are not what
 * counts. */
#ifndef XF_BENCH_PEAK_FMA_H
#define XF_BENCH_PEAK_FMA_H

#include "bench/peaks.h"

#ifndef PEAK_CHAINS
#define PEAK_CHAINS 12
#endif

/* Independent chains. */
enum { CHAINS = PEAK_CHAINS, FLOPS_A_STEP = CHAINS * 2 * sizeof(vec) / sizeof(float) };

static float run_chains(size_t steps)
{
  vec sum[CHAINS];
  const vec a = vec_set1(0.5f), b = vec_set1(1.0f);
  for (int i = 0; i < CHAINS; i++) sum[i] = vec_set1((float)i);
  for (size_t step = 0; step < steps; step++) {
#pragma GCC unroll 32
    for (int i = 0; i < CHAINS; i++) sum[i] = vec_fma(sum[i], a, b);
  }
  float total = 0;
  for (int i = 0; i < CHAINS; i++) {
    float lanes[sizeof(vec) / sizeof(float)];
    __builtin_memcpy(lanes, &sum[i], sizeof lanes);
    total += lanes[0];
  }
  return total;
}

#endif
