#include "tests/quant_case.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/compare.h"

const struct quant_type quant_types[QUANT_TYPES] = {
    {XF_I8_ROW, 8, 128, 0, 0, false, false}, {XF_Q8_0, 8, 128, 32, 0, false, false},
    {XF_Q4_0, 4, 8, 32, 0, false, false},    {XF_Q4_1, 4, 0, 32, 0, true, false},
    {XF_Q5_0, 5, 16, 32, 0, false, false},   {XF_Q5_1, 5, 0, 32, 0, true, false},
    {XF_Q4_K, 4, 0, 256, 32, true, false},   {XF_Q5_K, 5, 0, 256, 32, true, false},
    {XF_Q6_K, 6, 32, 256, 16, false, true},
};

static void *new_array(size_t n, size_t size)
{
  void *array = calloc(n ? n : 1, size);
  assert_non_null(array);
  return array;
}

static float a_scale(struct rng *rng, enum quant_fill fill, bool half)
{
  static const float special[] = {0,        -0.0f,     INFINITY,  -INFINITY, NAN,
                                  0x1p-24f, -0x1p-24f, 0x1p-126f, 0x1p-149f, 65504};
  float scale = rng_normal(rng);
  if (fill == QUANT_SPECIAL_SCALES && rng_below(rng, 4) == 0)
    scale = special[rng_below(rng, sizeof special / sizeof *special)];
  return half ? from_f16(to_f16(scale)) : scale;
}

static int a_number(struct rng *rng, enum quant_fill fill, int least, int most)
{
  if (fill == QUANT_EXTREME) return rng_below(rng, 8) ? most : least;
  return least + (int)rng_below(rng, (size_t)(most - least) + 1);
}

static void fill_weights(struct rng *rng, enum quant_fill fill, struct quant_case *c)
{
  const struct quant_type *t = c->type;
  for (size_t i = 0; i < c->n * c->padded; i++)
    c->u[i] = i % c->padded < c->k ? (uint8_t)a_number(rng, fill, 0, (1 << t->bits) - 1)
                                   : (uint8_t)t->zero;
  for (size_t i = 0; i < c->n * c->groups; i++) {
    c->d[i] = a_scale(rng, fill, t->block > 0);
    c->m[i] = a_scale(rng, fill, true);
  }
  for (size_t i = 0; i < c->n * c->subs; i++) {
    c->scale[i] = t->signed_sub ? a_number(rng, fill, -128, 127) : a_number(rng, fill, 0, 63);
    c->minimum[i] = a_number(rng, fill, 0, 63);
  }
}

static void fill_rows(struct rng *rng, enum quant_fill fill, struct quant_case *c)
{
  for (size_t r = 0; r < c->rows; r++) {
    int most = rng_below(rng, 2) ? 127 : -127; /* extreme sums of either sign */
    for (size_t i = 0; i < c->k; i++)
      c->q[r * c->padded + i] =
          (int8_t)(fill == QUANT_EXTREME ? most : a_number(rng, fill, -127, 127));
    for (size_t i = 0; i < c->padded; i++)
      c->sums[(r * c->padded + i) / 16] += c->q[r * c->padded + i];
    for (size_t i = 0; i < c->k; i++) c->totals[r] += c->q[r * c->padded + i];
    for (size_t i = 0; i < c->groups; i++)
      c->dx[r * c->groups + i] = fabsf(a_scale(rng, fill, false));
  }
}

struct quant_case quant_case_new(struct rng *rng, const struct quant_type *type,
                                 enum quant_fill fill, size_t rows, size_t k, size_t n)
{
  struct quant_case c = {.type = type, .rows = rows, .k = k, .n = n};
  c.padded = (k + 31) / 32 * 32;
  c.groups = type->block ? k / type->block : 1;
  c.subs = type->sub ? k / type->sub : 0;
  c.u = new_array(n * c.padded, sizeof *c.u);
  c.d = new_array(n * c.groups, sizeof *c.d);
  c.m = new_array(n * c.groups, sizeof *c.m);
  c.scale = new_array(n * c.subs, sizeof *c.scale);
  c.minimum = new_array(n * c.subs, sizeof *c.minimum);
  c.q = new_array(rows * c.padded, sizeof *c.q);
  c.dx = new_array(rows * c.groups, sizeof *c.dx);
  c.sums = new_array(rows * c.padded / 16, sizeof *c.sums);
  c.totals = new_array(rows, sizeof *c.totals);
  fill_weights(rng, fill, &c);
  fill_rows(rng, fill, &c);
  return c;
}

void quant_case_free(struct quant_case *c)
{
  free(c->u), free(c->d), free(c->m), free(c->scale), free(c->minimum);
  free(c->q), free(c->dx), free(c->sums), free(c->totals);
}

/* ---- panels ---- */

static size_t quants_bytes(const struct quant_case *c)
{
  return 16 * c->padded * (size_t)c->type->bits / 8;
}

static size_t record_bytes(const struct quant_type *t)
{
  if (t->block == 0) return 64;
  size_t halves = t->minima ? 64 : 32;
  return halves + 16 * (t->sub ? t->block / t->sub : 0) * (t->minima ? 2 : 1);
}

