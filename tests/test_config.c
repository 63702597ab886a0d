/* config.json: what it may say, what is refused, and with which words. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/config.h"
#include "model/json.h"
#include "tests/damage.h"
#include "tests/failing_alloc.h"
#include "tests/folder.h"
#include "tests/support.h"

static const char BASE[] =
    "{\"architectures\":[\"LlamaForCausalLM\"],\"model_type\":\"llama\",\"hidden_act\":\"silu\","
    "\"hidden_size\":64,\"intermediate_size\":160,\"num_hidden_layers\":3,"
    "\"num_attention_heads\":4,\"num_key_value_heads\":2,\"vocab_size\":100,"
    "\"max_position_embeddings\":512,\"rms_norm_eps\":1e-05,\"rope_theta\":10000.0,"
    "\"rope_scaling\":null,\"tie_word_embeddings\":false,\"attention_bias\":false,"
    "\"bos_token_id\":1,\"eos_token_id\":2}";

static xf_status read_text(const char *text, size_t bytes, struct xf_config *config,
                           xf_error *error)
{
  char path[4096];
  snprintf(path, sizeof path, "%s/config.json", folder);
  write_file(path, text, bytes);
  return xf_config_read(folder, config, error);
}

/* BASE with changes: a JSON object whose fields replace those of BASE; "delete" as a value removes
 * one. */
static char *changed(const char *changes)
{
  cJSON *base = cJSON_Parse(BASE), *edits = cJSON_Parse(changes);
  assert_non_null(base);
  if (!edits) fail_msg("bad test row: %s", changes);
  for (cJSON *edit = edits->child; edit; edit = edit->next) {
    cJSON_DeleteItemFromObject(base, edit->string);
    if (!cJSON_IsString(edit) || strcmp(edit->valuestring, "delete") != 0)
      cJSON_AddItemToObject(base, edit->string, cJSON_Duplicate(edit, 1));
  }
  char *text = cJSON_PrintUnformatted(base);
  cJSON_Delete(base);
  cJSON_Delete(edits);
  return text;
}

static xf_status read_changed(const char *changes, struct xf_config *config, xf_error *error)
{
  char *text = changed(changes);
  xf_status status = read_text(text, strlen(text), config, error);
  free(text);
  return status;
}

static struct xf_config good(const char *changes)
{
  struct xf_config config;
  xf_error error = {0};
  if (read_changed(changes, &config, &error) != XF_OK) fail_msg("%s: %s", changes, error.message);
  return config;
}

/* Fails with that status, and a message that names the file and has all the words (split by '|').
 */
static void bad(const char *changes, xf_status expected, const char *words)
{
  struct xf_config config;
  xf_error error = {0};
  xf_status status = read_changed(changes, &config, &error);
  if (status != expected || error.status != expected)
    fail_msg("%s: status %d, not %d: %s", changes, status, expected, error.message);
  assert_non_null(strstr(error.message, "config.json: "));
  char copy[200], *rest = copy, *word;
  snprintf(copy, sizeof copy, "%s", words);
  while ((word = strsep(&rest, "|")))
    if (!strstr(error.message, word))
      fail_msg("%s: no \"%s\" in: %s", changes, word, error.message);
  assert_int_equal(read_changed(changes, &config, NULL), expected);
}

static void test_sizes(void **state)
{
  (void)state;
  struct xf_config config = good("{}");
  assert_int_equal(config.hidden, 64);
  assert_int_equal(config.intermediate, 160);
  assert_int_equal(config.layers, 3);
  assert_int_equal(config.heads, 4);
  assert_int_equal(config.kv_heads, 2);
  assert_int_equal(config.head_dim, 16);
  assert_int_equal(config.vocab, 100);
  assert_int_equal(config.max_positions, 512);
  assert_true(config.rms_eps == 1e-5f);
  assert_false(config.tied);
  assert_int_equal(good("{\"head_dim\":48}").head_dim, 48);
  assert_int_equal(good("{\"head_dim\":null}").head_dim, 16);
  assert_int_equal(good("{\"head_dim\":32,\"hidden_size\":50}").hidden, 50);
  assert_int_equal(good("{\"num_key_value_heads\":\"delete\"}").kv_heads, 4);
  assert_int_equal(good("{\"num_key_value_heads\":null}").kv_heads, 4);
  assert_true(good("{\"tie_word_embeddings\":true}").tied);
  assert_false(good("{\"tie_word_embeddings\":\"delete\"}").tied);
  assert_int_equal(good("{\"hidden_size\":64.0}").hidden, 64);
  assert_int_equal(good("{\"max_position_embeddings\":\"delete\"}").max_positions, 2048);
  assert_true(good("{\"rms_norm_eps\":\"delete\"}").rms_eps == 1e-6f);
  good("{\"architectures\":\"delete\"}");
  good("{\"model_type\":\"delete\",\"hidden_act\":\"delete\"}");
  good("{\"unknown\":{\"nested\":[1,{\"x\":[]}]},\"partial_rotary_factor\":1.0}");
}

