#include "tests/linear_case.h"

#include <math.h>
#include <stdlib.h>

#include "kernels/kernels.h"

size_t linear_case_weights(const struct linear_case *c)
{
  return (c->n + XF_LANES - 1) / XF_LANES * c->k * XF_LANES;
}

struct linear_case linear_case_new(struct rng *rng, xf_type type, enum fill fill, size_t rows,
                                   size_t k, size_t n)
{
  struct linear_case c = {.type = type, .rows = rows, .k = k, .n = n, .shift = rng_below(rng, 2)};
  c.ldx = k + rng_below(rng, LINEAR_CASE_GAP);
  c.ldy = n + rng_below(rng, LINEAR_CASE_GAP);
  c.x = malloc((rows * c.ldx + 1) * sizeof *c.x);
  c.w = malloc((linear_case_weights(&c) + 1) * sizeof *c.w);
  c.y = malloc((rows * c.ldy + 1) * sizeof *c.y);
  assert_true(c.x && c.w && c.y);
  fill_array(rng, fill, rows * c.ldx, c.x);
  for (size_t r = 0; r < rows; r++)
    for (size_t i = k; i < c.ldx; i++) c.x[r * c.ldx + i] = NAN;
  fill_array(rng, fill, linear_case_weights(&c), c.w);
  for (size_t i = 0; i < linear_case_weights(&c); i++) {
    size_t column = i / (k * XF_LANES) * XF_LANES + i % XF_LANES;
    c.w[i] = column < n ? rounded_to(type, c.w[i]) : 0;
  }
  return c;
}

void linear_case_free(struct linear_case *c)
{
  free(c->x);
  free(c->w);
  free(c->y);
}

const void *linear_case_panels(const struct linear_case *c, struct arena *arena)
{
  size_t n = linear_case_weights(c);
  if (c->type == XF_F32) return arena_copy(arena, n, c->shift, c->w);
  uint16_t *w = arena_cut(arena, n, sizeof *w, c->shift);
  for (size_t i = 0; i < n; i++) w[i] = c->type == XF_F16 ? to_f16(c->w[i]) : to_bf16(c->w[i]);
  return w;
}

const float *linear_case_column(const struct linear_case *c, size_t i)
{
  return c->w + i / XF_LANES * c->k * XF_LANES + i % XF_LANES;
}
