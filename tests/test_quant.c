/* The kernels of 8- and 4-bit weights: every type on every ISA and variant of it. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/compare.h"
#include "tests/isas.h"
#include "tests/oracle.h"
#include "tests/quant_case.h"

enum { MOST_ROWS = 70, MOST_K = 1536, MOST_N = 120, MOST_GAP = 5, LONGEST_ROW = 131072 };
enum { MANY_LONG = 17 };

static struct arena w_arena, q_arena, dx_arena, sums_arena, totals_arena, y_arena, scratch_arena;

static int set_up(void **state)
{
  (void)state;
  w_arena = arena_new((size_t)8 * LONGEST_ROW);
  q_arena = arena_new((size_t)MANY_LONG * (LONGEST_ROW + 64) / 4);
  dx_arena = arena_new(LONGEST_ROW);
  sums_arena = arena_new(LONGEST_ROW);
  totals_arena = arena_new(MOST_ROWS);
  y_arena = arena_new((size_t)MOST_ROWS * (MOST_N + MOST_GAP));
  scratch_arena = arena_new(XF_LINEAR_SCRATCH);
  return 0;
}

static int tear_down(void **state)
{
  (void)state;
  arena_free(&w_arena);
  arena_free(&q_arena);
  arena_free(&dx_arena);
  arena_free(&sums_arena);
  arena_free(&totals_arena);
  arena_free(&y_arena);
  arena_free(&scratch_arena);
  return 0;
}

/* ---- linear ---- */

struct problem {
  struct quant_case c;
  size_t ldy, shift;
  float *want; /* [rows][ldy] of the scalar kernel, poison in the gaps */
};

static const void *guarded_panels(const struct quant_case *c)
{
  unsigned char *panels = arena_cut(&w_arena, quant_case_bytes(c), 1, 0);
  assert_int_equal((uintptr_t)panels % XF_QUANT_ALIGN, 0);
  quant_case_panels(c, panels);
  return panels;
}

static struct xf_quant_rows guarded_rows(const struct quant_case *c, size_t shift)
{
  const size_t q = c->rows * c->padded, dx = c->rows * c->groups, ldq = xf_quant_ldq(c->k);
  struct xf_quant_rows x = {arena_cut(&q_arena, (c->rows - 1) * ldq + c->padded, 1, shift),
                            arena_copy(&dx_arena, dx, shift, c->dx),
                            arena_cut(&sums_arena, q / 16, sizeof *x.sums, shift),
                            arena_cut(&totals_arena, c->rows, sizeof *x.totals, shift)};
  for (size_t r = 0; r < c->rows; r++) memcpy(x.q + r * ldq, c->q + r * c->padded, c->padded);
  memcpy(x.sums, c->sums, q / 16 * sizeof *x.sums);
  memcpy(x.totals, c->totals, c->rows * sizeof *x.totals);
  return x;
}

static void run_linear(const struct xf_quant_kernels *kernels, const struct problem *p,
                       const void *w, float *y)
{
  const struct quant_case *c = &p->c;
  float *scratch = arena_floats(&scratch_arena, XF_LINEAR_SCRATCH, 0);
  struct xf_quant_args a = {c->type->type, c->rows, c->k, c->n, guarded_rows(c, p->shift), w, y,
                            p->ldy,        scratch};
  kernels->linear(&a);
}

static void check_isa(const struct xf_kernels *k, const struct problem *p)
{
  const size_t n = p->c.n, length = (p->c.rows - 1) * p->ldy + n;
  float *y = arena_floats(&y_arena, length, p->shift);
  run_linear(k->quant, p, guarded_panels(&p->c), y);
  arena_expect_untouched(&y_arena, k->name, y, length);
  for (size_t r = 0; r < p->c.rows; r++) {
    expect_bits("linear", k->name, y + r * p->ldy, p->want + r * p->ldy, n);
    if (r + 1 < p->c.rows) expect_poison("gap of y", k->name, y + r * p->ldy + n, p->ldy - n);
  }
}

static void check_scalar(struct rng *rng, const struct problem *p, size_t samples)
{
  for (size_t i = 0; i < samples; i++) {
    size_t r = rng_below(rng, p->c.rows), column = rng_below(rng, p->c.n);
    float want = quant_case_result(&p->c, r, column);
    expect_bits("linear, against numerics.md", "scalar", &p->want[r * p->ldy + column], &want, 1);
  }
}

