#include "bench/cases.h"

#include <stdlib.h>

#include "bench/arena.h"
#include "dispatch/memory.h"

/* ---- linear ---- */

struct linear {
  struct bench_case base;
  struct xf_linear weights;
  size_t rows;
  float *x, *y, *scratch;
};

static void linear_run(void *self)
{
  struct linear *c = self;
  c->weights.panels = arena_next(xf_linear_bytes(&c->weights));
  xf_linear_apply(c->base.context, &c->weights, c->rows, c->x, c->weights.k, c->y, c->weights.n,
                  c->scratch);
}

static void linear_free(void *self)
{
  struct linear *c = self;
  xf_free(c->x), xf_free(c->y), xf_free(c->scratch);
  free(c);
}

struct bench_case *linear_case(const xf_context *context, xf_type type, size_t rows, size_t n,
                               size_t k)
{
  struct linear *c = calloc(1, sizeof *c);
  if (!c) return NULL;
  c->weights = (struct xf_linear){.type = type, .n = n, .k = k};
  c->rows = rows;
  c->base = (struct bench_case){.context = context,
                                .flops = 2.0 * (double)rows * (double)n * (double)k,
                                .bytes = (double)xf_linear_bytes(&c->weights),
                                .cold = true,
                                .run = linear_run,
                                .free = linear_free};
  c->x = xf_alloc(rows * k, sizeof *c->x);
  c->y = xf_alloc_zeroed(rows * n, sizeof *c->y);
  c->scratch = xf_alloc_zeroed(context->threads * XF_LINEAR_SCRATCH, sizeof *c->scratch);
  if (!c->x || !c->y || !c->scratch) {
    linear_free(c);
    return NULL;
  }
  arena_fill(c->x, rows * k);
  return &c->base;
}

/* ---- attention ---- */

enum { HEAD_FLOATS = 2 * PAGE_LEN * HEAD_DIM, PAGE_FLOATS = KV_HEADS * HEAD_FLOATS };

struct attention {
  struct bench_case base;
  struct xf_attention op;
  struct xf_attention_sequence sequence;
  size_t n_pages;
  float **pages, *q, *out, *workspace;
};

static void place_pages(struct attention *c)
{
  float *data = arena_next(c->n_pages * PAGE_FLOATS * sizeof *data);
  for (size_t i = 0; i < c->n_pages; i++) c->pages[i] = data + i * PAGE_FLOATS;
}

static void attention_run(void *self)
{
  struct attention *c = self;
  if (c->base.cold) place_pages(c);
  xf_attention_flash(c->base.context, &c->op, c->workspace);
}

static void attention_free(void *self)
{
  struct attention *c = self;
  xf_free(c->pages), xf_free(c->q), xf_free(c->out), xf_free(c->workspace);
  free(c);
}

/* Pairs of a query and a key that it sees, of one head. */
static double visible_pairs(size_t q_len, size_t kv_len)
{
  double first = (double)(kv_len - q_len + 1);
  return (double)q_len * (first + (double)kv_len) / 2;
}

static void describe_attention(struct attention *c, size_t q_len, size_t kv_len)
{
  c->n_pages = (kv_len + PAGE_LEN - 1) / PAGE_LEN;
  c->sequence =
      (struct xf_attention_sequence){.first = kv_len - q_len, .q_len = q_len, .kv_len = kv_len};
  c->op = (struct xf_attention){.kv = {.page_len = PAGE_LEN,
                                       .d_k = HEAD_DIM,
                                       .d_v = HEAD_DIM,
                                       .v_stride = HEAD_DIM,
                                       .v_offset = PAGE_LEN * HEAD_DIM,
                                       .head_stride = HEAD_FLOATS},
                                .q_heads = Q_HEADS,
                                .kv_heads = KV_HEADS,
                                .q_stride = HIDDEN,
                                .q_head_stride = HEAD_DIM,
                                .out_stride = HIDDEN,
                                .out_head_stride = HEAD_DIM,
                                .scale = 0.125f,
                                .causal = true,
                                .n = 1,
                                .sequences = &c->sequence};
}

