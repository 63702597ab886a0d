/* The operators of a pass: what is computed, and the host's boundary around it. */
#include <math.h>

#include "dispatch/error.h"
#include "dispatch/memory.h"
#include "model/pass.h"

/* An operator on its way, of which a host sees the first member. */
struct call {
  xf_operator op;
  struct xf_pass *pass;
  xf_work row; /* of operators that go row by row */
  const struct xf_linear *w;
  float *x, *y; /* LINEAR */
  size_t ldx;
  struct xf_attention attention;
  xf_attention_desc desc; /* what op.attention points to */
  int64_t first;
};

/* ---- one row ---- */

static void embed_row(void *arg, size_t slot, size_t r)
{
  (void)slot;
  const struct xf_pass *p = arg;
  const struct xf_kernels *kernels = p->model->context->kernels;
  size_t hidden = p->model->config.hidden;
  xf_matrix_widen(kernels, &p->model->weights.embedding, (size_t)p->w->rows[r].token,
                  p->w->h + r * hidden);
}

/* Of RoPE, for all layers. */
static void angles_row(void *arg, size_t slot, size_t r)
{
  (void)slot;
  const struct xf_pass *p = arg;
  size_t half = p->model->config.head_dim / 2;
  p->model->context->kernels->rope_angles(half, (float)p->w->rows[r].position,
                                          p->model->weights.inv_freq, p->w->cos + r * half,
                                          p->w->sin + r * half);
}

static void embed_and_angles_row(void *arg, size_t slot, size_t r)
{
  embed_row(arg, slot, r);
  angles_row(arg, slot, r);
}

/* h = h + x */
static void add_row(void *arg, size_t slot, size_t r)
{
  (void)slot;
  const struct xf_pass *p = arg;
  size_t hidden = p->model->config.hidden;
  p->model->context->kernels->add(hidden, p->w->h + r * hidden, p->w->x + r * hidden);
}

/* x = norm(h) */
static void norm_row(void *arg, size_t slot, size_t r)
{
  (void)slot;
  const struct xf_pass *p = arg;
  size_t hidden = p->model->config.hidden;
  p->model->context->kernels->rms_norm(hidden, p->w->h + r * hidden, p->norm,
                                       p->model->config.rms_eps, p->w->x + r * hidden);
}

static void add_and_norm_row(void *arg, size_t slot, size_t r)
{
  add_row(arg, slot, r);
  norm_row(arg, slot, r);
}

static size_t qkv_stride(const struct xf_config *c)
{
  return (c->heads + 2 * c->kv_heads) * c->head_dim;
}

/* Rotates q and k. */
static void rope_row(void *arg, size_t slot, size_t r)
{
  (void)slot;
  const struct xf_pass *p = arg;
  const struct xf_config *c = &p->model->config;
  size_t d = c->head_dim;
  float *q = p->w->qkv + r * qkv_stride(c);
  for (size_t head = 0; head < c->heads + c->kv_heads; head++)
    p->model->context->kernels->rope(d / 2, p->w->cos + r * d / 2, p->w->sin + r * d / 2,
                                     q + head * d);
}

/* k and v go to the cache. */
static void store_row(void *arg, size_t slot, size_t r)
{
  (void)slot;
  const struct xf_pass *p = arg;
  const struct xf_config *c = &p->model->config;
  const struct xf_row *row = &p->w->rows[r];
  const float *k = p->w->qkv + r * qkv_stride(c) + c->heads * c->head_dim;
  xf_kv_write(p->model->context->kernels, &p->kv, c->kv_heads, row->sequence->cache->pages,
              row->position, k, k + c->kv_heads * c->head_dim);
}

static void rope_and_store_row(void *arg, size_t slot, size_t r)
{
  rope_row(arg, slot, r);
  store_row(arg, slot, r);
}

static void silu_row(void *arg, size_t slot, size_t r)
{
  (void)slot;
  const struct xf_pass *p = arg;
  size_t n = p->model->config.intermediate;
  float *gate = p->w->gate_up + r * 2 * n;
  p->model->context->kernels->silu_mul(n, gate, gate + n, gate);
}

