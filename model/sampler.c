#include "model/sampler.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "dispatch/error.h"
#include "dispatch/memory.h"
#include "model/candidates.h"

/* Below it the scale would leave the range of f32; the draw has been greedy long before. */
static const float least_temperature = 0x1p-64f;

static bool greedy(const struct xf_sampler *s)
{
  return s->temperature < least_temperature;
}

/* A share of the probability: off at 0 and from 1 on. */
static xf_status set_share(const char *name, float share, float *out, xf_error *error)
{
  if (!isfinite(share) || share < 0)
    return xf_fail(error, XF_E_ARGUMENT, "%s must be a number from 0 to 1 (0 and 1: off)", name);
  *out = share < 1 ? share : 0;
  return XF_OK;
}

static xf_status set_options(struct xf_sampler *s, const xf_generate_options *options,
                             xf_error *error)
{
  s->temperature = options->temperature;
  s->seed = options->seed;
  s->top_k = options->top_k < s->vocab ? options->top_k : 0;
  s->min_p = options->min_p;
  if (!isfinite(s->temperature))
    return xf_fail(error, XF_E_ARGUMENT, "temperature is not a finite number");
  if (!(s->min_p >= 0 && s->min_p <= 1))
    return xf_fail(error, XF_E_ARGUMENT, "min_p must be a number from 0 to 1 (0: off)");
  xf_status status = set_share("top_p", options->top_p, &s->top_p, error);
  if (!status) status = set_share("typical", options->typical, &s->typical, error);
  return status;
}

static bool take_memory(struct xf_sampler *s)
{
  bool draws = !greedy(s);
  bool cuts = draws && (s->top_k || s->top_p > 0 || s->typical > 0 || s->min_p > 0);
  bool typical = draws && s->typical > 0;
  s->p = xf_alloc(s->vocab, sizeof *s->p);
  if (cuts) s->list = xf_alloc(s->vocab, sizeof *s->list);
  if (typical) s->e = xf_alloc(s->vocab, sizeof *s->e);
  return s->p && (s->list || !cuts) && (s->e || !typical);
}

xf_status xf_sampler_init(struct xf_sampler *sampler, const struct xf_kernels *kernels,
                          size_t vocab, const xf_generate_options *options, xf_error *error)
{
  *sampler = (struct xf_sampler){.kernels = kernels, .vocab = vocab};
  xf_status status = set_options(sampler, options, error);
  if (!status) status = xf_adjust_init(&sampler->adjust, vocab, options, error);
  if (!status && !take_memory(sampler))
    status = xf_fail(error, XF_E_MEMORY, "out of memory for sampling from %zu tokens", vocab);
  if (status) xf_sampler_free(sampler);
  return status;
}

void xf_sampler_free(struct xf_sampler *sampler)
{
  xf_adjust_free(&sampler->adjust);
  xf_free(sampler->p);
  xf_free(sampler->e);
  xf_free(sampler->list);
  *sampler = (struct xf_sampler){0};
}

void xf_sampler_accept(struct xf_sampler *sampler, const int32_t *ids, size_t n)
{
  xf_adjust_accept(&sampler->adjust, ids, n);
}

