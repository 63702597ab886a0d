/* The config of a Llama in GGUF: every key that counts, wrong, missing or at odds with the tensors.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/config.h"
#include "tests/gguf_model.h"
#include "tests/model_support.h"
#include "tests/support.h"

static xf_context *context;
static char *folder;
static char good[4096], path[4096];

/* Hidden 16, intermediate 24, 1 layer, 2 heads of 8 on 1 KV head, vocab 20. */
static int start(void **state)
{
  (void)state;
  context = open_context(NULL, 1);
  struct tiny_model tiny = tiny_model_smallest();
  folder = write_tiny_model(&tiny);
  snprintf(good, sizeof good, "%s/good.gguf", folder);
  snprintf(path, sizeof path, "%s/model.gguf", folder);
  convert_model(folder, good, (xf_convert_options){0});
  return 0;
}

static int finish(void **state)
{
  (void)state;
  xf_context_destroy(context);
  free(folder);
  return 0;
}

/* A key in place of the one that the file has, if it has it. */
struct change {
  const char *key;
  enum xf_gguf_type type; /* U32, F32, BOOL, STRING, or ARRAY: of number strings */
  double number;
  const char *text;
};

static void add_change(struct xf_gguf_writer *writer, const void *arg)
{
  const struct change *c = arg;
  struct xf_gguf_string strings[32];
  size_t n = c->type == XF_GGUF_ARRAY ? (size_t)c->number : 0;
  for (size_t i = 0; i < n; i++) strings[i] = (struct xf_gguf_string){"a", 1};
  if (c->type == XF_GGUF_U32) xf_gguf_add_u32(writer, c->key, (uint32_t)c->number);
  if (c->type == XF_GGUF_F32) xf_gguf_add_f32(writer, c->key, (float)c->number);
  if (c->type == XF_GGUF_BOOL) xf_gguf_add_bool(writer, c->key, c->number != 0);
  if (c->type == XF_GGUF_STRING) xf_gguf_add_string(writer, c->key, c->text);
  if (c->type == XF_GGUF_ARRAY) xf_gguf_add_strings(writer, c->key, strings, n);
}

static xf_status read_config(struct xf_config *config, xf_error *error)
{
  struct xf_gguf gguf;
  xf_status status = xf_gguf_open(path, &gguf, error);
  assert_int_equal(status, XF_OK);
  status = xf_config_read_gguf(&gguf, config, error);
  xf_gguf_close(&gguf);
  return status;
}

static struct xf_config changed(const struct change *change)
{
  struct xf_config config;
  xf_error error = {0};
  gguf_copy(good, path, &(struct gguf_edit){.drop = change->key, .add = add_change, .arg = change});
  expect_ok(read_config(&config, &error), &error);
  return config;
}

/* The message names the file and the key. */
static void refused(const char *key, xf_status expected)
{
  struct xf_config config;
  xf_error error = {0};
  xf_status status = read_config(&config, &error);
  if (status != expected || !strstr(error.message, path) || !strstr(error.message, key))
    fail_msg("%s: status %d, not %d: %s", key, status, expected, error.message);
}

static void test_good(void **state)
{
  (void)state;
  gguf_copy(good, path, NULL);
  struct xf_config c;
  xf_error error = {0};
  expect_ok(read_config(&c, &error), &error);
  assert_int_equal(c.hidden, 16);
  assert_int_equal(c.intermediate, 24);
  assert_int_equal(c.layers, 1);
  assert_int_equal(c.heads, 2);
  assert_int_equal(c.kv_heads, 1);
  assert_int_equal(c.head_dim, 8);
  assert_int_equal(c.vocab, 20);
  assert_int_equal(c.max_positions, 2048);
  assert_true(c.rms_eps == 1e-5f && !c.tied);
  assert_int_equal(c.rope.type, XF_ROPE_NONE);
  assert_true(c.rope.theta == 10000 && c.bos == 1 && c.eos[0] == 2 && c.n_eos == 1);
}

static void test_missing(void **state)
{
  (void)state;
  static const char *const required[] = {
      "general.architecture",      "llama.block_count",
      "llama.embedding_length",    "llama.attention.layer_norm_rms_epsilon",
      "llama.feed_forward_length", "llama.attention.head_count",
      "token_embd.weight"};
  for (size_t i = 0; i < sizeof required / sizeof *required; i++) {
    gguf_copy(good, path, &(struct gguf_edit){.drop = required[i]});
    refused(required[i], XF_E_FORMAT);
  }
  static const char *const optional[] = {
      "llama.context_length",        "llama.attention.key_length", "llama.attention.value_length",
      "llama.rope.dimension_count",  "llama.rope.freq_base",       "llama.vocab_size",
      "tokenizer.ggml.bos_token_id", "tokenizer.ggml.eos_token_id"};
  struct xf_config config;
  xf_error error = {0};
  for (size_t i = 0; i < sizeof optional / sizeof *optional; i++) {
    gguf_copy(good, path, &(struct gguf_edit){.drop = optional[i]});
    expect_ok(read_config(&config, &error), &error);
    assert_true(config.head_dim == 8 && config.vocab == 20 && config.rope.theta == 10000);
  }
  gguf_copy(good, path, &(struct gguf_edit){.drop = "llama.attention.head_count_kv"});
  expect_ok(read_config(&config, &error), &error);
  assert_int_equal(config.kv_heads, 2);
  gguf_copy(good, path, &(struct gguf_edit){.drop = "output.weight"});
  expect_ok(read_config(&config, &error), &error);
  assert_true(config.tied);
}

