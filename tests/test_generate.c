/* The generator over a small random model: against xf_forward by hand, its promises on failure, and
 * its ends. */
#include "exactflash/exactflash.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/failing_alloc.h"
#include "tests/support.h"
#include "tests/tiny_model.h"

enum { PROMPT = 23, TOKENS = 12, VOCAB = 555 };

static char *folder;
static xf_context *context;
static int32_t prompt[PROMPT];

/* Counts the calls of a progress function and cancels at one of them. */
struct watch {
  int calls, cancel_at;
  size_t last_done, total;
};

static int watched(void *arg, const char *stage, size_t done, size_t total)
{
  struct watch *watch = arg;
  if (strcmp(stage, "prefill") != 0) return 0;
  watch->last_done = done;
  watch->total = total;
  return ++watch->calls == watch->cancel_at;
}

/* A model, a cache and a generator. */
struct bench {
  xf_model *model;
  xf_cache *cache;
  xf_generator *generator;
};

static const xf_generate_options greedy = {.struct_size = sizeof greedy, .ignore_eos = 1};
static const xf_generate_options random_options = {
    .struct_size = sizeof greedy, .temperature = 1.5f, .top_p = 0.9f, .seed = 4, .ignore_eos = 1};

static struct bench open_bench(uint32_t chunk, size_t capacity, const xf_generate_options *options,
                               struct watch *watch)
{
  struct bench b;
  xf_error error = {0};
  xf_model_options model = {.struct_size = sizeof model, .chunk = chunk};
  if (watch) {
    model.progress = watched;
    model.progress_arg = watch;
  }
  if (xf_model_open(context, folder, &model, &b.model, &error) ||
      xf_cache_create(b.model, capacity, &b.cache, &error) ||
      xf_generator_create(b.model, b.cache, NULL, options, &b.generator, &error))
    fail_msg("%s", error.message);
  return b;
}

static void close_bench(struct bench *b)
{
  xf_generator_destroy(b->generator);
  xf_cache_destroy(b->cache);
  xf_model_close(b->model);
}

static void feed(struct bench *b, const int32_t *ids, size_t n)
{
  xf_error error = {0};
  if (xf_generator_prompt(b->generator, ids, n, &error)) fail_msg("%s", error.message);
}

static void take(struct bench *b, int32_t *tokens, size_t n)
{
  xf_error error = {0};
  int done;
  for (size_t i = 0; i < n; i++) {
    if (xf_generator_next(b->generator, &tokens[i], &done, NULL, NULL, &error))
      fail_msg("token %zu: %s", i, error.message);
    assert_int_equal(done, 0);
  }
}

/* What prompt and options give in one piece. */
static void wanted_tokens(const xf_generate_options *options, int32_t *tokens)
{
  struct bench b = open_bench(0, 100, options, NULL);
  feed(&b, prompt, PROMPT);
  take(&b, tokens, TOKENS);
  close_bench(&b);
}

static void test_greedy_by_hand(void **state)
{
  (void)state;
  int32_t tokens[TOKENS], token = 0;
  wanted_tokens(&greedy, tokens);
  struct bench b = open_bench(0, 100, &greedy, NULL);
  static float logits[VOCAB];
  for (size_t i = 0; i < TOKENS; i++) {
    xf_sequence s = {.cache = b.cache,
                     .tokens = i ? &token : prompt,
                     .n_tokens = i ? 1 : PROMPT,
                     .logits = XF_LOGITS_LAST,
                     .out = logits};
    assert_int_equal(xf_forward(b.model, &s, 1, NULL), XF_OK);
    token = 0;
    for (int32_t j = 1; j < VOCAB; j++)
      if (logits[j] > logits[token]) token = j;
    assert_int_equal(tokens[i], token);
  }
  close_bench(&b);
}

static void test_chunks(void **state)
{
  (void)state;
  static const uint32_t chunks[] = {1, 2, 7, 22, 23, 24, 64};
  int32_t wanted[TOKENS], tokens[TOKENS];
  wanted_tokens(&random_options, wanted);
  for (size_t i = 0; i < sizeof chunks / sizeof chunks[0]; i++) {
    struct watch watch = {0};
    struct bench b = open_bench(chunks[i], 100, &random_options, &watch);
    feed(&b, prompt, PROMPT);
    assert_int_equal(watch.calls, 1 + (PROMPT + chunks[i] - 1) / chunks[i]);
    assert_true(watch.last_done == PROMPT && watch.total == PROMPT);
    take(&b, tokens, TOKENS);
    assert_memory_equal(tokens, wanted, sizeof tokens);
    close_bench(&b);
  }
}

