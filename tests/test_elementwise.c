/* The kernels that work on one row, each as the scalar one and within a bound of double precision:
 * add, rms_norm, rope_angles, rope, silu_mul, softmax, arg_max, widen_f16, widen_bf16; widen_i8,
 * pack_panel.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/compare.h"
#include "tests/isas.h"
#include "tests/oracle.h"

enum { MOST = 1100, INPUTS = 3 };

/* Arrays of a case. number is the kernel's scalar argument. */
struct data {
  size_t n;
  const float *in[INPUTS];
  float number;
};

/* One kernel, seen as a function of up to three arrays that writes one. */
struct op {
  const char *name;
  size_t width[INPUTS]; /* lengths of the inputs, times n */
  size_t out_width;
  int alias; /* bit i: the output may be input i */
  int least; /* the least n */
  /* out may hold an input already. Returns what the kernel returns, else 0. */
  float (*run)(const struct xf_kernels *k, const struct data *d, float *out);
  struct estimate (*oracle)(const struct data *d, size_t i);
};

static struct arena in_arena[INPUTS], out_arena;
static float spare[2 * MOST];

static float run_add(const struct xf_kernels *k, const struct data *d, float *out)
{
  if (out != d->in[0]) memcpy(out, d->in[0], d->n * sizeof *out);
  k->add(d->n, out, d->in[1]);
  return 0;
}

static struct estimate oracle_add(const struct data *d, size_t i)
{
  return (struct estimate){(double)(d->in[0][i] + d->in[1][i]), 0};
}

static float run_rms_norm(const struct xf_kernels *k, const struct data *d, float *out)
{
  k->rms_norm(d->n, d->in[0], d->in[1], d->number, out);
  return 0;
}

static struct estimate oracle_rms(const struct data *d, size_t i)
{
  return oracle_rms_norm(d->n, d->in[0], d->number, d->in[0][i], d->in[1][i]);
}

static float run_cos(const struct xf_kernels *k, const struct data *d, float *out)
{
  k->rope_angles(d->n, d->number, d->in[0], out, spare);
  return 0;
}

static struct estimate oracle_cos(const struct data *d, size_t i)
{
  return oracle_angle(d->number * d->in[0][i], 0);
}

static float run_sin(const struct xf_kernels *k, const struct data *d, float *out)
{
  k->rope_angles(d->n, d->number, d->in[0], spare, out);
  return 0;
}

static struct estimate oracle_sin(const struct data *d, size_t i)
{
  return oracle_angle(d->number * d->in[0][i], 1);
}

static float run_rope(const struct xf_kernels *k, const struct data *d, float *out)
{
  if (out != d->in[2]) memcpy(out, d->in[2], 2 * d->n * sizeof *out);
  k->rope(d->n, d->in[0], d->in[1], out);
  return 0;
}

static struct estimate oracle_rope(const struct data *d, size_t i)
{
  size_t pair = i % d->n;
  float cosine = d->in[0][pair], sine = d->in[1][pair];
  float a = d->in[2][pair], b = d->in[2][pair + d->n];
  return i < d->n ? oracle_rotated(a, b, cosine, sine) : oracle_rotated(b, -a, cosine, sine);
}

static float run_silu_mul(const struct xf_kernels *k, const struct data *d, float *out)
{
  k->silu_mul(d->n, d->in[0], d->in[1], out);
  return 0;
}

static struct estimate oracle_silu(const struct data *d, size_t i)
{
  return oracle_silu_mul(d->in[0][i], d->in[1][i]);
}

static float run_softmax(const struct xf_kernels *k, const struct data *d, float *out)
{
  return k->softmax(d->n, d->in[0], d->number, out);
}

static struct estimate oracle_soft(const struct data *d, size_t i)
{
  float top = -INFINITY;
  for (size_t j = 0; j < d->n; j++) top = fmaxf(top, d->in[0][j]);
  return oracle_softmax(d->in[0][i], top, d->number);
}

static const struct op ops[] = {{"add", {1, 1, 0}, 1, 1, 0, run_add, oracle_add},
                                {"rms_norm", {1, 1, 0}, 1, 1, 1, run_rms_norm, oracle_rms},
                                {"rope_angles cos", {1, 0, 0}, 1, 0, 0, run_cos, oracle_cos},
                                {"rope_angles sin", {1, 0, 0}, 1, 0, 0, run_sin, oracle_sin},
                                {"rope", {1, 1, 2}, 2, 4, 0, run_rope, oracle_rope},
                                {"silu_mul", {1, 1, 0}, 1, 3, 0, run_silu_mul, oracle_silu},
                                {"softmax", {1, 0, 0}, 1, 1, 1, run_softmax, oracle_soft}};
