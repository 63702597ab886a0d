/* The kinds of files that tokenizers come in. */
#ifndef XF_MODEL_TOKENIZER_FILE_H
#define XF_MODEL_TOKENIZER_FILE_H

#include "model/gguf.h"
#include "model/json.h"
#include "model/vocabulary.h"

/* Finds out what the path names and builds *tokenizer (zeroed by the caller) from it. On failure
 * xf_vocabulary_free is still to be called. */
xf_status xf_tokenizer_file_read(const char *path, struct xf_tokenizer *tokenizer, xf_error *error);

/* The readers of each kind fill *out (zeroed by the caller, to be freed in any case), which points
 * into what they have read. What would make ids or text differ from those of the software that the
 * file was made for, were it ignored, is XF_E_UNSUPPORTED. */

/* config: tokenizer_config.json from beside the file, or NULL. */
xf_status xf_tokenizer_json_list(const char *path, const cJSON *json, const cJSON *config,
                                 struct xf_token_list *out, xf_error *error);

xf_status xf_tokenizer_gguf_list(const struct xf_gguf *gguf, struct xf_token_list *out,
                                 xf_error *error);

#endif
