/* What flash and standard attention share: a few query rows against some panels of keys. */
#ifndef XF_ATTENTION_TILE_H
#define XF_ATTENTION_TILE_H

#include "dispatch/attention.h"
#include "dispatch/memory.h"

/* Query rows of one KV head: row r is query q0 + r / group of head head·group + r % group, where
 * group = q_heads / kv_heads. */
struct xf_tile {
  const struct xf_attention *a;
  const struct xf_attention_sequence *sequence;
  size_t head, q0, rows, group;
};

/* Keys of one KV head: panels from position first on. */
struct xf_keys {
  size_t first, n;
  const float *const *k, *const *v;
};

/* One thread's memory for XF_ATTENTION_ROWS rows. */
struct xf_tile_scratch {
  float *s;   /* [rows][lds] scores */
  size_t lds; /* ≥ keys rounded up to 16 */
  float *q;   /* [rows][d_k] */
  float *acc; /* [rows][d_v rounded up to 16] */
};

struct xf_partials {
  float m[XF_ATTENTION_ROWS], l[XF_ATTENTION_ROWS];
};

static inline size_t xf_padded(size_t d)
{
  return xf_round_up(d, XF_LANES);
}

/* Floats for q and acc of a scratch. */
static inline size_t xf_tile_floats(const struct xf_attention *a)
{
  return XF_ATTENTION_ROWS * (xf_padded(a->kv.d_v) + xf_padded(a->kv.d_k));
}

/* Keys that row r of the tile sees, of all of its sequence. */
size_t xf_tile_visible(const struct xf_tile *t, size_t r);
float *xf_tile_out(const struct xf_tile *t, size_t r);

/* Attention of rows r0 … r0 + n − 1 over the keys alone: m and l, and acc in the scratch. */
void xf_tile_partial(const xf_context *context, const struct xf_tile *t, size_t r0, size_t n,
                     const struct xf_keys *keys, const struct xf_tile_scratch *scratch,
                     struct xf_partials *out);

/* out = out / l and the log-sum-exp of row r. */
void xf_tile_finish(const xf_context *context, const struct xf_tile *t, size_t r, float m, float l);

#endif
