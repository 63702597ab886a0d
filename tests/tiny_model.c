#include "tests/tiny_model.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support.h"

struct tensor {
  char name[64];
  size_t n, k;       /* [n, k]; k is 0 for a vector */
  float mean, scale; /* of its elements */
};

struct tensor_list {
  struct tensor *items;
  size_t count;
};

struct tiny_model tiny_model_smallest(void)
{
  return (struct tiny_model){.hidden = 16,
                             .intermediate = 24,
                             .layers = 1,
                             .heads = 2,
                             .kv_heads = 1,
                             .vocab = 20,
                             .seed = 1};
}

struct tiny_model tiny_model_ragged(void)
{
  return (struct tiny_model){.hidden = 180,
                             .intermediate = 452,
                             .layers = 2,
                             .heads = 4,
                             .kv_heads = 2,
                             .head_dim = 48,
                             .vocab = 555,
                             .seed = 2};
}

struct tiny_model tiny_model_grouped(void)
{
  return (struct tiny_model){.hidden = 84,
                             .intermediate = 196,
                             .layers = 2,
                             .heads = 6,
                             .kv_heads = 2,
                             .head_dim = 24,
                             .vocab = 133,
                             .seed = 5};
}

static size_t head_dim(const struct tiny_model *model)
{
  return model->head_dim ? model->head_dim : model->hidden / model->heads;
}

static size_t elements(const struct tensor *tensor)
{
  return tensor->n * (tensor->k ? tensor->k : 1);
}

static void add(struct tensor_list *list, const char *name, size_t n, size_t k, float gain)
{
  struct tensor *tensor = &list->items[list->count++];
  snprintf(tensor->name, sizeof tensor->name, "%s.weight", name);
  tensor->n = n;
  tensor->k = k;
  tensor->mean = k ? 0.0f : 1.0f;
  tensor->scale = k ? gain / sqrtf((float)k) : gain;
}

static void add_layer(struct tensor_list *list, const struct tiny_model *model, size_t layer)
{
  size_t hidden = model->hidden, ff = model->intermediate;
  size_t q = model->heads * head_dim(model), kv = model->kv_heads * head_dim(model);
  const struct {
    const char *name;
    size_t n, k;
    float gain;
  } parts[] = {
      {"input_layernorm", hidden, 0, 0.1f},   {"self_attn.q_proj", q, hidden, 1.5f},
      {"self_attn.k_proj", kv, hidden, 1.5f}, {"self_attn.v_proj", kv, hidden, 1},
      {"self_attn.o_proj", hidden, q, 1},     {"post_attention_layernorm", hidden, 0, 0.1f},
      {"mlp.gate_proj", ff, hidden, 1},       {"mlp.up_proj", ff, hidden, 1},
      {"mlp.down_proj", hidden, ff, 1},
  };
  for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
    char name[56];
    snprintf(name, sizeof name, "model.layers.%zu.%s", layer, parts[i].name);
    add(list, name, parts[i].n, parts[i].k, parts[i].gain);
  }
}

static struct tensor_list list_tensors(const struct tiny_model *model)
{
  struct tensor_list list = {calloc(9 * model->layers + 3, sizeof *list.items), 0};
  assert_non_null(list.items);
  add(&list, "model.embed_tokens", model->vocab, model->hidden, 3);
  for (size_t i = 0; i < model->layers; i++) add_layer(&list, model, i);
  add(&list, "model.norm", model->hidden, 0, 0.1f);
  if (!model->tied) add(&list, "lm_head", model->vocab, model->hidden, 3);
  return list;
}

/* Cuts a float to binary16; what is below its normal range becomes zero. */
static uint16_t cut_to_f16(float x)
{
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  uint32_t sign = bits >> 16 & 0x8000, magnitude = bits & 0x7FFFFFFF;
  if (magnitude < 113u << 23) return (uint16_t)sign;
  return (uint16_t)(sign | (magnitude - (112u << 23)) >> 13);
}

/* Mean 0, deviation 1: a sum of three uniform numbers, each of deviation 3^−½. Unlike a normal
 * distribution it needs no function whose bits depend on the C library. */
static float bell(struct rng *rng)
{
  float sum = rng_uniform(rng);
  sum += rng_uniform(rng);
  sum += rng_uniform(rng);
  return sum;
}

static void write_elements(FILE *file, const struct tensor *tensor, xf_type type, uint64_t seed)
{
  struct rng rng = {seed};
  for (size_t i = 0; i < elements(tensor); i++) {
    float x = tensor->mean + tensor->scale * bell(&rng);
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    uint16_t half = type == XF_F16 ? cut_to_f16(x) : (uint16_t)(bits >> 16);
    if (type == XF_F32)
      fwrite(&bits, sizeof bits, 1, file);
    else
      fwrite(&half, sizeof half, 1, file);
  }
}

