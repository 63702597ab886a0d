/* Models in GGUF: against the results of other software, and against the same model in a folder. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/gguf.h"
#include "tests/compare.h"
#include "tests/gguf_model.h"
#include "tests/isas.h"
#include "tests/model_support.h"

/* The logits of all positions; free() them. */
static float *logits_of(const xf_model *model, const int32_t *ids, size_t n, size_t *vocab)
{
  xf_model_info info;
  xf_model_get_info(model, &info);
  *vocab = info.vocab_size;
  float *logits = new_floats(n * *vocab);
  xf_cache *cache = new_cache(model, n);
  run(model, cache, ids, n, XF_LOGITS_ALL, logits);
  xf_cache_destroy(cache);
  return logits;
}

/* The prompt and what must follow it, greedily. */
struct continuation {
  int32_t *ids;
  size_t prompt, n;
};

static struct continuation read_continuation(const cJSON *prompt, const cJSON *tokens)
{
  struct continuation c;
  size_t more;
  int32_t *first = json_ids(prompt, &c.prompt), *then = json_ids(tokens, &more);
  c.n = c.prompt + more;
  c.ids = realloc(first, c.n * sizeof *first);
  assert_non_null(c.ids);
  memcpy(c.ids + c.prompt, then, more * sizeof *then);
  free(then);
  return c;
}

/* Each token of the continuation is the arg-max behind those before it. */
static void expect_greedy(const struct continuation *c, const float *logits, size_t vocab,
                          const char *isa)
{
  for (size_t i = c->prompt; i < c->n; i++) {
    const float *row = logits + (i - 1) * vocab;
    size_t best = 0;
    for (size_t token = 1; token < vocab; token++)
      if (row[token] > row[best]) best = token;
    if ((int32_t)best != c->ids[i])
      fail_msg("%s: greedy step %zu is %zu, not %d", isa, i - c->prompt, best, c->ids[i]);
  }
}

static const char *inside(const char *folder, const char *relative)
{
  char path[256];
  snprintf(path, sizeof path, "%s/%s", folder, relative);
  return fixture(path);
}

static const char *text_of(const cJSON *object, const char *name)
{
  const char *text = cJSON_GetStringValue(json_get(object, name));
  assert_non_null(text);
  return text;
}

/* The first elements of some tensors, as gguf-py reads them. */
static void check_elements(const char *path, const cJSON *list)
{
  struct xf_gguf gguf;
  xf_error error = {0};
  expect_ok(xf_gguf_open(path, &gguf, &error), &error);
  const cJSON *entry;
  cJSON_ArrayForEach(entry, list)
  {
    size_t bytes;
    const char *name = text_of(entry, "tensor");
    const struct xf_tensor *tensor = xf_tensor_find(gguf.tensors, gguf.n_tensors, name);
    assert_non_null(tensor);
    assert_string_equal(tensor->dtype, text_of(entry, "type"));
    if (!tensor->type) continue;
    float *want = (float *)read_file(inside("gguf", text_of(entry, "file")), &bytes);
    assert_true(bytes > 0);
    for (size_t i = 0; i < bytes / sizeof *want; i++) {
      float got;
      uint16_t half;
      memcpy(&half, (const char *)tensor->data + 2 * i, sizeof half);
      if (tensor->type == XF_F32)
        memcpy(&got, (const char *)tensor->data + 4 * i, sizeof got);
      else
        got = tensor->type == XF_F16 ? from_f16(half) : from_bf16(half);
      this_case("%s, element %zu", name, i);
      expect_bits("element", path, &got, &want[i], 1);
    }
    free(want);
  }
  xf_gguf_close(&gguf);
}

static void expect_unsupported(const char *path, const char *type)
{
  xf_context *context = open_context(NULL, 1);
  xf_model *model;
  xf_error error = {0};
  xf_status status = xf_model_open(context, path, NULL, &model, &error);
  assert_non_null(strstr(error.message, path));
  assert_non_null(strstr(error.message, ".weight"));
  assert_non_null(strstr(error.message, type));
  expect_status(status, XF_E_UNSUPPORTED, &error);
  assert_null(model);
  xf_context_destroy(context);
}

/* Logits and greedy tokens of one file, on every ISA. */
static void check_results(const char *path, const cJSON *file)
{
  enum { ROWS = 33 };
  size_t bytes, vocab;
  struct continuation c =
      read_continuation(json_get(file, "prompt_ids"), json_get(file, "greedy_tokens_exact"));
  float *want = (float *)read_file(inside("gguf", text_of(file, "logits_file")), &bytes);
  assert_int_equal(c.prompt, ROWS);
  assert_int_equal(c.n, ROWS + 32);
  for (const struct xf_kernels *k = NULL; (k = next_isa(k));) {
    xf_context *context = open_context(k->name, 1);
    xf_model *model = open_model(context, path, NULL);
    float *got = logits_of(model, c.ids, c.n, &vocab);
    assert_int_equal(bytes, ROWS * vocab * sizeof(float));
    for (size_t i = 0; i < ROWS * vocab; i++) {
      this_case("%s, position %zu, token %zu", path, i / vocab, i % vocab);
      expect_near("logit", k->name, got[i], (double)want[i], 5e-4);
    }
    expect_greedy(&c, got, vocab, k->name);
    free(got);
    xf_model_close(model);
    xf_context_destroy(context);
  }
  free(want);
  free(c.ids);
}

