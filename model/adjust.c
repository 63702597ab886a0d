#include "model/adjust.h"

#include <math.h>
#include <string.h>

#include "dispatch/error.h"
#include "dispatch/memory.h"

enum { USUAL_WINDOW = 64 };

static xf_status check(const struct xf_adjust *a, const xf_generate_options *options,
                       xf_error *error)
{
  if (!isfinite(a->repetition) || a->repetition <= 0)
    return xf_fail(error, XF_E_ARGUMENT, "repetition_penalty must be greater than 0 (0, 1: off)");
  if (!isfinite(a->frequency) || !isfinite(a->presence))
    return xf_fail(error, XF_E_ARGUMENT,
                   "frequency_penalty and presence_penalty must be finite numbers (0: off)");
  if (options->n_logit_bias && !options->logit_bias)
    return xf_fail(error, XF_E_ARGUMENT, "logit_bias is NULL, n_logit_bias is %zu",
                   options->n_logit_bias);
  for (size_t i = 0; i < options->n_logit_bias; i++) {
    xf_logit_bias bias = options->logit_bias[i];
    if (bias.token < 0 || (size_t)bias.token >= a->vocab)
      return xf_fail(error, XF_E_ARGUMENT, "logit_bias: token %ld is not in 0 … %zu",
                     (long)bias.token, a->vocab - 1);
    if (isnan(bias.bias) || bias.bias == INFINITY)
      return xf_fail(error, XF_E_ARGUMENT,
                     "logit_bias of token %ld must be a finite number, or −inf to rule it out",
                     (long)bias.token);
  }
  return XF_OK;
}

xf_status xf_adjust_init(struct xf_adjust *a, size_t vocab, const xf_generate_options *options,
                         xf_error *error)
{
  *a = (struct xf_adjust){.vocab = vocab,
                          .repetition =
                              options->repetition_penalty == 0 ? 1 : options->repetition_penalty,
                          .frequency = options->frequency_penalty,
                          .presence = options->presence_penalty};
  xf_status status = check(a, options, error);
  if (status) return status;
  size_t window = options->repeat_last_n ? options->repeat_last_n : USUAL_WINDOW;
  bool penalties = a->repetition != 1 || a->frequency != 0 || a->presence != 0;
  bool complete = true;
  if (options->n_logit_bias) {
    a->n_bias = options->n_logit_bias;
    a->bias = xf_alloc(a->n_bias, sizeof *a->bias);
    complete = a->bias != NULL;
    if (complete) memcpy(a->bias, options->logit_bias, a->n_bias * sizeof *a->bias);
  }
  if (penalties) {
    a->window_size = window;
    a->window = xf_alloc(window, sizeof *a->window);
    a->counts = xf_alloc_zeroed(vocab, sizeof *a->counts);
    complete = complete && a->window && a->counts;
  }
  if (complete) return XF_OK;
  xf_adjust_free(a);
  return xf_fail(error, XF_E_MEMORY, "out of memory for the penalties' window of %zu tokens",
                 window);
}

void xf_adjust_free(struct xf_adjust *a)
{
  xf_free(a->bias);
  xf_free(a->window);
  xf_free(a->counts);
  *a = (struct xf_adjust){0};
}

bool xf_adjust_active(const struct xf_adjust *a)
{
  return a->bias || a->window;
}

void xf_adjust_accept(struct xf_adjust *a, const int32_t *ids, size_t n)
{
  for (size_t i = 0; a->window && i < n; i++) {
    if (a->in_window == a->window_size)
      a->counts[a->window[a->next]]--;
    else
      a->in_window++;
    a->window[a->next] = ids[i];
    a->counts[ids[i]]++;
    a->next = (a->next + 1) % a->window_size;
  }
}

void xf_adjust_apply(const struct xf_adjust *a, float *x)
{
  for (size_t i = 0; i < a->n_bias; i++) x[a->bias[i].token] += a->bias[i].bias;
  for (size_t id = 0; a->window && id < a->vocab; id++) {
    if (!a->counts[id]) continue;
    float penalized = x[id] > 0 ? x[id] / a->repetition : x[id] * a->repetition;
    float frequency = (float)a->counts[id] * a->frequency;
    x[id] = (penalized - frequency) - a->presence;
  }
}
