/* What this machine can do at this moment: nops, FMAs and reads a second. Each takes a few dozen
 * microseconds (reads: about a millisecond), so that it can be measured beside every sample. */
#ifndef XF_BENCH_PEAKS_H
#define XF_BENCH_PEAKS_H

#include <stddef.h>

#include "exactflash/context.h"

struct peak_loop {
  size_t ops; /* of a step */
  float (*run)(size_t steps);
};

extern const struct peak_loop fma_loop_avx512, fma_loop_avx2, fma_loop_128, bf16_loop_avx512,
    bf16_loop_avx512amx;
extern const struct peak_loop dot_loop_avx512amx, dot_loop_avx512vnni, dot_loop_avx512,
    dot_loop_avx2vnni, dot_loop_avx2, dot_loop_neoni8mm, dot_loop_neondot, dot_loop_128;

/* Seconds since some moment. */
double clock_seconds(void);

/* Nops a second on the slowest of the context's threads. A neighbour on the same core halves it. */
double nop_rate(const xf_context *context);
/* The best of one thread since the program started. */
double best_nop_rate(void);

/* FLOP/s of all the context's threads in chains of FMAs, of its ISA, between registers. */
double fma_rate(const xf_context *context);
/* The same of products of 8-bit integers, added up in 32 bits, or in fast mode of those of bf16:
 * two operations each. */
double dot_rate(const xf_context *context);

/* Bytes a second that all the context's threads sum up, from the arena. */
double read_rate(const xf_context *context);

/* Reads the whole arena, so that no cache holds anything else. */
void empty_caches(const xf_context *context);

/* Seconds that this process' threads were ready to run while the CPU was given to others; 0 where
 * Linux does not say. */
double seconds_waited(void);

#endif
