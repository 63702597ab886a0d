/* Every allocation of the model layer fails once: a clean error, and nothing changed. */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/failing_alloc.h"
#include "tests/model_support.h"
#include "tests/spm_writer.h"
#include "tests/support.h"

enum { VOCAB = 61, N = 600, PAST = 10 };

static struct {
  char *folder;
  xf_context *context;
  int32_t *ids;
} rig;

static int rig_open(void **state)
{
  (void)state;
  struct tiny_model tiny = {.hidden = 36,
                            .intermediate = 52,
                            .layers = 2,
                            .heads = 4,
                            .kv_heads = 2,
                            .head_dim = 12,
                            .vocab = VOCAB,
                            .shards = 3,
                            .type = XF_BF16,
                            .seed = 3};
  rig.folder = write_tiny_model(&tiny);
  rig.context = open_context(NULL, 1);
  rig.ids = random_ids(1, N, VOCAB);
  return 0;
}

static int rig_close(void **state)
{
  (void)state;
  xf_context_destroy(rig.context);
  free(rig.ids);
  free(rig.folder);
  return 0;
}

static void test_context(void **state)
{
  (void)state;
  size_t n = 0;
  xf_error error = {0};
  xf_context *context = NULL;
  xf_context_options options = {.struct_size = sizeof options, .threads = 2};
  for (;; n++) {
    failing_alloc_after(n);
    if (!failing_alloc_failed(xf_context_create(&options, &context, &error), &error)) break;
    assert_null(context);
  }
  assert_true(n > 0);
  xf_context_destroy(context);
}

static void test_open(void **state)
{
  (void)state;
  /* seven for each of two layers, and the rest */
  assert_true(failing_alloc_open(rig.context, rig.folder) > 15);
}

static void test_cache(void **state)
{
  (void)state;
  size_t n = 0;
  xf_error error = {0};
  xf_model *model = open_model(rig.context, rig.folder, NULL);
  xf_cache *cache = NULL;
  for (;; n++) {
    failing_alloc_after(n);
    if (!failing_alloc_failed(xf_cache_create(model, N, &cache, &error), &error)) break;
    assert_null(cache);
  }
  assert_true(n > 0);
  xf_cache *from = new_cache(model, N);
  run(model, from, rig.ids, N, XF_LOGITS_NONE, NULL);
  run(model, cache, rig.ids + 5, PAST, XF_LOGITS_NONE, NULL);
  struct exported e = export_cache(model, from, N);
  size_t bytes = xf_cache_bytes(cache);
  for (n = 0;; n++) {
    failing_alloc_after(n);
    xf_status status =
        xf_cache_import(cache, N, (const float *const *)e.k, (const float *const *)e.v, &error);
    if (!failing_alloc_failed(status, &error)) break;
    assert_int_equal(xf_cache_length(cache), PAST);
    assert_int_equal(xf_cache_bytes(cache), bytes);
  }
  assert_true(n > 0);
  expect_same_cache(model, cache, from);
  exported_free(&e);
  xf_cache_destroy(from);
  xf_cache_destroy(cache);
  xf_model_close(model);
}

/* The bits of the logits behind ids, with another model object. */
static void expect_last(const xf_model_options *options, const float *got)
{
  float want[VOCAB];
  xf_model *model = open_model(rig.context, rig.folder, options);
  xf_cache *cache = new_cache(model, N);
  run(model, cache, rig.ids, N, XF_LOGITS_LAST, want);
  assert_memory_equal(got, want, sizeof want);
  xf_cache_destroy(cache);
  xf_model_close(model);
}

/* Two sequences, of which both grow by a page: what fails leaves both as they were, and the same
 * call succeeds at last with the right bits. */
static void test_forward(void **state)
{
  xf_model_options options = {.struct_size = sizeof options,
                              .attention = *(const xf_attention_kind *)*state,
                              .split = XF_SPLIT_ALWAYS,
                              .chunk = 48};
  size_t n = 0;
  float out[2][VOCAB];
  xf_error error = {0};
  xf_model *model = open_model(rig.context, rig.folder, &options);
  xf_cache *empty = new_cache(model, N), *begun = new_cache(model, N);
  run(model, begun, rig.ids, PAST, XF_LOGITS_NONE, NULL);
  size_t bytes = xf_cache_bytes(begun);
  xf_sequence calls[] = {{empty, rig.ids, N, XF_LOGITS_LAST, out[0]},
                         {begun, rig.ids + PAST, N - PAST, XF_LOGITS_LAST, out[1]}};
  for (;; n++) {
    failing_alloc_after(n);
    if (!failing_alloc_failed(xf_forward(model, calls, 2, &error), &error)) break;
    assert_int_equal(xf_cache_length(empty), 0);
    assert_int_equal(xf_cache_bytes(empty), 0);
    assert_int_equal(xf_cache_length(begun), PAST);
    assert_int_equal(xf_cache_bytes(begun), bytes);
  }
  assert_true(n >= 5); /* three pages, the attention's workspace, rows of logits */
  expect_last(&options, out[0]);
  expect_last(&options, out[1]);
  xf_cache_destroy(begun);
  xf_cache_destroy(empty);
  xf_model_close(model);
}

