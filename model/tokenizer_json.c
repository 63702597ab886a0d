/* The tokens of a tokenizer.json (Hugging Face tokenizers): vocabulary, merges, added tokens. */
#include <string.h>

#include "dispatch/error.h"
#include "dispatch/memory.h"
#include "model/tokenizer_file.h"
#include "model/tokenizer_json.h"

struct reader {
  const char *path;
  const cJSON *json, *model;
  struct xf_token_list *out;
  size_t limit; /* of the ids, ≥ 1 */
  xf_error *error;
};

/* The piece of an id that a file gives, or NULL. */
static struct xf_piece *piece_of(struct reader *r, const cJSON *id)
{
  size_t i;
  if (!xf_json_integer(id, 0, r->limit - 1, &i)) return NULL;
  if (i >= r->out->n) r->out->n = i + 1;
  return &r->out->pieces[i];
}

static bool spell(struct xf_piece *piece, const char *text)
{
  size_t bytes = strlen(text);
  if (bytes == 0 || bytes > XF_TEXT_LIMIT) return false;
  piece->spelling = text;
  piece->bytes = (uint32_t)bytes;
  return true;
}

static xf_status read_vocabulary(struct reader *r)
{
  const cJSON *vocab = xf_json_get(r->model, "vocab"),
              *added = xf_json_get(r->json, "added_tokens"), *item;
  if (!cJSON_IsObject(vocab) || !vocab->child)
    return xf_fail(r->error, XF_E_FORMAT, "%s: model.vocab must hold {\"token\": id, …}", r->path);
  r->limit = (size_t)cJSON_GetArraySize(vocab) + (size_t)cJSON_GetArraySize(added);
  r->out->pieces = xf_alloc_zeroed(r->limit, sizeof *r->out->pieces);
  if (!r->out->pieces)
    return xf_fail(r->error, XF_E_MEMORY, "%s: out of memory for %zu tokens", r->path, r->limit);
  for (size_t i = 0; i < r->limit; i++) r->out->pieces[i].type = XF_PIECE_UNUSED;
  bool bytes = !r->out->rules.byte_level;
  cJSON_ArrayForEach(item, vocab)
  {
    struct xf_piece *piece = piece_of(r, item);
    if (!piece || piece->bytes > 0)
      return xf_fail(r->error, XF_E_FORMAT,
                     "%s: model.vocab[\"%.100s\"] is no id below %zu of its own", r->path,
                     item->string, r->limit);
    if (!spell(piece, item->string))
      return xf_fail(r->error, XF_E_FORMAT, "%s: model.vocab holds an empty token", r->path);
    bool byte = bytes && xf_byte_piece_value(piece->spelling, piece->bytes) >= 0;
    piece->type = byte ? XF_PIECE_BYTE : XF_PIECE_NORMAL;
  }
  return XF_OK;
}

/* What would have to be honoured, but is not. */
static const char *unsupported_flag(const struct reader *r, const cJSON *token)
{
  static const char *const flags[] = {"single_word", "lstrip", "rstrip"};
  for (size_t i = 0; i < 3; i++)
    if (cJSON_IsTrue(xf_json_get(token, flags[i]))) return flags[i];
  const cJSON *normalizer = xf_json_get(r->json, "normalizer");
  bool normalizes = normalizer && !cJSON_IsNull(normalizer);
  return normalizes && cJSON_IsTrue(xf_json_get(token, "normalized")) ? "normalized" : NULL;
}

static xf_status read_added(struct reader *r)
{
  const cJSON *added = xf_json_get(r->json, "added_tokens"), *token;
  if (added && !cJSON_IsNull(added) && !cJSON_IsArray(added))
    return xf_fail(r->error, XF_E_FORMAT, "%s: added_tokens must be a list", r->path);
  cJSON_ArrayForEach(token, added)
  {
    const char *content = cJSON_GetStringValue(xf_json_get(token, "content"));
    struct xf_piece *piece = piece_of(r, xf_json_get(token, "id"));
    if (!content || !piece)
      return xf_fail(r->error, XF_E_FORMAT,
                     "%s: added_tokens: each must have a content and an id below %zu", r->path,
                     r->limit);
    bool same = piece->bytes == strlen(content) &&
                memcmp(piece->spelling ? piece->spelling : "", content, piece->bytes) == 0;
    if ((piece->bytes > 0 && !same) || !spell(piece, content))
      return xf_fail(r->error, XF_E_FORMAT,
                     "%s: added_tokens: \"%.100s\" has the id of another token", r->path, content);
    const char *flag = unsupported_flag(r, token);
    if (flag)
      return xf_fail(r->error, XF_E_UNSUPPORTED,
                     "%s: added_tokens: %s of \"%.100s\" is true, which is not supported here",
                     r->path, flag, content);
    piece->type =
        cJSON_IsTrue(xf_json_get(token, "special")) ? XF_PIECE_CONTROL : XF_PIECE_USER_DEFINED;
  }
  return XF_OK;
}