static void test_ids(void **state)
{
  (void)state;
  struct xf_config config = good("{}");
  assert_int_equal(config.bos, 1);
  assert_int_equal(config.n_eos, 1);
  assert_int_equal(config.eos[0], 2);
  config = good("{\"eos_token_id\":[7,99,0],\"bos_token_id\":null}");
  assert_int_equal(config.bos, -1);
  assert_int_equal(config.n_eos, 3);
  assert_int_equal(config.eos[1], 99);
  assert_int_equal(good("{\"eos_token_id\":null}").n_eos, 0);
  assert_int_equal(good("{\"eos_token_id\":[]}").n_eos, 0);
  config = good("{\"eos_token_id\":\"delete\",\"bos_token_id\":\"delete\"}");
  assert_int_equal(config.bos, 1);
  assert_int_equal(config.eos[0], 2);
  config = good("{\"eos_token_id\":\"delete\",\"bos_token_id\":\"delete\",\"vocab_size\":1}");
  assert_int_equal(config.bos, -1);
  assert_int_equal(config.n_eos, 0);
  bad("{\"eos_token_id\":100}", XF_E_FORMAT, "eos_token_id|vocab_size (100)");
  bad("{\"bos_token_id\":-1}", XF_E_FORMAT, "bos_token_id");
  bad("{\"bos_token_id\":\"1\"}", XF_E_FORMAT, "bos_token_id");
  bad("{\"eos_token_id\":[1,2.5]}", XF_E_FORMAT, "eos_token_id");
  bad("{\"eos_token_id\":[1,2,3,4,5,6,7,8,9]}", XF_E_UNSUPPORTED, "eos_token_id|at most 8");
}

static void test_bad_fields(void **state)
{
  (void)state;
  static const char *const required[] = {"hidden_size", "intermediate_size", "num_hidden_layers",
                                         "num_attention_heads", "vocab_size"};
  static const char *const optional[] = {"num_key_value_heads", "max_position_embeddings",
                                         "head_dim"};
  static const char *const wrong[] = {"\"64\"", "-4",   "2.5", "0", "1e18",
                                      "1e300",  "true", "[4]", "{}"};
  char changes[200];
  for (size_t i = 0; i < 8; i++) {
    const char *field = i < 5 ? required[i] : optional[i - 5];
    for (size_t j = 0; j < sizeof wrong / sizeof *wrong; j++) {
      snprintf(changes, sizeof changes, "{\"%s\":%s}", field, wrong[j]);
      bad(changes, XF_E_FORMAT, field);
    }
    if (i >= 5) continue;
    snprintf(changes, sizeof changes, "{\"%s\":\"delete\"}", field);
    bad(changes, XF_E_FORMAT, field);
    snprintf(changes, sizeof changes, "{\"%s\":null}", field);
    bad(changes, XF_E_FORMAT, field);
  }
  bad("{\"num_key_value_heads\":3}", XF_E_FORMAT,
      "num_attention_heads (4)|num_key_value_heads (3)");
  bad("{\"hidden_size\":66}", XF_E_FORMAT, "hidden_size (66)|head_dim");
  bad("{\"head_dim\":7}", XF_E_UNSUPPORTED, "head_dim|8 to 256|7");
  bad("{\"head_dim\":9}", XF_E_UNSUPPORTED, "head_dim|even");
  bad("{\"head_dim\":258}", XF_E_UNSUPPORTED, "head_dim|258");
  bad("{\"rms_norm_eps\":\"small\"}", XF_E_FORMAT, "rms_norm_eps");
  bad("{\"rms_norm_eps\":-1e-5}", XF_E_FORMAT, "rms_norm_eps");
  bad("{\"tie_word_embeddings\":1}", XF_E_FORMAT, "tie_word_embeddings|true or false");
}

