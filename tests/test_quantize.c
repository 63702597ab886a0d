/* Our quantizers: never a larger error than llama-quantize's on the same tensors, no failure on any
 * finite block, and the nearest f16. */
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dispatch/narrow.h"
#include "dispatch/quant.h"
#include "dispatch/quantize.h"
#include "model/gguf.h"
#include "tests/compare.h"
#include "tests/isas.h"
#include "tests/model_support.h"
#include "tests/support.h"

static const xf_type types[] = {XF_I8_ROW, XF_Q8_0, XF_Q4_0, XF_Q4_1, XF_Q5_0,
                                XF_Q5_1,   XF_Q4_K, XF_Q5_K, XF_Q6_K};
enum { TYPES = sizeof types / sizeof *types };

/* What the type makes of a row. */
static void round_trip(xf_type type, size_t k, const float *x, float *y)
{
  float scale = 0;
  struct guarded out = guarded_new(xf_type_row_bytes(type, k));
  assert_true(xf_quantize_row(type, k, x, out.data, &scale));
  xf_quant_widen(next_isa(NULL), type, k, (struct xf_quant_row){out.data, scale}, y);
  guarded_free(&out);
}

static double squared_error(size_t k, const float *x, const float *y)
{
  double error = 0;
  for (size_t i = 0; i < k; i++)
    error += ((double)x[i] - (double)y[i]) * ((double)x[i] - (double)y[i]);
  return error;
}

/* Sums the errors of a tensor: of ours, and of the same tensor in another file. */
static void compare_tensor(xf_type type, const struct xf_tensor *plain,
                           const struct xf_tensor *theirs)
{
  size_t n = plain->shape[0], k = plain->shape[1], row = xf_quant_row_bytes(type, k);
  float *y = new_floats(k), *x = new_floats(k);
  double ours = 0, other = 0;
  assert_int_equal(theirs->type, type);
  for (size_t r = 0; r < n; r++) {
    memcpy(x, (const char *)plain->data + r * k * sizeof *x, k * sizeof *x);
    round_trip(type, k, x, y);
    ours += squared_error(k, x, y);
    xf_quant_widen(next_isa(NULL), type, k,
                   (struct xf_quant_row){(const char *)theirs->data + r * row, 0}, y);
    other += squared_error(k, x, y);
  }
  if (!(ours <= other))
    fail_msg("%s as %s: RMSE %g, llama-quantize %g", plain->name, xf_type_name(type),
             sqrt(ours / (double)(n * k)), sqrt(other / (double)(n * k)));
  free(x);
  free(y);
}

static void test_against_llama_quantize(void **state)
{
  (void)state;
  static const struct {
    const char *name;
    xf_type type;
  } files[] = {{"Q8_0", XF_Q8_0}, {"Q4_0", XF_Q4_0}, {"Q4_1", XF_Q4_1}, {"Q5_0", XF_Q5_0},
               {"Q4_K", XF_Q4_K}, {"Q5_K", XF_Q5_K}, {"Q6_K", XF_Q6_K}};
  struct xf_gguf plain;
  xf_error error = {0};
  expect_ok(xf_gguf_open(fixture("gguf/tl-mini-F32.gguf"), &plain, &error), &error);
  for (size_t t = 0; t < sizeof files / sizeof *files; t++) {
    char name[64];
    struct xf_gguf theirs;
    size_t compared = 0;
    snprintf(name, sizeof name, "gguf/tl-mini-%s.gguf", files[t].name);
    expect_ok(xf_gguf_open(fixture(name), &theirs, &error), &error);
    for (size_t i = 0; i < plain.n_tensors; i++) {
      if (plain.tensors[i].rank != 2) continue;
      compare_tensor(files[t].type, &plain.tensors[i],
                     xf_tensor_find(theirs.tensors, theirs.n_tensors, plain.tensors[i].name));
      compared++;
    }
    assert_int_equal(compared, 16);
    xf_gguf_close(&theirs);
  }
  xf_gguf_close(&plain);
}

