#include "bench/attention_case.h"

#include <stdlib.h>

#include "bench/arena.h"
#include "dispatch/attention.h" /* standard attention is no operator of the public interface */
#include "dispatch/memory.h"
#include "exactflash/attention.h"

struct attention {
  struct bench_case base;
  struct attention_shape shape;
  xf_attention_desc desc;
  struct xf_attention standard;
  struct xf_attention_sequence sequence;
  int64_t kv_len;
  size_t n_pages, page_bytes;                    /* of packed pages */
  size_t v_at, k_scale_at, v_scale_at, kv_bytes; /* parts of K and V's memory, in bytes */
  uint32_t *table;
  void **pages;
  float *q, *out;
  void *workspace;
  size_t workspace_bytes;
};

/* A dense view of rank 3. */
static xf_view dense(const void *data, xf_type type, size_t n0, size_t n1, size_t n2)
{
  int64_t size = (int64_t)xf_type_size(type), row = (int64_t)n2 * size;
  return (xf_view){
      data, type, 3, {(int64_t)n0, (int64_t)n1, (int64_t)n2}, {(int64_t)n1 * row, row, size}};
}

/* The same with a batch of one in front. */
static xf_view dense_batch(const void *data, xf_type type, size_t n0, size_t n1, size_t n2)
{
  xf_view v = dense(data, type, n0, n1, n2);
  return (xf_view){data,
                   type,
                   4,
                   {1, v.shape[0], v.shape[1], v.shape[2]},
                   {v.shape[0] * v.stride[0], v.stride[0], v.stride[1], v.stride[2]}};
}

static void place(struct attention *c)
{
  char *data = arena_next(c->kv_bytes);
  c->desc.kv.k.data = data;
  c->desc.kv.v.data = data + c->v_at;
  if (c->shape.type == XF_I8 && !c->shape.packed) {
    c->desc.kv.k_scale.data = data + c->k_scale_at;
    c->desc.kv.v_scale.data = data + c->v_scale_at;
  }
  for (size_t i = 0; i < c->n_pages; i++) c->pages[i] = data + i * c->page_bytes;
}

static void attention_run(void *self)
{
  struct attention *c = self;
  if (c->base.cold) place(c);
  if (c->shape.standard)
    xf_attention_standard(c->base.context, &c->standard, c->workspace);
  else if (xf_attention(c->base.context, &c->desc, c->workspace, c->workspace_bytes, NULL))
    abort(); /* its descriptor had been checked */
}

static void attention_free(void *self)
{
  struct attention *c = self;
  xf_free(c->table), xf_free(c->pages), xf_free(c->q), xf_free(c->out), xf_free(c->workspace);
  free(c);
}

/* Pairs of a query and a key that it sees, of one head. */
static double visible_pairs(size_t q_len, size_t kv_len)
{
  double first = (double)(kv_len - q_len + 1);
  return (double)q_len * (first + (double)kv_len) / 2;
}

static xf_status describe_packed(struct attention *c)
{
  const struct attention_shape *s = &c->shape;
  xf_kv *kv = &c->desc.kv;
  xf_status status =
      xf_kv_page_bytes(s->type, PAGE_LEN, KV_HEADS, s->head_dim, s->head_dim, &c->page_bytes, NULL);
  c->n_pages = (s->kv_len + PAGE_LEN - 1) / PAGE_LEN;
  c->kv_bytes = c->n_pages * c->page_bytes;
  kv->layout = XF_KV_PACKED;
  kv->k = dense_batch(NULL, s->type, PAGE_LEN, KV_HEADS, s->head_dim);
  kv->k.shape[0] = (int64_t)c->n_pages;
  kv->k.stride[0] = (int64_t)c->page_bytes;
  kv->v = kv->k;
  kv->kv_len = &c->kv_len;
  return status;
}

static void describe_plain(struct attention *c)
{
  const struct attention_shape *s = &c->shape;
  size_t rows = s->kv_len * KV_HEADS;
  xf_kv *kv = &c->desc.kv;
  kv->layout = XF_KV_PLAIN;
  kv->k = kv->v = dense_batch(NULL, s->type, s->kv_len, KV_HEADS, s->head_dim);
  c->v_at = rows * s->head_dim * xf_type_size(s->type);
  c->k_scale_at = c->kv_bytes = 2 * c->v_at;
  if (s->type != XF_I8) return;
  kv->k_scale = kv->v_scale = dense(NULL, XF_F32, 1, s->kv_len, KV_HEADS);
  c->v_scale_at = c->k_scale_at + rows * sizeof(float);
  c->kv_bytes = c->v_scale_at + rows * sizeof(float);
}

