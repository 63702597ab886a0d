/* What flash and standard attention share: a few query rows against some panels of keys. */
#ifndef XF_ATTENTION_TILE_H
#define XF_ATTENTION_TILE_H

#include "dispatch/attention.h"
#include "dispatch/memory.h"

enum { XF_BLOCK_PANELS = XF_BLOCK / XF_LANES };

/* Query rows of one KV head: row r is query q0 + r / group of head head·group + r % group, where
 * group = q_heads / kv_heads. */
struct xf_tile {
  const struct xf_attention *a;
  const struct xf_attention_sequence *sequence;
  size_t head, q0, rows, group;
};

/* Keys of one KV head, from position first on. */
struct xf_keys {
  xf_type type;
  size_t first, n;
  const void *const *k, *const *v; /* as attention_block takes them */
  size_t v_stride, k_stride;
};

/* One worker's memory for XF_ATTENTION_ROWS rows. */
struct xf_tile_scratch {
  float *s;    /* [rows][lds] scores */
  size_t lds;  /* ≥ keys rounded up to 16 */
  float *q;    /* [rows][d_k] */
  float *acc;  /* [rows][d_v rounded up to 16] */
  float *bias; /* [rows][XF_BLOCK], where scores get a bias */
  float *k;    /* [XF_BLOCK/16][d_k][16], or [XF_NEAR_PANELS] where the kernel packs, and */
  float *v;    /* [XF_BLOCK][d_v rounded up to 16], where keys are packed or widened */
};

struct xf_partials {
  float m[XF_ATTENTION_ROWS], l[XF_ATTENTION_ROWS];
};

/* Positions [begin, end) that a row sees. */
struct xf_range {
  size_t begin, end;
};

static inline size_t xf_padded(size_t d)
{
  return xf_round_up(d, XF_LANES);
}

/* Asks memory for a row that will be used soon. */
static inline void xf_ask_for(const void *row, size_t bytes)
{
  for (size_t i = 0; i < bytes; i += 64) __builtin_prefetch((const char *)row + i);
}

static inline bool xf_lies_in_rows(const struct xf_attention *a, const struct xf_kv_tensor *x)
{
  return a->view.page_len == SIZE_MAX && x->token > 0 && x->type != XF_I8;
}

static inline bool xf_has_value_rows(const struct xf_attention *a)
{
  return xf_lies_in_rows(a, &a->view.v) && a->kv.d_v % XF_LANES == 0;
}

/* Whether the kernel packs a host's K rows: those that one call of it reads, once. It knows one
 * type of K and V. */
static inline bool xf_reads_k_in_place(const struct xf_attention *a, size_t rows)
{
  const struct xf_kv_view *view = &a->view;
  return rows <= XF_ATTENTION_ROWS && xf_lies_in_rows(a, &view->k) &&
         (view->k.type == XF_F32 || (view->k.type == view->v.type && xf_has_value_rows(a)));
}

/* Whether it reads a host's V rows where they lie; 16-bit ones, widened in each call, with such K.
 */
static inline bool xf_reads_v_in_place(const struct xf_attention *a, size_t rows)
{
  const struct xf_kv_view *view = &a->view;
  return xf_has_value_rows(a) &&
         (view->v.type == XF_F32 || (view->v.type == view->k.type && xf_reads_k_in_place(a, rows)));
}

/* Whether pages of 16 or 8 bits are widened into the scratch, once for all rows of a tile. The few
 * rows of one call of the kernel have it read them where they lie: memory is their limit. */
static inline bool xf_widens_pages(const struct xf_attention *a, size_t rows)
{
  return a->view.page_len == 0 && a->kv.type != XF_F32 && rows > XF_ATTENTION_ROWS;
}

/* Floats of a scratch without its scores, for tiles of that many rows at most; its division, which
 * sets all but s and lds. (Results of small tasks are not returned: a copy of what was just written
 * in pieces waits for them.) */
size_t xf_tile_floats(const struct xf_attention *a, size_t rows);
void xf_tile_scratch_at(const struct xf_attention *a, float *base, struct xf_tile_scratch *out);

struct xf_range xf_tile_range(const struct xf_tile *t, size_t r);
float *xf_tile_out(const struct xf_tile *t, size_t r);

/* Keys [first, first + n) of the tile's head, n ≤ XF_BLOCK: panels of packed pages, where they lie
 * or widened into the scratch, or a host's keys, packed into it or where they lie. k, v:
 * [XF_BLOCK_PANELS]. */
void xf_tile_keys(const xf_context *context, const struct xf_tile *t, size_t first, size_t n,
                  const struct xf_tile_scratch *scratch, const void **k, const void **v,
                  struct xf_keys *out);

/* Attention of rows r0 … r0 + n − 1 over the keys alone: m and l, and acc in the scratch. */
void xf_tile_partial(const xf_context *context, const struct xf_tile *t, size_t r0, size_t n,
                     const struct xf_keys *keys, const struct xf_tile_scratch *scratch,
                     struct xf_partials *out);

/* Takes the sink into account; out = acc / l and the log-sum-exp of row r. acc [d_v] is changed,
 * and may be the row's out. */
void xf_tile_finish(const xf_context *context, const struct xf_tile *t, size_t r, float m, float l,
                    float *acc);

#endif
