/* Writes small byte-level tokenizers, as tokenizer.json and as GGUF. */
#ifndef XF_TESTS_TOKENIZER_WRITER_H
#define XF_TESTS_TOKENIZER_WRITER_H

#include <stddef.h>
#include <stdint.h>

/* The tokens: id b is byte b (0 … 255), then one for the result of each merge, then the added ones.
 */
enum { FIRST_MERGED = 256, MERGES = 9, FIRST_ADDED = FIRST_MERGED + MERGES, ADDED = 4 };
/* The parts of each merge, spelled with Ġ for the space: "h e", "l l", "ll o", "he llo", "Ġ hello",
 * "Ġ Ġ", "1 2", "a b", "ĠĠ ĠĠ". */
extern const char *const merges[MERGES];
/* <|end|> and <|begin|>, which are special, <tool> and 日本, which are not. */
extern const char *const added_tokens[ADDED];

/* The parts of a tokenizer.json as JSON; what is NULL is that of GPT-2. */
struct json_parts {
  const char *normalizer, *pre_tokenizer, *decoder, *post_processor;
  const char *model;  /* more fields of the model: "\"ignore_merges\": true," */
  const char *added;  /* more added tokens, each behind a comma */
  const char *merges; /* more merges, each behind a comma */
  int merge_pairs;    /* merges as ["a", "b"], not as "a b" */
};
char *write_json(const struct json_parts *parts); /* malloc */

/* A GGUF file with that vocabulary and no tensors. pre: tokenizer.ggml.pre (NULL: none). */
void write_gguf(const char *path, const char *pre);

#endif
