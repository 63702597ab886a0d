#include "exactflash/generate.h"

#include <stdbool.h>
#include <string.h>

#include "dispatch/error.h"
#include "dispatch/memory.h"
#include "dispatch/options.h"
#include "model/model.h"
#include "model/plan.h"
#include "model/sampler.h"
#include "model/stop.h"
#include "model/vocabulary.h"

enum generator_state {
  NO_PROMPT, /* nothing to sample from */
  READY,     /* logits are those behind the cache's last position */
  PENDING,   /* `last` was sampled and is not in the cache yet */
  FINISHED   /* the same, and it was the answer's end */
};

struct xf_generator {
  const xf_model *model;
  xf_cache *cache;
  xf_decoder *decoder; /* NULL: no text */
  struct xf_sampler sampler;
  struct xf_stop stop; /* empty without text */
  bool ignore_eos;
  enum generator_state state;
  int32_t last;
  float *logits; /* [vocab] */
  bool drawn;    /* the logits are those that `last` was drawn from */
};

static xf_status fill_text(xf_generator *g, const xf_tokenizer *tokenizer,
                           const xf_generate_options *options, xf_error *error)
{
  if (!tokenizer && options->n_stop)
    return xf_fail(error, XF_E_ARGUMENT, "stop strings need a tokenizer");
  if (!tokenizer) return XF_OK;
  xf_status status = xf_decoder_create(tokenizer, &g->decoder, error);
  if (status) return status;
  return xf_stop_init(&g->stop, options->stop, options->n_stop, xf_decoder_most(tokenizer), error);
}

static xf_status fill(xf_generator *g, const xf_tokenizer *tokenizer,
                      const xf_generate_options *options, xf_error *error)
{
  size_t vocab = g->model->config.vocab;
  g->logits = xf_alloc(vocab, sizeof(float));
  if (!g->logits) return xf_fail(error, XF_E_MEMORY, "out of memory for %zu logits", vocab);
  xf_status status =
      xf_sampler_init(&g->sampler, g->model->context->kernels, vocab, options, error);
  return status ? status : fill_text(g, tokenizer, options, error);
}

xf_status xf_generator_create(const xf_model *model, xf_cache *cache, const xf_tokenizer *tokenizer,
                              const xf_generate_options *options, xf_generator **out,
                              xf_error *error)
{
  if (out) *out = NULL;
  if (!model || !cache || !out)
    return xf_fail(error, XF_E_ARGUMENT, "xf_generator_create: model, cache and out must be given");
  if (cache->model != model)
    return xf_fail(error, XF_E_ARGUMENT, "the cache was made with another model");
  xf_generate_options given;
  xf_status status = xf_options_read("xf_generate_options", options, &given, sizeof given, error);
  if (status) return status;
  xf_generator *g = xf_alloc_zeroed(1, sizeof *g);
  if (!g) return xf_fail(error, XF_E_MEMORY, "out of memory for a generator");
  g->model = model;
  g->cache = cache;
  g->ignore_eos = given.ignore_eos != 0;
  /* No text is longer than the cache and the token that is not in it yet. */
  given.repeat_last_n = (uint32_t)xf_min(given.repeat_last_n, xf_cache_capacity(cache) + 1);
  status = fill(g, tokenizer, &given, error);
  if (status) {
    xf_generator_destroy(g);
    return status;
  }
  *out = g;
  return XF_OK;
}

void xf_generator_destroy(xf_generator *generator)
{
  if (!generator) return;
  xf_decoder_destroy(generator->decoder);
  xf_stop_free(&generator->stop);
  xf_sampler_free(&generator->sampler);
  xf_free(generator->logits);
  xf_free(generator);
}

static xf_status run(xf_generator *g, const int32_t *ids, size_t n, xf_logits logits,
                     xf_error *error)
{
  xf_sequence sequence = {.cache = g->cache, .tokens = ids, .n_tokens = n, .logits = logits};
  if (logits != XF_LOGITS_NONE) sequence.out = g->logits;
  if (logits != XF_LOGITS_NONE) g->drawn = false;
  return xf_forward(g->model, &sequence, 1, error);
}

static xf_status report(const xf_generator *g, size_t done, size_t total, xf_error *error)
{
  const xf_model_options *options = &g->model->options;
  if (!options->progress || !options->progress(options->progress_arg, "prefill", done, total))
    return XF_OK;
  return xf_fail(error, XF_E_CANCELLED, "cancelled after %zu of the prompt's %zu tokens", done,
                 total);
}

static xf_status prefill(xf_generator *g, const int32_t *ids, size_t n, xf_error *error)
{
  xf_status status = report(g, 0, n, error);
  for (size_t done = 0; !status && done < n;) {
    size_t chunk = g->model->planned_chunks ? xf_plan_next(&g->model->config.plan, n - done)
                                            : xf_min(n - done, g->model->options.chunk);
    bool final = done + chunk == n;
    status = run(g, ids + done, chunk, final ? XF_LOGITS_LAST : XF_LOGITS_NONE, error);
    done += chunk;
    if (!status) status = report(g, done, n, error);
  }
  return status;
}

/* Shows the decoder the prompt, so that the text that follows keeps its leading space and finishes
 * a character that the prompt has cut. An id that the tokenizer lacks has no text to pass over. */
static void pass_over(xf_generator *g, const int32_t *ids, size_t n)
{
  const char *utf8;
  size_t bytes;
  for (size_t i = 0; g->decoder && i < n; i++) xf_decoder_push(g->decoder, ids[i], &utf8, &bytes);
}

