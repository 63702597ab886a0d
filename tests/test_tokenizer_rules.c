/* The rules of encoding on small models, against a plain quadratic encoder and by hand. */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "exactflash/tokenizer.h"
#include "tests/spm_writer.h"
#include "tests/support.h"

enum { FIRST_NORMAL = 259, MAX_SYMBOLS = 256 };

static xf_tokenizer *open_message(struct message *model)
{
  char *folder = temporary_folder(), path[2100];
  snprintf(path, sizeof path, "%s/tokenizer.model", folder);
  write_file(path, model->data, model->bytes);
  xf_tokenizer *tokenizer;
  xf_error error;
  if (xf_tokenizer_open(folder, &tokenizer, &error) != XF_OK) fail_msg("%s", error.message);
  free(model->data);
  free(folder);
  return tokenizer;
}

static xf_tokenizer *open_small(const struct spm_options *options)
{
  struct message model = spm_model(options);
  return open_message(&model);
}

static size_t count(const char *const *list)
{
  size_t n = 0;
  while (list && list[n]) n++;
  return n;
}

/* The id of a spelling (-1: none) and its score, by linear search through all lists. */
static int find(const struct spm_options *options, const char *spelling, size_t bytes, float *score)
{
  const char *const *lists[] = {spm_pieces, options->normal, options->user_defined};
  const float base[] = {0, -100, 0};
  int id = FIRST_NORMAL;
  for (size_t l = 0; l < 3; l++) {
    for (size_t i = 0; i < count(lists[l]); i++, id++) {
      *score = base[l] - (float)(i / 2);
      if (strlen(lists[l][i]) == bytes && memcmp(lists[l][i], spelling, bytes) == 0) return id;
    }
  }
  return -1;
}

struct piece {
  size_t start, bytes;
  bool frozen;
};

static size_t split(const struct spm_options *options, const char *text, struct piece *pieces)
{
  size_t n = 0;
  for (size_t i = 0; text[i]; i += pieces[n++].bytes) {
    assert_true(n < MAX_SYMBOLS);
    struct piece piece = {i, 1, false};
    while (((unsigned char)text[i + piece.bytes] & 0xC0) == 0x80) piece.bytes++;
    for (size_t u = 0; u < count(options->user_defined); u++) {
      size_t length = strlen(options->user_defined[u]);
      bool matches = strncmp(text + i, options->user_defined[u], length) == 0;
      if (matches && (!piece.frozen || length > piece.bytes))
        piece = (struct piece){i, length, true};
    }
    pieces[n] = piece;
  }
  return n;
}

/* Merges the best pair of all, the leftmost of equals, until there is none. text: with space marks.
 */
static size_t encode_slowly(const struct spm_options *options, const char *text, int32_t *ids)
{
  struct piece pieces[MAX_SYMBOLS];
  size_t n = split(options, text, pieces), n_ids = 0;
  float score;
  for (;;) {
    size_t best = n;
    float best_score = 0;
    for (size_t i = 0; i + 1 < n; i++) {
      size_t bytes = pieces[i].bytes + pieces[i + 1].bytes;
      if (pieces[i].frozen || pieces[i + 1].frozen) continue;
      if (find(options, text + pieces[i].start, bytes, &score) < 0) continue;
      if (best == n || score > best_score) best = i, best_score = score;
    }
    if (best == n) break;
    pieces[best].bytes += pieces[best + 1].bytes;
    memmove(pieces + best + 1, pieces + best + 2, (n - best - 2) * sizeof *pieces);
    n--;
  }
  for (size_t i = 0; i < n; i++) {
    int id = find(options, text + pieces[i].start, pieces[i].bytes, &score);
    if (id >= 0) ids[n_ids++] = id;
    for (size_t b = 0; id < 0 && b < pieces[i].bytes; b++)
      ids[n_ids++] = 3 + (unsigned char)text[pieces[i].start + b];
  }
  return n_ids;
}

