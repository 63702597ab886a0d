/* Flash attention on a host's own buffers: out = softmax(scale · q·kᵀ + …) · v with O(block)
 * memory, the same bits on every ISA, thread count, split, batch and layout (docs/numerics.md).
 * Source: Dao et al. 2022, "FlashAttention"; Rabe & Staats 2021, "Self-attention Does Not Need
 * O(n²) Memory". The contract in words: docs/attention.md. */
#ifndef EXACTFLASH_ATTENTION_H
#define EXACTFLASH_ATTENTION_H

#include "exactflash/context.h"
#include "exactflash/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

/* How K and V lie in memory. */
typedef enum xf_kv_layout_kind {
  XF_KV_PLAIN = 0, /* k, v: [batch, keys, kv_heads, d], any strides */
  XF_KV_PAGED,     /* k, v: [pages, page_len, kv_heads, d], any strides, and a page table */
  XF_KV_PACKED     /* as paged, but each page packed by xf_kv_pack; k and v of one type */
} xf_kv_layout_kind;

/* K and V. The innermost dimension is dense in every view. Element types: f32, f16, bf16, which are
 * widened exactly, or i8 with one f32 scale per row and head: (float)q · scale, rounded once. K and
 * V may differ in type and d. */
typedef struct xf_kv {
  xf_kv_layout_kind layout;
  xf_view k, v;
  /* Of i8, but not in packed pages: f32 [batch or pages, keys or page_len, kv_heads]. */
  xf_view k_scale, v_scale;
  /* Paged and packed: page of keys [i·page_len, (i+1)·page_len) of sequence b is
   * page_table[b·page_table_stride + i]; entries of pages without a key are not read. */
  const uint32_t *page_table;
  int64_t page_table_stride; /* entries between sequences */
  /* Sequence b's keys are those at indices kv_begin[b] … kv_len[b]−1; position 0 is kv_begin[b], so
   * that left padding changes no bit. NULL: 0, and all keys of a plain layout. Packed: multiples
   * of 16. */
  const int64_t *kv_begin, *kv_len; /* [batch] */
} xf_kv;

/* Zero in a field means what its comment says for 0 or NULL. */
typedef struct xf_attention_desc {
  size_t struct_size; /* sizeof(xf_attention_desc) */
  xf_view q;          /* f32 [batch, q_len, q_heads, d_k] */
  xf_kv kv;    /* q_heads a multiple of kv_heads: head h reads KV head h / (q_heads / kv_heads) */
  xf_view out; /* f32 [batch, q_len, q_heads, d_v], written; may not overlap an input */
  xf_view lse; /* f32 [batch, q_len, q_heads], written: natural log-sum-exp; none: not wanted */
  /* Queries of each sequence; the rows of q behind them are not read and of out not written. NULL:
   * q_len. */
  const int64_t *q_lens; /* [batch] */
  /* Position of each sequence's first query, counted from kv_begin; may be negative. NULL: the
   * queries are the last positions, kv_len − kv_begin − q_len. */
  const int64_t *q_first; /* [batch] */
  float scale;            /* in −2^60 … 2^60; 0: 1 / sqrt(d_k) */
  float soft_cap; /* in 2^−60 … 2^60: scores become soft_cap · tanh(score / soft_cap); 0: none */
  int causal;     /* not 0: the query at position p sees keys at positions ≤ p */
  int64_t window; /* > 0: only keys at a distance < window; 0: all */
  /* Added to the scores (f32; −inf hides a key) or hiding keys (bool; 0 hides). [batch, q_heads,
   * q_len, keys], stride 0 to broadcast; key index as in kv (kv_begin included). None: no mask. */
  xf_view mask;
  /* [q_heads], in −2^60 … 2^60: slope · (key position − query position) is added. NULL: none */
  const float *alibi_slopes;
  /* [q_heads], likewise or −inf: one more score, whose value is zero. NULL: none */
  const float *sinks;
  uint32_t q_block; /* query positions per task; 0: by length and workers. Never a bit. */
  uint32_t split;   /* 0: by need, 1: never, 2: always split keys over workers. Never a bit. */
} xf_attention_desc;

/* Rows that see nothing give zeros, and −inf in lse. NaN or infinity in a key or value that a row
 * does not see never reaches it; in one that it sees they give what the formula says.
 *
 * Nothing below allocates. A descriptor that cannot be run gives XF_E_ARGUMENT, XF_E_SHAPE or
 * XF_E_UNSUPPORTED with a message that names the field. */

/* Bytes of workspace for a run with that context by `workers` threads; 0: the context's. */
XF_API xf_status xf_attention_workspace(const xf_context *context, const xf_attention_desc *desc,
                                        size_t workers, size_t *bytes, xf_error *error);

/* Runs on the context's threads (or the caller's parallel-for given to it). workspace: that many
 * bytes, aligned to 16, uninitialised; not shared with another running call. */
XF_API xf_status xf_attention(const xf_context *context, const xf_attention_desc *desc,
                              void *workspace, size_t bytes, xf_error *error);

/* For hosts with threads of their own: each of nth threads calls phase 0 with its ith, then waits
 * at the host's barrier, then calls phase 1. The workspace is shared by all, sized for nth workers.
 * Where desc.split is 1, phase 1 has nothing to do and may be left out with its barrier. */
XF_API xf_status xf_attention_part(const xf_context *context, const xf_attention_desc *desc,
                                   void *workspace, size_t bytes, int phase, size_t ith, size_t nth,
                                   xf_error *error);

/* ---- packed pages ---- */

/* A packed page holds page_len (a multiple of 16) positions in f32, f16, bf16 or i8: for each KV
 * head K [page_len/16][d_k][16], then V [page_len/16][16][d_v rounded up to 16]; in i8 each of
 * these panels has the scales of its 16 positions in front, f32 [16]. As a view it is [pages,
 * page_len, kv_heads, d] of that type with stride[0] the bytes between pages (a multiple of the
 * type's size, of i8 of 4), the same data pointer and type in k and v; other strides are not read.
 * Sets *bytes to the size of one page. */
XF_API xf_status xf_kv_page_bytes(xf_type type, size_t page_len, size_t kv_heads, size_t d_k,
                                  size_t d_v, size_t *bytes, xf_error *error);
/* Writes n positions of one sequence, from `first` on, into its packed pages. k: [n, kv_heads,
 * d_k], v: [n, kv_heads, d_v], of any of the types of xf_kv but i8, outside of the pages. type: of
 * the pages, to which values are rounded, to nearest even in any rounding mode. Beyond f16's or
 * bf16's range they become infinite; i8 has the scale max |x| / 127 for each position and head, and
 * a row with NaN or infinity becomes NaN as a whole (docs/numerics.md). pages: [n_pages] of
 * page_bytes each. Positions [i·page_len, (i+1)·page_len) go to page page_table[i]; page_table
 * NULL: to page i. Pages are zeroed by the caller before their first use. On failure none has
 * changed. */
XF_API xf_status xf_kv_pack(const xf_context *context, xf_type type, size_t page_len,
                            const xf_view *k, const xf_view *v, size_t first, void *pages,
                            size_t page_bytes, size_t n_pages, const uint32_t *page_table,
                            xf_error *error);

#ifdef __cplusplus
}
#endif
#endif
