/* A linear layer of 8- or 4-bit weights by rows of 8-bit activations, in plain arrays, and its
 * result one element at a time: kernels/quant.h and docs/numerics.md once more. */
#ifndef XF_TESTS_QUANT_CASE_H
#define XF_TESTS_QUANT_CASE_H

#include <stdbool.h>

#include "kernels/quant.h"
#include "tests/support.h"

struct quant_type {
  xf_type type;
  int bits, zero;
  size_t block, sub; /* k of a scale (0: the whole row) and of a sub-scale (0: none) */
  bool minima;
  bool signed_sub; /* sub-scales of −128 … 127; else of 0 … 63 */
};
enum { QUANT_TYPES = 9 };
extern const struct quant_type quant_types[QUANT_TYPES];

/* How the numbers of a case are chosen. */
enum quant_fill {
  QUANT_RANDOM,
  QUANT_EXTREME,       /* the least and the greatest u, q and sub-scales */
  QUANT_SPECIAL_SCALES /* 0, −0, infinities, NaN and denormals among d, m and dx */
};

struct quant_case {
  const struct quant_type *type;
  size_t rows, k, n;
  size_t padded, groups, subs; /* k in whole chunks; scales and sub-scales of a row */
  uint8_t *u;                  /* [n][padded] */
  float *d, *m;                /* [n][groups]; exact in f16, but of i8_row */
  int *scale, *minimum;        /* [n][subs] */
  int8_t *q;                   /* [rows][padded] */
  float *dx;                   /* [rows][groups] */
  int16_t *sums;               /* [rows][padded / 16] */
  int32_t *totals;             /* [rows] */
};

struct quant_case quant_case_new(struct rng *rng, const struct quant_type *type,
                                 enum quant_fill fill, size_t rows, size_t k, size_t n);
void quant_case_free(struct quant_case *c);

/* Bytes of its panels, and the panels, as kernels/quant.h describes them. */
size_t quant_case_bytes(const struct quant_case *c);
void quant_case_panels(const struct quant_case *c, unsigned char *panels);

/* y[row][column] as docs/numerics.md defines it. */
float quant_case_result(const struct quant_case *c, size_t row, size_t column);

#endif
