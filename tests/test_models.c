/* Whole models against the results of other software, on every ISA and with both kinds of
 * attention. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/compare.h"
#include "tests/isas.h"
#include "tests/model_support.h"

enum { CAPACITY = 256 };

/* A model as one ISA runs it. */
struct engine {
  xf_context *context;
  xf_model *model;
  size_t vocab;
  const char *isa;
};

static struct engine engine_open(const char *isa, const char *path, xf_attention_kind attention)
{
  struct engine e = {.isa = isa};
  xf_model_options options = {.struct_size = sizeof options, .attention = attention};
  e.context = open_context(isa, 1);
  e.model = open_model(e.context, path, &options);
  xf_model_info info;
  xf_model_get_info(e.model, &info);
  e.vocab = info.vocab_size;
  return e;
}

static void engine_close(struct engine *e)
{
  xf_model_close(e->model);
  xf_context_destroy(e->context);
}

/* Walks (ISA, attention): every ISA with flash, the best one with standard, too. */
struct variant {
  const struct xf_kernels *kernels;
  xf_attention_kind attention;
};

static bool next_variant(struct variant *v)
{
  bool best = !v->kernels;
  if (!best && v->attention == XF_ATTENTION_STANDARD) {
    v->attention = XF_ATTENTION_FLASH;
  } else {
    v->kernels = next_isa(v->kernels);
    v->attention = best ? XF_ATTENTION_STANDARD : XF_ATTENTION_FLASH;
  }
  return v->kernels != NULL;
}

static size_t arg_max(const float *x, size_t n)
{
  size_t best = 0;
  for (size_t i = 1; i < n; i++)
    if (x[i] > x[best]) best = i;
  return best;
}

/* The greatest minus the second greatest. */
static float margin_of(const float *x, size_t n)
{
  size_t best = arg_max(x, n);
  float second = -INFINITY;
  for (size_t i = 0; i < n; i++)
    if (i != best && x[i] > second) second = x[i];
  return x[best] - second;
}

static void expect_logits(const struct engine *e, const char *what, const float *got,
                          const float *want, size_t rows, double tolerance)
{
  for (size_t i = 0; i < rows * e->vocab; i++) {
    this_case("%s, position %zu, token %zu", what, i / e->vocab, i % e->vocab);
    expect_near("logit", e->isa, got[i], want[i], tolerance);
  }
}

/* Continues greedily behind logits [vocab], by decoding. Every token must be the wanted one, up to
 * a step where the margin is below `least`: there the other choice is as good. Returns the steps
 * that agree. */
static size_t expect_greedy(const struct engine *e, xf_cache *cache, float *logits,
                            const int32_t *want, size_t steps, float least)
{
  for (size_t step = 0; step < steps; step++) {
    int32_t token = (int32_t)arg_max(logits, e->vocab);
    float margin = margin_of(logits, e->vocab);
    if (token != want[step] && margin < least) return step;
    if (token != want[step])
      fail_msg("%s: greedy step %zu of %zu is %d, not %d; margin %g", e->isa, step, steps, token,
               want[step], (double)margin);
    if (step + 1 < steps) run(e->model, cache, &token, 1, XF_LOGITS_LAST, logits);
  }
  return steps;
}

/* One prompt of a fixture: all its logits, then the greedy tokens. want: logits of its rows. */
static void check_prompt(const struct engine *e, const cJSON *prompt, const float *want,
                         double tolerance, const cJSON *greedy)
{
  size_t n, steps;
  int32_t *ids = json_ids(prompt, &n), *tokens = json_ids(greedy, &steps);
  float *logits = new_floats(n * e->vocab);
  xf_cache *cache = new_cache(e->model, CAPACITY);
  char what[64];
  snprintf(what, sizeof what, "prompt of %zu", n);
  run(e->model, cache, ids, n, XF_LOGITS_ALL, logits);
  expect_logits(e, what, logits, want, n, tolerance);
  expect_greedy(e, cache, logits + (n - 1) * e->vocab, tokens, steps, 0);
  xf_cache_destroy(cache);
  free(logits);
  free(tokens);
  free(ids);
}

