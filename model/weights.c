#include "model/weights.h"

#include <float.h>
#include <stdlib.h>
#include <string.h>

#include "dispatch/error.h"
#include "dispatch/memory.h"
#include "dispatch/widen.h"
#include "model/file.h"
#include "model/packed.h"
#include "model/source.h"

struct loader {
  const xf_context *context;
  const struct xf_config *config;
  struct xf_weights *out;             /* with the open checkpoint */
  const struct xf_gguf_value *packed; /* model/packed.h; NULL: matrices */
  xf_error *error;
};

/* A matrix that a layer is made of. */
struct part {
  enum xf_role role;
  size_t n;
};

static const char *place_of(const struct loader *loader)
{
  return xf_checkpoint_place(loader->out->checkpoint);
}

static void name_of(const struct loader *loader, enum xf_role role, size_t layer,
                    const char *suffix, char name[static XF_MAX_NAME])
{
  xf_tensor_name(xf_checkpoint_naming(loader->out->checkpoint), role, layer, suffix, name);
}

static xf_status get_matrix(const struct loader *loader, enum xf_role role, size_t layer, size_t n,
                            size_t k, struct xf_source *out)
{
  const struct xf_checkpoint *checkpoint = loader->out->checkpoint;
  xf_status status = xf_source_get(checkpoint, role, layer, n, k, out, loader->error);
  if (status != XF_OK) return status;
  if (xf_checkpoint_naming(checkpoint)->paired && (role == XF_Q || role == XF_K))
    out->matrix.paired = loader->config->head_dim;
  loader->out->parameters += (uint64_t)n * k;
  return XF_OK;
}

/* Packs matrices [n, k] one below the other, and lets go of their pages. */
static xf_status pack(const struct loader *loader, const struct xf_source *sources, size_t n,
                      struct xf_linear *out)
{
  struct xf_matrix matrices[XF_LINEAR_PARTS];
  for (size_t i = 0; i < n; i++) {
    matrices[i] = sources[i].matrix;
    xf_matrix_narrow(loader->context, &matrices[i]);
  }
  xf_status status = xf_linear_pack(loader->context, matrices, n, out, loader->error);
  for (size_t i = 0; i < n; i++) xf_checkpoint_release(sources[i].tensor);
  loader->out->has_quants |= status == XF_OK && xf_linear_has_quants(out);
  return status;
}

/* A layer that the checkpoint holds in the form of memory. */
static xf_status map_linear(const struct loader *loader, size_t layer, const struct part *parts,
                            size_t n, size_t k, struct xf_linear *out)
{
  size_t columns = 0;
  for (size_t i = 0; i < n; i++) columns += parts[i].n;
  xf_status status = xf_packed_map(loader->out->checkpoint, loader->packed, parts[0].role, layer,
                                   columns, k, out, loader->error);
  if (status != XF_OK) return status;
  if (parts[0].role == XF_Q && layer == 0) loader->out->type = out->parts[0].type;
  loader->out->has_quants |= xf_linear_has_quants(out);
  if (parts[0].role != XF_HEAD || !loader->config->tied)
    loader->out->parameters += (uint64_t)columns * k;
  return XF_OK;
}

