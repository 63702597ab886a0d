/* The KV cache, of every type: capacity, the last slot, cost, truncation, export and import. */
#include "exactflash/kv_cache.h"

#include <fenv.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/compare.h"
#include "tests/model_support.h"

enum { LENGTH = 1100, VOCAB = 61, LAYERS = 2, KV_HEADS = 2, HEAD_DIM = 12, PAGE = 512 };

/* A model, LENGTH ids and their logits from one prefill. type, 0 or one of caches, is set before.
 */
static struct {
  xf_type type;
  xf_context *context;
  char *folder;
  xf_model *model;
  int32_t *ids;
  float *want; /* [LENGTH, VOCAB] */
} rig;

static int rig_open(void **state)
{
  (void)state;
  struct tiny_model tiny = {.hidden = 36,
                            .intermediate = 52,
                            .layers = LAYERS,
                            .heads = 4,
                            .kv_heads = KV_HEADS,
                            .head_dim = HEAD_DIM,
                            .vocab = VOCAB,
                            .seed = 3};
  char *folder = write_tiny_model(&tiny);
  rig.context = open_context(NULL, 1);
  xf_model_options options = {.struct_size = sizeof options, .cache_type = rig.type};
  rig.model = open_model(rig.context, folder, &options);
  rig.folder = folder;
  rig.ids = random_ids(1, LENGTH, VOCAB);
  rig.want = new_floats((size_t)LENGTH * VOCAB);
  xf_cache *cache = new_cache(rig.model, LENGTH + 100);
  run(rig.model, cache, rig.ids, LENGTH, XF_LOGITS_ALL, rig.want);
  xf_cache_destroy(cache);
  return 0;
}

static int rig_close(void **state)
{
  (void)state;
  xf_model_close(rig.model);
  xf_context_destroy(rig.context);
  free(rig.folder);
  free(rig.want);
  free(rig.ids);
  return 0;
}

/* Runs ids up to position `end`, if there are any, and compares their logits. */
static void continue_to(xf_cache *cache, size_t end)
{
  size_t first = xf_cache_length(cache), rows = end - first;
  if (rows == 0) return;
  float *out = new_floats(rows * VOCAB);
  run(rig.model, cache, rig.ids + first, rows, XF_LOGITS_ALL, out);
  assert_memory_equal(out, rig.want + first * VOCAB, rows * VOCAB * sizeof *out);
  assert_int_equal(xf_cache_length(cache), end);
  free(out);
}

/* From a position on, as far as XF_TEST_SCALE lets the tests go: to the end. */
static size_t far_from(size_t position)
{
  return position + scaled(LENGTH - position);
}

static xf_cache *filled_cache(size_t capacity, size_t length)
{
  xf_cache *cache = new_cache(rig.model, capacity);
  run(rig.model, cache, rig.ids, length, XF_LOGITS_NONE, NULL);
  return cache;
}

/* Bytes of d numbers of a position. */
static size_t row_bytes(size_t d)
{
  if (rig.type == XF_I8) return d + sizeof(float);
  return d * (rig.type ? xf_type_size(rig.type) : sizeof(float));
}

static void test_create(void **state)
{
  (void)state;
  xf_error error = {0};
  xf_cache *cache = NULL;
  expect_status(xf_cache_create(NULL, 1, &cache, &error), XF_E_ARGUMENT, &error);
  expect_status(xf_cache_create(rig.model, 1, NULL, &error), XF_E_ARGUMENT, &error);
  expect_status(xf_cache_create(rig.model, 0, &cache, &error), XF_E_ARGUMENT, &error);
  expect_status(xf_cache_create(rig.model, SIZE_MAX, &cache, &error), XF_E_ARGUMENT, &error);
  assert_null(cache);
  cache = new_cache(rig.model, 9);
  assert_int_equal(xf_cache_capacity(cache), 9);
  assert_int_equal(xf_cache_length(cache), 0);
  assert_int_equal(xf_cache_bytes(cache), 0);
  xf_cache_destroy(cache);
  xf_cache_destroy(NULL);
}

