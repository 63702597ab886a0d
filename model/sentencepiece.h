/* A SentencePiece BPE model (tokenizer.model) as read from its protobuf.
 * Source: Kudo & Richardson 2018; field numbers of sentencepiece_model.proto. */
#ifndef XF_MODEL_SENTENCEPIECE_H
#define XF_MODEL_SENTENCEPIECE_H

#include "exactflash/status.h"
#include "model/token_list.h"

/* data must outlive *out (zeroed by the caller, to be freed with xf_token_list_free in any case);
 * bytes ≤ XF_TEXT_LIMIT; path is for messages. What would make the ids or the text differ from
 * SentencePiece's, were it ignored, is XF_E_UNSUPPORTED. */
xf_status xf_sentencepiece_parse(const char *path, const unsigned char *data, size_t bytes,
                                 struct xf_token_list *out, xf_error *error);

#endif
