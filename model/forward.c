/* The model, top to bottom. A call's tokens go through the layers in passes of at most `chunk`
 * rows; a row is one token of any sequence, and what happens to it does not depend on its
 * neighbours. */
#include <string.h>

#include "dispatch/error.h"
#include "dispatch/memory.h"
#include "dispatch/widen.h"
#include "model/workspace.h"

/* One pass: rows of the workspace, grouped by sequence. */
struct pass {
  const xf_model *model;
  struct xf_workspace *w;
  size_t rows, n_sequences;
  struct xf_kv_layout kv; /* of the layer */
  const float *norm;      /* the gains that the next add_and_norm applies */
  bool add;               /* and whether it adds x to h before */
};

/* ---- the operations on one row ---- */

static void embed_row(void *arg, size_t slot, size_t r)
{
  (void)slot;
  const struct pass *p = arg;
  const struct xf_tensor *e = p->model->weights.embedding;
  const struct xf_kernels *kernels = p->model->context->kernels;
  size_t hidden = p->model->config.hidden, half = p->model->config.head_dim / 2;
  size_t bytes = hidden * xf_type_size(e->type);
  const char *row = (const char *)e->data + (size_t)p->w->rows[r].token * bytes;
  xf_widen(kernels, e->type, hidden, row, p->w->h + r * hidden);
  kernels->rope_angles(half, (float)p->w->rows[r].position, p->model->weights.inv_freq,
                       p->w->cos + r * half, p->w->sin + r * half);
}

/* h = h + x; x = norm(h). */
static void add_and_norm_row(void *arg, size_t slot, size_t r)
{
  (void)slot;
  const struct pass *p = arg;
  const struct xf_kernels *kernels = p->model->context->kernels;
  size_t hidden = p->model->config.hidden;
  float *h = p->w->h + r * hidden, *x = p->w->x + r * hidden;
  if (p->add) kernels->add(hidden, h, x);
  kernels->rms_norm(hidden, h, p->norm, p->model->config.rms_eps, x);
}

/* Rotates q and k; k and v go to the cache. */
static void rope_and_store_row(void *arg, size_t slot, size_t r)
{
  (void)slot;
  const struct pass *p = arg;
  const struct xf_config *c = &p->model->config;
  const struct xf_row *row = &p->w->rows[r];
  size_t d = c->head_dim;
  float *q = p->w->qkv + r * (c->heads + 2 * c->kv_heads) * d;
  float *k = q + c->heads * d, *v = k + c->kv_heads * d;
  for (size_t head = 0; head < c->heads + c->kv_heads; head++)
    p->model->context->kernels->rope(d / 2, p->w->cos + r * d / 2, p->w->sin + r * d / 2,
                                     q + head * d);
  xf_kv_write(&p->kv, c->kv_heads, row->sequence->cache->pages, row->position, k, v);
}

static void silu_row(void *arg, size_t slot, size_t r)
{
  (void)slot;
  const struct pass *p = arg;
  size_t n = p->model->config.intermediate;
  float *gate = p->w->gate_up + r * 2 * n;
  p->model->context->kernels->silu_mul(n, gate, gate + n, gate);
}

/* ---- the operations on all rows ---- */

static void each_row(const struct pass *p, xf_work work)
{
  xf_parallel(p->model->context, p->rows, work, (void *)p);
}

static void add_and_norm(struct pass *p, bool add, const float *norm)
{
  p->add = add;
  p->norm = norm;
  each_row(p, add_and_norm_row);
}

static void linear(const struct pass *p, const struct xf_linear *w, const float *x, size_t ldx,
                   float *y)
{
  xf_linear_apply(p->model->context, w, p->rows, x, ldx, y, w->n, p->w->linear);
}

_Static_assert((int)XF_SPLIT_AUTO == (int)XF_KEYS_AUTO &&
                   (int)XF_SPLIT_NEVER == (int)XF_KEYS_WHOLE &&
                   (int)XF_SPLIT_ALWAYS == (int)XF_KEYS_SPLIT,
               "the public names of the split modes have the operator's values");

