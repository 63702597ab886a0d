#include "model/sampler.h"

#include <float.h>
#include <math.h>
#include <stdbool.h>

#include "dispatch/error.h"
#include "dispatch/memory.h"

/* Below it the scale would leave the range of f32; the draw has been greedy long before. */
static const float least_temperature = 0x1p-64f;

xf_status xf_sampler_init(struct xf_sampler *sampler, const struct xf_kernels *kernels,
                          size_t vocab, const xf_generate_options *options, xf_error *error)
{
  *sampler = (struct xf_sampler){.kernels = kernels,
                                 .vocab = vocab,
                                 .temperature = options->temperature,
                                 .top_p = options->top_p,
                                 .seed = options->seed};
  if (!isfinite(sampler->temperature))
    return xf_fail(error, XF_E_ARGUMENT, "temperature is not a finite number");
  if (!isfinite(sampler->top_p) || sampler->top_p < 0)
    return xf_fail(error, XF_E_ARGUMENT, "top_p must be a number from 0 to 1 (0 and 1: off)");
  if (sampler->temperature < least_temperature) return XF_OK;
  sampler->p = xf_alloc(vocab, sizeof(float));
  bool nucleus = sampler->top_p > 0 && sampler->top_p < 1;
  if (nucleus) sampler->order = xf_alloc(vocab, sizeof(uint32_t));
  if (sampler->p && (!nucleus || sampler->order)) return XF_OK;
  xf_sampler_free(sampler);
  return xf_fail(error, XF_E_MEMORY, "out of memory for sampling from %zu tokens", vocab);
}

void xf_sampler_free(struct xf_sampler *sampler)
{
  xf_free(sampler->p);
  xf_free(sampler->order);
  *sampler = (struct xf_sampler){0};
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

/* Whether token a comes in front of token b. */
static bool before(const float *p, uint32_t a, uint32_t b)
{
  return p[a] > p[b] || (p[a] == p[b] && a < b);
}

static void sift_down(const float *p, uint32_t *heap, size_t n, size_t hole)
{
  uint32_t id = heap[hole];
  for (size_t child; (child = 2 * hole + 1) < n; hole = child) {
    if (child + 1 < n && before(p, heap[child + 1], heap[child])) child++;
    if (!before(p, heap[child], id)) break;
    heap[hole] = heap[child];
  }
  heap[hole] = id;
}

/* Sorts only as far as the nucleus reaches: a heap whose tops are put behind it, so that the first
 * token of the order is at order[vocab − 1], the second in front of it. Returns how many there
 * are. */
static size_t nucleus(const struct xf_sampler *s, float total)
{
  size_t n = s->vocab;
  for (size_t i = 0; i < n; i++) s->order[i] = (uint32_t)i;
  for (size_t i = n / 2; i-- > 0;) sift_down(s->p, s->order, n, i);
  float least = s->top_p * total, sum = 0;
  do {
    uint32_t top = s->order[0];
    s->order[0] = s->order[--n];
    if (n) sift_down(s->p, s->order, n, 0);
    s->order[n] = top;
    sum += s->p[top];
  } while (n && sum < least);
  return s->vocab - n;
}

/* The token at rank i of the order. */
static uint32_t at_rank(const struct xf_sampler *s, size_t i)
{
  return s->order ? s->order[s->vocab - 1 - i] : (uint32_t)i;
}

static int32_t walk(const struct xf_sampler *s, size_t n, float u)
{
  float kept = 0, sum = 0;
  for (size_t i = 0; i < n; i++) kept += s->p[at_rank(s, i)];
  float goal = u * kept;
  size_t i = 0;
  while ((sum += s->p[at_rank(s, i)]) <= goal && i + 1 < n) i++;
  return (int32_t)at_rank(s, i);
}

/* Counts instead of leaving at the first one, which lets compilers vectorise it. */
static bool usable(size_t n, const float *logits)
{
  size_t bad = 0;
  for (size_t i = 0; i < n; i++) bad += !(logits[i] <= FLT_MAX);
  return bad == 0;
}

xf_status xf_sampler_draw(const struct xf_sampler *s, const float *logits, uint64_t step,
                          int32_t *token, xf_error *error)
{
  size_t best = s->kernels->arg_max(s->vocab, logits);
  if (!usable(s->vocab, logits) || logits[best] < -FLT_MAX)
    return xf_fail(error, XF_E_FORMAT,
                   "the model's logits are not finite numbers: its weights are damaged, or "
                   "overflow in f32");
  *token = (int32_t)best;
  if (!s->p) return XF_OK;
  for (size_t i = 0; i < s->vocab; i++) s->p[i] = logits[i] - logits[best];
  float c = (float)(0x1.71547652b82fep+0 / (double)s->temperature);
  float total = s->kernels->softmax(s->vocab, s->p, c, s->p);
  size_t n = s->order ? nucleus(s, total) : s->vocab;
  *token = walk(s, n, xf_sampler_uniform(s->seed, step));
  return XF_OK;
}
