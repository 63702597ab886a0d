#include "exactflash/generate.h"

#include <stdbool.h>
#include <string.h>

#include "dispatch/error.h"
#include "dispatch/memory.h"
#include "model/model.h"
#include "model/sampler.h"

enum generator_state {
  NO_PROMPT, /* nothing to sample from */
  READY,     /* logits are those behind the cache's last position */
  PENDING,   /* `last` was sampled and is not in the cache yet */
  FINISHED   /* the same, and it was an EOS id */
};

struct xf_generator {
  const xf_model *model;
  xf_cache *cache;
  xf_decoder *decoder; /* NULL: no text */
  struct xf_sampler sampler;
  bool ignore_eos;
  enum generator_state state;
  int32_t last;
  float *logits; /* [vocab] */
};

/* An older caller's shorter struct is extended with zeros. */
static xf_status copy_options(const xf_generate_options *from, xf_generate_options *to,
                              xf_error *error)
{
  *to = (xf_generate_options){.struct_size = sizeof *to};
  if (!from) return XF_OK;
  if (from->struct_size < sizeof from->struct_size || from->struct_size > sizeof *to)
    return xf_fail(error, XF_E_ARGUMENT, "xf_generate_options: struct_size %zu; set it to sizeof",
                   from->struct_size);
  memcpy(to, from, from->struct_size);
  return XF_OK;
}

static xf_status fill(xf_generator *g, const xf_tokenizer *tokenizer,
                      const xf_generate_options *options, xf_error *error)
{
  size_t vocab = g->model->config.vocab;
  g->logits = xf_alloc(vocab, sizeof(float));
  if (!g->logits) return xf_fail(error, XF_E_MEMORY, "out of memory for %zu logits", vocab);
  xf_status status =
      xf_sampler_init(&g->sampler, g->model->context->kernels, vocab, options, error);
  if (!status && tokenizer) status = xf_decoder_create(tokenizer, &g->decoder, error);
  return status;
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
  xf_status status = copy_options(options, &given, error);
  if (status) return status;
  xf_generator *g = xf_alloc_zeroed(1, sizeof *g);
  if (!g) return xf_fail(error, XF_E_MEMORY, "out of memory for a generator");
  g->model = model;
  g->cache = cache;
  g->ignore_eos = given.ignore_eos != 0;
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
  xf_sampler_free(&generator->sampler);
  xf_free(generator->logits);
  xf_free(generator);
}

static xf_status run(xf_generator *g, const int32_t *ids, size_t n, xf_logits logits,
                     xf_error *error)
{
  xf_sequence sequence = {.cache = g->cache, .tokens = ids, .n_tokens = n, .logits = logits};
  if (logits != XF_LOGITS_NONE) sequence.out = g->logits;
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
    size_t chunk = xf_min(n - done, g->model->options.chunk);
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
    g->state = READY;
    return XF_OK;
  }
  xf_cache_truncate(g->cache, length);
  /* The last chunk may have overwritten the logits. */
  if (g->state == READY) g->state = NO_PROMPT;
  return status;
}

struct draw {
  const xf_generator *generator;
  int32_t *token;
  xf_error *error;
  xf_status status;
};

static void draw_task(void *arg, size_t slot, size_t item)
{
  (void)slot, (void)item;
  struct draw *draw = arg;
  const xf_generator *g = draw->generator;
  draw->status =
      xf_sampler_draw(&g->sampler, g->logits, xf_cache_length(g->cache), draw->token, draw->error);
}

static bool is_eos(const struct xf_config *config, int32_t token)
{
  for (size_t i = 0; i < config->n_eos; i++)
    if (config->eos[i] == token) return true;
  return false;
}

static xf_status text_of(const xf_generator *g, int32_t token, const char **utf8, size_t *bytes,
                         xf_error *error)
{
  xf_status status = xf_decoder_push(g->decoder, token, utf8, bytes);
  if (!status) return XF_OK;
  if (status == XF_E_MEMORY) return xf_fail(error, status, "out of memory for the text");
  return xf_fail(error, XF_E_FORMAT,
                 "the model chose token %ld, which the tokenizer cannot decode: does "
                 "tokenizer.model belong to another model?",
                 (long)token);
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
  if (g->state == NO_PROMPT || g->state == FINISHED)
    return xf_fail(error, XF_E_ARGUMENT, "nothing to continue: call xf_generator_prompt first");
  if (g->state == PENDING) {
    xf_status status = run(g, &g->last, 1, XF_LOGITS_LAST, error);
    if (status) return status;
    g->state = READY;
  }
  struct draw draw = {.generator = g, .token = token, .error = error};
  xf_parallel(g->model->context, 1, draw_task, &draw);
  if (draw.status) return draw.status;
  *done = !g->ignore_eos && is_eos(&g->model->config, *token);
  const char *text = "";
  size_t length = 0;
  if (g->decoder && !*done) {
    xf_status status = text_of(g, *token, &text, &length, error);
    if (status) return status;
  }
  if (utf8) *utf8 = text;
  if (bytes) *bytes = length;
  g->last = *token;
  g->state = *done ? FINISHED : PENDING;
  return XF_OK;
}

xf_status xf_generator_flush(xf_generator *generator, const char **utf8, size_t *bytes)
{
  if (!generator || !utf8 || !bytes) return XF_E_ARGUMENT;
  *utf8 = "";
  *bytes = 0;
  return generator->decoder ? xf_decoder_flush(generator->decoder, utf8, bytes) : XF_OK;
}
