/* The public operators on a host's own arrays: rows of every layout, in place and side by side,
 * give the bits of the kernels on every ISA and number of threads, and nothing else is written.
 * What is not all right is tested in test_ops_misuse.c. */
#include <stdlib.h>
#include <string.h>

#include "dispatch/memory.h"
#include "exactflash/linear.h"
#include "exactflash/ops.h"
#include "tests/attention_call.h"
#include "tests/failing_alloc.h"
#include "tests/isas.h"

enum { MOST_ROWS = 30, MOST_N = 300, THREADS = 3 };

enum layout { DENSE, GAPS, BACKWARDS, BROADCAST, LAYOUTS };

/* A matrix of floats; `memory` ends at a page that cannot be touched, and what lies between rows is
 * poison. */
struct matrix {
  xf_view view;
  struct guarded memory;
  size_t floats;
};

static struct matrix matrix_new(size_t rows, size_t n, enum layout layout)
{
  size_t stride = n + (layout == GAPS || layout == BACKWARDS ? 5 : 0);
  struct matrix m = {.floats = layout == BROADCAST ? n : (rows - 1) * stride + n};
  m.memory = guarded_new(m.floats * sizeof(float));
  m.view = (xf_view){m.memory.data, XF_F32, 2, {(int64_t)rows, (int64_t)n}, {0, sizeof(float)}};
  if (layout != BROADCAST) m.view.stride[0] = (int64_t)(stride * sizeof(float));
  if (layout == BACKWARDS) {
    m.view.data = (float *)m.memory.data + (rows - 1) * stride;
    m.view.stride[0] = -m.view.stride[0];
  }
  return m;
}

static float *row(const xf_view *view, size_t i)
{
  return (float *)(void *)((char *)(uintptr_t)view->data + (int64_t)i * view->stride[0]);
}

static struct matrix matrix_random(struct rng *rng, size_t rows, size_t n, enum layout layout)
{
  struct matrix m = matrix_new(rows, n, layout);
  for (size_t i = 0; i < rows; i++) fill_array(rng, FILL_NORMAL, n, row(&m.view, i));
  return m;
}

/* The rows one behind the other; free(). */
static float *dense_copy(const xf_view *view)
{
  size_t n = (size_t)view->shape[1];
  float *copy = malloc((size_t)view->shape[0] * n * sizeof *copy);
  assert_non_null(copy);
  for (size_t i = 0; i < (size_t)view->shape[0]; i++)
    memcpy(copy + i * n, row(view, i), n * sizeof *copy);
  return copy;
}

static void expect_rows(const char *what, const xf_context *context, const xf_view *got,
                        const float *want)
{
  size_t n = (size_t)got->shape[1];
  for (size_t i = 0; i < (size_t)got->shape[0]; i++)
    expect_bits(what, xf_context_isa(context), row(got, i), want + i * n, n);
}

/* Between rows there is still poison. */
static void expect_gaps(const char *what, const xf_context *context, const struct matrix *m)
{
  size_t n = (size_t)m->view.shape[1];
  size_t stride = (size_t)llabs(m->view.stride[0]) / sizeof(float);
  for (size_t at = n; at < m->floats; at += stride)
    expect_poison(what, xf_context_isa(context), (float *)m->memory.data + at, stride - n);
}

static void expect_fine(xf_status status, const xf_error *error)
{
  if (status) fail_msg("%s", error->message);
}

static size_t random_size(struct rng *rng, size_t most)
{
  return 1 + rng_below(rng, rng_below(rng, 3) ? 20 : most);
}

/* ---- each operator on random shapes and layouts ---- */

static void check_rms_norm(struct rng *rng, const xf_context *context)
{
  size_t rows = random_size(rng, MOST_ROWS), n = random_size(rng, MOST_N);
  bool in_place = rng_below(rng, 2);
  struct matrix x = matrix_random(rng, rows, n, rng_below(rng, in_place ? BROADCAST : LAYOUTS));
  struct matrix y = in_place ? x : matrix_new(rows, n, rng_below(rng, BROADCAST));
  float *w = malloc(n * sizeof *w), eps = rng_below(rng, 2) ? 1e-5f : 0;
  fill_array(rng, FILL_NORMAL, n, w);
  float *want = dense_copy(&x.view);
  for (size_t i = 0; i < rows; i++)
    xf_kernels_scalar.rms_norm(n, want + i * n, w, eps, want + i * n);
  xf_error error;
  expect_fine(xf_rms_norm(context, &x.view, w, eps, &y.view, &error), &error);
  expect_rows("rms_norm", context, &y.view, want);
  expect_gaps("rms_norm, between rows", context, &y);
  free(w), free(want);
  guarded_free(&x.memory);
  if (!in_place) guarded_free(&y.memory);
}

