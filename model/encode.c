#include "model/encode.h"

#include <string.h>

#include "dispatch/error.h"
#include "dispatch/memory.h"
#include "model/nfc.h"

static size_t put_space_mark(char *out, size_t n)
{
  memcpy(out + n, XF_SPACE_MARK, XF_SPACE_MARK_BYTES);
  return n + XF_SPACE_MARK_BYTES;
}

static bool takes_prefix(const struct xf_token_rules *rules, const char *text, size_t bytes,
                         enum xf_text_place place)
{
  if (!rules->dummy_prefix || place == XF_INSIDE_TEXT) return false;
  if (rules->prefix_at_start_only && place != XF_TEXT_START) return false;
  bool has_space = text[0] == ' ' || xf_begins_with_space_mark(text, bytes);
  return !(rules->prefix_unless_space && has_space);
}

/* SentencePiece's normalization, the character map being the identity. out has room for every byte
 * to become a space mark, and one more in front. */
static size_t mark_spaces(const struct xf_token_rules *rules, const char *text, size_t bytes,
                          enum xf_text_place place, char *out)
{
  bool trims = rules->remove_extra_whitespaces, after_space = trims;
  size_t n = 0, i = 0;
  while (trims && i < bytes && text[i] == ' ') i++;
  if (i == bytes) return 0;
  if (takes_prefix(rules, text + i, bytes - i, place)) n = put_space_mark(out, n);
  for (; i < bytes; i++) {
    bool space = text[i] == ' ';
    if (!space)
      out[n++] = text[i];
    else if (!after_space)
      n = put_space_mark(out, n);
    after_space = space && trims;
  }
  while (trims && n >= XF_SPACE_MARK_BYTES &&
         xf_begins_with_space_mark(out + n - XF_SPACE_MARK_BYTES, XF_SPACE_MARK_BYTES))
    n -= XF_SPACE_MARK_BYTES;
  return n;
}

/* Text between special tokens: a text of its own. */
static bool encode_plain(const xf_tokenizer *tokenizer, const char *text, size_t bytes,
                         enum xf_text_place place, struct xf_ids *out)
{
  if (bytes == 0) return true; /* between two special tokens */
  const struct xf_token_rules *rules = &tokenizer->rules;
  char *normalized;
  size_t n;
  if (!rules->byte_level) {
    normalized = xf_alloc(bytes + 1, XF_SPACE_MARK_BYTES);
    if (normalized) n = mark_spaces(rules, text, bytes, place, normalized);
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
                   enum xf_text_place place, struct xf_ids *out)
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
      if (!encode_plain(tokenizer, text + plain, i - plain, place, out)) return false;
      xf_ids_push(out, id);
      place = XF_BEHIND_TOKEN;
      plain = i + matched;
    }
    i += matched > 0 ? matched : 1;
  }
  return plain == bytes || encode_plain(tokenizer, text + plain, bytes - plain, place, out);
}

xf_status xf_encode(const struct xf_tokenizer *tokenizer, const char *text, size_t bytes,
                    uint32_t flags, enum xf_text_place place, struct xf_ids *out, xf_error *error)
{
  if (!encode(tokenizer, text, bytes, flags, place, out))
    return xf_fail(error, XF_E_MEMORY, "out of memory for a text of %zu bytes", bytes);
  if (out->lacking >= 0)
    return xf_fail(error, XF_E_UNSUPPORTED,
                   "the text holds the byte 0x%02X, which the vocabulary has no token for",
                   (unsigned)out->lacking);
  return XF_OK;
}
