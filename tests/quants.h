/* Matrices of 8- and 4-bit weights as files have them, and docs/numerics.md about them once more,
 * one weight at a time. */
#ifndef XF_TESTS_QUANTS_H
#define XF_TESTS_QUANTS_H

#include "dispatch/matrix.h"
#include "tests/compare.h"

extern const xf_type quants_types[];
extern const size_t n_quants_types;

struct quants {
  xf_type type;
  size_t n, k, row_bytes;
  unsigned char *data; /* [n][row_bytes], at an odd address */
  float *scales;       /* I8_ROW: [n], at an odd address; else NULL */
  void *memory[2];
};

/* Weights that a block holds: k is a multiple. */
size_t quants_block(xf_type type);
/* Random bits, so −128 too; the scales are ordinary numbers, or with `special` also ±0, infinities,
 * NaN, subnormals and the greatest ones. */
struct quants quants_new(struct rng *rng, xf_type type, size_t n, size_t k, bool special);
/* Ordinary scales that give the weights a mean of 0 and about that deviation: the same bits on
 * every machine. */
void quants_scale(struct quants *quants, struct rng *rng, float deviation);
/* Gives a few blocks or rows special scales. */
void quants_spoil(struct quants *quants, struct rng *rng);
void quants_free(struct quants *quants);
struct xf_matrix quants_matrix(const struct quants *quants);

/* The binary32 of one weight. */
float quants_weight(const struct quants *quants, size_t row, size_t i);
/* Σ x[i] · w[row][i] with activations of 8 bits. */
float quants_dot(const struct quants *quants, size_t row, const float *x);

#endif
