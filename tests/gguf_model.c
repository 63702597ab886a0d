#include "tests/gguf_model.h"

#include <stdlib.h>
#include <string.h>

#include "model/checkpoint.h"
#include "model/config.h"
#include "tests/model_support.h"
#include "tests/support.h"

struct source {
  struct xf_config config;
  struct xf_checkpoint *checkpoint;
  struct xf_gguf_writer *writer;
};

static void add_metadata(const struct source *s)
{
  const struct xf_config *c = &s->config;
  const struct {
    const char *key;
    size_t value;
  } sizes[] = {{"llama.block_count", c->layers},
               {"llama.context_length", c->max_positions},
               {"llama.embedding_length", c->hidden},
               {"llama.feed_forward_length", c->intermediate},
               {"llama.attention.head_count", c->heads},
               {"llama.attention.head_count_kv", c->kv_heads},
               {"llama.attention.key_length", c->head_dim},
               {"llama.attention.value_length", c->head_dim},
               {"llama.rope.dimension_count", c->head_dim},
               {"llama.vocab_size", c->vocab}};
  xf_gguf_add_string(s->writer, "general.architecture", "llama");
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
    xf_gguf_add_u32(s->writer, sizes[i].key, (uint32_t)sizes[i].value);
  xf_gguf_add_f32(s->writer, "llama.attention.layer_norm_rms_epsilon", c->rms_eps);
  xf_gguf_add_f32(s->writer, "llama.rope.freq_base", (float)c->rope.theta);
  xf_gguf_add_u32(s->writer, "tokenizer.ggml.bos_token_id", (uint32_t)c->bos);
  xf_gguf_add_u32(s->writer, "tokenizer.ggml.eos_token_id", (uint32_t)c->eos[0]);
}

/* The tensor of that role, or NULL where the checkpoint has none (a tied head). */
static const struct xf_tensor *find(const struct source *s, enum xf_role role, size_t layer)
{
  char name[XF_MAX_NAME];
  xf_tensor_name(&xf_naming_hugging_face, role, layer, ".weight", name);
  return xf_checkpoint_find(s->checkpoint, name);
}

static void add_tensor(const struct source *s, enum xf_role role, size_t layer)
{
  const struct xf_tensor *tensor = find(s, role, layer);
  if (!tensor) return;
  char name[XF_MAX_NAME];
  xf_tensor_name(&xf_naming_gguf, role, layer, ".weight", name);
  xf_gguf_add_tensor(s->writer, name, xf_ggml_type_of(tensor->type), tensor->rank, tensor->shape);
}

static void give_data(const struct source *s, enum xf_role role, size_t layer)
{
  const struct xf_tensor *tensor = find(s, role, layer);
  if (!tensor) return;
  xf_error error = {0};
  if (role != XF_Q && role != XF_K) {
    expect_ok(xf_gguf_writer_data(s->writer, tensor->data, tensor->bytes, &error), &error);
    return;
  }
  size_t rows = tensor->shape[0], bytes = tensor->bytes / rows, d = s->config.head_dim;
  for (size_t head = 0; head < rows; head += d) {
    for (size_t i = 0; i < d; i++) {
      size_t row = head + i / 2 + (i % 2 ? d / 2 : 0);
      const char *from = (const char *)tensor->data + row * bytes;
      expect_ok(xf_gguf_writer_data(s->writer, from, bytes, &error), &error);
    }
  }
}

static void for_each_tensor(const struct source *s,
                            void (*visit)(const struct source *, enum xf_role, size_t))
{
  for (enum xf_role role = 0; role < XF_ATTENTION_NORM; role++) visit(s, role, 0);
  for (size_t layer = 0; layer < s->config.layers; layer++)
    for (enum xf_role role = XF_ATTENTION_NORM; role < XF_ROLES; role++) visit(s, role, layer);
}

void gguf_model_write(const char *folder, const char *path)
{
  struct source s;
  xf_error error = {0};
  expect_ok(xf_checkpoint_open(folder, &s.config, &s.checkpoint, &error), &error);
  expect_ok(xf_gguf_writer_create(&s.writer, &error), &error);
  add_metadata(&s);
  for_each_tensor(&s, add_tensor);
  expect_ok(xf_gguf_writer_start(s.writer, path, &error), &error);
  for_each_tensor(&s, give_data);
  expect_ok(xf_gguf_writer_finish(s.writer, &error), &error);
  xf_gguf_writer_destroy(s.writer);
  xf_checkpoint_close(s.checkpoint);
}

static void copy_data(const struct xf_gguf *source, struct xf_gguf_writer *writer,
                      const struct gguf_edit *edit)
{
  xf_error error = {0};
  for (size_t i = 0; i < source->n_tensors; i++) {
    const struct xf_tensor *t = &source->tensors[i];
    if (!edit->drop || strcmp(t->name, edit->drop) != 0)
      expect_ok(xf_gguf_writer_data(writer, t->data, t->bytes, &error), &error);
  }
  if (edit->vector)
    expect_ok(xf_gguf_writer_data(writer, edit->values, edit->n * sizeof *edit->values, &error),
              &error);
}

void gguf_copy(const char *from, const char *to, const struct gguf_edit *edit)
{
  static const struct gguf_edit none = {0};
  struct xf_gguf source;
  struct xf_gguf_writer *writer;
  xf_error error = {0};
  if (!edit) edit = &none;
  expect_ok(xf_gguf_open(from, &source, &error), &error);
  expect_ok(xf_gguf_writer_create(&writer, &error), &error);
  for (size_t i = 0; i < source.n_values; i++)
    if (!edit->drop || !xf_gguf_string_equal(source.values[i].key, edit->drop))
      xf_gguf_add_value(writer, &source.values[i]);
  if (edit->add) edit->add(writer, edit->arg);
  for (size_t i = 0; i < source.n_tensors; i++) {
    const struct xf_tensor *t = &source.tensors[i];
    if (!edit->drop || strcmp(t->name, edit->drop) != 0)
      xf_gguf_add_tensor(writer, t->name, xf_ggml_type_of(t->type), t->rank, t->shape);
  }
  if (edit->vector) xf_gguf_add_tensor(writer, edit->vector, xf_ggml_type_of(XF_F32), 1, &edit->n);
  expect_ok(xf_gguf_writer_start(writer, to, &error), &error);
  copy_data(&source, writer, edit);
  expect_ok(xf_gguf_writer_finish(writer, &error), &error);
  xf_gguf_writer_destroy(writer);
  xf_gguf_close(&source);
}