/* A text fed in again goes on as it did, and so does a conversation after its last token. */
static void test_continuation(void **state)
{
  (void)state;
  int32_t wanted[TOKENS], tokens[TOKENS], text[PROMPT + 5];
  wanted_tokens(&random_options, wanted);
  struct bench b = open_bench(0, 100, &random_options, NULL);
  memcpy(text, prompt, sizeof prompt);
  memcpy(text + PROMPT, wanted, 5 * sizeof *text);
  feed(&b, text, PROMPT + 5);
  take(&b, tokens, TOKENS - 5);
  assert_memory_equal(tokens, wanted + 5, (TOKENS - 5) * sizeof *tokens);
  close_bench(&b);

  b = open_bench(3, 100, &random_options, NULL);
  feed(&b, prompt, PROMPT);
  take(&b, tokens, 2);
  assert_int_equal(xf_cache_length(b.cache), PROMPT + 1);
  feed(&b, wanted + 2, 3);
  assert_int_equal(xf_cache_length(b.cache), PROMPT + 5);
  take(&b, tokens, TOKENS - 5);
  assert_memory_equal(tokens, wanted + 5, (TOKENS - 5) * sizeof *tokens);
  close_bench(&b);
}

static void test_cancel(void **state)
{
  (void)state;
  int32_t wanted[TOKENS], tokens[TOKENS];
  wanted_tokens(&random_options, wanted);
  for (int call = 1; call <= 6; call++) {
    struct watch watch = {0};
    struct bench b = open_bench(5, 100, &random_options, &watch);
    int32_t token;
    int done;
    xf_error error = {0};
    watch.cancel_at = call;
    assert_int_equal(xf_generator_prompt(b.generator, prompt, PROMPT, &error), XF_E_CANCELLED);
    assert_non_null(strstr(error.message, "23 tokens"));
    assert_int_equal(xf_cache_length(b.cache), 0);
    assert_int_equal(xf_generator_next(b.generator, &token, &done, NULL, NULL, &error),
                     XF_E_ARGUMENT);
    /* Again, with tokens already there. */
    watch = (struct watch){0};
    feed(&b, prompt, PROMPT);
    take(&b, tokens, 4);
    watch = (struct watch){.cancel_at = call};
    assert_int_equal(xf_generator_prompt(b.generator, prompt, PROMPT, &error), XF_E_CANCELLED);
    assert_int_equal(xf_cache_length(b.cache), PROMPT + 3);
    take(&b, tokens + 4, TOKENS - 4);
    assert_memory_equal(tokens, wanted, sizeof tokens);
    close_bench(&b);
  }
}

static void test_full_cache(void **state)
{
  (void)state;
  int32_t wanted[TOKENS], tokens[TOKENS], token;
  int done;
  wanted_tokens(&greedy, wanted);
  struct bench b = open_bench(0, PROMPT + 3, &greedy, NULL);
  feed(&b, prompt, PROMPT);
  take(&b, tokens, 4);
  assert_memory_equal(tokens, wanted, 4 * sizeof *tokens);
  for (int i = 0; i < 2; i++) {
    xf_error error = {0};
    assert_int_equal(xf_generator_next(b.generator, &token, &done, NULL, NULL, &error),
                     XF_E_CACHE_FULL);
    assert_true(strlen(error.message) > 0);
    assert_int_equal(xf_cache_length(b.cache), PROMPT + 3);
    assert_int_equal(xf_generator_prompt(b.generator, prompt, 1, &error), XF_E_CACHE_FULL);
  }
  close_bench(&b);

  b = open_bench(4, PROMPT - 1, &greedy, NULL);
  xf_error error = {0};
  assert_int_equal(xf_generator_prompt(b.generator, prompt, PROMPT, &error), XF_E_CACHE_FULL);
  assert_non_null(strstr(error.message, "23 tokens"));
  assert_non_null(strstr(error.message, "22 of 22"));
  assert_int_equal(xf_cache_length(b.cache), 0);
  feed(&b, prompt, PROMPT - 1);
  take(&b, &token, 1);
  /* The last token needs a place too. */
  assert_int_equal(xf_cache_truncate(b.cache, PROMPT - 3), XF_OK);
  assert_int_equal(xf_generator_prompt(b.generator, prompt, 2, &error), XF_E_CACHE_FULL);
  assert_int_equal(xf_generator_prompt(b.generator, prompt, SIZE_MAX, &error), XF_E_CACHE_FULL);
  feed(&b, prompt, 1);
  close_bench(&b);
}

