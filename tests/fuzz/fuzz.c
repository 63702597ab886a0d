#include "tests/fuzz/fuzz.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dispatch/utf8.h"
#include "tests/support.h"

void fuzz_expect(bool good, const char *what)
{
  if (good) return;
  fprintf(stderr, "not as it should be: %s\n", what);
  abort();
}

const char *fuzz_folder(void)
{
  static char *folder;
  if (!folder) folder = temporary_folder();
  return folder;
}

const char *fuzz_file(const char *name, const uint8_t *data, size_t size)
{
  static char path[2100];
  snprintf(path, sizeof path, "%s/%s", fuzz_folder(), name);
  write_file(path, data, size);
  return path;
}

bool fuzz_failed(xf_status status, const xf_error *error, const char *path)
{
  if (status == XF_OK) return false;
  fuzz_expect(status == XF_E_FORMAT || status == XF_E_UNSUPPORTED || status == XF_E_MEMORY ||
                  status == XF_E_SHAPE,
              xf_status_string(status));
  fuzz_expect(error->status == status && strstr(error->message, path) != NULL, error->message);
  return true;
}

void fuzz_touch(const void *data, size_t bytes)
{
  static volatile unsigned char sink;
  unsigned char all = 0;
  for (size_t i = 0; i < bytes; i++) all ^= ((const unsigned char *)data)[i];
  sink = all;
  (void)sink;
}

static void check_stream(const xf_tokenizer *tokenizer, const int32_t *ids, size_t n)
{
  xf_decoder *decoder;
  const char *text;
  size_t bytes;
  fuzz_expect(xf_decoder_create(tokenizer, &decoder, NULL) == XF_OK, "xf_decoder_create");
  for (size_t i = 0; i < n; i++) {
    fuzz_expect(xf_decoder_push(decoder, ids[i], &text, &bytes) == XF_OK, "xf_decoder_push");
    fuzz_expect(xf_utf8_valid(text, bytes), "a piece of a stream is not UTF-8");
  }
  fuzz_expect(xf_decoder_flush(decoder, &text, &bytes) == XF_OK, "xf_decoder_flush");
  fuzz_expect(xf_utf8_valid(text, bytes), "the end of a stream is not UTF-8");
  xf_decoder_destroy(decoder);
}

static void check_decoded(const xf_tokenizer *tokenizer, const int32_t *ids, size_t n,
                          const char *text, size_t bytes, bool keeps_text)
{
  size_t decoded, again;
  fuzz_expect(xf_tokenizer_decode(tokenizer, ids, n, NULL, 0, &decoded, NULL) == XF_OK, "decode");
  char *out = malloc(decoded + 1);
  fuzz_expect(out != NULL, "out of memory");
  fuzz_expect(xf_tokenizer_decode(tokenizer, ids, n, out, decoded, &again, NULL) == XF_OK &&
                  again == decoded,
              "decoding twice");
  if (keeps_text)
    fuzz_expect(decoded == bytes && (bytes == 0 || memcmp(out, text, bytes) == 0),
                "the decoded text is not the text");
  free(out);
}

void fuzz_tokenizer(const xf_tokenizer *tokenizer, const char *text, size_t bytes, uint32_t flags,
                    bool keeps_text)
{
  size_t n, again, vocab = xf_tokenizer_vocab_size(tokenizer);
  xf_error error = {0};
  xf_status status = xf_tokenizer_encode(tokenizer, text, bytes, flags, NULL, 0, &n, &error);
  if (status == XF_E_UNSUPPORTED && !keeps_text) return; /* a byte that it has no token for */
  fuzz_expect(status == XF_OK, error.message);
  int32_t *ids = malloc((n + 1) * sizeof *ids);
  fuzz_expect(ids != NULL, "out of memory");
  fuzz_expect(xf_tokenizer_encode(tokenizer, text, bytes, flags, ids, n, &again, &error) == XF_OK &&
                  again == n,
              "encoding twice");
  for (size_t i = 0; i < n; i++)
    fuzz_expect(ids[i] >= 0 && (size_t)ids[i] < vocab, "an id out of the vocabulary");
  check_decoded(tokenizer, ids, n, text, bytes, keeps_text);
  check_stream(tokenizer, ids, n);
  free(ids);
}

void fuzz_any_tokenizer(const xf_tokenizer *tokenizer)
{
  static const char text[] = " hello  a12<tool> e\xCC\x81\r\n日本's<|end|></s>\xFF";
  uint32_t bos = xf_tokenizer_bos(tokenizer) >= 0 ? XF_ENCODE_BOS : 0;
  fuzz_tokenizer(tokenizer, text, sizeof text - 1, bos, false);
  fuzz_tokenizer(tokenizer, text, sizeof text - 1, XF_ENCODE_PARSE_SPECIAL, false);
  size_t n = xf_tokenizer_vocab_size(tokenizer), bytes;
  for (size_t id = 0; id < n; id++) {
    const char *piece;
    fuzz_expect(xf_tokenizer_piece(tokenizer, (int32_t)id, &piece, &bytes) == XF_OK, "a piece");
    fuzz_touch(piece, bytes);
  }
}
