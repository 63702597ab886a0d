#include "tests/tokenizer_support.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support.h"

xf_tokenizer *open_tokenizer(const char *path)
{
  xf_tokenizer *tokenizer;
  xf_error error;
  if (xf_tokenizer_open(path, &tokenizer, &error) != XF_OK) fail_msg("%s", error.message);
  return tokenizer;
}

struct ids encode(const xf_tokenizer *tokenizer, const char *text, size_t bytes, uint32_t flags)
{
  struct ids ids = {0};
  size_t n;
  assert_int_equal(xf_tokenizer_encode(tokenizer, text, bytes, flags, NULL, 0, &ids.n, NULL),
                   XF_OK);
  ids.data = malloc((ids.n + 1) * sizeof *ids.data);
  ids.data[ids.n] = -7;
  assert_int_equal(xf_tokenizer_encode(tokenizer, text, bytes, flags, ids.data, ids.n, &n, NULL),
                   XF_OK);
  assert_int_equal(n, ids.n);
  assert_int_equal(ids.data[ids.n], -7);
  return ids;
}

struct bytes decode(const xf_tokenizer *tokenizer, const int32_t *ids, size_t n)
{
  struct bytes text = {0};
  size_t bytes;
  assert_int_equal(xf_tokenizer_decode(tokenizer, ids, n, NULL, 0, &text.n, NULL), XF_OK);
  text.data = malloc(text.n + 1);
  text.data[text.n] = 'x';
  assert_int_equal(xf_tokenizer_decode(tokenizer, ids, n, text.data, text.n, &bytes, NULL), XF_OK);
  assert_int_equal(bytes, text.n);
  assert_int_equal(text.data[text.n], 'x');
  return text;
}

struct bytes from_hex(const char *hex, size_t digits)
{
  struct bytes out = {malloc(digits / 2 + 1), digits / 2};
  assert_int_equal(digits % 2, 0);
  for (size_t i = 0; i < out.n; i++) {
    unsigned value;
    assert_int_equal(sscanf(hex + 2 * i, "%2x", &value), 1);
    out.data[i] = (char)value;
  }
  return out;
}

struct ids from_text(const char *list)
{
  struct ids out = {malloc((strlen(list) + 1) * sizeof *out.data), 0};
  char *end;
  for (const char *at = list; *at; at = *end ? end + 1 : end)
    out.data[out.n++] = (int32_t)strtol(at, &end, 10);
  return out;
}

void assert_ids(const char *what, struct ids got, struct ids want)
{
  bool same = got.n == want.n;
  for (size_t i = 0; same && i < got.n; i++) same = got.data[i] == want.data[i];
  if (same) return;
  for (size_t i = 0; i < got.n; i++) print_message("%d ", (int)got.data[i]);
  fail_msg("%s: the ids above are wrong", what);
}

void check_text(const xf_tokenizer *tokenizer, const char *text, uint32_t flags, const char *ids)
{
  struct ids want = from_text(ids), got = encode(tokenizer, text, strlen(text), flags);
  assert_ids(text, got, want);
  free(want.data);
  free(got.data);
}

/* Written the long way, by code points, so that it is not the library's code again. */
struct bytes replace_invalid(struct bytes raw)
{
  struct bytes out = {malloc(3 * raw.n + 1), 0};
  for (size_t i = 0; i < raw.n;) {
    const unsigned char *s = (const unsigned char *)raw.data + i;
    size_t n = s[0] < 0x80           ? 1
               : (s[0] >> 5) == 0x06 ? 2
               : (s[0] >> 4) == 0x0E ? 3
               : (s[0] >> 3) == 0x1E ? 4
                                     : 0;
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    bool valid = n > 0 && i + n <= raw.n;
    uint32_t code = n == 1 ? s[0] : n ? s[0] & (0x7Fu >> n) : 0;
    for (size_t k = 1; valid && k < n; k++) {
      valid = (s[k] & 0xC0) == 0x80;
      code = code << 6 | (s[k] & 0x3Fu);
    }
    valid = valid && code >= least[n] && code <= 0x10FFFF && (code < 0xD800 || code > 0xDFFF);
    memcpy(out.data + out.n, valid ? (const char *)s : "\xEF\xBF\xBD", valid ? n : 3);
    out.n += valid ? n : 3;
    i += valid ? n : 1;
  }
  return out;
}

void check_stream(xf_decoder *decoder, struct ids ids, struct bytes want)
{
  size_t at = 0;
  for (size_t i = 0; i <= ids.n; i++) {
    const char *text;
    size_t bytes;
    if (i < ids.n)
      assert_int_equal(xf_decoder_push(decoder, ids.data[i], &text, &bytes), XF_OK);
    else
      assert_int_equal(xf_decoder_flush(decoder, &text, &bytes), XF_OK);
    assert_int_equal(text[bytes], '\0');
    struct bytes whole = replace_invalid((struct bytes){(char *)(uintptr_t)text, bytes});
    assert_int_equal(whole.n, bytes); /* already valid, so no character was cut */
    assert_memory_equal(whole.data, text, bytes);
    free(whole.data);
    assert_true(at + bytes <= want.n);
    assert_memory_equal(text, want.data + at, bytes);
    at += bytes;
  }
  assert_int_equal(at, want.n);
}