static void check_linear(struct rng *rng, const struct quant_type *type, enum quant_fill fill,
                         size_t rows, size_t k, size_t n)
{
  uint64_t seed = rng->state;
  struct problem p = {quant_case_new(rng, type, fill, rows, k, n), n + rng_below(rng, MOST_GAP),
                      rng_below(rng, 2), NULL};
  this_case("seed %llu %s fill %d rows %zu k %zu n %zu ldy %zu shift %zu", (unsigned long long)seed,
            xf_type_name(type->type), (int)fill, rows, k, n, p.ldy, p.shift);
  p.want = calloc(rows * p.ldy, sizeof *p.want);
  assert_non_null(p.want);
  run_linear(&xf_quant_scalar, &p, guarded_panels(&p.c), p.want);
  check_scalar(rng, &p, 6);
  for (const struct xf_kernels *isa = NULL; (isa = next_quant_isa(isa));) check_isa(isa, &p);
  free(p.want);
  quant_case_free(&p.c);
}

static size_t a_k(struct rng *rng, const struct quant_type *type)
{
  const size_t most = scaled(100) < 100 ? MOST_K / 3 : MOST_K;
  if (type->block == 0) return 1 + rng_below(rng, 300);
  return (1 + rng_below(rng, most / type->block)) * type->block;
}

/* Every type with every number of rows up to 25, and some that AMX's tiles of 16 and 32 divide. */
static void test_rows(void **state)
{
  (void)state;
  struct rng rng = {1};
  for (size_t t = 0; t < QUANT_TYPES; t++)
    for (size_t rows = 1; rows <= MOST_ROWS; rows += rows < 25 ? 1 : 7)
      check_linear(&rng, &quant_types[t], QUANT_RANDOM, rows, a_k(&rng, &quant_types[t]),
                   1 + rng_below(&rng, MOST_N));
}

/* So many rows and so long ones that weights are unpacked in several turns. */
static void test_deep(void **state)
{
  (void)state;
  struct rng rng = {5};
  for (size_t t = 0; t < QUANT_TYPES; t++) {
    const size_t block = quant_types[t].block ? quant_types[t].block : 32;
    const size_t k = 2048 + (1 + rng_below(&rng, 1536 / block)) * block;
    check_linear(&rng, &quant_types[t], QUANT_RANDOM, 64 + rng_below(&rng, MOST_ROWS - 63), k,
                 33 + rng_below(&rng, 16));
  }
}

/* Every type with every number of columns and panels. */
static void test_columns(void **state)
{
  (void)state;
  struct rng rng = {2};
  for (size_t t = 0; t < QUANT_TYPES; t++)
    for (size_t n = 1; n <= MOST_N; n += scaled(100) < 100 ? 7 : 1)
      check_linear(&rng, &quant_types[t], QUANT_RANDOM, 1 + rng_below(&rng, n % 2 ? 9 : MOST_ROWS),
                   a_k(&rng, &quant_types[t]), n);
}

static void test_numbers(void **state)
{
  (void)state;
  static const enum quant_fill fills[] = {QUANT_EXTREME, QUANT_SPECIAL_SCALES};
  struct rng rng = {3};
  for (size_t i = 0; i < scaled(60) * QUANT_TYPES * 2; i++) {
    const struct quant_type *type = &quant_types[i / 2 % QUANT_TYPES];
    check_linear(&rng, type, fills[i % 2], 1 + rng_below(&rng, i / 2 % 2 ? 13 : MOST_ROWS),
                 a_k(&rng, type), 1 + rng_below(&rng, 60));
  }
}

/* The longest rows of one scale, at the greatest sums. */
static void test_longest_row(void **state)
{
  (void)state;
  struct rng rng = {4};
  for (size_t i = 0; i < 4; i++) {
    const size_t k = LONGEST_ROW - i % 2, rows = i < 2 ? 1 : MANY_LONG;
    struct problem p = {quant_case_new(&rng, &quant_types[0], QUANT_RANDOM, rows, k, 3), 3, 0,
                        (float[3 * MANY_LONG]){0}};
    memset(p.c.u, 0, k), memset(p.c.u + p.c.padded, 255, k);
    memset(p.c.sums, 0, rows * p.c.padded / 16 * sizeof *p.c.sums);
    for (size_t r = 0; r < rows; r++) {
      memset(p.c.q + r * p.c.padded, 127, k);
      for (size_t j = 0; j < k; j++) p.c.sums[(r * p.c.padded + j) / 16] += 127;
      p.c.totals[r] = 127 * (int32_t)k;
    }
    this_case("i8_row rows %zu k %zu", rows, k);
    run_linear(&xf_quant_scalar, &p, guarded_panels(&p.c), p.want);
    check_scalar(&rng, &p, 12);
    for (const struct xf_kernels *isa = NULL; (isa = next_quant_isa(isa));) check_isa(isa, &p);
    quant_case_free(&p.c);
  }
}

/* ---- quantize ---- */

