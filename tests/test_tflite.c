/* .tflite files that are read: the bits of the checkpoints that they were made of. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/compare.h"
#include "tests/folder.h"
#include "tests/model_support.h"
#include "tests/tflite_model.h"

enum { N = 20 };

static xf_context *context;

static int start(void **state)
{
  context = open_context(NULL, 2);
  return make_folder(state);
}

static int finish(void **state)
{
  xf_context_destroy(context);
  return free_folder(state);
}

static float *logits_of(const char *path, const int32_t *ids, size_t n, xf_model_info *info)
{
  xf_model *model = open_model(context, path, NULL);
  xf_cache *cache = new_cache(model, n);
  xf_model_get_info(model, info);
  float *out = new_floats(n * info->vocab_size);
  run(model, cache, ids, n, XF_LOGITS_ALL, out);
  xf_cache_destroy(cache);
  xf_model_close(model);
  return out;
}

/* Both models give these logits; of the .tflite file *info. */
static void expect_same(const char *folder_path, const char *path, xf_model_info *info)
{
  xf_model_info wanted_info;
  int32_t *ids = random_ids(3, N, 20);
  float *wanted = logits_of(folder_path, ids, N, &wanted_info);
  float *got = logits_of(path, ids, N, info);
  assert_int_equal(info->vocab_size, wanted_info.vocab_size);
  assert_int_equal(info->parameters, wanted_info.parameters);
  assert_int_equal(info->tied_embeddings, wanted_info.tied_embeddings);
  expect_bits("logits", xf_context_isa(context), got, wanted, N * info->vocab_size);
  free(ids);
  free(wanted);
  free(got);
}

static void test_layouts(void **state)
{
  (void)state;
  for (int i = 0; i < 16; i++) {
    struct tiny_model tiny = i % 2 ? tiny_model_ragged() : tiny_model_smallest();
    tiny.heads = 6;
    tiny.kv_heads = 3;
    tiny.hidden = 6 * 8;
    tiny.head_dim = 8;
    tiny.layers = 3;
    tiny.tied = i / 2 % 2;
    struct tflite_model model = {
        .interleaved = i / 4 % 2, .outside = i / 8 % 2, .table = i / 2 % 2, .cache = 40};
    this_case("layout %d", i);
    tiny_model_write(&tiny, folder);
    tflite_model_write(&model, folder, path_of("model.tflite"));
    xf_model_info info;
    char *path = strdup(path_of("model.tflite"));
    expect_same(folder, path, &info);
    assert_int_equal(info.max_position_embeddings, 40);
    assert_string_equal(info.rope_scaling, "none");
    assert_true(info.rope_theta == 10000);
    free(path);
  }
}

/* Frequencies that no theta gives. */
static void test_rope(void **state)
{
  (void)state;
  static const struct {
    const char *extras, *scaling;
  } rows[] = {
      {"\"rope_theta\": 500000.0", "none"},
      {"\"rope_theta\": 123456.0", "none"},
      {"\"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 8.0, \"low_freq_factor\": 1.0, "
       "\"high_freq_factor\": 4.0, \"original_max_position_embeddings\": 32}",
       "table"},
  };
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    struct tiny_model tiny = tiny_model_smallest();
    tiny.extras = rows[i].extras;
    tiny_model_write(&tiny, folder);
    char *path = strdup(path_of("model.tflite"));
    tflite_model_write(&(struct tflite_model){0}, folder, path);
    xf_model_info info;
    expect_same(folder, path, &info);
    assert_string_equal(info.rope_scaling, rows[i].scaling);
    free(path);
  }
}

static void test_f16(void **state)
{
  (void)state;
  struct tiny_model tiny = tiny_model_smallest();
  tiny.type = XF_F16;
  tiny_model_write(&tiny, folder);
  char *path = strdup(path_of("model.tflite"));
  tflite_model_write(&(struct tflite_model){.type = XF_F16}, folder, path);
  xf_model_info info;
  expect_same(folder, path, &info);
  assert_int_equal(info.weight_type, XF_F16);
  free(path);
}

/* One scale for each row, as our converter's I8_ROW has them. */
static void test_i8(void **state)
{
  (void)state;
  for (int interleaved = 0; interleaved < 2; interleaved++) {
    struct tiny_model tiny = tiny_model_smallest();
    tiny.heads = 4;
    tiny.kv_heads = 2;
    tiny.head_dim = 8;
    tiny_model_write(&tiny, folder);
    char *path = strdup(path_of("model.tflite")), *gguf = strdup(path_of("model.gguf"));
    tflite_model_write(&(struct tflite_model){.type = XF_I8, .interleaved = interleaved}, folder,
                       path);
    convert_model(folder, gguf, (xf_convert_options){.type = XF_I8_ROW});
    xf_model_info info;
    expect_same(gguf, path, &info);
    assert_int_equal(info.weight_type, XF_I8_ROW);
    free(path);
    free(gguf);
  }
}

/* What LiteRT's own converter has written. */
static void test_fixture(void **state)
{
  (void)state;
  char *path = strdup(fixture("litert/tl-mini_f32_ekv256.tflite"));
  xf_model_info info;
  expect_same(fixture("models/tl-mini-f32"), path, &info);
  assert_int_equal(info.max_position_embeddings, 256);
  assert_int_equal(info.bos_token_id, -1);
  assert_int_equal(info.n_eos_token_ids, 0);
  free(path);
}

/* The tokenizer lies beside the file, and names the ends of texts. */
static void test_tokenizer(void **state)
{
  (void)state;
  xf_tokenizer *tokenizer;
  xf_error error = {0};
  struct tiny_model tiny = tiny_model_smallest();
  tiny_model_write(&tiny, folder);
  char *path = strdup(path_of("model.tflite"));
  tflite_model_write(&(struct tflite_model){0}, folder, path);
  expect_status(xf_tokenizer_open(path, &tokenizer, &error), XF_E_FILE, &error);
  size_t bytes;
  unsigned char *text = read_file(source_path("demo-model/tokenizer.model"), &bytes);
  write_file(path_of("tokenizer.model"), text, bytes);
  free(text);
  expect_ok(xf_tokenizer_open(path, &tokenizer, &error), &error);
  assert_int_equal(xf_tokenizer_eos(tokenizer), 2);
  xf_tokenizer_close(tokenizer);
  xf_model *model = open_model(context, path, NULL);
  xf_model_info info;
  xf_model_get_info(model, &info);
  assert_int_equal(info.bos_token_id, 1);
  assert_int_equal(info.n_eos_token_ids, 1);
  assert_int_equal(info.eos_token_ids[0], 2);
  xf_model_close(model);
  remove(path_of("tokenizer.model"));
  free(path);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_layouts), cmocka_unit_test(test_rope),
      cmocka_unit_test(test_f16),     cmocka_unit_test(test_i8),
      cmocka_unit_test(test_fixture), cmocka_unit_test(test_tokenizer),
  };
  return cmocka_run_group_tests(tests, start, finish);
}