/* The `relative` path inside a folder of fixtures (a static buffer). */
static const char *inside(const char *folder, const char *relative)
{
  char path[256];
  snprintf(path, sizeof path, "%s/%s", folder, relative);
  return fixture(path);
}

static void test_fixture(void **state)
{
  char folder[128];
  size_t bytes;
  snprintf(folder, sizeof folder, "models/%s", (const char *)*state);
  cJSON *ids = read_json(inside(folder, "ids.json"));
  cJSON *greedy = read_json(inside(folder, "greedy.json"));
  float *want = (float *)read_file(inside(folder, "logits_f32.bin"), &bytes);
  const cJSON *prompts = json_get(ids, "prompts"), *offsets = json_get(ids, "logits_row_offset");
  const cJSON *tokens = json_get(greedy, "tokens");
  assert_int_equal(cJSON_GetArraySize(prompts), 4);
  for (struct variant v = {0}; next_variant(&v);) {
    struct engine e = engine_open(v.kernels->name, inside(folder, ""), v.attention);
    for (int i = 0; i < 4; i++) {
      size_t row = (size_t)cJSON_GetArrayItem(offsets, i)->valuedouble;
      assert_true((row + 1) * e.vocab * sizeof(float) <= bytes);
      check_prompt(&e, cJSON_GetArrayItem(prompts, i), want + row * e.vocab, 5e-4,
                   cJSON_GetArrayItem(tokens, i));
    }
    engine_close(&e);
  }
  free(want);
  cJSON_Delete(greedy);
  cJSON_Delete(ids);
}

static void expect_encoding(const xf_tokenizer *tokenizer, const char *text, const int32_t *want,
                            size_t n)
{
  int32_t ids[CAPACITY];
  size_t count;
  xf_error error = {0};
  expect_ok(xf_tokenizer_encode(tokenizer, text, strlen(text), XF_ENCODE_BOS, ids, CAPACITY, &count,
                                &error),
            &error);
  assert_int_equal(count, n);
  assert_memory_equal(ids, want, n * sizeof *ids);
}

/* Generates as a program does, text included. */
static void expect_story(const struct engine *e, const xf_tokenizer *tokenizer, const cJSON *story)
{
  size_t n, steps;
  int32_t *ids = json_ids(json_get(story, "prompt_ids"), &n);
  int32_t *want = json_ids(json_get(story, "new_ids"), &steps);
  const char *text = json_get(story, "new_text_only")->valuestring;
  xf_generate_options options = {.struct_size = sizeof options, .ignore_eos = 1};
  xf_cache *cache = new_cache(e->model, n + steps);
  xf_generator *generator = NULL;
  xf_error error = {0};
  expect_encoding(tokenizer, json_get(story, "prompt")->valuestring, ids, n);
  expect_ok(xf_generator_create(e->model, cache, tokenizer, &options, &generator, &error), &error);
  expect_ok(xf_generator_prompt(generator, ids, n, &error), &error);
  char *got = calloc(1, 64 * steps), *end = got;
  assert_non_null(got);
  const char *utf8;
  size_t bytes;
  for (size_t i = 0; i < steps; i++) {
    int32_t token;
    int done;
    expect_ok(xf_generator_next(generator, &token, &done, &utf8, &bytes, &error), &error);
    assert_int_equal(token, want[i]);
    end = (char *)memcpy(end, utf8, bytes) + bytes;
  }
  expect_ok(xf_generator_flush(generator, &utf8, &bytes), &error);
  memcpy(end, utf8, bytes);
  assert_string_equal(got, text);
  free(got);
  xf_generator_destroy(generator);
  xf_cache_destroy(cache);
  free(want);
  free(ids);
}