/* Decode into the last slot attends to all keys, its own too; one more is refused. */
static void test_last_slot(void **state)
{
  (void)state;
  static const size_t capacities[] = {1, 2, 15, 16, 17, 63, 64, 65, 128, 129, LENGTH};
  float logits[VOCAB];
  for (size_t i = 0; i < sizeof capacities / sizeof *capacities; i++) {
    size_t n = capacities[i];
    xf_cache *cache = new_cache(rig.model, n);
    if (n > 1) continue_to(cache, n - 1);
    continue_to(cache, n);
    xf_cache *copy = filled_cache(n, n);
    xf_error error = {0};
    size_t bytes = xf_cache_bytes(cache);
    const xf_sequence more = {cache, rig.ids, 1, XF_LOGITS_LAST, logits};
    expect_status(xf_forward(rig.model, &more, 1, &error), XF_E_CACHE_FULL, &error);
    assert_int_equal(xf_cache_bytes(cache), bytes);
    expect_same_cache(rig.model, cache, copy);
    xf_cache_destroy(copy);
    xf_cache_destroy(cache);
  }
}

static void test_cost(void **state)
{
  (void)state;
  static const size_t lengths[] = {1, PAGE, PAGE + 1, LENGTH};
  size_t before = 0;
  for (size_t i = 0; i < 4; i++) {
    xf_cache *tight = filled_cache(lengths[i], lengths[i]);
    xf_cache *wide = filled_cache(1000000, lengths[i]);
    size_t bytes = xf_cache_bytes(wide), pages = (lengths[i] + PAGE - 1) / PAGE;
    assert_int_equal(bytes, xf_cache_bytes(tight));
    assert_int_equal(bytes, pages * (i ? xf_cache_bytes(tight) / pages : bytes));
    assert_true(bytes >= lengths[i] * 2 * LAYERS * KV_HEADS * row_bytes(HEAD_DIM));
    if (i > 0) assert_int_equal(bytes > before, lengths[i] > PAGE);
    before = bytes;
    assert_int_equal(xf_cache_truncate(wide, 1), XF_OK);
    assert_true(xf_cache_bytes(wide) <= bytes);
    assert_int_equal(xf_cache_bytes(wide), bytes / pages);
    assert_int_equal(xf_cache_truncate(wide, 0), XF_OK);
    assert_int_equal(xf_cache_bytes(wide), 0);
    xf_cache_destroy(wide);
    xf_cache_destroy(tight);
  }
}

static void test_truncate(void **state)
{
  (void)state;
  static const size_t lengths[] = {149, 129, 128, 127, 65, 64, 20, 16, 5, 1, 0};
  xf_cache *cache = filled_cache(LENGTH, LENGTH);
  assert_int_equal(xf_cache_truncate(NULL, 0), XF_E_ARGUMENT);
  assert_int_equal(xf_cache_truncate(cache, LENGTH + 1), XF_E_ARGUMENT);
  assert_int_equal(xf_cache_length(cache), LENGTH);
  for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
    assert_int_equal(xf_cache_truncate(cache, lengths[i]), XF_OK);
    assert_int_equal(xf_cache_length(cache), lengths[i]);
    continue_to(cache, lengths[i] + 1);
    continue_to(cache, far_from(lengths[i]));
  }
  xf_cache_destroy(cache);
}

static xf_status import(xf_cache *cache, size_t length, const struct exported *e, xf_error *error)
{
  return xf_cache_import(cache, length, (const float *const *)e->k, (const float *const *)e->v,
                         error);
}

