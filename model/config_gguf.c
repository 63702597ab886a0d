/* The config of a Llama in a GGUF file. */
#include <string.h>

#include "dispatch/error.h"
#include "dispatch/memory.h"
#include "model/config.h"
#include "model/gguf.h"
#include "model/naming.h"
#include "model/plan.h"

static xf_status fail_missing(const struct xf_gguf *gguf, const char *key, xf_error *error)
{
  return xf_fail(error, XF_E_FORMAT, "%s: the key %s is missing", gguf->path, key);
}

/* An integer in [1, most]; an absent one leaves *out as it is. */
static xf_status read_size(const struct xf_gguf *gguf, const char *key, size_t most, size_t *out,
                           xf_error *error)
{
  int64_t value = (int64_t)*out;
  xf_status status = xf_gguf_get_integer(gguf, key, 1, (int64_t)most, &value, error);
  *out = (size_t)value;
  return status;
}

static xf_status require_size(const struct xf_gguf *gguf, const char *key, size_t most, size_t *out,
                              xf_error *error)
{
  if (!xf_gguf_find(gguf, key)) return fail_missing(gguf, key, error);
  return read_size(gguf, key, most, out, error);
}

/* Variants that would give wrong numbers if their keys were ignored. */
static xf_status check_variant(const struct xf_gguf *gguf, xf_error *error)
{
  static const struct {
    const char *key;
    double value; /* the only one supported */
  } neutral[] = {{"llama.expert_count", 0},
                 {"llama.attention.sliding_window", 0},
                 {"llama.rope.scaling.attn_factor", 1}};
  for (size_t i = 0; i < sizeof neutral / sizeof *neutral; i++) {
    double value = neutral[i].value;
    xf_status status = xf_gguf_get_number(gguf, neutral[i].key, -1e30, 1e30, &value, error);
    if (status != XF_OK) return status;
    if (value != neutral[i].value)
      return xf_fail(error, XF_E_UNSUPPORTED, "%s: %s: only %g is supported, not %g", gguf->path,
                     neutral[i].key, neutral[i].value, value);
  }
  bool causal = true;
  xf_status status = xf_gguf_get_bool(gguf, "llama.attention.causal", &causal, error);
  if (status == XF_OK && !causal)
    status = xf_fail(error, XF_E_UNSUPPORTED, "%s: llama.attention.causal: only true is supported",
                     gguf->path);
  return status;
}

static xf_status check_architecture(const struct xf_gguf *gguf, xf_error *error)
{
  static const char *const key = "general.architecture";
  struct xf_gguf_string name = {"", 0};
  if (!xf_gguf_find(gguf, key)) return fail_missing(gguf, key, error);
  xf_status status = xf_gguf_get_string(gguf, key, &name, error);
  if (status != XF_OK || xf_gguf_string_equal(name, "llama")) return status;
  return xf_fail(error, XF_E_UNSUPPORTED, "%s: %s: only llama is supported, not %.*s", gguf->path,
                 key, (int)xf_min(name.bytes, 80), name.text);
}

/* One head_dim is that of k, v and RoPE. */
static xf_status read_heads(const struct xf_gguf *gguf, struct xf_config *config, xf_error *error)
{
  static const struct xf_head_fields names = {
      "llama.embedding_length", "llama.attention.head_count", "llama.attention.head_count_kv",
      "llama.attention.key_length"};
  static const char *const same[] = {"llama.attention.value_length", "llama.rope.dimension_count"};
  xf_status status = require_size(gguf, names.heads, XF_MAX_HEADS, &config->heads, error);
  config->kv_heads = config->heads;
  if (status == XF_OK)
    status = read_size(gguf, names.kv_heads, config->heads, &config->kv_heads, error);
  if (status == XF_OK)
    status = read_size(gguf, names.head_dim, XF_MAX_WIDTH, &config->head_dim, error);
  if (status == XF_OK) status = xf_config_check_heads(gguf->path, &names, config, error);
  for (size_t i = 0; i < 2 && status == XF_OK; i++) {
    size_t length = config->head_dim;
    status = read_size(gguf, same[i], XF_MAX_WIDTH, &length, error);
    if (status == XF_OK && length != config->head_dim)
      status = xf_fail(error, XF_E_UNSUPPORTED,
                       "%s: %s: only the length of k's heads (%zu) is supported, not %zu",
                       gguf->path, same[i], config->head_dim, length);
  }
  return status;
}