static uint64_t mix(uint64_t z)
{
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

float xf_sampler_uniform(uint64_t seed, uint64_t step)
{
  const uint64_t golden = 0x9E3779B97F4A7C15u;
  uint64_t r = mix(mix(seed + golden) + (step + 1) * golden);
  return (float)(r >> 40) * 0x1p-24f;
}

static int32_t walk(const struct xf_candidates *c, float u)
{
  float kept = 0, sum = 0;
  for (size_t i = 0; i < c->n; i++) kept += c->p[xf_candidate(c, i)];
  float goal = u * kept;
  size_t i = 0;
  while ((sum += c->p[xf_candidate(c, i)]) <= goal && i + 1 < c->n) i++;
  return (int32_t)xf_candidate(c, i);
}

/* Whether there is a token to choose. Counts instead of leaving at the first bad one, which lets
 * compilers vectorise it. */
static bool usable(size_t n, const float *x, size_t best)
{
  size_t bad = 0;
  for (size_t i = 0; i < n; i++) bad += !(x[i] <= FLT_MAX);
  return bad == 0 && x[best] >= -FLT_MAX;
}

static float scale_of(float temperature)
{
  return (float)(0x1.71547652b82fep+0 / (double)temperature);
}

/* x may be s->p. */
static int32_t sample(const struct xf_sampler *s, const float *x, size_t best, float u)
{
  float c = scale_of(s->temperature), top = x[best];
  for (size_t i = 0; i < s->vocab; i++) s->p[i] = x[i] - top;
  for (size_t i = 0; s->e && i < s->vocab; i++) s->e[i] = s->p[i] * c;
  float total = s->kernels->softmax(s->vocab, s->p, c, s->p);
  struct xf_candidates list = xf_candidates_all(s->p, s->vocab, total, s->list);
  if (s->top_k) xf_keep_top_k(&list, s->top_k);
  if (s->typical > 0) xf_keep_typical(&list, s->typical, s->e);
  if (s->top_p > 0) xf_keep_top_p(&list, s->top_p);
  if (s->min_p > 0) xf_keep_min_p(&list, s->min_p);
  return walk(&list, u);
}

xf_status xf_sampler_draw(const struct xf_sampler *s, const float *logits, uint64_t step,
                          int32_t *token, xf_error *error)
{
  const float *x = logits;
  size_t best = s->kernels->arg_max(s->vocab, x);
  if (!usable(s->vocab, x, best))
    return xf_fail(error, XF_E_FORMAT,
                   "the model's logits are not finite numbers: its weights are damaged, or "
                   "overflow in f32");
  if (xf_adjust_active(&s->adjust)) {
    memcpy(s->p, x, s->vocab * sizeof *x);
    xf_adjust_apply(&s->adjust, s->p);
    x = s->p;
    best = s->kernels->arg_max(s->vocab, x);
    if (!usable(s->vocab, x, best))
      return xf_fail(error, XF_E_ARGUMENT,
                     "logit_bias and penalties leave no token to choose, or overflow in f32: make "
                     "them smaller");
  }
  *token = greedy(s) ? (int32_t)best : sample(s, x, best, xf_sampler_uniform(s->seed, step));
  return XF_OK;
}

/* ln x for x ≥ 1: exact steps, then one series, so that no C library has a say. */
static float natural_log(float x)
{
  enum { TERMS = 10 };
  int exponent;
  double m = frexp((double)x, &exponent); /* in [½, 1) */
  if (m < 0x1.6a09e667f3bcdp-1) {         /* √½ */
    m *= 2;
    exponent--;
  }
  double s = (m - 1) / (m + 1), z = s * s, sum = 0;
  for (int i = TERMS; i-- > 0;) sum = sum * z + 1.0 / (2 * i + 1);
  return (float)((double)exponent * 0x1.62e42fefa39efp-1 + 2 * s * sum);
}

/* Insertion into the n best so far: nearly all tokens fail the first comparison. */
static void find_best(size_t vocab, const float *x, xf_token_logprob *best, size_t n)
{
  size_t held = 0;
  for (size_t id = 0; n && id < vocab; id++) {
    if (held == n && !(x[id] > best[n - 1].logprob)) continue;
    size_t i = held < n ? held++ : n - 1;
    for (; i > 0 && x[id] > best[i - 1].logprob; i--) best[i] = best[i - 1];
    best[i] = (xf_token_logprob){(int32_t)id, x[id]};
  }
}

void xf_sampler_logprobs(const struct xf_sampler *s, const float *logits, xf_token_logprob *chosen,
                         xf_token_logprob *best, size_t n)
{
  float top = logits[s->kernels->arg_max(s->vocab, logits)];
  for (size_t i = 0; i < s->vocab; i++) s->p[i] = logits[i] - top;
  float total = s->kernels->softmax(s->vocab, s->p, scale_of(1), s->p);
  float log_total = natural_log(total);
  find_best(s->vocab, logits, best, n);
  for (size_t i = 0; i < n; i++) best[i].logprob = (best[i].logprob - top) - log_total;
  if (chosen) chosen->logprob = (logits[chosen->token] - top) - log_total;
}