struct bench_case *attention_case(const xf_context *context, size_t q_len, size_t kv_len, bool cold)
{
  struct attention *c = calloc(1, sizeof *c);
  if (!c) return NULL;
  describe_attention(c, q_len, kv_len);
  double bytes = 2.0 * HEAD_DIM * KV_HEADS * sizeof(float) * (double)kv_len;
  c->base = (struct bench_case){.context = context,
                                .flops = 4.0 * HEAD_DIM * Q_HEADS * visible_pairs(q_len, kv_len),
                                .bytes = cold ? bytes : 0,
                                .cold = cold,
                                .run = attention_run,
                                .free = attention_free};
  c->pages = xf_alloc(c->n_pages, sizeof *c->pages);
  c->q = xf_alloc(q_len * HIDDEN, sizeof *c->q);
  c->out = xf_alloc_zeroed(q_len * HIDDEN, sizeof *c->out);
  c->workspace = xf_alloc_zeroed(xf_attention_workspace_floats(&c->op, context->threads),
                                 sizeof *c->workspace);
  if (!c->pages || !c->q || !c->out || !c->workspace) {
    attention_free(c);
    return NULL;
  }
  arena_fill(c->q, q_len * HIDDEN);
  place_pages(c);
  c->sequence.pages = c->pages;
  c->sequence.q = c->q;
  c->sequence.out = c->out;
  return &c->base;
}

void attention_case_bind(struct bench_case *attention, const float *q, float *out)
{
  struct attention *c = (struct attention *)attention;
  c->sequence.q = q;
  c->sequence.out = out;
}

void attention_case_write(struct bench_case *attention, const float *k, const float *v)
{
  const struct attention *c = (const struct attention *)attention;
  const size_t stride = KV_HEADS * HEAD_DIM;
  for (size_t i = 0; i < c->sequence.kv_len; i++)
    xf_kv_write(&c->op.kv, KV_HEADS, c->pages, i, k + i * stride, v + i * stride);
}

/* ---- elementwise ---- */

struct elementwise_rows {
  struct bench_case base;
  enum elementwise what;
  size_t rows, n;
  float *x, *w, *y; /* [rows][n] */
};

static void rows_run(void *self)
{
  struct elementwise_rows *c = self;
  const struct xf_kernels *kernels = c->base.context->kernels;
  for (size_t r = 0; r < c->rows; r++) {
    float *x = c->x + r * c->n, *w = c->w + r * c->n, *y = c->y + r * c->n;
    if (c->what == RMS_NORM)
      kernels->rms_norm(c->n, x, c->w, 1e-5f, y);
    else if (c->what == SILU_MUL)
      kernels->silu_mul(c->n, x, w, y);
    else
      for (size_t i = 0; i < c->n; i += HEAD_DIM)
        kernels->rope(HEAD_DIM / 2, c->w, c->w + HEAD_DIM / 2, y + i);
  }
}

static void rows_free(void *self)
{
  struct elementwise_rows *c = self;
  xf_free(c->x), xf_free(c->w), xf_free(c->y);
  free(c);
}

struct bench_case *elementwise_case(const xf_context *context, enum elementwise what, size_t rows)
{
  struct elementwise_rows *c = calloc(1, sizeof *c);
  if (!c) return NULL;
  c->what = what;
  c->rows = rows;
  c->n = what == SILU_MUL ? INTERMEDIATE : HIDDEN;
  double streams = what == SILU_MUL ? 3 : 2; /* read and written */
  c->base = (struct bench_case){.context = context,
                                .bytes = streams * sizeof(float) * (double)rows * (double)c->n,
                                .run = rows_run,
                                .free = rows_free};
  c->x = xf_alloc(rows * c->n, sizeof *c->x);
  c->w = xf_alloc(rows * c->n, sizeof *c->w);
  c->y = xf_alloc(rows * c->n, sizeof *c->y);
  if (!c->x || !c->w || !c->y) {
    rows_free(c);
    return NULL;
  }
  arena_fill(c->x, rows * c->n);
  arena_fill(c->w, rows * c->n);
  arena_fill(c->y, rows * c->n);
  if (what == ROPE) /* a rotation, so that y stays finite however often it runs */
    for (size_t i = 0; i < HEAD_DIM; i++) c->w[i] = i < HEAD_DIM / 2 ? 0.6f : 0.8f;
  return &c->base;
}