/* ---- the built-in operators ---- */

static xf_status run_attention(const struct call *c, xf_error *error)
{
  const xf_context *context = c->pass->model->context;
  struct xf_buffer *scores = &c->pass->w->scores;
  bool standard = c->pass->model->options.attention == XF_ATTENTION_STANDARD;
  size_t floats = standard ? xf_attention_standard_floats(context, &c->attention)
                           : xf_attention_workspace_floats(&c->attention, context->threads);
  if (!xf_buffer_grow(scores, floats))
    return xf_fail(error, XF_E_MEMORY, "out of memory for attention of %zu rows", c->pass->rows);
  (standard ? xf_attention_standard : xf_attention_flash)(context, &c->attention, scores->data);
  return XF_OK;
}

static xf_status run(const struct call *c, xf_error *error)
{
  const struct xf_pass *p = c->pass;
  if (c->op.kind == XF_OPERATOR_ATTENTION) return run_attention(c, error);
  if (c->op.kind == XF_OPERATOR_LINEAR)
    xf_linear_apply(p->model->context, c->w, p->rows, c->x, c->ldx, c->y, c->w->n, &p->w->linear);
  else
    xf_parallel(p->model->context, p->rows, c->row, (void *)p);
  return XF_OK;
}

xf_status xf_operator_run(const xf_operator *op, xf_error *error)
{
  if (!op) return xf_fail(error, XF_E_ARGUMENT, "xf_operator_run: op is NULL");
  return run((const struct call *)op, error);
}

xf_status xf_operator_keys(const xf_operator *op, float *k, float *v)
{
  if (!op || op->kind != XF_OPERATOR_ATTENTION || !k || !v) return XF_E_ARGUMENT;
  const struct xf_attention *attention = &((const struct call *)op)->attention;
  const struct xf_attention_sequence *s = attention->sequences;
  size_t row = attention->kv_heads * attention->kv.d_k;
  const struct xf_kernels *kernels = ((const struct call *)op)->pass->model->context->kernels;
  xf_fp_state caller = xf_fp_enter();
  for (size_t i = 0; i < s->kv_len; i++)
    xf_kv_read(kernels, &attention->kv, attention->kv_heads, s->pages, i, k + i * row, v + i * row);
  xf_fp_leave(caller);
  return XF_OK;
}

/* ---- boundaries ---- */

static bool is_hooked(const struct xf_pass *p, unsigned kinds)
{
  const xf_model_options *options = &p->model->options;
  return options->boundary && (!options->boundaries || options->boundaries & kinds);
}

static xf_view rows_view(const struct xf_pass *p, const float *data, size_t n, size_t stride)
{
  return (xf_view){.data = data,
                   .type = XF_F32,
                   .rank = 2,
                   .shape = {(int64_t)p->rows, (int64_t)n},
                   .stride = {(int64_t)(stride * sizeof *data), sizeof *data}};
}

/* [rows, heads, head_dim] in qkv. */
static xf_view heads_view(const struct xf_pass *p, const float *data, size_t heads)
{
  const struct xf_config *c = &p->model->config;
  return (xf_view){.data = data,
                   .type = XF_F32,
                   .rank = 3,
                   .shape = {(int64_t)p->rows, (int64_t)heads, (int64_t)c->head_dim},
                   .stride = {(int64_t)(qkv_stride(c) * sizeof *data),
                              (int64_t)(c->head_dim * sizeof *data), sizeof *data}};
}