/* Rewrites config.json with other EOS ids. */
static void set_eos(const char *ids)
{
  char path[4096], *text, line[8192];
  size_t bytes;
  snprintf(path, sizeof path, "%s/config.json", folder);
  text = (char *)read_file(path, &bytes);
  char *field = strstr(text, "\"eos_token_id\": ");
  assert_non_null(field);
  char *value = field + strlen("\"eos_token_id\": "), *end = value;
  end += strcspn(value, value[0] == '[' ? "]" : ",");
  end += value[0] == '[';
  int n = snprintf(line, sizeof line, "%.*s%s%s", (int)(value - text), text, ids, end);
  write_file(path, line, (size_t)n);
  free(text);
}

static void test_eos(void **state)
{
  (void)state;
  int32_t wanted[TOKENS], tokens[TOKENS], token;
  wanted_tokens(&random_options, wanted);
  size_t stop = 4;
  for (size_t i = 0; i < stop; i++) assert_int_not_equal(wanted[i], wanted[stop]);
  char ids[64];
  snprintf(ids, sizeof ids, "[0, %d]", wanted[stop]);
  set_eos(ids);
  wanted_tokens(&random_options, tokens); /* ignore_eos */
  assert_memory_equal(tokens, wanted, sizeof tokens);

  xf_generate_options options = random_options;
  options.ignore_eos = 0;
  struct bench b = open_bench(0, 100, &options, NULL);
  feed(&b, prompt, PROMPT);
  take(&b, tokens, stop);
  int done = 0;
  const char *text = NULL;
  size_t bytes = 9;
  xf_error error = {0};
  assert_int_equal(xf_generator_next(b.generator, &token, &done, &text, &bytes, &error), XF_OK);
  assert_true(token == wanted[stop] && done == 1 && bytes == 0 && text[0] == '\0');
  assert_int_equal(xf_generator_next(b.generator, &token, &done, NULL, NULL, &error),
                   XF_E_ARGUMENT);
  /* The EOS is part of the conversation. */
  feed(&b, wanted + stop + 1, 2);
  assert_int_equal(xf_cache_length(b.cache), PROMPT + stop + 3);
  take(&b, tokens, TOKENS - stop - 3);
  assert_memory_equal(tokens, wanted + stop + 3, (TOKENS - stop - 3) * sizeof *tokens);
  close_bench(&b);
  set_eos("2");
}

static void test_every_isa(void **state)
{
  (void)state;
  int32_t wanted[TOKENS], tokens[TOKENS];
  wanted_tokens(&random_options, wanted);
  xf_context *usual = context;
  for (size_t i = 0; xf_isa_name(i); i++) {
    if (!xf_isa_supported(i)) continue;
    xf_context_options options = {
        .struct_size = sizeof options, .isa = xf_isa_name(i), .threads = 1 + (uint32_t)i % 3};
    assert_int_equal(xf_context_create(&options, &context, NULL), XF_OK);
    wanted_tokens(&random_options, tokens);
    xf_context_destroy(context);
    assert_memory_equal(tokens, wanted, sizeof tokens);
  }
  context = usual;
}

