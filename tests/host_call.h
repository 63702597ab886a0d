/* Lays a host_case out as a host may have it in memory, each tensor in front of a page that cannot
 * be touched, and runs it through the public interface. */
#ifndef XF_TESTS_HOST_CALL_H
#define XF_TESTS_HOST_CALL_H

#include "tests/host_attention.h"
#include "tests/host_tensor.h"

struct host_options {
  enum host_order order;
  xf_kv_layout_kind layout;
  size_t page_len;
  bool padded; /* keys begin behind some others, which hold NaN */
  bool wide;   /* K and V as f32; packed pages hold that, too, where these are of two types */
};

struct host_call {
  const struct host_case *c;
  xf_attention_desc desc;
  struct host_tensor q, kv[2], scales[2], mask, out, lse;
  struct guarded table; /* page numbers */
  int64_t kv_begin[HOST_SEQUENCES], kv_len[HOST_SEQUENCES];
  uint32_t *numbers; /* [batch][table_len] */
  size_t inner;      /* keys of a plain tensor or of a page */
  size_t table_len;  /* pages of one sequence; 0: plain */
};

/* out [batch][q_len][q_heads][d_v] and lse [batch][q_len][q_heads]; rows behind q_lens hold 0xA5.
 */
struct host_result {
  float *out, *lse;
};

struct host_options host_options_random(struct rng *rng);
/* context packs pages. */
struct host_call host_call_new(struct rng *rng, const xf_context *context,
                               const struct host_case *c, struct host_options options);
void host_call_free(struct host_call *call);

struct host_result host_result_new(const struct host_case *c);
void host_result_free(struct host_result *r);

/* Runs it with a workspace of exactly the size asked for, full of NaN: by xf_attention, or by nth
 * threads of the test's own. Fails the test where anything but rows of out and lse is written. */
void host_call_run(struct host_call *call, const xf_context *context, size_t nth,
                   struct host_result *r);

#endif
