/* Contexts, layers and models in fast mode: which have it, that their bits are those of
 * docs/numerics.md for any threads and chunks, and what is left alone. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "dispatch/linear.h"
#include "exactflash/linear.h"
#include "tests/compare.h"
#include "tests/fast_mode.h"
#include "tests/isas.h"
#include "tests/model_support.h"

/* ---- contexts ---- */

static xf_context *fast_context(const char *isa, uint32_t threads)
{
  xf_context_options options = {
      .struct_size = sizeof options, .isa = isa, .threads = threads, .fast = 1};
  xf_context *context;
  xf_error error;
  if (xf_context_create(&options, &context, &error)) fail_msg("%s", error.message);
  return context;
}

/* Only who asks, and where it is faster. */
static void test_contexts(void **state)
{
  (void)state;
  for (const struct xf_kernels *isa = NULL; (isa = next_quant_isa(isa));) {
    xf_context *fast = fast_context(isa->name, 1), *exact = open_context(isa->name, 1);
    const struct fast_mode *want = fast_mode_of(isa->name);
    assert_null(xf_context_fast(exact));
    if (want)
      assert_string_equal(xf_context_fast(fast), want->kernels->name);
    else
      assert_null(xf_context_fast(fast));
    xf_context_destroy(fast);
    xf_context_destroy(exact);
  }
}

/* ---- layers ---- */

enum { LAYER_K = 515, LAYER_ROWS = 21, LAYER_PART = 70, LAYER_N = 3 * LAYER_PART };

/* Parts of bf16, f32 and bf16, as floats; panels. */
struct layer {
  float w[LAYER_N * LAYER_K], x[LAYER_ROWS * LAYER_K], y[LAYER_ROWS * LAYER_N];
  uint16_t halves[LAYER_N * LAYER_K];
};

static struct layer *layer_new(void)
{
  struct rng rng = {7};
  struct layer *l = malloc(sizeof *l);
  assert_non_null(l);
  fill_normal(&rng, LAYER_ROWS * LAYER_K, l->x);
  fill_normal(&rng, LAYER_N * LAYER_K, l->w);
  for (size_t i = 0; i < LAYER_N * LAYER_K; i++) {
    l->halves[i] = to_bf16(l->w[i]);
    if (i / LAYER_K / LAYER_PART != 1) l->w[i] = from_bf16(l->halves[i]);
  }
  return l;
}

static void run_layer(const xf_context *context, struct layer *l)
{
  struct xf_matrix matrices[3];
  for (size_t i = 0; i < 3; i++) {
    size_t at = i * LAYER_PART * LAYER_K;
    matrices[i] =
        (struct xf_matrix){.data = i == 1 ? (void *)(l->w + at) : (void *)(l->halves + at),
                           .type = i == 1 ? XF_F32 : XF_BF16,
                           .n = LAYER_PART,
                           .k = LAYER_K};
  }
  struct xf_linear packed;
  xf_error error;
  if (xf_linear_pack(context, matrices, 3, &packed, &error)) fail_msg("%s", error.message);
  struct xf_linear_rows inputs = {.rounded = xf_linear_rounded(context, &packed, LAYER_ROWS),
                                  .k = LAYER_K};
  struct guarded memory = guarded_new(xf_linear_scratch_bytes(context, inputs));
  struct xf_linear_scratch scratch = xf_linear_scratch_in(memory.data, context, inputs);
  memset(l->y, 0xA5, sizeof l->y);
  xf_linear_apply(context, &packed, LAYER_ROWS, l->x, LAYER_K, l->y, LAYER_N, &scratch);
  guarded_free(&memory);
  xf_linear_free(&packed);
}

/* Its bf16 parts are fast where the context is, its f32 part never. */
static void check_layer(const xf_context *context, struct layer *l)
{
  run_layer(context, l);
  const struct fast_mode *fast =
      xf_context_fast(context) ? fast_mode_of(xf_context_isa(context)) : NULL;
  this_case("layer, %u threads, %s", xf_context_threads(context),
            fast ? fast->kernels->name : "exact");
  for (size_t r = 0; r < LAYER_ROWS; r++)
    for (size_t c = 0; c < LAYER_N; c++) {
      const float *x = l->x + r * LAYER_K, *w = l->w + c * LAYER_K;
      bool rounds = fast && c / LAYER_PART != 1;
      float want = rounds ? fast->linear(LAYER_K, x, w, 1) : numerics_linear(LAYER_K, x, w, 1);
      expect_bits("layer", xf_context_isa(context), &l->y[r * LAYER_N + c], &want, 1);
    }
}

static void test_layers(void **state)
{
  (void)state;
  struct layer *l = layer_new();
  for (const struct xf_kernels *isa = NULL; (isa = next_quant_isa(isa));)
    for (uint32_t threads = 1; threads <= 3; threads++) {
      xf_context *context = fast_context(isa->name, threads);
      check_layer(context, l);
      xf_context_destroy(context);
    }
  free(l);
}