static xf_status load_linear(const struct loader *loader, size_t layer, const struct part *parts,
                             size_t n, size_t k, struct xf_linear *out)
{
  if (loader->packed) return map_linear(loader, layer, parts, n, k, out);
  struct xf_source sources[XF_LINEAR_PARTS];
  for (size_t i = 0; i < n; i++) {
    xf_status status = get_matrix(loader, parts[i].role, layer, parts[i].n, k, &sources[i]);
    if (status != XF_OK) return status;
  }
  if (parts[0].role == XF_Q && layer == 0) loader->out->type = sources[0].matrix.type;
  return pack(loader, sources, n, out);
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
static xf_status load_head(const struct loader *loader, const struct xf_source *embedding)
{
  const struct xf_config *config = loader->config;
  struct xf_weights *out = loader->out;
  xf_status status = load_norm(loader, XF_FINAL_NORM, 0, &out->norm);
  if (status != XF_OK) return status;
  if (config->tied && !loader->packed) return pack(loader, embedding, 1, &out->head);
  const struct part head = {XF_HEAD, config->vocab};
  return load_linear(loader, 0, &head, 1, config->hidden, &out->head);
}

/* RoPE's frequencies as the checkpoint has them. */
static xf_status load_rope_table(const struct loader *loader)
{
  float *table = NULL;
  size_t half = loader->config->head_dim / 2;
  const char *name = xf_checkpoint_naming(loader->out->checkpoint)->rope_table;
  xf_status status = load_vector(loader, name, half, &table);
  for (size_t i = 0; i < half && status == XF_OK; i++)
    if (!(table[i] >= 0 && table[i] <= FLT_MAX))
      status = xf_fail(loader->error, XF_E_FORMAT, "%s: %s: element %zu (%g) is no frequency",
                       place_of(loader), name, i, (double)table[i]);
  if (status == XF_OK) memcpy(loader->out->inv_freq, table, half * sizeof *table);
  xf_free(table);
  return status;
}

/* RoPE's frequencies, divided by the checkpoint's factors where the config says it has some. */
static xf_status load_rope(const struct loader *loader)
{
  const struct xf_config *config = loader->config;
  float *inv_freq = loader->out->inv_freq, *factors = NULL;
  if (config->rope.type == XF_ROPE_TABLE) return load_rope_table(loader);
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
static xf_status start(const struct loader *loader, struct xf_source *embedding)
{
  const struct xf_config *config = loader->config;
  struct xf_weights *out = loader->out;
  out->layers = xf_alloc_zeroed(config->layers, sizeof *out->layers);
  out->inv_freq = xf_alloc(config->head_dim / 2, sizeof *out->inv_freq);
  if (!out->layers || !out->inv_freq) return xf_file_no_memory(loader->error, place_of(loader));
  out->n_layers = config->layers;
  xf_status status = load_rope(loader);
  if (status == XF_OK)
    status = xf_source_expect_layers(out->checkpoint, config->layers, loader->error);
  if (status != XF_OK) return status;
  return get_matrix(loader, XF_EMBEDDING, 0, config->vocab, config->hidden, embedding);
}

static xf_status report(const struct loader *loader, xf_progress progress, void *arg, size_t done)
{
  if (!progress || progress(arg, "load", done, loader->config->layers + 1) == 0) return XF_OK;
  return xf_fail(loader->error, XF_E_CANCELLED, "%s: loading was cancelled", place_of(loader));
}

static xf_status load(const struct loader *loader, xf_progress progress, void *arg)
{
  struct xf_source embedding;
  xf_status status = start(loader, &embedding);
  if (status == XF_OK) status = report(loader, progress, arg, 0);
  for (size_t i = 0; i < loader->config->layers && status == XF_OK; i++) {
    status = load_layer(loader, i);
    if (status == XF_OK) status = report(loader, progress, arg, i + 1);
  }
  if (status == XF_OK) status = load_head(loader, &embedding);
  if (status == XF_OK) status = report(loader, progress, arg, loader->config->layers + 1);
  if (status != XF_OK) return status;
  loader->out->embedding = embedding.matrix;
  xf_checkpoint_keep_only(loader->out->checkpoint, embedding.tensor);
  return XF_OK;
}

xf_status xf_weights_load(const xf_context *context, const struct xf_config *config,
                          struct xf_checkpoint *checkpoint, xf_progress progress,
                          void *progress_arg, struct xf_weights *out, xf_error *error)
{
  *out = (struct xf_weights){.checkpoint = checkpoint};
  struct loader loader = {context, config, out, NULL, error};
  xf_status status = xf_packed_parts(checkpoint, config, &loader.packed, error);
  if (status == XF_OK) status = load(&loader, progress, progress_arg);
  if (status != XF_OK) xf_weights_free(out);
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

struct shares {
  xf_type_share *items;
  size_t n;
};

static void add_share(struct shares *shares, xf_type type, uint64_t parameters, uint64_t bytes)
{
  size_t i = 0;
  while (i < shares->n && shares->items[i].type != type) i++;
  if (i == shares->n) shares->items[shares->n++] = (xf_type_share){.type = type};
  shares->items[i].parameters += parameters;
  shares->items[i].bytes += bytes;
}

static void add_linear(struct shares *shares, const struct xf_linear *linear)
{
  for (size_t i = 0; i < linear->n_parts; i++)
    add_share(shares, linear->parts[i].type, (uint64_t)linear->parts[i].n * linear->k,
              xf_linear_part_bytes(linear, i));
}

static int compare_bytes(const void *a, const void *b)
{
  const xf_type_share *x = a, *y = b;
  if (x->bytes != y->bytes) return x->bytes > y->bytes ? -1 : 1;
  return (int)x->type - (int)y->type;
}

size_t xf_weights_types(const struct xf_weights *weights, xf_type_share out[static XF_TYPES_MOST])
{
  struct shares shares = {.items = out};
  uint64_t norms = (2 * weights->n_layers + 1) * weights->head.k;
  for (size_t i = 0; i < weights->n_layers; i++) {
    const struct xf_layer *layer = &weights->layers[i];
    add_linear(&shares, &layer->qkv);
    add_linear(&shares, &layer->o);
    add_linear(&shares, &layer->gate_up);
    add_linear(&shares, &layer->down);
  }
  add_linear(&shares, &weights->head);
  add_share(&shares, XF_F32, norms, norms * sizeof(float));
  qsort(out, shares.n, sizeof *out, compare_bytes);
  return shares.n;
}
