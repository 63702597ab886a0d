/* Plans: what a conversion writes, a model finds and a generator follows; and files with plans that
 * cannot be. */
#include <stdlib.h>
#include <string.h>

#include "model/gguf_write.h"
#include "model/model.h"
#include "tests/folder.h"
#include "tests/gguf_model.h"
#include "tests/model_support.h"

static const xf_plan plan = {.prefill_seq_lens = {3, 8, 20},
                             .n_prefill_seq_lens = 3,
                             .kv_cache_max_len = 50,
                             .attention = XF_ATTENTION_STANDARD};

static void test_plan(void **state)
{
  (void)state;
  struct tiny_model tiny = tiny_model_smallest();
  char *source = write_tiny_model(&tiny);
  xf_plan got;
  convert_model(source, path_of("x.gguf"), (xf_convert_options){.plan = plan});
  xf_context *context = open_context(NULL, 1);
  xf_model *model = open_model(context, path_of("x.gguf"), NULL);
  xf_model_get_plan(model, &got);
  assert_memory_equal(&got, &plan, sizeof plan);
  xf_model_close(model);
  /* A plan does not survive a conversion that brings another or none. */
  convert_model(path_of("x.gguf"), path_of("x.gguf"), (xf_convert_options){0});
  model = open_model(context, path_of("x.gguf"), NULL);
  xf_model_get_plan(model, &got);
  assert_int_equal(got.kv_cache_max_len, 0);
  xf_model_close(model);
  xf_context_destroy(context);
  free(source);
}

struct chunks {
  size_t done[16], n;
};

static int note_chunk(void *arg, const char *stage, size_t done, size_t total)
{
  struct chunks *chunks = arg;
  (void)total;
  if (strcmp(stage, "prefill") == 0) chunks->done[chunks->n++] = done;
  return 0;
}

static void expect_chunks(const char *path, uint32_t chunk, const size_t *want, size_t n)
{
  struct chunks chunks = {0};
  xf_error error = {0};
  xf_generator *generator;
  xf_model_options options = {.struct_size = sizeof options,
                              .chunk = chunk,
                              .attention = XF_ATTENTION_PLANNED,
                              .progress = note_chunk,
                              .progress_arg = &chunks};
  xf_context *context = open_context(NULL, 1);
  xf_model *model = open_model(context, path, &options);
  assert_int_equal(model->options.attention, XF_ATTENTION_STANDARD);
  xf_cache *cache = new_cache(model, 50);
  int32_t *ids = random_ids(1, 45, 20);
  expect_ok(xf_generator_create(model, cache, NULL, NULL, &generator, &error), &error);
  expect_ok(xf_generator_prompt(generator, ids, 45, &error), &error);
  assert_int_equal(chunks.n, n);
  assert_memory_equal(chunks.done, want, n * sizeof *want);
  free(ids);
  xf_generator_destroy(generator);
  xf_cache_destroy(cache);
  xf_model_close(model);
  xf_context_destroy(context);
}

/* The longest chunk that is not longer than what is left; and what is left. */
static void test_planned_chunks(void **state)
{
  (void)state;
  struct tiny_model tiny = tiny_model_smallest();
  char *source = write_tiny_model(&tiny);
  convert_model(source, path_of("x.gguf"), (xf_convert_options){.plan = plan});
  expect_chunks(path_of("x.gguf"), 0, (const size_t[]){0, 20, 40, 43, 45}, 5);
  expect_chunks(path_of("x.gguf"), 16, (const size_t[]){0, 16, 32, 45}, 4);
  free(source);
}

