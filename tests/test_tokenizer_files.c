/* tokenizer.json and GGUF: what is honoured, what is refused. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dispatch/utf8.h"
#include "tests/support.h"
#include "tests/tokenizer_support.h"
#include "tests/tokenizer_writer.h"

#define BYTE_LEVEL(regex)                                                                          \
  "{\"type\": \"ByteLevel\", \"add_prefix_space\": false, \"use_regex\": " regex "}"
#define LLAMA3                                                                                     \
  "{\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"Split\", \"behavior\": "              \
  "\"Isolated\", \"invert\": false, \"pattern\": {\"Regex\": "                                     \
  "\"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|\\\\p{N}{1,3}| "         \
  "?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*|\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+\"}},"        \
  " " BYTE_LEVEL("false") "]}"
#define SMOLLM                                                                                     \
  "{\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"Digits\", \"individual_digits\": "    \
  "true}, " BYTE_LEVEL("true") "]}"

static char folder[2000], json_path[2100], config_path[2100], gguf_path[2100];

static xf_tokenizer *open_json(const struct json_parts *parts)
{
  char *json = write_json(parts);
  write_file(json_path, json, strlen(json));
  free(json);
  return open_tokenizer(folder);
}

/* Opens, compares one text and closes. */
static void check_json(const struct json_parts *parts, const char *text, const char *ids)
{
  xf_tokenizer *tokenizer = open_json(parts);
  check_text(tokenizer, text, 0, ids);
  xf_tokenizer_close(tokenizer);
}

static void refuse(const char *path, xf_status want, const char *words)
{
  xf_tokenizer *tokenizer;
  xf_error error = {0};
  xf_status status = xf_tokenizer_open(path, &tokenizer, &error);
  assert_null(tokenizer);
  if (status != want || !strstr(error.message, words))
    fail_msg("'%s' (%s) lacks '%s'", error.message, xf_status_string(status), words);
  assert_true(xf_utf8_valid(error.message, strlen(error.message)));
}

static void refuse_json(const struct json_parts *parts, xf_status want, const char *words)
{
  char *json = write_json(parts);
  write_file(json_path, json, strlen(json));
  free(json);
  refuse(json_path, want, words);
}

/* he 256, ll 257, llo 258, hello 259, Ġhello 260, ĠĠ 261, 12 262, ab 263, ĠĠĠĠ 264. */
static void byte_level(void **state)
{
  (void)state;
  const struct json_parts usual = {0}, pairs = {.merge_pairs = 1};
  check_json(&usual, "hello hello", "259 260");
  check_json(&pairs, "hello hello", "259 260");
  check_json(&usual, "hell 12123", "256 257 32 262 262 51");
  check_json(&usual, "     hello", "264 260");
  check_json(&usual, "\xFFhello\xC3", "255 259 195");
  const struct json_parts smollm = {.pre_tokenizer = SMOLLM}, llama3 = {.pre_tokenizer = LLAMA3};
  check_json(&smollm, "a12  1", "97 49 50 261 49");
  check_json(&llama3, "1212  1", "262 49 50 32 32 49");
}

/* "llo" is a piece that the merges reach only by "ll", and "ĠĠĠ" is none. */
static void whole_words(void **state)
{
  (void)state;
  const struct json_parts merged = {.merges = ", \"l lo\""}, unreachable = {.model = ""},
                          whole = {.model = "\"ignore_merges\": true,"};
  refuse_json(&merged, XF_E_FORMAT, "merge 9 (\"l lo\"): its parts and its result must be tokens");
  char *json = write_json(&unreachable);
  char *at = strstr(json, "\"h e\", ");
  memset(at, ' ', strlen("\"h e\", "));
  write_file(json_path, json, strlen(json));
  xf_tokenizer *tokenizer = open_tokenizer(json_path);
  check_text(tokenizer, "hello", 0, "104 101 258");
  xf_tokenizer_close(tokenizer);
  free(json);
  json = write_json(&whole);
  at = strstr(json, "\"h e\", ");
  memset(at, ' ', strlen("\"h e\", "));
  write_file(json_path, json, strlen(json));
  tokenizer = open_tokenizer(json_path);
  check_text(tokenizer, "hello hello", 0, "259 260");
  check_text(tokenizer, "hellox", 0, "104 101 258 120");
  xf_tokenizer_close(tokenizer);
  free(json);
}

