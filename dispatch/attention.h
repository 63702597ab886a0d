/* The attention operator: checks nothing, chooses block sizes, splits the work. The public one
 * (attention_api.c) checks a caller's descriptor and builds this. */
#ifndef XF_DISPATCH_ATTENTION_H
#define XF_DISPATCH_ATTENTION_H

#include <stdbool.h>

#include "dispatch/context.h"

/* Where the panels of one layer lie inside a packed page. A page holds page_len positions (a
 * multiple of 16): for KV head h, panels of K [d_k][16] from k_offset + h·head_stride elements on,
 * of V [16][v_stride] from v_offset + h·head_stride on; v_stride is d_v rounded up to 16. A panel
 * of XF_I8 begins with the scales of its 16 rows, f32 [16]: 64 elements more. */
struct xf_kv_layout {
  xf_type type; /* of the elements: XF_F32, XF_F16, XF_BF16, XF_I8 */
  size_t page_len, d_k, d_v, v_stride;
  size_t k_offset, v_offset, head_stride;
};

/* One tensor of a host, K or V, that is packed block by block. The element of key i, head h, column
 * d is at base + (i / page_len)-th page + i % page_len · token + h · head + d · its type's size. */
struct xf_kv_tensor {
  xf_type type;
  ptrdiff_t page, token, head;                   /* bytes */
  ptrdiff_t scale_page, scale_token, scale_head; /* bytes, of the scales of XF_I8 rows */
};

/* A host's K and V. */
struct xf_kv_view {
  struct xf_kv_tensor k, v;
  size_t page_len; /* keys of a page; SIZE_MAX: there are no pages; 0: packed pages, k.page apart */
};

/* A host's mask [.., q_heads, q_len, keys] with byte strides: f32 is added to scores, a bool (one
 * byte) that is 0 masks the key. */
struct xf_mask {
  xf_type type;
  ptrdiff_t head, query, key;
};

/* One sequence's part of an attention call: queries at positions first … first + q_len − 1. With
 * causal, a query sees keys up to its position, else all kv_len. */
struct xf_attention_sequence {
  /* Keys: packed pages, or (pages NULL) the call's view of a host's tensors. */
  void *const *pages; /* [ceil(kv_len / page_len)] */
  const char *k, *v;  /* of this sequence, or of the page pool where there is a page table */
  const char *k_scale, *v_scale;
  const uint32_t *page_table; /* NULL: none */
  size_t kv_begin;            /* the host's index of position 0; 0 for packed pages */
  ptrdiff_t first;            /* negative: a query in front of position 0 */
  size_t q_len, kv_len;
  const float *q;   /* [q_len][q_heads][d_k], strides in the call */
  float *out;       /* [q_len][q_heads][d_v] */
  float *lse;       /* [q_len][q_heads], or NULL */
  const char *mask; /* [q_heads][q_len][kv_begin + kv_len], or NULL */
};

enum xf_attention_split_mode { XF_KEYS_AUTO, XF_KEYS_WHOLE, XF_KEYS_SPLIT };

/* Strides are in floats; those of heads are d_k, d_v and 1 where heads are dense. */
struct xf_attention {
  struct xf_kv_layout kv; /* d_k and d_v also where pages are not used */
  struct xf_kv_view view;
  struct xf_mask mask;
  size_t q_heads, kv_heads; /* q_heads a multiple of kv_heads */
  ptrdiff_t q_stride, q_head_stride, out_stride, out_head_stride, lse_stride, lse_head_stride;
  float scale;         /* finite; 0: 1 / sqrt(d_k) */
  float soft_cap;      /* 0: none */
  const float *slopes; /* ALiBi [q_heads], or NULL */
  const float *sinks;  /* [q_heads], or NULL */
  bool causal;
  size_t window;            /* keys nearer than this many positions are seen; 0: all */
  size_t q_block;           /* 0: xf_attention_q_block(q_blocks, kv_len) */
  const uint32_t *q_blocks; /* the context's; NULL: the policy's */
  enum xf_attention_split_mode split;
  size_t n; /* sequences */
  const struct xf_attention_sequence *sequences;
};

/* The adaptive policy: query positions per task for a sequence of that length. tuned: another
 * choice for each class, 0 for none; NULL: none at all. */
size_t xf_attention_q_block(const uint32_t *tuned, size_t kv_len);

/* What a call's memory depends on, sequence by sequence; starts as zeros. */
struct xf_attention_size {
  size_t q_block;     /* the largest */
  size_t tasks;       /* (sequence, KV head, q-block) */
  size_t block_tasks; /* those × blocks of keys */
  size_t records;     /* (query row, block of keys) */
  size_t q_len;       /* the longest */
};
void xf_attention_size_add(struct xf_attention_size *size, const struct xf_attention *a,
                           size_t q_len, size_t kv_len);

/* Floats of workspace that flash attention needs with that many workers. */
size_t xf_attention_size_floats(const struct xf_attention_size *size, const struct xf_attention *a,
                                size_t workers);
/* The same for a call whose sequences are there. */
size_t xf_attention_workspace_floats(const struct xf_attention *a, size_t workers);
void xf_attention_flash(const xf_context *context, const struct xf_attention *a, float *workspace);
/* The share of worker ith of nth in phase 0 or 1. Every worker ends phase 0 before any begins
 * phase 1. */
void xf_attention_flash_part(const xf_context *context, const struct xf_attention *a,
                             float *workspace, int phase, size_t ith, size_t nth);

/* The textbook, over packed pages: all scores [q_heads, q_len, kv_len] of each sequence in the
 * workspace, one softmax over each row. */
size_t xf_attention_standard_floats(const xf_context *context, const struct xf_attention *a);
void xf_attention_standard(const xf_context *context, const struct xf_attention *a,
                           float *workspace);

/* Types that K and V may have, as bits. */
enum { XF_KV_TYPES = 1u << XF_F32 | 1u << XF_F16 | 1u << XF_BF16 | 1u << XF_I8 };

/* A page that holds nothing but its heads, one behind the other, K and then V of each. */
struct xf_kv_layout xf_kv_layout_dense(xf_type type, size_t page_len, size_t d_k, size_t d_v);
/* What a page's address and the bytes between pages are multiples of. */
size_t xf_kv_alignment(xf_type type);

/* Writes K [d_k] and V [d_v] of one head into a slot of a packed page, rounded to its type as
 * docs/numerics.md says. The caller sees to round-to-nearest without FTZ/DAZ (xf_fp_enter). */
void xf_kv_write_head(const struct xf_kernels *kernels, const struct xf_kv_layout *kv, size_t head,
                      void *page, size_t slot, const float *k, const float *v);
/* Writes K and V of one position into its packed page: k [kv_heads][d_k], v [kv_heads][d_v]. */
void xf_kv_write(const struct xf_kernels *kernels, const struct xf_kv_layout *kv, size_t kv_heads,
                 void *const *pages, size_t position, const float *k, const float *v);
/* The panel of one head in a packed page that begins at a slot, a multiple of 16. */
void xf_kv_panel(const struct xf_kv_layout *kv, size_t head, const void *page, size_t slot,
                 const void **k, const void **v);
/* Where a panel's elements begin. */
const void *xf_kv_elements(const struct xf_kv_layout *kv, const void *panel);
/* Reads K and V of one position back: widened exactly, or (float)q · scale, under the same
 * floating-point environment. */
void xf_kv_read(const struct xf_kernels *kernels, const struct xf_kv_layout *kv, size_t kv_heads,
                void *const *pages, size_t position, float *k, float *v);

#endif