static size_t panel_bytes(const struct quant_case *c)
{
  return quants_bytes(c) + (c->groups * record_bytes(c->type) + 63) / 64 * 64;
}

size_t quant_case_bytes(const struct quant_case *c)
{
  return (c->n + 15) / 16 * panel_bytes(c);
}

/* u of one weight: lane `lane`, element i of its row. */
static void put_quant(int bits, unsigned char *quants, size_t lane, size_t i, unsigned u)
{
  size_t step = i % 32 / 4, at = lane * 4 + i % 4;
  unsigned char *chunk = quants + i / 32 * 64 * (size_t)bits;
  if (bits == 8) {
    chunk[step * 64 + at] = (unsigned char)u;
    return;
  }
  chunk[step / 2 * 64 + at] |= (unsigned char)((u & 15) << (step % 2 ? 4 : 0));
  if (bits == 5) chunk[256 + at] |= (unsigned char)((u >> 4) << step);
  if (bits == 6) chunk[256 + step / 4 * 64 + at] |= (unsigned char)((u >> 4) << 2 * (step % 4));
}

static void put_half(unsigned char *at, float x)
{
  uint16_t half = to_f16(x);
  memcpy(at, &half, sizeof half);
}

/* The scales of one column. */
static void put_records(const struct quant_case *c, unsigned char *records, size_t lane,
                        size_t column)
{
  const struct quant_type *t = c->type;
  const size_t subs = t->sub ? t->block / t->sub : 0, halves = t->minima ? 64 : 32;
  for (size_t g = 0; g < c->groups; g++) {
    unsigned char *record = records + g * record_bytes(t);
    const size_t at = column * c->groups + g;
    if (t->block == 0)
      memcpy(record + 4 * lane, &c->d[at], 4);
    else
      put_half(record + 2 * lane, c->d[at]);
    if (t->minima) put_half(record + 32 + 2 * lane, c->m[at]);
    for (size_t s = 0; s < subs; s++) {
      size_t sub = column * c->subs + g * subs + s;
      record[halves + 16 * s + lane] = (unsigned char)c->scale[sub];
      if (t->minima) record[halves + 16 * (subs + s) + lane] = (unsigned char)c->minimum[sub];
    }
  }
}

void quant_case_panels(const struct quant_case *c, unsigned char *panels)
{
  memset(panels, 0, quant_case_bytes(c));
  for (size_t column = 0; column < c->n; column++) {
    unsigned char *panel = panels + column / 16 * panel_bytes(c);
    for (size_t i = 0; i < c->padded; i++)
      put_quant(c->type->bits, panel, column % 16, i, c->u[column * c->padded + i]);
    put_records(c, panel + quants_bytes(c), column % 16, column);
  }
}

/* ---- the result ---- */

static int64_t sum_of_products(const struct quant_case *c, size_t row, size_t column, size_t from,
                               size_t to)
{
  int64_t sum = 0;
  for (size_t i = from; i < to; i++)
    sum += ((int64_t)c->u[column * c->padded + i] - c->type->zero) * c->q[row * c->padded + i];
  return sum;
}

static int64_t sum_of_row(const struct quant_case *c, size_t row, size_t from, size_t to)
{
  int64_t sum = 0;
  for (size_t i = from; i < to; i++) sum += c->q[row * c->padded + i];
  return sum;
}

/* One block of a type with sub-scales. */
static float add_sub_blocks(const struct quant_case *c, size_t row, size_t column, size_t g,
                            float y)
{
  const struct quant_type *t = c->type;
  const float dx = c->dx[row * c->groups + g], d = c->d[column * c->groups + g];
  const float m = c->m[column * c->groups + g];
  int64_t sum = 0, minima = 0;
  for (size_t s = g * t->block / t->sub; s < (g + 1) * t->block / t->sub; s++) {
    size_t from = s * t->sub, to = from + t->sub, at = column * c->subs + s;
    sum += c->scale[at] * sum_of_products(c, row, column, from, to);
    minima += c->minimum[at] * sum_of_row(c, row, from, to);
  }
  y = fmaf((float)sum, dx * d, y);
  return t->minima ? fmaf(-(float)minima, dx * m, y) : y;
}

float quant_case_result(const struct quant_case *c, size_t row, size_t column)
{
  const struct quant_type *t = c->type;
  if (t->block == 0)
    return (float)sum_of_products(c, row, column, 0, c->k) * (c->dx[row] * c->d[column]);
  float y = 0;
  for (size_t g = 0; g < c->groups; g++) {
    const float dx = c->dx[row * c->groups + g], d = c->d[column * c->groups + g];
    const size_t from = g * t->block, to = from + t->block;
    if (t->sub) {
      y = add_sub_blocks(c, row, column, g, y);
      continue;
    }
    y = fmaf((float)sum_of_products(c, row, column, from, to), dx * d, y);
    if (t->minima)
      y = fmaf(c->m[column * c->groups + g], dx * (float)sum_of_row(c, row, from, to), y);
  }
  return y;
}
