#include "exactflash/tokenizer.h"

#include <string.h>

#include "dispatch/error.h"
#include "dispatch/memory.h"
#include "model/bpe.h"
#include "model/file.h"
#include "model/nfc.h"
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

static size_t put_space_mark(char *out, size_t n)
{
  memcpy(out + n, XF_SPACE_MARK, XF_SPACE_MARK_BYTES);
  return n + XF_SPACE_MARK_BYTES;
}

static bool begins_with_space(const char *text, size_t bytes)
{
  return text[0] == ' ' ||
         (bytes >= XF_SPACE_MARK_BYTES && memcmp(text, XF_SPACE_MARK, XF_SPACE_MARK_BYTES) == 0);
}

static bool takes_prefix(const struct xf_token_rules *rules, const char *text, size_t bytes,
                         bool at_start)
{
  if (!rules->dummy_prefix || (rules->prefix_at_start_only && !at_start)) return false;
  return !(rules->prefix_unless_space && begins_with_space(text, bytes));
}

/* SentencePiece's normalization, the character map being the identity. out has room for every byte
 * to become a space mark, and one more in front. */
static size_t mark_spaces(const struct xf_token_rules *rules, const char *text, size_t bytes,
                          bool at_start, char *out)
{
  bool trims = rules->remove_extra_whitespaces, after_space = trims;
  size_t n = 0, i = 0;
  while (trims && i < bytes && text[i] == ' ') i++;
  if (i == bytes) return 0;
  if (takes_prefix(rules, text + i, bytes - i, at_start)) n = put_space_mark(out, n);
  for (; i < bytes; i++) {
    bool space = text[i] == ' ';
    if (!space)
      out[n++] = text[i];
    else if (!after_space)
      n = put_space_mark(out, n);
    after_space = space && trims;
  }
  while (trims && n >= XF_SPACE_MARK_BYTES &&
         memcmp(out + n - XF_SPACE_MARK_BYTES, XF_SPACE_MARK, XF_SPACE_MARK_BYTES) == 0)
    n -= XF_SPACE_MARK_BYTES;
  return n;
}

/* Text between special tokens: a text of its own. */
static bool encode_plain(const xf_tokenizer *tokenizer, const char *text, size_t bytes,
                         bool at_start, struct xf_ids *out)
{
  if (bytes == 0) return true; /* between two special tokens */
  const struct xf_token_rules *rules = &tokenizer->rules;
  char *normalized;
  size_t n;
  if (!rules->byte_level) {
    normalized = xf_alloc(bytes + 1, XF_SPACE_MARK_BYTES);
    if (normalized) n = mark_spaces(rules, text, bytes, at_start, normalized);
  } else if (rules->nfc && xf_nfc_may_change(text, bytes)) {
    normalized = xf_nfc(text, bytes, &n);
  } else {
    return xf_bpe_encode(tokenizer, text, bytes, out);
  }
  bool done = normalized && xf_bpe_encode(tokenizer, normalized, n, out);
  xf_free(normalized);
  return done;
}

/* Cuts the text at special tokens: the leftmost first, of those that begin there the longest. */
static bool encode(const xf_tokenizer *tokenizer, const char *text, size_t bytes, uint32_t flags,
                   struct xf_ids *out)
{
  unsigned cut = flags & XF_ENCODE_PARSE_SPECIAL ? XF_SPECIAL & ~(unsigned)XF_USER_DEFINED : 0;
  if (tokenizer->rules.user_defined_apart) cut |= XF_USER_DEFINED;
  /* A user-defined piece hides what is inside of it, be it cut out here or found later. */
  unsigned seen = cut ? cut | XF_USER_DEFINED : 0;
  size_t plain = 0; /* where the plain text begins */
  for (size_t i = 0; seen && i < bytes;) {
    int32_t id = -1;
    size_t matched = xf_vocabulary_match(tokenizer, text + i, bytes - i, seen, &id);
    if (matched > 0 && cut >> tokenizer->pieces[id].type & 1) {
      if (!encode_plain(tokenizer, text + plain, i - plain, plain == 0, out)) return false;
      xf_ids_push(out, id);
      plain = i + matched;
    }
    i += matched > 0 ? matched : 1;
  }
  return plain == bytes || encode_plain(tokenizer, text + plain, bytes - plain, plain == 0, out);
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
  if (!encode(tokenizer, utf8, bytes, flags, &out))
    return xf_fail(error, XF_E_MEMORY, "xf_tokenizer_encode: out of memory for a text of %zu bytes",
                   bytes);
  if (out.lacking >= 0)
    return xf_fail(error, XF_E_UNSUPPORTED,
                   "xf_tokenizer_encode: the text holds the byte 0x%02X, which the vocabulary has "
                   "no token for",
                   (unsigned)out.lacking);
  *n = out.n;
  return XF_OK;
}

static bool in_vocabulary(const xf_tokenizer *tokenizer, int32_t id)
{
  return id >= 0 && (size_t)id < tokenizer->n;
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
    if (!in_vocabulary(tokenizer, ids[i]))
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
  if (!tokenizer || !piece || !bytes || !in_vocabulary(tokenizer, id)) return XF_E_ARGUMENT;
  bool at_start = false;
  xf_vocabulary_text(tokenizer, id, &at_start, piece, bytes);
  return XF_OK;
}