static void test_fixtures(void **state)
{
  (void)state;
  size_t loaded = 0, refused = 0;
  cJSON *manifest = read_json(fixture("gguf/manifest.json"));
  const cJSON *file, *type;
  cJSON_ArrayForEach(file, json_get(manifest, "files"))
  {
    char *path = strdup(inside("gguf", text_of(file, "file")));
    const char *quantized = NULL;
    cJSON_ArrayForEach(type, json_get(file, "types")) if (type->string[0] == 'Q') quantized = "Q";
    check_elements(path, json_get(file, "dequant"));
    if (quantized)
      expect_unsupported(path, quantized);
    else
      check_results(path, file);
    loaded += !quantized;
    refused += quantized != NULL;
    free(path);
  }
  assert_int_equal(loaded, 4);
  assert_int_equal(refused, 10);
  cJSON_Delete(manifest);
}

/* Both give the same logits, bit for bit, and say the same of themselves. */
static void expect_same_model(const char *folder, const char *gguf, const int32_t *ids, size_t n)
{
  xf_context *context = open_context(NULL, 1);
  xf_model *a = open_model(context, folder, NULL), *b = open_model(context, gguf, NULL);
  xf_model_info x, y;
  xf_model_get_info(a, &x);
  xf_model_get_info(b, &y);
  size_t vocab;
  float *want = logits_of(a, ids, n, &vocab), *got = logits_of(b, ids, n, &vocab);
  expect_bits("logits", gguf, got, want, n * vocab);
  assert_int_equal(x.parameters, y.parameters);
  assert_int_equal(x.head_dim, y.head_dim);
  assert_int_equal(x.max_position_embeddings, y.max_position_embeddings);
  assert_int_equal(x.tied_embeddings, y.tied_embeddings);
  assert_int_equal(x.bos_token_id, y.bos_token_id);
  assert_int_equal(x.n_eos_token_ids, y.n_eos_token_ids);
  assert_int_equal(x.eos_token_ids[0], y.eos_token_ids[0]);
  assert_int_equal(x.weight_type, y.weight_type);
  free(got);
  free(want);
  xf_model_close(a);
  xf_model_close(b);
  xf_context_destroy(context);
}

static void test_same_as_folder(void **state)
{
  (void)state;
  enum { IDS = 100 };
  int32_t *ids = random_ids(1, IDS, 512);
  char *folder = strdup(fixture("models/tl-mini-f32"));
  expect_same_model(folder, fixture("gguf/tl-mini-F32.gguf"), ids, IDS);
  free(folder);
  free(ids);
}

static void test_stories(void **state)
{
  (void)state;
  cJSON *expected = read_json(fixture("stories260k/expected.json"));
  char *folder = strdup(fixture("stories260k/hf"));
  const char *path = fixture("stories260k/stories260k-F32.gguf");
  xf_context *context = open_context(NULL, 1);
  xf_model *model = open_model(context, path, NULL);
  const cJSON *story;
  cJSON_ArrayForEach(story, json_get(expected, "cases"))
  {
    size_t vocab;
    struct continuation c =
        read_continuation(json_get(story, "prompt_ids"), json_get(story, "new_ids"));
    float *logits = logits_of(model, c.ids, c.n, &vocab);
    expect_greedy(&c, logits, vocab, path);
    expect_same_model(folder, path, c.ids, c.n);
    free(logits);
    free(c.ids);
  }
  xf_model_close(model);
  xf_context_destroy(context);
  free(folder);
  cJSON_Delete(expected);
}

/* Sizes that no fixture has, in each type, tied and not. */
static void test_written_models(void **state)
{
  (void)state;
  enum { IDS = 40 };
  for (size_t i = 0; i < 6; i++) {
    struct tiny_model tiny = i % 2 ? tiny_model_ragged() : tiny_model_smallest();
    tiny.type = (const xf_type[]){XF_F32, XF_F16, XF_BF16}[i / 2];
    tiny.tied = i == 1 || i == 2;
    char *folder = write_tiny_model(&tiny), path[4096];
    snprintf(path, sizeof path, "%s/model.gguf", folder);
    convert_model(folder, path, (xf_convert_options){0});
    int32_t *ids = random_ids(i, IDS, tiny.vocab);
    expect_same_model(folder, path, ids, IDS);
    free(ids);
    free(folder);
  }
}

static void add_linear_scaling(struct xf_gguf_writer *writer, const void *older)
{
  if (!older) xf_gguf_add_string(writer, "llama.rope.scaling.type", "linear");
  xf_gguf_add_f32(writer, older ? "llama.rope.scale_linear" : "llama.rope.scaling.factor", 2.0f);
}

/* Both spellings of linear RoPE scaling mean what config.json's means. */
static void test_linear_scaling(void **state)
{
  (void)state;
  enum { IDS = 40 };
  struct tiny_model tiny = tiny_model_smallest();
  char *unscaled = write_tiny_model(&tiny), plain[4096], scaled_path[4096];
  tiny.extras = "\"rope_scaling\": {\"type\": \"linear\", \"factor\": 2.0}";
  char *folder = write_tiny_model(&tiny);
  snprintf(plain, sizeof plain, "%s/plain.gguf", folder);
  snprintf(scaled_path, sizeof scaled_path, "%s/scaled.gguf", folder);
  convert_model(unscaled, plain, (xf_convert_options){0});
  int32_t *ids = random_ids(1, IDS, tiny.vocab);
  for (size_t older = 0; older < 2; older++) {
    gguf_copy(plain, scaled_path,
              &(struct gguf_edit){.add = add_linear_scaling, .arg = older ? "" : NULL});
    expect_same_model(folder, scaled_path, ids, IDS);
  }
  free(ids);
  free(unscaled);
  free(folder);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_fixtures),       cmocka_unit_test(test_same_as_folder),
      cmocka_unit_test(test_stories),        cmocka_unit_test(test_written_models),
      cmocka_unit_test(test_linear_scaling), cmocka_unit_test(test_required_isas),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
