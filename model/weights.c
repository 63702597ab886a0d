#include "model/weights.h"

#include <float.h>
#include <stdio.h>
#include <string.h>

#include "dispatch/error.h"
#include "dispatch/memory.h"
#include "dispatch/widen.h"
#include "model/file.h"

struct loader {
  const xf_context *context;
  const struct xf_config *config;
  struct xf_weights *out; /* with the open checkpoint */
  xf_error *error;
};

/* A tensor of the checkpoint that a layer is made of. */
struct part {
  enum xf_role role;
  size_t n;
};

enum { MAX_PARTS = 3 };

static const char *place_of(const struct loader *loader)
{
  return xf_checkpoint_place(loader->out->checkpoint);
}

static void name_of(const struct loader *loader, enum xf_role role, size_t layer,
                    const char *suffix, char name[static XF_MAX_NAME])
{
  xf_tensor_name(xf_checkpoint_naming(loader->out->checkpoint), role, layer, suffix, name);
}

/* The tensor must not exist: the model would be computed without it. */
static xf_status expect_none(const struct loader *loader, const char *name, xf_status otherwise,
                             const char *reason)
{
  const struct xf_tensor *tensor = xf_checkpoint_find(loader->out->checkpoint, name);
  if (!tensor) return XF_OK;
  return xf_fail(loader->error, otherwise, "%s: holds a tensor %s, but %s", tensor->path, name,
                 reason);
}

static xf_status get_matrix(const struct loader *loader, enum xf_role role, size_t layer, size_t n,
                            size_t k, const struct xf_tensor **out)
{
  char name[XF_MAX_NAME];
  name_of(loader, role, layer, ".bias", name);
  xf_status status =
      expect_none(loader, name, XF_E_UNSUPPORTED, "linear layers with bias are not supported");
  if (status != XF_OK) return status;
  name_of(loader, role, layer, ".weight", name);
  status = xf_checkpoint_get(loader->out->checkpoint, name, n, k, out, loader->error);
  if (status == XF_OK) loader->out->parameters += (uint64_t)n * k;
  return status;
}

/* Packs matrices [n, k] one below the other, and lets go of their pages. */
static xf_status pack(const struct loader *loader, const struct xf_matrix *matrices,
                      const struct xf_tensor *const *tensors, size_t n, struct xf_linear *out)
{
  xf_status status = xf_linear_pack(loader->context, matrices, n, out, loader->error);
  for (size_t i = 0; i < n; i++) xf_checkpoint_release(tensors[i]);
  return status;
}

static xf_status load_linear(const struct loader *loader, size_t layer, const struct part *parts,
                             size_t n, size_t k, struct xf_linear *out)
{
  const struct xf_tensor *tensors[MAX_PARTS];
  struct xf_matrix matrices[MAX_PARTS];
  bool paired = xf_checkpoint_naming(loader->out->checkpoint)->paired;
  for (size_t i = 0; i < n; i++) {
    enum xf_role role = parts[i].role;
    xf_status status = get_matrix(loader, role, layer, parts[i].n, k, &tensors[i]);
    if (status != XF_OK) return status;
    bool rotated = role == XF_Q || role == XF_K;
    matrices[i] = (struct xf_matrix){tensors[i]->data,
                                     tensors[i]->type,
                                     parts[i].n,
                                     k,
                                     paired && rotated ? loader->config->head_dim : 0,
                                     0};
  }
  return pack(loader, matrices, tensors, n, out);
}

/* A vector [n] as floats. */
static xf_status load_vector(const struct loader *loader, const char *name, size_t n, float **out)
{
  const struct xf_tensor *tensor = NULL;
  xf_status status = xf_checkpoint_get(loader->out->checkpoint, name, n, 0, &tensor, loader->error);
  if (status != XF_OK) return status;
  *out = xf_alloc(n, sizeof **out);
  if (!*out)
    return xf_fail(loader->error, XF_E_MEMORY, "%s: out of memory for %s", tensor->path, name);
  xf_widen(loader->context->kernels, tensor->type, n, tensor->data, *out);
  return XF_OK;
}

static xf_status load_norm(const struct loader *loader, enum xf_role role, size_t layer,
                           float **out)
{
  char name[XF_MAX_NAME];
  name_of(loader, role, layer, ".weight", name);
  xf_status status = load_vector(loader, name, loader->config->hidden, out);
  if (status == XF_OK) loader->out->parameters += loader->config->hidden;
  return status;
}

