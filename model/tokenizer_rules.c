/* How a tokenizer.json (Hugging Face tokenizers) turns text into tokens and back. The file can
 * combine parts freely; the combinations of published models are recognised, all else refused. */
#include <string.h>

#include "dispatch/error.h"
#include "model/tokenizer_json.h"

static bool is_null(const cJSON *item)
{
  return !item || cJSON_IsNull(item);
}

/* A setting that may be absent. */
static bool setting(const cJSON *item, const char *key, bool absent)
{
  const cJSON *value = xf_json_get(item, key);
  return is_null(value) ? absent : cJSON_IsTrue(value);
}

static xf_status refuse(const char *path, const struct xf_json_parts *parts, xf_error *error)
{
  char types[200] = "";
  for (size_t i = 0; i < parts->n; i++) {
    const char *type = cJSON_GetStringValue(xf_json_get(parts->list[i], "type"));
    strncat(types, i ? ", " : "", sizeof types - strlen(types) - 1);
    strncat(types, type ? type : "?", sizeof types - strlen(types) - 1);
  }
  return xf_fail(
      error, XF_E_UNSUPPORTED,
      "%s: %s (%s) with these settings is not supported; the tokenizers of Llama, GPT-2, "
      "SmolLM2 and Qwen2 are",
      path, parts->name, parts->n ? types : "none");
}

xf_status xf_json_parts_read(const char *path, const cJSON *json, const char *name,
                             const char *sequence, struct xf_json_parts *out, xf_error *error)
{
  *out = (struct xf_json_parts){.name = name};
  const cJSON *item = xf_json_get(json, name);
  if (is_null(item)) return XF_OK;
  bool several = xf_json_is_type(item, "Sequence");
  if (several) item = xf_json_get(item, sequence);
  if (several && item) item = item->child;
  for (; item; item = several ? item->next : NULL) {
    if (out->n == XF_JSON_MOST_PARTS)
      return xf_fail(error, XF_E_UNSUPPORTED, "%s: %s has more than %d parts", path, name,
                     XF_JSON_MOST_PARTS);
    out->list[out->n++] = item;
  }
  return XF_OK;
}

/* {"type": "Replace", "pattern": {"String": from}, "content": to} */
static bool is_replace(const cJSON *item, const char *from, const char *to)
{
  return xf_json_is_type(item, "Replace") &&
         xf_json_is_text(xf_json_get(xf_json_get(item, "pattern"), "String"), from) &&
         xf_json_is_text(xf_json_get(item, "content"), to);
}

static bool is_byte_level(const cJSON *item, bool splits)
{
  return xf_json_is_type(item, "ByteLevel") && !setting(item, "add_prefix_space", true) &&
         setting(item, "use_regex", true) == splits;
}

/* One of the expressions, isolating what it finds. */
static bool read_regex(const cJSON *item, enum xf_split *out)
{
  static const struct {
    const char *regex;
    enum xf_split split;
  } known[] = {
      {"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| "
       "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
       XF_SPLIT_LLAMA3},
      {"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| "
       "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
       XF_SPLIT_QWEN2},
  };
  if (!xf_json_is_type(item, "Split") ||
      !xf_json_is_text(xf_json_get(item, "behavior"), "Isolated") || setting(item, "invert", false))
    return false;
  for (size_t i = 0; i < sizeof known / sizeof *known; i++)
    if (xf_json_is_text(xf_json_get(xf_json_get(item, "pattern"), "Regex"), known[i].regex)) {
      *out = known[i].split;
      return true;
    }
  return false;
}

static bool read_words(const struct xf_json_parts *parts, enum xf_split *out)
{
  const cJSON *const *list = parts->list;
  if (parts->n == 1) {
    *out = XF_SPLIT_GPT2;
    return is_byte_level(list[0], true);
  }
  if (parts->n != 2) return false;
  if (xf_json_is_type(list[0], "Digits") && setting(list[0], "individual_digits", false)) {
    *out = XF_SPLIT_SMOLLM;
    return is_byte_level(list[1], true);
  }
  return read_regex(list[0], out) && is_byte_level(list[1], false);
}

static bool read_metaspace(const cJSON *item, struct xf_token_rules *out)
{
  const cJSON *scheme = xf_json_get(item, "prepend_scheme");
  bool never = xf_json_is_text(scheme, "never"), first = xf_json_is_text(scheme, "first");
  if (!xf_json_is_type(item, "Metaspace") ||
      !xf_json_is_text(xf_json_get(item, "replacement"), XF_SPACE_MARK) ||
      setting(item, "split", true) || !(never || first || xf_json_is_text(scheme, "always")) ||
      setting(item, "add_prefix_space", !never) == never)
    return false;
  out->dummy_prefix = !never;
  out->prefix_at_start_only = first;
  out->prefix_unless_space = true;
  return true;
}

