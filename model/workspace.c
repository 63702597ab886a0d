#include "model/workspace.h"

#include "dispatch/memory.h"

bool xf_buffer_grow(struct xf_buffer *buffer, size_t floats)
{
  if (floats <= buffer->capacity) return true;
  xf_free(buffer->data);
  buffer->data = xf_alloc(floats, sizeof(float));
  buffer->capacity = buffer->data ? floats : 0;
  return buffer->data != NULL;
}

void xf_workspace_free(struct xf_workspace *workspace)
{
  if (!workspace) return;
  xf_free(workspace->rows);
  xf_free(workspace->sequences);
  xf_free(workspace->positions);
  xf_free(workspace->tokens);
  xf_free(workspace->caches);
  xf_free(workspace->h);
  xf_free(workspace->x);
  xf_free(workspace->qkv);
  xf_free(workspace->attention);
  xf_free(workspace->gate_up);
  xf_free(workspace->cos);
  xf_free(workspace->sin);
  xf_free(workspace->linear_memory);
  xf_free(workspace->scores.data);
  xf_free(workspace->logits.data);
  xf_free(workspace);
}

static struct xf_workspace *workspace_new(const xf_model *model)
{
  const struct xf_config *c = &model->config;
  size_t rows = model->options.chunk, size = sizeof(float);
  struct xf_workspace *w = xf_alloc_zeroed(1, sizeof *w);
  if (!w) return NULL;
  w->max_rows = rows;
  w->rows = xf_alloc(rows, sizeof *w->rows);
  w->sequences = xf_alloc(rows, sizeof *w->sequences);
  w->positions = xf_alloc(rows, sizeof *w->positions);
  w->tokens = xf_alloc(rows, sizeof *w->tokens);
  w->caches = xf_alloc(rows, sizeof *w->caches);
  w->h = xf_alloc(rows * c->hidden, size);
  w->x = xf_alloc(rows * c->hidden, size);
  w->qkv = xf_alloc(rows * (c->heads + 2 * c->kv_heads) * c->head_dim, size);
  w->attention = xf_alloc(rows * c->heads * c->head_dim, size);
  w->gate_up = xf_alloc(rows * 2 * c->intermediate, size);
  w->cos = xf_alloc(rows * c->head_dim / 2, size);
  w->sin = xf_alloc(rows * c->head_dim / 2, size);
  /* Activations of the widest input of a layer. */
  bool integers = model->options.activations == XF_ACTIVATIONS_INT8 && model->weights.has_quants;
  size_t k = c->heads * c->head_dim;
  if (k < c->hidden) k = c->hidden;
  if (k < c->intermediate) k = c->intermediate;
  struct xf_linear_rows inputs = {integers ? rows : 0, model->context->fast ? rows : 0, k};
  w->linear_memory = xf_alloc(xf_linear_scratch_bytes(model->context, inputs), 1);
  if (w->rows && w->sequences && w->positions && w->tokens && w->caches && w->h && w->x && w->qkv &&
      w->attention && w->gate_up && w->cos && w->sin && w->linear_memory) {
    w->linear = xf_linear_scratch_in(w->linear_memory, model->context, inputs);
    return w;
  }
  xf_workspace_free(w);
  return NULL;
}

struct xf_workspace *xf_workspace_take(const xf_model *model)
{
  struct xf_idle *idle = model->idle;
  pthread_mutex_lock(&idle->lock);
  struct xf_workspace *workspace = idle->first;
  if (workspace) idle->first = workspace->next;
  pthread_mutex_unlock(&idle->lock);
  return workspace ? workspace : workspace_new(model);
}

void xf_workspace_give_back(const xf_model *model, struct xf_workspace *workspace)
{
  struct xf_idle *idle = model->idle;
  pthread_mutex_lock(&idle->lock);
  workspace->next = idle->first;
  idle->first = workspace;
  pthread_mutex_unlock(&idle->lock);
}
