/* Picks the next token from a row of logits. Every operation is an IEEE f32 operation in a fixed
 * order, so that the same logits, options and step give the same token on every ISA and compiler.
 *
 * Greedy (temperature < 2⁻⁶⁴): the greatest logit, ties to the lowest id.
 *
 * Else, with x the logits and the vocabulary in ascending order of id:
 *   d[i] = x[i] − max x
 *   c = log2 e / temperature, divided in f64 (log2 e = 0x1.71547652b82fep+0) and rounded to f32
 *   p = xf_kernels.softmax of d and c;  total = the sum it returns
 *   order: where top_p is off, ascending id and all of it; else p descending, ties to the lowest
 *          id, cut behind the first token whose running sum (f32, in that order) is
 *          ≥ top_p · total
 *   kept = the running sum of p over the order
 *   token = the first in the order whose running sum is > u · kept
 * The maximum is subtracted first because the product of a large logit and a large c would lose the
 * differences that count. As u ≤ 1 − 2⁻²⁴, u · kept rounds to less than kept: a token is always
 * found, and one whose p is not 0.
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
 * Sources: SplitMix64 of Steele, Lea & Flood 2014, "Fast splittable pseudorandom number
 * generators"; Holtzman et al. 2020, "The curious case of neural text degeneration" (the nucleus).
 */
#ifndef XF_MODEL_SAMPLER_H
#define XF_MODEL_SAMPLER_H

#include "exactflash/generate.h"
#include "kernels/kernels.h"

struct xf_sampler {
  const struct xf_kernels *kernels;
  size_t vocab;
  float temperature, top_p;
  uint64_t seed;
  float *p;        /* [vocab]; NULL when greedy */
  uint32_t *order; /* [vocab]; NULL unless top_p is in use */
};

/* Temperature and top_p must be finite, top_p not negative. XF_E_ARGUMENT, XF_E_MEMORY. */
xf_status xf_sampler_init(struct xf_sampler *sampler, const struct xf_kernels *kernels,
                          size_t vocab, const xf_generate_options *options, xf_error *error);
void xf_sampler_free(struct xf_sampler *sampler); /* leaves it empty; an empty one is allowed */

/* u in [0, 1), a multiple of 2⁻²⁴. */
float xf_sampler_uniform(uint64_t seed, uint64_t step);

/* logits: [vocab]. −inf rules a token out; NaN, +inf and a row of nothing but −inf are
 * XF_E_FORMAT: the weights that made them are damaged. The caller sees to round-to-nearest without
 * FTZ/DAZ (xf_parallel does). */
xf_status xf_sampler_draw(const struct xf_sampler *sampler, const float *logits, uint64_t step,
                          int32_t *token, xf_error *error);

#endif
