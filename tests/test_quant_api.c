/* 8- and 4-bit weights through the public operators: views of blocks of any stride, and their
 * misuse. */
#include <stdlib.h>
#include <string.h>

#include "exactflash/linear.h"
#include "tests/attention_call.h"
#include "tests/isas.h"
#include "tests/model_support.h"
#include "tests/oracle.h"
#include "tests/quants.h"

enum { THREADS = 3, MOST_ROWS = 9 };

enum layout { DENSE, GAPS, BACKWARDS, BROADCAST, LAYOUTS };

/* Rows of a matrix as a host may have them. */
struct weights {
  struct quants quants;
  unsigned char *memory;
  xf_view view, scales;
};

static struct weights weights_new(struct rng *rng, xf_type type, size_t n, size_t k,
                                  enum layout layout)
{
  struct weights w = {.quants = quants_new(rng, type, n, k, false)};
  size_t bytes = w.quants.row_bytes, step = bytes + (layout == GAPS ? 1 + rng_below(rng, 9) : 0);
  w.memory = malloc(n * step);
  assert_non_null(w.memory);
  for (size_t r = 0; r < n && layout == BROADCAST; r++)
    memcpy(w.quants.data + r * bytes, w.quants.data, bytes);
  for (size_t r = 0; r < n; r++)
    memcpy(w.memory + (layout == BACKWARDS ? n - 1 - r : r) * step, w.quants.data + r * bytes,
           bytes);
  int64_t stride = layout == BROADCAST ? 0 : layout == BACKWARDS ? -(int64_t)step : (int64_t)step;
  w.view = (xf_view){w.memory, type, 2, {(int64_t)n, (int64_t)k}, {stride, 77}};
  if (layout == BACKWARDS) w.view.data = w.memory + (n - 1) * step;
  float *scales = new_floats(n);
  if (type == XF_I8_ROW) memcpy(scales, w.quants.scales, n * sizeof *scales);
  w.scales = (xf_view){scales, XF_F32, 1, {(int64_t)n}, {sizeof(float)}};
  return w;
}

static const xf_view *scales_of(const struct weights *w)
{
  return w->quants.type == XF_I8_ROW ? &w->scales : NULL;
}

static void weights_free(struct weights *w)
{
  free((void *)(uintptr_t)w->scales.data);
  free(w->memory);
  quants_free(&w->quants);
}

static xf_view dense(const float *data, size_t rows, size_t n)
{
  return (xf_view){
      data, XF_F32, 2, {(int64_t)rows, (int64_t)n}, {(int64_t)(n * sizeof(float)), sizeof(float)}};
}

static void check_run(const struct weights *w, const xf_linear *linear, const xf_context *context,
                      size_t rows, const float *x)
{
  const struct quants *q = &w->quants;
  float *wide = new_floats(q->n * q->k), *want = new_floats(rows * q->n);
  struct guarded y = guarded_new(rows * q->n * sizeof(float));
  xf_view x_view = dense(x, rows, q->k), y_view = dense(y.data, rows, q->n);
  xf_view wide_view = dense(wide, q->n, q->k);
  xf_error error;
  expect_ok(xf_dequantize(context, &w->view, scales_of(w), &wide_view, &error), &error);
  for (size_t i = 0; i < q->n * q->k; i++) {
    float one = quants_weight(q, i / q->k, i % q->k);
    expect_bits("dequantized", xf_context_isa(context), &wide[i], &one, 1);
  }
  size_t bytes = xf_linear_workspace(context, linear, rows);
  struct guarded workspace = guarded_new(bytes);
  for (xf_activations a = XF_ACTIVATIONS_INT8; a <= XF_ACTIVATIONS_F32; a++) {
    for (size_t i = 0; i < rows * q->n; i++)
      want[i] = a == XF_ACTIVATIONS_INT8
                    ? quants_dot(q, i % q->n, x + i / q->n * q->k)
                    : numerics_linear(q->k, x + i / q->n * q->k, wide + i % q->n * q->k, 1);
    expect_ok(xf_linear_run(context, linear, a, &x_view, &y_view, workspace.data, bytes, &error),
              &error);
    expect_bits("product", xf_context_isa(context), y.data, want, rows * q->n);
  }
  guarded_free(&workspace), guarded_free(&y);
  free(want), free(wide);
}

