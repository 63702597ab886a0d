/* The kernels of fast mode against docs/numerics.md, bit for bit, and against double precision. */
#include <string.h>

#include "tests/fast_mode.h"
#include "tests/linear_case.h"

enum { FEW_ROWS = 34, MOST_ROWS = 300, MOST_K = 2200, MOST_N = 208 };

static const struct fast_mode *mode; /* that is tested */

static struct arena x_arena, pairs_arena, w_arena, y_arena, scratch_arena;

static int set_up(void **state)
{
  x_arena = arena_new((size_t)MOST_ROWS * (MOST_K + LINEAR_CASE_GAP));
  pairs_arena = arena_new((size_t)MOST_ROWS * MOST_K);
  w_arena = arena_new((size_t)MOST_N * MOST_K);
  y_arena = arena_new((size_t)MOST_ROWS * (MOST_N + LINEAR_CASE_GAP));
  scratch_arena = arena_new(XF_LINEAR_SCRATCH);
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
  arena_free(&scratch_arena);
  return 0;
}

/* Every row rounded, as the kernels take them: each ends at the guard page as it is read. */
static uint32_t *guarded_pairs(const struct linear_case *p)
{
  const struct xf_fast_kernels *kernels = mode->kernels;
  size_t row = xf_fast_pairs(p->k);
  uint32_t *pairs = arena_cut(&pairs_arena, p->rows * row, sizeof *pairs, p->shift);
  for (size_t r = 0; r < p->rows; r++)
    kernels->round(p->k, arena_copy(&x_arena, p->k, p->shift, p->x + r * p->ldx), pairs + r * row);
  arena_expect_untouched(&pairs_arena, kernels->name, (float *)pairs, p->rows * row);
  return pairs;
}

/* y = x · wᵀ of a row or of more. */
static void run_linear(const struct linear_case *p, size_t rows, const uint32_t *pairs,
                       const void *w, float *y, size_t ldy)
{
  float *scratch = arena_floats(&scratch_arena, XF_LINEAR_SCRATCH, 0);
  mode->kernels->linear_bf16(&(struct xf_fast_args){rows, p->k, p->n, pairs, w, y, ldy, scratch});
  arena_expect_untouched(&scratch_arena, mode->kernels->name, scratch, XF_LINEAR_SCRATCH);
}

static void check_output(const struct linear_case *p, const float *y, size_t r, size_t c, bool near)
{
  const float *x = p->x + r * p->ldx;
  const float *w = linear_case_column(p, c);
  float got = y[r * p->ldy + c], want = mode->linear(p->k, x, w, XF_LANES);
  const char *name = mode->kernels->name;
  expect_bits("fast linear, against numerics.md", name, &got, &want, 1);
  struct estimate exact = fast_oracle(p->k, x, w, XF_LANES);
  if (near) expect_near("fast linear, against double", name, got, exact.value, exact.bound);
}

