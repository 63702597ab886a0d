#include "model/config.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "dispatch/error.h"
#include "dispatch/memory.h"
#include "model/file.h"
#include "model/json.h"

/* One object of the file: the top, or what `in` names ("rope_scaling."). */
struct object {
  const char *path, *in;
  const cJSON *json;
  xf_error *error;
};

/* NULL where the field is absent or null, which transformers treats alike. */
static const cJSON *find(const struct object *object, const char *field)
{
  const cJSON *item = cJSON_GetObjectItemCaseSensitive(object->json, field);
  return cJSON_IsNull(item) ? NULL : item;
}

static xf_status missing(const struct object *object, const char *field)
{
  return xf_fail(object->error, XF_E_FORMAT, "%s: the field %s%s is missing", object->path,
                 object->in, field);
}

/* An integer in [low, high]; an absent one leaves *out as it is. */
static xf_status read_integer(const struct object *object, const char *field, size_t low,
                              size_t high, size_t *out)
{
  const cJSON *item = find(object, field);
  if (!item) return XF_OK;
  if (xf_json_integer(item, low, high, out)) return XF_OK;
  return xf_fail(object->error, XF_E_FORMAT, "%s: %s%s must be an integer from %zu to %zu",
                 object->path, object->in, field, low, high);
}

static xf_status require_integer(const struct object *object, const char *field, size_t high,
                                 size_t *out)
{
  return find(object, field) ? read_integer(object, field, 1, high, out) : missing(object, field);
}

/* A number in [low, high]; an absent one leaves *out as it is. */
static xf_status read_number(const struct object *object, const char *field, double low,
                             double high, double *out)
{
  const cJSON *item = find(object, field);
  if (!item) return XF_OK;
  double value = cJSON_GetNumberValue(item);
  if (!(value >= low && value <= high))
    return xf_fail(object->error, XF_E_FORMAT, "%s: %s%s must be a number from %g to %g",
                   object->path, object->in, field, low, high);
  *out = value;
  return XF_OK;
}

static xf_status require_number(const struct object *object, const char *field, double low,
                                double high, double *out)
{
  return find(object, field) ? read_number(object, field, low, high, out) : missing(object, field);
}

static xf_status read_bool(const struct object *object, const char *field, bool *out)
{
  const cJSON *item = find(object, field);
  if (!item) return XF_OK;
  if (!cJSON_IsBool(item))
    return xf_fail(object->error, XF_E_FORMAT, "%s: %s%s must be true or false", object->path,
                   object->in, field);
  *out = cJSON_IsTrue(item);
  return XF_OK;
}

static xf_status read_string(const struct object *object, const char *field, const char **out)
{
  const cJSON *item = find(object, field);
  if (!item) return XF_OK;
  if (!cJSON_IsString(item))
    return xf_fail(object->error, XF_E_FORMAT, "%s: %s%s must be a string", object->path,
                   object->in, field);
  *out = item->valuestring;
  return XF_OK;
}

/* Fails where a string is there and is neither of two that are supported. */
static xf_status expect_string(const struct object *object, const char *field, const char *one,
                               const char *other)
{
  const char *value = one;
  xf_status status = read_string(object, field, &value);
  if (status != XF_OK || strcmp(value, one) == 0 || strcmp(value, other) == 0) return status;
  return xf_fail(object->error, XF_E_UNSUPPORTED, "%s: %s%s: only \"%s\" is supported, not \"%s\"",
                 object->path, object->in, field, one, value);
}

static xf_status expect_false(const struct object *object, const char *field)
{
  bool value = false;
  xf_status status = read_bool(object, field, &value);
  if (status != XF_OK || !value) return status;
  return xf_fail(object->error, XF_E_UNSUPPORTED, "%s: %s%s: only false is supported, not true",
                 object->path, object->in, field);
}

static xf_status check_architecture(const struct object *top)
{
  const cJSON *list = find(top, "architectures");
  if (!list && !find(top, "model_type")) return missing(top, "architectures");
  const cJSON *name = cJSON_GetArrayItem(list, 0);
  if (list && (!cJSON_IsArray(list) || !cJSON_IsString(name)))
    return xf_fail(top->error, XF_E_FORMAT, "%s: architectures must be a list of names", top->path);
  if (name && strcmp(name->valuestring, "LlamaForCausalLM") != 0)
    return xf_fail(top->error, XF_E_UNSUPPORTED,
                   "%s: architectures: only LlamaForCausalLM is supported, not %s", top->path,
                   name->valuestring);
  return expect_string(top, "model_type", "llama", "llama");
}

