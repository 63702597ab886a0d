/* Text generation: prefill a prompt, then sample token by token. */
#ifndef EXACTFLASH_GENERATE_H
#define EXACTFLASH_GENERATE_H

#include "exactflash/kv_cache.h"
#include "exactflash/tokenizer.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A text that goes on. */
typedef struct xf_generator xf_generator;

/* Added to the logit of one token; −inf rules it out. */
typedef struct xf_logit_bias {
  int32_t token;
  float bias;
} xf_logit_bias;

/* The order of work: logit bias, penalties, temperature, top_k, typical, top_p, min_p, draw. Bias
 * and penalties count for greedy too. Every operation is written down in model/sampler.h. */
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
  /* Keeps the most probable tokens only. 0: off. */
  size_t top_k;
  /* Keeps tokens that are at least min_p times as probable as the most probable one (Nguyen et al.
   * 2024). 0: off; at most 1. */
  float min_p;
  /* Locally typical sampling (Meister et al. 2023): keeps the tokens whose information is nearest
   * to the expected one until their sum reaches it. 0 or ≥ 1: off. */
  float typical;
  /* For tokens that the last repeat_last_n tokens of the text have, prompts included: a positive
   * logit is divided by repetition_penalty and a negative one multiplied (Keskar et al. 2019; 0 and
   * 1: off); frequency_penalty times their count and presence_penalty are taken away (0: off). */
  float repetition_penalty, frequency_penalty, presence_penalty;
  uint32_t repeat_last_n;          /* 0: 64 */
  const xf_logit_bias *logit_bias; /* [n_logit_bias], copied; may be NULL */
  size_t n_logit_bias;
  /* [n_stop] texts in UTF-8, none empty, copied; may be NULL. The answer ends in front of the first
   * one to be complete, as if text came byte by byte (of those complete at once, the longest). Text
   * that may be the beginning of one is held back. */
  const char *const *stop;
  size_t n_stop;
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

/* Why xf_generator_next is done. */
enum {
  XF_DONE_EOS = 1, /* the token is an EOS id, and without text */
  XF_DONE_STOP = 2 /* its text completed a stop string: the text in front of that is the last */
};

/* Runs the model on the previous call's token, if there was one, and samples the next. *done is 0
 * or one of the above; then calling again is an error. The tokens of a stop string stay part of the
 * conversation. XF_E_CACHE_FULL when the previous token no longer fits; XF_E_FORMAT when the logits
 * are not finite. After a failure the call may be made again. utf8 (may be NULL): whole characters
 * only, valid until the next call. */
XF_API xf_status xf_generator_next(xf_generator *generator, int32_t *token, int *done,
                                   const char **utf8, size_t *bytes, xf_error *error);
/* The text still held back at the end (an unfinished character, the beginning of a stop string). */
XF_API xf_status xf_generator_flush(xf_generator *generator, const char **utf8, size_t *bytes);

/* A token and how probable it is. */
typedef struct xf_token_logprob {
  int32_t token;
  float logprob; /* natural logarithm; −inf: ruled out */
} xf_token_logprob;

/* How probable the model found the last token that xf_generator_next gave, and the n most probable
 * tokens in its place (n ≤ vocab_size; ties to the lowest id). Of the model's own logits, before
 * bias, penalties and temperature: with d[i] = logit[i] − max logit, logprob[i] = d[i] − ln Σ exp
 * d, in f32 and in the order that model/sampler.h gives. chosen and best may be NULL (n 0). To be
 * called before the next call of prompt or next. */
XF_API xf_status xf_generator_logprobs(xf_generator *generator, xf_token_logprob *chosen,
                                       xf_token_logprob *best, size_t n, xf_error *error);

#ifdef __cplusplus
}
#endif
#endif