/* y: a matrix of its own, gate, or up. */
static void check_silu_mul(struct rng *rng, const xf_context *context)
{
  size_t rows = random_size(rng, MOST_ROWS), n = random_size(rng, MOST_N);
  size_t place = rng_below(rng, 3);
  struct matrix m[] = {
      matrix_random(rng, rows, n, rng_below(rng, place == 0 ? BROADCAST : GAPS)),
      matrix_random(rng, rows, n, rng_below(rng, place == 1 ? BROADCAST : LAYOUTS)),
      matrix_new(rows, n, rng_below(rng, BROADCAST))};
  float *want = dense_copy(&m[0].view), *up = dense_copy(&m[1].view);
  xf_kernels_scalar.silu_mul(rows * n, want, up, want);
  xf_error error;
  expect_fine(xf_silu_mul(context, &m[0].view, &m[1].view, &m[place].view, &error), &error);
  expect_rows("silu_mul", context, &m[place].view, want);
  expect_gaps("silu_mul, between rows", context, &m[place]);
  free(want), free(up);
  for (size_t i = 0; i < 3; i++) guarded_free(&m[i].memory);
}

/* [tokens, heads, head_dim] over rows of heads · (head_dim + pad) floats. */
static void check_rope(struct rng *rng, const xf_context *context)
{
  size_t tokens = random_size(rng, MOST_ROWS), heads = 1 + rng_below(rng, 4);
  size_t half = rng_below(rng, 4) ? rng_below(rng, 40) : XF_HEAD_DIM_MAX / 2;
  size_t d = 2 * half, pad = rng_below(rng, 2) ? 3 : 0, n = heads * (d + pad);
  if (n == 0) return;
  struct matrix m = matrix_random(rng, tokens, n, rng_below(rng, BROADCAST));
  float inv_freq[XF_HEAD_DIM_MAX / 2], cosines[XF_HEAD_DIM_MAX / 2], sines[XF_HEAD_DIM_MAX / 2];
  int64_t positions[MOST_ROWS];
  for (size_t i = 0; i < half; i++) inv_freq[i] = 1 / (1 + 3.5f * (float)i);
  for (size_t i = 0; i < tokens; i++)
    positions[i] = rng_below(rng, 5) ? (int64_t)rng_below(rng, 4096) : 1 << 24;
  float *want = dense_copy(&m.view);
  for (size_t i = 0; i < tokens; i++) {
    xf_kernels_scalar.rope_angles(half, (float)positions[i], inv_freq, cosines, sines);
    for (size_t h = 0; h < heads; h++)
      xf_kernels_scalar.rope(half, cosines, sines, want + i * n + h * (d + pad));
  }
  xf_view x = {m.view.data,
               XF_F32,
               3,
               {(int64_t)tokens, (int64_t)heads, (int64_t)d},
               {m.view.stride[0], (int64_t)((d + pad) * sizeof(float)), sizeof(float)}};
  xf_error error;
  expect_fine(xf_rope(context, &x, positions, inv_freq, &error), &error);
  expect_rows("rope, and what lies behind each head", context, &m.view, want);
  expect_gaps("rope, between rows", context, &m);
  free(want);
  guarded_free(&m.memory);
}

/* Weights of any type, its rows laid out as those of a matrix of floats; w gets what they stand
 * for. The bits lie in the same memory. */
static xf_view weights_of(struct matrix *m, xf_type type)
{
  xf_view view = m->view;
  if (type == XF_F32) return view;
  view.type = type;
  view.stride[1] = sizeof(uint16_t);
  size_t rows = m->view.stride[0] ? (size_t)view.shape[0] : 1;
  for (size_t r = 0; r < rows; r++) {
    float *from = row(&m->view, r);
    uint16_t *to = (uint16_t *)(void *)from;
    for (size_t i = 0; i < (size_t)view.shape[1]; i++) {
      uint16_t bits = type == XF_F16 ? to_f16(from[i]) : to_bf16(from[i]);
      memcpy(to + i, &bits, sizeof bits);
    }
  }
  return view;
}

