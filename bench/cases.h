/* Operations on data of TinyLlama-1.1B's shapes, ready to run again and again. */
#ifndef XF_BENCH_CASES_H
#define XF_BENCH_CASES_H

#include <stdbool.h>

#include "dispatch/linear.h"

enum {
  HIDDEN = 2048,
  INTERMEDIATE = 5632,
  Q_HEADS = 32,
  KV_HEADS = 4,
  HEAD_DIM = 64,
  PAGE_LEN = XF_BLOCK
};

/* The public part of each case below. */
struct bench_case {
  const xf_context *context;
  double flops, bytes; /* of one run */
  bool cold;           /* each run works on data that no cache holds */
  bool dots;           /* its products are those of dot_rate, not FMAs */
  void (*run)(void *self);
  void (*free)(void *self);
};

/* All return NULL when out of memory. */

/* y = x · wᵀ with w [n, k], 8- and 4-bit weights by x as 8-bit numbers, in fast mode bf16 ones by x
 * as bf16. Every run takes other
 * weights. */
struct bench_case *linear_case(const xf_context *context, xf_type type, size_t rows, size_t n,
                               size_t k);

/* Rows through an elementwise operation, from and to cache. */
enum elementwise { RMS_NORM, ROPE, SILU_MUL };
const char *elementwise_name(enum elementwise what);
struct bench_case *elementwise_case(const xf_context *context, enum elementwise what, size_t rows);

#endif