static void test_unsupported(void **state)
{
  (void)state;
  bad("{\"architectures\":[\"MistralForCausalLM\"]}", XF_E_UNSUPPORTED,
      "architectures|LlamaForCausalLM|MistralForCausalLM");
  bad("{\"architectures\":[]}", XF_E_FORMAT, "architectures");
  bad("{\"architectures\":\"LlamaForCausalLM\"}", XF_E_FORMAT, "architectures");
  bad("{\"architectures\":\"delete\",\"model_type\":\"delete\"}", XF_E_FORMAT, "architectures");
  bad("{\"model_type\":\"qwen2\"}", XF_E_UNSUPPORTED, "model_type|llama|qwen2");
  bad("{\"model_type\":3}", XF_E_FORMAT, "model_type");
  bad("{\"hidden_act\":\"gelu\"}", XF_E_UNSUPPORTED, "hidden_act|silu|gelu");
  bad("{\"attention_bias\":true}", XF_E_UNSUPPORTED, "attention_bias|false");
  bad("{\"attention_bias\":\"no\"}", XF_E_FORMAT, "attention_bias");
  bad("{\"mlp_bias\":true}", XF_E_UNSUPPORTED, "mlp_bias|false");
  bad("{\"quantization_config\":{\"bits\":4}}", XF_E_UNSUPPORTED, "quantization_config|bfloat16");
  bad("{\"partial_rotary_factor\":0.5}", XF_E_UNSUPPORTED, "partial_rotary_factor|0.5");
}

#define LLAMA3                                                                                     \
  "\"factor\":8.0,\"low_freq_factor\":1.0,\"high_freq_factor\":4.0,"                               \
  "\"original_max_position_embeddings\":256"

static void test_rope_spellings(void **state)
{
  (void)state;
  struct xf_config config = good("{\"rope_theta\":\"delete\",\"rope_scaling\":\"delete\"}");
  assert_int_equal(config.rope.type, XF_ROPE_NONE);
  assert_true(config.rope.theta == 10000);
  config = good("{\"rope_theta\":500000,\"rope_scaling\":{\"type\":\"linear\",\"factor\":2}}");
  assert_int_equal(config.rope.type, XF_ROPE_LINEAR);
  assert_true(config.rope.theta == 500000 && config.rope.factor == 2);
  config = good("{\"rope_scaling\":{\"rope_type\":\"llama3\"," LLAMA3 "}}");
  assert_int_equal(config.rope.type, XF_ROPE_LLAMA3);
  assert_true(config.rope.theta == 10000 && config.rope.factor == 8);
  assert_true(config.rope.low_freq_factor == 1 && config.rope.high_freq_factor == 4);
  assert_true(config.rope.original_max_positions == 256);
  config = good("{\"rope_theta\":\"delete\",\"rope_parameters\":{\"rope_theta\":5e5,"
                "\"rope_type\":\"llama3\"," LLAMA3 "}}");
  assert_int_equal(config.rope.type, XF_ROPE_LLAMA3);
  assert_true(config.rope.theta == 500000 && config.rope.factor == 8);
  config = good("{\"rope_theta\":\"delete\",\"rope_parameters\":{\"rope_theta\":123,"
                "\"rope_type\":\"default\"}}");
  assert_int_equal(config.rope.type, XF_ROPE_NONE);
  assert_true(config.rope.theta == 123);
  config = good("{\"rope_theta\":7e4,\"rope_parameters\":{\"rope_type\":\"linear\",\"factor\":4},"
                "\"rope_scaling\":{\"type\":\"linear\",\"factor\":4}}");
  assert_true(config.rope.theta == 70000 && config.rope.factor == 4);
}