static void compare_with_slow(const struct spm_options *options, struct rng *rng)
{
  static const char *const alphabet[] = {" ", " ", "a",  "a",  "b", "c",  "d", "e",
                                         "é", "z", "日", "本", "😀", "<u", ">"};
  xf_tokenizer *tokenizer = open_small(options);
  for (int round = 0; round < 1000; round++) {
    char text[512] = "", marked[1024] = "▁";
    for (size_t i = 0, n = 1 + rng_below(rng, 60); i < n; i++) {
      const char *part = alphabet[rng_below(rng, sizeof alphabet / sizeof *alphabet)];
      strcat(text, part);
      strcat(marked, *part == ' ' ? "▁" : part);
    }
    int32_t want[4 * MAX_SYMBOLS], got[4 * MAX_SYMBOLS];
    size_t n_want = encode_slowly(options, marked, want), n;
    assert_int_equal(
        xf_tokenizer_encode(tokenizer, text, strlen(text), 0, got, 4 * MAX_SYMBOLS, &n, NULL),
        XF_OK);
    if (n != n_want || memcmp(got, want, n * sizeof *got) != 0) fail_msg("wrong ids of '%s'", text);
  }
  xf_tokenizer_close(tokenizer);
}

static void same_as_slow(void **state)
{
  (void)state;
  static const char *const inner_space[] = {"b▁a", "a▁", "c▁", "e▁d", "▁a▁", NULL};
  static const char *const user[] = {"<u>", "éb", "é日", "▁z", "日本日", "ébc", NULL};
  const struct spm_options options[] = {{0},
                                        {.normal = inner_space},
                                        {.user_defined = user},
                                        {.normal = inner_space, .user_defined = user}};
  struct rng rng = {42};
  for (size_t i = 0; i < 4; i++) compare_with_slow(&options[i], &rng);
}

/* Ids as "259 12 ", for comparing by eye and by assert. */
static const char *ids_of(const xf_tokenizer *tokenizer, const char *text, size_t bytes,
                          uint32_t flags)
{
  static char list[1024];
  int32_t ids[128];
  size_t n, at = 0;
  assert_int_equal(xf_tokenizer_encode(tokenizer, text, bytes, flags, ids, 128, &n, NULL), XF_OK);
  assert_true(n <= 128);
  list[0] = '\0';
  for (size_t i = 0; i < n; i++)
    at += (size_t)snprintf(list + at, sizeof list - at, "%d ", (int)ids[i]);
  return list;
}

static void assert_encodes(const xf_tokenizer *tokenizer, const char *text, uint32_t flags,
                           const char *want)
{
  assert_string_equal(ids_of(tokenizer, text, strlen(text), flags), want);
}

static void assert_decodes(const xf_tokenizer *tokenizer, const int32_t *ids, size_t n,
                           const char *want)
{
  char text[128] = "";
  size_t bytes;
  assert_int_equal(xf_tokenizer_decode(tokenizer, ids, n, text, sizeof text - 1, &bytes, NULL),
                   XF_OK);
  assert_int_equal(bytes, strlen(want));
  assert_string_equal(text, want);
}

