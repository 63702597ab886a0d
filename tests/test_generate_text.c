/* The generator's text, stop strings, penalties and log probabilities over a small random model
 * with a tokenizer. */
#include "exactflash/exactflash.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/failing_alloc.h"
#include "tests/model_support.h"
#include "tests/spm_writer.h"
#include "tests/support.h"

enum { PROMPT = 9, TOKENS = 40, VOCAB = 300 };

static char *folder;
static xf_context *context;
static xf_model *model;
static xf_tokenizer *tokenizer;
static int32_t prompt[PROMPT];

static const xf_generate_options plain = {
    .struct_size = sizeof plain, .temperature = 1.2f, .seed = 6, .ignore_eos = 1};

/* What came out of one generator. */
struct told {
  int32_t tokens[TOKENS];
  size_t n;
  int done;
  char text[TOKENS * 64];
  size_t bytes;
};

static void add_text(struct told *told, const char *utf8, size_t bytes)
{
  assert_true(told->bytes + bytes < sizeof told->text);
  memcpy(told->text + told->bytes, utf8, bytes);
  told->bytes += bytes;
}

static xf_generator *begin(xf_cache *cache, const xf_generate_options *options)
{
  xf_generator *generator = NULL;
  xf_error error = {0};
  expect_ok(xf_generator_create(model, cache, tokenizer, options, &generator, &error), &error);
  expect_ok(xf_generator_prompt(generator, prompt, PROMPT, &error), &error);
  return generator;
}

/* Generates until done, at most n tokens, and flushes. */
static struct told go_on(xf_generator *generator, size_t n)
{
  struct told told = {.n = 0};
  xf_error error = {0};
  const char *utf8;
  size_t bytes;
  while (told.n < n && !told.done) {
    expect_ok(
        xf_generator_next(generator, &told.tokens[told.n++], &told.done, &utf8, &bytes, &error),
        &error);
    add_text(&told, utf8, bytes);
  }
  expect_ok(xf_generator_flush(generator, &utf8, &bytes), &error);
  add_text(&told, utf8, bytes);
  return told;
}

static struct told tell(const xf_generate_options *options, size_t n)
{
  xf_cache *cache = new_cache(model, 100);
  xf_generator *generator = begin(cache, options);
  struct told told = go_on(generator, n);
  xf_generator_destroy(generator);
  xf_cache_destroy(cache);
  return told;
}

/* Every piece of the text, cut at characters, as a stop string: it ends the text where the
 * definition says, whichever tokens it crosses, and the tokens are the same up to there. */
static void test_stop(void **state)
{
  (void)state;
  struct told all = tell(&plain, TOKENS);
  assert_true(all.bytes > TOKENS / 2);
  struct rng rng = {2};
  int early = 0;
  for (int round = 0; round < 60; round++) {
    char word[24], other[] = "no such text";
    size_t from = rng_below(&rng, all.bytes), bytes = 1 + rng_below(&rng, 12);
    while (from > 0 && (all.text[from] & 0xC0) == 0x80) from--;
    while (from + bytes < all.bytes && (all.text[from + bytes] & 0xC0) == 0x80) bytes++;
    if (from + bytes > all.bytes) bytes = all.bytes - from;
    memcpy(word, all.text + from, bytes);
    word[bytes] = '\0';
    if (strlen(word) != bytes) continue; /* a NUL character */
    const char *first = memmem(all.text, all.bytes, word, bytes);
    xf_generate_options options = plain;
    options.stop = (const char *const[]){other, word};
    options.n_stop = 2;
    struct told got = tell(&options, TOKENS);
    assert_memory_equal(got.tokens, all.tokens, got.n * sizeof *got.tokens);
    if (got.done) {
      assert_int_equal(got.done, XF_DONE_STOP);
      assert_int_equal(got.bytes, first - all.text);
      early += got.n < TOKENS;
    } else { /* it was completed by the flush */
      assert_int_equal(got.n, TOKENS);
    }
    assert_memory_equal(got.text, all.text, got.bytes);
  }
  assert_true(early > 30);
}