static void test_views(void **state)
{
  (void)state;
  struct rng rng = {1};
  for (const struct xf_kernels *k = NULL; (k = next_quant_isa(k));)
    for (size_t i = 0; i < scaled(60); i++) {
      uint64_t seed = rng.state;
      xf_context *context = context_new(k->name, i % 2 ? THREADS : 1, thread_each);
      xf_type type = quants_types[i % n_quants_types];
      size_t n = 1 + rng_below(&rng, 70), rows = 1 + rng_below(&rng, MOST_ROWS);
      size_t width = quants_block(type) * (1 + rng_below(&rng, 400 / quants_block(type)));
      enum layout layout =
          type == XF_I8_ROW ? rng_below(&rng, BROADCAST) : rng_below(&rng, LAYOUTS);
      struct weights w = weights_new(&rng, type, n, width, layout);
      float *x = new_floats(rows * width);
      fill_normal(&rng, rows * width, x);
      xf_linear *linear;
      xf_error error;
      this_case("seed %llu, %s [%zu, %zu], %zu rows, layout %d", (unsigned long long)seed,
                xf_type_name(type), n, width, rows, (int)layout);
      expect_ok(xf_linear_create(context, &w.view, scales_of(&w), &linear, &error), &error);
      check_run(&w, linear, context, rows, x);
      xf_linear_destroy(linear);
      weights_free(&w);
      free(x);
      xf_context_destroy(context);
    }
}

/* ---- misuse ---- */

static const xf_context *context_of_misuse;

/* Both operators that take weights refuse them, with the word in the message. */
static void refuse(const xf_view *w, const xf_view *scales, xf_status want, const char *word)
{
  static float out[2 * 512];
  xf_view y = dense(out, w->shape[0] == 2 ? 2 : 1, w->shape[1] == 256 ? 256 : 32);
  xf_linear *linear = (xf_linear *)(void *)out;
  xf_error error = {0};
  xf_status status = xf_linear_create(context_of_misuse, w, scales, &linear, &error);
  assert_null(linear);
  if (!strstr(error.message, word)) fail_msg("no %s in: %s", word, error.message);
  expect_status(status, want, &error);
  status = xf_dequantize(context_of_misuse, w, scales, &y, &error);
  if (!strstr(error.message, word)) fail_msg("no %s in: %s", word, error.message);
  expect_status(status, want, &error);
}

static void refuse_blocks(const struct weights *w)
{
  const xf_view *scales = scales_of(w);
  static const int64_t bad_sizes[] = {-1, ((int64_t)1 << 30) + 1, INT64_MAX, INT64_MIN};
  for (uint32_t d = 0; d < 2; d++)
    for (size_t i = 0; i < 4; i++) {
      xf_view view = w->view;
      view.shape[d] = bad_sizes[i];
      refuse(&view, scales, XF_E_ARGUMENT, "w: shape[");
    }
  xf_view view = w->view;
  view.rank = 1;
  refuse(&view, scales, XF_E_SHAPE, "w: rank 1");
  view = w->view;
  view.data = NULL;
  refuse(&view, scales, XF_E_ARGUMENT, "w: data");
  view = w->view;
  view.stride[0] = INT64_MAX;
  refuse(&view, scales, XF_E_ARGUMENT, "w: its strides");
  view = w->view;
  view.shape[1] = 0;
  refuse(&view, scales, XF_E_SHAPE, "w: [2, 0] is empty");
  if (quants_block(w->quants.type) == 1) return;
  view = w->view;
  view.shape[1] = quants_block(w->quants.type) == 32 ? 33 : 128;
  refuse(&view, scales, XF_E_SHAPE, "w: shape[1]");
  refuse(&w->view, &w->scales, XF_E_ARGUMENT, "scales: ");
}

