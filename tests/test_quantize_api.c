/* xf_quantize: what xf_convert writes, of any strides and on any number of threads; and its misuse.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "exactflash/convert.h"
#include "exactflash/linear.h"
#include "model/gguf.h"
#include "tests/attention_call.h"
#include "tests/folder.h"
#include "tests/isas.h"
#include "tests/model_support.h"

static const xf_type types[] = {XF_F32,  XF_F16,  XF_BF16, XF_I8_ROW, XF_Q8_0, XF_Q4_0,
                                XF_Q4_1, XF_Q5_0, XF_Q5_1, XF_Q4_K,   XF_Q5_K, XF_Q6_K};
enum { TYPES = sizeof types / sizeof *types, POISON = 0xA5 };

static xf_view floats_view(const float *data, size_t n, size_t k)
{
  return (xf_view){
      data, XF_F32, 2, {(int64_t)n, (int64_t)k}, {(int64_t)(k * sizeof(float)), sizeof(float)}};
}

static xf_view rows_view(const void *data, xf_type type, size_t n, size_t k)
{
  int64_t stride = (int64_t)xf_type_row_bytes(type, k), size = (int64_t)xf_type_size(type);
  return (xf_view){data, type, 2, {(int64_t)n, (int64_t)k}, {stride, size}};
}

static xf_view scales_view(const float *data, size_t n)
{
  return (xf_view){data, XF_F32, 1, {(int64_t)n}, {sizeof(float)}};
}

/* ---- what xf_convert writes ---- */

static void check_tensor(const xf_context *context, xf_type type, const struct xf_gguf *converted,
                         const struct xf_tensor *plain)
{
  size_t n = plain->shape[0], k = plain->shape[1], bytes = n * xf_type_row_bytes(type, k);
  float *x = new_floats(n * k);
  memcpy(x, plain->data, n * k * sizeof *x);
  struct guarded out = guarded_new(bytes), scales = guarded_new(n * sizeof(float));
  xf_view from = floats_view(x, n, k), to = rows_view(out.data, type, n, k);
  xf_view scale = scales_view(scales.data, n);
  xf_error error;
  this_case("%s as %s", plain->name, xf_type_name(type));
  expect_ok(xf_quantize(context, &from, &to, type == XF_I8_ROW ? &scale : NULL, &error), &error);
  const struct xf_tensor *theirs =
      xf_tensor_find(converted->tensors, converted->n_tensors, plain->name);
  assert_memory_equal(out.data, theirs->data, bytes);
  if (type == XF_I8_ROW) {
    char name[64];
    snprintf(name, sizeof name, "%.*s.scale", (int)(strlen(plain->name) - strlen(".weight")),
             plain->name);
    theirs = xf_tensor_find(converted->tensors, converted->n_tensors, name);
    assert_non_null(theirs);
    assert_memory_equal(scales.data, theirs->data, n * sizeof(float));
  }
  guarded_free(&out), guarded_free(&scales);
  free(x);
}

static void test_equals_convert(void **state)
{
  (void)state;
  struct xf_gguf plain, converted;
  char source[4096];
  xf_error error;
  snprintf(source, sizeof source, "%s", fixture("gguf/tl-mini-F32.gguf"));
  expect_ok(xf_gguf_open(source, &plain, &error), &error);
  for (size_t t = 0; t < TYPES; t++) {
    xf_context *context = open_context(NULL, 1 + t % 3);
    xf_convert_options options = {.struct_size = sizeof options, .type = types[t]};
    size_t compared = 0;
    const char *path = path_of(xf_type_name(types[t]));
    expect_ok(xf_convert(context, source, path, &options, &error), &error);
    expect_ok(xf_gguf_open(path, &converted, &error), &error);
    for (size_t i = 0; i < plain.n_tensors; i++)
      if (plain.tensors[i].rank == 2) {
        check_tensor(context, types[t], &converted, &plain.tensors[i]);
        compared++;
      }
    assert_int_equal(compared, 16);
    xf_gguf_close(&converted);
    xf_context_destroy(context);
  }
  xf_gguf_close(&plain);
}

/* ---- strides ---- */

