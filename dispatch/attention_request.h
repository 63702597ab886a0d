/* A host's attention descriptor, checked. */
#ifndef XF_ATTENTION_REQUEST_H
#define XF_ATTENTION_REQUEST_H

#include "dispatch/attention.h"
#include "exactflash/attention.h"

/* The caller's descriptor (zeros behind an older one's end), and the sizes that its views agree on.
 */
struct xf_attention_request {
  xf_attention_desc desc;
  size_t batch, q_len, q_heads, kv_heads;
  size_t keys;     /* of a plain layout, else a limit */
  size_t page_len; /* of the others */
};

xf_status xf_attention_request_check(const xf_context *context, const xf_attention_desc *desc,
                                     struct xf_attention_request *out, xf_error *error);

/* Whether memory that is to be written meets that of an input. */
bool xf_attention_request_reads(const struct xf_attention_request *r, const xf_view *memory);

/* values[b], or the default where the caller has no such array. */
static inline int64_t xf_request_entry(const int64_t *values, size_t b, int64_t otherwise)
{
  return values ? values[b] : otherwise;
}

#endif