static struct xf_attention attention_call(const struct pass *p)
{
  const struct xf_config *c = &p->model->config;
  return (struct xf_attention){.kv = p->kv,
                               .q_heads = c->heads,
                               .kv_heads = c->kv_heads,
                               .q_stride = (ptrdiff_t)((c->heads + 2 * c->kv_heads) * c->head_dim),
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

/* False when out of memory. */
static bool attention(const struct pass *p)
{
  const xf_context *context = p->model->context;
  struct xf_attention call = attention_call(p);
  bool standard = p->model->options.attention == XF_ATTENTION_STANDARD;
  size_t floats = standard ? xf_attention_standard_floats(context, &call)
                           : xf_attention_workspace_floats(&call, context->threads);
  if (!xf_buffer_grow(&p->w->scores, floats)) return false;
  (standard ? xf_attention_standard : xf_attention_flash)(context, &call, p->w->scores.data);
  return true;
}

/* In the last layer only the rows that want logits need more than K and V. These rows, of each
 * sequence some of its last ones, move to the front, and the pass goes on with them alone. */
static void keep_wanted_rows(struct pass *p)
{
  const struct xf_attention call = attention_call(p);
  struct xf_workspace *w = p->w;
  size_t hidden = p->model->config.hidden, row = 0;
  p->rows = p->n_sequences = 0;
  for (size_t i = 0; i < call.n; i++) {
    struct xf_attention_sequence s = w->sequences[i];
    size_t end = row + s.q_len;
    for (; row < end && !w->rows[row].logits; row++) s.q_len--, s.first++, s.q += call.q_stride;
    if (row == end) continue;
    s.out = w->attention + (ptrdiff_t)p->rows * call.out_stride;
    w->sequences[p->n_sequences++] = s;
    memmove(w->rows + p->rows, w->rows + row, s.q_len * sizeof *w->rows);
    memmove(w->h + p->rows * hidden, w->h + row * hidden, s.q_len * hidden * sizeof *w->h);
    p->rows += s.q_len;
    row = end;
  }
}

/* Leaves in x what the head needs. False when out of memory. */
static bool layers(struct pass *p)
{
  const struct xf_weights *weights = &p->model->weights;
  struct xf_workspace *w = p->w;
  size_t hidden = p->model->config.hidden, intermediate = p->model->config.intermediate;
  each_row(p, embed_row);
  for (size_t i = 0; i < weights->n_layers; i++) {
    const struct xf_layer *layer = &weights->layers[i];
    p->kv = xf_cache_layout(p->model, i);
    add_and_norm(p, i > 0, layer->attention_norm);
    linear(p, &layer->qkv, w->x, hidden, w->qkv);
    each_row(p, rope_and_store_row);
    if (i + 1 == weights->n_layers) keep_wanted_rows(p);
    if (p->rows == 0) return true;
    if (!attention(p)) return false;
    linear(p, &layer->o, w->attention, layer->o.k, w->x);
    add_and_norm(p, true, layer->mlp_norm);
    linear(p, &layer->gate_up, w->x, hidden, w->gate_up);
    each_row(p, silu_row);
    linear(p, &layer->down, w->gate_up, 2 * intermediate, w->x);
  }
  add_and_norm(p, true, weights->norm);
  return true;
}

/* The logits of the rows that are left, written to the callers' memory directly where that is one
 * block. False when out of memory. */
static bool head(const struct pass *p)
{
  const struct xf_row *rows = p->w->rows;
  struct xf_buffer *logits = &p->w->logits;
  size_t vocab = p->model->config.vocab;
  bool one_block = true;
  if (p->rows == 0) return true;
  for (size_t r = 0; r < p->rows; r++) one_block &= rows[r].logits == rows[0].logits + r * vocab;
  if (!one_block && !xf_buffer_grow(logits, p->rows * vocab)) return false;
  linear(p, &p->model->weights.head, p->w->x, p->model->config.hidden,
         one_block ? rows[0].logits : logits->data);
  for (size_t r = 0; r < p->rows && !one_block; r++)
    memcpy(rows[r].logits, logits->data + r * vocab, vocab * sizeof(float));
  return true;
}

/* ---- passes ---- */

/* Tokens of a call that earlier passes have taken: all of the sequences before `sequence`, and
 * `token` of that one. */
struct progress {
  size_t sequence, token;
};

static void add_rows(struct pass *p, const struct xf_sequence *s, size_t from, size_t n)
{
  const struct xf_config *c = &p->model->config;
  size_t first = s->cache->length + from, row = p->rows;
  p->w->sequences[p->n_sequences++] = (struct xf_attention_sequence){
      .pages = s->cache->pages,
      .first = (ptrdiff_t)first,
      .q_len = n,
      .kv_len = first + n,
      .q = p->w->qkv + row * (c->heads + 2 * c->kv_heads) * c->head_dim,
      .out = p->w->attention + row * c->heads * c->head_dim,
  };
  for (size_t i = from; i < from + n; i++) {
    float *logits = NULL;
    if (s->logits == XF_LOGITS_ALL) logits = s->out + i * c->vocab;
    if (s->logits == XF_LOGITS_LAST && i + 1 == s->n_tokens) logits = s->out;
    p->w->rows[p->rows++] = (struct xf_row){s, s->tokens[i], s->cache->length + i, logits};
  }
}

/* Fills the pass with the next rows of the call. */
static void next_rows(struct pass *p, const struct xf_sequence *sequences, size_t n,
                      struct progress *done)
{
  p->rows = p->n_sequences = 0;
  while (done->sequence < n && p->rows < p->w->max_rows) {
    const struct xf_sequence *s = &sequences[done->sequence];
    size_t count = xf_min(s->n_tokens - done->token, p->w->max_rows - p->rows);
    add_rows(p, s, done->token, count);
    done->token += count;
    if (done->token == s->n_tokens) *done = (struct progress){done->sequence + 1, 0};
  }
}

static xf_status check(const xf_model *model, const struct xf_sequence *s, size_t index,
                       xf_error *error)
{
  if (!s->cache || s->cache->model != model)
    return xf_fail(error, XF_E_ARGUMENT, "sequence %zu: its cache is NULL or of another model",
                   index);
  if (!s->tokens || s->n_tokens == 0)
    return xf_fail(error, XF_E_ARGUMENT, "sequence %zu: no tokens; at least one is needed", index);
  if (s->logits < XF_LOGITS_NONE || s->logits > XF_LOGITS_ALL ||
      (s->logits != XF_LOGITS_NONE && !s->out))
    return xf_fail(error, XF_E_ARGUMENT, "sequence %zu: logits %d without a place for them", index,
                   (int)s->logits);
  for (size_t i = 0; i < s->n_tokens; i++)
    if (s->tokens[i] < 0 || (size_t)s->tokens[i] >= model->config.vocab)
      return xf_fail(error, XF_E_ARGUMENT, "sequence %zu: token %zu is %d; vocab_size is %zu",
                     index, i, s->tokens[i], model->config.vocab);
  if (s->n_tokens > s->cache->capacity - s->cache->length)
    return xf_fail(error, XF_E_CACHE_FULL,
                   "sequence %zu: %zu tokens after %zu do not fit a KV cache of %zu positions "
                   "(kv_cache_max_len)",
                   index, s->n_tokens, s->cache->length, s->cache->capacity);
  return XF_OK;
}

static xf_status check_all(const xf_model *model, const struct xf_sequence *sequences, size_t n,
                           xf_error *error)
{
  if (!model || (n > 0 && !sequences))
    return xf_fail(error, XF_E_ARGUMENT, "xf_forward: model or sequences is NULL");
  for (size_t i = 0; i < n; i++) {
    xf_status status = check(model, &sequences[i], i, error);
    if (status) return status;
    for (size_t j = 0; j < i; j++)
      if (sequences[j].cache == sequences[i].cache)
        return xf_fail(error, XF_E_ARGUMENT, "sequences %zu and %zu share a cache", j, i);
  }
  return XF_OK;
}

/* Pages for the new tokens, then pass after pass. */
static xf_status run(const xf_model *model, const xf_sequence *sequences, size_t n, xf_error *error)
{
  for (size_t i = 0; i < n; i++) {
    xf_cache *cache = sequences[i].cache;
    xf_status status = xf_cache_reserve(cache, cache->length + sequences[i].n_tokens, error);
    if (status) return status;
  }
  struct pass p = {.model = model, .w = xf_workspace_take(model)};
  if (!p.w) return xf_fail(error, XF_E_MEMORY, "out of memory for the activations");
  xf_status status = XF_OK;
  for (struct progress done = {0, 0}; done.sequence < n;) {
    next_rows(&p, sequences, n, &done);
    if (layers(&p) && head(&p)) continue;
    status =
        xf_fail(error, XF_E_MEMORY, "out of memory for attention or logits of %zu rows", p.rows);
    break;
  }
  xf_workspace_give_back(model, p.w);
  return status;
}

xf_status xf_forward(const xf_model *model, const xf_sequence *sequences, size_t n, xf_error *error)
{
  xf_status status = check_all(model, sequences, n, error);
  if (status || n == 0) return status;
  status = run(model, sequences, n, error);
  for (size_t i = 0; i < n; i++) {
    xf_cache *cache = sequences[i].cache;
    if (status)
      xf_cache_truncate(cache, cache->length); /* gives back the pages taken */
    else
      cache->length += sequences[i].n_tokens;
  }
  return status;
}
