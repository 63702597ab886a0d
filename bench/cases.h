/* Operations on data of TinyLlama-1.1B's shapes, ready to run again and again. */
#ifndef XF_BENCH_CASES_H
#define XF_BENCH_CASES_H

#include <stdbool.h>

#include "dispatch/attention.h"
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
  double flops, bytes; /* of one run; 0 where that says nothing */
  bool cold;           /* each run works on data that no cache holds */
  void (*run)(void *self);
  void (*free)(void *self);
};

/* All return NULL when out of memory. */

/* y = x · wᵀ with w [n, k]. Every run takes other weights. */
struct bench_case *linear_case(const xf_context *context, xf_type type, size_t rows, size_t n,
                               size_t k);

/* Causal attention of q_len queries behind kv_len − q_len positions. cold: every run takes other K
 * and V. */
struct bench_case *attention_case(const xf_context *context, size_t q_len, size_t kv_len,
                                  bool cold);

/* Has such a case, not cold, work on the caller's data from now on: q and out [q_len][Q_HEADS]
 * [HEAD_DIM]; k and v [kv_len][KV_HEADS][HEAD_DIM], which it copies into its pages. */
void attention_case_bind(struct bench_case *attention, const float *q, float *out);
void attention_case_write(struct bench_case *attention, const float *k, const float *v);

/* Rows through an elementwise operation. */
enum elementwise { RMS_NORM, ROPE, SILU_MUL };
struct bench_case *elementwise_case(const xf_context *context, enum elementwise what, size_t rows);

#endif
