/* Conversion: what is converted gives the bits of its checkpoint, carries its plan, and a
 * conversion that fails leaves nothing behind. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/failing_alloc.h"
#include "tests/folder.h"
#include "tests/model_support.h"
#include "tests/tiny_model.h"

enum { TOKENS = 40 };

static xf_status convert(const char *from, const char *to, const xf_convert_options *options,
                         xf_error *error)
{
  xf_context *context = open_context(NULL, 2);
  xf_status status = xf_convert(context, from, to, options, error);
  xf_context_destroy(context);
  return status;
}

/* Logits of all positions of a fixed text; free() them. */
static float *logits_of(const char *path, xf_model_info *info)
{
  xf_context *context = open_context(NULL, 1);
  xf_model *model = open_model(context, path, NULL);
  xf_cache *cache = new_cache(model, TOKENS);
  xf_model_get_info(model, info);
  int32_t *ids = random_ids(3, TOKENS, info->vocab_size);
  float *logits = new_floats(TOKENS * info->vocab_size);
  run(model, cache, ids, TOKENS, XF_LOGITS_ALL, logits);
  free(ids);
  xf_cache_destroy(cache);
  xf_model_close(model);
  xf_context_destroy(context);
  return logits;
}

static void expect_same_model(const char *a, const char *b)
{
  xf_model_info info[2];
  float *logits[2] = {logits_of(a, &info[0]), logits_of(b, &info[1])};
  assert_int_equal(info[0].vocab_size, info[1].vocab_size);
  assert_memory_equal(logits[0], logits[1], TOKENS * info[0].vocab_size * sizeof(float));
  assert_int_equal(info[0].n_eos_token_ids, info[1].n_eos_token_ids);
  assert_memory_equal(info[0].eos_token_ids, info[1].eos_token_ids, sizeof info[0].eos_token_ids);
  assert_int_equal(info[0].max_position_embeddings, info[1].max_position_embeddings);
  assert_int_equal(info[0].tied_embeddings, info[1].tied_embeddings);
  assert_int_equal(info[0].weight_type, info[1].weight_type);
  assert_int_equal(info[0].parameters, info[1].parameters);
  free(logits[0]);
  free(logits[1]);
}

/* Changes a field of config.json. */
static void change_config(const char *source, const char *from, const char *to)
{
  char path[4096];
  size_t bytes;
  snprintf(path, sizeof path, "%s/config.json", source);
  char *text = (char *)read_file(path, &bytes), *whole = malloc(bytes + strlen(to) + 1);
  char *field = strstr(text, from);
  assert_true(field && whole);
  int length = sprintf(whole, "%.*s%s%s", (int)(field - text), text, to, field + strlen(from));
  write_file(path, whole, (size_t)length);
  free(whole);
  free(text);
}

/* Every kind of checkpoint; and a GGUF file again, which is then the same file. */
static void test_as_it_is(void **state)
{
  (void)state;
  static const char llama3[] =
      "\"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 8.0, \"low_freq_factor\": 1.1, "
      "\"high_freq_factor\": 4.0, \"original_max_position_embeddings\": 64}, \"rope_theta\": "
      "500000.0";
  struct tiny_model models[] = {
      tiny_model_grouped(),
      {.hidden = 64,
       .intermediate = 96,
       .layers = 3,
       .heads = 2,
       .kv_heads = 1,
       .vocab = 50,
       .type = XF_BF16,
       .seed = 2,
       .tied = true,
       .shards = 3},
      {.hidden = 64,
       .intermediate = 96,
       .layers = 1,
       .heads = 4,
       .kv_heads = 4,
       .vocab = 77,
       .type = XF_F16,
       .seed = 3,
       .max_positions = 99,
       .extras = "\"rope_scaling\": {\"type\": \"linear\", \"factor\": 2.5}"}};
  models[0].extras = llama3;
  for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
    static const char *const eos[] = {"\"eos_token_id\": [5, 2, 7]", "\"eos_token_id\": null",
                                      "\"eos_token_id\": 4"};
    char first[64], second[64], *source = write_tiny_model(&models[i]);
    change_config(source, "\"eos_token_id\": 2", eos[i]);
    snprintf(first, sizeof first, "%s", path_of("first.gguf"));
    snprintf(second, sizeof second, "%s", path_of("second.gguf"));
    convert_model(source, first, (xf_convert_options){.force = 1});
    expect_same_model(source, first);
    convert_model(first, second, (xf_convert_options){.force = 1});
    size_t bytes[2];
    unsigned char *files[2] = {read_file(first, &bytes[0]), read_file(second, &bytes[1])};
    expect_same_model(source, second);
    assert_int_equal(bytes[0], bytes[1]);
    free(files[0]);
    free(files[1]);
    free(source);
  }
}