static float *widened(const xf_view *w)
{
  size_t n = (size_t)w->shape[0], k = (size_t)w->shape[1];
  float *out = malloc(n * k * sizeof *out);
  assert_non_null(out);
  for (size_t i = 0; i < n * k; i++) {
    const char *at = (const char *)row(w, i / k) + i % k * xf_type_size(w->type);
    uint16_t half;
    memcpy(&half, at, sizeof half);
    if (w->type == XF_F32)
      memcpy(&out[i], at, sizeof out[i]);
    else
      out[i] = w->type == XF_F16 ? from_f16(half) : from_bf16(half);
  }
  return out;
}

static void check_linear(struct rng *rng, const xf_context *context)
{
  static const xf_type types[] = {XF_F32, XF_F16, XF_BF16};
  size_t rows = random_size(rng, MOST_ROWS), n = random_size(rng, MOST_N),
         k = random_size(rng, 600);
  struct matrix weights = matrix_random(rng, n, k, rng_below(rng, LAYOUTS));
  struct matrix x = matrix_random(rng, rows, k, rng_below(rng, 4) ? rng_below(rng, 2) : BROADCAST);
  struct matrix y = matrix_new(rows, n, rng_below(rng, 2));
  xf_view w = weights_of(&weights, types[rng_below(rng, 3)]);
  float *wide = widened(&w), *want = malloc(rows * n * sizeof *want);
  assert_non_null(want);
  for (size_t i = 0; i < rows * n; i++)
    want[i] = numerics_linear(k, row(&x.view, i / n), wide + i % n * k, 1);
  xf_linear *linear;
  xf_error error;
  expect_fine(xf_linear_create(context, &w, NULL, &linear, &error), &error);
  guarded_free(&weights.memory); /* it was copied */
  size_t bytes = xf_linear_workspace(context, linear, rows);
  struct guarded workspace = guarded_new(bytes);
  expect_fine(xf_linear_run(context, linear, XF_ACTIVATIONS_INT8, &x.view, &y.view, workspace.data,
                            bytes, &error),
              &error);
  expect_rows("linear", context, &y.view, want);
  expect_gaps("linear, between rows", context, &y);
  xf_linear_destroy(linear);
  free(wide), free(want);
  guarded_free(&workspace), guarded_free(&x.memory), guarded_free(&y.memory);
}

static void test_operators(void **state)
{
  (void)state;
  static void (*const checks[])(struct rng * rng, const xf_context *context) = {
      check_rms_norm, check_silu_mul, check_rope, check_linear};
  static const char *const names[] = {"rms_norm", "silu_mul", "rope", "linear"};
  struct rng rng = {1};
  for (const struct xf_kernels *k = NULL; (k = next_isa(k));)
    for (uint32_t threads = 1; threads <= THREADS; threads += 2) {
      xf_context *context = context_new(k->name, threads, thread_each);
      for (size_t i = 0; i < scaled(60); i++)
        for (size_t op = 0; op < 4; op++) {
          this_case("%s, seed %llu, threads %u", names[op], (unsigned long long)rng.state, threads);
          checks[op](&rng, context);
        }
      xf_context_destroy(context);
    }
}

/* ---- columns beside each other in one buffer ---- */

static void test_side_by_side(void **state)
{
  (void)state;
  enum { ROWS = 7, N = 33 };
  xf_context *context = context_new(NULL, 2, thread_each);
  struct rng rng = {2};
  xf_error error;
  struct matrix both = matrix_random(&rng, ROWS, 2 * N, GAPS);
  xf_view gate = both.view, up;
  gate.shape[1] = N;
  up = gate;
  up.data = row(&gate, 0) + N;
  float *want = dense_copy(&gate), *up_copy = dense_copy(&up);
  xf_kernels_scalar.silu_mul(ROWS * N, want, up_copy, want);
  expect_fine(xf_silu_mul(context, &gate, &up, &gate, &error), &error);
  expect_rows("gate and up in one buffer", context, &gate, want);
  expect_rows("up is as it was", context, &up, up_copy);
  xf_view w = {up_copy, XF_F32, 2, {5, N}, {N * sizeof(float), sizeof(float)}}, y = up;
  y.shape[1] = 5;
  xf_linear *linear;
  expect_fine(xf_linear_create(context, &w, NULL, &linear, &error), &error);
  size_t bytes = xf_linear_workspace(context, linear, ROWS);
  void *workspace = malloc(bytes);
  expect_fine(
      xf_linear_run(context, linear, XF_ACTIVATIONS_INT8, &gate, &y, workspace, SIZE_MAX, &error),
      &error);
  for (size_t i = 0; i < ROWS; i++)
    for (size_t c = 0; c < 5; c++)
      want[i * 5 + c] = numerics_linear(N, row(&gate, i), up_copy + c * N, 1);
  expect_rows("x and y in one buffer", context, &y, want);
  xf_linear_destroy(linear);
  free(workspace), free(want), free(up_copy);
  guarded_free(&both.memory);
  xf_context_destroy(context);
}