/* The JSON header of tensors [first, end), padded to a multiple of 8 bytes; free() it. */
static char *make_header(const struct tensor_list *list, size_t first, size_t end, xf_type type)
{
  const char *dtype = type == XF_F32 ? "F32" : type == XF_F16 ? "F16" : "BF16";
  char *text = NULL;
  size_t bytes = 0, offset = 0;
  FILE *stream = open_memstream(&text, &bytes);
  assert_non_null(stream);
  fprintf(stream, "{\"__metadata__\":{\"format\":\"pt\"}");
  for (size_t i = first; i < end; i++) {
    const struct tensor *tensor = &list->items[i];
    size_t size = elements(tensor) * xf_type_size(type);
    fprintf(stream, ",\"%s\":{\"dtype\":\"%s\",\"shape\":[%zu", tensor->name, dtype, tensor->n);
    if (tensor->k) fprintf(stream, ",%zu", tensor->k);
    fprintf(stream, "],\"data_offsets\":[%zu,%zu]}", offset, offset + size);
    offset += size;
  }
  fputc('}', stream);
  fflush(stream);
  for (size_t i = bytes; i % 8 != 0; i++) fputc(' ', stream);
  assert_int_equal(fclose(stream), 0);
  return text;
}

static FILE *create(const char *folder, const char *name)
{
  char path[4096];
  snprintf(path, sizeof path, "%s/%s", folder, name);
  FILE *file = fopen(path, "wb");
  if (!file) fail_msg("cannot create %s", path);
  return file;
}

static void write_shard(const struct tiny_model *model, const struct tensor_list *list,
                        const char *folder, const char *name, size_t first, size_t end)
{
  xf_type type = model->type ? model->type : XF_F32;
  FILE *file = create(folder, name);
  char *header = make_header(list, first, end, type);
  uint64_t bytes = strlen(header);
  fwrite(&bytes, sizeof bytes, 1, file);
  fwrite(header, 1, bytes, file);
  for (size_t i = first; i < end; i++)
    write_elements(file, &list->items[i], type, model->seed * 0xD1342543DE82EF95u + i);
  assert_int_equal(ferror(file), 0);
  assert_int_equal(fclose(file), 0);
  free(header);
}

static void shard_name(const struct tiny_model *model, size_t shard, char name[64])
{
  snprintf(name, 64, "model-%05zu-of-%05zu.safetensors", shard + 1, model->shards);
}

static void write_shards(const struct tiny_model *model, const struct tensor_list *list,
                         const char *folder)
{
  FILE *index = create(folder, "model.safetensors.index.json");
  uint64_t size = tiny_model_parameters(model) * xf_type_size(model->type ? model->type : XF_F32);
  fprintf(index, "{\"metadata\":{\"total_size\":%" PRIu64 "},\"weight_map\":{", size);
  for (size_t shard = 0; shard < model->shards; shard++) {
    size_t first = list->count * shard / model->shards;
    size_t end = list->count * (shard + 1) / model->shards;
    char name[64];
    shard_name(model, shard, name);
    for (size_t i = first; i < end; i++)
      fprintf(index, "%s\"%s\":\"%s\"", i ? "," : "", list->items[i].name, name);
    write_shard(model, list, folder, name, first, end);
  }
  fprintf(index, "}}");
  assert_int_equal(fclose(index), 0);
}

static void write_config(const struct tiny_model *model, const char *folder)
{
  FILE *file = create(folder, "config.json");
  fprintf(file,
          "{\n  \"architectures\": [\"LlamaForCausalLM\"],\n  \"model_type\": \"llama\",\n"
          "  \"hidden_act\": \"silu\",\n  \"bos_token_id\": 1,\n  \"eos_token_id\": 2,\n"
          "  \"hidden_size\": %zu,\n  \"intermediate_size\": %zu,\n  \"num_hidden_layers\": %zu,\n"
          "  \"num_attention_heads\": %zu,\n  \"num_key_value_heads\": %zu,\n"
          "  \"vocab_size\": %zu,\n  \"max_position_embeddings\": %zu,\n"
          "  \"rms_norm_eps\": 1e-05,\n  \"tie_word_embeddings\": %s",
          model->hidden, model->intermediate, model->layers, model->heads, model->kv_heads,
          model->vocab, model->max_positions ? model->max_positions : 2048,
          model->tied ? "true" : "false");
  if (model->head_dim) fprintf(file, ",\n  \"head_dim\": %zu", model->head_dim);
  if (model->extras) fprintf(file, ",\n  %s", model->extras);
  fprintf(file, "\n}\n");
  assert_int_equal(fclose(file), 0);
}

void tiny_model_write(const struct tiny_model *model, const char *folder)
{
  struct tensor_list list = list_tensors(model);
  write_config(model, folder);
  if (model->shards > 1)
    write_shards(model, &list, folder);
  else
    write_shard(model, &list, folder, "model.safetensors", 0, list.count);
  free(list.items);
}

uint64_t tiny_model_parameters(const struct tiny_model *model)
{
  struct tensor_list list = list_tensors(model);
  uint64_t sum = 0;
  for (size_t i = 0; i < list.count; i++) sum += elements(&list.items[i]);
  free(list.items);
  return sum;
}