/* Spaces become marks by a normalizer or by Metaspace. */
static bool read_marks(const struct xf_json_parts *normalizer, const struct xf_json_parts *words,
                       struct xf_token_rules *out)
{
  bool marks = false;
  for (size_t i = 0; i < normalizer->n; i++) {
    const cJSON *item = normalizer->list[i];
    if (is_replace(item, " ", XF_SPACE_MARK))
      marks = true;
    else if (xf_json_is_type(item, "Prepend") &&
             xf_json_is_text(xf_json_get(item, "prepend"), XF_SPACE_MARK) && !out->dummy_prefix)
      out->dummy_prefix = true;
    else
      return false;
  }
  if (words->n == 0) return marks;
  return words->n == 1 && normalizer->n == 0 && read_metaspace(words->list[0], out);
}

/* What makes text of marked tokens. */
static bool read_marked_decoder(const struct xf_json_parts *decoder, struct xf_token_rules *out)
{
  bool spaces = false, bytes = false;
  for (size_t i = 0; i < decoder->n; i++) {
    const cJSON *item = decoder->list[i];
    const cJSON *start = xf_json_get(item, "start"), *stop = xf_json_get(item, "stop");
    if (is_replace(item, XF_SPACE_MARK, " ")) {
      spaces = true;
    } else if (xf_json_is_type(item, "ByteFallback")) {
      bytes = true;
    } else if (xf_json_is_type(item, "Strip") &&
               xf_json_is_text(xf_json_get(item, "content"), " ") &&
               cJSON_GetNumberValue(start) == 1 && cJSON_GetNumberValue(stop) == 0) {
      out->drops_space = true;
    } else if (xf_json_is_type(item, "Metaspace") && !spaces) {
      spaces = true;
      out->drops_space = !xf_json_is_text(xf_json_get(item, "prepend_scheme"), "never");
    } else if (!xf_json_is_type(item, "Fuse")) {
      return false;
    }
  }
  return spaces && bytes;
}

/* The settings of the model that change its ids. */
static xf_status check_model(const char *path, const cJSON *model, xf_error *error)
{
  if (!cJSON_IsObject(model))
    return xf_fail(error, XF_E_FORMAT, "%s: model is missing: no tokenizer.json", path);
  const char *type = cJSON_GetStringValue(xf_json_get(model, "type"));
  if (!type || strcmp(type, "BPE") != 0)
    return xf_fail(error, XF_E_UNSUPPORTED, "%s: model.type is %.100s; only BPE is supported", path,
                   type ? type : "missing");
  static const char *const affixes[] = {"continuing_subword_prefix", "end_of_word_suffix"};
  for (size_t i = 0; i < 2; i++) {
    const cJSON *affix = xf_json_get(model, affixes[i]);
    if (!is_null(affix) && !xf_json_is_text(affix, ""))
      return xf_fail(error, XF_E_UNSUPPORTED, "%s: model.%s is not supported", path, affixes[i]);
  }
  const cJSON *dropout = xf_json_get(model, "dropout");
  if (!is_null(dropout) && !(cJSON_IsNumber(dropout) && dropout->valuedouble == 0))
    return xf_fail(error, XF_E_UNSUPPORTED, "%s: model.dropout is not supported", path);
  return XF_OK;
}

xf_status xf_tokenizer_json_rules(const char *path, const cJSON *json, struct xf_token_rules *out,
                                  xf_error *error)
{
  const cJSON *model = xf_json_get(json, "model");
  struct xf_json_parts normalizer, words, decoder;
  xf_status status = check_model(path, model, error);
  if (!status)
    status = xf_json_parts_read(path, json, "normalizer", "normalizers", &normalizer, error);
  if (!status)
    status = xf_json_parts_read(path, json, "pre_tokenizer", "pretokenizers", &words, error);
  if (!status) status = xf_json_parts_read(path, json, "decoder", "decoders", &decoder, error);
  if (status != XF_OK) return status;
  out->user_defined_apart = true;
  out->ignore_merges = setting(model, "ignore_merges", false);
  out->byte_level = words.n > 0 && xf_json_is_type(words.list[words.n - 1], "ByteLevel");
  if (out->byte_level) {
    out->nfc = normalizer.n == 1 && xf_json_is_type(normalizer.list[0], "NFC");
    if (!read_words(&words, &out->split)) return refuse(path, &words, error);
    if (normalizer.n > 0 && !out->nfc) return refuse(path, &normalizer, error);
    bool letters = decoder.n == 1 && xf_json_is_type(decoder.list[0], "ByteLevel");
    return letters ? XF_OK : refuse(path, &decoder, error);
  }
  if (!read_marks(&normalizer, &words, out))
    return refuse(path, words.n ? &words : &normalizer, error);
  if (!setting(model, "byte_fallback", false))
    return xf_fail(error, XF_E_UNSUPPORTED,
                   "%s: model.byte_fallback is false, which is not supported without ByteLevel",
                   path);
  if (out->ignore_merges)
    return xf_fail(error, XF_E_UNSUPPORTED,
                   "%s: model.ignore_merges is not supported without ByteLevel", path);
  return read_marked_decoder(&decoder, out) ? XF_OK : refuse(path, &decoder, error);
}