static void test_refused(void **state)
{
  (void)state;
  static const struct {
    struct change change;
    xf_status status;
  } rows[] = {
      {{"general.architecture", XF_GGUF_STRING, 0, "qwen2"}, XF_E_UNSUPPORTED},
      {{"general.architecture", XF_GGUF_U32, 1, NULL}, XF_E_FORMAT},
      {{"llama.block_count", XF_GGUF_U32, 0, NULL}, XF_E_FORMAT},
      {{"llama.block_count", XF_GGUF_U32, 5000, NULL}, XF_E_FORMAT},
      {{"llama.block_count", XF_GGUF_F32, 1, NULL}, XF_E_FORMAT},
      {{"llama.context_length", XF_GGUF_U32, 4e9, NULL}, XF_E_FORMAT},
      {{"llama.embedding_length", XF_GGUF_U32, 4e9, NULL}, XF_E_FORMAT},
      {{"llama.feed_forward_length", XF_GGUF_STRING, 0, "24"}, XF_E_FORMAT},
      {{"llama.attention.head_count", XF_GGUF_U32, 0, NULL}, XF_E_FORMAT},
      {{"llama.attention.head_count_kv", XF_GGUF_U32, 3, NULL}, XF_E_FORMAT},
      {{"llama.attention.head_count_kv", XF_GGUF_U32, 0, NULL}, XF_E_FORMAT},
      {{"llama.attention.head_count_kv", XF_GGUF_ARRAY, 1, NULL}, XF_E_FORMAT},
      {{"llama.attention.key_length", XF_GGUF_U32, 7, NULL}, XF_E_UNSUPPORTED},
      {{"llama.attention.value_length", XF_GGUF_U32, 16, NULL}, XF_E_UNSUPPORTED},
      {{"llama.rope.dimension_count", XF_GGUF_U32, 4, NULL}, XF_E_UNSUPPORTED},
      {{"llama.attention.layer_norm_rms_epsilon", XF_GGUF_F32, -1, NULL}, XF_E_FORMAT},
      {{"llama.rope.freq_base", XF_GGUF_F32, 0, NULL}, XF_E_FORMAT},
      {{"llama.rope.scaling.type", XF_GGUF_STRING, 0, "yarn"}, XF_E_UNSUPPORTED},
      {{"llama.rope.scaling.factor", XF_GGUF_F32, -2, NULL}, XF_E_FORMAT},
      {{"llama.rope.scaling.attn_factor", XF_GGUF_F32, 2, NULL}, XF_E_UNSUPPORTED},
      {{"llama.expert_count", XF_GGUF_U32, 8, NULL}, XF_E_UNSUPPORTED},
      {{"llama.attention.sliding_window", XF_GGUF_U32, 4096, NULL}, XF_E_UNSUPPORTED},
      {{"llama.attention.causal", XF_GGUF_BOOL, 0, NULL}, XF_E_UNSUPPORTED},
      {{"llama.vocab_size", XF_GGUF_U32, 21, NULL}, XF_E_SHAPE},
      {{"tokenizer.ggml.tokens", XF_GGUF_ARRAY, 19, NULL}, XF_E_SHAPE},
      {{"tokenizer.ggml.tokens", XF_GGUF_U32, 20, NULL}, XF_E_FORMAT},
      {{"tokenizer.ggml.bos_token_id", XF_GGUF_U32, 20, NULL}, XF_E_FORMAT},
      {{"tokenizer.ggml.eot_token_id", XF_GGUF_U32, 4e9, NULL}, XF_E_FORMAT},
  };
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    gguf_copy(
        good, path,
        &(struct gguf_edit){.drop = rows[i].change.key, .add = add_change, .arg = &rows[i].change});
    refused(rows[i].change.key, rows[i].status);
  }
}