static void test_arguments(void **state)
{
  (void)state;
  struct bench b = open_bench(0, 100, NULL, NULL), other = open_bench(0, 100, NULL, NULL);
  xf_generator *g = (xf_generator *)&b;
  xf_error error = {0};
  xf_generate_options options = greedy;
  assert_int_equal(xf_generator_create(b.model, other.cache, NULL, NULL, &g, &error),
                   XF_E_ARGUMENT);
  assert_null(g);
  assert_int_equal(xf_generator_create(NULL, b.cache, NULL, NULL, &g, NULL), XF_E_ARGUMENT);
  assert_int_equal(xf_generator_create(b.model, NULL, NULL, NULL, &g, NULL), XF_E_ARGUMENT);
  assert_int_equal(xf_generator_create(b.model, b.cache, NULL, NULL, NULL, NULL), XF_E_ARGUMENT);
  for (size_t size = 0; size < sizeof options + 9; size += sizeof options + 8) {
    options.struct_size = size;
    assert_int_equal(xf_generator_create(b.model, b.cache, NULL, &options, &g, &error),
                     XF_E_ARGUMENT);
  }
  int32_t token, bad[] = {3, 4, VOCAB};
  int done;
  assert_int_equal(xf_generator_prompt(b.generator, prompt, 0, &error), XF_E_ARGUMENT);
  assert_int_equal(xf_generator_prompt(b.generator, NULL, 3, &error), XF_E_ARGUMENT);
  assert_int_equal(xf_generator_prompt(NULL, prompt, 3, &error), XF_E_ARGUMENT);
  assert_int_equal(xf_generator_prompt(b.generator, bad, 3, &error), XF_E_ARGUMENT);
  assert_int_equal(xf_cache_length(b.cache), 0);
  assert_int_equal(xf_generator_next(b.generator, &token, &done, NULL, NULL, &error),
                   XF_E_ARGUMENT);
  feed(&b, prompt, 3);
  assert_int_equal(xf_generator_next(b.generator, NULL, &done, NULL, NULL, NULL), XF_E_ARGUMENT);
  assert_int_equal(xf_generator_next(b.generator, &token, NULL, NULL, NULL, NULL), XF_E_ARGUMENT);
  assert_int_equal(xf_generator_next(NULL, &token, &done, NULL, NULL, NULL), XF_E_ARGUMENT);
  xf_generator_destroy(NULL);
  close_bench(&b);
  close_bench(&other);
}

/* create, prompt and next under failing allocations: always the status, and in the end the same
 * tokens from the same generator. */
static void test_out_of_memory(void **state)
{
  (void)state;
  int32_t wanted[TOKENS], tokens[TOKENS];
  wanted_tokens(&random_options, wanted);
  struct bench b = open_bench(5, 100, &random_options, NULL);
  for (size_t n = 0;; n++) {
    xf_generator *generator;
    failing_alloc_after(n);
    xf_status status =
        xf_generator_create(b.model, b.cache, NULL, &random_options, &generator, NULL);
    xf_generator_destroy(generator);
    if (failing_alloc_off() == 0) break;
    assert_int_equal(status, XF_E_MEMORY);
  }
  for (size_t n = 0;; n++) {
    failing_alloc_after(n);
    xf_status status = xf_generator_prompt(b.generator, prompt, PROMPT, NULL);
    if (failing_alloc_off() == 0) break;
    assert_int_equal(status, XF_E_MEMORY);
    assert_int_equal(xf_cache_length(b.cache), 0);
  }
  take(&b, tokens, TOKENS);
  assert_memory_equal(tokens, wanted, sizeof tokens);
  close_bench(&b);
}

static int set_up(void **state)
{
  (void)state;
  struct tiny_model model = tiny_model_ragged();
  struct rng rng = {77};
  folder = temporary_folder();
  tiny_model_write(&model, folder);
  for (size_t i = 0; i < PROMPT; i++) prompt[i] = (int32_t)rng_below(&rng, VOCAB);
  return xf_context_create(NULL, &context, NULL) != XF_OK;
}

static int tear_down(void **state)
{
  (void)state;
  xf_context_destroy(context);
  free(folder);
  return 0;
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_greedy_by_hand), cmocka_unit_test(test_chunks),
      cmocka_unit_test(test_continuation),   cmocka_unit_test(test_cancel),
      cmocka_unit_test(test_full_cache),     cmocka_unit_test(test_eos),
      cmocka_unit_test(test_every_isa),      cmocka_unit_test(test_arguments),
      cmocka_unit_test(test_out_of_memory)};
  return cmocka_run_group_tests_name("generate", tests, set_up, tear_down);
}