xf_status xf_generator_prompt(xf_generator *generator, const int32_t *ids, size_t n,
                              xf_error *error)
{
  xf_generator *g = generator;
  if (!g || !ids || n == 0)
    return xf_fail(error, XF_E_ARGUMENT, "the prompt is empty: give at least one token");
  size_t length = xf_cache_length(g->cache), room = xf_cache_capacity(g->cache) - length;
  bool pending = g->state == PENDING || g->state == FINISHED;
  if (n > room || n + pending > room)
    return xf_fail(error, XF_E_CACHE_FULL,
                   "the prompt of %zu tokens does not fit into the KV cache, where %zu of %zu "
                   "positions are free: shorten it or raise kv_cache_max_len",
                   n, room - (pending && room), xf_cache_capacity(g->cache));
  xf_status status = XF_OK;
  if (pending) status = run(g, &g->last, 1, XF_LOGITS_NONE, error);
  if (!status) status = prefill(g, ids, n, error);
  if (!status) {
    pass_over(g, ids, n);
    xf_stop_reset(&g->stop);
    xf_sampler_accept(&g->sampler, ids, n);
    g->state = READY;
    return XF_OK;
  }
  xf_cache_truncate(g->cache, length);
  /* The last chunk may have overwritten the logits. */
  if (g->state == READY) g->state = NO_PROMPT;
  return status;
}

static bool is_eos(const struct xf_config *config, int32_t token)
{
  for (size_t i = 0; i < config->n_eos; i++)
    if (config->eos[i] == token) return true;
  return false;
}

/* *done becomes XF_DONE_STOP where the token's text completes a stop string. */
static xf_status text_of(xf_generator *g, int32_t token, int *done, const char **utf8,
                         size_t *bytes, xf_error *error)
{
  if (!g->decoder || *done) return XF_OK;
  xf_status status = xf_decoder_push(g->decoder, token, utf8, bytes);
  if (status)
    return xf_fail(error, XF_E_FORMAT,
                   "the model chose token %ld, which the tokenizer cannot decode: does "
                   "tokenizer.model belong to another model?",
                   (long)token);
  xf_stop_push(&g->stop, *utf8, *bytes, false, utf8, bytes);
  if (g->stop.matched) *done = XF_DONE_STOP;
  return XF_OK;
}

/* Sees to it that the logits are those behind the last token. */
static xf_status make_ready(xf_generator *g, xf_error *error)
{
  if (g->state == NO_PROMPT || g->state == FINISHED)
    return xf_fail(error, XF_E_ARGUMENT, "nothing to continue: call xf_generator_prompt first");
  if (g->state == READY) return XF_OK;
  xf_status status = run(g, &g->last, 1, XF_LOGITS_LAST, error);
  if (!status) g->state = READY;
  return status;
}

/* The state changes last: a call that failed can be made again. */
xf_status xf_generator_next(xf_generator *generator, int32_t *token, int *done, const char **utf8,
                            size_t *bytes, xf_error *error)
{
  xf_generator *g = generator;
  if (utf8) *utf8 = "";
  if (bytes) *bytes = 0;
  if (!g || !token || !done)
    return xf_fail(error, XF_E_ARGUMENT, "xf_generator_next: token and done must be given");
  xf_status status = make_ready(g, error);
  if (status) return status;
  xf_fp_state caller = xf_fp_enter();
  status = xf_sampler_draw(&g->sampler, g->logits, xf_cache_length(g->cache), token, error);
  xf_fp_leave(caller);
  if (status) return status;
  *done = !g->ignore_eos && is_eos(&g->model->config, *token) ? XF_DONE_EOS : 0;
  const char *text = "";
  size_t length = 0;
  status = text_of(g, *token, done, &text, &length, error);
  if (status) return status;
  if (utf8) *utf8 = text;
  if (bytes) *bytes = length;
  xf_sampler_accept(&g->sampler, token, 1);
  g->drawn = true;
  g->last = *token;
  g->state = *done ? FINISHED : PENDING;
  return XF_OK;
}

xf_status xf_generator_flush(xf_generator *generator, const char **utf8, size_t *bytes)
{
  xf_generator *g = generator;
  if (!g || !utf8 || !bytes) return XF_E_ARGUMENT;
  *utf8 = "";
  *bytes = 0;
  if (!g->decoder) return XF_OK;
  xf_status status = xf_decoder_flush(g->decoder, utf8, bytes);
  if (!status) xf_stop_push(&g->stop, *utf8, *bytes, true, utf8, bytes);
  return status;
}

xf_status xf_generator_logprobs(xf_generator *generator, xf_token_logprob *chosen,
                                xf_token_logprob *best, size_t n, xf_error *error)
{
  xf_generator *g = generator;
  if (!g || (n && !best))
    return xf_fail(error, XF_E_ARGUMENT, "xf_generator_logprobs: generator and best must be given");
  size_t vocab = g->model->config.vocab;
  if (n > vocab)
    return xf_fail(error, XF_E_ARGUMENT, "log probabilities of %zu tokens: there are %zu", n,
                   vocab);
  if (!g->drawn)
    return xf_fail(error, XF_E_ARGUMENT,
                   "no log probabilities: call xf_generator_next successfully first");
  if (chosen) chosen->token = g->last;
  xf_fp_state caller = xf_fp_enter();
  xf_sampler_logprobs(&g->sampler, g->logits, chosen, best, n);
  xf_fp_leave(caller);
  return XF_OK;
}