/* ---- against the textbook ---- */

static double nearest_half(double x)
{
  float rounded;
  xf_round_f16((float)x, &rounded);
  return (double)rounded;
}

/* The squared error of 32 weights, as small as whole numbers 0 … most can make it with that scale
 * and that offset, in double. */
static double error_of_line(const float *x, double scale, double offset, int most)
{
  double error = 0;
  for (size_t i = 0; i < 32; i++) {
    double l = scale == 0 ? 0 : nearbyint(((double)x[i] - offset) / scale);
    l = l < 0 ? 0 : l > most ? most : l;
    error += pow(scale * l + offset - (double)x[i], 2);
  }
  return error;
}

/* The textbook's block: its line goes from the least to the greatest weight (Q4_1, Q5_1), or the
 * weight of the greatest magnitude is the least number's (Q4_0, Q5_0). */
static double textbook(xf_type type, const float *x)
{
  int most = type == XF_Q4_0 || type == XF_Q4_1 ? 15 : 31;
  double low = (double)x[0], high = low, extreme = 0;
  for (size_t i = 0; i < 32; i++) {
    low = fmin(low, (double)x[i]);
    high = fmax(high, (double)x[i]);
    if (fabs((double)x[i]) > fabs(extreme)) extreme = (double)x[i];
  }
  if (type == XF_Q4_1 || type == XF_Q5_1)
    return error_of_line(x, nearest_half((high - low) / most), nearest_half(low), most);
  double range = (most + 1) / 2, scale = nearest_half(-extreme / range);
  return error_of_line(x, scale, -range * scale, most);
}

/* No block is worse than the textbook's, but for the rounding of a fitted scale to f16. */
static void test_against_textbook(void **state)
{
  (void)state;
  static const xf_type of_32[] = {XF_Q4_0, XF_Q4_1, XF_Q5_0, XF_Q5_1};
  struct rng rng = {8};
  double ours[4] = {0}, theirs[4] = {0};
  for (size_t n = 0; n < scaled(2000); n++) {
    float x[32], y[32], size = exp2f(rng_uniform(&rng) * 8);
    float offset = n % 3 == 0 ? size * 4 * rng_uniform(&rng) : 0;
    for (size_t i = 0; i < 32; i++) {
      x[i] = offset + size * (n % 2 ? rng_normal(&rng) : rng_uniform(&rng));
      if (n % 5 == 0 && i % 7) x[i] = offset;
    }
    for (size_t t = 0; t < 4; t++) {
      round_trip(of_32[t], 32, x, y);
      double error = squared_error(32, x, y), other = textbook(of_32[t], x);
      if (!(error <= other * 1.01 + 1e-12 * (double)(size * size)))
        fail_msg("%s, block %zu: squared error %g, the textbook's %g", xf_type_name(of_32[t]), n,
                 error, other);
      ours[t] += error / (double)(size * size);
      theirs[t] += other / (double)(size * size);
    }
  }
  for (size_t t = 0; t < 4; t++) assert_true(ours[t] < 0.95 * theirs[t]);
}

/* ---- blocks of all kinds ---- */

/* The largest error of a type, as a part of the largest weight of 256. */
static double bound(xf_type type)
{
  switch (type) {
  case XF_I8_ROW:
  case XF_Q8_0: return 0.5 / 127 * 1.01;
  case XF_Q6_K: return 0.06;
  case XF_Q5_0:
  case XF_Q5_1:
  case XF_Q5_K: return 0.1;
  default: return 0.2;
  }
}

static void expect_close(const char *what, const float *x)
{
  float y[256], most = 0;
  for (size_t i = 0; i < 256; i++) most = fmaxf(most, fabsf(x[i]));
  for (size_t t = 0; t < TYPES; t++) {
    round_trip(types[t], 256, x, y);
    for (size_t i = 0; i < 256; i++) {
      if (!isfinite(y[i]) ||
          fabs((double)y[i] - (double)x[i]) > bound(types[t]) * (double)most + 1e-7)
        fail_msg("%s, %s: weight %zu is %g, not %g", what, xf_type_name(types[t]), i, (double)y[i],
                 (double)x[i]);
    }
  }
}