enum { N_OPS = sizeof ops / sizeof *ops };

static int set_up(void **state)
{
  (void)state;
  for (size_t i = 0; i < INPUTS; i++) in_arena[i] = arena_new(2 * MOST + 1);
  out_arena = arena_new(2 * MOST + 1);
  return 0;
}

static int tear_down(void **state)
{
  (void)state;
  for (size_t i = 0; i < INPUTS; i++) arena_free(&in_arena[i]);
  arena_free(&out_arena);
  return 0;
}

/* The output in one input's place (alias), or in its own (alias < 0). */
static void check_isa(const struct xf_kernels *k, const struct op *op, const struct data *plain,
                      size_t shift, int alias, const float *want, float want_sum)
{
  struct data d = *plain;
  for (size_t i = 0; i < INPUTS; i++)
    d.in[i] = arena_copy(&in_arena[i], op->width[i] * d.n, shift, plain->in[i]);
  size_t n = op->out_width * d.n;
  struct arena *arena = alias < 0 ? &out_arena : &in_arena[alias];
  float *out = alias < 0 ? arena_floats(&out_arena, n, shift) : (float *)(uintptr_t)d.in[alias];
  float sum = op->run(k, &d, out);
  expect_bits(op->name, k->name, out, want, n);
  expect_bits("its sum", k->name, &sum, &want_sum, 1);
  arena_expect_untouched(arena, k->name, out, n);
  for (int i = 0; i < INPUTS; i++)
    if (i != alias) expect_bits("an input", k->name, d.in[i], plain->in[i], op->width[i] * d.n);
}

static void check_op(const struct op *op, const struct data *d, size_t shift, int with_oracle)
{
  static float want[2 * MOST];
  float want_sum = op->run(&xf_kernels_scalar, d, want);
  for (size_t i = 0; with_oracle && i < op->out_width * d->n; i += i < 100 ? 1 : 37) {
    struct estimate estimate = op->oracle(d, i);
    expect_near(op->name, "scalar", want[i], estimate.value, estimate.bound);
  }
  for (const struct xf_kernels *k = NULL; (k = next_isa(k));) {
    for (int alias = -1; alias < INPUTS; alias++)
      if (alias < 0 || op->alias >> alias & 1) check_isa(k, op, d, shift, alias, want, want_sum);
  }
}

static void check_random(struct rng *rng, const struct op *op, enum fill fill, size_t n)
{
  static float in[INPUTS][2 * MOST];
  static const float numbers[] = {1e-5f, 0.0625f, 1, 3.5f, 2047, 131071};
  uint64_t seed = rng->state;
  struct data d = {n, {in[0], in[1], in[2]}, numbers[rng_below(rng, 6)]};
  if (op->run == run_softmax) d.number = rng_uniform(rng) + 1.01f;
  for (size_t i = 0; i < INPUTS; i++) fill_array(rng, fill, op->width[i] * n, in[i]);
  size_t shift = rng_below(rng, 2);
  this_case("seed %llu %s %s n %zu number %g shift %zu", (unsigned long long)seed, op->name,
            fill_names[fill], n, (double)d.number, shift);
  int finite = fill < FILL_SPECIAL || fill == FILL_MINUS_ZERO;
  check_op(op, &d, shift, finite);
}

static void test_lengths(void **state)
{
  (void)state;
  struct rng rng = {1};
  for (size_t o = 0; o < N_OPS; o++) {
    for (size_t n = (size_t)ops[o].least; n <= 140; n++)
      check_random(&rng, &ops[o], FILL_NORMAL, n);
    for (size_t i = 0; i < n_length_classes; i++)
      if (length_classes[i] > 140) check_random(&rng, &ops[o], FILL_NORMAL, length_classes[i]);
    for (size_t i = 0; i < scaled(100); i++)
      check_random(&rng, &ops[o], FILL_NORMAL, 1 + rng_below(&rng, MOST - 1));
  }
}

static void test_special_values(void **state)
{
  (void)state;
  struct rng rng = {2};
  for (size_t o = 0; o < N_OPS; o++) {
    for (size_t i = 0; i < scaled(50) * FILL_KINDS; i++)
      check_random(&rng, &ops[o], i % FILL_KINDS, 1 + rng_below(&rng, 200));
  }
}