static void check_case(struct rng *rng, enum fill fill, size_t rows, size_t k, size_t n)
{
  uint64_t seed = rng->state;
  struct linear_case p = linear_case_new(rng, XF_BF16, fill, rows, k, n);
  this_case("seed %llu %s rows %zu k %zu n %zu ldy %zu shift %zu", (unsigned long long)seed,
            fill_names[fill], rows, k, n, p.ldy, p.shift);
  const uint32_t *pairs = guarded_pairs(&p);
  size_t y_length = (rows - 1) * p.ldy + n;
  float *y = arena_floats(&y_arena, y_length, p.shift);
  run_linear(&p, rows, pairs, linear_case_panels(&p, &w_arena), y, p.ldy);
  arena_expect_untouched(&y_arena, mode->kernels->name, y, y_length);
  for (size_t r = 0; r < rows; r++) {
    check_output(&p, y, r, rng_below(rng, n), fill != FILL_SPECIAL);
    check_output(&p, y, r, n - 1, fill != FILL_SPECIAL);
    if (r + 1 < rows) expect_poison("gap of y", mode->kernels->name, y + r * p.ldy + n, p.ldy - n);
  }
  linear_case_free(&p);
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
static void test_shapes(void)
{
  struct rng rng = {1};
  for (size_t rows = 1; rows <= FEW_ROWS; rows++) {
    for (size_t i = 0; i < n_length_classes; i++) {
      size_t length = length_classes[i];
      if (length == 0 || (scaled(100) < 100 && (rows + i) % 5)) continue;
      if (length <= MOST_K) check_case(&rng, FILL_NORMAL, rows, length, a_length(&rng, MOST_N));
      if (length <= MOST_N) check_case(&rng, FILL_NORMAL, rows, a_length(&rng, 150), length);
    }
  }
}

/* More than a kernel takes at once: of rows, of k, of both. */
static void test_parts(void)
{
  struct rng rng = {4};
  static const struct {
    size_t rows, k;
  } sizes[] = {{257, 40}, {300, 513}, {1, 2049}, {33, 2081}, {17, 2200}, {260, 2050}};
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
    check_case(&rng, FILL_NORMAL, sizes[i].rows, sizes[i].k, 1 + rng_below(&rng, MOST_N));
}

static void test_special_values(void)
{
  static const enum fill fills[] = {FILL_SMALL_INTEGERS, FILL_LARGE,      FILL_DENORMAL,
                                    FILL_SPECIAL,        FILL_MINUS_ZERO, FILL_RISING};
  struct rng rng = {2};
  for (size_t i = 0; i < scaled(1200); i++) {
    size_t rows = 1 + rng_below(&rng, FEW_ROWS), k = a_length(&rng, 600);
    check_case(&rng, fills[i % 6], rows, k, a_length(&rng, 100));
  }
}

/* Products around the least normal number: sums become zeros and come back. */
static void test_underflow(void)
{
  struct rng rng = {3};
  for (size_t i = 0; i < scaled(300); i++) {
    size_t k = 1 + rng_below(&rng, 40);
    struct linear_case p = linear_case_new(&rng, XF_BF16, FILL_NORMAL, 3, k, 32);
    this_case("underflow %zu", i);
    for (size_t j = 0; j < 3 * p.ldx; j++) p.x[j] *= 0x1p-63f;
    for (size_t j = 0; j < linear_case_weights(&p); j++) p.w[j] *= 0x1p-63f;
    float y[3 * (32 + LINEAR_CASE_GAP)];
    const uint32_t *pairs = guarded_pairs(&p);
    run_linear(&p, 3, pairs, linear_case_panels(&p, &w_arena), y, p.ldy);
    for (size_t r = 0; r < 3; r++)
      for (size_t c = 0; c < 32; c++) check_output(&p, y, r, c, true);
    linear_case_free(&p);
  }
}

/* Every upper half of a float, with lower halves around a tie, and the zeros behind them. */
static void test_rounding(void)
{
  static const uint32_t lower[] = {0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF};
  for (uint32_t upper = 0; upper < 0x10000; upper++) {
    float x[6];
    uint32_t pairs[16];
    for (size_t i = 0; i < 6; i++) {
      uint32_t bits = upper << 16 | lower[i];
      memcpy(&x[i], &bits, sizeof bits);
    }
    this_case("upper half %x", upper);
    mode->kernels->round(6, x, pairs);
    for (size_t i = 0; i < 32; i++) {
      float got = from_bf16((uint16_t)(i % 2 ? pairs[i / 2] : pairs[i / 2] >> 16));
      float want = i < 6 ? fast_rounded(x[i]) : 0;
      expect_bits("rounded", mode->kernels->name, &got, &want, 1);
    }
  }
}

/* A row's bits do not depend on the rows beside it: prefill equals decode. */
static void test_rows_are_independent(void)
{
  struct rng rng = {5};
  for (size_t i = 0; i < scaled(30); i++) {
    size_t rows = 1 + rng_below(&rng, i % 4 ? FEW_ROWS : MOST_ROWS), k = a_length(&rng, MOST_K);
    struct linear_case p =
        linear_case_new(&rng, XF_BF16, FILL_NORMAL, rows, k, a_length(&rng, MOST_N));
    this_case("rows %zu k %zu n %zu", p.rows, p.k, p.n);
    const uint16_t *w = linear_case_panels(&p, &w_arena);
    const uint32_t *pairs = guarded_pairs(&p);
    float *y = arena_floats(&y_arena, rows * p.ldy, 0), one[MOST_N];
    run_linear(&p, rows, pairs, w, y, p.ldy);
    for (size_t r = 0; r < rows; r++) {
      run_linear(&p, 1, pairs + r * xf_fast_pairs(k), w, one, p.n);
      expect_bits("one row alone", mode->kernels->name, one, y + r * p.ldy, p.n);
    }
    linear_case_free(&p);
  }
}

static void test_modes(void **state)
{
  (void)state;
  while ((mode = next_fast_mode(mode))) {
    test_rounding();
    test_shapes();
    test_parts();
    test_special_values();
    test_underflow();
    test_rows_are_independent();
  }
}

int main(void)
{
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_modes),
                                     cmocka_unit_test(test_required_fast)};
  return cmocka_run_group_tests_name("fast", tests, set_up, tear_down);
}
