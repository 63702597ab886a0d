#include "dispatch/attention_tile.h"

#include <math.h>
#include <string.h>

enum { WORTH_ASKING = 256 }; /* keys whose work takes longer than memory does to answer */

/* log2 e */
static const float to_base_2 = 0x1.715476p+0f;

static bool has_bias(const struct xf_attention *a)
{
  return a->slopes || a->mask.type;
}

/* The default is computed here, under numerics 1's rounding mode. */
static float scale_of(const struct xf_attention *a)
{
  return a->scale != 0 ? fabsf(a->scale) : (float)(1.0 / sqrt((double)a->kv.d_k));
}

size_t xf_tile_floats(const struct xf_attention *a, size_t rows)
{
  size_t d_k = xf_padded(a->kv.d_k), d_v = xf_padded(a->kv.d_v), packed = 0;
  if (a->view.page_len > 0 || xf_widens_pages(a, rows))
    packed = xf_reads_v_in_place(a, rows) ? d_k : d_k + d_v;
  return XF_ATTENTION_ROWS * (d_v + d_k) + (has_bias(a) ? XF_ATTENTION_ROWS * XF_BLOCK : 0) +
         XF_BLOCK * packed;
}

void xf_tile_scratch_at(const struct xf_attention *a, float *base, struct xf_tile_scratch *out)
{
  size_t d_k = xf_padded(a->kv.d_k), d_v = xf_padded(a->kv.d_v);
  out->acc = base;
  out->q = out->acc + XF_ATTENTION_ROWS * d_v;
  out->bias = out->q + XF_ATTENTION_ROWS * d_k;
  out->k = out->bias + (has_bias(a) ? XF_ATTENTION_ROWS * XF_BLOCK : 0);
  out->v = out->k + XF_BLOCK * d_k;
}

static size_t token_of(const struct xf_tile *t, size_t r)
{
  return t->q0 + r / t->group;
}

static size_t head_of(const struct xf_tile *t, size_t r)
{
  return t->head * t->group + r % t->group;
}

static ptrdiff_t position_of(const struct xf_tile *t, size_t r)
{
  return t->sequence->first + (ptrdiff_t)token_of(t, r);
}

struct xf_range xf_tile_range(const struct xf_tile *t, size_t r)
{
  ptrdiff_t position = position_of(t, r), window = (ptrdiff_t)t->a->window;
  ptrdiff_t begin = 0, end = (ptrdiff_t)t->sequence->kv_len;
  if (t->a->causal && position + 1 < end) end = position + 1;
  if (window && position + window < end) end = position + window;
  if (window && position - window + 1 > begin) begin = position - window + 1;
  if (end <= begin) return (struct xf_range){0, 0};
  return (struct xf_range){(size_t)begin, (size_t)end};
}

float *xf_tile_out(const struct xf_tile *t, size_t r)
{
  return t->sequence->out + (ptrdiff_t)token_of(t, r) * t->a->out_stride +
         (ptrdiff_t)head_of(t, r) * t->a->out_head_stride;
}

static const float *query_of(const struct xf_tile *t, size_t r)
{
  return t->sequence->q + (ptrdiff_t)token_of(t, r) * t->a->q_stride +
         (ptrdiff_t)head_of(t, r) * t->a->q_head_stride;
}

/* Copies the queries, so that a kernel's rows are evenly spaced, a token's together where its heads
 * are; a negative scale turns their sign. */
static void gather_queries(const struct xf_tile *t, size_t r0, size_t n, float *q)
{
  size_t d = t->a->kv.d_k, end = r0 + n;
  bool together = t->a->q_head_stride == (ptrdiff_t)d;
  for (size_t r = r0, rows; r < end; r += rows) {
    rows = together ? xf_min(t->group - r % t->group, end - r) : 1;
    memcpy(q + (r - r0) * d, query_of(t, r), rows * d * sizeof *q);
  }
  for (size_t i = 0; i < n * d && t->a->scale < 0; i++) q[i] = -q[i];
}

/* Asks for where the results of n rows go and for the queries of the next rows. */
static void ask_for_rows(const struct xf_tile *t, size_t r0, size_t n)
{
  for (size_t r = r0; r < r0 + n; r++) xf_ask_for(xf_tile_out(t, r), t->a->kv.d_v * sizeof(float));
  for (size_t r = r0 + n; r < xf_min(r0 + 2 * n, t->rows); r++)
    xf_ask_for(query_of(t, r), t->a->kv.d_k * sizeof(float));
}