static void test_impossible_plans(void **state)
{
  (void)state;
  struct tiny_model tiny = tiny_model_smallest(); /* 2048 positions */
  char *source = write_tiny_model(&tiny);
  xf_context *context = open_context(NULL, 1);
  const xf_plan plans[] = {
      {.kv_cache_max_len = 2049},
      {.prefill_seq_lens = {3}, .n_prefill_seq_lens = 1},
      {.attention = XF_ATTENTION_STANDARD},
      {.kv_cache_max_len = 50, .attention = XF_ATTENTION_PLANNED},
      {.kv_cache_max_len = 50, .prefill_seq_lens = {51}, .n_prefill_seq_lens = 1},
      {.kv_cache_max_len = 50, .prefill_seq_lens = {8, 8}, .n_prefill_seq_lens = 2},
      {.kv_cache_max_len = 50, .prefill_seq_lens = {0}, .n_prefill_seq_lens = 1},
      {.kv_cache_max_len = 50, .prefill_seq_lens = {1}, .n_prefill_seq_lens = 17}};
  for (size_t i = 0; i < sizeof plans / sizeof *plans; i++) {
    xf_convert_options options = {.struct_size = sizeof options, .plan = plans[i]};
    xf_error error = {0};
    expect_status(xf_convert(context, source, path_of("x.gguf"), &options, &error), XF_E_ARGUMENT,
                  &error);
    assert_int_equal(files_in_folder(), 0);
  }
  xf_context_destroy(context);
  free(source);
}

/* ---- files that others may have written ---- */

struct fault {
  const char *key, *words;
  uint32_t value; /* where the two below are not given */
  const char *text;
  const double *list;
  size_t n;
};

static void add_fault(struct xf_gguf_writer *writer, const void *arg)
{
  const struct fault *fault = arg;
  if (fault->text)
    xf_gguf_add_string(writer, fault->key, fault->text);
  else if (fault->list)
    xf_gguf_add_array(writer, fault->key, XF_GGUF_F64, fault->list, fault->n);
  else
    xf_gguf_add_u32(writer, fault->key, fault->value);
}

static void test_bad_files(void **state)
{
  (void)state;
  static const double llama3[] = {8, 4, 1, 64}, nan_factor[] = {0.0 / 0.0, 1, 4, 64};
  static const struct fault faults[] = {
      {.key = "exactflash.kv_cache_max_len", .words = "2048", .value = 2049},
      {.key = "exactflash.kv_cache_max_len", .words = "kv_cache_max_len", .value = 0},
      {.key = "exactflash.kv_cache_max_len", .words = "kv_cache_max_len", .text = "50"},
      {.key = "exactflash.prefill_seq_lens", .words = "prefill_seq_lens", .value = 64},
      {.key = "exactflash.prefill_seq_lens", .words = "prefill_seq_lens", .list = llama3, .n = 1},
      {.key = "exactflash.attention", .words = "fast", .text = "fast"},
      {.key = "exactflash.attention", .words = "plan", .text = "standard"},
      {.key = "exactflash.eos_token_ids", .words = "eos_token_ids", .value = 1},
      {.key = "exactflash.rope.llama3", .words = "low_freq_factor", .list = llama3, .n = 4},
      {.key = "exactflash.rope.llama3", .words = "low_freq_factor", .list = llama3, .n = 3},
      {.key = "exactflash.rope.llama3", .words = "low_freq_factor", .list = nan_factor, .n = 4}};
  struct tiny_model tiny = tiny_model_smallest();
  char *source = write_tiny_model(&tiny), *good = strdup(path_of("good.gguf"));
  convert_model(source, good, (xf_convert_options){0});
  xf_context *context = open_context(NULL, 1);
  for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
    struct gguf_edit edit = {.drop = faults[i].key, .add = add_fault, .arg = &faults[i]};
    gguf_copy(good, path_of("bad.gguf"), &edit);
    xf_model *model;
    xf_error error = {0};
    xf_status status = xf_model_open(context, path_of("bad.gguf"), NULL, &model, &error);
    if (!strstr(error.message, faults[i].words)) fail_msg("%zu: %s", i, error.message);
    expect_status(status, XF_E_FORMAT, &error);
  }
  xf_context_destroy(context);
  free(good);
  free(source);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(test_plan, make_folder, free_folder),
      cmocka_unit_test_setup_teardown(test_planned_chunks, make_folder, free_folder),
      cmocka_unit_test_setup_teardown(test_impossible_plans, make_folder, free_folder),
      cmocka_unit_test_setup_teardown(test_bad_files, make_folder, free_folder),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
