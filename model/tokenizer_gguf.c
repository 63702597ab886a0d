/* The tokenizer inside a GGUF file: the keys tokenizer.ggml.…, with the defaults of llama.cpp. */
#include <math.h>
#include <string.h>

#include "dispatch/error.h"
#include "dispatch/memory.h"
#include "model/tokenizer_file.h"

#define KEY(name) "tokenizer.ggml." name

/* The names by which llama.cpp knows an expression, of those that are supported. */
static const struct {
  const char *name;
  enum xf_split split;
} splits[] = {
    {"gpt-2", XF_SPLIT_GPT2},    {"phi-2", XF_SPLIT_GPT2},
    {"smollm", XF_SPLIT_SMOLLM}, {"llama-bpe", XF_SPLIT_LLAMA3},
    {"llama3", XF_SPLIT_LLAMA3}, {"llama-v3", XF_SPLIT_LLAMA3},
    {"qwen2", XF_SPLIT_QWEN2},   {"deepseek-r1-qwen", XF_SPLIT_QWEN2},
};

#define RULE(name)                                                                                 \
  {                                                                                                \
    "exactflash.tokenizer." #name, offsetof(struct xf_token_rules, name)                           \
  }
const struct xf_rule_key xf_rule_keys[] = {RULE(nfc),
                                           RULE(ignore_merges),
                                           RULE(dummy_prefix),
                                           RULE(prefix_at_start_only),
                                           RULE(prefix_unless_space),
                                           RULE(remove_extra_whitespaces),
                                           RULE(drops_space),
                                           RULE(user_defined_apart),
                                           {NULL, 0}};

const char *xf_split_gguf_name(enum xf_split split)
{
  size_t i = 0;
  while (splits[i].split != split) i++;
  return splits[i].name;
}

static xf_status missing(const struct xf_gguf *gguf, const char *key, xf_error *error)
{
  return xf_fail(error, XF_E_FORMAT, "%s: %s is missing", gguf->path, key);
}

/* An array that must be there and, where n is not 0, have n elements. */
static xf_status get_array(const struct xf_gguf *gguf, const char *key, enum xf_gguf_type elements,
                           size_t n, const struct xf_gguf_value **out, xf_error *error)
{
  *out = NULL;
  xf_status status = xf_gguf_get_array(gguf, key, elements, out, error);
  if (status != XF_OK) return status;
  if (!*out) return missing(gguf, key, error);
  if (n == 0 || (*out)->n == n) return XF_OK;
  return xf_fail(error, XF_E_FORMAT, "%s: %s has %zu elements, but there are %zu tokens",
                 gguf->path, key, (*out)->n, n);
}

static xf_status read_pieces(const struct xf_gguf *gguf, bool scored, struct xf_token_list *out,
                             xf_error *error)
{
  const struct xf_gguf_value *tokens, *types, *scores = NULL;
  xf_status status = get_array(gguf, KEY("tokens"), XF_GGUF_STRING, 0, &tokens, error);
  size_t n = status ? 0 : tokens->n;
  if (!status && n == 0) return missing(gguf, KEY("tokens"), error);
  if (!status) status = get_array(gguf, KEY("token_type"), XF_GGUF_I64, n, &types, error);
  if (!status && scored) status = get_array(gguf, KEY("scores"), XF_GGUF_F64, n, &scores, error);
  if (status != XF_OK) return status;
  struct xf_gguf_string *spellings = xf_alloc(n, sizeof *spellings);
  out->pieces = xf_alloc(n, sizeof *out->pieces);
  out->n = n;
  if (!spellings || !out->pieces)
    status = xf_fail(error, XF_E_MEMORY, "%s: out of memory for %zu tokens", gguf->path, n);
  else
    xf_gguf_strings(tokens, spellings);
  for (size_t i = 0; status == XF_OK && i < n; i++) {
    int64_t type = xf_gguf_integer_at(types, i);
    float score = scores ? (float)xf_gguf_number_at(scores, i) : 0;
    const char *fault = NULL;
    if (type < XF_PIECE_NORMAL || type > XF_PIECE_BYTE)
      fault = KEY("token_type") " is not from 1 to 6";
    else if (spellings[i].bytes > XF_TEXT_LIMIT)
      fault = KEY("tokens") " is larger than 1 GiB";
    else if (spellings[i].bytes == 0 && type != XF_PIECE_UNUSED)
      fault = KEY("tokens") " is empty";
    else if (isnan(score))
      fault = KEY("scores") " is not a number";
    out->pieces[i] = (struct xf_piece){spellings[i].text, (uint32_t)spellings[i].bytes,
                                       (enum xf_piece_type)type, score};
    if (fault) status = xf_fail(error, XF_E_FORMAT, "%s: token %zu: %s", gguf->path, i, fault);
  }
  xf_free(spellings);
  return status;
}

