/* A call of the attention operator for tests: its arrays, its pages, what came out. */
#ifndef XF_TESTS_ATTENTION_CALL_H
#define XF_TESTS_ATTENTION_CALL_H

#include "dispatch/attention.h"
#include "tests/compare.h"
#include "tests/oracle.h"

enum { MOST_SEQUENCES = 3, MOST_HEADS = 64, MOST_D = 128 };

/* isa and parallel_for may be NULL; fails the test if there is none. */
xf_context *context_new(const char *isa, uint32_t threads, xf_parallel_for parallel_for);

/* A host's loop on threads made for each call: a pool's threads would spin for a while after each,
 * and many pools would fight for few cores. */
void thread_each(void *pool, size_t n, xf_task task, void *arg);

/* Contexts of every ISA with 1, 2 and 5 threads, and one with threads of the library's own; the
 * reference is scalar on one thread. A program's set-up and tear-down. */
enum { MOST_CONTEXTS = 16 };
extern xf_context *contexts[MOST_CONTEXTS], *reference;
extern size_t n_contexts;
int contexts_set_up(void **state);
int contexts_tear_down(void **state);

/* One sequence's inputs in plain memory, and its pages. */
struct call_data {
  float *q, *k, *v; /* [q_len][q_stride], [kv_len][kv_heads][d_k], [kv_len][kv_heads][d_v] */
  void **pages;
  struct guarded *memory;
  size_t n_pages;
};

/* a's heads, layout and strides are set first (zero elsewhere), then come the sequences. */
struct call {
  struct xf_attention a;
  struct xf_attention_sequence sequences[MOST_SEQUENCES];
  struct call_data data[MOST_SEQUENCES];
};

/* kv.type, page_len, d_k and d_v are set: the other fields, with `gap` elements in front of the
 * first head, four times as many of XF_I8. */
void call_set_layout(struct call *c, size_t gap);
/* Adds a sequence with arrays to be filled. */
struct call_data *call_add(struct call *c, size_t first, size_t q_len, size_t kv_len);
/* Writes the last sequence's k and v to its pages, and rounds k and v to their type; positions past
 * kv_len hold NaN, and so do gaps between rows of q. */
void call_write_pages(struct call *c);
void call_free(struct call *c);

/* out and lse of every sequence. */
struct call_result {
  float *out[MOST_SEQUENCES], *lse[MOST_SEQUENCES];
};
struct call_result result_new(const struct call *c);
void result_free(struct call_result *r, size_t n);

enum call_kind { FLASH, STANDARD };

/* Runs the call with a workspace of exactly the size asked for, full of NaN. */
void run_call(const xf_context *context, const struct call *c, enum call_kind kind, size_t q_block,
              enum xf_attention_split_mode split, struct call_result *r);

/* Same bits everywhere, and nothing written between the rows. */
void expect_same(const struct call *c, const char *what, const char *isa,
                 const struct call_result *got, const struct call_result *want);

/* One head of one token, for the references. */
struct attention_row call_row(const struct call *c, size_t sequence, size_t token, size_t head);

#endif
