#include "model/tflite_tensors.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dispatch/error.h"
#include "dispatch/memory.h"
#include "exactflash/tokenizer.h"
#include "model/tflite_llama.h"

struct list {
  struct xf_tflite *t;
  const struct xf_tflite_llama *llama;
  struct xf_tflite_tensors *out;
  xf_error *error;
};

/* ---- tensors ---- */

static const struct type {
  int type;
  xf_type ours;
  const char *name;
} types[] = {{XF_TFLITE_F32, XF_F32, "FLOAT32"},
             {XF_TFLITE_F16, XF_F16, "FLOAT16"},
             {XF_TFLITE_I8, XF_I8, "INT8"}};

static const struct type *find_type(int type)
{
  for (size_t i = 0; i < sizeof types / sizeof *types; i++)
    if (types[i].type == type) return &types[i];
  return NULL;
}

/* The next tensor of the list. */
static struct xf_tensor *add(const struct list *list, enum xf_role role, size_t layer,
                             const char *suffix)
{
  struct xf_tflite_tensors *out = list->out;
  char *name = out->names + out->n * XF_MAX_NAME;
  xf_tensor_name(&xf_naming_tflite, role, layer, suffix, name);
  struct xf_tensor *tensor = &out->tensors[out->n++];
  *tensor = (struct xf_tensor){.name = name, .path = list->t->path};
  return tensor;
}

static void take_rows(struct xf_tensor *tensor, const struct xf_tflite_part *part,
                      const unsigned char *data, size_t row_bytes)
{
  tensor->shape[0] = part->run * part->groups;
  tensor->data = data + part->first * row_bytes;
  tensor->bytes = ((part->groups - 1) * part->pitch + part->run) * row_bytes;
  if (part->groups > 1) {
    tensor->run = part->run;
    tensor->skip = part->pitch - part->run;
  }
}

static xf_status add_part(const struct list *list, enum xf_role role, size_t layer,
                          const struct xf_tflite_part *part)
{
  const struct xf_tflite_tensor *from = &list->t->tensors[part->tensor];
  const struct type *type = find_type(from->type);
  struct xf_tensor *tensor = add(list, role, layer, ".weight");
  size_t elements, k = from->rank == 2 ? from->shape[1] : 1;
  if (!type)
    return xf_fail(list->error, XF_E_UNSUPPORTED,
                   "%s: tensor %s: only FLOAT32, FLOAT16 and INT8 are supported, not type %d",
                   list->t->path, tensor->name, from->type);
  if (__builtin_mul_overflow(from->shape[0], k, &elements) ||
      from->bytes / xf_type_size(type->ours) != elements)
    return xf_fail(list->error, XF_E_FORMAT,
                   "%s: tensor %s: its data is not as large as its shape says; is it cut off?",
                   list->t->path, tensor->name);
  tensor->type = type->ours;
  tensor->dtype = type->name;
  tensor->rank = from->rank;
  tensor->shape[1] = from->rank == 2 ? k : 0;
  take_rows(tensor, part, from->data, k * xf_type_size(type->ours));
  if (type->ours != XF_I8) return XF_OK;
  const unsigned char *scales = xf_tflite_scales(list->t, part->tensor, from->shape[0]);
  if (!scales)
    return xf_fail(list->error, XF_E_UNSUPPORTED,
                   "%s: tensor %s: only INT8 with one scale for each row, and without zero points, "
                   "is supported",
                   list->t->path, tensor->name);
  struct xf_tensor *scale = add(list, role, layer, ".scale");
  scale->type = XF_F32;
  scale->dtype = types[0].name;
  scale->rank = 1;
  take_rows(scale, part, scales, sizeof(float));
  return XF_OK;
}

static xf_status add_frequencies(const struct list *list)
{
  const struct xf_tflite_tensor *from = &list->t->tensors[list->llama->inv_freq];
  size_t half = list->llama->head_dim / 2;
  struct xf_tensor *tensor = &list->out->tensors[list->out->n++];
  *tensor = (struct xf_tensor){.name = xf_naming_tflite.rope_table,
                               .path = list->t->path,
                               .type = XF_F32,
                               .dtype = types[0].name,
                               .rank = 1,
                               .shape = {half},
                               .data = from->data,
                               .bytes = from->bytes};
  if (from->type == XF_TFLITE_F32 && from->bytes == half * sizeof(float)) return XF_OK;
  return xf_fail(list->error, XF_E_FORMAT, "%s: its frequencies are not %zu numbers of FLOAT32",
                 list->t->path, half);
}

/* Whether the head is the embedding. */
static bool is_tied(const struct list *list)
{
  const struct xf_tflite_part *outside = list->llama->outside;
  return list->t->tensors[outside[XF_HEAD].tensor].data ==
         list->t->tensors[outside[XF_EMBEDDING].tensor].data;
}

static xf_status add_all(const struct list *list)
{
  const struct xf_tflite_llama *llama = list->llama;
  xf_status status = XF_OK;
  for (size_t layer = 0; layer < llama->n_layers; layer++)
    for (enum xf_role role = XF_ATTENTION_NORM; role < XF_ROLES && !status; role++)
      status = add_part(list, role, layer, &llama->layers[layer][role]);
  for (enum xf_role role = 0; role < XF_ATTENTION_NORM && !status; role++)
    if (role != XF_HEAD || !is_tied(list)) status = add_part(list, role, 0, &llama->outside[role]);
  return status ? status : add_frequencies(list);
}