static xf_status read_merges(const struct xf_gguf *gguf, struct xf_token_list *out, xf_error *error)
{
  const struct xf_gguf_value *merges;
  xf_status status = get_array(gguf, KEY("merges"), XF_GGUF_STRING, 0, &merges, error);
  if (status != XF_OK) return status;
  out->n_merges = merges->n;
  struct xf_gguf_string *texts = xf_alloc(merges->n, sizeof *texts);
  out->merges = xf_alloc(merges->n, sizeof *out->merges);
  if (!texts || !out->merges)
    status = xf_fail(error, XF_E_MEMORY, "%s: out of memory for %zu merges", gguf->path, merges->n);
  else
    xf_gguf_strings(merges, texts);
  for (size_t i = 0; status == XF_OK && i < out->n_merges; i++)
    if (!xf_merge_parse(texts[i].text, texts[i].bytes, &out->merges[i]))
      status = xf_fail(error, XF_E_FORMAT,
                       "%s: %s: element %zu is not two tokens with a space "
                       "between them",
                       gguf->path, KEY("merges"), i);
  xf_free(texts);
  return status;
}

static xf_status read_split(const struct xf_gguf *gguf, enum xf_split *out, xf_error *error)
{
  struct xf_gguf_string name = {0};
  xf_status status = xf_gguf_get_string(gguf, KEY("pre"), &name, error);
  if (status != XF_OK) return status;
  for (size_t i = 0; i < sizeof splits / sizeof *splits; i++)
    if (xf_gguf_string_equal(name, splits[i].name)) {
      *out = splits[i].split;
      return XF_OK;
    }
  if (!name.text)
    return xf_fail(error, XF_E_UNSUPPORTED,
                   "%s: " KEY("pre") " is missing: convert the model again with a newer converter",
                   gguf->path);
  return xf_fail(error, XF_E_UNSUPPORTED,
                 "%s: " KEY("pre") " is \"%.*s\"; supported are gpt-2, smollm, llama-bpe and qwen2",
                 gguf->path, (int)xf_min(name.bytes, 100), name.text);
}

/* An id that may be absent. */
static xf_status read_id(const struct xf_gguf *gguf, const char *key, size_t n, int32_t absent,
                         int32_t *out, xf_error *error)
{
  int64_t id = absent;
  xf_status status = xf_gguf_get_integer(gguf, key, 0, (int64_t)n - 1, &id, error);
  *out = (int32_t)id;
  return status;
}

static xf_status read_bos(const struct xf_gguf *gguf, bool adds, struct xf_token_list *out,
                          xf_error *error)
{
  struct xf_token_rules *rules = &out->rules;
  bool names = !rules->byte_level && out->n > 2; /* Llama 2 has them at 1 and 2 */
  xf_status status = read_id(gguf, KEY("bos_token_id"), out->n, names ? 1 : -1, &rules->bos, error);
  if (!status)
    status = read_id(gguf, KEY("eos_token_id"), out->n, names ? 2 : -1, &rules->eos, error);
  if (!status) status = xf_gguf_get_bool(gguf, KEY("add_bos_token"), &adds, error);
  rules->adds_bos = adds && rules->bos >= 0;
  return status;
}

static xf_status read_llama(const struct xf_gguf *gguf, struct xf_token_list *out, xf_error *error)
{
  struct xf_token_rules *rules = &out->rules;
  out->by_score = rules->dummy_prefix = true;
  xf_status status = read_pieces(gguf, true, out, error);
  if (!status)
    status = xf_gguf_get_bool(gguf, KEY("add_space_prefix"), &rules->dummy_prefix, error);
  rules->drops_space = rules->dummy_prefix;
  if (!status) status = xf_gguf_get_bool(gguf, XF_BY_SCORE_KEY, &out->by_score, error);
  if (!status && !out->by_score) status = read_merges(gguf, out, error);
  return status ? status : read_bos(gguf, true, out, error);
}

static xf_status read_gpt2(const struct xf_gguf *gguf, struct xf_token_list *out, xf_error *error)
{
  struct xf_token_rules *rules = &out->rules;
  rules->byte_level = true;
  xf_status status = read_split(gguf, &rules->split, error);
  if (!status) status = read_pieces(gguf, false, out, error);
  if (!status) status = read_merges(gguf, out, error);
  bool llama3 = rules->split == XF_SPLIT_LLAMA3;
  rules->ignore_merges = llama3;
  return status ? status : read_bos(gguf, llama3, out, error);
}

static xf_status read_model(const struct xf_gguf *gguf, struct xf_token_list *out, xf_error *error)
{
  struct xf_gguf_string model = {0};
  xf_status status = xf_gguf_get_string(gguf, KEY("model"), &model, error);
  if (status != XF_OK) return status;
  out->rules.user_defined_apart = true;
  if (xf_gguf_string_equal(model, "llama")) return read_llama(gguf, out, error);
  if (xf_gguf_string_equal(model, "gpt2")) return read_gpt2(gguf, out, error);
  if (!model.text || xf_gguf_string_equal(model, "none"))
    return xf_fail(error, XF_E_UNSUPPORTED,
                   "%s: holds no tokenizer (" KEY("model") "): name a tokenizer.model or a "
                                                           "tokenizer.json",
                   gguf->path);
  return xf_fail(error, XF_E_UNSUPPORTED,
                 "%s: " KEY("model") " is \"%.*s\"; supported are llama and gpt2", gguf->path,
                 (int)xf_min(model.bytes, 100), model.text);
}

xf_status xf_tokenizer_gguf_list(const struct xf_gguf *gguf, struct xf_token_list *out,
                                 xf_error *error)
{
  xf_status status = read_model(gguf, out, error);
  for (const struct xf_rule_key *rule = xf_rule_keys; !status && rule->key; rule++)
    status = xf_gguf_get_bool(gguf, rule->key, (bool *)((char *)&out->rules + rule->offset), error);
  return status;
}