static bool read_merge(const cJSON *item, struct xf_merge_text *out)
{
  if (cJSON_IsString(item))
    return xf_merge_parse(item->valuestring, strlen(item->valuestring), out);
  const cJSON *first = item->child, *second = first ? first->next : NULL;
  if (!cJSON_IsArray(item) || !cJSON_IsString(first) || !cJSON_IsString(second) || second->next)
    return false;
  size_t left = strlen(first->valuestring), right = strlen(second->valuestring);
  *out = (struct xf_merge_text){first->valuestring, second->valuestring, (uint32_t)left,
                                (uint32_t)right};
  return left > 0 && right > 0 && left <= XF_TEXT_LIMIT && right <= XF_TEXT_LIMIT;
}

static xf_status read_merges(struct reader *r)
{
  const cJSON *merges = xf_json_get(r->model, "merges"), *item;
  if (!cJSON_IsArray(merges))
    return xf_fail(r->error, XF_E_FORMAT, "%s: model.merges must be a list", r->path);
  size_t n = (size_t)cJSON_GetArraySize(merges);
  r->out->merges = xf_alloc(n, sizeof *r->out->merges);
  if (!r->out->merges)
    return xf_fail(r->error, XF_E_MEMORY, "%s: out of memory for %zu merges", r->path, n);
  cJSON_ArrayForEach(item, merges)
  {
    if (!read_merge(item, &r->out->merges[r->out->n_merges]))
      return xf_fail(r->error, XF_E_FORMAT, "%s: model.merges[%zu] is not two tokens", r->path,
                     r->out->n_merges);
    r->out->n_merges++;
  }
  return XF_OK;
}

static int32_t find_token(const struct reader *r, const char *text)
{
  unsigned any = ~(1u << XF_PIECE_UNUSED);
  return text ? xf_token_list_find(r->out, text, strlen(text), any) : -1;
}

/* The token that the template puts in front of a single text, or NULL. */
static const char *template_bos(const cJSON *processor)
{
  const cJSON *first = xf_json_get(processor, "single");
  first = first ? first->child : NULL;
  return cJSON_GetStringValue(xf_json_get(xf_json_get(first, "SpecialToken"), "id"));
}

static xf_status read_processor(const struct reader *r, const char **bos)
{
  struct xf_json_parts parts;
  xf_status status =
      xf_json_parts_read(r->path, r->json, "post_processor", "processors", &parts, r->error);
  for (size_t i = 0; !status && i < parts.n; i++) {
    const cJSON *item = parts.list[i];
    const char *type = cJSON_GetStringValue(xf_json_get(item, "type"));
    if (xf_json_is_type(item, "TemplateProcessing"))
      *bos = template_bos(item);
    else if (!xf_json_is_type(item, "ByteLevel")) /* which only moves offsets */
      status = xf_fail(r->error, XF_E_UNSUPPORTED,
                       "%s: post_processor %.100s is not supported; TemplateProcessing is", r->path,
                       type ? type : "without a type");
  }
  return status;
}

/* {"content": "<s>", …} or "<s>". */
static const char *config_token(const cJSON *config, const char *key)
{
  const cJSON *token = xf_json_get(config, key);
  return cJSON_GetStringValue(cJSON_IsObject(token) ? xf_json_get(token, "content") : token);
}

static xf_status read_bos(struct reader *r, const cJSON *config)
{
  struct xf_token_rules *rules = &r->out->rules;
  const char *in_template = NULL, *bos, *eos = config_token(config, "eos_token");
  xf_status status = read_processor(r, &in_template);
  if (status != XF_OK) return status;
  bos = config_token(config, "bos_token");
  if (!bos) bos = in_template;
  rules->bos = find_token(r, bos);
  rules->eos = find_token(r, eos);
  const cJSON *adds = xf_json_get(config, "add_bos_token");
  rules->adds_bos = rules->bos >= 0 && (cJSON_IsBool(adds) ? cJSON_IsTrue(adds) : !!in_template);
  const char *lacking = bos && rules->bos < 0 ? bos : eos && rules->eos < 0 ? eos : NULL;
  if (!lacking) return XF_OK;
  return xf_fail(r->error, XF_E_FORMAT,
                 "%s: has no token \"%.100s\", which tokenizer_config.json or post_processor names",
                 r->path, lacking);
}

xf_status xf_tokenizer_json_list(const char *path, const cJSON *json, const cJSON *config,
                                 struct xf_token_list *out, xf_error *error)
{
  struct reader r = {
      .path = path, .json = json, .model = xf_json_get(json, "model"), .out = out, .error = error};
  xf_status status = xf_tokenizer_json_rules(path, json, &out->rules, error);
  if (!status) status = read_vocabulary(&r);
  if (!status) status = read_added(&r);
  if (!status) status = read_merges(&r);
  if (!status) status = read_bos(&r, config);
  int32_t unknown =
      status ? -1 : find_token(&r, cJSON_GetStringValue(xf_json_get(r.model, "unk_token")));
  if (unknown >= 0) out->pieces[unknown].type = XF_PIECE_UNKNOWN;
  return status;
}