struct expected_rows {
  int8_t q[MOST_K + 32];
  float d[MOST_K];
  int16_t sums[MOST_K];
  int32_t total;
};

static void expect_rows(size_t k, size_t group, const float *x, struct expected_rows *want)
{
  memset(want, 0, sizeof *want);
  size_t width = group ? group : k;
  for (size_t i = 0; i < k; i += width)
    want->d[i / width] = numerics_quantize(width, x + i, want->q + i);
  for (size_t i = 0; i < k; i++) want->sums[i / 16] = (int16_t)(want->sums[i / 16] + want->q[i]);
  for (size_t i = 0; i < k && group == 0; i++) want->total += want->q[i];
}

static void check_quantize(size_t k, size_t group, size_t shift, const float *x)
{
  static struct expected_rows want;
  const size_t padded = (k + 31) / 32 * 32, groups = group ? k / group : 1;
  expect_rows(k, group, x, &want);
  for (const struct xf_kernels *isa = NULL; (isa = next_quant_isa(isa));) {
    const float *guarded = arena_copy(&w_arena, k, shift, x);
    struct xf_quant_rows row = {arena_cut(&q_arena, padded / 4, 4, shift),
                                arena_floats(&dx_arena, groups, shift),
                                arena_cut(&sums_arena, padded / 32, 4, shift),
                                arena_cut(&totals_arena, group == 0, 4, shift)};
    isa->quant->quantize(k, group, guarded, row);
    expect_bits("scales", isa->name, row.d, want.d, groups);
    expect_true("quants", isa->name, memcmp(row.q, want.q, padded) == 0);
    expect_true("sums", isa->name, memcmp(row.sums, want.sums, padded / 16 * 2) == 0);
    if (group == 0) expect_true("total", isa->name, *row.totals == want.total);
    arena_expect_untouched(&q_arena, isa->name, (const float *)row.q, padded / 4);
    arena_expect_untouched(&dx_arena, isa->name, row.d, groups);
    arena_expect_untouched(&sums_arena, isa->name, (const float *)row.sums, padded / 32);
    arena_expect_untouched(&totals_arena, isa->name, (const float *)row.totals, group == 0);
  }
}

/* Multiples of a half among ±127, so that the step is 1 and ties are many; or of another step. */
static void fill_ties(struct rng *rng, size_t n, float *x)
{
  float step = rng_below(rng, 2) ? 1 : 0x1p-126f;
  for (size_t i = 0; i < n; i++) x[i] = step * ((float)rng_below(rng, 509) / 2 - 127);
  x[rng_below(rng, n)] = 127 * step;
}

/* Around the least step: some groups become zeros. */
static void fill_tiny(struct rng *rng, size_t n, float *x)
{
  for (size_t i = 0; i < n; i++) x[i] = 0x1p-119f * rng_uniform(rng);
  float most[] = {127 * 0x1p-126f, nextafterf(127 * 0x1p-126f, 0), nextafterf(127 * 0x1p-126f, 1)};
  for (size_t i = 0; i < n; i += 32) {
    float bound = most[rng_below(rng, 3)];
    for (size_t j = i; j < n && j < i + 32; j++) x[j] = fabsf(x[j]) > bound ? -bound : x[j];
  }
}

static void test_quantize(void **state)
{
  (void)state;
  static const size_t groups[] = {0, 32, 256};
  static float x[MOST_K];
  struct rng rng = {5};
  for (size_t i = 0; i < scaled(3000); i++) {
    size_t group = groups[i % 3], fill = i / 3 % (FILL_KINDS + 3);
    size_t k = group ? group * (1 + rng_below(&rng, MOST_K / group)) : 1 + rng_below(&rng, MOST_K);
    this_case("case %zu: k %zu group %zu fill %zu", i, k, group, fill);
    if (fill < FILL_KINDS)
      fill_array(&rng, (enum fill)fill, k, x);
    else if (fill == FILL_KINDS)
      fill_ties(&rng, k, x);
    else if (fill == FILL_KINDS + 1)
      fill_tiny(&rng, k, x);
    else
      for (size_t j = 0; j < k; j++) x[j] = 0x1.fffffep127f * rng_uniform(&rng);
    if (rng_below(&rng, 4) == 0) x[rng_below(&rng, k)] = rng_below(&rng, 2) ? NAN : -INFINITY;
    check_quantize(k, group, rng_below(&rng, 2), x);
  }
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_rows),         cmocka_unit_test(test_deep),
      cmocka_unit_test(test_columns),      cmocka_unit_test(test_numbers),
      cmocka_unit_test(test_longest_row),  cmocka_unit_test(test_quantize),
      cmocka_unit_test(test_required_isas)};
  return cmocka_run_group_tests_name("quant", tests, set_up, tear_down);
}
