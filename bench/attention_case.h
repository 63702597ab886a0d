/* Attention as a benchmark's case. */
#ifndef XF_BENCH_ATTENTION_CASE_H
#define XF_BENCH_ATTENTION_CASE_H

#include "bench/cases.h"

/* Q_HEADS query heads on KV_HEADS heads of K and V; causal; the queries are the last positions. */
struct attention_shape {
  size_t q_len, kv_len, head_dim;
  xf_type type;  /* of K and V; i8 with their scales, and not packed */
  bool packed;   /* in pages of xf_kv_pack, else tensors [kv_len, KV_HEADS, head_dim] */
  bool standard; /* the textbook's, with all scores in memory; packed only */
  bool cold;     /* every run takes other K and V */
};

/* NULL: out of memory, or a shape that attention refuses. */
struct bench_case *attention_case(const xf_context *context, const struct attention_shape *shape);

/* Has such a case, neither cold nor standard, work on the caller's data from now on: q and out
 * [q_len][Q_HEADS][head_dim]; k and v [kv_len][KV_HEADS][head_dim] of its type but i8, which it
 * copies into its pages where it is packed and reads in place where not. */
void attention_case_bind(struct bench_case *attention, const float *q, float *out);
xf_status attention_case_write(struct bench_case *attention, const void *k, const void *v);

#endif
