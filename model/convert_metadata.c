#include <stdio.h>
#include <string.h>

#include "dispatch/error.h"
#include "dispatch/memory.h"
#include "dispatch/utf8.h"
#include "model/chat_template.h"
#include "model/convert.h"
#include "model/file.h"
#include "model/plan.h"
#include "model/tokenizer_file.h"

enum { QUANTIZATION_VERSION = 2 }; /* of ggml's blocks */

/* general.file_type, as llama.cpp numbers models that are mostly of a type. */
static uint32_t file_type_of(xf_type type)
{
  switch (type) {
  case XF_F32: return 0;
  case XF_F16: return 1;
  case XF_Q4_0: return 2;
  case XF_Q4_1: return 3;
  case XF_Q8_0: return 7;
  case XF_Q5_0: return 8;
  case XF_Q5_1: return 9;
  case XF_Q4_K: return 15;
  case XF_Q5_K: return 17;
  case XF_Q6_K: return 18;
  case XF_BF16: return 32;
  default: return 1024; /* "guessed" */
  }
}

void xf_convert_sizes(const struct xf_config *c, struct xf_gguf_writer *writer)
{
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
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
    xf_gguf_add_u32(writer, sizes[i].key, (uint32_t)sizes[i].value);
  xf_gguf_add_f32(writer, "llama.attention.layer_norm_rms_epsilon", c->rms_eps);
}

static void add_rope(const struct xf_rope_config *rope, struct xf_gguf_writer *writer)
{
  xf_gguf_add_f32(writer, "llama.rope.freq_base", (float)rope->theta);
  if (rope->type == XF_ROPE_LINEAR) {
    xf_gguf_add_string(writer, "llama.rope.scaling.type", "linear");
    xf_gguf_add_f32(writer, "llama.rope.scaling.factor", (float)rope->factor);
  }
  if (rope->type == XF_ROPE_LLAMA3) {
    const double values[] = {rope->factor, rope->low_freq_factor, rope->high_freq_factor,
                             rope->original_max_positions};
    xf_gguf_add_array(writer, XF_GGUF_LLAMA3_KEY, XF_GGUF_F64, values, 4);
  }
}

/* eos: the one that the standard key names, or −1. */
static void add_eos(const struct xf_config *config, int32_t eos, struct xf_gguf_writer *writer)
{
  if (config->n_eos == 1 && config->eos[0] == eos) return;
  xf_gguf_add_array(writer, XF_GGUF_EOS_KEY, XF_GGUF_I32, config->eos, config->n_eos);
}

static xf_status add_tokenizer(const struct xf_converted *c, struct xf_gguf_writer *writer,
                               xf_error *error)
{
  xf_tokenizer *tokenizer;
  xf_status status = xf_tokenizer_open(c->path, &tokenizer, error);
  if (status) return status;
  if (tokenizer->n > c->config->vocab) {
    status = xf_fail(error, XF_E_SHAPE, "%s: its tokenizer has %zu tokens, its config.json %zu",
                     c->path, tokenizer->n, c->config->vocab);
  } else {
    status = xf_tokenizer_gguf_write(tokenizer, c->config->vocab, writer, error);
    add_eos(c->config, tokenizer->rules.eos, writer);
  }
  xf_tokenizer_close(tokenizer);
  return status;
}

static void add_no_tokenizer(const struct xf_config *config, struct xf_gguf_writer *writer)
{
  int32_t eos = config->n_eos ? config->eos[0] : -1;
  xf_gguf_add_string(writer, "tokenizer.ggml.model", "none");
  if (config->bos >= 0)
    xf_gguf_add_u32(writer, "tokenizer.ggml.bos_token_id", (uint32_t)config->bos);
  if (eos >= 0) xf_gguf_add_u32(writer, "tokenizer.ggml.eos_token_id", (uint32_t)eos);
  add_eos(config, eos, writer);
}

static xf_status add_template(const char *path, struct xf_gguf_writer *writer, xf_error *error)
{
  char *text;
  xf_status status = xf_chat_template_read(path, &text, error);
  if (!status && text) xf_gguf_add_string(writer, "tokenizer.chat_template", text);
  xf_free(text);
  return status;
}

/* The folder's own name. */
static void add_name(const char *path, struct xf_gguf_writer *writer)
{
  size_t end = strlen(path), begin;
  while (end > 1 && path[end - 1] == '/') end--;
  for (begin = end; begin > 0 && path[begin - 1] != '/';) begin--;
  char text[128];
  snprintf(text, sizeof text, "%.*s", (int)xf_min(end - begin, sizeof text - 1), path + begin);
  if (xf_utf8_valid(text, strlen(text))) xf_gguf_add_string(writer, "general.name", text);
}

static xf_status add_folder(const struct xf_converted *c, struct xf_gguf_writer *writer,
                            xf_error *error)
{
  xf_gguf_add_string(writer, "general.architecture", "llama");
  xf_gguf_add_string(writer, "general.type", "model");
  add_name(c->path, writer);
  xf_convert_sizes(c->config, writer);
  add_rope(&c->config->rope, writer);
  char *tokenizer;
  xf_status status = xf_tokenizer_find(c->path, &tokenizer, error);
  if (status) return status;
  if (tokenizer)
    status = add_tokenizer(c, writer, error);
  else
    add_no_tokenizer(c->config, writer);
  xf_free(tokenizer);
  return status ? status : add_template(c->path, writer, error);
}

/* All but what is written anew. */
static xf_status copy_gguf(const char *path, struct xf_gguf_writer *writer, xf_error *error)
{
  struct xf_gguf gguf;
  xf_status status = xf_gguf_open(path, &gguf, error);
  for (size_t i = 0; i < gguf.n_values; i++) {
    struct xf_gguf_string key = gguf.values[i].key;
    if (!xf_plan_is_key(key) && !xf_gguf_string_equal(key, "general.file_type") &&
        !xf_gguf_string_equal(key, "general.quantization_version"))
      xf_gguf_add_value(writer, &gguf.values[i]);
  }
  xf_gguf_close(&gguf);
  return status;
}

xf_status xf_convert_metadata(const struct xf_converted *c, struct xf_gguf_writer *writer,
                              xf_error *error)
{
  xf_status status =
      xf_gguf_is_path(c->path) ? copy_gguf(c->path, writer, error) : add_folder(c, writer, error);
  if (status) return status;
  xf_gguf_add_u32(writer, "general.file_type", file_type_of(c->type));
  if (xf_type_size(c->type) == 0)
    xf_gguf_add_u32(writer, "general.quantization_version", QUANTIZATION_VERSION);
  xf_plan_write(c->plan, writer);
  return XF_OK;
}
