/* Text generation: prefill a prompt, then sample token by token. */
#ifndef EXACTFLASH_GENERATE_H
#define EXACTFLASH_GENERATE_H

#include "exactflash/kv_cache.h"
#include "exactflash/tokenizer.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct xf_generator xf_generator;

typedef struct xf_generate_options {
  size_t struct_size; /* sizeof(xf_generate_options) */
  /* ≤ 0: greedy (arg-max, ties to the lowest id). Else softmax(logits / temperature). */
  float temperature;
  /* Nucleus sampling (Holtzman et al. 2020): keeps the most probable tokens until their sum reaches
   * top_p. 0 or ≥ 1: off. */
  float top_p;
  /* The same seed gives the same tokens on every ISA. The random number of a token depends on the
   * seed and the token's position alone, so that a text that is fed in again continues as it did.
   */
  uint64_t seed;
  /* Stop at the model's EOS ids: 0 yes, 1 no. */
  int ignore_eos;
} xf_generate_options;

/* Model, cache and tokenizer are borrowed; the cache may already hold positions (a conversation's
 * past). tokenizer may be NULL: then no text. options may be NULL: greedy. */
XF_API xf_status xf_generator_create(const xf_model *model, xf_cache *cache,
                                     const xf_tokenizer *tokenizer,
                                     const xf_generate_options *options, xf_generator **out,
                                     xf_error *error);
XF_API void xf_generator_destroy(xf_generator *generator); /* NULL is allowed */

/* Prefills n ≥ 1 ids, in chunks of the model's chunk size, with progress ("prefill"). After
 * xf_generator_next its last token goes in front of them, so that a conversation is whole. On
 * failure the cache is as it was. */
XF_API xf_status xf_generator_prompt(xf_generator *generator, const int32_t *ids, size_t n,
                                     xf_error *error);

/* Runs the model on the previous call's token, if there was one, and samples the next. *done is 1
 * when the token is an EOS id (its text is empty); then calling again is an error. XF_E_CACHE_FULL
 * when the previous token no longer fits; XF_E_FORMAT when the logits are not finite. After a
 * failure the call may be made again. utf8 (may be NULL): whole characters only, valid until the
 * next call. */
XF_API xf_status xf_generator_next(xf_generator *generator, int32_t *token, int *done,
                                   const char **utf8, size_t *bytes, xf_error *error);
/* The text still held back at the end (an unfinished character). */
XF_API xf_status xf_generator_flush(xf_generator *generator, const char **utf8, size_t *bytes);

#ifdef __cplusplus
}
#endif
#endif