/* What was truncated away, not even NaN, is seen again. */
static void test_truncated_nans(void **state)
{
  (void)state;
  xf_error error = {0};
  xf_cache *cache = filled_cache(LENGTH, LENGTH);
  struct exported e = export_cache(rig.model, cache, LENGTH);
  for (size_t layer = 0; layer < e.layers; layer++)
    for (size_t i = 19 * KV_HEADS * HEAD_DIM; i < e.floats; i++)
      e.k[layer][i] = e.v[layer][i] = i % 2 ? NAN : INFINITY;
  expect_ok(import(cache, LENGTH, &e, &error), &error);
  assert_int_equal(xf_cache_truncate(cache, 19), XF_OK);
  continue_to(cache, 20);
  continue_to(cache, LENGTH);
  exported_free(&e);
  xf_cache_destroy(cache);
}

static void expect_zeros(const float *x, size_t n)
{
  for (size_t i = 0; i < n; i++) assert_true(x[i] == 0 && !signbit(x[i]));
}

/* Position i of an export of 100 stands at i · kv_heads · head_dim, whatever max_seq_len is. */
static void test_export(void **state)
{
  (void)state;
  xf_cache *cache = filled_cache(LENGTH, 70);
  struct exported wide = export_cache(rig.model, cache, 100);
  struct exported tight = export_cache(rig.model, cache, 70);
  for (size_t layer = 0; layer < LAYERS; layer++) {
    assert_memory_equal(wide.k[layer], tight.k[layer], tight.floats * sizeof(float));
    assert_memory_equal(wide.v[layer], tight.v[layer], tight.floats * sizeof(float));
    expect_zeros(wide.k[layer] + tight.floats, wide.floats - tight.floats);
    expect_zeros(wide.v[layer] + tight.floats, wide.floats - tight.floats);
  }
  /* A position's rows do not depend on those behind it. */
  assert_int_equal(xf_cache_truncate(cache, 33), XF_OK);
  struct exported first = export_cache(rig.model, cache, 33);
  assert_memory_equal(first.k[1], wide.k[1], first.floats * sizeof(float));
  assert_memory_equal(first.v[1], wide.v[1], first.floats * sizeof(float));
  xf_error error = {0};
  expect_status(xf_cache_export(cache, 32, wide.k, wide.v, &error), XF_E_SHAPE, &error);
  expect_status(xf_cache_export(NULL, 100, wide.k, wide.v, &error), XF_E_ARGUMENT, &error);
  expect_status(xf_cache_export(cache, 100, NULL, wide.v, &error), XF_E_ARGUMENT, &error);
  expect_status(xf_cache_export(cache, 100, wide.k, NULL, &error), XF_E_ARGUMENT, &error);
  exported_free(&first);
  exported_free(&tight);
  exported_free(&wide);
  xf_cache_destroy(cache);
}

/* A cache that was imported goes on with the bits of the one that was exported. */
static void test_import(void **state)
{
  (void)state;
  static const size_t lengths[] = {0, 1, 16, 63, 64, 65, 149};
  for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
    xf_error error = {0};
    xf_cache *from = filled_cache(LENGTH, 149);
    xf_cache_truncate(from, lengths[i]);
    struct exported e = export_cache(rig.model, from, LENGTH);
    xf_cache *to = filled_cache(LENGTH, 140); /* is replaced */
    expect_ok(import(to, lengths[i], &e, &error), &error);
    expect_same_cache(rig.model, from, to);
    assert_int_equal(xf_cache_bytes(to), xf_cache_bytes(from));
    continue_to(to, far_from(lengths[i]));
    exported_free(&e);
    xf_cache_destroy(to);
    xf_cache_destroy(from);
  }
}

static void test_import_refused(void **state)
{
  (void)state;
  xf_error error = {0};
  xf_cache *from = filled_cache(LENGTH, LENGTH), *to = filled_cache(80, 10);
  struct exported e = export_cache(rig.model, from, LENGTH);
  size_t bytes = xf_cache_bytes(to);
  expect_status(import(to, 81, &e, &error), XF_E_CACHE_FULL, &error);
  expect_status(import(NULL, 1, &e, &error), XF_E_ARGUMENT, &error);
  expect_status(xf_cache_import(to, 1, NULL, (const float *const *)e.v, &error), XF_E_ARGUMENT,
                &error);
  expect_status(xf_cache_import(to, 1, (const float *const *)e.k, NULL, &error), XF_E_ARGUMENT,
                &error);
  assert_int_equal(xf_cache_bytes(to), bytes);
  assert_int_equal(xf_cache_length(to), 10);
  continue_to(to, 80);
  exported_free(&e);
  xf_cache_destroy(to);
  xf_cache_destroy(from);
}