/* The vocabulary is the embedding's, as long as the tokens and the key, if any, agree. */
static xf_status read_vocab(const struct xf_gguf *gguf, struct xf_config *config, xf_error *error)
{
  char name[XF_MAX_NAME];
  xf_tensor_name(&xf_naming_gguf, XF_EMBEDDING, 0, ".weight", name);
  const struct xf_tensor *embedding = xf_tensor_find(gguf->tensors, gguf->n_tensors, name);
  if (!embedding)
    return xf_fail(error, XF_E_FORMAT,
                   "%s: has no tensor %s: it holds a vocabulary or a part of a model only",
                   gguf->path, name);
  size_t rows = embedding->shape[0], keyed = rows;
  if (embedding->rank != 2 || rows < 1 || rows > XF_MAX_VOCAB)
    return xf_fail(error, XF_E_SHAPE, "%s: tensor %s has %zu rows in %zu dimensions", gguf->path,
                   name, rows, embedding->rank);
  const struct xf_gguf_value *tokens = NULL;
  xf_status status =
      xf_gguf_get_array(gguf, "tokenizer.ggml.tokens", XF_GGUF_STRING, &tokens, error);
  if (status == XF_OK) status = read_size(gguf, "llama.vocab_size", XF_MAX_VOCAB, &keyed, error);
  if (status != XF_OK) return status;
  if ((tokens && tokens->n != rows) || keyed != rows)
    return xf_fail(error, XF_E_SHAPE,
                   "%s: tensor %s has %zu rows, but tokenizer.ggml.tokens or llama.vocab_size say "
                   "otherwise",
                   gguf->path, name, rows);
  config->vocab = rows;
  return XF_OK;
}

static xf_status read_sizes(const struct xf_gguf *gguf, struct xf_config *config, xf_error *error)
{
  static const char *const eps_key = "llama.attention.layer_norm_rms_epsilon";
  double eps = 0;
  config->max_positions = 2048;
  xf_status status =
      require_size(gguf, "llama.embedding_length", XF_MAX_WIDTH, &config->hidden, error);
  if (status == XF_OK)
    status =
        require_size(gguf, "llama.feed_forward_length", XF_MAX_FF, &config->intermediate, error);
  if (status == XF_OK)
    status = require_size(gguf, "llama.block_count", XF_MAX_LAYERS, &config->layers, error);
  if (status == XF_OK)
    status =
        read_size(gguf, "llama.context_length", XF_MAX_POSITIONS, &config->max_positions, error);
  if (status == XF_OK && !xf_gguf_find(gguf, eps_key)) status = fail_missing(gguf, eps_key, error);
  if (status == XF_OK) status = xf_gguf_get_number(gguf, eps_key, 0, 1, &eps, error);
  config->rms_eps = (float)eps;
  if (status == XF_OK) status = read_vocab(gguf, config, error);
  return status == XF_OK ? read_heads(gguf, config, error) : status;
}

/* Adds an id to the EOS list, unless it is there. */
static void add_eos(struct xf_config *config, int32_t id)
{
  for (size_t i = 0; i < config->n_eos; i++)
    if (config->eos[i] == id) return;
  config->eos[config->n_eos++] = id;
}

/* Absent ids are those that a SentencePiece vocabulary has, and none with other vocabularies. */
static xf_status read_standard_ids(const struct xf_gguf *gguf, struct xf_config *config,
                                   xf_error *error)
{
  static const char *const ends[] = {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id",
                                     "tokenizer.ggml.eom_token_id"};
  struct xf_gguf_string model = {"", 0};
  xf_status status = xf_gguf_get_string(gguf, "tokenizer.ggml.model", &model, error);
  bool sentencepiece = xf_gguf_string_equal(model, "llama");
  int64_t last = (int64_t)config->vocab - 1, bos = sentencepiece && last >= 1 ? 1 : -1;
  if (status == XF_OK)
    status = xf_gguf_get_integer(gguf, "tokenizer.ggml.bos_token_id", 0, last, &bos, error);
  config->bos = (int32_t)bos;
  for (size_t i = 0; i < sizeof ends / sizeof *ends && status == XF_OK; i++) {
    int64_t id = i == 0 && sentencepiece && last >= 2 ? 2 : -1;
    status = xf_gguf_get_integer(gguf, ends[i], 0, last, &id, error);
    if (status == XF_OK && id >= 0) add_eos(config, (int32_t)id);
  }
  return status;
}

/* What a converter of ours adds where the standard keys cannot say it: the whole list of EOS ids.
 */
