/* Models in GGUF: against the results of other software, and against the same model in a folder. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dispatch/matrix.h"
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
    float *want = (float *)read_file(inside("gguf", text_of(entry, "file")), &bytes);
    size_t k = tensor->shape[tensor->rank - 1], n = bytes / sizeof *want;
    assert_true(n > 0);
    const struct xf_matrix matrix = {.data = tensor->data, .type = tensor->type, .k = k};
    float *got = new_floats(k);
    for (size_t at = 0; at < n; at += k) {
      this_case("%s, row %zu", name, at / k);
      xf_matrix_widen(&xf_kernels_scalar, &matrix, at / k, got);
      expect_bits("elements", path, got, want + at, n - at < k ? n - at : k);
    }
    free(got);
    free(want);
  }
  xf_gguf_close(&gguf);
}

enum { ROWS = 33, STEPS = 32 };

/* KL divergence of softmax(got) from softmax(want). */
static double divergence(const float *want, const float *got, size_t n)
{
  double p_sum = 0, q_sum = 0, sum = 0;
  for (size_t i = 0; i < n; i++) {
    p_sum += exp((double)want[i]);
    q_sum += exp((double)got[i]);
  }
  for (size_t i = 0; i < n; i++)
    sum +=
        exp((double)want[i]) / p_sum * ((double)want[i] - (double)got[i] - log(p_sum) + log(q_sum));
  return sum;
}

/* Logits with int8 activations are as near as such activations allow. */
static void expect_near_logits(const char *path, const float *got, const float *want, size_t vocab)
{
  double squares = 0, sum = 0;
  for (size_t i = 0; i < ROWS * vocab; i++)
    squares += ((double)got[i] - (double)want[i]) * ((double)got[i] - (double)want[i]);
  for (size_t r = 0; r < ROWS; r++) sum += divergence(want + r * vocab, got + r * vocab, vocab);
  double rms = sqrt(squares / (double)(ROWS * vocab)), mean = sum / ROWS;
  print_message("int8 activations: rms error %.4f, mean KL divergence %.5f: %s\n", rms, mean, path);
  if (!(rms <= 0.2 && mean <= 0.012)) fail_msg("%s: rms %g, mean KL %g", path, rms, mean);
  if (rms < 1e-3) fail_msg("%s: rms %g: were activations quantized?", path, rms);
}

/* Logits and greedy tokens of one file, on every ISA. */
static void check_results(const char *path, const cJSON *file, bool quantized)
{
  size_t bytes, vocab;
  struct continuation c =
      read_continuation(json_get(file, "prompt_ids"), json_get(file, "greedy_tokens_exact"));
  float *want = (float *)read_file(inside("gguf", text_of(file, "logits_file")), &bytes);
  assert_int_equal(c.prompt, ROWS);
  assert_int_equal(c.n, ROWS + STEPS);
  xf_model_options options = {.struct_size = sizeof options, .activations = XF_ACTIVATIONS_F32};
  for (const struct xf_kernels *k = NULL; (k = next_isa(k));) {
    xf_context *context = open_context(k->name, 1);
    xf_model *model = open_model(context, path, &options);
    float *got = logits_of(model, c.ids, c.n, &vocab);
    assert_int_equal(bytes, ROWS * vocab * sizeof(float));
    for (size_t i = 0; i < ROWS * vocab; i++) {
      this_case("%s, position %zu, token %zu", path, i / vocab, i % vocab);
      expect_near("logit", k->name, got[i], (double)want[i], 5e-4);
    }
    expect_greedy(&c, got, vocab, k->name);
    free(got);
    xf_model_close(model);
    if (quantized) {
      model = open_model(context, path, NULL);
      got = logits_of(model, c.ids, ROWS, &vocab);
      expect_near_logits(path, got, want, vocab);
      free(got);
      xf_model_close(model);
    }
    xf_context_destroy(context);
  }
  free(want);
  free(c.ids);
}

static void test_fixtures(void **state)
{
  (void)state;
  size_t floats = 0, quants = 0;
  cJSON *manifest = read_json(fixture("gguf/manifest.json"));
  const cJSON *file, *type;
  cJSON_ArrayForEach(file, json_get(manifest, "files"))
  {
    char *path = strdup(inside("gguf", text_of(file, "file")));
    bool quantized = false;
    cJSON_ArrayForEach(type, json_get(file, "types")) quantized |= type->string[0] == 'Q';
    check_elements(path, json_get(file, "dequant"));
    check_results(path, file, quantized);
    floats += !quantized;
    quants += quantized;
    free(path);
  }
  assert_int_equal(floats, 4);
  assert_int_equal(quants, 10);
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
