/* A linear layer of f32, f16 or bf16 weights in plain memory. */
#ifndef XF_TESTS_LINEAR_CASE_H
#define XF_TESTS_LINEAR_CASE_H

#include "tests/compare.h"

enum { LINEAR_CASE_GAP = 5 }; /* ldx and ldy exceed k and n by less */

struct linear_case {
  xf_type type;
  size_t rows, k, n, ldx, ldy, shift;
  float *x; /* [rows][ldx], NaN in the gaps */
  float *w; /* panels as floats, exact in the type */
  float *y; /* [rows][ldy], uninitialised */
};

struct linear_case linear_case_new(struct rng *rng, xf_type type, enum fill fill, size_t rows,
                                   size_t k, size_t n);
void linear_case_free(struct linear_case *c);
size_t linear_case_weights(const struct linear_case *c); /* floats at w */

/* The panels in their own type, at the arena's guard page. */
const void *linear_case_panels(const struct linear_case *c, struct arena *arena);

/* Column i of the weights: every XF_LANES-th float from there. */
const float *linear_case_column(const struct linear_case *c, size_t i);

#endif
