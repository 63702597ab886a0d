#include "tests/quant_model.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "model/convert.h"
#include "model/naming.h"
#include "tests/model_support.h"
#include "tests/quants.h"

struct output {
  struct xf_config config;
  const xf_type *types; /* [XF_ROLES] */
  uint64_t seed;
  bool special;
  struct xf_gguf_writer *writer;
};

static struct xf_config config_of(const struct tiny_model *shape)
{
  size_t d = shape->head_dim ? shape->head_dim : shape->hidden / shape->heads;
  return (struct xf_config){.hidden = shape->hidden,
                            .intermediate = shape->intermediate,
                            .layers = shape->layers,
                            .heads = shape->heads,
                            .kv_heads = shape->kv_heads,
                            .head_dim = d,
                            .vocab = shape->vocab,
                            .max_positions = shape->max_positions ? shape->max_positions : 2048,
                            .rms_eps = 1e-5f,
                            .tied = shape->tied,
                            .rope = {.theta = 10000},
                            .bos = 1,
                            .eos = {2},
                            .n_eos = 1};
}

static void add_metadata(struct xf_gguf_writer *writer, const struct xf_config *c)
{
  xf_gguf_add_string(writer, "general.architecture", "llama");
  xf_convert_sizes(c, writer);
  xf_gguf_add_f32(writer, "llama.rope.freq_base", (float)c->rope.theta);
  xf_gguf_add_u32(writer, "tokenizer.ggml.bos_token_id", (uint32_t)c->bos);
  xf_gguf_add_u32(writer, "tokenizer.ggml.eos_token_id", (uint32_t)c->eos[0]);
}

static bool is_there(const struct output *o, enum xf_role role)
{
  return role != XF_HEAD || !o->config.tied;
}

static void name_tensor(const struct output *o, enum xf_role role, size_t layer, const char *suffix,
                        size_t rank, xf_type type)
{
  size_t shape[2];
  char name[XF_MAX_NAME];
  xf_tensor_shape(&o->config, role, shape);
  xf_tensor_name(&xf_naming_gguf, role, layer, suffix, name);
  xf_gguf_add_tensor(o->writer, name, xf_ggml_type_of(type), rank, shape);
}

static void add_tensor(const struct output *o, enum xf_role role, size_t layer)
{
  size_t shape[2];
  xf_tensor_shape(&o->config, role, shape);
  if (!is_there(o, role)) return;
  bool vector = shape[1] == 0;
  name_tensor(o, role, layer, ".weight", vector ? 1 : 2, vector ? XF_F32 : o->types[role]);
  if (!vector && o->types[role] == XF_I8_ROW) name_tensor(o, role, layer, ".scale", 1, XF_F32);
}

static void write_data(const struct output *o, const void *data, size_t bytes)
{
  xf_error error = {0};
  expect_ok(xf_gguf_writer_data(o->writer, data, bytes, &error), &error);
}

static void write_floats(const struct output *o, struct rng *rng, size_t n, float mean, float unit)
{
  for (size_t i = 0; i < n; i++) {
    float x = mean + unit * rng_uniform(rng);
    write_data(o, &x, sizeof x);
  }
}

static void give_data(const struct output *o, enum xf_role role, size_t layer)
{
  static const float gains[XF_ROLES] = {
      [XF_EMBEDDING] = 3, [XF_HEAD] = 3, [XF_Q] = 1.5f, [XF_K] = 1.5f, [XF_V] = 1,
      [XF_O] = 1,         [XF_GATE] = 1, [XF_UP] = 1,   [XF_DOWN] = 1};
  size_t shape[2];
  struct rng rng = {(o->seed * 64 + layer) * 64 + (uint64_t)role};
  xf_tensor_shape(&o->config, role, shape);
  if (!is_there(o, role)) return;
  if (shape[1] == 0) {
    write_floats(o, &rng, shape[0], 1, 0.2f);
    return;
  }
  float deviation = gains[role] / sqrtf((float)shape[1]);
  if (o->types[role] == XF_F32) {
    write_floats(o, &rng, shape[0] * shape[1], 0, 1.7f * deviation);
    return;
  }
  struct quants q = quants_new(&rng, o->types[role], shape[0], shape[1], false);
  quants_scale(&q, &rng, deviation);
  if (o->special) quants_spoil(&q, &rng);
  write_data(o, q.data, q.n * q.row_bytes);
  if (q.scales) write_data(o, q.scales, q.n * sizeof *q.scales);
  quants_free(&q);
}

static void for_each_tensor(const struct output *o,
                            void (*visit)(const struct output *, enum xf_role, size_t))
{
  for (enum xf_role role = 0; role < XF_ATTENTION_NORM; role++) visit(o, role, 0);
  for (size_t layer = 0; layer < o->config.layers; layer++)
    for (enum xf_role role = XF_ATTENTION_NORM; role < XF_ROLES; role++) visit(o, role, layer);
}

void quant_model_write(const struct tiny_model *shape, const xf_type types[static XF_ROLES],
                       bool special, const char *path)
{
  struct output o = {
      .config = config_of(shape), .types = types, .seed = shape->seed, .special = special};
  xf_error error = {0};
  expect_ok(xf_gguf_writer_create(&o.writer, &error), &error);
  add_metadata(o.writer, &o.config);
  for_each_tensor(&o, add_tensor);
  expect_ok(xf_gguf_writer_start(o.writer, path, &error), &error);
  for_each_tensor(&o, give_data);
  expect_ok(xf_gguf_writer_finish(o.writer, &error), &error);
  xf_gguf_writer_destroy(o.writer);
}