/* <|end|> 265, <|begin|> 266, <tool> 267, 日本 268. */
static void added(void **state)
{
  (void)state;
  xf_tokenizer *tokenizer = open_json(&(struct json_parts){0});
  assert_int_equal(xf_tokenizer_vocab_size(tokenizer), FIRST_ADDED + ADDED);
  check_text(tokenizer, "a<tool>hello日本", 0, "97 267 259 268");
  check_text(tokenizer, "a<|end|><tool", XF_ENCODE_PARSE_SPECIAL, "97 265 60 116 111 111 108");
  check_text(tokenizer, "<|end|>", 0, "60 124 101 110 100 124 62");
  const int32_t ids[] = {266, 260, 267, 265, 268, 0xE6, 0x97};
  struct bytes text = decode(tokenizer, ids, 7);
  assert_int_equal(text.n, strlen(" hello<tool>日本\xE6\x97"));
  assert_memory_equal(text.data, " hello<tool>日本\xE6\x97", text.n);
  free(text.data);
  xf_tokenizer_close(tokenizer);
}

static void begin_and_end(void **state)
{
  (void)state;
  const struct json_parts plain = {0};
  const struct json_parts template = {
      .post_processor = "{\"type\": \"Sequence\", \"processors\": [{\"type\": \"ByteLevel\"}, "
                        "{\"type\": \"TemplateProcessing\", \"single\": [{\"SpecialToken\": "
                        "{\"id\": \"<|begin|>\", \"type_id\": 0}}, {\"Sequence\": {\"id\": "
                        "\"A\"}}]}]}"};
  static const struct {
    const char *config;
    int template, bos, eos, adds;
  } cases[] = {
      {NULL, 0, -1, -1, 0},
      {NULL, 1, 266, -1, 1},
      {"{\"bos_token\": \"<|end|>\", \"eos_token\": {\"content\": \"<|end|>\"}}", 0, 265, 265, 0},
      {"{\"bos_token\": null, \"eos_token\": \"<|end|>\"}", 1, 266, 265, 1},
      {"{\"bos_token\": \"<|begin|>\", \"add_bos_token\": true}", 0, 266, -1, 1},
      {"{\"add_bos_token\": false}", 1, 266, -1, 0},
      {"{\"add_bos_token\": true}", 0, -1, -1, 0},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    if (cases[i].config) write_file(config_path, cases[i].config, strlen(cases[i].config));
    xf_tokenizer *tokenizer = open_json(cases[i].template ? &template : &plain);
    assert_int_equal(xf_tokenizer_bos(tokenizer), cases[i].bos);
    assert_int_equal(xf_tokenizer_eos(tokenizer), cases[i].eos);
    assert_int_equal(xf_tokenizer_adds_bos(tokenizer), cases[i].adds);
    xf_tokenizer_close(tokenizer);
  }
  write_file(config_path, "{\"eos_token\": \"</s>\"}", 21);
  refuse(json_path, XF_E_FORMAT, "has no token \"</s>\"");
  write_file(config_path, "{", 1);
  refuse(json_path, XF_E_FORMAT, "tokenizer_config.json");
  remove(config_path);
}

static void form_c(void **state)
{
  (void)state;
  const struct json_parts nfc = {.normalizer = "{\"type\": \"NFC\"}"}, plain = {0};
  check_json(&plain, "e\xCC\x81", "101 204 129");
  check_json(&nfc, "e\xCC\x81", "195 169");
  /* Marks in the order of their classes; U+212B is U+00C5; Hangul; a broken character between. */
  check_json(&nfc, "q\xCC\x81\xCC\xA3\xE2\x84\xAB", "113 204 163 204 129 195 133");
  check_json(&nfc, "\xE1\x84\x92\xE1\x85\xA1\xE1\x86\xAB", "237 149 156");
  check_json(&nfc, "e\xFF\xCC\x81\xC3", "101 255 204 129 195");
  /* U+212A is K: a token that is cut out of the text, and is a byte's all the same. */
  const struct json_parts kelvin = {
      .normalizer = "{\"type\": \"NFC\"}",
      .added = ", {\"id\": 75, \"content\": \"K\", \"normalized\": false}"};
  check_json(&kelvin, "aK\xE2\x84\xAA", "97 75 75");
}

