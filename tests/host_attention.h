/* Random attention problems as hosts may pose them, in plain dense memory: what tests/host_call.h
 * lays out and runs, and what the references of tests/oracle.h are asked. */
#ifndef XF_TESTS_HOST_ATTENTION_H
#define XF_TESTS_HOST_ATTENTION_H

#include <stdbool.h>

#include "exactflash/attention.h"
#include "tests/compare.h"
#include "tests/oracle.h"

enum { HOST_SEQUENCES = 3, HOST_HEADS = 24 };

/* Keys are at positions 0, 1, 2 …: where a host keeps them is the layout's business. */
struct host_case {
  size_t batch, q_len, q_heads, kv_heads, d_k, d_v;
  size_t keys; /* of the longest sequence */
  int64_t q_lens[HOST_SEQUENCES], q_first[HOST_SEQUENCES], kv_lens[HOST_SEQUENCES];
  float scale; /* 0: the default */
  float soft_cap;
  int causal;
  int64_t window;
  xf_type types[2];                 /* of K and V */
  bool same_q_heads, same_kv_heads; /* all heads hold the same values: their stride may be 0 */
  float *q;                         /* [batch][q_len][q_heads][d_k] */
  unsigned char *kv[2];             /* [batch][keys][kv_heads][d] of the type */
  float *scales[2];                 /* [batch][keys][kv_heads], of i8 */
  float *wide[2];                   /* K and V as float */
  xf_type mask_type;                /* 0: none */
  unsigned mask_same;               /* bit i: the mask is the same along dimension i */
  float *mask;           /* [batch][q_heads][q_len][keys]; a boolean one as 0 and −inf */
  float *slopes, *sinks; /* [q_heads], or NULL */
};

/* K and V of keys that no row sees hold NaN. Prints its parameters when something fails. */
struct host_case host_case_random(struct rng *rng, size_t most_keys, size_t most_d);
void host_case_free(struct host_case *c);

/* Sequence b alone; it borrows the arrays. */
struct host_case host_case_part(const struct host_case *c, size_t b);
/* Writes value to column d (all columns: SIZE_MAX) of one row of K (0) or V (1); of an i8 row to
 * its scale, that is to all columns. */
void host_case_put(struct host_case *c, int which, size_t b, size_t key, size_t head, size_t d,
                   float value);

/* The columns of K (0) or V (1). */
size_t host_case_d(const struct host_case *c, int which);
/* scale, or the default. */
float host_case_scale(const struct host_case *c);
/* Whether query i of head h in sequence b sees a key. */
bool host_case_sees(const struct host_case *c, size_t b, size_t i, size_t h, size_t key);
struct attention_row host_case_row(const struct host_case *c, size_t b, size_t i, size_t h);

#endif