/* x and y of all kinds but ATTENTION and LINEAR. */
static void add_views(struct call *c)
{
  const struct xf_pass *p = c->pass;
  const struct xf_config *config = &p->model->config;
  size_t hidden = config->hidden, ff = config->intermediate;
  xf_operator *op = &c->op;
  float *k = p->w->qkv + config->heads * config->head_dim;
  switch (op->kind) {
  case XF_OPERATOR_EMBEDDING:
    op->y = rows_view(p, p->w->h, hidden, hidden);
    op->tokens = p->w->tokens;
    break;
  case XF_OPERATOR_ADD:
    op->x = rows_view(p, p->w->x, hidden, hidden);
    op->y = rows_view(p, p->w->h, hidden, hidden);
    break;
  case XF_OPERATOR_RMS_NORM:
    op->x = rows_view(p, p->w->h, hidden, hidden);
    op->y = rows_view(p, p->w->x, hidden, hidden);
    op->gain = p->norm;
    op->eps = config->rms_eps;
    break;
  case XF_OPERATOR_ROPE:
    op->x = heads_view(p, p->w->qkv, config->heads);
    op->y = heads_view(p, k, config->kv_heads);
    op->inv_freq = p->model->weights.inv_freq;
    break;
  case XF_OPERATOR_KV_WRITE:
    op->x = heads_view(p, k, config->kv_heads);
    op->y = heads_view(p, k + config->kv_heads * config->head_dim, config->kv_heads);
    break;
  default: /* SILU_MUL */
    op->x = rows_view(p, p->w->gate_up, ff, 2 * ff);
    op->y = rows_view(p, p->w->gate_up + ff, ff, 2 * ff);
  }
}

/* `row`: the first of the rows. */
static void operate(struct call *c, size_t row)
{
  struct xf_pass *p = c->pass;
  const xf_model_options *options = &p->model->options;
  static const char *const names[] = {"scaled_dot_product_attention",
                                      "linear",
                                      "rms_norm",
                                      "rotary_embedding",
                                      "embedding",
                                      "add",
                                      "silu_mul",
                                      "kv_write"};
  if (!is_hooked(p, c->op.kind)) {
    p->status = run(c, p->error);
    return;
  }
  for (size_t r = 0; r < p->rows; r++) {
    p->w->positions[r] = (int64_t)p->w->rows[r].position;
    p->w->tokens[r] = p->w->rows[r].token;
    p->w->caches[r] = p->w->rows[r].sequence->cache;
  }
  c->op.struct_size = sizeof c->op;
  c->op.name = names[__builtin_ctz(c->op.kind)];
  c->op.layer = p->layer;
  c->op.positions = p->w->positions + row;
  c->op.caches = p->w->caches + row;
  if (p->error) *p->error = (xf_error){0};
  p->status = options->boundary(options->boundary_arg, &c->op, p->error);
  if (p->status && (!p->error || !p->error->message[0]))
    xf_fail(p->error, p->status, "stopped at the boundary of %s (%s)", c->op.name, c->op.tensor);
}

/* An operator that goes row by row. */
static void each_row(struct xf_pass *p, xf_operator_kind kind, const char *tensor, xf_work row)
{
  struct call c = {.op = {.kind = kind, .tensor = tensor}, .pass = p, .row = row};
  if (p->status) return;
  if (is_hooked(p, kind)) add_views(&c);
  operate(&c, 0);
}

void xf_pass_embed(struct xf_pass *p)
{
  bool apart = is_hooked(p, XF_OPERATOR_EMBEDDING);
  if (apart) xf_parallel(p->model->context, p->rows, angles_row, p);
  each_row(p, XF_OPERATOR_EMBEDDING, "embedding", apart ? embed_row : embed_and_angles_row);
}

void xf_pass_norm(struct xf_pass *p, bool add, const char *tensor, const float *gain)
{
  p->norm = gain;
  bool apart = is_hooked(p, XF_OPERATOR_ADD | XF_OPERATOR_RMS_NORM);
  if (add && apart) each_row(p, XF_OPERATOR_ADD, "residual", add_row);
  each_row(p, XF_OPERATOR_RMS_NORM, tensor, add && !apart ? add_and_norm_row : norm_row);
}

void xf_pass_rope_and_store(struct xf_pass *p)
{
  bool apart = is_hooked(p, XF_OPERATOR_ROPE | XF_OPERATOR_KV_WRITE);
  each_row(p, XF_OPERATOR_ROPE, "rope", apart ? rope_row : rope_and_store_row);
  if (apart) each_row(p, XF_OPERATOR_KV_WRITE, "kv", store_row);
}

void xf_pass_silu(struct xf_pass *p)
{
  each_row(p, XF_OPERATOR_SILU_MUL, "silu_mul", silu_row);
}

