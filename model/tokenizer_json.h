/* The parts of a tokenizer.json (Hugging Face tokenizers). */
#ifndef XF_MODEL_TOKENIZER_JSON_H
#define XF_MODEL_TOKENIZER_JSON_H

#include "model/json.h"
#include "model/token_list.h"

enum { XF_JSON_MOST_PARTS = 4 };

/* A part of the file that is null, one object or a Sequence of them. */
struct xf_json_parts {
  const char *name;
  const cJSON *list[XF_JSON_MOST_PARTS];
  size_t n;
};

/* name: the part's; sequence: the key that a Sequence has its parts under. XF_E_UNSUPPORTED where
 * there are too many. */
xf_status xf_json_parts_read(const char *path, const cJSON *json, const char *name,
                             const char *sequence, struct xf_json_parts *out, xf_error *error);

/* {"type": type, …} */
static inline bool xf_json_is_type(const cJSON *item, const char *type)
{
  return xf_json_is_text(xf_json_get(item, "type"), type);
}

/* What tells how text becomes tokens and back: normalizer, pre_tokenizer, decoder and the settings
 * of the model. */
xf_status xf_tokenizer_json_rules(const char *path, const cJSON *json, struct xf_token_rules *out,
                                  xf_error *error);

#endif
