#include "exactflash/tokenizer.h"

#include <string.h>

#include "dispatch/error.h"
#include "dispatch/memory.h"
#include "model/encode.h"
#include "model/file.h"
#include "model/tokenizer_file.h"

xf_status xf_tokenizer_open(const char *path, xf_tokenizer **out, xf_error *error)
{
  if (out) *out = NULL;
  if (!path || !out)
    return xf_fail(error, XF_E_ARGUMENT, "xf_tokenizer_open: path and out must not be NULL");
  struct xf_tokenizer *tokenizer = xf_alloc_zeroed(1, sizeof *tokenizer);
  if (!tokenizer) return xf_file_no_memory(error, path);
  xf_status status = xf_tokenizer_file_read(path, tokenizer, error);
  if (status == XF_OK)
    *out = tokenizer;
  else
    xf_tokenizer_close(tokenizer);
  return status;
}

void xf_tokenizer_close(xf_tokenizer *tokenizer)
{
  if (!tokenizer) return;
  xf_vocabulary_free(tokenizer);
  xf_free(tokenizer);
}

size_t xf_tokenizer_vocab_size(const xf_tokenizer *tokenizer)
{
  return tokenizer->n;
}

int32_t xf_tokenizer_bos(const xf_tokenizer *tokenizer)
{
  return tokenizer->rules.bos;
}

int32_t xf_tokenizer_eos(const xf_tokenizer *tokenizer)
{
  return tokenizer->rules.eos;
}

int xf_tokenizer_adds_bos(const xf_tokenizer *tokenizer)
{
  return tokenizer->rules.adds_bos;
}

xf_status xf_tokenizer_encode(const xf_tokenizer *tokenizer, const char *utf8, size_t bytes,
                              uint32_t flags, int32_t *ids, size_t capacity, size_t *n,
                              xf_error *error)
{
  if (n) *n = 0;
  if (!tokenizer || (!utf8 && bytes > 0) || (!ids && capacity > 0) || !n)
    return xf_fail(error, XF_E_ARGUMENT,
                   "xf_tokenizer_encode: tokenizer, utf8, ids and n must not be NULL");
  if (flags & ~(uint32_t)(XF_ENCODE_BOS | XF_ENCODE_PARSE_SPECIAL))
    return xf_fail(error, XF_E_ARGUMENT, "xf_tokenizer_encode: unknown flags 0x%X", flags);
  if (bytes >= XF_TEXT_LIMIT)
    return xf_fail(error, XF_E_ARGUMENT,
                   "xf_tokenizer_encode: the text has %zu bytes; encode it in parts of less than "
                   "1 GiB",
                   bytes);
  if (flags & XF_ENCODE_BOS && tokenizer->rules.bos < 0)
    return xf_fail(error, XF_E_ARGUMENT,
                   "xf_tokenizer_encode: this tokenizer has no BOS token; leave out XF_ENCODE_BOS");
  struct xf_ids out = {.ids = ids, .capacity = capacity, .lacking = -1};
  if (flags & XF_ENCODE_BOS) xf_ids_push(&out, tokenizer->rules.bos);
  xf_status status = xf_encode(tokenizer, utf8, bytes, flags, XF_TEXT_START, &out, error);
  if (!status) *n = out.n;
  return status;
}

xf_status xf_tokenizer_decode(const xf_tokenizer *tokenizer, const int32_t *ids, size_t n,
                              char *utf8, size_t capacity, size_t *bytes, xf_error *error)
{
  if (bytes) *bytes = 0;
  if (!tokenizer || (!ids && n > 0) || (!utf8 && capacity > 0) || !bytes)
    return xf_fail(error, XF_E_ARGUMENT,
                   "xf_tokenizer_decode: tokenizer, ids, utf8 and bytes must not be NULL");
  size_t total = 0;
  bool at_start = true;
  for (size_t i = 0; i < n; i++) {
    if (!xf_in_vocabulary(tokenizer, ids[i]))
      return xf_fail(error, XF_E_ARGUMENT,
                     "xf_tokenizer_decode: ids[%zu] is %d, outside of the vocabulary of %zu", i,
                     (int)ids[i], tokenizer->n);
    const char *text;
    size_t length;
    xf_vocabulary_text(tokenizer, ids[i], &at_start, &text, &length);
    if (total < capacity) memcpy(utf8 + total, text, xf_min(length, capacity - total));
    if (__builtin_add_overflow(total, length, &total))
      return xf_fail(error, XF_E_ARGUMENT, "xf_tokenizer_decode: the text is too long");
  }
  *bytes = total;
  return XF_OK;
}

xf_status xf_tokenizer_piece(const xf_tokenizer *tokenizer, int32_t id, const char **piece,
                             size_t *bytes)
{
  if (!tokenizer || !piece || !bytes || !xf_in_vocabulary(tokenizer, id)) return XF_E_ARGUMENT;
  bool at_start = false;
  xf_vocabulary_text(tokenizer, id, &at_start, piece, bytes);
  return XF_OK;
}