static void refuse_scales(const struct weights *w)
{
  refuse(&w->view, NULL, XF_E_ARGUMENT, "scales: NULL");
  xf_view scales = w->scales;
  scales.shape[0] = 1;
  refuse(&w->view, &scales, XF_E_SHAPE, "scales: shape[0]");
  scales = w->scales;
  scales.type = XF_F16;
  refuse(&w->view, &scales, XF_E_UNSUPPORTED, "scales: type f16");
  scales = w->scales;
  scales.stride[0] = 8;
  refuse(&w->view, &scales, XF_E_UNSUPPORTED, "scales: stride[0]");
  scales = w->scales;
  scales.data = (const char *)scales.data + 1;
  refuse(&w->view, &scales, XF_E_ARGUMENT, "scales: data");
}

static void refuse_workspace(const struct weights *w)
{
  float x[256] = {0}, y[2];
  xf_view x_view = dense(x, 1, (size_t)w->view.shape[1]), y_view = dense(y, 1, 2);
  xf_linear *linear;
  xf_error error = {0};
  expect_ok(xf_linear_create(context_of_misuse, &w->view, scales_of(w), &linear, &error), &error);
  size_t bytes = xf_linear_workspace(context_of_misuse, linear, 1);
  assert_true(bytes > xf_linear_workspace(context_of_misuse, linear, 0));
  void *workspace = malloc(bytes);
  xf_status status = xf_linear_run(context_of_misuse, linear, XF_ACTIVATIONS_INT8, &x_view, &y_view,
                                   workspace, bytes - 1, &error);
  assert_non_null(strstr(error.message, "workspace"));
  expect_status(status, XF_E_ARGUMENT, &error);
  free(workspace);
  xf_linear_destroy(linear);
}

static void test_misuse(void **state)
{
  (void)state;
  struct rng rng = {2};
  xf_context *context = context_new(NULL, 1, NULL);
  context_of_misuse = context;
  for (size_t i = 0; i < n_quants_types; i++) {
    this_case("%s", xf_type_name(quants_types[i]));
    size_t k = quants_block(quants_types[i]) == 256 ? 256 : 32;
    struct weights w = weights_new(&rng, quants_types[i], 2, k, GAPS);
    refuse_blocks(&w);
    if (quants_types[i] == XF_I8_ROW) refuse_scales(&w);
    refuse_workspace(&w);
    weights_free(&w);
  }
  xf_context_destroy(context);
}

static void test_dequantize_misuse(void **state)
{
  (void)state;
  static float data[64], out[64];
  xf_context *context = context_new(NULL, 1, NULL);
  xf_view w = dense(data, 2, 16), y = dense(out, 2, 16), bad = dense(out, 2, 15);
  xf_error error = {0};
  expect_ok(xf_dequantize(context, &w, NULL, &y, &error), &error);
  expect_status(xf_dequantize(NULL, &w, NULL, &y, &error), XF_E_ARGUMENT, &error);
  expect_status(xf_dequantize(context, NULL, NULL, &y, &error), XF_E_ARGUMENT, &error);
  expect_status(xf_dequantize(context, &w, NULL, NULL, &error), XF_E_ARGUMENT, &error);
  expect_status(xf_dequantize(context, &w, NULL, &bad, &error), XF_E_SHAPE, &error);
  bad = dense(data + 31, 2, 16);
  expect_status(xf_dequantize(context, &w, NULL, &bad, &error), XF_E_ARGUMENT, &error);
  bad = y;
  bad.stride[0] = 0;
  expect_status(xf_dequantize(context, &w, NULL, &bad, &error), XF_E_ARGUMENT, &error);
  xf_context_destroy(context);
}

int main(void)
{
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_views), cmocka_unit_test(test_misuse),
                                     cmocka_unit_test(test_dequantize_misuse),
                                     cmocka_unit_test(test_required_isas)};
  return cmocka_run_group_tests_name("8- and 4-bit weights of hosts", tests, NULL, NULL);
}
