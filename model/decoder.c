/* Text as it comes, in whole characters. */
#include <string.h>

#include "dispatch/error.h"
#include "dispatch/memory.h"
#include "dispatch/utf8.h"
#include "model/vocabulary.h"

static const char replacement[] = "\xEF\xBF\xBD"; /* U+FFFD */
enum { REPLACEMENT_BYTES = sizeof replacement - 1, LONGEST_CUT = 3 };

struct xf_decoder {
  const xf_tokenizer *tokenizer;
  bool at_start; /* no visible piece so far */
  size_t held;   /* bytes of an unfinished character, at the beginning of bytes */
  char *bytes;   /* [LONGEST_CUT + longest text of a piece] */
  char *text;    /* [REPLACEMENT_BYTES times as many + 1] */
};

size_t xf_decoder_most(const xf_tokenizer *tokenizer)
{
  return REPLACEMENT_BYTES * ((size_t)LONGEST_CUT + tokenizer->longest_text);
}

xf_status xf_decoder_create(const xf_tokenizer *tokenizer, xf_decoder **out, xf_error *error)
{
  if (out) *out = NULL;
  if (!tokenizer || !out)
    return xf_fail(error, XF_E_ARGUMENT, "xf_decoder_create: tokenizer and out must not be NULL");
  size_t bytes = (size_t)LONGEST_CUT + tokenizer->longest_text;
  struct xf_decoder *decoder = xf_alloc_zeroed(1, sizeof *decoder);
  if (decoder) {
    decoder->bytes = xf_alloc(bytes, 1);
    decoder->text = xf_alloc(xf_decoder_most(tokenizer) + 1, 1);
  }
  if (!decoder || !decoder->bytes || !decoder->text) {
    xf_decoder_destroy(decoder);
    return xf_fail(error, XF_E_MEMORY, "xf_decoder_create: out of memory");
  }
  decoder->tokenizer = tokenizer;
  decoder->at_start = true;
  *out = decoder;
  return XF_OK;
}

void xf_decoder_destroy(xf_decoder *decoder)
{
  if (!decoder) return;
  xf_free(decoder->bytes);
  xf_free(decoder->text);
  xf_free(decoder);
}

/* Turns bytes[0 … n) into text, all but an unfinished character at the end (unless it is the end of
 * everything), which it holds back. Returns the bytes of text. */
static size_t emit(struct xf_decoder *decoder, size_t n, bool last)
{
  size_t i = 0, out = 0;
  while (i < n) {
    int bytes = xf_utf8_character(decoder->bytes + i, n - i);
    if (bytes == XF_UTF8_CUT && !last) break;
    bool valid = bytes > 0;
    size_t taken = valid ? (size_t)bytes : 1, put = valid ? taken : REPLACEMENT_BYTES;
    memcpy(decoder->text + out, valid ? decoder->bytes + i : replacement, put);
    out += put;
    i += taken;
  }
  decoder->held = n - i;
  memmove(decoder->bytes, decoder->bytes + i, decoder->held);
  decoder->text[out] = '\0';
  return out;
}

xf_status xf_decoder_push(xf_decoder *decoder, int32_t id, const char **utf8, size_t *bytes)
{
  if (utf8) *utf8 = "";
  if (bytes) *bytes = 0;
  if (!decoder || !utf8 || !bytes || !xf_in_vocabulary(decoder->tokenizer, id))
    return XF_E_ARGUMENT;
  const char *text;
  size_t length;
  xf_vocabulary_text(decoder->tokenizer, id, &decoder->at_start, &text, &length);
  memcpy(decoder->bytes + decoder->held, text, length);
  *bytes = emit(decoder, decoder->held + length, false);
  *utf8 = decoder->text;
  return XF_OK;
}

xf_status xf_decoder_flush(xf_decoder *decoder, const char **utf8, size_t *bytes)
{
  if (utf8) *utf8 = "";
  if (bytes) *bytes = 0;
  if (!decoder || !utf8 || !bytes) return XF_E_ARGUMENT;
  *bytes = emit(decoder, decoder->held, true);
  *utf8 = decoder->text;
  decoder->at_start = true;
  return XF_OK;
}
