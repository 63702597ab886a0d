/* The model, top to bottom. A call's tokens go through the layers in passes of at most `chunk`
 * rows; a row is one token of any sequence, and what happens to it does not depend on its
 * neighbours. */
#include <string.h>

#include "dispatch/error.h"
#include "dispatch/memory.h"
#include "model/pass.h"

/* In the last layer only the rows that want logits need more than K and V. These rows, of each
 * sequence some of its last ones, move to the front, and the pass goes on with them alone. */
static void keep_wanted_rows(struct xf_pass *p)
{
  const struct xf_attention call = xf_pass_attention_call(p);
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

/* Leaves in x what the head needs. */
static void layers(struct xf_pass *p)
{
  const struct xf_weights *weights = &p->model->weights;
  struct xf_workspace *w = p->w;
  size_t hidden = p->model->config.hidden, intermediate = p->model->config.intermediate;
  xf_pass_embed(p);
  for (size_t i = 0; i < weights->n_layers; i++) {
    const struct xf_layer *layer = &weights->layers[i];
    p->kv = xf_cache_layout(p->model, i);
    p->layer = (int32_t)i;
    xf_pass_norm(p, i > 0, "attention_norm", layer->attention_norm);
    xf_pass_linear(p, "qkv", &layer->qkv, w->x, hidden, w->qkv);
    xf_pass_rope_and_store(p);
    if (i + 1 == weights->n_layers) keep_wanted_rows(p);
    if (p->rows == 0) return;
    xf_pass_attention(p);
    xf_pass_linear(p, "o", &layer->o, w->attention, layer->o.k, w->x);
    xf_pass_norm(p, true, "mlp_norm", layer->mlp_norm);
    xf_pass_linear(p, "gate_up", &layer->gate_up, w->x, hidden, w->gate_up);
    xf_pass_silu(p);
    xf_pass_linear(p, "down", &layer->down, w->gate_up, 2 * intermediate, w->x);
  }
  p->layer = -1;
  xf_pass_norm(p, true, "norm", weights->norm);
}

/* The logits of the rows that are left, written to the callers' memory directly where that is one
 * block. */
static void head(struct xf_pass *p)
{
  const struct xf_row *rows = p->w->rows;
  struct xf_buffer *logits = &p->w->logits;
  size_t vocab = p->model->config.vocab;
  bool one_block = true;
  if (p->rows == 0 || p->status) return;
  for (size_t r = 0; r < p->rows; r++) one_block &= rows[r].logits == rows[0].logits + r * vocab;
  if (!one_block && !xf_buffer_grow(logits, p->rows * vocab)) {
    p->status = xf_fail(p->error, XF_E_MEMORY, "out of memory for logits of %zu rows", p->rows);
    return;
  }
  xf_pass_linear(p, "head", &p->model->weights.head, p->w->x, p->model->config.hidden,
                 one_block ? rows[0].logits : logits->data);
  for (size_t r = 0; r < p->rows && !one_block && !p->status; r++)
    memcpy(rows[r].logits, logits->data + r * vocab, vocab * sizeof(float));
}

/* ---- passes ---- */

/* Tokens of a call that earlier passes have taken: all of the sequences before `sequence`, and
 * `token` of that one. */
struct progress {
  size_t sequence, token;
};

static void add_rows(struct xf_pass *p, const struct xf_sequence *s, size_t from, size_t n)
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
static void next_rows(struct xf_pass *p, const struct xf_sequence *sequences, size_t n,
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
  struct xf_pass p = {.model = model, .w = xf_workspace_take(model), .error = error};
  if (!p.w) return xf_fail(error, XF_E_MEMORY, "out of memory for the activations");
  for (struct progress done = {0, 0}; done.sequence < n && !p.status;) {
    next_rows(&p, sequences, n, &done);
    p.layer = -1;
    layers(&p);
    head(&p);
  }
  xf_workspace_give_back(model, p.w);
  return p.status;
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