/* The bias of row r for the keys: the mask's, plus ALiBi's slope · distance (≤ 0 for the past). */
static void row_bias(const struct xf_tile *t, size_t r, const struct xf_keys *keys, float *bias)
{
  const struct xf_mask *mask = &t->a->mask;
  const char *from = NULL;
  if (t->sequence->mask)
    from = t->sequence->mask + (ptrdiff_t)head_of(t, r) * mask->head +
           (ptrdiff_t)token_of(t, r) * mask->query +
           (ptrdiff_t)(t->sequence->kv_begin + keys->first) * mask->key;
  for (size_t i = 0; i < keys->n; i++) {
    bias[i] = 0;
    if (!from) continue;
    const char *element = from + (ptrdiff_t)i * mask->key;
    if (mask->type == XF_BOOL)
      bias[i] = *element ? 0 : -INFINITY;
    else
      memcpy(&bias[i], element, sizeof *bias);
  }
  if (!t->a->slopes) return;
  float slope = t->a->slopes[head_of(t, r)];
  for (size_t i = 0; i < keys->n; i++)
    bias[i] += slope * (float)((ptrdiff_t)(keys->first + i) - position_of(t, r));
}

void xf_tile_partial(const xf_context *context, const struct xf_tile *t, size_t r0, size_t n,
                     const struct xf_keys *keys, const struct xf_tile_scratch *scratch,
                     struct xf_partials *out)
{
  size_t first[XF_ATTENTION_ROWS], visible[XF_ATTENTION_ROWS], most = 0;
  for (size_t i = 0; i < n; i++) {
    if (i > 0 && (r0 + i) % t->group) { /* the same token */
      first[i] = first[i - 1], visible[i] = visible[i - 1];
      continue;
    }
    struct xf_range range = xf_tile_range(t, r0 + i);
    size_t end = keys->first + keys->n;
    visible[i] = range.end > keys->first ? xf_min(range.end, end) - keys->first : 0;
    first[i] = range.begin > keys->first ? xf_min(range.begin - keys->first, visible[i]) : 0;
    if (first[i] == visible[i]) first[i] = visible[i] = 0;
    most = visible[i] > most ? visible[i] : most;
  }
  if (most == 0) {
    memset(out, 0, sizeof *out);
    return;
  }
  gather_queries(t, r0, n, scratch->q);
  if (most >= WORTH_ASKING) ask_for_rows(t, r0, n);
  /* Rows that others follow to the same keys want them in the first cache. */
  const bool far = context->far_cache && most >= WORTH_ASKING && (r0 > 0 || n == t->rows);
  float scale = scale_of(t->a);
  bool adjusted = has_bias(t->a) || t->a->soft_cap != 0;
  struct xf_attention_args args = {.type = keys->type,
                                   .rows = n,
                                   .d_k = t->a->kv.d_k,
                                   .d_v = t->a->kv.d_v,
                                   .q = scratch->q,
                                   .first = first,
                                   .visible = visible,
                                   .k = keys->k,
                                   .v = keys->v,
                                   .v_stride = keys->v_stride,
                                   .k_stride = keys->k_stride,
                                   .fresh = r0 == 0 && most >= WORTH_ASKING,
                                   .far = far,
                                   .packed = scratch->k,
                                   .c = adjusted ? to_base_2 : scale * to_base_2,
                                   .scale = scale,
                                   .soft_cap = t->a->soft_cap,
                                   .bias = has_bias(t->a) ? scratch->bias : NULL,
                                   .ldb = XF_BLOCK,
                                   .s = scratch->s,
                                   .lds = scratch->lds,
                                   .m = out->m,
                                   .l = out->l,
                                   .acc = scratch->acc};
  for (size_t i = 0; i < n && args.bias; i++)
    row_bias(t, r0 + i, keys, scratch->bias + i * XF_BLOCK);
  context->kernels->attention_block(&args);
}

void xf_tile_finish(const xf_context *context, const struct xf_tile *t, size_t r, float m, float l,
                    float *acc)
{
  static const float nothing[XF_HEAD_DIM_MAX];
  size_t d_v = t->a->kv.d_v;
  if (t->a->sinks) /* a last block of one key, whose value is zero */
    context->kernels->attention_merge(d_v, &m, &l, acc, t->a->sinks[head_of(t, r)] * to_base_2, 1,
                                      nothing);
  context->kernels->attention_finish(d_v, l, acc, xf_tile_out(t, r));
  if (t->sequence->lse)
    t->sequence->lse[(ptrdiff_t)token_of(t, r) * t->a->lse_stride +
                     (ptrdiff_t)head_of(t, r) * t->a->lse_head_stride] =
        context->kernels->log_sum_exp(m, l);
}
