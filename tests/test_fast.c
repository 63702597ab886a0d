/* The kernels of fast mode against docs/numerics.md, bit for bit, and against double precision. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/compare.h"
#include "tests/fast_mode.h"

enum { MOST_ROWS = 25, MOST_K = 1100, MOST_N = 208, MOST_GAP = 5 };

static const struct xf_fast_kernels *kernels;

struct problem {
  size_t rows, k, n, ldx, ldy, shift;
  float *x; /* [rows][ldx], NaN in the gaps */
  float *w; /* panels as floats, exact in bf16 */
};

static struct arena x_arena, pairs_arena, w_arena, y_arena;

static int set_up(void **state)
{
  x_arena = arena_new((size_t)MOST_ROWS * (MOST_K + MOST_GAP));
  pairs_arena = arena_new((size_t)MOST_ROWS * MOST_K);
  w_arena = arena_new((size_t)MOST_N * MOST_K);
  y_arena = arena_new((size_t)MOST_ROWS * (MOST_N + MOST_GAP));
  (void)state;
  return 0;
}

static int tear_down(void **state)
{
  (void)state;
  arena_free(&x_arena);
  arena_free(&pairs_arena);
  arena_free(&w_arena);
  arena_free(&y_arena);
  return 0;
}

static size_t panel_floats(const struct problem *p)
{
  return (p->n + XF_LANES - 1) / XF_LANES * p->k * XF_LANES;
}

static struct problem problem_new(struct rng *rng, enum fill fill, size_t rows, size_t k, size_t n)
{
  struct problem p = {.rows = rows, .k = k, .n = n, .shift = rng_below(rng, 2)};
  p.ldx = k + rng_below(rng, MOST_GAP);
  p.ldy = n + rng_below(rng, MOST_GAP);
  p.x = malloc(rows * p.ldx * sizeof *p.x);
  p.w = malloc(panel_floats(&p) * sizeof *p.w);
  assert_true(p.x && p.w);
  fill_array(rng, fill, rows * p.ldx, p.x);
  for (size_t r = 0; r < rows; r++)
    for (size_t i = k; i < p.ldx; i++) p.x[r * p.ldx + i] = NAN;
  fill_array(rng, fill, panel_floats(&p), p.w);
  for (size_t i = 0; i < panel_floats(&p); i++) {
    size_t c = i / (k * XF_LANES) * XF_LANES + i % XF_LANES;
    p.w[i] = c < n ? rounded_to(XF_BF16, p.w[i]) : 0;
  }
  return p;
}

static void problem_free(struct problem *p)
{
  free(p->x);
  free(p->w);
}

static const uint16_t *guarded_weights(const struct problem *p)
{
  uint16_t *w = arena_cut(&w_arena, panel_floats(p), sizeof *w, p->shift);
  for (size_t i = 0; i < panel_floats(p); i++) w[i] = to_bf16(p->w[i]);
  return w;
}

/* Every row rounded, as the kernels take them: each ends at the guard page as it is read. */
static uint32_t *guarded_pairs(const struct problem *p)
{
  size_t row = XF_FAST_PAIRS(p->k);
  uint32_t *pairs = arena_cut(&pairs_arena, p->rows * row, sizeof *pairs, p->shift);
  for (size_t r = 0; r < p->rows; r++)
    kernels->round(p->k, arena_copy(&x_arena, p->k, p->shift, p->x + r * p->ldx), pairs + r * row);
  arena_expect_untouched(&pairs_arena, kernels->name, (float *)pairs, p->rows * row);
  return pairs;
}

static void check_output(const struct problem *p, const float *y, size_t r, size_t c, bool near)
{
  const float *x = p->x + r * p->ldx;
  const float *w = p->w + c / XF_LANES * p->k * XF_LANES + c % XF_LANES;
  float got = y[r * p->ldy + c], want = fast_linear(p->k, x, w, XF_LANES);
  expect_bits("fast linear, against numerics.md", kernels->name, &got, &want, 1);
  struct estimate exact = fast_oracle(p->k, x, w, XF_LANES);
  if (near)
    expect_near("fast linear, against double", kernels->name, got, exact.value, exact.bound);
}

static void check_problem(struct rng *rng, enum fill fill, size_t rows, size_t k, size_t n)
{
  uint64_t seed = rng->state;
  struct problem p = problem_new(rng, fill, rows, k, n);
  this_case("seed %llu %s rows %zu k %zu n %zu ldy %zu shift %zu", (unsigned long long)seed,
            fill_names[fill], rows, k, n, p.ldy, p.shift);
  const uint32_t *pairs = guarded_pairs(&p);
  size_t y_length = (rows - 1) * p.ldy + n;
  float *y = arena_floats(&y_arena, y_length, p.shift);
  kernels->linear_bf16(&(struct xf_fast_args){rows, k, n, pairs, guarded_weights(&p), y, p.ldy});
  arena_expect_untouched(&y_arena, kernels->name, y, y_length);
  for (size_t r = 0; r < rows; r++) {
    check_output(&p, y, r, rng_below(rng, n), fill != FILL_SPECIAL);
    check_output(&p, y, r, n - 1, fill != FILL_SPECIAL);
    if (r + 1 < rows) expect_poison("gap of y", kernels->name, y + r * p.ldy + n, p.ldy - n);
  }
  problem_free(&p);
}

