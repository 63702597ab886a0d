#include "model/weights.h"

#include <stdio.h>
#include <string.h>

#include "dispatch/error.h"
#include "dispatch/memory.h"

struct loader {
  const xf_context *context;
  const struct xf_config *config;
  const char *folder;
  struct xf_weights *out;
  xf_error *error;
};

/* A tensor of the checkpoint that a layer is made of. */
struct part {
  const char *name; /* without ".weight" */
  size_t n;
};

enum { MAX_NAME = 96, MAX_PARTS = 3 };

/* The tensor must not exist: the model would be computed without it. */
static xf_status expect_none(const struct loader *loader, const char *name, xf_status otherwise,
                             const char *reason)
{
  const struct xf_tensor *tensor = xf_checkpoint_find(loader->out->checkpoint, name);
  if (!tensor) return XF_OK;
  return xf_fail(loader->error, otherwise, "%s: holds a tensor %s, but %s", tensor->path, name,
                 reason);
}

static xf_status get_matrix(const struct loader *loader, const char *prefix, const char *name,
                            size_t n, size_t k, const struct xf_tensor **out)
{
  char full[MAX_NAME];
  snprintf(full, sizeof full, "%s%s.bias", prefix, name);
  xf_status status =
      expect_none(loader, full, XF_E_UNSUPPORTED, "linear layers with bias are not supported");
  if (status != XF_OK) return status;
  snprintf(full, sizeof full, "%s%s.weight", prefix, name);
  status = xf_checkpoint_get(loader->out->checkpoint, full, n, k, out, loader->error);
  if (status == XF_OK) loader->out->parameters += (uint64_t)n * k;
  return status;
}

/* Packs matrices [n, k] one below the other, and lets go of their pages. */
static xf_status pack(const struct loader *loader, const struct xf_tensor *const *tensors,
                      size_t parts, struct xf_linear *out)
{
  struct xf_matrix matrices[MAX_PARTS] = {0};
  for (size_t i = 0; i < parts; i++)
    matrices[i] = (struct xf_matrix){tensors[i]->data, tensors[i]->type, tensors[i]->shape[0],
                                     tensors[i]->shape[1]};
  xf_status status = xf_linear_pack(loader->context, matrices, parts, out, loader->error);
  for (size_t i = 0; i < parts; i++) xf_checkpoint_release(loader->out->checkpoint, tensors[i]);
  return status;
}

static xf_status load_linear(const struct loader *loader, const char *prefix,
                             const struct part *parts, size_t n_parts, size_t k,
                             struct xf_linear *out)
{
  const struct xf_tensor *tensors[MAX_PARTS];
  for (size_t i = 0; i < n_parts; i++) {
    xf_status status = get_matrix(loader, prefix, parts[i].name, parts[i].n, k, &tensors[i]);
    if (status != XF_OK) return status;
  }
  return pack(loader, tensors, n_parts, out);
}

struct widen {
  void (*kernel)(size_t n, const uint16_t *x, float *y);
  size_t n;
  const uint16_t *x;
  float *y;
};

static void widen(void *arg, size_t slot, size_t item)
{
  (void)slot, (void)item;
  const struct widen *work = arg;
  work->kernel(work->n, work->x, work->y);
}

/* The tensor's elements as floats; NULL when out of memory. */
static float *copy_floats(const xf_context *context, const struct xf_tensor *tensor)
{
  size_t n = tensor->shape[0];
  float *wide = xf_alloc(n, sizeof *wide);
  if (!wide) return NULL;
  if (tensor->type == XF_F32) return memcpy(wide, tensor->data, tensor->bytes);
  uint16_t *narrow = xf_alloc(n, sizeof *narrow); /* aligned, as the kernels need it */
  if (!narrow) {
    xf_free(wide);
    return NULL;
  }
  memcpy(narrow, tensor->data, tensor->bytes);
  const struct xf_kernels *kernels = context->kernels;
  struct widen work = {tensor->type == XF_F16 ? kernels->widen_f16 : kernels->widen_bf16, n, narrow,
                       wide};
  xf_parallel(context, 1, widen, &work); /* for its floating-point environment */
  xf_free(narrow);
  return wide;
}

static xf_status load_norm(const struct loader *loader, const char *prefix, const char *name,
                           float **out)
{
  char full[MAX_NAME];
  snprintf(full, sizeof full, "%s%s.weight", prefix, name);
  const struct xf_tensor *tensor = NULL;
  xf_status status = xf_checkpoint_get(loader->out->checkpoint, full, loader->config->hidden, 0,
                                       &tensor, loader->error);
  if (status != XF_OK) return status;
  *out = copy_floats(loader->context, tensor);
  if (!*out)
    return xf_fail(loader->error, XF_E_MEMORY, "%s: out of memory for %s", tensor->path, full);
  loader->out->parameters += tensor->shape[0];
  return XF_OK;
}