void xf_pass_linear(struct xf_pass *p, const char *tensor, const struct xf_linear *w, float *x,
                    size_t ldx, float *y)
{
  struct call c = {.op = {.kind = XF_OPERATOR_LINEAR, .tensor = tensor, .weight = w},
                   .pass = p,
                   .w = w,
                   .x = x,
                   .y = y,
                   .ldx = ldx};
  if (p->status) return;
  c.op.x = rows_view(p, x, w->k, ldx);
  c.op.y = rows_view(p, y, w->n, w->n);
  operate(&c, 0);
}

/* ---- attention ---- */

_Static_assert((int)XF_SPLIT_AUTO == (int)XF_KEYS_AUTO &&
                   (int)XF_SPLIT_NEVER == (int)XF_KEYS_WHOLE &&
                   (int)XF_SPLIT_ALWAYS == (int)XF_KEYS_SPLIT,
               "the public names of the split modes have the operator's values");

struct xf_attention xf_pass_attention_call(const struct xf_pass *p)
{
  const struct xf_config *c = &p->model->config;
  return (struct xf_attention){.kv = p->kv,
                               .q_heads = c->heads,
                               .kv_heads = c->kv_heads,
                               .q_stride = (ptrdiff_t)qkv_stride(c),
                               .q_head_stride = (ptrdiff_t)c->head_dim,
                               .out_stride = (ptrdiff_t)(c->heads * c->head_dim),
                               .out_head_stride = (ptrdiff_t)c->head_dim,
                               .scale = 0, /* 1 / sqrt(head_dim) */
                               .causal = true,
                               .q_block = p->model->options.q_block,
                               .q_blocks = p->model->context->q_blocks,
                               .split = (enum xf_attention_split_mode)p->model->options.split,
                               .n = p->n_sequences,
                               .sequences = p->w->sequences};
}

/* [1, n, heads, head_dim], rows `stride` floats apart. */
static xf_view sequence_view(const float *data, size_t n, size_t heads, size_t d, size_t stride)
{
  return (xf_view){.data = data,
                   .type = XF_F32,
                   .rank = 4,
                   .shape = {1, (int64_t)n, (int64_t)heads, (int64_t)d},
                   .stride = {(int64_t)(n * stride * sizeof *data),
                              (int64_t)(stride * sizeof *data), (int64_t)(d * sizeof *data),
                              sizeof *data}};
}

static void describe_attention(struct call *c)
{
  const struct xf_config *config = &c->pass->model->config;
  const struct xf_attention_sequence *s = c->attention.sequences;
  size_t heads = config->heads, kv_heads = config->kv_heads, d = config->head_dim;
  xf_view keys = sequence_view(NULL, s->kv_len, kv_heads, d, kv_heads * d);
  c->first = s->first;
  c->desc = (xf_attention_desc){.struct_size = sizeof c->desc,
                                .q = sequence_view(s->q, s->q_len, heads, d, qkv_stride(config)),
                                .kv = {.layout = XF_KV_PLAIN, .k = keys, .v = keys},
                                .out = sequence_view(s->out, s->q_len, heads, d, heads * d),
                                .q_first = &c->first,
                                .scale = (float)(1.0 / sqrt((double)d)),
                                .causal = 1};
  c->op.attention = &c->desc;
}

/* With a boundary, sequence by sequence. */
void xf_pass_attention(struct xf_pass *p)
{
  struct call c = {.op = {.kind = XF_OPERATOR_ATTENTION, .tensor = "attention"},
                   .pass = p,
                   .attention = xf_pass_attention_call(p)};
  if (p->status) return;
  if (!is_hooked(p, XF_OPERATOR_ATTENTION)) {
    operate(&c, 0);
    return;
  }
  size_t row = 0;
  c.attention.n = 1;
  for (size_t i = 0; i < p->n_sequences && !p->status; i++) {
    c.attention.sequences = &p->w->sequences[i];
    describe_attention(&c);
    operate(&c, row);
    row += p->w->sequences[i].q_len;
  }
}