static void expect_rounded(const float *got, const float *exact, size_t n)
{
  float *want = new_floats(n);
  memcpy(want, exact, n * sizeof *want);
  round_rows(rig.type ? rig.type : XF_F32, n / HEAD_DIM, HEAD_DIM, want);
  expect_bits("of the cache's type", "any", got, want, n);
  free(want);
}

/* The first layer's K and V do not depend on attention: a cache of f32 holds what is rounded. So
 * does an import, in any rounding mode, and in the same memory as its type is of f32's: rows of K
 * are HEAD_DIM long, those of V 16. */
static void test_rounding(void **state)
{
  (void)state;
  xf_error error = {0};
  xf_model *plain = open_model(rig.context, rig.folder, NULL);
  xf_cache *exact = new_cache(plain, LENGTH), *cache = filled_cache(LENGTH, LENGTH);
  run(plain, exact, rig.ids, LENGTH, XF_LOGITS_NONE, NULL);
  struct exported want = export_cache(plain, exact, LENGTH);
  struct exported got = export_cache(rig.model, cache, LENGTH);
  expect_rounded(got.k[0], want.k[0], got.floats);
  expect_rounded(got.v[0], want.v[0], got.floats);
  exported_free(&got);
  fesetround(FE_UPWARD);
  xf_status status = import(cache, LENGTH, &want, &error);
  fesetround(FE_TONEAREST);
  expect_ok(status, &error);
  fesetround(FE_DOWNWARD);
  got = export_cache(rig.model, cache, LENGTH);
  fesetround(FE_TONEAREST);
  for (size_t layer = 0; layer < LAYERS; layer++) {
    expect_rounded(got.k[layer], want.k[layer], got.floats);
    expect_rounded(got.v[layer], want.v[layer], got.floats);
  }
  assert_int_equal(xf_cache_bytes(cache) * sizeof(float) * (HEAD_DIM + 16),
                   xf_cache_bytes(exact) * (row_bytes(HEAD_DIM) + row_bytes(16)));
  exported_free(&got), exported_free(&want);
  xf_cache_destroy(cache), xf_cache_destroy(exact);
  xf_model_close(plain);
}

static void test_types_refused(void **state)
{
  (void)state;
  static const xf_type bad[] = {XF_I8_ROW, XF_BOOL, XF_Q8_0, (xf_type)-1, (xf_type)99};
  xf_error error = {0};
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    xf_model *model;
    xf_model_options options = {.struct_size = sizeof options, .cache_type = bad[i]};
    xf_status status = xf_model_open(rig.context, rig.folder, &options, &model, &error);
    assert_non_null(strstr(error.message, "cache_type"));
    expect_status(status, XF_E_ARGUMENT, &error);
    assert_null(model);
  }
}

int main(void)
{
  static const xf_type types[] = {0, XF_F32, XF_F16, XF_BF16, XF_I8};
  int failures = 0;
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_create),   cmocka_unit_test(test_last_slot),
      cmocka_unit_test(test_cost),     cmocka_unit_test(test_truncate),
      cmocka_unit_test(test_export),   cmocka_unit_test(test_truncated_nans),
      cmocka_unit_test(test_import),   cmocka_unit_test(test_import_refused),
      cmocka_unit_test(test_rounding), cmocka_unit_test(test_types_refused),
  };
  for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
    rig.type = types[i];
    failures += cmocka_run_group_tests_name(types[i] ? xf_type_name(types[i]) : "default", tests,
                                            rig_open, rig_close);
  }
  return failures;
}