/* Rows at any distance, backwards too: the bytes of dense ones, and none between them. */
static void check_strides(const xf_context *context, struct rng *rng, xf_type type, const float *x,
                          size_t n, size_t k)
{
  size_t bytes = xf_type_row_bytes(type, k), size = xf_type_size(type) ? xf_type_size(type) : 1;
  size_t step = bytes + size * rng_below(rng, 9), odd = xf_type_size(type) ? 0 : 1;
  bool backwards = rng_below(rng, 2);
  unsigned char *dense = malloc(n * bytes), *wide = malloc(odd + n * step);
  float *scales = new_floats(2 * n);
  xf_view from = floats_view(x, n, k), to = rows_view(dense, type, n, k);
  xf_view scale = scales_view(scales, n);
  const xf_view *used = type == XF_I8_ROW ? &scale : NULL;
  xf_error error;
  expect_ok(xf_quantize(context, &from, &to, used, &error), &error);
  memset(wide, POISON, odd + n * step);
  to.data = wide + odd + (backwards ? (n - 1) * step : 0);
  to.stride[0] = backwards ? -(int64_t)step : (int64_t)step;
  to.stride[1] = size;
  scale.data = scales + n;
  expect_ok(xf_quantize(context, &from, &to, used, &error), &error);
  for (size_t r = 0; r < n; r++) {
    const unsigned char *row = wide + odd + (backwards ? n - 1 - r : r) * step;
    assert_memory_equal(row, dense + r * bytes, bytes);
    for (size_t i = bytes; i < step; i++) assert_int_equal(row[i], POISON);
  }
  if (used) assert_memory_equal(scales, scales + n, n * sizeof *scales);
  free(dense), free(wide), free(scales);
}

static void test_strides(void **state)
{
  (void)state;
  struct rng rng = {1};
  for (size_t i = 0; i < scaled(80); i++) {
    xf_type type = types[i % TYPES];
    xf_context *context = context_new(NULL, 1 + (uint32_t)rng_below(&rng, 3), NULL);
    size_t n = 1 + rng_below(&rng, 20), k = 256 * (1 + rng_below(&rng, 2));
    float *x = new_floats(n * k);
    fill_normal(&rng, n * k, x);
    this_case("case %zu, %s [%zu, %zu]", i, xf_type_name(type), n, k);
    check_strides(context, &rng, type, x, n, k);
    free(x);
    xf_context_destroy(context);
  }
}

static void test_row_bytes(void **state)
{
  (void)state;
  static const size_t of_256[] = {
      [XF_F32] = 1024,   [XF_F16] = 512,  [XF_BF16] = 512, [XF_I8] = 256,   [XF_BOOL] = 256,
      [XF_I8_ROW] = 256, [XF_Q8_0] = 272, [XF_Q4_0] = 144, [XF_Q4_1] = 160, [XF_Q5_0] = 176,
      [XF_Q5_1] = 192,   [XF_Q4_K] = 144, [XF_Q5_K] = 176, [XF_Q6_K] = 210};
  for (xf_type type = XF_F32; type <= XF_Q6_K; type++) {
    assert_int_equal(xf_type_row_bytes(type, 256), of_256[type]);
    assert_int_equal(xf_type_row_bytes(type, 512), 2 * of_256[type]);
    assert_int_equal(xf_type_row_bytes(type, SIZE_MAX / 256 * 256), 0);
    size_t block = type >= XF_Q4_K ? 256 : type >= XF_Q8_0 ? 32 : 1;
    if (block > 1) assert_int_equal(xf_type_row_bytes(type, 256 + block / 2), 0);
    assert_int_equal(xf_type_row_bytes(type, block), of_256[type] / (256 / block));
  }
  assert_int_equal(xf_type_row_bytes(0, 256), 0);
  assert_int_equal(xf_type_row_bytes((xf_type)99, 256), 0);
}

/* ---- misuse ---- */

enum { N = 3, K = 256 };

/* A call that is all right, to be spoiled. */
static struct host {
  xf_context *context;
  float x[N * K], out[N * K], scales[N];
  xf_view from, to, scale;
} host;

static void reset(xf_type type)
{
  struct rng rng = {7};
  fill_normal(&rng, N * K, host.x);
  host.from = floats_view(host.x, N, K);
  host.to = rows_view(host.out, type, N, K);
  host.scale = scales_view(host.scales, N);
}

