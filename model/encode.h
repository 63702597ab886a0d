/* Text to ids. */
#ifndef XF_MODEL_ENCODE_H
#define XF_MODEL_ENCODE_H

#include "model/bpe.h"

/* Where a text stands, which decides whether a dummy prefix belongs in front of it. */
enum xf_text_place {
  XF_TEXT_START,   /* nothing is in front of it but BOS */
  XF_BEHIND_TOKEN, /* a text of its own behind a token that was put there as such */
  XF_INSIDE_TEXT   /* the text in front of it goes on; neither has a space at the cut */
};

/* Appends the ids of text[0 … bytes), bytes < XF_TEXT_LIMIT; flags: XF_ENCODE_PARSE_SPECIAL or 0.
 * XF_E_MEMORY; XF_E_UNSUPPORTED where the vocabulary lacks a byte. */
xf_status xf_encode(const struct xf_tokenizer *tokenizer, const char *text, size_t bytes,
                    uint32_t flags, enum xf_text_place place, struct xf_ids *out, xf_error *error);

#endif
