/* The kinds of files that tokenizers come in. */
#ifndef XF_MODEL_TOKENIZER_FILE_H
#define XF_MODEL_TOKENIZER_FILE_H

#include "model/gguf_write.h"
#include "model/json.h"
#include "model/vocabulary.h"

/* Finds out what the path names and builds *tokenizer (zeroed by the caller) from it. On failure
 * xf_vocabulary_free is still to be called. */
xf_status xf_tokenizer_file_read(const char *path, struct xf_tokenizer *tokenizer, xf_error *error);

/* The tokenizer's file in a folder; xf_free it. *out is NULL where there is none. */
xf_status xf_tokenizer_find(const char *folder, char **out, xf_error *error);

/* The readers of each kind fill *out (zeroed by the caller, to be freed in any case), which points
 * into what they have read. What would make ids or text differ from those of the software that the
 * file was made for, were it ignored, is XF_E_UNSUPPORTED. */

/* config: tokenizer_config.json from beside the file, or NULL. */
xf_status xf_tokenizer_json_list(const char *path, const cJSON *json, const cJSON *config,
                                 struct xf_token_list *out, xf_error *error);

/* Rules that GGUF's own keys cannot say, as bools that our converter writes: keys, and where in
 * struct xf_token_rules they belong. The last one has no key. */
struct xf_rule_key {
  const char *key;
  size_t offset;
};
extern const struct xf_rule_key xf_rule_keys[];
#define XF_BY_SCORE_KEY "exactflash.tokenizer.by_score" /* struct xf_token_list's, likewise */
/* What GGUF calls the expression. */
const char *xf_split_gguf_name(enum xf_split split);

xf_status xf_tokenizer_gguf_list(const struct xf_gguf *gguf, struct xf_token_list *out,
                                 xf_error *error);

/* Adds a tokenizer to the metadata of a model of n ≥ xf_tokenizer_vocab_size tokens: what
 * xf_tokenizer_gguf_list reads as the same tokenizer, and others as nearly as their keys allow. */
xf_status xf_tokenizer_gguf_write(const struct xf_tokenizer *tokenizer, size_t n,
                                  struct xf_gguf_writer *writer, xf_error *error);

#endif