static xf_status load_layer(const struct loader *loader, size_t index)
{
  const struct xf_config *config = loader->config;
  struct xf_layer *layer = &loader->out->layers[index];
  char prefix[MAX_NAME / 2];
  snprintf(prefix, sizeof prefix, "model.layers.%zu.", index);
  size_t hidden = config->hidden, ff = config->intermediate;
  size_t q = config->heads * config->head_dim, kv = config->kv_heads * config->head_dim;
  const struct part qkv[] = {
      {"self_attn.q_proj", q}, {"self_attn.k_proj", kv}, {"self_attn.v_proj", kv}};
  const struct part o = {"self_attn.o_proj", hidden}, down = {"mlp.down_proj", hidden};
  const struct part gate_up[] = {{"mlp.gate_proj", ff}, {"mlp.up_proj", ff}};
  xf_status status = load_norm(loader, prefix, "input_layernorm", &layer->attention_norm);
  if (status == XF_OK) status = load_linear(loader, prefix, qkv, 3, hidden, &layer->qkv);
  if (status == XF_OK) status = load_linear(loader, prefix, &o, 1, q, &layer->o);
  if (status == XF_OK)
    status = load_norm(loader, prefix, "post_attention_layernorm", &layer->mlp_norm);
  if (status == XF_OK) status = load_linear(loader, prefix, gate_up, 2, hidden, &layer->gate_up);
  if (status == XF_OK) status = load_linear(loader, prefix, &down, 1, ff, &layer->down);
  return status;
}

/* The last norm and the head, which is the embedding where config.json ties them. */
static xf_status load_head(const struct loader *loader)
{
  const struct xf_config *config = loader->config;
  struct xf_weights *out = loader->out;
  xf_status status = load_norm(loader, "", "model.norm", &out->norm);
  if (status != XF_OK) return status;
  if (config->tied) return pack(loader, &out->embedding, 1, &out->head);
  const struct part head = {"lm_head", config->vocab};
  return load_linear(loader, "", &head, 1, config->hidden, &out->head);
}

/* Everything but layers and head. */
static xf_status start(const struct loader *loader)
{
  const struct xf_config *config = loader->config;
  struct xf_weights *out = loader->out;
  xf_status status = xf_checkpoint_open(loader->folder, &out->checkpoint, loader->error);
  if (status != XF_OK) return status;
  out->layers = xf_alloc_zeroed(config->layers, sizeof *out->layers);
  out->inv_freq = xf_alloc(config->head_dim / 2, sizeof *out->inv_freq);
  if (!out->layers || !out->inv_freq)
    return xf_fail(loader->error, XF_E_MEMORY, "%s: out of memory for the list of its layers",
                   loader->folder);
  out->n_layers = config->layers;
  xf_rope_inv_freq(config, out->inv_freq);
  char surplus[MAX_NAME];
  snprintf(surplus, sizeof surplus, "model.layers.%zu.input_layernorm.weight", config->layers);
  status =
      expect_none(loader, surplus, XF_E_SHAPE, "config.json's num_hidden_layers ends before it");
  if (status != XF_OK) return status;
  return get_matrix(loader, "", "model.embed_tokens", config->vocab, config->hidden,
                    &out->embedding);
}

static xf_status report(const struct loader *loader, xf_progress progress, void *arg, size_t done)
{
  if (!progress || progress(arg, "load", done, loader->config->layers + 1) == 0) return XF_OK;
  return xf_fail(loader->error, XF_E_CANCELLED, "%s: loading was cancelled", loader->folder);
}

static xf_status load(const struct loader *loader, xf_progress progress, void *arg)
{
  xf_status status = start(loader);
  if (status == XF_OK) status = report(loader, progress, arg, 0);
  for (size_t i = 0; i < loader->config->layers && status == XF_OK; i++) {
    status = load_layer(loader, i);
    if (status == XF_OK) status = report(loader, progress, arg, i + 1);
  }
  if (status == XF_OK) status = load_head(loader);
  if (status == XF_OK) status = report(loader, progress, arg, loader->config->layers + 1);
  return status;
}

xf_status xf_weights_load(const xf_context *context, const struct xf_config *config,
                          const char *folder, xf_progress progress, void *progress_arg,
                          struct xf_weights *out, xf_error *error)
{
  *out = (struct xf_weights){0};
  struct loader loader = {context, config, folder, out, error};
  xf_status status = load(&loader, progress, progress_arg);
  if (status == XF_OK)
    xf_checkpoint_keep_only(out->checkpoint, out->embedding);
  else
    xf_weights_free(out);
  return status;
}

void xf_weights_free(struct xf_weights *weights)
{
  for (size_t i = 0; i < weights->n_layers; i++) {
    struct xf_layer *layer = &weights->layers[i];
    xf_free(layer->attention_norm);
    xf_linear_free(&layer->qkv);
    xf_linear_free(&layer->o);
    xf_free(layer->mlp_norm);
    xf_linear_free(&layer->gate_up);
    xf_linear_free(&layer->down);
  }
  xf_free(weights->layers);
  xf_free(weights->norm);
  xf_linear_free(&weights->head);
  xf_free(weights->inv_freq);
  xf_checkpoint_close(weights->checkpoint);
  *weights = (struct xf_weights){0};
}

uint64_t xf_weights_bytes(const struct xf_weights *weights)
{
  size_t norms = (2 * weights->n_layers + 1) * weights->head.k * sizeof(float);
  uint64_t bytes = norms + xf_linear_bytes(&weights->head);
  for (size_t i = 0; i < weights->n_layers; i++) {
    const struct xf_layer *layer = &weights->layers[i];
    bytes += xf_linear_bytes(&layer->qkv) + xf_linear_bytes(&layer->o) +
             xf_linear_bytes(&layer->gate_up) + xf_linear_bytes(&layer->down);
  }
  return bytes;
}
