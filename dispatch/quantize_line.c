#include <math.h>
#include <stddef.h>

#include "dispatch/narrow.h"
#include "dispatch/quantize_line.h"

/* The line of least squares through (l, x); plain: its minimum may be negative. */
static struct xf_line least_squares(const float *x, const int *l, bool plain)
{
  float sum_x = 0, sum_l = 0, sum_ll = 0, sum_xl = 0, n = XF_LINE_BLOCK;
  for (size_t i = 0; i < XF_LINE_BLOCK; i++) {
    float q = (float)l[i];
    sum_x += x[i];
    sum_l += q;
    sum_ll += q * q;
    sum_xl += x[i] * q;
  }
  struct xf_line line = {0};
  float determinant = n * sum_ll - sum_l * sum_l;
  if (determinant > 0) {
    line.scale = (n * sum_xl - sum_x * sum_l) / determinant;
    line.minimum = (sum_l * sum_xl - sum_ll * sum_x) / determinant;
  }
  if (determinant <= 0 || (line.minimum < 0 && !plain))
    line = (struct xf_line){sum_ll > 0 ? sum_xl / sum_ll : 0, 0};
  return line;
}

void xf_line_choose(const float *x, struct xf_line line, int most, int *l)
{
  for (size_t i = 0; i < XF_LINE_BLOCK; i++) {
    float q = line.scale > 0 ? nearbyintf((x[i] + line.minimum) / line.scale) : 0;
    l[i] = (int)fmaxf(0, fminf((float)most, q));
  }
}

float xf_line_error(const float *x, struct xf_line line, const int *l)
{
  float error = 0;
  for (size_t i = 0; i < XF_LINE_BLOCK; i++) {
    float difference = line.scale * (float)l[i] - line.minimum - x[i];
    error += difference * difference;
  }
  return error;
}

struct xf_line xf_line_rounded(struct xf_line line, uint16_t halves[2])
{
  float scale, minimum;
  halves[0] = xf_round_f16(line.scale, &scale);
  halves[1] = xf_round_f16(-line.minimum, &minimum);
  return (struct xf_line){scale, -minimum};
}

/* As the type holds it. */
static struct xf_line held(struct xf_line line, bool plain)
{
  uint16_t halves[2];
  return plain ? xf_line_rounded(line, halves) : line;
}

/* Tries lines that span a little less or more than the weights do. */
struct xf_line xf_line_fit(const float *x, struct xf_line_form form)
{
  enum { TRIALS = 20 };
  float low = form.plain ? x[0] : 0, high = x[0];
  for (size_t i = 0; i < XF_LINE_BLOCK; i++) {
    low = fminf(low, x[i]);
    high = fmaxf(high, x[i]);
  }
  /* What follows could overflow. */
  if (!(high - low >= 0x1p-100f)) return held((struct xf_line){0, -low}, form.plain);
  struct xf_line best = held((struct xf_line){(high - low) / (float)form.most, -low}, form.plain);
  int l[XF_LINE_BLOCK];
  xf_line_choose(x, best, form.most, l);
  float least = xf_line_error(x, best, l);
  for (int trial = 0; trial <= TRIALS; trial++) {
    float steps = (float)(form.most - 1) + 0.1f * (float)trial;
    struct xf_line line = {(high - low) / steps, -low};
    xf_line_choose(x, line, form.most, l);
    line = held(least_squares(x, l, form.plain), form.plain);
    xf_line_choose(x, line, form.most, l);
    float error = xf_line_error(x, line, l);
    if (!(error < least)) continue;
    least = error;
    best = line;
  }
  return best;
}
