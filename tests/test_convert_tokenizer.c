/* Tokenizers of every kind, written into a GGUF file and read again: the same tokens and text. */
#include <stdlib.h>
#include <string.h>

#include "model/gguf_write.h"
#include "model/tokenizer_file.h"
#include "tests/folder.h"
#include "tests/model_support.h"
#include "tests/tokenizer_support.h"

/* The tokenizer's copy in a file without tensors, for a model of `padding` more tokens. */
static xf_tokenizer *rewrite(const xf_tokenizer *tokenizer, size_t padding)
{
  struct xf_gguf_writer *writer;
  xf_error error = {0};
  const char *path = path_of("x.gguf");
  size_t n = xf_tokenizer_vocab_size(tokenizer) + padding;
  expect_ok(xf_gguf_writer_create(&writer, &error), &error);
  expect_ok(xf_tokenizer_gguf_write(tokenizer, n, writer, &error), &error);
  expect_ok(xf_gguf_writer_start(writer, path, &error), &error);
  expect_ok(xf_gguf_writer_finish(writer, &error), &error);
  xf_gguf_writer_destroy(writer);
  xf_tokenizer *copy = open_tokenizer(path);
  assert_int_equal(xf_tokenizer_vocab_size(copy), n);
  return copy;
}

static void compare_text(const xf_tokenizer *a, const xf_tokenizer *b, const char *text,
                         size_t bytes)
{
  for (uint32_t flags = 0; flags < 4; flags++) {
    struct ids want = encode(a, text, bytes, flags), got = encode(b, text, bytes, flags);
    assert_ids(text, got, want);
    struct bytes one = decode(a, want.data, want.n), other = decode(b, want.data, want.n);
    assert_int_equal(one.n, other.n);
    assert_memory_equal(one.data, other.data, one.n);
    free(want.data);
    free(got.data);
    free(one.data);
    free(other.data);
  }
}

static void compare(const xf_tokenizer *a, const xf_tokenizer *b)
{
  static const char *const texts[] = {"",
                                      " ",
                                      "  two  spaces ",
                                      "Once upon a time\n\n\tthere was 12345 \xC3\xA9t\xC3\xA9",
                                      "<s>a</s> <unk>b",
                                      "\xE2\x96\x81mark \xF0\x9F\x98\x80 e\xCC\x81",
                                      "\xFF\xFE not UTF-8 \xC3",
                                      "<|endoftext|>x<|begin_of_text|> y",
                                      "I'll don't WE'RE   \r\n x=1;"};
  assert_int_equal(xf_tokenizer_bos(a), xf_tokenizer_bos(b));
  assert_int_equal(xf_tokenizer_eos(a), xf_tokenizer_eos(b));
  assert_int_equal(xf_tokenizer_adds_bos(a), xf_tokenizer_adds_bos(b));
  for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
    compare_text(a, b, texts[i], strlen(texts[i]));
  struct rng rng = {17};
  for (size_t i = 0; i < 50; i++) {
    char text[64];
    for (size_t j = 0; j < sizeof text; j++)
      text[j] = i % 2 ? (char)rng_next(&rng) : " aeonst\n01<|>"[rng_below(&rng, 13)];
    compare_text(a, b, text, rng_below(&rng, sizeof text));
  }
  for (int32_t id = 0; (size_t)id < xf_tokenizer_vocab_size(a); id++) {
    const char *one, *other;
    size_t bytes[2];
    xf_tokenizer_piece(a, id, &one, &bytes[0]);
    xf_tokenizer_piece(b, id, &other, &bytes[1]);
    assert_int_equal(bytes[0], bytes[1]);
    assert_memory_equal(one, other, bytes[0]);
  }
}

static void check(const char *path, size_t padding)
{
  xf_tokenizer *tokenizer = open_tokenizer(path), *copy = rewrite(tokenizer, padding);
  compare(tokenizer, copy);
  xf_tokenizer_close(copy);
  xf_tokenizer_close(tokenizer);
}

static void test_demo_model(void **state)
{
  (void)state;
  check(source_path("demo-model/tokenizer.model"), 0);
  check(source_path("demo-model/tokenizer.model"), 3);
}

/* SentencePiece with merges in place of scores. */
static void test_tokenizer_json(void **state)
{
  (void)state;
  check(source_path("demo-model/tokenizer.json"), 0);
  check(source_path("demo-model/tokenizer.json"), 100);
}

static void test_fixtures(void **state)
{
  (void)state;
  static const char *const names[] = {
      "tokenizer/llama2-tokenizer.model", "tokenizer/ggml-vocab-llama-spm.gguf",
      "tokenizer/ggml-vocab-gpt-2.gguf", "tokenizer/ggml-vocab-llama-bpe.gguf"};
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) check(fixture(names[i]), i);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(test_demo_model, make_folder, free_folder),
      cmocka_unit_test_setup_teardown(test_tokenizer_json, make_folder, free_folder),
      cmocka_unit_test_setup_teardown(test_fixtures, make_folder, free_folder),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
