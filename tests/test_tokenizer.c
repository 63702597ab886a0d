/* Encoding and decoding against what llama.cpp, SentencePiece and Hugging Face's tokenizers give.
 */
#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support.h"
#include "tests/tokenizer_support.h"

/* A vocabulary and the cases made with it. */
struct vocabulary {
  const char *file, *cases;
  int32_t bos;
  size_t encodings, quirks, decodings;
};

static const struct vocabulary vocabularies[] = {
    {"llama2-tokenizer.model", "llama-spm", 1, 295, 2, 52},
    {"ggml-vocab-llama-spm.gguf", "llama-spm", 1, 295, 2, 52},
    {"ggml-vocab-gpt-2.gguf", "gpt-2", 50256, 295, 16, 31},
    {"ggml-vocab-llama-bpe.gguf", "llama-bpe", 128000, 295, 16, 31},
};

static xf_tokenizer *open_fixture(const struct vocabulary *vocabulary)
{
  char path[200];
  snprintf(path, sizeof path, "tokenizer/%s", vocabulary->file);
  return open_tokenizer(fixture(path));
}

/* The lines of the vocabulary's cases, in what the caller frees. */
static char *read_cases(const struct vocabulary *vocabulary, const char *kind)
{
  char path[200];
  size_t bytes;
  snprintf(path, sizeof path, "tokenizer/%s.%s.tsv", vocabulary->cases, kind);
  return (char *)read_file(fixture(path), &bytes);
}

/* The next field of a line of tab-separated ones, NUL-terminated; NULL when there is none. */
static char *next_field(char **line)
{
  return strsep(line, "\t");
}

static void check_encoding(const xf_tokenizer *tokenizer, const char *hex, struct bytes text,
                           const char *ids, int32_t bos, uint32_t flags)
{
  struct ids want = from_text(ids), got = encode(tokenizer, text.data, text.n, flags);
  assert_ids(hex, got, want);
  struct ids with_bos = encode(tokenizer, text.data, text.n, flags | XF_ENCODE_BOS);
  assert_int_equal(with_bos.data[0], bos);
  assert_ids(hex, (struct ids){with_bos.data + 1, with_bos.n - 1}, want);
  free(want.data);
  free(got.data);
  free(with_bos.data);
}

/* Encodes, decodes and streams: no byte is lost. */
static void check_whole(const xf_tokenizer *tokenizer, struct bytes text)
{
  struct ids got = encode(tokenizer, text.data, text.n, 0);
  struct bytes back = decode(tokenizer, got.data, got.n);
  assert_int_equal(back.n, text.n);
  assert_memory_equal(back.data, text.data, text.n);
  free(got.data);
  free(back.data);
}

static void check_encodings(const struct vocabulary *v)
{
  xf_tokenizer *tokenizer = open_fixture(v);
  assert_int_equal(xf_tokenizer_bos(tokenizer), v->bos);
  size_t cases = 0, quirks = 0;
  char *file = read_cases(v, "encode"), *rest = file, *line;
  while ((line = strsep(&rest, "\n")) && *line) {
    char *tag = next_field(&line), *hex = next_field(&line), *ids = next_field(&line);
    char *ids_special = next_field(&line);
    assert_non_null(ids_special);
    struct bytes text = from_hex(hex, strlen(hex));
    cases++;
    if (strcmp(tag, "quirk") == 0) { /* llama.cpp loses bytes here: ours must not */
      quirks++;
      check_whole(tokenizer, text);
    } else {
      check_encoding(tokenizer, hex, text, ids, v->bos, 0);
      check_encoding(tokenizer, hex, text, ids_special, v->bos, XF_ENCODE_PARSE_SPECIAL);
    }
    free(text.data);
  }
  assert_int_equal(cases, v->encodings);
  assert_int_equal(quirks, v->quirks);
  free(file);
  xf_tokenizer_close(tokenizer);
}

static void encodings(void **state)
{
  (void)state;
  for (size_t i = 0; i < sizeof vocabularies / sizeof *vocabularies; i++)
    check_encodings(&vocabularies[i]);
}

static void check_decoding(const xf_tokenizer *tokenizer, xf_decoder *decoder, char *line)
{
  struct ids ids = from_text(next_field(&line));
  char *hex = next_field(&line), *pieces = next_field(&line), *piece;
  struct bytes want = from_hex(hex, strlen(hex)), got = decode(tokenizer, ids.data, ids.n);
  assert_int_equal(got.n, want.n);
  assert_memory_equal(got.data, want.data, want.n);
  for (size_t i = 0; i < ids.n; i++) {
    assert_non_null(piece = strsep(&pieces, "|"));
    struct bytes spelled = from_hex(piece, strlen(piece));
    const char *text;
    size_t bytes;
    assert_int_equal(xf_tokenizer_piece(tokenizer, ids.data[i], &text, &bytes), XF_OK);
    assert_int_equal(bytes, spelled.n);
    assert_memory_equal(text, spelled.data, bytes);
    free(spelled.data);
  }
  struct bytes shown = replace_invalid(want);
  check_stream(decoder, ids, shown);
  free(ids.data);
  free(want.data);
  free(got.data);
  free(shown.data);
}