/* ---- sizes of nothing and of far too much ---- */

static void test_empty(void **state)
{
  (void)state;
  xf_context *context = context_new(NULL, 1, NULL);
  float x[4] = {1, 2, 3, 4}, w[4] = {1, 1, 1, 1};
  const int64_t position = 7;
  xf_view none = {x, XF_F32, 2, {0, 4}, {16, 4}}, thin = {x, XF_F32, 2, {4, 0}, {4, 4}};
  xf_view no_heads = {x, XF_F32, 3, {1, 0, 4}, {16, 16, 4}};
  xf_view no_columns = {x, XF_F32, 3, {1, 1, 0}, {16, 16, 4}};
  xf_error error;
  for (const xf_view *v = &none; v; v = v == &none ? &thin : NULL) {
    expect_fine(xf_rms_norm(context, v, w, 0, v, &error), &error);
    expect_fine(xf_silu_mul(context, v, v, v, &error), &error);
  }
  expect_fine(xf_rope(context, &no_heads, &position, w, &error), &error);
  expect_fine(xf_rope(context, &no_columns, &position, w, &error), &error);
  const float as_before[] = {1, 2, 3, 4};
  assert_memory_equal(x, as_before, sizeof x);
  xf_linear *linear;
  xf_view one = {w, XF_F32, 2, {1, 4}, {INT64_MIN, 4}}; /* one row: its stride is not read */
  expect_fine(xf_linear_create(context, &one, NULL, &linear, &error), &error);
  static float workspace[XF_LINEAR_SCRATCH];
  float y = 5;
  xf_view out = {&y, XF_F32, 2, {0, 1}, {4, 4}};
  expect_fine(xf_linear_run(context, linear, XF_ACTIVATIONS_INT8, &none, &out, workspace,
                            sizeof workspace, &error),
              &error);
  assert_true(y == 5);
  xf_view row_x = {x, XF_F32, 2, {1, 4}, {INT64_MIN, 4}};
  out = (xf_view){&y, XF_F32, 2, {1, 1}, {INT64_MIN, 4}};
  expect_fine(xf_linear_run(context, linear, XF_ACTIVATIONS_INT8, &row_x, &out, workspace,
                            sizeof workspace, &error),
              &error);
  assert_true(y == 10);
  assert_int_equal(xf_linear_workspace(NULL, linear, 1), 0);
  assert_int_equal(xf_linear_workspace(context, NULL, 1), 0);
  xf_linear_destroy(linear);
  xf_linear_destroy(NULL);
  xf_context_destroy(context);
}

static void test_failing_allocations(void **state)
{
  (void)state;
  xf_context *context = context_new(NULL, 1, NULL);
  static const float w[6 * 10];
  xf_view view = {w, XF_F32, 2, {6, 8}, {10 * sizeof(float), sizeof(float)}};
  xf_linear *linear = NULL;
  size_t allowed = 0;
  for (;; allowed++) {
    xf_error error = {0};
    failing_alloc_after(allowed);
    linear = (xf_linear *)(uintptr_t)w;
    xf_status status = xf_linear_create(context, &view, NULL, &linear, &error);
    if (failing_alloc_off() == 0) break;
    assert_int_equal(status, XF_E_MEMORY);
    assert_int_equal(error.status, XF_E_MEMORY);
    assert_non_null(strstr(error.message, "out of memory"));
    assert_null(linear);
  }
  assert_int_equal(allowed, 2);
  assert_non_null(linear);
  xf_linear_destroy(linear);
  /* More weights than any memory holds, from one row over and over. */
  view = (xf_view){w, XF_F32, 2, {1 << 30, 1 << 30}, {0, sizeof(float)}};
  failing_alloc_largest();
  failing_alloc_after(1); /* sanitizers stop a program that really asks for so much */
  assert_int_equal(xf_linear_create(context, &view, NULL, &linear, NULL), XF_E_MEMORY);
  assert_int_equal(failing_alloc_off(), 1);
  assert_true(failing_alloc_largest() == (size_t)1 << 62);
  xf_context_destroy(context);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_operators), cmocka_unit_test(test_side_by_side),
      cmocka_unit_test(test_empty), cmocka_unit_test(test_failing_allocations),
      cmocka_unit_test(test_required_isas)};
  return cmocka_run_group_tests_name("public operators", tests, NULL, NULL);
}