static void describe_standard(struct attention *c)
{
  const struct attention_shape *s = &c->shape;
  c->sequence = (struct xf_attention_sequence){.pages = c->pages,
                                               .first = (ptrdiff_t)(s->kv_len - s->q_len),
                                               .q_len = s->q_len,
                                               .kv_len = s->kv_len,
                                               .q = c->q,
                                               .out = c->out};
  c->standard =
      (struct xf_attention){.kv = xf_kv_layout_dense(s->type, PAGE_LEN, s->head_dim, s->head_dim),
                            .q_heads = Q_HEADS,
                            .kv_heads = KV_HEADS,
                            .q_stride = (ptrdiff_t)(Q_HEADS * s->head_dim),
                            .q_head_stride = (ptrdiff_t)s->head_dim,
                            .out_stride = (ptrdiff_t)(Q_HEADS * s->head_dim),
                            .out_head_stride = (ptrdiff_t)s->head_dim,
                            .causal = true,
                            .n = 1,
                            .sequences = &c->sequence};
}

static bool allocate(struct attention *c)
{
  const struct attention_shape *s = &c->shape;
  size_t n = s->q_len * Q_HEADS * s->head_dim;
  c->q = xf_alloc(n, sizeof *c->q);
  c->out = xf_alloc_zeroed(n, sizeof *c->out);
  c->pages = xf_alloc_zeroed(c->n_pages, sizeof *c->pages);
  c->table = xf_alloc_zeroed(c->n_pages, sizeof *c->table);
  if (!c->q || !c->out || !c->pages || !c->table || c->kv_bytes > arena_bytes()) return false;
  arena_fill(c->q, n);
  for (size_t i = 0; i < c->n_pages; i++) c->table[i] = (uint32_t)i;
  c->desc.kv.page_table = c->shape.packed ? c->table : NULL;
  c->desc.q = dense_batch(c->q, XF_F32, s->q_len, Q_HEADS, s->head_dim);
  c->desc.out = dense_batch(c->out, XF_F32, s->q_len, Q_HEADS, s->head_dim);
  place(c);
  describe_standard(c);
  if (s->standard)
    c->workspace_bytes =
        xf_attention_standard_floats(c->base.context, &c->standard) * sizeof(float);
  else if (xf_attention_workspace(c->base.context, &c->desc, 0, &c->workspace_bytes, NULL))
    return false;
  c->workspace = xf_alloc_zeroed(c->workspace_bytes, 1);
  return c->workspace != NULL;
}

struct bench_case *attention_case(const xf_context *context, const struct attention_shape *s)
{
  struct attention *c = calloc(1, sizeof *c);
  if (!c) return NULL;
  c->shape = *s;
  c->kv_len = (int64_t)s->kv_len;
  c->desc = (xf_attention_desc){.struct_size = sizeof c->desc, .causal = 1};
  if (s->type == XF_I8) c->desc.scale = 0.001f; /* bytes are large: not all weights shall be 0 */
  bool good = true;
  if (s->packed)
    good = describe_packed(c) == XF_OK;
  else
    describe_plain(c);
  size_t rows = s->kv_len * KV_HEADS, scales = s->type == XF_I8 ? 2 * sizeof(float) : 0;
  double kv = (double)rows * (double)(2 * s->head_dim * xf_type_size(s->type) + scales);
  double qo = 2.0 * (double)(s->q_len * Q_HEADS * s->head_dim * sizeof(float));
  c->base = (struct bench_case){.context = context,
                                .flops = 4.0 * (double)(s->head_dim * Q_HEADS) *
                                         visible_pairs(s->q_len, s->kv_len),
                                .bytes = s->cold ? kv : kv + qo,
                                .cold = s->cold,
                                .run = attention_run,
                                .free = attention_free};
  if (good && allocate(c)) return &c->base;
  attention_free(c);
  return NULL;
}

void attention_case_bind(struct bench_case *attention, const float *q, float *out)
{
  struct attention *c = (struct attention *)attention;
  c->desc.q.data = q;
  c->desc.out.data = out;
}

xf_status attention_case_write(struct bench_case *attention, const void *k, const void *v)
{
  struct attention *c = (struct attention *)attention;
  const struct attention_shape *s = &c->shape;
  if (!s->packed) {
    c->desc.kv.k.data = k;
    c->desc.kv.v.data = v;
    return XF_OK;
  }
  xf_view k_view = dense(k, s->type, s->kv_len, KV_HEADS, s->head_dim), v_view = k_view;
  v_view.data = v;
  return xf_kv_pack(c->base.context, s->type, PAGE_LEN, &k_view, &v_view, 0, c->pages[0],
                    c->page_bytes, c->n_pages, NULL, NULL);
}