/* numerics.md's row reduction, bit by bit. */
static void test_row_reductions(void **state)
{
  (void)state;
  struct rng rng = {3};
  for (size_t n = 1; n <= 300; n++) {
    float x[300], y[300], ones[300];
    this_case("n %zu", n);
    fill_array(&rng, FILL_NORMAL, n, x);
    for (size_t i = 0; i < n; i++) ones[i] = 1;
    xf_kernels_scalar.rms_norm(n, x, ones, 1e-5f, y);
    float rms = numerics_rms(n, x, 1e-5f);
    for (size_t i = 0; i < n; i++) {
      float want = x[i] * rms;
      expect_bits("rms_norm, against numerics.md", "scalar", &y[i], &want, 1);
    }
    float sum = xf_kernels_scalar.softmax(n, x, 1.25f, y), top = -INFINITY;
    for (size_t i = 0; i < n; i++) top = x[i] > top ? x[i] : top;
    for (size_t i = 0; i < n; i++) x[i] = numerics_exp2(fmaf(x[i], 1.25f, -(top * 1.25f)));
    expect_bits("softmax, against numerics.md", "scalar", y, x, n);
    float want = numerics_sum(n, x);
    expect_bits("softmax's sum, against numerics.md", "scalar", &sum, &want, 1);
  }
}

/* Gates over the whole range, also where exp over- and underflows. */
static void test_silu_range(void **state)
{
  (void)state;
  const struct op *op = &ops[5];
  static float gate[MOST], up[MOST];
  struct data d = {MOST, {gate, up, NULL}, 0};
  for (float from = -120; from < 120; from += 11) {
    for (size_t i = 0; i < MOST; i++) gate[i] = from + 0.01f * (float)i, up[i] = 1.5f;
    this_case("gates from %g", (double)from);
    check_op(op, &d, 0, 1);
  }
}

/* Positions up to 131071 with frequencies of 1 and less. */
static void test_rope_angles_range(void **state)
{
  (void)state;
  static float frequency[64];
  struct data d = {64, {frequency, NULL, NULL}, 0};
  for (size_t i = 0; i < 64; i++) frequency[i] = (float)pow(10000, -(double)i / 64);
  for (size_t position = 0; position < 131072; position += 1 + position / scaled(300)) {
    d.number = (float)position;
    this_case("position %zu", position);
    check_op(&ops[2], &d, 0, 1);
    check_op(&ops[3], &d, 0, 1);
  }
}

static size_t plain_arg_max(size_t n, const float *x)
{
  size_t best = 0;
  for (size_t i = 1; i < n; i++)
    if (x[i] > x[best] || (isnan(x[best]) && !isnan(x[i]))) best = i;
  return best;
}

static void check_arg_max(const struct xf_kernels *k, size_t n, const float *x, size_t shift)
{
  const float *guarded = arena_copy(&in_arena[0], n, shift, x);
  size_t got = k->arg_max(n, guarded), want = plain_arg_max(n, x);
  if (got != want) fail_msg("arg_max on %s: n %zu gives %zu, not %zu", k->name, n, got, want);
}

static void test_arg_max(void **state)
{
  (void)state;
  struct rng rng = {4};
  static float x[MOST];
  for (const struct xf_kernels *k = NULL; (k = next_isa(k));) {
    for (size_t n = 0; n < 400; n++) {
      fill_array(&rng, n % FILL_KINDS, n, x);
      check_arg_max(k, n, x, n & 1);
      fill_array(&rng, FILL_SMALL_INTEGERS, n, x); /* ties */
      check_arg_max(k, n, x, 0);
      fill_array(&rng, FILL_NORMAL, n, x); /* a NaN must not hide what came before it */
      for (size_t i = 0; i < n; i++)
        if (rng_below(&rng, 2)) x[i] = NAN;
      check_arg_max(k, n, x, 0);
      fill_array(&rng, FILL_NAN, n, x);
      if (n > 0) x[rng_below(&rng, n)] = -INFINITY;
      check_arg_max(k, n, x, 1);
      fill_array(&rng, FILL_MINUS_ZERO, n, x); /* +0 is not greater than −0 */
      if (n > 0) x[rng_below(&rng, n)] = 0;
      check_arg_max(k, n, x, 0);
    }
  }
}

typedef void (*widen_kernel)(size_t n, const uint16_t *x, float *y);

