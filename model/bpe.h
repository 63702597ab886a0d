/* Byte pair encoding. */
#ifndef XF_MODEL_BPE_H
#define XF_MODEL_BPE_H

#include "model/vocabulary.h"

/* Ids go to ids[0 … capacity); n counts them all, also those that no longer fit. */
struct xf_ids {
  int32_t *ids;
  size_t capacity, n;
  int lacking; /* the byte that the vocabulary has no token for, or −1 */
};

static inline void xf_ids_push(struct xf_ids *out, int32_t id)
{
  if (out->n < out->capacity) out->ids[out->n] = id;
  out->n++;
}

/* Appends the ids of text[0 … bytes), bytes < 2³²; spaces are space marks already where the
 * vocabulary has them. False: out of memory. */
bool xf_bpe_encode(const struct xf_tokenizer *tokenizer, const char *text, size_t bytes,
                   struct xf_ids *out);

#endif