static xf_status check_whole_rotation(const struct object *object)
{
  double factor = 1;
  xf_status status = read_number(object, "partial_rotary_factor", 0, 1, &factor);
  if (status != XF_OK || factor == 1) return status;
  return xf_fail(object->error, XF_E_UNSUPPORTED,
                 "%s: %spartial_rotary_factor: only 1 is supported, not %g", object->path,
                 object->in, factor);
}

/* Variants of the architecture that would give wrong numbers if their fields were ignored. */
static xf_status check_variant(const struct object *top)
{
  xf_status status = check_architecture(top);
  if (status == XF_OK) status = expect_string(top, "hidden_act", "silu", "swish");
  if (status == XF_OK) status = expect_false(top, "attention_bias");
  if (status == XF_OK) status = expect_false(top, "mlp_bias");
  if (status == XF_OK && find(top, "quantization_config"))
    status = xf_fail(top->error, XF_E_UNSUPPORTED,
                     "%s: quantization_config: quantized checkpoints are not supported; convert to "
                     "float32, float16 or bfloat16",
                     top->path);
  return status == XF_OK ? check_whole_rotation(top) : status;
}

xf_status xf_config_check_heads(const char *path, const struct xf_head_fields *names,
                                struct xf_config *config, xf_error *error)
{
  size_t hidden = config->hidden, heads = config->heads;
  if (heads % config->kv_heads != 0)
    return xf_fail(error, XF_E_FORMAT, "%s: %s (%zu) is no multiple of %s (%zu)", path,
                   names->heads, heads, names->kv_heads, config->kv_heads);
  if (config->head_dim == 0 && hidden % heads != 0)
    return xf_fail(error, XF_E_FORMAT, "%s: %s (%zu) is no multiple of %s (%zu), and %s is missing",
                   path, names->hidden, hidden, names->heads, heads, names->head_dim);
  if (config->head_dim == 0) config->head_dim = hidden / heads;
  if (config->head_dim < 8 || config->head_dim > XF_MAX_HEAD_DIM || config->head_dim % 2 != 0)
    return xf_fail(error, XF_E_UNSUPPORTED,
                   "%s: %s: only even sizes from 8 to 256 are supported, not %zu", path,
                   names->head_dim, config->head_dim);
  return XF_OK;
}

static xf_status read_heads(const struct object *top, struct xf_config *config)
{
  static const struct xf_head_fields names = {"hidden_size", "num_attention_heads",
                                              "num_key_value_heads", "head_dim"};
  xf_status status = require_integer(top, names.heads, XF_MAX_HEADS, &config->heads);
  config->kv_heads = config->heads;
  if (status == XF_OK)
    status = read_integer(top, names.kv_heads, 1, XF_MAX_HEADS, &config->kv_heads);
  if (status == XF_OK)
    status = read_integer(top, names.head_dim, 1, XF_MAX_WIDTH, &config->head_dim);
  return status == XF_OK ? xf_config_check_heads(top->path, &names, config, top->error) : status;
}

static xf_status read_sizes(const struct object *top, struct xf_config *config)
{
  double eps = 1e-6; /* as in transformers */
  config->max_positions = 2048;
  xf_status status = require_integer(top, "hidden_size", XF_MAX_WIDTH, &config->hidden);
  if (status == XF_OK)
    status = require_integer(top, "intermediate_size", XF_MAX_FF, &config->intermediate);
  if (status == XF_OK)
    status = require_integer(top, "num_hidden_layers", XF_MAX_LAYERS, &config->layers);
  if (status == XF_OK) status = require_integer(top, "vocab_size", XF_MAX_VOCAB, &config->vocab);
  if (status == XF_OK)
    status =
        read_integer(top, "max_position_embeddings", 1, XF_MAX_POSITIONS, &config->max_positions);
  if (status == XF_OK) status = read_number(top, "rms_norm_eps", 0, 1, &eps);
  if (status == XF_OK) status = read_bool(top, "tie_word_embeddings", &config->tied);
  if (status == XF_OK) status = read_heads(top, config);
  config->rms_eps = (float)eps;
  return status;
}