static void test_stories(void **state)
{
  (void)state;
  size_t bytes;
  cJSON *expected = read_json(fixture("stories260k/expected.json"));
  float *want = (float *)read_file(fixture("stories260k/logits_f32.bin"), &bytes);
  const cJSON *stories = json_get(expected, "cases");
  xf_tokenizer *tokenizer = NULL;
  xf_error error = {0};
  expect_ok(xf_tokenizer_open(fixture("stories260k/hf"), &tokenizer, &error), &error);
  assert_int_equal(cJSON_GetArraySize(stories), 4);
  for (struct variant v = {0}; next_variant(&v);) {
    struct engine e = engine_open(v.kernels->name, fixture("stories260k/hf"), v.attention);
    for (const cJSON *story = stories->child; story; story = story->next) {
      size_t row = (size_t)json_get(story, "logits_row_offset")->valuedouble;
      check_prompt(&e, json_get(story, "prompt_ids"), want + row * e.vocab, 1e-4,
                   json_get(story, "new_ids"));
      expect_story(&e, tokenizer, story);
    }
    engine_close(&e);
  }
  xf_tokenizer_close(tokenizer);
  free(want);
  cJSON_Delete(expected);
}

/* One item of the demo model's references; its text, too, where all tokens agree. */
static void expect_reference(const struct engine *e, const xf_tokenizer *tokenizer,
                             const cJSON *item)
{
  const char *prompt = json_get(item, "prompt")->valuestring;
  size_t n, steps, bytes;
  int32_t *ids = json_ids(json_get(item, "prompt_ids"), &n);
  int32_t *want = json_ids(json_get(item, "greedy_ids"), &steps);
  float *logits = new_floats(e->vocab);
  xf_cache *cache = new_cache(e->model, n + steps);
  expect_encoding(tokenizer, prompt, ids, n);
  run(e->model, cache, ids, n, XF_LOGITS_LAST, logits);
  if (expect_greedy(e, cache, logits, want, steps, 0.01f) == steps) {
    char text[2048], whole[2048];
    int32_t all[CAPACITY];
    xf_error error = {0};
    memcpy(all, ids, n * sizeof *all);
    memcpy(all + n, want, steps * sizeof *all);
    expect_ok(xf_tokenizer_decode(tokenizer, all, n + steps, text, sizeof text, &bytes, &error),
              &error);
    snprintf(whole, sizeof whole, "%s%s", prompt, json_get(item, "text")->valuestring);
    assert_int_equal(bytes, strlen(whole));
    assert_memory_equal(text, whole, bytes);
  }
  xf_cache_destroy(cache);
  free(logits);
  free(want);
  free(ids);
}

static void test_demo_model(void **state)
{
  (void)state;
  cJSON *reference = read_json(source_path("demo-model/greedy_reference.json"));
  const cJSON *items = json_get(reference, "items");
  size_t count = scaled((size_t)cJSON_GetArraySize(items));
  xf_tokenizer *tokenizer = NULL;
  xf_error error = {0};
  expect_ok(xf_tokenizer_open(source_path("demo-model"), &tokenizer, &error), &error);
  for (struct variant v = {0}; next_variant(&v);) {
    struct engine e = engine_open(v.kernels->name, source_path("demo-model"), v.attention);
    for (size_t i = 0; i < count; i++)
      expect_reference(&e, tokenizer, cJSON_GetArrayItem(items, (int)i));
    engine_close(&e);
  }
  xf_tokenizer_close(tokenizer);
  cJSON_Delete(reference);
}

int main(void)
{
  static char *const folders[] = {"tl-mini-f32",    "tl-mini-bf16",    "f16-sharded",
                                  "tied-gqa3-bf16", "llama3-rope-new", "llama3-rope-old",
                                  "linear-rope-old"};
  enum { FOLDERS = sizeof folders / sizeof *folders };
  struct CMUnitTest tests[FOLDERS + 3] = {cmocka_unit_test(test_stories),
                                          cmocka_unit_test(test_demo_model)};
  for (size_t i = 0; i < FOLDERS; i++)
    tests[2 + i] = (struct CMUnitTest){folders[i], test_fixture, NULL, NULL, folders[i]};
  tests[FOLDERS + 2] = (struct CMUnitTest)cmocka_unit_test(test_required_isas);
  return cmocka_run_group_tests(tests, NULL, NULL);
}