/* Trained and scaled models of other software. */
static void test_fixtures(void **state)
{
  (void)state;
  static const char *const names[] = {"models/tl-mini-bf16",      "models/f16-sharded",
                                      "models/tied-gqa3-bf16",    "models/llama3-rope-new",
                                      "models/linear-rope-old",   "stories260k/hf",
                                      "gguf/llama3-rope-F16.gguf"};
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    char *source = strdup(fixture(names[i]));
    convert_model(source, path_of("x.gguf"), (xf_convert_options){.force = 1});
    expect_same_model(source, path_of("x.gguf"));
    free(source);
  }
}

/* What every weight fits into changes nothing; the demo model's bf16 does not all fit f16. */
static void test_types(void **state)
{
  (void)state;
  struct tiny_model tiny = tiny_model_ragged();
  tiny.type = XF_BF16;
  char *source = write_tiny_model(&tiny);
  xf_model_info info[2];
  convert_model(source, path_of("x.gguf"), (xf_convert_options){.type = XF_F32});
  float *want = logits_of(source, &info[0]), *got = logits_of(path_of("x.gguf"), &info[1]);
  assert_memory_equal(want, got, TOKENS * info[0].vocab_size * sizeof *want);
  assert_int_equal(info[1].weight_type, XF_F32);
  free(got);
  convert_model(source, path_of("x.gguf"), (xf_convert_options){.type = XF_F16, .force = 1});
  got = logits_of(path_of("x.gguf"), &info[1]);
  assert_int_equal(info[1].weight_type, XF_F16);
  for (size_t i = 0; i < TOKENS * info[0].vocab_size; i++)
    assert_true(got[i] - want[i] < 1e-4f && want[i] - got[i] < 1e-4f);
  free(want);
  free(got);
  free(source);
}

/* Rows too long for one scale's sums become Q8_0: what is written can be opened. */
static void test_long_rows(void **state)
{
  (void)state;
  struct tiny_model tiny = tiny_model_smallest();
  tiny.intermediate = 131072 + 32;
  tiny.type = XF_BF16;
  char *source = write_tiny_model(&tiny);
  convert_model(source, path_of("x.gguf"), (xf_convert_options){.type = XF_I8_ROW});
  xf_model_info info;
  free(logits_of(path_of("x.gguf"), &info));
  assert_int_equal(info.n_types, 3);
  for (size_t i = 0; i < 3; i++)
    if (info.types[i].type == XF_Q8_0)
      assert_int_equal(info.types[i].parameters, tiny.intermediate * tiny.hidden);
    else
      assert_true(info.types[i].type == XF_I8_ROW || info.types[i].type == XF_F32);
  free(source);
}

/* The same bytes, whoever computes them. */
static void test_same_bytes(void **state)
{
  (void)state;
  struct tiny_model tiny = tiny_model_ragged();
  char *source = write_tiny_model(&tiny);
  unsigned char *want = NULL;
  size_t want_bytes = 0;
  xf_convert_options options = {.struct_size = sizeof options, .type = XF_BF16, .force = 1};
  for (size_t i = 0; xf_isa_name(i); i++)
    for (uint32_t threads = 1; threads < 4 && xf_isa_supported(i); threads += 2) {
      xf_context *context = open_context(xf_isa_name(i), threads);
      xf_error error = {0};
      size_t bytes;
      expect_ok(xf_convert(context, source, path_of("x.gguf"), &options, &error), &error);
      xf_context_destroy(context);
      unsigned char *got = read_file(path_of("x.gguf"), &bytes);
      if (want) {
        assert_int_equal(bytes, want_bytes);
        assert_memory_equal(got, want, bytes);
        free(got);
      } else {
        want = got;
        want_bytes = bytes;
      }
    }
  free(want);
  free(source);
}

/* ---- failures ---- */

static int cancel_after(void *arg, const char *stage, size_t done, size_t total)
{
  assert_string_equal(stage, "convert");
  assert_true(done <= total);
  return done == *(size_t *)arg;
}

static void test_cancel(void **state)
{
  (void)state;
  struct tiny_model tiny = tiny_model_smallest();
  char *source = write_tiny_model(&tiny);
  for (size_t after = 0; after < 12; after += 3) {
    xf_convert_options options = {
        .struct_size = sizeof options, .progress = cancel_after, .progress_arg = &after};
    xf_error error = {0};
    expect_status(convert(source, path_of("x.gguf"), &options, &error), XF_E_CANCELLED, &error);
    assert_int_equal(files_in_folder(), 0);
  }
  free(source);
}

/* The model would be computed without them. */
static void test_more_layers_than_the_config(void **state)
{
  (void)state;
  struct tiny_model tiny = tiny_model_ragged();
  char *source = write_tiny_model(&tiny);
  change_config(source, "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 1");
  for (int packed = 0; packed < 2; packed++) {
    xf_convert_options options = {.struct_size = sizeof options, .packed = packed};
    xf_error error = {0};
    xf_status status = convert(source, path_of("x.gguf"), &options, &error);
    assert_non_null(strstr(error.message, "model.layers.1.input_layernorm.weight"));
    expect_status(status, XF_E_SHAPE, &error);
    assert_int_equal(files_in_folder(), 0);
  }
  free(source);
}