static void refused_json(void **state)
{
  (void)state;
  static const struct {
    struct json_parts parts;
    xf_status status;
    const char *words;
  } cases[] = {
      {{.pre_tokenizer = "{\"type\": \"ByteLevel\", \"add_prefix_space\": true}"},
       XF_E_UNSUPPORTED,
       "pre_tokenizer (ByteLevel)"},
      {{.pre_tokenizer = BYTE_LEVEL("false")}, XF_E_UNSUPPORTED, "pre_tokenizer (ByteLevel)"},
      {{.pre_tokenizer =
            "{\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"Split\", "
            "\"pattern\": {\"Regex\": \"(a+)+\"}, \"behavior\": \"Isolated\"}, " BYTE_LEVEL(
                "false") "]}"},
       XF_E_UNSUPPORTED,
       "pre_tokenizer (Split, ByteLevel)"},
      {{.pre_tokenizer = "{\"type\": \"Whitespace\"}"}, XF_E_UNSUPPORTED, "(Whitespace)"},
      {{.pre_tokenizer = "null"}, XF_E_UNSUPPORTED, "normalizer (none)"},
      {{.normalizer = "{\"type\": \"NFKC\"}"}, XF_E_UNSUPPORTED, "normalizer (NFKC)"},
      {{.decoder = "null"}, XF_E_UNSUPPORTED, "decoder (none)"},
      {{.post_processor = "{\"type\": \"BertProcessing\"}"}, XF_E_UNSUPPORTED, "BertProcessing"},
      {{.model = "\"dropout\": 0.1,"}, XF_E_UNSUPPORTED, "model.dropout"},
      {{.model = "\"end_of_word_suffix\": \"</w>\","}, XF_E_UNSUPPORTED, "end_of_word_suffix"},
      {{.added = ", {\"id\": 269, \"content\": \"<m>\", \"lstrip\": true}"},
       XF_E_UNSUPPORTED,
       "lstrip of \"<m>\""},
      {{.added = ", {\"id\": 269, \"content\": \"<m>\", \"single_word\": true}"},
       XF_E_UNSUPPORTED,
       "single_word of \"<m>\""},
      {{.normalizer = "{\"type\": \"NFC\"}",
        .added = ", {\"id\": 269, \"content\": \"<m>\", \"normalized\": true}"},
       XF_E_UNSUPPORTED,
       "normalized of \"<m>\""},
      {{.added = ", {\"id\": 3, \"content\": \"<m>\"}"}, XF_E_FORMAT, "the id of another token"},
      {{.added = ", {\"id\": 1e300, \"content\": \"<m>\"}"}, XF_E_FORMAT, "an id below 270"},
      {{.added = ", {\"id\": 269, \"content\": \"\"}"}, XF_E_FORMAT, "added_tokens"},
      {{.added = ", {\"id\": 269, \"content\": \"<tool>\"}"}, XF_E_FORMAT, "is there twice"},
      {{.merges = ", \"h e\""}, XF_E_FORMAT, "merge 9 (\"h e\"): it is there twice"},
      {{.merges = ", \"h  e\""}, XF_E_FORMAT, "model.merges[9] is not two tokens"},
      {{.merges = ", [\"h\"]"}, XF_E_FORMAT, "model.merges[9] is not two tokens"},
      {{.merges = ", 7"}, XF_E_FORMAT, "model.merges[9] is not two tokens"},
      {{.merges = ", \"日 本\""}, XF_E_FORMAT, "must be tokens"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
    refuse_json(&cases[i].parts, cases[i].status, cases[i].words);
  write_file(json_path, "{}", 2);
  refuse(json_path, XF_E_FORMAT, "model is missing");
  write_file(json_path, "{\"model\": {\"type\": \"Unigram\"}}", 30);
  refuse(json_path, XF_E_UNSUPPORTED, "model.type is Unigram");
}

/* A byte that no token stands for is an error, not a loss. */
static void lacking_byte(void **state)
{
  (void)state;
  char *json = write_json(&(struct json_parts){0});
  memcpy(strstr(json, "\"z\": "), "\"zz\":", 5);
  write_file(json_path, json, strlen(json));
  free(json);
  xf_tokenizer *tokenizer = open_tokenizer(json_path);
  xf_error error;
  size_t n;
  check_text(tokenizer, "hello", 0, "259");
  assert_int_equal(xf_tokenizer_encode(tokenizer, "xz", 2, 0, NULL, 0, &n, &error),
                   XF_E_UNSUPPORTED);
  assert_non_null(strstr(error.message, "0x7A"));
  xf_tokenizer_close(tokenizer);
}

static void gguf(void **state)
{
  (void)state;
  write_gguf(gguf_path, "smollm");
  xf_tokenizer *tokenizer = open_tokenizer(gguf_path);
  assert_int_equal(xf_tokenizer_bos(tokenizer), 266);
  assert_int_equal(xf_tokenizer_eos(tokenizer), 265);
  assert_false(xf_tokenizer_adds_bos(tokenizer));
  check_text(tokenizer, "a12  1 hello<tool><|end|>", XF_ENCODE_PARSE_SPECIAL,
             "97 49 50 261 49 260 267 265");
  xf_tokenizer_close(tokenizer);
  write_gguf(gguf_path, "llama-bpe");
  tokenizer = open_tokenizer(gguf_path);
  assert_true(xf_tokenizer_adds_bos(tokenizer));
  check_text(tokenizer, "1212  1", 0, "262 49 50 32 32 49");
  xf_tokenizer_close(tokenizer);
  write_gguf(gguf_path, "default");
  refuse(gguf_path, XF_E_UNSUPPORTED, "tokenizer.ggml.pre is \"default\"");
  write_gguf(gguf_path, NULL);
  refuse(gguf_path, XF_E_UNSUPPORTED, "tokenizer.ggml.pre is missing");
  refuse(fixture("gguf/tied-gqa3-Q8_0.gguf"), XF_E_UNSUPPORTED, "holds no tokenizer");
}

/* Messages show the beginning of what a file holds, which may end inside of a character. */
static void cut_messages(void **state)
{
  (void)state;
  for (size_t pad = 0; pad < 3; pad++) {
    char word[200] = "xx", merge[210];
    for (size_t n = pad; n < 150; n += 3) memcpy(word + n, "日", sizeof "日");
    write_gguf(gguf_path, word);
    refuse(gguf_path, XF_E_UNSUPPORTED, "tokenizer.ggml.pre is \"");
    snprintf(merge, sizeof merge, ", \"%s x\"", word);
    refuse_json(&(struct json_parts){.merges = merge}, XF_E_FORMAT, "merge 9");
  }
}

/* The model as llama.cpp has converted it agrees with its tokenizer.model. */
static void gguf_llama(void **state)
{
  (void)state;
  static const char *const texts[] = {"Once upon a time, there was", "two\n\nlines é日本",
                                      "<s>a</s>b", "\xFFx"};
  xf_tokenizer *gguf = open_tokenizer(fixture("stories260k/stories260k-F32.gguf"));
  xf_tokenizer *model = open_tokenizer(fixture("stories260k/hf/tokenizer.model"));
  assert_true(xf_tokenizer_adds_bos(gguf) && xf_tokenizer_adds_bos(model));
  for (size_t i = 0; i < 8; i++) {
    const char *text = texts[i / 2];
    struct ids got = encode(gguf, text, strlen(text), i & 1 ? XF_ENCODE_PARSE_SPECIAL : 0);
    struct ids want = encode(model, text, strlen(text), i & 1 ? XF_ENCODE_PARSE_SPECIAL : 0);
    assert_ids(text, got, want);
    free(got.data);
    free(want.data);
  }
  xf_tokenizer_close(gguf);
  xf_tokenizer_close(model);
}

int main(void)
{
  char *path = temporary_folder();
  snprintf(folder, sizeof folder, "%s", path);
  snprintf(json_path, sizeof json_path, "%s/tokenizer.json", folder);
  snprintf(config_path, sizeof config_path, "%s/tokenizer_config.json", folder);
  snprintf(gguf_path, sizeof gguf_path, "%s/vocabulary.gguf", folder);
  free(path);
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(byte_level),   cmocka_unit_test(whole_words),
      cmocka_unit_test(added),        cmocka_unit_test(begin_and_end),
      cmocka_unit_test(form_c),       cmocka_unit_test(refused_json),
      cmocka_unit_test(lacking_byte), cmocka_unit_test(gguf),
      cmocka_unit_test(cut_messages), cmocka_unit_test(gguf_llama),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
