#include "cli/trial.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/report.h"

int xf_cli_trial_encode(const struct xf_cli_session *s, const char *prompt, struct xf_cli_ids *ids)
{
  xf_error error = {0};
  xf_tokenizer *tokenizer;
  *ids = (struct xf_cli_ids){.text = strdup(prompt), .bytes = strlen(prompt)};
  if (!ids->text) return xf_cli_fail("out of memory for the prompt");
  if (xf_tokenizer_open(s->path, &tokenizer, &error) == XF_OK) {
    uint32_t flags = xf_tokenizer_adds_bos(tokenizer) ? XF_ENCODE_BOS : 0;
    int code = xf_cli_encode(tokenizer, flags, ids);
    xf_tokenizer_close(tokenizer);
    if (code || ids->n) return code;
  }
  free(ids->ids);
  ids->ids = malloc(sizeof *ids->ids);
  if (!ids->ids) return xf_cli_fail("out of memory for the prompt");
  ids->ids[0] = 1 % (int32_t)s->info.vocab_size;
  ids->n = 1;
  return XF_CLI_OK;
}

static bool all_finite(const float *values, size_t n)
{
  bool finite = true;
  for (size_t i = 0; i < n; i++) finite &= isfinite(values[i]) != 0;
  return finite;
}

bool xf_cli_trial_forward(const struct xf_cli_session *s, const int32_t *ids, size_t n, float *out,
                          xf_error *error)
{
  xf_sequence sequence = {.cache = s->cache,
                          .tokens = ids,
                          .n_tokens = n,
                          .logits = out ? XF_LOGITS_ALL : XF_LOGITS_NONE,
                          .out = out};
  if (n > 0 && xf_forward(s->model, &sequence, 1, error)) return false;
  if (!out || all_finite(out, n * s->info.vocab_size)) return true;
  snprintf(error->message, sizeof error->message, "logits are not finite");
  return false;
}

bool xf_cli_trial_generate(const struct xf_cli_session *s, const struct xf_cli_ids *ids, size_t n,
                           int32_t *tokens, xf_error *error)
{
  xf_cache *cache = NULL;
  xf_generator *generator = NULL;
  xf_generate_options greedy = {.struct_size = sizeof greedy, .ignore_eos = 1};
  xf_status status = xf_cache_create(s->model, ids->n + n, &cache, error);
  if (!status) status = xf_generator_create(s->model, cache, NULL, &greedy, &generator, error);
  if (!status) status = xf_generator_prompt(generator, ids->ids, ids->n, error);
  for (size_t i = 0; !status && i < n; i++) {
    int done;
    status = xf_generator_next(generator, &tokens[i], &done, NULL, NULL, error);
  }
  xf_generator_destroy(generator);
  xf_cache_destroy(cache);
  return status == XF_OK;
}