static void check_decodings(const struct vocabulary *v)
{
  xf_tokenizer *tokenizer = open_fixture(v);
  xf_decoder *decoder;
  assert_int_equal(xf_decoder_create(tokenizer, &decoder, NULL), XF_OK);
  size_t cases = 0;
  char *file = read_cases(v, "decode"), *rest = file, *line;
  for (; (line = strsep(&rest, "\n")) && *line; cases++) check_decoding(tokenizer, decoder, line);
  assert_int_equal(cases, v->decodings);
  free(file);
  xf_decoder_destroy(decoder);
  xf_tokenizer_close(tokenizer);
}

static void decodings(void **state)
{
  (void)state;
  for (size_t i = 0; i < sizeof vocabularies / sizeof *vocabularies; i++)
    check_decodings(&vocabularies[i]);
}

/* Bytes cut into tokens at random: byte tokens, and pieces where one fits. */
static void random_streams(void **state)
{
  (void)state;
  xf_tokenizer *tokenizer = open_tokenizer(source_path("demo-model"));
  xf_decoder *decoder;
  assert_int_equal(xf_decoder_create(tokenizer, &decoder, NULL), XF_OK);
  static const char *const parts[] = {"é",        "日本",         "😀",    "a ",
                                      "\xF0\x9F", "\xED\xA0\x80", "\xC0", "\x80",
                                      "\xE2\x82", "\xF4\x90",     "\xFF", "x"};
  struct rng rng = {20240607};
  for (int round = 0; round < 2000; round++) {
    int32_t ids[200];
    struct ids all = {ids, 0};
    for (size_t i = 0, n = 1 + rng_below(&rng, 12); i < n; i++) {
      if (rng_below(&rng, 3) == 0) {
        ids[all.n++] = (int32_t)rng_below(&rng, xf_tokenizer_vocab_size(tokenizer));
        continue;
      }
      const char *part = parts[rng_below(&rng, sizeof parts / sizeof *parts)];
      for (; *part; part++) ids[all.n++] = 3 + (unsigned char)*part;
    }
    struct bytes raw = decode(tokenizer, ids, all.n), shown = replace_invalid(raw);
    check_stream(decoder, all, shown);
    free(raw.data);
    free(shown.data);
  }
  xf_decoder_destroy(decoder);
  xf_tokenizer_close(tokenizer);
}

static struct ids from_json(const cJSON *array)
{
  struct ids out = {malloc(((size_t)cJSON_GetArraySize(array) + 1) * sizeof *out.data), 0};
  const cJSON *item;
  cJSON_ArrayForEach(item, array) out.data[out.n++] = item->valueint;
  return out;
}

/* The text that follows a prompt keeps its leading space: the prompt goes through the decoder. */
static void check_continuation(const xf_tokenizer *tokenizer, struct ids prompt, struct ids new_ids,
                               const char *want)
{
  xf_decoder *decoder;
  assert_int_equal(xf_decoder_create(tokenizer, &decoder, NULL), XF_OK);
  const char *text;
  size_t bytes;
  for (size_t i = 0; i < prompt.n; i++)
    assert_int_equal(xf_decoder_push(decoder, prompt.data[i], &text, &bytes), XF_OK);
  check_stream(decoder, new_ids, (struct bytes){(char *)(uintptr_t)want, strlen(want)});
  xf_decoder_destroy(decoder);
}

/* Every item: prompt with BOS to ids, and the new ids to text. */
static void check_items(const char *folder, const char *json_path, const char *list,
                        const char *new_ids_name, const char *text_name, int least)
{
  size_t bytes;
  char *json = (char *)read_file(json_path, &bytes);
  cJSON *root = cJSON_Parse(json), *item;
  const cJSON *items = cJSON_GetObjectItem(root, list);
  assert_true(cJSON_GetArraySize(items) >= least);
  xf_tokenizer *tokenizer = open_tokenizer(folder);
  assert_int_equal(xf_tokenizer_bos(tokenizer), 1);
  assert_int_equal(xf_tokenizer_eos(tokenizer), 2);
  cJSON_ArrayForEach(item, items)
  {
    const char *prompt = cJSON_GetObjectItem(item, "prompt")->valuestring;
    struct ids want = from_json(cJSON_GetObjectItem(item, "prompt_ids"));
    struct ids got = encode(tokenizer, prompt, strlen(prompt), XF_ENCODE_BOS);
    assert_ids(prompt, got, want);
    struct ids new_ids = from_json(cJSON_GetObjectItem(item, new_ids_name));
    const char *text = cJSON_GetObjectItem(item, text_name)->valuestring;
    check_continuation(tokenizer, want, new_ids, text);
    free(want.data);
    free(got.data);
    free(new_ids.data);
  }
  xf_tokenizer_close(tokenizer);
  cJSON_Delete(root);
  free(json);
}

static void demo_model(void **state)
{
  (void)state;
  char *folder = strdup(source_path("demo-model"));
  check_items(folder, source_path("demo-model/greedy_reference.json"), "items", "greedy_ids",
              "text", 1);
  free(folder);
}

static void stories(void **state)
{
  (void)state;
  char *folder = strdup(fixture("stories260k/hf"));
  check_items(folder, fixture("stories260k/expected.json"), "cases", "new_ids", "new_text_only", 4);
  free(folder);
}

int main(void)
{
  const struct CMUnitTest tests[] = {cmocka_unit_test(encodings), cmocka_unit_test(decodings),
                                     cmocka_unit_test(random_streams), cmocka_unit_test(demo_model),
                                     cmocka_unit_test(stories)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