static void refuse(const xf_view *scales, xf_status want, const char *word)
{
  xf_error error = {0};
  xf_status status = xf_quantize(host.context, &host.from, &host.to, scales, &error);
  if (!strstr(error.message, word)) fail_msg("no %s in: %s", word, error.message);
  expect_status(status, want, &error);
}

static void refuse_weights(xf_type type, const xf_view *scales)
{
  static const float bad[] = {NAN, INFINITY, -INFINITY};
  for (size_t i = 0; i < 3; i++) {
    reset(type);
    host.x[2 * K + 5] = host.x[K + 255] = bad[i];
    refuse(scales, XF_E_ARGUMENT, "x: row 1 has a weight");
  }
  reset(type);
  host.x[2 * K] = 1e30f;
  if (type == XF_F32 || type == XF_BF16 || type == XF_I8_ROW) return;
  refuse(scales, XF_E_ARGUMENT, "x: row 2 has a weight that is not finite or too large");
}

static void refuse_views(xf_type type, const xf_view *scales)
{
  reset(type), host.from.shape[1] = K - 32, refuse(scales, XF_E_SHAPE, "x: shape[1]");
  reset(type), host.from.shape[0] = N - 1, refuse(scales, XF_E_SHAPE, "x: shape[0]");
  reset(type), host.from.type = XF_F16, refuse(scales, XF_E_UNSUPPORTED, "x: ");
  reset(type), host.from.stride[1] = 8, refuse(scales, XF_E_UNSUPPORTED, "x: stride[1]");
  reset(type), host.from.data = NULL, refuse(scales, XF_E_ARGUMENT, "x: data is NULL");
  reset(type), host.from.data = host.out, refuse(scales, XF_E_ARGUMENT, "w: overlaps x");
  reset(type), host.to.data = NULL, refuse(scales, XF_E_ARGUMENT, "w: data is NULL");
  reset(type), host.to.rank = 1, refuse(scales, XF_E_SHAPE, "w: rank 1");
  reset(type), host.to.stride[0] = 0, refuse(scales, XF_E_ARGUMENT, "share memory");
  reset(type), host.to.stride[0] -= 4, refuse(scales, XF_E_ARGUMENT, "share memory");
  reset(type), host.to.shape[0] = host.scale.shape[0] = 0, refuse(scales, XF_E_SHAPE, "is empty");
}

static void test_misuse(void **state)
{
  (void)state;
  host.context = context_new(NULL, 2, NULL);
  for (size_t t = 0; t < TYPES; t++) {
    bool row = types[t] == XF_I8_ROW;
    const xf_view *scales = row ? &host.scale : NULL;
    this_case("%s", xf_type_name(types[t]));
    refuse_weights(types[t], scales);
    refuse_views(types[t], scales);
    reset(types[t]), refuse(row ? NULL : &host.scale, XF_E_ARGUMENT, "scales: ");
    if (xf_type_row_bytes(types[t], 48) == 0)
      reset(types[t]), host.to.shape[1] = 48, refuse(scales, XF_E_SHAPE, "needs a multiple of");
  }
  reset(XF_I8_ROW), host.scale.data = host.x,
                    refuse(&host.scale, XF_E_ARGUMENT, "scales: overlaps");
  reset(XF_I8_ROW), host.scale.data = host.out, refuse(&host.scale, XF_E_ARGUMENT, "scales: over");
  reset(XF_I8), refuse(NULL, XF_E_UNSUPPORTED, "w: type i8");
  reset(XF_F32), host.to.type = (xf_type)99, refuse(NULL, XF_E_UNSUPPORTED, "w: type");
  reset(XF_Q8_0);
  xf_error error = {0};
  expect_status(xf_quantize(NULL, &host.from, &host.to, NULL, &error), XF_E_ARGUMENT, &error);
  expect_status(xf_quantize(host.context, NULL, &host.to, NULL, &error), XF_E_ARGUMENT, &error);
  expect_status(xf_quantize(host.context, &host.from, NULL, NULL, &error), XF_E_ARGUMENT, &error);
  expect_ok(xf_quantize(host.context, &host.from, &host.to, NULL, &error), &error);
  xf_context_destroy(host.context);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(test_equals_convert, make_folder, free_folder),
      cmocka_unit_test(test_strides), cmocka_unit_test(test_row_bytes),
      cmocka_unit_test(test_misuse)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
