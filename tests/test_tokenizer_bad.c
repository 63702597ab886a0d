/* Broken and foreign tokenizer files, and memory that runs out: a clear error or a working
 * tokenizer, never anything else. Meant to be run under the sanitizers too. */
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "dispatch/utf8.h"
#include "exactflash/tokenizer.h"
#include "tests/failing_alloc.h"
#include "tests/spm_writer.h"
#include "tests/support.h"

static char path[2100];
static const char *const user_defined[] = {"<u>", "日本日", NULL};
static const struct spm_options options = {.user_defined = user_defined};

static xf_status open_file(xf_tokenizer **out, xf_error *error)
{
  *error = (xf_error){0};
  xf_status status = xf_tokenizer_open(path, out, error);
  assert_true((status == XF_OK) == (*out != NULL));
  if (status == XF_OK) return status;
  assert_int_equal(error->status, status);
  assert_non_null(strstr(error->message, path));
  assert_true(xf_utf8_valid(error->message, strlen(error->message)));
  return status;
}

static xf_status open_bytes(const void *data, size_t bytes, xf_tokenizer **out, xf_error *error)
{
  write_file(path, data, bytes);
  return open_file(out, error);
}

/* Encodes, decodes and streams some texts; the only failure allowed is `allowed`. */
static xf_status use(const xf_tokenizer *tokenizer, xf_status allowed)
{
  static const char *const texts[] = {"abc de <u> 日本日 </s>x", " a\xFF\xE2\x96 bca  ", "", "<s>"};
  xf_decoder *decoder;
  xf_status status = xf_decoder_create(tokenizer, &decoder, NULL);
  for (size_t i = 0; status == XF_OK && i < 8; i++) {
    int32_t ids[128];
    char text[1024];
    size_t n, bytes;
    uint32_t flags = i & 1 ? XF_ENCODE_PARSE_SPECIAL : 0;
    const char *in = texts[i / 2], *out;
    status = xf_tokenizer_encode(tokenizer, in, strlen(in), flags, ids, 128, &n, NULL);
    if (status != XF_OK) break;
    assert_true(n <= 128);
    assert_int_equal(xf_tokenizer_decode(tokenizer, ids, n, text, sizeof text, &bytes, NULL),
                     XF_OK);
    for (size_t k = 0; k < n; k++)
      assert_int_equal(xf_decoder_push(decoder, ids[k], &out, &bytes), XF_OK);
    assert_int_equal(xf_decoder_flush(decoder, &out, &bytes), XF_OK);
  }
  xf_decoder_destroy(decoder);
  assert_true(status == XF_OK || status == allowed);
  return status;
}

static void every_prefix(void **state)
{
  (void)state;
  struct message model = spm_model(&options);
  xf_tokenizer *tokenizer;
  xf_error error;
  write_file(path, model.data, model.bytes);
  for (size_t n = model.bytes; n-- > 0;) {
    assert_int_equal(truncate(path, (off_t)n), 0);
    /* The normalizer comes last, so that no prefix is a model. */
    assert_int_equal(open_file(&tokenizer, &error), XF_E_FORMAT);
    assert_true(strstr(error.message, "truncated") || strstr(error.message, "missing"));
  }
  assert_int_equal(open_bytes(model.data, model.bytes, &tokenizer, &error), XF_OK);
  assert_int_equal(use(tokenizer, XF_OK), XF_OK);
  xf_tokenizer_close(tokenizer);
  free(model.data);
}

static void random_flips(void **state)
{
  (void)state;
  struct message model = spm_model(&options);
  write_file(path, model.data, model.bytes);
  int file = open(path, O_WRONLY);
  struct rng rng = {1234567};
  size_t opened = 0, refused = 0;
  for (int round = 0; round < 10000; round++) {
    xf_tokenizer *tokenizer;
    xf_error error;
    size_t at = rng_below(&rng, model.bytes);
    /* One in four in the specs at the end, which are few bytes. */
    if (round % 4 == 0) at = model.bytes - 1 - rng_below(&rng, 30);
    unsigned char flipped = model.data[at] ^ (unsigned char)(1 + rng_below(&rng, 255));
    assert_int_equal(pwrite(file, &flipped, 1, (off_t)at), 1);
    xf_status status = open_file(&tokenizer, &error);
    assert_int_equal(pwrite(file, model.data + at, 1, (off_t)at), 1);
    if (status == XF_OK)
      use(tokenizer, XF_OK), opened++;
    else
      assert_true(status == XF_E_FORMAT || status == XF_E_UNSUPPORTED), refused++;
    xf_tokenizer_close(tokenizer);
  }
  assert_true(opened > 1000 && refused > 1000);
  close(file);
  free(model.data);
}

