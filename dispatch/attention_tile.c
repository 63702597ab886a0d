#include "dispatch/attention_tile.h"

#include <string.h>

size_t xf_tile_visible(const struct xf_tile *t, size_t r)
{
  if (!t->a->causal) return t->sequence->kv_len;
  return xf_min(t->sequence->kv_len, t->sequence->first + t->q0 + r / t->group + 1);
}

static size_t token_of(const struct xf_tile *t, size_t r)
{
  return t->q0 + r / t->group;
}

static size_t head_of(const struct xf_tile *t, size_t r)
{
  return t->head * t->group + r % t->group;
}

float *xf_tile_out(const struct xf_tile *t, size_t r)
{
  return t->sequence->out + token_of(t, r) * t->a->out_stride + head_of(t, r) * t->a->kv.d_v;
}

/* Copies the queries, so that a kernel's rows are evenly spaced. */
static void gather_queries(const struct xf_tile *t, size_t r0, size_t n, float *q)
{
  size_t d = t->a->kv.d_k;
  for (size_t r = r0; r < r0 + n; r++, q += d)
    memcpy(q, t->sequence->q + token_of(t, r) * t->a->q_stride + head_of(t, r) * d, d * sizeof *q);
}

void xf_tile_partial(const xf_context *context, const struct xf_tile *t, size_t r0, size_t n,
                     const struct xf_keys *keys, const struct xf_tile_scratch *scratch,
                     struct xf_partials *out)
{
  size_t visible[XF_ATTENTION_ROWS], most = 0;
  for (size_t i = 0; i < n; i++) {
    size_t all = xf_tile_visible(t, r0 + i);
    visible[i] = all > keys->first ? xf_min(all - keys->first, keys->n) : 0;
    most = visible[i] > most ? visible[i] : most;
  }
  if (most == 0) {
    memset(out, 0, sizeof *out);
    return;
  }
  gather_queries(t, r0, n, scratch->q);
  struct xf_attention_args args = {
      .rows = n,
      .d_k = t->a->kv.d_k,
      .d_v = t->a->kv.d_v,
      .q = scratch->q,
      .visible = visible,
      .k = keys->k,
      .v = keys->v,
      .v_stride = t->a->kv.v_stride,
      .c = t->a->scale * 0x1.715476p+0f, /* log2 e */
      .s = scratch->s,
      .lds = scratch->lds,
      .m = out->m,
      .l = out->l,
      .acc = scratch->acc,
  };
  context->kernels->attention_block(&args);
}

void xf_tile_finish(const xf_context *context, const struct xf_tile *t, size_t r, float m, float l)
{
  float lse = context->kernels->attention_finish(t->a->kv.d_v, m, l, xf_tile_out(t, r));
  if (t->sequence->lse) t->sequence->lse[token_of(t, r) * t->a->q_heads + head_of(t, r)] = lse;
}
