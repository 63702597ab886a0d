/* Model folders that cannot be opened: parts that disagree, lack or exceed, damaged files, and
 * allocations that fail. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "exactflash/exactflash.h"
#include "tests/damage.h"
#include "tests/failing_alloc.h"
#include "tests/folder.h"
#include "tests/support.h"
#include "tests/tiny_model.h"

static xf_context *context;

static int start(void **state)
{
  (void)state;
  xf_context_options options = {.struct_size = sizeof options, .threads = 1};
  return xf_context_create(&options, &context, NULL) != XF_OK;
}

static int finish(void **state)
{
  (void)state;
  xf_context_destroy(context);
  return 0;
}

/* Opening fails with that status and a message that holds all three words. */
static void bad_open(xf_status expected, const char *file, const char *one, const char *other)
{
  xf_model *model;
  xf_error error = {0};
  xf_status status = xf_model_open(context, folder, NULL, &model, &error);
  if (status != expected || error.status != expected || !strstr(error.message, file) ||
      !strstr(error.message, one) || !strstr(error.message, other))
    fail_msg("status %d, not %d, with \"%s\", \"%s\" and \"%s\": %s", status, expected, file, one,
             other, error.message);
  assert_null(model);
}

/* config.json of one model, weights of another. */
static void write_mixed(const struct tiny_model *config, const struct tiny_model *weights)
{
  size_t bytes;
  tiny_model_write(config, folder);
  unsigned char *text = read_file(path_of("config.json"), &bytes);
  tiny_model_write(weights, folder);
  write_file(path_of("config.json"), text, bytes);
  free(text);
}

static void test_shapes(void **state)
{
  (void)state;
  const struct tiny_model model = tiny_model_smallest();
  const struct {
    struct tiny_model config;
    const char *tensor, *shapes;
  } rows[] = {
      {{16, 24, 1, 2, 1, .vocab = 21}, "model.embed_tokens.weight", "[20, 16], but config.json"},
      {{32, 24, 1, 2, 1, 20, .head_dim = 8}, "model.embed_tokens.weight", "needs [20, 32]"},
      {{16, 25, 1, 2, 1, .vocab = 20}, "layers.0.mlp.gate_proj.weight", "[24, 16]"},
      {{16, 24, 1, 2, 1, 20, .head_dim = 10}, "self_attn.q_proj.weight", "needs [20, 16]"},
      {{16, 24, 1, 2, 2, .vocab = 20}, "self_attn.k_proj.weight", "needs [16, 16]"},
  };
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    write_mixed(&rows[i].config, &model);
    bad_open(XF_E_SHAPE, "model.safetensors: tensor", rows[i].tensor, rows[i].shapes);
  }
}

static void test_missing_and_surplus(void **state)
{
  (void)state;
  struct tiny_model model = tiny_model_smallest(), deep = model, tied = model;
  deep.layers = 2;
  tied.tied = true;
  write_mixed(&deep, &model);
  bad_open(XF_E_FORMAT, folder, "no tensor", "model.layers.1.input_layernorm.weight");
  write_mixed(&model, &deep);
  bad_open(XF_E_SHAPE, "model.safetensors", "model.layers.1", "num_hidden_layers");
  write_mixed(&model, &tied);
  bad_open(XF_E_FORMAT, folder, "no tensor", "lm_head.weight");
  model.extras = "\"mlp_bias\": true";
  tiny_model_write(&model, folder);
  bad_open(XF_E_UNSUPPORTED, "config.json", "mlp_bias", "false");
  remove(path_of("config.json"));
  bad_open(XF_E_FILE, "config.json", "cannot open", "");
}

/* Replaces the first occurrence in the weights' header by a text of the same length. */
static void replace(const char *from, const char *to)
{
  size_t bytes;
  unsigned char *file = read_file(path_of("model.safetensors"), &bytes);
  unsigned char *found = memmem(file, bytes, from, strlen(from));
  assert_non_null(found);
  assert_int_equal(strlen(from), strlen(to));
  memcpy(found, to, strlen(to));
  write_file(path_of("model.safetensors"), file, bytes);
  free(file);
}

static void test_bias_and_dtype(void **state)
{
  (void)state;
  struct tiny_model model = tiny_model_smallest();
  tiny_model_write(&model, folder);
  /* Escapes make up for the shorter name. */
  replace("model.layers.0.post_attention_layernorm.weight",
          "\\u006dodel.layers.0.self_attn.q_proj.bi\\u0061s");
  bad_open(XF_E_UNSUPPORTED, "model.safetensors", "model.layers.0.self_attn.q_proj.bias", "bias");
  tiny_model_write(&model, folder);
  replace("\"dtype\":\"F32\"", "\"dtype\":\"U32\"");
  bad_open(XF_E_UNSUPPORTED, "model.safetensors", "model.embed_tokens.weight", "not U32");
  tiny_model_write(&model, folder);
  replace("\"dtype\":\"F32\"", "\"dtype\":\"U\n2\"");
  bad_open(XF_E_UNSUPPORTED, "model.safetensors", "model.embed_tokens.weight", "not U?2");
}

static bool attempt(void *arg)
{
  (void)arg;
  xf_model *model;
  xf_error error = {0};
  xf_status status = xf_model_open(context, folder, NULL, &model, &error);
  if (status != error.status || (status != XF_OK && !error.message[0])) fail_msg("no message");
  xf_model_close(model);
  return status == XF_OK;
}

static void test_damage(void **state)
{
  (void)state;
  static const char *const names[] = {"config.json", "model.safetensors.index.json",
                                      "model-00002-of-00002.safetensors"};
  struct tiny_model model = tiny_model_smallest();
  model.type = XF_BF16;
  model.shards = 2;
  tiny_model_write(&model, folder);
  for (size_t i = 0; i < 3; i++) {
    char *path = strdup(path_of(names[i]));
    /* config.json without its last byte lacks a newline only. */
    assert_int_equal(damage_prefixes(path, attempt, NULL), i == 0 ? 1 : 0);
    assert_in_range(damage_bytes(path, 1000, 10000, i + 1, attempt, NULL), 1, 9999);
    assert_true(attempt(NULL));
    free(path);
  }
}

static void test_failing_allocations(void **state)
{
  (void)state;
  struct tiny_model tiny = tiny_model_smallest();
  tiny.type = XF_F16;
  tiny.layers = 2;
  tiny_model_write(&tiny, folder);
  assert_true(failing_alloc_open(context, folder) > 20);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(test_shapes, make_folder, free_folder),
      cmocka_unit_test_setup_teardown(test_missing_and_surplus, make_folder, free_folder),
      cmocka_unit_test_setup_teardown(test_bias_and_dtype, make_folder, free_folder),
      cmocka_unit_test_setup_teardown(test_damage, make_folder, free_folder),
      cmocka_unit_test_setup_teardown(test_failing_allocations, make_folder, free_folder),
  };
  return cmocka_run_group_tests(tests, start, finish);
}