static void check_widen(const struct xf_kernels *k, widen_kernel widen, float (*exact)(uint16_t),
                        size_t first, size_t n, size_t shift)
{
  static float want[65536];
  static struct arena in, out;
  if (!in.bytes) in = arena_new(65536), out = arena_new(65536 + 1);
  uint16_t *x = arena_cut(&in, n, sizeof *x, shift);
  float *y = arena_floats(&out, n, shift);
  for (size_t i = 0; i < n; i++) want[i] = exact(x[i] = (uint16_t)(first + i));
  widen(n, x, y);
  this_case("widen first pattern %zu n %zu", first, n);
  expect_bits("widen", k->name, y, want, n);
  arena_expect_untouched(&out, k->name, y, n);
}

/* Every pattern, and every remainder. */
static void test_widen(void **state)
{
  (void)state;
  for (const struct xf_kernels *k = NULL; (k = next_isa(k));) {
    check_widen(k, k->widen_f16, from_f16, 0, 65536, 0);
    check_widen(k, k->widen_bf16, from_bf16, 0, 65536, 0);
    for (size_t n = 0; n < 100; n++) {
      check_widen(k, k->widen_f16, from_f16, 331 * n, n, n & 1);
      check_widen(k, k->widen_bf16, from_bf16, 331 * n, n, n & 1);
    }
  }
}

/* Every value and every remainder, at guard pages. */
static void test_widen_i8(void **state)
{
  (void)state;
  enum { VALUES = 256 };
  static const float scales[] = {1, 0.0123f, -3e-41f, 3e38f};
  struct arena in = arena_new(VALUES / 4 + 1), out = arena_new(VALUES + 1);
  for (const struct xf_kernels *k = NULL; (k = next_isa(k));) {
    for (size_t n = 0; n <= VALUES; n++) {
      float scale = scales[n % 4], want[VALUES];
      int8_t *x = arena_cut(&in, n, 1, n & 1);
      float *y = arena_floats(&out, n, n & 1);
      for (size_t i = 0; i < n; i++)
        want[i] = (float)(x[i] = (int8_t)((int)((i + n) % VALUES) - 128)) * scale;
      this_case("widen_i8 n %zu scale %g", n, (double)scale);
      k->widen_i8(n, x, scale, y);
      expect_bits("widen_i8", k->name, y, want, n);
      arena_expect_untouched(&out, k->name, y, n);
    }
  }
  arena_free(&in), arena_free(&out);
}

/* Rows of every width, one of them at the guard page, and one row in two places. */
static void test_pack_panel(void **state)
{
  (void)state;
  enum { WIDEST = 256 };
  static float x[XF_LANES][WIDEST];
  struct arena in = arena_new(WIDEST), out = arena_new((size_t)WIDEST * XF_LANES + 1);
  for (size_t i = 0; i < XF_LANES; i++)
    for (size_t j = 0; j < WIDEST; j++) x[i][j] = (float)(WIDEST * i + j);
  for (const struct xf_kernels *k = NULL; (k = next_isa(k));) {
    for (size_t d = 1; d <= WIDEST; d++) {
      const float *rows[XF_LANES];
      for (size_t i = 0; i < XF_LANES; i++) rows[i] = x[i];
      rows[d % XF_LANES] = arena_copy(&in, d, d & 1, x[d % XF_LANES]);
      rows[(d + 5) % XF_LANES] = x[0];
      float *panel = arena_floats(&out, d * XF_LANES, d & 1);
      k->pack_panel(d, rows, panel);
      arena_expect_untouched(&out, k->name, panel, d * XF_LANES);
      this_case("pack_panel d %zu", d);
      for (size_t j = 0; j < d; j++)
        for (size_t i = 0; i < XF_LANES; i++)
          expect_bits("panel", k->name, &panel[j * XF_LANES + i], &rows[i][j], 1);
    }
  }
  arena_free(&in), arena_free(&out);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_lengths),        cmocka_unit_test(test_special_values),
      cmocka_unit_test(test_row_reductions), cmocka_unit_test(test_silu_range),
      cmocka_unit_test(test_arg_max),        cmocka_unit_test(test_rope_angles_range),
      cmocka_unit_test(test_widen),          cmocka_unit_test(test_pack_panel),
      cmocka_unit_test(test_widen_i8),       cmocka_unit_test(test_required_isas)};
  return cmocka_run_group_tests_name("elementwise", tests, set_up, tear_down);
}