static void test_bad_rope(void **state)
{
  (void)state;
  bad("{\"rope_scaling\":{\"type\":\"dynamic\",\"factor\":2}}", XF_E_UNSUPPORTED,
      "rope_scaling.type|llama3|linear|dynamic");
  bad("{\"rope_parameters\":{\"rope_type\":\"yarn\"}}", XF_E_UNSUPPORTED,
      "rope_parameters.rope_type|yarn");
  bad("{\"rope_scaling\":{\"type\":\"linear\"}}", XF_E_FORMAT, "rope_scaling.factor|missing");
  bad("{\"rope_scaling\":{\"factor\":2}}", XF_E_FORMAT, "rope_scaling.rope_type|missing");
  bad("{\"rope_scaling\":{\"type\":\"linear\",\"factor\":0}}", XF_E_FORMAT, "rope_scaling.factor");
  bad("{\"rope_scaling\":{\"type\":\"linear\",\"factor\":\"2\"}}", XF_E_FORMAT,
      "rope_scaling.factor");
  bad("{\"rope_scaling\":{\"type\":7}}", XF_E_FORMAT, "rope_scaling.type");
  bad("{\"rope_scaling\":\"linear\"}", XF_E_FORMAT, "rope_scaling|object");
  bad("{\"rope_parameters\":[1]}", XF_E_FORMAT, "rope_parameters|object");
  bad("{\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8,\"low_freq_factor\":1,"
      "\"high_freq_factor\":4}}",
      XF_E_FORMAT, "rope_scaling.original_max_position_embeddings|missing");
  bad("{\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8,\"low_freq_factor\":4,"
      "\"high_freq_factor\":4,\"original_max_position_embeddings\":64}}",
      XF_E_FORMAT, "high_freq_factor|greater");
  bad("{\"rope_theta\":0}", XF_E_FORMAT, "rope_theta");
  bad("{\"rope_theta\":1e300}", XF_E_FORMAT, "rope_theta");
  bad("{\"rope_parameters\":{\"rope_theta\":20000}}", XF_E_FORMAT, "rope_parameters|disagrees");
  bad("{\"rope_parameters\":{\"rope_type\":\"default\"},"
      "\"rope_scaling\":{\"type\":\"linear\",\"factor\":4}}",
      XF_E_FORMAT, "rope_parameters|disagrees");
  bad("{\"rope_scaling\":{\"type\":\"default\",\"partial_rotary_factor\":0.25}}", XF_E_UNSUPPORTED,
      "rope_scaling.partial_rotary_factor");
}

static void check_frequencies(const struct xf_config *config, const float *expected)
{
  float inv_freq[128];
  xf_rope_inv_freq(config, inv_freq);
  for (size_t i = 0; i < config->head_dim / 2; i++) {
    double difference = (double)inv_freq[i] / (double)expected[i] - 1;
    if (!(fabs(difference) <= 0x1p-22)) fail_msg("inv_freq[%zu]: off by %g", i, difference);
  }
}

/* Against 1.0 / base ** (arange(0, dim, 2).float() / dim), _compute_linear_scaling_rope_parameters
 * and _compute_llama3_parameters of transformers, evaluated with numpy in float32; numpy's power is
 * good to two units in the last place. */
