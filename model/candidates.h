/* The tokens that may still be chosen, and what cuts their number down: top-k, locally typical
 * sampling, the nucleus (top-p) and min-p. Every operation is one rounding in f32 unless it says
 * f64, so that all of them give the same tokens on every ISA.
 *
 * A list begins as all ids, ascending. "Best first" is p descending, ties to the lowest id.
 *
 *   top_k    the first top_k of the list best first, in that order
 *
 *   typical  tokens with p = 0 leave the list;
 *            μ = Σ p·e / Σ p, products, sums and the division in f64, in the list's order, rounded
 *            to f32;
 *            the list in ascending order of |e − μ|, ties best first, is cut behind the first token
 *            whose running sum of p is ≥ typical · Σ p (a running sum in the list's order)
 *
 *   top_p    the list best first, cut behind the first token whose running sum of p is
 *            ≥ top_p · total; total is xf_kernels.softmax's where the list still holds every token,
 *            else the running sum of p in the list's order
 *
 *   min_p    tokens with p < min_p · (the list's greatest p) leave the list
 *
 * e is log2 p as softmax had it, (x − max x) · c: |e − μ| is how far a token's information is from
 * the expected one, the entropy of the list, in bits; the list's normalization cancels.
 *
 * Sources: Fan et al. 2018, "Hierarchical neural story generation" (top-k); Meister et al. 2023,
 * "Locally typical sampling"; Holtzman et al. 2020, "The curious case of neural text degeneration"
 * (the nucleus); Nguyen et al. 2024, "Turning up the heat: min-p sampling". */
#ifndef XF_MODEL_CANDIDATES_H
#define XF_MODEL_CANDIDATES_H

#include <stddef.h>
#include <stdint.h>

struct xf_candidates {
  const float *p; /* [vocab] */
  uint32_t *ids;  /* [n] of [vocab]; NULL: all of them, ascending */
  size_t n, vocab;
  float total;    /* softmax's sum over the vocabulary */
  float *ranking; /* in use by xf_keep_typical; else NULL */
};

/* ids: [vocab], uninitialised. */
struct xf_candidates xf_candidates_all(const float *p, size_t vocab, float total, uint32_t *ids);
static inline uint32_t xf_candidate(const struct xf_candidates *c, size_t i)
{
  return c->ids ? c->ids[i] : (uint32_t)i;
}

void xf_keep_top_k(struct xf_candidates *c, size_t k);
/* e: [vocab], overwritten. */
void xf_keep_typical(struct xf_candidates *c, float typical, float *e);
void xf_keep_top_p(struct xf_candidates *c, float top_p);
void xf_keep_min_p(struct xf_candidates *c, float min_p);

#endif