static xf_status read_id(const struct object *top, const char *field, const cJSON *item,
                         size_t vocab, int32_t *out)
{
  size_t id;
  if (!xf_json_integer(item, 0, vocab - 1, &id))
    return xf_fail(top->error, XF_E_FORMAT,
                   "%s: %s must be a token id below vocab_size (%zu), or null", top->path, field,
                   vocab);
  *out = (int32_t)id;
  return XF_OK;
}

static xf_status read_eos_list(const struct object *top, const cJSON *list,
                               struct xf_config *config)
{
  const cJSON *item;
  cJSON_ArrayForEach(item, list)
  {
    if (config->n_eos == XF_MAX_EOS)
      return xf_fail(top->error, XF_E_UNSUPPORTED, "%s: eos_token_id: at most %d ids are supported",
                     top->path, XF_MAX_EOS);
    xf_status status =
        read_id(top, "eos_token_id", item, config->vocab, &config->eos[config->n_eos]);
    if (status != XF_OK) return status;
    config->n_eos++;
  }
  return XF_OK;
}

/* null means no such id; an absent field means the default of transformers. */
static xf_status read_ids(const struct object *top, struct xf_config *config)
{
  const cJSON *bos = cJSON_GetObjectItemCaseSensitive(top->json, "bos_token_id");
  config->bos = !bos && config->vocab > 1 ? 1 : -1;
  if (bos && !cJSON_IsNull(bos)) {
    xf_status status = read_id(top, "bos_token_id", bos, config->vocab, &config->bos);
    if (status != XF_OK) return status;
  }
  const cJSON *eos = cJSON_GetObjectItemCaseSensitive(top->json, "eos_token_id");
  if (cJSON_IsNull(eos)) return XF_OK;
  if (cJSON_IsArray(eos)) return read_eos_list(top, eos, config);
  config->eos[0] = 2;
  config->n_eos = eos || config->vocab > 2;
  return eos ? read_id(top, "eos_token_id", eos, config->vocab, &config->eos[0]) : XF_OK;
}

static xf_status read_llama3(const struct object *scaling, struct xf_rope_config *rope)
{
  xf_status status = require_number(scaling, "low_freq_factor", 1e-6, 1e6, &rope->low_freq_factor);
  if (status == XF_OK)
    status = require_number(scaling, "high_freq_factor", 1e-6, 1e6, &rope->high_freq_factor);
  if (status == XF_OK)
    status = require_number(scaling, "original_max_position_embeddings", 1, XF_MAX_POSITIONS,
                            &rope->original_max_positions);
  if (status == XF_OK && rope->high_freq_factor <= rope->low_freq_factor)
    status = xf_fail(scaling->error, XF_E_FORMAT,
                     "%s: %shigh_freq_factor (%g) must be greater than low_freq_factor (%g)",
                     scaling->path, scaling->in, rope->high_freq_factor, rope->low_freq_factor);
  return status;
}

/* One spelling of RoPE: the object of that name; rope holds the top level's theta. */
static xf_status read_scaling(const struct object *top, const char *name,
                              struct xf_rope_config *rope)
{
  char in[32];
  snprintf(in, sizeof in, "%s.", name);
  struct object scaling = {top->path, in, find(top, name), top->error};
  if (!cJSON_IsObject(scaling.json))
    return xf_fail(top->error, XF_E_FORMAT, "%s: %s must be an object or null", top->path, name);
  xf_status status = read_number(&scaling, "rope_theta", 1, 1e30, &rope->theta);
  const char *key = find(&scaling, "rope_type") ? "rope_type" : "type", *type = NULL;
  if (status == XF_OK) status = read_string(&scaling, key, &type);
  if (status == XF_OK && !type && find(&scaling, "factor")) status = missing(&scaling, "rope_type");
  if (status == XF_OK) status = check_whole_rotation(&scaling);
  if (status != XF_OK || !type || strcmp(type, "default") == 0) return status;
  bool llama3 = strcmp(type, "llama3") == 0;
  if (!llama3 && strcmp(type, "linear") != 0)
    return xf_fail(
        top->error, XF_E_UNSUPPORTED,
        "%s: %s%s: only \"default\", \"linear\" and \"llama3\" are supported, not \"%s\"",
        top->path, in, key, type);
  rope->type = llama3 ? XF_ROPE_LLAMA3 : XF_ROPE_LINEAR;
  status = require_number(&scaling, "factor", 1e-6, 1e6, &rope->factor);
  return status == XF_OK && llama3 ? read_llama3(&scaling, rope) : status;
}

