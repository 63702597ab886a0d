/* Samples of one operation, each beside the peaks of its own moment, and their summary. */
#ifndef XF_BENCH_MEASURE_H
#define XF_BENCH_MEASURE_H

#include <stdbool.h>

#include "bench/peaks.h"

struct sample {
  double wall;    /* seconds */
  double seconds; /* without waiting for a CPU, where one thread ran */
  double nops;    /* the slower rate of before and after */
  double waited;  /* share of the time that threads waited for a CPU and that is not taken off */
  double fma, dot, read;
};

/* A sample is clean where nothing else shared the CPUs: nops at 90 % of the best rate at least, and
 * at most 2 % of the time spent waiting for a CPU. */
bool sample_is_clean(const struct sample *sample);

/* Medians of the clean samples; of all of them where none is clean. */
struct summary {
  double seconds, fma, dot, read;
  size_t clean, samples;
};

/* Runs work once. with_read: measures reading too, and drives everything out of the caches. */
struct sample measure(const xf_context *context, bool with_read, void (*work)(void *arg),
                      void *arg);
/* Reorders the samples. */
struct summary summarise(struct sample *samples, size_t n);

#endif