/* Behind a stop string calling again is an error; the conversation goes on with all its tokens. */
static void test_behind_a_stop(void **state)
{
  (void)state;
  struct told all = tell(&plain, TOKENS);
  char word[2] = {0};
  for (size_t i = 0; i < all.bytes && !word[0]; i++)
    if (all.text[i] > ' ' && all.text[i] < 0x7F) word[0] = all.text[i];
  assert_true(word[0]);
  xf_generate_options options = plain;
  options.stop = (const char *const[]){word};
  options.n_stop = 1;
  xf_cache *cache = new_cache(model, 100);
  xf_generator *generator = begin(cache, &options);
  struct told got = go_on(generator, TOKENS - 2);
  assert_int_equal(got.done, XF_DONE_STOP);
  int32_t token;
  int done;
  xf_error error = {0};
  expect_status(xf_generator_next(generator, &token, &done, NULL, NULL, &error), XF_E_ARGUMENT,
                &error);
  size_t length = xf_cache_length(cache);
  expect_ok(xf_generator_prompt(generator, all.tokens + got.n, 1, &error), &error);
  assert_int_equal(xf_cache_length(cache), length + 2);
  struct told more = go_on(generator, 1);
  assert_int_equal(more.tokens[0], all.tokens[got.n + 1]);
  xf_generator_destroy(generator);
  xf_cache_destroy(cache);
}

/* Penalties see the prompt, and a text that is fed in again goes on as it did. */
static void test_penalties(void **state)
{
  (void)state;
  xf_generate_options options = plain;
  options.presence_penalty = 1000;
  options.repeat_last_n = 200;
  struct told once = tell(&options, TOKENS);
  for (size_t i = 0; i < TOKENS; i++) {
    for (size_t j = 0; j < i; j++) assert_int_not_equal(once.tokens[i], once.tokens[j]);
    for (size_t j = 0; j < PROMPT; j++) assert_int_not_equal(once.tokens[i], prompt[j]);
  }
  xf_cache *cache = new_cache(model, 100);
  xf_generator *generator = begin(cache, &options);
  xf_error error = {0};
  expect_ok(xf_generator_prompt(generator, once.tokens, 5, &error), &error);
  struct told again = go_on(generator, TOKENS - 5);
  assert_memory_equal(again.tokens, once.tokens + 5, again.n * sizeof *again.tokens);
  xf_generator_destroy(generator);
  xf_cache_destroy(cache);
}

static void test_logprobs(void **state)
{
  (void)state;
  static float logits[VOCAB];
  xf_token_logprob chosen, best[VOCAB];
  xf_generate_options options = plain;
  options.logit_bias = (const xf_logit_bias[]){{7, 100}}; /* always token 7 */
  options.n_logit_bias = 1;
  xf_cache *cache = new_cache(model, 100), *other = new_cache(model, 100);
  xf_generator *generator = begin(cache, &options);
  xf_error error = {0};
  expect_status(xf_generator_logprobs(generator, &chosen, best, 1, &error), XF_E_ARGUMENT, &error);
  for (int i = 0; i < 5; i++) {
    struct told told = go_on(generator, 1);
    expect_ok(xf_generator_logprobs(generator, &chosen, best, VOCAB, &error), &error);
    run(model, other, i ? &told.tokens[0] : prompt, i ? 1 : PROMPT, XF_LOGITS_LAST, logits);
    assert_int_equal(told.tokens[0], 7);
    assert_int_equal(chosen.token, 7);
    double sum = 0, top = -INFINITY, all = 0;
    for (size_t j = 0; j < VOCAB; j++) top = fmax(top, (double)logits[j]);
    for (size_t j = 0; j < VOCAB; j++) sum += exp((double)logits[j] - top);
    for (size_t j = 0; j < VOCAB; j++) {
      double wanted = (double)logits[best[j].token] - top - log(sum);
      assert_true(fabs((double)best[j].logprob - wanted) < 1e-5);
      all += exp((double)best[j].logprob);
      if (best[j].token == 7) assert_true(best[j].logprob == chosen.logprob);
    }
    assert_true(fabs(all - 1) < 1e-4);
    expect_ok(xf_generator_logprobs(generator, NULL, NULL, 0, &error), &error);
  }
  expect_status(xf_generator_logprobs(generator, NULL, best, VOCAB + 1, &error), XF_E_ARGUMENT,
                &error);
  expect_status(xf_generator_logprobs(generator, NULL, NULL, 1, &error), XF_E_ARGUMENT, &error);
  expect_ok(xf_generator_prompt(generator, prompt, 1, &error), &error);
  expect_status(xf_generator_logprobs(generator, &chosen, NULL, 0, &error), XF_E_ARGUMENT, &error);
  xf_generator_destroy(generator);
  xf_cache_destroy(other);
  xf_cache_destroy(cache);
}

