/* The linear kernels: y = x · wᵀ over packed panels of f32, f16 and bf16. */
#include <string.h>

#include "tests/isas.h"
#include "tests/linear_case.h"
#include "tests/oracle.h"

enum { MOST_ROWS = 25, MANY_ROWS = 110, MOST_K = 1100, MOST_N = 208 };

static const xf_type types[] = {XF_F32, XF_F16, XF_BF16};

static struct arena x_arena, w_arena, y_arena, scratch_arena;
static float scalar_scratch[XF_LINEAR_SCRATCH];

static int set_up(void **state)
{
  (void)state;
  x_arena = arena_new((size_t)MANY_ROWS * (MOST_K + LINEAR_CASE_GAP));
  w_arena = arena_new((size_t)MOST_N * MOST_K);
  y_arena = arena_new((size_t)MANY_ROWS * (MOST_N + LINEAR_CASE_GAP));
  scratch_arena = arena_new(XF_LINEAR_SCRATCH + 1);
  return 0;
}

static int tear_down(void **state)
{
  (void)state;
  arena_free(&x_arena);
  arena_free(&w_arena);
  arena_free(&y_arena);
  arena_free(&scratch_arena);
  return 0;
}

static void run_kernel(const struct xf_kernels *k, const struct linear_case *p, const float *x,
                       const void *w, float *y, float *scratch)
{
  const bool far = p->n % 2; /* asks for more, no more */
  struct xf_linear_args a = {p->rows, p->k, p->n, x, p->ldx, w, y, p->ldy, scratch, far};
  (p->type == XF_F32 ? k->linear_f32 : p->type == XF_F16 ? k->linear_f16 : k->linear_bf16)(&a);
}

static size_t length_of(const struct linear_case *p, size_t ld, size_t width)
{
  return p->rows ? (p->rows - 1) * ld + width : 0;
}

static void check_isa(const struct xf_kernels *k, const struct linear_case *p)
{
  size_t y_length = length_of(p, p->ldy, p->n);
  const void *w = linear_case_panels(p, &w_arena);
  const float *x = arena_copy(&x_arena, length_of(p, p->ldx, p->k), p->shift, p->x);
  float *scratch = arena_floats(&scratch_arena, XF_LINEAR_SCRATCH, p->shift);
  float *y = arena_floats(&y_arena, y_length, p->shift);
  run_kernel(k, p, x, w, y, scratch);
  arena_expect_untouched(&y_arena, k->name, y, y_length);
  arena_expect_untouched(&scratch_arena, k->name, scratch, XF_LINEAR_SCRATCH);
  for (size_t r = 0; r < p->rows; r++) {
    expect_bits("linear", k->name, y + r * p->ldy, p->y + r * p->ldy, p->n);
    if (r + 1 < p->rows) expect_poison("gap of y", k->name, y + r * p->ldy + p->n, p->ldy - p->n);
  }
}

/* Elements of the scalar kernel against docs/numerics.md and against double precision. */
static void check_scalar(struct rng *rng, const struct linear_case *p, enum fill fill,
                         size_t samples)
{
  for (size_t i = 0; i < samples && p->rows && p->n; i++) {
    size_t r = rng_below(rng, p->rows), c = rng_below(rng, p->n);
    const float *x = p->x + r * p->ldx, *w = linear_case_column(p, c);
    float got = p->y[r * p->ldy + c], exact = numerics_linear(p->k, x, w, XF_LANES);
    struct estimate double_precision = oracle_linear(p->k, x, w, XF_LANES);
    expect_bits("linear, against numerics.md", "scalar", &got, &exact, 1);
    if (fill == FILL_SPECIAL) continue;
    double bound = fill == FILL_SMALL_INTEGERS ? 0 : double_precision.bound;
    expect_near("linear, against double", "scalar", got, double_precision.value, bound);
  }
}

static void check_case(struct rng *rng, xf_type type, enum fill fill, size_t rows, size_t k,
                       size_t n)
{
  uint64_t seed = rng->state;
  struct linear_case p = linear_case_new(rng, type, fill, rows, k, n);
  this_case("seed %llu %s %s rows %zu k %zu n %zu ldx %zu ldy %zu shift %zu",
            (unsigned long long)seed, xf_type_name(type), fill_names[fill], rows, k, n, p.ldx,
            p.ldy, p.shift);
  memset(p.y, 0xA5, rows * p.ldy * sizeof *p.y);
  run_kernel(&xf_kernels_scalar, &p, p.x, linear_case_panels(&p, &w_arena), p.y, scalar_scratch);
  check_scalar(rng, &p, fill, 4);
  for (const struct xf_kernels *isa = NULL; (isa = next_isa(isa));) check_isa(isa, &p);
  linear_case_free(&p);
}