static xf_view matrix_of(const void *data, xf_type type, int64_t rows, int64_t columns)
{
  int64_t size = (int64_t)xf_type_size(type);
  return (xf_view){.data = data,
                   .type = type,
                   .rank = 2,
                   .shape = {rows, columns},
                   .stride = {columns * size, size}};
}

/* The same by the public functions. */
static void test_operator(void **state)
{
  (void)state;
  struct layer *l = layer_new();
  xf_context *context = fast_context(NULL, 2);
  const struct fast_mode *fast = fast_mode_of(xf_context_isa(context));
  xf_linear *linear;
  xf_error error = {0};
  xf_view w = matrix_of(l->halves, XF_BF16, LAYER_PART, LAYER_K);
  expect_ok(xf_linear_create(context, &w, NULL, &linear, &error), &error);
  xf_view x = matrix_of(l->x, XF_F32, LAYER_ROWS, LAYER_K);
  xf_view y = matrix_of(l->y, XF_F32, LAYER_ROWS, LAYER_PART);
  size_t bytes = xf_linear_workspace(context, linear, LAYER_ROWS);
  struct guarded memory = guarded_new(bytes);
  expect_ok(xf_linear_run(context, linear, XF_ACTIVATIONS_INT8, &x, &y, memory.data, bytes, &error),
            &error);
  for (size_t i = 0; i < (size_t)LAYER_ROWS * LAYER_PART; i++) {
    const float *row = l->x + i / LAYER_PART * LAYER_K, *column = l->w + i % LAYER_PART * LAYER_K;
    float want =
        fast ? fast->linear(LAYER_K, row, column, 1) : numerics_linear(LAYER_K, row, column, 1);
    expect_bits("operator", xf_context_isa(context), &l->y[i], &want, 1);
  }
  guarded_free(&memory);
  xf_linear_destroy(linear);
  xf_context_destroy(context);
  free(l);
}

/* ---- models ---- */

enum { LENGTH = 45, VOCAB = 133 };

/* Logits [LENGTH][VOCAB] of tokens taken `step` at a time. */
static void run_model(const xf_context *context, const char *folder, const int32_t *ids,
                      size_t step, float *logits)
{
  xf_model *model = open_model(context, folder, NULL);
  xf_cache *cache = new_cache(model, LENGTH);
  for (size_t i = 0; i < LENGTH; i += step) {
    size_t n = LENGTH - i < step ? LENGTH - i : step;
    run(model, cache, ids + i, n, XF_LOGITS_ALL, logits + i * VOCAB);
  }
  xf_cache_destroy(cache);
  xf_model_close(model);
}

/* Other logits than without, near them, and the same for any threads and chunks. */
static void check_model(const struct fast_mode *mode, const char *isa, const char *folder)
{
  const char *name = mode->kernels->name;
  int32_t *ids = random_ids(1, LENGTH, VOCAB);
  size_t n = (size_t)LENGTH * VOCAB;
  float *exact = new_floats(n), *want = new_floats(n), *got = new_floats(n);
  xf_context *context = open_context(isa, 1);
  run_model(context, folder, ids, LENGTH, exact);
  xf_context_destroy(context);
  static const struct {
    uint32_t threads;
    size_t step;
  } tries[] = {{1, LENGTH}, {1, 1}, {2, 7}, {3, LENGTH}, {3, 1}};
  for (size_t i = 0; i < sizeof tries / sizeof *tries; i++) {
    context = fast_context(isa, tries[i].threads);
    this_case("%s, %u threads, %zu at a time", isa, tries[i].threads, tries[i].step);
    run_model(context, folder, ids, tries[i].step, i == 0 ? want : got);
    if (i > 0) expect_bits("fast logits", name, got, want, n);
    xf_context_destroy(context);
  }
  double worst = 0;
  for (size_t i = 0; i < n; i++) worst = fmax(worst, fabs((double)want[i] - (double)exact[i]));
  expect_true("logits differ, a little", name, worst > 0 && worst < 0.5);
  free(exact), free(want), free(got), free(ids);
}

static void test_models(void **state)
{
  (void)state;
  struct tiny_model tiny = tiny_model_grouped();
  tiny.type = XF_BF16;
  char *folder = write_tiny_model(&tiny);
  bool any = false;
  for (const struct xf_kernels *isa = NULL; (isa = next_quant_isa(isa));) {
    const struct fast_mode *mode = fast_mode_of(isa->name);
    any |= mode != NULL;
    if (mode) check_model(mode, isa->name, folder);
  }
  free(folder);
  if (any) return;
  print_message("not run, no context has it on this CPU: fast mode\n");
  skip();
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_contexts),      cmocka_unit_test(test_layers),
      cmocka_unit_test(test_operator),      cmocka_unit_test(test_models),
      cmocka_unit_test(test_required_isas), cmocka_unit_test(test_required_fast)};
  return cmocka_run_group_tests_name("fast_layers", tests, NULL, NULL);
}