/* The options that an older program knows, whatever lies behind them. */
static void test_short_options(void **state)
{
  (void)state;
  xf_generate_options options;
  memset(&options, 0xFF, sizeof options);
  size_t bytes = offsetof(xf_generate_options, top_k);
  memcpy(&options, &plain, bytes);
  options.struct_size = bytes;
  struct told wanted = tell(&plain, 10), got = tell(&options, 10);
  assert_memory_equal(got.tokens, wanted.tokens, 10 * sizeof *got.tokens);
}

static void test_arguments(void **state)
{
  (void)state;
  xf_generate_options options = plain;
  xf_generator *generator;
  xf_error error = {0};
  xf_cache *cache = new_cache(model, 100);
  options.stop = (const char *const[]){"x"};
  options.n_stop = 1;
  expect_status(xf_generator_create(model, cache, NULL, &options, &generator, &error),
                XF_E_ARGUMENT, &error);
  options.repetition_penalty = 2;
  for (size_t n = 0;; n++) {
    failing_alloc_after(n);
    xf_status status = xf_generator_create(model, cache, tokenizer, &options, &generator, &error);
    xf_generator_destroy(generator);
    if (failing_alloc_off() == 0) break;
    assert_int_equal(status, XF_E_MEMORY);
  }
  generator = begin(cache, &plain);
  go_on(generator, 1);
  failing_alloc_after(0); /* takes no memory */
  xf_status status = xf_generator_logprobs(generator, NULL, NULL, 0, &error);
  failing_alloc_off();
  assert_int_equal(status, XF_OK);
  xf_generator_destroy(generator);
  xf_cache_destroy(cache);
}

static int set_up(void **state)
{
  (void)state;
  struct tiny_model tiny = tiny_model_smallest();
  struct spm_options spm = {0};
  struct message file = spm_model(&spm);
  char path[4096];
  tiny.vocab = VOCAB;
  folder = write_tiny_model(&tiny);
  snprintf(path, sizeof path, "%s/tokenizer.model", folder);
  write_file(path, file.data, file.bytes);
  free(file.data);
  struct rng rng = {4};
  for (size_t i = 0; i < PROMPT; i++) prompt[i] = 3 + (int32_t)rng_below(&rng, VOCAB - 3);
  context = open_context(NULL, 1);
  model = open_model(context, folder, NULL);
  return xf_tokenizer_open(folder, &tokenizer, NULL) != XF_OK;
}

static int tear_down(void **state)
{
  (void)state;
  xf_tokenizer_close(tokenizer);
  xf_model_close(model);
  xf_context_destroy(context);
  free(folder);
  return 0;
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_stop),          cmocka_unit_test(test_behind_a_stop),
      cmocka_unit_test(test_penalties),     cmocka_unit_test(test_logprobs),
      cmocka_unit_test(test_short_options), cmocka_unit_test(test_arguments)};
  return cmocka_run_group_tests_name("generate_text", tests, set_up, tear_down);
}