static size_t a_length(struct rng *rng, size_t least, size_t most)
{
  for (;;) {
    size_t pick = rng_below(rng, 2 * n_length_classes);
    size_t n = pick < n_length_classes ? length_classes[pick] : rng_below(rng, most + 1);
    if (n >= least && n <= most) return n;
  }
}

static void check_random(struct rng *rng, enum fill fill, size_t most_k, size_t most_n)
{
  xf_type type = types[rng_below(rng, 3)];
  size_t rows = 1 + rng_below(rng, MOST_ROWS), k = a_length(rng, 1, most_k);
  check_case(rng, type, fill, rows, k, a_length(rng, 1, most_n));
}

/* Every number of rows with every class of n. */
static void test_rows_and_columns(void **state)
{
  (void)state;
  struct rng rng = {1};
  for (size_t rows = 1; rows <= MOST_ROWS; rows++) {
    for (size_t i = 0; i < n_length_classes; i++) {
      if (length_classes[i] > MOST_N || (scaled(100) < 100 && (rows + i) % 5)) continue;
      xf_type type = types[rng_below(&rng, 3)];
      check_case(&rng, type, FILL_NORMAL, rows, a_length(&rng, 1, 150), length_classes[i]);
    }
  }
}

/* Every class of k, which ends chains and blocks. */
static void test_chain_lengths(void **state)
{
  (void)state;
  struct rng rng = {2};
  for (size_t i = 0; i < n_length_classes; i++) {
    for (size_t t = 0; t < 3; t++) {
      for (size_t repeat = scaled(12); length_classes[i] > 0 && repeat > 0; repeat--) {
        size_t rows = 1 + rng_below(&rng, MOST_ROWS), n = a_length(&rng, 1, MOST_N);
        check_case(&rng, types[t], FILL_NORMAL, rows, length_classes[i], n);
      }
    }
  }
}

/* So many that 16-bit weights are widened once for all. */
static void test_many_rows(void **state)
{
  (void)state;
  struct rng rng = {6};
  for (size_t i = 0; i < scaled(60); i++) {
    size_t rows = 60 + rng_below(&rng, MANY_ROWS - 59), k = a_length(&rng, 1, MOST_K);
    check_case(&rng, types[i % 3], FILL_NORMAL, rows, k, a_length(&rng, 1, MOST_N));
  }
}

static void test_random_shapes(void **state)
{
  (void)state;
  struct rng rng = {3};
  for (size_t i = 0; i < scaled(1500); i++) check_random(&rng, FILL_NORMAL, MOST_K, MOST_N);
}

static void test_special_values(void **state)
{
  (void)state;
  static const enum fill fills[] = {FILL_SMALL_INTEGERS, FILL_LARGE, FILL_DENORMAL, FILL_SPECIAL};
  struct rng rng = {4};
  for (size_t i = 0; i < scaled(1000); i++) check_random(&rng, fills[i % 4], 600, 100);
}

/* A row's bits do not depend on the rows beside it: prefill equals decode. */
static void test_rows_are_independent(void **state)
{
  (void)state;
  struct rng rng = {5};
  for (size_t i = 0; i < scaled(30); i++) {
    size_t rows = 1 + rng_below(&rng, MOST_ROWS), k = a_length(&rng, 1, MOST_K);
    struct linear_case p =
        linear_case_new(&rng, types[i % 3], FILL_NORMAL, rows, k, a_length(&rng, 1, MOST_N));
    this_case("%s rows %zu k %zu n %zu", xf_type_name(p.type), p.rows, p.k, p.n);
    for (const struct xf_kernels *isa = NULL; (isa = next_isa(isa));) {
      const void *w = linear_case_panels(&p, &w_arena);
      run_kernel(isa, &p, p.x, w, p.y, scalar_scratch);
      struct linear_case one = p;
      for (size_t r = 0; r < p.rows; r++) {
        float y[MOST_N];
        one.rows = 1;
        run_kernel(isa, &one, p.x + r * p.ldx, w, y, scalar_scratch);
        expect_bits("one row alone", isa->name, y, p.y + r * p.ldy, p.n);
      }
    }
    linear_case_free(&p);
  }
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_rows_and_columns), cmocka_unit_test(test_chain_lengths),
      cmocka_unit_test(test_many_rows),        cmocka_unit_test(test_random_shapes),
      cmocka_unit_test(test_special_values),   cmocka_unit_test(test_rows_are_independent),
      cmocka_unit_test(test_required_isas)};
  return cmocka_run_group_tests_name("linear", tests, set_up, tear_down);
}