/* ▁ is 259, a 260, b 261, ▁a 273, abc 275, ▁▁ 276, ▁ab 285. */
static void special_tokens(void **state)
{
  (void)state;
  static const char *const user[] = {"<s>b", "z</s>", NULL}; /* ids 300, 301 */
  struct message model = spm_model(&(struct spm_options){.user_defined = user});
  put_piece(&model, "</s>a", 0, CONTROL);   /* 302 */
  put_piece(&model, "</s>abc", 0, CONTROL); /* 303 */
  xf_tokenizer *tokenizer = open_message(&model);
  const uint32_t parse = XF_ENCODE_PARSE_SPECIAL;
  assert_int_equal(xf_tokenizer_vocab_size(tokenizer), 304);
  assert_encodes(tokenizer, "a<s>a", parse, "273 1 273 ");
  assert_encodes(tokenizer, "a<s> a", parse | XF_ENCODE_BOS, "1 273 1 259 273 ");
  assert_encodes(tokenizer, "<s></s><unk>", parse, "1 2 0 ");
  assert_encodes(tokenizer, "</s>", parse, "2 ");
  assert_encodes(tokenizer, "", parse, "");
  assert_encodes(tokenizer, "", XF_ENCODE_BOS, "1 ");
  /* The longest of those that begin at the same place. */
  assert_encodes(tokenizer, "</s>b", parse, "2 259 261 ");
  assert_encodes(tokenizer, "</s>ab", parse, "302 259 261 ");
  assert_encodes(tokenizer, "</s>abca", parse, "303 273 ");
  /* A user-defined piece is text: found with and without the flag, inside the text around it. */
  assert_encodes(tokenizer, "a<s>ba", parse, "273 300 260 ");
  assert_encodes(tokenizer, "a<s>ba", 0, "273 300 260 ");
  assert_encodes(tokenizer, "z</s>b", parse, "259 301 261 ");
  /* Without the flag a control token's spelling is text ("<", "s" and ">" are pieces). */
  assert_encodes(tokenizer, "<s>", 0, "259 268 270 271 ");
  xf_tokenizer_close(tokenizer);
}

static void spaces(void **state)
{
  (void)state;
  xf_tokenizer *plain = open_small(&(struct spm_options){0});
  xf_tokenizer *bare = open_small(&(struct spm_options){.no_dummy_prefix = 1});
  xf_tokenizer *trim = open_small(&(struct spm_options){.remove_extra_whitespaces = 1});
  assert_encodes(plain, " a  b ", 0, "259 273 276 261 259 ");
  assert_encodes(plain, " ", 0, "276 ");
  assert_encodes(bare, "a a ", 0, "260 273 259 ");
  assert_encodes(trim, "  a   a  ", 0, "273 273 ");
  assert_encodes(trim, "   ", 0, "");
  assert_encodes(trim, "<s>  <s>", XF_ENCODE_PARSE_SPECIAL, "1 1 ");
  const int32_t two[] = {1, 259, 273}, byte[] = {3 + ' ', 273};
  assert_decodes(plain, two, 3, " a");
  assert_decodes(bare, two, 3, "  a");
  assert_decodes(trim, two, 3, "a");
  assert_decodes(plain, byte, 2, "  a"); /* a byte is never dropped */
  xf_tokenizer_close(plain);
  xf_tokenizer_close(bare);
  xf_tokenizer_close(trim);
}

static void assert_round_trip(const xf_tokenizer *tokenizer, const char *text, size_t bytes)
{
  size_t n, back_bytes;
  assert_int_equal(xf_tokenizer_encode(tokenizer, text, bytes, 0, NULL, 0, &n, NULL), XF_OK);
  int32_t *ids = malloc((n + 1) * sizeof *ids);
  assert_int_equal(xf_tokenizer_encode(tokenizer, text, bytes, 0, ids, n, &n, NULL), XF_OK);
  char *back = malloc(bytes + 1);
  assert_int_equal(xf_tokenizer_decode(tokenizer, ids, n, back, bytes, &back_bytes, NULL), XF_OK);
  assert_int_equal(back_bytes, bytes);
  assert_memory_equal(back, text, bytes);
  free(ids);
  free(back);
}

/* Any bytes come back (but U+2581, which is a space to SentencePiece: 0xE2 is left out). */
static void any_bytes(void **state)
{
  (void)state;
  xf_tokenizer *tokenizer;
  assert_int_equal(xf_tokenizer_open(source_path("demo-model"), &tokenizer, NULL), XF_OK);
  assert_round_trip(tokenizer, "a\0b\0\0", 5);
  struct rng rng = {7};
  for (int round = 0; round < 2000; round++) {
    char text[64];
    size_t n = rng_below(&rng, sizeof text);
    for (size_t i = 0; i < n; i++) {
      do text[i] = (char)rng_below(&rng, rng_below(&rng, 2) ? 256 : 128);
      while (text[i] == '\xE2');
    }
    assert_round_trip(tokenizer, text, n);
  }
  xf_tokenizer_close(tokenizer);
}