/* ---- config ---- */

/* The theta of which the table is made, found from its last entry; or TABLE where there is none. */
static void find_theta(const struct list *list, struct xf_config *config)
{
  size_t half = config->head_dim / 2;
  float table[XF_MAX_HEAD_DIM / 2], made[XF_MAX_HEAD_DIM / 2];
  char text[32];
  memcpy(table, list->t->tensors[list->llama->inv_freq].data, half * sizeof *table);
  double exponent = (double)config->head_dim / (double)(2 * (half - 1));
  snprintf(text, sizeof text, "%.6g", pow((double)table[half - 1], -exponent));
  config->rope = (struct xf_rope_config){.type = XF_ROPE_NONE, .theta = atof(text), .factor = 1};
  bool usable = config->rope.theta >= 1 && config->rope.theta <= 1e30;
  if (usable) xf_rope_inv_freq(config, made);
  if (usable && memcmp(table, made, half * sizeof *table) == 0) return;
  config->rope.type = XF_ROPE_TABLE;
  if (!usable) config->rope.theta = 0;
}

/* The ids of the tokenizer beside the file; a file without one can do without them. */
static void find_ids(const struct list *list, struct xf_config *config)
{
  xf_tokenizer *tokenizer;
  config->bos = -1;
  if (xf_tokenizer_open(list->t->path, &tokenizer, NULL) != XF_OK) return;
  int32_t bos = xf_tokenizer_bos(tokenizer), eos = xf_tokenizer_eos(tokenizer);
  if (bos >= 0 && (size_t)bos < config->vocab) config->bos = bos;
  if (eos >= 0 && (size_t)eos < config->vocab) config->eos[config->n_eos++] = eos;
  xf_tokenizer_close(tokenizer);
}

static size_t rows_of(const struct list *list, const struct xf_tflite_part *part)
{
  return list->t->tensors[part->tensor].shape[0];
}

static xf_status fill_config(const struct list *list, struct xf_config *config)
{
  static const struct xf_head_fields names = {"the embedding's width", "the heads of q",
                                              "the heads of k", "the size of heads"};
  const struct xf_tflite_llama *llama = list->llama;
  const struct xf_tflite_part *embedding = &llama->outside[XF_EMBEDDING];
  *config = (struct xf_config){
      .hidden = list->t->tensors[embedding->tensor].shape[1],
      .intermediate = rows_of(list, &llama->layers[0][XF_GATE]),
      .layers = llama->n_layers,
      .heads = llama->heads,
      .kv_heads = llama->kv_heads,
      .head_dim = llama->head_dim,
      .vocab = rows_of(list, embedding),
      .max_positions = llama->cache_len,
      .rms_eps = (float)llama->epsilon,
      .tied = is_tied(list),
  };
  if (config->hidden < 1 || config->hidden > XF_MAX_WIDTH || config->intermediate < 1 ||
      config->intermediate > XF_MAX_FF || config->vocab < 1 || config->vocab > XF_MAX_VOCAB)
    return xf_fail(list->error, XF_E_SHAPE,
                   "%s: a width of %zu, %zu rows of gate and a vocabulary of %zu are no Llama's",
                   list->t->path, config->hidden, config->intermediate, config->vocab);
  xf_status status = xf_config_check_heads(list->t->path, &names, config, list->error);
  if (status) return status;
  find_theta(list, config);
  find_ids(list, config);
  return XF_OK;
}

static xf_status read_list(const struct list *list, struct xf_config *config)
{
  enum { PER_LAYER = 2 * (XF_ROLES - XF_ATTENTION_NORM), OUTSIDE = 2 * XF_ATTENTION_NORM + 1 };
  struct xf_tflite_tensors *out = list->out;
  size_t most = list->llama->n_layers * PER_LAYER + OUTSIDE;
  out->tensors = xf_alloc(most, sizeof *out->tensors);
  out->names = xf_alloc(most, XF_MAX_NAME);
  if (!out->tensors || !out->names) return xf_file_no_memory(list->error, list->t->path);
  xf_status status = add_all(list);
  if (!status && config) status = fill_config(list, config);
  qsort(out->tensors, out->n, sizeof *out->tensors, xf_tensor_compare);
  return status;
}

xf_status xf_tflite_tensors_read(struct xf_tflite *tflite, struct xf_config *config,
                                 struct xf_tflite_tensors *out, xf_error *error)
{
  struct xf_tflite_llama llama;
  *out = (struct xf_tflite_tensors){0};
  xf_status status = xf_tflite_llama_read(tflite, &llama, error);
  if (status) return status;
  const struct list list = {tflite, &llama, out, error};
  status = read_list(&list, config);
  xf_tflite_llama_free(&llama);
  if (status) xf_tflite_tensors_free(out);
  return status;
}

void xf_tflite_tensors_free(struct xf_tflite_tensors *tensors)
{
  xf_free(tensors->tensors);
  xf_free(tensors->names);
  *tensors = (struct xf_tflite_tensors){0};
}