/* The first call of a model makes its workspace, too. */
static void test_first_forward(void **state)
{
  (void)state;
  size_t n = 0;
  float out[VOCAB];
  xf_error error = {0};
  xf_model *model = open_model(rig.context, rig.folder, NULL);
  xf_cache *cache = new_cache(model, N);
  xf_sequence call = {cache, rig.ids, N, XF_LOGITS_LAST, out};
  for (;; n++) {
    failing_alloc_after(n);
    if (!failing_alloc_failed(xf_forward(model, &call, 1, &error), &error)) break;
    assert_int_equal(xf_cache_bytes(cache), 0);
  }
  assert_true(n > 10);
  expect_last(NULL, out);
  xf_cache_destroy(cache);
  xf_model_close(model);
}

enum { STEPS = 8 };

/* A prompt and three tokens, twice. Where allocations fail, each step is made again until it
 * succeeds. */
static void generate(const xf_tokenizer *tokenizer, bool failing, int32_t tokens[STEPS])
{
  xf_model_options chunks = {.struct_size = sizeof chunks, .chunk = 16};
  xf_generate_options options = {
      .struct_size = sizeof options, .temperature = 0.7f, .top_p = 0.9f, .ignore_eos = 1};
  xf_error error = {0};
  xf_generator *g = NULL;
  xf_model *model = open_model(rig.context, rig.folder, &chunks);
  xf_cache *cache = new_cache(model, N);
  size_t failures = 0;
  for (size_t n = 0;; n++, failures++) {
    if (failing) failing_alloc_after(n);
    if (!failing_alloc_failed(xf_generator_create(model, cache, tokenizer, &options, &g, &error),
                              &error))
      break;
    assert_null(g);
  }
  for (size_t step = 0; step < STEPS; step++) {
    for (size_t n = 0;; n++, failures++) {
      size_t length = xf_cache_length(cache), bytes = xf_cache_bytes(cache);
      int done;
      if (failing) failing_alloc_after(n);
      xf_status status = step % 4 == 0
                             ? xf_generator_prompt(g, rig.ids, 40, &error)
                             : xf_generator_next(g, &tokens[step], &done, NULL, NULL, &error);
      if (!failing_alloc_failed(status, &error)) break;
      assert_int_equal(xf_cache_length(cache), length);
      assert_int_equal(xf_cache_bytes(cache), bytes);
    }
  }
  assert_int_equal(failures > 15, failing);
  xf_generator_destroy(g);
  xf_cache_destroy(cache);
  xf_model_close(model);
}

static void test_generator(void **state)
{
  (void)state;
  int32_t want[STEPS] = {0}, got[STEPS] = {0};
  const struct spm_options plain = {0};
  struct message pieces = spm_model(&plain); /* more than VOCAB */
  char *folder = temporary_folder(), path[4096];
  xf_tokenizer *tokenizer = NULL;
  xf_error error = {0};
  snprintf(path, sizeof path, "%s/tokenizer.model", folder);
  write_file(path, pieces.data, pieces.bytes);
  expect_ok(xf_tokenizer_open(path, &tokenizer, &error), &error);
  generate(tokenizer, false, want);
  generate(tokenizer, true, got);
  assert_memory_equal(got, want, sizeof want);
  xf_tokenizer_close(tokenizer);
  free(folder);
  free(pieces.data);
}

int main(void)
{
  static xf_attention_kind kinds[] = {XF_ATTENTION_FLASH, XF_ATTENTION_STANDARD};
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_context),
      cmocka_unit_test(test_open),
      cmocka_unit_test(test_cache),
      cmocka_unit_test(test_first_forward),
      {"test_forward, flash", test_forward, NULL, NULL, &kinds[0]},
      {"test_forward, standard", test_forward, NULL, NULL, &kinds[1]},
      cmocka_unit_test(test_generator),
  };
  return cmocka_run_group_tests(tests, rig_open, rig_close);
}
