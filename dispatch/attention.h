/* The attention operator over paged K and V: checks nothing, chooses block sizes, splits the work.
 */
#ifndef XF_DISPATCH_ATTENTION_H
#define XF_DISPATCH_ATTENTION_H

#include <stdbool.h>

#include "dispatch/context.h"

/* Where the K panels and V rows of one layer lie inside a page. A page holds page_len positions (a
 * multiple of 16): for KV head h, K as [page_len/16][d_k][16] at k_offset + h·head_stride floats,
 * V as [page_len][v_stride] at v_offset + h·head_stride. */
struct xf_kv_layout {
  size_t page_len, d_k, d_v, v_stride;
  size_t k_offset, v_offset, head_stride;
};

/* One sequence's part of an attention call: q_len queries at positions first … first+q_len−1. With
 * causal, query i sees keys 0 … first+i, else all kv_len. */
struct xf_attention_sequence {
  float *const *pages; /* [ceil(kv_len / page_len)] */
  size_t first, q_len, kv_len;
  const float *q; /* [q_len][q_heads][d_k], rows q_stride floats apart */
  float *out;     /* [q_len][q_heads][d_v], rows out_stride floats apart */
  float *lse;     /* [q_len][q_heads], or NULL */
};

enum xf_attention_split_mode { XF_KEYS_AUTO, XF_KEYS_WHOLE, XF_KEYS_SPLIT };

struct xf_attention {
  struct xf_kv_layout kv;
  size_t q_heads, kv_heads; /* q_heads a multiple of kv_heads */
  size_t q_stride, out_stride;
  float scale; /* finite, > 0 */
  bool causal;
  size_t q_block; /* 0: xf_attention_q_block(kv_len) */
  enum xf_attention_split_mode split;
  size_t n; /* sequences */
  const struct xf_attention_sequence *sequences;
};

/* The adaptive policy: query positions per task for a sequence of that length. */
size_t xf_attention_q_block(size_t kv_len);

/* Floats of workspace that xf_attention_flash needs. */
size_t xf_attention_workspace(const xf_context *context, const struct xf_attention *a);
void xf_attention_flash(const xf_context *context, const struct xf_attention *a, float *workspace);

/* The textbook: all scores [q_heads, q_len, kv_len] of each sequence in the workspace, one softmax
 * over each row. */
size_t xf_attention_standard_workspace(const xf_context *context, const struct xf_attention *a);
void xf_attention_standard(const xf_context *context, const struct xf_attention *a,
                           float *workspace);

/* Writes K and V of one position into its page: k [kv_heads][d_k], v [kv_heads][d_v]. */
void xf_kv_write(const struct xf_kv_layout *kv, size_t kv_heads, float *const *pages,
                 size_t position, const float *k, const float *v);
/* The first `panels` panels of one head from a position on, which is a multiple of 16. */
void xf_kv_panels(const struct xf_kv_layout *kv, size_t head, float *const *pages, size_t position,
                  size_t panels, const float **k, const float **v);
/* Reads K and V of one position back. */
void xf_kv_read(const struct xf_kv_layout *kv, size_t kv_heads, float *const *pages,
                size_t position, float *k, float *v);

#endif