static void test_output(void **state)
{
  (void)state;
  struct tiny_model tiny = tiny_model_smallest();
  char *source = write_tiny_model(&tiny);
  xf_error error = {0};
  write_file(path_of("x.gguf"), "old", 3);
  expect_status(convert(source, path_of("x.gguf"), NULL, &error), XF_E_FILE, &error);
  assert_int_equal(files_in_folder(), 1);
  convert_model(source, path_of("x.gguf"), (xf_convert_options){.force = 1});
  assert_int_equal(files_in_folder(), 1);
  expect_status(convert(source, path_of("no/x.gguf"), NULL, &error), XF_E_FILE, &error);
  xf_convert_options force = {.struct_size = sizeof force, .force = 1};
  expect_status(convert(source, folder, &force, &error), XF_E_FILE, &error);
  expect_status(convert(source, NULL, NULL, &error), XF_E_ARGUMENT, &error);
  expect_status(convert(path_of("none"), path_of("y.gguf"), NULL, &error), XF_E_FILE, &error);
  expect_status(convert("", path_of("y.gguf"), NULL, &error), XF_E_FILE, &error);
  convert_model(source, path_of("named.tflite"), (xf_convert_options){0});
  expect_same_model(source, path_of("named.tflite"));
  remove(path_of("named.tflite"));
  xf_convert_options bad = {.struct_size = sizeof bad, .type = XF_BOOL};
  expect_status(convert(source, path_of("y.gguf"), &bad, &error), XF_E_UNSUPPORTED, &error);
  assert_int_equal(files_in_folder(), 1);
  free(source);
}

/* Overwrites the last float of the only safetensors file, a weight of the last tensor. */
static void spoil(const char *source, float value)
{
  char path[4096];
  size_t bytes;
  snprintf(path, sizeof path, "%s/model.safetensors", source);
  unsigned char *data = read_file(path, &bytes);
  memcpy(data + bytes - sizeof value, &value, sizeof value);
  write_file(path, data, bytes);
  free(data);
}

/* Converted to another type; as they are they are copied. */
static void test_weights_that_do_not_fit(void **state)
{
  (void)state;
  static const struct {
    float value;
    xf_type type;
  } cases[] = {{1e6f, XF_F16}, {3.4e38f, XF_BF16}, {-1.0f / 0.0f, XF_F16}, {0.0f / 0.0f, XF_BF16}};
  struct tiny_model tiny = tiny_model_smallest();
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    char *source = write_tiny_model(&tiny);
    spoil(source, cases[i].value);
    xf_convert_options options = {.struct_size = sizeof options, .type = cases[i].type};
    xf_error error = {0};
    xf_status status = convert(source, path_of("x.gguf"), &options, &error);
    assert_non_null(strstr(error.message, xf_type_name(cases[i].type)));
    expect_status(status, XF_E_FORMAT, &error);
    assert_int_equal(files_in_folder(), 0);
    free(source);
  }
}

static void test_failing_allocations(void **state)
{
  (void)state;
  struct tiny_model tiny = tiny_model_smallest();
  char *source = write_tiny_model(&tiny);
  xf_convert_options options = {.struct_size = sizeof options, .type = XF_BF16};
  xf_context *context = open_context(NULL, 1);
  size_t n = 0;
  for (;; n++) {
    xf_error error = {0};
    failing_alloc_after(n);
    xf_status status = xf_convert(context, source, path_of("x.gguf"), &options, &error);
    if (!failing_alloc_failed(status, &error)) break;
    assert_int_equal(files_in_folder(), 0);
  }
  assert_true(n > 20);
  xf_context_destroy(context);
  free(source);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(test_as_it_is, make_folder, free_folder),
      cmocka_unit_test_setup_teardown(test_fixtures, make_folder, free_folder),
      cmocka_unit_test_setup_teardown(test_types, make_folder, free_folder),
      cmocka_unit_test_setup_teardown(test_long_rows, make_folder, free_folder),
      cmocka_unit_test_setup_teardown(test_same_bytes, make_folder, free_folder),
      cmocka_unit_test_setup_teardown(test_cancel, make_folder, free_folder),
      cmocka_unit_test_setup_teardown(test_more_layers_than_the_config, make_folder, free_folder),
      cmocka_unit_test_setup_teardown(test_output, make_folder, free_folder),
      cmocka_unit_test_setup_teardown(test_weights_that_do_not_fit, make_folder, free_folder),
      cmocka_unit_test_setup_teardown(test_failing_allocations, make_folder, free_folder),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