/* The model must be refused, with a message that holds `words`. Frees it. */
static void refuse(struct message *model, xf_status want, const char *words)
{
  xf_tokenizer *tokenizer;
  xf_error error;
  xf_status status = open_bytes(model->data, model->bytes, &tokenizer, &error);
  if (status != want || !strstr(error.message, words))
    fail_msg("'%s' (%s) lacks '%s'", error.message, xf_status_string(status), words);
  free(model->data);
}

/* One field more in a spec: where protobuf has a field twice, the last counts. */
static void refuse_number(unsigned spec, unsigned field, uint64_t value, const char *words)
{
  struct message model = spm_model(&options), more = {0};
  put_varint(&more, field, value);
  put_message(&model, spec, &more);
  refuse(&model, XF_E_UNSUPPORTED, words);
}

static void refuse_string(unsigned spec, unsigned field, xf_status want, const char *words)
{
  struct message model = spm_model(&options), more = {0};
  put_bytes(&more, field, "text", 4);
  put_message(&model, spec, &more);
  refuse(&model, want, words);
}

static void foreign_models(void **state)
{
  (void)state;
  refuse_number(2, 3, 1, "trainer_spec.model_type is UNIGRAM");
  refuse_number(2, 3, 4, "trainer_spec.model_type is CHAR");
  refuse_number(2, 3, UINT64_MAX, "trainer_spec.model_type is unknown");
  refuse_number(2, 35, 0, "trainer_spec.byte_fallback is false");
  refuse_number(2, 24, 1, "trainer_spec.treat_whitespace_as_suffix is true");
  refuse_number(3, 5, 0, "normalizer_spec.escape_whitespaces is false");
  refuse_string(3, 2, XF_E_UNSUPPORTED, "normalizer_spec.precompiled_charsmap is not empty");
  refuse_string(5, 2, XF_E_UNSUPPORTED, "denormalizer_spec.precompiled_charsmap is not empty");
  refuse_string(2, 3, XF_E_FORMAT, "trainer_spec.model_type");
  refuse_string(3, 3, XF_E_FORMAT, "normalizer_spec.add_dummy_prefix");
  struct message model = {0};
  put_bytes(&model, 99, "unknown fields only", 19);
  refuse(&model, XF_E_FORMAT, "pieces is missing");
  model = spm_pieces_message(&options);
  refuse(&model, XF_E_FORMAT, "trainer_spec is missing");
}

static void refuse_piece(const char *spelling, float score, int type, xf_status want,
                         const char *words)
{
  struct message model = spm_model(&options);
  put_piece(&model, spelling, score, type);
  refuse(&model, want, words);
}

static void wrong_pieces(void **state)
{
  (void)state;
  refuse_piece("new", 0, UNUSED, XF_E_UNSUPPORTED, "piece 302: pieces.type is 5");
  refuse_piece("new", 0, 77, XF_E_UNSUPPORTED, "pieces.type is 77");
  refuse_piece("new", NAN, NORMAL, XF_E_FORMAT, "piece 302: pieces.score");
  refuse_piece("", 0, NORMAL, XF_E_FORMAT, "pieces.piece is missing or empty");
  refuse_piece("\xC3(", 0, NORMAL, XF_E_FORMAT, "pieces.piece is not UTF-8");
  refuse_piece("abc", 0, NORMAL, XF_E_FORMAT, "\"abc\" is there twice");
  refuse_piece("<u>", 0, NORMAL, XF_E_FORMAT, "\"<u>\" is there twice");
  refuse_piece("</s>", 0, CONTROL, XF_E_FORMAT, "\"</s>\" is there twice");
  refuse_piece("<0x41>", 0, BYTE, XF_E_FORMAT, "\"<0x41>\" is there twice");
  refuse_piece("<0x4g>", 0, BYTE, XF_E_FORMAT, "not spelled as");
  struct message model = {0}, trainer = {0};
  put_piece(&model, "<unk>", 0, UNKNOWN);
  put_varint(&trainer, 3, 2);
  put_varint(&trainer, 35, 1);
  put_message(&model, 2, &trainer);
  put_message(&model, 3, &trainer); /* empty: all defaults */
  refuse(&model, XF_E_FORMAT, "no BYTE <0x00>");
}