static size_t a_length(struct rng *rng, size_t most)
{
  for (;;) {
    size_t pick = rng_below(rng, 2 * n_length_classes);
    size_t n = pick < n_length_classes ? length_classes[pick] : rng_below(rng, most + 1);
    if (n > 0 && n <= most) return n;
  }
}

/* Every number of rows with every class of k, and of n. */
static void test_shapes(void **state)
{
  (void)state;
  kernels = need_fast_kernels();
  struct rng rng = {1};
  for (size_t rows = 1; rows <= MOST_ROWS; rows++) {
    for (size_t i = 0; i < n_length_classes; i++) {
      size_t length = length_classes[i];
      if (length == 0 || (scaled(100) < 100 && (rows + i) % 5)) continue;
      if (length <= MOST_K) check_problem(&rng, FILL_NORMAL, rows, length, a_length(&rng, MOST_N));
      if (length <= MOST_N) check_problem(&rng, FILL_NORMAL, rows, a_length(&rng, 150), length);
    }
  }
}

static void test_special_values(void **state)
{
  (void)state;
  kernels = need_fast_kernels();
  static const enum fill fills[] = {FILL_SMALL_INTEGERS, FILL_LARGE,      FILL_DENORMAL,
                                    FILL_SPECIAL,        FILL_MINUS_ZERO, FILL_RISING};
  struct rng rng = {2};
  for (size_t i = 0; i < scaled(1200); i++) {
    size_t rows = 1 + rng_below(&rng, MOST_ROWS), k = a_length(&rng, 600);
    check_problem(&rng, fills[i % 6], rows, k, a_length(&rng, 100));
  }
}

/* Products around the least normal number: sums become zeros and come back. */
static void test_underflow(void **state)
{
  (void)state;
  kernels = need_fast_kernels();
  struct rng rng = {3};
  for (size_t i = 0; i < scaled(300); i++) {
    size_t k = 1 + rng_below(&rng, 40);
    struct problem p = problem_new(&rng, FILL_NORMAL, 3, k, 32);
    this_case("underflow %zu", i);
    for (size_t j = 0; j < 3 * p.ldx; j++) p.x[j] *= 0x1p-63f;
    for (size_t j = 0; j < panel_floats(&p); j++) p.w[j] *= 0x1p-63f;
    float y[3 * (32 + MOST_GAP)];
    const uint32_t *pairs = guarded_pairs(&p);
    kernels->linear_bf16(&(struct xf_fast_args){3, k, 32, pairs, guarded_weights(&p), y, p.ldy});
    for (size_t r = 0; r < 3; r++)
      for (size_t c = 0; c < 32; c++) check_output(&p, y, r, c, true);
    problem_free(&p);
  }
}

/* Every upper half of a float, with lower halves around a tie. */
static void test_rounding(void **state)
{
  (void)state;
  kernels = need_fast_kernels();
  static const uint32_t lower[] = {0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF};
  for (uint32_t upper = 0; upper < 0x10000; upper++) {
    float x[6];
    uint32_t pairs[3];
    for (size_t i = 0; i < 6; i++) {
      uint32_t bits = upper << 16 | lower[i];
      memcpy(&x[i], &bits, sizeof bits);
    }
    this_case("upper half %x", upper);
    kernels->round(6, x, pairs);
    for (size_t i = 0; i < 6; i++) {
      float got = from_bf16((uint16_t)(i % 2 ? pairs[i / 2] : pairs[i / 2] >> 16));
      float want = fast_rounded(x[i]);
      expect_bits("rounded", kernels->name, &got, &want, 1);
    }
  }
}

/* A row's bits do not depend on the rows beside it: prefill equals decode. */
static void test_rows_are_independent(void **state)
{
  (void)state;
  kernels = need_fast_kernels();
  struct rng rng = {5};
  for (size_t i = 0; i < scaled(30); i++) {
    size_t rows = 1 + rng_below(&rng, MOST_ROWS), k = a_length(&rng, MOST_K);
    struct problem p = problem_new(&rng, FILL_NORMAL, rows, k, a_length(&rng, MOST_N));
    this_case("rows %zu k %zu n %zu", p.rows, p.k, p.n);
    const uint16_t *w = guarded_weights(&p);
    const uint32_t *pairs = guarded_pairs(&p);
    float *y = arena_floats(&y_arena, rows * p.ldy, 0), one[MOST_N];
    kernels->linear_bf16(&(struct xf_fast_args){rows, k, p.n, pairs, w, y, p.ldy});
    for (size_t r = 0; r < rows; r++) {
      const uint32_t *row = pairs + r * XF_FAST_PAIRS(k);
      kernels->linear_bf16(&(struct xf_fast_args){1, k, p.n, row, w, one, p.n});
      expect_bits("one row alone", kernels->name, one, y + r * p.ldy, p.n);
    }
    problem_free(&p);
  }
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_shapes), cmocka_unit_test(test_special_values),
      cmocka_unit_test(test_underflow), cmocka_unit_test(test_rounding),
      cmocka_unit_test(test_rows_are_independent)};
  return cmocka_run_group_tests_name("fast", tests, set_up, tear_down);
}