static xf_status load_layer(const struct loader *loader, size_t index)
{
  const struct xf_config *config = loader->config;
  struct xf_layer *layer = &loader->out->layers[index];
  size_t hidden = config->hidden, ff = config->intermediate;
  size_t q = config->heads * config->head_dim, kv = config->kv_heads * config->head_dim;
  const struct part qkv[] = {{XF_Q, q}, {XF_K, kv}, {XF_V, kv}};
  const struct part o = {XF_O, hidden}, down = {XF_DOWN, hidden};
  const struct part gate_up[] = {{XF_GATE, ff}, {XF_UP, ff}};
  xf_status status = load_norm(loader, XF_ATTENTION_NORM, index, &layer->attention_norm);
  if (status == XF_OK) status = load_linear(loader, index, qkv, 3, hidden, &layer->qkv);
  if (status == XF_OK) status = load_linear(loader, index, &o, 1, q, &layer->o);
  if (status == XF_OK) status = load_norm(loader, XF_MLP_NORM, index, &layer->mlp_norm);
  if (status == XF_OK) status = load_linear(loader, index, gate_up, 2, hidden, &layer->gate_up);
  if (status == XF_OK) status = load_linear(loader, index, &down, 1, ff, &layer->down);
  return status;
}

/* The last norm and the head, which is the embedding where the config ties them. */
static xf_status load_head(const struct loader *loader)
{
  const struct xf_config *config = loader->config;
  struct xf_weights *out = loader->out;
  xf_status status = load_norm(loader, XF_FINAL_NORM, 0, &out->norm);
  if (status != XF_OK) return status;
  const struct xf_tensor *embedding = out->embedding;
  const struct xf_matrix tied = {
      embedding->data, embedding->type, config->vocab, config->hidden, 0, 0};
  if (config->tied) return pack(loader, &tied, &embedding, 1, &out->head);
  const struct part head = {XF_HEAD, config->vocab};
  return load_linear(loader, 0, &head, 1, config->hidden, &out->head);
}

/* RoPE's frequencies, divided by the checkpoint's factors where the config says it has some. */
static xf_status load_rope(const struct loader *loader)
{
  const struct xf_config *config = loader->config;
  float *inv_freq = loader->out->inv_freq, *factors = NULL;
  xf_rope_inv_freq(config, inv_freq);
  if (config->rope.type != XF_ROPE_FACTORS) return XF_OK;
  const char *name = xf_checkpoint_naming(loader->out->checkpoint)->rope_factors;
  xf_status status = load_vector(loader, name, config->head_dim / 2, &factors);
  if (status != XF_OK) return status;
  for (size_t i = 0; i < config->head_dim / 2 && status == XF_OK; i++) {
    inv_freq[i] /= factors[i];
    if (!(factors[i] > 0 && inv_freq[i] <= FLT_MAX))
      status = xf_fail(loader->error, XF_E_FORMAT, "%s: %s: element %zu (%g) divides no frequency",
                       place_of(loader), name, i, (double)factors[i]);
  }
  xf_free(factors);
  return status;
}

/* Everything but layers and head. */
static xf_status start(const struct loader *loader)
{
  const struct xf_config *config = loader->config;
  struct xf_weights *out = loader->out;
  out->layers = xf_alloc_zeroed(config->layers, sizeof *out->layers);
  out->inv_freq = xf_alloc(config->head_dim / 2, sizeof *out->inv_freq);
  if (!out->layers || !out->inv_freq) return xf_file_no_memory(loader->error, place_of(loader));
  out->n_layers = config->layers;
  xf_status status = load_rope(loader);
  if (status != XF_OK) return status;
  char surplus[XF_MAX_NAME], reason[XF_MAX_NAME];
  name_of(loader, XF_ATTENTION_NORM, config->layers, ".weight", surplus);
  snprintf(reason, sizeof reason, "%s ends before it",
           xf_checkpoint_naming(out->checkpoint)->layer_count);
  status = expect_none(loader, surplus, XF_E_SHAPE, reason);
  if (status != XF_OK) return status;
  return get_matrix(loader, XF_EMBEDDING, 0, config->vocab, config->hidden, &out->embedding);
}

static xf_status report(const struct loader *loader, xf_progress progress, void *arg, size_t done)
{
  if (!progress || progress(arg, "load", done, loader->config->layers + 1) == 0) return XF_OK;
  return xf_fail(loader->error, XF_E_CANCELLED, "%s: loading was cancelled", place_of(loader));
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
                          struct xf_checkpoint *checkpoint, xf_progress progress,
                          void *progress_arg, struct xf_weights *out, xf_error *error)
{
  *out = (struct xf_weights){.checkpoint = checkpoint};
  struct loader loader = {context, config, out, error};
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
