/* Blocks that are x ≈ scale · l − minimum with whole l ≥ 0: Q4_1, Q5_1, Q4_K, Q5_K. */
#ifndef XF_DISPATCH_QUANTIZE_LINE_H
#define XF_DISPATCH_QUANTIZE_LINE_H

#include <stdbool.h>
#include <stdint.h>

enum { XF_LINE_BLOCK = 32 };

struct xf_line {
  float scale, minimum;
};

/* How a type stores lines. */
struct xf_line_form {
  int most;   /* the greatest l */
  bool plain; /* scale and −minimum are f16; else numbers ≥ 0 that are rounded later */
};

/* The l of 32 weights nearest to them on a line. */
void xf_line_choose(const float *x, struct xf_line line, int most, int *l);
/* Sum of the squared errors. */
float xf_line_error(const float *x, struct xf_line line, const int *l);
/* Scale and −minimum rounded to f16: what they are then, and their bits. */
struct xf_line xf_line_rounded(struct xf_line line, uint16_t halves[2]);
/* The line of the least squared error that several trials find; never worse than the one from the
 * least to the greatest weight. */
struct xf_line xf_line_fit(const float *x, struct xf_line_form form);

#endif