static xf_status read_ids(const struct xf_gguf *gguf, struct xf_config *config, xf_error *error)
{
  const struct xf_gguf_value *list = NULL;
  xf_status status = read_standard_ids(gguf, config, error);
  if (status == XF_OK) status = xf_gguf_get_array(gguf, XF_GGUF_EOS_KEY, XF_GGUF_I64, &list, error);
  if (status != XF_OK || !list) return status;
  config->n_eos = 0;
  for (size_t i = 0; i < list->n; i++) {
    int64_t id = xf_gguf_integer_at(list, i);
    if (id < 0 || (uint64_t)id >= config->vocab || config->n_eos == XF_MAX_EOS)
      return xf_fail(error, XF_E_FORMAT, "%s: %s holds more than %d ids or one that is no token",
                     gguf->path, XF_GGUF_EOS_KEY, XF_MAX_EOS);
    add_eos(config, (int32_t)id);
  }
  return XF_OK;
}

/* The settings of llama3 scaling, which say exactly what a tensor of factors cannot: its
 * frequencies are rounded once more. */
static xf_status read_llama3(const struct xf_gguf *gguf, struct xf_rope_config *rope,
                             xf_error *error)
{
  const struct xf_gguf_value *list = NULL;
  xf_status status = xf_gguf_get_array(gguf, XF_GGUF_LLAMA3_KEY, XF_GGUF_F64, &list, error);
  if (status != XF_OK || !list) return status;
  double values[4] = {0};
  for (size_t i = 0; i < xf_min(list->n, 4); i++) values[i] = xf_gguf_number_at(list, i);
  bool good = list->n == 4 && values[0] >= 1e-6 && values[0] <= 1e6 && values[1] >= 1e-6 &&
              values[2] <= 1e6 && values[2] > values[1] && values[3] >= 1 &&
              values[3] <= XF_MAX_POSITIONS;
  if (!good)
    return xf_fail(error, XF_E_FORMAT,
                   "%s: %s must be factor, low_freq_factor, high_freq_factor and "
                   "original_max_position_embeddings",
                   gguf->path, XF_GGUF_LLAMA3_KEY);
  rope->type = XF_ROPE_LLAMA3;
  rope->factor = values[0];
  rope->low_freq_factor = values[1];
  rope->high_freq_factor = values[2];
  rope->original_max_positions = values[3];
  return XF_OK;
}

/* rope.scale_linear is the older spelling of scaling.type "linear" with its factor. */
static xf_status read_rope(const struct xf_gguf *gguf, struct xf_rope_config *rope, xf_error *error)
{
  static const char *const type_key = "llama.rope.scaling.type";
  *rope = (struct xf_rope_config){.type = XF_ROPE_NONE, .theta = 10000, .factor = 1};
  struct xf_gguf_string type = {"linear", strlen("linear")};
  xf_status status = xf_gguf_get_number(gguf, "llama.rope.freq_base", 1, 1e30, &rope->theta, error);
  if (status == XF_OK) status = xf_gguf_get_string(gguf, type_key, &type, error);
  bool none = xf_gguf_string_equal(type, "none");
  if (status == XF_OK && !none && !xf_gguf_string_equal(type, "linear"))
    status = xf_fail(error, XF_E_UNSUPPORTED,
                     "%s: %s: only \"none\" and \"linear\" are supported, not \"%.*s\"", gguf->path,
                     type_key, (int)xf_min(type.bytes, 80), type.text);
  if (status == XF_OK)
    status = xf_gguf_get_number(gguf, "llama.rope.scale_linear", 1e-6, 1e6, &rope->factor, error);
  if (status == XF_OK)
    status = xf_gguf_get_number(gguf, "llama.rope.scaling.factor", 1e-6, 1e6, &rope->factor, error);
  if (none) rope->factor = 1;
  if (rope->factor != 1) rope->type = XF_ROPE_LINEAR;
  if (xf_tensor_find(gguf->tensors, gguf->n_tensors, xf_naming_gguf.rope_factors))
    rope->type = XF_ROPE_FACTORS;
  return status == XF_OK ? read_llama3(gguf, rope, error) : status;
}

xf_status xf_config_read_gguf(const struct xf_gguf *gguf, struct xf_config *out, xf_error *error)
{
  *out = (struct xf_config){0};
  char head[XF_MAX_NAME];
  xf_tensor_name(&xf_naming_gguf, XF_HEAD, 0, ".weight", head);
  out->tied = !xf_tensor_find(gguf->tensors, gguf->n_tensors, head);
  xf_status status = xf_gguf_get_bool(gguf, XF_GGUF_TIED_KEY, &out->tied, error);
  if (status == XF_OK) status = check_architecture(gguf, error);
  if (status == XF_OK) status = check_variant(gguf, error);
  if (status == XF_OK) status = read_sizes(gguf, out, error);
  if (status == XF_OK) status = read_ids(gguf, out, error);
  if (status == XF_OK) status = read_rope(gguf, &out->rope, error);
  return status == XF_OK ? xf_plan_read(gguf, out->max_positions, &out->plan, error) : status;
}
