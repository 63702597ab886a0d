/* What the tokenizers' tests share. */
#ifndef XF_TESTS_TOKENIZER_SUPPORT_H
#define XF_TESTS_TOKENIZER_SUPPORT_H

#include "exactflash/tokenizer.h"

/* malloc'd ids or bytes. */
struct ids {
  int32_t *data;
  size_t n;
};
struct bytes {
  char *data;
  size_t n;
};

/* These fail the test where the library fails. */
xf_tokenizer *open_tokenizer(const char *path);
struct ids encode(const xf_tokenizer *tokenizer, const char *text, size_t bytes, uint32_t flags);
struct bytes decode(const xf_tokenizer *tokenizer, const int32_t *ids, size_t n);

struct bytes from_hex(const char *hex, size_t digits);
struct ids from_text(const char *list); /* "1 2 3" */
void assert_ids(const char *what, struct ids got, struct ids want);
/* Encodes a text that ends in NUL and compares. */
void check_text(const xf_tokenizer *tokenizer, const char *text, uint32_t flags, const char *ids);

/* What a stream must give: each byte outside of valid UTF-8 as one U+FFFD. */
struct bytes replace_invalid(struct bytes raw);
/* Pushes the ids; what comes out together must be want, and no piece of it may be broken. */
void check_stream(xf_decoder *decoder, struct ids ids, struct bytes want);

#endif