/* Quadratic time would take hours here. */
static void megabytes(void **state)
{
  (void)state;
  enum { BYTES = 1 << 20 };
  xf_tokenizer *tokenizer = open_small(&(struct spm_options){0});
  char *text = malloc(BYTES);
  memset(text, 'a', BYTES); /* one word */
  assert_round_trip(tokenizer, text, BYTES);
  struct rng rng = {3};
  for (size_t i = 0; i < BYTES; i++) text[i] = "abcde <s>\0"[rng_below(&rng, 10)];
  assert_round_trip(tokenizer, text, BYTES);
  free(text);
  xf_tokenizer_close(tokenizer);
}

static void arguments(void **state)
{
  (void)state;
  xf_tokenizer *t = open_small(&(struct spm_options){0}), *none;
  xf_error error;
  int32_t ids[4] = {-9, -9, -9, -9};
  size_t n;
  assert_int_equal(xf_tokenizer_encode(t, "c c c", 5, 0, ids, 3, &n, NULL), XF_OK);
  assert_int_equal(n, 6); /* ▁ c ▁ c ▁ c */
  assert_int_equal(ids[2], 259);
  assert_int_equal(ids[3], -9); /* capacity is kept */
  assert_int_equal(xf_tokenizer_encode(t, NULL, 0, 0, NULL, 0, &n, NULL), XF_OK);
  assert_int_equal(n, 0);
  assert_int_equal(xf_tokenizer_encode(t, NULL, 1, 0, NULL, 0, &n, &error), XF_E_ARGUMENT);
  assert_int_equal(xf_tokenizer_encode(t, "a", 1, 4, ids, 3, &n, &error), XF_E_ARGUMENT);
  assert_non_null(strstr(error.message, "flags"));
  assert_int_equal(xf_tokenizer_encode(t, "a", SIZE_MAX, 0, ids, 3, &n, &error), XF_E_ARGUMENT);
  assert_non_null(strstr(error.message, "1 GiB"));
  ids[1] = 300;
  char text[8];
  assert_int_equal(xf_tokenizer_decode(t, ids, 2, text, 8, &n, &error), XF_E_ARGUMENT);
  assert_non_null(strstr(error.message, "ids[1] is 300"));
  assert_int_equal(n, 0);
  const char *piece;
  assert_int_equal(xf_tokenizer_piece(t, -1, &piece, &n), XF_E_ARGUMENT);
  assert_int_equal(xf_tokenizer_piece(t, 300, &piece, &n), XF_E_ARGUMENT);
  xf_decoder *decoder;
  assert_int_equal(xf_decoder_create(t, &decoder, NULL), XF_OK);
  assert_int_equal(xf_decoder_push(decoder, 300, &piece, &n), XF_E_ARGUMENT);
  assert_string_equal(piece, "");
  assert_int_equal(xf_decoder_push(decoder, 273, &piece, &n), XF_OK);
  assert_string_equal(piece, "a"); /* still at the beginning of the text */
  xf_decoder_destroy(decoder);
  assert_int_equal(xf_tokenizer_open(NULL, &none, &error), XF_E_ARGUMENT);
  assert_int_equal(xf_tokenizer_open("/nonexistent", &none, &error), XF_E_FILE);
  assert_null(none);
  xf_tokenizer_close(t);
  xf_tokenizer_close(NULL);
  xf_decoder_destroy(NULL);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(same_as_slow), cmocka_unit_test(special_tokens),
      cmocka_unit_test(spaces),       cmocka_unit_test(any_bytes),
      cmocka_unit_test(megabytes),    cmocka_unit_test(arguments)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
