/* Encoding and decoding against what llama.cpp and SentencePiece give. */
#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "exactflash/tokenizer.h"
#include "tests/support.h"

/* malloc'd ids or bytes. */
struct ids {
  int32_t *data;
  size_t n;
};
struct bytes {
  char *data;
  size_t n;
};

static xf_tokenizer *open_tokenizer(const char *path)
{
  xf_tokenizer *tokenizer;
  xf_error error;
  if (xf_tokenizer_open(path, &tokenizer, &error) != XF_OK) fail_msg("%s", error.message);
  return tokenizer;
}

static struct ids encode(const xf_tokenizer *tokenizer, const char *text, size_t bytes,
                         uint32_t flags)
{
  struct ids ids = {0};
  size_t n;
  assert_int_equal(xf_tokenizer_encode(tokenizer, text, bytes, flags, NULL, 0, &ids.n, NULL),
                   XF_OK);
  ids.data = malloc((ids.n + 1) * sizeof *ids.data);
  ids.data[ids.n] = -7;
  assert_int_equal(xf_tokenizer_encode(tokenizer, text, bytes, flags, ids.data, ids.n, &n, NULL),
                   XF_OK);
  assert_int_equal(n, ids.n);
  assert_int_equal(ids.data[ids.n], -7);
  return ids;
}

static struct bytes decode(const xf_tokenizer *tokenizer, const int32_t *ids, size_t n)
{
  struct bytes text = {0};
  size_t bytes;
  assert_int_equal(xf_tokenizer_decode(tokenizer, ids, n, NULL, 0, &text.n, NULL), XF_OK);
  text.data = malloc(text.n + 1);
  text.data[text.n] = 'x';
  assert_int_equal(xf_tokenizer_decode(tokenizer, ids, n, text.data, text.n, &bytes, NULL), XF_OK);
  assert_int_equal(bytes, text.n);
  assert_int_equal(text.data[text.n], 'x');
  return text;
}

static struct bytes from_hex(const char *hex, size_t digits)
{
  struct bytes out = {malloc(digits / 2 + 1), digits / 2};
  assert_int_equal(digits % 2, 0);
  for (size_t i = 0; i < out.n; i++) {
    unsigned value;
    assert_int_equal(sscanf(hex + 2 * i, "%2x", &value), 1);
    out.data[i] = (char)value;
  }
  return out;
}

static struct ids from_text(const char *list)
{
  struct ids out = {malloc((strlen(list) + 1) * sizeof *out.data), 0};
  char *end;
  for (const char *at = list; *at; at = *end ? end + 1 : end)
    out.data[out.n++] = (int32_t)strtol(at, &end, 10);
  return out;
}

static void assert_ids(const char *what, struct ids got, struct ids want)
{
  bool same = got.n == want.n;
  for (size_t i = 0; same && i < got.n; i++) same = got.data[i] == want.data[i];
  if (same) return;
  for (size_t i = 0; i < got.n; i++) print_message("%d ", (int)got.data[i]);
  fail_msg("%s: the ids above are wrong", what);
}

/* The next field of a line of tab-separated ones, NUL-terminated; NULL when there is none. */
static char *next_field(char **line)
{
  return strsep(line, "\t");
}

static void check_encoding(const xf_tokenizer *tokenizer, const char *hex, struct bytes text,
                           const char *ids, uint32_t flags)
{
  struct ids want = from_text(ids), got = encode(tokenizer, text.data, text.n, flags);
  assert_ids(hex, got, want);
  struct ids with_bos = encode(tokenizer, text.data, text.n, flags | XF_ENCODE_BOS);
  assert_int_equal(with_bos.data[0], 1);
  assert_ids(hex, (struct ids){with_bos.data + 1, with_bos.n - 1}, want);
  free(want.data);
  free(got.data);
  free(with_bos.data);
}