static void test_shapes_of_blocks(void **state)
{
  (void)state;
  struct rng rng = {5};
  float x[256] = {0};
  expect_close("zeros", x);
  for (size_t i = 0; i < 256; i++) x[i] = -0.0f;
  expect_close("negative zeros", x);
  for (size_t i = 0; i < 256; i++) x[i] = 3;
  expect_close("one value", x);
  for (size_t i = 0; i < 256; i++) x[i] = -3;
  expect_close("one negative value", x);
  for (size_t i = 0; i < 256; i++) x[i] = 5 + (float)i / 256;
  expect_close("far from zero", x);
  for (size_t i = 0; i < 256; i++) x[i] = i == 77 ? -40.0f : 0;
  expect_close("one of them", x);
  for (size_t i = 0; i < 256; i++) x[i] = i % 2 ? 1.0f : -1.0f;
  expect_close("two values", x);
  for (size_t n = 0; n < scaled(2000); n++) {
    float size = exp2f(rng_uniform(&rng) * 10);
    for (size_t i = 0; i < 256; i++) x[i] = size * rng_normal(&rng);
    expect_close("random", x);
  }
}

/* Numbers so small or large that intermediate results could leave the floats: no failure and no
 * infinity but where the type's f16 scales end, and no zeros in place of what is too large. */
static void test_extremes(void **state)
{
  (void)state;
  static const float sizes[] = {FLT_TRUE_MIN, FLT_MIN, 1e-30f, 1e-10f, 1e4f,
                                1e6f,         1e9f,    1e30f,  FLT_MAX};
  struct rng rng = {6};
  for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
    for (size_t t = 0; t < TYPES; t++) {
      float x[256], y[256], scale;
      unsigned char out[1024];
      for (size_t i = 0; i < 256; i++) x[i] = sizes[s] * rng_uniform(&rng);
      bool fits = xf_quantize_row(types[t], 256, x, out, &scale);
      xf_quant_widen(next_isa(NULL), types[t], 256, (struct xf_quant_row){out, scale}, y);
      for (size_t i = 0; i < 256; i++)
        if (fits) assert_true(isfinite(y[i]));
      if (fits && sizes[s] > 1)
        assert_true(squared_error(256, x, y) < squared_error(256, x, (float[256]){0}) / 16);
      assert_true(fits || sizes[s] > 1e4f);
      if (types[t] == XF_I8_ROW) assert_true(fits);
    }
}

static void test_f16(void **state)
{
  (void)state;
  float before = 0;
  for (uint32_t half = 0; half <= 0x7C00; half++) {
    uint16_t bits = (uint16_t)half;
    float value, rounded;
    next_isa(NULL)->widen_f16(1, &bits, &value);
    assert_int_equal(xf_round_f16(value, &rounded), half);
    assert_true(rounded == value);
    assert_int_equal(xf_round_f16(-value, &rounded), half | 0x8000);
    if (half == 0 || half == 0x7C00) continue;
    float middle = (before + value) / 2; /* exact; ties go to the even one */
    assert_int_equal(xf_round_f16(middle, &rounded), half - half % 2);
    assert_int_equal(xf_round_f16(nextafterf(middle, 1e9f), &rounded), half);
    assert_int_equal(xf_round_f16(nextafterf(middle, 0), &rounded), half - 1);
    before = value;
  }
  float rounded;
  assert_int_equal(xf_round_f16(65519.99f, &rounded), 0x7BFF);
  assert_int_equal(xf_round_f16(65520, &rounded), 0x7C00);
  assert_true(xf_round_f16(NAN, &rounded) > 0x7C00 && isnan(rounded));
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_against_llama_quantize),
      cmocka_unit_test(test_against_textbook),
      cmocka_unit_test(test_shapes_of_blocks),
      cmocka_unit_test(test_extremes),
      cmocka_unit_test(test_f16),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
