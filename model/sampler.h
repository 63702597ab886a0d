/* Picks the next token from a row of logits. Every operation is an IEEE f32 operation in a fixed
 * order, so that the same logits, options and step give the same token on every ISA and compiler.
 *
 * x: the logits, changed by bias and penalties where there are any (model/adjust.h).
 * Greedy (temperature < 2⁻⁶⁴): the greatest x, ties to the lowest id.
 *
 * Else, with the vocabulary in ascending order of id:
 *   d[i] = x[i] − max x
 *   c = log2 e / temperature, divided in f64 (log2 e = 0x1.71547652b82fep+0) and rounded to f32
 *   p = xf_kernels.softmax of d and c;  total = the sum it returns
 *   list = all ids, cut down by top_k, typical, top_p, min_p in that order (model/candidates.h,
 *          with e[i] = d[i] · c)
 *   kept = the running sum of p over the list
 *   token = the first in the list whose running sum is > u · kept
 * The maximum is subtracted first because the product of a large logit and a large c would lose the
 * differences that count. As u ≤ 1 − 2⁻²⁴, u · kept rounds to less than kept: a token is always
 * found, and one whose p is not 0. Temperature comes in front of the cuts, as it does in
 * transformers: they are cuts of the distribution that is sampled from.
 *
 * Random numbers come from a counter, not from a state that moves on. All modulo 2⁶⁴:
 *   G = 0x9E3779B97F4A7C15
 *   r = mix(mix(seed + G) + (step + 1) · G)
 *   u = (r >> 40) · 2⁻²⁴
 * where mix(z) is, in this order,
 *   z ^= z >> 30;  z *= 0xBF58476D1CE4E5B9;
 *   z ^= z >> 27;  z *= 0x94D049BB133111EB;
 *   z ^= z >> 31
 *
 * Log probabilities are those of the unchanged logits x at temperature 1:
 *   logprob[i] = (x[i] − max x) − ln total
 * with d, c and total as above and in f64, rounded to f32 at the end:
 *   total = m · 2^k, m in [√½, √2) (√½ = 0x1.6a09e667f3bcdp-1);  s = (m − 1) / (m + 1);  z = s · s
 *   ln total = k · ln 2 + (2 · s) · Σ z^i / (2i + 1), i from 9 down to 0 by Horner's scheme
 *   (ln 2 = 0x1.62e42fefa39efp-1)
 *
 * Source: SplitMix64 of Steele, Lea & Flood 2014, "Fast splittable pseudorandom number generators".
 */
#ifndef XF_MODEL_SAMPLER_H
#define XF_MODEL_SAMPLER_H

#include "kernels/kernels.h"
#include "model/adjust.h"

struct xf_sampler {
  const struct xf_kernels *kernels;
  size_t vocab;
  float temperature, top_p, min_p, typical; /* cuts that are off are 0 */
  size_t top_k;
  uint64_t seed;
  struct xf_adjust adjust;
  float *p;       /* [vocab] */
  float *e;       /* [vocab]; NULL unless typical is in use */
  uint32_t *list; /* [vocab]; NULL unless a cut is in use */
};

/* Options out of their range: XF_E_ARGUMENT. XF_E_MEMORY. */
xf_status xf_sampler_init(struct xf_sampler *sampler, const struct xf_kernels *kernels,
                          size_t vocab, const xf_generate_options *options, xf_error *error);
void xf_sampler_free(struct xf_sampler *sampler); /* leaves it empty; an empty one is allowed */

/* u in [0, 1), a multiple of 2⁻²⁴. */
float xf_sampler_uniform(uint64_t seed, uint64_t step);

/* The text goes on with these ids: what penalties look at. */
void xf_sampler_accept(struct xf_sampler *sampler, const int32_t *ids, size_t n);

/* logits: [vocab]. −inf rules a token out; NaN, +inf and a row of nothing but −inf are
 * XF_E_FORMAT: the weights that made them are damaged. Where only bias and penalties leave such a
 * row it is XF_E_ARGUMENT. The caller sees to round-to-nearest without FTZ/DAZ (xf_fp_enter). */
xf_status xf_sampler_draw(const struct xf_sampler *sampler, const float *logits, uint64_t step,
                          int32_t *token, xf_error *error);

/* Log probabilities of `chosen` and of the n ≤ vocab greatest logits, greatest first, ties to the
 * lowest id. Logits as xf_sampler_draw takes them, floating point likewise. */
void xf_sampler_logprobs(const struct xf_sampler *sampler, const float *logits,
                         xf_token_logprob *chosen, xf_token_logprob *best, size_t n);

#endif