static void test_meanings(void **state)
{
  (void)state;
  struct xf_config c =
      changed(&(struct change){"tokenizer.ggml.eot_token_id", XF_GGUF_U32, 7, NULL});
  assert_true(c.n_eos == 2 && c.eos[0] == 2 && c.eos[1] == 7);
  c = changed(&(struct change){"tokenizer.ggml.eom_token_id", XF_GGUF_U32, 2, NULL});
  assert_true(c.n_eos == 1 && c.eos[0] == 2);
  c = changed(&(struct change){"tokenizer.ggml.tokens", XF_GGUF_ARRAY, 20, NULL});
  assert_int_equal(c.vocab, 20);
  c = changed(&(struct change){"llama.rope.scaling.factor", XF_GGUF_F32, 4, NULL});
  assert_true(c.rope.type == XF_ROPE_LINEAR && c.rope.factor == 4);
  assert_int_equal(rename(path, good), 0); /* "none" holds against a factor */
  c = changed(&(struct change){"llama.rope.scaling.type", XF_GGUF_STRING, 0, "none"});
  assert_true(c.rope.type == XF_ROPE_NONE && c.rope.factor == 1);
  /* Without ids in the file: those of SentencePiece, else none. */
  gguf_copy(good, path, &(struct gguf_edit){.drop = "tokenizer.ggml.bos_token_id"});
  assert_int_equal(rename(path, good), 0);
  gguf_copy(good, path, &(struct gguf_edit){.drop = "tokenizer.ggml.eos_token_id"});
  assert_int_equal(rename(path, good), 0);
  c = changed(&(struct change){"tokenizer.ggml.model", XF_GGUF_STRING, 0, "llama"});
  assert_true(c.bos == 1 && c.n_eos == 1 && c.eos[0] == 2);
  c = changed(&(struct change){"tokenizer.ggml.model", XF_GGUF_STRING, 0, "gpt2"});
  assert_true(c.bos == -1 && c.n_eos == 0);
  convert_model(folder, good, (xf_convert_options){0});
}

static void open_fails(xf_status expected, const char *one, const char *other)
{
  xf_model *model;
  xf_error error = {0};
  xf_status status = xf_model_open(context, path, NULL, &model, &error);
  if (status != expected || !strstr(error.message, path) || !strstr(error.message, one) ||
      !strstr(error.message, other))
    fail_msg("status %d, not %d, with \"%s\" and \"%s\": %s", status, expected, one, other,
             error.message);
  assert_null(model);
}

static void test_tensors(void **state)
{
  (void)state;
  gguf_copy(good, path, &(struct gguf_edit){.drop = "blk.0.attn_k.weight"});
  open_fails(XF_E_FORMAT, "no tensor", "blk.0.attn_k.weight");
  gguf_copy(good, path, &(struct gguf_edit){.drop = "output_norm.weight"});
  open_fails(XF_E_FORMAT, "no tensor", "output_norm.weight");
  const struct change wide = {"llama.feed_forward_length", XF_GGUF_U32, 25, NULL};
  gguf_copy(good, path, &(struct gguf_edit){.drop = wide.key, .add = add_change, .arg = &wide});
  open_fails(XF_E_SHAPE, "blk.0.ffn_gate.weight", "its metadata needs [25, 16]");
  struct tiny_model tiny = tiny_model_smallest();
  tiny.layers = 2;
  char *deep = write_tiny_model(&tiny);
  convert_model(deep, path, (xf_convert_options){0});
  assert_int_equal(rename(path, good), 0);
  const struct change flat = {"llama.block_count", XF_GGUF_U32, 1, NULL};
  gguf_copy(good, path, &(struct gguf_edit){.drop = flat.key, .add = add_change, .arg = &flat});
  open_fails(XF_E_SHAPE, "blk.1.attn_norm.weight", "llama.block_count");
  convert_model(folder, good, (xf_convert_options){0});
  free(deep);
}

/* The good model and one more vector of four floats. */
static void write_with_vector(const char *name, const float values[static 4])
{
  gguf_copy(good, path, &(struct gguf_edit){.vector = name, .values = values, .n = 4});
}

static void test_factors_and_bias(void **state)
{
  (void)state;
  static const float zero[4] = {1, 1, 0, 1}, minus[4] = {1, -1, 1, 1}, two[4] = {2, 2, 2, 2};
  static const float nan[4] = {1, 1, 1, __builtin_nanf("")};
  write_with_vector("rope_freqs.weight", zero);
  open_fails(XF_E_FORMAT, "rope_freqs.weight", "element 2");
  write_with_vector("rope_freqs.weight", minus);
  open_fails(XF_E_FORMAT, "rope_freqs.weight", "element 1");
  write_with_vector("rope_freqs.weight", nan);
  open_fails(XF_E_FORMAT, "rope_freqs.weight", "element 3");
  write_with_vector("blk.0.attn_q.bias", two);
  open_fails(XF_E_UNSUPPORTED, "blk.0.attn_q.bias", "bias");
  write_with_vector("rope_freqs.weight", two);
  xf_model *model = open_model(context, path, NULL);
  xf_model_info info;
  xf_model_get_info(model, &info);
  assert_string_equal(info.rope_scaling, "factors");
  xf_model_close(model);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_good),    cmocka_unit_test(test_missing),
      cmocka_unit_test(test_refused), cmocka_unit_test(test_meanings),
      cmocka_unit_test(test_tensors), cmocka_unit_test(test_factors_and_bias),
  };
  return cmocka_run_group_tests(tests, start, finish);
}