/* Messages show the beginning of a spelling, which may end inside of a character. */
static void long_spellings(void **state)
{
  (void)state;
  for (size_t pad = 0; pad < 3; pad++) {
    struct message model = spm_model(&options);
    char spelling[200] = "xx";
    for (size_t n = pad; n < 150; n += 3) memcpy(spelling + n, "日", sizeof "日");
    put_piece(&model, spelling, 0, NORMAL);
    put_piece(&model, spelling, 0, NORMAL);
    refuse(&model, XF_E_FORMAT, "is there twice");
  }
}

/* A name for BOS that is no control piece: there is none, and asking for it is an error. */
static void without_bos(void **state)
{
  (void)state;
  struct message model = spm_model(&options), more = {0};
  put_bytes(&more, 46, "abc", 3);
  put_bytes(&more, 47, "<s>", 3);
  put_message(&model, 2, &more);
  xf_tokenizer *tokenizer;
  xf_error error;
  size_t n;
  assert_int_equal(open_bytes(model.data, model.bytes, &tokenizer, &error), XF_OK);
  assert_int_equal(xf_tokenizer_bos(tokenizer), -1);
  assert_int_equal(xf_tokenizer_eos(tokenizer), 1);
  assert_int_equal(xf_tokenizer_encode(tokenizer, "a", 1, XF_ENCODE_BOS, NULL, 0, &n, &error),
                   XF_E_ARGUMENT);
  assert_non_null(strstr(error.message, "BOS"));
  xf_tokenizer_close(tokenizer);
  free(model.data);
}

static void failing_allocations(void **state)
{
  (void)state;
  struct message model = spm_model(&options);
  write_file(path, model.data, model.bytes);
  free(model.data);
  for (size_t n = 0;; n++) {
    xf_tokenizer *tokenizer;
    xf_error error;
    failing_alloc_after(n);
    xf_status status = xf_tokenizer_open(path, &tokenizer, &error);
    if (status == XF_OK)
      status = use(tokenizer, XF_E_MEMORY);
    else
      assert_non_null(strstr(error.message, path));
    xf_tokenizer_close(tokenizer);
    if (failing_alloc_off() == 0) {
      assert_int_equal(status, XF_OK);
      assert_true(n > 10);
      break;
    }
    assert_int_equal(status, XF_E_MEMORY);
  }
}

/* A word that outgrows the first block of symbols: its growth fails too. */
static void failing_growth(void **state)
{
  (void)state;
  static char text[5000];
  memset(text, 'a', sizeof text);
  xf_tokenizer *tokenizer;
  assert_int_equal(xf_tokenizer_open(path, &tokenizer, NULL), XF_OK);
  size_t n = 0, count, failed;
  do {
    xf_error error;
    failing_alloc_after(n++);
    xf_status status =
        xf_tokenizer_encode(tokenizer, text, sizeof text, 0, NULL, 0, &count, &error);
    failed = failing_alloc_off();
    assert_int_equal(status, failed ? XF_E_MEMORY : XF_OK);
    assert_true(failed ? count == 0 : count > 0);
  } while (failed);
  assert_true(n > 8);
  xf_tokenizer_close(tokenizer);
}

int main(void)
{
  char *folder = temporary_folder();
  snprintf(path, sizeof path, "%s/tokenizer.model", folder);
  free(folder);
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(every_prefix),        cmocka_unit_test(random_flips),
      cmocka_unit_test(foreign_models),      cmocka_unit_test(wrong_pieces),
      cmocka_unit_test(long_spellings),      cmocka_unit_test(without_bos),
      cmocka_unit_test(failing_allocations), cmocka_unit_test(failing_growth),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
