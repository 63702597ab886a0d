/* A small attention call that is all right, in each of the layouts, for tests of what is not. */
#ifndef XF_TESTS_ATTENTION_MISUSE_H
#define XF_TESTS_ATTENTION_MISUSE_H

#include <stdalign.h>

#include "exactflash/attention.h"
#include "tests/compare.h"

enum {
  BATCH = 2,
  Q_LEN = 3,
  Q_HEADS = 4,
  KV_HEADS = 2,
  D_K = 8,
  D_V = 24,
  KEYS = 32,
  PAGES = 4,
  TABLE = 2,
  MOST_BYTES = 1 << 20
};

/* All that its descriptors point to. */
extern struct misuse_host {
  float q[BATCH * Q_LEN * Q_HEADS * D_K], out[BATCH * Q_LEN * Q_HEADS * D_V];
  float lse[BATCH * Q_LEN * Q_HEADS], mask[BATCH * Q_HEADS * Q_LEN * KEYS];
  float k[PAGES * KEYS * KV_HEADS * D_K], v[PAGES * KEYS * KV_HEADS * D_V];
  float scales[PAGES * KEYS * KV_HEADS], pages[PAGES * KEYS * KV_HEADS * (D_K + 32)];
  float slopes[Q_HEADS], sinks[Q_HEADS];
  int64_t q_lens[BATCH], q_first[BATCH], kv_begin[BATCH], kv_len[BATCH];
  uint32_t table[BATCH * TABLE];
  alignas(16) unsigned char workspace[MOST_BYTES];
} host;

extern xf_context *misuse_context;
extern xf_attention_desc plain, paged, packed; /* plain f32 with all options; i8; f32 */

/* cmocka's: makes and frees the above. */
int misuse_set_up(void **state);
int misuse_tear_down(void **state);

void expect_failure(const char *what, xf_status got, const xf_error *error, xf_status want,
                    const char *word);
/* Fails unless every function that takes a descriptor gives that status and a message with that
 * word, and writes nothing. */
void expect_refused(const char *what, const xf_attention_desc *desc, xf_status want,
                    const char *word);
/* Fails unless out, lse and the workspace are as poison left them. */
void misuse_poison(void);
void expect_nothing_written(void);

#endif