static void test_frequencies(void **state)
{
  (void)state;
  static const float plain[] = {0x1.000000p+0,  0x1.5cd250p-1,  0x1.db4c78p-2,  0x1.43d136p-2,
                                0x1.b93a6ep-3,  0x1.2c9af4p-3,  0x1.99999ap-4,  0x1.170ea8p-4,
                                0x1.7c3d2ap-5,  0x1.030dc6p-5,  0x1.60fb8ep-6,  0x1.e0f7ecp-7,
                                0x1.47ae14p-7,  0x1.be7dd2p-8,  0x1.3030f4p-8,  0x1.9e7c70p-9,
                                0x1.1a62d2p-9,  0x1.80c65ap-10, 0x1.0624dep-10, 0x1.653174p-11,
                                0x1.e6b4bcp-12, 0x1.4b96c0p-12, 0x1.c3d14ep-13, 0x1.33d1e4p-13};
  static const float linear[] = {0x1.000000p-1,  0x1.1feb34p-2,  0x1.43d136p-3,  0x1.6c310ep-4,
                                 0x1.99999ap-5,  0x1.ccab84p-6,  0x1.030dc6p-6,  0x1.235a72p-7,
                                 0x1.47ae14p-8,  0x1.708938p-9,  0x1.9e7c70p-10, 0x1.d22a50p-11,
                                 0x1.0624dep-11, 0x1.26d42cp-12, 0x1.4b96c0p-13, 0x1.74eea6p-14};
  static const float llama3[] = {0x1.000000p+0,  0x1.c2ef78p-2,  0x1.8d2760p-3,  0x1.28ac66p-4,
                                 0x1.595116p-7,  0x1.0f5386p-9,  0x1.ddee9ep-11, 0x1.a4ee40p-12,
                                 0x1.72ba42p-13, 0x1.46831ap-14, 0x1.1f91f0p-15, 0x1.fa8b86p-17,
                                 0x1.be218cp-18, 0x1.88ec20p-19, 0x1.5a0f4ep-20, 0x1.30c94ep-21};
  struct xf_config config = good("{\"head_dim\":48}");
  check_frequencies(&config, plain);
  config = good("{\"head_dim\":32,\"rope_scaling\":{\"type\":\"linear\",\"factor\":2}}");
  check_frequencies(&config, linear);
  config = good("{\"head_dim\":32,\"rope_theta\":500000,"
                "\"rope_scaling\":{\"rope_type\":\"llama3\"," LLAMA3 "}}");
  check_frequencies(&config, llama3);
}

static void test_missing(void **state)
{
  (void)state;
  struct xf_config config;
  xf_error error = {0};
  assert_int_equal(xf_config_read("/nonexistent/folder", &config, &error), XF_E_FILE);
  assert_non_null(strstr(error.message, "/nonexistent/folder/config.json: cannot open"));
  assert_int_equal(xf_config_read(source_path("tests/tiny_model.c"), &config, &error), XF_E_FILE);
  static const char infinite[] = "{\"model_type\":\"llama\",\"hidden_size\":1e999}";
  assert_int_equal(read_text(infinite, sizeof infinite - 1, &config, &error), XF_E_FORMAT);
  assert_non_null(strstr(error.message, "hidden_size"));
}

static bool attempt(void *arg)
{
  (void)arg;
  struct xf_config config;
  xf_error error = {0};
  xf_status status = xf_config_read(folder, &config, &error);
  if (status != XF_OK) {
    assert_int_not_equal(error.message[0], 0);
    return false;
  }
  float inv_freq[128];
  xf_rope_inv_freq(&config, inv_freq);
  assert_true(isfinite(inv_freq[config.head_dim / 2 - 1]));
  return true;
}

static void test_damage(void **state)
{
  (void)state;
  char path[4096];
  snprintf(path, sizeof path, "%s/config.json", folder);
  write_file(path, BASE, sizeof BASE - 1);
  assert_int_equal(damage_prefixes(path, attempt, NULL), 0);
  assert_in_range(damage_bytes(path, 0, 10000, 1, attempt, NULL), 1, 9999);
  assert_true(attempt(NULL));
}

static void test_failing_allocations(void **state)
{
  (void)state;
  struct xf_config config;
  xf_error error;
  assert_int_equal(read_text(BASE, sizeof BASE - 1, &config, &error), XF_OK);
  for (size_t n = 0;; n++) {
    failing_alloc_after(n);
    xf_status status = xf_config_read(folder, &config, &error);
    if (failing_alloc_off() == 0) {
      assert_int_equal(status, XF_OK);
      assert_true(n >= 2);
      break;
    }
    assert_int_equal(status, XF_E_MEMORY);
    assert_non_null(strstr(error.message, "out of memory"));
  }
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_sizes),          cmocka_unit_test(test_ids),
      cmocka_unit_test(test_bad_fields),     cmocka_unit_test(test_unsupported),
      cmocka_unit_test(test_rope_spellings), cmocka_unit_test(test_bad_rope),
      cmocka_unit_test(test_frequencies),    cmocka_unit_test(test_missing),

      cmocka_unit_test(test_damage),         cmocka_unit_test(test_failing_allocations),
  };
  return cmocka_run_group_tests(tests, make_folder, free_folder);
}