static bool same_rope(const struct xf_rope_config *a, const struct xf_rope_config *b)
{
  return a->type == b->type && a->theta == b->theta && a->factor == b->factor &&
         a->low_freq_factor == b->low_freq_factor && a->high_freq_factor == b->high_freq_factor &&
         a->original_max_positions == b->original_max_positions;
}

/* rope_theta and rope_scaling, or rope_parameters (transformers 5), or both where they agree. */
static xf_status read_rope(const struct object *top, struct xf_rope_config *rope)
{
  *rope = (struct xf_rope_config){.type = XF_ROPE_NONE, .theta = 10000, .factor = 1};
  xf_status status = read_number(top, "rope_theta", 1, 1e30, &rope->theta);
  if (status != XF_OK) return status;
  bool scaling = find(top, "rope_scaling"), parameters = find(top, "rope_parameters");
  struct xf_rope_config old = *rope, new = *rope;
  if (scaling) status = read_scaling(top, "rope_scaling", &old);
  if (status == XF_OK && parameters) status = read_scaling(top, "rope_parameters", &new);
  if (status != XF_OK) return status;
  bool differ =
      scaling ? !same_rope(&old, &new) : find(top, "rope_theta") && old.theta != new.theta;
  if (parameters && differ)
    return xf_fail(top->error, XF_E_FORMAT,
                   "%s: rope_parameters disagrees with rope_theta and rope_scaling; keep one of "
                   "the two spellings",
                   top->path);
  *rope = parameters ? new : old;
  return XF_OK;
}

static xf_status read_fields(const struct object *top, struct xf_config *out)
{
  xf_status status = check_variant(top);
  if (status == XF_OK) status = read_sizes(top, out);
  if (status == XF_OK) status = read_ids(top, out);
  if (status == XF_OK) status = read_rope(top, &out->rope);
  return status;
}

xf_status xf_config_read(const char *folder, struct xf_config *out, xf_error *error)
{
  *out = (struct xf_config){0};
  char *path = xf_path_join(folder, "config.json");
  if (!path) return xf_file_no_memory(error, folder);
  cJSON *json;
  xf_status status = xf_json_read(path, &json, error);
  if (status == XF_OK) status = read_fields(&(struct object){path, "", json, error}, out);
  cJSON_Delete(json);
  xf_free(path);
  return status;
}

/* transformers' _compute_llama3_parameters for one frequency, with its roundings. */
static float scale_llama3(const struct xf_rope_config *rope, float inv_freq)
{
  float low = (float)rope->low_freq_factor, original = (float)rope->original_max_positions;
  float wavelength = 1.0f / inv_freq * 6.28318530717958648f;
  float scaled = inv_freq / (float)rope->factor;
  if (wavelength > (float)(rope->original_max_positions / rope->low_freq_factor)) return scaled;
  if (wavelength < (float)(rope->original_max_positions / rope->high_freq_factor)) return inv_freq;
  float smooth = 1.0f / wavelength * original - low;
  smooth /= (float)(rope->high_freq_factor - rope->low_freq_factor);
  return (1.0f - smooth) * inv_freq / (float)rope->factor + smooth * inv_freq;
}

void xf_rope_inv_freq(const struct xf_config *config, float *inv_freq)
{
  const struct xf_rope_config *rope = &config->rope;
  for (size_t i = 0; i < config->head_dim / 2; i++) {
    float exponent = (float)(2 * i) / (float)config->head_dim;
    float inverse = 1.0f / (float)pow((double)(float)rope->theta, (double)exponent);
    if (rope->type == XF_ROPE_LINEAR || rope->type == XF_ROPE_FACTORS)
      inverse /= (float)rope->factor;
    inv_freq[i] = rope->type == XF_ROPE_LLAMA3 ? scale_llama3(rope, inverse) : inverse;
  }
}