static void llama_encode(void **state)
{
  (void)state;
  xf_tokenizer *tokenizer = open_tokenizer(fixture("tokenizer/llama2-tokenizer.model"));
  size_t bytes, cases = 0, quirks = 0;
  char *file = (char *)read_file(fixture("tokenizer/llama-spm.encode.tsv"), &bytes);
  char *rest = file, *line;
  while ((line = strsep(&rest, "\n")) && *line) {
    char *tag = next_field(&line), *hex = next_field(&line), *ids = next_field(&line);
    char *ids_special = next_field(&line);
    assert_non_null(ids_special);
    struct bytes text = from_hex(hex, strlen(hex));
    cases++;
    if (strcmp(tag, "quirk") == 0) { /* llama.cpp loses bytes here: ours must not */
      quirks++;
      struct ids got = encode(tokenizer, text.data, text.n, 0);
      struct bytes back = decode(tokenizer, got.data, got.n);
      assert_int_equal(back.n, text.n);
      assert_memory_equal(back.data, text.data, text.n);
      free(got.data);
      free(back.data);
    } else {
      check_encoding(tokenizer, hex, text, ids, 0);
      check_encoding(tokenizer, hex, text, ids_special, XF_ENCODE_PARSE_SPECIAL);
    }
    free(text.data);
  }
  assert_int_equal(cases, 295);
  assert_int_equal(quirks, 2);
  free(file);
  xf_tokenizer_close(tokenizer);
}

/* What a stream must give: each byte outside of valid UTF-8 as one U+FFFD. Written the long way, by
 * code points, so that it is not the library's code again. */
static struct bytes replace_invalid(struct bytes raw)
{
  struct bytes out = {malloc(3 * raw.n + 1), 0};
  for (size_t i = 0; i < raw.n;) {
    const unsigned char *s = (const unsigned char *)raw.data + i;
    size_t n = s[0] < 0x80           ? 1
               : (s[0] >> 5) == 0x06 ? 2
               : (s[0] >> 4) == 0x0E ? 3
               : (s[0] >> 3) == 0x1E ? 4
                                     : 0;
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    bool valid = n > 0 && i + n <= raw.n;
    uint32_t code = n == 1 ? s[0] : n ? s[0] & (0x7Fu >> n) : 0;
    for (size_t k = 1; valid && k < n; k++) {
      valid = (s[k] & 0xC0) == 0x80;
      code = code << 6 | (s[k] & 0x3Fu);
    }
    valid = valid && code >= least[n] && code <= 0x10FFFF && (code < 0xD800 || code > 0xDFFF);
    memcpy(out.data + out.n, valid ? (const char *)s : "\xEF\xBF\xBD", valid ? n : 3);
    out.n += valid ? n : 3;
    i += valid ? n : 1;
  }
  return out;
}

/* Pushes the ids; what comes out together must be want, and no piece of it may be broken. */
static void check_stream(xf_decoder *decoder, struct ids ids, struct bytes want)
{
  size_t at = 0;
  for (size_t i = 0; i <= ids.n; i++) {
    const char *text;
    size_t bytes;
    if (i < ids.n)
      assert_int_equal(xf_decoder_push(decoder, ids.data[i], &text, &bytes), XF_OK);
    else
      assert_int_equal(xf_decoder_flush(decoder, &text, &bytes), XF_OK);
    assert_int_equal(text[bytes], '\0');
    struct bytes whole = replace_invalid((struct bytes){(char *)(uintptr_t)text, bytes});
    assert_int_equal(whole.n, bytes); /* already valid, so no character was cut */
    assert_memory_equal(whole.data, text, bytes);
    free(whole.data);
    assert_true(at + bytes <= want.n);
    assert_memory_equal(text, want.data + at, bytes);
    at += bytes;
  }
  assert_int_equal(at, want.n);
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

static void llama_decode(void **state)
{
  (void)state;
  xf_tokenizer *tokenizer = open_tokenizer(fixture("tokenizer/llama2-tokenizer.model"));
  xf_decoder *decoder;
  assert_int_equal(xf_decoder_create(tokenizer, &decoder, NULL), XF_OK);
  size_t bytes, cases = 0;
  char *file = (char *)read_file(fixture("tokenizer/llama-spm.decode.tsv"), &bytes);
  char *rest = file, *line;
  for (; (line = strsep(&rest, "\n")) && *line; cases++) check_decoding(tokenizer, decoder, line);
  assert_int_equal(cases, 52);
  free(file);
  xf_decoder_destroy(decoder);
  xf_tokenizer_close(tokenizer);
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
  const struct CMUnitTest tests[] = {cmocka_unit_test(llama_encode), cmocka_unit_test(llama_decode),
                                     cmocka_unit_test(random_streams), cmocka_unit_test(demo_model),
                                     cmocka_unit_test(stories)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
